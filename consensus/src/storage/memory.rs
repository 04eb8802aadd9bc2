//! A log in memory, for tests and simulations. The disk is a handle apart from the store, so that a test can pull the
//! plug on a node, look at what was synced, make writes fail, and start the node again.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use raft::{
    GetEntriesContext, RaftState, Storage, StorageError,
    eraftpb::{Entry, Snapshot},
};

use super::{Batch, Identity, Image, LogStore, StoreError, no_snapshot};

/// The disk under one [`MemoryStore`]; clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    image: Image,
    entries: Vec<Entry>,
    appends: u64,
    fail_after: Option<u64>,
    damaged: Option<u64>,
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many batches were written and synced.
    pub fn appends(&self) -> u64 {
        self.lock().appends
    }

    /// Makes every append fail once `appends` more have succeeded, as a full disk does. `None` heals the disk.
    pub fn fail_after(&self, appends: Option<u64>) {
        self.lock().fail_after = appends;
    }

    /// Makes reads of one entry fail, as a bad checksum does.
    pub fn damage(&self, index: Option<u64>) {
        self.lock().damaged = index;
    }

    /// The last index on the disk.
    pub fn last_index(&self) -> u64 {
        self.lock().image.last
    }

    /// Loses every entry behind `index`, acknowledged or not: what a disk must never do.
    pub fn lose_behind(&self, index: u64) {
        let mut disk = self.lock();
        let kept = disk.entries.iter().take_while(|entry| entry.index <= index).cloned().collect::<Vec<_>>();
        let mut image = disk.image.clone();
        image.rewind();
        image.load(&kept).expect("a prefix of a log is a log");
        image.hard_state.commit = image.hard_state.commit.min(image.last);
        disk.image = image;
        disk.entries = kept;
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        // A panic in another test thread leaves no half-done change behind: every method changes one field.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place() -> PathBuf {
    PathBuf::from("memory")
}

/// A log on a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemoryStore {
    disk: MemoryDisk,
}

impl MemoryStore {
    /// The log on a disk, as it was left.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if an entry is marked as damaged.
    pub fn open(disk: &MemoryDisk) -> Result<Self, StoreError> {
        let locked = disk.lock();
        let damaged = locked.damaged.filter(|&index| index <= locked.image.last);
        let checked = locked.image.check();
        drop(locked);
        if let Some(index) = damaged {
            return Err(StoreError::Damaged { path: place(), detail: format!("entry {index} cannot be read") });
        }
        checked.map_err(|detail| StoreError::Damaged { path: place(), detail })?;
        Ok(Self { disk: disk.clone() })
    }
}

impl LogStore for MemoryStore {
    fn append(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let mut disk = self.disk.lock();
        match &mut disk.fail_after {
            Some(0) => {
                let detail = "no space left on device".to_owned();
                return Err(StoreError::Io { path: place(), action: "append to", detail });
            }
            Some(left) => *left -= 1,
            None => {}
        }
        let mut image = disk.image.clone();
        image.take(batch).map_err(|detail| StoreError::Io { path: place(), action: "append to", detail })?;
        if let Some(first) = batch.entries.first() {
            disk.entries.truncate(first.index as usize - 1);
            disk.entries.extend_from_slice(&batch.entries);
        }
        disk.image = image;
        disk.appends += 1;
        Ok(())
    }

    fn identity(&self) -> Identity {
        self.disk.lock().image.identity
    }
}

impl Storage for MemoryStore {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.disk.lock().image.raft_state())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let disk = self.disk.lock();
        disk.image.check_range(low, high)?;
        if let Some(index) = disk.damaged.filter(|index| (low..high).contains(index)) {
            let error = StoreError::Damaged { path: place(), detail: format!("entry {index} cannot be read") };
            return Err(raft::Error::Store(StorageError::Other(Box::new(error))));
        }
        let mut entries = disk.entries[low as usize - 1..high as usize - 1].to_vec();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        self.disk.lock().image.term(index)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.disk.lock().image.last)
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        Err(no_snapshot())
    }
}
