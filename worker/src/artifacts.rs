//! Files by content: fetched from any coordinator and stored with a quorum of them. Both go on where they broke off, at
//! another coordinator if need be; what arrives is believed only when its hash is right.
//!
//! A coordinator that cannot be reached is tried again for as long as the task lives; only answers count against a task.

mod cache;

pub(crate) use cache::Cache;

use crate::coordinators::{Backoff, Coordinators};
use crate::identity::IdentityError;
use crate::sealer::Sealer;
use matrixai_proto::{
    envelope::SignatureError,
    v1::{
        GetReply, GetRequest, PutHeader, PutRequest, StatRequest, artifacts_client::ArtifactsClient, put_request::Part,
    },
};
use matrixai_protocol::{Hash, sha256};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::{fs::OpenOptions, io::AsyncWriteExt as _, time::timeout};
use tonic::{Code, Status, transport::Channel};

/// Bytes in one message of an upload; at most 1 MiB is allowed.
const CHUNK_BYTES: usize = 512 << 10;
/// Largest artifact that is fetched.
const ARTIFACT_BYTES_MAX: u64 = 1 << 30;
/// Rounds over all coordinators in which one gives a definite "no", before a transfer is given up.
const REFUSED_ROUNDS_MAX: u32 = 6;
/// Pauses between rounds.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Slowest upload that is waited for, bytes a second.
const SPEED_MIN: u64 = 64 << 10;

/// Why an artifact cannot be fetched or stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArtifactError {
    #[error("no coordinator gives artifact {artifact}: {last}")]
    Unavailable { artifact: String, last: Status },
    #[error("no coordinator takes artifact {artifact}: {last}")]
    Refused { artifact: String, last: Status },
    #[error("artifact {artifact} has {found} bytes, {limit} are expected at most")]
    TooLarge { artifact: String, found: u64, limit: u64 },
    #[error(transparent)]
    Disk(#[from] IdentityError),
    #[error("sign an upload: {0}")]
    Signature(#[from] SignatureError),
}

/// The cache and the way to the coordinators.
#[derive(Debug)]
pub(crate) struct Artifacts {
    cache: Arc<Cache>,
    coordinators: Arc<Coordinators>,
    sealer: Arc<Sealer>,
    timeout: Duration,
}

/// How one attempt at one coordinator failed.
enum Failed {
    /// Nobody there, or not now.
    Unreachable(Status),
    /// An answer, and not the wanted one.
    Answered(Status),
    /// No other coordinator will help.
    Fatal(ArtifactError),
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::NotFound
            | Code::InvalidArgument
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::DataLoss
            | Code::Unimplemented => Self::Answered(status),
            // Down, busy, full, electing, or broken: this may pass.
            _ => Self::Unreachable(status),
        }
    }
}

impl From<IdentityError> for Failed {
    fn from(error: IdentityError) -> Self {
        Self::Fatal(error.into())
    }
}

impl Artifacts {
    pub(crate) fn new(cache: Cache, coordinators: Arc<Coordinators>, sealer: Arc<Sealer>, timeout: Duration) -> Self {
        Self { cache: Arc::new(cache), coordinators, sealer, timeout }
    }

    /// The artifact's bytes, from this disk or a coordinator; at most `bytes_max` of them.
    pub(crate) async fn get(&self, hash: &Hash, bytes_max: u64) -> Result<Arc<[u8]>, ArtifactError> {
        let (cache, wanted) = (Arc::clone(&self.cache), *hash);
        let limit = bytes_max.min(ARTIFACT_BYTES_MAX);
        if let Some(bytes) = blocking(move || cache.read(&wanted)).await? {
            return Ok(bytes);
        }
        let mut last = None;
        let mut refused = 0;
        let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);
        while refused < REFUSED_ROUNDS_MAX {
            let mut answered = false;
            for n in 0..self.coordinators.len() {
                let (_, coordinator) = self.coordinators.nth(n);
                match self.get_from(coordinator.channel.clone(), hash, limit).await {
                    Ok(bytes) => return Ok(bytes),
                    Err(Failed::Fatal(error)) => return Err(error),
                    Err(Failed::Unreachable(status)) => last = Some(status),
                    Err(Failed::Answered(status)) => (answered, last) = (true, Some(status)),
                }
            }
            refused += u32::from(answered);
            tokio::time::sleep(backoff.next()).await;
        }
        let last = last.unwrap_or_else(|| Status::unavailable("there is no coordinator"));
        Err(ArtifactError::Unavailable { artifact: hex::encode(hash), last })
    }

    /// Goes on with the download on disk at one coordinator.
    async fn get_from(&self, channel: Channel, hash: &Hash, limit: u64) -> Result<Arc<[u8]>, Failed> {
        let path = self.cache.partial(hash);
        let io = |doing: &'static str| IdentityError::io(doing, &path);
        let mut file = OpenOptions::new().create(true).append(true).open(&path).await.map_err(io("open"))?;
        let mut offset = file.metadata().await.map_err(io("look at"))?.len();
        let mut client = ArtifactsClient::new(channel);
        let request = GetRequest { sha256: hash.to_vec(), offset };
        let mut replies = match self.timed(client.get(request)).await {
            Ok(replies) => replies.into_inner(),
            // The end of what we have may lie behind the end of the artifact: begin anew next time.
            Err(status) => {
                if matches!(status.code(), Code::OutOfRange | Code::InvalidArgument) {
                    discard(&path).await?;
                }
                return Err(status.into());
            }
        };
        let size = loop {
            let Some(GetReply { data, size }) = self.timed(replies.message()).await? else {
                return Err(Failed::Unreachable(Status::unavailable("the download ended early")));
            };
            if size > limit {
                discard(&path).await?;
                return Err(Failed::Fatal(ArtifactError::TooLarge { artifact: hex::encode(hash), found: size, limit }));
            }
            file.write_all(&data).await.map_err(io("write"))?;
            offset += data.len() as u64;
            if offset >= size {
                break size;
            }
        };
        file.flush().await.map_err(io("write"))?;
        drop(file);
        let bytes = tokio::fs::read(&path).await.map_err(io("read"))?;
        let right = bytes.len() as u64 == size && sha256(&[&bytes]) == *hash;
        if right {
            let (cache, hash, bytes) = (Arc::clone(&self.cache), *hash, Arc::<[u8]>::from(bytes));
            let kept = Arc::clone(&bytes);
            blocking(move || cache.write(&hash, &kept)).await?;
            discard(&path).await?;
            return Ok(bytes);
        }
        discard(&path).await?;
        Err(Failed::Answered(Status::data_loss("the bytes are not what their hash says")))
    }

    /// Stores bytes under their hash with a quorum of coordinators; returns once they have them on disk.
    pub(crate) async fn put(&self, hash: &Hash, bytes: Arc<[u8]>) -> Result<(), ArtifactError> {
        let (cache, hash, kept) = (Arc::clone(&self.cache), *hash, Arc::clone(&bytes));
        blocking(move || cache.write(&hash, &kept)).await?;
        let mut last = None;
        let mut refused = 0;
        let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);
        while refused < REFUSED_ROUNDS_MAX {
            let mut answered = false;
            for n in 0..self.coordinators.len() {
                let (_, coordinator) = self.coordinators.nth(n);
                match self.put_at(coordinator.channel.clone(), &hash, &bytes).await {
                    Ok(()) => return Ok(()),
                    Err(Failed::Fatal(error)) => return Err(error),
                    Err(Failed::Unreachable(status)) => last = Some(status),
                    Err(Failed::Answered(status)) => (answered, last) = (true, Some(status)),
                }
            }
            refused += u32::from(answered);
            tokio::time::sleep(backoff.next()).await;
        }
        let last = last.unwrap_or_else(|| Status::unavailable("there is no coordinator"));
        Err(ArtifactError::Refused { artifact: hex::encode(hash), last })
    }

    async fn put_at(&self, channel: Channel, hash: &Hash, bytes: &Arc<[u8]>) -> Result<(), Failed> {
        let mut client = ArtifactsClient::new(channel);
        let stat = self.timed(client.stat(StatRequest { sha256: hash.to_vec() })).await?.into_inner();
        // Also a whole artifact is put again: one coordinator's copy is not a quorum's.
        let received = if stat.complete || stat.received > bytes.len() as u64 { 0 } else { stat.received };
        match self.upload(&mut client, hash, bytes, received).await {
            // Somebody else's upload may have moved the mark meanwhile.
            Err(Failed::Answered(_)) if received > 0 => self.upload(&mut client, hash, bytes, 0).await,
            result => result,
        }
    }

    async fn upload(
        &self,
        client: &mut ArtifactsClient<Channel>,
        hash: &Hash,
        bytes: &Arc<[u8]>,
        offset: u64,
    ) -> Result<(), Failed> {
        let size = bytes.len() as u64;
        let claim = self.sealer.put(hash, size).map_err(|error| Failed::Fatal(error.into()))?;
        let header = PutHeader { sha256: hash.to_vec(), size, offset, claim: Some(claim) };
        let bytes = Arc::clone(bytes);
        let start = usize::try_from(offset).unwrap_or(bytes.len());
        let chunks = (start..bytes.len()).step_by(CHUNK_BYTES).map(move |at| {
            let end = bytes.len().min(at + CHUNK_BYTES);
            PutRequest { part: Some(Part::Data(bytes[at..end].to_vec())) }
        });
        let requests = std::iter::once(PutRequest { part: Some(Part::Header(header)) }).chain(chunks);
        let patience = self.timeout + Duration::from_secs(size / SPEED_MIN);
        let reply = timeout(patience, client.put(tokio_stream::iter(requests))).await;
        reply.map_err(|_| Status::deadline_exceeded("the upload took too long"))??;
        Ok(())
    }

    async fn timed<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        let late = |_| Err(Status::deadline_exceeded("no answer in time"));
        timeout(self.timeout, call).await.unwrap_or_else(late)
    }
}

async fn discard(path: &Path) -> Result<(), IdentityError> {
    match tokio::fs::remove_file(path).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(IdentityError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Runs disk work where it may block.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going down: this task ends with it.
            Err(_) => std::future::pending().await,
        },
    }
}
