//! The coordinators that this worker may turn to: their addresses, a lazily dialled channel to each, and which one is
//! believed to be well at the moment.

use matrixai_transport::{AddressError, Callee, Dialer, Line};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tonic::transport::Channel;

/// Addresses in the order of the configuration.
#[derive(Debug)]
pub(crate) struct Coordinators {
    all: Vec<Coordinator>,
    /// Index of the one that last welcomed us.
    preferred: AtomicUsize,
}

#[derive(Debug)]
pub(crate) struct Coordinator {
    pub(crate) address: String,
    /// For a session, whose end must be noticed: each dials anew.
    pub(crate) line: Line,
    /// For single calls: dialled when needed, and again after it broke.
    pub(crate) channel: Channel,
}

impl Coordinators {
    /// Takes the addresses; must be called inside the runtime. Nothing is dialled yet.
    pub(crate) fn new(addresses: &[String], dialer: &Dialer, timeout: Duration) -> Result<Self, AddressError> {
        let new = |address: &String| Coordinator::new(address, dialer, timeout);
        let all = addresses.iter().map(new).collect::<Result<_, _>>()?;
        Ok(Self { all, preferred: AtomicUsize::new(0) })
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// The `n`-th to try, counting from the preferred one, round and round.
    pub(crate) fn nth(&self, n: usize) -> (usize, &Coordinator) {
        let index = (self.preferred.load(Ordering::Relaxed) + n) % self.all.len();
        (index, &self.all[index])
    }

    pub(crate) fn at(&self, index: usize) -> &Coordinator {
        &self.all[index % self.all.len()]
    }

    pub(crate) fn prefer(&self, index: usize) {
        self.preferred.store(index, Ordering::Relaxed);
    }
}

impl Coordinator {
    fn new(address: &str, dialer: &Dialer, timeout: Duration) -> Result<Self, AddressError> {
        let line = dialer.line(address, Callee::Host)?.tuned(|endpoint| endpoint.connect_timeout(timeout));
        let channel = line.lazy();
        Ok(Self { address: address.to_owned(), line, channel })
    }
}

/// A pause that grows with each failure and is never the same on two machines.
#[derive(Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, failures: 0 }
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next pause: between half of the step and the whole of it.
    pub(crate) fn next(&mut self) -> Duration {
        let step = self.min.saturating_mul(1 << self.failures.min(20)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        // Without random bytes all machines step alike, which is no worse than no jitter.
        let dice: [u8; 1] = matrixai_proto::envelope::random().unwrap_or_default();
        step / 2 + (step / 2).mul_f64(f64::from(dice[0]) / 255.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_over() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(500));
        for longest in [100, 200, 400, 500, 500, 500] {
            let pause = backoff.next();
            assert!(pause >= ms(longest / 2) && pause <= ms(longest), "{pause:?} of {longest}");
        }
        backoff.reset();
        assert!(backoff.next() <= ms(100));
    }

    #[tokio::test]
    async fn the_one_that_is_well_comes_first() -> Result<(), AddressError> {
        let addresses = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"].map(str::to_owned);
        let coordinators = Coordinators::new(&addresses, &Dialer::default(), Duration::from_secs(1))?;
        coordinators.prefer(1);
        let order: Vec<_> = (0..4).map(|n| coordinators.nth(n).1.address.as_str()).collect();
        assert_eq!(order, ["127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:1", "127.0.0.1:2"]);
        Ok(())
    }
}
