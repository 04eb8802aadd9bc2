//! The book: offers and orders come in, lapse, are withdrawn.

use super::{
    DURATION_S_MAX, OFFERS_PER_MACHINE_MAX, ORDER_MACHINES_MAX, OfferRow, OfferStatus, OrderRow, OrderTerms,
    START_DEADLINE_DEFAULT_S, live, matching::FreshOrder, orders, terms,
};
use crate::{
    command::{AmendOffer, MakeOffer, WithdrawOffer},
    context::Context,
    expiry::Timer,
    ids::{AccountId, JobId, MachineId, OfferId, OrderId},
    jobs, limits,
    money::Money,
    outcome::{Outcome, Refusal},
    power, rules,
    state::State,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Machines looked at before an order is taken to be possible; beyond it the order just waits and lapses.
const CAPABLE_SCAN_MAX: usize = 4_096;

/// Place of an open offer: cheapest first, then oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct OfferKey {
    pub(crate) price_per_hour: Money,
    pub(crate) sequence: u64,
}

impl OfferRow {
    fn key(&self) -> OfferKey {
        OfferKey { price_per_hour: self.price_per_hour, sequence: self.sequence }
    }
}

/// Offers a machine.
pub(crate) fn make_offer(state: &mut State, ctx: &mut Context, owner: AccountId, cmd: &MakeOffer) -> Outcome {
    let interruption = match terms::check_offer(cmd, ctx.now_ms) {
        Ok(interruption) => interruption,
        Err(refusal) => return refusal.into(),
    };
    let Some(machine) = state.machines.get(&cmd.machine) else { return Refusal::UnknownMachine.into() };
    if machine.owner != owner {
        return Refusal::NotYourMachine.into();
    }
    if machine.revoked {
        return Refusal::MachineRevoked.into();
    }
    if machine.suspended {
        return Refusal::MachineSuspended.into();
    }
    if let Err(refusal) = terms::check_disk(cmd.disk_gib, machine) {
        return refusal.into();
    }
    let ready = machine.online && power::has_fgemm(state, cmd.machine);
    if state.head.rules_version >= rules::OFFERS_READY && !ready {
        return Refusal::NotReady.into();
    }
    if offers_of(state, cmd.machine).count() >= OFFERS_PER_MACHINE_MAX {
        return Refusal::TooManyOffers.into();
    }
    if let Err(refusal) = limits::check_open(state, owner) {
        return refusal.into();
    }
    let id = OfferId(ctx.new_id("offer"));
    // An envelope's id may come again once it has expired; the offer that it made is still there.
    if state.offers.contains(&id) {
        return Refusal::IdReused.into();
    }
    let row = OfferRow {
        id,
        machine: cmd.machine,
        owner,
        price_per_hour: cmd.price_per_hour,
        duration_min_s: cmd.duration_min_s,
        duration_max_s: cmd.duration_max_s,
        expires_ms: cmd.expires_ms,
        status: OfferStatus::Open,
        made_ms: ctx.now_ms,
        sequence: next_sequence(state),
        disk_gib: cmd.disk_gib,
        interruption,
    };
    state.book.insert(row.key(), id);
    state.machine_offers.insert((cmd.machine, id), ());
    state.timers.insert((cmd.expires_ms, Timer::Offer(id)), ());
    ctx.event("offer.made", id, format!("Machine {} is offered at {} an hour.", row.machine, row.price_per_hour));
    state.offers.insert(row);
    limits::opened(state, owner);
    live::offer_changed(state, ctx, id, true);
    Outcome::made(id)
}

/// Gives an offer a new price and perhaps more time; it goes to the end of those at its price. What was agreed on under it
/// stays.
pub(crate) fn amend_offer(state: &mut State, ctx: &mut Context, owner: AccountId, cmd: &AmendOffer) -> Outcome {
    let place = state.offers.find(&cmd.offer);
    let Some((place, row)) = place.and_then(|place| Some((place, state.offers.at(place)?))) else {
        return Refusal::UnknownOffer.into();
    };
    if row.owner != owner {
        return Refusal::NotYourOffer.into();
    }
    if row.status.ended() {
        return Refusal::OfferClosed.into();
    }
    if cmd.price_per_hour.is_zero() {
        return Refusal::ZeroPrice.into();
    }
    if cmd.expires_ms.is_some_and(|expires_ms| expires_ms <= ctx.now_ms) {
        return Refusal::OfferExpired.into();
    }
    let interruption = match terms::amended(row, cmd) {
        Ok(interruption) => interruption,
        Err(refusal) => return refusal.into(),
    };
    let redescribed = interruption != row.interruption;
    let sequence = next_sequence(state);
    let Some(row) = state.offers.at_mut(place) else { return Refusal::UnknownOffer.into() };
    let (old, due) = (row.key(), row.expires_ms);
    (row.price_per_hour, row.sequence) = (cmd.price_per_hour, sequence);
    row.expires_ms = cmd.expires_ms.unwrap_or(due);
    row.interruption = interruption;
    let (new, expires_ms, open) = (row.key(), row.expires_ms, row.status == OfferStatus::Open);
    if open {
        state.book.remove(&old);
        state.book.insert(new, cmd.offer);
    }
    if expires_ms != due {
        state.timers.remove(&(due, Timer::Offer(cmd.offer)));
        state.timers.insert((expires_ms, Timer::Offer(cmd.offer)), ());
    }
    if redescribed {
        live::offer_changed(state, ctx, cmd.offer, true);
    } else {
        live::offer_amended(state, ctx, cmd.offer);
    }
    Outcome::DONE
}

/// Takes an offer back. A machine that works under it goes on until its job ends.
pub(crate) fn withdraw_offer(state: &mut State, ctx: &mut Context, owner: AccountId, cmd: &WithdrawOffer) -> Outcome {
    let Some(row) = state.offers.get(&cmd.offer) else { return Refusal::UnknownOffer.into() };
    if row.owner != owner {
        return Refusal::NotYourOffer.into();
    }
    match row.status {
        OfferStatus::Withdrawn | OfferStatus::Lapsed => Refusal::OfferClosed.into(),
        OfferStatus::Open | OfferStatus::Rented => {
            close_offer(state, ctx, cmd.offer, OfferStatus::Withdrawn);
            Outcome::DONE
        }
    }
}

/// Withdraws whatever is offered of a machine: it was revoked or suspended.
pub(crate) fn withdraw_all(state: &mut State, ctx: &mut Context, machine: MachineId) {
    let offers: Vec<OfferId> = offers_of(state, machine).collect();
    for offer in offers {
        close_offer(state, ctx, offer, OfferStatus::Withdrawn);
    }
}

/// Takes an offer out of the market for its owner: a machine that was rented under it has not begun.
pub(crate) fn take_off(state: &mut State, ctx: &mut Context, offer: OfferId) {
    close_offer(state, ctx, offer, OfferStatus::Withdrawn);
}

/// An offer's time is over.
pub(crate) fn on_offer_due(state: &mut State, ctx: &mut Context, offer: OfferId) {
    close_offer(state, ctx, offer, OfferStatus::Lapsed);
}

/// Checks what can be checked of an order before any money is held, in this order: machines, prices, durations, whether
/// machines with that much memory exist at all (of distinct owners, none of them the buyer).
///
/// # Errors
/// The refusal of the first thing that is wrong.
pub(crate) fn check_terms(
    state: &State,
    buyer: AccountId,
    terms: &OrderTerms,
    memory_bytes: u64,
) -> Result<(), Refusal> {
    if terms.machines == 0 {
        return Err(Refusal::ZeroMachines);
    }
    if terms.machines > ORDER_MACHINES_MAX {
        return Err(Refusal::TooManyWanted);
    }
    if terms.price_limit.is_zero() || terms.total_limit.is_zero() {
        return Err(Refusal::ZeroPrice);
    }
    if terms.duration_s == 0 {
        return Err(Refusal::ZeroDuration);
    }
    if terms.duration_s > DURATION_S_MAX {
        return Err(Refusal::BadDuration);
    }
    if terms.start_deadline_s > DURATION_S_MAX {
        return Err(Refusal::BadStartDeadline);
    }
    let mut owners = BTreeSet::new();
    let mut looked_at = 0usize;
    for (_, owner) in state.by_memory.range((memory_bytes, MachineId([0; 20]))..) {
        looked_at = looked_at.saturating_add(1);
        if *owner != buyer {
            owners.insert(*owner);
        }
        if owners.len() >= terms.machines as usize || looked_at >= CAPABLE_SCAN_MAX {
            return Ok(());
        }
    }
    Err(Refusal::NoCapableMachine)
}

/// Puts a job's order into the book, which gets all its machines or none, each of another owner; matching looks at it after
/// this command. The terms have passed [`check_terms`] and `total_limit` is on hold.
pub(crate) fn place_for_job(
    state: &mut State,
    ctx: &mut Context,
    job: JobId,
    buyer: AccountId,
    terms: OrderTerms,
    memory_bytes: u64,
) {
    let wait_s = if terms.start_deadline_s == 0 { START_DEADLINE_DEFAULT_S } else { terms.start_deadline_s };
    let OrderTerms { machines: wanted, price_limit, total_limit: money, duration_s, query, .. } = terms;
    let row = OrderRow {
        id: job.into(),
        job: Some(job),
        buyer,
        wanted,
        least: wanted,
        price_limit,
        money,
        duration_s,
        start_s: 0,
        away_s: 0,
        query,
        select: None,
        rests: true,
        fee_bp: state.policy.fee_bp,
        memory_bytes,
        sequence: next_sequence(state),
        due_ms: ctx.now_ms.saturating_add(wait_s.saturating_mul(1_000)),
        interruptible: false,
    };
    state.timers.insert((row.due_ms, Timer::Order(row.id)), ());
    ctx.fresh.orders.push(FreshOrder { id: row.id, placed: true });
    state.orders.insert(row);
}

/// Takes an order out of the book and returns it, if it waits.
pub(crate) fn end_order(state: &mut State, order: OrderId) -> Option<OrderRow> {
    let row = state.orders.remove(&order)?;
    state.timers.remove(&(row.due_ms, Timer::Order(order)));
    live::follow(state, |built, _| built.withhold_order(order));
    Some(row)
}

/// An order has waited long enough.
pub(crate) fn on_order_due(state: &mut State, ctx: &mut Context, order: OrderId) {
    match state.orders.get(&order).map(|row| row.job) {
        Some(Some(job)) => {
            end_order(state, order);
            jobs::order_lapsed(state, ctx, job);
        }
        Some(None) => orders::lapse(state, ctx, order),
        None => {}
    }
}

/// Offers of a machine that are open or rented.
pub(super) fn offers_of(state: &State, machine: MachineId) -> impl Iterator<Item = OfferId> + '_ {
    let first = (machine, OfferId([0; 20]));
    let last = (machine, OfferId([0xff; 20]));
    state.machine_offers.range(first..=last).map(|((_, offer), ())| *offer)
}

fn close_offer(state: &mut State, ctx: &mut Context, offer: OfferId, status: OfferStatus) {
    let Some(row) = state.offers.get_mut(&offer) else { return };
    if row.status.ended() {
        return;
    }
    row.status = status;
    let (key, machine, owner, due) = (row.key(), row.machine, row.owner, row.expires_ms);
    state.book.remove(&key);
    state.machine_offers.remove(&(machine, offer));
    state.timers.remove(&(due, Timer::Offer(offer)));
    limits::closed(state, owner);
    live::offer_changed(state, ctx, offer, false);
    ctx.event("offer.closed", offer, format!("The offer of machine {machine} is {}.", status.as_str()));
}

/// Time among offers and orders, finer than the clock.
pub(super) fn next_sequence(state: &mut State) -> u64 {
    state.head.book_sequence = state.head.book_sequence.saturating_add(1);
    state.head.book_sequence
}

/// An offer whose machine is free again goes back to its place.
pub(super) fn reopen(state: &mut State, offer: OfferId) {
    let Some(row) = state.offers.get_mut(&offer).filter(|row| row.status == OfferStatus::Rented) else { return };
    row.status = OfferStatus::Open;
    let key = row.key();
    state.book.insert(key, offer);
}

/// An offer's machine was taken under it: it leaves the book, not its machine.
pub(super) fn take(state: &mut State, offer: OfferId) {
    let Some(row) = state.offers.get_mut(&offer) else { return };
    row.status = OfferStatus::Rented;
    let key = row.key();
    state.book.remove(&key);
}
