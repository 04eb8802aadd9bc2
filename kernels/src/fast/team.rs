//! Threads that share one piece of work, and one pace.
//!
//! Work comes in phases; within a phase every item is somebody's, and nobody needs another's result. The calling thread
//! works too, and is the only one that ticks: while it is held up in a tick, the others stop at their next one, so that
//! a limit on its time is a limit on each of theirs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use crate::pace::{Pace, Pacer, Stopped};

/// The calling thread and `threads - 1` others, which live as long as a phase.
pub(super) struct Team<'p> {
    threads: usize,
    pace: &'p mut dyn Pace,
}

impl<'p> Team<'p> {
    pub(super) fn new(threads: usize, pace: &'p mut dyn Pace) -> Self {
        Self { threads: threads.max(1), pace }
    }

    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    /// Does `work` on every item, each thread with scratch room of its own.
    pub(super) fn each<T: Send, R>(
        &mut self,
        items: impl Iterator<Item = T> + Send,
        room: impl Fn() -> R + Sync,
        work: impl Fn(&mut R, T, &mut Pacer<'_>) -> Result<(), Stopped> + Sync,
    ) -> Result<(), Stopped> {
        let items = Mutex::new(items);
        let take_part = |pace: &mut dyn Pace| {
            let (mut room, mut pacer) = (room(), Pacer::fast(pace));
            loop {
                // The lock is held for this line only.
                let item = items.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(item) = item else { return Ok(()) };
                work(&mut room, item, &mut pacer)?;
            }
        };
        if self.threads == 1 {
            return take_part(self.pace);
        }
        let gate = Gate::default();
        std::thread::scope(|scope| {
            for _ in 1..self.threads {
                // A thread that cannot be had is done without.
                std::thread::Builder::new().spawn_scoped(scope, || take_part(&mut Follower(&gate))).ok();
            }
            take_part(&mut Leader { pace: self.pace, gate: &gate })
        })
    }
}

/// What the calling thread and the others tell each other.
#[derive(Default)]
struct Gate {
    /// Held by the calling thread while it ticks.
    ticking: RwLock<()>,
    stopped: AtomicBool,
}

struct Leader<'a> {
    pace: &'a mut dyn Pace,
    gate: &'a Gate,
}

impl Pace for Leader<'_> {
    fn tick(&mut self) -> Result<(), Stopped> {
        let _closed = self.gate.ticking.write().unwrap_or_else(PoisonError::into_inner);
        self.pace.tick().inspect_err(|_| self.gate.stopped.store(true, Ordering::Release))
    }
}

struct Follower<'a>(&'a Gate);

impl Pace for Follower<'_> {
    fn tick(&mut self) -> Result<(), Stopped> {
        drop(self.0.ticking.read().unwrap_or_else(PoisonError::into_inner));
        if self.0.stopped.load(Ordering::Acquire) { Err(Stopped) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pace::Unpaced;

    #[test]
    fn every_item_is_done_once_whatever_the_number_of_threads() {
        for threads in [0, 1, 2, 5] {
            let mut done = vec![0u32; 1000];
            let mut pace = Unpaced;
            let work = |_: &mut (), slot: &mut u32, _: &mut Pacer<'_>| {
                *slot += 1;
                Ok(())
            };
            assert_eq!(Team::new(threads, &mut pace).each(done.iter_mut(), || (), work), Ok(()));
            assert!(done.iter().all(|&times| times == 1), "{threads} threads");
        }
    }

    #[test]
    fn a_stop_of_the_calling_thread_stops_the_others() {
        struct Never;
        impl Pace for Never {
            fn tick(&mut self) -> Result<(), Stopped> {
                Err(Stopped)
            }
        }
        // Items without end: only a stop ends it.
        let work = |_: &mut (), _: u64, pacer: &mut Pacer<'_>| pacer.work(u64::from(u32::MAX));
        assert_eq!(Team::new(3, &mut Never).each(0.., || (), work), Err(Stopped));
    }
}
