//! What a node hands to its caller: plain values, so that no raft type leaves this crate's surface.

use crate::{members::Members, storage::Write};

/// A message for a peer, already encoded by [`crate::wire`]. It may be dropped, doubled or reordered on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The receiving node.
    pub to: u64,
    /// At most [`crate::wire::MESSAGE_BYTES_MAX`] bytes.
    pub bytes: Vec<u8>,
}

/// An entry that is committed for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Position in the log, from 1, without gaps.
    pub index: u64,
    /// Term of the leader that wrote it.
    pub term: u64,
    /// The proposed bytes, or the context of a change of members; empty for what nobody proposed: the entry that every
    /// new leader writes for itself, and the end of a joint change.
    pub data: Vec<u8>,
    /// The members from this entry on, if it changed them.
    pub members: Option<Members>,
}

/// A node's part in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// Follows a leader, or waits for one.
    #[default]
    Follower,
    /// Asks whether it could win an election, without disturbing anyone.
    PreCandidate,
    /// Stands for election.
    Candidate,
    /// Orders the log.
    Leader,
}

impl From<raft::StateRole> for Role {
    fn from(role: raft::StateRole) -> Self {
        match role {
            raft::StateRole::Follower => Self::Follower,
            raft::StateRole::PreCandidate => Self::PreCandidate,
            raft::StateRole::Candidate => Self::Candidate,
            raft::StateRole::Leader => Self::Leader,
        }
    }
}

/// A snapshot that a leader wants installed here. Fetch its data, make it durable, and say so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotOffer {
    /// The leader that offered it.
    pub from: u64,
    /// Last entry that the snapshot holds.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// The members once that entry was applied.
    pub members: Members,
    /// The reference that the leader's caller gave it.
    pub data: Vec<u8>,
}

/// What one cycle produced. Messages are not here: they went to `send` at the points where they were allowed to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Output {
    /// To be written by the [`crate::LogWriter`], in order; then say [`crate::Node::written`].
    pub write: Option<Write>,
    /// Before anything of `committed` is applied, the caller's state is to be replaced by the snapshot of this index,
    /// which it said it has.
    pub restore: Option<u64>,
    /// A snapshot to fetch; told once.
    pub snapshot_offer: Option<SnapshotOffer>,
    /// A follower needs a snapshot and there is none that it could use: take one.
    pub snapshot_wanted: bool,
    /// Newly committed entries in order, at most some 8 MiB a cycle; more follow while [`crate::Node::has_ready`].
    pub committed: Vec<Committed>,
    /// Reads that became answerable: the caller's context, and the index to have applied before answering.
    /// A doubled message can answer a read twice; a context that is no longer waited for is to be ignored.
    pub reads: Vec<(u64, u64)>,
    /// This node's part after the cycle.
    pub role: Role,
    /// The leader's id, 0 when none is known.
    pub leader: u64,
    /// The current term.
    pub term: u64,
    /// Highest committed index known here.
    pub commit: u64,
}

/// A look at the node between cycles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// This node.
    pub id: u64,
    /// Its part.
    pub role: Role,
    /// The leader's id, 0 when none is known.
    pub leader: u64,
    /// The current term.
    pub term: u64,
    /// Highest committed index known here.
    pub commit: u64,
    /// Highest index the caller reported as applied.
    pub applied: u64,
    /// First index in the log, one more than the last when it is empty.
    pub first: u64,
    /// Last index in the log, committed or not.
    pub last: u64,
    /// Index of the latest snapshot, 0 if there is none.
    pub snapshot: u64,
    /// Bytes of entries that wait for the disk.
    pub unwritten: usize,
    /// The cluster's members, as far as committed entries on this disk tell.
    pub members: Members,
}

/// How far a member's log is, as its leader knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The member.
    pub id: u64,
    /// Highest entry known to be on its disk.
    pub matched: u64,
    /// Whether it was heard from within the last election timeout.
    pub active: bool,
    /// Whether it was offered a snapshot, for the log no longer has what it needs.
    pub needs_snapshot: bool,
}
