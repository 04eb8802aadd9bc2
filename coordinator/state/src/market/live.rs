//! The engine beside the rows of the state that applies the log: what matching is fast by, and nothing that it decides by.
//!
//! A view of the state has none, and builds one if entries are applied to it. Whatever changes an offer's or a machine's
//! eligibility says so here (`offer_changed`, `machine_changed`); orders come in at their turn (`matching.rs`). What waits
//! its turn in the backlog cannot be had and wants nothing: the engine has such offers closed and such orders not at all.

use super::{
    Fresh, OfferRow, OfferStatus, OrderRow,
    attributes::attributes,
    engine::{Ask, Bid, Engine, Slot},
};
use crate::{
    context::Context,
    ids::{MachineId, OfferId, OrderId},
    index::{HashKey, Index},
    power,
    state::State,
};
use std::collections::BTreeSet;

/// The engine, once it was needed. A copy of the state has none.
#[derive(Debug, Default)]
pub(crate) struct Live(Option<Box<Built>>);

impl Clone for Live {
    fn clone(&self) -> Self {
        Self(None)
    }
}

/// An engine that follows the rows, and where they are in it.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) engine: Engine<OfferId, OrderId>,
    /// From the hashes of ids to the slots in the engine, which knows the ids.
    offers: Index,
    orders: Index,
    hash_key: HashKey,
    /// What changed since a linked envelope began.
    touched: Option<Touched>,
}

#[derive(Debug, Default)]
struct Touched {
    offers: BTreeSet<OfferId>,
    orders: BTreeSet<OrderId>,
}

/// An offer was made, amended or closed, or can be had again; `described`: what can be asked about it changed, its price aside.
pub(crate) fn offer_changed(state: &mut State, ctx: &mut Context, offer: OfferId, described: bool) {
    let mut live = std::mem::take(&mut state.live);
    let row = state.offers.get(&offer);
    let open = row.is_some_and(|row| available(state, row));
    if let Some(built) = &mut live.0 {
        built.sync_row(state, offer, row, open, described);
    }
    state.live = live;
    if open {
        ctx.fresh.offers.push(offer);
    }
}

/// An offer has another price or time, and nothing else about it changed.
pub(crate) fn offer_amended(state: &mut State, ctx: &mut Context, offer: OfferId) {
    let mut live = std::mem::take(&mut state.live);
    // While nothing waits for its turn the engine has just those offers open that can be had: no need to look at machines.
    let known = live.0.as_mut().filter(|_| state.backlog.is_empty());
    let open = known.and_then(|built| built.amend_offer(state, state.offers.get(&offer)?));
    state.live = live;
    match open {
        Some(true) => ctx.fresh.offers.push(offer),
        Some(false) => {}
        None => offer_changed(state, ctx, offer, false),
    }
}

/// A machine came, went, was rented or is free again, was measured or has earned: all that is offered of it changed.
pub(crate) fn machine_changed(state: &mut State, ctx: &mut Context, machine: MachineId) {
    let offers: Vec<OfferId> = super::book::offers_of(state, machine).collect();
    for offer in offers {
        let open = state.offers.get(&offer).is_some_and(|row| available(state, row));
        follow(state, |built, state| built.sync_offer(state, offer, open, true));
        if open {
            ctx.fresh.offers.push(offer);
        }
    }
}

/// A linked envelope begins: what it changes may be undone.
pub(crate) fn begin_link(state: &mut State) {
    follow(state, |built, _| built.touched = Some(Touched::default()));
}

/// A linked envelope is done.
pub(crate) fn end_link(state: &mut State) {
    follow(state, |built, _| built.touched = None);
}

/// The engine of a state whose linked envelope was undone goes over to the state that was before it, and follows its rows.
/// One that was built meanwhile is left: it does not know what was there before.
pub(crate) fn undo_link(state: &mut State, mut live: Live) {
    let touched = live.0.as_mut().and_then(|built| built.touched.take());
    let Some(touched) = touched else { return };
    state.live = live;
    let late = late(state);
    follow(state, |built, state| {
        for offer in touched.offers {
            let open = state.offers.get(&offer).is_some_and(|row| available(state, row));
            built.sync_offer(state, offer, open && !late.offers.contains(&offer), true);
        }
        for order in touched.orders {
            match state.orders.get(&order).filter(|_| !late.orders.contains(&order)) {
                Some(row) => {
                    built.sync_order(row);
                }
                None => built.withhold_order(order),
            }
        }
    });
}

/// Takes the engine out of the state, building it if need be; `put` brings it back. What is fresh is left to its turn.
pub(super) fn take(state: &mut State, fresh: &Fresh) -> Box<Built> {
    state.live.0.take().unwrap_or_else(|| Box::new(Built::of(state, fresh)))
}

pub(super) fn put(state: &mut State, built: Box<Built>) {
    state.live.0 = Some(built);
}

/// Whether there is an engine to keep in step.
pub(super) fn is_built(state: &State) -> bool {
    state.live.0.is_some()
}

/// Lets the engine, if there is one, follow the rows.
pub(super) fn follow(state: &mut State, act: impl FnOnce(&mut Built, &State)) {
    if let Some(mut built) = state.live.0.take() {
        act(&mut built, state);
        state.live.0 = Some(built);
    }
}

/// Whether an offer's machine can be had under it: there, free, measured.
pub(super) fn available(state: &State, offer: &OfferRow) -> bool {
    let Some(machine) = state.machines.get(&offer.machine) else { return false };
    offer.status == OfferStatus::Open
        && machine.available()
        && machine.is_free()
        && power::has_fgemm(state, offer.machine)
}

/// What waits in the backlog for its turn, which has not begun.
fn late(state: &State) -> Touched {
    let mut late = Touched::default();
    for (_, fresh) in state.backlog.iter() {
        if fresh.from.is_none() {
            late.offers.extend(&fresh.offers);
        }
        late.orders.extend(fresh.orders.iter().map(|order| order.id));
    }
    late
}

impl Built {
    fn of(state: &State, fresh: &Fresh) -> Self {
        let mut built = Self {
            engine: Engine::new(),
            offers: Index::default(),
            orders: Index::default(),
            hash_key: HashKey::of(&state.cluster_id),
            touched: None,
        };
        let mut late = late(state);
        late.orders.extend(fresh.orders.iter().map(|order| order.id));
        for ((_, offer), ()) in state.machine_offers.iter() {
            let open = state.offers.get(offer).is_some_and(|row| available(state, row));
            built.sync_offer(state, *offer, open && !late.offers.contains(offer), true);
        }
        for (_, row) in state.orders.iter().filter(|(_, row)| !late.orders.contains(&row.id)) {
            built.add_order(row);
        }
        built
    }

    /// Where an offer is.
    pub(super) fn offer(&self, offer: OfferId) -> Option<Slot> {
        self.offers.find(self.hash_key.hash(offer.as_ref()), |slot| self.engine.offer(slot) == Some(offer))
    }

    fn order(&self, order: OrderId) -> Option<Slot> {
        self.orders.find(self.hash_key.hash(order.as_ref()), |slot| self.engine.order(slot) == Some(order))
    }

    fn add_order(&mut self, row: &OrderRow) -> Slot {
        let slot = self.engine.add_order(row.id, bid(row), &row.query);
        self.orders.insert(self.hash_key.hash(row.id.as_ref()), slot);
        slot
    }

    /// Brings an offer in line with its row; what can be asked about it too if it was `described` anew.
    pub(super) fn sync_offer(&mut self, state: &State, offer: OfferId, open: bool, described: bool) {
        self.sync_row(state, offer, state.offers.get(&offer), open, described);
    }

    /// The same, of whoever has looked for the row.
    fn sync_row(&mut self, state: &State, offer: OfferId, row: Option<&OfferRow>, open: bool, described: bool) {
        self.touch_offer(offer);
        let row = row.filter(|row| !row.status.ended());
        match (row, self.offer(offer)) {
            (None, None) => {}
            (None, Some(slot)) => {
                self.engine.remove_offer(slot);
                self.offers.remove(self.hash_key.hash(offer.as_ref()), slot);
            }
            (Some(row), None) => {
                let slot = self.engine.add_offer(offer, ask(state, row, open), attributes(state, row));
                self.offers.insert(self.hash_key.hash(offer.as_ref()), slot);
            }
            (Some(row), Some(slot)) => {
                let ask = ask(state, row, open);
                if self.engine.ask(slot) != Some(&ask) {
                    self.engine.amend_offer(slot, ask);
                }
                if described {
                    self.engine.set_attributes(slot, attributes(state, row));
                }
            }
        }
    }

    /// Gives an offer the price and the times of its row; whether it is open, if the engine has it.
    fn amend_offer(&mut self, state: &State, row: &OfferRow) -> Option<bool> {
        let slot = self.offer(row.id)?;
        let OfferRow { price_per_hour: price, sequence, expires_ms, .. } = *row;
        // Of a rented one the engine has none left; it is closed until its machine is free, and whole then.
        let amended = Ask { price, sequence, expires_ms, quantity: 1, ..*self.engine.ask(slot)? };
        debug_assert_eq!(amended, ask(state, row, available(state, row)), "the engine follows the rows");
        self.touch_offer(row.id);
        self.engine.amend_offer(slot, amended);
        Some(amended.open)
    }

    /// An offer cannot be had for now.
    pub(super) fn withhold_offer(&mut self, offer: OfferId) {
        self.touch_offer(offer);
        if let Some(slot) = self.offer(offer) {
            self.engine.set_open(slot, false);
        }
    }

    /// Brings an order in line with its row, and returns where it is.
    pub(super) fn sync_order(&mut self, row: &OrderRow) -> Slot {
        self.touch_order(row.id);
        let Some(slot) = self.order(row.id) else { return self.add_order(row) };
        self.engine.amend_order(slot, bid(row));
        slot
    }

    /// An order is over, or wants nothing for now.
    pub(super) fn withhold_order(&mut self, order: OrderId) {
        self.touch_order(order);
        if let Some(slot) = self.order(order) {
            self.engine.remove_order(slot);
            self.orders.remove(self.hash_key.hash(order.as_ref()), slot);
        }
    }

    /// The first `count` fills are the order's. If that is all that it wants, the engine has forgotten it.
    pub(super) fn settle(&mut self, order: OrderId, count: usize) {
        self.touch_order(order);
        let taken: Vec<OfferId> = self.engine.fills().iter().take(count).map(|fill| fill.offer).collect();
        taken.into_iter().for_each(|offer| self.touch_offer(offer));
        let Some(slot) = self.order(order) else { return };
        self.engine.settle(slot, count);
        if self.engine.bid(slot).is_none() {
            self.orders.remove(self.hash_key.hash(order.as_ref()), slot);
        }
    }

    fn touch_offer(&mut self, offer: OfferId) {
        if let Some(touched) = &mut self.touched {
            touched.offers.insert(offer);
        }
    }

    fn touch_order(&mut self, order: OrderId) {
        if let Some(touched) = &mut self.touched {
            touched.orders.insert(order);
        }
    }
}

fn ask(state: &State, row: &OfferRow, open: bool) -> Ask {
    Ask {
        owner: row.owner,
        machine: row.machine,
        price: row.price_per_hour,
        sequence: row.sequence,
        quantity: 1,
        open,
        duration_min_s: row.duration_min_s,
        duration_max_s: row.duration_max_s,
        expires_ms: row.expires_ms,
        interruptible: row.interruption.is_some(),
        memory_bytes: state.machines.get(&row.machine).map_or(0, |machine| machine.inventory.ram_bytes),
    }
}

/// An order as matching sees it.
pub(super) fn bid(row: &OrderRow) -> Bid {
    Bid {
        buyer: row.buyer,
        limit: row.price_limit,
        sequence: row.sequence,
        wanted: row.wanted,
        least: row.least,
        distinct_owners: row.job.is_some(),
        duration_s: row.duration_s,
        memory_bytes: row.memory_bytes,
        interruptible: row.interruptible,
    }
}
