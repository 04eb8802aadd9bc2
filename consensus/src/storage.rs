//! What a node needs of a disk: [`LogStore`], the [`Batch`] that is written at once, and the checks that a log must
//! pass before a node starts on it.

pub(crate) mod engine;
pub(crate) mod guard;
pub(crate) mod memory;
pub(crate) mod tail;

use std::path::PathBuf;

use raft::{
    RaftState, Storage, StorageError,
    eraftpb::{ConfState, Entry, HardState},
};

/// Everything that one cycle makes durable, written as one checksummed record: after a crash all of it is there or
/// none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Entries, contiguous in index. They replace whatever the log holds from the first one's index on.
    pub entries: Vec<Entry>,
    /// Term, vote and commit index, if they changed.
    pub hard_state: Option<HardState>,
    /// The membership, if it changed.
    pub conf_state: Option<ConfState>,
    /// Who the log belongs to, written when a node opens its store.
    pub identity: Option<Identity>,
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
/// * `append` is durable when it returns `Ok`, as a whole; what it wrote is visible to the reading half at once.
/// * After an `Err` from `append` nothing may be assumed; the node makes no further call.
/// * `entries` stops at `max_size` (one entry at least), and the log starts at index 1.
/// * What raft itself asks for must be readable: raft-rs panics with the store's error when it is not, and that is
///   meant to end the process.
pub trait LogStore: Storage {
    /// Writes a batch and syncs it.
    ///
    /// # Errors
    /// [`StoreError`] names the path and the action that failed.
    fn append(&mut self, batch: &Batch) -> Result<(), StoreError>;

    /// Whose log this is.
    fn identity(&self) -> Identity;
}

/// A failure of the disk or a log that must not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
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

/// What a store keeps in memory about its log: small, so that terms and bounds cost no disk access.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    pub(crate) identity: Identity,
    pub(crate) hard_state: HardState,
    pub(crate) conf_state: ConfState,
    /// Last index, 0 when empty.
    pub(crate) last: u64,
    /// Runs of equal terms: (first index, term), ascending in both. A log has as many runs as it had leaders.
    terms: Vec<(u64, u64)>,
}

impl Image {
    /// Takes in a batch that was (or is about to be) written.
    ///
    /// # Errors
    /// A sentence if the batch doesn't fit the log: a gap, an index or term that goes back. That would be our own
    /// mistake or raft's, and must not reach a disk.
    pub(crate) fn take(&mut self, batch: &Batch) -> Result<(), String> {
        if let Some(first) = batch.entries.first() {
            let known = self.term(first.index.saturating_sub(1)).ok();
            let Some(before) = known.filter(|_| first.index > 0) else {
                return Err(format!("entry {} does not follow the log's end {}", first.index, self.last));
            };
            check_run(first.index, before, &batch.entries)?;
            self.terms.retain(|&(index, _)| index < first.index);
            self.extend(&batch.entries);
        }
        if let Some(hard_state) = &batch.hard_state {
            self.hard_state = hard_state.clone();
        }
        if let Some(conf_state) = &batch.conf_state {
            self.conf_state = conf_state.clone();
        }
        if let Some(identity) = batch.identity {
            self.identity = identity;
        }
        self.check()
    }

    /// Takes in entries read back from the disk, in order, checking that they form a log.
    pub(crate) fn load(&mut self, entries: &[Entry]) -> Result<(), String> {
        check_run(self.last + 1, self.terms.last().map_or(0, |&(_, term)| term), entries)?;
        self.extend(entries);
        Ok(())
    }

    fn extend(&mut self, entries: &[Entry]) {
        for entry in entries {
            if self.terms.last().is_none_or(|&(_, term)| term != entry.term) {
                self.terms.push((entry.index, entry.term));
            }
            self.last = entry.index;
        }
    }

    /// Forgets the entries, to load fewer.
    pub(crate) fn rewind(&mut self) {
        self.last = 0;
        self.terms.clear();
    }

    /// Whether term, vote, commit, membership and entries can belong to one log.
    pub(crate) fn check(&self) -> Result<(), String> {
        let HardState { term, commit, .. } = self.hard_state;
        if commit > self.last {
            return Err(format!("entries up to {commit} are committed, but the log ends at {}", self.last));
        }
        let last_term = self.terms.last().map_or(0, |&(_, term)| term);
        if last_term > term {
            return Err(format!("the log holds an entry of term {last_term}, but the node's term is {term}"));
        }
        if self.conf_state.voters.is_empty() && (self.last > 0 || term > 0) {
            return Err("the log has entries or votes, but no members".to_owned());
        }
        if self.identity.node == 0 && !self.conf_state.voters.is_empty() {
            return Err("the log has members, but belongs to no node".to_owned());
        }
        Ok(())
    }

    pub(crate) fn raft_state(&self) -> RaftState {
        RaftState { hard_state: self.hard_state.clone(), conf_state: self.conf_state.clone() }
    }

    /// The term of an entry; 0 for index 0, the start that all logs share.
    pub(crate) fn term(&self, index: u64) -> raft::Result<u64> {
        if index == 0 {
            return Ok(0);
        }
        if index > self.last {
            return Err(raft::Error::Store(StorageError::Unavailable));
        }
        let run = self.terms.partition_point(|&(first, _)| first <= index);
        Ok(self.terms[run - 1].1)
    }

    /// Checks a range that raft asks for, `low` inclusive and `high` exclusive.
    pub(crate) fn check_range(&self, low: u64, high: u64) -> raft::Result<()> {
        if low == 0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        if low > high || high > self.last + 1 {
            return Err(raft::Error::Store(StorageError::Unavailable));
        }
        Ok(())
    }
}

/// Checks that entries start at `index`, have no gaps, and that terms never fall.
fn check_run(mut index: u64, mut term: u64, entries: &[Entry]) -> Result<(), String> {
    for entry in entries {
        if entry.index != index {
            return Err(format!("entry {index} was expected, entry {} was found", entry.index));
        }
        if entry.term < term || entry.term == 0 {
            return Err(format!("entry {index} has term {} after an entry of term {term}", entry.term));
        }
        term = entry.term;
        index += 1;
    }
    Ok(())
}

/// raft asks for snapshots only of a log that was truncated, which this one never is; "later" is always right.
pub(crate) fn no_snapshot() -> raft::Error {
    raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable)
}
