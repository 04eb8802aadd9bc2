//! Time: the only place where the wall clock is read, and the pure ledger clock that stamps log entries.
//!
//! The ledger clock follows the median of the coordinators' wall clocks. It never goes back, never runs faster than
//! twice the monotonic rate, and so cannot be moved by one clock that jumps: a leader whose clock is a day ahead can
//! neither charge nor expire anything. Each coordinator runs one all the time, since any may become leader.
//!
//! The one leap it takes is its first reading, when it has heard a majority's clocks: a cluster that was off for a
//! night must not spend the next one catching up at twice the rate.

use crate::plants::{Plant, planted};
use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// How often faster than the monotonic clock the ledger clock may run.
const RATE_MAX: u64 = 2;

/// A reading of another coordinator's clock is used for this long; its offset barely drifts meanwhile.
const READING_LIFE_MS: u64 = 60_000;

/// Milliseconds since the Unix epoch by this machine's wall clock.
pub(crate) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since an arbitrary start by a clock that never goes back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Monotonic(Instant);

impl Monotonic {
    /// A clock that starts now.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds since the start.
    pub(crate) fn now_ms(self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The clock that stamps log entries.
#[derive(Debug)]
pub struct LedgerClock {
    me: u64,
    /// The coordinators whose clocks count, ascending.
    voters: Vec<u64>,
    /// Each coordinator's clock as its distance from our monotonic clock, and when it was read.
    readings: BTreeMap<u64, Reading>,
    /// Newest stamp seen in the log.
    applied_ms: u64,
    /// Ledger time at a point of the monotonic clock; none before a majority was heard.
    anchor: Option<Anchor>,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    offset_ms: i128,
    read_at: u64,
}

#[derive(Debug, Clone, Copy)]
struct Anchor {
    ledger_ms: u64,
    at: u64,
}

impl LedgerClock {
    /// A clock of node `me`; those of `voters` count, which are in ascending order.
    pub fn new(me: u64, voters: Vec<u64>) -> Self {
        Self { me, voters, readings: BTreeMap::new(), applied_ms: 0, anchor: None }
    }

    /// Other coordinators vote from now on.
    pub fn follow(&mut self, voters: impl Iterator<Item = u64>) {
        self.voters.clear();
        self.voters.extend(voters);
        let (me, voters) = (self.me, &self.voters);
        self.readings.retain(|node, _| *node == me || voters.binary_search(node).is_ok());
    }

    /// A coordinator said what its clock shows.
    pub fn heard(&mut self, node: u64, clock_ms: u64, now: u64) {
        if node != self.me && self.voters.binary_search(&node).is_err() {
            return;
        }
        self.readings.insert(node, Reading { offset_ms: i128::from(clock_ms) - i128::from(now), read_at: now });
    }

    /// An entry with this stamp was applied: ledger time is at least that.
    pub fn applied(&mut self, stamp_ms: u64) {
        self.applied_ms = self.applied_ms.max(stamp_ms);
    }

    /// Lets time pass; to be called often, with this machine's wall clock. `now` is monotonic.
    pub fn tick(&mut self, wall_ms: u64, now: u64) {
        self.heard(self.me, wall_ms, now);
        self.readings.retain(|_, reading| now.saturating_sub(reading.read_at) <= READING_LIFE_MS);
        let Some(median) = self.median(now) else { return };
        let majority = self.readings.len() > self.voters.len() / 2;
        let ledger_ms = match self.anchor {
            None if !majority => return,
            None => median,
            // Too few clocks to say that this one is right: time goes on by the monotonic clock alone.
            Some(anchor) if !majority => anchor.ledger_ms.saturating_add(now.saturating_sub(anchor.at)),
            Some(anchor) => {
                let elapsed = now.saturating_sub(anchor.at);
                median.clamp(anchor.ledger_ms, anchor.ledger_ms.saturating_add(elapsed.saturating_mul(RATE_MAX)))
            }
        };
        self.anchor = Some(Anchor { ledger_ms: ledger_ms.max(self.applied_ms), at: now });
    }

    /// The stamp for an entry proposed now; none before a majority's clocks were heard.
    pub fn stamp(&self) -> Option<u64> {
        self.anchor.map(|anchor| anchor.ledger_ms.max(self.applied_ms))
    }

    /// Lower median, so that of two clocks the one that is behind counts: waiting is harmless, expiring early is not.
    fn median(&self, now: u64) -> Option<u64> {
        let counts = |node: &u64| *node == self.me || !planted(Plant::OwnClockOnly);
        let counted = self.readings.iter().filter(|(node, _)| counts(node));
        let mut offsets: Vec<i128> = counted.map(|(_, reading)| reading.offset_ms).collect();
        offsets.sort_unstable();
        let middle = offsets.get(offsets.len().checked_sub(1)? / 2)?;
        u64::try_from(middle.saturating_add(i128::from(now)).max(0)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;

    /// A clock of node 1 of three that has heard everybody at monotonic time 0, when all clocks show `wall`.
    fn agreed(wall: u64) -> LedgerClock {
        let mut clock = LedgerClock::new(1, vec![1, 2, 3]);
        clock.heard(2, wall, 0);
        clock.heard(3, wall, 0);
        clock.tick(wall, 0);
        clock
    }

    #[test]
    fn follows_the_median_at_its_rate() {
        let mut clock = agreed(1_000_000);
        assert_eq!(clock.stamp(), Some(1_000_000));
        clock.tick(1_000_050, 50);
        assert_eq!(clock.stamp(), Some(1_000_050));
    }

    #[test]
    fn needs_a_majority_for_its_first_reading() {
        let mut clock = LedgerClock::new(1, vec![1, 2, 3]);
        clock.tick(1_000, 0);
        assert_eq!(clock.stamp(), None);
        clock.heard(2, 1_010, 10);
        clock.tick(1_010, 10);
        assert_eq!(clock.stamp(), Some(1_010));
    }

    #[test]
    fn a_clock_that_jumps_a_day_moves_nothing() {
        let mut clock = agreed(1_000_000);
        clock.tick(1_000_100 + DAY, 100);
        assert_eq!(clock.stamp(), Some(1_000_100));
        clock.tick(1_000_200 - 1_000_000, 200);
        assert_eq!(clock.stamp(), Some(1_000_200));
    }

    #[test]
    fn a_majority_that_jumps_is_followed_at_twice_the_rate() {
        let mut clock = agreed(1_000_000);
        clock.heard(2, 1_000_100 + DAY, 100);
        clock.heard(3, 1_000_100 + DAY, 100);
        clock.tick(1_000_100, 100);
        assert_eq!(clock.stamp(), Some(1_000_200));
        clock.tick(1_000_150, 150);
        assert_eq!(clock.stamp(), Some(1_000_300));
    }

    #[test]
    fn never_goes_back() {
        let mut clock = agreed(1_000_000);
        clock.heard(2, 5, 100);
        clock.heard(3, 5, 100);
        clock.tick(5, 100);
        assert_eq!(clock.stamp(), Some(1_000_000));
        clock.applied(2_000_000);
        assert_eq!(clock.stamp(), Some(2_000_000));
        clock.tick(5, 200);
        assert_eq!(clock.stamp(), Some(2_000_000));
    }

    #[test]
    fn of_two_clocks_the_later_one_waits() {
        let mut clock = LedgerClock::new(1, vec![1, 2, 3]);
        clock.heard(2, 500, 0);
        clock.tick(900, 0);
        assert_eq!(clock.stamp(), Some(500));
    }

    #[test]
    fn a_cluster_that_was_off_leaps_once() {
        let mut clock = LedgerClock::new(1, vec![1, 2, 3]);
        clock.applied(1_000_000);
        clock.heard(2, 1_000_000 + DAY, 0);
        clock.tick(1_000_000 + DAY, 0);
        assert_eq!(clock.stamp(), Some(1_000_000 + DAY));
    }

    #[test]
    fn only_voters_count_and_they_may_change() {
        let mut clock = agreed(1_000_000);
        clock.heard(4, 1_000_000 + DAY, 100);
        clock.tick(1_000_100, 100);
        assert_eq!(clock.stamp(), Some(1_000_100), "a learner's clock moves nothing");
        clock.follow([1, 4].into_iter());
        clock.heard(4, 1_000_000, 200);
        clock.tick(1_000_200, 200);
        assert_eq!(clock.stamp(), Some(1_000_100), "of the two that count now the later one waits");
    }

    #[test]
    fn readings_of_silent_coordinators_fade() {
        let mut clock = agreed(1_000_000);
        clock.heard(2, 1_000_000 + DAY, 0);
        clock.heard(3, 1_000_000 + DAY, 0);
        let later = READING_LIFE_MS + 1;
        clock.tick(1_000_000 + later, later);
        assert_eq!(clock.stamp(), Some(1_000_000 + later));
    }

    #[test]
    fn a_clock_that_is_left_alone_is_not_believed() {
        let mut clock = agreed(1_000_000);
        let later = READING_LIFE_MS + 1;
        clock.tick(1_000_000 + later + DAY, later);
        assert_eq!(clock.stamp(), Some(1_000_000 + later), "its own clock jumped while nobody was heard");
        clock.heard(2, 1_000_100 + later, later + 100);
        clock.tick(1_000_100 + later + DAY, later + 100);
        assert_eq!(clock.stamp(), Some(1_000_100 + later));
    }
}
