//! Room for so much at once: whoever brings more waits until some has gone. What is larger than all the room comes alone.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The room.
#[derive(Debug)]
pub(super) struct Room {
    most: usize,
    taken: Mutex<Taken>,
    freed: Condvar,
}

#[derive(Debug)]
struct Taken {
    count: usize,
    closed: bool,
}

impl Room {
    /// Room for `most`.
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: Mutex::new(Taken { count: 0, closed: false }), freed: Condvar::new() }
    }

    /// Takes room, as soon as there is some.
    pub(super) fn take(&self, count: usize) {
        let full = |taken: &mut Taken| !taken.closed && taken.count > 0 && taken.count + count > self.most;
        let mut taken = self.freed.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        taken.count += count;
    }

    /// Gives room back.
    pub(super) fn give_back(&self, count: usize) {
        let mut taken = self.lock();
        taken.count = taken.count.saturating_sub(count);
        self.freed.notify_all();
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
        let room = Room::new(10);
        room.take(100);
        room.give_back(100);
        room.take(8);
        thread::scope(|scope| {
            let (through, came) = mpsc::channel();
            let room = &room;
            scope.spawn(move || {
                room.take(3);
                through.send(()).ok();
            });
            assert!(came.try_recv().is_err());
            room.give_back(8);
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
}
