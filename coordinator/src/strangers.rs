//! The door for keys that nobody has. A stranger costs nothing to be, so nothing that strangers can send for ever reaches the log
//! faster than one rate for all of them together; and what reaches it is small, and opens or recovers an account. What
//! somebody has paid for, or an account's own limit bounds, is not counted: a flood of strangers keeps no such one out.

use crate::{
    config,
    edge::{self, Stopped},
};
use matrixai_proto::v1::Envelope;
use matrixai_state::{Refusal, State, strangers::Bound};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Looks at strangers' envelopes at once, each at those of one batch of signatures. All wait for the same rounds of the quorum.
const LOOKS_MAX: usize = 64;

/// What strangers may still do at this coordinator.
#[derive(Debug)]
pub(crate) struct Strangers {
    bucket: Mutex<Bucket>,
    begun: Instant,
    places: Arc<Semaphore>,
}

impl Strangers {
    pub(crate) fn new(limits: &config::Strangers) -> Self {
        let places = Arc::new(Semaphore::new(LOOKS_MAX));
        Self { bucket: Mutex::new(Bucket::new(limits)), begun: Instant::now(), places }
    }

    /// A place for one more look, if there is one.
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// Checks an envelope of a key that this linearizable view does not know, and counts it where nothing else does.
    pub(crate) fn admit(&self, envelope: &Envelope, state: &State) -> Result<(), Stopped> {
        if edge::of_stranger(envelope, state)? == Bound::State {
            return Ok(());
        }
        let now_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        if bucket.take(now_ms) { Ok(()) } else { Err(Stopped::Refused(Refusal::RateLimited)) }
    }
}

/// Tokens in thousandths: at r a second, r thousandths flow back each millisecond.
#[derive(Debug)]
struct Bucket {
    per_s: u64,
    capacity: u64,
    level: u64,
    at_ms: u64,
}

impl Bucket {
    const TOKEN: u64 = 1_000;

    fn new(limits: &config::Strangers) -> Self {
        let capacity = u64::from(limits.burst) * Self::TOKEN;
        Self { per_s: limits.per_s.into(), capacity, level: capacity, at_ms: 0 }
    }

    /// Takes one, if there is one; 0 a second is no limit.
    fn take(&mut self, now_ms: u64) -> bool {
        if self.per_s == 0 {
            return true;
        }
        let refill = now_ms.saturating_sub(self.at_ms).saturating_mul(self.per_s);
        (self.level, self.at_ms) = (self.level.saturating_add(refill).min(self.capacity), now_ms);
        match self.level.checked_sub(Self::TOKEN) {
            Some(left) => {
                self.level = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_strangers_share_one_bucket() {
        let mut bucket = Bucket::new(&config::Strangers { per_s: 2, burst: 3 });
        let taken = |bucket: &mut Bucket, at_ms| (0..9).filter(|_| bucket.take(at_ms)).count();
        assert_eq!(taken(&mut bucket, 0), 3);
        assert_eq!(taken(&mut bucket, 499), 0);
        assert_eq!(taken(&mut bucket, 500), 1);
        assert_eq!(taken(&mut bucket, 1_500), 2);
        assert_eq!(taken(&mut bucket, 1_000_000), 3, "no more than the burst");
        assert_eq!(taken(&mut Bucket::new(&config::Strangers { per_s: 0, burst: 1 }), 0), 9, "no limit");
    }
}
