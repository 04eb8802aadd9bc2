//! Pay of agreements: earned by the second, locked until the window for disputes is over, then paid.
//!
//! What was earned is a formula of the row and the time; it moves once a period, which is the window or a minute. At a period's
//! end what was locked at the one before is paid, with the fee on it, and what was earned since is locked: it leaves the buyer's
//! hold for the seller's. So all of it is locked for a whole window, and at most for two. After the close everything is paid
//! when the window is over. Where genesis sets no window, everything is paid at the close.
//!
//! Payments are rounded so that they sum to the rent of the whole time, which is rounded down once: each is rounded up as far
//! as more has been earned by then, so the remainder goes to the earliest.
//!
//! A machine whose proof is rejected is paid nothing that is locked, under whichever agreement: it goes back to the buyers.

use super::{AgreementRow, change};
use crate::{
    context::Context,
    earning::{self, Earning},
    ids::{AccountId, AgreementId, MachineId},
    ledger::orders::{self, Parties},
    money::Money,
    state::State,
};

/// Shortest time between two payments of one agreement while it runs, ms.
const PERIOD_MS_MIN: u64 = 60_000;
const MS_PER_S: u64 = 1_000;

impl AgreementRow {
    /// What the seller has earned by then that is not paid yet: locked on its account, or about to be.
    pub fn locked_at(&self, now_ms: u64) -> Money {
        self.earned(now_ms).saturating_sub(self.paid)
    }

    /// The fee on so much pay, as far as there is money for it.
    pub(super) fn fee_on(&self, pay: Money) -> Money {
        let left = self.held.saturating_sub(pay);
        pay.fee_paid(self.fee_bp).unwrap_or(left).at_most(left)
    }

    /// What is paid and locked.
    pub(super) fn moved(&self) -> Money {
        self.paid.checked_add(self.locked).unwrap_or(Money::MAX)
    }

    /// The fee on it that was not charged yet.
    fn fee_due(&self) -> Money {
        self.fee_on(self.moved()).saturating_sub(self.fees)
    }

    /// What of it is on its buyer's hold.
    pub(crate) fn on_hold(&self) -> Money {
        if self.closed.is_some() {
            return self.fee_due();
        }
        self.held.saturating_sub(self.moved()).saturating_sub(self.returned).saturating_sub(self.fees)
    }

    /// Whether there is something to pay, now or later.
    pub(crate) fn earns(&self) -> bool {
        if self.closed.is_some() { !self.locked.is_zero() } else { self.started_ms.is_some() }
    }

    fn parties(&self) -> Parties {
        Parties { agreement: self.id, buyer: self.buyer, seller: self.seller }
    }
}

/// How long what was earned may go back, ms; none where it may not.
fn window_ms(state: &State) -> Option<u64> {
    Some(state.genesis.economy.dispute_s).filter(|seconds| *seconds > 0).map(|seconds| seconds.saturating_mul(MS_PER_S))
}

/// When the period that begins now is over, ms; none where everything is paid at the close.
pub(super) fn next_ms(state: &State, now_ms: u64) -> Option<u64> {
    window_ms(state).map(|window_ms| now_ms.saturating_add(window_ms.max(PERIOD_MS_MIN)))
}

/// A machine has begun: it earns.
pub(super) fn begin(state: &mut State, seller: AccountId, machine: MachineId, agreement: AgreementId) {
    state.earning.insert((seller, machine, Earning::Agreement(agreement)), ());
}

/// A period is over, and the agreement goes on.
pub(super) fn on_period(state: &mut State, ctx: &mut Context, agreement: AgreementId) {
    let Some(row) = state.agreements.get(&agreement) else { return };
    let next_ms = next_ms(state, ctx.now_ms);
    let earned_ms = row.earned_ms(ctx.now_ms);
    let earned = row.rent(earned_ms);
    let before = row.price_per_hour.rent_begun(row.locked_ms).unwrap_or(earned).at_most(earned);
    let pay = before.saturating_sub(row.paid);
    lock(state, ctx, agreement, earned);
    release(state, ctx, agreement, pay);
    change(state, agreement, |row| (row.locked_ms, row.pay_ms) = (earned_ms, next_ms));
}

/// An agreement has just been closed, and so much was earned in all: the rest of it is locked, or paid at once.
pub(super) fn close(state: &mut State, ctx: &mut Context, agreement: AgreementId, earned: Money) {
    lock(state, ctx, agreement, earned);
    match window_ms(state) {
        Some(window_ms) => {
            let due_ms = ctx.now_ms.saturating_add(window_ms);
            change(state, agreement, |row| row.pay_ms = Some(due_ms).filter(|_| !row.locked.is_zero()));
        }
        None => pay_all(state, ctx, agreement),
    }
    forget(state, agreement);
}

/// The window after the close is over: what is locked is paid.
pub(super) fn on_window(state: &mut State, ctx: &mut Context, agreement: AgreementId) {
    change(state, agreement, |row| row.pay_ms = None);
    pay_all(state, ctx, agreement);
    forget(state, agreement);
}

/// A proof of a machine was rejected: what it earned before and is locked goes back. The agreement that it is rented under
/// is closed by itself.
pub(super) fn rejected(state: &mut State, ctx: &mut Context, seller: AccountId, machine: MachineId) {
    for agreement in earning::agreements_of(state, seller, machine) {
        if state.agreements.get(&agreement).is_some_and(|row| row.closed.is_some()) {
            give_back(state, ctx, agreement);
        }
    }
}

/// Returns what is locked, and the fee on it, to the buyer.
pub(super) fn give_back(state: &mut State, ctx: &mut Context, agreement: AgreementId) {
    let Some(row) = state.agreements.get(&agreement) else { return };
    let (parties, locked, closed) = (row.parties(), row.locked, row.closed.is_some());
    let fee = if closed { row.fee_due() } else { Money::ZERO };
    change(state, agreement, |row| {
        row.returned = row.returned.checked_add(locked).unwrap_or(Money::MAX);
        (row.locked, row.pay_ms) = (Money::ZERO, row.pay_ms.filter(|_| !closed));
    });
    if !locked.is_zero() {
        orders::give_back(state, ctx, parties, locked);
        ctx.event("agreement.returned", agreement, format!("{locked} minor units that were earned go back."));
    }
    orders::refund(state, ctx, parties, fee);
    forget(state, agreement);
}

/// Locks what was earned, `earned` in all, on the seller's account; or less than before, because the machine turned out to
/// have been away when it was last locked.
fn lock(state: &mut State, ctx: &mut Context, agreement: AgreementId, earned: Money) {
    let Some(row) = state.agreements.get(&agreement) else { return };
    let (parties, before, locked) = (row.parties(), row.locked, earned.saturating_sub(row.paid));
    // Where nothing is ever locked, the hold pays by itself.
    if window_ms(state).is_some() {
        orders::lock(state, ctx, parties, before, locked);
    }
    change(state, agreement, |row| row.locked = locked);
}

fn pay_all(state: &mut State, ctx: &mut Context, agreement: AgreementId) {
    let locked = state.agreements.get(&agreement).map_or(Money::ZERO, |row| row.locked);
    release(state, ctx, agreement, locked);
}

/// Pays so much of what is locked, and charges the fee on it.
fn release(state: &mut State, ctx: &mut Context, agreement: AgreementId, amount: Money) {
    let Some(row) = state.agreements.get(&agreement) else { return };
    let (parties, paid) = (row.parties(), row.paid.checked_add(amount).unwrap_or(Money::MAX));
    let fee = row.fee_on(paid).saturating_sub(row.fees);
    let from = if window_ms(state).is_some() { orders::From::Locked } else { orders::From::Hold };
    change(state, agreement, |row| {
        row.locked = row.locked.saturating_sub(amount);
        row.paid = paid;
        row.fees = row.fees.checked_add(fee).unwrap_or(Money::MAX);
    });
    orders::pay(state, ctx, parties, from, amount, fee);
}

/// Takes an agreement that earns nothing any more off the list.
fn forget(state: &mut State, agreement: AgreementId) {
    let Some(row) = state.agreements.get(&agreement).filter(|row| !row.earns()) else { return };
    let key = (row.seller, row.machine, Earning::Agreement(agreement));
    state.earning.remove(&key);
}
