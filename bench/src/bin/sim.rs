//! `sim --seeds N [--from S]`: runs seeds of the simulator and prints one JSON object on the last line. Exits 1 on a
//! violation, with its story and the command that replays it.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use matrixai_bench::sim::campaign::{self, Failure, Totals};
use serde_json::json;
use std::{process::ExitCode, time::Instant};

/// Seeds between two lines of progress.
const PROGRESS_EVERY: u64 = 100;

struct Args {
    seeds: u64,
    from: u64,
    keep_going: bool,
}

fn main() -> ExitCode {
    let args = match parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(why) => {
            eprintln!("{why}\nusage: sim --seeds N [--from S] [--keep-going]");
            return ExitCode::from(2);
        }
    };
    std::panic::set_hook(Box::new(|info| {
        eprintln!("{info}");
        if let Some(seed) = campaign::current_seed() {
            // Raft's own assertions are violations too; the release profile aborts on them, so the story is told here.
            eprintln!("violation: a panic\nreplay: {}", replay(seed));
            println!("{}", json!({ "seeds": 1, "violations": 1, "seed": seed, "invariant": "no panic" }));
            std::process::exit(1);
        }
    }));
    let started = Instant::now();
    let progress = |done: u64| {
        if done.is_multiple_of(PROGRESS_EVERY) {
            eprintln!("{done} seeds, {:.1} s", started.elapsed().as_secs_f64());
        }
    };
    let totals = campaign::run(args.from, args.seeds, !args.keep_going, &progress);
    totals.failures.iter().for_each(tell);
    eprintln!("{:#}", totals.coverage.to_json());
    println!("{}", summary(&totals, started.elapsed().as_secs_f64()));
    if totals.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut parsed = Args { seeds: 1, from: 1, keep_going: false };
    while let Some(flag) = args.next() {
        let mut number = || {
            let value = args.next().ok_or_else(|| format!("{flag} needs a number"))?;
            value.parse().map_err(|_| format!("{value:?} is no number"))
        };
        match flag.as_str() {
            "--seeds" => parsed.seeds = number()?,
            "--from" => parsed.from = number()?,
            "--keep-going" => parsed.keep_going = true,
            _ => return Err(format!("there is no flag {flag:?}")),
        }
    }
    Ok(parsed)
}

fn replay(seed: u64) -> String {
    format!("cargo run --release -p matrixai-bench --bin sim -- --seeds 1 --from {seed}")
}

fn tell(failure: &Failure) {
    let Failure { seed, violation, at_us } = failure;
    eprintln!("violation of \"{}\" at {:.6} s of seed {seed}:", violation.invariant, *at_us as f64 / 1e6);
    eprintln!("  {}\nreplay: {}", violation.story, replay(*seed));
}

fn summary(totals: &Totals, wall_s: f64) -> serde_json::Value {
    json!({
        "seeds": totals.seeds,
        "violations": totals.failures.len(),
        "commands": totals.commands,
        "faults": totals.faults,
        "simulated_s": totals.simulated_s,
        "wall_s": wall_s,
        "ratio": if wall_s > 0.0 { totals.simulated_s / wall_s } else { 0.0 },
        "elections": totals.elections,
        "entries": totals.entries,
        "snapshots": totals.snapshots,
        "snapshots_installed": totals.installed,
        "acknowledged": totals.acknowledged,
        "operations_checked": totals.operations,
        "histories_undecided": totals.undecided,
        "outcomes_seen": totals.coverage.pairs(),
        "trace_hash": format!("{:016x}", totals.trace),
        "failing_seeds": totals.failures.iter().map(|failure| failure.seed).collect::<Vec<_>>(),
    })
}
