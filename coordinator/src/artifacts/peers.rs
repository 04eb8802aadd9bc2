//! Copies to and from the other coordinators. What comes from a peer is believed only when its bytes hash to its name.

use super::{
    ArtifactError, Artifacts, blocking,
    disk::{ARTIFACT_BYTES_MAX, DiskError},
};
use futures::StreamExt as _;
use matrixai_proto::v1::{
    self, GetRequest, StatRequest, StoreRequest, artifacts_client::ArtifactsClient, peer_client::PeerClient,
};
use matrixai_protocol::Hash;
use std::{fmt, sync::Arc, time::Duration};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, transport::Channel};

/// Metadata key by which a coordinator asks another for what that one has itself: without it, two that miss the same
/// artifact would ask each other for ever.
pub(crate) const LOCAL_ONLY: &str = "matrixai-local-only";

/// How long one copy to or from a peer may take.
const COPY_WAIT: Duration = Duration::from_secs(30);

/// How long a peer may take to say what it has.
const STAT_WAIT: Duration = Duration::from_secs(5);

/// Another coordinator, reachable or not.
#[derive(Debug, Clone)]
pub(crate) struct PeerLink {
    /// Its number in genesis.
    pub(crate) id: u64,
    /// A connection that is made when it is first needed, and again after it broke.
    pub(crate) channel: Channel,
}

/// What the artifacts need to know of the quorum.
pub(crate) trait Peers: fmt::Debug + Send + Sync {
    /// The other coordinators.
    fn others(&self) -> Vec<PeerLink>;
    /// Coordinators that must hold an artifact before it counts as stored, this one included.
    fn quorum(&self) -> u32;
    /// A signed claim (method "peer") from this coordinator to another.
    fn claim(&self, to: u64) -> v1::Envelope;
}

/// Why a copy did not come about.
#[derive(Debug, thiserror::Error)]
pub(super) enum PeerError {
    #[error("the peer does not have it")]
    Absent,
    #[error("{}", status.message())]
    Refused { status: Status },
    #[error("the peer took too long")]
    Slow,
    #[error("the peer sent no size, or one above the limit")]
    Size,
    #[error(transparent)]
    Here(#[from] ArtifactError),
}

impl From<Status> for PeerError {
    fn from(status: Status) -> Self {
        if status.code() == Code::NotFound { Self::Absent } else { Self::Refused { status } }
    }
}

/// Makes sure that a peer holds an artifact of ours on its disk.
pub(super) async fn store(artifacts: &Artifacts, peer: PeerLink, hash: Hash, size: u64) -> Result<(), PeerError> {
    let mut client = ArtifactsClient::new(peer.channel.clone());
    let known = client.stat(local_only(StatRequest { sha256: hash.to_vec() }));
    let known = tokio::time::timeout(STAT_WAIT, known).await.map_err(|_| PeerError::Slow)??.into_inner();
    if known.complete && known.size == size {
        return Ok(());
    }
    let (_, chunks) = artifacts.chunks(hash, 0, None).await?;
    let header =
        StoreRequest { claim: Some(artifacts.peers.claim(peer.id)), sha256: hash.to_vec(), size, data: Vec::new() };
    // A chunk that cannot be read ends the stream early; the peer then sees too few bytes and keeps nothing.
    let rest = ReceiverStream::new(chunks)
        .take_while(|chunk| futures::future::ready(chunk.is_ok()))
        .filter_map(|chunk| futures::future::ready(chunk.ok()))
        .map(|data| StoreRequest { data, ..StoreRequest::default() });
    let messages = futures::stream::once(futures::future::ready(header)).chain(rest);
    let mut client = PeerClient::new(peer.channel);
    tokio::time::timeout(COPY_WAIT, client.store(messages)).await.map_err(|_| PeerError::Slow)??;
    Ok(())
}

/// Fetches an artifact that is not here from one peer, and commits it if it is what its name says.
pub(super) async fn fetch(artifacts: &Artifacts, peer: PeerLink, hash: Hash) -> Result<(), PeerError> {
    tokio::time::timeout(COPY_WAIT, fetch_now(artifacts, peer, hash)).await.map_err(|_| PeerError::Slow)?
}

async fn fetch_now(artifacts: &Artifacts, peer: PeerLink, hash: Hash) -> Result<(), PeerError> {
    let request = local_only(GetRequest { sha256: hash.to_vec(), offset: 0 });
    let mut replies = ArtifactsClient::new(peer.channel).get(request).await?.into_inner();
    let first = replies.message().await?.ok_or(PeerError::Size)?;
    if first.size > ARTIFACT_BYTES_MAX {
        return Err(PeerError::Size);
    }
    let disk = Arc::clone(&artifacts.disk);
    let upload = blocking(move || disk.private(hash, first.size)).await?;
    let rest = replies.map(|reply| match reply {
        Ok(reply) => Ok(reply.data),
        Err(status) => Err(ArtifactError::Broken(status.message().to_owned())),
    });
    let chunks = futures::stream::once(futures::future::ready(Ok(first.data))).chain(rest);
    artifacts.take(upload, chunks).await.map_err(|error| match error {
        ArtifactError::Disk(DiskError::WrongHash { .. }) => {
            tracing::error!(peer = peer.id, artifact = %hex::encode(hash), "a peer sent other bytes than it was asked for");
            PeerError::Here(error)
        }
        _ => PeerError::Here(error),
    })
}

fn local_only<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(LOCAL_ONLY, tonic::metadata::MetadataValue::from_static("1"));
    request
}
