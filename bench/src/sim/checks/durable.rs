//! Acknowledged is durable: what a client was told is what the log says, at that index, for ever. That the log itself
//! keeps it is checked by log matching and by convergence after healing.

use super::{Verdict, hold, roots::Roots};
use matrixai_state::{
    Outcome,
    ids::{CommandId, Key},
};

const NAME: &str = "acknowledged is durable";

/// What was acknowledged.
#[derive(Debug, Default)]
pub struct Durable {
    /// Highest index that any client was told.
    highest: u64,
    acknowledged: u64,
}

impl Durable {
    /// A client was told the outcomes of an envelope.
    ///
    /// # Errors
    /// The log says something else.
    pub fn told(&mut self, roots: &Roots, key: Key, id: CommandId, index: u64, outcomes: &[Outcome]) -> Verdict {
        self.highest = self.highest.max(index);
        self.acknowledged += 1;
        let results = roots.at(index).map(|applied| applied.results.as_slice()).unwrap_or_default();
        // The entry that decided it; a later copy in the same entry repeats it.
        let of = results.iter().find(|result| result.key == key && result.command_id == id);
        hold(NAME, of.is_some_and(|result| *result.outcomes == *outcomes), || {
            format!("a client was told that entry {index} decided {outcomes:?}; the log says {of:?}")
        })
    }

    /// All is healed: every node has applied up to here.
    ///
    /// # Errors
    /// Something acknowledged lies beyond.
    pub fn kept(&self, last: u64) -> Verdict {
        hold(NAME, self.highest <= last, || format!("entry {} was acknowledged, the log ends at {last}", self.highest))
    }

    /// Envelopes whose outcome a client knows.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }
}
