//! What is ordered: orders by themselves, and those of jobs with what they are for.

use super::{array, money, query};
use crate::{
    command::{AmendOffer, AmendOrder, PlaceOrder},
    ids::{OfferId, OrderId},
    market::OrderTerms,
    money::Money,
    outcome::Refusal,
};
use matrixai_proto::v1;
use matrixai_protocol::spec::TrainingSpec;

pub(super) fn place(wire: v1::PlaceOrder) -> Result<PlaceOrder, Refusal> {
    Ok(PlaceOrder {
        machines: wire.machines,
        least: given(wire.least.into()).map(|_| wire.least),
        price_limit: money("price_limit", &wire.price_limit)?,
        total_limit: money("total_limit", &wire.total_limit)?,
        duration_s: wire.duration_s,
        expires_ms: wire.expires_ms,
        immediate: wire.immediate,
        offer: if wire.offer.is_empty() { None } else { Some(OfferId(array("offer", &wire.offer)?)) },
        start_deadline_s: given(wire.start_deadline_s),
        away_s: given(wire.away_s),
        query: query(&wire.query)?,
    })
}

pub(super) fn amend(wire: &v1::AmendOrder) -> Result<AmendOrder, Refusal> {
    Ok(AmendOrder {
        order: OrderId(array("order", &wire.order)?),
        machines: given(wire.machines.into()).map(|_| wire.machines),
        price_limit: given_money("price_limit", &wire.price_limit)?,
        total_limit: given_money("total_limit", &wire.total_limit)?,
        expires_ms: given(wire.expires_ms),
    })
}

pub(super) fn amend_offer(wire: &v1::AmendOffer) -> Result<AmendOffer, Refusal> {
    Ok(AmendOffer {
        offer: OfferId(array("offer", &wire.offer)?),
        price_per_hour: money("price_per_hour", &wire.price_per_hour)?,
        expires_ms: given(wire.expires_ms),
    })
}

/// Zero says that nothing was given.
fn given(number: u64) -> Option<u64> {
    (number != 0).then_some(number)
}

fn given_money(name: &str, text: &str) -> Result<Option<Money>, Refusal> {
    if text.is_empty() { Ok(None) } else { money(name, text).map(Some) }
}

pub(super) fn spec(wire: v1::TrainingSpec) -> Result<TrainingSpec, Refusal> {
    Ok(TrainingSpec {
        dataset: array("dataset", &wire.dataset)?,
        dataset_bytes: wire.dataset_bytes,
        features: wire.features,
        classes: wire.classes,
        feature_scale: wire.feature_scale,
        validate_every: wire.validate_every,
        hidden: wire.hidden,
        learning_rate_e6: wire.learning_rate_e6,
        momentum_e6: wire.momentum_e6,
        weight_decay_e6: wire.weight_decay_e6,
        clip_norm_e6: wire.clip_norm_e6,
        batch: wire.batch,
        virtual_workers: wire.virtual_workers,
        rounds: wire.rounds,
        steps_per_round: wire.steps_per_round,
        outer_rate_e6: wire.outer_rate_e6,
        outer_momentum_e6: wire.outer_momentum_e6,
        target_e6: wire.target_e6,
        seed: wire.seed,
        spot_checks: wire.spot_checks,
    })
}

pub(super) fn terms(wire: v1::OrderTerms) -> Result<OrderTerms, Refusal> {
    Ok(OrderTerms {
        machines: wire.machines,
        price_limit: money("price_limit", &wire.price_limit)?,
        total_limit: money("total_limit", &wire.total_limit)?,
        duration_s: wire.duration_s,
        start_deadline_s: wire.start_deadline_s,
        query: query(&wire.query)?,
    })
}
