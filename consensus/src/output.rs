//! What a node hands to its caller: plain values, so that no raft type leaves this crate's surface.

use crate::members::Members;

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
    /// The proposed bytes; empty for the entry that every new leader writes for itself.
    pub data: Vec<u8>,
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

/// What one poll produced. Messages are not here: they went to `send` at the points where they were allowed to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Output {
    /// Newly committed entries in order, at most some 8 MiB a poll; more follow while [`crate::Node::has_ready`].
    pub committed: Vec<Committed>,
    /// Reads that became answerable: the caller's context, and the index to have applied before answering.
    /// A doubled message can answer a read twice; a context that is no longer waited for is to be ignored.
    pub reads: Vec<(u64, u64)>,
    /// This node's part after the poll.
    pub role: Role,
    /// The leader's id, 0 when none is known.
    pub leader: u64,
    /// The current term.
    pub term: u64,
    /// Highest committed index known here.
    pub commit: u64,
}

/// A look at the node between polls.
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
    /// Last index in the log, committed or not.
    pub last: u64,
    /// The cluster's members.
    pub members: Members,
}
