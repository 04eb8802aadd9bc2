//! Offers, orders, trades and agreements as messages of the wire.

use super::WHOLE_LIST_MAX;
use matrixai_proto::v1;
use matrixai_state::{
    State,
    agreements::AgreementRow,
    ids::AccountId,
    market::{
        OfferRow, OrderRow, TradeRow,
        explain::{Change, Explanation, Failing},
        listing::{Listed, Suggestion, quantile},
        outlook::{Lost, Outlook},
    },
    money::Money,
    reliability::Reliability,
};
use std::cmp::Reverse;

/// The open offers in the book's order, or all there ever were, newest first.
pub(crate) fn offers(state: &State, all: bool) -> Vec<v1::Offer> {
    if !all {
        return state.open_offers().take(WHOLE_LIST_MAX).map(|row| offer(state, row)).collect();
    }
    let mut rows: Vec<&OfferRow> = state.offers().collect();
    rows.sort_unstable_by_key(|row| Reverse(row.sequence));
    rows.into_iter().take(WHOLE_LIST_MAX).map(|row| offer(state, row)).collect()
}

fn offer(state: &State, row: &OfferRow) -> v1::Offer {
    v1::Offer {
        id: row.id.0.to_vec(),
        machine: row.machine.0.to_vec(),
        owner: row.owner.0.to_vec(),
        price_per_hour: row.price_per_hour.to_string(),
        duration_min_s: row.duration_min_s,
        duration_max_s: row.duration_max_s,
        expires_ms: row.expires_ms,
        status: row.status.as_str().to_owned(),
        made_ms: row.made_ms,
        reliability: state.machine(row.machine).map(|machine| reliability(machine.reliability)),
        disk_gib: row.disk_gib.unwrap_or(0),
        reserve_price: row.interruption.map(|of| of.reserve_price.to_string()).unwrap_or_default(),
        grace_min: row.interruption.map_or(0, |of| of.grace_min),
    }
}

pub(super) fn reliability(of: Reliability) -> v1::Reliability {
    v1::Reliability { completed: of.completed, failed: of.failed }
}

/// The newest trades, newest first.
pub(crate) fn trades(state: &State, limit: usize) -> Vec<v1::Trade> {
    state.trades().rev().take(limit).map(trade).collect()
}

fn trade(row: &TradeRow) -> v1::Trade {
    v1::Trade {
        job: row.job.map(|job| job.0.to_vec()).unwrap_or_default(),
        offer: row.offer.0.to_vec(),
        machine: row.machine.0.to_vec(),
        buyer: row.buyer.0.to_vec(),
        seller: row.seller.0.to_vec(),
        price_per_hour: row.price_per_hour.to_string(),
        matched_ms: row.matched_ms,
        order: row.order.0.to_vec(),
    }
}

/// Waiting orders, highest limit first, and agreements, newest first: everybody's, or those that an account is a side of.
pub(crate) fn orders(state: &State, account: Option<[u8; 20]>, all: bool) -> v1::ListOrdersReply {
    let account = account.map(AccountId);
    let mut orders: Vec<&OrderRow> =
        state.orders().filter(|row| account.is_none_or(|account| row.buyer == account)).collect();
    orders.sort_unstable_by_key(|row| (Reverse(row.price_limit), row.sequence));
    let side = |row: &&AgreementRow| account.is_none_or(|account| row.buyer == account || row.seller == account);
    let mut agreements: Vec<&AgreementRow> =
        state.agreements().filter(side).filter(|row| all || row.closed.is_none()).collect();
    agreements.sort_unstable_by_key(|row| (Reverse(row.matched_ms), row.id));
    let now_ms = state.now_ms();
    v1::ListOrdersReply {
        orders: orders.into_iter().take(WHOLE_LIST_MAX).map(order).collect(),
        agreements: agreements.into_iter().take(WHOLE_LIST_MAX).map(|row| agreement(row, now_ms)).collect(),
    }
}

/// A machine that can be rented, with its offer.
pub(crate) fn listing(state: &State, listed: &Listed<'_>) -> v1::Listing {
    v1::Listing {
        offer: Some(offer(state, listed.offer)),
        machine: Some(super::machine(state, listed.machine)),
        price_of_speed: listed.price_of_speed.map(|price| price.to_string()).unwrap_or_default(),
    }
}

/// What machines like one cost.
pub(crate) fn suggestion(found: &Suggestion) -> v1::SuggestPriceReply {
    v1::SuggestPriceReply {
        speed: found.speed,
        price_per_hour: found.price().map(|price| price.to_string()).unwrap_or_default(),
        asked: Some(quantiles(&found.asked)),
        agreed: Some(quantiles(&found.agreed)),
    }
}

fn quantiles(prices: &[Money]) -> v1::PriceQuantiles {
    let at = |percent| quantile(prices, percent).map(|price| price.to_string()).unwrap_or_default();
    v1::PriceQuantiles {
        count: u32::try_from(prices.len()).unwrap_or(u32::MAX),
        p10: at(10),
        p25: at(25),
        p50: at(50),
        p75: at(75),
        p90: at(90),
    }
}

/// How an offer fares.
pub(crate) fn outlook(found: Outlook) -> v1::ExplainOfferReply {
    let (price, order) = found.winning.unzip();
    let lost = found.lost.into_iter().map(|Lost { order, price_limit, conditions }| v1::LostOrder {
        order: order.0.to_vec(),
        price_limit: price_limit.to_string(),
        conditions,
    });
    v1::ExplainOfferReply {
        orders: found.orders,
        conditions: found.conditions.into_iter().map(failed).collect(),
        lost: lost.collect(),
        winning_price: price.map(|price| price.to_string()).unwrap_or_default(),
        winning_order: order.map(|order| order.0.to_vec()).unwrap_or_default(),
        earned_a_day: Some(quantiles(&found.daily)),
    }
}

fn failed(one: Failing) -> v1::FailedCondition {
    v1::FailedCondition { condition: one.condition, offers: one.offers, undefined: one.undefined, alone: one.alone }
}

fn order(row: &OrderRow) -> v1::Order {
    v1::Order {
        id: row.id.0.to_vec(),
        job: row.job.map(|job| job.0.to_vec()).unwrap_or_default(),
        buyer: row.buyer.0.to_vec(),
        machines: row.wanted,
        least: row.least,
        price_limit: row.price_limit.to_string(),
        total_limit: row.money.to_string(),
        duration_s: row.duration_s,
        query: row.query.to_string(),
        expires_ms: row.due_ms,
        interruptible: row.interruptible,
    }
}

fn agreement(row: &AgreementRow, now_ms: u64) -> v1::Agreement {
    v1::Agreement {
        id: row.id.0.to_vec(),
        order: row.order.0.to_vec(),
        offer: row.offer.0.to_vec(),
        machine: row.machine.0.to_vec(),
        buyer: row.buyer.0.to_vec(),
        seller: row.seller.0.to_vec(),
        price_per_hour: row.price_per_hour.to_string(),
        held: row.held.to_string(),
        earned: row.earned(now_ms).to_string(),
        fees: row.fees.to_string(),
        matched_ms: row.matched_ms,
        end_ms: row.end_ms,
        closed_ms: row.closed_ms,
        closed: row.closed.map(|reason| reason.as_str().to_owned()).unwrap_or_default(),
        online_ms: row.earned_ms(now_ms),
        fault: row.closed.map(|reason| reason.fault().as_str().to_owned()).unwrap_or_default(),
        duration_s: row.duration_s,
        started_ms: row.started_ms.unwrap_or(0),
        again: row.again.map(|order| order.0.to_vec()).unwrap_or_default(),
        paid: row.paid.to_string(),
        locked: row.locked_at(now_ms).to_string(),
        returned: row.returned.to_string(),
        pay_ms: row.pay_ms.unwrap_or(0),
    }
}

/// Why an order waits.
pub(crate) fn explanation(found: Explanation) -> v1::ExplainOrderReply {
    let (change, cost) = found.change.unzip();
    let (change, to) = match change {
        None => ("", String::new()),
        Some(Change::PriceLimit(limit)) => ("price_limit", limit.to_string()),
        Some(Change::TotalLimit(limit)) => ("total_limit", limit.to_string()),
        Some(Change::Duration(duration_s)) => ("duration", duration_s.to_string()),
        Some(Change::Interruptible) => ("interruptible", "true".to_owned()),
        Some(Change::Query(query)) => ("where", query.to_string()),
        Some(Change::Machines(machines)) => ("machines", machines.to_string()),
    };
    v1::ExplainOrderReply {
        offers: found.offers,
        fitting: found.fitting,
        needed: found.needed,
        conditions: found.conditions.into_iter().map(failed).collect(),
        change: change.to_owned(),
        to,
        cost: cost.map(|cost| cost.to_string()).unwrap_or_default(),
    }
}
