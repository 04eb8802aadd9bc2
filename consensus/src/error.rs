//! What can go wrong, separated by who has to act: a refused proposal or read is the client's to retry, malformed
//! bytes are a peer's fault and harmless, everything else ends the node.

use crate::{members::Members, storage::StoreError, wire::WireError};

/// A failure of the node.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration contradicts itself.
    #[error("the node's configuration is invalid: {0}")]
    Config(String),
    /// The log could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A peer's bytes are not a message this node accepts. Harmless: drop the bytes.
    #[error("a peer's message was refused: {0}")]
    Wire(#[from] WireError),
    /// The store was written by another node. Two nodes with one memory break every promise raft makes.
    #[error("the log belongs to node {stored}, not to node {given}: a node id and its disk stay together")]
    Foreign {
        /// Node id in the store.
        stored: u64,
        /// Node id in the configuration.
        given: u64,
    },
    /// The members given differ from those the store has at the same place of the log.
    #[error("the log has members {stored} there, not {given}: membership cannot be changed by configuration")]
    MembersDiffer {
        /// Members in the store.
        stored: Box<Members>,
        /// Members given to open.
        given: Box<Members>,
    },
    /// The caller's state and the log do not fit together.
    #[error("the state that was restored does not fit the log: {0}")]
    Start(String),
    /// The leader knows of entries this node once acknowledged and no longer has: its disk lost them.
    #[error(
        "the log ends at {last}, but the leader saw this node acknowledge up to {commit}: the disk lost entries, so the \
         node must be replaced by one with a new id"
    )]
    LogLost {
        /// Index the leader says is committed here.
        commit: u64,
        /// Last index on this disk.
        last: u64,
    },
    /// raft-rs refused a call.
    #[error("raft: {0}")]
    Raft(#[from] raft::Error),
    /// The node failed before and does nothing more.
    #[error("the node stopped after an earlier failure")]
    Stopped,
}

impl Error {
    /// Whether the node is finished. Only malformed bytes of a peer are not.
    pub fn is_fatal(&self) -> bool {
        !matches!(self, Self::Wire(_))
    }
}

/// Why a proposal was not taken. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Only the leader takes proposals; ask the one named here, or wait for an election.
    #[error("this node is not the leader")]
    NotLeader {
        /// The leader's id as far as this node knows.
        leader: Option<u64>,
    },
    /// Too many bytes wait to be committed; try again later.
    #[error("too many proposals wait to be committed")]
    Busy,
    /// The entry is longer than [`crate::ENTRY_BYTES_MAX`].
    #[error("an entry of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// Length of the entry.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The members cannot be changed so, or not now.
    #[error("the members cannot be changed: {0}")]
    Members(String),
    /// An entry must not be empty: empty entries are what a new leader writes for itself.
    #[error("an entry must not be empty")]
    Empty,
    /// The node failed before and does nothing more.
    #[error("the node stopped after an earlier failure")]
    Stopped,
}

/// Why a linearizable read was not started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader is known; wait for an election.
    #[error("no leader is known")]
    NoLeader,
    /// This node leads but has not committed an entry of its term yet; try again after the next cycles.
    #[error("the leader has not committed an entry of its term yet")]
    NotReady,
    /// Too many reads wait for their index.
    #[error("too many reads wait for their index")]
    Busy,
    /// The node failed before and does nothing more.
    #[error("the node stopped after an earlier failure")]
    Stopped,
}
