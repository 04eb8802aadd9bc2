//! State roots equal: replicas that applied the same entry had the same effects, and the same root at every close of an
//! epoch and at the end.

use super::{Seen, Verdict, hold};
use matrixai_state::{
    Applied, Outcome,
    effect::EnvelopeResult,
    ids::{CommandId, Hash, Key},
};
use std::collections::BTreeMap;

const NAME: &str = "state roots equal";

/// Envelopes of an entry fit in so many bits.
const PLACE_BITS: u32 = 14;

/// A place in the log as one number.
pub fn place(index: u64, at: u64) -> u64 {
    index << PLACE_BITS | at.min((1 << PLACE_BITS) - 1)
}

/// What applying left, by index; roots by epoch.
#[derive(Debug, Default)]
pub struct Roots {
    applied: Vec<Applied>,
    epochs: BTreeMap<u64, Hash>,
}

impl Roots {
    /// The next entry was applied for the first time.
    pub fn applied_first(&mut self, applied: &Applied) {
        self.applied.push(applied.clone());
    }

    /// An entry was applied again.
    ///
    /// # Errors
    /// It left something else than before.
    pub fn applied_again(&mut self, seen: Seen<'_>) -> Verdict {
        let known = &self.applied[seen.entry.index as usize - 1];
        hold(NAME, known == seen.applied, || {
            let (left, right) = (&known.results, &seen.applied.results);
            let differs = left.iter().zip(right).find(|(left, right)| left != right);
            format!("entry {} had other effects on node {}: {differs:?}", seen.entry.index, seen.node)
        })
    }

    /// What the entry of an index left.
    pub fn at(&self, index: u64) -> Option<&Applied> {
        self.applied.get(usize::try_from(index.checked_sub(1)?).ok()?)
    }

    /// Where each envelope was done: the entry's index, and the place in it.
    pub fn places(&self) -> BTreeMap<(Key, CommandId), u64> {
        let mut places = BTreeMap::new();
        for (index, applied) in (1..).zip(&self.applied) {
            let done = |result: &&EnvelopeResult| matches!(result.outcomes.last(), Some(Outcome::Done { .. }));
            for (at, result) in (0..).zip(&applied.results).filter(|(_, result)| done(result)) {
                places.entry((result.key, result.command_id)).or_insert(place(index, at));
            }
        }
        places
    }

    /// The place of an envelope in the log, for the search of an order.
    pub fn place_of(&self, index: u64, envelope: &(Key, CommandId)) -> u64 {
        let results = self.at(index).map(|applied| applied.results.as_slice()).unwrap_or_default();
        let at = results.iter().position(|result| (result.key, result.command_id) == *envelope);
        place(index, at.map_or(0, |at| at as u64))
    }

    /// A node computed an epoch's root.
    ///
    /// # Errors
    /// Others computed another.
    pub fn computed(&mut self, node: u64, epoch: u64, root: Hash) -> Verdict {
        let known = *self.epochs.entry(epoch).or_insert(root);
        hold(NAME, known == root, || format!("node {node} has another root for epoch {epoch}"))
    }

    /// Roots of all nodes at the end.
    ///
    /// # Errors
    /// Two differ.
    pub fn at_end(&self, roots: &[(u64, Hash)]) -> Verdict {
        let differs = roots.windows(2).find(|pair| pair[0].1 != pair[1].1);
        hold(NAME, differs.is_none(), || format!("at the end the roots differ: {differs:?}"))
    }
}
