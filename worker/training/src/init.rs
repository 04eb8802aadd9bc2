//! First weights `gmm-he-v1`: a mixture of two normal distributions with He's variance (PROTOCOLS §2.1), drawn from the
//! job's sigma so that nobody can choose or reuse them.

use matrixai_protocol::philox::Draw;

use crate::Context;
use crate::math::detlog;
use crate::weights::Weights;

/// C_0: per layer w ~ ½N(+μ, s²) + ½N(-μ, s²) with s = √(2 / (5 · inputs)) and μ = 2s, so E w² = 2 / inputs; biases +0.
/// One 32-bit word makes one weight, in declared order.
#[must_use]
pub fn weights(ctx: &Context) -> Weights {
    let mut numbers = Vec::with_capacity(ctx.spec.parameters() as usize);
    for (layer, (inputs, outputs)) in ctx.spec.layer_dims().into_iter().enumerate() {
        let mut draw = ctx.init_draw(layer);
        let s = (2.0 / (5.0 * inputs as f32)).sqrt();
        numbers.extend((0..inputs * outputs).map(|_| mixture(&mut draw, s)));
        numbers.extend((0..outputs).map(|_| 0.0));
    }
    Weights::new(numbers)
}

fn mixture(draw: &mut Draw, s: f32) -> f32 {
    let word = draw.next_u32();
    // The lowest bit chooses the component, the other 31 the place in it.
    let mu = if word & 1 == 0 { 2.0 * s } else { -(2.0 * s) };
    mu + s * normal(word >> 1)
}

/// Standard normal quantile at (2n + 1) / 2^32 for a 31-bit `n`: Wichura's PPND7 (Algorithm AS 241, 1988), seven
/// digits. The two ends reach ±6.2, where √-ln p is 4.7, so the algorithm's far branch (above 5) is never needed.
#[allow(clippy::excessive_precision)] // the constants as published
fn normal(n: u32) -> f32 {
    const UNIT: f32 = 1.0 / 4_294_967_296.0;
    let odd = i64::from(n) * 2 + 1;
    let q = (odd - (1 << 31)) as f32 * UNIT;
    if q.abs() <= 0.425 {
        let r = 0.180_625 - q * q;
        let mut above = 59.109_374_720_f32;
        above = above * r + 159.291_132_02;
        above = above * r + 50.434_271_938;
        above = above * r + 3.387_132_717_9;
        let mut below = 67.187_563_600_f32;
        below = below * r + 78.757_757_664;
        below = below * r + 17.895_169_469;
        below = below * r + 1.0;
        return q * above / below;
    }
    // The distance to the nearer end, taken in integers: 1 - p in f32 would lose the tail.
    let tail = odd.min((1 << 32) - odd) as f32 * UNIT;
    let r = (-detlog(tail)).sqrt() - 1.6;
    let mut above = 0.170_238_211_03_f32;
    above = above * r + 1.306_728_481_6;
    above = above * r + 2.756_815_390_0;
    above = above * r + 1.423_437_277_7;
    let mut below = 0.120_211_329_75_f32;
    below = below * r + 0.737_001_642_50;
    below = below * r + 1.0;
    let z = above / below;
    if q < 0.0 { -z } else { z }
}

#[cfg(test)]
mod tests {
    use super::*;
    use matrixai_protocol::spec::TrainingSpec;

    /// Φ by its power series near the middle and a continued fraction in the tails, f64.
    fn phi(x: f64) -> f64 {
        let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        if x.abs() < 3.0 {
            let (mut term, mut sum) = (x, x);
            for k in 1..80 {
                term *= x * x / f64::from(2 * k + 1);
                sum += term;
            }
            return 0.5 + density * sum;
        }
        let tail = density / (1..60).rev().fold(x.abs(), |rest, k| x.abs() + f64::from(k) / rest);
        if x < 0.0 { tail } else { 1.0 - tail }
    }

    #[test]
    fn quantiles_are_the_normal_ones() {
        // Dense in the middle, then both ends down to the last value.
        let middle = (0..1 << 14).map(|i: u32| i << 17 | 0x1_2345);
        let ends = (0..3000).flat_map(|i| [i * i, (1 << 31) - 1 - i * i]);
        for n in middle.chain(ends) {
            let p = (f64::from(n) * 2.0 + 1.0) / 4_294_967_296.0;
            let z = f64::from(normal(n));
            // Compare the smaller tail, relatively: an error of 2e-7 |z| moves it by about |z| times as much.
            let (got, want) = if p < 0.5 { (phi(z), p) } else { (phi(-z), 1.0 - p) };
            assert!((got - want).abs() < (1e-6 + 3e-7 * z * z) * want, "quantile {z} of {p} has {got}");
        }
        assert!(normal(0) < -6.2 && normal((1 << 31) - 1) > 6.2);
    }

    fn context(features: u32, hidden: Vec<u32>, byte: u8) -> Context {
        let spec = TrainingSpec {
            dataset: [0; 32],
            dataset_bytes: 1,
            features,
            classes: 10,
            feature_scale: 16,
            validate_every: 5,
            hidden,
            learning_rate_e6: 1,
            momentum_e6: 0,
            weight_decay_e6: 0,
            clip_norm_e6: 0,
            batch: 1,
            virtual_workers: 1,
            rounds: 1,
            steps_per_round: 1,
            outer_rate_e6: 1,
            outer_momentum_e6: 0,
            target_e6: 0,
            seed: 0,
            spot_checks: 0,
        };
        Context { spec, job: [byte; 20], beacon: [0; 32] }
    }

    /// p-value of the Kolmogorov–Smirnov statistic `d` of `n` samples, by the asymptotic series.
    fn kolmogorov(d: f64, n: f64) -> f64 {
        let x = (n.sqrt() + 0.12 + 0.11 / n.sqrt()) * d;
        let term = |k: i32| f64::from(k % 2 * 2 - 1) * (-2.0 * f64::from(k * k) * x * x).exp();
        (2.0 * (1..50).map(term).sum::<f64>()).clamp(0.0, 1.0)
    }

    /// Condition V3 of PROTOCOLS §2.5 for one layer: distribution and second moment.
    fn check_layer(weights: &[f32], inputs: f64) {
        let s = (2.0 / (5.0 * inputs)).sqrt();
        let mixture = |x: f64| 0.5 * phi((x - 2.0 * s) / s) + 0.5 * phi((x + 2.0 * s) / s);
        let n = weights.len() as f64;
        let mut sorted: Vec<f64> = weights.iter().map(|&w| f64::from(w)).collect();
        sorted.sort_by(f64::total_cmp);
        let d = sorted.iter().zip(0u32..).fold(0.0f64, |d, (&w, i)| {
            let f = mixture(w);
            d.max(f - f64::from(i) / n).max(f64::from(i + 1) / n - f)
        });
        let p = kolmogorov(d, n);
        assert!(p >= 1e-4, "{n} weights of {inputs} inputs: D = {d}, p = {p}");
        let square = sorted.iter().map(|w| w * w).sum::<f64>() / n;
        let z = (square * inputs / 2.0 - 1.0) / ((43.0 / 25.0 - 1.0) / n).sqrt();
        assert!(z.abs() <= 4.0, "second moment of {n} weights: z = {z}");
    }

    #[test]
    fn layers_have_the_declared_distribution() {
        for byte in 0..8 {
            let ctx = context(64, vec![128, 64], byte);
            let weights = weights(&ctx);
            let numbers = weights.as_slice();
            check_layer(&numbers[..8192], 64.0);
            check_layer(&numbers[8320..8320 + 8192], 128.0);
            check_layer(&numbers[16_576..16_576 + 640], 64.0);
            for biases in [8192..8320, 16_512..16_576, 17_216..17_226] {
                assert!(numbers[biases].iter().all(|b| b.to_bits() == 0));
            }
        }
        // A million samples leave no room for a mere likeness.
        let big = weights(&context(1000, vec![1000], 9));
        check_layer(&big.as_slice()[..1_000_000], 1000.0);
    }

    #[test]
    fn first_weights_depend_on_job_beacon_and_seed() {
        let base = context(8, vec![8], 1);
        let mut others = vec![base.clone(); 3];
        others[0].job[0] ^= 1;
        others[1].beacon[31] ^= 1;
        others[2].spec.seed = 1;
        for other in others {
            assert_ne!(weights(&other), weights(&base));
        }
        assert_eq!(weights(&base), weights(&base.clone()));
        let layers = weights(&base);
        assert_ne!(layers.as_slice()[..8], layers.as_slice()[72..80], "layers draw from streams of their own");
    }
}
