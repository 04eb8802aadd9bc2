//! How committed entries reach the caller: in order, once in a life, and no faster than they are applied.
//!
//! raft-rs hands out each committed entry once, whether anyone has room for it or not. Here the log itself is the queue:
//! what the caller has no room for is left there and read again when it has.

use std::collections::{BTreeMap, VecDeque};

use raft::{
    GetEntriesContext,
    eraftpb::{Entry, EntryType},
};

use super::Node;
use crate::{
    config::{APPLY_BACKLOG_BYTES_MAX, COMMITTED_BYTES_PER_CYCLE},
    error::Error,
    members::Members,
    output::Committed,
    plants::{Plant, planted},
    storage::LogStore,
};

/// How far the caller is.
pub(super) struct Delivery {
    /// Highest index delivered.
    pub(super) delivered: u64,
    /// Highest index the caller applied.
    pub(super) applied: u64,
    /// What was delivered and not applied: last index and bytes of each cycle.
    backlog: VecDeque<(u64, usize)>,
    backlog_bytes: usize,
    /// Members after entries that changed them and are not delivered yet.
    pub(super) members: BTreeMap<u64, Members>,
}

impl Delivery {
    pub(super) fn new(start: u64) -> Self {
        Self { delivered: start, applied: start, backlog: VecDeque::new(), backlog_bytes: 0, members: BTreeMap::new() }
    }

    /// Whether the caller has enough to do.
    pub(super) fn is_full(&self) -> bool {
        self.backlog_bytes >= APPLY_BACKLOG_BYTES_MAX
    }

    /// Whether an entry up to `deliverable` could be delivered now.
    pub(super) fn waits_below(&self, deliverable: u64) -> bool {
        self.delivered < deliverable && !self.is_full()
    }

    pub(super) fn applied(&mut self, index: u64) {
        self.applied = self.applied.max(index.min(self.delivered));
        let done = self.backlog.partition_point(|(last, _)| *last <= self.applied);
        self.backlog_bytes -= self.backlog.drain(..done).map(|(_, bytes)| bytes).sum::<usize>();
    }

    /// The caller's state is replaced by that of a snapshot.
    pub(super) fn restore(&mut self, index: u64) {
        self.delivered = if planted(Plant::SnapshotSkipsEntry) { index + 1 } else { index };
        self.applied = index;
        self.backlog.clear();
        self.backlog_bytes = 0;
        self.members.clear();
    }
}

impl<S: LogStore> Node<S> {
    /// Delivers what raft-rs yielded if it comes next and there is room, and more from the log.
    pub(super) fn deliver(&mut self, yielded: Vec<Entry>, committed: &mut Vec<Committed>) -> Result<(), Error> {
        let mut bytes = 0;
        if yielded.first().is_some_and(|entry| entry.index == self.delivery.delivered + 1) && !self.delivery.is_full() {
            bytes += self.hand_out(yielded, committed);
        }
        let alone = planted(Plant::CommitAlone) && self.raw.raft.state == raft::StateRole::Leader;
        let deliverable = if alone { self.raw.raft.raft_log.persisted } else { self.deliverable() };
        while bytes < COMMITTED_BYTES_PER_CYCLE && self.delivery.waits_below(deliverable) {
            let room = COMMITTED_BYTES_PER_CYCLE - bytes;
            let (low, high) = (self.delivery.delivered + 1, deliverable + 1);
            let read = self.raw.store().entries(low, high, room, GetEntriesContext::empty(false))?;
            bytes += self.hand_out(read, committed);
        }
        Ok(())
    }

    fn hand_out(&mut self, entries: Vec<Entry>, committed: &mut Vec<Committed>) -> u64 {
        let delivery = &mut self.delivery;
        let mut bytes = 0;
        for entry in entries {
            delivery.delivered = entry.index;
            bytes += crate::storage::entry_bytes(&entry);
            let members = delivery.members.remove(&entry.index);
            committed.push(to_committed(entry, members));
        }
        delivery.backlog.push_back((delivery.delivered, bytes));
        delivery.backlog_bytes += bytes;
        bytes as u64
    }
}

/// An entry as the caller sees it. That of a change of members shows the proposer's context, not raft's data.
pub(crate) fn to_committed(mut entry: Entry, members: Option<Members>) -> Committed {
    let data = match entry.get_entry_type() {
        EntryType::EntryNormal => entry.take_data(),
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => entry.take_context(),
    };
    Committed { index: entry.index, term: entry.term, data: data.into(), members }
}
