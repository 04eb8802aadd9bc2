//! Clients' histories are linearizable: for each account alone there is an order of what touched it, consistent with
//! time, that explains every answer. Linearizability is local, so accounts are checked one by one.
//!
//! The accounts checked are the tellers': only clients' transfers move their money. Towards one account a transfer is a
//! credit or a debit. What nobody was answered is *unknown*: it may have happened at any later time, or never.

mod reads;
mod subset;
#[cfg(test)]
mod tests;
mod wgl;

pub use wgl::search;

use super::{Verdict, Violation, roots::Roots};
use matrixai_state::ids::{AccountId, CommandId, Key};
use std::collections::BTreeMap;

/// Steps of the search for one account; a history that needs more stays undecided.
const STEPS_MAX: u64 = 300_000;

/// What an operation does to one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    /// Money comes in.
    Credit(u128),
    /// Money goes out; needs as much.
    Debit(u128),
    /// A debit was refused for lack of money.
    TooMuch(u128),
    /// A linearizable read saw this balance.
    Read(u128),
}

/// One operation on one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op {
    /// When it was asked for. Times are unique.
    pub call: u64,
    /// When it was answered; none while unknown.
    pub answer: Option<u64>,
    /// What.
    pub does: Does,
    /// Where to try it first; see [`search`].
    pub hint: u64,
}

impl Op {
    /// What it changes, minor units.
    fn change(&self) -> i128 {
        match self.does {
            Does::Credit(amount) => units(amount),
            Does::Debit(amount) => -units(amount),
            Does::TooMuch(_) | Does::Read(_) => 0,
        }
    }
}

/// Money as a difference; the ledger holds less than 2^127 minor units.
fn units(amount: u128) -> i128 {
    i128::try_from(amount).unwrap_or(i128::MAX)
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// An order that explains everything.
    Order,
    /// There is none.
    None {
        /// Most operations that could be ordered until this was clear.
        explained: usize,
        /// An answer that could not be explained then.
        stuck: Option<Op>,
    },
    /// The search was given up.
    Undecided,
}

/// Every account's operations.
#[derive(Debug, Default)]
pub struct Histories {
    accounts: BTreeMap<AccountId, (u128, Vec<Op>)>,
    /// Envelopes of the unknown, by the time they were asked for.
    unknown: BTreeMap<u64, (Key, CommandId)>,
    /// Accounts whose histories were too hard to decide.
    pub undecided: u64,
    /// Operations checked.
    pub operations: u64,
}

impl Histories {
    /// An account is watched from now on, with this balance.
    pub fn watch(&mut self, account: AccountId, balance: u128) {
        self.accounts.insert(account, (balance, Vec::new()));
    }

    /// Whether an account is watched.
    pub fn watches(&self, account: &AccountId) -> bool {
        self.accounts.contains_key(account)
    }

    /// An operation ended, or was given up.
    pub fn add(&mut self, account: AccountId, op: Op) {
        if let Some((_, ops)) = self.accounts.get_mut(&account) {
            ops.push(op);
        }
    }

    /// The envelope of an operation asked for at `call` was never answered.
    pub fn forgotten(&mut self, call: u64, envelope: (Key, CommandId)) {
        self.unknown.insert(call, envelope);
    }

    /// Checks every account. The log only tells where to look for the unknown first.
    ///
    /// # Errors
    /// The first account whose answers no order explains.
    pub fn check(&mut self, log: &Roots) -> Verdict {
        let places = log.places();
        for (_, ops) in self.accounts.values_mut() {
            for op in ops.iter_mut().filter(|op| op.answer.is_none()) {
                let envelope = self.unknown.get(&op.call);
                op.hint = envelope.and_then(|envelope| places.get(envelope)).copied().unwrap_or(u64::MAX);
            }
        }
        for (account, (start, ops)) in &self.accounts {
            self.operations += ops.len() as u64;
            match decide(*start, ops, STEPS_MAX) {
                Found::Order => {}
                Found::Undecided => self.undecided += 1,
                Found::None { explained, stuck } => {
                    let story = format!(
                        "no order explains what clients were told about account {account}: {explained} of {} operations \
                         can be ordered, not {stuck:?}",
                        ops.len()
                    );
                    return Err(Violation { invariant: "linearizable", story });
                }
            }
        }
        Ok(())
    }
}

/// Whether an order explains everything; when the search for one does not end, at least whether one explains the reads.
fn decide(start: u128, ops: &[Op], steps_max: u64) -> Found {
    match search(start, ops, steps_max) {
        Found::Undecided => match reads::search(start, ops, steps_max) {
            Found::Order => Found::Undecided,
            found => found,
        },
        found => found,
    }
}
