//! The model after a round, made by every member for itself: all deltas in order of their virtual workers, or for round 0
//! the first weights. Both artifacts of the new state are stored before the round is reported.

use super::{ALL_E6, Failure, Job, hash, train::go_on, weights_bytes};
use crate::agent::Reduce;
use futures::{StreamExt as _, TryStreamExt as _};
use matrixai_proto::v1::{self, command::Kind};
use matrixai_protocol::Hash;
use matrixai_training::{
    Context,
    dataset::Dataset,
    model::correct,
    reduce::{Reducer, initial},
    weights::Weights,
};
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::mpsc;

/// Deltas that are fetched at a time, and that wait to be added.
const FETCHES_MAX: usize = 4;

/// What came out.
struct Made {
    weights: Vec<u8>,
    momentum: Vec<u8>,
    watch_correct: u32,
    watch_total: u32,
}

pub(super) async fn run(job: &Job, reduce: &Reduce) -> Result<(), Failure> {
    let data = job.dataset(&reduce.context).await?;
    let (made, cpu_us) = match reduce.before {
        None => first(job, reduce, data).await?,
        Some(before) => {
            let weights = job.fetch_weights(&reduce.context, &before.weights).await?;
            let momentum = job.fetch_weights(&reduce.context, &before.momentum).await?;
            step(job, reduce, data, weights, momentum).await?
        }
    };
    let ((weights, weights_bytes), (momentum, momentum_bytes)) = tokio::join!(hash(made.weights), hash(made.momentum));
    tokio::try_join!(job.store(&weights, weights_bytes), job.store(&momentum, momentum_bytes))?;
    let reduced = v1::RoundReduced {
        job: reduce.context.job.to_vec(),
        round: reduce.round,
        weights: weights.to_vec(),
        momentum: momentum.to_vec(),
        watch_correct: made.watch_correct,
        watch_total: made.watch_total,
        cpu_us,
    };
    job.report(0, Kind::RoundReduced(reduced), None, ALL_E6).await
}

async fn first(job: &Job, reduce: &Reduce, data: Arc<Dataset>) -> Result<(Made, u64), Failure> {
    let context = Arc::clone(&reduce.context);
    job.compute(move |pacer| {
        let (weights, momentum) = initial(&context);
        finish(&context, &data, &weights, &momentum, &mut || go_on(pacer))
    })
    .await
}

/// Adds the deltas on the computing thread as they come, so that only a few are in memory.
async fn step(
    job: &Job,
    reduce: &Reduce,
    data: Arc<Dataset>,
    weights: Weights,
    momentum: Weights,
) -> Result<(Made, u64), Failure> {
    let (sender, mut deltas) = mpsc::channel::<Arc<[u8]>>(FETCHES_MAX);
    let context = Arc::clone(&reduce.context);
    let adding = job.compute(move |pacer| {
        let mut reducer = Reducer::new(&context.spec);
        while let Some(bytes) = deltas.blocking_recv() {
            let delta = match Weights::from_bytes(&context.spec, &bytes) {
                Ok(delta) => delta,
                Err(error) => return Some(Err(error.to_string())),
            };
            if let Err(error) = reducer.add(&delta) {
                return Some(Err(error.to_string()));
            }
            if !pacer.go_on() {
                return None;
            }
        }
        match reducer.finish(&weights, &momentum) {
            Ok((weights, momentum)) => finish(&context, &data, &weights, &momentum, &mut || go_on(pacer)).map(Ok),
            Err(error) => Some(Err(error.to_string())),
        }
    });
    let (fed, added) = tokio::join!(feed(job, reduce, sender), adding);
    // What was not fetched cannot have been added: its error is the reason, if there is one.
    fed?;
    let (made, cpu_us) = added?;
    Ok((made.map_err(Failure::BadData)?, cpu_us))
}

/// Fetches deltas a few at a time and hands them over in order.
async fn feed(job: &Job, reduce: &Reduce, sender: mpsc::Sender<Arc<[u8]>>) -> Result<(), Failure> {
    let limit = weights_bytes(&reduce.context);
    // Two virtual workers may have the same delta; one artifact is fetched by one task only.
    let mut first_of: BTreeMap<&Hash, usize> = BTreeMap::new();
    for (v, delta) in reduce.deltas.iter().enumerate() {
        first_of.entry(delta).or_insert(v);
    }
    let mut distinct: Vec<usize> = first_of.values().copied().collect();
    distinct.sort_unstable();
    let fetched = futures::stream::iter(distinct)
        .map(|v| async move { job.fetch(&reduce.deltas[v], limit).await.map(|bytes| (v, bytes)) })
        .buffered(FETCHES_MAX);
    let mut fetched = std::pin::pin!(fetched);
    for (v, delta) in reduce.deltas.iter().enumerate() {
        let bytes = if first_of[delta] == v {
            match fetched.try_next().await? {
                Some((_, bytes)) => bytes,
                None => return Err(Failure::Internal("a delta is missing from the list of deltas".to_owned())),
            }
        } else {
            job.fetch(delta, limit).await?
        };
        if sender.send(bytes).await.is_err() {
            // The adding has ended: it knows why.
            return Ok(());
        }
    }
    Ok(())
}

fn finish(
    context: &Context,
    data: &Dataset,
    weights: &Weights,
    momentum: &Weights,
    pace: &mut dyn FnMut() -> Result<(), matrixai_training::pace::Stopped>,
) -> Option<Made> {
    let watch_correct = correct(&context.spec, weights, &data.watch, pace).ok()?;
    Some(Made {
        weights: weights.to_bytes(),
        momentum: momentum.to_bytes(),
        watch_correct,
        watch_total: u32::try_from(data.watch.len()).unwrap_or(u32::MAX),
    })
}
