//! A coordinator for tests: real gRPC on a loopback port, and a script in place of a ledger. It checks what a real one
//! would check first (signatures, cluster, claims), hands each session to the test, and keeps artifacts in memory.

use matrixai_proto::{
    decode_strict,
    envelope::{ARTIFACT_PUT, COMMANDS, SESSION, verify},
    v1::{
        self, Ack, Assignment, Batch, CoordinatorMessage, Envelope, GetReply, GetRequest, GetStatusReply,
        GetStatusRequest, Hello, Outcome, Ping, PutClaim, PutReply, PutRequest, SessionClaim, StatReply, StatRequest,
        Welcome, Withdraw, WorkerMessage,
        agent_server::{Agent, AgentServer},
        artifacts_server::{Artifacts, ArtifactsServer},
        cluster_server::{Cluster, ClusterServer},
        command::Kind,
        coordinator_message::Kind as ToWorker,
        put_request::Part,
        worker_message::Kind as FromWorker,
    },
};
use matrixai_protocol::{Hash, sha256};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

pub(crate) const CLUSTER: Hash = [0xc1; 32];
pub(crate) const LEDGER_MS: u64 = 1_700_000_000_000;
/// Long enough that only a test about silence meets it.
const SILENCE_MS: u64 = 600_000;
const CHUNK_BYTES: usize = 1000;

/// What a transfer is made to do instead of working.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// One chunk, then the stream breaks.
    BreakAfterChunk,
    /// Other bytes than asked for.
    WrongBytes,
    /// Not here.
    NotFound,
}

/// Artifacts and faults; coordinators of one cluster share them.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) artifacts: Mutex<BTreeMap<Hash, Vec<u8>>>,
    partial: Mutex<BTreeMap<Hash, Vec<u8>>>,
    /// For the next downloads, one each.
    pub(crate) get_faults: Mutex<VecDeque<Fault>>,
    /// Uploads that break off after their first chunk.
    pub(crate) put_breaks: Mutex<u32>,
    /// Offsets that downloads and uploads began at.
    pub(crate) offsets: Mutex<Vec<u64>>,
}

impl Store {
    pub(crate) fn keep(&self, bytes: &[u8]) -> Hash {
        let hash = sha256(&[bytes]);
        self.artifacts.lock().unwrap().insert(hash, bytes.to_vec());
        hash
    }

    pub(crate) fn has(&self, hash: &[u8]) -> bool {
        self.artifacts.lock().unwrap().contains_key(hash)
    }

    fn find(&self, hash: &[u8]) -> Option<Vec<u8>> {
        self.artifacts.lock().unwrap().get(hash).cloned()
    }
}

/// One coordinator.
#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) address: String,
    pub(crate) store: Arc<Store>,
    links: mpsc::Receiver<Link>,
}

/// One session, seen from the coordinator. Dropping it ends the session.
#[derive(Debug)]
pub(crate) struct Link {
    /// The hello, before it is welcomed.
    pub(crate) claim: SessionClaim,
    pub(crate) machine_key: [u8; 32],
    pub(crate) enrolment: Option<Envelope>,
    incoming: Streaming<WorkerMessage>,
    outgoing: mpsc::Sender<Result<CoordinatorMessage, Status>>,
}

#[derive(Debug, Clone)]
struct Service {
    store: Arc<Store>,
    links: mpsc::Sender<Link>,
}

impl Fake {
    pub(crate) async fn start(store: &Arc<Store>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, links) = mpsc::channel(16);
        let service = Service { store: Arc::clone(store), links: sender };
        let server = Server::builder()
            .add_service(AgentServer::new(service.clone()))
            .add_service(ArtifactsServer::new(service.clone()))
            .add_service(ClusterServer::new(service));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { address, store: Arc::clone(store), links }
    }

    /// The next session, welcomed.
    pub(crate) async fn session(&mut self) -> Link {
        let link = self.hello().await;
        link.welcome(SILENCE_MS).await;
        link
    }

    /// The next session's hello, still waiting for its welcome.
    pub(crate) async fn hello(&mut self) -> Link {
        self.links.recv().await.unwrap()
    }
}

impl Link {
    pub(crate) async fn welcome(&self, silence_ms: u64) {
        let machine = crate::identity::machine_id(&CLUSTER, &self.machine_key).to_vec();
        let welcome = Welcome { cluster_id: CLUSTER.to_vec(), machine, now_ms: LEDGER_MS, silence_ms };
        self.send(ToWorker::Welcome(welcome)).await;
    }

    pub(crate) async fn assign(&self, key: &str, task: v1::assignment::Task) {
        let (key, task) = (key.to_owned(), Some(task));
        let deadline_ms = LEDGER_MS + 600_000;
        self.send(ToWorker::Assignment(Assignment { key, deadline_ms, now_ms: LEDGER_MS, task })).await;
    }

    pub(crate) async fn withdraw(&self, key: &str) {
        self.send(ToWorker::Withdraw(Withdraw { key: key.to_owned() })).await;
    }

    pub(crate) async fn ping(&self, nonce: u64) {
        self.send(ToWorker::Ping(Ping { nonce })).await;
    }

    /// Acknowledges with one outcome, or as a failed relay without any.
    pub(crate) async fn ack(&self, envelope: &Envelope, outcomes: &[&str]) {
        let outcome =
            |name: &&str| Outcome { code: u32::from(*name != "done"), name: (*name).to_owned(), ..Outcome::default() };
        let outcomes = outcomes.iter().map(outcome).collect();
        self.send(ToWorker::Ack(Ack { command_id: envelope.command_id.clone(), outcomes })).await;
    }

    async fn send(&self, kind: ToWorker) {
        self.outgoing.send(Ok(CoordinatorMessage { kind: Some(kind) })).await.unwrap();
    }

    /// The next message, whatever it is; none when the worker has closed the stream.
    pub(crate) async fn message(&mut self) -> Option<FromWorker> {
        self.incoming.message().await.ok().flatten().map(|message| message.kind.unwrap())
    }

    /// The next report, checked; progress is passed over.
    pub(crate) async fn report(&mut self) -> (Envelope, Kind) {
        loop {
            match self.message().await.unwrap() {
                FromWorker::Envelope(envelope) => {
                    let batch: Batch = open(&envelope, COMMANDS).unwrap();
                    assert_eq!(envelope.key, self.machine_key);
                    assert_eq!(batch.commands.len(), 1);
                    return (envelope, batch.commands[0].kind.clone().unwrap());
                }
                FromWorker::Progress(progress) => assert!(progress.done_e6 <= 1_000_000),
                other => panic!("not a report: {other:?}"),
            }
        }
    }

    /// The next report, acknowledged as done.
    pub(crate) async fn accepted(&mut self) -> Kind {
        let (envelope, kind) = self.report().await;
        self.ack(&envelope, &["done"]).await;
        kind
    }
}

/// The payload of an envelope that a coordinator would let in.
fn open<M: prost::Message + Default>(envelope: &Envelope, method: &str) -> Result<M, Status> {
    verify(envelope).map_err(|error| Status::unauthenticated(error.to_string()))?;
    let lives = envelope.expires_ms.checked_sub(LEDGER_MS).is_some_and(|ms| ms > 0 && ms <= 600_000);
    if envelope.cluster_id != CLUSTER || envelope.method != method || !lives {
        return Err(Status::permission_denied("cluster, method or expiry is wrong"));
    }
    decode_strict(&envelope.payload).map_err(|error| Status::invalid_argument(error.to_string()))
}

#[tonic::async_trait]
impl Agent for Service {
    type SessionStream = ReceiverStream<Result<CoordinatorMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut incoming = request.into_inner();
        let first = incoming.message().await?.and_then(|message| message.kind);
        let Some(FromWorker::Hello(Hello { claim, enrolment })) = first else {
            return Err(Status::invalid_argument("no hello"));
        };
        let claim = claim.ok_or_else(|| Status::invalid_argument("no claim"))?;
        let machine_key = claim.key.clone().try_into().map_err(|_| Status::invalid_argument("no key"))?;
        let claim = open(&claim, SESSION)?;
        let (outgoing, stream) = mpsc::channel(64);
        let link = Link { claim, machine_key, enrolment, incoming, outgoing };
        self.links.send(link).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

#[tonic::async_trait]
impl Artifacts for Service {
    type GetStream = ReceiverStream<Result<GetReply, Status>>;

    async fn put(&self, request: Request<Streaming<PutRequest>>) -> Result<Response<PutReply>, Status> {
        let mut stream = request.into_inner();
        let Some(Part::Header(header)) = stream.message().await?.and_then(|request| request.part) else {
            return Err(Status::invalid_argument("no header"));
        };
        let claim: PutClaim = open(&header.claim.unwrap_or_default(), ARTIFACT_PUT)?;
        let hash: Hash = header.sha256.clone().try_into().map_err(|_| Status::invalid_argument("no hash"))?;
        if claim.sha256 != header.sha256 || claim.size != header.size {
            return Err(Status::permission_denied("another artifact's claim"));
        }
        self.store.offsets.lock().unwrap().push(header.offset);
        let mut bytes = self.store.partial.lock().unwrap().remove(&hash).unwrap_or_default();
        bytes.truncate(usize::try_from(header.offset).unwrap());
        while let Some(request) = stream.message().await? {
            let Some(Part::Data(data)) = request.part else { return Err(Status::invalid_argument("no data")) };
            bytes.extend_from_slice(&data);
            let mut breaks = self.store.put_breaks.lock().unwrap();
            if *breaks > 0 {
                *breaks -= 1;
                self.store.partial.lock().unwrap().insert(hash, bytes);
                return Err(Status::unavailable("broken off"));
            }
        }
        if sha256(&[&bytes]) != hash {
            return Err(Status::data_loss("the bytes are not what their hash says"));
        }
        self.store.keep(&bytes);
        Ok(Response::new(PutReply { replicas: 2 }))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<Self::GetStream>, Status> {
        let request = request.into_inner();
        let fault = self.store.get_faults.lock().unwrap().pop_front();
        self.store.offsets.lock().unwrap().push(request.offset);
        let found = self.store.find(&request.sha256).filter(|_| fault != Some(Fault::NotFound));
        let mut bytes = found.ok_or_else(|| Status::not_found("no such artifact"))?;
        if fault == Some(Fault::WrongBytes) {
            bytes.iter_mut().for_each(|byte| *byte ^= 1);
        }
        let size = bytes.len() as u64;
        let mut replies: Vec<_> = bytes[usize::try_from(request.offset).unwrap()..]
            .chunks(CHUNK_BYTES)
            .map(|data| Ok(GetReply { data: data.to_vec(), size }))
            .collect();
        if fault == Some(Fault::BreakAfterChunk) {
            replies.truncate(1);
            replies.push(Err(Status::unavailable("broken off")));
        }
        let (sender, stream) = mpsc::channel(replies.len().max(1));
        for reply in replies {
            sender.try_send(reply).map_err(|_| Status::internal("the channel holds all"))?;
        }
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn stat(&self, request: Request<StatRequest>) -> Result<Response<StatReply>, Status> {
        let hash = request.into_inner().sha256;
        let size = self.store.find(&hash).map(|bytes| bytes.len() as u64);
        let received = self.store.partial.lock().unwrap().get(&hash[..]).map_or(0, |bytes| bytes.len() as u64);
        Ok(Response::new(StatReply { complete: size.is_some(), size: size.unwrap_or(0), received }))
    }
}

type Nothing<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl Cluster for Service {
    type WatchEventsStream = Nothing<v1::Event>;
    type ExportLogStream = Nothing<v1::ExportedEntry>;
    type SaveSnapshotStream = Nothing<v1::SnapshotPiece>;

    async fn init(&self, _: Request<v1::InitRequest>) -> Result<Response<v1::InitReply>, Status> {
        Err(Status::unimplemented("not for workers"))
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusReply>, Status> {
        let status = GetStatusReply { cluster_id: CLUSTER.to_vec(), now_ms: LEDGER_MS, ..Default::default() };
        Ok(Response::new(status))
    }

    async fn get_genesis(&self, _: Request<v1::GetGenesisRequest>) -> Result<Response<v1::GetGenesisReply>, Status> {
        Err(Status::unimplemented("not for workers"))
    }

    async fn get_policy(&self, _: Request<v1::GetPolicyRequest>) -> Result<Response<v1::GetPolicyReply>, Status> {
        Err(Status::unimplemented("not for workers"))
    }

    async fn transfer_leader(
        &self,
        _: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderReply>, Status> {
        Err(Status::unimplemented("not for workers"))
    }

    async fn watch_events(
        &self,
        _: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        Err(Status::unimplemented("not for workers"))
    }

    async fn export_log(&self, _: Request<v1::ExportLogRequest>) -> Result<Response<Self::ExportLogStream>, Status> {
        Err(Status::unimplemented("not for workers"))
    }

    async fn save_snapshot(
        &self,
        _: Request<v1::SaveSnapshotRequest>,
    ) -> Result<Response<Self::SaveSnapshotStream>, Status> {
        Err(Status::unimplemented("not for workers"))
    }
}
