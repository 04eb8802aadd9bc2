//! One replicated log: raft-rs driven as a synchronous [`Node`] that does no networking, owns no clock and knows no
//! word of what the log means.
//!
//! # The contract, step by step
//!
//! A caller owns the node on one thread and repeats:
//!
//! 1. Feed it: [`Node::tick`] at a steady rate, [`Node::step`] with the bytes a peer sent, [`Node::propose`] with an
//!    entry, [`Node::read_index`] before a linearizable read. None of these touches the disk.
//! 2. While [`Node::has_ready`], call [`Node::poll`]. One poll is one cycle, in this order, which is what makes an
//!    acknowledged entry survive a power cut:
//!    1. messages that promise nothing about this disk (a leader's appends and heartbeats) are handed to `send` at
//!       once, so that followers write while we do;
//!    2. new entries, term, vote and commit index are written as **one** checksummed batch and synced;
//!    3. only then are the messages handed over that promise durability (votes, append responses);
//!    4. entries that are committed **and** on this disk are returned, with the reads they satisfy.
//! 3. Apply [`Output::committed`] in order, then tell [`Node::applied`]. A read `(context, index)` may be answered once
//!    the caller has applied `index`.
//! 4. Several proposals made between two polls share one write and one sync: that is the group commit.
//!
//! # What a caller must know
//!
//! * The log is never truncated, so there are no snapshots yet: a restart delivers every committed entry again from
//!   index 1, and the caller rebuilds its state. Snapshot messages are encoded by [`wire`] but refused by
//!   [`Node::step`].
//! * Messages may be lost, doubled and reordered; reads and proposals may be lost with them. The node has no timeouts
//!   of its own for them: the caller gives up and asks again, with a new read context.
//! * A follower never forwards proposals: [`ProposeError::NotLeader`] names the leader.
//! * A fatal error ([`Error::is_fatal`]) stops the node for good: drop it, report, and let the process end. An
//!   invariant of raft that is violated, and a failed sync, panic for the same reason.
//! * Disk contents belong to one node id. A node that lost its disk comes back under a **new** id; membership itself is
//!   fixed when a store is created.
//!
//! # What is absent
//!
//! No wall clock, no randomness (election jitter comes from [`NodeConfig::seed`]), no async runtime, no network, no
//! domain words.

mod config;
mod error;
mod logging;
mod members;
mod node;
mod output;
mod reads;
mod storage;
pub mod wire;

pub use config::{ENTRY_BYTES_MAX, NodeConfig};
pub use error::{Error, ProposeError, ReadError};
pub use members::Members;
pub use node::Node;
pub use output::{Committed, Message, Output, Role, Status};
pub use storage::{
    Batch, Identity, LogStore, StoreError,
    engine::EngineStore,
    memory::{MemoryDisk, MemoryStore},
};
