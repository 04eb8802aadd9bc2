//! When a snapshot is taken, and how much of the log may go behind it.
//!
//! The log keeps what any of three may still need: the older of the two snapshots kept (a damaged newest one must not cost
//! the node its log), whatever is not yet sealed into segments (an audit must find every entry), and a tail behind the
//! newest snapshot (a member that was away for moments must not need a whole snapshot).
//!
//! A snapshot waits while the archive lags: a state remembers where its newest epochs ended and no more. After a start from a
//! snapshot that has forgotten where the next segment ends, the log that is kept for it could not be sealed.

use super::{Io, Replica};
use crate::{
    plants::{Plant, planted},
    snapshots::{Header, KEPT, Reference},
};
use matrixai_consensus::{LogStore, Members, SnapshotMeta};

/// Time after a failed attempt before the next.
const RETRY_MS: u64 = 10_000;

/// How often snapshots are taken, and what is kept behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Bytes of applied entries since the last snapshot.
    pub log_bytes: usize,
    /// Entries since the last snapshot.
    pub log_entries: u64,
    /// Entries that stay in the log behind the newest snapshot.
    pub tail_entries: u64,
}

impl Default for Policy {
    /// Every 256 MiB or 500,000 entries (so that a restart replays for seconds, not minutes), with 20,000 entries kept:
    /// some seconds of a busy cluster, minutes of a quiet one.
    fn default() -> Self {
        Self { log_bytes: 256 << 20, log_entries: 500_000, tail_entries: 20_000 }
    }
}

/// The bounds of the log's front.
#[derive(Debug)]
pub struct Compaction {
    policy: Policy,
    /// Indices of the snapshots kept, ascending, two at most.
    kept: Vec<u64>,
    /// Bytes applied since the newest snapshot was begun.
    bytes: usize,
    /// Index, term and members of the newest applied entry.
    at: (u64, u64, Members),
    /// The newest sealed epoch, and its last entry.
    sealed: (u64, u64),
    /// Whether it was said that a snapshot waits for the archive.
    told: bool,
    /// A member needs one that is newer than the newest.
    wanted: bool,
    running: bool,
    not_before: u64,
    /// Whether the bounds have moved since the log was last cut.
    moved: bool,
}

impl Compaction {
    /// For a replica whose state is that after entry `index` of this term and among these members, with the snapshots of
    /// these indices kept, ascending.
    pub fn new(policy: Policy, index: u64, term: u64, members: Members, kept: Vec<u64>) -> Self {
        Self {
            policy,
            kept,
            bytes: 0,
            at: (index, term, members),
            sealed: (0, 0),
            told: false,
            wanted: false,
            running: false,
            not_before: 0,
            moved: false,
        }
    }

    /// Index of the newest snapshot; 0 for none.
    pub(super) fn newest(&self) -> u64 {
        self.kept.last().copied().unwrap_or(0)
    }

    pub(super) fn applied(&mut self, index: u64, bytes: usize, term: u64, members: Members) {
        self.at = (index, term, members);
        self.bytes += bytes;
    }

    pub(super) fn wanted(&mut self) {
        self.wanted = true;
    }

    pub(super) fn sealed(&mut self, epoch: u64, through: u64) {
        self.moved |= through > self.sealed.1;
        self.sealed = (self.sealed.0.max(epoch), self.sealed.1.max(through));
    }

    pub(super) fn failed(&mut self, why: &str, now: u64) {
        tracing::error!(why, "a snapshot could not be written; the log keeps growing until one can");
        self.running = false;
        self.wanted = true;
        self.not_before = now.saturating_add(RETRY_MS);
    }

    pub(super) fn is_due(&self, now: u64) -> bool {
        let entries = self.at.0.saturating_sub(self.newest());
        let much = self.bytes >= self.policy.log_bytes || entries >= self.policy.log_entries;
        !self.running && now >= self.not_before && entries > 0 && (much || self.wanted)
    }

    /// Whether a state whose oldest remembered epoch is this one still knows where the next segment ends.
    fn archive_follows(&mut self, oldest: Option<u64>) -> bool {
        let follows = oldest.is_none_or(|oldest| oldest <= self.sealed.0 + 1);
        if !follows && !self.told {
            tracing::warn!(sealed = self.sealed.0, "a snapshot waits until the archive has caught up");
        }
        self.told = !follows;
        follows
    }

    /// A snapshot is durable; the folder keeps the newest, and so does this.
    pub(super) fn saved(&mut self, index: u64) {
        self.moved = true;
        self.kept.push(index);
        self.kept.sort_unstable();
        self.kept.dedup();
        self.kept.drain(..self.kept.len().saturating_sub(KEPT));
    }

    /// The last entry that may leave the log.
    fn through(&self) -> u64 {
        let older = if self.kept.len() < KEPT { 0 } else { self.kept[0] };
        let sealed = if planted(Plant::CutUnsealed) { u64::MAX } else { self.sealed.1 };
        older.min(sealed).min(self.newest().saturating_sub(self.policy.tail_entries))
    }
}

impl<S: LogStore> Replica<S> {
    /// Begins a snapshot if one is due, and cuts the log behind those there are.
    pub(super) fn take_snapshot(&mut self, now: u64) {
        if std::mem::take(&mut self.compaction.moved) && self.compaction.through() >= self.node.status().first {
            self.node.compact(self.compaction.through());
        }
        let compaction = &mut self.compaction;
        let oldest = self.views.newest.epochs().next().map(|row| row.epoch);
        let view = &self.views.newest;
        if compaction.is_due(now) && compaction.at.0 == view.index() && compaction.archive_follows(oldest) {
            let (_, term, members) = &compaction.at;
            let header = Header::of(view, *term, members.encode());
            compaction.running = true;
            compaction.wanted = false;
            compaction.bytes = 0;
            self.work.push(Io::SaveSnapshot { header, view: view.clone() });
        }
    }

    pub(super) fn snapshot_saved(&mut self, header: &Header, reference: &Reference) {
        let Ok(members) = Members::decode(&header.members) else {
            return self.stop("a snapshot of this process names members that cannot be".to_owned());
        };
        self.compaction.running = false;
        self.compaction.saved(header.index);
        let data = reference.encode();
        self.node.snapshot_taken(SnapshotMeta { index: header.index, term: header.term, members, data });
    }
}
