//! The shipped data set: it parses as the examples declare it, and a short training on it gets well above chance.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use matrixai_protocol::spec::TrainingSpec;
use matrixai_training::dataset::Dataset;
use matrixai_training::pace::unpaced;
use matrixai_training::verify::recompute;
use support::{context, spec};

#[test]
fn digits_are_learnt_in_two_short_rounds() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples/digits.csv.gz");
    let spec = TrainingSpec {
        features: 64,
        classes: 10,
        hidden: vec![128, 64],
        weight_decay_e6: 0,
        batch: 32,
        virtual_workers: 28,
        rounds: 2,
        steps_per_round: 20,
        ..spec()
    };
    let data = Dataset::parse(&std::fs::read(path).unwrap(), &spec).unwrap();
    assert_eq!((data.train.len(), data.validation.len(), data.watch.len()), (1438, 359, 143));
    let run = recompute(&context(spec), &data, &|_, _| [0; 32], &mut unpaced).unwrap();
    assert!(run.correct_last > 310, "{} of 359", run.correct_last);
}
