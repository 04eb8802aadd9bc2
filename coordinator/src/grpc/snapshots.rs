//! Snapshots' files on their way out: to a coordinator that lags far behind, and to somebody who makes a backup.

use super::Stopping;
use crate::{
    shared::Shared,
    snapshots::{
        Reference, Snapshots,
        fetch::{PIECE_BYTES, Piece},
    },
};
use matrixai_proto::v1::{FetchSnapshotRequest, SnapshotPiece};
use matrixai_transport::Caller;
use std::{pin::Pin, time::Duration};
use tokio::{
    sync::{Semaphore, mpsc},
    task::spawn_blocking,
    time::timeout,
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Status};

/// Pieces waiting for the network.
const PIECES_WAITING: usize = 4;
/// Coordinators that fetch at once.
const FETCHES_MAX: usize = 4;
/// Backups at once: each has a snapshot written first.
const SAVES_MAX: usize = 1;
/// A reader that takes nothing for this long is left.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Longest wait for a snapshot to be written.
const SAVE_WAIT: Duration = Duration::from_secs(600);

/// Where pieces go.
type Sender = mpsc::Sender<Result<SnapshotPiece, Status>>;
/// A stream of pieces.
pub(crate) type Pieces = Pin<Box<dyn Stream<Item = Result<SnapshotPiece, Status>> + Send>>;

/// Sends a coordinator the file that it names.
///
/// # Errors
/// UNAUTHENTICATED without a claim that holds, NOT_FOUND when the file is not kept here any longer.
pub(crate) async fn fetch(shared: &Shared, request: Request<FetchSnapshotRequest>) -> Result<Pieces, Status> {
    static PLACES: Semaphore = Semaphore::const_new(FETCHES_MAX);
    let caller = request.extensions().get::<Caller>().cloned();
    let FetchSnapshotRequest { claim, index, bytes, sha256, offset } = request.into_inner();
    let from = shared.check_peer_claim(claim.as_ref(), caller.as_ref())?.from;
    let hash = sha256.try_into().map_err(|_| Status::invalid_argument("sha256 has 32 bytes"))?;
    let place = PLACES.try_acquire().map_err(|_| Status::resource_exhausted("other coordinators are fetching"))?;
    tracing::info!(to = from, index, offset, "sending a snapshot");
    let snapshots = shared.running()?.snapshots.clone();
    Ok(stream(shared, move |sender| async move {
        let _place = place;
        send(&snapshots, &Reference { index, bytes, hash }, offset, &sender).await
    }))
}

/// Has a snapshot of now written and sends it. The stream stands at once; its first piece comes when it is written.
///
/// # Errors
/// UNAVAILABLE without a quorum, RESOURCE_EXHAUSTED while another is sent.
pub(crate) async fn save(shared: &Shared) -> Result<Pieces, Status> {
    static PLACES: Semaphore = Semaphore::const_new(SAVES_MAX);
    let place = PLACES.try_acquire().map_err(|_| Status::resource_exhausted("another backup is being made"))?;
    let index = shared.view().await?.index();
    let shared_too = shared.clone();
    Ok(stream(shared, move |sender| async move {
        let _place = place;
        let snapshots = shared_too.running()?.snapshots.clone();
        let written = written(&shared_too, index);
        let reference = tokio::select! {
            reference = written => reference?,
            () = sender.closed() => return Ok(()),
        };
        send(&snapshots, &reference, 0, &sender).await
    }))
}

/// The newest snapshot, once there is one of this log index or later.
async fn written(shared: &Shared, index: u64) -> Result<Reference, Status> {
    let running = shared.running()?;
    let mut status = running.status.clone();
    if status.borrow().snapshot < index {
        running.replica.want_snapshot()?;
    }
    // The reading of the status must not be held over the next wait.
    let written = timeout(SAVE_WAIT, async { status.wait_for(|status| status.snapshot >= index).await.is_ok() }).await;
    if written != Ok(true) {
        return Err(Status::unavailable("no snapshot was written in time: see this coordinator's log"));
    }
    let snapshots = running.snapshots.clone();
    let newest = blocking(move || snapshots.newest_reference()).await?;
    newest.ok_or_else(|| Status::unavailable("there is no snapshot any longer: try again"))
}

/// A stream that this work fills; its error is the stream's end.
fn stream<W>(shared: &Shared, work: impl FnOnce(Sender) -> W) -> Pieces
where
    W: Future<Output = Result<(), Status>> + Send + 'static,
{
    let (sender, pieces) = mpsc::channel(PIECES_WAITING);
    let work = work(sender.clone());
    tokio::spawn(async move {
        if let Err(status) = work.await {
            // The reader may be gone.
            let _ = sender.send(Err(status)).await;
        }
    });
    Box::pin(Stopping::new(ReceiverStream::new(pieces), shared))
}

async fn send(snapshots: &Snapshots, reference: &Reference, offset: u64, sender: &Sender) -> Result<(), Status> {
    let mut at = offset;
    while at < reference.bytes {
        let piece = piece(snapshots, reference, at).await?;
        at += piece.data.len() as u64;
        if piece.data.is_empty() {
            return Err(Status::data_loss("the snapshot's file is shorter than it was"));
        }
        if !matches!(timeout(SILENCE_MAX, sender.send(Ok(piece))).await, Ok(Ok(()))) {
            return Ok(());
        }
    }
    Ok(())
}

async fn piece(snapshots: &Snapshots, reference: &Reference, offset: u64) -> Result<SnapshotPiece, Status> {
    let (snapshots, reference) = (snapshots.clone(), reference.clone());
    let bytes = blocking(move || snapshots.read(&reference, offset, PIECE_BYTES)).await?;
    let Piece { offset, bytes, hash } = Piece::new(offset, bytes);
    Ok(SnapshotPiece { offset, data: bytes, sha256: hash.to_vec() })
}

async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, crate::files::FilesError> + Send + 'static,
) -> Result<T, Status> {
    let read = spawn_blocking(read).await.map_err(|error| Status::internal(error.to_string()))?;
    read.map_err(|error| match error {
        crate::files::FilesError::Missing { .. } => Status::not_found("this snapshot is not kept here any longer"),
        error => Status::internal(error.to_string()),
    })
}
