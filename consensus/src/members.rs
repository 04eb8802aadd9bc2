//! Who votes. Membership is fixed when a store is created; what changes it later (learners first, then joint
//! consensus) will live here, and until then entries that would change it are refused on arrival.

use raft::eraftpb::ConfState;

use crate::error::Error;

/// Most members a cluster may have; a quorum of more is slower, not safer.
pub(crate) const MEMBERS_MAX: usize = 64;

/// The voting members of a cluster, ascending and without doubles.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Members(Vec<u64>);

impl Members {
    /// Members from ids in any order.
    ///
    /// # Errors
    /// [`Error::Config`] for the id 0, an id named twice, or more than 64 ids.
    pub fn new(ids: &[u64]) -> Result<Self, Error> {
        let mut sorted = ids.to_vec();
        sorted.sort_unstable();
        if sorted.first() == Some(&0) {
            return Err(Error::Config("a member's id must not be 0".to_owned()));
        }
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::Config(format!("member {} is named twice", pair[0])));
        }
        if sorted.len() > MEMBERS_MAX {
            return Err(Error::Config(format!("{} members are over the limit of {MEMBERS_MAX}", sorted.len())));
        }
        Ok(Self(sorted))
    }

    /// The members' ids, ascending.
    pub fn ids(&self) -> &[u64] {
        &self.0
    }

    /// Whether `id` is a member.
    pub fn contains(&self, id: u64) -> bool {
        self.0.binary_search(&id).is_ok()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn of_conf_state(state: &ConfState) -> Self {
        let mut ids = state.voters.clone();
        ids.sort_unstable();
        Self(ids)
    }

    pub(crate) fn to_conf_state(&self) -> ConfState {
        ConfState { voters: self.0.clone(), ..ConfState::default() }
    }
}

impl std::fmt::Display for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ids_are_sorted_and_checked() {
        assert_eq!(Members::new(&[3, 1, 2]).unwrap().to_string(), "[1, 2, 3]");
        assert!(Members::new(&[1, 1]).is_err());
        assert!(Members::new(&[0, 1]).is_err());
        assert!(Members::new(&(1..=65).collect::<Vec<_>>()).is_err());
    }
}
