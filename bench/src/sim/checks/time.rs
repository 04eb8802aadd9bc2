//! Ledger time: never back, and never far ahead of true time while at most a minority of clocks is wrong.

use super::{First, Verdict, hold};

/// Most that ledger time may be ahead, ms: clocks that nobody set are off by less than a second, and of those that count
/// one at most was set. What lasts longer than a coordinator's readings of the others would show as twice the rate.
const AHEAD_MS_MAX: u64 = 5_000;

/// The newest stamp.
#[derive(Debug, Default)]
pub struct Time(u64);

impl Time {
    /// A new entry was applied at this true time, ms since the Unix epoch.
    ///
    /// # Errors
    /// Its stamp is too small or too large.
    pub fn applied(&mut self, first: First<'_>, true_ms: u64) -> Verdict {
        let (index, stamp) = (first.seen.entry.index, first.seen.applied.now_ms);
        hold("ledger time", stamp >= self.0, || format!("entry {index} takes time back from {} to {stamp}", self.0))?;
        self.0 = stamp;
        hold("ledger time", stamp <= true_ms + AHEAD_MS_MAX, || {
            let voters: Vec<u64> = first.after.voters().map(|row| row.id.0).collect();
            format!("entry {index} is stamped {} ms ahead of true time; {voters:?} vote", stamp - true_ms)
        })
    }
}
