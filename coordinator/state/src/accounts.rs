//! Accounts: who can hold money. Opening one is the only thing a stranger's key may do.

use crate::{
    command::CreateAccount,
    context::Context,
    ids::{AccountId, Key},
    money::Money,
    outcome::{Outcome, Refusal},
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

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRow {
    /// Its id.
    pub id: AccountId,
    /// Its current key; none for the system's accounts, and for one that was paid for and not yet taken over.
    pub key: Option<Key>,
    /// A second key that may recover it.
    pub recovery_key: Option<Key>,
    /// What it may do.
    pub role: AccountRole,
    /// Free money.
    pub balance: Money,
    /// Money on hold: for its jobs, and for other accounts.
    pub held: Money,
    /// Machines it ever enrolled.
    pub machines: u32,
    /// Its offers and jobs that are not closed.
    pub open: u32,
    /// Its open holds for other accounts.
    pub holds: u32,
    /// Ledger time of its opening, ms.
    pub created_ms: u64,
}

impl AccountRow {
    /// An empty account.
    pub(crate) fn new(id: AccountId, key: Option<Key>, role: AccountRole, created_ms: u64) -> Self {
        Self {
            id,
            key,
            recovery_key: None,
            role,
            balance: Money::ZERO,
            held: Money::ZERO,
            machines: 0,
            open: 0,
            holds: 0,
            created_ms,
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
    if state.keys.contains(&ctx.key) {
        return Refusal::AccountExists.into();
    }
    if cmd.recovery_key == Some(ctx.key) {
        return Refusal::BadKey.into();
    }
    let id = AccountId::of_key(&state.cluster_id, &ctx.key);
    match state.accounts.get_mut(&id) {
        Some(row) => (row.key, row.recovery_key) = (Some(ctx.key), cmd.recovery_key),
        None if !state.policy.minimum_balance.is_zero() => return Refusal::AccountUnfunded.into(),
        None => {
            let mut row = AccountRow::new(id, Some(ctx.key), AccountRole::User, ctx.now_ms);
            row.recovery_key = cmd.recovery_key;
            state.accounts.insert(id, row);
        }
    }
    state.keys.insert(ctx.key, KeyOwner::Account(id));
    ctx.event("account.created", id, format!("Account {id} was opened."));
    Outcome::made(id)
}
