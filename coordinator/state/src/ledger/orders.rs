//! Money of orders that stand by themselves, and of their agreements: set aside with the order, which hands a part of its
//! hold to each agreement (no account changes by that), and locked and paid out of it as its machine earns it.

use super::{Change, change, from_hold, supply};
use crate::{
    accounts::keys,
    context::{About, Context},
    effect::{Cause, Reference},
    ids::{AccountId, AgreementId, OrderId},
    limits,
    money::Money,
    outcome::Refusal,
    state::State,
};

/// Whose agreement it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parties {
    pub(crate) agreement: AgreementId,
    pub(crate) buyer: AccountId,
    pub(crate) seller: AccountId,
}

/// What pays.
#[derive(Debug, Clone, Copy)]
pub(crate) enum From {
    /// The buyer's hold.
    Hold,
    /// What the seller has earned and has locked on its own account.
    Locked,
}

/// Sets money aside for an order.
///
/// # Errors
/// `insufficient_funds`; nothing has changed then.
pub(crate) fn hold(
    state: &mut State,
    ctx: &mut Context,
    payer: AccountId,
    order: OrderId,
    amount: Money,
) -> Result<(), Refusal> {
    set_aside(state, ctx, payer, amount, Reference::Order(order))
}

/// Sets more money aside for an agreement that lasts longer.
///
/// # Errors
/// `insufficient_funds`; nothing has changed then.
pub(crate) fn hold_more(
    state: &mut State,
    ctx: &mut Context,
    payer: AccountId,
    agreement: AgreementId,
    amount: Money,
) -> Result<(), Refusal> {
    if amount.is_zero() { Ok(()) } else { set_aside(state, ctx, payer, amount, Reference::Agreement(agreement)) }
}

fn set_aside(
    state: &mut State,
    ctx: &mut Context,
    payer: AccountId,
    amount: Money,
    reference: Reference,
) -> Result<(), Refusal> {
    if limits::spendable(state, payer) < amount {
        return Err(Refusal::InsufficientFunds);
    }
    change(state, ctx, payer, Change::Hold(amount), about(Cause::Hold, reference));
    Ok(())
}

/// Gives money of an order back: it needs it no longer.
pub(crate) fn release(state: &mut State, ctx: &mut Context, payer: AccountId, order: OrderId, amount: Money) {
    if !amount.is_zero() {
        change(state, ctx, payer, Change::Release(amount), about(Cause::Hold, Reference::Order(order)));
    }
}

/// Moves what is locked for the seller from `before` to `locked`: out of the buyer's hold, or back into it.
pub(crate) fn lock(state: &mut State, ctx: &mut Context, parties: Parties, before: Money, locked: Money) {
    let Parties { agreement, buyer, seller } = parties;
    let about = about(Cause::Earn, Reference::Agreement(agreement));
    let (more, less) = (locked.saturating_sub(before), before.saturating_sub(locked));
    for (from, to, amount) in [(buyer, seller, more), (seller, buyer, less)] {
        if !amount.is_zero() {
            change(state, ctx, from, Change::LoseHeld(amount), About { counterparty: Some(to), ..about });
            change(state, ctx, to, Change::GainHeld(amount), About { counterparty: Some(from), ..about });
        }
    }
}

/// Pays the seller, or whomever it has paid its earnings, and charges the fee, which the buyer's hold pays.
pub(crate) fn pay(state: &mut State, ctx: &mut Context, parties: Parties, from: From, amount: Money, fee: Money) {
    let Parties { agreement, buyer, seller } = parties;
    let (payee, reference) = (keys::payee(state, seller), Reference::Agreement(agreement));
    let rent = about(Cause::PayRent, reference);
    match from {
        From::Hold | From::Locked if amount.is_zero() => {}
        From::Hold => from_hold(state, ctx, buyer, payee, amount, rent),
        From::Locked if payee == seller => {
            change(state, ctx, seller, Change::Release(amount), About { counterparty: Some(buyer), ..rent });
        }
        From::Locked => from_hold(state, ctx, seller, payee, amount, rent),
    }
    if !fee.is_zero() {
        from_hold(state, ctx, buyer, AccountId::TREASURY, fee, about(Cause::Fee, reference));
        supply::burn_share(state, ctx, fee, reference);
    }
}

/// Returns what the seller has locked to the buyer.
pub(crate) fn give_back(state: &mut State, ctx: &mut Context, parties: Parties, amount: Money) {
    let Parties { agreement, buyer, seller } = parties;
    if !amount.is_zero() {
        from_hold(state, ctx, seller, buyer, amount, about(Cause::PayReturned, Reference::Agreement(agreement)));
    }
}

/// Gives what the buyer's hold needs no longer back.
pub(crate) fn refund(state: &mut State, ctx: &mut Context, parties: Parties, amount: Money) {
    let Parties { agreement, buyer, .. } = parties;
    if !amount.is_zero() {
        change(state, ctx, buyer, Change::Release(amount), about(Cause::Refund, Reference::Agreement(agreement)));
    }
}

fn about<'a>(cause: Cause, reference: Reference) -> About<'a> {
    About { cause, counterparty: None, reference: Some(reference), memo: None }
}
