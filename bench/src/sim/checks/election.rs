//! Election safety: a term has one leader (Ongaro, section 3.2).

use super::{Verdict, hold};
use std::collections::BTreeMap;

/// Leaders by term.
#[derive(Debug, Default)]
pub struct Election(BTreeMap<u64, u64>);

impl Election {
    /// A node claims to lead a term.
    ///
    /// # Errors
    /// Another node led it.
    pub fn claimed(&mut self, node: u64, term: u64) -> Verdict {
        let leader = *self.0.entry(term).or_insert(node);
        hold("election safety", leader == node, || format!("nodes {leader} and {node} both lead term {term}"))
    }

    /// Terms that had a leader.
    pub fn elections(&self) -> u64 {
        self.0.len() as u64
    }
}
