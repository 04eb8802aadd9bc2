//! Brings raft's membership to what the admins want: the state says who takes part, raft knows who does, and the leader
//! proposes one change after the other until the two agree. A node joins as a learner, votes once the admins want it to
//! and it has caught up, and leaves. A leader that is to leave first hands its office over.
//!
//! A node that has left stops. It may learn of it from its own log; but the others no longer send to it once its removal
//! is in force, so it also believes coordinators that refuse it as removed: one, if its own state agrees, otherwise as
//! many as are a majority.

use super::Address;
use matrixai_consensus::{MemberChange, Members, Progress};
use matrixai_state::{
    State,
    ids::NodeId,
    nodes::{NodeRow, Standing},
};
use std::collections::BTreeSet;

/// Committed entries that a learner may lack when it is given its vote. The quorum waits for it from then on, so it
/// must be able to catch up in a moment.
const PROMOTE_LAG_MAX: u64 = 1_000;
/// What was tried and had no effect is tried again after this long.
const TRY_AGAIN_MS: u64 = 1_000;

/// What the leader does next about the membership.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Propose this.
    Change(MemberChange),
    /// Hand the leader's office to this voter.
    Transfer(u64),
}

/// What is known of raft's side.
#[derive(Debug)]
pub(super) struct Membership {
    me: u64,
    /// None before the node has said.
    members: Option<Members>,
    progress: Vec<Progress>,
    commit: u64,
    tried_at: Option<u64>,
    /// Coordinators that refused this one as removed.
    refused_by: BTreeSet<u64>,
    /// Coordinators that a joining one was told of.
    told: Vec<Address>,
}

impl Membership {
    pub(super) fn new(me: u64, told: Vec<Address>) -> Self {
        Self { me, members: None, progress: Vec::new(), commit: 0, tried_at: None, refused_by: BTreeSet::new(), told }
    }

    /// What the node says; `progress` is empty where it does not lead.
    pub(super) fn heard(&mut self, members: Members, progress: Vec<Progress>, commit: u64) {
        if self.members.as_ref() != Some(&members) {
            self.tried_at = None;
        }
        self.members = Some(members);
        (self.progress, self.commit) = (progress, commit);
    }

    /// Another coordinator refused this one as removed.
    pub(super) fn refused(&mut self, by: u64) {
        self.refused_by.insert(by);
    }

    /// What a leader does next, if there is anything to do and nothing is under way.
    pub(super) fn next(&mut self, state: &State, now: u64) -> Option<Step> {
        let members = self.members.as_ref().filter(|members| !members.is_joint())?;
        if self.tried_at.is_some_and(|at| now.saturating_sub(at) < TRY_AGAIN_MS) {
            return None;
        }
        let step = self
            .join(state, members)
            .or_else(|| self.promote(state, members))
            .or_else(|| self.leave(state, members))?;
        self.tried_at = Some(now);
        Some(step)
    }

    /// Nodes that the admins added and raft does not have.
    fn join(&self, state: &State, members: &Members) -> Option<Step> {
        let wanted = |row: &&NodeRow| row.standing != Standing::Removed && !members.contains(row.id.0);
        let learners: Vec<u64> = state.nodes().filter(wanted).map(|row| row.id.0).collect();
        (!learners.is_empty()).then(|| Step::Change(MemberChange { learners, ..MemberChange::default() }))
    }

    /// Learners that are to vote and could follow.
    fn promote(&self, state: &State, members: &Members) -> Option<Step> {
        let ready = |id: u64| members.is_learner(id) && self.progress.iter().any(|of| of.id == id && self.keeps_up(of));
        let voters: Vec<u64> = state.voters().map(|row| row.id.0).filter(|id| ready(*id)).collect();
        (!voters.is_empty()).then(|| Step::Change(MemberChange { voters, ..MemberChange::default() }))
    }

    /// Members that the admins removed: one at a time, so that the others stay a quorum that has proven to work.
    fn leave(&self, state: &State, members: &Members) -> Option<Step> {
        let gone = |id: &u64| state.node(NodeId(*id)).is_some_and(|row| row.standing == Standing::Removed);
        let leaving: Vec<u64> = members.ids().into_iter().filter(gone).collect();
        if let Some(other) = leaving.iter().find(|id| **id != self.me) {
            return Some(Step::Change(MemberChange { removed: vec![*other], ..MemberChange::default() }));
        }
        if leaving.is_empty() {
            return None;
        }
        let fits = |of: &&Progress| of.id != self.me && members.is_voter(of.id) && self.keeps_up(of);
        self.progress.iter().filter(fits).max_by_key(|of| of.matched).map(|of| Step::Transfer(of.id))
    }

    fn keeps_up(&self, of: &Progress) -> bool {
        of.active && of.matched.saturating_add(PROMOTE_LAG_MAX) >= self.commit
    }

    /// Why this node must stop, if it has left the cluster.
    pub(super) fn left(&self, state: &State) -> Option<String> {
        let me = self.me;
        let removed = state.node(NodeId(me)).is_some_and(|row| row.standing == Standing::Removed);
        let out = self.members.as_ref().is_some_and(|members| !members.contains(me));
        let others: Vec<u64> = state.voters().map(|row| row.id.0).filter(|id| *id != me).collect();
        let told = others.iter().filter(|id| self.refused_by.contains(*id)).count() > others.len() / 2;
        (told || removed && (out || !self.refused_by.is_empty())).then(|| {
            format!(
                "this coordinator, node {me}, was removed from the cluster by its admins: neither its number nor its key come \
                 back; to take part again, start it with an empty data folder and --join, and have the admins add it"
            )
        })
    }

    /// The coordinators that this one has links to: those of the state that have not left, those that raft still has,
    /// and those that a joining one was told of until the state knows them.
    pub(super) fn links(&self, state: &State) -> Vec<Address> {
        let member = |id: u64| self.members.as_ref().is_some_and(|members| members.contains(id));
        let wanted = |row: &&NodeRow| row.standing != Standing::Removed || member(row.id.0);
        let known =
            state.nodes().filter(wanted).map(|row| Address { id: row.id.0, key: row.key, grpc: row.grpc.clone() });
        let told = self.told.iter().filter(|address| state.node(NodeId(address.id)).is_none()).cloned();
        known.chain(told).filter(|address| address.id != self.me).collect()
    }
}
