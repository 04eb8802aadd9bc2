//! Transfers in two phases: an account sets money aside for another one, which takes it, or a part of it, or lets it go.
//!
//! `hold` → (`post` | `void` | time). Only the account that a hold is for decides about it, so that it may rely on the
//! money until the hold lapses; the payer has its expiry. Whatever is not taken goes back in the same entry. A hold that is
//! over leaves no row: the statements of both sides tell what became of it, by its id.

use super::{Change, MEMO_BYTES_MAX, change_at};
use crate::{
    accounts::AccountRole,
    context::{About, Context},
    effect::{Cause, Memo, Reference},
    ids::{AccountId, HoldId},
    invariants::ensure,
    keyed::Identified,
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

/// Holds that lapse in one entry.
const LAPSED_PER_ENTRY_MAX: u32 = 8_192;

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
    #[serde(with = "memo")]
    pub memo: Option<Memo>,
    /// Places of the rows of `payer` and `to`, which they keep.
    places: (Place, Place),
}

/// A memo is stored as its text.
mod memo {
    use super::Memo;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(memo: &Option<Memo>, serializer: S) -> Result<S::Ok, S::Error> {
        memo.as_deref().unwrap_or_default().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Memo>, D::Error> {
        Box::<str>::deserialize(deserializer).map(|text| Memo::of(&text))
    }
}

impl Identified for HeldTransfer {
    type Id = HoldId;

    fn id(&self) -> &HoldId {
        &self.id
    }
}

impl State {
    /// A transfer in its first phase.
    pub fn held_transfer(&self, id: HoldId) -> Option<&HeldTransfer> {
        self.held_transfers.get(&id)
    }

    /// All transfers in their first phase, in no order.
    pub fn held_transfers(&self) -> impl Iterator<Item = &HeldTransfer> {
        self.held_transfers.iter().map(|(_, row)| row)
    }

    /// Holds that an account made or that are for it, in order of id, after one of them or from the first on.
    pub fn holds_of(&self, account: AccountId, after: Option<HoldId>) -> impl Iterator<Item = &HeldTransfer> {
        use std::ops::Bound::{Excluded, Included};
        let of_place = move |place| {
            let first = after.map_or(Included((place, HoldId([0; 20]))), |after| Excluded((place, after)));
            let last = Included((place, HoldId([0xff; 20])));
            self.holds_of.range((first, last)).filter_map(|((_, id), ())| self.held_transfers.get(id))
        };
        self.accounts.find(&account).into_iter().flat_map(of_place)
    }
}

/// A hold that somebody asks for.
#[derive(Debug)]
pub(crate) struct NewHold<'a> {
    pub(crate) payer: AccountId,
    pub(crate) to: AccountId,
    /// The places of their rows, where they are known.
    pub(crate) places: (Option<Place>, Option<Place>),
    pub(crate) amount: Money,
    pub(crate) duration_s: u64,
    pub(crate) memo: &'a str,
}

/// Sets money aside.
pub(crate) fn hold(state: &mut State, ctx: &mut Context, hold: NewHold<'_>) -> Outcome {
    let NewHold { payer, to, places, amount, duration_s, memo } = hold;
    if amount.is_zero() {
        return Refusal::ZeroAmount.into();
    }
    if memo.len() > MEMO_BYTES_MAX {
        return Refusal::MemoTooLong.into();
    }
    if to == payer {
        return Refusal::SelfTransfer.into();
    }
    let receivers = places.1.or_else(|| state.accounts.find(&to));
    match receivers.and_then(|place| state.accounts.at(place)).map(|row| row.role) {
        None => return Refusal::UnknownAccount.into(),
        Some(AccountRole::System) => return Refusal::SystemAccount.into(),
        Some(AccountRole::User | AccountRole::Admin | AccountRole::Operator | AccountRole::Auditor) => {}
    }
    if !(1..=HOLD_S_MAX).contains(&duration_s) {
        return Refusal::BadHoldDuration.into();
    }
    let minimum = state.policy.minimum_balance;
    let both = places.0.or_else(|| state.accounts.find(&payer)).zip(receivers);
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
    // An id comes again when its envelope was forgotten: the one that is open stays.
    if state.held_transfers.find(&id).is_some() {
        return Refusal::IdReused.into();
    }
    let expires_ms = ctx.now_ms.saturating_add(duration_s.saturating_mul(1_000));
    let memo = Memo::of(memo);
    change_at(state, ctx, places.0, Change::Hold(amount), about(Cause::HoldPlaced, to, id, memo.as_ref()));
    count(state, places.0, |open| open.saturating_add(1));
    let place = state.held_transfers.insert(HeldTransfer { id, payer, to, amount, expires_ms, memo, places });
    state.hold_expiry.insert((expires_ms, place), ());
    for account in [places.0, places.1] {
        state.holds_of.insert((account, id), ());
    }
    Outcome::made(id)
}

/// Takes what is on hold, or a part of it; the rest goes back.
pub(crate) fn post(
    state: &mut State,
    ctx: &mut Context,
    account: AccountId,
    hold: HoldId,
    amount: Option<Money>,
) -> Outcome {
    let (place, row) = match decided_by(state, ctx, account, hold) {
        Ok(found) => found,
        Err(refusal) => return refusal.into(),
    };
    let amount = amount.unwrap_or(row.amount);
    if amount.is_zero() {
        return Refusal::ZeroAmount.into();
    }
    if amount > row.amount {
        return Refusal::HoldExceeded.into();
    }
    close(state, ctx, place, amount, Cause::HoldVoided);
    Outcome::DONE
}

/// Lets a hold go.
pub(crate) fn void(state: &mut State, ctx: &mut Context, account: AccountId, hold: HoldId) -> Outcome {
    match decided_by(state, ctx, account, hold) {
        Ok((place, _)) => close(state, ctx, place, Money::ZERO, Cause::HoldVoided),
        Err(refusal) => return refusal.into(),
    }
    Outcome::DONE
}

/// Gives back what nobody decided in time.
pub(crate) fn expire(state: &mut State, ctx: &mut Context) {
    for _ in 0..LAPSED_PER_ENTRY_MAX {
        let Some((due_ms, place)) = state.hold_expiry.first().map(|(key, ())| *key) else { return };
        if due_ms > ctx.now_ms {
            return;
        }
        close(state, ctx, place, Money::ZERO, Cause::HoldLapsed);
    }
}

/// The hold, if this account may decide about it now. One whose time is over may still be there, since an entry gives only
/// so many back.
fn decided_by<'a>(
    state: &'a State,
    ctx: &Context,
    account: AccountId,
    hold: HoldId,
) -> Result<(Place, &'a HeldTransfer), Refusal> {
    let place = state.held_transfers.find(&hold).ok_or(Refusal::UnknownHold)?;
    let row = state.held_transfers.at(place).filter(|row| row.expires_ms > ctx.now_ms);
    let row = row.ok_or(Refusal::UnknownHold)?;
    if row.to == account { Ok((place, row)) } else { Err(Refusal::NotYourHold) }
}

/// Ends the hold at a place: pays `taken` out of it, which it must cover, and gives the rest back for the cause `back`.
fn close(state: &mut State, ctx: &mut Context, place: Place, taken: Money, back: Cause) {
    let row = state.held_transfers.remove_at(place).expect("whoever closes a hold has found it at its place");
    let HeldTransfer { id, payer, to, amount, expires_ms, memo, places: (payers, receivers) } = row;
    state.hold_expiry.remove(&(expires_ms, place));
    for account in [payers, receivers] {
        state.holds_of.remove(&(account, id));
    }
    count(state, payers, |open| open.checked_sub(1).expect("what is closed was counted when it was opened"));
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

/// Holds are counted, will lapse, and are found by id and from both their accounts.
pub(crate) fn check(state: &State) -> Result<(), String> {
    let mut open: BTreeMap<AccountId, u32> = BTreeMap::new();
    for (place, row) in state.held_transfers.iter() {
        let count = open.entry(row.payer).or_default();
        *count = count.saturating_add(1);
        let at = |place, account| state.accounts.at(place).is_some_and(|row| row.id == account);
        ensure(at(row.places.0, row.payer) && at(row.places.1, row.to), || format!("hold {} misplaces", row.id))?;
        ensure(state.held_transfers.find(&row.id) == Some(place), || format!("hold {} is not found", row.id))?;
        let found = |account| state.holds_of.contains(&(account, row.id));
        let both = found(row.places.0) && found(row.places.1);
        ensure(both, || format!("hold {} is not found by its accounts", row.id))?;
        let dated = state.hold_expiry.contains(&(row.expires_ms, place));
        ensure(dated && !row.amount.is_zero(), || format!("hold {} never lapses, or holds nothing", row.id))?;
    }
    let all = state.held_transfers.len();
    let listed = (state.holds_of.len(), state.hold_expiry.len());
    ensure(listed == (all.saturating_mul(2), all), || format!("{listed:?} places in lists for {all} holds"))?;
    state.accounts().try_for_each(|row| {
        let wanted = open.get(&row.id).copied().unwrap_or(0);
        ensure(row.holds == wanted, || format!("account {} has {wanted} holds, {} counted", row.id, row.holds))
    })
}
