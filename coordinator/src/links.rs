//! Connections from this coordinator to the others, made when they are first needed, and the claims that say who calls.
//!
//! They carry what is asked for (relayed commands, artifacts). Raft has a connection of its own in `actors/peers.rs`,
//! so that a megabyte of artifact never delays a heartbeat.

use crate::{artifacts::peers, clock, directory::Directory, shared::Peer};
use matrixai_proto::{
    envelope::{self, PEER, Signer},
    v1::{Envelope, PeerClaim},
};
use matrixai_state::{State, ids::Key};
use matrixai_transport::{Callee, Dialer, Line};
use prost::Message as _;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};
use tokio::sync::watch;
use tonic::transport::Channel;

/// Life of a claim, ms.
const CLAIM_MS: u64 = 600_000;
/// Longest wait for a TCP connection to another coordinator; they are near each other.
pub(crate) const CONNECT_WAIT: Duration = Duration::from_secs(2);
/// A connection that does not answer HTTP/2 pings for this long is dropped: after a network cut TCP alone notices
/// only after minutes.
const KEEP_ALIVE_WAIT: Duration = Duration::from_secs(3);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(2);

/// The other coordinators as this one reaches them. Empty until the cluster is known.
#[derive(Debug)]
pub(crate) struct Links {
    signer: Signer,
    dialer: Dialer,
    /// Tells this process from another one with the same key.
    process: [u8; 8],
    cluster: OnceLock<Cluster>,
    /// Connections by coordinator, each with the address that it was made for.
    channels: Mutex<BTreeMap<u64, (String, Channel)>>,
}

#[derive(Debug)]
struct Cluster {
    id: [u8; 32],
    node: u64,
    era: Vec<u8>,
    directory: Arc<Directory>,
    views: watch::Receiver<Arc<State>>,
}

impl Links {
    /// No links yet; claims will be signed with this key, connections made with this dialer.
    pub(crate) fn new(signer: Signer, dialer: Dialer) -> Arc<Self> {
        // A process without random bytes has not come this far.
        let process = envelope::random().unwrap_or_default();
        Arc::new(Self { signer, dialer, process, cluster: OnceLock::new(), channels: Mutex::default() })
    }

    /// The cluster is known from here on.
    ///
    /// # Errors
    /// When it was known before.
    pub(crate) fn start(
        &self,
        id: [u8; 32],
        node: u64,
        era: Vec<u8>,
        directory: Arc<Directory>,
        views: watch::Receiver<Arc<State>>,
    ) -> Result<(), String> {
        let cluster = Cluster { id, node, era, directory, views };
        self.cluster.set(cluster).map_err(|_| "the links are made once".to_owned())
    }

    /// The connection to another coordinator, to the address that it has now. Must be called inside the tokio runtime
    /// that is to carry it.
    pub(crate) fn channel(&self, to: u64) -> Option<Channel> {
        let cluster = self.cluster.get().filter(|cluster| cluster.node != to)?;
        self.connection(&cluster.directory.peer(to)?)
    }

    fn connection(&self, to: &Peer) -> Option<Channel> {
        // Nothing panics while it holds the lock, and a map of connections is whole at any time.
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, channel)) = channels.get(&to.id).filter(|(address, _)| *address == to.grpc) {
            return Some(channel.clone());
        }
        match self.line(to.id, &to.grpc, &to.key) {
            Ok(line) => {
                let channel = line.lazy();
                channels.insert(to.id, (to.grpc.clone(), channel.clone()));
                Some(channel)
            }
            Err(why) => {
                tracing::warn!(why, "a coordinator cannot be reached");
                None
            }
        }
    }

    /// How another coordinator is called. With TLS it must show the certificate of its node key.
    ///
    /// # Errors
    /// When its address is none, or outside this machine and there is no TLS.
    pub(crate) fn line(&self, id: u64, grpc: &str, key: &Key) -> Result<Line, String> {
        let line = self.dialer.line(grpc, Callee::Node(key));
        line.map(tuned).map_err(|error| format!("node {id}'s address: {error}"))
    }

    /// How a coordinator is called whose key is not known yet. With TLS it must show the certificate of its host.
    ///
    /// # Errors
    /// As [`Links::line`].
    pub(crate) fn stranger(&self, address: &str) -> Result<Line, String> {
        self.dialer.line(address, Callee::Host).map(tuned).map_err(|error| error.to_string())
    }

    /// A signed claim that this coordinator calls that one. Before there is a cluster it claims nothing anyone believes.
    pub(crate) fn claim(&self, to: u64) -> Envelope {
        let Some(cluster) = self.cluster.get() else { return Envelope::default() };
        // The later of ledger and wall clock: the receiver measures expiry by the ledger, and a fresh node's is behind.
        let now = cluster.views.borrow().now_ms().max(clock::wall_ms());
        // Claims are not commands: their id keeps nothing apart, so a system without random bytes does no harm.
        let id = envelope::random().unwrap_or_default();
        let (from, era, process) = (cluster.node, cluster.era.clone(), self.process.to_vec());
        let payload = PeerClaim { from, to, era, process }.encode_to_vec();
        self.signer.seal(cluster.id, PEER, id, now.saturating_add(CLAIM_MS), payload)
    }
}

fn tuned(line: Line) -> Line {
    line.tuned(|endpoint| {
        endpoint
            .connect_timeout(CONNECT_WAIT)
            .keep_alive_while_idle(true)
            .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
            .keep_alive_timeout(KEEP_ALIVE_WAIT)
    })
}

impl peers::Peers for Links {
    fn others(&self) -> Vec<peers::PeerLink> {
        let Some(cluster) = self.cluster.get() else { return Vec::new() };
        let others = cluster.directory.peers().into_iter().filter(|peer| peer.id != cluster.node);
        let link = |peer: Peer| Some(peers::PeerLink { id: peer.id, channel: self.connection(&peer)? });
        others.filter_map(link).collect()
    }

    fn quorum(&self) -> u32 {
        let majority = self.cluster.get().map_or(1, |cluster| cluster.directory.majority());
        u32::try_from(majority).unwrap_or(u32::MAX)
    }

    fn claim(&self, to: u64) -> Envelope {
        Links::claim(self, to)
    }
}
