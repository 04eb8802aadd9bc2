//! How fast the matching engine is, and whether it does what the naive matcher does.
//!
//! `cargo run --release -p matrixai-bench --bin market [-- --commands 1000000 --rounds 5 --check 1000000 --explain 10000
//! --seed 1]`. One core, CPU time of the
//! thread; a crowd is recorded before the clock starts and replayed on a fresh market each round; a figure is the median of
//! the rounds. `plain_apply_per_s` is the state machine with all that belongs to it. `match_p99_us` is by the wall clock around each command of a round of its own. The naive matcher takes the
//! same crowds in small, and `--check` commands of a crowd that does anything; the exit status is 1 if it differs. It also judges
//! what `market explain` names on `--explain` random books; `explain_ms` is the CPU time of one explanation on 100,000 offers.
#![allow(clippy::print_stdout)]

use matrixai_bench::{
    market::{Applied, Command, Crowd, Crowded, Digest, Fast, Mix, Naive, Trade, explain_books, explain_ms},
    timing::{Moment, median},
};
use serde_json::json;
use std::{process::ExitCode, time::Instant};

/// As in the product's binary: how memory lies decides much of what is measured here.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Commands after which a market that is compared begins anew, so that it stays small enough for the naive matcher.
const EPISODE: usize = 500;

const QUERIES: Crowd = Crowd { mix: Mix::Queries, offers: 100_000, orders: 10_000, queries: 1_200, commands: 0 };
const PLAIN: Crowd = Crowd { mix: Mix::Plain, offers: 500, orders: 500, queries: 1, commands: 0 };

fn main() -> ExitCode {
    let argument = |name: &str, otherwise: usize| {
        let mut words = std::env::args().skip_while(|word| word != name);
        words.nth(1).map_or(otherwise, |word| word.parse().unwrap_or_else(|_| panic!("{name} wants a number")))
    };
    let (commands, rounds) = (argument("--commands", 1_000_000), argument("--rounds", 5));
    let (checked, seed) = (argument("--check", 20_000), argument("--seed", 1) as u64);
    let books = argument("--explain", 2_000) as u32;

    let crowd = Crowd { commands, ..QUERIES }.record(seed);
    let with_queries = measure(&crowd, rounds);
    drop(crowd);
    let crowd = Crowd { commands, ..PLAIN }.record(seed);
    let plain = measure(&crowd, rounds);
    drop(crowd);

    let applied = Applied::record(commands, seed);
    let applied_ns = median((0..rounds.max(1)).map(|_| applied.ns()).collect());

    let anything = Crowd { mix: Mix::Anything, offers: 12, orders: 8, queries: 0, commands: EPISODE };
    let few = Crowd { offers: 600, orders: 60, queries: 36, commands: EPISODE * 4, ..QUERIES };
    let plain_few = Crowd { offers: 50, orders: 50, commands: EPISODE * 4, ..PLAIN };
    let mut equal = compare(few, seed) && compare(plain_few, seed);
    let episodes = checked.div_ceil(EPISODE) as u64;
    equal &= (0..episodes).all(|episode| compare(anything, seed.wrapping_mul(1 << 32).wrapping_add(episode)));
    let explained = explain_books(books, seed);
    if let Err(error) = &explained {
        println!("{error}");
    }
    let (right, explained) = (explained.is_ok(), explained.unwrap_or_default());
    println!(
        "{}",
        json!({
            "query_orders_per_s": 1e9 / with_queries.ns,
            "match_p99_us": with_queries.p99_us,
            "match_max_us": with_queries.max_us,
            "traded_share": with_queries.traded,
            "orders_waiting": with_queries.waiting,
            "plain_core_per_s": 1e9 / plain.ns,
            "plain_p99_us": plain.p99_us,
            "plain_traded_share": plain.traded,
            "plain_apply_per_s": 1e9 / applied_ns,
            "plain_apply": "PlaceOrder, AmendOrder, CancelOrder and offers through State::apply, 256 an envelope, 4 envelopes an entry, holds and agreements included; a second of the commands that were done",
            "plain_apply_done": applied.done as f64 / applied.commands as f64,
            "plain_apply_trades": applied.trades as f64 / applied.commands as f64,
            "checked_commands": episodes * EPISODE as u64,
            "digest_equals_naive": equal,
            "explain_ms": explain_ms(QUERIES.offers as usize, rounds, seed),
            "explained_books": books,
            "explained_matched": explained.matched,
            "explained_named": explained.named,
            "explained_hopeless": explained.hopeless,
            "explained_equals_naive": right,
        })
    );
    if equal && right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Measured {
    /// CPU time of a command.
    ns: f64,
    p99_us: f64,
    max_us: f64,
    /// Commands that traded, of all.
    traded: f64,
    /// Orders that wait at the end.
    waiting: usize,
}

fn measure(crowd: &Crowded, rounds: usize) -> Measured {
    let mut ns = Vec::new();
    let mut trades = Vec::new();
    for _ in 0..rounds.max(1) {
        let mut market = filled(crowd);
        let from = Moment::now();
        for command in &crowd.stream {
            trades.clear();
            market.apply(command, &mut trades);
        }
        ns.push(from.cpu_ns() as f64 / crowd.stream.len() as f64);
    }
    let (mut market, mut traded) = (filled(crowd), 0usize);
    let mut took = Vec::with_capacity(crowd.stream.len());
    for command in &crowd.stream {
        trades.clear();
        let from = Instant::now();
        market.apply(command, &mut trades);
        took.push(from.elapsed().as_nanos() as u64);
        traded += usize::from(!trades.is_empty());
    }
    took.sort_unstable();
    let us =
        |share: f64| took.get((took.len() as f64 * share) as usize).or(took.last()).map_or(0.0, |ns| *ns as f64 / 1e3);
    let placed = crowd.setup.iter().chain(&crowd.stream).filter_map(|command| match command {
        Command::Place { id, .. } => Some(*id),
        _ => None,
    });
    Measured {
        ns: median(ns),
        p99_us: us(0.99),
        max_us: us(1.0),
        traded: traded as f64 / crowd.stream.len() as f64,
        waiting: placed.filter(|id| market.waits(*id)).count(),
    }
}

fn filled(crowd: &Crowded) -> Fast {
    let (mut market, mut trades) = (Fast::new(&crowd.queries), Vec::new());
    for command in &crowd.setup {
        trades.clear();
        market.apply(command, &mut trades);
    }
    market
}

/// Whether engine and naive matcher trade alike, command by command.
fn compare(crowd: Crowd, seed: u64) -> bool {
    let crowd = crowd.record(seed);
    let (mut fast, mut naive) = (Fast::new(&crowd.queries), Naive::new(&crowd.queries));
    let (mut left, mut right) = (Digest::default(), Digest::default());
    for command in crowd.setup.iter().chain(&crowd.stream) {
        let (mut ours, mut theirs): (Vec<Trade>, Vec<Trade>) = Default::default();
        fast.apply(command, &mut ours);
        naive.apply(command, &mut theirs);
        left.add(&ours);
        right.add(&theirs);
        if left != right {
            println!("seed {seed}: {command:?}: the engine trades {ours:?}, the naive matcher {theirs:?}");
            return false;
        }
    }
    true
}
