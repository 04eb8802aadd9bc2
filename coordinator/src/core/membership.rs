//! Brings raft's membership to what the admins want: the state says who takes part, raft knows who does, and the leader
//! proposes one change after the other until the two agree. A node joins as a learner, votes once the admins want it to
//! and it has caught up, and leaves. A leader that is to leave first hands its office over.
//!
//! A member that was away while others joined does not know them, and does not listen to one of them that leads. It needs
//! somebody whom it knows to lead, so a leader that is refused as a stranger hands its office to such a voter; from that
//! one's log the member reads who is who (`docs/decisions/0015-strangers-are-introduced.md`).
//!
//! A member leaves only while those that stay have a majority that answers, and of several the one first that does not
//! answer (`docs/decisions/0022-leaving.md`).
//!
//! A node that has left stops, but not as soon as it reads of it in its own log: the others may not know yet that this is
//! committed, and if the leader dies they need its vote to elect another. It goes when a coordinator refuses it as
//! removed, who has carried the removal out. The others no longer send to it by then, so one that slept through it
//! believes them too, as many as are a majority.

use super::{Address, PeerRefusal};
use crate::plants::{Plant, planted};
use matrixai_consensus::{MemberChange, Members, Progress};
use matrixai_state::{
    State,
    ids::NodeId,
    nodes::{NodeRow, Standing},
};
use std::collections::{BTreeMap, BTreeSet};

/// Committed entries that a learner may lack when it is given its vote. The quorum waits for it from then on, so it
/// must be able to catch up in a moment.
const PROMOTE_LAG_MAX: u64 = 1_000;
/// What was tried and had no effect is tried again after this long.
const TRY_AGAIN_MS: u64 = 1_000;

/// A refusal as a stranger counts for this long: a link that is refused tries again within a second.
const STRANGER_LIFE_MS: u64 = 3_000;
/// A process that others refuse for another one of its key stops when they have done so for this long: one that was killed a
/// moment ago may still be heard.
const TWIN_MS: u64 = 5_000;
/// They have not if they were silent about it for this long meanwhile.
const TWIN_PAUSE_MS: u64 = 3_000;
/// A leader does not hand its office over for a stranger's sake before it has led for so long. Two members that know nobody
/// in common are introduced in turn, and each needs its turn to read.
const INTRODUCE_AFTER_MS: u64 = 5_000;

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
    /// Coordinators whose data began again from another snapshot, or did and this one's did not.
    other_era: BTreeSet<u64>,
    /// Coordinators that hear another process with this one's key: since when they have said so, and when they last did.
    twin_of: BTreeMap<u64, (u64, u64)>,
    /// Coordinators to which this one was a stranger: up to which number they know others, and when they last said so.
    strange_to: BTreeMap<u64, (u64, u64)>,
    /// Coordinators that a joining one was told of.
    told: Vec<Address>,
}

impl Membership {
    pub(super) fn new(me: u64, told: Vec<Address>) -> Self {
        Self {
            me,
            members: None,
            progress: Vec::new(),
            commit: 0,
            tried_at: None,
            refused_by: BTreeSet::new(),
            other_era: BTreeSet::new(),
            twin_of: BTreeMap::new(),
            strange_to: BTreeMap::new(),
            told,
        }
    }

    /// What the node says; `progress` is empty where it does not lead.
    pub(super) fn heard(&mut self, members: Members, progress: Vec<Progress>, commit: u64) {
        if self.members.as_ref() != Some(&members) {
            self.tried_at = None;
        }
        self.members = Some(members);
        (self.progress, self.commit) = (progress, commit);
    }

    /// Another coordinator does not listen to this one.
    pub(super) fn refused(&mut self, by: u64, why: PeerRefusal, now: u64) {
        match why {
            PeerRefusal::Removed => {
                self.refused_by.insert(by);
            }
            PeerRefusal::OtherEra => {
                self.other_era.insert(by);
            }
            PeerRefusal::Twin => {
                let (since, last) = self.twin_of.get(&by).copied().unwrap_or((now, now));
                // One that was silent about it has heard this process meanwhile.
                let since = if now.saturating_sub(last) < TWIN_PAUSE_MS { since } else { now };
                self.twin_of.insert(by, (since, now));
            }
            PeerRefusal::Stranger { knows } => {
                self.strange_to.insert(by, (knows, now));
            }
        }
    }

    /// What a leader that has led for `led_ms` does next, if there is anything to do and nothing is under way.
    pub(super) fn next(&mut self, state: &State, led_ms: u64, now: u64) -> Option<Step> {
        self.strange_to.retain(|_, (_, at)| now.saturating_sub(*at) < STRANGER_LIFE_MS);
        let members = self.members.as_ref().filter(|members| !members.is_joint())?;
        if self.tried_at.is_some_and(|at| now.saturating_sub(at) < TRY_AGAIN_MS) {
            return None;
        }
        let step = self
            .join(state, members)
            .or_else(|| self.promote(state, members))
            .or_else(|| self.leave(state, members, led_ms))
            .or_else(|| self.introduce(state, members).filter(|_| led_ms >= INTRODUCE_AFTER_MS))?;
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
    fn leave(&self, state: &State, members: &Members, led_ms: u64) -> Option<Step> {
        let gone = |id: &u64| state.node(NodeId(*id)).is_some_and(|row| row.standing == Standing::Removed);
        let leaving: Vec<u64> = members.ids().into_iter().filter(gone).collect();
        let others = leaving.iter().filter(|id| **id != self.me && self.goes_on_without(**id, members));
        if let Some(other) = others.min_by_key(|id| self.answers(**id)) {
            return Some(Step::Change(MemberChange { removed: vec![*other], ..MemberChange::default() }));
        }
        // It may lead because a member knows nobody else, who has to read first.
        if !leaving.contains(&self.me) || led_ms < INTRODUCE_AFTER_MS {
            return None;
        }
        let fits = |of: &&Progress| of.id != self.me && members.is_voter(of.id) && self.keeps_up(of);
        self.progress.iter().filter(fits).max_by_key(|of| of.matched).map(|of| Step::Transfer(of.id))
    }

    /// Whether a majority of the voters that stay answers when this one has left.
    fn goes_on_without(&self, id: u64, members: &Members) -> bool {
        let stay: Vec<u64> = members.voters().filter(|of| *of != id).collect();
        stay.iter().filter(|id| self.answers(**id)).count() > stay.len() / 2
    }

    fn answers(&self, id: u64) -> bool {
        id == self.me || self.progress.iter().any(|of| of.id == id && self.keeps_up(of))
    }

    /// The voter that a member knows to which this leader is a stranger, one that stays if there is one. Rows of nodes are
    /// never removed and number up, so a member knows every voter up to the highest number that it knows.
    fn introduce(&self, state: &State, members: &Members) -> Option<Step> {
        let stays = |id: u64| state.voters().any(|row| row.id.0 == id);
        let known = |knows: u64| {
            let fits =
                |of: &&Progress| of.id <= knows && of.id != self.me && members.is_voter(of.id) && self.keeps_up(of);
            self.progress.iter().filter(fits).max_by_key(|of| (stays(of.id), of.matched))
        };
        let refusing =
            self.strange_to.iter().filter(|(id, _)| members.contains(**id) && !planted(Plant::StrangerLeads));
        refusing.filter_map(|(_, (knows, _))| known(*knows)).next().map(|of| Step::Transfer(of.id))
    }

    fn keeps_up(&self, of: &Progress) -> bool {
        of.active && of.matched.saturating_add(PROMOTE_LAG_MAX) >= self.commit
    }

    /// Why this node must stop, if it has left the cluster or is of another era than the others.
    pub(super) fn left(&self, state: &State) -> Option<String> {
        let me = self.me;
        let others: Vec<u64> = state.voters().map(|row| row.id.0).filter(|id| *id != me).collect();
        let most = |of: &BTreeSet<u64>| others.iter().filter(|id| of.contains(*id)).count() > others.len() / 2;
        if most(&self.other_era) {
            return Some(format!(
                "the data of this coordinator, node {me}, and that of a majority of the others began from different snapshots: \
                 if it was restored while they lived, it forgot what it had acknowledged and must not come back under its \
                 number; if they were restored without it, restore it from the same file, or add it under a new number"
            ));
        }
        let for_long = |id: &&u64| self.twin_of.get(id).is_some_and(|(since, last)| last - since >= TWIN_MS);
        if others.iter().filter(for_long).count() > others.len() / 2 {
            return Some(format!(
                "another process runs with the node key of this coordinator, node {me}, and the others listen to that one: a copy of \
                 its data folder must never run beside it; stop it and start with an empty folder and --join"
            ));
        }
        let removed = state.node(NodeId(me)).is_some_and(|row| row.standing == Standing::Removed);
        (most(&self.refused_by) || removed && !self.refused_by.is_empty()).then(|| {
            format!(
                "this coordinator, node {me}, was removed from the cluster by its admins: neither its number nor its key come \
                 back; to take part again, start it with an empty data folder and --join, and have the admins add it"
            )
        })
    }

    /// Whoever votes, ascending: those that raft counts, which are not those of the state while one that is to leave is still
    /// needed; those of the state until the node has said.
    pub(super) fn voters(&self, state: &State) -> Vec<u64> {
        match &self.members {
            Some(members) => members.ids().into_iter().filter(|id| members.is_voter(*id)).collect(),
            None => state.voters().map(|row| row.id.0).collect(),
        }
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
