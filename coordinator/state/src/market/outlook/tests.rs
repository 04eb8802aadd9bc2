//! The price that is named wins and none above it does, on random books; what like machines earned.

use super::*;
use crate::{
    closing::CloseReason,
    command::{AmendOffer, MakeOffer, PlaceOrder},
    ids::AccountId,
    market::{
        self, OfferStatus,
        explain::tests::run,
        matching::tests::{BUYER, machine, market_of, money},
        orders,
        query::Query,
    },
    outcome::Outcome,
    power::SpeedRow,
};
use matrixai_protocol::drilling::Kernel;
use proptest::prelude::*;

const QUERIES: [&str; 4] = ["", "cores >= 3", "cores <= 2 && ram >= 1", "gpu_ram > 1"];
const HIGHEST: u64 = 9;

fn offer(state: &mut State, number: u8, owner: u8, price: u64) -> OfferId {
    let offer = MakeOffer {
        machine: machine(number),
        price_per_hour: money(price),
        duration_min_s: 1,
        duration_max_s: if number == 3 { 1_800 } else { 3_600 },
        expires_ms: 1_000_000_000,
        disk_gib: None,
        reserve_price: None,
        grace_min: 0,
    };
    let owner = AccountId([owner; 20]);
    match run(state, number.into(), |state, ctx| market::make_offer(state, ctx, owner, &offer)) {
        Outcome::Done { id: Some(id) } => OfferId(id),
        other @ (Outcome::Done { .. } | Outcome::Refused(_)) => panic!("the offer is in order: {other:?}"),
    }
}

fn order(machines: u32, least: u32, limit: u64, total: u64, query: &str) -> PlaceOrder {
    PlaceOrder {
        machines,
        least: Some(least),
        price_limit: money(limit),
        total_limit: money(total),
        duration_s: 3_600,
        expires_ms: 1_000_000,
        immediate: false,
        offer: None,
        start_deadline_s: None,
        away_s: None,
        query: Query::parse(query).unwrap(),
        interruptible: false,
    }
}

/// Whether somebody takes the offer at a price.
fn taken(state: &State, offer: OfferId, price: Money) -> bool {
    let mut state = state.clone();
    let amend = AmendOffer { offer, price_per_hour: price, expires_ms: None, reserve_price: None };
    run(&mut state, 300, |state, ctx| market::amend_offer(state, ctx, AccountId([1; 20]), &amend));
    state.offer(offer).is_some_and(|row| row.status == OfferStatus::Rented)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_price_that_is_named_wins_and_none_above_it(
        price in 1..=HIGHEST,
        others in prop::collection::vec((1u8..4, 1u32..5, 1u64..8, any::<bool>(), any::<bool>()), 0..6),
        placed in prop::collection::vec((1u32..4, 1u32..4, 1u64..9, 1u64..24, 0usize..QUERIES.len()), 0..=GANGS_MAX),
    ) {
        let owners: Vec<u8> = [1].into_iter().chain(others.iter().map(|(owner, ..)| *owner)).collect();
        let mut state = market_of(&owners);
        let others: Vec<(u8, _)> = (1u8..).zip(others).collect();
        let list = |state: &mut State, late: bool| {
            for (number, (owner, cores, price, away, after)) in others.iter().filter(|(_, of)| of.4 == late) {
                let row = state.machines.get_mut(&machine(*number)).unwrap();
                (row.inventory.cores, row.online) = (*cores, !away);
                offer(state, *number, *owner, *price);
                debug_assert_eq!(*after, late);
            }
        };
        list(&mut state, false);
        for (position, (machines, least, limit, total, query)) in (100u32..).zip(placed) {
            let order = order(machines, least.min(machines), limit, total, QUERIES[query]);
            run(&mut state, position, |state, ctx| orders::place(state, ctx, BUYER, order));
        }
        let mine = offer(&mut state, 0, 1, price);
        list(&mut state, true);
        prop_assume!(state.offer(mine).unwrap().status == OfferStatus::Open);
        let outlook = state.outlook(mine).unwrap();
        prop_assert_eq!(outlook.orders, state.orders().count() as u64);
        let wins = outlook.winning.map_or(0, |(price, _)| price.units() as u64);
        prop_assert!(wins == 0 || taken(&state, mine, money(wins)), "{wins} does not win: {outlook:?}");
        for dearer in (1..=HIGHEST).filter(|price| *price > wins) {
            prop_assert!(!taken(&state, mine, money(dearer)), "{dearer} wins too: {outlook:?}");
        }
    }
}

#[test]
fn an_offer_is_told_what_it_fails_and_of_which_orders() {
    let mut state = market_of(&[1, 2]);
    let mine = offer(&mut state, 0, 1, 7);
    for (position, (limit, query)) in (100u32..).zip([(5, ""), (3, ""), (9, "cores >= 3"), (4, "gpu_ram > 1")]) {
        let order = order(1, 1, limit, 20, query);
        run(&mut state, position, |state, ctx| orders::place(state, ctx, BUYER, order));
    }
    let outlook = state.outlook(mine).unwrap();
    let seen: Vec<_> =
        outlook.conditions.iter().map(|one| (one.condition.as_str(), one.offers, one.undefined, one.alone)).collect();
    let price = Asked::Price.of_offer();
    assert_eq!(seen, [(price, 3, 0, 2), ("cores >= 3", 1, 0, 1), ("gpu_ram > 1", 1, 1, 0)]);
    let lost: Vec<_> = outlook.lost.iter().map(|one| (one.price_limit.units(), one.conditions.join(" "))).collect();
    let both = format!("{price} gpu_ram > 1");
    assert_eq!(lost, [(9, "cores >= 3".into()), (5, price.into()), (3, price.into()), (4, both)]);
    assert_eq!(outlook.winning.map(|(price, _)| price), Some(money(5)));
    assert!(state.outlook(OfferId([7; 20])).is_none());
}

#[test]
fn a_day_is_worth_what_like_machines_earned() {
    // 0 asks; 1 earned, 2 is offered and earned nothing, 3 is four times as fast, 4 neither offered nor rented, 5 its owner's.
    let mut state = market_of(&[1, 2, 3, 4, 5, 1]);
    let fast = SpeedRow { samples: vec![4_000; 5], verified: 5 };
    state.power.get_mut(&machine(3)).unwrap().speeds.insert(Kernel::Fgemm, fast);
    let mine = offer(&mut state, 0, 1, 9);
    for number in [1, 2, 3] {
        offer(&mut state, number, number + 1, u64::from(number));
    }
    offer(&mut state, 5, 1, 8);
    run(&mut state, 100, |state, ctx| orders::place(state, ctx, BUYER, order(1, 1, 1, 20, "")));
    let rented = state.agreements().next().unwrap().id;
    let row = state.agreements.get_mut(&rented).unwrap();
    (row.closed, row.paid) = (Some(CloseReason::Completed), money(1_000));
    state.head.now_ms = PRESENT_MS_MIN - 1;
    assert_eq!(state.outlook(mine).unwrap().daily, [], "nobody has been there for an hour");
    state.head.now_ms = 2 * PRESENT_MS_MIN;
    assert_eq!(state.outlook(mine).unwrap().daily, [money(0), money(12_000)], "a thousand in two hours");
    let slower = SpeedRow { samples: vec![500; 5], verified: 5 };
    state.power.get_mut(&machine(0)).unwrap().speeds.insert(Kernel::Fgemm, slower);
    assert_eq!(state.outlook(mine).unwrap().daily, [money(0), money(6_000)], "half as fast, half as much");
    state.head.now_ms = EARNED_WITHIN_MS + PRESENT_MS_MIN;
    assert_eq!(state.outlook(mine).unwrap().daily, [money(0), money(0)], "it is too long ago");
}
