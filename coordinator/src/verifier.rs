//! Checks the signatures of envelopes that wait at the same time together, which costs a fraction of one after the other and
//! decides the same (see `verify.rs` of the envelope). Nobody waits for company: a lone envelope is checked at once, and
//! what arrives while that is done is the next batch.

use matrixai_proto::{
    envelope::{KnownKeys, SignatureError, verify_all},
    v1::Envelope,
};
use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    thread,
};

/// Envelopes checked together. A batch of 64 costs nearly as little an envelope as one of 1,000, takes about a
/// millisecond, and one forged signature in it makes no more than 64 be looked at alone.
const BATCH_MAX: usize = 64;
/// Envelopes waiting; the transport admits fewer calls at once.
const WAITING_MAX: usize = 65_536;

/// The queue before the check. `T` goes through it with each envelope: who waits, for instance.
#[derive(Debug)]
pub(crate) struct Verifier<T> {
    queue: Mutex<Queue<T>>,
    known: KnownKeys,
    /// Most tasks that check at once.
    tasks: usize,
}

#[derive(Debug)]
struct Queue<T> {
    waiting: VecDeque<(Envelope, T)>,
    /// Tasks that are checking.
    busy: usize,
}

/// An envelope whose lengths and signature were looked at.
#[derive(Debug)]
pub(crate) struct Checked<T> {
    pub(crate) envelope: Envelope,
    pub(crate) signed: Result<(), SignatureError>,
    pub(crate) with: T,
}

impl<T> Default for Verifier<T> {
    fn default() -> Self {
        Self {
            queue: Mutex::new(Queue { waiting: VecDeque::new(), busy: 0 }),
            known: KnownKeys::default(),
            // Asked once: the answer comes from files.
            tasks: thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

impl<T> Verifier<T> {
    /// Queues one; answers whether another task is to be started, which takes what waits with [`Verifier::next`] until
    /// nothing does.
    ///
    /// # Errors
    /// What came along, when there is no room.
    pub(crate) fn add(&self, envelope: Envelope, with: T) -> Result<bool, T> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.waiting.len() == WAITING_MAX {
            return Err(with);
        }
        queue.waiting.push_back((envelope, with));
        let more = queue.busy < self.tasks;
        queue.busy += usize::from(more);
        Ok(more)
    }

    /// Checks what waits, as much as is worth checking together. `None` when nothing does: the task that asked has ended.
    pub(crate) fn next(&self) -> Option<Vec<Checked<T>>> {
        let (envelopes, with): (Vec<Envelope>, Vec<T>) = {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            let count = queue.waiting.len().min(BATCH_MAX);
            if count == 0 {
                queue.busy -= 1;
                return None;
            }
            queue.waiting.drain(..count).unzip()
        };
        let results = verify_all(&envelopes.iter().collect::<Vec<_>>(), &self.known);
        let all = envelopes.into_iter().zip(results).zip(with);
        Some(all.map(|((envelope, signed), with)| Checked { envelope, signed, with }).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use matrixai_proto::envelope::{COMMANDS, Signer};

    #[test]
    fn each_comes_back_with_its_own_verdict() {
        let signer = Signer::from_seed([1; 32]).unwrap();
        let verifier = Verifier::default();
        let mut tasks = 0;
        for number in 0..300_u64 {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&number.to_le_bytes());
            let mut envelope = signer.seal([2; 32], COMMANDS, id, number, Vec::new());
            if number % 97 == 5 {
                envelope.expires_ms += 1;
            }
            tasks += usize::from(verifier.add(envelope, number).unwrap());
        }
        assert_eq!(tasks, verifier.tasks, "no more than may check at once");
        let mut seen = 0;
        for _ in 0..tasks {
            while let Some(batch) = verifier.next() {
                assert!(batch.len() <= BATCH_MAX);
                for Checked { envelope, signed, with } in batch {
                    assert_eq!(envelope.command_id[..8], with.to_le_bytes());
                    assert_eq!(signed.is_err(), with % 97 == 5);
                    assert_eq!(with, seen, "in order");
                    seen += 1;
                }
            }
        }
        assert_eq!((seen, verifier.queue.lock().unwrap().busy), (300, 0));
    }

    #[test]
    fn what_waits_is_bounded() {
        let verifier = Verifier::default();
        for number in 0..WAITING_MAX {
            verifier.add(Envelope::default(), number).unwrap();
        }
        assert_eq!(verifier.add(Envelope::default(), 7), Err(7));
    }
}
