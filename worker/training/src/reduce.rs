//! From all deltas of a round to the next checkpoint: the outer Nesterov step of PROTOCOLS §5.2.
//!
//! Every member does this for itself with all V deltas in order, and reports the hash; so it must be cheap, and its
//! bits must not depend on who computed which delta.

use matrixai_protocol::spec::TrainingSpec;
use thiserror::Error;

use crate::math::millionths;
use crate::weights::Weights;
use crate::{Context, init};

/// Deltas that make no checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReduceError {
    #[error("{found} deltas for {expected} virtual workers")]
    Count { found: u32, expected: u32 },
    #[error("the delta of virtual worker {v} has {found} numbers, the model {expected}")]
    Length { v: u32, found: u64, expected: u64 },
    #[error("the delta of virtual worker {v} holds NaN or infinity")]
    NotFinite { v: u32 },
    #[error("the checkpoint itself overflowed")]
    Overflow,
}

/// Checkpoint 0: the first weights, and an outer momentum of zeros.
#[must_use]
pub fn initial(ctx: &Context) -> (Weights, Weights) {
    (init::weights(ctx), Weights::zeros(&ctx.spec))
}

/// Sums deltas one at a time, in order of their virtual workers, so that they need not all be in memory.
#[derive(Debug)]
pub struct Reducer<'a> {
    spec: &'a TrainingSpec,
    sum: Vec<f32>,
    added: u32,
}

impl<'a> Reducer<'a> {
    #[must_use]
    pub fn new(spec: &'a TrainingSpec) -> Self {
        Self { spec, sum: vec![0.0; spec.parameters() as usize], added: 0 }
    }

    /// Adds the delta of the next virtual worker.
    ///
    /// # Errors
    /// One too many, of the wrong length, or not finite.
    pub fn add(&mut self, delta: &Weights) -> Result<(), ReduceError> {
        let v = self.added;
        if v == self.spec.virtual_workers {
            return Err(ReduceError::Count { found: v + 1, expected: v });
        }
        if delta.len() != self.sum.len() {
            let (found, expected) = (delta.len() as u64, self.sum.len() as u64);
            return Err(ReduceError::Length { v, found, expected });
        }
        if !delta.is_finite() {
            return Err(ReduceError::NotFinite { v });
        }
        for (sum, &d) in self.sum.iter_mut().zip(delta.as_slice()) {
            *sum += d;
        }
        self.added += 1;
        Ok(())
    }

    /// The next checkpoint and outer momentum. All virtual workers take equally many steps of one batch size, so their
    /// weights n_v are equal and the mean is the sum over V.
    ///
    /// # Errors
    /// Deltas are missing, or the result is not finite.
    ///
    /// # Panics
    /// `theta` or `momentum` is not of the spec's length.
    pub fn finish(self, theta: &Weights, momentum: &Weights) -> Result<(Weights, Weights), ReduceError> {
        let spec = self.spec;
        if self.added != spec.virtual_workers {
            return Err(ReduceError::Count { found: self.added, expected: spec.virtual_workers });
        }
        assert!(theta.len() == self.sum.len() && momentum.len() == self.sum.len(), "states fit the spec");
        let (rate, mu) = (millionths(spec.outer_rate_e6), millionths(spec.outer_momentum_e6));
        let count = spec.virtual_workers as f32;
        let mut theta = theta.as_slice().to_vec();
        let mut momentum = momentum.as_slice().to_vec();
        for ((w, v), sum) in theta.iter_mut().zip(&mut momentum).zip(self.sum) {
            let mean = sum / count;
            *v = mu * *v + mean;
            *w -= rate * (mean + mu * *v);
        }
        let (theta, momentum) = (Weights::new(theta), Weights::new(momentum));
        if theta.is_finite() && momentum.is_finite() { Ok((theta, momentum)) } else { Err(ReduceError::Overflow) }
    }
}

/// Checkpoint and outer momentum after a round, from those before it and all deltas in order of their virtual workers.
///
/// # Errors
/// As [`Reducer::add`] and [`Reducer::finish`].
///
/// # Panics
/// `theta` or `momentum` is not of the spec's length.
pub fn reduce(
    spec: &TrainingSpec,
    theta: &Weights,
    momentum: &Weights,
    deltas: &[Weights],
) -> Result<(Weights, Weights), ReduceError> {
    let mut reducer = Reducer::new(spec);
    for delta in deltas {
        reducer.add(delta)?;
    }
    reducer.finish(theta, momentum)
}
