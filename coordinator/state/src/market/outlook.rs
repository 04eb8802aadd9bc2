//! How an offer fares: which conditions of which waiting orders it fails, the highest price at which it would be taken now, and
//! what machines like its own earn a day.
//!
//! A look at every waiting order of a view, as `explain.rs` looks at every offer. A resting order names the price, and its
//! limit is what it pays; so an order that the offer fails in nothing but the price is won by asking at most its limit,
//! if it needs no machine besides, or finds those, and its money suffices.

use super::{
    OfferRow, OrderRow, TRADES_MAX,
    attributes::Rows,
    explain::{ASKED, Asked, Failing, clauses_of, cost_of, failing, needed},
    listing::scale,
};
use crate::{
    ids::{MachineId, OfferId, OrderId, agreement_id},
    money::Money,
    power,
    state::State,
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

/// Orders that are named, those that the offer fails in least first.
pub const LOST_MAX: usize = 20;
/// Conditions that are counted apart in the answer, those that fail alone most often first.
pub const CONDITIONS_SHOWN_MAX: usize = 64;
/// Orders for several machines of which it is found out whether this one would complete them: each is a look at the book.
const GANGS_MAX: usize = 4;
/// What was agreed on within this time says what a machine earns, ms (a week).
pub const EARNED_WITHIN_MS: u64 = 604_800_000;
/// A machine that has been there for less says nothing about a day, ms.
pub const PRESENT_MS_MIN: u64 = 3_600_000;
const DAY_MS: u128 = 86_400_000;

/// A waiting order and what of it an offer fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The order.
    pub order: OrderId,
    /// What it pays at most, minor units per hour.
    pub price_limit: Money,
    /// What of it is not true of the offer; nothing for one that waits for other machines or for its turn.
    pub conditions: Vec<String>,
}

/// How an offer fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlook {
    /// Waiting orders.
    pub orders: u64,
    /// Each condition that it fails of any of them: `offers` counts orders here.
    pub conditions: Vec<Failing>,
    /// The orders that it fails in least, of those the highest limit first.
    pub lost: Vec<Lost>,
    /// The highest price that a waiting order would pay for it now, and that order.
    pub winning: Option<(Money, OrderId)>,
    /// What each machine like it earned a day, for the speed of this one: ascending, minor units.
    pub daily: Vec<Money>,
}

impl State {
    /// How an open or rented offer fares; none for one that has ended.
    pub fn outlook(&self, offer: OfferId) -> Option<Outlook> {
        let offer = self.offers.get(&offer).filter(|row| !row.status.ended())?;
        let mut conditions: BTreeMap<String, Failing> = BTreeMap::new();
        let mut judged: Vec<(u32, Reverse<Money>, u64, &OrderRow)> = Vec::new();
        let mut would_pay: Vec<(Reverse<Money>, u64, &OrderRow)> = Vec::new();
        for (_, order) in self.orders.iter() {
            let (fails, failed) = self.failed(order, offer);
            let alone = u64::from(fails.is_power_of_two());
            for (condition, undefined) in failed {
                let count = conditions.entry(condition).or_insert_with_key(|condition| failing(condition.clone()));
                count.offers = count.offers.saturating_add(1);
                count.undefined = count.undefined.saturating_add(u64::from(undefined));
                count.alone = count.alone.saturating_add(alone);
            }
            judged.push((fails.count_ones(), Reverse(order.price_limit), order.sequence, order));
            if fails & !Asked::Price.bit() == 0 {
                would_pay.push((Reverse(order.price_limit), order.sequence, order));
            }
        }
        judged.sort_unstable_by_key(|(failed, limit, sequence, _)| (*failed, *limit, *sequence));
        would_pay.sort_unstable_by_key(|(limit, sequence, _)| (*limit, *sequence));
        let lost = judged.iter().take(LOST_MAX).map(|(_, _, _, order)| Lost {
            order: order.id,
            price_limit: order.price_limit,
            conditions: self.failed(order, offer).1.into_iter().map(|(condition, _)| condition).collect(),
        });
        let (lost, orders) = (lost.collect(), judged.len() as u64);
        let mut conditions: Vec<Failing> = conditions.into_values().collect();
        conditions.sort_by_key(|one| (Reverse(one.alone), Reverse(one.offers)));
        conditions.truncate(CONDITIONS_SHOWN_MAX);
        let winning = self.winning(offer, would_pay.into_iter().map(|(_, _, order)| order));
        Some(Outlook { orders, conditions, lost, winning, daily: self.daily(offer.machine) })
    }

    /// What of an order an offer fails, as bits and in words, and whether that is undefined of it.
    fn failed(&self, order: &OrderRow, offer: &OfferRow) -> (u64, Vec<(String, bool)>) {
        let clauses = clauses_of(order);
        let mut counts = vec![failing(String::new()); ASKED.len().saturating_add(clauses.len())];
        let fails = self.fails(order, clauses, &Rows::of(self, offer), &mut counts);
        let words = ASKED.iter().map(|asked| asked.of_offer().to_owned());
        let words = words.map(Some).chain(clauses.iter().map(|_| None));
        let clauses = ASKED.iter().map(|_| None).chain(clauses.iter().map(Some));
        let failed = counts.iter().zip(words.zip(clauses)).filter(|(count, _)| count.offers > 0);
        let failed = failed.map(|(count, (words, clause))| {
            let text = words.or_else(|| clause.map(ToString::to_string)).unwrap_or_default();
            (text, count.undefined > 0)
        });
        (fails, failed.collect())
    }

    /// The first of some orders, the highest limit first, that would take an offer at its limit.
    fn winning<'a>(&self, offer: &OfferRow, orders: impl Iterator<Item = &'a OrderRow>) -> Option<(Money, OrderId)> {
        let mut gangs = 0usize;
        for order in orders {
            let beside = needed(order).saturating_sub(1) as usize;
            gangs = gangs.saturating_add(usize::from(beside > 0));
            if gangs > GANGS_MAX {
                return None;
            }
            let prices = self.beside(offer, order, beside);
            let complete = prices.len() == beside;
            let prices: Vec<Money> = prices.into_iter().chain([order.price_limit]).collect();
            if complete && cost_of(&prices, order, order.duration_s).is_some_and(|cost| cost <= order.money) {
                return Some((order.price_limit, order.id));
            }
        }
        None
    }

    /// What an order would pay for the cheapest machines that it may have besides an offer's.
    fn beside(&self, offer: &OfferRow, order: &OrderRow, count: usize) -> Vec<Money> {
        let (mut machines, mut owners) = (BTreeSet::from([offer.machine]), BTreeSet::from([offer.owner]));
        let mut prices = Vec::new();
        for row in self.open_offers() {
            if prices.len() >= count || row.price_per_hour > order.price_limit {
                break;
            }
            let again = machines.contains(&row.machine) || (order.job.is_some() && owners.contains(&row.owner));
            if !again && self.failed(order, row).0 == 0 {
                machines.insert(row.machine);
                owners.insert(row.owner);
                // Whoever was in the book first names the price.
                let older = row.sequence < order.sequence;
                prices.push(if older { row.price_per_hour } else { order.price_limit });
            }
        }
        prices
    }

    /// What machines like one, of other owners, earned a day by what was agreed on within a week (or as far as trades are
    /// remembered), also those that are offered and earned nothing; scaled by the speeds to this one's, ascending.
    fn daily(&self, machine: MachineId) -> Vec<Money> {
        let Some(speed) = power::measured_fgemm(self, machine).filter(|speed| *speed > 0) else { return Vec::new() };
        let Some(owner) = self.machines.get(&machine).map(|row| row.owner) else { return Vec::new() };
        let now_ms = self.head.now_ms;
        let forgotten = self.trades.len() >= TRADES_MAX;
        let oldest_ms = self.trades.first().filter(|_| forgotten).map_or(0, |(_, trade)| trade.matched_ms);
        let since_ms = now_ms.saturating_sub(EARNED_WITHIN_MS).max(oldest_ms);
        let mut earned: BTreeMap<MachineId, Money> = BTreeMap::new();
        for (number, trade) in self.trades.iter().filter(|(_, trade)| trade.matched_ms >= since_ms) {
            let paid = match trade.job {
                Some(job) => self.jobs.get(&job).and_then(|row| row.member(trade.machine)).map(|member| member.paid()),
                None => self.agreements.get(&agreement_id(trade.order, *number)).map(|row| match row.closed {
                    Some(_) => row.paid,
                    None => row.earned(now_ms),
                }),
            };
            let sum = earned.entry(trade.machine).or_default();
            *sum = sum.checked_add(paid.unwrap_or_default()).unwrap_or(Money::MAX);
        }
        let mut daily = Vec::new();
        for row in self.machines().filter(|row| row.id != machine && row.owner != owner) {
            let Some(of) = self.alike(speed, row.id) else { continue };
            let present_ms = now_ms.saturating_sub(row.enrolled_ms.max(since_ms));
            let offered = super::book::offers_of(self, row.id).next().is_some();
            if present_ms < PRESENT_MS_MIN || !(offered || earned.contains_key(&row.id)) {
                continue;
            }
            let units = earned.get(&row.id).copied().unwrap_or_default().units();
            let a_day = units.checked_mul(DAY_MS).and_then(|product| product.checked_div(present_ms.into()));
            daily.extend(a_day.and_then(Money::minor).and_then(|a_day| scale(a_day, speed, of)));
        }
        daily.sort_unstable();
        daily
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
mod tests;
