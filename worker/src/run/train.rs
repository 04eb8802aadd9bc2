//! A lease of a training's round: one virtual worker after the other. While the next is computed, the last ones' deltas
//! are on their way; a virtual worker is reported once its delta is stored and its sealed trace journalled.

use super::{ALL_E6, Failure, Job, salt};
use crate::agent::{Task, Train};
use crate::journal::{Secret, Subject};
use crate::pace::Pacer;
use matrixai_proto::v1::{self, command::Kind};
use matrixai_protocol::training::seal;
use matrixai_training::{
    pace::Stopped,
    segment::{Segment, run_segment},
};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};
use tokio::task::{JoinError, JoinSet};

pub(super) async fn run(job: &Job, train: &Train) -> Result<(), Failure> {
    let data = job.dataset(&train.context).await?;
    let theta = Arc::new(job.fetch_weights(&train.context, &train.weights).await?);
    let reported = Arc::new(AtomicU32::new(0));
    // Dropped with this future: a cancelled lease uploads nothing more.
    let mut uploads = JoinSet::new();
    for &v in &train.virtual_workers {
        while uploads.len() >= job.env.uploads_max {
            joined(uploads.join_next().await)?;
        }
        let (context, data, theta, round) =
            (Arc::clone(&train.context), Arc::clone(&data), Arc::clone(&theta), train.round);
        let (segment, cpu_us) =
            job.compute(move |pacer| run_segment(&context, &data, &theta, round, v, &mut || go_on(pacer)).ok()).await?;
        let (job, train, reported) = (job.clone(), train.clone(), Arc::clone(&reported));
        uploads.spawn(async move { upload(&job, &train, v, segment, cpu_us, &reported).await });
    }
    while let Some(ended) = uploads.join_next().await {
        joined(Some(ended))?;
    }
    Ok(())
}

async fn upload(
    job: &Job,
    train: &Train,
    v: u32,
    segment: Segment,
    cpu_us: u64,
    reported: &AtomicU32,
) -> Result<(), Failure> {
    let Segment { delta, delta_hash, trace_root } = segment;
    job.store(&delta_hash, delta).await?;
    let subject = Subject::Segment { job: train.context.job, round: train.round, virtual_worker: v };
    // The trace of a segment is always the same, so an earlier salt makes the same seal: whichever of two leases is
    // counted, this machine can open it.
    let salt = match job.secret(subject).await? {
        Some(earlier) if earlier.value == trace_root => earlier.salt,
        _ => salt()?,
    };
    let sealed = seal(&train.context.job, train.round, v, &job.env.machine_key, &trace_root, &salt);
    let done = v1::TaskDone {
        job: train.context.job.to_vec(),
        round: train.round,
        virtual_worker: v,
        attempt: train.attempt,
        delta: delta_hash.to_vec(),
        sealed_trace: sealed.to_vec(),
        cpu_us,
    };
    let secret = Secret { value: trace_root, salt };
    let count = u64::from(reported.fetch_add(1, Ordering::Relaxed)) + 1;
    let done_e6 = count * u64::from(ALL_E6) / (train.virtual_workers.len() as u64).max(1);
    let done_e6 = u32::try_from(done_e6).unwrap_or(ALL_E6);
    job.report(v, Kind::TaskDone(done), Some((subject, secret)), done_e6).await
}

/// A pacer's word in the form that trainings want it.
pub(super) fn go_on(pacer: &mut Pacer<'_>) -> Result<(), Stopped> {
    if pacer.go_on() { Ok(()) } else { Err(Stopped) }
}

fn joined(ended: Option<Result<Result<(), Failure>, JoinError>>) -> Result<(), Failure> {
    match ended {
        None => Ok(()),
        Some(Ok(result)) => result,
        Some(Err(error)) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Failure::Stopped),
        },
    }
}

/// The command that opens a seal.
pub(super) fn open(task: &Task, secret: Secret) -> Option<Kind> {
    let Task::Open(open) = task else { return None };
    Some(Kind::TraceOpened(v1::TraceOpened {
        job: open.job.to_vec(),
        segment: open.segment,
        trace_root: secret.value.to_vec(),
        salt: secret.salt.to_vec(),
    }))
}
