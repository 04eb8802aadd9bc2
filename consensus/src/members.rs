//! Who takes part in the cluster, and how that changes: learners first, more than one change at once by joint
//! consensus (section 4.3 of Ongaro's dissertation).

use std::collections::BTreeSet;

use prost::Message as _;
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState};

use crate::{
    error::{Error, ProposeError},
    wire::{WireConfState, WireError},
};

/// Most members a cluster may have, learners included; a quorum of more is slower, not safer.
pub(crate) const MEMBERS_MAX: usize = 64;

/// The members of a cluster at one place in the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Members {
    voters: BTreeSet<u64>,
    learners: BTreeSet<u64>,
    /// Not empty while two sets of voters must both agree.
    outgoing: BTreeSet<u64>,
    /// Outgoing voters that stay as learners.
    learners_next: BTreeSet<u64>,
    auto_leave: bool,
}

impl Members {
    /// The voters that found a cluster, in any order.
    ///
    /// # Errors
    /// [`Error::Config`] for no id, the id 0, an id named twice, or more than 64 ids.
    pub fn new(voters: &[u64]) -> Result<Self, Error> {
        let members = Self { voters: voters.iter().copied().collect(), ..Self::default() };
        if members.voters.len() != voters.len() {
            return Err(Error::Config("a member is named twice".to_owned()));
        }
        members.check().map_err(Error::Config)?;
        Ok(members)
    }

    /// Voting members, ascending; during a joint change the incoming ones.
    pub fn voters(&self) -> impl Iterator<Item = u64> {
        self.voters.iter().copied()
    }

    /// Members that receive the log but don't count, ascending.
    pub fn learners(&self) -> impl Iterator<Item = u64> {
        self.learners.iter().copied()
    }

    /// The voters of before, while a joint change is under way; those not among the voters will leave or become
    /// learners with its end.
    pub fn outgoing(&self) -> impl Iterator<Item = u64> {
        self.outgoing.iter().copied()
    }

    /// Every id that takes part in any way, ascending.
    pub fn ids(&self) -> Vec<u64> {
        let all = self.voters.iter().chain(&self.learners).chain(&self.outgoing);
        all.copied().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Whether `id` takes part in any way.
    pub fn contains(&self, id: u64) -> bool {
        self.is_voter(id) || self.learners.contains(&id)
    }

    /// Whether `id` has a vote, in a joint change in either set.
    pub fn is_voter(&self, id: u64) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    /// Whether `id` receives the log without a vote.
    pub fn is_learner(&self, id: u64) -> bool {
        self.learners.contains(&id)
    }

    /// Whether a joint change is under way. It ends by itself.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether `id` alone is a quorum.
    pub(crate) fn rules_alone(&self, id: u64) -> bool {
        self.voters.iter().chain(&self.outgoing).all(|&voter| voter == id) && self.voters.contains(&id)
    }

    /// Bytes for the caller's own files.
    pub fn encode(&self) -> Vec<u8> {
        WireConfState::from(self.to_conf_state()).encode_to_vec()
    }

    /// Members from [`Members::encode`]'s bytes.
    ///
    /// # Errors
    /// [`WireError`] for bytes that are no members, or none that can be.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let wire = WireConfState::decode(bytes).map_err(|error| WireError::Malformed(error.to_string()))?;
        let members = Self::of_conf_state(&wire.into());
        members.check().map_err(WireError::Malformed)?;
        Ok(members)
    }

    pub(crate) fn of_conf_state(state: &ConfState) -> Self {
        let set = |ids: &[u64]| ids.iter().copied().collect();
        Self {
            voters: set(&state.voters),
            learners: set(&state.learners),
            outgoing: set(&state.voters_outgoing),
            learners_next: set(&state.learners_next),
            auto_leave: state.auto_leave,
        }
    }

    pub(crate) fn to_conf_state(&self) -> ConfState {
        let list = |ids: &BTreeSet<u64>| ids.iter().copied().collect();
        ConfState {
            voters: list(&self.voters),
            learners: list(&self.learners),
            voters_outgoing: list(&self.outgoing),
            learners_next: list(&self.learners_next),
            auto_leave: self.auto_leave,
            ..ConfState::default()
        }
    }

    /// Whether raft would accept these members; it panics on a snapshot with others.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.voters.is_empty() {
            return Err("there must be a voting member".to_owned());
        }
        let ids = self.ids();
        if ids.first() == Some(&0) {
            return Err("a member's id must not be 0".to_owned());
        }
        if ids.len() > MEMBERS_MAX {
            return Err(format!("{} members are over the limit of {MEMBERS_MAX}", ids.len()));
        }
        if let Some(id) = self.learners.iter().find(|id| self.is_voter(**id)) {
            return Err(format!("member {id} is both a learner and a voter"));
        }
        if self.learners_next.iter().any(|id| !self.outgoing.contains(id) || self.voters.contains(id)) {
            return Err("only an outgoing voter can become a learner next".to_owned());
        }
        if self.auto_leave && !self.is_joint() {
            return Err("only a joint change is left".to_owned());
        }
        Ok(())
    }

    /// What raft is to be told for a change, checked against these members: learners first, nobody twice, somebody must
    /// stay.
    pub(crate) fn plan(&self, change: &MemberChange) -> Result<ConfChangeV2, ProposeError> {
        let refuse = |what: String| Err(ProposeError::Members(what));
        if self.is_joint() {
            return refuse("a change of members is under way".to_owned());
        }
        let mut after = self.clone();
        let mut changes = Vec::new();
        let mut named = BTreeSet::new();
        let all = [&change.learners, &change.voters, &change.removed];
        let kinds = [ConfChangeType::AddLearnerNode, ConfChangeType::AddNode, ConfChangeType::RemoveNode];
        for (&id, kind) in all.into_iter().zip(kinds).flat_map(|(ids, kind)| ids.iter().map(move |id| (id, kind))) {
            if !named.insert(id) {
                return refuse(format!("member {id} is named twice"));
            }
            match kind {
                ConfChangeType::AddLearnerNode if self.learners.contains(&id) => {
                    return refuse(format!("member {id} is a learner already"));
                }
                ConfChangeType::AddNode if !self.learners.contains(&id) => {
                    return refuse(format!("member {id} must be a learner before it can vote"));
                }
                ConfChangeType::RemoveNode if !self.contains(id) => {
                    return refuse(format!("{id} is not a member"));
                }
                _ => {}
            }
            after.voters.remove(&id);
            after.learners.remove(&id);
            match kind {
                ConfChangeType::AddLearnerNode => after.learners.insert(id),
                ConfChangeType::AddNode => after.voters.insert(id),
                ConfChangeType::RemoveNode => false,
            };
            let mut single = ConfChangeSingle { node_id: id, ..ConfChangeSingle::default() };
            single.set_change_type(kind);
            changes.push(single);
        }
        if changes.is_empty() {
            return refuse("nothing is to be changed".to_owned());
        }
        after.check().map_err(ProposeError::Members)?;
        Ok(ConfChangeV2 { changes: changes.into(), ..ConfChangeV2::default() })
    }
}

impl std::fmt::Display for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.voters).finish()?;
        for (what, ids) in [(" learners ", &self.learners), (" outgoing ", &self.outgoing)] {
            if !ids.is_empty() {
                f.write_str(what)?;
                f.debug_list().entries(ids).finish()?;
            }
        }
        Ok(())
    }
}

/// A wanted change of membership: what each id named shall be. One id changes by itself, several at once by joint
/// consensus.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemberChange {
    /// Shall receive the log without a vote: new members, or voters that lose their vote.
    pub learners: Vec<u64>,
    /// Learners that shall vote.
    pub voters: Vec<u64>,
    /// Members that shall leave, for good: an id is never used again.
    pub removed: Vec<u64>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ids_are_sorted_and_checked() {
        assert_eq!(Members::new(&[3, 1, 2]).unwrap().to_string(), "[1, 2, 3]");
        assert!(Members::new(&[]).is_err());
        assert!(Members::new(&[1, 1]).is_err());
        assert!(Members::new(&[0, 1]).is_err());
        assert!(Members::new(&(1..=65).collect::<Vec<_>>()).is_err());
    }

    #[test]
    fn members_survive_their_encoding_and_nonsense_does_not() {
        let mut members = Members::new(&[1, 2, 3]).unwrap();
        members.learners.insert(9);
        members.outgoing.extend([1, 4, 5]);
        members.learners_next.insert(5);
        members.auto_leave = true;
        assert_eq!(Members::decode(&members.encode()).unwrap(), members);
        assert_eq!(Members::of_conf_state(&members.to_conf_state()), members);
        let spoils: [fn(&mut Members); 4] = [
            |members| members.voters.clear(),
            |members| members.learners.extend([2]),
            |members| members.learners_next.extend([9]),
            |members| members.outgoing.clear(),
        ];
        for spoil in spoils {
            let mut spoilt = members.clone();
            spoil(&mut spoilt);
            assert!(Members::decode(&spoilt.encode()).is_err(), "{spoilt:?}");
        }
    }

    #[test]
    fn a_change_is_checked_before_it_is_proposed() {
        let mut members = Members::new(&[1, 2, 3]).unwrap();
        members.learners.insert(4);
        let change = |learners: &[u64], voters: &[u64], removed: &[u64]| {
            let change = MemberChange { learners: learners.into(), voters: voters.into(), removed: removed.into() };
            members.plan(&change).map(|plan| plan.changes.len())
        };
        assert_eq!(change(&[5], &[], &[]), Ok(1));
        assert_eq!(change(&[5], &[4], &[1]), Ok(3));
        assert_eq!(change(&[1], &[], &[]), Ok(1));
        for (wrong, what) in [
            (change(&[], &[], &[]), "nothing"),
            (change(&[], &[5], &[]), "must be a learner"),
            (change(&[], &[1], &[]), "must be a learner"),
            (change(&[4], &[], &[]), "learner already"),
            (change(&[], &[], &[9]), "not a member"),
            (change(&[4], &[4], &[]), "learner already"),
            (change(&[], &[4], &[4]), "named twice"),
            (change(&[], &[], &[1, 2, 3]), "voting member"),
            (change(&[0], &[], &[]), "must not be 0"),
        ] {
            let Err(ProposeError::Members(said)) = wrong else { panic!("{what}: {wrong:?}") };
            assert!(said.contains(what), "{said}");
        }
        members.outgoing.insert(1);
        assert!(members.plan(&MemberChange { learners: vec![5], ..MemberChange::default() }).is_err());
    }
}
