//! What must never happen, one file per invariant. Each checker sees the world from outside: what nodes apply, claim and
//! answer; none asks the code under test whether all is well, except [`money`], which also runs the state's own invariants.

pub mod archive;
pub mod durable;
pub mod election;
pub mod keys;
pub mod lease;
pub mod linear;
pub mod log;
pub mod money;
pub mod pay;
pub mod reads;
pub mod roots;
pub mod time;

use super::entries::Said;
use matrixai_consensus::Committed;
use matrixai_state::{Applied, State};

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// How it is known.
    pub story: String,
}

/// Whether all is well.
pub type Verdict = Result<(), Violation>;

/// Holds, or tells the story.
///
/// # Errors
/// The violation, if it does not hold.
pub fn hold(invariant: &'static str, holds: bool, story: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Violation { invariant, story: story() }) }
}

/// One entry as one node applied it.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// By whom.
    pub node: u64,
    /// The entry.
    pub entry: &'a Committed,
    /// What it left.
    pub applied: &'a Applied,
}

/// An entry that nobody had applied before.
#[derive(Debug, Clone, Copy)]
pub struct First<'a> {
    /// The entry.
    pub seen: Seen<'a>,
    /// The state before it.
    pub before: &'a State,
    /// The state after it.
    pub after: &'a State,
}

/// Every checker that watches entries.
#[derive(Debug, Default)]
pub struct Checks {
    /// One leader a term.
    pub election: election::Election,
    /// One entry an index; also the record of all entries.
    pub log: log::Log,
    /// Equal effects and roots.
    pub roots: roots::Roots,
    /// Ledger time.
    pub time: time::Time,
    /// Nothing made of nothing.
    pub money: money::Money,
    /// Nothing paid twice.
    pub pay: pay::Pay,
    /// A replaced key is dead.
    pub keys: keys::Keys,
    /// Only the holder of a lease reports under it.
    pub lease: lease::Lease,
    /// Nothing acknowledged is lost.
    pub durable: durable::Durable,
    /// Reads are new enough.
    pub reads: reads::Told,
    /// Nothing of the log is lost.
    pub archive: archive::Archives,
    /// What clients saw is one order.
    pub linear: linear::Histories,
}

impl Checks {
    /// An entry was applied that nobody had applied before; `said` tells what is in it.
    ///
    /// # Errors
    /// The first violation.
    pub fn applied_first(&mut self, first: First<'_>, true_ms: u64, said: &[Said]) -> Verdict {
        self.log.applied(first.seen)?;
        self.roots.applied_first(first.seen.applied);
        self.time.applied(first, true_ms)?;
        self.money.applied(first)?;
        self.pay.applied(first)?;
        self.keys.applied(first, said)?;
        self.lease.applied(first, said)
    }

    /// An entry was applied that somebody had applied before.
    ///
    /// # Errors
    /// It is another one, or left something else.
    pub fn applied_again(&mut self, seen: Seen<'_>) -> Verdict {
        self.log.applied(seen)?;
        self.roots.applied_again(seen)
    }
}
