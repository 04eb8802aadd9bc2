//! One member of the cluster: raft-rs behind calls that never block on anything but this node's own disk.

use raft::{
    GetEntriesContext, RawNode, StateRole,
    eraftpb::{self, EntryType, HardState, MessageType},
};

use crate::{
    config::{APPEND_BYTES_PER_POLL, ENTRY_BYTES_MAX, NodeConfig, election_timeout},
    error::{Error, ProposeError, ReadError},
    logging::raft_logger,
    members::Members,
    output::{Committed, Message, Output, Status},
    reads::{READS_PENDING_MAX, Reader},
    storage::{Batch, Identity, LogStore},
    wire::{self, WireError},
};

/// A raft node over a log store. Not `Sync`: one thread owns it; it may be sent to that thread.
pub struct Node<S: LogStore> {
    config: NodeConfig,
    raw: RawNode<S>,
    members: Members,
    reader: Reader,
    /// What the store holds; a commit index that moved alone waits for the next write.
    stored: HardState,
    /// Highest index the caller applied.
    applied: u64,
    /// Bytes of appends taken in since the last poll.
    unpolled_bytes: usize,
    stopped: bool,
}

impl<S: LogStore> Node<S> {
    /// Starts the node on its store. A store that was never opened is founded with `voters_if_new`, which every
    /// member must be given alike; one that was is checked against them, unless they are empty.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::Foreign`], [`Error::MembersDiffer`], [`Error::NotAMember`] when store and
    /// configuration don't belong together, [`Error::Store`] when the store cannot be written.
    pub fn open(config: NodeConfig, mut store: S, voters_if_new: &[u64]) -> Result<Self, Error> {
        let raft_config = config.to_raft()?;
        let given = Members::new(voters_if_new)?;
        let state = store.initial_state()?;
        let Identity { node, incarnation } = store.identity();
        let fresh = node == 0;
        let members = if fresh { given } else { stored_members(&config, node, &state.conf_state, given)? };
        if !members.contains(config.id) {
            return Err(Error::NotAMember { id: config.id, members });
        }
        let reader = Reader { id: config.id, incarnation: incarnation + 1 };
        store.append(&Batch {
            conf_state: fresh.then(|| members.to_conf_state()),
            identity: Some(Identity { node: config.id, incarnation: reader.incarnation }),
            ..Batch::default()
        })?;
        let mut raw = RawNode::new(&raft_config, store, &raft_logger())?;
        mark_applied(&mut raw);
        let stored = state.hard_state;
        let mut node = Self { config, raw, members, reader, stored, applied: 0, unpolled_bytes: 0, stopped: false };
        node.draw_election_timeout();
        Ok(node)
    }

    /// Lets one tick pass: elections, heartbeats.
    pub fn tick(&mut self) {
        if !self.stopped {
            self.raw.tick();
            self.draw_election_timeout();
        }
    }

    /// Takes in a message that a peer's node handed to its `send`. Messages for another node, from a stranger, or more
    /// than can be held until the next poll are ignored: to raft they were lost on the way.
    ///
    /// # Errors
    /// [`Error::Wire`] for bytes that are no acceptable message, which is harmless; [`Error::LogLost`] when
    /// the message proves that this disk lost entries.
    pub fn step(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.check_running()?;
        let message = wire::decode(bytes)?;
        if message.to != self.config.id || !self.members.contains(message.from) {
            tracing::debug!(from = message.from, to = message.to, "ignoring a message that is not for this node");
            return Ok(());
        }
        if !self.admits(&message, bytes.len())? {
            return Ok(());
        }
        match self.raw.step(message) {
            // Both mean that the message came too late to matter.
            Ok(()) | Err(raft::Error::StepPeerNotFound | raft::Error::ProposalDropped) => {}
            Err(error) => return Err(self.stop(error.into())),
        }
        self.draw_election_timeout();
        Ok(())
    }

    /// Puts an entry into the log, if this node leads. Whether it commits is known when a poll returns it.
    ///
    /// # Errors
    /// [`ProposeError`]; nothing was written.
    pub fn propose(&mut self, data: Vec<u8>) -> Result<(), ProposeError> {
        if self.stopped {
            return Err(ProposeError::Stopped);
        }
        if data.is_empty() {
            return Err(ProposeError::Empty);
        }
        if data.len() > ENTRY_BYTES_MAX {
            return Err(ProposeError::TooLarge { bytes: data.len(), limit: ENTRY_BYTES_MAX });
        }
        let leader = self.raw.raft.leader_id;
        // raft-rs would forward a follower's proposal, which could then commit twice or after its caller gave up.
        if self.raw.raft.state != StateRole::Leader {
            return Err(ProposeError::NotLeader { leader: (leader != 0).then_some(leader) });
        }
        // As leader raft-rs drops proposals only over the limit of uncommitted bytes.
        self.raw.propose(Vec::new(), data).map_err(|_| ProposeError::Busy)
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

    /// Whether a poll has something to do.
    pub fn has_ready(&self) -> bool {
        !self.stopped && self.raw.has_ready()
    }

    /// Runs one cycle: hands over what may be sent at once, writes and syncs, hands over what had to wait for the sync,
    /// and returns what is committed. `send` must not block; it may drop messages.
    ///
    /// # Errors
    /// [`Error::Store`] when the log cannot be written, [`Error::Unsupported`] for an entry of a later version.
    /// Both stop the node.
    pub fn poll(&mut self, send: &mut dyn FnMut(Vec<Message>)) -> Result<Output, Error> {
        self.check_running()?;
        let mut output = Output::default();
        if self.raw.has_ready() {
            self.cycle(send, &mut output).map_err(|error| self.stop(error))?;
        }
        output.role = self.raw.raft.state.into();
        output.leader = self.raw.raft.leader_id;
        output.term = self.raw.raft.term;
        output.commit = self.raw.raft.raft_log.committed;
        Ok(output)
    }

    fn cycle(&mut self, send: &mut dyn FnMut(Vec<Message>), output: &mut Output) -> Result<(), Error> {
        let mut ready = self.raw.ready();
        self.unpolled_bytes = 0;
        hand_over(ready.take_messages(), send);
        for read in ready.take_read_states() {
            output.reads.extend(self.reader.decode(&read.request_ctx).map(|context| (context, read.index)));
        }
        take_committed(ready.take_committed_entries(), &mut output.committed)?;
        // A commit index that moved alone is not worth a sync: raft learns it again from the leader.
        if ready.must_sync() {
            let hard_state = self.raw.raft.hard_state();
            let hard_state = (hard_state != self.stored).then_some(hard_state);
            let batch = Batch { entries: ready.take_entries(), hard_state, ..Batch::default() };
            self.raw.mut_store().append(&batch)?;
            if let Some(hard_state) = batch.hard_state {
                self.stored = hard_state;
            }
        }
        hand_over(ready.take_persisted_messages(), send);
        let mut light = self.raw.advance_append(ready);
        hand_over(light.take_messages(), send);
        take_committed(light.take_committed_entries(), &mut output.committed)?;
        mark_applied(&mut self.raw);
        self.draw_election_timeout();
        Ok(())
    }

    /// Tells the node that the caller applied every entry up to `index`.
    pub fn applied(&mut self, index: u64) {
        self.applied = self.applied.max(index.min(self.raw.raft.raft_log.committed));
    }

    /// Committed entries from index `from` to before `to`, as many as fit in `max_bytes` (one at least). Fewer when
    /// fewer are committed; none when `from` is not.
    ///
    /// # Errors
    /// [`Error::Raft`] with the store's words when the log cannot be read; the node stops.
    pub fn entries(&mut self, from: u64, to: u64, max_bytes: u64) -> Result<Vec<Committed>, Error> {
        self.check_running()?;
        let from = from.max(1);
        let log = &self.raw.raft.raft_log;
        let to = to.min(log.committed.min(log.persisted) + 1);
        if from >= to {
            return Ok(Vec::new());
        }
        let read = self.raw.store().entries(from, to, max_bytes, GetEntriesContext::empty(false));
        let read = read.map_err(|error| self.stop(error.into()))?;
        let mut committed = Vec::new();
        take_committed(read, &mut committed)?;
        Ok(committed)
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
            applied: self.applied,
            last: raft.raft_log.last_index(),
            members: self.members.clone(),
        }
    }

    /// Whether raft-rs may see a message, given this node's log. It trusts its input and panics on some of what is
    /// caught here.
    fn admits(&mut self, message: &eraftpb::Message, bytes: usize) -> Result<bool, Error> {
        let raft = &self.raw.raft;
        let last = raft.raft_log.last_index();
        match message.get_msg_type() {
            MessageType::MsgSnapshot => return Err(WireError::Refused("snapshots are not supported").into()),
            MessageType::MsgAppend => {
                if self.unpolled_bytes + bytes > APPEND_BYTES_PER_POLL {
                    tracing::debug!(from = message.from, "ignoring an append: too much waits to be written");
                    return Ok(false);
                }
                self.unpolled_bytes += bytes;
            }
            // A leader never tells a follower of a commit beyond what the follower acknowledged.
            MessageType::MsgHeartbeat if message.term >= raft.term && message.commit > last => {
                return Err(self.stop(Error::LogLost { commit: message.commit, last }));
            }
            // A follower cannot have matched what its leader never had. (A leader that crashed before its own sync can
            // be told of what it sent, but then it no longer leads in that term.)
            MessageType::MsgAppendResponse
                if !message.reject
                    && message.term == raft.term
                    && raft.state == StateRole::Leader
                    && message.index > last =>
            {
                return Err(WireError::Refused("an append is acknowledged beyond the log").into());
            }
            // Only a leader can answer; a follower of raft-rs would pass the request on under the asker's name.
            MessageType::MsgReadIndex => {
                return Ok(raft.state == StateRole::Leader && raft.pending_read_count() < READS_PENDING_MAX);
            }
            _ => {}
        }
        Ok(true)
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

/// The members of a store that was opened before, checked against what the caller knows.
fn stored_members(
    config: &NodeConfig,
    node: u64,
    conf_state: &eraftpb::ConfState,
    given: Members,
) -> Result<Members, Error> {
    if node != config.id {
        return Err(Error::Foreign { stored: node, given: config.id });
    }
    let stored = Members::of_conf_state(conf_state);
    if !given.is_empty() && given != stored {
        return Err(Error::MembersDiffer { stored, given });
    }
    Ok(stored)
}

/// Tells raft-rs that everything committed is applied, whatever the caller has applied. It uses that index only to
/// guard changes of membership, of which this log has none; left behind, it would make raft-rs load all entries in
/// between into memory at every election.
fn mark_applied<S: LogStore>(raw: &mut RawNode<S>) {
    let log = &raw.raft.raft_log;
    let index = log.committed.min(log.persisted);
    raw.advance_apply_to(index);
}

fn hand_over(messages: Vec<eraftpb::Message>, send: &mut dyn FnMut(Vec<Message>)) {
    if !messages.is_empty() {
        send(messages.into_iter().map(|message| Message { to: message.to, bytes: wire::encode(message) }).collect());
    }
}

fn take_committed(entries: Vec<eraftpb::Entry>, committed: &mut Vec<Committed>) -> Result<(), Error> {
    for mut entry in entries {
        if entry.get_entry_type() != EntryType::EntryNormal {
            return Err(Error::Unsupported { index: entry.index });
        }
        committed.push(Committed { index: entry.index, term: entry.term, data: entry.take_data().into() });
    }
    Ok(())
}
