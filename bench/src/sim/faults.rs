//! What goes wrong, and when: a fault about every ten seconds, each drawn from the seed.

use super::{clock::Micros, rng::Rng};

/// Pause between two faults, microseconds: ten seconds on average.
const PAUSE_US: (Micros, Micros) = (5_000_000, 15_000_000);
/// How long a fault that ends by itself lasts.
const LASTS_US: (Micros, Micros) = (1_000_000, 10_000_000);
/// How long a node stays down.
const DOWN_US: (Micros, Micros) = (100_000, 8_000_000);

const DAY_MS: i64 = 86_400_000;

/// Names of tasks to die at; see `process.rs`.
const TASKS: [&str; 5] = ["log write", "log write's acknowledgement", "apply", "snapshot", "root"];

/// One thing that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// These machines lose power, or (not `power`) only their processes are killed.
    Crash { nodes: Vec<u64>, power: bool },
    /// The power fails inside the n-th disk operation from now.
    PowerCut { node: u64, operations: u64 },
    /// The machine dies just before (or behind) its next task of this name.
    AtTask { node: u64, task: &'static str, before: bool },
    /// A coordinator's process stands still.
    Stop { node: u64 },
    /// These coordinators hear and reach only each other.
    Partition { side: Vec<u64> },
    /// Messages one way are lost.
    OneWay { from: u64, to: u64 },
    /// Losses, doubles and long delays everywhere.
    BadNetwork,
    /// Somebody sets a wall clock.
    ClockJump { node: u64, by_ms: i64 },
    /// A disk has room for so many more bytes.
    DiskFull { node: u64, bytes: usize },
    /// A bit flips on a disk while its machine is down.
    BitFlip { node: u64 },
    /// A worker's process is killed.
    WorkerCrash { worker: u64 },
}

impl Fault {
    /// Its name, for the coverage.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Crash { nodes, power: true } if nodes.len() > 1 => "power cut of several machines",
            Self::Crash { power: true, .. } => "power cut of one machine",
            Self::Crash { .. } => "kill",
            Self::PowerCut { .. } => "power cut at a disk operation",
            Self::AtTask { .. } => "death at a task",
            Self::Stop { .. } => "standstill",
            Self::Partition { .. } => "partition",
            Self::OneWay { .. } => "one-way cut",
            Self::BadNetwork => "bad network",
            Self::ClockJump { .. } => "clock jump",
            Self::DiskFull { .. } => "full disk",
            Self::BitFlip { .. } => "flipped bit",
            Self::WorkerCrash { .. } => "worker killed",
        }
    }
}

/// Where faults come from.
#[derive(Debug)]
pub struct Plan {
    rng: Rng,
    nodes: u64,
}

impl Plan {
    /// A plan for so many coordinators.
    pub fn new(rng: Rng, nodes: u64) -> Self {
        Self { rng, nodes }
    }

    /// Time to the next fault.
    pub fn pause(&mut self) -> Micros {
        self.rng.between(PAUSE_US.0, PAUSE_US.1)
    }

    /// How long a fault lasts.
    pub fn lasts(&mut self) -> Micros {
        self.rng.between(LASTS_US.0, LASTS_US.1)
    }

    /// How long a machine stays down.
    pub fn down(&mut self) -> Micros {
        self.rng.between(DOWN_US.0, DOWN_US.1)
    }

    fn node(&mut self) -> u64 {
        1 + self.rng.below(self.nodes)
    }

    /// The next fault. Half of those about one coordinator hit the leader.
    pub fn draw(&mut self, leader: Option<u64>, workers: u64) -> Fault {
        let any = self.node();
        let node = leader.filter(|_| self.rng.one_in(2)).unwrap_or(any);
        match self.rng.below(24) {
            0..3 => Fault::Crash { nodes: vec![node], power: false },
            3..5 => Fault::Crash { nodes: vec![node], power: true },
            5 => {
                let others = (1..=self.nodes).filter(|other| *other == node || self.rng.one_in(2)).collect();
                Fault::Crash { nodes: others, power: true }
            }
            6 => Fault::Crash { nodes: (1..=self.nodes).collect(), power: true },
            7..9 => Fault::PowerCut { node, operations: self.rng.between(1, 40) },
            9..11 => {
                let task = *self.rng.pick(&TASKS);
                Fault::AtTask { node, task, before: self.rng.one_in(2) }
            }
            11..13 => Fault::Stop { node },
            13..16 => {
                let side = (1..=self.nodes).filter(|other| *other == node || self.rng.one_in(4)).collect();
                Fault::Partition { side }
            }
            16 => Fault::OneWay { from: node, to: self.node() },
            17 => Fault::BadNetwork,
            18..20 => {
                let by = *self.rng.pick(&[DAY_MS, -DAY_MS, 60_000, -60_000, 3_000]);
                Fault::ClockJump { node, by_ms: by }
            }
            20 => Fault::DiskFull { node, bytes: self.rng.below(4_096) as usize },
            21 => Fault::BitFlip { node },
            _ => Fault::WorkerCrash { worker: self.rng.below(workers) },
        }
    }
}
