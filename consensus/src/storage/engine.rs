//! The log on a disk, in raft-engine: one record per group of writes, checksummed and synced.
//!
//! Why raft-engine is configured as it is, and what was measured, stands at [`engine_config`]. What it does not do
//! itself is added here: the folder's own entry is synced, damage is told from a torn tail ([`super::tail`]), a
//! log is read through once before a node may start on it, and files that compaction emptied go at once
//! ([`writer`]).

mod writer;

use std::{
    fmt,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
};

use raft::{
    GetEntriesContext, RaftState, Storage, StorageError,
    eraftpb::{Entry, HardState, Snapshot},
};
use raft_engine::{
    Config, Engine, MessageExt, ReadableSize, RecoveryMode,
    env::{DefaultFileSystem, FileSystem},
};

use super::{
    Boundary, Identity, LogStore, SnapshotMeta, StoreError, Write,
    guard::{Guard, is_no_space},
    image::{Image, of_snapshot},
    recent::Recent,
    tail::FILE_HEADER_BYTES,
};
use crate::{members::Members, node::delivery::to_committed, output::Committed};
pub use writer::EngineWriter;

/// raft-engine multiplexes many logs; this one is all there is.
const GROUP: u64 = 1;
const HARD_STATE: &[u8] = b"hard_state";
const SNAPSHOT: &[u8] = b"snapshot";
const BOUNDARY: &[u8] = b"boundary";
const IDENTITY: &[u8] = b"identity";

/// Entries read at a time when a log is checked on opening, in bytes.
const CHECK_BYTES: u64 = 4 << 20;

/// A log in a folder of its own.
pub struct EngineStore<F: FileSystem = DefaultFileSystem> {
    path: PathBuf,
    engine: Arc<Engine<Guard<F>>>,
    image: Image,
    recent: Recent,
    syncs: Arc<AtomicU64>,
}

impl EngineStore {
    /// Opens the log in a folder, creating the folder if there is none, and checks every entry.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when anything that was once acknowledged is unreadable or missing,
    /// [`StoreError::Locked`] when another process has the log open, [`StoreError::NoSpace`] and [`StoreError::Io`]
    /// when the system refuses.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with_file_system(path, Arc::new(DefaultFileSystem))
    }
}

impl<F: FileSystem> EngineStore<F> {
    /// As [`EngineStore::open`], on a file system of the caller's: a simulated or recording one.
    ///
    /// # Errors
    /// As [`EngineStore::open`].
    pub fn open_with_file_system(path: &Path, file_system: Arc<F>) -> Result<Self, StoreError> {
        let io = |error: io::Error| StoreError::Io { path: path.to_owned(), action: "open", detail: error.to_string() };
        fs::create_dir_all(path).map_err(io)?;
        let guard = Arc::new(Guard::new(file_system));
        let syncs = guard.syncs();
        let engine = Engine::open_with_file_system(engine_config(path)?, guard.clone())
            .map_err(|error| open_error(path, guard.damage(), error))?;
        // raft-engine syncs the folder when it adds a file, but not for the first one, nor the folder's own entry.
        sync_folder(path).map_err(io)?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_folder(parent).map_err(io)?;
        }
        let mut store = Self {
            path: path.to_owned(),
            engine: Arc::new(engine),
            image: Image::default(),
            recent: Recent::default(),
            syncs,
        };
        store.load().map_err(|detail| StoreError::Damaged { path: path.to_owned(), detail })?;
        Ok(store)
    }

    /// Counts how often log files were synced since they were opened. Stays valid when the store has been moved away.
    pub fn syncs(&self) -> Arc<AtomicU64> {
        self.syncs.clone()
    }

    /// Reads everything back once. Checksums of entries in the middle of a file are verified only when the entries are
    /// read; a node that finds them bad an hour later has already voted.
    fn load(&mut self) -> Result<(), String> {
        let describe = |error: raft_engine::Error| error.to_string();
        if let Some(bytes) = self.engine.get(GROUP, BOUNDARY) {
            let (index, term) = decode_pair(&bytes).ok_or("the log's boundary is unreadable")?;
            self.image.rewind(Boundary { index, term });
        }
        let front = self.image.boundary.index;
        let last = self.engine.last_index(GROUP).unwrap_or(front);
        let first = self.engine.first_index(GROUP).unwrap_or(front + 1);
        if first != front + 1 {
            return Err(format!("the log starts at entry {first}, but its beginning is entry {}", front + 1));
        }
        while self.image.last < last {
            let entries = self.fetch(self.image.last + 1, last + 1, Some(CHECK_BYTES)).map_err(describe)?;
            if entries.is_empty() {
                return Err(format!("entry {} cannot be found", self.image.last + 1));
            }
            self.image.load(&entries)?;
            self.recent.push(&entries);
        }
        let hard_state = self.engine.get_message::<HardState>(GROUP, HARD_STATE).map_err(describe)?;
        self.image.hard_state = hard_state.unwrap_or_default();
        let snapshot = self.engine.get_message::<Snapshot>(GROUP, SNAPSHOT).map_err(describe)?;
        self.image.snapshot = snapshot.map(|snapshot| of_snapshot(&snapshot));
        if let Some(bytes) = self.engine.get(GROUP, IDENTITY) {
            let (node, incarnation) = decode_pair(&bytes).ok_or("the node's identity is unreadable")?;
            self.image.identity = Identity { node, incarnation };
        }
        self.image.check()
    }

    /// Committed entries from index `from` on, as many as fit in `max_bytes` (one at least), without a node: for whoever reads
    /// the folder of one that has stopped. Begins with the log's first entry when `from` is cut off; none when nothing
    /// behind it is known to be committed.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when they cannot be read.
    pub fn committed(&self, from: u64, max_bytes: u64) -> Result<Vec<Committed>, StoreError> {
        let (low, high) = (from.max(self.image.boundary.index + 1), self.image.hard_state.commit + 1);
        if low >= high {
            return Ok(Vec::new());
        }
        let read = self.fetch(low, high, Some(max_bytes)).map_err(|error| StoreError::Damaged {
            path: self.path.clone(),
            detail: format!("entries from {low} on cannot be read: {error}"),
        })?;
        Ok(read.into_iter().map(|entry| to_committed(entry, None)).collect())
    }

    fn fetch(&self, low: u64, high: u64, max_size: Option<u64>) -> raft_engine::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let max_size = max_size.map(|size| usize::try_from(size).unwrap_or(usize::MAX));
        self.engine.fetch_entries_to::<Entries>(GROUP, low, high, max_size, &mut entries)?;
        Ok(entries)
    }
}

impl<F: FileSystem> LogStore for EngineStore<F> {
    type Writer = EngineWriter<F>;

    fn writer(&self) -> EngineWriter<F> {
        EngineWriter::new(self.path.clone(), self.engine.clone(), &self.image)
    }

    fn stage(&mut self, write: &Write) -> Result<(), StoreError> {
        let mut image = self.image.clone();
        let failed = |detail| StoreError::Io { path: self.path.clone(), action: "append to", detail };
        image.take(&write.batch).map_err(failed)?;
        self.image = image;
        self.recent.stage(write);
        Ok(())
    }

    fn settled(&mut self, number: u64) {
        self.recent.settled(number);
    }

    fn identity(&self) -> Identity {
        self.image.identity
    }

    fn latest_snapshot(&self) -> Option<&SnapshotMeta> {
        self.image.snapshot.as_ref()
    }

    fn start_with(&mut self, members: &Members) {
        self.image.members = members.clone();
    }

    fn changes(&self, from: u64) -> Vec<u64> {
        self.image.changes(from)
    }

    fn take_snapshot_wanted(&self) -> bool {
        self.image.take_wanted()
    }
}

impl<F: FileSystem> Storage for EngineStore<F> {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.image.raft_state())
    }

    /// What is in memory wins: entries that are not on the disk yet are only there, and the disk may still hold what
    /// they replace. The disk is asked for entries before those alone.
    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        self.image.check_range(low, high)?;
        let max_size = max_size.into();
        if let Some(entries) = self.recent.get(low, high, max_size) {
            return Ok(entries);
        }
        let high = self.recent.first().map_or(high, |first| high.min(first));
        let mut entries = self.fetch(low, high, max_size).map_err(|error| {
            let detail = format!("entries {low} to {high} cannot be read: {error}");
            let error = StoreError::Damaged { path: self.path.clone(), detail };
            raft::Error::Store(StorageError::Other(Box::new(error)))
        })?;
        raft::util::limit_size(&mut entries, max_size);
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        self.image.term(index)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.image.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.image.last)
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        self.image.offer(request_index, to)
    }
}

impl<F: FileSystem> fmt::Debug for EngineStore<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineStore").field("path", &self.path).field("last", &self.image.last).finish_non_exhaustive()
    }
}

/// How raft-engine reads an entry's index.
struct Entries;

impl MessageExt for Entries {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

/// raft-engine's settings, where they differ from its defaults.
///
/// * A broken tail is tolerated here and judged by [`Guard`]; see [`super::tail`] for why no mode of
///   raft-engine alone is right.
/// * raft-engine's own purging is not used, so its thresholds say nothing here: it would rewrite old entries into a
///   second queue of files when few are left in a file, and that queue is written without a sync after each record,
///   which [`super::tail`] could not judge. [`writer`] removes files that hold nothing live instead.
/// * Recovery reads with one thread, so that a simulated disk sees the same reads in the same order every time.
/// * Files are not recycled, and none are filled ahead. Filling ahead showed no gain: one synced append of 256 bytes on ext4, unoptimised build, on a busy machine, the variants
///   taking turns, two runs of 2,000 each. The 10th percentile, which contention touches least, was 0.18 and 0.19 ms
///   with plain preallocation, the same with zeros written instead, 0.22 and 0.23 ms into a file filled ahead, and 0.18
///   ms twice for a bare `pwrite` and `fdatasync`. (Medians were 1.5 to 4 ms for all of them, with more runnable
///   threads than cores.) Recycled files would also hold old records behind the tail, which could no longer be told
///   from damage.
/// * Files of 64 MiB: what a recovery reads into memory to judge a tail is bounded by that.
fn engine_config(path: &Path) -> Result<Config, StoreError> {
    let dir = path.to_str().ok_or_else(|| StoreError::Io {
        path: path.to_owned(),
        action: "open",
        detail: "the path is not UTF-8".to_owned(),
    })?;
    Ok(Config {
        dir: dir.to_owned(),
        recovery_mode: RecoveryMode::TolerateTailCorruption,
        target_file_size: ReadableSize::mb(64),
        purge_threshold: ReadableSize::gb(1),
        recovery_threads: 1,
        // Signed commands are keys, signatures and hashes for the most part, which hardly shrink.
        batch_compression_threshold: ReadableSize(0),
        enable_log_recycle: false,
        prefill_for_recycle: false,
        ..Config::default()
    })
}

fn open_error(path: &Path, damage: Option<&String>, error: raft_engine::Error) -> StoreError {
    let path = path.to_owned();
    if let Some(place) = damage {
        return StoreError::Damaged { path, detail: place.clone() };
    }
    match error {
        raft_engine::Error::Io(error) if is_no_space(&error) => {
            StoreError::NoSpace { path, needed: FILE_HEADER_BYTES as u64 }
        }
        raft_engine::Error::Io(error) => StoreError::Io { path, action: "open", detail: error.to_string() },
        // The only error that raft-engine wraps as "other" when opening is its folder's lock.
        raft_engine::Error::Other(error) if error.to_string().contains("lock") => StoreError::Locked { path },
        error => StoreError::Damaged { path, detail: error.to_string() },
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn encode_pair(pair: (u64, u64)) -> Vec<u8> {
    [pair.0.to_le_bytes(), pair.1.to_le_bytes()].concat()
}

fn decode_pair(bytes: &[u8]) -> Option<(u64, u64)> {
    let (words, rest) = bytes.as_chunks::<8>();
    match (words, rest) {
        ([first, second], []) => Some((u64::from_le_bytes(*first), u64::from_le_bytes(*second))),
        _ => None,
    }
}
