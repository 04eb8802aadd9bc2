//! What the core wants done, turned into work for the node and the carrier.

use super::{Io, Replica};
use crate::core::{Action, Event, Reply};
use matrixai_consensus::{LogStore, Node, ProposeError};
use std::collections::VecDeque;

impl<S: LogStore> Replica<S> {
    /// Hands an event to the core and does what it wants. What that leads to is queued behind it.
    pub(super) fn event(&mut self, event: Event, now: u64) {
        let mut queue = VecDeque::from(self.core.on(event, now));
        while let Some(action) = queue.pop_front() {
            match action {
                Action::Propose { number, entry, envelopes } => match propose(&mut self.node, entry) {
                    Ok(()) => {
                        self.proposed = true;
                        self.work.push(Io::Proposed { envelopes });
                    }
                    Err(why) => queue.extend(self.core.on(Event::Dropped { number, why }, now)),
                },
                Action::Reply { caller, reply } => self.work.push(Io::Reply { caller, reply }),
                Action::Decided { waited_ms } => self.work.push(Io::Decided { waited_ms }),
                Action::Send { session, message } => self.work.push(Io::ToWorker { session, message }),
                Action::End { session } => self.work.push(Io::EndSession { session }),
                Action::Broadcast(status) => self.work.push(Io::Broadcast(status)),
                Action::Relay(envelope) => self.work.push(Io::Relay { leader: self.place.leader, envelope }),
                Action::ChangeMembers(change) => match self.node.propose_members(&change, Vec::new()) {
                    Ok(()) => tracing::info!(?change, "a change of the members is proposed"),
                    Err(error) => tracing::debug!(?change, %error, "a change of the members waits"),
                },
                Action::TransferLeader { to } => match self.node.transfer_leader(to) {
                    Ok(()) => tracing::info!(to, "the leader's office is handed over"),
                    Err(error) => tracing::debug!(to, %error, "the leader's office is not handed over"),
                },
                Action::Links(links) => self.work.push(Io::Links(links)),
                Action::Stop(reason) => return self.stop(reason),
            }
        }
    }
}

fn propose<S: LogStore>(node: &mut Node<S>, entry: Vec<u8>) -> Result<(), Reply> {
    node.propose(entry).map_err(|error| match error {
        ProposeError::NotLeader { .. } => Reply::NotLeader,
        ProposeError::Busy => Reply::Full,
        ProposeError::TooLarge { .. } | ProposeError::Empty | ProposeError::Members(_) | ProposeError::Stopped => {
            tracing::error!(%error, "an entry was not taken");
            Reply::Full
        }
    })
}
