//! What a buyer fixes before a training starts (§2.2): data, shape, every hyper-parameter, and how it is cut up. The
//! trainers choose nothing. Fractions are integers in millionths, so that no machine rounds them differently.

use serde::{Deserialize, Serialize};

use crate::Hash;
use crate::credit::KAPPA_DENSE_Q32;

/// One, in millionths.
pub const E6: u32 = 1_000_000;

pub const DATASET_BYTES_MAX: u64 = 256 << 20;
pub const FEATURES_MAX: u32 = 4096;
pub const CLASSES_MAX: u32 = 1000;
pub const FEATURE_SCALE_MAX: u32 = 1 << 24;
pub const HIDDEN_LAYERS_MAX: usize = 4;
pub const HIDDEN_WIDTH_MAX: u32 = 4096;
pub const BATCH_MAX: u32 = 1024;
pub const VIRTUAL_WORKERS_MAX: u32 = 256;
pub const ROUNDS_MAX: u32 = 1000;
pub const STEPS_PER_ROUND_MAX: u32 = 10_000;
pub const SPOT_CHECKS_MAX: u32 = 1024;
pub const VALIDATE_EVERY_MAX: u32 = 1000;
/// Largest learning or outer rate: ten.
pub const RATE_E6_MAX: u32 = 10 * E6;
/// Largest gradient norm that clipping may allow: a thousand.
pub const CLIP_NORM_E6_MAX: u32 = 1000 * E6;

/// A training of a multi-layer perceptron in DT32-v1 arithmetic, cut into virtual workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainingSpec {
    /// SHA-256 of the data set artifact.
    pub dataset: Hash,
    pub dataset_bytes: u64,
    /// Features per row, and number of classes.
    pub features: u32,
    pub classes: u32,
    /// Features are divided by this.
    pub feature_scale: u32,
    /// Every n-th row (n-1, 2n-1, …) validates.
    pub validate_every: u32,
    /// Widths of the hidden layers.
    pub hidden: Vec<u32>,
    /// Inner SGD, in millionths.
    pub learning_rate_e6: u32,
    pub momentum_e6: u32,
    pub weight_decay_e6: u32,
    /// Largest gradient norm in millionths; 0: no clipping.
    pub clip_norm_e6: u32,
    pub batch: u32,
    /// Virtual workers V.
    pub virtual_workers: u32,
    /// Rounds R.
    pub rounds: u32,
    /// Steps of one virtual worker in a round.
    pub steps_per_round: u32,
    /// Outer Nesterov step, in millionths.
    pub outer_rate_e6: u32,
    pub outer_momentum_e6: u32,
    /// Wanted share of right answers on the validation rows, in millionths.
    pub target_e6: u32,
    pub seed: u64,
    /// Segments drawn for replay besides the first and the last.
    pub spot_checks: u32,
}

/// A figure that is out of range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    #[error("{name} is {value}, must be {min} to {max}")]
    Range { name: &'static str, value: u64, min: u64, max: u64 },
    #[error("{layers} hidden layers, at most {HIDDEN_LAYERS_MAX}")]
    Layers { layers: usize },
}

impl TrainingSpec {
    /// Checks every figure against its limits. The other methods expect a spec that passed.
    ///
    /// # Errors
    /// Names the first figure out of range, its value and the range.
    pub fn validate(&self) -> Result<(), SpecError> {
        let below_one = u64::from(E6 - 1);
        check("dataset_bytes", self.dataset_bytes, 1, DATASET_BYTES_MAX)?;
        check("features", self.features, 1, FEATURES_MAX)?;
        check("classes", self.classes, 2, CLASSES_MAX)?;
        check("feature_scale", self.feature_scale, 1, FEATURE_SCALE_MAX)?;
        check("validate_every", self.validate_every, 2, VALIDATE_EVERY_MAX)?;
        if self.hidden.len() > HIDDEN_LAYERS_MAX {
            return Err(SpecError::Layers { layers: self.hidden.len() });
        }
        for &width in &self.hidden {
            check("hidden width", width, 1, HIDDEN_WIDTH_MAX)?;
        }
        check("learning_rate_e6", self.learning_rate_e6, 1, RATE_E6_MAX)?;
        check("momentum_e6", self.momentum_e6, 0, below_one)?;
        check("weight_decay_e6", self.weight_decay_e6, 0, E6)?;
        check("clip_norm_e6", self.clip_norm_e6, 0, CLIP_NORM_E6_MAX)?;
        check("batch", self.batch, 1, BATCH_MAX)?;
        check("virtual_workers", self.virtual_workers, 1, VIRTUAL_WORKERS_MAX)?;
        check("rounds", self.rounds, 1, ROUNDS_MAX)?;
        check("steps_per_round", self.steps_per_round, 1, STEPS_PER_ROUND_MAX)?;
        check("outer_rate_e6", self.outer_rate_e6, 1, RATE_E6_MAX)?;
        check("outer_momentum_e6", self.outer_momentum_e6, 0, below_one)?;
        check("target_e6", self.target_e6, 0, E6)?;
        check("spot_checks", self.spot_checks, 0, SPOT_CHECKS_MAX)
    }

    /// (inputs, outputs) of each layer, the last one giving a figure per class.
    #[must_use]
    pub fn layer_dims(&self) -> Vec<(u32, u32)> {
        let inputs = std::iter::once(self.features).chain(self.hidden.iter().copied());
        let outputs = self.hidden.iter().copied().chain(std::iter::once(self.classes));
        inputs.zip(outputs).collect()
    }

    /// Weights and biases of the model.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.layer_dims().iter().map(|&(inputs, outputs)| u64::from(outputs) * (u64::from(inputs) + 1)).sum()
    }

    /// Operations of one task, a virtual worker's round: 3 * sum of 2 * in * out, times batch and steps (§4.3).
    #[must_use]
    pub fn task_ops(&self) -> u64 {
        let weights: u64 =
            self.layer_dims().iter().map(|&(inputs, outputs)| u64::from(inputs) * u64::from(outputs)).sum();
        // At the limits 6.4e7 weights * 6 * 1024 * 10^4 < 2^52.
        6 * weights * u64::from(self.batch) * u64::from(self.steps_per_round)
    }

    /// What one verified task earns its machine, in micro-ut (§4.1, kappa 1/16).
    #[must_use]
    pub fn credit_micro_ut(&self) -> u128 {
        crate::credit::credit_micro_ut(self.task_ops(), KAPPA_DENSE_Q32)
    }

    /// V * R: what can be challenged.
    #[must_use]
    pub fn segments(&self) -> u64 {
        u64::from(self.virtual_workers) * u64::from(self.rounds)
    }
}

fn check(name: &'static str, value: impl Into<u64>, min: u64, max: impl Into<u64>) -> Result<(), SpecError> {
    let (value, max) = (value.into(), max.into());
    if (min..=max).contains(&value) { Ok(()) } else { Err(SpecError::Range { name, value, min, max }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits() -> TrainingSpec {
        TrainingSpec {
            dataset: [1; 32],
            dataset_bytes: 250_000,
            features: 64,
            classes: 10,
            feature_scale: 16,
            validate_every: 5,
            hidden: vec![128, 32],
            learning_rate_e6: 50_000,
            momentum_e6: 900_000,
            weight_decay_e6: 0,
            clip_norm_e6: E6,
            batch: 32,
            virtual_workers: 28,
            rounds: 10,
            steps_per_round: 60,
            outer_rate_e6: 700_000,
            outer_momentum_e6: 500_000,
            target_e6: 900_000,
            seed: 1,
            spot_checks: 8,
        }
    }

    #[test]
    fn sums_of_a_small_training() {
        let spec = digits();
        assert_eq!(spec.validate(), Ok(()));
        assert_eq!(spec.layer_dims(), [(64, 128), (128, 32), (32, 10)]);
        assert_eq!(spec.parameters(), 64 * 128 + 128 + 128 * 32 + 32 + 320 + 10);
        assert_eq!(spec.task_ops(), 6 * (64 * 128 + 128 * 32 + 320) * 32 * 60);
        assert_eq!(spec.credit_micro_ut(), u128::from(spec.task_ops()) / 16 / 432_000);
        assert_eq!(spec.segments(), 280);

        let linear = TrainingSpec { hidden: vec![], ..spec };
        assert_eq!(linear.layer_dims(), [(64, 10)]);
    }

    #[test]
    fn the_largest_spec_overflows_nothing() {
        let spec = TrainingSpec {
            features: FEATURES_MAX,
            classes: CLASSES_MAX,
            hidden: vec![HIDDEN_WIDTH_MAX; HIDDEN_LAYERS_MAX],
            batch: BATCH_MAX,
            steps_per_round: STEPS_PER_ROUND_MAX,
            ..digits()
        };
        assert_eq!(spec.validate(), Ok(()));
        assert!(spec.task_ops() < 1 << 52);
    }

    #[test]
    fn figures_out_of_range_are_named() {
        let says = |change: fn(&mut TrainingSpec), expect: &str| {
            let mut spec = digits();
            change(&mut spec);
            assert_eq!(spec.validate().err().map(|e| e.to_string()).as_deref(), Some(expect));
        };
        says(|s| s.dataset_bytes = 0, "dataset_bytes is 0, must be 1 to 268435456");
        says(|s| s.features = 4097, "features is 4097, must be 1 to 4096");
        says(|s| s.classes = 1, "classes is 1, must be 2 to 1000");
        says(|s| s.feature_scale = 0, "feature_scale is 0, must be 1 to 16777216");
        says(|s| s.validate_every = 1, "validate_every is 1, must be 2 to 1000");
        says(|s| s.hidden = vec![1; 5], "5 hidden layers, at most 4");
        says(|s| s.hidden = vec![8, 0], "hidden width is 0, must be 1 to 4096");
        says(|s| s.learning_rate_e6 = 0, "learning_rate_e6 is 0, must be 1 to 10000000");
        says(|s| s.momentum_e6 = E6, "momentum_e6 is 1000000, must be 0 to 999999");
        says(|s| s.weight_decay_e6 = E6 + 1, "weight_decay_e6 is 1000001, must be 0 to 1000000");
        says(|s| s.clip_norm_e6 = u32::MAX, "clip_norm_e6 is 4294967295, must be 0 to 1000000000");
        says(|s| s.batch = 1025, "batch is 1025, must be 1 to 1024");
        says(|s| s.virtual_workers = 257, "virtual_workers is 257, must be 1 to 256");
        says(|s| s.rounds = 0, "rounds is 0, must be 1 to 1000");
        says(|s| s.steps_per_round = 10_001, "steps_per_round is 10001, must be 1 to 10000");
        says(|s| s.outer_rate_e6 = 0, "outer_rate_e6 is 0, must be 1 to 10000000");
        says(|s| s.outer_momentum_e6 = E6, "outer_momentum_e6 is 1000000, must be 0 to 999999");
        says(|s| s.target_e6 = E6 + 1, "target_e6 is 1000001, must be 0 to 1000000");
        says(|s| s.spot_checks = 1025, "spot_checks is 1025, must be 0 to 1024");
    }
}
