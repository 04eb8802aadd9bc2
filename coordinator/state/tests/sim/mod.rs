//! Simulated machines around a [`World`]: they do what the state says they are owed, at their own speed, honestly or not.
//!
//! Their "computing" is a hash of the inputs, so it is the same on every machine, as the real one is, and whoever answers
//! anything else is a liar. Every report is an envelope through `State::apply`; invariants and a twin are checked after
//! each (see `World::apply`), here also that no money is lost.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod jobs;
pub mod reports;

use crate::common::{Founding, World, key};
use matrixai_proto::v1::{self, command::Kind};
use matrixai_protocol::drilling::Kernel;
use matrixai_state::{
    Assignment, Outcome, Task,
    ids::{CampaignId, JobId, MachineId},
    jobs::{JobRow, JobState, Standing},
    money::{MAI, Money},
};
use reports::{needs_slot, report};

/// Step of the simulated clock, unless a test needs no better.
const STEP_MS: u64 = 20;
/// A machine that is down for this long is declared lost.
const TIMEOUT_MS: u64 = 5_000;
const BEAT_MS: u64 = 1_000;
const ROUND_TRIP_US: u64 = 2_000;

/// A unit of `fgemm`: 64 x 64 x 64, 64 times, 33,554,432 operations; half a second for a machine of 64 Mop/s.
const UNIT_PARAMS: [u32; 8] = [64, 64, 64, 64, 0, 0, 0, 0];
/// What the simulated validation finds.
pub const COUNTS: (u32, u32, u32) = (10, 95, 100);

/// How a machine differs from an honest one.
#[derive(Debug, Clone, Default)]
pub struct Habits {
    pub lie_drill: bool,
    pub mute_reveal: bool,
    pub lie_delta: bool,
    /// Seals a trace that nobody computes.
    pub lie_trace: bool,
    /// Opens with the right root, which is not what it sealed.
    pub forge_opening: bool,
    pub mute_open: bool,
    pub cannot_open: bool,
    pub lie_reduce: bool,
    pub mute_reduce: bool,
    pub bad_data: bool,
    pub lie_replay: bool,
    pub lie_count: bool,
    pub mute_replay: bool,
    pub fail_train: bool,
    pub mute_train: bool,
}

/// A simulated machine with its worker.
#[derive(Debug)]
pub struct Worker {
    pub name: String,
    pub owner: String,
    pub id: MachineId,
    pub ops_per_s: u64,
    pub habits: Habits,
    pub up: bool,
    since_ms: u64,
    /// What its slot runs, and since when.
    running: Option<(String, u64)>,
}

#[derive(Debug)]
pub struct Sim {
    pub world: World,
    pub workers: Vec<Worker>,
    /// (machine, refusal) of every report that was refused.
    pub refused: Vec<(String, &'static str)>,
    /// Kinds of all events so far.
    pub events: Vec<(&'static str, [u8; 20], String)>,
    pub step_ms: u64,
    next_beat_ms: u64,
}

impl Sim {
    /// A network with a buyer and one machine for each speed, every one with an owner of its own.
    pub fn new(speeds: &[u64]) -> Self {
        let mut world = World::new(&Founding::default());
        let next_beat_ms = world.now_ms + BEAT_MS;
        let faucet = || Kind::FaucetDraw(v1::FaucetDraw { amount: (100 * MAI).to_string() });
        let done = world.submit("buyer", vec![Kind::CreateAccount(v1::CreateAccount::default()), faucet()]);
        assert_eq!(done.outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Done { .. })).count(), 2);
        let mut sim = Self {
            world,
            workers: Vec::new(),
            refused: Vec::new(),
            events: Vec::new(),
            step_ms: STEP_MS,
            next_beat_ms,
        };
        for speed in speeds {
            sim.join(*speed);
        }
        sim
    }

    /// One more machine, of a new owner.
    pub fn join(&mut self, ops_per_s: u64) {
        let number = self.workers.len() + 1;
        let (name, owner) = (format!("m{number}"), format!("t{number}"));
        self.join_as(&name, &owner, ops_per_s);
    }

    pub fn join_as(&mut self, name: &str, owner: &str, ops_per_s: u64) {
        let enrol = Kind::EnrolMachine(v1::EnrolMachine {
            machine_key: key(name).to_vec(),
            possession: vec![0; 64],
            inventory: Some(v1::Inventory { cores: 1, ram_bytes: 1 << 30, ..v1::Inventory::default() }),
        });
        self.world.submit(owner, vec![Kind::CreateAccount(v1::CreateAccount::default())]);
        assert!(matches!(self.world.one(owner, enrol), Outcome::Done { .. }));
        let id = self.world.machine(name);
        self.workers.push(Worker {
            name: name.into(),
            owner: owner.into(),
            id,
            ops_per_s,
            habits: Habits::default(),
            up: true,
            since_ms: 0,
            running: None,
        });
        self.online(id);
    }

    fn online(&mut self, machine: MachineId) {
        let online = v1::MachineOnline { machine: machine.0.to_vec(), round_trip_us: ROUND_TRIP_US };
        assert_eq!(self.say("n1", Kind::MachineOnline(online)), Outcome::DONE);
    }

    pub fn worker(&mut self, name: &str) -> &mut Worker {
        self.workers.iter_mut().find(|worker| worker.name == name).unwrap()
    }

    pub fn habits(&mut self, name: &str) -> &mut Habits {
        &mut self.worker(name).habits
    }

    /// The machine stops answering; its coordinators notice after a while.
    pub fn kill(&mut self, name: &str) {
        let now = self.world.now_ms;
        let worker = self.worker(name);
        (worker.up, worker.since_ms, worker.running) = (false, now, None);
    }

    /// It is back, without memory of what it ran.
    pub fn revive(&mut self, name: &str) {
        let worker = self.worker(name);
        worker.up = true;
        let id = worker.id;
        self.online(id);
    }

    /// Submits one command; checks that money is conserved and keeps the events.
    pub fn say(&mut self, signer: &str, command: Kind) -> Outcome {
        let outcome = self.world.one(signer, command);
        self.after_entry();
        outcome
    }

    fn after_entry(&mut self) {
        let all = self.world.state.accounts().map(|row| row.balance.units() + row.held.units()).sum::<u128>();
        assert_eq!(all, self.world.state.minted().units(), "money is conserved");
        let news = self.world.last.events.iter().map(|event| (event.kind, event.subject, event.text.clone()));
        self.events.extend(news);
    }

    pub fn count(&self, kind: &str) -> usize {
        self.events.iter().filter(|(other, _, _)| *other == kind).count()
    }

    /// Publishes a campaign of small `fgemm` units.
    pub fn campaign(&mut self, units: u32, redundancy: u32, interval_ms: u64) -> CampaignId {
        let campaign = Kind::PublishCampaign(v1::PublishCampaign {
            kernel: "fgemm".into(),
            params: UNIT_PARAMS.to_vec(),
            units,
            redundancy,
            interval_ms,
        });
        match self.say("admin", campaign) {
            Outcome::Done { id: Some(id) } => CampaignId(id),
            other => panic!("{other:?}"),
        }
    }

    /// Has every machine measured.
    pub fn measure(&mut self) {
        let redundancy = self.workers.len().min(3) as u32;
        let campaign = self.campaign(8, redundancy.max(2), 0);
        self.until("all units are decided", |sim| {
            let row = sim.world.state.campaign(campaign).unwrap();
            row.accepted + row.rejected + row.void == row.units
        });
        // Four machines and quorums of three: some may have been drawn less than five times.
        let provisional = |sim: &Self| sim.workers.iter().any(|worker| sim.fgemm(&worker.name).is_none());
        if provisional(self) {
            self.measure();
        }
    }

    /// The measured speed of a machine; none while provisional.
    pub fn fgemm(&self, name: &str) -> Option<u64> {
        let id = self.world.machine(name);
        let power = self.world.state.power(id)?;
        power.speeds.get(&Kernel::Fgemm).filter(|speed| !speed.provisional()).map(|speed| speed.median())
    }

    /// Offers a machine at so many MAI an hour.
    pub fn offer(&mut self, name: &str, price_mai: u128) {
        let owner = self.worker(name).owner.clone();
        let offer = Kind::MakeOffer(v1::MakeOffer {
            machine: self.world.machine(name).0.to_vec(),
            price_per_hour: (price_mai * MAI).to_string(),
            duration_min_s: 1,
            duration_max_s: 86_400,
            expires_ms: self.world.now_ms + 86_400_000,
            ..v1::MakeOffer::default()
        });
        assert!(matches!(self.say(&owner, offer), Outcome::Done { .. }));
    }

    /// Offers the first `count` machines at 1, 2, … MAI an hour.
    pub fn offer_all(&mut self, count: usize) {
        let names: Vec<String> = self.workers.iter().take(count).map(|worker| worker.name.clone()).collect();
        names.iter().zip(1..).for_each(|(name, price)| self.offer(name, price));
    }

    pub fn submit(&mut self, machines: u32, spec: v1::TrainingSpec, duration_s: u64) -> JobId {
        let order = v1::OrderTerms {
            machines,
            price_limit: (20 * MAI).to_string(),
            total_limit: (60 * MAI).to_string(),
            duration_s,
            start_deadline_s: 30,
            query: Default::default(),
        };
        let submit = v1::SubmitTraining { name: "digits".into(), spec: Some(spec), order: Some(order) };
        match self.say("buyer", Kind::SubmitTraining(submit)) {
            Outcome::Done { id: Some(id) } => JobId(id),
            other => panic!("{other:?}"),
        }
    }

    pub fn job(&self, job: JobId) -> &JobRow {
        self.world.state.job(job).unwrap()
    }

    pub fn standing(&self, job: JobId, name: &str) -> Standing {
        let id = self.world.machine(name);
        self.job(job).members.iter().find(|member| member.machine == id).unwrap().standing
    }

    pub fn name_of(&self, machine: MachineId) -> String {
        self.workers.iter().find(|worker| worker.id == machine).unwrap().name.clone()
    }

    pub fn balance(&self, name: &str) -> Money {
        self.world.state.account(self.world.account(name)).unwrap().balance
    }

    /// Runs until something holds; at most a quarter of an hour of ledger time.
    pub fn until(&mut self, what: &str, holds: impl Fn(&Sim) -> bool) {
        let end_ms = self.world.now_ms + 900_000;
        while !holds(self) {
            assert!(self.world.now_ms < end_ms, "{what}: not within 15 minutes; refused: {:?}", self.refused);
            self.step();
        }
    }

    pub fn until_closed(&mut self, job: JobId) -> JobState {
        self.until("the job is closed", |sim| sim.job(job).state.closed());
        self.job(job).state
    }

    pub fn run_for(&mut self, ms: u64) {
        let end_ms = self.world.now_ms + ms;
        while self.world.now_ms < end_ms {
            self.step();
        }
    }

    /// Time passes in which nobody does anything, beats included.
    pub fn skip(&mut self, ms: u64) {
        self.world.now_ms += ms;
        self.world.tick();
        self.after_entry();
    }

    /// One step of the clock: a beat if it is time, losses that are noticed, and whatever the machines have ready.
    pub fn step(&mut self) {
        self.world.now_ms += self.step_ms;
        let now = self.world.now_ms;
        if now >= self.next_beat_ms {
            self.next_beat_ms = now + BEAT_MS;
            let beat = self.world.beat_of(&[1, 2, 3]);
            assert_eq!(self.say("n1", beat), Outcome::DONE);
        }
        for at in 0..self.workers.len() {
            let worker = &self.workers[at];
            let online = self.world.state.machine(worker.id).unwrap().online;
            if worker.up {
                self.work(at);
            } else if online && now >= worker.since_ms + TIMEOUT_MS {
                let lost = v1::MachineLost { machine: worker.id.0.to_vec(), silent_ms: 0 };
                assert_eq!(self.say("n1", Kind::MachineLost(lost)), Outcome::DONE);
            }
        }
    }

    /// Does what one machine is owed and has had the time for.
    fn work(&mut self, at: usize) {
        let owed = self.world.state.owed(self.workers[at].id);
        let slot = owed.iter().find(|assignment| needs_slot(&assignment.task)).map(|assignment| assignment.key.clone());
        let running = self.workers[at].running.as_ref().map(|(key, _)| key.clone());
        if slot != running {
            let now = self.world.now_ms;
            self.workers[at].running = slot.map(|key| (key, now));
        }
        for assignment in owed {
            if let Some(report) = self.report(at, &assignment) {
                let name = self.workers[at].name.clone();
                if let Outcome::Refused(refusal) = self.say(&name, report) {
                    self.refused.push((name, refusal.name()));
                }
            }
        }
    }

    /// What the machine says about an assignment now, if anything.
    fn report(&mut self, at: usize, assignment: &Assignment) -> Option<Kind> {
        let ops = match &assignment.task {
            Task::Drill { workload, .. } => workload.ops(),
            Task::Train { context, .. } | Task::Replay { context, .. } => context.spec.task_ops(),
            Task::Reveal { .. } | Task::Reduce { .. } | Task::Open { .. } | Task::Begin { .. } => 0,
        };
        let now = self.world.now_ms;
        let worker = &mut self.workers[at];
        if let (true, Some((_, since))) = (ops > 0, worker.running.as_mut()) {
            if now.saturating_sub(*since) < ops * 1_000 / worker.ops_per_s {
                return None;
            }
            *since = now;
        }
        report(&self.world.state, &self.workers[at], assignment)
    }
}
