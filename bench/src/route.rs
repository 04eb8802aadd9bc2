//! Which coordinator leads, as clients know it: from a refusal that names the leader, or by asking all of them.

use crate::{Result, cluster};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tonic::{Status, transport::Channel};

/// Metadata key under which a follower names the leader.
const LEADER: &str = "matrixai-leader";
/// Pause of a client that was refused, before it asks again.
const PAUSE: Duration = Duration::from_millis(10);

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
        Ok(Self { addresses, lanes, leader: AtomicUsize::new(leader) })
    }

    /// The connection to the leader for a client of this number.
    #[must_use]
    pub fn lane(&self, client: usize) -> Channel {
        let lanes = &self.lanes[self.leader.load(Ordering::Relaxed) % self.lanes.len()];
        lanes[client % lanes.len()].clone()
    }

    /// Learns from a refusal, and waits a moment before the next attempt. A refusal that names no leader sends the
    /// client to the next coordinator.
    pub async fn refused(&self, status: &Status) {
        let named = status.metadata().get(LEADER).and_then(|value| value.to_str().ok());
        self.learn(named, status.code());
        tokio::time::sleep(PAUSE).await;
    }

    /// As [`Route::refused`], from the parts of a streamed answer; does not wait.
    pub fn learn(&self, leader: Option<&str>, code: tonic::Code) {
        let known = leader.and_then(|leader| self.addresses.iter().position(|address| address == leader));
        match (known, code) {
            (Some(place), _) => self.leader.store(place, Ordering::Relaxed),
            // Too much at once: the leader is the right one.
            (None, tonic::Code::ResourceExhausted) => {}
            (None, _) => {
                self.leader.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
