//! Trains the digits job from start to end in this process, for several seeds, and says what it cost: how the shipped
//! defaults in `deploy/examples` were chosen, and how to judge others.
//!
//! `cargo run --release -p matrixai-training --example digits -- [key=value …]`, with the spec's field names as keys,
//! `hidden=96,48`, and `seeds=N` from `first=M`; `model=FILE` writes the last model as safetensors. CPU time is Linux'
//! account of this thread; elsewhere it shows as 0.

use std::error::Error;
use std::io::{Write, stdout};
use std::path::Path;
use std::time::{Duration, Instant};

use matrixai_protocol::sha256;
use matrixai_protocol::spec::TrainingSpec;
use matrixai_training::Context;
use matrixai_training::dataset::Dataset;
use matrixai_training::model::correct;
use matrixai_training::pace::unpaced;
use matrixai_training::reduce::{Reducer, initial};
use matrixai_training::segment::run_segment;
use matrixai_training::weights::{Weights, to_safetensors};

const DATA: &str = "../../deploy/examples/digits.csv.gz";

fn main() -> Result<(), Box<dyn Error>> {
    let bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(DATA))?;
    let mut spec = defaults(&bytes);
    let (mut first, mut seeds) = (0, 3);
    let mut model = None;
    for argument in std::env::args().skip(1) {
        let (key, value) = argument.split_once('=').ok_or_else(|| format!("{argument:?} is not key=value"))?;
        match key {
            "first" => first = value.parse()?,
            "seeds" => seeds = value.parse()?,
            "model" => model = Some(value.to_owned()),
            key => set(&mut spec, key, value)?,
        }
    }
    spec.validate()?;
    let data = Dataset::parse(&bytes, &spec)?;
    let mut out = stdout().lock();
    writeln!(
        out,
        "{} parameters, {} training rows, {} operations a task",
        spec.parameters(),
        data.train.len(),
        spec.task_ops()
    )?;
    let mut finals = Vec::new();
    for seed in first..first + seeds {
        let run = train(&Context { spec: spec.clone(), job: [7; 20], beacon: sha256(&[&[seed]]) }, &data)?;
        let path: Vec<String> = run.accuracy.iter().map(|a| format!("{:.3}", a)).collect();
        writeln!(out, "seed {seed:2}: {}", path.join(" "))?;
        run.cost.write(&mut out)?;
        finals.push(run.accuracy.last().copied().unwrap_or_default());
        if let Some(path) = &model {
            std::fs::write(path, to_safetensors(&spec, &run.weights)?)?;
        }
    }
    finals.sort_by(f64::total_cmp);
    let mean = finals.iter().sum::<f64>() / finals.len() as f64;
    writeln!(out, "last accuracy: lowest {:.4}, mean {mean:.4}, highest {:.4}", finals[0], finals[finals.len() - 1])?;
    Ok(())
}

/// The main job of `matrixai up`.
fn defaults(data: &[u8]) -> TrainingSpec {
    TrainingSpec {
        dataset: sha256(&[data]),
        dataset_bytes: data.len() as u64,
        features: 64,
        classes: 10,
        feature_scale: 16,
        validate_every: 5,
        hidden: vec![192, 64],
        learning_rate_e6: 50_000,
        momentum_e6: 900_000,
        weight_decay_e6: 0,
        clip_norm_e6: 1_000_000,
        batch: 32,
        virtual_workers: 28,
        rounds: 12,
        steps_per_round: 100,
        outer_rate_e6: 1_000_000,
        outer_momentum_e6: 300_000,
        target_e6: 930_000,
        seed: 1,
        spot_checks: 1,
    }
}

fn set(spec: &mut TrainingSpec, key: &str, value: &str) -> Result<(), Box<dyn Error>> {
    let field = match key {
        "hidden" => {
            spec.hidden = value.split(',').map(str::parse).collect::<Result<_, _>>()?;
            return Ok(());
        }
        "learning_rate_e6" => &mut spec.learning_rate_e6,
        "momentum_e6" => &mut spec.momentum_e6,
        "weight_decay_e6" => &mut spec.weight_decay_e6,
        "clip_norm_e6" => &mut spec.clip_norm_e6,
        "batch" => &mut spec.batch,
        "virtual_workers" => &mut spec.virtual_workers,
        "rounds" => &mut spec.rounds,
        "steps_per_round" => &mut spec.steps_per_round,
        "outer_rate_e6" => &mut spec.outer_rate_e6,
        "outer_momentum_e6" => &mut spec.outer_momentum_e6,
        other => return Err(format!("no key {other:?}").into()),
    };
    *field = value.parse()?;
    Ok(())
}

struct Run {
    /// On the validation rows, of checkpoints 0 to R.
    accuracy: Vec<f64>,
    weights: Weights,
    cost: Cost,
}

/// What the machine was charged. The kernel counts CPU time by ticks, too coarse for a single task, so those are wall
/// time.
#[derive(Default)]
struct Cost {
    tasks: Vec<Duration>,
    tasks_cpu: Duration,
    reduces: Vec<Duration>,
}

impl Cost {
    fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        let ms = |times: &[Duration], share: f64| {
            let mut times = times.to_vec();
            times.sort_unstable();
            times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3
        };
        writeln!(
            out,
            "         tasks {:.2} s of CPU in all, each {:.1} ms (least {:.1}, 95% under {:.1}); a reduction {:.1} ms",
            self.tasks_cpu.as_secs_f64(),
            ms(&self.tasks, 0.5),
            ms(&self.tasks, 0.0),
            ms(&self.tasks, 0.95),
            ms(&self.reduces, 0.5),
        )
    }
}

fn train(ctx: &Context, data: &Dataset) -> Result<Run, Box<dyn Error>> {
    let spec = &ctx.spec;
    let (mut theta, mut momentum) = initial(ctx);
    let share = |right: u32| f64::from(right) / data.validation.len() as f64;
    let mut accuracy = vec![share(correct(spec, &theta, &data.validation, &mut unpaced)?)];
    let mut cost = Cost::default();
    for round in 0..spec.rounds {
        let mut deltas = Vec::new();
        for v in 0..spec.virtual_workers {
            let (start, before) = (Instant::now(), cpu());
            deltas.push(run_segment(ctx, data, &theta, round, v, &mut unpaced)?.delta);
            cost.tasks.push(start.elapsed());
            cost.tasks_cpu += cpu() - before;
        }
        let start = Instant::now();
        let mut reducer = Reducer::new(spec);
        for delta in &deltas {
            reducer.add(&Weights::from_bytes(spec, delta)?)?;
        }
        (theta, momentum) = reducer.finish(&theta, &momentum)?;
        let _name = (theta.hash(), momentum.hash());
        cost.reduces.push(start.elapsed());
        accuracy.push(share(correct(spec, &theta, &data.validation, &mut unpaced)?));
    }
    Ok(Run { accuracy, weights: theta, cost })
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ns = text.split(' ').next().and_then(|ns| ns.parse().ok());
    Duration::from_nanos(ns.unwrap_or_default())
}
