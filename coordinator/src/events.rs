//! The newest events in memory, indexed by log position: one source for `watch`, the pages and notifications.
//!
//! The ring is filled on every start with the entries that are replayed; it forgets the oldest events instead of growing.
//! What a snapshot stands for was never here: the ring says from which index on it has every event.

use matrixai_state::Event;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// Events kept; an older start than the oldest kept one is an error for the caller.
pub(crate) const EVENTS_MAX: usize = 10_000;

/// An event with its place in the log.
#[derive(Debug)]
pub(crate) struct Logged {
    /// Index of the entry that caused it.
    pub(crate) index: u64,
    /// Ledger time of that entry, ms since the Unix epoch.
    pub(crate) now_ms: u64,
    /// What happened.
    pub(crate) event: Event,
}

/// The wanted events are no longer all in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("events before log index {oldest} are no longer in memory: start there, or read the exported log")]
pub(crate) struct Lagged {
    /// First index of which every event is still here.
    pub(crate) oldest: u64,
}

/// Ring of the newest [`EVENTS_MAX`] events.
#[derive(Debug)]
pub(crate) struct EventRing {
    ring: Mutex<Ring>,
    /// Number of events ever pushed; wakes subscribers.
    pushed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Arc<Logged>>,
    /// Number of the first event in `events`, counted from 0 at the start of the process.
    first: u64,
    /// The state went from a snapshot to this index, so no event before it was seen.
    begins: u64,
}

impl EventRing {
    /// An empty ring.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { ring: Mutex::default(), pushed: watch::Sender::new(0) })
    }

    /// Appends events in log order and wakes the subscribers.
    pub(crate) fn push(&self, events: impl IntoIterator<Item = Logged>) {
        let mut ring = self.lock();
        for event in events {
            if ring.events.len() == EVENTS_MAX {
                ring.events.pop_front();
                ring.first += 1;
            }
            ring.events.push_back(Arc::new(event));
        }
        let pushed = ring.first + ring.events.len() as u64;
        drop(ring);
        self.pushed.send_replace(pushed);
    }

    /// The state is that of a snapshot of this log index: the ring begins behind it, and what it held ends in a gap and goes.
    pub(crate) fn skip_to(&self, index: u64) {
        let mut ring = self.lock();
        ring.first += ring.events.len() as u64;
        ring.events.clear();
        ring.begins = index.saturating_add(1);
        let pushed = ring.first;
        drop(ring);
        self.pushed.send_replace(pushed);
    }

    /// The newest `limit` events, newest first.
    pub(crate) fn newest(&self, limit: usize) -> Vec<Arc<Logged>> {
        self.lock().events.iter().rev().take(limit).cloned().collect()
    }

    /// Events from a log index on, then live; 0 starts with what comes next.
    ///
    /// # Errors
    /// [`Lagged`] when some of them were dropped already.
    pub(crate) fn subscribe(self: &Arc<Self>, from_index: u64) -> Result<Subscription, Lagged> {
        let pushed = self.pushed.subscribe();
        let ring = self.lock();
        let end = ring.first + ring.events.len() as u64;
        let next = if from_index == 0 {
            end
        } else {
            ring.check(from_index)?;
            ring.first + ring.events.partition_point(|event| event.index < from_index) as u64
        };
        drop(ring);
        Ok(Subscription { ring: self.clone(), next, pushed })
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    /// First index of which every event is here: the index after the oldest one's, whose fellows may be gone.
    fn oldest(&self) -> u64 {
        let dropped = if self.first == 0 { 0 } else { self.events.front().map_or(0, |event| event.index + 1) };
        dropped.max(self.begins)
    }

    fn check(&self, index: u64) -> Result<(), Lagged> {
        let oldest = self.oldest();
        if index < oldest { Err(Lagged { oldest }) } else { Ok(()) }
    }
}

/// A reader's place in the ring.
#[derive(Debug)]
pub(crate) struct Subscription {
    ring: Arc<EventRing>,
    next: u64,
    pushed: watch::Receiver<u64>,
}

impl Subscription {
    /// The next event; waits for it. `None` when the coordinator stops.
    ///
    /// # Errors
    /// [`Lagged`] when the reader was so slow that its next event was dropped.
    pub(crate) async fn next(&mut self) -> Result<Option<Arc<Logged>>, Lagged> {
        loop {
            self.pushed.borrow_and_update();
            {
                let ring = self.ring.lock();
                let Some(offset) = self.next.checked_sub(ring.first) else {
                    return Err(Lagged { oldest: ring.oldest() });
                };
                if let Some(event) = usize::try_from(offset).ok().and_then(|offset| ring.events.get(offset)) {
                    self.next += 1;
                    return Ok(Some(event.clone()));
                }
            }
            if self.pushed.changed().await.is_err() {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn event(index: u64) -> Logged {
        Logged { index, now_ms: index, event: Event { kind: "test", subject: [0; 20], text: String::new() } }
    }

    #[tokio::test]
    async fn reads_from_an_index_and_then_live() {
        let ring = EventRing::new();
        ring.push([event(3), event(5), event(5), event(9)]);
        let mut reader = ring.subscribe(5).unwrap();
        let mut live = ring.subscribe(0).unwrap();
        ring.push([event(11)]);
        for index in [5, 5, 9, 11] {
            assert_eq!(reader.next().await.unwrap().unwrap().index, index);
        }
        assert_eq!(live.next().await.unwrap().unwrap().index, 11);
        assert_eq!(ring.newest(2).iter().map(|event| event.index).collect::<Vec<_>>(), [11, 9]);
    }

    #[tokio::test]
    async fn a_dropped_event_is_an_error_not_a_gap() {
        let ring = EventRing::new();
        let mut slow = ring.subscribe(0).unwrap();
        ring.push((1..=EVENTS_MAX as u64 + 10).map(event));
        assert_eq!(slow.next().await.unwrap_err(), Lagged { oldest: 12 });
        assert_eq!(ring.subscribe(5).unwrap_err(), Lagged { oldest: 12 });
        assert_eq!(ring.subscribe(12).unwrap().next().await.unwrap().unwrap().index, 12);
    }
}
