//! What simulated machines report: the truth as a hash of the inputs, or a lie, as their habits have it.

use super::Habits;
use matrixai_proto::v1::{self, command::Kind};
use matrixai_protocol::{Hash, drilling, sha256, training};
use matrixai_worker::{
    agent::{Assignment, Report, Task},
    convert,
};
use std::collections::BTreeMap;

/// Right answers of the first model, of the last, and rows.
const COUNTS: (u32, u32, u32) = (10, 95, 100);

/// What a journal keeps to open commitments and seals with.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    /// Digest by unit.
    digests: BTreeMap<[u8; 20], Hash>,
    /// Trace root by job, round and virtual worker.
    traces: BTreeMap<([u8; 20], u32, u32), Hash>,
}

impl Secrets {
    /// The reports of a task, in the order in which they are made.
    pub(super) fn compute(&mut self, key: &Hash, habits: Habits, assignment: &Assignment) -> Vec<Report> {
        let lie = |truth: Hash, lies: bool| if lies { sha256(&[b"lie", &truth, key]) } else { truth };
        let report = |part, kind| convert::report(&assignment.key, part, kind);
        if habits.keeps_silent {
            return Vec::new();
        }
        match &assignment.task {
            Task::Drill(drill) => {
                let digest = lie(sha256(&[b"digest", &drill.seed]), habits.lies_about_drills);
                self.digests.insert(drill.unit, digest);
                let commitment = drilling::commitment(&drill.unit, key, &digest, &salt(key, &drill.unit)).to_vec();
                let unit = drill.unit.to_vec();
                vec![report(0, Kind::CommitUnit(v1::CommitUnit { unit, attempt: drill.attempt, commitment }))]
            }
            Task::Train(train) if habits.fails => {
                vec![report(0, failed(train.context.job, train.attempt))]
            }
            Task::Train(train) => {
                let (job, round) = (train.context.job, train.round);
                let done = |v: &u32| {
                    let trace = lie(segment(b"trace", round, *v, &train.weights), habits.lies_about_traces);
                    self.traces.insert((job, round, *v), trace);
                    let seal = training::seal(&job, round, *v, key, &trace, &segment_salt(key, &job, round, *v));
                    let delta = lie(segment(b"delta", round, *v, &train.weights), habits.lies_about_deltas);
                    let done = v1::TaskDone {
                        job: job.to_vec(),
                        round,
                        virtual_worker: *v,
                        attempt: train.attempt,
                        delta: delta.to_vec(),
                        sealed_trace: seal.to_vec(),
                        cpu_us: 1_000,
                    };
                    report(*v, Kind::TaskDone(done))
                };
                train.virtual_workers.iter().map(done).collect()
            }
            Task::Reduce(reduce) => {
                let before = reduce.before.map_or(([0; 32], [0; 32]), |state| (state.weights, state.momentum));
                let deltas = reduce.deltas.as_flattened();
                let weights = sha256(&[b"weights", &before.0, deltas]);
                let reduced = v1::RoundReduced {
                    job: reduce.context.job.to_vec(),
                    round: reduce.round,
                    weights: lie(weights, habits.lies_about_models).to_vec(),
                    momentum: sha256(&[b"momentum", &before.1, deltas]).to_vec(),
                    watch_correct: 50,
                    watch_total: 80,
                    cpu_us: 500,
                };
                vec![report(0, Kind::RoundReduced(reduced))]
            }
            Task::Replay(replay) => {
                let (round, v) = (replay.round, replay.virtual_worker);
                let delta = lie(segment(b"delta", round, v, &replay.weights), habits.lies_about_replays);
                let replayed = v1::SegmentReplayed {
                    job: replay.context.job.to_vec(),
                    segment: replay.segment,
                    attempt: replay.attempt,
                    trace_root: segment(b"trace", round, v, &replay.weights).to_vec(),
                    delta: delta.to_vec(),
                    first_correct: COUNTS.0,
                    last_correct: COUNTS.1,
                    validation_total: COUNTS.2,
                    cpu_us: 2_000,
                };
                vec![report(0, Kind::SegmentReplayed(replayed))]
            }
            Task::Reveal(_) | Task::Open(_) | Task::Begin(_) => Vec::new(),
        }
    }

    /// What needs no computing: the opening of a commitment or a seal, or the word that an agreement has begun; none when the journal has nothing, or the machine keeps silent.
    pub(super) fn open(&self, key: &Hash, habits: Habits, assignment: &Assignment) -> Option<Report> {
        let kind = match &assignment.task {
            Task::Reveal(reveal) => Kind::RevealUnit(v1::RevealUnit {
                unit: reveal.unit.to_vec(),
                digest: self.digests.get(&reveal.unit)?.to_vec(),
                salt: salt(key, &reveal.unit).to_vec(),
            }),
            Task::Open(open) => Kind::TraceOpened(v1::TraceOpened {
                job: open.job.to_vec(),
                segment: open.segment,
                trace_root: self.traces.get(&(open.job, open.round, open.virtual_worker))?.to_vec(),
                salt: segment_salt(key, &open.job, open.round, open.virtual_worker).to_vec(),
            }),
            Task::Begin(begin) => Kind::AgreementStarted(v1::AgreementStarted { agreement: begin.agreement.to_vec() }),
            Task::Drill(_) | Task::Train(_) | Task::Reduce(_) | Task::Replay(_) => return None,
        };
        (!habits.keeps_silent).then(|| convert::report(&assignment.key, 0, kind))
    }
}

fn segment(what: &[u8], round: u32, virtual_worker: u32, weights: &Hash) -> Hash {
    sha256(&[what, &round.to_le_bytes(), &virtual_worker.to_le_bytes(), weights])
}

fn salt(key: &Hash, of: &[u8]) -> Hash {
    sha256(&[b"salt", key, of])
}

fn segment_salt(key: &Hash, job: &[u8; 20], round: u32, virtual_worker: u32) -> Hash {
    salt(key, &[&job[..], &round.to_le_bytes(), &virtual_worker.to_le_bytes()].concat())
}

fn failed(job: [u8; 20], attempt: u32) -> Kind {
    Kind::TaskFailed(v1::TaskFailed {
        job: job.to_vec(),
        attempt,
        reason: "internal".into(),
        detail: "It broke".into(),
    })
}
