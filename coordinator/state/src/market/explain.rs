//! Why an order waits: how many of the open offers fail each of its conditions, and the cheapest single change with which
//! it would match now.
//!
//! A look at every open offer, on a view: what matching does is not asked, only what it would do. A change is found by
//! leaving one condition out and taking the cheapest machines that satisfy the others; those that are tried are the limits,
//! the duration (to the bounds of offers), each clause of the query (a bound is only moved as far as those machines need), and as a last resort fewer
//! machines. An order that was amended is younger than every offer, so that it pays what they ask.

use super::{
    OfferRow, OrderRow,
    attributes::Rows,
    matching::price_of,
    query::{Comparison, Condition, Described, Numeric, Operator, Query, Truth},
    scan,
};
use crate::{
    ids::{AccountId, MachineId, OrderId},
    money::Money,
    state::State,
};
use std::collections::BTreeSet;

/// Durations that are tried in each direction, the nearest first.
const DURATIONS_MAX: usize = 64;
/// Conditions that are told apart; the clauses of a longer query share the last one.
const CONDITIONS_MAX: usize = 64;
/// Clauses that a change may leave out: those with a bit of their own.
const CLAUSES_MAX: usize = CONDITIONS_MAX - 1 - ASKED.len();

/// What an order asks besides its query, in the order in which it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Available,
    Other,
    Memory,
    Duration,
    Lasting,
    Price,
}

pub(super) const ASKED: [Asked; 6] =
    [Asked::Available, Asked::Other, Asked::Memory, Asked::Duration, Asked::Lasting, Asked::Price];

impl Asked {
    pub(super) const fn bit(self) -> u64 {
        1 << self as u64
    }

    /// As an offer's owner reads it.
    pub(super) const fn of_offer(self) -> &'static str {
        match self {
            Asked::Available => "its machine is online, measured and not rented",
            Asked::Other => "the buyer is another account",
            Asked::Memory => "its machine has the memory that is asked for",
            Asked::Duration => "it may be rented for so long",
            Asked::Lasting => "it is on demand, or the order takes interruptible ones",
            Asked::Price => "it asks no more than the limit",
        }
    }

    fn says(self, order: &OrderRow) -> String {
        match self {
            Asked::Available => "its machine is online, measured and not rented".to_owned(),
            Asked::Other => "its owner is another account".to_owned(),
            Asked::Memory => format!("its machine has {} bytes of memory", order.memory_bytes),
            Asked::Duration => format!("it may be rented for {} s", order.duration_s),
            Asked::Lasting if order.interruptible => "it is on demand or interruptible".to_owned(),
            Asked::Lasting => "it is on demand".to_owned(),
            Asked::Price => format!("it asks at most {} an hour", order.price_limit),
        }
    }
}

/// A condition of an order, and how many offers it is not true of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// The condition: a clause of the query as it is written, or in words.
    pub condition: String,
    /// Offers that fail it, whatever else they fail.
    pub offers: u64,
    /// Of them, those of which it is undefined.
    pub undefined: u64,
    /// Offers that fail nothing else.
    pub alone: u64,
}

/// One thing about an order, as it would have to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The highest price of a machine, minor units per hour.
    PriceLimit(Money),
    /// What the agreements may cost.
    TotalLimit(Money),
    /// How long it rents, seconds.
    Duration(u64),
    /// It takes machines that may be taken back, too.
    Interruptible,
    /// What a machine must be.
    Query(Query),
    /// How many machines it wants, all or none.
    Machines(u32),
}

/// Why an order waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Open offers.
    pub offers: u64,
    /// Offers that satisfy everything.
    pub fitting: u64,
    /// Machines that it takes at least at once.
    pub needed: u32,
    /// Each condition, those of the order first, then the clauses of its query.
    pub conditions: Vec<Failing>,
    /// The change with which it would match now, and what the machines would cost then, fees included.
    pub change: Option<(Change, Money)>,
}

/// An offer that is not out of the question.
struct Candidate<'a> {
    row: &'a OfferRow,
    /// Which conditions it fails.
    fails: u64,
}

impl State {
    /// Why an order waits; none for one that does not.
    pub fn explain(&self, order: OrderId) -> Option<Explanation> {
        let order = self.orders.get(&order)?;
        let clauses = clauses_of(order);
        let mut conditions: Vec<Failing> = ASKED.iter().map(|asked| failing(asked.says(order))).collect();
        conditions.extend(clauses.iter().map(|clause| failing(clause.to_string())));
        let (mut offers, mut fitting) = (0u64, 0u64);
        let mut candidates = Vec::new();
        scan::open_offers(self, |rows| {
            offers = offers.saturating_add(1);
            let fails = self.fails(order, clauses, &rows, &mut conditions);
            fitting = fitting.saturating_add(u64::from(fails == 0));
            if fails.is_power_of_two()
                && let Some(only) = conditions.get_mut(fails.trailing_zeros() as usize)
            {
                only.alone = only.alone.saturating_add(1);
            }
            // Nothing that an order says can make up for two failings, nor for these.
            let hopeless = Asked::Available.bit() | Asked::Other.bit() | Asked::Memory.bit();
            if fails & hopeless == 0 && (fails == 0 || fails.is_power_of_two()) {
                candidates.push(Candidate { row: rows.offer, fails });
            }
        });
        // In the book's order.
        candidates.sort_unstable_by_key(|candidate| (candidate.row.price_per_hour, candidate.row.sequence));
        let needed = needed(order);
        let change = Search { state: self, order, needed, candidates: &candidates }.cheapest(clauses);
        Some(Explanation { offers, fitting, needed, conditions, change })
    }

    /// What an offer fails, as bits; counts it.
    pub(super) fn fails(
        &self,
        order: &OrderRow,
        clauses: &[Condition],
        rows: &Rows<'_>,
        counts: &mut [Failing],
    ) -> u64 {
        let offer = rows.offer;
        let asked = ASKED.iter().map(|asked| match asked {
            Asked::Available => rows.available() && offer.expires_ms > self.head.now_ms,
            Asked::Other => offer.owner != order.buyer,
            Asked::Memory => rows.memory_bytes() >= order.memory_bytes,
            Asked::Duration => (offer.duration_min_s..=offer.duration_max_s).contains(&order.duration_s),
            Asked::Lasting => order.interruptible || offer.interruption.is_none(),
            Asked::Price => offer.price_per_hour <= order.price_limit,
        });
        let asked = asked.map(|holds| if holds { Truth::True } else { Truth::False });
        let truths = asked.chain(clauses.iter().map(|clause| clause.truth(rows)));
        let mut fails = 0;
        for (at, (truth, count)) in truths.zip(counts).enumerate() {
            if truth != Truth::True {
                fails |= bit(at);
                count.offers = count.offers.saturating_add(1);
                count.undefined = count.undefined.saturating_add(u64::from(truth == Truth::Undefined));
            }
        }
        fails
    }
}

/// The clauses of an order's query; none of one that accepts all.
pub(super) fn clauses_of(order: &OrderRow) -> &[Condition] {
    if order.query.accepts_all() { &[] } else { order.query.condition().clauses() }
}

/// Machines that an order takes at least at once.
pub(super) fn needed(order: &OrderRow) -> u32 {
    if order.job.is_some() { order.wanted } else { order.least.max(1) }
}

pub(super) fn failing(condition: String) -> Failing {
    Failing { condition, offers: 0, undefined: 0, alone: 0 }
}

fn bit(condition: usize) -> u64 {
    1 << condition.min(CONDITIONS_MAX - 1)
}

/// The search for the cheapest change.
struct Search<'a> {
    state: &'a State,
    order: &'a OrderRow,
    needed: u32,
    /// In the book's order.
    candidates: &'a [Candidate<'a>],
}

impl Search<'_> {
    fn cheapest(&self, clauses: &[Condition]) -> Option<(Change, Money)> {
        let OrderRow { duration_s, money, .. } = *self.order;
        let mut found: Vec<(Change, Money)> = Vec::new();
        let cheap = |cost: &Money| *cost <= money;
        // Whatever fits, for more money.
        let (_, cost) = self.take(|candidate| candidate.fails == 0, duration_s, self.needed).unzip();
        found.extend(cost.map(|cost| (Change::TotalLimit(cost), cost)));
        let without = |bits: u64| self.take(move |candidate| candidate.fails & !bits == 0, duration_s, self.needed);
        if let Some((taken, cost)) = without(Asked::Price.bit()).filter(|(_, cost)| cheap(cost)) {
            let limit = taken.iter().map(|row| row.price_per_hour).max();
            found.extend(limit.map(|limit| (Change::PriceLimit(limit), cost)));
        }
        for duration_s in self.durations() {
            let fits = |candidate: &Candidate<'_>| {
                candidate.fails & !Asked::Duration.bit() == 0
                    && (candidate.row.duration_min_s..=candidate.row.duration_max_s).contains(&duration_s)
            };
            let taken = self.take(fits, duration_s, self.needed).filter(|(_, cost)| cheap(cost));
            found.extend(taken.map(|(_, cost)| (Change::Duration(duration_s), cost)));
        }
        // A job never takes them.
        if self.order.job.is_none() {
            let taken = without(Asked::Lasting.bit()).filter(|(_, cost)| cheap(cost));
            found.extend(taken.map(|(_, cost)| (Change::Interruptible, cost)));
        }
        for (at, clause) in clauses.iter().enumerate().take(CLAUSES_MAX) {
            let taken = without(bit(at.saturating_add(ASKED.len()))).filter(|(_, cost)| cheap(cost));
            if let Some((taken, cost)) = taken
                && let Some(query) = self.loosened(clauses, at, clause, &taken)
            {
                found.push((Change::Query(query), cost));
            }
        }
        if let Some(change) = found.into_iter().min_by_key(|(_, cost)| *cost) {
            return Some(change);
        }
        (1..self.needed).rev().find_map(|fewer| {
            let (_, cost) = self.take(|candidate| candidate.fails == 0, duration_s, fewer)?;
            cheap(&cost).then_some((Change::Machines(fewer), cost))
        })
    }

    /// The cheapest machines among some candidates, as matching takes them, and what they cost.
    fn take(
        &self,
        fits: impl Fn(&Candidate<'_>) -> bool,
        duration_s: u64,
        count: u32,
    ) -> Option<(Vec<&OfferRow>, Money)> {
        let mut machines: BTreeSet<MachineId> = BTreeSet::new();
        let mut owners: BTreeSet<AccountId> = BTreeSet::new();
        let mut taken = Vec::new();
        for candidate in self.candidates.iter().filter(|candidate| fits(candidate)) {
            let row = candidate.row;
            let again = machines.contains(&row.machine) || (self.order.job.is_some() && owners.contains(&row.owner));
            if !again {
                machines.insert(row.machine);
                owners.insert(row.owner);
                taken.push(row);
            }
            if taken.len() >= count as usize {
                let prices: Vec<Money> = taken.iter().map(|row| row.price_per_hour).collect();
                let cost = cost_of(&prices, self.order, duration_s)?;
                return Some((taken, cost));
            }
        }
        None
    }

    /// Durations that an offer allows which this one's does not, nearest first.
    fn durations(&self) -> Vec<u64> {
        let wanted = self.order.duration_s;
        let failing = self.candidates.iter().filter(|candidate| candidate.fails == Asked::Duration.bit());
        let (mut shorter, mut longer) = (BTreeSet::new(), BTreeSet::new());
        for Candidate { row, .. } in failing {
            if row.duration_max_s < wanted {
                shorter.insert(row.duration_max_s);
            } else {
                longer.insert(row.duration_min_s);
            }
        }
        let shorter = shorter.into_iter().rev().take(DURATIONS_MAX);
        shorter.chain(longer.into_iter().take(DURATIONS_MAX)).collect()
    }

    /// The query without a clause, or with its bound moved as far as these machines need.
    fn loosened(&self, clauses: &[Condition], at: usize, clause: &Condition, taken: &[&OfferRow]) -> Option<Query> {
        let mut clauses = clauses.to_vec();
        match self.moved(clause, taken) {
            Some(moved) => *clauses.get_mut(at)? = moved,
            None => {
                clauses.remove(at);
            }
        }
        let text = match clauses.as_slice() {
            [] => String::new(),
            [one] => one.to_string(),
            _ => Condition::And(clauses).to_string(),
        };
        Query::parse(&text).ok()
    }

    fn moved(&self, clause: &Condition, taken: &[&OfferRow]) -> Option<Condition> {
        let Condition::Compare(compare) = clause else { return None };
        let Comparison { left: Numeric::Attribute(attribute), operator, right: Numeric::Literal(_) } = &**compare
        else {
            return None;
        };
        let values = taken.iter().map(|row| Rows::of(self.state, row).number(*attribute));
        let values: Vec<_> = values.collect::<Option<_>>()?;
        let (operator, bound) = match operator {
            Operator::Greater | Operator::AtLeast => (Operator::AtLeast, values.iter().min()?),
            Operator::Less | Operator::AtMost => (Operator::AtMost, values.iter().max()?),
            Operator::Equal | Operator::Unequal => return None,
        };
        let compare = Comparison { left: Numeric::Attribute(*attribute), operator, right: Numeric::Literal(*bound) };
        Some(Condition::Compare(Box::new(compare)))
    }
}

/// What machines at these prices cost an order: a job pays one fee on all, otherwise each agreement holds its own.
pub(super) fn cost_of(prices: &[Money], order: &OrderRow, duration_s: u64) -> Option<Money> {
    if order.job.is_some() {
        return price_of(prices.iter().copied(), duration_s, order.fee_bp);
    }
    let each = |price: &Money| price_of([*price], duration_s, order.fee_bp);
    prices.iter().try_fold(Money::ZERO, |sum, price| sum.checked_add(each(price)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests;
