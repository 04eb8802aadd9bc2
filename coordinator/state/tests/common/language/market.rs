//! Orders that stand by themselves, agreements, and what jobs are for.

use super::{Args, World, duration_ms, named_hash, words::numbers};
use matrixai_proto::v1::{self, command::Kind};
use matrixai_state::{
    Outcome,
    ids::{AgreementId, OrderId},
};
use std::collections::BTreeMap;

/// A command about orders; panics with the place at a word that is none.
pub(super) fn command(world: &World, name: &str, args: &Args<'_>) -> Kind {
    let id = |arg: &str| world.named(args.need(arg)).to_vec();
    let ahead = |text: &str| world.now_ms.wrapping_add_signed(duration_ms(text));
    match name {
        "order" => Kind::PlaceOrder(v1::PlaceOrder {
            machines: args.number("machines", 1) as u32,
            least: args.number("least", 0) as u32,
            price_limit: args.money("price", "2000000000"),
            total_limit: args.money("total", "10000000000"),
            duration_s: args.number("duration", 3_600),
            expires_ms: if args.get("now").is_some() { 0 } else { ahead(args.get("lasts").unwrap_or("+1h")) },
            immediate: args.get("now").is_some(),
            offer: args.get("offer").map_or_else(Vec::new, |offer| world.named(offer).to_vec()),
            query: args.get("where").unwrap_or_default().to_owned(),
            start_deadline_s: args.number("start", 0),
            away_s: args.number("away", 0),
            interruptible: args.get("interruptible").is_some(),
        }),
        "amend" => Kind::AmendOrder(v1::AmendOrder {
            order: id("order"),
            machines: args.number("machines", 0) as u32,
            price_limit: args.money("price", ""),
            total_limit: args.money("total", ""),
            expires_ms: args.get("lasts").map_or(0, ahead),
        }),
        "cancel_order" => Kind::CancelOrder(v1::CancelOrder { order: id("order") }),
        "reprice" => Kind::AmendOffer(v1::AmendOffer {
            offer: id("offer"),
            price_per_hour: args.money("price", "1000000000"),
            expires_ms: args.get("lasts").map_or(0, ahead),
            reserve_price: args.money("reserve", ""),
        }),
        "end" => Kind::EndAgreement(v1::EndAgreement { agreement: id("agreement") }),
        "begin" => Kind::AgreementStarted(v1::AgreementStarted { agreement: id("agreement") }),
        "renew" => Kind::RenewAgreement(v1::RenewAgreement {
            agreement: id("agreement"),
            duration_s: args.number("for", 3_600),
        }),
        other => panic!("{}: there is no command {other:?}", args.place),
    }
}

/// Gives the `back`-th newest agreement a name.
pub(super) fn name_agreement(world: &mut World, name: &str, back: usize) {
    let mut rows: Vec<_> = world.state.agreements().collect();
    // Those of one match in order of price.
    rows.sort_by_key(|row| (std::cmp::Reverse(row.matched_ms), row.price_per_hour, row.machine));
    let id = rows[back].id.0;
    world.names.insert(name.to_owned(), id);
}

/// The machine of an agreement begins, as its worker does as soon as it is told.
pub(super) fn begin(world: &mut World, name: &str, place: &str) {
    let agreement = AgreementId(world.named(name));
    let row = world.state.agreement(agreement).unwrap_or_else(|| panic!("{place}: no agreement"));
    if row.started_ms.is_some() || row.closed.is_some() {
        return;
    }
    let started = Kind::AgreementStarted(v1::AgreementStarted { agreement: agreement.0.to_vec() });
    let names = (0..100).map(|number| format!("m{number}"));
    let signer = names.into_iter().find(|name| world.machine(name) == row.machine);
    let signer = signer.unwrap_or_else(|| panic!("{place}: machines that are rented are called m0 to m99"));
    assert_eq!(world.one(&signer, started), Outcome::DONE, "{place}");
}

/// The fields of an order or agreement.
pub(super) fn fields(world: &World, what: &str, name: &str, place: &str) -> Option<BTreeMap<&'static str, String>> {
    let id = world.named(name);
    Some(match what {
        "order" => {
            let row = world.state.order(OrderId(id)).unwrap_or_else(|| panic!("{place}: no order"));
            BTreeMap::from([
                ("machines", row.wanted.to_string()),
                ("least", row.least.to_string()),
                ("price", row.price_limit.to_string()),
                ("money", row.money.to_string()),
                ("duration", row.duration_s.to_string()),
                ("in", format!("{}s", (row.due_ms - world.now_ms) / 1_000)),
            ])
        }
        "agreement" => {
            let row = world.state.agreement(AgreementId(id)).unwrap_or_else(|| panic!("{place}: no agreement"));
            BTreeMap::from([
                ("price", row.price_per_hour.to_string()),
                ("held", row.held.to_string()),
                ("paid", row.paid.to_string()),
                ("fees", row.fees.to_string()),
                ("locked", row.locked.to_string()),
                ("returned", row.returned.to_string()),
                ("earned", row.earned(world.state.now_ms()).to_string()),
                ("online", format!("{}s", row.earned_ms(world.state.now_ms()) / 1_000)),
                ("started", if row.started_ms.is_some() { "yes" } else { "no" }.to_owned()),
                ("again", if row.again.is_some() { "yes" } else { "no" }.to_owned()),
                ("closed", row.closed.map_or("no", |reason| reason.as_str()).to_owned()),
            ])
        }
        _ => return None,
    })
}

/// What a job is to train.
pub(super) fn spec(args: &Args<'_>) -> v1::TrainingSpec {
    v1::TrainingSpec {
        dataset: named_hash("data").to_vec(),
        dataset_bytes: 1_000,
        features: args.number("features", 4) as u32,
        classes: 2,
        feature_scale: 16,
        validate_every: 5,
        hidden: numbers(args.get("hidden").unwrap_or("8")),
        learning_rate_e6: 100_000,
        momentum_e6: 0,
        weight_decay_e6: 0,
        clip_norm_e6: 0,
        batch: args.number("batch", 8) as u32,
        virtual_workers: args.number("vs", 2) as u32,
        rounds: args.number("rounds", 1) as u32,
        steps_per_round: 2,
        outer_rate_e6: 1_000_000,
        outer_momentum_e6: 0,
        target_e6: 500_000,
        seed: 1,
        spot_checks: args.number("spots", 1) as u32,
    }
}
