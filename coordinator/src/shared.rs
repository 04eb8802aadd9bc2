//! What every service of this coordinator holds: a cheap handle to configuration, views of the state, the way to the
//! replica, and the stores.
//!
//! A coordinator serves before it belongs to a cluster (somebody has to call `Cluster.Init`), so everything that needs
//! one answers UNAVAILABLE until then. Nothing here decides anything.

use crate::{
    actors::Replica,
    archive::{Head, Shelf},
    artifacts::Artifacts,
    config::Config,
    directory::Directory,
    edge,
    events::EventRing,
    founding::FoundingKey,
    history::History,
    identity::Folder,
    links::Links,
    live::Live,
    reads::ReadMode,
    relay::Relay,
    replica::NoSpace,
    snapshots::Snapshots,
    strangers::Strangers,
    submitting::Waits,
    telemetry::Metrics,
    verifier::Verifier,
};
use matrixai_consensus::{Members, Progress};
use matrixai_proto::{
    envelope::Signer,
    v1::{Envelope, PeerClaim},
};
use matrixai_state::{Genesis, State};
use matrixai_transport::{Caller, Certificates};
use std::sync::{Arc, OnceLock};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::{Status, metadata::MetadataMap};

/// Metadata key of a read: `linearizable` (what is meant when it is absent), `bounded:MS` for a view that is at most so many
/// milliseconds old, `stale` for this coordinator's own state, however old, without asking the quorum.
pub(crate) const CONSISTENCY: &str = "matrixai-consistency";
/// Metadata key of a refusal by a coordinator that does not lead: the leader's gRPC address.
pub(crate) const LEADER: &str = "matrixai-leader";

const UNINITIALISED: &str = "not initialised: run matrixai cluster init";

/// Handle to everything that this coordinator's services share.
#[derive(Debug, Clone)]
pub(crate) struct Shared(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    folder: Folder,
    signer: Signer,
    founding_key: Option<FoundingKey>,
    running: OnceLock<Running>,
    /// Asks the main task to found the cluster.
    founding: mpsc::Sender<Founding>,
    stopping: watch::Receiver<bool>,
    events: Arc<EventRing>,
    certificates: Option<Arc<Certificates>>,
    links: Arc<Links>,
    artifacts: Artifacts,
    history: Arc<History>,
    metrics: Arc<Metrics>,
    live: Arc<Live>,
    initialised: watch::Sender<bool>,
    verifier: Verifier<Waits>,
    strangers: Strangers,
}

/// A wish to found a cluster, with the place for its answer.
#[derive(Debug)]
pub(crate) struct Founding {
    pub(crate) genesis: Vec<u8>,
    /// Shows that the operator wants it.
    pub(crate) claim: Option<Envelope>,
    pub(crate) answer: oneshot::Sender<Result<(), Status>>,
}

/// What exists once this coordinator belongs to a cluster.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) genesis: Genesis,
    pub(crate) cluster_id: [u8; 32],
    /// This coordinator's number.
    pub(crate) node: u64,
    /// The snapshot that its data began again from; see [`crate::identity::Folder::era`].
    pub(crate) era: Vec<u8>,
    /// Every coordinator of the cluster, this one included.
    pub(crate) directory: Arc<Directory>,
    pub(crate) replica: Replica,
    pub(crate) relay: Arc<Relay>,
    pub(crate) views: watch::Receiver<Arc<State>>,
    pub(crate) status: watch::Receiver<NodeView>,
    pub(crate) snapshots: Snapshots,
    /// The sealed segments of the log.
    pub(crate) segments: Arc<Shelf>,
    /// Where the archive's own segments end.
    pub(crate) archived: watch::Receiver<Head>,
}

/// A coordinator and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) id: u64,
    pub(crate) key: [u8; 32],
    /// host:port of its gRPC server.
    pub(crate) grpc: String,
    /// host:port of its web server.
    pub(crate) web: String,
}

/// This coordinator's place in the quorum, for people and for refusals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NodeView {
    pub(crate) role: Role,
    /// 0 while there is none.
    pub(crate) leader: u64,
    pub(crate) term: u64,
    pub(crate) committed: u64,
    pub(crate) applied: u64,
    /// Worker sessions that end here.
    pub(crate) sessions: u32,
    /// First entry that the log still holds, and the last one of the newest snapshot.
    pub(crate) log_first: u64,
    pub(crate) snapshot: u64,
    /// What the log's disk lacks, while it does.
    pub(crate) disk_full: Option<NoSpace>,
    /// Members of the quorum as the consensus has them.
    pub(crate) members: Members,
    /// How far each member's log is; empty where this one does not lead.
    pub(crate) progress: Vec<Progress>,
}

/// What a coordinator is in its quorum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader, or waits for one.
    #[default]
    Follower,
    /// Asks to be elected.
    Candidate,
    /// Decides the order of the log.
    Leader,
}

impl Role {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
        }
    }
}

/// The stores and switches a [`Shared`] is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) folder: Folder,
    pub(crate) founding_key: Option<FoundingKey>,
    pub(crate) founding: mpsc::Sender<Founding>,
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) certificates: Option<Arc<Certificates>>,
    pub(crate) links: Arc<Links>,
    pub(crate) artifacts: Artifacts,
    pub(crate) history: Arc<History>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            config,
            folder,
            founding_key,
            founding,
            stopping,
            certificates,
            links,
            artifacts,
            history,
            metrics,
        } = parts;
        let signer = folder.signer();
        let (running, events, live) = (OnceLock::new(), EventRing::new(), Arc::new(Live::default()));
        let strangers = Strangers::new(&config.strangers);
        Self(Arc::new(Inner {
            config,
            folder,
            signer,
            founding_key,
            running,
            founding,
            stopping,
            events,
            certificates,
            links,
            artifacts,
            history,
            metrics,
            live,
            initialised: watch::Sender::new(false),
            verifier: Verifier::default(),
            strangers,
        }))
    }

    /// From here on this coordinator is part of a cluster. Happens once in the life of a process.
    pub(crate) fn started(&self, running: Running) {
        let first = self.0.running.set(running).is_ok();
        assert!(first, "a process founds or opens one cluster");
        self.0.initialised.send_replace(true);
    }

    /// Resolves when this coordinator is part of a cluster.
    pub(crate) async fn initialised(&self) {
        let mut initialised = self.0.initialised.subscribe();
        // The sender lives as long as this handle, so waiting cannot fail.
        let _ = initialised.wait_for(|initialised| *initialised).await;
    }

    /// The cluster's part.
    ///
    /// # Errors
    /// UNAVAILABLE while there is no cluster.
    pub(crate) fn running(&self) -> Result<&Running, Status> {
        self.0.running.get().ok_or_else(|| Status::unavailable(UNINITIALISED))
    }

    /// A linearizable view: it contains everything that was acknowledged before this call.
    ///
    /// # Errors
    /// UNAVAILABLE without a cluster or a quorum; RESOURCE_EXHAUSTED when too many wait already.
    pub(crate) async fn view(&self) -> Result<Arc<State>, Status> {
        self.running()?.replica.view(ReadMode::Linearizable).await
    }

    /// This coordinator's own newest view, which may be behind.
    ///
    /// # Errors
    /// UNAVAILABLE without a cluster.
    pub(crate) fn stale_view(&self) -> Result<Arc<State>, Status> {
        Ok(self.running()?.views.borrow().clone())
    }

    /// The view that a request's metadata ask for under [`CONSISTENCY`].
    ///
    /// # Errors
    /// Those of [`Shared::view`]; INVALID_ARGUMENT for another consistency.
    pub(crate) async fn view_for(&self, metadata: &MetadataMap) -> Result<Arc<State>, Status> {
        let mode = match metadata.get(CONSISTENCY).map(|value| value.to_str()) {
            None | Some(Ok("linearizable")) => ReadMode::Linearizable,
            Some(Ok("stale")) => return self.stale_view(),
            Some(value) => value.ok().and_then(bound).ok_or_else(|| {
                let modes = "\"linearizable\", \"bounded:MILLISECONDS\" or \"stale\"";
                Status::invalid_argument(format!("{CONSISTENCY} is {modes}"))
            })?,
        };
        self.running()?.replica.view(mode).await
    }

    /// Every new view as it is applied; the newest at once.
    ///
    /// # Errors
    /// UNAVAILABLE without a cluster.
    pub(crate) fn subscribe(&self) -> Result<watch::Receiver<Arc<State>>, Status> {
        Ok(self.running()?.views.clone())
    }

    /// The key with which a cluster may be founded here; none where that is not to be.
    pub(crate) fn founding_key(&self) -> Option<&FoundingKey> {
        self.0.founding_key.as_ref()
    }

    /// Founds the cluster of this genesis.
    ///
    /// # Errors
    /// What is wrong with the claim, the genesis, the folder, or this coordinator's place in it.
    pub(crate) async fn found(&self, genesis: Vec<u8>, claim: Option<Envelope>) -> Result<(), Status> {
        let (answer, answered) = oneshot::channel();
        let stopping = || Status::unavailable("the coordinator is stopping");
        self.0.founding.send(Founding { genesis, claim, answer }).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())?
    }

    /// The queue of envelopes whose signatures are to be checked.
    pub(crate) fn verifier(&self) -> &Verifier<Waits> {
        &self.0.verifier
    }

    /// What keys that nobody has may still do.
    pub(crate) fn strangers(&self) -> &Strangers {
        &self.0.strangers
    }

    /// Settings.
    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    /// The data folder.
    pub(crate) fn folder(&self) -> &Folder {
        &self.0.folder
    }

    /// The cluster's genesis.
    ///
    /// # Errors
    /// UNAVAILABLE without a cluster.
    pub(crate) fn genesis(&self) -> Result<&Genesis, Status> {
        Ok(&self.running()?.genesis)
    }

    /// SHA-256 of the genesis.
    ///
    /// # Errors
    /// UNAVAILABLE without a cluster.
    pub(crate) fn cluster_id(&self) -> Result<[u8; 32], Status> {
        Ok(self.running()?.cluster_id)
    }

    /// This coordinator's number in genesis.
    ///
    /// # Errors
    /// UNAVAILABLE without a cluster.
    pub(crate) fn node(&self) -> Result<u64, Status> {
        Ok(self.running()?.node)
    }

    /// The coordinator of this id.
    pub(crate) fn peer(&self, id: u64) -> Option<Peer> {
        self.0.running.get()?.directory.peer(id)
    }

    /// The node's key.
    pub(crate) fn node_signer(&self) -> &Signer {
        &self.0.signer
    }

    /// Connections to the other coordinators, and the claims that begin their streams.
    pub(crate) fn links(&self) -> &Arc<Links> {
        &self.0.links
    }

    /// Checks the claim that a stream from another coordinator begins with, and that the stream is that coordinator's;
    /// answers it. `caller` is what the request's extensions hold.
    ///
    /// # Errors
    /// UNAUTHENTICATED says what is wrong with it.
    pub(crate) fn check_peer_claim(
        &self,
        claim: Option<&Envelope>,
        caller: Option<&Caller>,
    ) -> Result<PeerClaim, Status> {
        let running = self.running()?;
        edge::peer_claim(claim, caller, running)
    }

    /// What the servers show to callers; none where plaintext is spoken.
    pub(crate) fn certificates(&self) -> Option<&Arc<Certificates>> {
        self.0.certificates.as_ref()
    }

    /// Checks that a coordinator whose stream was accepted has not left the cluster since.
    ///
    /// # Errors
    /// UNAUTHENTICATED with the refusal `node_removed`.
    pub(crate) fn still_admitted(&self, from: u64) -> Result<(), Status> {
        if self.running()?.directory.has_left(from) { Err(edge::removed()) } else { Ok(()) }
    }

    /// The newest events.
    pub(crate) fn events(&self) -> &Arc<EventRing> {
        &self.0.events
    }

    /// Files by content.
    pub(crate) fn artifacts(&self) -> &Artifacts {
        &self.0.artifacts
    }

    /// The index of statements.
    pub(crate) fn history(&self) -> &Arc<History> {
        &self.0.history
    }

    /// Figures for `/metrics`.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// Soft state for live views: progress of what runs, and when peers were heard.
    pub(crate) fn live(&self) -> &Arc<Live> {
        &self.0.live
    }

    /// Resolves when the coordinator stops; long streams end on it, or they would hold the server open.
    pub(crate) async fn stopping(&self) {
        let mut stopping = self.0.stopping.clone();
        // An error means that the main task is gone, which is stopping too.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }
}

/// The mode that `bounded:MS` asks for.
fn bound(consistency: &str) -> Option<ReadMode> {
    let age_ms = consistency.strip_prefix("bounded:")?.parse().ok()?;
    Some(ReadMode::Bounded { age_ms })
}
