//! Whom a coordinator listens to: those that its own state names, and until the state has them those that it was told of
//! when it joined. Nobody's word counts for more: a newcomer that this coordinator has not read of in its log stays a
//! stranger, however many vouch for it (`docs/decisions/0015-strangers-are-introduced.md`).

use matrixai_consensus::Members;
use matrixai_state::{State, ids::NodeId, nodes::Standing};

/// Why a coordinator is not listened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAdmitted {
    /// No coordinator of this number is known here. Numbers count up and none is left out, so whoever has one up to `knows`
    /// and is in the cluster now is known.
    Stranger {
        /// The highest number that is known.
        knows: u64,
    },
    /// It has left the cluster.
    Removed,
    /// The coordinator of this number has another key.
    Impostor,
}

/// Whether the coordinator of this number is listened to by one with this state, among these members of raft, that was told of
/// these others when it joined.
///
/// # Errors
/// [`NotAdmitted`], but never that it is an impostor: that is for whoever knows the key.
pub fn admit(state: &State, members: &Members, told: impl Iterator<Item = u64>, id: u64) -> Result<(), NotAdmitted> {
    match state.node(NodeId(id)) {
        Some(row) if row.standing == Standing::Removed && !members.contains(id) => Err(NotAdmitted::Removed),
        Some(_) => Ok(()),
        None => {
            let newest = state.nodes().next_back().map_or(0, |row| row.id.0);
            let (mut known, mut knows) = (false, newest);
            for other in told {
                known |= other == id;
                knows = knows.max(other);
            }
            if known { Ok(()) } else { Err(NotAdmitted::Stranger { knows }) }
        }
    }
}
