//! Snapshots: the caller makes, stores, serves and fetches them; here is only which one is current, what the log may
//! forget because of it, and when a follower installs one.
//!
//! A leader's snapshot message carries no data, only the caller's reference to it. The follower parks it until its
//! caller has fetched the data and made it durable; only then does raft hear of it. A leader therefore cannot wait
//! for raft's answer alone: an offer without progress is taken for lost and made again.

use raft::{
    SnapshotStatus, StateRole,
    eraftpb::{self, Snapshot},
};

use super::Node;
use crate::{
    config::SNAPSHOT_DATA_BYTES_MAX,
    error::Error,
    output::SnapshotOffer,
    storage::{Batch, Boundary, LogStore, SnapshotMeta, image::of_snapshot},
};

/// An offer is made again after this many election timeouts without progress. A follower that is still fetching
/// ignores the repetition, so being early costs little.
const OFFER_ELECTIONS: usize = 4;

/// A leader's snapshot message that waits for its data.
pub(super) struct Parked {
    message: eraftpb::Message,
    /// Whether the caller was told.
    pub(super) told: bool,
}

impl Parked {
    fn index(&self) -> u64 {
        self.message.get_snapshot().get_metadata().index
    }
}

impl<S: LogStore> Node<S> {
    /// Tells the node of a snapshot that the caller has made of entries it applied, and has durable. From now on it is
    /// what followers are offered; the log may be cut behind it. One that is not newer than the last is ignored, unless
    /// there is no data for that one yet (after a start from a snapshot).
    ///
    /// # Panics
    /// When its data is empty or over [`SNAPSHOT_DATA_BYTES_MAX`], or it holds entries that were not delivered: the
    /// caller's mistakes.
    pub fn snapshot_taken(&mut self, snapshot: SnapshotMeta) {
        assert!(
            (1..=SNAPSHOT_DATA_BYTES_MAX).contains(&snapshot.data.len()) && snapshot.index > 0,
            "a snapshot needs a reference of 1 to {SNAPSHOT_DATA_BYTES_MAX} bytes"
        );
        assert!(snapshot.index <= self.delivery.delivered, "a snapshot holds entries that were not delivered");
        let latest = self.pending.snapshot.as_ref().or(self.raw.store().latest_snapshot());
        let newer = |latest: &SnapshotMeta| {
            snapshot.index > latest.index || (snapshot.index == latest.index && latest.data.is_empty())
        };
        if latest.is_none_or(newer) {
            self.pending.snapshot = Some(snapshot);
        }
    }

    /// Lets the log forget entries up to `through`, with it, but none behind the latest snapshot. Goes out with the
    /// next write.
    pub fn compact(&mut self, through: u64) {
        let through = through.min(self.latest_snapshot_index()).min(self.delivery.delivered);
        let from = self.pending.compact.map_or(self.raw.raft.raft_log.first_index(), |cut| cut.index + 1);
        if through < from {
            return;
        }
        if let Ok(term) = self.raw.store().term(through) {
            self.pending.compact = Some(Boundary { index: through, term });
        }
    }

    pub(super) fn latest_snapshot_index(&self) -> u64 {
        let latest = self.pending.snapshot.as_ref().or(self.raw.store().latest_snapshot());
        latest.map_or(0, |snapshot| snapshot.index)
    }

    /// Parks a leader's offer, or says that raft can answer it without its data.
    pub(super) fn park(&mut self, message: eraftpb::Message) -> Option<eraftpb::Message> {
        let log = &self.raw.raft.raft_log;
        let metadata = message.get_snapshot().get_metadata();
        let known = metadata.index <= log.committed || log.match_term(metadata.index, metadata.term);
        if known || message.term < self.raw.raft.term {
            return Some(message);
        }
        if !of_snapshot(message.get_snapshot()).members.contains(self.config.id) {
            tracing::debug!(from = message.from, "ignoring a snapshot without this node among its members");
            return None;
        }
        let committed = log.committed;
        match &mut self.parked {
            // While one is being fetched, others wait; the same one may come from a new leader, who is then answered.
            Some(parked) if parked.index() > committed => {
                if parked.index() == metadata.index {
                    parked.message = message;
                }
            }
            parked => *parked = Some(Parked { message, told: false }),
        }
        None
    }

    /// The parked offer, if the caller was not told of it.
    pub(super) fn take_offer(&mut self) -> Option<SnapshotOffer> {
        let parked = self.parked.as_mut().filter(|parked| !parked.told)?;
        parked.told = true;
        let SnapshotMeta { index, term, members, data } = of_snapshot(parked.message.get_snapshot());
        Some(SnapshotOffer { from: parked.message.from, index, term, members, data })
    }

    /// Tells the node that the caller has the offered snapshot's data, durable. The next cycle says to restore it, unless
    /// the log caught up meanwhile.
    ///
    /// # Errors
    /// [`Error::Raft`] when raft refuses; the node stops.
    pub fn snapshot_fetched(&mut self, index: u64) -> Result<(), Error> {
        self.check_running()?;
        let Some(parked) = self.parked.take_if(|parked| parked.index() == index) else { return Ok(()) };
        let mut message = parked.message;
        let raft = &self.raw.raft;
        // What is committed stays so under every later leader; the answer goes to the one of now.
        if message.term < raft.term && raft.leader_id != 0 && raft.leader_id != self.config.id {
            message.term = raft.term;
            message.from = raft.leader_id;
        }
        self.raw.step(message).map_err(|error| self.stop(error.into()))?;
        self.draw_election_timeout();
        Ok(())
    }

    /// Tells the node that the caller gave up fetching the offered snapshot. A leader will offer one again.
    pub fn snapshot_failed(&mut self, index: u64) {
        self.parked.take_if(|parked| parked.index() == index);
    }

    /// What a snapshot that raft accepted changes: the log goes on behind it.
    pub(super) fn restore(&mut self, snapshot: &Snapshot, batch: &mut Batch) -> u64 {
        let meta = of_snapshot(snapshot);
        let index = meta.index;
        self.note_removed(&meta.members);
        self.members = meta.members.clone();
        self.members_at = index;
        self.delivery.restore(index);
        batch.restart = Some(meta.boundary());
        batch.compact = None;
        batch.snapshot = Some(meta);
        index
    }

    /// As leader: takes offers without progress for lost.
    pub(super) fn watch_offers(&mut self) {
        if self.raw.raft.state != StateRole::Leader {
            return self.offered.clear();
        }
        let offers: Vec<(u64, u64)> = self
            .raw
            .raft
            .prs()
            .iter()
            .filter(|(_, of)| of.state == raft::ProgressState::Snapshot)
            .map(|(&id, of)| (id, of.pending_snapshot))
            .collect();
        self.offered.retain(|id, _| offers.iter().any(|(offered, _)| offered == id));
        let mut lost = Vec::new();
        for (id, index) in offers {
            let (offered, ticks) = self.offered.entry(id).or_insert((index, 0));
            *ticks = if *offered == index { *ticks + 1 } else { 1 };
            *offered = index;
            if *ticks > OFFER_ELECTIONS * self.config.election_ticks {
                lost.push(id);
            }
        }
        lost.sort_unstable();
        for id in lost {
            self.offered.remove(&id);
            self.raw.report_snapshot(id, SnapshotStatus::Failure);
        }
    }
}
