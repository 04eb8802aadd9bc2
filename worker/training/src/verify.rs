//! A whole proof again: the chain of leaves from what the log says of each round, and the training itself from nothing
//! but the order and the data. The command line audits with it, and tests hold the cluster's results against it.

use matrixai_protocol::Hash;
use matrixai_protocol::spec::TrainingSpec;
use matrixai_protocol::training::{leaf, merkle_root, optstate_hash};
use thiserror::Error;

use crate::Context;
use crate::dataset::Dataset;
use crate::model::correct;
use crate::pace::{Pace, Stopped};
use crate::reduce::{ReduceError, Reducer, initial};
use crate::segment::run_segment;
use crate::weights::Weights;

/// What one leaf binds. Checkpoint 0 has no deltas; later ones have one for each virtual worker, in order, with the key
/// of the machine that computed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub weights: Hash,
    pub momentum: Hash,
    pub deltas: Vec<Hash>,
    pub machine_keys: Vec<[u8; 32]>,
}

/// Leaves of a proof, and the root that is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub leaves: Vec<Hash>,
    pub root: Hash,
}

/// The chain over checkpoints 0 to R.
#[must_use]
pub fn chain(spec: &TrainingSpec, checkpoints: &[Checkpoint]) -> Chain {
    let mut leaves: Vec<Hash> = Vec::with_capacity(checkpoints.len());
    for (i, checkpoint) in (0u64..).zip(checkpoints) {
        let prev = leaves.last().copied().unwrap_or([0; 32]);
        let opt = optstate_hash(&checkpoint.momentum, &checkpoint.deltas, &checkpoint.machine_keys);
        leaves.push(leaf(i, i * u64::from(spec.steps_per_round), &checkpoint.weights, &opt, &prev));
    }
    let root = merkle_root(&leaves);
    Chain { leaves, root }
}

/// Why a training could not be recomputed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecomputeError {
    #[error(transparent)]
    Stopped(#[from] Stopped),
    #[error("round {round}: {error}")]
    Diverged { round: u32, error: ReduceError },
}

/// A recomputed training.
#[derive(Clone, Debug, PartialEq)]
pub struct Training {
    pub checkpoints: Vec<Checkpoint>,
    pub chain: Chain,
    pub weights: Weights,
    /// Right answers on the validation rows, with the first and the last weights.
    pub correct_first: u32,
    pub correct_last: u32,
}

/// Trains from start to end. `key_of(round, v)` names the machine that the log says computed a segment: the keys are
/// bound into the leaves, and have no influence on the weights.
///
/// # Errors
/// The pace function refused, or a round's deltas make no checkpoint.
pub fn recompute(
    ctx: &Context,
    data: &Dataset,
    key_of: &dyn Fn(u32, u32) -> [u8; 32],
    pace: &mut Pace<'_>,
) -> Result<Training, RecomputeError> {
    let spec = &ctx.spec;
    let (mut theta, mut momentum) = initial(ctx);
    let correct_first = correct(spec, &theta, &data.validation, pace)?;
    let start = Checkpoint { weights: theta.hash(), momentum: momentum.hash(), deltas: vec![], machine_keys: vec![] };
    let mut checkpoints = vec![start];
    for round in 0..spec.rounds {
        let diverged = |error| RecomputeError::Diverged { round, error };
        let mut reducer = Reducer::new(spec);
        let (mut deltas, mut machine_keys) = (Vec::new(), Vec::new());
        for v in 0..spec.virtual_workers {
            let segment = run_segment(ctx, data, &theta, round, v, pace)?;
            let delta = Weights::from_bytes(spec, &segment.delta).expect("a segment's delta fits its spec");
            reducer.add(&delta).map_err(diverged)?;
            deltas.push(segment.delta_hash);
            machine_keys.push(key_of(round, v));
        }
        (theta, momentum) = reducer.finish(&theta, &momentum).map_err(diverged)?;
        checkpoints.push(Checkpoint { weights: theta.hash(), momentum: momentum.hash(), deltas, machine_keys });
    }
    let correct_last = correct(spec, &theta, &data.validation, pace)?;
    let chain = chain(spec, &checkpoints);
    Ok(Training { checkpoints, chain, weights: theta, correct_first, correct_last })
}
