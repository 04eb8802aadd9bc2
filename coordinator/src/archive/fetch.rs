//! Fills in the segments that are missing here: those from before a member's snapshot, and damaged ones that were set
//! aside. The newest first, so that each names the hash of the one before; from whichever coordinator has it.
//!
//! What lies on the disk is read through all the time as well, slowly: damage that nobody looks for is found when it is too late.

use super::{Head, Shelf, store::Incoming};
use crate::{links::Links, shared::Shared};
use matrixai_proto::v1::{FetchSegmentRequest, peer_client::PeerClient};
use matrixai_protocol::Hash;
use matrixai_state::{
    State,
    ids::NodeId,
    nodes::{NodeRow, Standing},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{sleep, timeout},
};

/// Time between two looks at whether something is missing.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Bytes of segments that are read through after each look, and the rest of the segment: 1 GiB in some 17 minutes.
const BYTES_PER_READING: u64 = 1 << 20;
/// A coordinator that sends nothing for this long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Largest answer, bytes: a piece and its frame.
const ANSWER_BYTES_MAX: usize = 2 << 20;

/// What the task works with.
#[derive(Debug)]
pub(crate) struct Fetching {
    pub(crate) shelf: Arc<Shelf>,
    /// Where the archive's own segments end.
    pub(crate) head: watch::Receiver<Head>,
    /// Hash of the place at which the archive of this era begins, if the cluster was restored: nobody has what lies before.
    pub(crate) begins: Option<Hash>,
    pub(crate) views: watch::Receiver<Arc<State>>,
    pub(crate) links: Arc<Links>,
    /// This coordinator.
    pub(crate) node: NodeId,
    pub(crate) segments_kept: u64,
}

impl Fetching {
    /// Works until the coordinator stops.
    pub(crate) async fn run(self, shared: Shared) {
        tokio::select! {
            () = self.work() => {}
            () = shared.stopping() => {}
        }
    }

    async fn work(&self) {
        let (mut read, mut turn) = (0, 0usize);
        loop {
            sleep(LOOK_EVERY).await;
            while let Some((epoch, hash)) = self.missing() {
                if !self.fetch_from_any(epoch, hash, turn).await {
                    turn += 1;
                    break;
                }
            }
            read = self.read_through(read).await;
        }
    }

    /// The newest missing segment whose hash is known.
    fn missing(&self) -> Option<(u64, Hash)> {
        let head = *self.head.borrow();
        let kept = if self.segments_kept == 0 { u64::MAX } else { self.segments_kept };
        let (epoch, named) = self.shelf.missing(head.epoch.saturating_sub(kept).saturating_add(1), head.epoch)?;
        let view = self.views.borrow().clone();
        let attested = || {
            let row = view.epochs().find(|row| row.epoch == epoch)?;
            row.segment()
        };
        let own = (epoch == head.epoch).then_some(head.hash);
        let hash = named.or(own).or_else(attested)?;
        (self.begins != Some(hash)).then_some((epoch, hash))
    }

    async fn fetch_from_any(&self, epoch: u64, hash: Hash, turn: usize) -> bool {
        let view = self.views.borrow().clone();
        let takes_part = |row: &&NodeRow| row.id != self.node && row.standing != Standing::Removed;
        let others: Vec<u64> = view.nodes().filter(takes_part).map(|row| row.id.0).collect();
        for at in 0..others.len() {
            let from = others[(turn + at) % others.len()];
            match self.fetch(from, epoch, hash).await {
                Ok(()) => {
                    tracing::info!(from, epoch, "a segment of the log was fetched");
                    return true;
                }
                Err(why) => tracing::debug!(from, epoch, why, "a segment of the log could not be fetched"),
            }
        }
        false
    }

    async fn fetch(&self, from: u64, epoch: u64, hash: Hash) -> Result<(), String> {
        let channel = self.links.channel(from).ok_or("there is no way to it")?;
        let mut client = PeerClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        let late = |_| "it does not answer".to_owned();
        let refused = |status: tonic::Status| format!("{}: {}", status.code(), status.message());
        let request = FetchSegmentRequest { claim: Some(self.links.claim(from)), epoch };
        let opened = timeout(SILENCE_MAX, client.fetch_segment(request)).await.map_err(late)?;
        let mut stream = opened.map_err(refused)?.into_inner();
        let mut incoming = Incoming::new(self.shelf.clone(), epoch, hash);
        while let Some(piece) = timeout(SILENCE_MAX, stream.message()).await.map_err(late)?.map_err(refused)? {
            let pushed = spawn_blocking(move || incoming.push(&piece.data).map(|()| incoming));
            incoming = pushed.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        }
        let finished = spawn_blocking(move || incoming.finish()).await.map_err(|error| error.to_string())?;
        finished.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Reads segments through behind that of an epoch, and sets the damaged ones aside; answers the last one's epoch, 0 behind the
    /// newest.
    async fn read_through(&self, after: u64) -> u64 {
        let shelf = self.shelf.clone();
        let reading = spawn_blocking(move || {
            let (mut at, mut bytes) = (after, 0);
            while bytes < BYTES_PER_READING {
                let Some(segment) = shelf.after(at) else { return 0 };
                if let Some(Err(error)) = shelf.entries(&segment).find(Result::is_err) {
                    shelf.damaged(segment.epoch(), &error);
                }
                (at, bytes) = (segment.epoch(), bytes + segment.bytes);
            }
            at
        });
        reading.await.unwrap_or(0)
    }
}
