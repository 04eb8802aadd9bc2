//! Who gets what: one order against the offers, and new offers against the orders.

use super::{Ask, Bid, BidEntry, Engine, Ladder, NARROW_MAX, QueryEntry, Rank, Reach, Slot};
use crate::money::Money;
use std::ops::Bound;

/// Passed-over offers, in multiples of all that there are, after which a broad query is tried as a narrow one again.
const MISSES_MAX: usize = 4;

/// Some machines of one offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill<O> {
    /// Which offer.
    pub offer: O,
    /// Where it is.
    pub slot: Slot,
    /// Its terms.
    pub ask: Ask,
    /// What is paid per hour: the price of the one that rests.
    pub price: Money,
    /// Machines.
    pub quantity: u32,
}

/// What an order would get.
#[derive(Debug)]
pub struct Proposal<'a, O, B> {
    /// Which order.
    pub order: B,
    /// Where it is.
    pub slot: Slot,
    /// Its terms.
    pub bid: &'a Bid,
    /// From the best offer on.
    pub fills: &'a [Fill<O>],
}

/// How far matching came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is left to look at.
    Done,
    /// The looks ran out before the order at this rank was decided; it has kept its place.
    Stopped(Rank),
}

/// What one look at an order found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Fills,
    Nothing,
    Unfinished,
}

/// Lists that every call needs.
#[derive(Debug)]
pub(super) struct Scratch<O> {
    pub(super) queries: Vec<Slot>,
    fills: Vec<Fill<O>>,
    frontier: Vec<Frontier>,
}

impl<O> Default for Scratch<O> {
    fn default() -> Self {
        Self { queries: Vec::new(), fills: Vec::new(), frontier: Vec::new() }
    }
}

/// A query that new offers satisfy.
#[derive(Debug, Clone, Copy)]
struct Frontier {
    query: Slot,
    /// The lowest price among those offers: orders below it have no use for them.
    lowest: Money,
    /// Its next order.
    next: Option<(Rank, Slot)>,
}

impl<O: Copy, B: Copy> Engine<O, B> {
    /// Matches one order that is new or was amended. `accept` has the last word and, when it says yes, has done whatever a
    /// trade is to the caller; the engine then takes the machines out. Costs a look for each offer that the query accepts,
    /// at least one.
    pub fn serve_order(
        &mut self,
        slot: Slot,
        now_ms: u64,
        looks: &mut u32,
        mut accept: impl FnMut(&Proposal<'_, O, B>) -> bool,
    ) -> Progress {
        let Some(rank) = self.bid(slot).map(Bid::rank) else { return Progress::Done };
        match self.look(slot, now_ms, looks) {
            Found::Unfinished => return Progress::Stopped(rank),
            Found::Fills => {
                self.settle(slot, &mut accept);
            }
            Found::Nothing => {}
        }
        Progress::Done
    }

    /// Matches offers that can be had again, are new, or cost less than before, with the orders that wait: the best order
    /// that any of their queries has first, then the next, until the offers are gone or no order is left that could use
    /// them.
    pub fn serve_offers(
        &mut self,
        offers: &[Slot],
        now_ms: u64,
        looks: &mut u32,
        mut accept: impl FnMut(&Proposal<'_, O, B>) -> bool,
    ) -> Progress {
        let mut frontier = std::mem::take(&mut self.scratch.frontier);
        frontier.clear();
        offers.iter().for_each(|offer| self.reach_orders(*offer, &mut frontier));
        let mut progress = Progress::Done;
        while let Some((at, rank, order)) = best(&frontier) {
            match self.look(order, now_ms, looks) {
                Found::Unfinished => {
                    progress = Progress::Stopped(rank);
                    break;
                }
                Found::Fills => {
                    let served = self.settle(order, &mut accept);
                    if served && !offers.iter().any(|offer| self.ask(*offer).is_some_and(Ask::in_book)) {
                        break;
                    }
                }
                Found::Nothing => {}
            }
            if let Some(one) = frontier.get_mut(at) {
                one.next = self.query_entry(one.query).and_then(|query| after(&query.bids, rank));
                one.next = one.next.filter(|(rank, _)| reaches(*rank, one.lowest));
            }
        }
        self.scratch.frontier = frontier;
        progress
    }

    /// Adds the queries that accept an offer and have orders that can pay for it.
    fn reach_orders(&self, offer: Slot, frontier: &mut Vec<Frontier>) {
        let Some(entry) = self.ask_entry(offer).filter(|entry| entry.ask.in_book()) else { return };
        let price = entry.ask.price;
        let mut add = |slot: Slot, query: &QueryEntry| {
            let next = query.bids.first_key_value().map(|(rank, slot)| (*rank, *slot));
            if let Some(next) = next.filter(|(rank, _)| reaches(*rank, price)) {
                match frontier.iter_mut().find(|known| known.query == slot) {
                    Some(known) => known.lowest = known.lowest.min(price),
                    None => frontier.push(Frontier { query: slot, lowest: price, next: Some(next) }),
                }
            }
        };
        for (slot, generation) in &entry.narrow {
            if let Some(query) = self.query_entry(*slot).filter(|query| query.generation == *generation) {
                add(*slot, query);
            }
        }
        for slot in &self.broad {
            let Some(query) = self.query_entry(*slot) else { continue };
            let pays = query.bids.keys().next().is_some_and(|rank| reaches(*rank, price));
            if pays && (matches!(query.reach, Reach::Everything) || query.query.accepts(&entry.attributes)) {
                add(*slot, query);
            }
        }
    }

    /// Looks for what an order would get, best offer first; leaves it in `scratch.fills`.
    fn look(&mut self, order: Slot, now_ms: u64, looks: &mut u32) -> Found {
        // The order's own look pays for orders that find nothing.
        let Some(left) = looks.checked_sub(1) else { return Found::Unfinished };
        *looks = left;
        let mut fills = std::mem::take(&mut self.scratch.fills);
        fills.clear();
        let mut misses = 0usize;
        let found = self.walk(order, now_ms, looks, &mut fills, &mut misses);
        self.scratch.fills = fills;
        if misses > 0 {
            self.missed(order, misses);
        }
        found
    }

    fn walk(&self, order: Slot, now_ms: u64, looks: &mut u32, fills: &mut Vec<Fill<O>>, misses: &mut usize) -> Found {
        let Some(BidEntry { bid, query, .. }) = self.bids.get(order as usize).and_then(Option::as_ref) else {
            return Found::Nothing;
        };
        let Some(query) = self.query_entry(*query) else { return Found::Nothing };
        let (ladder, filtered) = match &query.reach {
            Reach::Everything => (&self.ladder, false),
            Reach::Narrow { ladder, .. } => (ladder, false),
            Reach::Broad { .. } => (&self.ladder, true),
        };
        let mut wanted = bid.wanted;
        for (rank, slot) in ladder {
            if rank.price > bid.limit || wanted == 0 {
                break;
            }
            let Some(entry) = self.ask_entry(*slot) else { continue };
            if filtered && !query.query.accepts(&entry.attributes) {
                *misses = misses.saturating_add(1);
                continue;
            }
            let Some(left) = looks.checked_sub(1) else { return Found::Unfinished };
            *looks = left;
            let ask = &entry.ask;
            let fits = ask.owner != bid.buyer
                && (ask.duration_min_s..=ask.duration_max_s).contains(&bid.duration_s)
                && ask.memory_bytes >= bid.memory_bytes
                && ask.expires_ms > now_ms;
            if !fits || (bid.distinct_owners && fills.iter().any(|fill| fill.ask.owner == ask.owner)) {
                continue;
            }
            let quantity = ask.quantity.min(wanted).min(if bid.distinct_owners { 1 } else { u32::MAX });
            wanted = wanted.saturating_sub(quantity);
            let price = if ask.sequence < bid.sequence { ask.price } else { bid.limit };
            fills.push(Fill { offer: entry.id, slot: *slot, ask: *ask, price, quantity });
        }
        let got = bid.wanted.saturating_sub(wanted);
        if got >= bid.least() { Found::Fills } else { Found::Nothing }
    }

    /// Trades what the last look found, if the caller agrees.
    fn settle(&mut self, order: Slot, accept: &mut impl FnMut(&Proposal<'_, O, B>) -> bool) -> bool {
        let Some(BidEntry { id, bid, .. }) = self.bids.get(order as usize).and_then(Option::as_ref) else {
            return false;
        };
        let (id, bid) = (*id, *bid);
        let fills = std::mem::take(&mut self.scratch.fills);
        let accepted = accept(&Proposal { order: id, slot: order, bid: &bid, fills: &fills });
        if accepted {
            let mut got = 0u32;
            for fill in &fills {
                got = got.saturating_add(fill.quantity);
                self.amend_offer(
                    fill.slot,
                    Ask { quantity: fill.ask.quantity.saturating_sub(fill.quantity), ..fill.ask },
                );
            }
            match bid.wanted.saturating_sub(got) {
                0 => self.remove_order(order),
                // What is left takes whatever comes.
                wanted => self.amend_order(order, Bid { wanted, least: 1, ..bid }),
            }
        }
        self.scratch.fills = fills;
        accepted
    }

    /// A broad query whose orders pass over offer after offer may have become a narrow one.
    fn missed(&mut self, order: Slot, passed: usize) {
        let Some(slot) = self.bids.get(order as usize).and_then(Option::as_ref).map(|entry| entry.query) else {
            return;
        };
        let all = self.asks.len().max(NARROW_MAX);
        let Some(entry) = self.queries.get_mut(slot as usize) else { return };
        let Reach::Broad { misses } = &mut entry.reach else { return };
        *misses = misses.saturating_add(passed);
        if *misses > all.saturating_mul(MISSES_MAX) {
            *misses = 0;
            self.narrow(slot);
            if let Some(QueryEntry { reach: Reach::Narrow { .. }, .. }) = self.query_entry(slot) {
                self.broad.retain(|other| *other != slot);
            }
        }
    }
}

/// The best next order of all, and whose it is.
fn best(frontier: &[Frontier]) -> Option<(usize, Rank, Slot)> {
    let nexts = frontier.iter().enumerate().filter_map(|(at, one)| one.next.map(|(rank, slot)| (at, rank, slot)));
    nexts.min_by_key(|(_, rank, _)| *rank)
}

fn after(ladder: &Ladder, rank: Rank) -> Option<(Rank, Slot)> {
    ladder.range((Bound::Excluded(rank), Bound::Unbounded)).next().map(|(rank, slot)| (*rank, *slot))
}

/// Whether an order at this rank pays a price.
fn reaches(rank: Rank, price: Money) -> bool {
    Money::MAX.saturating_sub(rank.price) >= price
}
