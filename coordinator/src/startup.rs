//! Start and end of a coordinator: folder, servers, then the cluster as soon as there is one; and all of it back down.

mod belonging;

use crate::{
    actors::{Replica, Setup, Threads},
    archive::{Archive, Head, fetch::Fetching, keeper::Keeper},
    artifacts::Artifacts,
    clock,
    config::{self, Config, ConfigError},
    core::{Address, Core, CoreConfig},
    directory::{self, Directory},
    files::OsFiles,
    grpc,
    history::History,
    identity::{Folder, FolderError, Ports},
    links::Links,
    relay::Relay,
    replica::{
        self, Applier,
        compaction::{Compaction, Policy},
    },
    shared::{Founding, NodeView, Parts, Peer, Running, Shared},
    snapshots::{Loaded, Snapshots},
    telemetry::{Metrics, Telemetry, TelemetryError},
    web,
};
use belonging::{found, introduced, own_number, take_place, wait_to_join, watch_for_another};
use matrixai_consensus::{EngineStore, LogStore as _, Members, Node, NodeConfig, SnapshotMeta, Start};
use matrixai_proto::envelope;
use matrixai_state::State;
use matrixai_transport::{Certificates, Dialer, TlsError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use std::{
    future::pending,
    io::{self, Write as _},
    net::SocketAddr,
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot, watch},
};

/// Founding requests waiting; each is answered within moments.
const FOUNDINGS_MAX: usize = 4;
/// How long servers may take to finish their answers at the end.
const DRAIN_WAIT: Duration = Duration::from_secs(2);
/// Least number of runtime threads: one may sit in a system call.
const RUNTIME_THREADS_LEAST: usize = 2;

/// Open files that a coordinator ever asks for.
const OPEN_FILES_MAX: u64 = 1 << 20;

/// Why a coordinator did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// An address cannot be listened on.
    #[error("listen on {address} ({key}): {error}")]
    Listen {
        /// The setting.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        error: io::Error,
    },
    /// The certificates cannot be used.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// The artifact store cannot be used.
    #[error("artifacts: {0}")]
    Artifacts(String),
    /// Logging or tracing cannot be set up.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// A server ended.
    #[error("{0}")]
    Server(String),
    /// The cluster in the folder cannot be opened.
    #[error("{0}")]
    Cluster(String),
    /// The replica stopped: the disk failed, or the state differs from the quorum's.
    #[error("{0}")]
    Fatal(String),
    /// The system refused something basic: threads, signals, random bytes.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Its answer.
        error: io::Error,
    },
}

/// What a coordinator says of itself once it serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ready {
    /// Always "ready".
    pub event: &'static str,
    /// The node's public key, hex.
    pub node_key: String,
    /// host:port of the gRPC server as others reach it.
    pub grpc: String,
    /// host:port of the web server as others reach it.
    pub web: String,
    /// The cluster's id, hex; none before `cluster init`.
    pub cluster_id: Option<String>,
    /// This node's number in genesis; 0 before `cluster init`.
    pub node: u64,
    /// Until then: the file of the key that `cluster init` has to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub founding_key: Option<String>,
}

/// The node key of a data folder, which is made with a new one when it is not there: certificates name it before the
/// coordinator can start.
///
/// # Errors
/// When the folder cannot be made or used, or a coordinator runs in it.
pub fn node_key(data: &Path) -> Result<[u8; 32], FolderError> {
    Folder::open(data).map(|folder| folder.signer().public_key())
}

/// Gives the hash tables of all states of this process a key that nobody else knows, so that nobody can choose bytes that
/// collide in them. To be called before the first state is made; later calls change nothing.
///
/// # Errors
/// When the system has no random bytes.
pub fn salt_tables() -> Result<(), Error> {
    let random = envelope::random::<16>();
    let random = random.map_err(|error| Error::System { what: "draw random bytes", error: io::Error::other(error) })?;
    matrixai_state::salt_tables(random);
    Ok(())
}

/// Runs a coordinator until SIGTERM or Ctrl-C. Prints one line of JSON ([`Ready`]) on stdout once it serves.
///
/// # Errors
/// [`Error`] says what could not be used, or why it had to stop.
pub fn run(config: Config) -> Result<(), Error> {
    let (stop, stopping) = watch::channel(false);
    let (ready, is_ready) = oneshot::channel();
    let (level, endpoint) = (config.log.level.clone(), config.telemetry.otlp_endpoint.clone());
    on_system(async move {
        let telemetry =
            Telemetry::start(&level, Some(endpoint.as_str()).filter(|e| !e.is_empty()), &instance(&config))?;
        let signals = tokio::spawn(watch_signals(stop)?);
        tokio::spawn(print_ready(is_ready));
        let result = serve(config, ready, stopping).await;
        signals.abort();
        if let Err(error) = &result {
            tracing::error!(%error, "the coordinator stops");
        }
        telemetry.shutdown().await;
        result
    })
}

/// Starts a coordinator on a thread of its own and waits until it serves.
///
/// # Errors
/// As [`run`].
pub fn start(config: Config) -> Result<Handle, Error> {
    let (stop, stopping) = watch::channel(false);
    let (ready, is_ready) = oneshot::channel();
    let thread = thread::Builder::new()
        .name("coordinator".to_owned())
        .spawn(move || on_system(serve(config, ready, stopping)))
        .map_err(|error| Error::System { what: "start a thread", error })?;
    match is_ready.blocking_recv() {
        Ok(ready) => Ok(Handle { ready, stop, thread: Some(thread) }),
        Err(_) => Err(join(thread).err().unwrap_or(Error::Server("the coordinator ended at once".to_owned()))),
    }
}

/// A coordinator on a thread. Dropping it stops the coordinator and waits for it.
#[derive(Debug)]
pub struct Handle {
    ready: Ready,
    stop: watch::Sender<bool>,
    thread: Option<thread::JoinHandle<Result<(), Error>>>,
}

impl Handle {
    /// What it said when it served.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Stops it and waits until its files are closed.
    ///
    /// # Errors
    /// Why it had ended by itself.
    pub fn stop(mut self) -> Result<(), Error> {
        self.stop.send_replace(true);
        self.thread.take().map_or(Ok(()), join)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // Nobody is left to be told of an error; it has been logged.
            let _ = join(thread);
        }
    }
}

fn join(thread: thread::JoinHandle<Result<(), Error>>) -> Result<(), Error> {
    thread.join().unwrap_or_else(|_| Err(Error::Fatal("the coordinator panicked".to_owned())))
}

/// An actix system over a runtime of several threads: actix' own has one thread for everything.
fn on_system<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let threads = thread::available_parallelism().map_or(RUNTIME_THREADS_LEAST, usize::from).max(RUNTIME_THREADS_LEAST);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("runtime")
        .enable_all()
        .build()
        .map_err(|error| Error::System { what: "start the runtime", error })?;
    let mut runtime = Some(runtime);
    // actix calls this once.
    let system = actix::System::with_tokio_rt(|| runtime.take().expect("the runtime is taken once"));
    system.block_on(work)
}

fn instance(config: &Config) -> String {
    config.data.file_name().map_or_else(|| "coordinator".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn watch_signals(stop: watch::Sender<bool>) -> Result<impl Future<Output = ()>, Error> {
    let listen = |kind| signal(kind).map_err(|error| Error::System { what: "listen for signals", error });
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("asked to stop");
        stop.send_replace(true);
    })
}

async fn print_ready(ready: oneshot::Receiver<Ready>) {
    let Ok(ready) = ready.await else { return };
    let line = serde_json::to_string(&ready).expect("strings and a number are JSON");
    let mut out = io::stdout().lock();
    if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) {
        tracing::warn!(%error, "nobody reads the ready line");
    }
}

/// A whole life: up, until `stopping` or a failure, and down again.
async fn serve(config: Config, ready: oneshot::Sender<Ready>, stopping: watch::Receiver<bool>) -> Result<(), Error> {
    salt_tables()?;
    raise_open_files();
    let folder = Folder::open(&config.data)?;
    let (grpc_listener, web_listener) = listen(&config, &folder)?;
    let address = |listener: &std::net::TcpListener| {
        listener.local_addr().map_err(|error| Error::System { what: "read a listener's address", error })
    };
    let (grpc_at, web_at) = (address(&grpc_listener)?, address(&web_listener)?);
    let genesis = folder.genesis()?;
    let founding_key = if genesis.is_none() && config.join.is_empty() {
        Some(folder.founding_key()?)
    } else {
        // A crash may have left it.
        folder.end_founding()?;
        None
    };

    let metrics = Arc::new(Metrics::new());
    let certificates = config.certificates(folder.signer().public_key()).map(Certificates::read).transpose()?;
    let links = Links::new(folder.signer(), Dialer::new(certificates.clone()));
    let artifacts = Artifacts::open(&folder.artifacts(), config.artifacts.bytes_max, links.clone(), metrics.clone())
        .map_err(|error| Error::Artifacts(error.to_string()))?;
    let history = Arc::new(History::new(&folder.history(), metrics.clone()));
    let (founding, mut foundings) = mpsc::channel(FOUNDINGS_MAX);
    let (fatal, mut fatals) = mpsc::unbounded_channel();
    // Ends streams and servers on a failure too.
    let (closing, closed) = watch::channel(false);
    let parts = Parts {
        config,
        folder,
        founding_key,
        founding,
        stopping: closed,
        certificates,
        links,
        artifacts,
        history,
        metrics,
    };
    let shared = Shared::new(parts);
    let mut threads = None;
    if let Some(genesis) = genesis {
        let introduced = introduced(&shared, &genesis, stopping.clone()).await.map_err(Error::Cluster)?;
        threads = Some(join_cluster(&shared, &genesis, introduced, fatal.clone()).map_err(Error::Cluster)?);
        if !shared.config().join.is_empty() {
            watch_for_another(&shared, genesis, fatal.clone());
        }
    }

    let web =
        web::server(shared.clone(), web_listener).map_err(|error| Error::Server(format!("web server: {error}")))?;
    let web_handle = web.handle();
    let mut web = tokio::task::spawn_local(web);
    let grpc_listener = TcpListener::from_std(grpc_listener)
        .map_err(|error| Error::System { what: "hand the listener to the runtime", error })?;
    let mut grpc = tokio::spawn(grpc::serve(shared.clone(), grpc_listener));

    if let Some(certificates) = shared.certificates() {
        // Ends with the runtime.
        tokio::spawn(certificates.clone().watch());
    }

    let running = shared.running().ok();
    let ready_line = Ready {
        event: "ready",
        node_key: hex::encode(shared.node_signer().public_key()),
        grpc: shared.config().advertised(grpc_at),
        web: shared.config().advertised(web_at),
        cluster_id: running.map(|running| hex::encode(running.cluster_id)),
        node: running.map_or(0, |running| running.node),
        founding_key: shared.founding_key().map(|founding| founding.path.display().to_string()),
    };
    // Whoever waited may have gone; the coordinator serves all the same.
    let _ = ready.send(ready_line);

    let mut stopping = stopping;
    let wants = !shared.config().join.is_empty() && shared.running().is_err();
    let mut joining =
        std::pin::pin!(async { if wants { wait_to_join(&shared, grpc_at, web_at).await } else { pending().await } });
    let mut joined = false;
    let mut result = loop {
        tokio::select! {
            place = &mut joining, if !joined => {
                joined = true;
                let taken = place.and_then(|place| take_place(&shared, &place, &mut threads, &fatal));
                if let Err(why) = taken {
                    break Err(Error::Cluster(why));
                }
            }
            _ = stopping.wait_for(|stopping| *stopping) => break Ok(()),
            Some(reason) = fatals.recv() => break Err(Error::Fatal(reason)),
            Some(Founding { genesis, claim, answer }) = foundings.recv() => {
                let founded = found(&shared, &genesis, claim.as_ref(), &mut threads, &fatal);
                // The caller may have hung up; the cluster is founded all the same.
                let _ = answer.send(founded);
            }
            ended = &mut grpc => break Err(Error::Server(format!("gRPC server: {ended:?}"))),
            ended = &mut web => break Err(Error::Server(format!("web server: {ended:?}"))),
        }
    };

    closing.send_replace(true);
    web_handle.stop(true).await;
    if !grpc.is_finished() && tokio::time::timeout(DRAIN_WAIT, &mut grpc).await.is_err() {
        grpc.abort();
    }
    if let Some(threads) = threads {
        let stopped = tokio::task::spawn_blocking(move || threads.stop()).await;
        if stopped.is_err() && result.is_ok() {
            result = Err(Error::Fatal("the actors did not stop in order".to_owned()));
        }
    }
    result
}

/// Lets this process open as many files as its hard limit allows: the usual soft one, 1,024, is used up by as many sockets, and
/// then the log cannot be opened either.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(OPEN_FILES_MAX, |maximum| maximum.min(OPEN_FILES_MAX));
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }) {
        tracing::warn!(%error, wanted, "the limit on open files stays as it is");
    }
}

/// Binds both servers. Port 0 takes the port of the last start, or picks one and remembers it.
fn listen(config: &Config, folder: &Folder) -> Result<(std::net::TcpListener, std::net::TcpListener), Error> {
    let remembered = folder.ports()?;
    let bind = |key, address: &str, remembered| {
        let mut address = config::resolve(key, address)?;
        if address.port() == 0 {
            address.set_port(remembered);
        }
        let listener = std::net::TcpListener::bind(address)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|error| Error::Listen { key, address, error })?;
        let port = listener.local_addr().map(|address| address.port());
        Ok::<_, Error>((listener, port.map_err(|error| Error::Listen { key, address, error })?))
    };
    let (grpc, grpc_port) = bind("listen.grpc", &config.listen.grpc, remembered.grpc)?;
    let (web, web_port) = bind("listen.web", &config.listen.web, remembered.web)?;
    let ports = Ports { grpc: grpc_port, web: web_port };
    if ports != remembered {
        folder.remember(ports)?;
    }
    Ok((grpc, web))
}

/// Opens the log and starts everything that needs a cluster. `introduced` are listened to although the log does not name
/// them yet.
fn join_cluster(
    shared: &Shared,
    genesis: &[u8],
    introduced: Vec<Peer>,
    fatal: mpsc::UnboundedSender<String>,
) -> Result<Threads, String> {
    let state = State::genesis(genesis).map_err(|error| error.to_string())?;
    let node = own_number(shared, &state)?;
    let founding = state.founding().clone();
    let cluster_id = *state.cluster_id();
    let era = shared.folder().era().map_err(|error| error.to_string())?;
    let seat = shared.folder().seat().map_err(|error| error.to_string())?;
    let told: Vec<Peer> = introduced.into_iter().chain(seat.map(|seat| seat.peers()).unwrap_or_default()).collect();
    let peers: Vec<Peer> = state.nodes().map(directory::peer).collect();
    let voters: Vec<u64> = peers.iter().map(|peer| peer.id).collect();
    let random = || envelope::random::<8>().map_err(|error| format!("random bytes: {error}"));

    let snapshots =
        Snapshots::open(Arc::new(OsFiles), &shared.folder().snapshots()).map_err(|error| error.to_string())?;
    let (state, start, newest) = restored(&snapshots, state, &voters)?;
    if let Some(why) = state.unsupported_rules() {
        return Err(why);
    }
    let config = NodeConfig::new(node, u64::from_le_bytes(random()?));
    let mut consensus = open_log(shared, config, &start)?;
    let writer = consensus.writer();
    let config::Snapshots { log_bytes, log_entries, tail_entries } = shared.config().snapshots;
    let log_bytes = usize::try_from(log_bytes).unwrap_or(usize::MAX);
    let policy = Policy { log_bytes, log_entries, tail_entries };
    let kept = snapshots.indices().map_err(|error| error.to_string())?;
    let compaction = Compaction::new(policy, start.index, start.term, start.members.clone(), kept);
    if let Some(newest) = newest {
        consensus.snapshot_taken(newest);
    }
    shared.history().start(&cluster_id, start.index, state.movements()).map_err(|error| error.to_string())?;
    shared.events().skip_to(start.index);

    let archive = Archive::open(Arc::new(OsFiles), &shared.folder().segments(), cluster_id);
    let mut archive = archive.map_err(|error| error.to_string())?;
    if let Some(place) = shared.folder().restored().map_err(|error| error.to_string())? {
        // Before it there is nothing to seal; what was sealed since lies behind it.
        archive.continue_behind(place);
    }
    let segments = archive.shelf().clone();
    let (archived, archived_to) = watch::channel(archive.head());
    let segments_kept = shared.config().archive.segments_kept;

    let view = Arc::new(state.clone());
    let core = Core::new(
        CoreConfig {
            me: node,
            cluster_id,
            told: told.iter().map(|peer| Address { id: peer.id, key: peer.key, grpc: peer.grpc.clone() }).collect(),
            signer: shared.folder().signer(),
            boot: random()?,
            beat_ms: founding.beat_ms,
            machine_timeout_ms: founding.machine_timeout_ms,
        },
        view.clone(),
    );
    let (views, views_of) = watch::channel(view.clone());
    let (status, status_of) = watch::channel(NodeView::default());
    let directory = Arc::new(Directory::new(views_of.clone(), status_of.clone(), told));
    shared.links().start(cluster_id, node, era.clone(), directory.clone(), views_of.clone())?;
    let relay = Arc::new(Relay::new(shared.links().clone()));
    let first_context = u64::from_le_bytes(random()?);
    let (replica, threads) = Replica::start(Setup {
        replica: replica::Replica::new(consensus, core, view, first_context, compaction),
        applier: Applier::new(state, start.term, start.members),
        writer,
        snapshots: snapshots.clone(),
        keeper: Keeper::new(archive, segments_kept),
        archived,
        links: shared.links().clone(),
        relay: relay.clone(),
        directory: directory.clone(),
        events: shared.events().clone(),
        history: shared.history().clone(),
        metrics: shared.metrics().clone(),
        live: shared.live().clone(),
        views,
        status,
        fatal,
        runtime: tokio::runtime::Handle::current(),
    })
    .map_err(|error| format!("start the threads of the replica: {error}"))?;
    let fetching = Fetching {
        shelf: segments.clone(),
        head: archived_to.clone(),
        begins: (!era.is_empty()).then(|| Head::restored(0, 0, &era).hash),
        views: views_of.clone(),
        links: shared.links().clone(),
        node: matrixai_state::ids::NodeId(node),
        segments_kept,
    };
    tokio::spawn(fetching.run(shared.clone()));
    tracing::info!(node, cluster = hex::encode(cluster_id), wall_ms = clock::wall_ms(), "part of a cluster");
    shared.started(Running {
        genesis: founding,
        cluster_id,
        node,
        era,
        directory,
        replica,
        relay,
        views: views_of,
        status: status_of,
        snapshots,
        segments,
        archived: archived_to,
    });
    Ok(threads)
}

/// The state to begin with: that of the newest whole snapshot, or the genesis.
fn restored(
    snapshots: &Snapshots,
    genesis: State,
    voters: &[u64],
) -> Result<(State, Start, Option<SnapshotMeta>), String> {
    let newest = snapshots.newest(genesis.cluster_id()).map_err(|error| error.to_string())?;
    let Some(Loaded { header, reference, state }) = newest else {
        let start = Start::genesis(voters).map_err(|error| error.to_string())?;
        return Ok((genesis, start, None));
    };
    let members = Members::decode(&header.members).map_err(|error| error.to_string())?;
    let (index, term) = (header.index, header.term);
    tracing::info!(index, bytes = reference.bytes, "the state is restored from this coordinator's own snapshot");
    let newest = SnapshotMeta { index, term, members: members.clone(), data: reference.encode() };
    Ok((state, Start { index, term, members }, Some(newest)))
}

/// Opens the log, unless it is not the one that this folder once had.
fn open_log(shared: &Shared, config: NodeConfig, start: &Start) -> Result<Node<EngineStore>, String> {
    let folder = shared.folder();
    let path = folder.raft();
    let begun = folder.log_begun().map_err(|error| error.to_string())?;
    let lost = || {
        format!(
            "the log in {} is gone, although this coordinator has acknowledged entries in it: it must not come back under \
             its id. A lost disk means a new id: start with an empty data folder and have the new node added",
            path.display()
        )
    };
    // A folder that is not there must not be made anew before anybody has looked.
    if begun && !path.exists() {
        return Err(lost());
    }
    let store = EngineStore::open(&path).map_err(|error| error.to_string())?;
    shared.metrics().show_log_syncs(store.syncs());
    if begun && store.identity().node == 0 {
        return Err(lost());
    }
    let node = Node::open(config, store, start).map_err(|error| format!("{}: {error}", path.display()))?;
    if !begun {
        folder.begin_log().map_err(|error| error.to_string())?;
    }
    Ok(node)
}
