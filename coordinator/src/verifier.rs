//! Checks the signatures of envelopes that wait at the same time together, which costs a fraction of one after the other and
//! decides the same (see `verify.rs` of the envelope). Nobody waits for company: a lone envelope is checked at once, and
//! what arrives while that is done is the next batch.

use matrixai_proto::{
    envelope::{KnownKeys, SignatureError, verify_all},
    v1::Envelope,
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    thread,
};
use tokio::sync::oneshot;
use tonic::Status;

/// Envelopes checked together. A batch of 64 costs nearly as little an envelope as one of 1,000, takes about a
/// millisecond, and one forged signature in it makes no more than 64 be looked at alone.
const BATCH_MAX: usize = 64;
/// Envelopes waiting; the transport admits fewer calls at once.
const WAITING_MAX: usize = 65_536;

/// The queue before the check; a cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Verifier {
    queue: Arc<Mutex<Queue>>,
    known: Arc<KnownKeys>,
    /// Most tasks that check at once.
    tasks: usize,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Tasks that are checking.
    busy: usize,
}

#[derive(Debug)]
struct Waiting {
    envelope: Envelope,
    answer: oneshot::Sender<(Envelope, Result<(), SignatureError>)>,
}

impl Default for Verifier {
    fn default() -> Self {
        // Asked once: the answer comes from files.
        Self {
            queue: Arc::default(),
            known: Arc::default(),
            tasks: thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

impl Verifier {
    /// Checks an envelope's lengths and signature; gives it back.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED when too many wait.
    pub(crate) async fn check(&self, envelope: Envelope) -> Result<(Envelope, Result<(), SignatureError>), Status> {
        let (answer, answered) = oneshot::channel();
        let full = || Status::resource_exhausted("too many signatures wait to be checked: try again shortly");
        if self.add(Waiting { envelope, answer }).ok_or_else(full)? {
            tokio::spawn(self.clone().work());
        }
        answered.await.map_err(|_| Status::unavailable("the coordinator is stopping"))
    }

    /// Queues one; answers whether another task is to be started. `None` when there is no room.
    fn add(&self, waiting: Waiting) -> Option<bool> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.waiting.len() == WAITING_MAX {
            return None;
        }
        queue.waiting.push_back(waiting);
        let more = queue.busy < self.tasks;
        queue.busy += usize::from(more);
        Some(more)
    }

    async fn work(self) {
        loop {
            let batch: Vec<Waiting> = {
                let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
                let count = queue.waiting.len().min(BATCH_MAX);
                if count == 0 {
                    queue.busy -= 1;
                    return;
                }
                queue.waiting.drain(..count).collect()
            };
            let envelopes: Vec<&Envelope> = batch.iter().map(|one| &one.envelope).collect();
            let results = verify_all(&envelopes, &self.known);
            for (Waiting { envelope, answer }, result) in batch.into_iter().zip(results) {
                // The caller may have given up.
                let _ = answer.send((envelope, result));
            }
            // A batch is a millisecond of work: others of this thread get their turn.
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use matrixai_proto::envelope::{COMMANDS, Signer};

    #[tokio::test]
    async fn each_gets_its_own_envelope_and_verdict_back() {
        let signer = Signer::from_seed([1; 32]).unwrap();
        let verifier = Verifier::default();
        let checks = (0..300_u64).map(|number| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&number.to_le_bytes());
            let mut envelope = signer.seal([2; 32], COMMANDS, id, number, Vec::new());
            if number % 97 == 5 {
                envelope.expires_ms += 1;
            }
            let verifier = verifier.clone();
            async move { (number, verifier.check(envelope).await.unwrap()) }
        });
        for (number, (envelope, result)) in futures::future::join_all(checks).await {
            assert_eq!(envelope.command_id[..8], number.to_le_bytes());
            assert_eq!(result.is_err(), number % 97 == 5);
        }
        // Each task looks for more once after its last batch; all of them run on this thread.
        for _ in 0..verifier.tasks {
            tokio::task::yield_now().await;
        }
        assert_eq!(verifier.queue.lock().unwrap().busy, 0);
    }
}
