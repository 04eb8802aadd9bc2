//! Orders come, change and go, and with them the queries that they share.

use super::{
    Bid, BidEntry, Engine, IDLE_MAX, Ladder, NARROW_MAX, NARROW_TOTAL_MAX, QueryEntry, Reach, Slot, access::Access,
    offers::set_price, put,
};
use crate::market::query::{Attribute, Condition, NumberAttribute, Query, Truth};
use std::sync::Arc;

/// Offers on which the clauses of a new query are tried, to find the one that accepts fewest.
const TRIED: usize = 512;

impl<O: Copy, B: Copy> Engine<O, B> {
    /// Adds an order. It is not matched yet.
    pub fn add_order(&mut self, id: B, bid: Bid, query: &Query) -> Slot {
        let query = self.query(query);
        let slot = put(&mut self.bids, &mut self.free_bids, BidEntry { id, bid, query });
        if let Some(entry) = self.queries.get_mut(query as usize) {
            let first = entry.bids.is_empty();
            entry.bids.insert(bid.rank(), slot);
            if first && !matches!(entry.reach, Reach::Narrow { .. }) {
                self.broad.push(query);
            }
        }
        slot
    }

    /// Takes an order out.
    pub fn remove_order(&mut self, slot: Slot) {
        let Some(BidEntry { bid, query, .. }) = self.bids.get_mut(slot as usize).and_then(Option::take) else { return };
        self.free_bids.push(slot);
        let Some(entry) = self.queries.get_mut(query as usize) else { return };
        entry.bids.remove(&bid.rank());
        if !entry.bids.is_empty() {
            return;
        }
        if !matches!(entry.reach, Reach::Narrow { .. }) {
            self.broad.retain(|other| *other != query);
        }
        if !std::mem::replace(&mut entry.idle, true) {
            self.idle.push_back(query);
        }
        while self.idle.len() > IDLE_MAX {
            let Some(longest) = self.idle.pop_front() else { break };
            self.drop_query(longest);
        }
    }

    /// Changes an order's terms. Whoever changes its limit gives it a new place in time.
    pub fn amend_order(&mut self, slot: Slot, bid: Bid) {
        let Some(entry) = self.bids.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        let (old, new) = (entry.bid.rank(), bid.rank());
        entry.bid = bid;
        if old != new
            && let Some(query) = self.queries.get_mut(entry.query as usize)
        {
            query.bids.remove(&old);
            query.bids.insert(new, slot);
        }
    }

    /// The slot of a query, which is new unless orders have it or had it lately.
    fn query(&mut self, query: &Query) -> Slot {
        if let Some(slot) = self.by_text.get(query.text()) {
            return *slot;
        }
        let slot = self.free_queries.pop().unwrap_or_else(|| {
            let slot = Slot::try_from(self.queries.len()).expect("queries are fewer than orders");
            self.queries.push(QueryEntry {
                query: query.clone(),
                generation: 0,
                reach: Reach::Everything,
                access: Access::Always,
                bids: Ladder::new(),
                on_price: false,
                idle: false,
            });
            slot
        });
        self.by_text.insert(Arc::clone(query.text()), slot);
        if let Some(entry) = self.queries.get_mut(slot as usize) {
            entry.query = query.clone();
            entry.generation = entry.generation.wrapping_add(1);
            entry.on_price = query.condition().mentions(Attribute::Number(NumberAttribute::Price));
            entry.reach = if query.text().is_empty() { Reach::Everything } else { Reach::Broad { misses: 0 } };
            if entry.on_price {
                self.on_price = self.on_price.saturating_add(1);
                if self.on_price == 1 {
                    self.asks.iter_mut().flatten().for_each(|ask| set_price(&mut ask.attributes, ask.ask.price));
                }
            }
            if let Some(QueryEntry { reach: Reach::Broad { .. }, .. }) = self.query_entry(slot) {
                self.narrow(slot);
            }
        }
        slot
    }

    /// Gives a broad query a ladder of its own if few enough offers satisfy it.
    pub(super) fn narrow(&mut self, slot: Slot) {
        let Some(entry) = self.queries.get_mut(slot as usize) else { return };
        let room = NARROW_MAX.min(NARROW_TOTAL_MAX.saturating_sub(self.narrow_total));
        let mut members = Vec::new();
        for (at, ask) in self.asks.iter().enumerate() {
            let Some(ask) = ask else { continue };
            if entry.query.accepts(&ask.attributes) {
                if members.len() >= room {
                    entry.reach = Reach::Broad { misses: 0 };
                    return;
                }
                members.push(at);
            }
        }
        let generation = entry.generation;
        let mut ladder = Ladder::new();
        for at in &members {
            let Some(ask) = self.asks.get_mut(*at).and_then(Option::as_mut) else { continue };
            ask.narrow.push((slot, generation));
            if ask.ask.in_book() {
                // Slots are places in this list, and it never grows beyond them.
                ladder.insert(ask.ask.rank(), *at as Slot);
            }
        }
        self.narrow_total = self.narrow_total.saturating_add(members.len());
        entry.reach = Reach::Narrow { ladder, members: members.len() };
        let access = self.access_of(slot);
        self.access.insert(&access, slot);
        if let Some(entry) = self.queries.get_mut(slot as usize) {
            entry.access = access;
        }
    }

    /// Takes a query's own ladder away: too many offers satisfy it.
    pub(super) fn broaden(&mut self, slot: Slot) {
        let Some(entry) = self.queries.get_mut(slot as usize) else { return };
        let Reach::Narrow { members, .. } = &entry.reach else { return };
        self.narrow_total = self.narrow_total.saturating_sub(*members);
        entry.reach = Reach::Broad { misses: 0 };
        // Whatever offers still know of it means nothing from now on.
        entry.generation = entry.generation.wrapping_add(1);
        if !entry.bids.is_empty() {
            self.broad.push(slot);
        }
        self.access.remove(&entry.access, slot);
    }

    /// Forgets a query that has been idle for long, unless orders came back to it.
    fn drop_query(&mut self, slot: Slot) {
        let Some(entry) = self.queries.get_mut(slot as usize) else { return };
        entry.idle = false;
        if !entry.bids.is_empty() {
            return;
        }
        self.by_text.remove(entry.query.text());
        if entry.on_price {
            self.on_price = self.on_price.saturating_sub(1);
        }
        self.broaden(slot);
        self.free_queries.push(slot);
    }

    /// The clause that accepts the fewest of some offers.
    fn access_of(&self, slot: Slot) -> Access {
        let Some(entry) = self.query_entry(slot) else { return Access::Always };
        let step = self.asks.len().checked_div(TRIED).unwrap_or(0).max(1);
        let accepted = |clause: &Condition| {
            let tried = self.asks.iter().step_by(step).flatten();
            tried.filter(|ask| clause.truth(&ask.attributes) == Truth::True).count()
        };
        let ways = Access::ways(entry.query.condition());
        ways.min_by_key(|(_, clause)| accepted(clause)).map_or(Access::Always, |(access, _)| access)
    }
}
