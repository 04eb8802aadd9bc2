//! Accounts: who can hold money. Opening one is the only thing a stranger's key may do.

pub mod keys;

use crate::{
    command::CreateAccount,
    context::Context,
    ids::{AccountId, Key},
    money::Money,
    outcome::{Outcome, Refusal},
    registry::Record,
    state::{KeyOwner, State},
};
use serde::{Deserialize, Serialize};

/// What an account may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccountRole {
    /// Owns money and machines, submits jobs.
    User,
    /// May also propose and approve: see `admin/rights.rs`.
    Admin,
    /// One of [`AccountId::SYSTEM`]: nobody's key moves its money.
    System,
    /// May also propose what keeps the network running.
    Operator,
    /// Has no machines and no jobs: people may rely on its independence.
    Auditor,
}

impl AccountRole {
    /// The wire's role; a system account shows its name instead.
    pub const fn as_str(self) -> &'static str {
        match self {
            AccountRole::User => "user",
            AccountRole::Admin => "admin",
            AccountRole::System => "system",
            AccountRole::Operator => "operator",
            AccountRole::Auditor => "auditor",
        }
    }
}

/// An account. Its fields stand so that a movement of money needs one line of the processor's caches and a row has two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[repr(C, align(64))]
pub struct AccountRow {
    /// Free money.
    pub balance: Money,
    /// Money on hold: for its jobs, and for other accounts.
    pub held: Money,
    /// Its id.
    pub id: AccountId,
    /// What it may do.
    pub role: AccountRole,
    /// By this a place without a row is told from one with a row, without a look at the second line.
    here: Here,
    /// Its offers and jobs that are not closed.
    pub open: u32,
    /// Its open holds for other accounts.
    pub holds: u32,
    /// Machines it ever enrolled.
    pub machines: u32,
    /// Ledger time of its opening, ms.
    pub created_ms: u64,
    /// Its current key; none for the system's accounts, and for one that was paid for and not yet taken over.
    pub key: Option<Key>,
    /// A second key that may recover it: few have one.
    pub recovery_key: Option<Box<Key>>,
}

/// A byte with one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
enum Here {
    Yes = 1,
}

impl Record for AccountRow {
    type Key = AccountId;
    type Value = Self;

    fn of(_: AccountId, row: Self) -> Self {
        row
    }

    fn key(&self) -> &AccountId {
        &self.id
    }

    fn value(&self) -> &Self {
        self
    }

    fn value_mut(&mut self) -> &mut Self {
        self
    }
}

impl AccountRow {
    /// An empty account.
    pub(crate) fn new(id: AccountId, key: Option<Key>, role: AccountRole, created_ms: u64) -> Self {
        Self {
            balance: Money::ZERO,
            held: Money::ZERO,
            id,
            role,
            here: Here::Yes,
            open: 0,
            holds: 0,
            machines: 0,
            created_ms,
            key,
            recovery_key: None,
        }
    }

    /// The wire's role: "user", "admin", "operator", "auditor", or the system account's name.
    pub fn role_name(&self) -> &'static str {
        AccountId::SYSTEM.iter().find(|(id, _)| *id == self.id).map_or(self.role.as_str(), |(_, name)| name)
    }
}

/// Opens the account of the signing key, or takes it over if somebody has paid for it. Where accounts must keep a
/// minimum, that is the only way in: a stranger has nothing to keep.
pub(crate) fn create(state: &mut State, ctx: &mut Context, cmd: &CreateAccount) -> Outcome {
    if let Err(refusal) = may_open(state, &ctx.key, cmd) {
        return refusal.into();
    }
    let id = AccountId::of_key(&state.cluster_id, &ctx.key);
    let recovery_key = cmd.recovery_key.map(Box::new);
    match state.accounts.get_mut(&id) {
        Some(row) => (row.key, row.recovery_key) = (Some(ctx.key), recovery_key),
        None => {
            let mut row = AccountRow::new(id, Some(ctx.key), AccountRole::User, ctx.now_ms);
            row.recovery_key = recovery_key;
            state.accounts.insert(id, row);
        }
    }
    let place = state.accounts.find(&id).expect("it has a row now");
    state.keys.insert(ctx.key, KeyOwner::Account(id, place));
    ctx.event("account.created", id, format!("Account {id} was opened."));
    Outcome::made(id)
}

/// Whether a key may open its account now; answers whether somebody has paid for it.
///
/// # Errors
/// `account_exists`, `bad_key`, `account_unfunded`.
pub(crate) fn may_open(state: &State, key: &Key, cmd: &CreateAccount) -> Result<bool, Refusal> {
    if state.keys.contains(key) {
        return Err(Refusal::AccountExists);
    }
    if cmd.recovery_key == Some(*key) {
        return Err(Refusal::BadKey);
    }
    let funded = state.accounts.find(&AccountId::of_key(&state.cluster_id, key)).is_some();
    if funded || state.policy.minimum_balance.is_zero() { Ok(funded) } else { Err(Refusal::AccountUnfunded) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_two_lines() {
        assert_eq!((size_of::<AccountRow>(), size_of::<Option<AccountRow>>()), (128, 128));
        assert!(std::mem::offset_of!(AccountRow, machines) == 64, "what a transfer needs is in the first");
    }
}
