//! One segment onto a disk: parts of bounded size under unfinished names, synced as they grow, then renamed together.
//!
//! The parts before the last are whole when the last one gets its name, so a segment is there when its last part is.

use super::{
    Entry, Head,
    format::{self, Header},
    hasher::{Sealed, SegmentHasher, entry_hash},
    shelf::{Segment, part_name},
};
use crate::files::{Files, FilesError, Growing, UNFINISHED};
use matrixai_protocol::Hash;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Bytes of a part after which another begins: a file of at most this and one entry.
pub const PART_BYTES: u64 = 64 << 20;
/// Bytes that wait in memory before they go to the file.
const BUFFER_BYTES: usize = 256 << 10;
/// Bytes that wait in the system's cache before they are synced: a sync of everything at the seal would hold up the log's
/// own syncs on the same disk.
const UNSYNCED_BYTES_MAX: u64 = 8 << 20;

/// A segment that is being written. Dropped without [`Writer::seal`], it leaves unfinished files, which the next writer
/// of the segment or the next start removes.
#[derive(Debug)]
pub struct Writer {
    files: Arc<dyn Files>,
    dir: PathBuf,
    /// Tells the unfinished files of two writers of one segment apart.
    mark: &'static str,
    cluster_id: Hash,
    hasher: SegmentHasher,
    part_bytes_max: u64,
    part: u32,
    file: Box<dyn Growing>,
    buffer: Vec<u8>,
    part_bytes: u64,
    unsynced: u64,
    bytes: u64,
}

impl Writer {
    /// Begins the segment behind a place. `mark` names the writer.
    ///
    /// # Errors
    /// [`FilesError`].
    pub fn begin(
        files: Arc<dyn Files>,
        dir: &Path,
        mark: &'static str,
        cluster_id: Hash,
        before: Head,
        part_bytes_max: u64,
    ) -> Result<Self, FilesError> {
        let file = files.create(&unfinished(dir, before.epoch + 1, 0, mark))?;
        let mut writer = Self {
            files,
            dir: dir.to_owned(),
            mark,
            cluster_id,
            hasher: SegmentHasher::after(before),
            part_bytes_max,
            part: 0,
            file,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            part_bytes: 0,
            unsynced: 0,
            bytes: 0,
        };
        writer.put(|bytes, header| format::put_header(bytes, &header));
        Ok(writer)
    }

    /// The segment's epoch.
    pub fn epoch(&self) -> u64 {
        self.hasher.before().epoch + 1
    }

    /// Index of the next entry.
    pub fn next_index(&self) -> u64 {
        self.hasher.next_index()
    }

    /// Adds the next entry.
    ///
    /// # Errors
    /// [`FilesError`]; the segment must then be written anew.
    ///
    /// # Panics
    /// When it is not the next entry.
    pub fn append(&mut self, entry: &Entry) -> Result<(), FilesError> {
        if self.part_bytes >= self.part_bytes_max {
            self.next_part()?;
        }
        let hash = entry_hash(entry);
        self.hasher.push(entry.index, &hash);
        self.put(|bytes, _| format::put_entry(bytes, entry, &hash));
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// What the segment would be if it ended here.
    pub fn sealed(&self) -> Sealed {
        self.hasher.sealed()
    }

    /// Ends the segment and gives it its place, durably.
    ///
    /// # Errors
    /// [`FilesError`]; the segment must then be written anew.
    pub fn seal(mut self) -> Result<Segment, FilesError> {
        let sealed = self.hasher.sealed();
        self.put(|bytes, _| format::put_seal(bytes, &sealed));
        self.flush()?;
        self.file.sync()?;
        let epoch = self.epoch();
        for part in 0..=self.part {
            let place = self.dir.join(part_name(epoch, part));
            self.files.rename(&unfinished(&self.dir, epoch, part, self.mark), &place)?;
        }
        self.files.sync_dir(&self.dir)?;
        Ok(Segment { before: self.hasher.before(), sealed, parts: self.part + 1, bytes: self.bytes })
    }

    /// Removes what was written.
    pub fn abandon(self) {
        let Self { files, dir, mark, hasher, part, .. } = self;
        for part in 0..=part {
            if let Err(error) = files.remove(&unfinished(&dir, hasher.before().epoch + 1, part, mark)) {
                tracing::debug!(%error, "an unfinished segment stays until the next start");
            }
        }
    }

    fn put(&mut self, write: impl FnOnce(&mut Vec<u8>, Header)) {
        let header = Header { cluster_id: self.cluster_id, part: self.part, before: self.hasher.before() };
        let before = self.buffer.len();
        write(&mut self.buffer, header);
        let grown = (self.buffer.len() - before) as u64;
        self.part_bytes += grown;
        self.bytes += grown;
    }

    fn flush(&mut self) -> Result<(), FilesError> {
        self.file.append(&self.buffer)?;
        self.unsynced += self.buffer.len() as u64;
        self.buffer.clear();
        if self.unsynced >= UNSYNCED_BYTES_MAX {
            self.file.sync()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    fn next_part(&mut self) -> Result<(), FilesError> {
        let hasher = self.hasher.clone();
        self.put(|bytes, _| format::put_more(bytes, &hasher));
        self.flush()?;
        self.file.sync()?;
        self.part += 1;
        self.file = self.files.create(&unfinished(&self.dir, self.epoch(), self.part, self.mark))?;
        (self.part_bytes, self.unsynced) = (0, 0);
        self.put(|bytes, header| format::put_header(bytes, &header));
        Ok(())
    }
}

fn unfinished(dir: &Path, epoch: u64, part: u32, mark: &str) -> PathBuf {
    dir.join(format!("{}.{mark}{UNFINISHED}", part_name(epoch, part)))
}
