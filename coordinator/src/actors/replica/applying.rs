//! The thread that applies committed entries, publishes views, and hands news to those who keep them for people. When
//! the index of statements is full it waits here, and the replica's own bounds make that felt by whoever submits.

use super::{done::Done, keeping::Feed};
use crate::{
    events::{EventRing, Logged},
    history::History,
    replica::{AppliedBatch, Applier, EntryNews, Input},
    snapshots::Snapshots,
};
use matrixai_consensus::{Committed, Members};
use matrixai_state::State;
use std::{
    io,
    sync::{Arc, mpsc::Receiver},
    thread::{self, JoinHandle},
};
use tokio::sync::watch;

/// What the thread is told.
#[derive(Debug)]
pub(super) enum ToApplier {
    Apply {
        entries: Vec<Committed>,
        view: bool,
    },
    /// Replace the state by the snapshot of this index.
    Restore(u64),
}

/// What the thread owns.
#[derive(Debug)]
pub(super) struct Applying {
    pub(super) applier: Applier,
    pub(super) snapshots: Snapshots,
    pub(super) views: watch::Sender<Arc<State>>,
    pub(super) archive: Feed,
    pub(super) events: Arc<EventRing>,
    pub(super) history: Arc<History>,
}

impl Applying {
    /// Starts it; it ends when the replica is gone.
    ///
    /// # Errors
    /// The system's, when it starts no thread.
    pub(super) fn start(self, queue: Receiver<ToApplier>, done: Done) -> io::Result<JoinHandle<()>> {
        thread::Builder::new().name("apply".to_owned()).spawn(move || self.run(&queue, &done))
    }

    fn run(mut self, queue: &Receiver<ToApplier>, done: &Done) {
        while let Ok(told) = queue.recv() {
            let ((batch, news), applied) = match told {
                ToApplier::Apply { entries, view } => (self.applier.apply(&entries, view), entries),
                ToApplier::Restore(index) => match self.restore(index) {
                    Ok(batch) => ((batch, Vec::new()), Vec::new()),
                    Err(why) => return done.stop(format!("restore the snapshot of entry {index}: {why}")),
                },
            };
            self.archive.closed(batch.closings());
            if let Some(view) = &batch.view {
                self.views.send_replace(view.clone());
            }
            // The replica goes on before people's indexes and the archive do.
            done.tell(Input::Applied(batch));
            if !applied.is_empty() {
                self.archive.applied(applied);
            }
            for EntryNews { index, now_ms, events, movements } in news {
                self.events.push(events.into_iter().map(|event| Logged { index, now_ms, event }));
                self.history.record(index, now_ms, movements);
            }
        }
    }

    fn restore(&mut self, index: u64) -> Result<AppliedBatch, String> {
        let loaded = self.snapshots.load(index).map_err(|error| error.to_string())?;
        let members = Members::decode(&loaded.header.members).map_err(|error| error.to_string())?;
        self.events.skip_to(index);
        self.history.skip_to(index, loaded.state.movements());
        tracing::info!(index, "the state is restored from a coordinator's snapshot");
        Ok(self.applier.restore(loaded.state, &loaded.header, members))
    }
}
