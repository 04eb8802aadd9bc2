//! Files by content, over gRPC: who may store them, and which error is which status. What happens to the bytes is
//! decided in [`crate::artifacts`].

use super::Stopping;
use crate::{
    artifacts::{
        ArtifactError,
        disk::{DiskError, Held},
        hash,
        peers::LOCAL_ONLY,
        quota::Place,
        store_chunks,
    },
    edge,
    shared::Shared,
};
use futures::{StreamExt as _, stream};
use matrixai_proto::{
    envelope::ARTIFACT_PUT,
    v1::{
        Envelope, GetReply, GetRequest, PutClaim, PutHeader, PutReply, PutRequest, StatReply, StatRequest, StoreReply,
        StoreRequest, artifacts_server::Artifacts, put_request::Part,
    },
};
use matrixai_protocol::Hash;
use matrixai_state::{
    Signer, State,
    ids::{AccountId, Key},
};
use matrixai_transport::Caller;
use std::{pin::Pin, time::Duration};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Code, Request, Response, Status, Streaming};

/// An upload must bring its header within this time.
const HEADER_WAIT: Duration = Duration::from_secs(10);

/// The service.
#[derive(Debug)]
pub(crate) struct ArtifactsService {
    pub(crate) shared: Shared,
}

#[tonic::async_trait]
impl Artifacts for ArtifactsService {
    type GetStream = Pin<Box<dyn Stream<Item = Result<GetReply, Status>> + Send>>;

    async fn put(&self, request: Request<Streaming<PutRequest>>) -> Result<Response<PutReply>, Status> {
        let mut messages = request.into_inner();
        let header = match first(&mut messages).await?.part {
            Some(Part::Header(header)) => header,
            Some(Part::Data(_)) | None => return Err(Status::invalid_argument("the first message must be a header")),
        };
        let sha256 = hash(&header.sha256).map_err(status)?;
        let from = authorised(&self.shared, &header).await?;
        let place = self.place(&from, sha256, header.size).await?;
        let chunks = messages.map(|message| match message.map(|message| message.part) {
            Ok(Some(Part::Data(data))) => Ok(data),
            Ok(Some(Part::Header(_)) | None) => Err(ArtifactError::Protocol("after the header come data only")),
            Err(status) => Err(ArtifactError::Broken(status.message().to_owned())),
        });
        let put = self.shared.artifacts().put(sha256, header.size, header.offset, chunks);
        let replicas = put.await.map_err(status)?;
        if let Some(place) = place
            && let Err(error) = place.keep()
        {
            tracing::warn!(%error, "the bytes taken from an account could not be noted");
        }
        Ok(Response::new(PutReply { replicas }))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<Self::GetStream>, Status> {
        let fetch = request.metadata().get(LOCAL_ONLY).is_none();
        let GetRequest { sha256, offset } = request.into_inner();
        let sha256 = hash(&sha256).map_err(status)?;
        let (size, chunks) = self.shared.artifacts().get(sha256, offset, fetch).await.map_err(status)?;
        // The first message says the size even where there are no bytes.
        let head = stream::once(std::future::ready(Ok(GetReply { data: Vec::new(), size })));
        let body = ReceiverStream::new(chunks).map(move |chunk| match chunk {
            Ok(data) => Ok(GetReply { data, size }),
            Err(error) => Err(status(error.into())),
        });
        Ok(Response::new(Box::pin(Stopping::new(head.chain(body), &self.shared))))
    }

    async fn stat(&self, request: Request<StatRequest>) -> Result<Response<StatReply>, Status> {
        let sha256 = hash(&request.into_inner().sha256).map_err(status)?;
        Ok(Response::new(match self.shared.artifacts().stat(sha256).await.map_err(status)? {
            Held::Whole(size) => StatReply { complete: true, size, received: 0 },
            Held::Part(received) => StatReply { complete: false, size: 0, received },
        }))
    }
}

/// Whose bytes an upload is, and how many that account may have here; none for a machine that works for somebody.
#[derive(Debug)]
struct Uploader {
    account: Option<AccountId>,
    bytes_max: u64,
}

impl ArtifactsService {
    /// Sets bytes aside, unless the artifact is here already.
    async fn place(&self, from: &Uploader, sha256: Hash, size: u64) -> Result<Option<Place>, Status> {
        let artifacts = self.shared.artifacts();
        let Some(account) = from.account else { return Ok(None) };
        if let Held::Whole(_) = artifacts.stat(sha256).await.map_err(status)? {
            return Ok(None);
        }
        artifacts.quota().reserve(account, size, from.bytes_max).map(Some).map_err(|has| {
            Status::permission_denied(format!(
                "storage_exceeded: account {account} has {has} bytes at this coordinator, {size} more are over its limit of \
                 {}",
                from.bytes_max
            ))
        })
    }
}

/// The receiving half of `Peer.Store`.
///
/// # Errors
/// UNAUTHENTICATED for a stream that no coordinator of this cluster began; otherwise as for an upload.
pub(super) async fn store(shared: &Shared, request: Request<Streaming<StoreRequest>>) -> Result<StoreReply, Status> {
    let caller = request.extensions().get::<Caller>().cloned();
    let mut messages = request.into_inner();
    let StoreRequest { claim, sha256, size, data } = first(&mut messages).await?;
    shared.check_peer_claim(claim.as_ref(), caller.as_ref())?;
    let sha256 = hash(&sha256).map_err(status)?;
    shared.artifacts().receive(sha256, size, store_chunks(data, messages)).await.map_err(status)?;
    Ok(StoreReply {})
}

async fn first<T>(messages: &mut Streaming<T>) -> Result<T, Status> {
    let late = |_| Status::deadline_exceeded("the upload brought no header");
    let message = tokio::time::timeout(HEADER_WAIT, messages.message()).await.map_err(late)??;
    message.ok_or_else(|| Status::invalid_argument("the upload is empty"))
}

/// Accounts and machines of this cluster may store. The claim names what is stored, so one that was overheard stores
/// nothing else.
async fn authorised(shared: &Shared, header: &PutHeader) -> Result<Uploader, Status> {
    let missing = || Status::unauthenticated("the header must hold a claim signed by an account or machine");
    let claim = header.claim.as_ref().ok_or_else(missing)?;
    let state = shared.stale_view()?;
    let claimed: PutClaim = edge::claimed(claim, ARTIFACT_PUT, &state)?;
    if claimed.sha256 != header.sha256 || claimed.size != header.size {
        return Err(Status::unauthenticated("the claim is for another artifact than the header"));
    }
    if let Some(from) = may_store(claim, &state).filter(|_| edge::lives_at_most(claim, &state).is_ok()) {
        return Ok(from);
    }
    // Whoever was let in a moment ago may not be in this coordinator's state yet, nor its time be the newest.
    let state = shared.view().await?;
    edge::lives_at_most(claim, &state)?;
    may_store(claim, &state).ok_or_else(|| Status::permission_denied("no account or machine has this key"))
}

fn may_store(claim: &Envelope, state: &State) -> Option<Uploader> {
    let key = Key::try_from(claim.key.as_slice()).ok()?;
    let account = match state.key_role(&key)? {
        Signer::Account(account) => Some(account),
        // What a machine stores for a job is the job's; its owner cannot help that it must.
        Signer::Machine(machine, _) if state.machine(machine).is_some_and(|row| row.job.is_some()) => None,
        Signer::Machine(_, owner) => Some(owner),
        Signer::Node(_) => return None,
    };
    Some(Uploader { account, bytes_max: account.map_or(0, |account| state.limits_of(account).storage_bytes) })
}

fn status(error: ArtifactError) -> Status {
    let code = match &error {
        ArtifactError::Disk(disk) => match disk {
            DiskError::TooLarge { .. } | DiskError::TooMuch { .. } | DiskError::WrongHash { .. } => {
                Code::InvalidArgument
            }
            DiskError::Full { .. } => Code::ResourceExhausted,
            DiskError::Busy | DiskError::Short { .. } => Code::Aborted,
            DiskError::WrongOffset { .. } => Code::OutOfRange,
            DiskError::Io { .. } => Code::Internal,
        },
        ArtifactError::Protocol(_) => Code::InvalidArgument,
        ArtifactError::Broken(_) => Code::Aborted,
        ArtifactError::Busy(_) => Code::ResourceExhausted,
        ArtifactError::NoQuorum { .. } | ArtifactError::Stopping => Code::Unavailable,
        ArtifactError::Unknown(_) => Code::NotFound,
    };
    if code == Code::Internal {
        tracing::error!(%error, "artifact store");
    }
    Status::new(code, error.to_string())
}
