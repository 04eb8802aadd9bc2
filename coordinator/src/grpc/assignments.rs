//! Assignments on the wire.

use super::convert;
use matrixai_proto::v1::{self, assignment::Task as Wire};
use matrixai_state::{Assignment, Task, owed::TrainingContext};

/// An assignment as a worker gets it, sent at ledger time `now_ms`.
pub fn wire(Assignment { key, deadline_ms, task }: Assignment, now_ms: u64) -> v1::Assignment {
    v1::Assignment { key, deadline_ms, now_ms, task: Some(wire_task(task)) }
}

fn wire_task(task: Task) -> Wire {
    match task {
        Task::Drill { unit, attempt, workload, seed } => Wire::Drill(v1::DrillTask {
            unit: unit.0.to_vec(),
            attempt,
            kernel: workload.kernel().as_str().to_owned(),
            params: workload.params().to_vec(),
            seed: seed.to_vec(),
        }),
        Task::Reveal { unit } => Wire::Reveal(v1::RevealTask { unit: unit.0.to_vec() }),
        Task::Train { context, round, attempt, virtual_workers, weights } => Wire::Train(v1::TrainTask {
            context: Some(wire_context(context)),
            round,
            attempt,
            virtual_workers,
            weights: weights.to_vec(),
        }),
        Task::Reduce { context, round, before, deltas } => {
            let (weights, momentum) = before.map(|(w, m)| (w.to_vec(), m.to_vec())).unwrap_or_default();
            let deltas = deltas.into_iter().map(|delta| delta.to_vec()).collect();
            Wire::Reduce(v1::ReduceTask { context: Some(wire_context(context)), round, weights, momentum, deltas })
        }
        Task::Replay { context, segment, round, virtual_worker, attempt, weights, first, last } => {
            Wire::Replay(v1::ReplayTask {
                context: Some(wire_context(context)),
                segment,
                round,
                virtual_worker,
                attempt,
                weights: weights.to_vec(),
                first: first.to_vec(),
                last: last.to_vec(),
            })
        }
        Task::Open { job, segment, round, virtual_worker } => {
            Wire::Open(v1::OpenTask { job: job.0.to_vec(), segment, round, virtual_worker })
        }
        Task::Begin { agreement } => Wire::Begin(v1::BeginTask { agreement: agreement.0.to_vec() }),
    }
}

fn wire_context(TrainingContext { job, spec, beacon }: TrainingContext) -> v1::TrainingContext {
    v1::TrainingContext { job: job.0.to_vec(), spec: Some(convert::spec(&spec)), beacon: beacon.to_vec() }
}
