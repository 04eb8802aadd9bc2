//! Listing and suggesting, on rows that are put there.

use super::*;
use crate::{
    ids::{JobId, OfferId, OrderId},
    machines::Gpu,
    market::{OfferStatus, TradeRow, book::OfferKey, matching::tests::empty},
    power::{PowerRow, SpeedRow},
    reliability::Reliability,
};
use matrixai_protocol::drilling::Kernel;

fn money(units: u64) -> Money {
    Money::minor(units.into()).unwrap()
}

fn id(number: u8) -> MachineId {
    MachineId([number; 20])
}

/// A machine of an owner of its own, measured unless its speed is 0.
fn machine(state: &mut State, number: u8, speed: u64, inventory: Inventory) {
    let row = MachineRow {
        id: id(number),
        key: [number; 32],
        owner: AccountId([number; 20]),
        inventory,
        enrolled_ms: 0,
        online: true,
        seen_ms: 0,
        round_trip_us: 0,
        revoked: false,
        suspended: false,
        job: None,
        agreement: None,
        reliability: Reliability::default(),
        slot: None,
    };
    state.machines.insert(id(number), row);
    if speed > 0 {
        let measured = SpeedRow { samples: vec![speed; 5], verified: 5 };
        let speeds = [(Kernel::Fgemm, measured)].into();
        let power = PowerRow { speeds, drilling_micro_ut: u128::from(number), ..PowerRow::default() };
        state.power.insert(id(number), power);
    }
}

fn offer(state: &mut State, machine: u8, price: u64) {
    let sequence = state.offers.len();
    let offer = OfferId([u8::try_from(sequence).unwrap(); 20]);
    let row = OfferRow {
        id: offer,
        machine: id(machine),
        owner: AccountId([machine; 20]),
        price_per_hour: money(price),
        duration_min_s: 1,
        duration_max_s: 3_600,
        expires_ms: 1_000_000,
        status: OfferStatus::Open,
        disk_gib: None,
        interruption: None,
        made_ms: 0,
        sequence,
    };
    state.book.insert(OfferKey { price_per_hour: row.price_per_hour, sequence }, offer);
    state.offers.insert(row);
}

fn found(state: &State, search: &Search) -> Vec<(u8, u128)> {
    state.search(search).iter().map(|of| (of.machine.id.0[0], of.offer.price_per_hour.units())).collect()
}

fn three() -> State {
    let mut state = empty();
    let gpu = Gpu { model: "H100 PCIe".into(), ram_bytes: 80 << 30 };
    let europe = Inventory { cpu_model: "EPYC".into(), region: "europe".into(), ..Inventory::default() };
    machine(&mut state, 1, 1_000, europe.clone());
    machine(&mut state, 2, 4_000, Inventory { gpus: vec![gpu], region: "asia".into(), ..europe });
    machine(&mut state, 3, 0, Inventory::default());
    for (machine, price) in [(1, 10), (1, 7), (2, 20), (3, 1)] {
        offer(&mut state, machine, price);
    }
    state
}

#[test]
fn machines_are_ranked_by_what_is_asked_for() {
    let mut state = three();
    for (machine, completed, failed) in [(1, 3, 1), (3, 0, 1)] {
        state.machines.get_mut(&id(machine)).unwrap().reliability = Reliability { completed, failed };
    }
    let by = |ranking| found(&state, &Search { ranking, ..Search::default() });
    assert_eq!(by(Ranking::Auto), [(2, 20), (1, 7), (3, 1)], "20 for 4,000 is less than 7 for 1,000; none is last");
    assert_eq!(by(Ranking::Price), [(3, 1), (1, 7), (2, 20)], "each machine once, with its cheapest offer");
    assert_eq!(by(Ranking::Speed), [(2, 20), (1, 7), (3, 1)]);
    assert_eq!(by(Ranking::Power), [(2, 20), (1, 7), (3, 1)]);
    assert_eq!(by(Ranking::Reliability), [(1, 7), (3, 1), (2, 20)], "of 2 nothing is known, of 3 nothing good");
    let cheapest = state.search(&Search::default())[1];
    // 10¹⁵ operations at 3,600,000 an hour take 277,777,777.8 hours.
    assert_eq!(cheapest.price_of_speed, Some(money(1_944_444_445)));
}

#[test]
fn every_filter_leaves_out_what_it_names() {
    let state = three();
    let machines = |search: Search| found(&state, &search).into_iter().map(|(machine, _)| machine).collect::<Vec<_>>();
    let query = |text: &str| Search { query: Query::parse(text).unwrap(), ..Search::default() };
    assert_eq!(machines(query("speed.fgemm >= 1000")), [2, 1]);
    assert_eq!(machines(query("region == \"asia\"")), [2], "a machine that names no region has none");
    assert_eq!(machines(query("price > 0.000000008")), [2, 1], "the dearer of two offers if only that one fits");
    assert_eq!(machines(Search { gpus: 1, ..Search::default() }), [2]);
    assert_eq!(machines(Search { model: "h100".into(), ..Search::default() }), [2]);
    assert_eq!(machines(Search { model: "epyc".into(), ..Search::default() }), [2, 1]);
    assert_eq!(machines(Search { region: "europe".into(), ..Search::default() }), [1]);
}

#[test]
fn what_cannot_be_rented_is_not_listed() {
    let mut state = three();
    state.machines.get_mut(&id(1)).unwrap().online = false;
    state.machines.get_mut(&id(2)).unwrap().job = Some(JobId([1; 20]));
    assert_eq!(found(&state, &Search::default()), [(3, 1)]);
    state.head.now_ms = 1_000_000;
    assert_eq!(found(&state, &Search::default()), [], "offers that have lapsed and wait to be closed");
}

#[test]
fn a_price_is_suggested_from_machines_that_are_alike() {
    let mut state = empty();
    // Half as fast to twice as fast is alike; 6 and the unmeasured 7 are not, nor the machine's own offer.
    let speeds = [(1, 1_000), (2, 500), (3, 2_000), (4, 1_000), (6, 2_001), (7, 0)];
    for (number, speed) in speeds {
        machine(&mut state, number, speed, Inventory::default());
        offer(&mut state, number, u64::from(number) * 100);
    }
    let suggestion = state.suggest(id(1)).unwrap();
    assert_eq!(suggestion.asked, [money(150), money(400), money(400)], "scaled by the speeds: 300 / 2, 200 · 2, 400");
    assert_eq!((suggestion.agreed.len(), suggestion.price()), (0, Some(money(400))));
    for number in 1..=5 {
        let trade = TradeRow {
            order: OrderId([1; 20]),
            job: None,
            offer: OfferId([0; 20]),
            machine: id(4),
            buyer: AccountId([9; 20]),
            seller: AccountId([4; 20]),
            price_per_hour: money(number),
            matched_ms: 0,
        };
        state.trades.insert(number, trade);
        let by = if number < 5 { money(400) } else { money(3) };
        assert_eq!(state.suggest(id(1)).unwrap().price(), Some(by), "after {number} agreements");
    }
    assert_eq!(state.suggest(id(7)), None, "without a speed there is nothing to compare");
    assert_eq!(quantile(&[], 50), None);
    assert_eq!(
        [0, 50, 90, 100].map(|percent| quantile(&[1, 2, 3, 4].map(money), percent).unwrap()),
        [1, 2, 3, 4].map(money)
    );
}
