//! Whose key signs for an account, and where its earnings go.
//!
//! A key that was replaced is dead from the next command on, the same envelope's included, and stays in the table of keys
//! for good: it is never anybody's again. An account keeps its id, which its first key gave it, and its machines keep
//! their keys.

use crate::{
    accounts::AccountRole,
    command::{RecoverAccount, RotateKey, SetPayout},
    context::Context,
    ids::{AccountId, Key},
    invariants::ensure,
    limits,
    outcome::{Detail, Outcome, Refusal},
    state::{KeyOwner, State},
};
use serde::{Deserialize, Serialize};

/// Times that an account may change its key, by either way: each leaves a row.
pub const KEY_CHANGES_MAX: u32 = 1_024;
/// Length of an ed25519 signature.
const SIGNATURE_BYTES: usize = 64;

/// How often an account changed its key. Counted apart, so that whoever stole a key cannot use up the recoveries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyChanges {
    rotated: u32,
    recovered: u32,
    /// The recovery key that recovered the account last.
    recovered_by: Option<Key>,
}

/// The present key names the next one.
pub(crate) fn rotate(state: &mut State, ctx: &mut Context, account: AccountId, cmd: &RotateKey) -> Outcome {
    let changes = state.key_changes.get(&account).copied().unwrap_or_default();
    if let Err(refusal) = check_new(state, account, &cmd.new_key, &cmd.possession, changes.rotated) {
        return refusal.into();
    }
    state.key_changes.insert(account, KeyChanges { rotated: changes.rotated.saturating_add(1), ..changes });
    replace(state, account, cmd.new_key);
    ctx.event("account.rotated", account, format!("Account {account} has another key."));
    Outcome::DONE
}

/// The recovery key names the account's next key, and perhaps its own successor. It is done at once and the present key
/// cannot object: see docs/decisions/0021.
pub(crate) fn recover(state: &mut State, ctx: &mut Context, cmd: &RecoverAccount) -> Outcome {
    match may_recover(state, &ctx.key, cmd) {
        Ok(Recovery::Now) => {}
        Ok(Recovery::Done) => return Outcome::DONE,
        Err(refusal) => return refusal.into(),
    }
    let changes = state.key_changes.get(&cmd.account).copied().unwrap_or_default();
    let recovered = changes.recovered.saturating_add(1);
    state.key_changes.insert(cmd.account, KeyChanges { recovered, recovered_by: Some(ctx.key), ..changes });
    replace(state, cmd.account, cmd.new_key);
    if let (Some(key), Some(row)) = (cmd.recovery_key, state.accounts.get_mut(&cmd.account)) {
        row.recovery_key = Some(Box::new(key));
    }
    ctx.event("account.recovered", cmd.account, format!("Account {} was recovered.", cmd.account));
    Outcome::DONE
}

/// What a recovery that is not refused is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// The account gets the key.
    Now,
    /// It has it already.
    Done,
}

/// Whether a recovery key may do this now.
///
/// # Errors
/// `unknown_account`, `not_recovery_key`, and what is wrong with the new keys.
pub(crate) fn may_recover(state: &State, key: &Key, cmd: &RecoverAccount) -> Result<Recovery, Refusal> {
    let row = state.accounts.get(&cmd.account).ok_or(Refusal::UnknownAccount)?;
    let changes = state.key_changes.get(&cmd.account).copied().unwrap_or_default();
    // A recovery key that has no account is not remembered: it may say again what was done, also when it named its successor.
    let successor = cmd.recovery_key.unwrap_or(*key);
    if changes.recovered_by == Some(*key)
        && row.key == Some(cmd.new_key)
        && row.recovery_key.as_deref() == Some(&successor)
    {
        return Ok(Recovery::Done);
    }
    if row.recovery_key.as_deref() != Some(key) {
        return Err(Refusal::NotRecoveryKey);
    }
    check_new(state, cmd.account, &cmd.new_key, &cmd.possession, changes.recovered)?;
    if cmd.recovery_key == Some(cmd.new_key) { Err(Refusal::BadKey) } else { Ok(Recovery::Now) }
}

/// Has another account paid what this one's machines earn from now on; none: itself.
pub(crate) fn set_payout(state: &mut State, ctx: &mut Context, account: AccountId, cmd: &SetPayout) -> Outcome {
    match cmd.to {
        None => {
            state.payouts.remove(&account);
            ctx.event("account.payout", account, format!("Account {account} is paid itself."));
        }
        Some(to) if to == account => return Refusal::SelfTransfer.into(),
        Some(to) => match state.accounts.get(&to).map(|row| row.role) {
            None => return Refusal::UnknownAccount.into(),
            Some(AccountRole::System) => return Refusal::SystemAccount.into(),
            Some(AccountRole::User | AccountRole::Admin | AccountRole::Operator | AccountRole::Auditor) => {
                state.payouts.insert(account, to);
                ctx.event("account.payout", account, format!("What account {account} earns goes to {to}."));
            }
        },
    }
    Outcome::DONE
}

/// Who is paid what an account's machines earn. One step: an account that is paid another's earnings gets them itself.
pub(crate) fn payee(state: &State, owner: AccountId) -> AccountId {
    state.payouts.get(&owner).copied().unwrap_or(owner)
}

impl State {
    /// Where the earnings of an account's machines go, if not to itself.
    pub fn payout(&self, account: AccountId) -> Option<AccountId> {
        self.payouts.get(&account).copied()
    }
}

/// A new key is nobody's and never was, and gives no account its id: whoever pays that account's id would mean its owner.
fn check_new(state: &State, account: AccountId, new_key: &Key, possession: &[u8], changed: u32) -> Result<(), Refusal> {
    // That it is the key's is checked at the edge and by auditors.
    if possession.len() != SIGNATURE_BYTES {
        return Err(Refusal::Malformed(Detail::new("possession must be 64 bytes")));
    }
    let own_id = AccountId::of_key(&state.cluster_id, new_key);
    if state.keys.contains(new_key) || state.accounts.find(&own_id).is_some() {
        return Err(Refusal::KeyInUse);
    }
    let row = state.accounts.get(&account).ok_or(Refusal::UnknownAccount)?;
    if row.recovery_key.as_deref() == Some(new_key) {
        return Err(Refusal::BadKey);
    }
    if changed >= KEY_CHANGES_MAX { Err(Refusal::TooManyKeys) } else { Ok(()) }
}

fn replace(state: &mut State, account: AccountId, new_key: Key) {
    let place = state.accounts.find(&account).expect("the caller has looked the account up");
    let row = state.accounts.at_mut(place).expect("the caller has looked the account up");
    if let Some(old) = row.key.replace(new_key) {
        state.keys.insert(old, KeyOwner::Retired(account));
        limits::rotated(state, &old, new_key);
    }
    state.keys.insert(new_key, KeyOwner::Account(account, place));
}

/// As many keys are retired as were replaced, and payouts go to accounts.
pub(crate) fn check(state: &State) -> Result<(), String> {
    let retired = state.keys.iter().filter(|(_, owner)| matches!(owner, KeyOwner::Retired(_))).count() as u64;
    let changed = state.key_changes.iter().fold(0_u64, |sum, (_, changes)| {
        sum.saturating_add(changes.rotated.into()).saturating_add(changes.recovered.into())
    });
    ensure(retired == changed, || format!("{retired} keys are retired, {changed} were replaced"))?;
    let known = state.payouts.iter().all(|(from, to)| from != to && state.accounts.find(to).is_some());
    ensure(known, || "earnings go to nobody".to_owned())
}
