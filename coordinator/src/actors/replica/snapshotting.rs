//! Snapshots away from the replica's thread: written by a blocking one, fetched from another coordinator by a task.

use super::done::Done;
use crate::{
    history::History,
    links::Links,
    replica::Input,
    snapshots::{
        Header, Reference, Snapshots,
        fetch::{Arriving, Piece},
    },
    telemetry::Metrics,
};
use matrixai_proto::v1::{FetchSnapshotRequest, peer_client::PeerClient};
use matrixai_state::State;
use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};
use tokio::{runtime::Handle, time::timeout};

/// A peer that sends nothing for this long is given up; what has arrived is kept.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Largest answer, bytes: a piece and its frame.
const ANSWER_BYTES_MAX: usize = 2 << 20;
/// Pieces that may wait for the disk.
const PIECES_WAITING: usize = 4;

/// What snapshots are made with.
#[derive(Debug, Clone)]
pub(super) struct Snapshotting {
    pub(super) snapshots: Snapshots,
    pub(super) history: Arc<History>,
    pub(super) links: Arc<Links>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) runtime: Handle,
}

impl Snapshotting {
    /// Writes a snapshot.
    pub(super) fn save(&self, header: Header, view: Arc<State>, done: Done) {
        let (snapshots, metrics) = (self.snapshots.clone(), self.metrics.clone());
        let (history, runtime) = (self.history.clone(), self.runtime.clone());
        self.runtime.spawn_blocking(move || {
            // A start from this snapshot replays the entries behind it and none before: their statements must be there by then.
            history.settle(header.index, &runtime);
            let start = Instant::now();
            let saved = snapshots.save(&header, &view);
            // The view holds copies of every page that has changed meanwhile.
            drop(view);
            metrics.full_disks.told("snapshots", saved.as_ref());
            match saved {
                Ok(reference) => {
                    let (index, bytes, seconds) = (header.index, reference.bytes, start.elapsed().as_secs_f64());
                    tracing::info!(index, bytes, seconds, "a snapshot was taken");
                    metrics.snapshot_seconds.observe(seconds);
                    done.tell(Input::SnapshotSaved { header, reference });
                }
                Err(error) => done.tell(Input::SnapshotFailed { why: error.to_string() }),
            }
        });
    }

    /// Fetches a snapshot from another coordinator and installs it.
    pub(super) fn fetch(&self, from: u64, reference: Reference, done: Done) {
        let this = self.clone();
        self.runtime.spawn(async move {
            let index = reference.index;
            match this.fetched(from, reference).await {
                Ok(()) => {
                    tracing::info!(from, index, "a snapshot was fetched");
                    done.tell(Input::SnapshotFetched { index });
                }
                Err(why) => {
                    tracing::warn!(from, index, why, "a snapshot could not be fetched");
                    done.tell(Input::FetchFailed { index });
                }
            }
        });
    }

    /// Pieces go from the network to a blocking thread by a short queue: the sender waits for this disk.
    async fn fetched(&self, from: u64, reference: Reference) -> Result<(), String> {
        let channel = self.links.channel(from).ok_or("the coordinator that offers it is not known")?;
        let (offset, start) = tokio::sync::oneshot::channel();
        let (pieces, queue) = mpsc::sync_channel(PIECES_WAITING);
        let (snapshots, wanted) = (self.snapshots.clone(), reference.clone());
        let disk = self.runtime.spawn_blocking(move || install(&snapshots, wanted, offset, &queue));
        // Without a start the disk has refused, and says why below.
        if let Ok(offset) = start.await {
            let Reference { index, bytes, hash } = reference;
            let claim = Some(self.links.claim(from));
            let request = FetchSnapshotRequest { claim, index, bytes, sha256: hash.to_vec(), offset };
            let mut client = PeerClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
            let late = |_| "it does not answer".to_owned();
            let refused = |status: tonic::Status| format!("{}: {}", status.code(), status.message());
            let opened = timeout(SILENCE_MAX, client.fetch_snapshot(request)).await.map_err(late)?;
            let mut stream = opened.map_err(refused)?.into_inner();
            while let Some(piece) = timeout(SILENCE_MAX, stream.message()).await.map_err(late)?.map_err(refused)? {
                let hash = piece.sha256.as_slice().try_into().map_err(|_| "a piece has no checksum".to_owned())?;
                let piece = Piece { offset: piece.offset, bytes: piece.data, hash };
                let pieces = pieces.clone();
                let handed = self.runtime.spawn_blocking(move || pieces.send(piece)).await;
                if !matches!(handed, Ok(Ok(()))) {
                    break;
                }
            }
        }
        drop(pieces);
        disk.await.map_err(|error| error.to_string())?
    }
}

fn install(
    snapshots: &Snapshots,
    reference: Reference,
    start: tokio::sync::oneshot::Sender<u64>,
    pieces: &mpsc::Receiver<Piece>,
) -> Result<(), String> {
    let mut arriving = Arriving::begin(snapshots, reference).map_err(|error| error.to_string())?;
    if let Some(offset) = arriving.next() {
        // A task that is gone sends no pieces either.
        let _ = start.send(offset);
        while let Some(offset) = arriving.next() {
            let piece = pieces.recv().map_err(|_| format!("it ended at byte {offset}"))?;
            arriving.take(&piece).map_err(|error| error.to_string())?;
        }
    }
    arriving.install().map_err(|error| error.to_string())
}
