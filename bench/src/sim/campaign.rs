//! Many seeds, each a world of its own: run on as many threads as there are cores, one seed a thread, and added up.

use super::{
    checks::Violation,
    coverage::Coverage,
    rng::Trace,
    world::{Summary, World},
};
use std::{
    cell::Cell,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

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
    /// The hash of all traces, in order of seeds.
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

/// Runs `count` seeds from `first`; stops at the first failure when `stop` says so. `progress` hears of every seed.
pub fn run(first: u64, count: u64, stop: bool, progress: &(dyn Fn(u64) + Sync)) -> Totals {
    let next = AtomicU64::new(0);
    let threads =
        thread::available_parallelism().map_or(1, usize::from).min(usize::try_from(count).unwrap_or(1).max(1));
    let work = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return done;
            }
            let result = run_seed(first + at);
            if result.is_err() && stop {
                next.store(count, Ordering::Relaxed);
            }
            progress(at + 1);
            done.push((at, result));
        }
    };
    let mut results: Vec<(u64, Result<Summary, Failure>)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    results.sort_by_key(|(at, _)| *at);
    let mut totals = Totals::default();
    let mut trace = Trace(0);
    for (_, result) in results {
        totals.seeds += 1;
        match result {
            Ok(summary) => totals.add(&summary, &mut trace),
            Err(failure) => totals.failures.push(failure),
        }
    }
    totals.trace = trace.0;
    totals
}

impl Totals {
    fn add(&mut self, summary: &Summary, trace: &mut Trace) {
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
        trace.add(summary.trace);
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
    }
}
