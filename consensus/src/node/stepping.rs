//! Messages of peers on their way in: raft-rs trusts its input and panics on some of what is caught here.

use raft::{
    StateRole,
    eraftpb::{self, MessageType},
};

use super::Node;
use crate::{
    config::UNWRITTEN_BYTES_MAX,
    error::Error,
    reads::READS_PENDING_MAX,
    storage::LogStore,
    wire::{self, WireError},
};

impl<S: LogStore> Node<S> {
    /// Takes in a message that a peer's node handed to its `send`. Messages for another node, from one that was removed,
    /// or more than can be held until they are written are ignored: to raft they were lost on the way.
    ///
    /// A sender that this node does not know is not a stranger: the log that makes it a member may be what it
    /// sends. That it is a coordinator of this cluster at all is for the transport to check.
    ///
    /// # Errors
    /// [`Error::Wire`] for bytes that are no acceptable message, which is harmless; [`Error::LogLost`] when
    /// the message proves that this disk lost entries.
    pub fn step(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.check_running()?;
        let message = wire::decode(bytes)?;
        if message.to != self.config.id || self.removed.contains(&message.from) {
            tracing::debug!(from = message.from, to = message.to, "ignoring a message that is not for this node");
            return Ok(());
        }
        if !self.admits(&message, bytes.len())? {
            return Ok(());
        }
        let message = match message.get_msg_type() {
            MessageType::MsgSnapshot => self.park(message),
            _ => Some(message),
        };
        let Some(message) = message else { return Ok(()) };
        let asked = (message.get_msg_type() == MessageType::MsgRequestPreVote).then_some((message.from, message.term));
        match self.raw.step(message) {
            // Both mean that the message came too late to matter.
            Ok(()) | Err(raft::Error::StepPeerNotFound | raft::Error::ProposalDropped) => {}
            Err(error) => return Err(self.stop(error.into())),
        }
        if let Some((candidate, term)) = asked {
            self.make_refusal_heard(candidate, term);
        }
        self.draw_election_timeout();
        Ok(())
    }

    /// A refusal of a pre-vote tells the candidate what is committed. raft-rs gives it the term of this node, and where
    /// that is behind the candidate's, the candidate ignores it. When two voters became one and only the one that left
    /// knows, the other would ask it for ever. In the candidate's own term a refusal is heard, and promises nothing.
    fn make_refusal_heard(&mut self, candidate: u64, asked_term: u64) {
        let refusal = |message: &&mut eraftpb::Message| {
            message.to == candidate
                && message.reject
                && message.get_msg_type() == MessageType::MsgRequestPreVoteResponse
                && message.term + 1 < asked_term
        };
        if let Some(message) = self.raw.raft.msgs.iter_mut().rev().find(refusal) {
            message.term = asked_term - 1;
        }
    }

    /// Whether raft-rs may see a message, given this node's log.
    fn admits(&mut self, message: &eraftpb::Message, bytes: usize) -> Result<bool, Error> {
        let raft = &self.raw.raft;
        let last = raft.raft_log.last_index();
        match message.get_msg_type() {
            MessageType::MsgAppend => {
                if self.durability.unwritten() + bytes > UNWRITTEN_BYTES_MAX {
                    tracing::debug!(from = message.from, "ignoring an append: too much waits to be written");
                    return Ok(false);
                }
                self.durability.taken_in += bytes;
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
            // Only the leader of now can name a successor.
            MessageType::MsgTimeoutNow => {
                let leader = message.from == raft.leader_id && message.term == raft.term;
                return Ok(leader && !self.is_unfit_to_stand());
            }
            _ => {}
        }
        Ok(true)
    }
}
