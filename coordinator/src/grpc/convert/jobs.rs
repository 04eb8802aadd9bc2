//! Jobs as messages of the wire: everything that a receipt says of one follows from its rows here.

use super::micro_ut;
use matrixai_proto::v1;
use matrixai_protocol::{drilling::Kernel, spec::TrainingSpec};
use matrixai_state::{
    State,
    drilling::UnitState,
    ids::{AccountId, JobId, MachineId},
    jobs::{JobRow, Member, Outsider, RoundRow},
    market::OrderTerms,
    power::SpeedRow,
    verdicts::{ReplayRow, ReplayState},
};
use std::collections::{BTreeMap, BTreeSet};

/// How much of a job is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// Without what grows with the numbers of rounds, tasks and units, or a list of long trainings would not fit into
    /// an answer: of the rounds the last one, of the shares no history, no replays, no count of drilling units.
    Listed,
    /// Everything.
    Whole,
}

/// A job with everything that is known of it.
pub(crate) fn job(state: &State, row: &JobRow) -> v1::Job {
    shown(state, row, Detail::Whole)
}

/// The newest jobs, or one account's, newest first, in short: see `Detail::Listed`.
pub(crate) fn jobs(state: &State, owner: Option<[u8; 20]>, limit: usize) -> Vec<v1::Job> {
    let owner = owner.map(AccountId);
    let wanted = state.newest_jobs().filter(|row| owner.is_none_or(|owner| row.owner == owner));
    wanted.take(limit).map(|row| shown(state, row, Detail::Listed)).collect()
}

/// Whether nothing can happen to a job any more.
pub(crate) fn closed(row: &JobRow) -> bool {
    row.state.closed()
}

fn shown(state: &State, row: &JobRow, detail: Detail) -> v1::Job {
    let whole = detail == Detail::Whole;
    let rounds: Vec<&RoundRow> = match detail {
        Detail::Whole => state.rounds_of(row.id).collect(),
        Detail::Listed => state.rounds_of(row.id).next_back().into_iter().collect(),
    };
    let (drilling_units, drilling_accepted) = if whole { drilled(state, row) } else { (0, 0) };
    let keys: BTreeMap<MachineId, &[u8; 32]> = row.members.iter().map(|member| (member.machine, &member.key)).collect();
    v1::Job {
        id: row.id.0.to_vec(),
        owner: row.owner.0.to_vec(),
        name: row.name.clone(),
        state: row.state.as_str().to_owned(),
        reason: row.reason.clone(),
        closed: row.closed.map(|reason| reason.as_str().to_owned()).unwrap_or_default(),
        fault: row.closed.map(|reason| reason.fault().as_str().to_owned()).unwrap_or_default(),
        submitted_ms: row.submitted_ms,
        matched_ms: row.matched_ms,
        closed_ms: row.closed_ms,
        spec: Some(spec(&row.spec)),
        order: Some(order(&row.order)),
        rounds_done: row.rounds_done(),
        tasks_done: row.tasks_done,
        shares: shares(state, row, if whole { &rounds } else { &[] }),
        escrow: Some(escrow(state, row.id)),
        rounds: rounds.iter().map(|round| figure(state, row.id, round, &keys, whole)).collect(),
        accuracy: row.accuracy.map(|counted| v1::Accuracy {
            first_correct: counted.first_correct,
            last_correct: counted.last_correct,
            total: counted.total,
        }),
        proof: Some(proof(state, row, whole)),
        beacon: row.beacon.map(Vec::from).unwrap_or_default(),
        model: rounds.last().map(|round| round.made.weights.to_vec()).unwrap_or_default(),
        digest: digest(state),
        drilling_units,
        drilling_accepted,
    }
}

fn shares(state: &State, row: &JobRow, rounds: &[&RoundRow]) -> Vec<v1::Share> {
    let members = row.members.iter().enumerate().map(|(at, each)| member(state, row, rounds, at, each));
    members.chain(row.outsiders.iter().map(|each| outsider(state, each))).collect()
}

fn member(state: &State, job: &JobRow, rounds: &[&RoundRow], at: usize, row: &Member) -> v1::Share {
    let split = || rounds.iter().filter_map(|round| round.shares.get(at));
    v1::Share {
        machine: row.machine.0.to_vec(),
        account: row.owner.0.to_vec(),
        speed_matched: row.speed_matched,
        speed: fgemm(state, row.machine),
        micro_ut: micro_ut(state, row.machine),
        cpu_us: row.cpu_us,
        tasks: row.tasks.into(),
        share_e6: share_e6(row.tasks.into(), job.spec.segments()),
        price_per_hour: row.price_per_hour.to_string(),
        billed_ms: row.billed_ms(),
        paid: row.paid().to_string(),
        paid_verification: row.paid_verification.to_string(),
        standing: row.standing.as_str().to_owned(),
        tasks_per_round: split().map(|share| share.tasks).collect(),
        speed_per_round: split().map(|share| share.speed).collect(),
        machine_key: row.key.to_vec(),
    }
}

/// A machine that only verified: it did no tasks, and is paid for verification alone.
fn outsider(state: &State, row: &Outsider) -> v1::Share {
    v1::Share {
        machine: row.machine.0.to_vec(),
        account: row.owner.0.to_vec(),
        speed: fgemm(state, row.machine),
        micro_ut: micro_ut(state, row.machine),
        cpu_us: row.cpu_us,
        price_per_hour: row.price_per_hour.to_string(),
        billed_ms: row.verified_ms,
        paid: row.paid.to_string(),
        paid_verification: row.paid.to_string(),
        standing: if row.guilty { "guilty" } else { "active" }.to_owned(),
        machine_key: state.machine(row.machine).map(|machine| machine.key.to_vec()).unwrap_or_default(),
        ..v1::Share::default()
    }
}

fn fgemm(state: &State, machine: MachineId) -> u64 {
    state.power(machine).and_then(|power| power.speeds.get(&Kernel::Fgemm)).map_or(0, SpeedRow::median)
}

/// Rounded down, so that shares never sum to more than one.
fn share_e6(tasks: u64, all: u64) -> u32 {
    let share = u128::from(tasks).saturating_mul(1_000_000).checked_div(all.into()).unwrap_or(0);
    u32::try_from(share).unwrap_or(1_000_000)
}

fn escrow(state: &State, job: JobId) -> v1::Escrow {
    let Some(hold) = state.hold(job) else { return v1::Escrow::default() };
    v1::Escrow {
        held: hold.held.to_string(),
        paid: hold.paid.to_string(),
        fees: hold.fees.to_string(),
        refunded: hold.refunded.to_string(),
    }
}

/// A model of the chain. Its deltas are those of the round behind it, which began from the model before.
fn figure(
    state: &State,
    job: JobId,
    row: &RoundRow,
    keys: &BTreeMap<MachineId, &[u8; 32]>,
    whole: bool,
) -> v1::RoundFigure {
    let behind = row.round.checked_sub(1).filter(|_| whole);
    let tasks = || behind.into_iter().flat_map(|round| state.tasks_of(job, round)).map(|(_, task)| task);
    v1::RoundFigure {
        round: row.round,
        watch_correct: row.made.watch_correct,
        watch_total: row.made.watch_total,
        weights: row.made.weights.to_vec(),
        momentum: row.made.momentum.to_vec(),
        closed_ms: row.closed_ms,
        deltas: tasks().map(|task| task.delta.to_vec()).collect(),
        machine_keys: tasks().map(|task| keys.get(&task.machine).map(|key| key.to_vec()).unwrap_or_default()).collect(),
        leaf: row.leaf.to_vec(),
    }
}

fn proof(state: &State, row: &JobRow, whole: bool) -> v1::Proof {
    let verdict = match row.accepted {
        None => "",
        Some(true) => "accepted",
        Some(false) => "rejected",
    };
    v1::Proof {
        root: row.root.map(Vec::from).unwrap_or_default(),
        verdict: verdict.to_owned(),
        replayed: state.replays_of(row.id).filter(|_| whole).map(replay).collect(),
        beacon: row.challenge_beacon.map(Vec::from).unwrap_or_default(),
    }
}

fn replay(row: &ReplayRow) -> v1::Replay {
    v1::Replay {
        segment: row.segment,
        round: row.round,
        virtual_worker: row.virtual_worker,
        prover: row.prover.0.to_vec(),
        verifier: row.verifier.map(|id| id.0.to_vec()).unwrap_or_default(),
        state: row.state.as_str().to_owned(),
        // Not before the verdict: a second verifier of a dispute must not see what the first one found.
        trace_root: match row.state {
            ReplayState::Waiting | ReplayState::Replayed => Vec::new(),
            ReplayState::Equal | ReplayState::Unequal | ReplayState::Unopened => {
                row.report.map(|report| report.trace_root.to_vec()).unwrap_or_default()
            }
        },
    }
}

fn digest(state: &State) -> Vec<v1::Digest> {
    let Some(epoch) = state.digest() else { return Vec::new() };
    let digest = |said: &matrixai_state::roots::Attestation| v1::Digest {
        node: said.node.0,
        index: epoch.index,
        root: said.root.to_vec(),
    };
    epoch.attested.iter().map(digest).collect()
}

/// Units that a member of the job was drawn for, and those of them that were accepted.
fn drilled(state: &State, row: &JobRow) -> (u32, u32) {
    let members: BTreeSet<MachineId> = row.members.iter().map(|member| member.machine).collect();
    let mut drawn = (0u32, 0u32);
    for unit in state.units().filter(|unit| unit.replicas.iter().any(|each| members.contains(&each.machine))) {
        drawn.0 = drawn.0.saturating_add(1);
        drawn.1 = drawn.1.saturating_add(u32::from(unit.state == UnitState::Accepted));
    }
    drawn
}

fn order(terms: &OrderTerms) -> v1::OrderTerms {
    v1::OrderTerms {
        machines: terms.machines,
        price_limit: terms.price_limit.to_string(),
        total_limit: terms.total_limit.to_string(),
        duration_s: terms.duration_s,
        start_deadline_s: terms.start_deadline_s,
        query: terms.query.to_string(),
    }
}

/// A training's specification; workers get it with every task.
pub(crate) fn spec(spec: &TrainingSpec) -> v1::TrainingSpec {
    v1::TrainingSpec {
        dataset: spec.dataset.to_vec(),
        dataset_bytes: spec.dataset_bytes,
        features: spec.features,
        classes: spec.classes,
        feature_scale: spec.feature_scale,
        validate_every: spec.validate_every,
        hidden: spec.hidden.clone(),
        learning_rate_e6: spec.learning_rate_e6,
        momentum_e6: spec.momentum_e6,
        weight_decay_e6: spec.weight_decay_e6,
        clip_norm_e6: spec.clip_norm_e6,
        batch: spec.batch,
        virtual_workers: spec.virtual_workers,
        rounds: spec.rounds,
        steps_per_round: spec.steps_per_round,
        outer_rate_e6: spec.outer_rate_e6,
        outer_momentum_e6: spec.outer_momentum_e6,
        target_e6: spec.target_e6,
        seed: spec.seed,
        spot_checks: spec.spot_checks,
    }
}
