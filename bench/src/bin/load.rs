//! Load on three real coordinators: signed transfers between many accounts, unary or streamed, closed or open loop.
//!
//! `cargo run --release -p matrixai-bench --bin load -- --clients 1000 --seconds 30` prints one JSON object on its last
//! line; status 0 only when everything was decided as wanted, all replicas applied it, and their roots are equal.

use clap::Parser;
use matrixai_bench::{
    Result, cluster,
    drive::Pace,
    measure::rounded,
    report,
    site::{Measured, Shape, Site},
};
use serde_json::{Value, json};
use std::{path::PathBuf, process::ExitCode};

#[derive(Debug, Parser)]
struct Args {
    /// Calls (streamed: envelopes) in flight.
    #[arg(long, default_value_t = 1_000)]
    clients: usize,
    /// Length of the measured run.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Measured runs, one after the other, each with envelopes of its own: they live ten minutes at most.
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// Length of the run before it, which also tells how much is to be signed.
    #[arg(long, default_value_t = 3.0)]
    warm: f64,
    /// Commands an envelope, sent over streams; without it, unary calls of one command each.
    #[arg(long)]
    batch: Option<u32>,
    /// Open loop: so many calls a second, and a latency counts from when its call was due.
    #[arg(long, conflicts_with = "batch")]
    rate: Option<f64>,
    /// Accounts that pay each other. A million take minutes to open (one signature each), so the default is smaller;
    /// what the number of accounts costs a command is `--bin apply`'s to measure.
    #[arg(long, default_value_t = 20_000)]
    accounts: usize,
    /// Connections to the leader.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Keep the coordinators' folders here.
    #[arg(long)]
    home: Option<PathBuf>,
    /// The program under test, instead of building this workspace's.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Say each coordinator's process number and wait this long before the measured run, for a profiler to attach.
    #[arg(long, default_value_t = 0.0)]
    pause: f64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    report::finish(report::on_runtime(load(&args)))
}

async fn load(args: &Args) -> Result<(Value, bool)> {
    let program = cluster::program(args.binary.clone())?;
    let mut site = Site::open(&program, args.home.clone(), args.accounts, args.connections).await?;
    let shape = Shape {
        clients: args.clients,
        seconds: args.seconds,
        warm: args.warm,
        batch: args.batch,
        pace: args.rate.map_or(Pace::Closed, Pace::Open),
        pause: args.pause,
    };
    let term = site.term().await?;
    let mut measured = site.measure(&shape).await?;
    for _ in 1..args.rounds {
        measured = measured.and(site.measure(&shape).await?);
    }
    let leader_changes = site.term().await? - term;
    let good = measured.good();
    Ok((result(args, measured, leader_changes), good))
}

fn result(args: &Args, mut measured: Measured, leader_changes: u64) -> Value {
    let tally = &mut measured.tally;
    json!({
        "per_s": rounded(tally.per_s()),
        "p50_ms": rounded(tally.latencies.percentile_ms(0.5)),
        "p99_ms": rounded(tally.latencies.percentile_ms(0.99)),
        "max_ms": rounded(tally.latencies.percentile_ms(1.0)),
        "cpu_us_per_op": rounded(measured.members_us),
        "client_us_per_op": rounded(measured.client_us),
        "verify_us_per_op": rounded(measured.verify_us),
        "rest_us_per_op": rounded(measured.members_us - measured.verify_us),
        "fdatasyncs": measured.syncs,
        "leader_changes": leader_changes,
        "errors": tally.errors(),
        "failures": tally.errors,
        "commands": tally.commands,
        "calls": tally.calls,
        "seconds": rounded(tally.elapsed.as_secs_f64()),
        "clients": args.clients,
        "batch": args.batch.unwrap_or(1),
        "accounts": args.accounts,
        "loop": if args.rate.is_some() { "open" } else { "closed" },
        "applied": measured.applied,
        "roots_equal": measured.roots_equal,
    })
}
