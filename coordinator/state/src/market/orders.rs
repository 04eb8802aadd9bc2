//! Orders that stand by themselves: placed, amended, cancelled, and lapsing.
//!
//! An order holds its total limit from the start; each agreement takes its part of that, and what is left goes back when
//! the order ends, because it has all its machines, or was cancelled, or waited until its time. One that does not rest ends
//! with its turn. An order that names an offer gets that one or nothing.

use super::{
    DURATION_S_MAX, ORDER_MACHINES_MAX, OfferStatus, OrderRow, START_DEADLINE_DEFAULT_S,
    book::{end_order, next_sequence},
    matching::FreshOrder,
};
use crate::{
    agreements::AWAY_DEFAULT_S,
    command::{AmendOrder, CancelOrder, PlaceOrder},
    context::Context,
    expiry::Timer,
    ids::{AccountId, OrderId},
    ledger::orders,
    limits,
    outcome::{Outcome, Refusal},
    registry::Place,
    state::State,
};

/// Longest time that an order waits, ms: as long as the longest rent.
const ORDER_WAIT_MS_MAX: u64 = DURATION_S_MAX * 1_000;
/// Longest time that an order which does not rest waits for its turn, ms. It is mostly served in the entry that it came in.
const TURN_WAIT_MS_MAX: u64 = 120_000;
/// Time that an order for what a lost agreement left waits, ms.
const AGAIN_WAIT_MS: u64 = 3_600_000;

/// Places an order: refused for its machines, its prices, its duration, its time, its offer, or lack of money, in this
/// order.
pub(crate) fn place(state: &mut State, ctx: &mut Context, buyer: AccountId, cmd: PlaceOrder) -> Outcome {
    if let Err(refusal) = check(state, ctx, &cmd) {
        return refusal.into();
    }
    let id = OrderId(ctx.new_id("order"));
    // An envelope's id may come again once it has expired.
    if state.orders.contains(&id) {
        return Refusal::IdReused.into();
    }
    let held = limits::check_open(state, buyer).and_then(|()| orders::hold(state, ctx, buyer, id, cmd.total_limit));
    if let Err(refusal) = held {
        return refusal.into();
    }
    let PlaceOrder { machines: wanted, price_limit, total_limit: money, duration_s, query, offer: select, .. } = cmd;
    let row = OrderRow {
        id,
        job: None,
        buyer,
        wanted,
        least: cmd.least.unwrap_or(wanted),
        price_limit,
        money,
        duration_s,
        start_s: cmd.start_deadline_s.unwrap_or(START_DEADLINE_DEFAULT_S),
        away_s: cmd.away_s.unwrap_or(AWAY_DEFAULT_S),
        query,
        select,
        rests: !cmd.immediate && select.is_none(),
        fee_bp: state.policy.fee_bp,
        memory_bytes: 0,
        sequence: next_sequence(state),
        due_ms: if cmd.expires_ms == 0 { ctx.now_ms.saturating_add(TURN_WAIT_MS_MAX) } else { cmd.expires_ms },
        interruptible: cmd.interruptible,
    };
    ctx.event("order.placed", id, format!("Account {buyer} wants {wanted} machines at up to {price_limit} an hour."));
    enter(state, ctx, row);
    Outcome::made(id)
}

/// Orders again what a lost agreement left. Its money is on hold already; it waits for an hour, or not at all if the order
/// before it did not.
pub(crate) fn place_again(state: &mut State, ctx: &mut Context, row: OrderRow) {
    let wait_ms = if row.rests { AGAIN_WAIT_MS } else { TURN_WAIT_MS_MAX };
    let row = OrderRow { sequence: next_sequence(state), due_ms: ctx.now_ms.saturating_add(wait_ms), ..row };
    ctx.event("order.placed", row.id, format!("Account {} wants another machine for what was left.", row.buyer));
    enter(state, ctx, row);
}

fn enter(state: &mut State, ctx: &mut Context, row: OrderRow) {
    let (id, buyer) = (row.id, row.buyer);
    state.timers.insert((row.due_ms, Timer::Order(id)), ());
    state.orders.insert(row);
    limits::opened(state, buyer);
    ctx.fresh.orders.push(FreshOrder { id, placed: true });
}

fn check(state: &State, ctx: &Context, cmd: &PlaceOrder) -> Result<(), Refusal> {
    check_machines(cmd.machines)?;
    if cmd.least.is_some_and(|least| !(1..=cmd.machines).contains(&least)) {
        return Err(Refusal::BadLeast);
    }
    if cmd.price_limit.is_zero() || cmd.total_limit.is_zero() {
        return Err(Refusal::ZeroPrice);
    }
    if cmd.duration_s == 0 {
        return Err(Refusal::ZeroDuration);
    }
    if cmd.duration_s > DURATION_S_MAX {
        return Err(Refusal::BadDuration);
    }
    if cmd.start_deadline_s.is_some_and(|seconds| seconds > DURATION_S_MAX) {
        return Err(Refusal::BadStartDeadline);
    }
    if cmd.away_s.is_some_and(|seconds| seconds > DURATION_S_MAX) {
        return Err(Refusal::BadAway);
    }
    let at_once = cmd.immediate || cmd.offer.is_some();
    if !(at_once && cmd.expires_ms == 0) {
        check_time(ctx, cmd.expires_ms)?;
    }
    let Some(offer) = cmd.offer else { return Ok(()) };
    if cmd.machines != 1 {
        return Err(Refusal::BadSelect);
    }
    match state.offers.get(&offer).map(|row| row.status) {
        None => Err(Refusal::UnknownOffer),
        Some(OfferStatus::Withdrawn | OfferStatus::Lapsed) => Err(Refusal::OfferClosed),
        Some(OfferStatus::Open | OfferStatus::Rented) => Ok(()),
    }
}

fn check_machines(machines: u32) -> Result<(), Refusal> {
    match machines {
        0 => Err(Refusal::ZeroMachines),
        1..=ORDER_MACHINES_MAX => Ok(()),
        _ => Err(Refusal::TooManyWanted),
    }
}

fn check_time(ctx: &Context, expires_ms: u64) -> Result<(), Refusal> {
    let latest = ctx.now_ms.saturating_add(ORDER_WAIT_MS_MAX);
    if expires_ms > ctx.now_ms && expires_ms <= latest { Ok(()) } else { Err(Refusal::BadOrderExpiry) }
}

/// Changes what an order still wants. Whatever is changed, it goes to the end of the orders with its limit.
pub(crate) fn amend(state: &mut State, ctx: &mut Context, buyer: AccountId, cmd: &AmendOrder) -> Outcome {
    let place = match own(state, buyer, cmd.order) {
        Ok(place) => place,
        Err(refusal) => return refusal.into(),
    };
    let Some(row) = state.orders.at(place) else { return Refusal::UnknownOrder.into() };
    let (held, old_due_ms) = (row.money, row.due_ms);
    let wanted = cmd.machines.unwrap_or(row.wanted);
    let price_limit = cmd.price_limit.unwrap_or(row.price_limit);
    let money = cmd.total_limit.unwrap_or(row.money);
    let due_ms = cmd.expires_ms.unwrap_or(row.due_ms);
    let checked = check_machines(wanted)
        .and_then(|()| if price_limit.is_zero() || money.is_zero() { Err(Refusal::ZeroPrice) } else { Ok(()) })
        .and_then(|()| cmd.expires_ms.map_or(Ok(()), |expires_ms| check_time(ctx, expires_ms)))
        .and_then(|()| match money.checked_sub(held) {
            Some(more) if !more.is_zero() => orders::hold(state, ctx, buyer, cmd.order, more),
            Some(_) => Ok(()),
            None => {
                orders::release(state, ctx, buyer, cmd.order, held.saturating_sub(money));
                Ok(())
            }
        });
    if let Err(refusal) = checked {
        return refusal.into();
    }
    if due_ms != old_due_ms {
        state.timers.remove(&(old_due_ms, Timer::Order(cmd.order)));
        state.timers.insert((due_ms, Timer::Order(cmd.order)), ());
    }
    let sequence = next_sequence(state);
    if let Some(row) = state.orders.at_mut(place) {
        // All or none stays all or none.
        row.least = if row.least == row.wanted { wanted } else { row.least.min(wanted) };
        (row.wanted, row.price_limit, row.money, row.due_ms, row.sequence) =
            (wanted, price_limit, money, due_ms, sequence);
    }
    ctx.fresh.orders.push(FreshOrder { id: cmd.order, placed: false });
    Outcome::DONE
}

/// Takes an order back. Agreements that it has led to go on.
pub(crate) fn cancel(state: &mut State, ctx: &mut Context, buyer: AccountId, cmd: &CancelOrder) -> Outcome {
    if let Err(refusal) = own(state, buyer, cmd.order) {
        return refusal.into();
    }
    finish(state, ctx, cmd.order);
    ctx.event("order.cancelled", cmd.order, format!("Order {} was cancelled.", cmd.order));
    Outcome::DONE
}

/// An order did not get all that it wanted in its time.
pub(super) fn lapse(state: &mut State, ctx: &mut Context, order: OrderId) {
    finish(state, ctx, order);
    ctx.event("order.lapsed", order, format!("Order {order} got no more machines in its time."));
}

/// Ends an order: what it still holds goes back.
pub(super) fn finish(state: &mut State, ctx: &mut Context, order: OrderId) {
    let Some(row) = end_order(state, order) else { return };
    orders::release(state, ctx, row.buyer, order, row.money);
    limits::closed(state, row.buyer);
}

/// Where an account's own order is.
fn own(state: &State, buyer: AccountId, order: OrderId) -> Result<Place, Refusal> {
    let place = state.orders.find(&order).ok_or(Refusal::UnknownOrder)?;
    let row = state.orders.at(place).ok_or(Refusal::UnknownOrder)?;
    if row.buyer != buyer {
        return Err(Refusal::NotYourOrder);
    }
    if row.job.is_some() { Err(Refusal::OrderOfJob) } else { Ok(place) }
}
