//! Changes of membership: proposed by the leader, in force on each node as soon as they are committed and on its disk.
//!
//! An entry that changes the members is taken in when it is committed, not when the caller applies it, so that a slow
//! caller holds up no election. On a restart the changes that the log says are committed are taken in before the node
//! speaks. A node is therefore never more than one change behind what it acknowledged: the entry of the next change
//! only exists once the one before is committed, and the message and the write that carry it carry that too.

use raft::{GetEntriesContext, StateRole};

use super::Node;
use crate::{
    config::{ENTRY_BYTES_MAX, MEMBERS_CONTEXT_BYTES_MAX},
    error::{Error, ProposeError},
    members::{MemberChange, Members},
    output::Progress,
    storage::LogStore,
    wire::decode_change,
};

const _: () = assert!(MEMBERS_CONTEXT_BYTES_MAX < ENTRY_BYTES_MAX);

impl<S: LogStore> Node<S> {
    /// Proposes a change of the members, if this node leads. It is in force when a cycle returns its entry with
    /// [`crate::Committed::members`] set and `context` as its data; a change of several ids at once is then joint, and
    /// ends by itself with an entry without context.
    ///
    /// # Errors
    /// [`ProposeError::Members`] when the change cannot be made now, and the other reasons of [`Node::propose`].
    pub fn propose_members(&mut self, change: &MemberChange, context: Vec<u8>) -> Result<(), ProposeError> {
        self.check_leading()?;
        if context.len() > MEMBERS_CONTEXT_BYTES_MAX {
            return Err(ProposeError::TooLarge { bytes: context.len(), limit: MEMBERS_CONTEXT_BYTES_MAX });
        }
        if self.delivery.is_full() {
            return Err(ProposeError::Busy);
        }
        // A new leader must not change the members before it knows what is committed (Ongaro, "bug in single-server
        // membership changes", 2015).
        if self.raw.raft.has_pending_conf() || !self.raw.raft.commit_to_current_term() {
            return Err(ProposeError::Members("an earlier change may not be committed yet".to_owned()));
        }
        // Whoever leads next must hear that the change is committed, and only this node knows at first.
        if change.removed.contains(&self.config.id) || change.learners.contains(&self.config.id) {
            return Err(ProposeError::Members("a leader gives its leadership away before it leaves".to_owned()));
        }
        if let Some(id) = change.learners.iter().find(|id| self.removed.contains(id)) {
            return Err(ProposeError::Members(format!("member {id} was removed, and ids are never used again")));
        }
        let plan = self.members.plan(change)?;
        self.raw.propose_conf_change(context, plan).map_err(|_| ProposeError::Busy)
    }

    /// How far each member's log is, as far as the leader knows; empty on others.
    pub fn progress(&self) -> Vec<Progress> {
        if self.raw.raft.state != StateRole::Leader {
            return Vec::new();
        }
        let mut progress: Vec<Progress> = self
            .raw
            .raft
            .prs()
            .iter()
            .map(|(&id, of)| Progress {
                id,
                matched: of.matched,
                active: of.recent_active || id == self.config.id,
                needs_snapshot: of.state == raft::ProgressState::Snapshot,
            })
            .collect();
        progress.sort_unstable_by_key(|of| of.id);
        progress
    }

    /// The voter that has the most of the log, among those heard from.
    pub(super) fn best_successor(&self) -> Option<u64> {
        let fits = |of: &Progress| of.id != self.config.id && of.active && self.members.is_voter(of.id);
        // Of equals the one with the lowest id.
        self.progress().into_iter().rev().filter(fits).max_by_key(|of| of.matched).map(|of| of.id)
    }

    /// Takes in every change of the members that is committed and on this disk, and tells raft-rs that what is so is
    /// applied.
    pub(super) fn take_in_members(&mut self) -> Result<(), Error> {
        // A change can commit more.
        while self.deliverable() > self.members_at.min(self.raw.raft.raft_log.applied) {
            let upto = self.deliverable();
            for index in self.raw.store().changes(self.members_at + 1) {
                if index <= upto {
                    self.take_in_change(index)?;
                }
            }
            self.members_at = self.members_at.max(upto);
            let last = self.raw.raft.raft_log.last_index();
            self.raw.advance_apply_to(upto);
            // The end of a joint change was appended; raft-rs would send it with the next heartbeats.
            if self.raw.raft.raft_log.last_index() > last {
                self.raw.raft.bcast_append();
            }
        }
        // The change was another leader's, and this one completed it.
        if self.raw.raft.state == StateRole::Leader && !self.members.is_voter(self.config.id) {
            self.step_down();
        }
        Ok(())
    }

    pub(super) fn note_removed(&mut self, members: &Members) {
        self.removed.extend(self.members.ids());
        self.removed.retain(|&id| !members.contains(id));
    }

    fn take_in_change(&mut self, index: u64) -> Result<(), Error> {
        let entries = self.raw.store().entries(index, index + 1, None, GetEntriesContext::empty(false))?;
        let Some(entry) = entries.first() else { return Ok(()) };
        let change = decode_change(&entry.data).expect("a change of members was checked on its way into the log");
        match self.raw.apply_conf_change(&change) {
            Ok(state) => {
                let members = Members::of_conf_state(&state);
                self.note_removed(&members);
                self.members = members.clone();
                if index > self.delivery.delivered {
                    self.delivery.members.insert(index, members);
                }
            }
            // Every node refuses alike, so the entry changes nothing anywhere.
            Err(error) => tracing::warn!(index, %error, "a change of members was committed that cannot be made"),
        }
        Ok(())
    }
}
