//! The log on a disk, in raft-engine: one record per batch, checksummed and synced.
//!
//! Why raft-engine is configured as it is, and what was measured, stands at [`engine_config`]. What it does not do
//! itself is added here: the folder's own entry is synced, damage is told from a torn tail ([`super::tail`]), and a
//! log is read through once before a node may start on it.

use std::{
    collections::VecDeque,
    fmt,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use raft::{
    GetEntriesContext, RaftState, Storage, StorageError,
    eraftpb::{ConfState, Entry, HardState, Snapshot},
};
use raft_engine::{
    Config, Engine, LogBatch, MessageExt, ReadableSize, RecoveryMode,
    env::{DefaultFileSystem, FileSystem},
};

use super::{Batch, Identity, Image, LogStore, StoreError, guard::Guard, no_snapshot};

/// raft-engine multiplexes many logs; this one is all there is.
const GROUP: u64 = 1;
const HARD_STATE: &[u8] = b"hard_state";
const CONF_STATE: &[u8] = b"conf_state";
const IDENTITY: &[u8] = b"identity";

/// Entries read at a time when a log is checked on opening, in bytes.
const CHECK_BYTES: u64 = 4 << 20;
/// The newest entries kept in memory, in bytes: committed entries and those for followers are read right after they
/// were written.
const RECENT_BYTES_MAX: usize = 16 << 20;

/// A log in a folder of its own.
pub struct EngineStore<F: FileSystem = DefaultFileSystem> {
    path: PathBuf,
    engine: Engine<Guard<F>>,
    image: Image,
    recent: Recent,
}

impl EngineStore {
    /// Opens the log in a folder, creating the folder if there is none, and checks every entry.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when anything that was once acknowledged is unreadable or missing,
    /// [`StoreError::Locked`] when another process has the log open, [`StoreError::Io`] when the system refuses.
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
        let engine = Engine::open_with_file_system(engine_config(path)?, guard.clone())
            .map_err(|error| open_error(path, guard.damage(), error))?;
        // raft-engine syncs the folder when it adds a file, but not for the first one, nor the folder's own entry.
        sync_folder(path).map_err(io)?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_folder(parent).map_err(io)?;
        }
        let mut store = Self { path: path.to_owned(), engine, image: Image::default(), recent: Recent::default() };
        store.load().map_err(|detail| StoreError::Damaged { path: path.to_owned(), detail })?;
        Ok(store)
    }

    /// Reads everything back once. Checksums of entries in the middle of a file are verified only when the entries are
    /// read; a node that finds them bad an hour later has already voted.
    fn load(&mut self) -> Result<(), String> {
        let describe = |error: raft_engine::Error| error.to_string();
        let last = self.engine.last_index(GROUP).unwrap_or(0);
        let first = self.engine.first_index(GROUP).unwrap_or(1);
        if first != 1 {
            return Err(format!("the log starts at entry {first}, its beginning is missing"));
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
        let conf_state = self.engine.get_message::<ConfState>(GROUP, CONF_STATE).map_err(describe)?;
        self.image.hard_state = hard_state.unwrap_or_default();
        self.image.conf_state = conf_state.unwrap_or_default();
        if let Some(bytes) = self.engine.get(GROUP, IDENTITY) {
            self.image.identity = decode_identity(&bytes).ok_or("the node's identity is unreadable")?;
        }
        self.image.check()
    }

    fn fetch(&self, low: u64, high: u64, max_size: Option<u64>) -> raft_engine::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let max_size = max_size.map(|size| usize::try_from(size).unwrap_or(usize::MAX));
        self.engine.fetch_entries_to::<Entries>(GROUP, low, high, max_size, &mut entries)?;
        Ok(entries)
    }

    fn write(&self, batch: &Batch) -> raft_engine::Result<()> {
        let mut record = LogBatch::default();
        record.add_entries::<Entries>(GROUP, &batch.entries)?;
        if let Some(hard_state) = &batch.hard_state {
            record.put_message(GROUP, HARD_STATE.to_vec(), hard_state)?;
        }
        if let Some(conf_state) = &batch.conf_state {
            record.put_message(GROUP, CONF_STATE.to_vec(), conf_state)?;
        }
        if let Some(identity) = batch.identity {
            record.put(GROUP, IDENTITY.to_vec(), encode_identity(identity))?;
        }
        self.engine.write(&mut record, true)?;
        Ok(())
    }
}

impl<F: FileSystem> LogStore for EngineStore<F> {
    fn append(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let failed = |detail| StoreError::Io { path: self.path.clone(), action: "append to", detail };
        let mut image = self.image.clone();
        image.take(batch).map_err(failed)?;
        self.write(batch).map_err(|error| failed(error.to_string()))?;
        self.recent.push(&batch.entries);
        self.image = image;
        Ok(())
    }

    fn identity(&self) -> Identity {
        self.image.identity
    }
}

impl<F: FileSystem> Storage for EngineStore<F> {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.image.raft_state())
    }

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
        Ok(1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.image.last)
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        Err(no_snapshot())
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

/// The newest entries of the log, contiguous up to its end.
#[derive(Default)]
struct Recent {
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Recent {
    /// Takes in entries that were just written, dropping those they replace and the oldest over the limit.
    fn push(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        while self.entries.back().is_some_and(|entry| entry.index >= first.index) {
            self.bytes -= self.entries.pop_back().map_or(0, |entry| entry.data.len());
        }
        for entry in entries {
            self.bytes += entry.data.len();
            self.entries.push_back(entry.clone());
        }
        while self.bytes > RECENT_BYTES_MAX || self.entries.len() > RECENT_BYTES_MAX / size_of::<Entry>() {
            self.bytes -= self.entries.pop_front().map_or(0, |entry| entry.data.len());
        }
    }

    /// The entries from `low` to before `high`, or none if the oldest is no longer here.
    fn get(&self, low: u64, high: u64, max_size: Option<u64>) -> Option<Vec<Entry>> {
        let first = self.entries.front()?.index;
        let start = usize::try_from(low.checked_sub(first)?).ok()?;
        let end = usize::try_from(high.checked_sub(first)?).ok()?;
        let mut left = max_size.unwrap_or(u64::MAX);
        let mut entries = Vec::new();
        for entry in self.entries.range(start..end.min(self.entries.len())) {
            let size = u64::from(protobuf::Message::compute_size(entry));
            if size > left && !entries.is_empty() {
                break;
            }
            left = left.saturating_sub(size);
            entries.push(entry.clone());
        }
        Some(entries)
    }
}

/// raft-engine's settings, where they differ from its defaults.
///
/// * A broken tail is tolerated here and judged by [`Guard`]; see [`super::tail`] for why no mode of
///   raft-engine alone is right.
/// * Nothing is purged, for the log is never truncated, so the purge threshold only has to be a sane bound for the day
///   it is (the default is 10 GB).
/// * Files are not recycled, and none are filled ahead. With nothing purged there is nothing to recycle, and filling
///   ahead showed no gain: one synced append of 256 bytes on ext4, unoptimised build, on a busy machine, the variants
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
        raft_engine::Error::Io(error) => StoreError::Io { path, action: "open", detail: error.to_string() },
        // The only error that raft-engine wraps as "other" when opening is its folder's lock.
        raft_engine::Error::Other(error) if error.to_string().contains("lock") => StoreError::Locked { path },
        error => StoreError::Damaged { path, detail: error.to_string() },
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn encode_identity(identity: Identity) -> Vec<u8> {
    [identity.node.to_le_bytes(), identity.incarnation.to_le_bytes()].concat()
}

fn decode_identity(bytes: &[u8]) -> Option<Identity> {
    let (words, rest) = bytes.as_chunks::<8>();
    match (words, rest) {
        ([node, incarnation], []) => {
            Some(Identity { node: u64::from_le_bytes(*node), incarnation: u64::from_le_bytes(*incarnation) })
        }
        _ => None,
    }
}
