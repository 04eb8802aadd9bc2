//! Money of orders that stand by themselves, and of their agreements: set aside with the order, which hands a part of its
//! hold to each agreement (no account changes by that), and paid out of it when the agreement closes.

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

/// Who gets what of an agreement's hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settlement {
    pub(crate) agreement: AgreementId,
    pub(crate) buyer: AccountId,
    pub(crate) seller: AccountId,
    pub(crate) paid: Money,
    pub(crate) fee: Money,
    /// What goes back to the buyer; the rest of the hold stays on hold for another order.
    pub(crate) back: Money,
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

/// Divides an agreement's hold.
pub(crate) fn settle(state: &mut State, ctx: &mut Context, settlement: Settlement) {
    let Settlement { agreement, buyer, seller, paid, fee, back } = settlement;
    let seller = keys::payee(state, seller);
    let reference = Reference::Agreement(agreement);
    for (to, amount, cause) in [(seller, paid, Cause::PayRent), (AccountId::TREASURY, fee, Cause::Fee)] {
        if !amount.is_zero() {
            from_hold(state, ctx, buyer, to, amount, about(cause, reference));
        }
    }
    supply::burn_share(state, ctx, fee, reference);
    if !back.is_zero() {
        change(state, ctx, buyer, Change::Release(back), about(Cause::Refund, reference));
    }
}

fn about<'a>(cause: Cause, reference: Reference) -> About<'a> {
    About { cause, counterparty: None, reference: Some(reference), memo: None }
}
