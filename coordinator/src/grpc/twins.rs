//! One process for each coordinator. Two with one node key, of a copied data folder, would each vote: whoever comes while the other is
//! still heard is refused, says so in its own log, and stops once a majority has refused it.
//!
//! A process that was killed is no longer heard: its stream ends with it, or after a moment of silence where the network does
//! not say so.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long a process counts as alive after it was heard. Coordinators say something several times a second.
const ALIVE: Duration = Duration::from_secs(2);

/// Which process speaks for each coordinator.
#[derive(Debug, Default)]
pub(crate) struct Twins(Mutex<BTreeMap<u64, (Vec<u8>, Instant)>>);

impl Twins {
    /// Notes that a process speaks for a coordinator; `false` while another one does.
    pub(crate) fn speaks(&self, node: u64, process: &[u8], now: Instant) -> bool {
        let mut speaking = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match speaking.get_mut(&node) {
            Some((known, at)) if known == process => *at = now,
            Some((_, at)) if now.saturating_duration_since(*at) < ALIVE => return false,
            Some(_) | None => {
                speaking.insert(node, (process.to_vec(), now));
            }
        }
        true
    }

    /// A stream of this process has ended.
    pub(crate) fn ended(&self, node: u64, process: &[u8]) {
        let mut speaking = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if speaking.get(&node).is_some_and(|(known, _)| known == process) {
            speaking.remove(&node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_speaks_until_it_has_ended_or_is_silent() {
        let (twins, begun) = (Twins::default(), Instant::now());
        let at = |ms| begun + Duration::from_millis(ms);
        assert!(twins.speaks(1, b"first", at(0)));
        assert!(twins.speaks(2, b"copy", at(0)), "another coordinator's process");
        assert!(!twins.speaks(1, b"copy", at(1_999)));
        assert!(twins.speaks(1, b"first", at(1_999)));
        assert!(!twins.speaks(1, b"copy", at(3_000)), "the first was heard since");
        assert!(twins.speaks(1, b"copy", at(3_999)), "the first is silent");
        assert!(!twins.speaks(1, b"first", at(4_000)), "and comes too late");
        twins.ended(1, b"first");
        assert!(!twins.speaks(1, b"first", at(4_000)), "it was not the one that spoke");
        twins.ended(1, b"copy");
        assert!(twins.speaks(1, b"first", at(4_000)));
    }
}
