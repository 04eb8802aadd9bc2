//! The thread that writes the archive behind apply. It never holds apply up: what it has no room for it reads again from the
//! log, page by page, which is not cut before it is sealed.

use super::{ReplicaActor, done::Done, inbox::Export};
use crate::{
    archive::{Entry, Head, Segment, keeper::Keeper},
    replica::Input,
    shared::NodeView,
    telemetry::Metrics,
};
use actix::Addr;
use matrixai_consensus::Committed;
use matrixai_state::State;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio::sync::{oneshot, watch};

/// Batches and bytes that may wait for the disk.
const QUEUE_BATCHES: usize = 256;
const QUEUE_BYTES_MAX: usize = 32 << 20;
/// Time between two looks at whether something was missed.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Time after a refusal of the disk before it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Newest segments whose hashes are told at the start: they may not have been attested before the last end.
const TOLD_AT_START: u64 = 16;

/// The way to the thread.
#[derive(Debug, Clone)]
pub(super) struct Feed {
    batches: SyncSender<Vec<Committed>>,
    /// Taken at every look, so at most what closes in one.
    closings: Sender<(u64, u64)>,
    waiting: Arc<AtomicUsize>,
}

/// The thread's end of it.
#[derive(Debug)]
pub(super) struct Fed {
    batches: Receiver<Vec<Committed>>,
    closings: Receiver<(u64, u64)>,
    waiting: Arc<AtomicUsize>,
}

pub(super) fn feed() -> (Feed, Fed) {
    let (sender, receiver) = sync_channel(QUEUE_BATCHES);
    let ((closings, closed), waiting) = (channel(), Arc::new(AtomicUsize::new(0)));
    (Feed { batches: sender, closings, waiting: waiting.clone() }, Fed { batches: receiver, closings: closed, waiting })
}

impl Feed {
    /// Says at which entries epochs closed; before the view of them is published.
    pub(super) fn closed(&self, closings: impl Iterator<Item = (u64, u64)>) {
        for closing in closings {
            // A thread that is gone has said why.
            let _ = self.closings.send(closing);
        }
    }

    /// Hands applied entries over, if there is room; the log has them otherwise.
    pub(super) fn applied(&self, entries: Vec<Committed>) {
        let bytes = size(&entries);
        if self.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes > QUEUE_BYTES_MAX
            || self.batches.try_send(entries).is_err()
        {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

fn size(entries: &[Committed]) -> usize {
    entries.iter().map(|entry| entry.data.len()).sum()
}

/// What the thread owns.
#[derive(Debug)]
pub(super) struct Keeping {
    pub(super) keeper: Keeper,
    pub(super) views: watch::Receiver<Arc<State>>,
    pub(super) status: watch::Receiver<NodeView>,
    /// Where the archive ends, for those who fetch what is missing.
    pub(super) head: watch::Sender<Head>,
    pub(super) replica: Addr<ReplicaActor>,
    pub(super) done: Done,
    pub(super) metrics: Arc<Metrics>,
}

impl Keeping {
    /// Starts it; it ends when the applying thread does.
    ///
    /// # Errors
    /// The system's, when it starts no thread.
    pub(super) fn start(self, fed: Fed) -> io::Result<JoinHandle<()>> {
        thread::Builder::new().name("archive".to_owned()).spawn(move || self.run(&fed))
    }

    fn run(mut self, fed: &Fed) {
        self.tell_known();
        let mut not_before = Instant::now();
        loop {
            let batch = match fed.batches.recv_timeout(LOOK_EVERY) {
                Ok(batch) => batch,
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            fed.waiting.fetch_sub(size(&batch), Ordering::Relaxed);
            // The view first: the ends of all epochs that it holds have been told by then.
            let view = self.views.borrow().clone();
            fed.closings.try_iter().for_each(|(epoch, index)| self.keeper.closed(epoch, index));
            if Instant::now() < not_before {
                continue;
            }
            if let Err(why) = self.keep(&view, batch) {
                tracing::warn!(why, "the log is not archived now; it is not cut until it is");
                not_before = Instant::now() + RETRY;
            }
        }
    }

    /// Takes a batch in, after what was missed before it.
    fn keep(&mut self, view: &State, batch: Vec<Committed>) -> Result<(), String> {
        let gap = batch.first().is_none_or(|first| first.index > self.keeper.archive().next_index());
        while gap && let Some(from) = self.keeper.wanted(view) {
            let log_first = self.status.borrow().log_first;
            if self.keeper.skip(view, log_first) {
                self.head.send_replace(self.keeper.archive().head());
                continue;
            }
            let page = self.page(from, view.index())?;
            if page.first().is_none_or(|first| first.index > from) {
                // Nobody has attested yet where this member's own part of the archive may begin.
                return Ok(());
            }
            self.take(view, page)?;
            if self.keeper.archive().next_index() == from {
                return Ok(());
            }
        }
        self.take(view, batch)
    }

    fn take(&mut self, view: &State, entries: Vec<Committed>) -> Result<(), String> {
        let entries = entries.into_iter().map(|entry| Entry { index: entry.index, term: entry.term, data: entry.data });
        let taken = self.keeper.take(view, entries);
        // What is not sealed may still lie in memory.
        if taken.as_ref().map_or(true, |sealed| !sealed.is_empty()) {
            self.metrics.full_disks.told("segments", taken.as_ref());
        }
        let sealed = taken.map_err(|error| error.to_string())?;
        sealed.iter().for_each(|segment| self.tell(segment));
        Ok(())
    }

    fn page(&self, from_index: u64, to_index: u64) -> Result<Vec<Committed>, String> {
        let (answer, page) = oneshot::channel();
        self.replica.try_send(Export { from_index, to_index, answer }).map_err(|error| error.to_string())?;
        let page = page.blocking_recv().map_err(|_| "the replica has ended".to_owned())?;
        page.map(|page| page.entries).map_err(|status| status.message().to_owned())
    }

    fn tell(&self, segment: &Segment) {
        let Head { epoch, index, hash } = segment.sealed.head;
        self.head.send_replace(self.keeper.archive().head());
        self.done.tell(Input::Sealed { epoch, through: index, hash });
    }

    fn tell_known(&self) {
        let shelf = self.keeper.archive().shelf();
        let newest = self.keeper.archive().head().epoch;
        let known = (newest.saturating_sub(TOLD_AT_START) + 1..=newest).filter_map(|epoch| shelf.get(epoch));
        known.for_each(|segment| self.tell(&segment));
    }
}
