//! What a worker can be asked to do, in its own words; `convert.rs` makes these from the wire.

use matrixai_protocol::{Hash, drilling::Workload};
use matrixai_training::Context;
use std::sync::Arc;

/// Something owed, told apart by its key: the same key is the same work, however often it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub key: String,
    /// Ledger time by which it must be reported; 0 for none.
    pub deadline_ms: u64,
    pub task: Task,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    Drill(Drill),
    Train(Train),
    Reduce(Reduce),
    Replay(Replay),
    /// Open the commitment to a unit.
    Reveal(Reveal),
    /// Open the seal of a segment.
    Open(Open),
    /// Say that an agreement has begun: the machine is rented, and the agent that says so is there.
    Begin(Begin),
}

/// Compute a unit and commit to its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drill {
    pub unit: [u8; 20],
    pub attempt: u32,
    pub workload: Workload,
    pub seed: [u8; 32],
}

/// Compute these virtual workers' rounds, in order, reporting each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Train {
    pub context: Arc<Context>,
    pub round: u32,
    pub attempt: u32,
    pub virtual_workers: Vec<u32>,
    /// Weights artifact that the round starts from.
    pub weights: Hash,
}

/// Make the model after `round` rounds: the first one, or from the state before it and all deltas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reduce {
    pub context: Arc<Context>,
    pub round: u32,
    /// State before; absent for round 0.
    pub before: Option<State>,
    /// In order of the virtual workers.
    pub deltas: Vec<Hash>,
}

/// Artifacts of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    pub weights: Hash,
    pub momentum: Hash,
}

/// Compute one segment again and say what came out; evaluate the first and the last model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    pub context: Arc<Context>,
    pub segment: u64,
    pub round: u32,
    pub virtual_worker: u32,
    pub attempt: u32,
    pub weights: Hash,
    pub first: Hash,
    pub last: Hash,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reveal {
    pub unit: [u8; 20],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    pub job: [u8; 20],
    pub segment: u64,
    pub round: u32,
    pub virtual_worker: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    pub agreement: [u8; 20],
}

/// When a task's turn comes; the smaller first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// Needs no computing, at most the journal.
    AtOnce,
    /// Every other member waits for it.
    Reduce,
    /// Its time is being measured.
    Drill,
    /// The long work.
    Segment,
}

impl Task {
    pub fn turn(&self) -> Turn {
        match self {
            Self::Reveal(_) | Self::Open(_) | Self::Begin(_) => Turn::AtOnce,
            Self::Reduce(_) => Turn::Reduce,
            Self::Drill(_) => Turn::Drill,
            Self::Train(_) | Self::Replay(_) => Turn::Segment,
        }
    }
}
