//! The auditor's own books: every account's balance and hold from the movements alone, and their sum against what was ever
//! made and unmade. After each entry the sum, at an epoch's close every account and every invariant of the state.

use super::{Difference, What};
use matrixai_state::{Movement, State, ids::AccountId};
use std::collections::HashMap;

/// Accounts as their movements make them, minor units.
#[derive(Debug)]
pub struct Books {
    accounts: HashMap<AccountId, (i128, i128)>,
    total: i128,
    movements: Option<u64>,
    /// Commands up to the last comparison of every account.
    compared_at: u64,
}

impl Books {
    /// The books of a state that is the beginning.
    pub fn of(state: &State) -> Self {
        let row = |row: &matrixai_state::accounts::AccountRow| (signed(row.balance.units()), signed(row.held.units()));
        let accounts: HashMap<_, _> = state.accounts().map(|account| (account.id, row(account))).collect();
        let total = accounts.values().map(|(balance, held)| balance + held).sum();
        Self { accounts, total, movements: None, compared_at: 0 }
    }

    /// Books the movements of an entry.
    ///
    /// # Errors
    /// A movement that does not follow from the one before it, or a sum that is not minted − burned.
    pub fn entry(&mut self, index: u64, movements: &[Movement], state: &State) -> Result<(), Difference> {
        let differs = |expected: String, found: String| Err(Difference::entry(index, What::Money, expected, found));
        for movement in movements {
            if let Some(last) = self.movements
                && movement.sequence != last + 1
            {
                return differs(format!("movement {}", last + 1), format!("movement {}", movement.sequence));
            }
            self.movements = Some(movement.sequence);
            let (balance, held) = self.accounts.entry(movement.account).or_default();
            *balance += movement.balance_change;
            *held += movement.held_change;
            self.total += movement.balance_change + movement.held_change;
            let after = (signed(movement.balance.units()), signed(movement.held.units()));
            if (*balance, *held) != after || *balance < 0 || *held < 0 {
                let of = movement.account;
                return differs(
                    format!("{balance} and {held} on hold of account {of} after movement {}", movement.sequence),
                    format!("{} and {}", after.0, after.1),
                );
            }
        }
        let made = signed(state.minted().units()) - signed(state.burned().units());
        if self.total == made {
            return Ok(());
        }
        differs(format!("minted - burned = {made} as the sum of all accounts"), format!("{}", self.total))
    }

    /// As [`Books::whole`], when there were as many commands since the last time as there are accounts: so that a million
    /// accounts do not make each of a million short epochs cost a second.
    ///
    /// # Errors
    /// As [`Books::whole`].
    pub fn whole_if_due(&mut self, index: u64, commands: u64, state: &State) -> Result<(), Difference> {
        if commands.saturating_sub(self.compared_at) < self.accounts.len() as u64 {
            return Ok(());
        }
        self.compared_at = commands;
        self.whole(index, state)
    }

    /// Compares every account, and checks every invariant of the state.
    ///
    /// # Errors
    /// The first that differs.
    pub fn whole(&self, index: u64, state: &State) -> Result<(), Difference> {
        for row in state.accounts() {
            let booked = self.accounts.get(&row.id).copied().unwrap_or_default();
            if booked != (signed(row.balance.units()), signed(row.held.units())) {
                let expected = format!("{} and {} on hold of account {} by its movements", booked.0, booked.1, row.id);
                let found = format!("{} and {}", row.balance.units(), row.held.units());
                return Err(Difference::entry(index, What::Money, expected, found));
            }
        }
        state
            .check_invariants()
            .map_err(|found| Difference::entry(index, What::Invariant, "what must always hold", found))
    }
}

/// Amounts are far below 2^127 minor units.
fn signed(units: u128) -> i128 {
    i128::try_from(units).unwrap_or(i128::MAX)
}
