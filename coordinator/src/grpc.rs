//! The gRPC server: every service on one port, with reflection and health, and limits that hold before a message is
//! parsed.

pub(crate) mod accounts;
pub(crate) mod agent;
pub(crate) mod artifacts;
pub(crate) mod assignments;
pub(crate) mod cluster;
pub(crate) mod convert;
pub(crate) mod drilling;
pub(crate) mod jobs;
pub(crate) mod ledger;
pub(crate) mod market;
pub(crate) mod raft;
mod routes;
mod segments;
pub(crate) mod snapshots;
mod twins;

use crate::{actors::FRAME_BYTES_MAX, shared::Shared};
use futures::future::BoxFuture;
use matrixai_proto::{
    DESCRIPTORS,
    v1::{
        accounts_server::AccountsServer, agent_server::AgentServer, artifacts_server::ArtifactsServer,
        cluster_server::ClusterServer, drilling_server::DrillingServer, jobs_server::JobsServer,
        ledger_server::LedgerServer, market_server::MarketServer, peer_server::PeerServer,
    },
};
use matrixai_transport::Incoming;
use routes::Routes;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::net::TcpListener;
use tokio_stream::Stream;
use tonic::transport::Server;
use tonic_health::{ServingStatus, server::HealthReporter};

/// Largest request of a client, bytes: a genesis is at most 64 KiB, a worker's envelope far less.
const REQUEST_BYTES_MAX: usize = 256 << 10;
/// Largest message of an upload, of a copy, or of an envelope with thousands of commands, bytes: 1 MiB and its frame.
const CHUNK_BYTES_MAX: usize = (1 << 20) + (64 << 10);
/// Largest answer, bytes: 1,000 rows of whatever is listed.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Requests and streams of one connection at once.
const STREAMS_PER_CONNECTION_MAX: u32 = 1_024;
/// Connections at once, where there are files enough.
const CONNECTIONS_MAX: usize = 65_536;
/// A connection whose peer answers no ping for this long is dropped.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEP_ALIVE_WAIT: Duration = Duration::from_secs(10);

/// Why the server could not be made, or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GrpcError {
    /// The descriptors do not load: a mistake of the build.
    #[error("gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The server ended.
    #[error("gRPC server: {0}")]
    Serve(#[from] tonic::transport::Error),
}

/// Serves until the coordinator stops.
pub(crate) async fn serve(shared: Shared, listener: TcpListener) -> Result<(), GrpcError> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let (reporter, health) = tonic_health::server::health_reporter();
    tokio::spawn(report_health(shared.clone(), reporter));
    let stop = shared.clone();
    macro_rules! service {
        ($server:ident, $module:ident :: $service:ident, $bytes:expr $(, $more:ident: $with:expr)?) => {
            $server::new($module::$service { shared: shared.clone() $(, $more: $with)? })
                .max_decoding_message_size($bytes)
                .max_encoding_message_size(ANSWER_BYTES_MAX)
        };
    }
    let routes = Routes::default()
        .add(reflection().build_v1()?)
        // Many generic tools still ask for the older version.
        .add(reflection().build_v1alpha()?)
        .add(health)
        .add(service!(ClusterServer, cluster::ClusterService, REQUEST_BYTES_MAX))
        .add(service!(LedgerServer, ledger::LedgerService, CHUNK_BYTES_MAX))
        .add(service!(AccountsServer, accounts::AccountsService, REQUEST_BYTES_MAX))
        .add(service!(MarketServer, market::MarketService, REQUEST_BYTES_MAX))
        .add(service!(JobsServer, jobs::JobsService, REQUEST_BYTES_MAX))
        .add(service!(DrillingServer, drilling::DrillingService, REQUEST_BYTES_MAX))
        .add(service!(ArtifactsServer, artifacts::ArtifactsService, CHUNK_BYTES_MAX))
        .add(service!(AgentServer, agent::AgentService, REQUEST_BYTES_MAX))
        .add(service!(PeerServer, raft::PeerService, FRAME_BYTES_MAX, twins: Arc::default()));
    let incoming = Incoming::new(listener, shared.certificates().cloned(), connections_max());
    Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_keepalive_interval(Some(KEEP_ALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_WAIT))
        .serve_with_incoming_shutdown(routes, incoming, async move { stop.stopping().await })
        .await?;
    Ok(())
}

/// Connections at once: half of the files that this process may open, since the log, its archive and the calls to others need
/// some whatever callers do.
fn connections_max() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files / 2).unwrap_or(usize::MAX).min(CONNECTIONS_MAX)
}

/// Serving means: part of a cluster whose leader is known, with a disk that takes writes.
async fn report_health(shared: Shared, reporter: HealthReporter) {
    const WHOLE_SERVER: &str = "";
    reporter.set_service_status(WHOLE_SERVER, ServingStatus::NotServing).await;
    let watch = async {
        shared.initialised().await;
        let Ok(running) = shared.running() else { return };
        let mut status = running.status.clone();
        loop {
            let view = status.borrow_and_update().clone();
            let serving = if view.leader != 0 && view.disk_full.is_none() {
                ServingStatus::Serving
            } else {
                ServingStatus::NotServing
            };
            reporter.set_service_status(WHOLE_SERVER, serving).await;
            if status.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = watch => {}
        () = shared.stopping() => {}
    }
    reporter.set_service_status(WHOLE_SERVER, ServingStatus::NotServing).await;
}

/// A stream that ends when the coordinator stops: long ones would hold the server's shutdown open.
pub(crate) struct Stopping<S> {
    inner: S,
    stopping: BoxFuture<'static, ()>,
}

impl<S> Stopping<S> {
    pub(crate) fn new(inner: S, shared: &Shared) -> Self {
        let shared = shared.clone();
        Self { inner, stopping: Box::pin(async move { shared.stopping().await }) }
    }
}

impl<S: Stream + Unpin> Stream for Stopping<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.stopping.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.inner).poll_next(context)
    }
}
