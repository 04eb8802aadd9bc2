//! How fast one core applies the log: transfers, and transfers in two phases, one and 256 to an envelope; the ledger's core
//! alone; and how the cost grows with the accounts.
//!
//! `cargo run --release -p matrixai-bench --bin apply [-- --accounts 1000000 --rounds 9]`. Rounds of the three sizes
//! alternate, so that whatever else the machine does disturbs all alike; a figure is the median of its rounds, in CPU time
//! of the applying thread. Making the entries is not counted, dropping what apply returns is.
#![allow(clippy::print_stdout)]

use matrixai_bench::{
    population::{LIFE_MS, Population, Posting},
    timing::{Moment, median},
};
use matrixai_state::{measure, money::Money};
use serde_json::json;

/// As in the product's binary: how memory lies decides much of what is measured here.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Transfers of one entry.
const PER_ENTRY: usize = 1_024;
/// Transfers of a batched envelope.
const BATCH: usize = 256;
/// Entries of a round.
const ENTRIES: usize = 200;
/// Ledger time between entries, ms: as many envelopes are remembered as arrive in an envelope's life.
const ADVANCE_MS: u64 = 60;

fn main() {
    let argument = |name: &str, otherwise: usize| {
        let mut words = std::env::args().skip_while(|word| word != name);
        words.nth(1).map_or(otherwise, |word| word.parse().unwrap_or_else(|_| panic!("{name} wants a number")))
    };
    let (accounts, rounds) = (argument("--accounts", 1_000_000), argument("--rounds", 9));
    let sizes = [accounts / 100, accounts / 10, accounts];
    let mut populations: Vec<Population> = sizes.iter().map(|size| Population::new(*size)).collect();
    // Idempotency is on: fill every window before the clock starts.
    let filling = usize::try_from(LIFE_MS / ADVANCE_MS).unwrap_or(usize::MAX);
    for population in &mut populations {
        for _ in 0..filling {
            let entry = population.singles(PER_ENTRY, ADVANCE_MS);
            population.apply(&entry);
        }
    }
    let mut single = vec![Vec::new(); sizes.len()];
    let mut batched = vec![Vec::new(); sizes.len()];
    let mut two_phase = vec![Vec::new(); sizes.len()];
    let mut two_phase_batched = vec![Vec::new(); sizes.len()];
    let mut core = vec![Vec::new(); sizes.len()];
    for _ in 0..rounds {
        for (at, population) in populations.iter_mut().enumerate() {
            let entries = (0..ENTRIES).map(|_| population.singles(PER_ENTRY, ADVANCE_MS)).collect();
            single[at].push(ns_per_command(population, entries));
            let entries = (0..ENTRIES).map(|_| population.batches(PER_ENTRY / BATCH, BATCH, ADVANCE_MS)).collect();
            batched[at].push(ns_per_command(population, entries));
            let entries =
                two_phases(|count, open| population.two_phase_singles(count * PER_ENTRY / 2, open, ADVANCE_MS));
            two_phase[at].push(ns_per_command(population, entries));
            let entries = two_phases(|count, open| {
                population.two_phase_batches(count * PER_ENTRY / BATCH / 2, BATCH, open, ADVANCE_MS)
            });
            two_phase_batched[at].push(ns_per_command(population, entries));
        }
        for (population, core) in populations.iter_mut().zip(&mut core) {
            core.push(core_ns(population));
        }
    }
    let figures = |rounds: Vec<Vec<f64>>| -> Vec<f64> { rounds.into_iter().map(median).collect() };
    let (single, batched, core) = (figures(single), figures(batched), figures(core));
    let (two_phase, two_phase_batched) = (figures(two_phase), figures(two_phase_batched));
    let growth = |ns: &[f64]| json!({ "ns_per_command": ns, "growth": ns[ns.len() - 1] / ns[0] });
    println!(
        "{}",
        json!({
            "accounts": sizes,
            "transfers_per_s": 1e9 / single[2],
            "transfers": "one 256-byte signed transfer with a memo an envelope, 1,024 envelopes an entry",
            "batched_transfers_per_s": 1e9 / batched[2],
            "batched": "256 transfers of 256 bytes an envelope, 4 envelopes an entry",
            "two_phase_per_s": 1e9 / two_phase[2],
            "two_phase": "holds and posts, a pair counts as two; one command an envelope, 1,024 an entry, posted an entry later",
            "batched_two_phase_per_s": 1e9 / two_phase_batched[2],
            "batched_two_phase": "the same, 256 commands an envelope, all holds of one for one account",
            "ledger_per_s": 1e9 / core[2],
            "ledger": "typed transfers by account id with their movements; no log, envelopes or idempotency",
            "single": growth(&single),
            "batch": growth(&batched),
            "two_phase_single": growth(&two_phase),
            "two_phase_batch": growth(&two_phase_batched),
            "core": growth(&core),
        })
    );
}

/// Entries of first and second phases: `make` is told the share of an entry (1 or 0) that holds, and posts what is open.
fn two_phases(mut make: impl FnMut(usize, &mut Vec<Posting>) -> Vec<u8>) -> Vec<Vec<u8>> {
    let mut open = Vec::new();
    (0..=ENTRIES).map(|entry| make(usize::from(entry < ENTRIES), &mut open)).collect()
}

/// Transfers by the ledger's core alone; CPU nanoseconds each.
fn core_ns(population: &mut Population) -> f64 {
    let amount = Money::minor(100).expect("it is a small amount");
    let pairs: Vec<_> = (0..PER_ENTRY * ENTRIES).map(|_| population.pair()).collect();
    let transfers: Vec<_> =
        pairs.into_iter().map(|(from, to)| (population.ids[from], population.ids[to], amount)).collect();
    let from = Moment::now();
    for part in transfers.chunks(PER_ENTRY) {
        let (done, movements) = measure::transfers(&mut population.state, part);
        assert_eq!((done, movements.len()), (part.len(), 2 * part.len()));
    }
    from.cpu_ns() as f64 / transfers.len() as f64
}

/// Applies the entries; CPU nanoseconds a command.
fn ns_per_command(population: &mut Population, entries: Vec<Vec<u8>>) -> f64 {
    let from = Moment::now();
    let commands: usize = entries.iter().map(|entry| population.apply(entry)).sum();
    from.cpu_ns() as f64 / commands as f64
}
