//! etcd and ours in turn on one machine: three members each, the same disk, connections and calls in flight, one
//! generator. Each round starts both afresh. Run by `bench/peers/etcd.sh`, which installs etcd first.

use clap::Parser;
use matrixai_bench::{
    Result, cluster, doing,
    drive::{self, Pace, Run, Tally},
    etcd::{self, Etcd, TXN_PUTS},
    measure::{cpu_s, median, rounded},
    people::{ENVELOPE_BYTES, Ready},
    report::{self, note},
    route::Route,
    site::{Measured, Shape, Site},
    wire::Reader,
};
use serde_json::{Value, json};
use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

/// Commands a signature, for the split of the processor time.
const SPLIT: [u32; 3] = [1, 100, 8_192];
/// Envelopes in flight when each carries hundreds of commands: enough to fill every entry, without minutes of queue.
const STREAMED_IN_FLIGHT: usize = 64;
const LARGE_IN_FLIGHT: usize = 16;
/// Puts a second that are made ready for a run; etcd reaches a fraction.
const PUTS_PER_S: f64 = 60_000.0;
const TXNS_PER_S: f64 = 4_000.0;

#[derive(Debug, Parser)]
struct Args {
    /// Rounds; each figure is the median of them.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Unary calls in flight.
    #[arg(long, default_value_t = 1_000)]
    clients: usize,
    /// Connections to the leader.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Length of each measured run.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Length of the run before each.
    #[arg(long, default_value_t = 3.0)]
    warm: f64,
    /// Commands an envelope of the streamed run.
    #[arg(long, default_value_t = 256)]
    batch: u32,
    /// Accounts, and keys of etcd.
    #[arg(long, default_value_t = 20_000)]
    accounts: usize,
    /// Transactions of 128 puts in flight.
    #[arg(long, default_value_t = 64)]
    transactions: usize,
    /// Without the runs that split the processor time by commands a signature.
    #[arg(long)]
    no_split: bool,
    /// The program under test, instead of building this workspace's.
    #[arg(long)]
    binary: Option<PathBuf>,
}

#[derive(Debug, Default)]
struct Rounds {
    puts: Vec<f64>,
    puts_us: Vec<f64>,
    txn_puts: Vec<f64>,
    unary: Vec<f64>,
    unary_us: Vec<f64>,
    streamed: Vec<f64>,
    streamed_us: Vec<f64>,
}

fn main() -> ExitCode {
    report::finish(report::on_runtime(compare(Args::parse())))
}

async fn compare(args: Args) -> Result<(Value, bool)> {
    let program = cluster::program(args.binary.clone())?;
    let (mut rounds, mut good) = (Rounds::default(), true);
    for round in 1..=args.rounds {
        etcd_round(&args, &mut rounds).await?;
        good &= our_round(&args, &program, &mut rounds).await?;
        note(&format!("after round {round}: {rounds:?}"));
    }
    let (split, whole) = if args.no_split { (Vec::new(), true) } else { split(&args, &program).await? };
    good &= whole;
    let (puts, txn_puts) = (median(&rounds.puts), median(&rounds.txn_puts));
    let (unary, streamed) = (median(&rounds.unary), median(&rounds.streamed));
    let result = json!({
        "etcd_per_s": rounded(puts),
        "unary_per_s": rounded(unary),
        "unary_ratio": rounded(unary / puts),
        "batched_per_s": rounded(streamed),
        "batched_ratio": rounded(streamed / puts),
        "etcd_txn_puts_per_s": rounded(txn_puts),
        "txn_ratio": rounded(streamed / txn_puts),
        "etcd_cpu_us_per_put": rounded(median(&rounds.puts_us)),
        "unary_cpu_us_per_op": rounded(median(&rounds.unary_us)),
        "batched_cpu_us_per_op": rounded(median(&rounds.streamed_us)),
        "batch": args.batch,
        "clients": args.clients,
        "connections": args.connections,
        "rounds": args.rounds,
        "split_us_per_op": split,
    });
    Ok((result, good))
}

async fn etcd_round(args: &Args, rounds: &mut Rounds) -> Result<()> {
    let home = tempfile::tempdir().map_err(doing("make a folder"))?;
    let etcd = Etcd::start(home.path()).await?;
    let count = |per_s: f64, seconds: f64| (per_s * seconds) as usize;
    let puts = |run, seconds| etcd::puts(run, count(PUTS_PER_S, seconds), args.accounts, ENVELOPE_BYTES);
    peer_run(args, &etcd, etcd::PUT, puts(1, args.warm), args.clients, args.warm).await?;
    let cpu = || etcd.pids().into_iter().map(cpu_s).sum::<Result<f64>>();
    let before = cpu()?;
    let tally = peer_run(args, &etcd, etcd::PUT, puts(2, args.seconds), args.clients, args.seconds).await?;
    rounds.puts_us.push((cpu()? - before) * 1e6 / tally.commands.max(1) as f64);
    rounds.puts.push(tally.per_s());

    let txns = |run, seconds| etcd::transactions(run, count(TXNS_PER_S, seconds), args.accounts, ENVELOPE_BYTES);
    peer_run(args, &etcd, etcd::TXN, txns(3, args.warm), args.transactions, args.warm).await?;
    let tally = peer_run(args, &etcd, etcd::TXN, txns(4, args.seconds), args.transactions, args.seconds).await?;
    note(&format!("etcd: {} transactions of {TXN_PUTS} puts", tally.calls));
    rounds.txn_puts.push(tally.per_s());
    Ok(())
}

async fn peer_run(
    args: &Args,
    etcd: &Etcd,
    path: &'static str,
    work: Vec<Ready>,
    clients: usize,
    seconds: f64,
) -> Result<Tally> {
    let signed = work.len() as u64;
    let run = Run {
        route: Arc::new(Route::new(etcd.addresses.clone(), args.connections, etcd.leader().await?)?),
        path,
        work,
        read: etcd::revision as Reader,
        clients,
        length: Duration::from_secs_f64(seconds),
    };
    let tally = drive::unary(run, Pace::Closed).await;
    if tally.errors() > 0 {
        return Err(format!("etcd refused: {:?}", tally.errors));
    }
    if tally.calls == signed {
        return Err("etcd was faster than what was made ready for it".to_owned());
    }
    Ok(tally)
}

async fn our_round(args: &Args, program: &std::path::Path, rounds: &mut Rounds) -> Result<bool> {
    let mut site = Site::open(program, None, args.accounts, args.connections).await?;
    let unary = site.measure(&shape(args, None)).await?;
    rounds.unary.push(unary.tally.per_s());
    rounds.unary_us.push(unary.members_us);
    let streamed = site.measure(&shape(args, Some(args.batch))).await?;
    rounds.streamed.push(streamed.tally.per_s());
    rounds.streamed_us.push(streamed.members_us);
    Ok(all_good(&[unary, streamed]))
}

/// Where the processor time goes, by commands a signature.
async fn split(args: &Args, program: &std::path::Path) -> Result<(Vec<Value>, bool)> {
    let (mut rows, mut good) = (Vec::new(), true);
    for batch in SPLIT {
        let mut site = Site::open(program, None, args.accounts, args.connections).await?;
        let in_flight = match batch {
            1 => args.clients,
            // Two megabytes each: more than these would find the leader's queue full.
            8_192.. => LARGE_IN_FLIGHT,
            _ => STREAMED_IN_FLIGHT,
        };
        let measured = site.measure(&Shape { clients: in_flight, ..shape(args, Some(batch)) }).await?;
        rows.push(json!({
            "commands_per_signature": batch,
            "per_s": rounded(measured.tally.per_s()),
            "client": rounded(measured.client_us),
            "verify": rounded(measured.verify_us),
            "rest": rounded(measured.members_us - measured.verify_us),
        }));
        good &= measured.good();
    }
    Ok((rows, good))
}

fn shape(args: &Args, batch: Option<u32>) -> Shape {
    let clients = if batch.is_some() { STREAMED_IN_FLIGHT } else { args.clients };
    Shape { clients, seconds: args.seconds, warm: args.warm, batch, pace: Pace::Closed, pause: 0.0 }
}

fn all_good(runs: &[Measured]) -> bool {
    runs.iter().all(Measured::good)
}
