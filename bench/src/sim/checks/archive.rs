//! Every entry is kept: it is in a node's log or in a sealed segment on its disk, unless the node was given a snapshot that
//! holds it; segments of one epoch are equal everywhere; and in the end they hold the very entries that were applied.

use super::{Verdict, hold, log::Log};
use matrixai_coordinator::archive::{Entry, Head, Segment, Shelf};
use matrixai_state::ids::Hash;
use std::collections::BTreeMap;

const NAME: &str = "every entry is kept";

/// What was sealed.
#[derive(Debug, Default)]
pub struct Archives {
    /// Where each epoch ended, and the hash of its segment.
    epochs: BTreeMap<u64, (u64, Hash)>,
    /// The newest entry that each node was given within a snapshot, or by skipping to an attested epoch.
    given: BTreeMap<u64, u64>,
    /// Segments sealed on all nodes.
    pub sealed: u64,
}

impl Archives {
    /// A node sealed a segment.
    ///
    /// # Errors
    /// Another node's is different.
    pub fn sealed(&mut self, node: u64, segment: &Segment) -> Verdict {
        let Head { epoch, index, hash } = segment.sealed.head;
        self.sealed += 1;
        let known = *self.epochs.entry(epoch).or_insert((index, hash));
        hold(NAME, known == (index, hash), || format!("node {node} has another segment of epoch {epoch} than others"))
    }

    /// A node was given a snapshot of this index: it has no log from before.
    pub fn given(&mut self, node: u64, index: u64) {
        let given = self.given.entry(node).or_default();
        *given = index.max(*given);
    }

    /// A node lost its disk.
    pub fn forget(&mut self, node: u64) {
        self.given.remove(&node);
    }

    /// A node's log begins with entry `first`, and its archive ends with `head`.
    ///
    /// # Errors
    /// There is a gap between them.
    pub fn fits(&self, node: u64, head: Head, first: u64) -> Verdict {
        let given = self.given.get(&node).copied().unwrap_or(0);
        hold(NAME, first <= head.index.max(given) + 1, || {
            format!("the log of node {node} begins with entry {first}, its archive ends with entry {}", head.index)
        })
    }

    /// All is healed: a node's segments hold what was applied.
    ///
    /// # Errors
    /// The first entry that is not what it was, or a segment that cannot be read.
    pub fn holds(&self, node: u64, shelf: &Shelf, log: &Log) -> Verdict {
        let mut epoch = 0;
        while let Some(segment) = shelf.after(epoch) {
            epoch = segment.epoch();
            for entry in shelf.entries(&segment) {
                let whole = matches!(&entry, Ok(Entry { index, term, data }) if log.holds(*index, *term, data));
                hold(NAME, whole, || format!("segment {epoch} of node {node} is not what was applied: {entry:?}"))?;
            }
        }
        Ok(())
    }
}
