//! Simulated machines: the shipped agent, with runners whose "computing" is a hash of the inputs. The same hash comes out
//! on every machine, as real results do, and whoever answers anything else is a liar. Some are: they lie, come late, keep
//! silent, or forget everything.

mod report;

use super::{clock::Micros, found, rng::Rng};
use matrixai_proto::v1;
use matrixai_state::ids::{Hash, MachineId};
use matrixai_worker::{
    agent::{Action, Agent, Assignment, End, Event, Report, Task, Verdict},
    convert,
};
use report::Secrets;
use std::collections::BTreeMap;

/// Time that an answer out of the journal takes.
const RECALL_US: Micros = 1_000;
/// Time that a reduction takes.
const REDUCE_US: Micros = 50_000;

/// How a machine differs from an honest one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Habits {
    pub(super) lies_about_drills: bool,
    pub(super) lies_about_deltas: bool,
    pub(super) lies_about_traces: bool,
    pub(super) lies_about_models: bool,
    pub(super) lies_about_replays: bool,
    pub(super) keeps_silent: bool,
    pub(super) fails: bool,
    /// Goes on when its lease is over, and reports then.
    pub(super) ignores_deadlines: bool,
    /// Takes so many times as long.
    pub(super) slow: u64,
}

impl Habits {
    /// Habits as they are found: two machines in three are honest.
    pub fn draw(rng: &mut Rng) -> Self {
        let mut habits = Self { slow: 1, ..Self::default() };
        match rng.below(24) {
            0 => habits.lies_about_drills = true,
            1 => habits.lies_about_deltas = true,
            2 => habits.lies_about_traces = true,
            3 => habits.lies_about_models = true,
            4 => habits.lies_about_replays = true,
            5 => habits.keeps_silent = true,
            6 => habits.fails = true,
            7 => habits.slow = 40,
            8 | 9 => (habits.slow, habits.ignores_deadlines) = (400, true),
            _ => {}
        }
        habits
    }
}

/// What a worker wants done.
#[derive(Debug)]
pub enum Wish {
    /// Carry a signed report to the ledger.
    Send { id: [u8; 16], payload: Vec<u8> },
    /// Call [`Worker::later`] with this number after so long.
    Later { after_us: Micros, number: u64 },
}

/// Something that happens to a worker later.
#[derive(Debug)]
enum Later {
    Produced { key: String, report: Report },
    Finished { key: String, end: End },
    Recalled { key: String, report: Option<Report> },
}

/// One machine and its worker.
#[derive(Debug)]
pub struct Worker {
    /// Its machine key.
    pub key: [u8; 32],
    /// Its machine.
    pub machine: MachineId,
    /// The session that it believes to have: a node, and the session's number.
    pub session: Option<(u64, u64)>,
    /// Whether its process runs.
    pub up: bool,
    agent: Agent,
    habits: Habits,
    ops_per_s: u64,
    later: BTreeMap<u64, Later>,
    next: u64,
    /// The journal: reports without an acknowledgement, and what opens commitments and seals.
    journal: BTreeMap<(String, u32), Report>,
    secrets: Secrets,
}

impl Worker {
    /// A machine by its number.
    pub fn new(number: u64, cluster_id: &Hash, rng: &mut Rng) -> Self {
        let key = found::key("machine", number);
        Self {
            key,
            machine: MachineId::of_key(cluster_id, &key),
            session: None,
            up: true,
            agent: Agent::new(key, Vec::new()),
            habits: Habits::draw(rng),
            ops_per_s: 64_000_000 << rng.below(3),
            later: BTreeMap::new(),
            next: 0,
            journal: BTreeMap::new(),
            secrets: Secrets::default(),
        }
    }

    /// The process dies; its journal stays.
    pub fn crash(&mut self) {
        self.up = false;
        self.session = None;
        self.later.clear();
    }

    /// It comes back with what the journal holds.
    pub fn restart(&mut self) {
        self.up = true;
        self.agent = Agent::new(self.key, self.journal.values().cloned().collect());
    }

    /// What a new session is told.
    pub fn holding(&self) -> Vec<String> {
        self.agent.holding()
    }

    /// Welcomed, or cut off.
    pub fn connected(&mut self, ledger_ms: Option<u64>, now: u64) -> Vec<Wish> {
        self.agent(ledger_ms.map_or(Event::Disconnected, |ledger_ms| Event::Connected { ledger_ms }), now)
    }

    /// Time has passed.
    pub fn tick(&mut self, now: u64) -> Vec<Wish> {
        self.agent(Event::Tick, now)
    }

    /// Something is owed.
    pub fn assigned(&mut self, wire: v1::Assignment, now: u64) -> Vec<Wish> {
        let ledger_ms = wire.now_ms;
        let deadline_ms = if self.habits.ignores_deadlines { 0 } else { wire.deadline_ms };
        let wire = v1::Assignment { deadline_ms, ..wire };
        match convert::assignment(wire) {
            Ok(assignment) => self.agent(Event::Assigned { assignment, ledger_ms }, now),
            Err(_) => Vec::new(),
        }
    }

    /// It is not owed any more.
    pub fn withdrawn(&mut self, key: String, now: u64) -> Vec<Wish> {
        self.agent(Event::Withdrawn { key }, now)
    }

    /// A report was answered; nothing in it when the relay failed.
    pub fn acked(&mut self, id: [u8; 16], outcomes: Vec<v1::Outcome>, now: u64) -> Vec<Wish> {
        let verdicts: Vec<Verdict> = convert::verdicts(outcomes);
        self.agent(Event::Acked { id, verdicts }, now)
    }

    /// The time of something has come.
    pub fn later(&mut self, number: u64, now: u64) -> Vec<Wish> {
        match self.later.remove(&number) {
            Some(Later::Produced { key, report }) => {
                self.journal.insert((key, report.part), report.clone());
                self.agent(Event::Produced { report, done_e6: 500_000 }, now)
            }
            Some(Later::Finished { key, end }) => self.agent(Event::Finished { key, end }, now),
            Some(Later::Recalled { key, report }) => self.agent(Event::Recalled { key, report }, now),
            None => Vec::new(),
        }
    }

    fn agent(&mut self, event: Event, now: u64) -> Vec<Wish> {
        if !self.up {
            return Vec::new();
        }
        let mut wishes = Vec::new();
        for action in self.agent.on(event, now) {
            match action {
                Action::Run(assignment) => self.run(&assignment, &mut wishes),
                Action::Cancel { key } => {
                    self.later.retain(|_, later| match later {
                        Later::Produced { key: of, .. } | Later::Finished { key: of, .. } => *of != key,
                        Later::Recalled { .. } => true,
                    });
                    self.after(RECALL_US, Later::Finished { key, end: End::Stopped }, &mut wishes);
                }
                Action::Recall(assignment) => {
                    let report = self.secrets.open(&self.key, self.habits, &assignment);
                    self.after(RECALL_US, Later::Recalled { key: assignment.key, report }, &mut wishes);
                }
                Action::Send { id, report } => wishes.push(Wish::Send { id, payload: report.payload }),
                Action::Forget { key, part } => {
                    self.journal.remove(&(key, part));
                }
                Action::Progress { .. } | Action::Note(_) => {}
            }
        }
        wishes
    }

    fn after(&mut self, after_us: Micros, later: Later, wishes: &mut Vec<Wish>) {
        self.next += 1;
        self.later.insert(self.next, later);
        wishes.push(Wish::Later { after_us, number: self.next });
    }

    fn run(&mut self, assignment: &Assignment, wishes: &mut Vec<Wish>) {
        let key = assignment.key.clone();
        let ops = match &assignment.task {
            Task::Drill(drill) => drill.workload.ops(),
            Task::Train(train) => train.context.spec.task_ops(),
            Task::Replay(replay) => replay.context.spec.task_ops(),
            Task::Reduce(_) | Task::Reveal(_) | Task::Open(_) | Task::Begin(_) => 0,
        };
        let each_us = REDUCE_US + ops * 1_000_000 / self.ops_per_s * self.habits.slow;
        let mut at_us = 0;
        for report in self.secrets.compute(&self.key, self.habits, assignment) {
            at_us += each_us;
            self.after(at_us, Later::Produced { key: key.clone(), report }, wishes);
        }
        self.after(at_us + 1, Later::Finished { key, end: End::Done }, wishes);
    }
}
