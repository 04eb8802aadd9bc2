//! The pass back against finite differences of an independent model in f64.
#![allow(clippy::unwrap_used)]

use matrixai_protocol::philox::Draw;

use super::*;
use crate::pace::unpaced;
use crate::{Context, init};

fn context() -> Context {
    let spec = TrainingSpec {
        dataset: [0; 32],
        dataset_bytes: 1,
        features: 5,
        classes: 3,
        feature_scale: 1,
        validate_every: 2,
        hidden: vec![9, 6],
        learning_rate_e6: 1,
        momentum_e6: 0,
        weight_decay_e6: 0,
        clip_norm_e6: 0,
        batch: 7,
        virtual_workers: 1,
        rounds: 1,
        steps_per_round: 1,
        outer_rate_e6: 1,
        outer_momentum_e6: 0,
        target_e6: 0,
        seed: 0,
        spot_checks: 0,
    };
    Context { spec, job: [1; 20], beacon: [2; 32] }
}

/// Mean cross-entropy in f64, straight from the declared order.
fn loss(spec: &TrainingSpec, numbers: &[f64], rows: &[f32], labels: &[usize]) -> f64 {
    let mut total = 0.0;
    for (row, &label) in rows.chunks(spec.features as usize).zip(labels) {
        let mut x: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
        let mut rest = numbers;
        let dims = spec.layer_dims();
        for (l, &(inputs, outputs)) in dims.iter().enumerate() {
            let (weight, after) = rest.split_at((inputs * outputs) as usize);
            let (bias, after) = after.split_at(outputs as usize);
            rest = after;
            let sum = |w: &[f64], b: f64| b + w.iter().zip(&x).map(|(w, x)| w * x).sum::<f64>();
            x = weight.chunks(inputs as usize).zip(bias).map(|(w, &b)| sum(w, b)).collect();
            if l + 1 < dims.len() {
                x.iter_mut().for_each(|z| *z = z.max(0.0));
            }
        }
        let sum: f64 = x.iter().map(|z| z.exp()).sum();
        total += sum.ln() - x[label];
    }
    total / labels.len() as f64
}

#[test]
fn gradients_agree_with_finite_differences() {
    /// Central differences err by about STEP²; f64 rounding by 1e-16 / STEP.
    const STEP: f64 = 1e-5;
    let ctx = context();
    let spec = &ctx.spec;
    let mut draw = Draw::new(&[4; 32], 0);
    // Biases of zero would leave theirs untested.
    let theta: Vec<f32> = init::weights(&ctx).as_slice().iter().map(|w| w + draw.below(99) as f32 * 1e-3).collect();
    let rows: Vec<f32> = (0..7 * 5).map(|_| draw.below(1001) as f32 / 500.0 - 1.0).collect();
    let labels: Vec<usize> = (0..7).map(|_| draw.below(3) as usize).collect();

    let net = Net::from_weights(spec, &Weights::new(theta.clone()));
    let mut gradients = Net::zeros(spec);
    let (mut space, mut free) = (Workspace::default(), unpaced);
    let mut meter = Meter::new(&mut free);
    net.forward(&rows, &mut space, &mut meter).unwrap();
    net.backward(&rows, &labels, &mut space, &mut gradients, &mut meter).unwrap();

    let mut numbers: Vec<f64> = theta.iter().map(|&w| f64::from(w)).collect();
    let mut largest = 0.0f64;
    for (i, &got) in gradients.to_weights().as_slice().iter().enumerate() {
        let at = numbers[i];
        numbers[i] = at + STEP;
        let above = loss(spec, &numbers, &rows, &labels);
        numbers[i] = at - STEP;
        let below = loss(spec, &numbers, &rows, &labels);
        numbers[i] = at;
        let want = (above - below) / (2.0 * STEP);
        largest = largest.max(want.abs());
        assert!((f64::from(got) - want).abs() < 2e-6, "number {i}: {got}, not {want}");
    }
    assert!(largest > 0.05, "the check saw real slopes: {largest}");
    let squares: f64 = gradients.to_weights().as_slice().iter().map(|&g| f64::from(g).powi(2)).sum();
    let got = f64::from(gradients.square_sum(&mut Vec::new()));
    assert!((got - squares).abs() < 1e-6 * squares, "{got}, not {squares}");
}

#[test]
fn working_form_and_declared_order_are_each_others_inverse() {
    let ctx = context();
    let weights = init::weights(&ctx);
    let net = Net::from_weights(&ctx.spec, &weights);
    assert_eq!(net.to_weights(), weights);
    // weight[out = 2][in = 4] of the first layer.
    assert_eq!(net.layers[0].weights[4 * 9 + 2].to_bits(), weights.as_slice()[2 * 5 + 4].to_bits());
}
