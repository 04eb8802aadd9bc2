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

/// What came of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The order at this slot would get [`Engine::fills`]: to be settled, or left as it is, before the next step.
    Fills(Slot),
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

/// What a pass remembers between its steps, and lists that every call needs.
#[derive(Debug)]
pub(super) struct Scratch<O> {
    pub(super) queries: Vec<Slot>,
    fills: Vec<Fill<O>>,
    /// Offers of the pass.
    offers: Vec<Slot>,
    frontier: Vec<Frontier>,
    /// Whose order was looked at last, and its rank.
    last: Option<(usize, Rank)>,
}

impl<O> Default for Scratch<O> {
    fn default() -> Self {
        Self { queries: Vec::new(), fills: Vec::new(), offers: Vec::new(), frontier: Vec::new(), last: None }
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
    /// Looks at one order that is new or was amended. Costs a look for each offer that the query accepts, at least one.
    pub fn serve_order(&mut self, slot: Slot, now_ms: u64, looks: &mut u32) -> Step {
        let Some(rank) = self.bid(slot).map(Bid::rank) else { return Step::Done };
        match self.look(slot, now_ms, looks) {
            Found::Unfinished => Step::Stopped(rank),
            Found::Fills => Step::Fills(slot),
            Found::Nothing => Step::Done,
        }
    }

    /// Begins a pass over the orders that may use offers that can be had again, are new, or cost less than before: the best
    /// order that any of their queries has first, then the next, until the offers are gone or no order is left that could
    /// use them. `from` leaves out the orders before a rank. There is one pass at a time.
    pub fn serve_offers(&mut self, offers: &[Slot], from: Option<Rank>) {
        let mut frontier = std::mem::take(&mut self.scratch.frontier);
        frontier.clear();
        offers.iter().for_each(|offer| self.reach_orders(*offer, from, &mut frontier));
        let Scratch { offers: kept, .. } = &mut self.scratch;
        kept.clear();
        kept.extend(offers);
        (self.scratch.frontier, self.scratch.last) = (frontier, None);
    }

    /// Goes on with the pass to the next order that would get something.
    pub fn step(&mut self, now_ms: u64, looks: &mut u32) -> Step {
        if let Some((at, rank)) = self.scratch.last.take() {
            if !self.scratch.offers.iter().any(|offer| self.ask(*offer).is_some_and(Ask::in_book)) {
                return Step::Done;
            }
            self.pass_on(at, rank);
        }
        while let Some((at, rank, order)) = best(&self.scratch.frontier) {
            match self.look(order, now_ms, looks) {
                Found::Unfinished => return Step::Stopped(rank),
                Found::Fills => {
                    self.scratch.last = Some((at, rank));
                    return Step::Fills(order);
                }
                Found::Nothing => self.pass_on(at, rank),
            }
        }
        Step::Done
    }

    /// What the order of the last [`Step::Fills`] would get, best offer first.
    pub fn fills(&self) -> &[Fill<O>] {
        &self.scratch.fills
    }

    /// To the next order of a query that still pays.
    fn pass_on(&mut self, at: usize, rank: Rank) {
        let Some(one) = self.scratch.frontier.get(at) else { return };
        let next = self.query_entry(one.query).and_then(|query| after(&query.bids, rank));
        if let Some(one) = self.scratch.frontier.get_mut(at) {
            one.next = next.filter(|(rank, _)| reaches(*rank, one.lowest));
        }
    }

    /// Adds the queries that accept an offer and have orders that can pay for it.
    fn reach_orders(&self, offer: Slot, from: Option<Rank>, frontier: &mut Vec<Frontier>) {
        let Some(entry) = self.ask_entry(offer).filter(|entry| entry.ask.in_book()) else { return };
        let price = entry.ask.price;
        let mut add = |slot: Slot, query: &QueryEntry| {
            let first = match from {
                None => query.bids.first_key_value(),
                Some(from) => query.bids.range(from..).next(),
            };
            let next = first.map(|(rank, slot)| (*rank, *slot));
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
            let fits = ask.fits(bid, now_ms);
            // One machine of an owner, or at least no machine twice.
            let same = |fill: &Fill<O>| {
                fill.ask.machine == ask.machine || (bid.distinct_owners && fill.ask.owner == ask.owner)
            };
            if !fits || fills.iter().any(same) {
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

    /// Takes the first `count` of [`Engine::fills`] for the order that they were found for. What it still wants then, it
    /// takes as it comes.
    pub fn settle(&mut self, order: Slot, count: usize) {
        let Some(bid) = self.bid(order).copied() else { return };
        let fills = std::mem::take(&mut self.scratch.fills);
        let mut got = 0u32;
        for fill in fills.iter().take(count) {
            got = got.saturating_add(fill.quantity);
            let quantity = fill.ask.quantity.saturating_sub(fill.quantity);
            self.amend_offer(fill.slot, Ask { quantity, ..fill.ask });
        }
        match bid.wanted.saturating_sub(got) {
            0 => self.remove_order(order),
            wanted => self.amend_order(order, Bid { wanted, least: 1, ..bid }),
        }
        self.scratch.fills = fills;
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
