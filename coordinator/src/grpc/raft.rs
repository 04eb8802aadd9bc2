//! What coordinators tell each other: raft messages, clocks, beacon shares, sessions held, copies of artifacts. Every
//! stream begins with a claim signed by the sender's node key.

use super::{Stopping, twins::Twins};
use crate::{actors::Frame, edge, shared::Shared};
use matrixai_proto::v1::{
    FetchSegmentRequest, FetchSnapshotRequest, PeerAck, PeerClaim, PeerFrame, SegmentPiece, StoreReply, StoreRequest,
    peer_server,
};
use matrixai_transport::Caller;
use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

/// A stream must bring its claim within this time.
const CLAIM_WAIT: Duration = Duration::from_secs(5);
/// Acknowledgements waiting for the network; they only show that somebody listens, so more are left out.
const ACKS_MAX: usize = 4;
/// Pieces of a segment waiting for the network.
const PIECES_MAX: usize = 2;

/// The service.
#[derive(Debug)]
pub(crate) struct PeerService {
    pub(crate) shared: Shared,
    pub(crate) twins: Arc<Twins>,
}

#[tonic::async_trait]
impl peer_server::Peer for PeerService {
    type FetchSnapshotStream = super::snapshots::Pieces;
    type FetchSegmentStream = Pin<Box<dyn Stream<Item = Result<SegmentPiece, Status>> + Send>>;
    type ExchangeStream = Pin<Box<dyn Stream<Item = Result<PeerAck, Status>> + Send>>;

    async fn exchange(&self, request: Request<Streaming<PeerFrame>>) -> Result<Response<Self::ExchangeStream>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let mut frames = request.into_inner();
        let late = |_| Status::deadline_exceeded("the stream brought no claim");
        let first = tokio::time::timeout(CLAIM_WAIT, frames.message()).await.map_err(late)??;
        let claim = first.and_then(|frame| frame.claim);
        let PeerClaim { from, process, .. } = self.shared.check_peer_claim(claim.as_ref(), caller.as_ref())?;
        if !self.twins.speaks(from, &process, Instant::now()) {
            return Err(edge::twin());
        }
        let (acks, stream) = mpsc::channel(ACKS_MAX);
        let (shared, twins) = (self.shared.clone(), self.twins.clone());
        tokio::spawn(async move {
            let speaks = || twins.speaks(from, &process, Instant::now());
            tokio::select! {
                result = receive(&shared, from, frames, &acks, speaks) => {
                    twins.ended(from, &process);
                    if let Err(status) = result {
                        tracing::debug!(from, status = status.message(), "a coordinator's stream ended");
                        // The sender may be gone.
                        let _ = acks.send(Err(status)).await;
                    }
                }
                () = shared.stopping() => {}
            }
        });
        Ok(Response::new(Box::pin(Stopping::new(ReceiverStream::new(stream), &self.shared))))
    }

    async fn store(&self, request: Request<Streaming<StoreRequest>>) -> Result<Response<StoreReply>, Status> {
        super::artifacts::store(&self.shared, request).await.map(Response::new)
    }

    async fn fetch_snapshot(
        &self,
        request: Request<FetchSnapshotRequest>,
    ) -> Result<Response<Self::FetchSnapshotStream>, Status> {
        super::snapshots::fetch(&self.shared, request).await.map(Response::new)
    }

    async fn fetch_segment(
        &self,
        request: Request<FetchSegmentRequest>,
    ) -> Result<Response<Self::FetchSegmentStream>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let FetchSegmentRequest { claim, epoch } = request.into_inner();
        self.shared.check_peer_claim(claim.as_ref(), caller.as_ref())?;
        let shelf = self.shared.running()?.segments.clone();
        let missing = || Status::not_found(format!("segment {epoch} of the log is not on this coordinator"));
        let segment = shelf.get(epoch).ok_or_else(missing)?;
        let (sender, stream) = mpsc::channel(PIECES_MAX);
        tokio::spawn(async move { super::segments::send(&shelf, segment, sender).await });
        Ok(Response::new(Box::pin(Stopping::new(ReceiverStream::new(stream), &self.shared))))
    }
}

/// Hands frames to the replica one after another; while its mailbox is full, the sender waits by HTTP/2 flow control.
async fn receive(
    shared: &Shared,
    from: u64,
    mut frames: Streaming<PeerFrame>,
    acks: &mpsc::Sender<Result<PeerAck, Status>>,
    speaks: impl Fn() -> bool,
) -> Result<(), Status> {
    let replica = shared.running()?.replica.clone();
    let mut received = 0;
    while let Some(PeerFrame { raft, status, .. }) = frames.message().await? {
        // It may have left since it was let in.
        shared.still_admitted(from)?;
        if !speaks() {
            return Err(edge::twin());
        }
        received += 1;
        shared.live().heard(from);
        let acknowledge = status.is_some();
        replica.frame(Frame { from, raft, status }).await?;
        if acknowledge {
            // A full queue means that acknowledgements are under way.
            let _ = acks.try_send(Ok(PeerAck { received }));
        }
    }
    Ok(())
}
