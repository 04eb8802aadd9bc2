//! Many seeds, each a world of its own: run on as many threads as there are cores, each taking the next seed when it is done
//! with one, and added up.

use super::{
    checks::Violation,
    coverage::Coverage,
    rng::mix,
    world::{Summary, World},
};
use std::{
    cell::Cell,
    path::PathBuf,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    thread,
};

/// Seeds that found a bug, one a line, each followed by what it was; `#` begins a comment.
const KEPT: &str = include_str!("../../seeds.txt");

thread_local! {
    /// The seed that this thread simulates, for a panic's story.
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// A violation and its seed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Replays it.
    pub seed: u64,
    /// What does not hold.
    pub violation: Violation,
    /// When, simulated microseconds.
    pub at_us: u64,
}

/// Everything a campaign came to.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Seeds run.
    pub seeds: u64,
    /// What failed.
    pub failures: Vec<Failure>,
    /// Sums over the seeds.
    pub commands: u64,
    /// Faults.
    pub faults: u64,
    /// Terms with a leader.
    pub elections: u64,
    /// Entries applied.
    pub entries: u64,
    /// Snapshots saved, and installed from another node.
    pub snapshots: u64,
    /// See `snapshots`.
    pub installed: u64,
    /// Acknowledged envelopes.
    pub acknowledged: u64,
    /// Operations in checked histories.
    pub operations: u64,
    /// Histories that were too hard to decide.
    pub undecided: u64,
    /// Simulated seconds.
    pub simulated_s: f64,
    /// A hash over the traces of all seeds, whichever thread ran them.
    pub trace: u64,
    /// What came up.
    pub coverage: Coverage,
}

/// The seed of this thread.
pub fn current_seed() -> Option<u64> {
    SEED.with(Cell::get)
}

/// A folder for the names of simulated files: on a memory file system where there is one, since some of what raft-engine does
/// there cannot be kept from the machine.
fn folder(seed: u64) -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let base = if memory.is_dir() { memory } else { std::env::temp_dir() };
    base.join(format!("matrixai-sim-{}-{seed}", std::process::id()))
}

/// Runs one seed.
///
/// # Errors
/// The first violation, with its seed.
pub fn run_seed(seed: u64) -> Result<Summary, Failure> {
    SEED.with(|cell| cell.set(Some(seed)));
    let folder = folder(seed);
    let failed = |violation, at_us| {
        let _ = std::fs::remove_dir_all(&folder);
        Failure { seed, violation, at_us }
    };
    let mut world = World::new(seed, folder.clone()).map_err(|violation| failed(violation, 0))?;
    let summary = world.run().map_err(|violation| failed(violation, world.now()));
    SEED.with(|cell| cell.set(None));
    summary
}

/// The seeds that found a bug once.
pub fn kept() -> impl Iterator<Item = u64> {
    KEPT.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok())
}

/// Runs seeds; stops at the first failure when `stop` says so. `progress` hears of every seed.
pub fn run(seeds: &[u64], stop: bool, progress: &(dyn Fn(u64) + Sync)) -> Totals {
    let next = AtomicUsize::new(0);
    let done = AtomicU64::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from).min(seeds.len());
    let work = || {
        let mut totals = Totals::default();
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = run_seed(*seed);
            if result.is_err() && stop {
                next.store(seeds.len(), Ordering::Relaxed);
            }
            totals.add(*seed, result);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        }
        totals
    };
    let parts: Vec<Totals> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_default()).collect()
    });
    let mut totals = parts.into_iter().fold(Totals::default(), Totals::with);
    totals.failures.sort_by_key(|failure| failure.seed);
    totals
}

impl Totals {
    fn add(&mut self, seed: u64, result: Result<Summary, Failure>) {
        self.seeds += 1;
        let summary = match result {
            Ok(summary) => summary,
            Err(failure) => return self.failures.push(failure),
        };
        self.commands += summary.commands;
        self.faults += summary.faults;
        self.elections += summary.elections;
        self.entries += summary.entries;
        self.snapshots += summary.snapshots;
        self.installed += summary.installed;
        self.acknowledged += summary.acknowledged;
        self.operations += summary.operations;
        self.undecided += summary.undecided;
        self.simulated_s += summary.simulated_us as f64 / 1e6;
        self.coverage.merge(&summary.coverage);
        self.trace = self.trace.wrapping_add(mix(summary.trace ^ mix(seed)));
    }

    /// What two threads came to.
    fn with(mut self, other: Self) -> Self {
        self.seeds += other.seeds;
        self.failures.extend(other.failures);
        self.commands += other.commands;
        self.faults += other.faults;
        self.elections += other.elections;
        self.entries += other.entries;
        self.snapshots += other.snapshots;
        self.installed += other.installed;
        self.acknowledged += other.acknowledged;
        self.operations += other.operations;
        self.undecided += other.undecided;
        self.simulated_s += other.simulated_s;
        self.coverage.merge(&other.coverage);
        self.trace = self.trace.wrapping_add(other.trace);
        self
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The seed is 7 for no reason; a failure names the command that replays it.
    #[test]
    fn a_seed_has_one_trace_and_no_violation() {
        let (first, second) = (run_seed(7).unwrap(), run_seed(7).unwrap());
        assert_eq!((first.trace, first.commands), (second.trace, second.commands));
        assert!(first.commands >= 200 * 25, "{} commands are too few", first.commands);
        assert!(first.faults >= 10 && first.acknowledged * 2 > first.commands);
        assert_eq!(first.undecided, 0, "a history of an account is too hard for the search");
    }

    #[test]
    fn kept_seeds_are_numbers_that_say_what_they_found() {
        for line in KEPT.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (seed, found) = line.split_once(' ').unwrap_or((line, ""));
            assert!(seed.parse::<u64>().is_ok() && !found.trim().is_empty(), "{line:?} is no seed with a reason");
        }
        assert_eq!(kept().count(), KEPT.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count());
    }
}
