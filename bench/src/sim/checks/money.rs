//! Money conserved: the movements of every entry sum to what was minted and burned by it, and now and then the state's
//! own invariants are checked whole.

use super::{First, Verdict, hold};
use matrixai_state::State;

const NAME: &str = "money conserved";
/// Entries between two whole checks, which cost the whole state.
const WHOLE_EVERY: u64 = 1_000;

/// What moved so far.
#[derive(Debug, Default)]
pub struct Money {
    moved: i128,
    sequence: u64,
}

impl Money {
    /// A new entry was applied.
    ///
    /// # Errors
    /// Money appeared or vanished.
    pub fn applied(&mut self, first: First<'_>) -> Verdict {
        for movement in &first.seen.applied.movements {
            self.moved += movement.balance_change + movement.held_change;
            self.sequence += 1;
            let (wanted, found) = (self.sequence, movement.sequence);
            hold(NAME, wanted == found, || format!("movement {wanted} has the number {found}"))?;
        }
        let made = i128::try_from(first.after.minted().units()).unwrap_or(i128::MAX)
            - i128::try_from(first.after.burned().units()).unwrap_or(i128::MAX);
        let index = first.seen.entry.index;
        hold(NAME, self.moved == made, || {
            format!("after entry {index} movements sum to {}, not to {made}", self.moved)
        })?;
        if index.is_multiple_of(WHOLE_EVERY) { Self::whole(first.after) } else { Ok(()) }
    }

    /// Everything that a state promises about itself.
    ///
    /// # Errors
    /// The first promise that does not hold.
    pub fn whole(state: &State) -> Verdict {
        let broken = state.check_invariants();
        hold(NAME, broken.is_ok(), || format!("at {}: {broken:?}", state.index()))
    }
}
