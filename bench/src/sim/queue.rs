//! What is going to happen, in the order of its time. The heap orders small keys and the events stay where they were put: an
//! event is large, and a heap moves what it holds about.

use super::clock::Micros;
use std::{cmp::Reverse, collections::BinaryHeap};

/// When, then in which order among equal times, then the place of the event.
type Key = (Micros, u64, usize);

/// Events by time.
#[derive(Debug)]
pub struct Queue<E> {
    order: BinaryHeap<Reverse<Key>>,
    places: Vec<Option<E>>,
    /// Places without an event.
    free: Vec<usize>,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { order: BinaryHeap::new(), places: Vec::new(), free: Vec::new() }
    }
}

impl<E> Queue<E> {
    /// Adds an event; `sequence` is its own number and grows.
    pub fn push(&mut self, at: Micros, sequence: u64, event: E) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.places[place] = Some(event);
        self.order.push(Reverse((at, sequence, place)));
    }

    /// Takes the next event, and says when it is due.
    pub fn pop(&mut self) -> Option<(Micros, E)> {
        let Reverse((at, _, place)) = self.order.pop()?;
        self.free.push(place);
        Some((at, self.places[place].take()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_among_equal_times_as_they_were_added() {
        let mut queue = Queue::default();
        for (sequence, at) in [5, 3, 5, 1, 3].into_iter().enumerate() {
            queue.push(at, sequence as u64, sequence);
        }
        assert_eq!((queue.pop(), queue.pop()), (Some((1, 3)), Some((3, 1))));
        queue.push(2, 5, 5);
        let rest: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(rest, [(2, 5), (3, 4), (5, 0), (5, 2)]);
        assert_eq!(queue.places.len(), 5, "places are used again");
    }
}
