//! Connections from this coordinator to the others, made when they are first needed, and the claims that say who calls.
//!
//! They carry what is asked for (relayed commands, artifacts). Raft has a connection of its own in `actors/peers.rs`,
//! so that a megabyte of artifact never delays a heartbeat.

use crate::{artifacts::peers, clock, shared::Peer};
use matrixai_proto::{
    envelope::{self, PEER, Signer},
    v1::{Envelope, PeerClaim},
};
use matrixai_state::State;
use prost::Message as _;
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};

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
    cluster: OnceLock<Cluster>,
}

#[derive(Debug)]
struct Cluster {
    id: [u8; 32],
    node: u64,
    nodes: usize,
    others: Vec<(u64, Channel)>,
    views: watch::Receiver<Arc<State>>,
}

impl Links {
    /// No links yet; claims will be signed with this key.
    pub(crate) fn new(signer: Signer) -> Arc<Self> {
        Arc::new(Self { signer, cluster: OnceLock::new() })
    }

    /// The cluster is known from here on. Must be called inside the tokio runtime that will carry the connections.
    ///
    /// # Errors
    /// Names the peer whose address is none.
    pub(crate) fn start(
        &self,
        id: [u8; 32],
        node: u64,
        nodes: &[Peer],
        views: watch::Receiver<Arc<State>>,
    ) -> Result<(), String> {
        let mut others = Vec::new();
        for peer in nodes.iter().filter(|peer| peer.id != node) {
            others.push((peer.id, endpoint(peer)?.connect_lazy()));
        }
        let cluster = Cluster { id, node, nodes: nodes.len(), others, views };
        self.cluster.set(cluster).map_err(|_| "the links are made once".to_owned())
    }

    /// The connection to another coordinator.
    pub(crate) fn channel(&self, to: u64) -> Option<Channel> {
        let cluster = self.cluster.get()?;
        cluster.others.iter().find(|(id, _)| *id == to).map(|(_, channel)| channel.clone())
    }

    /// A signed claim that this coordinator calls that one. Before there is a cluster it claims nothing anyone believes.
    pub(crate) fn claim(&self, to: u64) -> Envelope {
        let Some(cluster) = self.cluster.get() else { return Envelope::default() };
        // The later of ledger and wall clock: the receiver measures expiry by the ledger, and a fresh node's is behind.
        let now = cluster.views.borrow().now_ms().max(clock::wall_ms());
        // Claims are not commands: their id keeps nothing apart, so a system without random bytes does no harm.
        let id = envelope::random().unwrap_or_default();
        let payload = PeerClaim { from: cluster.node, to }.encode_to_vec();
        self.signer.seal(cluster.id, PEER, id, now.saturating_add(CLAIM_MS), payload)
    }
}

impl peers::Peers for Links {
    fn others(&self) -> Vec<peers::PeerLink> {
        let others = self.cluster.get().map(|cluster| cluster.others.as_slice()).unwrap_or_default();
        others.iter().map(|(id, channel)| peers::PeerLink { id: *id, channel: channel.clone() }).collect()
    }

    fn quorum(&self) -> u32 {
        let nodes = self.cluster.get().map_or(1, |cluster| cluster.nodes);
        u32::try_from(nodes / 2 + 1).unwrap_or(u32::MAX)
    }

    fn claim(&self, to: u64) -> Envelope {
        Links::claim(self, to)
    }
}

/// How another coordinator is called.
///
/// # Errors
/// When its address in genesis is none.
pub(crate) fn endpoint(peer: &Peer) -> Result<Endpoint, String> {
    let endpoint = Endpoint::from_shared(format!("http://{}", peer.grpc))
        .map_err(|error| format!("node {}'s address {:?} in genesis: {error}", peer.id, peer.grpc))?;
    Ok(endpoint
        .connect_timeout(CONNECT_WAIT)
        .tcp_nodelay(true)
        .keep_alive_while_idle(true)
        .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_WAIT))
}
