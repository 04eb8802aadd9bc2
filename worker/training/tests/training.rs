//! The contract of a training: same bits from any split, in any order, on any replay; and nothing wrong goes unnoticed.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use matrixai_protocol::spec::TrainingSpec;
use matrixai_protocol::{Hash, sha256};
use matrixai_training::Context;
use matrixai_training::dataset::Dataset;
use matrixai_training::model::correct;
use matrixai_training::pace::{Stopped, unpaced};
use matrixai_training::reduce::{ReduceError, initial, reduce};
use matrixai_training::segment::{Segment, run_segment};
use matrixai_training::verify::{Checkpoint, RecomputeError, chain, recompute};
use matrixai_training::weights::Weights;
use support::{context, small, spec};

fn segment(ctx: &Context, data: &Dataset, theta: &Weights, round: u32, v: u32) -> Segment {
    run_segment(ctx, data, theta, round, v, &mut unpaced).unwrap()
}

/// Trains as machines would: `holder(round, v)` names who computes what; each machine works through its own virtual
/// workers downwards and reads its inputs from bytes; then the deltas are put in order.
fn train_on_machines(ctx: &Context, data: &Dataset, holder: impl Fn(u32, u32) -> u8) -> (Weights, Vec<Hash>) {
    let spec = &ctx.spec;
    let (mut theta, mut momentum) = initial(ctx);
    let mut hashes = vec![theta.hash()];
    for round in 0..spec.rounds {
        let mut arrived: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        for machine in 0..=u8::MAX {
            let theta = Weights::from_bytes(spec, &theta.to_bytes()).unwrap();
            for v in (0..spec.virtual_workers).rev().filter(|&v| holder(round, v) == machine) {
                arrived.insert(v, segment(ctx, data, &theta, round, v).delta);
            }
        }
        let deltas: Vec<Weights> = arrived.values().map(|bytes| Weights::from_bytes(spec, bytes).unwrap()).collect();
        (theta, momentum) = reduce(spec, &theta, &momentum, &deltas).unwrap();
        hashes.push(theta.hash());
    }
    (theta, hashes)
}

#[test]
fn a_training_learns() {
    let (ctx, data) = small();
    let run = recompute(&ctx, &data, &|_, _| [0; 32], &mut unpaced).unwrap();
    assert!(run.correct_last == 24 && run.correct_first < 20, "{} then {}", run.correct_first, run.correct_last);
    assert_eq!(correct(&ctx.spec, &run.weights, &data.validation, &mut unpaced), Ok(run.correct_last));
}

#[test]
fn two_splits_over_machines_give_the_same_bits() {
    let (ctx, data) = small();
    let alone = train_on_machines(&ctx, &data, |_, _| 0);
    let two = train_on_machines(&ctx, &data, |_, v| u8::from(v >= 3));
    let churning = train_on_machines(&ctx, &data, |round, v| (round * 7 + v * 3 % 4) as u8);
    assert_eq!(alone, two);
    assert_eq!(alone, churning);
    assert_eq!(recompute(&ctx, &data, &|_, _| [0; 32], &mut unpaced).unwrap().weights, alone.0);
}

#[test]
fn a_replay_gives_the_same_bits() {
    let (ctx, data) = small();
    let (theta, _) = initial(&ctx);
    let first = segment(&ctx, &data, &theta, 1, 2);
    assert_eq!(first, segment(&ctx, &data, &theta, 1, 2));
    assert_eq!(first.delta_hash, sha256(&[&first.delta]));
    let mut asked = 0u32;
    let mut slow = || {
        asked += 1;
        std::thread::yield_now();
        Ok(())
    };
    assert_eq!(run_segment(&ctx, &data, &theta, 1, 2, &mut slow), Ok(first));
}

/// Pins the arithmetic: a change of a single rounding anywhere between the data and the delta shows here, on every
/// processor and compiler that runs the tests. An independent implementation in numpy, written from the protocol
/// document, yields the same four. A new figure is a new rules version.
#[test]
fn the_bits_are_these() {
    let (ctx, data) = small();
    let run = recompute(&ctx, &data, &|_, _| [0; 32], &mut unpaced).unwrap();
    let trace = segment(&ctx, &data, &initial(&ctx).0, 0, 0).trace_root;
    let hex = |hash: Hash| hash.iter().map(|b| format!("{b:02x}")).collect::<String>();
    assert_eq!(hex(run.checkpoints[0].weights), "7a9293fa150c8509301dc8f0b132c5e831d7aed72396d6cb6071a8ea2c20b1cb");
    assert_eq!(hex(run.weights.hash()), "db4785e8730e0019485c9dba376508902283e320edbbc2584f47e1f47e01bdb3");
    assert_eq!(hex(trace), "111fa062ec351dbadbc51355386cfe1c1e2ef769242645942f13d4079bfc5725");
    assert_eq!(hex(run.chain.root), "26c7261fac56f481ce2e00e7484b97d37ecf17937ae14dad996c002dd37cd5b5");
}

#[test]
fn every_input_of_a_segment_matters() {
    let (ctx, data) = small();
    let (theta, _) = initial(&ctx);
    let base = segment(&ctx, &data, &theta, 0, 0);
    let mut others = vec![segment(&ctx, &data, &theta, 1, 0), segment(&ctx, &data, &theta, 0, 1)];
    let changed: [fn(&mut Context); 10] = [
        |ctx| ctx.job[19] ^= 1,
        |ctx| ctx.beacon[0] ^= 1,
        |ctx| ctx.spec.seed += 1,
        |ctx| ctx.spec.learning_rate_e6 += 1,
        |ctx| ctx.spec.momentum_e6 += 1,
        |ctx| ctx.spec.weight_decay_e6 += 1,
        |ctx| ctx.spec.clip_norm_e6 = 100_000,
        |ctx| ctx.spec.batch += 1,
        |ctx| ctx.spec.steps_per_round -= 1,
        |ctx| ctx.spec.virtual_workers += 1,
    ];
    for change in changed {
        let mut ctx = ctx.clone();
        change(&mut ctx);
        others.push(segment(&ctx, &data, &theta, 0, 0));
    }
    let mut numbers = theta.as_slice().to_vec();
    numbers.iter_mut().for_each(|w| *w *= 1.0001);
    others.push(segment(&ctx, &data, &Weights::new(numbers), 0, 0));
    for (i, other) in others.iter().enumerate() {
        assert_ne!(other.delta_hash, base.delta_hash, "change {i}");
        assert_ne!(other.trace_root, base.trace_root, "change {i}");
    }
}

#[test]
fn a_stopped_segment_yields_nothing() {
    let (_, data) = small();
    let long = context(TrainingSpec { steps_per_round: 10_000, ..spec() });
    let (theta, _) = initial(&long);
    let mut asked = 0;
    let mut pace = || {
        asked += 1;
        if asked == 3 { Err(Stopped) } else { Ok(()) }
    };
    assert_eq!(run_segment(&long, &data, &theta, 0, 0, &mut pace), Err(Stopped));
    assert_eq!(asked, 3);
    let stopped = recompute(&long, &data, &|_, _| [0; 32], &mut || Err(Stopped));
    assert_eq!(stopped.map(|_| ()), Err(RecomputeError::Stopped(Stopped)));
}

#[test]
fn a_single_segment_is_a_training() {
    let ctx = context(TrainingSpec { rounds: 1, virtual_workers: 1, outer_momentum_e6: 0, ..spec() });
    let data = Dataset::parse(support::csv(10).as_bytes(), &ctx.spec).unwrap();
    let run = recompute(&ctx, &data, &|_, _| [3; 32], &mut unpaced).unwrap();
    assert_eq!((ctx.spec.segments(), run.chain.leaves.len()), (1, 2));
    // Plain averaging of one: the checkpoint moves by the delta.
    let theta = initial(&ctx).0;
    let delta = Weights::from_bytes(&ctx.spec, &segment(&ctx, &data, &theta, 0, 0).delta).unwrap();
    let moved = theta.as_slice().iter().zip(delta.as_slice()).map(|(w, d)| w - d).collect();
    assert_eq!(run.weights, Weights::new(moved));
}

#[test]
fn a_net_without_hidden_layers_trains() {
    let ctx = context(TrainingSpec { hidden: vec![], clip_norm_e6: 0, ..spec() });
    let data = Dataset::parse(support::csv(120).as_bytes(), &ctx.spec).unwrap();
    assert!(recompute(&ctx, &data, &|_, _| [0; 32], &mut unpaced).unwrap().correct_last >= 22);
}

#[test]
fn no_checkpoint_is_made_of_wrong_deltas() {
    let spec = spec();
    let zeros = Weights::zeros(&spec);
    let check = |v: usize, numbers: Vec<f32>, want: ReduceError| {
        let mut deltas = vec![zeros.clone(); 4];
        deltas[v] = Weights::new(numbers);
        assert_eq!(reduce(&spec, &zeros, &zeros, &deltas), Err(want));
    };
    let with = |x: f32| {
        let mut numbers = zeros.as_slice().to_vec();
        numbers[17] = x;
        numbers
    };
    check(0, with(f32::NAN), ReduceError::NotFinite { v: 0 });
    check(2, with(f32::INFINITY), ReduceError::NotFinite { v: 2 });
    check(3, with(f32::NEG_INFINITY), ReduceError::NotFinite { v: 3 });
    let expected = spec.parameters();
    check(1, vec![0.0; 5], ReduceError::Length { v: 1, found: 5, expected });
    let few = vec![zeros.clone(); 3];
    assert_eq!(reduce(&spec, &zeros, &zeros, &few), Err(ReduceError::Count { found: 3, expected: 4 }));
    let many = vec![zeros.clone(); 5];
    assert_eq!(reduce(&spec, &zeros, &zeros, &many), Err(ReduceError::Count { found: 5, expected: 4 }));
    let huge = vec![Weights::new(with(f32::MAX)); 4];
    assert_eq!(reduce(&spec, &zeros, &zeros, &huge), Err(ReduceError::Overflow));
}

#[test]
fn the_outer_step_is_nesterov() {
    let spec = TrainingSpec { virtual_workers: 2, outer_rate_e6: 500_000, outer_momentum_e6: 250_000, ..spec() };
    let all = |x: f32| Weights::new(vec![x; spec.parameters() as usize]);
    // Mean 4; v = 8/4 + 4 = 6; theta = 10 - (4 + 6/4)/2 = 7.25.
    let (theta, momentum) = reduce(&spec, &all(10.0), &all(8.0), &[all(5.0), all(3.0)]).unwrap();
    assert_eq!((theta, momentum), (all(7.25), all(6.0)));
}

#[test]
fn a_diverging_run_is_named_and_the_same_everywhere() {
    let ctx = context(TrainingSpec { learning_rate_e6: 10_000_000, clip_norm_e6: 0, steps_per_round: 500, ..spec() });
    let data = Dataset::parse(support::csv(120).as_bytes(), &ctx.spec).unwrap();
    let mut numbers = initial(&ctx).0.as_slice().to_vec();
    numbers.iter_mut().for_each(|w| *w *= 1e18);
    let theta = Weights::new(numbers);
    let first = segment(&ctx, &data, &theta, 0, 0);
    let delta = Weights::from_bytes(&ctx.spec, &first.delta).unwrap();
    assert!(!delta.is_finite());
    for word in first.delta.chunks(4) {
        let bits = u32::from_le_bytes(word.try_into().unwrap());
        assert!(!f32::from_bits(bits).is_nan() || bits == 0x7fc0_0000, "only the canonical NaN is written");
    }
    assert_eq!(first, segment(&ctx, &data, &theta, 0, 0));
    let deltas = vec![delta; 4];
    let refused = reduce(&ctx.spec, &theta, &Weights::zeros(&ctx.spec), &deltas);
    assert_eq!(refused, Err(ReduceError::NotFinite { v: 0 }));
}

#[test]
fn the_chain_binds_everything() {
    let (ctx, data) = small();
    let key_of = |round: u32, v: u32| [(round * 4 + v) as u8; 32];
    let run = recompute(&ctx, &data, &key_of, &mut unpaced).unwrap();
    assert_eq!(run.chain, chain(&ctx.spec, &run.checkpoints));
    assert_eq!(run.chain.leaves.len(), 4);
    let forged: [fn(&mut Vec<Checkpoint>); 7] = [
        |c| c[0].weights[0] ^= 1,
        |c| c[3].weights[31] ^= 1,
        |c| c[1].momentum[0] ^= 1,
        |c| c[2].deltas.swap(0, 1),
        |c| c[2].machine_keys.swap(0, 1),
        |c| c.swap(1, 2),
        // A swapped optimiser state.
        |c| (c[1].momentum, c[2].momentum) = (c[2].momentum, c[1].momentum),
    ];
    for (i, forge) in forged.iter().enumerate() {
        let mut checkpoints = run.checkpoints.clone();
        forge(&mut checkpoints);
        assert_ne!(chain(&ctx.spec, &checkpoints).root, run.chain.root, "forgery {i}");
    }
    let other_keys = recompute(&ctx, &data, &|_, _| [1; 32], &mut unpaced).unwrap();
    assert_eq!(other_keys.weights, run.weights, "keys don't touch the weights");
    assert_ne!(other_keys.chain.root, run.chain.root);
}

#[test]
fn tensors_in_another_order_hash_differently() {
    let spec = TrainingSpec { features: 4, hidden: vec![4], classes: 4, ..spec() };
    let numbers = initial(&context(spec.clone())).0.as_slice().to_vec();
    let (first, second) = numbers.split_at(20);
    let swapped = Weights::new([second, first].concat());
    assert_ne!(swapped.hash(), Weights::new(numbers.clone()).hash());
    // A transposed weight has the same numbers and the same length.
    let mut transposed = numbers.clone();
    for row in 0..4 {
        for column in 0..4 {
            transposed[row * 4 + column] = numbers[column * 4 + row];
        }
    }
    assert_ne!(Weights::new(transposed).hash(), Weights::new(numbers).hash());
}
