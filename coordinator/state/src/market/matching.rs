//! Matching: whoever is new looks at who waits, and the earlier and better of those comes first.
//!
//! Commands leave what is new in the context, as [`Fresh`]: orders, and offers that can be had (again) or changed. Each is
//! looked at once, when its turn comes: an order against the offers, offers against the orders that could use them, in the
//! order of limit and time. Nothing else can match, since what was there before was looked at before. Offers are taken
//! cheapest first, then oldest; the price is that of whichever was in the book first, the offer's or the order's limit.
//!
//! Work is bounded by looks an entry. What they did not reach goes into the backlog, which keeps its order: in the next
//! entry its turn comes before anything newer, and until then it is not in the engine, so that nothing overtakes it.

use super::{
    MatchedMachine, OrderRow, TRADES_MAX, TradeRow,
    book::{end_order, offers_of, reopen, take},
    engine::{Rank, Slot, Step},
    live::{self, Built},
    orders,
    query::Query,
};
use crate::{
    agreements,
    context::Context,
    ids::{JobId, MachineId, OfferId, OrderId},
    jobs, ledger,
    money::Money,
    registry::Place,
    state::State,
};
use serde::{Deserialize, Serialize};

/// Orders and offers looked at in one entry.
pub(crate) const LOOKS_PER_ENTRY_MAX: u32 = 65_536;
/// A query that no order waits with is tried on every offer: so many of them, times the lengths of its text, are a look.
const QUERY_OFFERS_A_LOOK: u64 = 16;
/// Bytes of a query's text that cost as much again.
const QUERY_BYTES_A_LOOK: u64 = 32;

/// What matching has not looked at yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fresh {
    /// Offers that may be what an order waits for.
    pub(crate) offers: Vec<OfferId>,
    /// Orders, in order.
    pub(crate) orders: Vec<FreshOrder>,
    /// Where among the orders the offers' turn goes on, once it has begun.
    pub(crate) from: Option<OrderKey>,
}

/// An order that has not been looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FreshOrder {
    pub(crate) id: OrderId,
    /// It was placed, not amended: its query may be new.
    pub(crate) placed: bool,
}

/// Place of an order: highest limit first, then oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OrderKey {
    /// [`Money::MAX`] less the limit.
    below_max: Money,
    sequence: u64,
}

impl From<Rank> for OrderKey {
    fn from(rank: Rank) -> Self {
        Self { below_max: rank.price, sequence: rank.sequence }
    }
}

impl From<OrderKey> for Rank {
    fn from(key: OrderKey) -> Self {
        Self { price: key.below_max, sequence: key.sequence }
    }
}

impl Fresh {
    pub(crate) fn is_empty(&self) -> bool {
        self.offers.is_empty() && self.orders.is_empty()
    }

    fn clear(&mut self) {
        self.offers.clear();
        self.orders.clear();
        self.from = None;
    }
}

/// Matches whatever is new: see the module. Runs after the time-driven work and after each command.
pub(crate) fn try_match(state: &mut State, ctx: &mut Context) {
    while !ctx.fresh.is_empty() {
        let mut fresh = std::mem::take(&mut ctx.fresh);
        let rest = if state.backlog.is_empty() { turn(state, ctx, &mut fresh, false) } else { Some(fresh.clone()) };
        match rest {
            Some(rest) => {
                defer(state, &rest);
                let last = state.backlog.last().map_or(0, |(number, _)| *number);
                state.backlog.insert(last.saturating_add(1), rest);
            }
            // Nearly always, and after every command: the lists are used again.
            None if ctx.fresh.is_empty() => {
                fresh.clear();
                ctx.fresh = fresh;
            }
            None => {}
        }
    }
    while ctx.looks > 0
        && let Some((number, mut fresh)) = state.backlog.first().map(|(number, fresh)| (*number, fresh.clone()))
    {
        state.backlog.remove(&number);
        if let Some(rest) = turn(state, ctx, &mut fresh, true) {
            defer(state, &rest);
            state.backlog.insert(number, rest);
        }
    }
}

/// What waits for its turn is not to be had meanwhile, unless its turn has begun.
fn defer(state: &mut State, rest: &Fresh) {
    live::follow(state, |built, _| {
        if rest.from.is_none() {
            rest.offers.iter().for_each(|offer| built.withhold_offer(*offer));
        }
        rest.orders.iter().for_each(|order| built.withhold_order(order.id));
    });
}

/// The turn of what is new, or was `late` until now. Returns what the looks did not suffice for.
fn turn(state: &mut State, ctx: &mut Context, fresh: &mut Fresh, late: bool) -> Option<Fresh> {
    if ctx.looks == 0 {
        return Some(fresh.clone());
    }
    if state.orders.is_empty() && !(late && live::is_built(state)) {
        return None;
    }
    fresh.offers.sort_unstable();
    fresh.offers.dedup();
    let mut built = live::take(state, fresh);
    if late && fresh.from.is_none() {
        for offer in &fresh.offers {
            let open = state.offers.get(offer).is_some_and(|row| live::available(state, row));
            built.sync_offer(state, *offer, open, false);
        }
    }
    let rest =
        serve_offers(state, ctx, &mut built, fresh).or_else(|| serve_orders(state, ctx, &mut built, &fresh.orders));
    live::put(state, built);
    rest
}

/// Whatever waits may use these offers. Returns what the looks did not suffice for.
fn serve_offers(state: &mut State, ctx: &mut Context, built: &mut Built, fresh: &Fresh) -> Option<Fresh> {
    if fresh.offers.is_empty() {
        return None;
    }
    let slots: Vec<Slot> = fresh.offers.iter().filter_map(|offer| built.offer(*offer)).collect();
    built.engine.serve_offers(&slots, fresh.from.map(Rank::from));
    loop {
        let whole = ctx.looks == LOOKS_PER_ENTRY_MAX;
        match built.engine.step(ctx.now_ms, &mut ctx.looks) {
            Step::Done => return None,
            Step::Fills(order) => settle(state, ctx, built, order),
            Step::Stopped(rank) => {
                ctx.looks = 0;
                let mut from = OrderKey::from(rank);
                // An order that an entry's whole budget cannot serve must not hold up those behind it.
                if whole {
                    from.sequence = from.sequence.saturating_add(1);
                }
                return Some(Fresh { from: Some(from), ..fresh.clone() });
            }
        }
    }
}

/// Each of these may use whatever is on offer. Returns what the looks did not suffice for.
fn serve_orders(state: &mut State, ctx: &mut Context, built: &mut Built, orders: &[FreshOrder]) -> Option<Fresh> {
    for (at, order) in orders.iter().enumerate() {
        let whole = ctx.looks == LOOKS_PER_ENTRY_MAX;
        let Some(place) = state.orders.find(&order.id) else { continue };
        let rests = state.orders.at(place).is_some_and(|row| row.rests);
        if !serve_order(state, ctx, built, place, order.placed) {
            ctx.looks = 0;
            if !whole {
                let orders = orders.get(at..).unwrap_or_default().to_vec();
                return Some(Fresh { orders, ..Fresh::default() });
            }
        }
        if !rests && state.orders.contains(&order.id) {
            built.withhold_order(order.id);
            orders::lapse(state, ctx, order.id);
        }
    }
    None
}

/// Whether the looks sufficed for the order at a place.
fn serve_order(state: &mut State, ctx: &mut Context, built: &mut Built, place: Place, placed: bool) -> bool {
    let Some(row) = state.orders.at(place) else { return true };
    if let Some(offer) = row.select {
        let Some(left) = ctx.looks.checked_sub(1) else { return false };
        ctx.looks = left;
        let row = row.clone();
        if let Some(matched) = selected(ctx, built, &row, offer) {
            give(state, ctx, built, &row, vec![matched]);
        }
        return true;
    }
    if placed && !built.engine.waits_with(&row.query) {
        let Some(left) = ctx.looks.checked_sub(looks_of(state, &row.query)) else { return false };
        ctx.looks = left;
    }
    let slot = built.sync_order(row);
    match built.engine.serve_order(slot, ctx.now_ms, &mut ctx.looks) {
        Step::Done => true,
        Step::Fills(order) => {
            settle(state, ctx, built, order);
            true
        }
        Step::Stopped(_) => false,
    }
}

/// Looks that a query costs which no order waits with: it is asked of every offer once, to know those that it accepts.
fn looks_of(state: &State, query: &Query) -> u32 {
    if query.accepts_all() {
        return 0;
    }
    let length = (query.text().len() as u64).checked_div(QUERY_BYTES_A_LOOK).unwrap_or(0).saturating_add(1);
    let asked = state.machine_offers.len().saturating_mul(length);
    let looks = asked.checked_div(QUERY_OFFERS_A_LOOK).unwrap_or(0);
    // Half an entry's, or an order with a long query could never be looked at on a big market.
    u32::try_from(looks).unwrap_or(u32::MAX).min(LOOKS_PER_ENTRY_MAX / 2)
}

/// The offer that an order names, if it may have it.
fn selected(ctx: &Context, built: &Built, row: &OrderRow, offer: OfferId) -> Option<MatchedMachine> {
    let slot = built.offer(offer)?;
    let ask = built.engine.ask(slot)?;
    let can = ask.in_book() && ask.price <= row.price_limit && ask.fits(&live::bid(row), ctx.now_ms);
    (can && built.engine.accepts(slot, &row.query)).then_some(MatchedMachine {
        machine: ask.machine,
        owner: ask.owner,
        offer,
        price_per_hour: ask.price,
    })
}

/// An order would get the engine's fills: it does as far as its money covers them.
fn settle(state: &mut State, ctx: &mut Context, built: &mut Built, slot: Slot) {
    let row = built.engine.order(slot).and_then(|order| state.orders.get(&order)).cloned();
    let Some(row) = row else { return };
    let fills = built.engine.fills().iter();
    let machines: Vec<MatchedMachine> = fills
        .map(|fill| MatchedMachine {
            machine: fill.ask.machine,
            owner: fill.ask.owner,
            offer: fill.offer,
            price_per_hour: fill.price,
        })
        .collect();
    give(state, ctx, built, &row, machines);
}

/// Gives an order these machines, or as many of the first as its money covers, if it takes so few.
fn give(state: &mut State, ctx: &mut Context, built: &mut Built, row: &OrderRow, mut machines: Vec<MatchedMachine>) {
    machines.truncate(covered(row, &machines));
    if machines.is_empty() {
        return;
    }
    match row.select {
        Some(_) => {}
        None => built.settle(row.id, machines.len()),
    }
    for matched in &machines {
        // Its machine is not free any more: nothing that is offered of it can be had.
        offers_of(state, matched.machine).for_each(|offer| built.withhold_offer(offer));
        take(state, matched.offer);
        state.rented.insert(matched.machine, matched.offer);
        note_trade(state, ctx, row, matched);
        if row.job.is_none() {
            rent(state, ctx, row, matched);
        }
    }
    match row.job {
        Some(job) => agree(state, ctx, row, job, machines),
        None => {
            if state.orders.get(&row.id).is_some_and(|row| row.wanted == 0) {
                orders::finish(state, ctx, row.id);
            }
        }
    }
}

/// How many of the first machines an order's money covers; none if it takes no so few. A job pays one fee on all of them.
fn covered(row: &OrderRow, machines: &[MatchedMachine]) -> usize {
    if row.job.is_some() {
        let whole = price_of(prices(machines), row.duration_s, row.fee_bp).is_some_and(|price| price <= row.money);
        return if whole { machines.len() } else { 0 };
    }
    let mut left = row.money;
    let pays = |machine: &&MatchedMachine| {
        let price = price_of([machine.price_per_hour], row.duration_s, row.fee_bp);
        price.and_then(|price| left.checked_sub(price)).map(|rest| left = rest).is_some()
    };
    let count = machines.iter().take_while(pays).count();
    if count >= row.least.max(1) as usize { count } else { 0 }
}

/// One machine for an order that stands by itself, which hands it a part of its hold.
fn rent(state: &mut State, ctx: &mut Context, order: &OrderRow, matched: &MatchedMachine) {
    let held = price_of([matched.price_per_hour], order.duration_s, order.fee_bp).unwrap_or(Money::MAX);
    if let Some(row) = state.orders.get_mut(&order.id) {
        row.money = row.money.checked_sub(held).expect("the order's money covers the machines that it was given");
        row.wanted = row.wanted.saturating_sub(1);
        row.least = 1;
    }
    agreements::begin(state, ctx, order, matched, held);
}

/// What machines can cost at most: each for the whole duration, and the fee on it, each rounded up.
pub(crate) fn price_of(prices: impl IntoIterator<Item = Money>, duration_s: u64, fee_bp: u32) -> Option<Money> {
    let rents = prices
        .into_iter()
        .try_fold(Money::ZERO, |sum, price| price.rent_held(duration_s).and_then(|rent| sum.checked_add(rent)))?;
    rents.checked_add(rents.fee_held(fee_bp)?)
}

fn prices(machines: &[MatchedMachine]) -> impl Iterator<Item = Money> {
    machines.iter().map(|machine| machine.price_per_hour)
}

/// A closed job's machines are free again.
pub(crate) fn release_machines(state: &mut State, ctx: &mut Context, job: JobId, machines: &[MachineId]) {
    for machine in machines {
        let Some(row) = state.machines.get_mut(machine).filter(|row| row.job == Some(job)) else { continue };
        row.job = None;
        free_again(state, ctx, *machine);
    }
}

/// Nobody rents a machine any more: its offer is back in the book unless it ended meanwhile.
pub(crate) fn free_again(state: &mut State, ctx: &mut Context, machine: MachineId) {
    if let Some(offer) = state.rented.remove(&machine) {
        reopen(state, offer);
    }
    live::machine_changed(state, ctx, machine);
}

/// A job has its machines: its hold is lowered to what they can cost.
fn agree(state: &mut State, ctx: &mut Context, order: &OrderRow, job: JobId, machines: Vec<MatchedMachine>) {
    end_order(state, order.id);
    for matched in &machines {
        if let Some(row) = state.machines.get_mut(&matched.machine) {
            row.job = Some(job);
        }
    }
    let held = price_of(prices(&machines), order.duration_s, order.fee_bp).unwrap_or(Money::MAX);
    ledger::release(state, ctx, job, held);
    ctx.event("job.matched", job, format!("Job {job} has its {} machines.", machines.len()));
    jobs::matched(state, ctx, job, machines);
}

fn note_trade(state: &mut State, ctx: &Context, order: &OrderRow, matched: &MatchedMachine) {
    let trade = TradeRow {
        order: order.id,
        job: order.job,
        offer: matched.offer,
        machine: matched.machine,
        buyer: order.buyer,
        seller: matched.owner,
        price_per_hour: matched.price_per_hour,
        matched_ms: ctx.now_ms,
    };
    state.head.trades = state.head.trades.saturating_add(1);
    state.trades.insert(state.head.trades, trade);
    if let Some(old) = state.head.trades.checked_sub(TRADES_MAX) {
        state.trades.remove(&old);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
pub(super) mod tests;
