//! One virtual worker's round: the unit that is leased, paid and replayed.
//!
//! It starts from the round's checkpoint with its inner momentum at zero, takes its fixed steps over its own rows in an
//! order drawn for this round, and yields the delta it wants the checkpoint moved by. On the way it records a trace,
//! whose root is sealed by whoever computed it: a verifier that posts the same root has walked the same path.

use matrixai_protocol::Hash;
use matrixai_protocol::spec::TrainingSpec;
use matrixai_protocol::training::{merkle_root, trace_leaf};

use crate::Context;
use crate::dataset::Dataset;
use crate::math::millionths;
use crate::model::{Net, Workspace};
use crate::pace::{Meter, Pace, Stopped};
use crate::weights::Weights;

/// Steps between two leaves of the trace. Hashing weights and momentum (8 bytes a parameter) at every step would cost
/// as much as the step itself where a processor has no SHA instructions; a dispute redoes at most this many steps.
pub const TRACE_STRIDE: u32 = 16;

/// What the pace is told of work other than products, in operations a parameter that take about as long.
const OPS_OF_UPDATE: u64 = 20;
const OPS_OF_HASHES: u64 = 200;

/// What a segment yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// theta - theta_v, encoded as [`Weights`]: the artifact to upload.
    pub delta: Vec<u8>,
    /// Its SHA-256.
    pub delta_hash: Hash,
    /// Root over the trace leaves: after step 0 (the start), every [`TRACE_STRIDE`] steps, and the last step.
    pub trace_root: Hash,
}

/// Trains virtual worker `v` through round `round` (both from 0), starting at checkpoint `theta`. A run that diverges
/// still yields its delta, the same on every machine; `reduce` names it.
///
/// # Errors
/// The pace function refused.
///
/// # Panics
/// `theta` is not of the spec's length, or `v` not below the spec's virtual workers.
pub fn run_segment(
    ctx: &Context,
    data: &Dataset,
    theta: &Weights,
    round: u32,
    v: u32,
    pace: &mut Pace<'_>,
) -> Result<Segment, Stopped> {
    let spec = &ctx.spec;
    let mut meter = Meter::new(pace);
    let mut order = RowOrder::new(ctx, data, round, v);
    let mut sgd = Sgd::new(spec, theta);
    let (mut features, mut labels) = (Vec::new(), Vec::new());
    let mut trace = vec![sgd.trace_leaf(0, &mut meter)?];
    for step in 1..=spec.steps_per_round {
        features.clear();
        labels.clear();
        for _ in 0..spec.batch {
            let row = order.next();
            features.extend_from_slice(data.train.row(row));
            labels.push(data.train.label(row));
        }
        sgd.step(&features, &labels, &mut meter)?;
        if step.is_multiple_of(TRACE_STRIDE) || step == spec.steps_per_round {
            trace.push(sgd.trace_leaf(step, &mut meter)?);
        }
    }
    let moved = sgd.net.to_weights();
    let delta = theta.as_slice().iter().zip(moved.as_slice()).map(|(from, to)| from - to).collect();
    let delta = Weights::new(delta).to_bytes();
    let delta_hash = matrixai_protocol::sha256(&[&delta]);
    Ok(Segment { delta, delta_hash, trace_root: merkle_root(&trace) })
}

/// Training rows of a virtual worker: of the job's permutation, the entries at places i with i mod V = v.
fn shard(ctx: &Context, rows: usize, v: u32) -> Vec<u32> {
    let mut permutation: Vec<u32> = (0..rows as u32).collect();
    ctx.shard_draw().shuffle(&mut permutation);
    permutation.into_iter().skip(v as usize).step_by(ctx.spec.virtual_workers as usize).collect()
}

/// Endless order of a shard's rows: shuffled anew whenever all have been taken; a batch may straddle two passes.
struct RowOrder {
    rows: Vec<u32>,
    draw: matrixai_protocol::philox::Draw,
    taken: usize,
}

impl RowOrder {
    fn new(ctx: &Context, data: &Dataset, round: u32, v: u32) -> Self {
        assert!(v < ctx.spec.virtual_workers, "a virtual worker of the spec");
        let rows = shard(ctx, data.train.len(), v);
        let taken = rows.len();
        Self { rows, draw: ctx.order_draw(v, round), taken }
    }

    fn next(&mut self) -> usize {
        if self.taken == self.rows.len() {
            self.draw.shuffle(&mut self.rows);
            self.taken = 0;
        }
        self.taken += 1;
        self.rows[self.taken - 1] as usize
    }
}

/// Stochastic gradient descent: clip the gradient's norm, add weight decay, m = μm + g, w = w - ηm, each a single DT32
/// operation per element in this order.
struct Sgd {
    net: Net,
    momentum: Net,
    gradients: Net,
    space: Workspace,
    sums: Vec<f32>,
    parameters: u64,
    rate: f32,
    mu: f32,
    decay: f32,
    clip: f32,
}

impl Sgd {
    fn new(spec: &TrainingSpec, theta: &Weights) -> Self {
        Self {
            net: Net::from_weights(spec, theta),
            momentum: Net::zeros(spec),
            gradients: Net::zeros(spec),
            space: Workspace::default(),
            sums: Vec::new(),
            parameters: spec.parameters(),
            rate: millionths(spec.learning_rate_e6),
            mu: millionths(spec.momentum_e6),
            decay: millionths(spec.weight_decay_e6),
            clip: millionths(spec.clip_norm_e6),
        }
    }

    fn step(&mut self, features: &[f32], labels: &[usize], meter: &mut Meter<'_>) -> Result<(), Stopped> {
        self.net.forward(features, &mut self.space, meter)?;
        self.net.backward(features, labels, &mut self.space, &mut self.gradients, meter)?;
        let scale = self.clip_scale();
        let (rate, mu, decay) = (self.rate, self.mu, self.decay);
        self.net.update_with(&mut self.momentum, &self.gradients, |weights, momentum, gradients| {
            for ((w, m), &g) in weights.iter_mut().zip(momentum).zip(gradients) {
                // A factor of 1 and a term of 0 change no value, so clipping and decay that are
                // switched off need no branch.
                let g = g * scale + decay * *w;
                *m = mu * *m + g;
                *w -= rate * *m;
            }
        });
        meter.spend(OPS_OF_UPDATE * self.parameters)
    }

    /// What brings a longer gradient down to the clip norm; 1 otherwise, and where there is no clipping.
    fn clip_scale(&mut self) -> f32 {
        if self.clip == 0.0 {
            return 1.0;
        }
        let norm = self.gradients.square_sum(&mut self.sums).sqrt();
        if norm > self.clip { self.clip / norm } else { 1.0 }
    }

    fn trace_leaf(&self, step: u32, meter: &mut Meter<'_>) -> Result<Hash, Stopped> {
        let leaf = trace_leaf(u64::from(step), &self.net.to_weights().hash(), &self.momentum.to_weights().hash());
        meter.spend(OPS_OF_HASHES * self.parameters)?;
        Ok(leaf)
    }
}
