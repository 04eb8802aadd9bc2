//! One member of the cluster: raft-rs behind calls that never block and never touch the disk, but for the one write that
//! opens the store.

pub(crate) mod delivery;
mod durability;
mod membership;
mod opening;
mod snapshots;
mod stepping;

use std::collections::{BTreeMap, BTreeSet};

use raft::{GetEntriesContext, RawNode, StateRole, eraftpb::HardState};

use crate::{
    config::{ENTRY_BYTES_MAX, NodeConfig, election_timeout},
    error::{Error, ProposeError, ReadError},
    members::Members,
    output::{Committed, Message, Output, Status},
    reads::{READS_PENDING_MAX, Reader},
    storage::{Batch, LogStore, Write},
};
use delivery::Delivery;
use durability::Durability;
pub use opening::Start;
use snapshots::Parked;

/// A raft node over a log store. Not `Sync`: one thread owns it; it may be sent to that thread.
pub struct Node<S: LogStore> {
    config: NodeConfig,
    raw: RawNode<S>,
    reader: Reader,
    /// The members once everything committed and on this disk is taken in, and the entry up to which it was.
    members: Members,
    members_at: u64,
    /// Ids that were seen leaving: they never come back, and what they still say is ignored.
    removed: BTreeSet<u64>,
    /// What the last write given out holds; a commit index that moved alone waits for the next write.
    staged: HardState,
    durability: Durability,
    delivery: Delivery,
    /// A snapshot or a cut that goes out with the next write.
    pending: Batch,
    /// A snapshot that a leader wants installed here, until the caller has its data.
    parked: Option<Parked>,
    /// As leader: ticks since each follower was offered a snapshot, with the snapshot's index.
    offered: BTreeMap<u64, (u64, usize)>,
    stopped: bool,
}

impl<S: LogStore> Node<S> {
    /// The writer for the writes that [`Node::ready`] gives out. Use one.
    pub fn writer(&self) -> S::Writer {
        self.raw.store().writer()
    }

    /// Lets one tick pass: elections, heartbeats.
    pub fn tick(&mut self) {
        if self.stopped {
            return;
        }
        if self.is_unfit_to_stand() {
            // It hears as well as others that a leader is silent, and votes.
            self.raw.raft.election_elapsed += 1;
            return;
        }
        if matches!(self.raw.raft.state, StateRole::Candidate | StateRole::PreCandidate) {
            // An election that nobody won (votes split) is held again after half the time: no leader is disturbed by it,
            // and the cluster has waited once already.
            self.raw.raft.election_elapsed += 1;
        }
        self.raw.tick();
        self.watch_offers();
        self.draw_election_timeout();
    }

    /// Puts an entry into the log, if this node leads. Whether it commits is known when a cycle returns it.
    ///
    /// # Errors
    /// [`ProposeError`]; nothing was written.
    pub fn propose(&mut self, data: Vec<u8>) -> Result<(), ProposeError> {
        self.check_leading()?;
        if data.is_empty() {
            return Err(ProposeError::Empty);
        }
        if data.len() > ENTRY_BYTES_MAX {
            return Err(ProposeError::TooLarge { bytes: data.len(), limit: ENTRY_BYTES_MAX });
        }
        if self.delivery.is_full() {
            return Err(ProposeError::Busy);
        }
        // As leader raft-rs drops proposals only over the limit of uncommitted bytes, and while it gives its
        // leadership away.
        self.raw.propose(Vec::new(), data).map_err(|_| ProposeError::Busy)
    }

    /// Gives the leadership to a voter, as soon as that has the whole log; proposals are [`ProposeError::Busy`] until then,
    /// for at most an election timeout.
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`], or [`ProposeError::Members`] when `to` cannot lead.
    pub fn transfer_leader(&mut self, to: u64) -> Result<(), ProposeError> {
        self.check_leading()?;
        if to == self.config.id || !self.members.is_voter(to) {
            return Err(ProposeError::Members(format!("{to} is no other voting member")));
        }
        self.raw.transfer_leader(to);
        Ok(())
    }

    /// Gives up the leadership at once, naming the voter with the most of the log as successor: for a leader that cannot
    /// write. Does nothing on others.
    pub fn step_down(&mut self) {
        if self.stopped || self.raw.raft.state != StateRole::Leader {
            return;
        }
        if let Some(successor) = self.best_successor() {
            self.raw.raft.send_timeout_now(successor);
        }
        let term = self.raw.raft.term;
        self.raw.raft.become_follower(term, raft::INVALID_ID);
        self.draw_election_timeout();
    }

    /// Starts a linearizable read, on the leader or a follower. `context` must not be in use by another read of this
    /// node. One read can serve every caller that waits when it starts: it costs the leader a round of heartbeats.
    ///
    /// The answer comes in [`Output::reads`], or never if a message is lost: give up after a while, and ask anew with
    /// another context.
    ///
    /// # Errors
    /// [`ReadError`]; no answer will come.
    pub fn read_index(&mut self, context: u64) -> Result<(), ReadError> {
        if self.stopped {
            return Err(ReadError::Stopped);
        }
        if self.raw.raft.leader_id == 0 {
            return Err(ReadError::NoLeader);
        }
        if self.raw.raft.state == StateRole::Leader {
            if !self.raw.raft.commit_to_current_term() {
                return Err(ReadError::NotReady);
            }
            if self.raw.raft.pending_read_count() >= READS_PENDING_MAX {
                return Err(ReadError::Busy);
            }
        }
        self.raw.read_index(self.reader.encode(context));
        Ok(())
    }

    /// Whether a cycle has something to do.
    pub fn has_ready(&self) -> bool {
        !self.stopped
            && (self.raw.has_ready()
                || self.pending != Batch::default()
                || self.deliverable() > self.raw.raft.raft_log.applied
                || self.delivery.waits_below(self.deliverable())
                || self.parked.as_ref().is_some_and(|parked| !parked.told))
    }

    /// Runs one cycle: stages what is to be written, hands over what may be sent before it is written, and returns what
    /// is committed. `send` must not block; it may drop messages.
    ///
    /// # Errors
    /// [`Error::Store`] when the log refuses an entry that raft gave it; the node stops.
    pub fn ready(&mut self, send: &mut dyn FnMut(Vec<Message>)) -> Result<Output, Error> {
        self.check_running()?;
        let mut output = Output::default();
        self.cycle(send, &mut output).map_err(|error| self.stop(error))?;
        output.snapshot_offer = self.take_offer();
        output.snapshot_wanted = self.raw.store().take_snapshot_wanted();
        output.role = self.raw.raft.state.into();
        output.leader = self.raw.raft.leader_id;
        output.term = self.raw.raft.term;
        output.commit = self.raw.raft.raft_log.committed;
        Ok(output)
    }

    fn cycle(&mut self, send: &mut dyn FnMut(Vec<Message>), output: &mut Output) -> Result<(), Error> {
        self.take_in_members()?;
        let mut ready = self.raw.ready();
        let number = ready.number();
        for read in ready.take_read_states() {
            output.reads.extend(self.reader.decode(&read.request_ctx).map(|context| (context, read.index)));
        }
        let mut batch = std::mem::take(&mut self.pending);
        if !ready.snapshot().is_empty() {
            output.restore = Some(self.restore(ready.snapshot(), &mut batch));
        }
        batch.entries = ready.take_entries();
        // A commit index that moved alone is not worth a sync: raft learns it again from the leader. But it goes with
        // whatever is written: a log must not be cut behind what it says is committed.
        if ready.must_sync() || batch != Batch::default() {
            let hard_state = self.raw.raft.hard_state();
            if hard_state != self.staged {
                batch.hard_state = Some(hard_state.clone());
                self.staged = hard_state;
            }
        }
        if batch != Batch::default() {
            let write = Write { number, batch };
            self.raw.mut_store().stage(&write)?;
            self.durability.staged(&write, &self.staged);
            output.write = Some(write);
        }
        let mut messages = ready.take_messages();
        messages.extend(ready.take_persisted_messages());
        self.durability.taken_in = 0;
        self.durability.dispatch(messages, &self.raw.raft, send);
        let yielded = ready.take_committed_entries();
        self.raw.advance_append_async(ready);
        if self.durability.is_idle() {
            self.raw.on_persist_ready(number);
        }
        self.deliver(yielded, &mut output.committed)?;
        self.draw_election_timeout();
        Ok(())
    }

    /// Tells the node that the write of this number, and all before it, are on the disk. Votes and acknowledgements that
    /// waited for it are handed over; what it committed comes with the next cycle.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn written(&mut self, number: u64, send: &mut dyn FnMut(Vec<Message>)) -> Result<(), Error> {
        self.check_running()?;
        self.durability.written(number, send);
        self.raw.mut_store().settled(number);
        self.raw.on_persist_ready(number);
        Ok(())
    }

    /// Tells the node that the caller applied every entry up to `index`. Without it the node stops delivering once 64 MiB
    /// wait to be applied.
    pub fn applied(&mut self, index: u64) {
        self.delivery.applied(index);
    }

    /// Committed entries from index `from` to before `to`, as many as fit in `max_bytes` (one at least). Fewer when
    /// fewer are committed; none when `from` is not, or is no longer in the log.
    ///
    /// # Errors
    /// [`Error::Raft`] with the store's words when the log cannot be read; the node stops.
    pub fn entries(&mut self, from: u64, to: u64, max_bytes: u64) -> Result<Vec<Committed>, Error> {
        self.check_running()?;
        let from = from.max(1);
        let to = to.min(self.deliverable().saturating_add(1));
        if from >= to || from < self.raw.raft.raft_log.first_index() {
            return Ok(Vec::new());
        }
        let read = self.raw.store().entries(from, to, max_bytes, GetEntriesContext::empty(false));
        let read = read.map_err(|error| self.stop(error.into()))?;
        Ok(read.into_iter().map(|entry| delivery::to_committed(entry, None)).collect())
    }

    /// Tells raft that messages to a peer are being lost, so that it probes instead of streaming.
    pub fn report_unreachable(&mut self, id: u64) {
        if !self.stopped {
            self.raw.report_unreachable(id);
        }
    }

    /// Stands for election now instead of after the timeout: for a cluster of one, and for tests.
    ///
    /// # Errors
    /// [`Error::Raft`] when raft refuses.
    pub fn campaign(&mut self) -> Result<(), Error> {
        self.check_running()?;
        if self.is_unfit_to_stand() || !self.raw.raft.promotable() {
            return Ok(());
        }
        self.raw.campaign()?;
        self.draw_election_timeout();
        Ok(())
    }

    /// A look at the node.
    pub fn status(&self) -> Status {
        let raft = &self.raw.raft;
        Status {
            id: self.config.id,
            role: raft.state.into(),
            leader: raft.leader_id,
            term: raft.term,
            commit: raft.raft_log.committed,
            applied: self.delivery.applied,
            first: raft.raft_log.first_index(),
            last: raft.raft_log.last_index(),
            snapshot: self.latest_snapshot_index(),
            unwritten: self.durability.unwritten(),
            members: self.members.clone(),
        }
    }

    /// The members, as far as this node knows.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Highest index that this node knows to be committed.
    pub fn committed_index(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    /// Bytes of entries that a leader would take now. More are [`ProposeError::Busy`].
    pub fn room(&self) -> usize {
        let limit = usize::try_from(self.config.max_uncommitted_bytes).unwrap_or(usize::MAX);
        match self.raw.raft.uncommitted_size() {
            _ if self.delivery.is_full() => 0,
            // The first one is always taken.
            0 => limit.max(ENTRY_BYTES_MAX),
            uncommitted => limit.saturating_sub(uncommitted),
        }
    }

    /// Index of the newest entry, written or not.
    pub fn last_index(&self) -> u64 {
        self.raw.raft.raft_log.last_index()
    }

    /// Highest entry that is committed and on this disk.
    fn deliverable(&self) -> u64 {
        let log = &self.raw.raft.raft_log;
        log.committed.min(log.persisted)
    }

    /// Whether raft-rs would break one of its own rules if it stood for election now.
    fn is_unfit_to_stand(&self) -> bool {
        let raft = &self.raw.raft;
        let log = &raft.raft_log;
        if raft.state == StateRole::Leader {
            return false;
        }
        // It looks for changes of members among entries behind the last applied; those of a snapshot that is not on
        // the disk yet are not there.
        let installing = log.applied + 1 < log.first_index();
        // A node that alone is a quorum leads the moment it stands, without a message that could wait for its disk; its
        // whole log must be on the disk by then.
        let settled = self.durability.is_idle() && log.persisted == log.last_index();
        installing || (!settled && self.members.rules_alone(self.config.id))
    }

    fn check_leading(&self) -> Result<(), ProposeError> {
        if self.stopped {
            return Err(ProposeError::Stopped);
        }
        let leader = self.raw.raft.leader_id;
        // raft-rs would forward a follower's proposal, which could then commit twice or after its caller gave up.
        if self.raw.raft.state != StateRole::Leader {
            return Err(ProposeError::NotLeader { leader: (leader != 0).then_some(leader) });
        }
        Ok(())
    }

    fn draw_election_timeout(&mut self) {
        let raft = &mut self.raw.raft;
        let timeout = election_timeout(&self.config, raft.term, raft.state as u64);
        raft.set_randomized_election_timeout(timeout);
    }

    fn check_running(&self) -> Result<(), Error> {
        if self.stopped { Err(Error::Stopped) } else { Ok(()) }
    }

    fn stop(&mut self, error: Error) -> Error {
        self.stopped |= error.is_fatal();
        error
    }
}

impl<S: LogStore> std::fmt::Debug for Node<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("status", &self.status()).field("stopped", &self.stopped).finish_non_exhaustive()
    }
}
