//! The definition of matching, as slow as it is plain: two lists, and after every command every order against every offer.
//! It imports nothing from book or engine but the rows that both are given, and evaluates conditions by itself.

use super::{Command, Trade};
use matrixai_state::{
    ids::MachineId,
    market::{
        engine::{Ask, Bid},
        query::{Attribute, Attributes, Condition, Number, Numeric, Operator, Query, Values},
    },
};

#[derive(Debug)]
struct Offer {
    id: u32,
    ask: Ask,
    attributes: Attributes,
}

#[derive(Debug)]
struct Order {
    id: u32,
    bid: Bid,
    query: usize,
}

/// A market by definition.
#[derive(Debug, Default)]
pub struct Naive {
    queries: Vec<Query>,
    offers: Vec<Offer>,
    orders: Vec<Order>,
    sequence: u64,
}

impl Naive {
    /// An empty market whose orders use these queries.
    pub fn new(queries: &[Query]) -> Self {
        Self { queries: queries.to_vec(), ..Self::default() }
    }

    /// Does what is asked and adds what was traded to `trades`.
    pub fn apply(&mut self, command: &Command, trades: &mut Vec<Trade>) {
        self.sequence += 1;
        let sequence = self.sequence;
        match command {
            Command::Place { id, bid, query, rests } => {
                self.orders.push(Order { id: *id, bid: Bid { sequence, ..*bid }, query: *query as usize });
                self.match_all(trades);
                if !rests {
                    self.orders.retain(|order| order.id != *id);
                }
            }
            Command::AmendOrder { id, limit, wanted } => {
                if let Some(order) = self.orders.iter_mut().find(|order| order.id == *id) {
                    order.bid = Bid { limit: *limit, wanted: *wanted, sequence, ..order.bid };
                }
            }
            Command::Cancel { id } => self.orders.retain(|order| order.id != *id),
            Command::Offer { id, ask, attributes, .. } => {
                let mut offer = Offer { id: *id, ask: Ask { sequence, ..*ask }, attributes: (**attributes).clone() };
                offer.price();
                self.offers.push(offer);
            }
            Command::AmendOffer { id, price, quantity } => {
                if let Some(offer) = self.offers.iter_mut().find(|offer| offer.id == *id) {
                    offer.ask = Ask { price: *price, quantity: *quantity, sequence, open: true, ..offer.ask };
                    offer.price();
                }
            }
            Command::Withdraw { id } => {
                if let Some(offer) = self.offers.iter_mut().find(|offer| offer.id == *id) {
                    offer.ask.open = false;
                }
            }
            Command::Describe { id, attributes } => {
                if let Some(offer) = self.offers.iter_mut().find(|offer| offer.id == *id) {
                    offer.attributes = (**attributes).clone();
                    offer.price();
                }
            }
        }
        self.match_all(trades);
    }

    /// Every order, highest limit first, then oldest, against every offer, cheapest first, then oldest.
    fn match_all(&mut self, trades: &mut Vec<Trade>) {
        self.orders.sort_by_key(|order| (std::cmp::Reverse(order.bid.limit), order.bid.sequence));
        self.offers.sort_by_key(|offer| (offer.ask.price, offer.ask.sequence));
        for order in &mut self.orders {
            let bid = &mut order.bid;
            let found = fitting(&self.offers, bid, &self.queries[order.query]);
            let got: u32 = found.iter().map(|(_, quantity)| quantity).sum();
            let least = if bid.distinct_owners { bid.wanted } else { bid.least };
            if found.is_empty() || got < least {
                continue;
            }
            for (at, quantity) in found {
                let Offer { id, ask, .. } = &mut self.offers[at];
                let (id, machine) = (*id, ask.machine);
                let price = if ask.sequence < bid.sequence { ask.price } else { bid.limit };
                trades.push(Trade { order: order.id, offer: id, price, quantity });
                ask.quantity -= quantity;
                for sibling in self.offers.iter_mut().filter(|other| other.ask.machine == machine && other.id != id) {
                    sibling.ask.open = false;
                }
            }
            (bid.wanted, bid.least) = (bid.wanted - got, 1);
        }
        self.orders.retain(|order| order.bid.wanted > 0);
    }

    /// Nothing that is offered of a machine can be had any more.
    pub fn close(&mut self, machine: MachineId) {
        for offer in self.offers.iter_mut().filter(|offer| offer.ask.machine == machine) {
            offer.ask.open = false;
        }
    }

    /// The offers that a new order would be given, its money aside: cheapest first.
    pub fn would_get(&mut self, bid: &Bid, query: &Query) -> Vec<Ask> {
        self.offers.sort_by_key(|offer| (offer.ask.price, offer.ask.sequence));
        fitting(&self.offers, bid, query).into_iter().map(|(at, _)| self.offers[at].ask).collect()
    }
}

/// The offers that an order may have, in the order in which they are, and how many machines it takes of each.
fn fitting(offers: &[Offer], bid: &Bid, query: &Query) -> Vec<(usize, u32)> {
    let mut found: Vec<(usize, u32)> = Vec::new();
    let mut wanted = bid.wanted;
    for (at, offer) in offers.iter().enumerate() {
        let Ask { owner, machine, price, quantity, open, .. } = offer.ask;
        let same_owner = found.iter().any(|(other, _)| offers[*other].ask.owner == owner);
        let same_machine = found.iter().any(|(other, _)| offers[*other].ask.machine == machine);
        let fits = open
            && quantity > 0
            && wanted > 0
            && price <= bid.limit
            && owner != bid.buyer
            && !same_machine
            && !(bid.distinct_owners && same_owner)
            && offer.ask.duration_min_s <= bid.duration_s
            && bid.duration_s <= offer.ask.duration_max_s
            && bid.memory_bytes <= offer.ask.memory_bytes
            && (bid.interruptible || !offer.ask.interruptible);
        if fits && holds(query.condition(), &offer.attributes) == Some(true) {
            let most = if bid.distinct_owners { 1 } else { quantity };
            found.push((at, wanted.min(most)));
            wanted -= wanted.min(most);
        }
    }
    found
}

impl Offer {
    fn price(&mut self) {
        use matrixai_state::market::query::{NumberAttribute, Provenance};
        self.attributes.set_number(NumberAttribute::Price, Number::money(self.ask.price), Provenance::Ledger);
    }
}

/// A condition's value; none is undefined.
fn holds(condition: &Condition, of: &Attributes) -> Option<bool> {
    match condition {
        Condition::Const(value) => Some(*value),
        Condition::Compare(compare) => {
            let (left, right) = (number(&compare.left, of)?, number(&compare.right, of)?);
            Some(match compare.operator {
                Operator::Less => left < right,
                Operator::AtMost => left <= right,
                Operator::Greater => left > right,
                Operator::AtLeast => left >= right,
                Operator::Equal => left == right,
                Operator::Unequal => left != right,
            })
        }
        Condition::In { values: Values::Numbers(attribute, values), equal } => {
            let value = of.number(*attribute)?;
            Some(values.contains(&value) == *equal)
        }
        Condition::In { values: Values::Texts(attribute, values), equal } => {
            let value = of.text(*attribute)?;
            Some(values.contains(value) == *equal)
        }
        Condition::Defined(Attribute::Number(attribute)) => Some(of.number(*attribute).is_some()),
        Condition::Defined(Attribute::Text(attribute)) => Some(of.text(*attribute).is_some()),
        Condition::Provenance { of: attribute, is, equal } => Some((of.provenance(*attribute)? == *is) == *equal),
        Condition::Not(inner) => holds(inner, of).map(|value| !value),
        Condition::And(all) => {
            let values: Vec<_> = all.iter().map(|one| holds(one, of)).collect();
            if values.contains(&Some(false)) { Some(false) } else { values.into_iter().min().flatten() }
        }
        Condition::Or(all) => {
            let values: Vec<_> = all.iter().map(|one| holds(one, of)).collect();
            if values.contains(&Some(true)) { Some(true) } else { values.into_iter().min().flatten() }
        }
    }
}

fn number(numeric: &Numeric, of: &Attributes) -> Option<Number> {
    let both = |sides: &(Numeric, Numeric)| Some((number(&sides.0, of)?, number(&sides.1, of)?));
    match numeric {
        Numeric::Literal(value) => Some(*value),
        Numeric::Attribute(attribute) => of.number(*attribute),
        Numeric::Negated(inner) => number(inner, of)?.negated(),
        Numeric::Sum(sides) => both(sides).and_then(|(left, right)| left.plus(right)),
        Numeric::Difference(sides) => both(sides).and_then(|(left, right)| left.minus(right)),
        Numeric::Product(sides) => both(sides).and_then(|(left, right)| left.times(right)),
        Numeric::Quotient(sides) => both(sides).and_then(|(left, right)| left.over(right)),
    }
}
