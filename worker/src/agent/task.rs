//! What a worker can be asked to do, in its own words; `convert.rs` makes these from the wire.

use matrixai_protocol::{Hash, drilling::Workload};
use matrixai_training::Context;
use std::sync::Arc;

/// Something owed, told apart by its key: the same key is the same work, however often it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) key: String,
    /// Ledger time by which it must be reported; 0 for none.
    pub(crate) deadline_ms: u64,
    pub(crate) task: Task,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Task {
    Drill(Drill),
    Train(Train),
    Reduce(Reduce),
    Replay(Replay),
    /// Open the commitment to a unit.
    Reveal(Reveal),
    /// Open the seal of a segment.
    Open(Open),
}

/// Compute a unit and commit to its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Drill {
    pub(crate) unit: [u8; 20],
    pub(crate) attempt: u32,
    pub(crate) workload: Workload,
    pub(crate) seed: [u8; 32],
}

/// Compute these virtual workers' rounds, in order, reporting each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Train {
    pub(crate) context: Arc<Context>,
    pub(crate) round: u32,
    pub(crate) attempt: u32,
    pub(crate) virtual_workers: Vec<u32>,
    /// Weights artifact that the round starts from.
    pub(crate) weights: Hash,
}

/// Make the model after `round` rounds: the first one, or from the state before it and all deltas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reduce {
    pub(crate) context: Arc<Context>,
    pub(crate) round: u32,
    /// State before; absent for round 0.
    pub(crate) before: Option<State>,
    /// In order of the virtual workers.
    pub(crate) deltas: Vec<Hash>,
}

/// Artifacts of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) weights: Hash,
    pub(crate) momentum: Hash,
}

/// Compute one segment again and say what came out; evaluate the first and the last model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replay {
    pub(crate) context: Arc<Context>,
    pub(crate) segment: u64,
    pub(crate) round: u32,
    pub(crate) virtual_worker: u32,
    pub(crate) attempt: u32,
    pub(crate) weights: Hash,
    pub(crate) first: Hash,
    pub(crate) last: Hash,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reveal {
    pub(crate) unit: [u8; 20],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) job: [u8; 20],
    pub(crate) segment: u64,
    pub(crate) round: u32,
    pub(crate) virtual_worker: u32,
}

/// When a task's turn comes; the smaller first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Turn {
    /// Needs no computing, only the journal.
    AtOnce,
    /// Every other member waits for it.
    Reduce,
    /// Its time is being measured.
    Drill,
    /// The long work.
    Segment,
}

impl Task {
    pub(crate) fn turn(&self) -> Turn {
        match self {
            Self::Reveal(_) | Self::Open(_) => Turn::AtOnce,
            Self::Reduce(_) => Turn::Reduce,
            Self::Drill(_) => Turn::Drill,
            Self::Train(_) | Self::Replay(_) => Turn::Segment,
        }
    }
}
