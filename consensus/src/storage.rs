//! What a node needs of a disk: a [`LogStore`] that the node reads and stages into, a [`LogWriter`] that makes staged
//! writes durable on a thread of the caller's, and the checks that a log must pass before a node starts on it.

pub(crate) mod engine;
pub(crate) mod guard;
pub(crate) mod image;
pub(crate) mod memory;
pub(crate) mod recent;
pub(crate) mod tail;

use std::path::PathBuf;

use raft::{
    Storage,
    eraftpb::{Entry, HardState},
};

use crate::members::Members;

/// Everything that one cycle makes durable, written as one checksummed record: after a crash all of it is there or
/// none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// The log is emptied and goes on behind this entry, which a snapshot covers.
    pub restart: Option<Boundary>,
    /// Entries, contiguous in index. They replace whatever the log holds from the first one's index on.
    pub entries: Vec<Entry>,
    /// Term, vote and commit index, if they changed.
    pub hard_state: Option<HardState>,
    /// The snapshot that others may be offered, if it changed.
    pub snapshot: Option<SnapshotMeta>,
    /// Entries up to this one, with it, leave the log's front.
    pub compact: Option<Boundary>,
    /// Who the log belongs to, written when a node opens its store.
    pub identity: Option<Identity>,
}

impl Batch {
    /// Bytes of entries, with what each costs beside its data: what holding this batch in memory amounts to.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.iter().map(entry_bytes).sum()
    }

    /// Takes in a later batch, so that both can be written as one record.
    pub(crate) fn merge(&mut self, later: &Self) {
        if later.restart.is_some() {
            self.restart = later.restart;
            self.compact = None;
            self.entries.clear();
        }
        if let Some(first) = later.entries.first() {
            let kept = self.entries.partition_point(|entry| entry.index < first.index);
            self.entries.truncate(kept);
            self.entries.extend_from_slice(&later.entries);
        }
        self.compact = later.compact.or(self.compact);
        self.identity = later.identity.or(self.identity);
        if later.hard_state.is_some() {
            self.hard_state = later.hard_state.clone();
        }
        if later.snapshot.is_some() {
            self.snapshot = later.snapshot.clone();
        }
    }
}

/// What one entry costs in memory, roughly.
pub(crate) fn entry_bytes(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + size_of::<Entry>()
}

/// A place in the log: an entry's index and term. 0 and 0 is the start that all logs share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Boundary {
    /// Index of the entry.
    pub index: u64,
    /// Its term.
    pub term: u64,
}

/// A numbered batch: what [`crate::Node::ready`] wants on the disk, and a [`LogWriter`] puts there.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    pub(crate) number: u64,
    pub(crate) batch: Batch,
}

impl Write {
    /// A batch with a number of its own: for tests and tools that write a log without a node.
    pub fn new(number: u64, batch: Batch) -> Self {
        Self { number, batch }
    }

    /// Its number, for [`crate::Node::written`]: ascending, not contiguous.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Bytes it holds in memory.
    pub fn bytes(&self) -> usize {
        self.batch.bytes()
    }
}

/// A snapshot of the caller's state as the log knows it: not the state, but where to find it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SnapshotMeta {
    /// Last entry that the snapshot holds.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// The members once that entry was applied.
    pub members: Members,
    /// The caller's reference to the data (a hash, a length), at most [`crate::SNAPSHOT_DATA_BYTES_MAX`].
    pub data: Vec<u8>,
}

impl SnapshotMeta {
    pub(crate) fn boundary(&self) -> Boundary {
        Boundary { index: self.index, term: self.term }
    }
}

/// Whose log this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Identity {
    /// The node's id; 0 in a store that was never opened by a node.
    pub node: u64,
    /// How often a node was opened on this store: two lives of one node differ in it.
    pub incarnation: u64,
}

/// A log on a disk. The reading half is raft's own [`Storage`].
///
/// # Contract
/// * What was staged is visible to the reading half at once, whether it reached the disk or not.
/// * `entries` stops at `max_size` (one entry at least).
/// * What raft itself asks for must be readable: raft-rs panics with the store's error when it is not, and that is
///   meant to end the process.
pub trait LogStore: Storage {
    /// Makes staged writes durable, on any thread.
    type Writer: LogWriter;

    /// The writer of this store. There is one disk: use one writer, and give it the writes in their order.
    fn writer(&self) -> Self::Writer;

    /// Takes in a write in memory; it becomes durable by the writer, later.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the batch doesn't fit the log, which would be a mistake of this crate's or raft's; nothing
    /// was taken in.
    fn stage(&mut self, write: &Write) -> Result<(), StoreError>;

    /// The write of this number, and all before it, are on the disk.
    fn settled(&mut self, number: u64);

    /// Whose log this is.
    fn identity(&self) -> Identity;

    /// The snapshot that others may be offered; of index 0 and without data as long as none was taken.
    fn latest_snapshot(&self) -> Option<&SnapshotMeta>;

    /// Sets the membership that [`Storage::initial_state`] reports: that of the caller's state.
    fn start_with(&mut self, members: &Members);

    /// Indices of entries from `from` on that change the membership, ascending.
    fn changes(&self, from: u64) -> Vec<u64>;

    /// Whether a snapshot was asked for since the last call that could not be served.
    fn take_snapshot_wanted(&self) -> bool;
}

/// The writing half of a log.
///
/// # Contract
/// * When `write` returns `Ok`, all writes given are durable, as if each had been written and synced in order. Several
///   share one sync: that is the group commit.
/// * After [`StoreError::NoSpace`] the log is as it was or holds the first of the writes; the same writes may be given
///   again. After any other error, or a panic (raft-engine's answer to a failed sync), the process must end.
pub trait LogWriter: Send {
    /// Writes and syncs.
    ///
    /// # Errors
    /// [`StoreError`] names the path and the action that failed.
    fn write(&mut self, writes: &[Write]) -> Result<(), StoreError>;
}

/// A failure of the disk or a log that must not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk is full. Nothing was acknowledged; the same write may be tried again once there is room.
    #[error("no space left for the log in {}: {needed} bytes are needed", path.display())]
    NoSpace {
        /// The log's folder.
        path: PathBuf,
        /// Bytes that could not be written.
        needed: u64,
    },
    /// The operating system refused.
    #[error("cannot {action} the log in {}: {detail}", path.display())]
    Io {
        /// The log's folder.
        path: PathBuf,
        /// A verb: open, append, read.
        action: &'static str,
        /// What the system said.
        detail: String,
    },
    /// Another process has the folder open.
    #[error("the log in {} is in use by another process", path.display())]
    Locked {
        /// The log's folder.
        path: PathBuf,
    },
    /// What was once acknowledged is no longer readable. The node must be replaced by one with a new id.
    #[error("the log in {} is damaged and must not be used: {detail}", path.display())]
    Damaged {
        /// The log's folder.
        path: PathBuf,
        /// Which file, where, and how it is known.
        detail: String,
    },
}

impl StoreError {
    /// Whether the same write may be tried again.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::NoSpace { .. })
    }
}
