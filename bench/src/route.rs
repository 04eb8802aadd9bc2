//! Which coordinator leads, as clients know it: from a refusal that names the leader, or by asking all of them.

use crate::{Result, cluster};
use std::sync::atomic::{AtomicUsize, Ordering};
use tonic::{Status, transport::Channel};

/// Metadata key under which a follower names the leader.
const LEADER: &str = "matrixai-leader";

/// Connections to every coordinator, and which of them leads.
#[derive(Debug)]
pub struct Route {
    addresses: Vec<String>,
    lanes: Vec<Vec<Channel>>,
    leader: AtomicUsize,
}

impl Route {
    /// `connections` to each of the addresses, made when they are first used.
    ///
    /// # Errors
    /// When an address is none.
    pub fn new(addresses: Vec<String>, connections: usize, leader: usize) -> Result<Self> {
        let lanes = |address: &String| (0..connections.max(1)).map(|_| cluster::channel(address)).collect();
        let lanes = addresses.iter().map(lanes).collect::<Result<_>>()?;
        Ok(Self { leader: AtomicUsize::new(leader % addresses.len().max(1)), addresses, lanes })
    }

    /// The coordinator that is taken for the leader, and a client's connection to it.
    #[must_use]
    pub fn lane(&self, client: usize) -> (usize, Channel) {
        let place = self.leader.load(Ordering::Relaxed);
        let lanes = &self.lanes[place];
        (place, lanes[client % lanes.len()].clone())
    }

    /// Learns from the refusal of the coordinator at `place`: who leads, if it knows; otherwise the next one is tried,
    /// unless another client has found a better one meanwhile.
    pub fn refused(&self, place: usize, status: &Status) {
        let named = status.metadata().get(LEADER).and_then(|value| value.to_str().ok());
        self.learn(place, named, status.code());
    }

    /// As [`Route::refused`], from the parts of a streamed answer.
    pub fn learn(&self, place: usize, leader: Option<&str>, code: tonic::Code) {
        let known = leader.and_then(|leader| self.addresses.iter().position(|address| address == leader));
        let next = match (known, code) {
            (Some(leader), _) => leader,
            // Too much at once: the leader is the right one.
            (None, tonic::Code::ResourceExhausted) => return,
            (None, _) => (place + 1) % self.lanes.len(),
        };
        // Somebody else may have learnt more.
        let _ = self.leader.compare_exchange(place, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}
