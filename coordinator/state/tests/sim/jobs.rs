//! What tests of jobs have in common: markets, moments to wait for, and what must hold at the end.

use super::{Sim, reports};
use matrixai_proto::v1;
use matrixai_protocol::training::{challenge, challenged, leaf, merkle_root, optstate_hash};
use matrixai_state::{
    Outcome, Task,
    closing::CloseReason,
    ids::{Hash, JobId, MachineId},
    jobs::{JobState, Stage, Standing},
    money::{MAI, Money},
    verdicts::ReplayState,
};

/// Ops per second of three unlike machines.
pub const UNLIKE: [u64; 3] = [256_000_000, 128_000_000, 64_000_000];
/// More than there are segments.
pub const ALL: u32 = 1_000;

pub fn name(outcome: Outcome) -> &'static str {
    outcome.to_parts().1
}

/// A measured network whose first `offered` machines are for rent.
pub fn market(speeds: &[u64], offered: usize) -> Sim {
    let mut sim = Sim::new(speeds);
    sim.measure();
    sim.offer_all(offered);
    sim
}

/// Submits a job for as many machines as there are and runs until it is in this state.
pub fn start(sim: &mut Sim, machines: u32, spec: v1::TrainingSpec, state: JobState) -> JobId {
    let job = sim.submit(machines, spec, 3_600);
    sim.until(state.as_str(), |sim| sim.job(job).state == state);
    job
}

pub fn computing(sim: &mut Sim, job: JobId, round: u32) {
    sim.until("the round is open", |sim| {
        let row = sim.job(job);
        (row.stage, row.round, row.state) == (Stage::Computing, round, JobState::Training)
    });
}

/// Runs until the round is under way: some of its tasks done, some not.
pub fn mid_round(sim: &mut Sim, job: JobId, round: u32) {
    computing(sim, job, round);
    sim.until("some tasks are done", |sim| sim.job(job).tasks_done >= 2);
    assert!(sim.job(job).tasks_done < sim.job(job).spec.virtual_workers);
}

/// The hold is used up to the last unit, and members and outsiders got what left it.
pub fn check_escrow(sim: &Sim, job: JobId) {
    let hold = sim.world.state.hold(job).unwrap();
    let sum = hold.paid.units() + hold.fees.units() + hold.refunded.units();
    assert_eq!(hold.held.units(), sum, "held = paid + fees + refunded");
    let row = sim.job(job);
    let members: u128 = row.members.iter().map(|member| member.paid().units()).sum();
    let outsiders: u128 = row.outsiders.iter().map(|outsider| outsider.paid.units()).sum();
    assert_eq!(hold.paid.units(), members + outsiders);
    assert_eq!(hold.fees.units(), hold.paid.units() / 100, "one percent, rounded down");
    assert!(!hold.open);
    sim.world.finish();
}

pub fn check_refunded(sim: &Sim, job: JobId, reason: CloseReason) {
    assert_eq!(sim.job(job).closed, Some(reason));
    check_escrow(sim, job);
    let hold = sim.world.state.hold(job).unwrap();
    assert_eq!((hold.paid, hold.refunded), (Money::ZERO, hold.held));
    assert_eq!(sim.balance("buyer").units(), 100 * MAI);
    assert!(sim.workers.iter().all(|worker| sim.world.state.machine(worker.id).unwrap().job.is_none()));
}

/// The models of a job, as hashes: equal for equal trainings whoever did them.
pub fn models(sim: &Sim, job: JobId) -> Vec<Hash> {
    sim.world.state.rounds_of(job).map(|figure| figure.made.weights).collect()
}

/// The chain of models that this training must give, without any machine.
pub fn expected_models(workers: u32, rounds: u32) -> Vec<Hash> {
    let mut before = reports::reduced(&None, &[]);
    let mut models = vec![before.0];
    for round in 0..rounds {
        let deltas: Vec<Hash> = (0..workers).map(|worker| reports::delta(round, worker, &before.0)).collect();
        before = reports::reduced(&Some(before), &deltas);
        models.push(before.0);
    }
    models
}

/// Computes the proof's root from the rows, as an auditor would.
pub fn check_chain(sim: &Sim, job: JobId) {
    let (state, row) = (&sim.world.state, sim.job(job));
    let mut previous = [0; 32];
    let mut leaves = Vec::new();
    for figure in state.rounds_of(job) {
        let tasks = figure.round.checked_sub(1).into_iter().flat_map(|round| state.tasks_of(job, round));
        let (deltas, keys): (Vec<Hash>, Vec<Hash>) =
            tasks.map(|(_, task)| (task.delta, state.machine(task.machine).unwrap().key)).unzip();
        let opt = optstate_hash(&figure.made.momentum, &deltas, &keys);
        let step = u64::from(figure.round * row.spec.steps_per_round);
        previous = leaf(figure.round.into(), step, &figure.made.weights, &opt, &previous);
        leaves.push(previous);
    }
    assert_eq!(row.root, Some(merkle_root(&leaves)));
}

/// The challenge follows from the beacon; nobody verified their own work.
pub fn check_replays(sim: &Sim, job: JobId) {
    let (state, row) = (&sim.world.state, sim.job(job));
    let rho = challenge(state.cluster_id(), &job.0, &row.root.unwrap(), &row.challenge_beacon.unwrap());
    let segments: Vec<u64> = state.replays_of(job).map(|replay| replay.segment).collect();
    assert_eq!(segments, challenged(&rho, row.spec.segments(), row.spec.spot_checks));
    for replay in state.replays_of(job) {
        assert_eq!(replay.state, ReplayState::Equal);
        let owner = |machine: MachineId| state.machine(machine).unwrap().owner;
        assert_ne!(owner(replay.prover), owner(replay.verifier.unwrap()));
        assert_eq!(replay.opened, replay.report.map(|report| report.trace_root));
    }
}

/// Provers of the segments that stayed shut.
pub fn shut(sim: &Sim, job: JobId) -> Vec<MachineId> {
    let replays = sim.world.state.replays_of(job);
    replays.filter(|replay| replay.state == ReplayState::Unopened).map(|replay| replay.prover).collect()
}

/// The machine's segments stayed shut: the job is settled, its lease is not paid, the others are.
pub fn unopened(sim: &Sim, job: JobId, machine: &str) {
    let id = sim.world.machine(machine);
    let shut = shut(sim, job);
    assert!(!shut.is_empty() && shut.iter().all(|prover| *prover == id));
    for member in &sim.job(job).members {
        let power = sim.world.state.power(member.machine).unwrap();
        let silent = member.machine == id;
        assert_eq!(member.paid_training == Money::ZERO, silent);
        assert_eq!(power.training_micro_ut == 0, silent);
        assert_eq!(member.unpaid_ms == member.trained_ms, silent);
    }
    assert_eq!(sim.standing(job, machine), Standing::Active, "silence is no proof of guilt");
    check_escrow(sim, job);
}

/// The lease that a machine's slot holds, as it is owed.
pub fn train_lease(sim: &Sim, machine: &str) -> Option<(u32, u32, Vec<u32>)> {
    sim.world.state.owed(sim.world.machine(machine)).into_iter().find_map(|assignment| match assignment.task {
        Task::Train { round, attempt, virtual_workers, .. } => Some((round, attempt, virtual_workers)),
        Task::Drill { .. }
        | Task::Reveal { .. }
        | Task::Reduce { .. }
        | Task::Replay { .. }
        | Task::Open { .. }
        | Task::Begin { .. } => None,
    })
}
