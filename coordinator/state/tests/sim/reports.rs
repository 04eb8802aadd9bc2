//! What simulated machines report: the truth as a hash of the inputs, or a lie, as their habits have it.

use super::{COUNTS, Worker};
use crate::common::key;
use matrixai_proto::v1::{self, command::Kind};
use matrixai_protocol::{drilling, sha256, training};
use matrixai_state::{
    Assignment, State, Task,
    ids::{Hash, JobId, UnitId},
};

pub fn needs_slot(task: &Task) -> bool {
    match task {
        Task::Drill { .. } | Task::Train { .. } | Task::Replay { .. } => true,
        Task::Reveal { .. } | Task::Reduce { .. } | Task::Open { .. } | Task::Begin { .. } => false,
    }
}

/// The report of one task by a machine of these habits; none for what it keeps silent about.
pub fn report(state: &State, worker: &Worker, assignment: &Assignment) -> Option<Kind> {
    let (name, habits) = (worker.name.as_str(), &worker.habits);
    let lie = |truth: Hash, lies: bool| if lies { sha256(&[b"lie", &truth, name.as_bytes()]) } else { truth };
    Some(match &assignment.task {
        Task::Drill { unit, attempt, .. } => {
            commit(name, *unit, *attempt, &lie(digest(state, *unit), habits.lie_drill))
        }
        Task::Reveal { .. } if habits.mute_reveal => return None,
        Task::Reveal { unit } => reveal(name, *unit, &lie(digest(state, *unit), habits.lie_drill)),
        Task::Train { .. } if habits.mute_train => return None,
        Task::Train { context, attempt, .. } if habits.fail_train => failure(context.job, *attempt, "internal"),
        Task::Train { context, round, attempt, virtual_workers, weights } => {
            let worker = *virtual_workers.first()?;
            let delta = lie(delta(*round, worker, weights), habits.lie_delta);
            let trace = lie(trace(*round, worker, weights), habits.lie_trace || habits.forge_opening);
            task_done(name, context.job, (*round, worker, *attempt), delta, trace)
        }
        Task::Reduce { .. } if habits.mute_reduce => return None,
        Task::Reduce { context, .. } if habits.bad_data => failure(context.job, 0, "bad_data"),
        Task::Reduce { context, round, before, deltas } => {
            let (weights, momentum) = reduced(before, deltas);
            round_reduced(context.job, *round, lie(weights, habits.lie_reduce), momentum)
        }
        Task::Replay { .. } if habits.mute_replay => return None,
        Task::Replay { context, segment, round, virtual_worker, attempt, weights, .. } => {
            let delta = lie(delta(*round, *virtual_worker, weights), habits.lie_replay);
            let mut counts = COUNTS;
            counts.1 -= u32::from(habits.lie_count);
            replayed(context.job, *segment, *attempt, trace(*round, *virtual_worker, weights), delta, counts)
        }
        Task::Open { .. } if habits.mute_open => return None,
        Task::Open { job, .. } if habits.cannot_open => failure(*job, 0, "internal"),
        Task::Open { job, segment, round, virtual_worker } => {
            let root = trace(*round, *virtual_worker, &weights(state, *job, *round));
            let root = lie(root, habits.lie_trace);
            trace_opened(name, *job, *segment, (*round, *virtual_worker), root)
        }
        Task::Begin { agreement } => Kind::AgreementStarted(v1::AgreementStarted { agreement: agreement.0.to_vec() }),
    })
}

/// The right digest of a unit.
pub fn digest(state: &State, unit: UnitId) -> Hash {
    sha256(&[b"digest", &state.unit(unit).unwrap().seed])
}

/// The weights that a round of a job begins from.
pub fn weights(state: &State, job: JobId, round: u32) -> Hash {
    state.rounds_of(job).nth(round as usize).unwrap().made.weights
}

pub fn delta(round: u32, worker: u32, weights: &Hash) -> Hash {
    sha256(&[b"delta", &round.to_le_bytes(), &worker.to_le_bytes(), weights])
}

pub fn trace(round: u32, worker: u32, weights: &Hash) -> Hash {
    sha256(&[b"trace", &round.to_le_bytes(), &worker.to_le_bytes(), weights])
}

/// Weights and momentum of the next model.
pub fn reduced(before: &Option<(Hash, Hash)>, deltas: &[Hash]) -> (Hash, Hash) {
    let (weights, momentum) = before.unwrap_or(([0; 32], [0; 32]));
    let deltas = deltas.as_flattened();
    (sha256(&[b"weights", &weights, deltas]), sha256(&[b"momentum", &momentum, deltas]))
}

pub fn salt(name: &str, of: &[u8]) -> Hash {
    sha256(&[b"salt", name.as_bytes(), of])
}

pub fn commit(name: &str, unit: UnitId, attempt: u32, digest: &Hash) -> Kind {
    let commitment = drilling::commitment(&unit.0, &key(name), digest, &salt(name, &unit.0)).to_vec();
    Kind::CommitUnit(v1::CommitUnit { unit: unit.0.to_vec(), attempt, commitment })
}

pub fn reveal(name: &str, unit: UnitId, digest: &Hash) -> Kind {
    let salt = salt(name, &unit.0).to_vec();
    Kind::RevealUnit(v1::RevealUnit { unit: unit.0.to_vec(), digest: digest.to_vec(), salt })
}

fn segment_salt(name: &str, round: u32, worker: u32) -> Hash {
    salt(name, &[round.to_le_bytes(), worker.to_le_bytes()].concat())
}

/// `at` is round, virtual worker, attempt.
pub fn task_done(name: &str, job: JobId, at: (u32, u32, u32), delta: Hash, trace: Hash) -> Kind {
    let (round, virtual_worker, attempt) = at;
    let salt = segment_salt(name, round, virtual_worker);
    Kind::TaskDone(v1::TaskDone {
        job: job.0.to_vec(),
        round,
        virtual_worker,
        attempt,
        delta: delta.to_vec(),
        sealed_trace: training::seal(&job.0, round, virtual_worker, &key(name), &trace, &salt).to_vec(),
        cpu_us: 1_000,
    })
}

pub fn round_reduced(job: JobId, round: u32, weights: Hash, momentum: Hash) -> Kind {
    Kind::RoundReduced(v1::RoundReduced {
        job: job.0.to_vec(),
        round,
        weights: weights.to_vec(),
        momentum: momentum.to_vec(),
        watch_correct: 50,
        watch_total: 80,
        cpu_us: 500,
    })
}

pub fn replayed(job: JobId, segment: u64, attempt: u32, trace: Hash, delta: Hash, counts: (u32, u32, u32)) -> Kind {
    Kind::SegmentReplayed(v1::SegmentReplayed {
        job: job.0.to_vec(),
        segment,
        attempt,
        trace_root: trace.to_vec(),
        delta: delta.to_vec(),
        first_correct: counts.0,
        last_correct: counts.1,
        validation_total: counts.2,
        cpu_us: 2_000,
    })
}

/// `at` is round and virtual worker.
pub fn trace_opened(name: &str, job: JobId, segment: u64, at: (u32, u32), root: Hash) -> Kind {
    let salt = segment_salt(name, at.0, at.1).to_vec();
    Kind::TraceOpened(v1::TraceOpened { job: job.0.to_vec(), segment, trace_root: root.to_vec(), salt })
}

pub fn failure(job: JobId, attempt: u32, reason: &str) -> Kind {
    Kind::TaskFailed(v1::TaskFailed { job: job.0.to_vec(), attempt, reason: reason.into(), detail: "It broke".into() })
}

/// A small training (29,097,984 operations a task): `workers` virtual workers, `rounds` rounds, everything replayed if `spot_checks` is high.
pub fn spec(workers: u32, rounds: u32, spot_checks: u32) -> v1::TrainingSpec {
    v1::TrainingSpec {
        dataset: vec![7; 32],
        dataset_bytes: 10_000,
        features: 64,
        classes: 10,
        feature_scale: 16,
        validate_every: 5,
        hidden: vec![32],
        learning_rate_e6: 50_000,
        momentum_e6: 900_000,
        weight_decay_e6: 0,
        clip_norm_e6: 0,
        batch: 256,
        virtual_workers: workers,
        rounds,
        steps_per_round: 8,
        outer_rate_e6: 700_000,
        outer_momentum_e6: 500_000,
        target_e6: 930_000,
        seed: 1,
        spot_checks,
    }
}
