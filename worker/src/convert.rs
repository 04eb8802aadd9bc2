//! Where wire types stop: assignments as a coordinator sends them become the agent's, commands become reports.
//!
//! A coordinator is not trusted blindly: what it sends is checked against the same limits that the ledger keeps, so that
//! no message can make this worker allocate or index beyond them.

use crate::agent::{Assignment, Begin, Drill, Open, Reduce, Replay, Report, Reveal, State, Task, Train, Verdict};
use matrixai_proto::v1::{self, assignment::Task as Wire, command::Kind};
use matrixai_protocol::{
    drilling::{Kernel, Workload, WorkloadError},
    spec::{SpecError, TrainingSpec},
};
use matrixai_training::Context;
use prost::Message as _;
use std::sync::Arc;

/// Longest key of an assignment.
const KEY_BYTES_MAX: usize = 256;

/// Why an assignment cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum BadAssignment {
    #[error("its key is empty or too long")]
    Key,
    #[error("it has no task that this version knows")]
    NoTask,
    #[error("field {0} is missing or of the wrong length")]
    Field(&'static str),
    #[error("there is no kernel {0:?}")]
    Kernel(String),
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    #[error("the training's {0}")]
    Spec(#[from] SpecError),
    #[error("{0} is out of the training's range")]
    Range(&'static str),
}

/// Checks and converts an assignment.
pub fn assignment(wire: v1::Assignment) -> Result<Assignment, BadAssignment> {
    if wire.key.is_empty() || wire.key.len() > KEY_BYTES_MAX {
        return Err(BadAssignment::Key);
    }
    let task = match wire.task.ok_or(BadAssignment::NoTask)? {
        Wire::Drill(drill) => Task::Drill(drill_task(&drill)?),
        Wire::Reveal(reveal) => Task::Reveal(Reveal { unit: bytes("unit", &reveal.unit)? }),
        Wire::Train(train) => Task::Train(train_task(train)?),
        Wire::Reduce(reduce) => Task::Reduce(reduce_task(reduce)?),
        Wire::Replay(replay) => Task::Replay(replay_task(replay)?),
        Wire::Open(open) => Task::Open(Open {
            job: bytes("job", &open.job)?,
            segment: open.segment,
            round: open.round,
            virtual_worker: open.virtual_worker,
        }),
        Wire::Begin(begin) => Task::Begin(Begin { agreement: bytes("agreement", &begin.agreement)? }),
    };
    Ok(Assignment { key: wire.key, deadline_ms: wire.deadline_ms, task })
}

fn drill_task(wire: &v1::DrillTask) -> Result<Drill, BadAssignment> {
    let kernel = Kernel::parse(&wire.kernel).ok_or_else(|| BadAssignment::Kernel(wire.kernel.clone()))?;
    let mut params = [0; 8];
    let given = params.get_mut(..wire.params.len()).ok_or(BadAssignment::Field("params"))?;
    given.copy_from_slice(&wire.params);
    Ok(Drill {
        unit: bytes("unit", &wire.unit)?,
        attempt: wire.attempt,
        workload: Workload::new(kernel, params)?,
        seed: bytes("seed", &wire.seed)?,
    })
}

fn train_task(wire: v1::TrainTask) -> Result<Train, BadAssignment> {
    let context = context(wire.context)?;
    let spec = &context.spec;
    in_range("round", wire.round, spec.rounds)?;
    if wire.virtual_workers.len() > spec.virtual_workers as usize {
        return Err(BadAssignment::Range("the number of virtual workers"));
    }
    for &v in &wire.virtual_workers {
        in_range("a virtual worker", v, spec.virtual_workers)?;
    }
    Ok(Train {
        weights: bytes("weights", &wire.weights)?,
        round: wire.round,
        attempt: wire.attempt,
        virtual_workers: wire.virtual_workers,
        context,
    })
}

fn reduce_task(wire: v1::ReduceTask) -> Result<Reduce, BadAssignment> {
    let context = context(wire.context)?;
    if wire.round > context.spec.rounds {
        return Err(BadAssignment::Range("the round"));
    }
    if wire.round == 0 {
        return Ok(Reduce { context, round: 0, before: None, deltas: Vec::new() });
    }
    if wire.deltas.len() != context.spec.virtual_workers as usize {
        return Err(BadAssignment::Range("the number of deltas"));
    }
    let before = State { weights: bytes("weights", &wire.weights)?, momentum: bytes("momentum", &wire.momentum)? };
    let deltas = wire.deltas.iter().map(|delta| bytes("deltas", delta)).collect::<Result<_, _>>()?;
    Ok(Reduce { context, round: wire.round, before: Some(before), deltas })
}

fn replay_task(wire: v1::ReplayTask) -> Result<Replay, BadAssignment> {
    let context = context(wire.context)?;
    in_range("the round", wire.round, context.spec.rounds)?;
    in_range("the virtual worker", wire.virtual_worker, context.spec.virtual_workers)?;
    Ok(Replay {
        context,
        segment: wire.segment,
        round: wire.round,
        virtual_worker: wire.virtual_worker,
        attempt: wire.attempt,
        weights: bytes("weights", &wire.weights)?,
        first: bytes("first", &wire.first)?,
        last: bytes("last", &wire.last)?,
    })
}

fn context(wire: Option<v1::TrainingContext>) -> Result<Arc<Context>, BadAssignment> {
    let wire = wire.ok_or(BadAssignment::Field("context"))?;
    let spec = spec(wire.spec.ok_or(BadAssignment::Field("spec"))?)?;
    Ok(Arc::new(Context { spec, job: bytes("job", &wire.job)?, beacon: bytes("beacon", &wire.beacon)? }))
}

fn spec(wire: v1::TrainingSpec) -> Result<TrainingSpec, BadAssignment> {
    let spec = TrainingSpec {
        dataset: bytes("dataset", &wire.dataset)?,
        dataset_bytes: wire.dataset_bytes,
        features: wire.features,
        classes: wire.classes,
        feature_scale: wire.feature_scale,
        validate_every: wire.validate_every,
        hidden: wire.hidden,
        learning_rate_e6: wire.learning_rate_e6,
        momentum_e6: wire.momentum_e6,
        weight_decay_e6: wire.weight_decay_e6,
        clip_norm_e6: wire.clip_norm_e6,
        batch: wire.batch,
        virtual_workers: wire.virtual_workers,
        rounds: wire.rounds,
        steps_per_round: wire.steps_per_round,
        outer_rate_e6: wire.outer_rate_e6,
        outer_momentum_e6: wire.outer_momentum_e6,
        target_e6: wire.target_e6,
        seed: wire.seed,
        spot_checks: wire.spot_checks,
    };
    spec.validate()?;
    Ok(spec)
}

fn in_range(name: &'static str, value: u32, end: u32) -> Result<(), BadAssignment> {
    if value < end { Ok(()) } else { Err(BadAssignment::Range(name)) }
}

pub(crate) fn bytes<const N: usize>(name: &'static str, bytes: &[u8]) -> Result<[u8; N], BadAssignment> {
    bytes.try_into().map_err(|_| BadAssignment::Field(name))
}

/// A report of one command.
pub fn report(key: &str, part: u32, command: Kind) -> Report {
    let batch = v1::Batch { commands: vec![v1::Command { kind: Some(command) }], linked: false };
    Report { key: key.to_owned(), part, payload: batch.encode_to_vec() }
}

/// The verdicts of an acknowledgement.
pub fn verdicts(outcomes: Vec<v1::Outcome>) -> Vec<Verdict> {
    outcomes
        .into_iter()
        .map(|outcome| Verdict { code: outcome.code, name: outcome.name, detail: outcome.detail })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;

    /// The smallest training that makes sense.
    pub(crate) fn wire_context() -> v1::TrainingContext {
        let spec = v1::TrainingSpec {
            dataset: vec![1; 32],
            dataset_bytes: 100,
            features: 2,
            classes: 2,
            feature_scale: 16,
            validate_every: 5,
            hidden: vec![4],
            learning_rate_e6: 100_000,
            momentum_e6: 900_000,
            batch: 4,
            virtual_workers: 4,
            rounds: 2,
            steps_per_round: 3,
            outer_rate_e6: 1_000_000,
            target_e6: 900_000,
            ..v1::TrainingSpec::default()
        };
        v1::TrainingContext { job: vec![7; 20], spec: Some(spec), beacon: vec![9; 32] }
    }

    fn drill() -> v1::DrillTask {
        v1::DrillTask {
            unit: vec![3; 20],
            attempt: 1,
            kernel: "fgemm".to_owned(),
            params: vec![64, 64, 64, 1],
            seed: vec![5; 32],
        }
    }

    fn refused(task: Wire) -> String {
        let wire = v1::Assignment { key: "k".to_owned(), task: Some(task), ..v1::Assignment::default() };
        assignment(wire).unwrap_err().to_string()
    }

    #[test]
    fn a_drill_is_read_with_its_missing_parameters_zero() {
        let wire = v1::Assignment { key: "k".to_owned(), task: Some(Wire::Drill(drill())), ..Default::default() };
        let Task::Drill(read) = assignment(wire).unwrap().task else { panic!("a drill") };
        assert_eq!(read.workload.params(), &[64, 64, 64, 1, 0, 0, 0, 0]);
        assert!(refused(Wire::Drill(v1::DrillTask { kernel: "dance".to_owned(), ..drill() })).contains("dance"));
        assert!(refused(Wire::Drill(v1::DrillTask { params: vec![1; 9], ..drill() })).contains("params"));
        assert!(refused(Wire::Drill(v1::DrillTask { params: vec![0; 4], ..drill() })).contains("must be"));
        assert!(refused(Wire::Drill(v1::DrillTask { seed: vec![1], ..drill() })).contains("seed"));
    }

    #[test]
    fn trainings_stay_within_their_spec() {
        let train = v1::TrainTask {
            context: Some(wire_context()),
            virtual_workers: vec![0, 3],
            weights: vec![1; 32],
            ..Default::default()
        };
        let key = "k".to_owned();
        let wire = v1::Assignment { key, task: Some(Wire::Train(train.clone())), ..Default::default() };
        assert!(matches!(assignment(wire).unwrap().task, Task::Train(_)));
        assert!(refused(Wire::Train(v1::TrainTask { round: 2, ..train.clone() })).contains("round"));
        assert!(refused(Wire::Train(v1::TrainTask { virtual_workers: vec![4], ..train.clone() })).contains("virtual"));
        assert!(refused(Wire::Train(v1::TrainTask { context: None, ..train })).contains("context"));
        let reduce = v1::ReduceTask { context: Some(wire_context()), round: 1, ..Default::default() };
        assert!(refused(Wire::Reduce(reduce)).contains("deltas"));
        let mut context = wire_context();
        context.spec.as_mut().unwrap().batch = 0;
        assert!(
            refused(Wire::Reduce(v1::ReduceTask { context: Some(context), ..Default::default() })).contains("batch")
        );
    }

    #[test]
    fn keys_and_unknown_tasks_are_checked() {
        assert!(matches!(assignment(v1::Assignment::default()), Err(BadAssignment::Key)));
        let wire = v1::Assignment { key: "k".to_owned(), ..Default::default() };
        assert!(matches!(assignment(wire), Err(BadAssignment::NoTask)));
    }

    #[test]
    fn reports_are_canonical() {
        let reveal = v1::RevealUnit { unit: vec![1; 20], digest: vec![2; 32], salt: vec![3; 32] };
        let report = report("k", 0, Kind::RevealUnit(reveal));
        assert!(matrixai_proto::decode_strict::<v1::Batch>(&report.payload).is_ok());
    }
}
