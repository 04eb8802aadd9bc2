//! Files by content: data sets, deltas, checkpoints, models. An artifact counts as stored once a quorum of coordinators
//! has its bytes on disk, so that it survives whatever the log that names it survives.
//!
//! [`disk`] is the folder of this coordinator, [`peers`] the way to the others. File work is blocking and runs on the
//! runtime's blocking threads, never on those that carry connections.

pub(crate) mod disk;
pub(crate) mod peers;
pub(crate) mod quota;
mod upload;

use disk::{Disk, DiskError, Held};
use futures::{Stream, StreamExt as _, stream::FuturesUnordered};
use matrixai_proto::v1;
use matrixai_protocol::Hash;
use peers::{PeerError, Peers};
use quota::Quota;
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::spawn_blocking,
    time::timeout,
};
use upload::Upload;

use crate::telemetry::Metrics;

/// Most bytes in one message of an upload or download.
pub(crate) const CHUNK_BYTES_MAX: usize = 1 << 20;

/// Bytes that are sent in one message; small enough that a message never waits long behind another.
const CHUNK_BYTES: usize = 256 << 10;

/// Chunks read ahead of a receiver.
const READ_AHEAD: usize = 4;

/// Uploads of clients at once. Peers have as many of their own, so that clients cannot keep a quorum from forming.
const UPLOADS_MAX: usize = 64;

/// Downloads of clients at once.
const DOWNLOADS_MAX: usize = 512;

/// How long a download waits for its place.
const PLACE_WAIT: Duration = Duration::from_secs(5);

/// File under the store's folder with the bytes taken from each account.
const TAKEN: &str = "taken";
/// Fetches from peers at once.
const FETCHES_MAX: usize = 32;

/// An upload whose sender is silent for this long is ended; what came is kept.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How long `put` waits for a quorum.
const QUORUM_WAIT: Duration = Duration::from_secs(20);

/// Why an artifact could not be stored or had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArtifactError {
    /// The store of this coordinator refused or failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The sender broke the protocol of an upload.
    #[error("{0}")]
    Protocol(&'static str),
    /// The sender's stream failed or fell silent.
    #[error("the upload broke off: {0}; ask for its state and go on from there")]
    Broken(String),
    /// Too many at once.
    #[error("{0} are running already, as many as this coordinator takes: try again shortly")]
    Busy(&'static str),
    /// Stored here, but not yet on a quorum.
    #[error("{replicas} of the {quorum} coordinators that must hold it do: send it again ({why})")]
    NoQuorum {
        /// Coordinators that hold it.
        replicas: u32,
        /// Coordinators that must.
        quorum: u32,
        /// What the last failing peer said.
        why: String,
    },
    /// Nobody who answered has it.
    #[error("no coordinator that answers has the artifact {0}")]
    Unknown(String),
    /// The runtime is stopping.
    #[error("this coordinator is stopping")]
    Stopping,
}

/// The artifacts of this coordinator and its way to those of the others. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Artifacts {
    disk: Arc<Disk>,
    quota: Arc<Quota>,
    peers: Arc<dyn Peers>,
    metrics: Arc<Metrics>,
    uploads: Arc<Semaphore>,
    copies: Arc<Semaphore>,
    downloads: Arc<Semaphore>,
    fetches: Arc<Semaphore>,
    /// One fetch an artifact; who comes later waits for it.
    fetching: Arc<Mutex<BTreeMap<Hash, Weak<tokio::sync::Mutex<()>>>>>,
}

impl Artifacts {
    /// Opens the folder of this coordinator (blocking: it is swept) and limits it to `bytes_max`.
    ///
    /// # Errors
    /// [`DiskError::Io`] names what could not be read or made.
    pub(crate) fn open(
        root: &Path,
        bytes_max: u64,
        peers: Arc<dyn Peers>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, DiskError> {
        let artifacts = Self {
            disk: Disk::open(root, bytes_max)?,
            quota: Quota::open(&root.join(TAKEN)).map_err(DiskError::io("read", &root.join(TAKEN)))?,
            peers,
            metrics,
            uploads: Arc::new(Semaphore::new(UPLOADS_MAX)),
            copies: Arc::new(Semaphore::new(UPLOADS_MAX)),
            downloads: Arc::new(Semaphore::new(DOWNLOADS_MAX)),
            fetches: Arc::new(Semaphore::new(FETCHES_MAX)),
            fetching: Arc::default(),
        };
        artifacts.gauge();
        Ok(artifacts)
    }

    /// What this coordinator itself has.
    ///
    /// # Errors
    /// [`ArtifactError::Disk`] when the disk fails.
    pub(crate) async fn stat(&self, hash: Hash) -> Result<Held, ArtifactError> {
        let disk = Arc::clone(&self.disk);
        blocking(move || disk.held(&hash)).await
    }

    /// What has been taken from whom.
    pub(crate) fn quota(&self) -> &Arc<Quota> {
        &self.quota
    }

    /// Takes an upload that starts at `offset` and answers the number of coordinators that hold the bytes on disk, once
    /// that is a quorum. An artifact that is here already is not written again, whatever the stream brings.
    ///
    /// # Errors
    /// [`ArtifactError`]; what came before a failure is kept for going on, unless it was the wrong bytes.
    #[tracing::instrument(name = "artifacts.put", skip_all, fields(artifact = %hex::encode(hash), size))]
    pub(crate) async fn put<S>(&self, hash: Hash, size: u64, offset: u64, chunks: S) -> Result<u32, ArtifactError>
    where
        S: Stream<Item = Result<Vec<u8>, ArtifactError>> + Send,
    {
        let permit = admitted(&self.uploads, "uploads")?;
        match self.stat(hash).await? {
            Held::Whole(held) if held == size => drain(chunks, size).await?,
            Held::Whole(_) => {
                return Err(ArtifactError::Protocol("the size is not that of the artifact with this hash"));
            }
            Held::Part(_) => {
                let disk = Arc::clone(&self.disk);
                let upload = blocking(move || disk.upload(hash, size, offset)).await?;
                self.take(upload, chunks).await?;
            }
        }
        // The disk is done with; waiting for the others needs no place among the uploads.
        drop(permit);
        self.replicate(hash, size).await
    }

    /// The receiving half of `Peer.Store`: a copy from another coordinator. The caller has checked the claim in the
    /// first message and passes that message with the rest.
    ///
    /// # Errors
    /// [`ArtifactError`], as [`Artifacts::put`].
    pub(crate) async fn receive<S>(&self, hash: Hash, size: u64, chunks: S) -> Result<(), ArtifactError>
    where
        S: Stream<Item = Result<Vec<u8>, ArtifactError>> + Send,
    {
        let _permit = admitted(&self.copies, "copies from peers")?;
        if let Held::Whole(held) = self.stat(hash).await? {
            if held != size {
                return Err(ArtifactError::Protocol("the size is not that of the artifact with this hash"));
            }
            return drain(chunks, size).await;
        }
        let disk = Arc::clone(&self.disk);
        let upload = blocking(move || disk.private(hash, size)).await?;
        self.take(upload, chunks).await
    }

    /// The bytes from `offset` on, in chunks, and the size of the whole. Where `fetch` is set, an artifact that is not
    /// here is first fetched from a peer, checked and kept.
    ///
    /// Errors of the disk end the stream. One read from its beginning is hashed on the way: if its bytes have changed
    /// on disk, the copy is removed and the stream ends with an error, so that the next attempt fetches it anew.
    ///
    /// # Errors
    /// [`ArtifactError::Unknown`] when nobody has it; [`ArtifactError`] otherwise.
    pub(crate) async fn get(
        &self,
        hash: Hash,
        offset: u64,
        fetch: bool,
    ) -> Result<(u64, mpsc::Receiver<Result<Vec<u8>, DiskError>>), ArtifactError> {
        let place = timeout(PLACE_WAIT, Arc::clone(&self.downloads).acquire_owned()).await;
        let Ok(Ok(place)) = place else { return Err(ArtifactError::Busy("downloads")) };
        if matches!(self.stat(hash).await?, Held::Part(_)) {
            if !fetch {
                return Err(ArtifactError::Unknown(hex::encode(hash)));
            }
            self.fetch(hash).await?;
        }
        self.chunks(hash, offset, Some(place)).await
    }

    /// Bytes on this disk or promised to running uploads, and the limit.
    pub(crate) fn usage(&self) -> (u64, u64) {
        (self.disk.bytes(), self.disk.bytes_max())
    }

    async fn take<S>(&self, upload: Upload, chunks: S) -> Result<(), ArtifactError>
    where
        S: Stream<Item = Result<Vec<u8>, ArtifactError>> + Send,
    {
        let mut chunks = std::pin::pin!(chunks);
        let mut upload = upload;
        while let Some(chunk) = next(&mut chunks).await? {
            upload = blocking(move || upload.write(&chunk).map(|()| upload)).await?;
        }
        blocking(move || upload.commit()).await?;
        self.gauge();
        Ok(())
    }

    /// Copies to the peers and returns as soon as a quorum (this coordinator included) holds it; the others are served
    /// in the background.
    #[tracing::instrument(name = "artifacts.replicate", skip_all)]
    async fn replicate(&self, hash: Hash, size: u64) -> Result<u32, ArtifactError> {
        let quorum = self.peers.quorum();
        let mut replicas = 1;
        let mut why = String::from("no other coordinator answers");
        let mut copies: FuturesUnordered<_> = self
            .peers
            .others()
            .into_iter()
            .map(|peer| {
                let this = self.clone();
                // A task of its own, so that a copy goes on after the quorum is there and the client has its answer.
                tokio::spawn(async move { peers::store(&this, peer, hash, size).await })
            })
            .collect();
        let all = async {
            while replicas < quorum {
                match copies.next().await {
                    None => return,
                    Some(Ok(Ok(()))) => replicas += 1,
                    Some(Ok(Err(error))) => why = error.to_string(),
                    Some(Err(error)) => why = error.to_string(),
                }
            }
        };
        if timeout(QUORUM_WAIT, all).await.is_err() {
            why = format!("the others did not answer in {} s", QUORUM_WAIT.as_secs());
        }
        if replicas < quorum { Err(ArtifactError::NoQuorum { replicas, quorum, why }) } else { Ok(replicas) }
    }

    #[tracing::instrument(name = "artifacts.fetch", skip_all, fields(artifact = %hex::encode(hash)))]
    async fn fetch(&self, hash: Hash) -> Result<(), ArtifactError> {
        let _permit = admitted(&self.fetches, "fetches from peers")?;
        let turn = self.turn(hash);
        let _turn = turn.lock().await;
        if matches!(self.stat(hash).await?, Held::Whole(_)) {
            return Ok(());
        }
        for peer in self.peers.others() {
            let id = peer.id;
            match peers::fetch(self, peer, hash).await {
                Ok(()) => {
                    self.metrics.artifacts_fetched.inc();
                    return Ok(());
                }
                Err(PeerError::Absent) => {}
                Err(error) => {
                    tracing::warn!(peer = id, artifact = %hex::encode(hash), %error, "an artifact could not be fetched");
                }
            }
        }
        Err(ArtifactError::Unknown(hex::encode(hash)))
    }

    fn turn(&self, hash: Hash) -> Arc<tokio::sync::Mutex<()>> {
        let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        fetching.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = fetching.get(&hash).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        fetching.insert(hash, Arc::downgrade(&turn));
        turn
    }

    /// `place` is kept until the last chunk has been taken.
    async fn chunks(
        &self,
        hash: Hash,
        offset: u64,
        place: Option<OwnedSemaphorePermit>,
    ) -> Result<(u64, mpsc::Receiver<Result<Vec<u8>, DiskError>>), ArtifactError> {
        let disk = Arc::clone(&self.disk);
        let opened = blocking(move || {
            let Some((mut file, size)) = disk.read(&hash)? else { return Ok(None) };
            if offset <= size {
                file.seek(SeekFrom::Start(offset)).map_err(DiskError::io("seek in", &disk.path(&hash)))?;
            }
            Ok(Some((file, size)))
        });
        let (file, size) = opened.await?.ok_or_else(|| ArtifactError::Unknown(hex::encode(hash)))?;
        if offset > size {
            return Err(ArtifactError::Protocol("the offset lies behind the end of the artifact"));
        }
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let hasher = (offset == 0).then(Sha256::new);
        let mut reading = Reading { disk: Arc::clone(&self.disk), hash, file, hasher };
        // A blocking thread for each chunk, not for each reader: those who read slowly or not at all would hold them all.
        tokio::spawn(async move {
            let _place = place;
            loop {
                let read = spawn_blocking(move || (reading.next(), reading)).await;
                let Ok((part, kept)) = read else { return };
                reading = kept;
                let Some(part) = part.transpose() else { return };
                let failed = part.is_err();
                // A receiver that went away, or takes nothing for this long, wants no more.
                let sent = timeout(SILENCE_MAX, sender.send(part)).await;
                if failed || !matches!(sent, Ok(Ok(()))) {
                    return;
                }
            }
        });
        Ok((size, receiver))
    }

    fn gauge(&self) {
        let (bytes, max) = self.usage();
        self.metrics.artifacts_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.metrics.artifacts_bytes_max.set(i64::try_from(max).unwrap_or(i64::MAX));
    }
}

/// An artifact that is being read, and hashed if it is read from its beginning.
#[derive(Debug)]
struct Reading {
    disk: Arc<Disk>,
    hash: Hash,
    file: File,
    hasher: Option<Sha256>,
}

impl Reading {
    /// The next chunk (blocking); none behind the last one, if the bytes are still the ones that they were.
    fn next(&mut self) -> Result<Option<Vec<u8>>, DiskError> {
        let path = self.disk.path(&self.hash);
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let read = (&mut self.file).take(CHUNK_BYTES as u64).read_to_end(&mut chunk);
        if read.map_err(DiskError::io("read", &path))? > 0 {
            if let Some(hasher) = self.hasher.as_mut() {
                hasher.update(&chunk);
            }
            return Ok(Some(chunk));
        }
        let Some(got) = self.hasher.take().map(|hasher| Hash::from(hasher.finalize())) else { return Ok(None) };
        if got == self.hash {
            return Ok(None);
        }
        tracing::error!(path = %path.display(), "an artifact's bytes have changed on disk: the copy is removed");
        if let Err(error) = self.disk.discard(&self.hash) {
            tracing::error!(%error, "the changed copy could not be removed");
        }
        Err(DiskError::WrongHash { wanted: hex::encode(self.hash), got: hex::encode(got) })
    }
}

/// Reads the hash of a wire message.
///
/// # Errors
/// [`ArtifactError::Protocol`] when it is no SHA-256.
pub(crate) fn hash(bytes: &[u8]) -> Result<Hash, ArtifactError> {
    bytes.try_into().map_err(|_| ArtifactError::Protocol("sha256 must be 32 bytes long"))
}

/// The chunks of a `Peer.Store` stream: what came with the first message, then the rest.
pub(crate) fn store_chunks<S>(first: Vec<u8>, rest: S) -> impl Stream<Item = Result<Vec<u8>, ArtifactError>> + Send
where
    S: Stream<Item = Result<v1::StoreRequest, tonic::Status>> + Send,
{
    let rest = rest.map(|message| match message {
        Ok(message) => Ok(message.data),
        Err(status) => Err(ArtifactError::Broken(status.message().to_owned())),
    });
    futures::stream::iter((!first.is_empty()).then_some(Ok(first))).chain(rest)
}

async fn next<S>(chunks: &mut std::pin::Pin<&mut S>) -> Result<Option<Vec<u8>>, ArtifactError>
where
    S: Stream<Item = Result<Vec<u8>, ArtifactError>>,
{
    match timeout(SILENCE_MAX, chunks.next()).await {
        Err(_) => Err(ArtifactError::Broken(format!("nothing came for {} s", SILENCE_MAX.as_secs()))),
        Ok(Some(Ok(chunk))) if chunk.len() > CHUNK_BYTES_MAX => {
            Err(ArtifactError::Protocol("a message may carry at most 1 MiB of data"))
        }
        Ok(Some(chunk)) => chunk.map(Some),
        Ok(None) => Ok(None),
    }
}

/// Reads a stream to its end without keeping it: answering before a client has finished sending looks like a broken
/// connection to some of them.
async fn drain<S>(chunks: S, size: u64) -> Result<(), ArtifactError>
where
    S: Stream<Item = Result<Vec<u8>, ArtifactError>> + Send,
{
    let mut chunks = std::pin::pin!(chunks);
    let mut seen = 0;
    while let Some(chunk) = next(&mut chunks).await? {
        seen += chunk.len() as u64;
        if seen > size {
            return Err(DiskError::TooMuch { size }.into());
        }
    }
    Ok(())
}

fn admitted(places: &Arc<Semaphore>, what: &'static str) -> Result<OwnedSemaphorePermit, ArtifactError> {
    Arc::clone(places).try_acquire_owned().map_err(|_| ArtifactError::Busy(what))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DiskError> + Send + 'static,
) -> Result<T, ArtifactError> {
    match spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(ArtifactError::Stopping),
    }
}
