//! Transfers in two phases: an account sets money aside for another one, which takes it, or a part of it, or lets it go.
//!
//! `hold` → (`post` | `void` | time). Only the account that a hold is for decides about it, so that it may rely on the
//! money until the hold lapses; the payer has its expiry. Whatever is not taken goes back in the same entry. A hold that is
//! over leaves no row: the statements of both sides tell what became of it, by its id.

use super::{Change, MEMO_BYTES_MAX, change_at};
use crate::{
    accounts::AccountRole,
    command::{HoldFunds, PostHold, VoidHold},
    context::{About, Context},
    effect::{Cause, Memo, Reference},
    expiry::Timer,
    ids::{AccountId, HoldId},
    invariants::ensure,
    money::Money,
    outcome::{Outcome, Refusal},
    registry::Place,
    state::State,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest life of a hold, seconds: 30 days.
pub const HOLD_S_MAX: u64 = 30 * 86_400;
/// Open holds of one payer.
pub const HOLDS_OPEN_MAX: u32 = 1_024;

/// A transfer whose second phase has not come yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldTransfer {
    /// Its id.
    pub id: HoldId,
    /// Whose money.
    pub payer: AccountId,
    /// Who decides about it.
    pub to: AccountId,
    /// What is on hold.
    pub amount: Money,
    /// Ledger time at which it goes back, ms.
    pub expires_ms: u64,
    /// Shown in both statements; may be empty.
    pub memo: Box<str>,
    /// Places of the rows of `payer` and `to`, which they keep.
    places: (Place, Place),
}

impl State {
    /// A transfer in its first phase.
    pub fn held_transfer(&self, id: HoldId) -> Option<&HeldTransfer> {
        self.held_transfers.get(&id)
    }

    /// All transfers in their first phase, in order of id.
    pub fn held_transfers(&self) -> impl Iterator<Item = &HeldTransfer> {
        self.held_transfers.iter().map(|(_, row)| row)
    }

    /// Holds that an account made or that are for it, in order of id, after one of them or from the first on.
    pub fn holds_of(&self, account: AccountId, after: Option<HoldId>) -> impl Iterator<Item = &HeldTransfer> {
        use std::ops::Bound::{Excluded, Included};
        let first = after.map_or(Included((account, HoldId([0; 20]))), |after| Excluded((account, after)));
        let last = Included((account, HoldId([0xff; 20])));
        self.holds_of.range((first, last)).filter_map(|((_, id), ())| self.held_transfers.get(id))
    }
}

/// Sets money aside.
pub(crate) fn hold(state: &mut State, ctx: &mut Context, payer: AccountId, cmd: HoldFunds) -> Outcome {
    let HoldFunds { to, amount, duration_s, memo } = cmd;
    if amount.is_zero() {
        return Refusal::ZeroAmount.into();
    }
    if memo.len() > MEMO_BYTES_MAX {
        return Refusal::MemoTooLong.into();
    }
    if to == payer {
        return Refusal::SelfTransfer.into();
    }
    let receivers = state.accounts.find(&to);
    match receivers.and_then(|place| state.accounts.at(place)).map(|row| row.role) {
        None => return Refusal::UnknownAccount.into(),
        Some(AccountRole::System) => return Refusal::SystemAccount.into(),
        Some(AccountRole::User | AccountRole::Admin | AccountRole::Operator | AccountRole::Auditor) => {}
    }
    if !(1..=HOLD_S_MAX).contains(&duration_s) {
        return Refusal::BadHoldDuration.into();
    }
    let minimum = state.policy.minimum_balance;
    let both = state.accounts.find(&payer).zip(receivers);
    let Some((places, row)) = both.and_then(|places| Some((places, state.accounts.at(places.0)?))) else {
        return Refusal::UnknownAccount.into();
    };
    if row.holds >= HOLDS_OPEN_MAX {
        return Refusal::TooManyHolds.into();
    }
    if row.balance.saturating_sub(minimum) < amount {
        return Refusal::InsufficientFunds.into();
    }
    let id = HoldId(ctx.new_id("hold"));
    let expires_ms = ctx.now_ms.saturating_add(duration_s.saturating_mul(1_000));
    let shared = Memo::of(&memo);
    let row = HeldTransfer { id, payer, to, amount, expires_ms, memo: memo.into(), places };
    if let Some(open) = state.held_transfers.insert(id, row) {
        // An id comes again when its envelope was forgotten: the one that is open stays.
        state.held_transfers.insert(id, open);
        return Refusal::IdReused.into();
    }
    change_at(state, ctx, places.0, Change::Hold(amount), about(Cause::HoldPlaced, to, id, shared.as_ref()));
    count(state, places.0, |open| open.saturating_add(1));
    state.timers.insert((expires_ms, Timer::Hold(id)), ());
    for account in [payer, to] {
        state.holds_of.insert((account, id), ());
    }
    Outcome::made(id)
}

/// Takes what is on hold, or a part of it; the rest goes back.
pub(crate) fn post(state: &mut State, ctx: &mut Context, account: AccountId, cmd: &PostHold) -> Outcome {
    let row = match decided_by(state, ctx, account, cmd.hold) {
        Ok(row) => row,
        Err(refusal) => return refusal.into(),
    };
    let amount = cmd.amount.unwrap_or(row.amount);
    if amount.is_zero() {
        return Refusal::ZeroAmount.into();
    }
    if amount > row.amount {
        return Refusal::HoldExceeded.into();
    }
    close(state, ctx, cmd.hold, amount, Cause::HoldVoided);
    Outcome::DONE
}

/// Lets a hold go.
pub(crate) fn void(state: &mut State, ctx: &mut Context, account: AccountId, cmd: &VoidHold) -> Outcome {
    if let Err(refusal) = decided_by(state, ctx, account, cmd.hold) {
        return refusal.into();
    }
    close(state, ctx, cmd.hold, Money::ZERO, Cause::HoldVoided);
    Outcome::DONE
}

/// A hold's time is over.
pub(crate) fn on_due(state: &mut State, ctx: &mut Context, hold: HoldId) {
    close(state, ctx, hold, Money::ZERO, Cause::HoldLapsed);
}

/// The hold, if this account may decide about it now. One whose time is over may still be there, since an entry gives only
/// so many back.
fn decided_by<'a>(
    state: &'a State,
    ctx: &Context,
    account: AccountId,
    hold: HoldId,
) -> Result<&'a HeldTransfer, Refusal> {
    let row = state.held_transfers.get(&hold).filter(|row| row.expires_ms > ctx.now_ms);
    let row = row.ok_or(Refusal::UnknownHold)?;
    if row.to == account { Ok(row) } else { Err(Refusal::NotYourHold) }
}

/// Ends a hold: pays `taken` out of it, which it must cover, and gives the rest back for the cause `back`.
fn close(state: &mut State, ctx: &mut Context, hold: HoldId, taken: Money, back: Cause) {
    let Some(row) = state.held_transfers.remove(&hold) else { return };
    let HeldTransfer { id, payer, to, amount, expires_ms, memo, places: (payers, receivers) } = row;
    state.timers.remove(&(expires_ms, Timer::Hold(id)));
    for account in [payer, to] {
        state.holds_of.remove(&(account, id));
    }
    count(state, payers, |open| open.checked_sub(1).expect("what is closed was counted when it was opened"));
    let memo = Memo::of(&memo);
    if !taken.is_zero() {
        let about = |other| about(Cause::HoldPosted, other, id, memo.as_ref());
        change_at(state, ctx, payers, Change::LoseHeld(taken), about(to));
        change_at(state, ctx, receivers, Change::GainBalance(taken), about(payer));
    }
    let rest = amount.checked_sub(taken).expect("no more is taken than was on hold");
    if !rest.is_zero() {
        change_at(state, ctx, payers, Change::Release(rest), about(back, to, id, memo.as_ref()));
    }
}

fn about(cause: Cause, counterparty: AccountId, hold: HoldId, memo: Option<&Memo>) -> About<'_> {
    About { cause, counterparty: Some(counterparty), reference: Some(Reference::Hold(hold)), memo }
}

fn count(state: &mut State, payer: Place, change: impl FnOnce(u32) -> u32) {
    if let Some(row) = state.accounts.at_mut(payer) {
        row.holds = change(row.holds);
    }
}

/// Holds are counted, will lapse, and are found from both their accounts.
pub(crate) fn check(state: &State) -> Result<(), String> {
    let mut open: BTreeMap<AccountId, u32> = BTreeMap::new();
    for row in state.held_transfers() {
        let count = open.entry(row.payer).or_default();
        *count = count.saturating_add(1);
        let found = |account| state.holds_of.contains(&(account, row.id));
        let at = |place, account| state.accounts.at(place).is_some_and(|row| row.id == account);
        ensure(at(row.places.0, row.payer) && at(row.places.1, row.to), || format!("hold {} misplaces", row.id))?;
        ensure(found(row.payer) && found(row.to), || format!("hold {} is not found by its accounts", row.id))?;
        let dated = state.timers.contains(&(row.expires_ms, Timer::Hold(row.id)));
        ensure(dated && !row.amount.is_zero(), || format!("hold {} never lapses, or holds nothing", row.id))?;
    }
    let twice = state.held_transfers.len().saturating_mul(2);
    ensure(state.holds_of.len() == twice, || format!("{} places of {twice} for holds", state.holds_of.len()))?;
    state.accounts().try_for_each(|row| {
        let wanted = open.get(&row.id).copied().unwrap_or(0);
        ensure(row.holds == wanted, || format!("account {} has {wanted} holds, {} counted", row.id, row.holds))
    })
}
