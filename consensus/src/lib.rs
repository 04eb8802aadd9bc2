//! One replicated log: raft-rs driven as a synchronous [`Node`] that does no networking, owns no clock, waits for no
//! disk and knows no word of what the log means.
//!
//! # The contract, step by step
//!
//! A caller restores its state (the genesis, or its newest snapshot), says so with [`Start`] in [`Node::open`], owns
//! the node on one thread, and repeats:
//!
//! 1. Feed it: [`Node::tick`] at a steady rate, [`Node::step`] with the bytes a peer sent, [`Node::propose`] with an
//!    entry, [`Node::read_index`] before a linearizable read.
//! 2. While [`Node::has_ready`], call [`Node::ready`]. One cycle, in this order:
//!    1. what is new is staged: the node reads it as if it were written. [`Output::write`] is the order to write it:
//!       entries, term, vote, commit index, snapshot and cut, as **one** checksummed record;
//!    2. messages that promise nothing about this disk (a leader's appends, heartbeats) are handed to `send` at once,
//!       so that followers write while we do;
//!    3. with [`Output::restore`] the caller replaces its state by that snapshot, **before** applying what follows;
//!    4. entries that are committed **and** on this disk are returned, with the reads they satisfy.
//! 3. Give the writes, in their order, to the one [`LogWriter`] of [`Node::writer`], on any thread. Writes that wait are
//!    given together and share one sync: that is the group commit. When it returns, say [`Node::written`]: only now
//!    are messages handed over that promise durability (votes, acknowledgements).
//! 4. Apply [`Output::committed`] in order, on any thread, then tell [`Node::applied`]. A read `(context, index)` may be
//!    answered once the caller has applied `index`. Delivery pauses when too much waits to be applied.
//!
//! # Snapshots
//!
//! The caller makes snapshots of its state, keeps their data, and serves it to peers. The node knows one
//! [`SnapshotMeta`], the latest, told by [`Node::snapshot_taken`] once its data is durable; [`Node::compact`] cuts the
//! log behind it. A follower that needs entries which are gone gets a [`SnapshotOffer`]: its caller fetches the data,
//! makes it durable, says [`Node::snapshot_fetched`] (or [`Node::snapshot_failed`]), and the next cycle says to restore it.
//! After a start from a snapshot the node has no reference to its data: say [`Node::snapshot_taken`] again.
//!
//! # Members
//!
//! [`Node::propose_members`] changes them: learners first, several ids at once by joint consensus, which ends by itself.
//! A node that joins opens an empty store with the founding [`Start::genesis`], in which it is not named; it speaks
//! only when spoken to until the log, or a snapshot, makes it a member. Ids are never used again, and disk contents
//! belong to one id: a node that lost its disk comes back under a **new** one.
//!
//! # What a caller must know
//!
//! * Messages may be lost, doubled and reordered; reads and proposals may be lost with them. The node has no timeouts
//!   of its own for them: the caller gives up and asks again, with a new read context.
//! * A follower never forwards proposals: [`ProposeError::NotLeader`] names the leader.
//! * A full disk ([`StoreError::NoSpace`]) is no end: nothing was acknowledged, the same writes may be given again. Until
//!   then a leader should [`Node::step_down`].
//! * Any other failure of a write, and a fatal error ([`Error::is_fatal`]), is the end: drop the node, report, and let
//!   the process end. An invariant of raft that is violated, and a failed sync, panic for the same reason.
//! * On a restart every committed entry behind [`Start`] is delivered again.
//!
//! # What is absent
//!
//! No wall clock, no randomness (election jitter comes from [`NodeConfig::seed`]), no async runtime, no network, no
//! threads, no domain words.

mod config;
mod error;
mod logging;
mod members;
mod node;
mod output;
pub mod plants;
mod reads;
mod storage;
pub mod wire;

pub use config::{ENTRY_BYTES_MAX, NodeConfig, SNAPSHOT_DATA_BYTES_MAX};
pub use error::{Error, ProposeError, ReadError};
pub use members::{MemberChange, Members};
pub use node::{Node, Start};
pub use output::{Committed, Message, Output, Progress, Role, SnapshotOffer, Status};
pub use storage::{
    Batch, Boundary, Identity, LogStore, LogWriter, SnapshotMeta, StoreError, Write,
    engine::{EngineStore, EngineWriter},
    memory::{MemoryDisk, MemoryStore, MemoryWriter},
};
