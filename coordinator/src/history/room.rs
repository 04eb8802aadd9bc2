//! Room for so much at once: whoever brings more waits until some has gone, unless nothing goes for now. What is larger than all the
//! room comes alone.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The room, for so many things of so much weight in all.
#[derive(Debug)]
pub(super) struct Room {
    things: usize,
    weight: usize,
    taken: Mutex<Taken>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct Taken {
    things: usize,
    weight: usize,
    stuck: bool,
    closed: bool,
}

impl Room {
    /// Room for so many things, of so much weight in all.
    pub(super) fn new(things: usize, weight: usize) -> Self {
        Self { things, weight, taken: Mutex::default(), freed: Condvar::new() }
    }

    /// Takes room for a thing, as soon as there is some. Answers whether it did: where nothing goes for now, nobody waits.
    pub(super) fn take(&self, weight: usize) -> bool {
        let full =
            |taken: &Taken| taken.things >= self.things || taken.weight > 0 && taken.weight + weight > self.weight;
        let waits = |taken: &mut Taken| !taken.closed && !taken.stuck && full(taken);
        let mut taken = self.freed.wait_while(self.lock(), waits).unwrap_or_else(PoisonError::into_inner);
        if taken.stuck && full(&taken) {
            return false;
        }
        taken.things += 1;
        taken.weight += weight;
        true
    }

    /// Gives room back.
    pub(super) fn give_back(&self, things: usize, weight: usize) {
        let mut taken = self.lock();
        taken.things = taken.things.saturating_sub(things);
        taken.weight = taken.weight.saturating_sub(weight);
        self.freed.notify_all();
    }

    /// Says that nothing goes for now, or that it does again.
    pub(super) fn stuck(&self, stuck: bool) {
        self.lock().stuck = stuck;
        self.freed.notify_all();
    }

    /// Whether nothing goes for now.
    pub(super) fn is_stuck(&self) -> bool {
        self.lock().stuck
    }

    /// Nobody gives room back any more, so nobody waits for it either.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.freed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc, thread};

    #[test]
    fn whoever_brings_too_much_waits_until_some_has_gone() {
        let room = Room::new(3, 10);
        room.take(100);
        room.give_back(1, 100);
        room.take(8);
        thread::scope(|scope| {
            let (through, came) = mpsc::channel();
            let room = &room;
            scope.spawn(move || {
                room.take(3);
                through.send(()).ok();
            });
            assert!(came.try_recv().is_err());
            room.give_back(1, 8);
            assert!(came.recv().is_ok());
            let (through, came) = mpsc::channel();
            scope.spawn(move || {
                room.take(8);
                through.send(()).ok();
            });
            room.close();
            assert!(came.recv().is_ok(), "a closed room holds nobody");
        });
    }

    #[test]
    fn where_nothing_goes_nobody_waits() {
        let room = Room::new(2, 10);
        assert!(room.take(8));
        room.stuck(true);
        assert!(!room.take(3) && room.take(2) && !room.take(0), "neither for weight nor for a place");
        room.give_back(2, 10);
        room.stuck(false);
        assert!(room.take(10) && !room.is_stuck());
    }
}
