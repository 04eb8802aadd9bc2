//! The engine behind commands.

use super::{Command, Trade};
use matrixai_state::{
    Money,
    ids::MachineId,
    market::{
        engine::{Ask, Bid, Engine, Slot, Step},
        query::Query,
    },
};
use std::collections::BTreeMap;

/// Ledger time of everything here, ms: before any offer's end.
const NOW_MS: u64 = 1;

/// A market on the product's engine.
#[derive(Debug)]
pub struct Fast {
    engine: Engine<u32, u32>,
    queries: Vec<Query>,
    offers: Vec<Option<Slot>>,
    orders: Vec<Option<Slot>>,
    /// Offers of machines that have several.
    siblings: BTreeMap<MachineId, Vec<u32>>,
    sequence: u64,
}

impl Fast {
    /// An empty market whose orders use these queries.
    pub fn new(queries: &[Query]) -> Self {
        let (engine, queries) = (Engine::new(), queries.to_vec());
        Self { engine, queries, offers: Vec::new(), orders: Vec::new(), siblings: BTreeMap::new(), sequence: 0 }
    }

    /// Whether an order waits.
    pub fn waits(&self, order: u32) -> bool {
        self.orders.get(order as usize).is_some_and(Option::is_some)
    }

    /// The lowest price of what an order's query accepts.
    pub fn cheapest(&self, order: u32) -> Option<Money> {
        self.engine.cheapest(get(&self.orders, order)?).map(|ask| ask.price)
    }

    /// Does what is asked and adds what was traded to `trades`.
    pub fn apply(&mut self, command: &Command, trades: &mut Vec<Trade>) {
        match command {
            Command::Place { id, bid, query, rests } => {
                let bid = Bid { sequence: self.next(), ..*bid };
                let Some(query) = self.queries.get(*query as usize) else { return };
                let slot = self.engine.add_order(*id, bid, query);
                set(&mut self.orders, *id, Some(slot));
                self.serve_order(slot, trades);
                if !rests {
                    self.cancel(*id);
                }
            }
            Command::AmendOrder { id, limit, wanted } => {
                let Some(slot) = get(&self.orders, *id) else { return };
                let sequence = self.next();
                let Some(bid) = self.engine.bid(slot) else { return };
                let bid = Bid { limit: *limit, wanted: *wanted, sequence, ..*bid };
                self.engine.amend_order(slot, bid);
                self.serve_order(slot, trades);
            }
            Command::Cancel { id } => self.cancel(*id),
            Command::Offer { id, ask, attributes, sibling } => {
                if let Some(sibling) = sibling {
                    let all = self.siblings.entry(ask.machine).or_insert_with(|| vec![*sibling]);
                    all.push(*id);
                }
                let ask = Ask { sequence: self.next(), ..*ask };
                let slot = self.engine.add_offer(*id, ask, (**attributes).clone());
                set(&mut self.offers, *id, Some(slot));
                self.serve_offer(slot, trades);
            }
            Command::AmendOffer { id, price, quantity } => {
                let Some(slot) = get(&self.offers, *id) else { return };
                let sequence = self.next();
                let Some(ask) = self.engine.ask(slot) else { return };
                let ask = Ask { price: *price, quantity: *quantity, sequence, open: true, ..*ask };
                self.engine.amend_offer(slot, ask);
                self.serve_offer(slot, trades);
            }
            Command::Withdraw { id } => {
                if let Some(slot) = get(&self.offers, *id) {
                    self.engine.set_open(slot, false);
                }
            }
            Command::Describe { id, attributes } => {
                if let Some(slot) = get(&self.offers, *id) {
                    self.engine.set_attributes(slot, (**attributes).clone());
                    self.serve_offer(slot, trades);
                }
            }
        }
    }

    fn serve_order(&mut self, slot: Slot, trades: &mut Vec<Trade>) {
        if let Step::Fills(order) = self.engine.serve_order(slot, NOW_MS, &mut u32::MAX.clone()) {
            self.settle(order, trades);
        }
    }

    fn serve_offer(&mut self, slot: Slot, trades: &mut Vec<Trade>) {
        self.engine.serve_offers(&[slot], None);
        while let Step::Fills(order) = self.engine.step(NOW_MS, &mut u32::MAX.clone()) {
            self.settle(order, trades);
        }
    }

    /// Every fill that is proposed is taken.
    fn settle(&mut self, slot: Slot, trades: &mut Vec<Trade>) {
        let Some(order) = self.engine.order(slot) else { return };
        let fills = self.engine.fills();
        let count = fills.len();
        trades.extend(fills.iter().map(|fill| Trade {
            order,
            offer: fill.offer,
            price: fill.price,
            quantity: fill.quantity,
        }));
        let got: u32 = fills.iter().map(|fill| fill.quantity).sum();
        if self.engine.bid(slot).is_some_and(|bid| bid.wanted == got) {
            self.orders[order as usize] = None;
        }
        let taken: Vec<(u32, MachineId)> = if self.siblings.is_empty() {
            Vec::new()
        } else {
            fills.iter().map(|fill| (fill.offer, fill.ask.machine)).collect()
        };
        self.engine.settle(slot, count);
        // A machine that somebody has cannot be had under its other offers.
        for (offer, machine) in taken {
            let others = self.siblings.get(&machine).into_iter().flatten().filter(|other| **other != offer);
            for slot in others.filter_map(|other| get(&self.offers, *other)) {
                self.engine.set_open(slot, false);
            }
        }
    }

    fn cancel(&mut self, id: u32) {
        if let Some(slot) = get(&self.orders, id) {
            self.engine.remove_order(slot);
            set(&mut self.orders, id, None);
        }
    }

    fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}

fn get(slots: &[Option<Slot>], id: u32) -> Option<Slot> {
    slots.get(id as usize).copied().flatten()
}

fn set(slots: &mut Vec<Option<Slot>>, id: u32, slot: Option<Slot>) {
    if slots.len() <= id as usize {
        slots.resize(id as usize + 1, None);
    }
    slots[id as usize] = slot;
}
