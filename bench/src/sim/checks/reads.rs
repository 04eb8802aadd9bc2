//! Reads are as new as they were asked to be: a linearizable one holds every entry that any client was told of before it was
//! asked for, a bounded one every entry that was told of so long before.

use super::{Verdict, hold};
use crate::sim::clock::Micros;

/// What a node's own steady clock may be off by within any bound that is asked for, microseconds.
const DRIFT_US: Micros = 10_000;

/// What clients were told, and when.
#[derive(Debug, Default)]
pub struct Told(Vec<(Micros, u64)>);

impl Told {
    /// A client was told of an entry.
    pub fn told(&mut self, at: Micros, index: u64) {
        if self.0.last().is_none_or(|(_, newest)| *newest < index) {
            self.0.push((at, index));
        }
    }

    /// A read that was asked for at a time was answered with a view of an index; with a bound it may be as old, ms.
    ///
    /// # Errors
    /// It is older.
    pub fn read(&self, asked_at: Micros, bound_ms: Option<u64>, index: u64) -> Verdict {
        let since = bound_ms.map_or(asked_at, |ms| asked_at.saturating_sub(ms * 1_000 + DRIFT_US));
        let before = self.0.partition_point(|(at, _)| *at <= since);
        let wanted = before.checked_sub(1).map_or(0, |at| self.0[at].1);
        hold("reads are new enough", wanted <= index, || {
            format!("a read asked for at {asked_at} us (bound {bound_ms:?} ms) saw entry {index}, {wanted} was told of")
        })
    }
}
