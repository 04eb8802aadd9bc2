//! `sim --seeds N [--from S] [--kept]`: runs seeds of the simulator (`--kept`: first those that found a bug once) and prints
//! one JSON object on the last line. Exits 1 on a violation, with its story and the command that replays it.
//!
//! Built with the feature `plants`: `--plant NAME` plants a bug first, `--plant list` names them, and `--plant all` looks for
//! each of them in turn, a process each, until its first violation.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use matrixai_bench::sim::campaign::{self, Failure, Totals};
use matrixai_coordinator::plants;
use serde_json::json;
use std::{
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
    time::Instant,
};

/// A fifth of a simulated second went into glibc's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How the allocator is told to keep what it was given, which it reads once, as the process starts: what one world gives back the
/// next one wants, and pages that are new to the process are zeroed, a twentieth of a world's time.
const KEEP_PAGES: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "-1");

/// Seeds between two lines of progress.
const PROGRESS_EVERY: u64 = 100;

struct Args {
    seeds: u64,
    from: u64,
    keep_going: bool,
    plant: Option<String>,
    kept: bool,
}

fn main() -> ExitCode {
    keep_pages();
    let args = match parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(why) => {
            eprintln!("{why}\nusage: sim --seeds N [--from S] [--kept] [--keep-going] [--plant NAME|list|all]");
            return ExitCode::from(2);
        }
    };
    match args.plant.as_deref() {
        None => {}
        Some(_) if !plants::POSSIBLE => {
            eprintln!("no bugs can be planted in this build: build it with --features plants");
            return ExitCode::from(2);
        }
        Some("list") => {
            plants::names().iter().for_each(|name| println!("{name}"));
            return ExitCode::SUCCESS;
        }
        Some("all") => return find_all(&args),
        Some(name) if plants::plant(name) => {}
        Some(name) => {
            eprintln!("there is no plant {name:?}; --plant list names them");
            return ExitCode::from(2);
        }
    }
    std::panic::set_hook(Box::new(|info| {
        eprintln!("{info}");
        if let Some(seed) = campaign::current_seed() {
            // Raft's own assertions are violations too; the release profile aborts on them, so the story is told here.
            eprintln!("violation: a panic\nreplay: {}", replay(seed));
            let found = json!({ "violations": 1, "failing_seeds": [seed], "failing_invariants": ["no panic"] });
            println!("{found}");
            std::process::exit(1);
        }
    }));
    let started = Instant::now();
    let progress = |done: u64| {
        if done.is_multiple_of(PROGRESS_EVERY) {
            eprintln!("{done} seeds, {:.1} s", started.elapsed().as_secs_f64());
        }
    };
    let kept = campaign::kept().filter(|_| args.kept);
    let seeds: Vec<u64> = kept.chain(args.from..args.from.saturating_add(args.seeds)).collect();
    let totals = campaign::run(&seeds, !args.keep_going, &progress);
    totals.failures.iter().for_each(tell);
    eprintln!("{:#}", totals.coverage.to_json());
    println!("{}", summary(&totals, started.elapsed().as_secs_f64()));
    if totals.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Begins this process again with [`KEEP_PAGES`], unless it has begun so; without it all goes on, slower.
fn keep_pages() {
    let (name, value) = KEEP_PAGES;
    if std::env::var_os(name).is_none()
        && let Ok(this) = std::env::current_exe()
    {
        let why = Command::new(this).args(std::env::args_os().skip(1)).env(name, value).exec();
        eprintln!("begin again with {name}={value}: {why}");
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut parsed = Args { seeds: 1, from: 1, keep_going: false, kept: false, plant: None };
    while let Some(flag) = args.next() {
        let mut number = || {
            let value = args.next().ok_or_else(|| format!("{flag} needs a number"))?;
            value.parse().map_err(|_| format!("{value:?} is no number"))
        };
        match flag.as_str() {
            "--seeds" => parsed.seeds = number()?,
            "--from" => parsed.from = number()?,
            "--kept" => parsed.kept = true,
            "--keep-going" => parsed.keep_going = true,
            "--plant" => parsed.plant = Some(args.next().ok_or("--plant needs a name, list or all")?),
            _ => return Err(format!("there is no flag {flag:?}")),
        }
    }
    Ok(parsed)
}

/// Looks for every bug that can be planted; 1 if the seeds do not suffice for one.
fn find_all(args: &Args) -> ExitCode {
    let mut found = serde_json::Map::new();
    for name in plants::names() {
        let seed = find(name, args).unwrap_or_else(|why| {
            eprintln!("{name}: {why}");
            serde_json::Value::Null
        });
        found.insert(name.to_owned(), seed);
    }
    let all = found.values().all(|seed| !seed.is_null());
    println!("{}", serde_json::Value::Object(found));
    if all { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// The first seed that finds a planted bug; null when none does.
fn find(name: &str, args: &Args) -> Result<serde_json::Value, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let (seeds, from) = (args.seeds.to_string(), args.from.to_string());
    let run = Command::new(this).args(["--seeds", &seeds, "--from", &from, "--plant", name]).output();
    let output = run.map_err(|error| error.to_string())?;
    let lines = String::from_utf8_lossy(&output.stdout);
    let last: serde_json::Value =
        serde_json::from_str(lines.lines().last().unwrap_or_default()).map_err(|error| error.to_string())?;
    let seed = last["failing_seeds"][0].clone();
    eprintln!("{name}: seed {seed}, {}", last["failing_invariants"][0]);
    Ok(seed)
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
        "undecided": totals.undecided,
        "outcomes_seen": totals.coverage.pairs(),
        "trace_hash": format!("{:016x}", totals.trace),
        "failing_seeds": totals.failures.iter().map(|failure| failure.seed).collect::<Vec<_>>(),
        "failing_invariants": totals.failures.iter().map(|failure| failure.violation.invariant).collect::<Vec<_>>(),
    })
}
