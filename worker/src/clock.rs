//! The worker's clocks: a monotonic one for its own waiting, and an estimate of ledger time for expiries and deadlines.
//!
//! Ledger time is the coordinators'; the estimate is what they last said plus what has passed since. The network's
//! delay makes it late, never early, so a worker stops at a deadline a little after the ledger does, not before.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Instant,
};

/// Shared by every task of the worker.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    /// Ledger time minus own time, milliseconds.
    ahead_ms: AtomicI64,
}

impl Clock {
    /// A clock that starts now and knows nothing of the ledger's yet.
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), ahead_ms: AtomicI64::new(0) }
    }

    /// Milliseconds since the start; never back.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A coordinator said what ledger time it is.
    pub(crate) fn observe(&self, ledger_ms: u64) {
        let ahead = i64::try_from(ledger_ms).unwrap_or(i64::MAX).saturating_sub_unsigned(self.now_ms());
        self.ahead_ms.store(ahead, Ordering::Relaxed);
    }

    /// Ledger time as far as known, ms since the Unix epoch.
    pub(crate) fn ledger_ms(&self) -> u64 {
        self.now_ms().saturating_add_signed(self.ahead_ms.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ledger_time_runs_on_from_what_was_said() {
        let clock = Clock::start();
        clock.observe(1_700_000_000_000);
        let ledger = clock.ledger_ms();
        assert!((1_700_000_000_000..1_700_000_010_000).contains(&ledger), "{ledger}");
        clock.observe(5);
        assert!(clock.ledger_ms() < 10_000);
    }
}
