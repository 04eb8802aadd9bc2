//! While an agreement lasts: it is made, its machine begins, comes and goes, and its time is made longer.

use super::{AgreementRow, after, change, pay};
use crate::{
    command::{AgreementStarted, RenewAgreement},
    context::Context,
    expiry::Timer,
    ids::{AccountId, MachineId, OfferId, agreement_id},
    ledger::orders,
    market::{self, DURATION_S_MAX, MatchedMachine, OrderRow},
    money::Money,
    outcome::{Outcome, Refusal},
    state::State,
};

/// A machine is the buyer's from now on, and is owed the word that it is to begin. Its offer is taken; `held` is a part of
/// the order's hold.
pub(crate) fn begin(state: &mut State, ctx: &mut Context, order: &OrderRow, matched: &MatchedMachine, held: Money) {
    let id = agreement_id(order.id, state.head.trades);
    let Some(machine) = state.machines.get_mut(&matched.machine) else { return };
    machine.agreement = Some(id);
    ctx.owed(matched.machine);
    let start_by_ms = after(ctx.now_ms, order.start_s);
    let row = AgreementRow {
        id,
        order: order.id,
        offer: matched.offer,
        machine: matched.machine,
        buyer: order.buyer,
        seller: matched.owner,
        price_per_hour: matched.price_per_hour,
        fee_bp: order.fee_bp,
        held,
        paid: Money::ZERO,
        fees: Money::ZERO,
        locked: Money::ZERO,
        returned: Money::ZERO,
        locked_ms: 0,
        pay_ms: None,
        duration_s: order.duration_s,
        away_s: order.away_s,
        matched_ms: ctx.now_ms,
        start_by_ms,
        started_ms: None,
        end_ms: after(start_by_ms, order.duration_s),
        closed_ms: 0,
        closed: None,
        online_ms: 0,
        online_since_ms: None,
        away_since_ms: None,
        asked: Some(Box::new(order.clone())),
        again: None,
    };
    state.timers.insert((start_by_ms, Timer::Agreement(id)), ());
    let text = format!("Account {} rents machine {} at {} an hour.", row.buyer, row.machine, row.price_per_hour);
    ctx.event("agreement.made", id, text);
    state.agreements.insert(row);
}

/// A machine says that it has begun: its time counts from now on. Saying it again changes nothing.
pub(crate) fn started(state: &mut State, ctx: &mut Context, machine: MachineId, cmd: &AgreementStarted) -> Outcome {
    let Some(row) = state.agreements.get(&cmd.agreement) else { return Refusal::UnknownAgreement.into() };
    if row.machine != machine {
        return Refusal::NotYourAgreement.into();
    }
    if row.closed.is_some() {
        return Refusal::AgreementClosed.into();
    }
    if row.started_ms.is_some() {
        return Outcome::DONE;
    }
    let online = state.machines.get(&machine).is_some_and(|row| row.online);
    let (now_ms, seller) = (ctx.now_ms, row.seller);
    let pay_ms = pay::next_ms(state, now_ms);
    pay::begin(state, seller, machine, cmd.agreement);
    change(state, cmd.agreement, |row| {
        (row.started_ms, row.pay_ms) = (Some(now_ms), pay_ms);
        row.end_ms = after(now_ms, row.duration_s);
        // It speaks, but no coordinator has told of its session yet: it has as long for that as to come back.
        (row.online_since_ms, row.away_since_ms) = if online { (Some(now_ms), None) } else { (None, Some(now_ms)) };
    });
    ctx.owed(machine);
    ctx.event("agreement.started", cmd.agreement, format!("Machine {machine} has begun."));
    Outcome::DONE
}

/// A machine is there (again): its time counts.
pub(crate) fn machine_online(state: &mut State, now_ms: u64, machine: MachineId) {
    let Some(agreement) = state.machines.get(&machine).and_then(|row| row.agreement) else { return };
    change(state, agreement, |row| {
        if row.started_ms.is_some() {
            (row.online_since_ms, row.away_since_ms) = (Some(now_ms), None);
        }
    });
}

/// A machine is lost: its time counts up to the last that was heard of it, `silent_ms` ago.
pub(crate) fn machine_lost(state: &mut State, now_ms: u64, machine: MachineId, silent_ms: u64) {
    let Some(agreement) = state.machines.get(&machine).and_then(|row| row.agreement) else { return };
    change(state, agreement, |row| {
        if row.online_since_ms.is_some() {
            row.online_ms = row.earned_ms(now_ms.saturating_sub(silent_ms));
            (row.online_since_ms, row.away_since_ms) = (None, Some(now_ms));
        }
    });
}

/// The buyer rents the machine for longer, at the agreement's own price: refused for its duration, by the offer, or for lack
/// of money, in this order.
pub(crate) fn renew(state: &mut State, ctx: &mut Context, account: AccountId, cmd: &RenewAgreement) -> Outcome {
    let Some(row) = state.agreements.get(&cmd.agreement) else { return Refusal::UnknownAgreement.into() };
    if row.buyer != account {
        return Refusal::NotYourAgreement.into();
    }
    if row.closed.is_some() {
        return Refusal::AgreementClosed.into();
    }
    if cmd.duration_s == 0 {
        return Refusal::ZeroDuration.into();
    }
    if cmd.duration_s > DURATION_S_MAX {
        return Refusal::BadDuration.into();
    }
    let duration_s = row.duration_s.saturating_add(cmd.duration_s);
    let end_ms = after(row.end_ms, cmd.duration_s);
    let (offer, price, fee_bp, held) = (row.offer, row.price_per_hour, row.fee_bp, row.held);
    if let Err(refusal) = check_offer(state, offer, duration_s, end_ms) {
        return refusal.into();
    }
    let Some(whole) = market::price_of([price], duration_s, fee_bp) else { return Refusal::InsufficientFunds.into() };
    let more = whole.saturating_sub(held);
    if let Err(refusal) = orders::hold_more(state, ctx, account, cmd.agreement, more) {
        return refusal.into();
    }
    change(state, cmd.agreement, |row| {
        (row.duration_s, row.end_ms, row.held) = (duration_s, end_ms, whole);
    });
    let text = format!("Account {account} rents the machine for {} s more.", cmd.duration_s);
    ctx.event("agreement.renewed", cmd.agreement, text);
    Outcome::DONE
}

/// The seller still offers the machine, for as long in one piece, until then.
fn check_offer(state: &State, offer: OfferId, duration_s: u64, end_ms: u64) -> Result<(), Refusal> {
    let row = state.offers.get(&offer).filter(|row| !row.status.ended()).ok_or(Refusal::NoRenewal)?;
    if duration_s > row.duration_max_s || end_ms > row.expires_ms { Err(Refusal::NoRenewal) } else { Ok(()) }
}
