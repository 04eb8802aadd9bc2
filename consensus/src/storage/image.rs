//! What a store keeps in memory about its log, beside the entries: small, so that terms and bounds cost no disk access.

use std::cell::Cell;

use raft::{
    RaftState, StorageError,
    eraftpb::{Entry, EntryType, HardState, Snapshot, SnapshotMetadata},
};

use super::{Batch, Boundary, Identity, SnapshotMeta};
use crate::members::Members;

/// Everything about a log but its entries' contents.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    pub(crate) identity: Identity,
    pub(crate) hard_state: HardState,
    pub(crate) snapshot: Option<SnapshotMeta>,
    /// What [`raft::Storage::initial_state`] reports.
    pub(crate) members: Members,
    /// The entry before the first; the log's beginning until it is compacted.
    pub(crate) boundary: Boundary,
    /// Last index, that of the boundary when the log is empty.
    pub(crate) last: u64,
    /// Runs of equal terms: (first index, term), ascending in both. A log has as many runs as it had leaders.
    terms: Vec<(u64, u64)>,
    /// Indices of entries that change the membership.
    changes: Vec<u64>,
    /// A snapshot was asked for that cannot be served.
    wanted: Cell<bool>,
}

impl Image {
    /// Takes in a batch that is about to be written.
    ///
    /// # Errors
    /// A sentence if the batch doesn't fit the log: a gap, an index or term that goes back. That would be our own
    /// mistake or raft's, and must not reach a disk.
    pub(crate) fn take(&mut self, batch: &Batch) -> Result<(), String> {
        if let Some(boundary) = batch.restart {
            self.rewind(boundary);
        }
        if let Some(first) = batch.entries.first() {
            let known = first.index.checked_sub(1).and_then(|before| self.term(before).ok());
            let Some(before) = known else {
                return Err(format!("entry {} does not follow the log's end {}", first.index, self.last));
            };
            check_run(first.index, before, &batch.entries)?;
            self.terms.retain(|&(index, _)| index < first.index);
            self.changes.retain(|&index| index < first.index);
            self.extend(&batch.entries);
        }
        if let Some(hard_state) = &batch.hard_state {
            self.hard_state = hard_state.clone();
        }
        if let Some(snapshot) = &batch.snapshot {
            self.snapshot = Some(snapshot.clone());
        }
        if let Some(boundary) = batch.compact {
            self.compact(boundary)?;
        }
        if let Some(identity) = batch.identity {
            self.identity = identity;
        }
        self.check()
    }

    /// Takes in entries read back from the disk, in order, checking that they form a log.
    pub(crate) fn load(&mut self, entries: &[Entry]) -> Result<(), String> {
        let term = self.term(self.last).map_err(|error| error.to_string())?;
        check_run(self.last + 1, term, entries)?;
        self.extend(entries);
        Ok(())
    }

    fn extend(&mut self, entries: &[Entry]) {
        for entry in entries {
            if self.terms.last().is_none_or(|&(_, term)| term != entry.term) {
                self.terms.push((entry.index, entry.term));
            }
            if entry.get_entry_type() != EntryType::EntryNormal {
                self.changes.push(entry.index);
            }
            self.last = entry.index;
        }
    }

    /// Forgets the entries; the log goes on behind `boundary`.
    pub(crate) fn rewind(&mut self, boundary: Boundary) {
        self.boundary = boundary;
        self.last = boundary.index;
        self.terms.clear();
        self.changes.clear();
    }

    fn compact(&mut self, boundary: Boundary) -> Result<(), String> {
        if boundary.index < self.boundary.index || self.term(boundary.index) != Ok(boundary.term) {
            return Err(format!("the log cannot be cut behind entry {} of term {}", boundary.index, boundary.term));
        }
        // The run that goes on behind the cut begins there now.
        let next = boundary.index + 1;
        let kept = self.terms.partition_point(|&(first, _)| first <= next);
        let run = kept.checked_sub(1).and_then(|run| self.terms.get(run).copied());
        self.terms.drain(..kept);
        if let Some((_, term)) = run.filter(|_| next <= self.last) {
            self.terms.insert(0, (next, term));
        }
        self.changes.retain(|&index| index >= next);
        self.boundary = boundary;
        Ok(())
    }

    /// Whether term, vote, commit, snapshot and entries can belong to one log.
    pub(crate) fn check(&self) -> Result<(), String> {
        let HardState { term, commit, .. } = self.hard_state;
        let Boundary { index: front, term: front_term } = self.boundary;
        if commit > self.last {
            return Err(format!("entries up to {commit} are committed, but the log ends at {}", self.last));
        }
        if commit < front {
            return Err(format!("the log starts behind {front}, but only {commit} entries are committed"));
        }
        let last_term = self.terms.last().map_or(front_term, |&(_, term)| term);
        if last_term > term {
            return Err(format!("the log holds an entry of term {last_term}, but the node's term is {term}"));
        }
        if self.identity.node == 0 && (self.last > 0 || term > 0) {
            return Err("the log has entries or votes, but belongs to no node".to_owned());
        }
        if front > 0 && self.snapshot.as_ref().is_none_or(|snapshot| snapshot.index < front) {
            return Err(format!("the log starts behind {front}, but no snapshot reaches so far"));
        }
        Ok(())
    }

    pub(crate) fn raft_state(&self) -> RaftState {
        RaftState { hard_state: self.hard_state.clone(), conf_state: self.members.to_conf_state() }
    }

    pub(crate) fn first(&self) -> u64 {
        self.boundary.index + 1
    }

    /// The term of an entry, or of the boundary.
    pub(crate) fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.boundary.index {
            return Ok(self.boundary.term);
        }
        if index < self.boundary.index {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        if index > self.last {
            return Err(raft::Error::Store(StorageError::Unavailable));
        }
        let run = self.terms.partition_point(|&(first, _)| first <= index);
        Ok(self.terms[run - 1].1)
    }

    /// Checks a range that raft asks for, `low` inclusive and `high` exclusive.
    pub(crate) fn check_range(&self, low: u64, high: u64) -> raft::Result<()> {
        if low <= self.boundary.index {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        if low > high || high > self.last + 1 {
            return Err(raft::Error::Store(StorageError::Unavailable));
        }
        Ok(())
    }

    pub(crate) fn changes(&self, from: u64) -> Vec<u64> {
        self.changes[self.changes.partition_point(|&index| index < from)..].to_vec()
    }

    /// The snapshot for a peer, if one was taken that it can use: it must hold the entries asked for, and name the peer
    /// as a member, or the peer would refuse it.
    pub(crate) fn offer(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let fits = |snapshot: &&SnapshotMeta| {
            !snapshot.data.is_empty()
                && snapshot.index >= request_index.max(1)
                && snapshot.index >= self.boundary.index
                && snapshot.members.contains(to)
        };
        match self.snapshot.as_ref().filter(fits) {
            Some(meta) => Ok(to_snapshot(meta)),
            None => {
                self.wanted.set(true);
                Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable))
            }
        }
    }

    pub(crate) fn take_wanted(&self) -> bool {
        self.wanted.take()
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

/// raft's form of a snapshot.
pub(crate) fn to_snapshot(meta: &SnapshotMeta) -> Snapshot {
    let mut metadata = SnapshotMetadata { index: meta.index, term: meta.term, ..SnapshotMetadata::default() };
    metadata.set_conf_state(meta.members.to_conf_state());
    let mut snapshot = Snapshot { data: meta.data.clone().into(), ..Snapshot::default() };
    snapshot.set_metadata(metadata);
    snapshot
}

/// A snapshot from raft's form, its members unchecked.
pub(crate) fn of_snapshot(snapshot: &Snapshot) -> SnapshotMeta {
    let metadata = snapshot.get_metadata();
    SnapshotMeta {
        index: metadata.index,
        term: metadata.term,
        members: Members::of_conf_state(metadata.get_conf_state()),
        data: snapshot.data.to_vec(),
    }
}
