//! What goes wrong, and when: a fault about every ten seconds, each drawn from the seed.

use super::{clock::Micros, rng::Rng};

/// Pause between two faults, microseconds: ten seconds on average.
const PAUSE_US: (Micros, Micros) = (5_000_000, 15_000_000);
/// How long a fault that ends by itself lasts.
const LASTS_US: (Micros, Micros) = (1_000_000, 10_000_000);
/// How long a node stays down.
const DOWN_US: (Micros, Micros) = (100_000, 8_000_000);
/// How long a node is away that is to come back behind the log's front.
const AWAY_US: (Micros, Micros) = (20_000_000, 45_000_000);
/// How long before the healing a node leaves that is only back with it, and in one of how many worlds.
const ABSENT_US: (Micros, Micros) = (40_000_000, 70_000_000);
const ABSENT_ONE_IN: u64 = 2;
/// How long one batch takes that a machine applies which is busy with something else.
const LAG_US: (Micros, Micros) = (100_000, 2_000_000);

const DAY_MS: i64 = 86_400_000;

/// Names of tasks to die at; see `process.rs`.
pub const TASKS: [&str; 6] = ["log write", "log write's acknowledgement", "apply", "snapshot", "root", "archive"];

/// The moment of a death at a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// Before it is done.
    Before,
    /// It is done, and nobody hears of it.
    Unsaid,
    /// It is done, and what it allowed to be said is on its way.
    Said,
}

impl When {
    /// For the coverage.
    pub fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::Unsaid => "behind, unsaid",
            Self::Said => "behind, said",
        }
    }
}

/// One thing that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// These machines lose power, or (not `power`) only their processes are killed.
    Crash { nodes: Vec<u64>, power: bool },
    /// The power fails inside the n-th disk operation from now.
    PowerCut { node: u64, operations: u64 },
    /// The machine dies at its next task of this name.
    AtTask { node: u64, task: &'static str, when: When },
    /// A coordinator's process stands still.
    Stop { node: u64 },
    /// A machine is busy with something else, and applies what is committed slowly.
    Lag { node: u64 },
    /// These coordinators hear and reach only each other.
    Partition { side: Vec<u64> },
    /// A coordinator is down, or (`cut`) reaches no other, for so long that the others forget what it would need.
    Away { node: u64, cut: bool },
    /// Whoever comes to lead is cut off at once, and the one before let back; others lose power at that moment.
    Hunt { leaders: u64 },
    /// Messages one way are lost.
    OneWay { from: u64, to: u64 },
    /// Losses, doubles and long delays everywhere.
    BadNetwork,
    /// Somebody sets a wall clock.
    ClockJump { node: u64, by_ms: i64 },
    /// Machines lose power together, and one of them comes back with its clock behind: its battery was dead.
    DeadBattery { nodes: Vec<u64>, node: u64, behind_ms: i64 },
    /// A disk has room for so many more bytes.
    DiskFull { node: u64, bytes: usize },
    /// A bit flips on a disk while its machine is down.
    BitFlip { node: u64 },
    /// A disk and everything on it is gone: its machine comes back under another number, if at all.
    DiskLost { node: u64 },
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
            Self::Lag { .. } => "slow applying",
            Self::Partition { .. } => "partition",
            Self::Away { cut: true, .. } => "long cut",
            Self::Away { .. } => "long outage",
            Self::Hunt { .. } => "hunt for leaders",
            Self::OneWay { .. } => "one-way cut",
            Self::BadNetwork => "bad network",
            Self::ClockJump { .. } => "clock jump",
            Self::DeadBattery { .. } => "power cut that sets a clock back",
            Self::DiskFull { .. } => "full disk",
            Self::BitFlip { .. } => "flipped bit",
            Self::DiskLost { .. } => "lost disk",
            Self::WorkerCrash { .. } => "worker killed",
        }
    }
}

/// Where faults come from.
#[derive(Debug)]
pub struct Plan {
    rng: Rng,
}

impl Plan {
    /// The plan of a seed.
    pub fn new(rng: Rng) -> Self {
        Self { rng }
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

    /// How long a node is away.
    pub fn away(&mut self) -> Micros {
        self.rng.between(AWAY_US.0, AWAY_US.1)
    }

    /// How long before the healing a node leaves to be back only then, if one does in this world.
    pub fn absent(&mut self) -> Option<Micros> {
        self.rng.one_in(ABSENT_ONE_IN).then(|| self.rng.between(ABSENT_US.0, ABSENT_US.1))
    }

    /// How long a busy machine takes for a batch that it applies.
    pub fn lag(&mut self) -> Micros {
        self.rng.between(LAG_US.0, LAG_US.1)
    }

    /// Whether the machines that lost power together are busy when they are back.
    pub fn busy(&mut self) -> bool {
        self.rng.one_in(2)
    }

    /// One of these coordinators, any, and how it is away.
    pub fn leaves(&mut self, nodes: &[u64]) -> Fault {
        Fault::Away { node: *self.rng.pick(nodes), cut: self.rng.one_in(2) }
    }

    /// Whether one of several goes down too, and for how long: short, so that it hears of what goes on.
    pub fn falls(&mut self) -> Option<Micros> {
        self.rng.one_in(2).then(|| self.rng.between(DOWN_US.0, 10 * DOWN_US.0))
    }

    /// The next fault among these coordinators. Half of those about one of them hit the leader.
    pub fn draw(&mut self, nodes: &[u64], leader: Option<u64>, workers: u64) -> Fault {
        let any = *self.rng.pick(nodes);
        let node = leader.filter(|_| self.rng.one_in(2)).unwrap_or(any);
        match self.rng.below(33) {
            0..3 => Fault::Crash { nodes: vec![node], power: false },
            3..5 => Fault::Crash { nodes: vec![node], power: true },
            5 => {
                let others = nodes.iter().copied().filter(|other| *other == node || self.rng.one_in(2)).collect();
                Fault::Crash { nodes: others, power: true }
            }
            6 => Fault::Crash { nodes: nodes.to_vec(), power: true },
            7..9 => Fault::PowerCut { node, operations: self.rng.between(1, 40) },
            9..11 => {
                let task = *self.rng.pick(&TASKS);
                let when = *self.rng.pick(&[When::Before, When::Unsaid, When::Said]);
                Fault::AtTask { node, task, when }
            }
            11..13 => Fault::Stop { node },
            13..16 => {
                let side = nodes.iter().copied().filter(|other| *other == node || self.rng.one_in(4)).collect();
                Fault::Partition { side }
            }
            16 => Fault::OneWay { from: node, to: *self.rng.pick(nodes) },
            17 => Fault::BadNetwork,
            18..20 | 27 => {
                let by = *self.rng.pick(&[DAY_MS, -DAY_MS, 60_000, -60_000, 3_000, -3_000]);
                Fault::ClockJump { node, by_ms: by }
            }
            20 => Fault::DiskFull { node, bytes: self.rng.below(4_096) as usize },
            21 => Fault::BitFlip { node },
            22..24 => self.leaves(nodes),
            24 => Fault::DiskLost { node },
            30 => {
                let behind_ms = *self.rng.pick(&[DAY_MS, 60_000, 3_000]);
                Fault::DeadBattery { nodes: nodes.to_vec(), node: any, behind_ms }
            }
            31..33 => Fault::Lag { node },
            25..27 => Fault::Hunt { leaders: self.rng.between(2, 6) },
            _ => Fault::WorkerCrash { worker: self.rng.below(workers) },
        }
    }
}
