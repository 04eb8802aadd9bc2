//! What a snapshot costs the thread that applies: while it is encoded on another thread, pages that it shares are copied
//! before they are written.
//!
//! `cargo run --release -p matrixai-bench --bin snapshot [-- --accounts 1000000 --jobs 1000000 --machines 100000 --rounds 5]`.
//! The state is made through the log. A round applies the same number of entries twice, once while no view is alive and
//! once from the moment at which a view is taken, chunks being made of it on another thread and thrown away; figures are
//! the median of the rounds. At the end one snapshot is loaded, and must have the root.
#![allow(clippy::print_stdout)]

use matrixai_bench::{
    furniture,
    population::{LIFE_MS, Population},
    timing::{Moment, median, resident_bytes},
};
use matrixai_state::snapshot::{Chunks, Loader};
use serde_json::json;
use std::{thread, time::Instant};

/// As in the product's binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Transfers of one entry, which is a batch here: what one call of `State::apply` does.
const PER_ENTRY: usize = 1_024;
/// Entries of a run.
const ENTRIES: usize = 400;
/// Ledger time between entries, ms.
const ADVANCE_MS: u64 = 60;

/// What a run of entries cost.
struct Run {
    cpu_ms_per_entry: f64,
    cpu_ms_max: f64,
    wall_gap_ms: f64,
}

fn main() {
    let argument = |name: &str, otherwise: usize| {
        let mut words = std::env::args().skip_while(|word| word != name);
        words.nth(1).map_or(otherwise, |word| word.parse().unwrap_or_else(|_| panic!("{name} wants a number")))
    };
    let begun = resident_bytes();
    let mut all = Population::new(argument("--accounts", 1_000_000));
    let with_accounts = resident_bytes();
    furniture::machines(&mut all, argument("--machines", 100_000));
    let with_machines = resident_bytes();
    let jobs = argument("--jobs", 1_000_000);
    furniture::jobs(&mut all, jobs);
    let with_jobs = resident_bytes();
    // Full windows, and every expiry that the making left behind.
    let filling = usize::try_from(LIFE_MS / ADVANCE_MS).unwrap_or(usize::MAX) + 200;
    for _ in 0..filling {
        let entry = all.singles(PER_ENTRY, ADVANCE_MS);
        all.apply(&entry);
    }
    let mut figures: [Vec<f64>; 7] = Default::default();
    let mut bytes = 0;
    for _ in 0..argument("--rounds", 5) {
        let alone = run(&mut all, || ());
        let mut encoder = None;
        let mut clone_ms = 0.0;
        let view = {
            let from = Instant::now();
            let view = all.state.clone();
            clone_ms += from.elapsed().as_secs_f64() * 1e3;
            view
        };
        let with = run(&mut all, || {
            encoder = Some(thread::spawn(move || {
                let from = Instant::now();
                let (mut bytes, mut chunks) = (0, 0);
                for chunk in Chunks::new(view, Vec::new()) {
                    bytes += chunk.len();
                    chunks += 1;
                }
                (bytes, chunks, from.elapsed().as_secs_f64())
            }));
        });
        let (encoded, _, seconds) = encoder.map(|encoder| encoder.join()).and_then(Result::ok).unwrap_or_default();
        bytes = encoded;
        let values = [
            alone.cpu_ms_per_entry,
            with.cpu_ms_per_entry - alone.cpu_ms_per_entry,
            with.cpu_ms_max,
            alone.wall_gap_ms,
            with.wall_gap_ms,
            clone_ms,
            seconds,
        ];
        figures.iter_mut().zip(values).for_each(|(all, value)| all.push(value));
    }
    let root = all.state.root();
    let mut loader = Loader::new();
    let from = Instant::now();
    Chunks::new(all.state.clone(), Vec::new()).for_each(|chunk| loader.push(&chunk).expect("a chunk is taken"));
    let loaded = loader.finish().expect("the snapshot is whole");
    assert_eq!(loaded.root(), root, "a snapshot keeps the root");
    let copied_s = from.elapsed().as_secs_f64();
    let [alone, added, cpu_max, gap_alone, gap_with, clone, encode] = figures.map(median);
    let per = |bytes: u64, count: usize| bytes.checked_div(count as u64).unwrap_or_default();
    println!(
        "{}",
        json!({
            "state": furniture::census(&all.state),
            "entry": "1,024 single transfers of 256 bytes",
            "apply_cpu_ms_per_entry": alone,
            "added_cpu_ms_per_entry": added,
            "cpu_ms_max_with_snapshot": cpu_max,
            "wall_gap_ms_max": gap_alone,
            "wall_gap_ms_max_with_snapshot": gap_with,
            "view_ms": clone,
            "encode_s": encode,
            "snapshot_bytes": bytes,
            "encode_and_load_s": copied_s,
            "bytes_per_account": per(with_accounts - begun, all.keys.len()),
            "bytes_per_job": per(with_jobs - with_machines, jobs),
        })
    );
}

/// Applies a run of entries; `then` is called before the first.
fn run(all: &mut Population, then: impl FnOnce()) -> Run {
    let entries: Vec<Vec<u8>> = (0..ENTRIES).map(|_| all.singles(PER_ENTRY, ADVANCE_MS)).collect();
    then();
    let whole = Moment::now();
    let (mut cpu_ms_max, mut wall_gap_ms) = (0.0f64, 0.0f64);
    for entry in &entries {
        let (cpu, wall) = (Moment::now(), Instant::now());
        all.apply(entry);
        wall_gap_ms = wall_gap_ms.max(wall.elapsed().as_secs_f64() * 1e3);
        cpu_ms_max = cpu_ms_max.max(cpu.cpu_ns() as f64 / 1e6);
    }
    Run { cpu_ms_per_entry: whole.cpu_ns() as f64 / 1e6 / ENTRIES as f64, cpu_ms_max, wall_gap_ms }
}
