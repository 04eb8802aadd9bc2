//! Matching by itself: prices, budgets, and what is looked at.

use super::*;
use crate::{
    closing::CloseReason,
    command::{MakeOffer, PlaceOrder, SubmitTraining},
    ids::AccountId,
    jobs::JobState,
    machines::{Inventory, MachineRow},
    market::{self, OrderTerms},
    outcome::Outcome,
    power::{PowerRow, SpeedRow},
    reliability::Reliability,
};
use matrixai_proto::v1;
use matrixai_protocol::{drilling::Kernel, spec::TrainingSpec};
use proptest::prelude::*;
use prost::Message;
use std::collections::BTreeSet;

pub(in crate::market) const BUYER: AccountId = AccountId([9; 20]);

pub(in crate::market) fn money(units: u64) -> Money {
    Money::minor(units.into()).unwrap()
}

/// A network of one coordinator in which nothing has happened.
pub(in crate::market) fn empty() -> State {
    let node = v1::GenesisNode { id: 1, key: vec![1; 32], grpc: "g:1".into(), web: "w:1".into() };
    let genesis = v1::Genesis {
        format: 1,
        network: "test".into(),
        nodes: vec![node],
        faucet_daily: "0".into(),
        faucet_total: "0".into(),
        beat_ms: 1,
        r0: vec![0; 32],
        machine_timeout_ms: 1,
        epoch_beats: 1,
        ..v1::Genesis::default()
    };
    State::genesis(&genesis.encode_to_vec()).unwrap()
}

/// A market with a rich buyer, and a measured machine for each owner that is named.
pub(in crate::market) fn market_of(owners: &[u8]) -> State {
    let mut state = empty();
    let mut buyer = crate::accounts::AccountRow::new(BUYER, None, crate::accounts::AccountRole::User, 0);
    buyer.balance = Money::MAX;
    state.accounts.insert(BUYER, buyer);
    for (number, owner) in (0u8..).zip(owners) {
        let (id, owner) = (machine(number), AccountId([*owner; 20]));
        let row = MachineRow {
            id,
            key: [number; 32],
            owner,
            inventory: Inventory { cores: 1, ram_bytes: 1 << 30, ..Inventory::default() },
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
        state.by_memory.insert((row.inventory.ram_bytes, id), owner);
        state.online.insert(id, ());
        state.machines.insert(id, row);
        let speed = SpeedRow { samples: vec![1_000; 5], verified: 5 };
        state.power.insert(id, PowerRow { speeds: [(Kernel::Fgemm, speed)].into(), ..PowerRow::default() });
    }
    state
}

pub(in crate::market) fn machine(number: u8) -> MachineId {
    MachineId([number; 20])
}

/// A context of its own for each command, as different envelopes have.
fn context(state: &State, looks: u32) -> Context {
    let mut ctx = Context::new(1, 1);
    ctx.position = u32::try_from(state.head.book_sequence).unwrap();
    ctx.looks = looks;
    ctx
}

/// The market's turn in an entry with so many looks.
pub(in crate::market) fn look(state: &mut State, fresh: Fresh, looks: u32) {
    let mut ctx = context(state, looks);
    ctx.fresh = fresh;
    try_match(state, &mut ctx);
    assert!(ctx.fresh.is_empty());
}

fn offer(state: &mut State, number: u8, price: u64) -> Fresh {
    let mut ctx = context(state, u32::MAX);
    let owner = state.machines.get(&machine(number)).unwrap().owner;
    let offer = MakeOffer {
        machine: machine(number),
        price_per_hour: money(price),
        duration_min_s: 1,
        duration_max_s: 3_600,
        expires_ms: 1_000_000,
        disk_gib: None,
        reserve_price: None,
        grace_min: 0,
    };
    assert!(matches!(market::make_offer(state, &mut ctx, owner, &offer), Outcome::Done { .. }));
    ctx.fresh
}

fn submit(state: &mut State, machines: u32, limit: u64) -> (JobId, Fresh) {
    submit_where(state, machines, limit, "")
}

fn submit_where(state: &mut State, machines: u32, limit: u64, query: &str) -> (JobId, Fresh) {
    let mut ctx = context(state, u32::MAX);
    let spec = TrainingSpec {
        dataset: [0; 32],
        dataset_bytes: 1,
        features: 1,
        classes: 2,
        feature_scale: 1,
        validate_every: 2,
        hidden: Vec::new(),
        learning_rate_e6: 1,
        momentum_e6: 0,
        weight_decay_e6: 0,
        clip_norm_e6: 0,
        batch: 1,
        virtual_workers: 1,
        rounds: 1,
        steps_per_round: 1,
        outer_rate_e6: 1,
        outer_momentum_e6: 0,
        target_e6: 0,
        seed: 0,
        spot_checks: 0,
    };
    let order = OrderTerms {
        machines,
        price_limit: money(limit),
        total_limit: money(1_000_000),
        duration_s: 3_600,
        start_deadline_s: 0,
        query: Query::parse(query).unwrap(),
    };
    let submit = SubmitTraining { name: "j".into(), spec, order };
    let Outcome::Done { id: Some(id) } = jobs::submit_training(state, &mut ctx, BUYER, &submit) else {
        panic!("the order is in order")
    };
    (JobId(id), ctx.fresh)
}

proptest! {
    /// The definition: of all sets of machines of distinct owners within the limit, the cheapest, then the oldest.
    #[test]
    fn an_order_gets_the_cheapest_machines(
        offers in prop::collection::vec((0u8..5, 1u64..8), 1..12),
        wanted in 1u32..4,
        limit in 1u64..8,
    ) {
        let owners: Vec<u8> = offers.iter().map(|(owner, _)| *owner).collect();
        let mut state = market_of(&owners);
        for (number, (_, price)) in (0u8..).zip(&offers) {
            offer(&mut state, number, *price);
        }
        let mut cheapest: Vec<(u64, usize, u8)> =
            offers.iter().enumerate().map(|(at, (owner, price))| (*price, at, *owner)).collect();
        cheapest.sort_unstable();
        let mut seen = BTreeSet::new();
        cheapest.retain(|(price, _, owner)| *price <= limit && seen.insert(*owner));
        cheapest.truncate(wanted as usize);
        let distinct = owners.iter().collect::<BTreeSet<_>>().len();
        prop_assume!(distinct >= wanted as usize);

        let (_, fresh) = submit(&mut state, wanted, limit);
        look(&mut state, fresh, LOOKS_PER_ENTRY_MAX);
        let traded: Vec<(MachineId, Money)> =
            state.trades.iter().map(|(_, row)| (row.machine, row.price_per_hour)).collect();
        let all = cheapest.len() == wanted as usize;
        let expected: Vec<(MachineId, Money)> = match all {
            true => cheapest.iter().map(|(price, at, _)| (machine(*at as u8), money(*price))).collect(),
            false => Vec::new(),
        };
        prop_assert_eq!(traded, expected);
        prop_assert_eq!(state.orders.is_empty(), all);
    }

    /// Few looks an entry, so that much waits its turn; and a second state whose engine is made anew for every entry.
    #[test]
    fn an_engine_made_anew_finds_the_same(
        happenings in prop::collection::vec((0u8..6, 0u8..6, 1u64..6, 1u32..4, 0usize..4), 1..60),
        looks in 1u32..12,
    ) {
        let mut state = market_of(&[1, 2, 3, 4, 5, 6]);
        let queries = ["", "cores == 1", "price <= 0.000000003", "machine != \"0000000000000000000000000000000000000000\""];
        for (what, number, price, machines, query) in happenings {
            let mut view = state.clone();
            for state in [&mut state, &mut view] {
                let fresh = match what {
                    0 | 1 if state.machine_offers.len() < 12 => offer(state, number, price),
                    2 | 3 => submit_where(state, machines, price, queries[query]).1,
                    4 => cancel_first(state),
                    _ => Fresh::default(),
                };
                look(state, fresh, looks);
            }
            prop_assert_eq!(state.part_hashes(), view.part_hashes());
        }
        // Nothing is left undone once there are looks for it: a pass over everything finds nothing more.
        (0..200).for_each(|_| look(&mut state, Fresh::default(), LOOKS_PER_ENTRY_MAX));
        prop_assert!(state.backlog.is_empty());
        let trades = state.head.trades;
        let mut anew = state.clone();
        let orders = state.orders.iter().map(|(_, row)| FreshOrder { id: row.id, placed: true }).collect();
        look(&mut anew, Fresh { orders, ..Fresh::default() }, LOOKS_PER_ENTRY_MAX);
        prop_assert_eq!(anew.head.trades, trades);
    }
}

/// Ends the job whose order or machines come first.
fn cancel_first(state: &mut State) -> Fresh {
    let mut ctx = context(state, u32::MAX);
    let open = state.jobs().find(|job| !job.state.closed()).map(|job| job.id);
    if let Some(job) = open {
        jobs::close(state, &mut ctx, job, JobState::Cancelled, CloseReason::Buyer, "");
    }
    ctx.fresh
}

/// Three hopeless orders stand before one that can be served; an entry's looks suffice for one of them.
#[test]
fn a_pass_that_runs_out_of_looks_goes_on_where_it_stopped() {
    let mut state = market_of(&[1, 2, 3]);
    for _ in 0..3 {
        let (_, fresh) = submit(&mut state, 2, 9);
        look(&mut state, fresh, LOOKS_PER_ENTRY_MAX);
    }
    let (served, fresh) = submit(&mut state, 1, 8);
    look(&mut state, fresh, LOOKS_PER_ENTRY_MAX);
    let first = offer(&mut state, 0, 5);
    look(&mut state, first, 2);
    // A cheaper offer must not overtake: its turn comes when the first one's is over.
    let cheaper = offer(&mut state, 1, 3);
    look(&mut state, cheaper, 0);
    let mut entries = 1;
    while state.trades.is_empty() {
        look(&mut state, Fresh::default(), 2);
        entries += 1;
        assert!(entries < 10, "the last order is never reached");
    }
    let trade = state.trades.first().unwrap().1;
    assert_eq!((trade.job, trade.machine), (Some(served), machine(0)));
    assert_eq!(entries, 4);
}

/// Or an entry with many new queries would last as long as its sender likes.
#[test]
fn a_new_query_pays_for_every_offer_and_for_its_length() {
    let query = vec!["cores == 1"; 32].join(" && ");
    let owners: Vec<u8> = (1..=64).collect();
    let mut state = market_of(&owners);
    for number in 0..64 {
        offer(&mut state, number, 5);
    }
    let (_, fresh) = submit_where(&mut state, 1, 9, &query);
    let length = u32::try_from(query.len() / 32).unwrap() + 1;
    // The query, the order, and the offer that it gets.
    let looks = 64 * length / 16 + 2;
    look(&mut state, fresh, looks - 1);
    assert!(state.trades.is_empty());
    look(&mut state, Fresh::default(), looks);
    assert_eq!(state.trades.iter().count(), 1);
}

#[test]
fn without_anything_new_there_is_nothing_to_look_at() {
    let mut state = market_of(&[1]);
    let fresh = offer(&mut state, 0, 5);
    submit(&mut state, 1, 9);
    look(&mut state, Fresh::default(), LOOKS_PER_ENTRY_MAX);
    assert!(state.trades.is_empty());
    look(&mut state, fresh, LOOKS_PER_ENTRY_MAX);
    assert!(!state.trades.is_empty());
}

/// The looks of its entry are spent: it gets its machine in the next one, and not nothing because its time is over.
#[test]
fn an_order_that_does_not_rest_has_its_turn_later_all_the_same() {
    let mut state = market_of(&[1]);
    offer(&mut state, 0, 5);
    let mut ctx = context(&state, 0);
    let order = PlaceOrder {
        machines: 1,
        least: None,
        price_limit: money(9),
        total_limit: money(1_000),
        duration_s: 3_600,
        expires_ms: 0,
        immediate: true,
        offer: None,
        start_deadline_s: None,
        away_s: None,
        query: Query::default(),
        interruptible: false,
    };
    assert!(matches!(market::orders::place(&mut state, &mut ctx, BUYER, order), Outcome::Done { .. }));
    try_match(&mut state, &mut ctx);
    assert_eq!((state.head.trades, state.backlog.iter().count()), (0, 1));
    let mut next = Context::new(2, 1_000);
    crate::expiry::run(&mut state, &mut next);
    try_match(&mut state, &mut next);
    assert_eq!((state.head.trades, state.orders.is_empty()), (1, true));
}
