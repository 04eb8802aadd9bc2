//! What is ordered: orders by themselves, and those of jobs with what they are for.

use super::{array, money, query};
use crate::{
    canonical::{Fields, NotCanonical},
    command::{AmendOffer, AmendOrder, CancelOrder, Command, PlaceOrder},
    ids::{OfferId, OrderId},
    market::OrderTerms,
    money::Money,
    outcome::Refusal,
};
use matrixai_proto::v1;
use matrixai_protocol::spec::TrainingSpec;

/// Numbers in `Command` of what is read without prost.
const PLACE_ORDER: u32 = 50;
const AMEND_ORDER: u32 = 51;
const CANCEL_ORDER: u32 = 52;
const AMEND_OFFER: u32 = 53;

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
        interruptible: wire.interruptible,
    })
}

pub(super) fn amend(wire: &v1::AmendOrder) -> Result<AmendOrder, Refusal> {
    let v1::AmendOrder { order, machines, price_limit, total_limit, expires_ms } = wire;
    amended(order, *machines, price_limit, total_limit, *expires_ms)
}

fn amended(order: &[u8], machines: u32, price: &str, total: &str, expires_ms: u64) -> Result<AmendOrder, Refusal> {
    Ok(AmendOrder {
        order: OrderId(array("order", order)?),
        machines: given(machines.into()).map(|_| machines),
        price_limit: given_money("price_limit", price)?,
        total_limit: given_money("total_limit", total)?,
        expires_ms: given(expires_ms),
    })
}

pub(super) fn amend_offer(wire: &v1::AmendOffer) -> Result<AmendOffer, Refusal> {
    amended_offer(&wire.offer, &wire.price_per_hour, wire.expires_ms, &wire.reserve_price)
}

fn amended_offer(offer: &[u8], price: &str, expires_ms: u64, reserve: &str) -> Result<AmendOffer, Refusal> {
    Ok(AmendOffer {
        offer: OfferId(array("offer", offer)?),
        price_per_hour: money("price_per_hour", price)?,
        expires_ms: given(expires_ms),
        reserve_price: given_money("reserve_price", reserve)?,
    })
}

/// Reads the market's frequent commands where they lie: by this number in `Command`, these bytes. None for bytes that only
/// prost can tell what to think of, such as those of other commands, or with fields that are not read here.
pub(super) fn direct(number: u32, body: &[u8]) -> Option<Result<Command, Refusal>> {
    let mut fields = Fields(body);
    let read = match number {
        PLACE_ORDER => place(placed(&mut fields).ok()?).map(Command::PlaceOrder),
        AMEND_ORDER => {
            let (order, machines) = (fields.bytes(1).ok()?, u32::try_from(fields.uint(2).ok()?).ok()?);
            let (price, total, expires_ms) = (fields.text(3).ok()?, fields.text(4).ok()?, fields.uint(5).ok()?);
            amended(order, machines, price, total, expires_ms).map(Command::AmendOrder)
        }
        CANCEL_ORDER => {
            let order = fields.bytes(1).ok()?;
            array("order", order).map(|order| Command::CancelOrder(CancelOrder { order: OrderId(order) }))
        }
        AMEND_OFFER => {
            let (offer, price, expires_ms) = (fields.bytes(1).ok()?, fields.text(2).ok()?, fields.uint(3).ok()?);
            amended_offer(offer, price, expires_ms, fields.text(4).ok()?).map(Command::AmendOffer)
        }
        _ => return None,
    };
    fields.end().ok()?;
    Some(read)
}

fn placed(fields: &mut Fields<'_>) -> Result<v1::PlaceOrder, NotCanonical> {
    let small = |number: u64| u32::try_from(number).map_err(|_| NotCanonical);
    Ok(v1::PlaceOrder {
        machines: small(fields.uint(1)?)?,
        least: small(fields.uint(2)?)?,
        price_limit: fields.text(3)?.to_owned(),
        total_limit: fields.text(4)?.to_owned(),
        duration_s: fields.uint(5)?,
        expires_ms: fields.uint(6)?,
        immediate: flag(fields.uint(7)?)?,
        offer: fields.bytes(8)?.to_vec(),
        query: fields.text(9)?.to_owned(),
        start_deadline_s: fields.uint(10)?,
        away_s: fields.uint(11)?,
        interruptible: flag(fields.uint(12)?)?,
    })
}

fn flag(number: u64) -> Result<bool, NotCanonical> {
    match number {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(NotCanonical),
    }
}

/// Zero says that nothing was given.
fn given(number: u64) -> Option<u64> {
    (number != 0).then_some(number)
}

pub(super) fn given_money(name: &str, text: &str) -> Result<Option<Money>, Refusal> {
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
