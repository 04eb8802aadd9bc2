//! Offers come, change and go; the ladders of the queries that accept them follow.

use super::{Ask, AskEntry, Engine, NARROW_MAX, Reach, Slot, put};
use crate::{
    market::query::{Attributes, Number, NumberAttribute, Provenance},
    money::Money,
};

impl<O: Copy, B: Copy> Engine<O, B> {
    /// Adds an offer. Its price is an attribute too.
    pub fn add_offer(&mut self, id: O, ask: Ask, mut attributes: Attributes) -> Slot {
        set_price(&mut attributes, ask.price);
        let entry = AskEntry { id, ask, attributes: Box::new(attributes), narrow: Vec::new() };
        let slot = put(&mut self.asks, &mut self.free_asks, entry);
        self.find_queries(slot);
        self.enter(slot);
        slot
    }

    /// Takes an offer out for good.
    pub fn remove_offer(&mut self, slot: Slot) {
        self.leave(slot);
        self.forget_queries(slot);
        if self.asks.get_mut(slot as usize).and_then(Option::take).is_some() {
            self.free_asks.push(slot);
        }
    }

    /// Changes an offer's terms. Whoever changes its price gives it a new place in time.
    pub fn amend_offer(&mut self, slot: Slot, ask: Ask) {
        self.leave(slot);
        let Some(entry) = self.asks.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        let repriced = entry.ask.price != ask.price;
        entry.ask = ask;
        if repriced && self.on_price > 0 {
            set_price(&mut entry.attributes, ask.price);
            self.forget_queries(slot);
            self.find_queries(slot);
        }
        self.enter(slot);
    }

    /// Puts an offer into the book or takes it out, without its leaving its place in time.
    pub fn set_open(&mut self, slot: Slot, open: bool) {
        let Some(ask) = self.ask(slot).copied().filter(|ask| ask.open != open) else { return };
        self.amend_offer(slot, Ask { open, ..ask });
    }

    /// Changes what can be asked about an offer.
    pub fn set_attributes(&mut self, slot: Slot, mut attributes: Attributes) {
        let Some(entry) = self.ask_entry(slot) else { return };
        set_price(&mut attributes, entry.ask.price);
        if *entry.attributes == attributes {
            return;
        }
        self.leave(slot);
        self.forget_queries(slot);
        if let Some(entry) = self.asks.get_mut(slot as usize).and_then(Option::as_mut) {
            *entry.attributes = attributes;
        }
        self.find_queries(slot);
        self.enter(slot);
    }

    /// Into the ladders, if it can be had.
    fn enter(&mut self, slot: Slot) {
        let Some(entry) = self.asks.get(slot as usize).and_then(Option::as_ref).filter(|entry| entry.ask.in_book())
        else {
            return;
        };
        let rank = entry.ask.rank();
        self.ladder.insert(rank, slot);
        for (query, generation) in &entry.narrow {
            if let Some(query) = self.queries.get_mut(*query as usize)
                && query.generation == *generation
                && let Reach::Narrow { ladder, .. } = &mut query.reach
            {
                ladder.insert(rank, slot);
            }
        }
    }

    /// Out of the ladders.
    pub(super) fn leave(&mut self, slot: Slot) {
        let Some(entry) = self.asks.get(slot as usize).and_then(Option::as_ref).filter(|entry| entry.ask.in_book())
        else {
            return;
        };
        let rank = entry.ask.rank();
        self.ladder.remove(&rank);
        for (query, generation) in &entry.narrow {
            if let Some(query) = self.queries.get_mut(*query as usize)
                && query.generation == *generation
                && let Reach::Narrow { ladder, .. } = &mut query.reach
            {
                ladder.remove(&rank);
            }
        }
    }

    /// Notes the narrow queries that accept an offer. It is in no ladder now.
    fn find_queries(&mut self, slot: Slot) {
        let mut found = std::mem::take(&mut self.scratch.queries);
        found.clear();
        let Some(entry) = self.asks.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        self.access.candidates(&entry.attributes, &mut found);
        let mut too_many = Vec::new();
        for candidate in &found {
            let Some(query) = self.queries.get_mut(*candidate as usize) else { continue };
            let Reach::Narrow { members, .. } = &mut query.reach else { continue };
            if query.query.accepts(&entry.attributes) {
                entry.narrow.push((*candidate, query.generation));
                *members = members.saturating_add(1);
                self.narrow_total = self.narrow_total.saturating_add(1);
                if *members > NARROW_MAX {
                    too_many.push(*candidate);
                }
            }
        }
        self.scratch.queries = found;
        too_many.into_iter().for_each(|query| self.broaden(query));
    }

    fn forget_queries(&mut self, slot: Slot) {
        let Some(entry) = self.asks.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        for (query, generation) in entry.narrow.drain(..) {
            if let Some(query) = self.queries.get_mut(query as usize)
                && query.generation == generation
                && let Reach::Narrow { members, .. } = &mut query.reach
            {
                *members = members.saturating_sub(1);
                self.narrow_total = self.narrow_total.saturating_sub(1);
            }
        }
    }
}

pub(super) fn set_price(attributes: &mut Attributes, price: Money) {
    attributes.set_number(NumberAttribute::Price, Number::money(price), Provenance::Ledger);
}
