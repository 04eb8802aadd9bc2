//! Soft state that only live views show: it is neither replicated nor kept.

use matrixai_state::ids::MachineId;
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Machines whose progress is kept; more are left out, since nothing depends on it.
const PROGRESS_MAX: usize = 10_000;

/// What a worker last said about the task that it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Key of the assignment.
    pub(crate) key: String,
    /// Done, in millionths.
    pub(crate) done_e6: u32,
}

/// Progress of the machines with a session here, and when each coordinator was last heard.
#[derive(Debug, Default)]
pub(crate) struct Live {
    progress: Mutex<BTreeMap<MachineId, Progress>>,
    heard: Mutex<BTreeMap<u64, Instant>>,
}

impl Live {
    /// Notes a machine's progress; `None` forgets it.
    pub(crate) fn set_progress(&self, machine: MachineId, progress: Option<Progress>) {
        let mut all = lock(&self.progress);
        match progress {
            Some(progress) if all.len() < PROGRESS_MAX || all.contains_key(&machine) => {
                all.insert(machine, progress);
            }
            Some(_) => {}
            None => {
                all.remove(&machine);
            }
        }
    }

    /// A machine's progress, if its session is here.
    pub(crate) fn progress(&self, machine: MachineId) -> Option<Progress> {
        lock(&self.progress).get(&machine).cloned()
    }

    /// Notes that a coordinator was heard just now.
    pub(crate) fn heard(&self, node: u64) {
        lock(&self.heard).insert(node, Instant::now());
    }

    /// Time since a coordinator was heard; `None` for never.
    pub(crate) fn silence(&self, node: u64) -> Option<Duration> {
        lock(&self.heard).get(&node).map(Instant::elapsed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
