//! A log in memory, for tests and simulations. The disk is a handle apart from the store, so that a test can pull the
//! plug on a node between staging and writing, look at what was synced, fill the disk, and start the node again.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use raft::{
    GetEntriesContext, RaftState, Storage, StorageError,
    eraftpb::{Entry, Snapshot},
};

use super::{Batch, Identity, LogStore, LogWriter, SnapshotMeta, StoreError, Write, image::Image};
use crate::members::Members;

/// The disk under one [`MemoryStore`]; clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    log: Log,
    syncs: u64,
    fail_after: Option<u64>,
    damaged: Option<u64>,
}

/// A log and its entries, those behind the image's boundary.
#[derive(Debug, Clone, Default)]
struct Log {
    image: Image,
    entries: Vec<Entry>,
}

impl Log {
    fn take(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let mut image = self.image.clone();
        image.take(batch).map_err(|detail| StoreError::Io { path: place(), action: "append to", detail })?;
        if batch.restart.is_some() {
            self.entries.clear();
        }
        if let Some(first) = batch.entries.first() {
            self.entries.retain(|entry| entry.index < first.index);
            self.entries.extend_from_slice(&batch.entries);
        }
        self.entries.retain(|entry| entry.index > image.boundary.index);
        self.image = image;
        Ok(())
    }
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// How often something was synced.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Makes every write fail for want of space once `writes` more have succeeded. `None` makes room.
    pub fn fail_after(&self, writes: Option<u64>) {
        self.lock().fail_after = writes;
    }

    /// Makes reads of one entry fail, as a bad checksum does.
    pub fn damage(&self, index: Option<u64>) {
        self.lock().damaged = index;
    }

    /// The first index on the disk, one more than the last when the log is empty.
    pub fn first_index(&self) -> u64 {
        self.lock().log.image.first()
    }

    /// The last index on the disk.
    pub fn last_index(&self) -> u64 {
        self.lock().log.image.last
    }

    /// Loses every entry behind `index`, acknowledged or not: what a disk must never do.
    pub fn lose_behind(&self, index: u64) {
        let mut disk = self.lock();
        let log = &mut disk.log;
        log.entries.retain(|entry| entry.index <= index);
        log.image.rewind(log.image.boundary);
        log.image.load(&log.entries).expect("a prefix of a log is a log");
        log.image.hard_state.commit = log.image.hard_state.commit.min(log.image.last);
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        // A panic in another test thread leaves no half-done change behind: every method changes one field.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place() -> PathBuf {
    PathBuf::from("memory")
}

/// A log on a [`MemoryDisk`]: what was staged, which the disk may not hold yet.
#[derive(Debug)]
pub struct MemoryStore {
    disk: MemoryDisk,
    log: Log,
}

impl MemoryStore {
    /// The log on a disk, as it was left.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if an entry is marked as damaged.
    pub fn open(disk: &MemoryDisk) -> Result<Self, StoreError> {
        let locked = disk.lock();
        let log = locked.log.clone();
        let damaged = locked.damaged.filter(|&index| index <= log.image.last);
        drop(locked);
        if let Some(index) = damaged {
            return Err(StoreError::Damaged { path: place(), detail: format!("entry {index} cannot be read") });
        }
        log.image.check().map_err(|detail| StoreError::Damaged { path: place(), detail })?;
        Ok(Self { disk: disk.clone(), log })
    }
}

impl LogStore for MemoryStore {
    type Writer = MemoryWriter;

    fn writer(&self) -> MemoryWriter {
        MemoryWriter { disk: self.disk.clone(), written: None }
    }

    fn stage(&mut self, write: &Write) -> Result<(), StoreError> {
        self.log.take(&write.batch)
    }

    fn settled(&mut self, _number: u64) {}

    fn identity(&self) -> Identity {
        self.log.image.identity
    }

    fn latest_snapshot(&self) -> Option<&SnapshotMeta> {
        self.log.image.snapshot.as_ref()
    }

    fn start_with(&mut self, members: &Members) {
        self.log.image.members = members.clone();
    }

    fn changes(&self, from: u64) -> Vec<u64> {
        self.log.image.changes(from)
    }

    fn take_snapshot_wanted(&self) -> bool {
        self.log.image.take_wanted()
    }
}

impl Storage for MemoryStore {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.log.image.raft_state())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        self.log.image.check_range(low, high)?;
        if let Some(index) = self.disk.lock().damaged.filter(|index| (low..high).contains(index)) {
            let error = StoreError::Damaged { path: place(), detail: format!("entry {index} cannot be read") };
            return Err(raft::Error::Store(StorageError::Other(Box::new(error))));
        }
        let first = self.log.image.first();
        let mut entries = self.log.entries[(low - first) as usize..(high - first) as usize].to_vec();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        self.log.image.term(index)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.log.image.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.log.image.last)
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        self.log.image.offer(request_index, to)
    }
}

/// Writes to a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemoryWriter {
    disk: MemoryDisk,
    /// Highest number written: a write that is given again after a full disk is not written twice.
    written: Option<u64>,
}

impl LogWriter for MemoryWriter {
    fn write(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let done = self.written;
        let mut disk = self.disk.lock();
        for write in writes.iter().filter(|write| Some(write.number) > done) {
            match &mut disk.fail_after {
                Some(0) => return Err(StoreError::NoSpace { path: place(), needed: write.bytes() as u64 }),
                Some(left) => *left -= 1,
                None => {}
            }
            disk.log.take(&write.batch)?;
            self.written = Some(write.number);
        }
        disk.syncs += 1;
        Ok(())
    }
}
