//! A training small enough for tests: 3 classes told apart by noisy 8-feature patterns, 4 virtual workers.
#![allow(dead_code, clippy::unwrap_used)]

use matrixai_protocol::spec::TrainingSpec;
use matrixai_protocol::{philox::Draw, sha256};
use matrixai_training::Context;
use matrixai_training::dataset::Dataset;

/// CSV of `rows` rows.
pub(crate) fn csv(rows: usize) -> String {
    let mut draw = Draw::new(&sha256(&[b"rows"]), 0);
    let mut text = String::new();
    for _ in 0..rows {
        let label = draw.below(3);
        for feature in 0..8 {
            let level = if feature % 3 == label { 11 } else { 3 };
            text += &format!("{},", level + draw.below(5));
        }
        text += &format!("{label}\n");
    }
    text
}

pub(crate) fn spec() -> TrainingSpec {
    TrainingSpec {
        dataset: [0; 32],
        dataset_bytes: 1,
        features: 8,
        classes: 3,
        feature_scale: 16,
        validate_every: 5,
        hidden: vec![12, 7],
        learning_rate_e6: 50_000,
        momentum_e6: 900_000,
        weight_decay_e6: 100,
        clip_norm_e6: 1_000_000,
        batch: 6,
        virtual_workers: 4,
        rounds: 3,
        steps_per_round: 20,
        outer_rate_e6: 1_000_000,
        outer_momentum_e6: 300_000,
        target_e6: 900_000,
        seed: 5,
        spot_checks: 1,
    }
}

pub(crate) fn context(spec: TrainingSpec) -> Context {
    Context { spec, job: [9; 20], beacon: sha256(&[b"beacon"]) }
}

/// The small spec as a context, and its data.
pub(crate) fn small() -> (Context, Dataset) {
    let ctx = context(spec());
    let data = Dataset::parse(csv(120).as_bytes(), &ctx.spec).unwrap();
    (ctx, data)
}
