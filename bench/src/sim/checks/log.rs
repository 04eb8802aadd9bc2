//! Log matching: an index holds one entry, whoever applies it and however often it restarts (Ongaro, section 3.2), and
//! changes the members alike everywhere; each life of a node applies indices without gaps.

use super::{Seen, Verdict, hold};
use matrixai_consensus::Members;
use matrixai_protocol::{Hash, sha256};
use std::collections::BTreeMap;

const NAME: &str = "log matching";

/// Every entry that was applied anywhere.
#[derive(Debug, Default)]
pub struct Log {
    entries: Vec<(u64, Hash)>,
    /// The members behind each entry that changed them.
    members: BTreeMap<u64, Members>,
    /// The next index of each living node.
    next: BTreeMap<u64, u64>,
}

impl Log {
    /// A node starts a life with the state at this index.
    pub fn started(&mut self, node: u64, index: u64) {
        self.next.insert(node, index + 1);
    }

    /// A node replaced its state by a snapshot's, of this index.
    ///
    /// # Errors
    /// Nobody has applied so far, or the node goes back.
    pub fn restored(&mut self, node: u64, index: u64) -> Verdict {
        let next = self.next.insert(node, index + 1).unwrap_or(1);
        hold(NAME, index <= self.last(), || format!("node {node} restores {index}, which nobody has applied"))?;
        hold(NAME, index + 1 >= next, || format!("node {node} goes back from {next} to a snapshot of {index}"))
    }

    /// Newest index that was applied anywhere.
    pub fn last(&self) -> u64 {
        self.entries.len() as u64
    }

    /// An entry was applied.
    ///
    /// # Errors
    /// It is another than before, or out of turn.
    pub fn applied(&mut self, seen: Seen<'_>) -> Verdict {
        let (node, index) = (seen.node, seen.entry.index);
        let next = self.next.entry(node).or_insert(1);
        hold(NAME, *next == index, || format!("node {node} applied {index} where {next} was due"))?;
        *next += 1;
        let entry = (seen.entry.term, sha256(&[&seen.entry.data]));
        let at = index as usize - 1;
        match self.entries.get(at) {
            Some(known) => {
                hold(NAME, *known == entry, || {
                    format!(
                        "node {node} applied at {index} an entry of term {}, others one of term {}",
                        entry.0, known.0
                    )
                })?;
                let (known, members) = (self.members.get(&index), seen.entry.members.as_ref());
                hold(NAME, known == members, || {
                    format!("behind entry {index} node {node} has the members {members:?}, others {known:?}")
                })
            }
            None => {
                hold(NAME, at == self.entries.len(), || format!("nobody applied what comes before {index}"))?;
                self.entries.push(entry);
                self.members.extend(seen.entry.members.clone().map(|members| (index, members)));
                Ok(())
            }
        }
    }

    /// Whether this is the entry that was applied at an index.
    pub fn holds(&self, index: u64, term: u64, data: &[u8]) -> bool {
        let at = usize::try_from(index).ok().and_then(|index| index.checked_sub(1));
        at.and_then(|at| self.entries.get(at)) == Some(&(term, sha256(&[data])))
    }

    /// All is healed: these nodes must have applied the same.
    ///
    /// # Errors
    /// One lags behind.
    pub fn converged(&self, nodes: &[u64]) -> Verdict {
        for node in nodes {
            let applied = self.next.get(node).map_or(0, |next| next - 1);
            hold("convergence", applied == self.last(), || {
                format!("after healing node {node} has applied up to {applied}, others up to {}", self.last())
            })?;
        }
        Ok(())
    }
}
