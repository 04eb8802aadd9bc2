//! A verifier's replay: one segment computed again from its inputs by hash, and the first and the last model evaluated on
//! the validation rows. What the prover claims is not an input, so it cannot be copied.

use super::{ALL_E6, Failure, Job, train::go_on};
use crate::agent::Replay;
use matrixai_proto::v1::{self, command::Kind};
use matrixai_training::{model::correct, segment::run_segment, weights::Weights};
use std::sync::Arc;

pub(super) async fn run(job: &Job, replay: &Replay) -> Result<(), Failure> {
    let data = job.dataset(&replay.context).await?;
    let theta = job.fetch_weights(&replay.context, &replay.weights).await?;
    let (context, rows, round, v) =
        (Arc::clone(&replay.context), Arc::clone(&data), replay.round, replay.virtual_worker);
    let (segment, segment_us) =
        job.compute(move |pacer| run_segment(&context, &rows, &theta, round, v, &mut || go_on(pacer)).ok()).await?;
    let first = job.fetch_weights(&replay.context, &replay.first).await?;
    let last = job.fetch_weights(&replay.context, &replay.last).await?;
    let total = data.validation.len();
    let (context, rows) = (Arc::clone(&replay.context), data);
    let ((first_correct, last_correct), evaluation_us) = job
        .compute(move |pacer| {
            let mut count =
                |model: &Weights| correct(&context.spec, model, &rows.validation, &mut || go_on(pacer)).ok();
            Some((count(&first)?, count(&last)?))
        })
        .await?;
    let replayed = v1::SegmentReplayed {
        job: replay.context.job.to_vec(),
        segment: replay.segment,
        attempt: replay.attempt,
        trace_root: segment.trace_root.to_vec(),
        delta: segment.delta_hash.to_vec(),
        first_correct,
        last_correct,
        validation_total: u32::try_from(total).unwrap_or(u32::MAX),
        cpu_us: segment_us.saturating_add(evaluation_us),
    };
    job.report(0, Kind::SegmentReplayed(replayed), None, ALL_E6).await
}
