//! The change that is named matches, and where none is named none does: on random books, by asking for it.

use super::*;
use crate::{
    command::{CancelOrder, PlaceOrder},
    context::Context,
    market::{
        Fresh,
        matching::{
            LOOKS_PER_ENTRY_MAX,
            tests::{BUYER, look, machine, market_of, money},
        },
        orders,
    },
    outcome::Outcome,
};
use proptest::prelude::*;

const QUERIES: [&str; 7] = [
    "",
    "cores >= 3",
    "cores > 1 && ram >= 1",
    "cores <= 2 && price <= 0.000000004",
    "cores >= 2 && gpu_ram >= 24",
    "cores == 4",
    "cores in [1, 4] && rent_max >= 1800 && cores != 1",
];
const DURATIONS: [u64; 3] = [600, 1_800, 3_600];

pub(in crate::market) fn run(
    state: &mut State,
    position: u32,
    act: impl FnOnce(&mut State, &mut Context) -> Outcome,
) -> Outcome {
    let mut ctx = Context::new(1, 1);
    ctx.position = position;
    let outcome = act(state, &mut ctx);
    look(state, std::mem::take(&mut ctx.fresh), LOOKS_PER_ENTRY_MAX);
    outcome
}

fn place(state: &mut State, position: u32, order: &PlaceOrder) -> OrderId {
    match run(state, position, |state, ctx| orders::place(state, ctx, BUYER, order.clone())) {
        Outcome::Done { id: Some(id) } => OrderId(id),
        other @ (Outcome::Done { .. } | Outcome::Refused(_)) => panic!("the order is in order: {other:?}"),
    }
}

/// Whether the order matches if it is placed anew like this.
fn matches(state: &State, old: OrderId, order: &PlaceOrder) -> Option<Money> {
    let mut state = state.clone();
    run(&mut state, 200, |state, ctx| orders::cancel(state, ctx, BUYER, &CancelOrder { order: old }));
    let before = state.trades_made();
    place(&mut state, 201, order);
    let cost = state.agreements().map(|row| row.held).try_fold(Money::ZERO, Money::checked_add);
    (state.trades_made() > before).then_some(cost.unwrap())
}

fn changed(order: &PlaceOrder, change: &Change) -> PlaceOrder {
    let mut order = order.clone();
    match change {
        Change::PriceLimit(limit) => order.price_limit = *limit,
        Change::TotalLimit(limit) => order.total_limit = *limit,
        Change::Duration(duration_s) => order.duration_s = *duration_s,
        Change::Query(query) => order.query = query.clone(),
        Change::Interruptible => order.interruptible = true,
        Change::Machines(machines) => (order.machines, order.least) = (*machines, None),
    }
    order
}

/// Every single change that there could be, more generous than any that is needed. Of durations only bounds of offers are
/// tried, not the shorter ones that the money might suffice for; they are left out.
fn all_changes(order: &PlaceOrder, clauses: &[Condition]) -> Vec<Change> {
    let much = money(1_000_000);
    let mut all = vec![Change::PriceLimit(much), Change::TotalLimit(much), Change::Interruptible];
    for left_out in 0..clauses.len() {
        let rest: Vec<String> =
            clauses.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, one)| one.to_string()).collect();
        all.push(Change::Query(Query::parse(&rest.join(" && ")).unwrap()));
    }
    all.extend((1..order.least.unwrap_or(order.machines)).map(Change::Machines));
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_change_that_is_named_matches(
        offers in prop::collection::vec((1u8..5, 1u32..5, 1u64..8, 0usize..3, any::<bool>(), any::<bool>(), any::<bool>()), 0..10),
        (machines, least) in (1u32..4).prop_flat_map(|machines| (Just(machines), 1..=machines)),
        limit in 1u64..8,
        total in 1u64..20,
        duration in 0usize..3,
        query in 0usize..QUERIES.len(),
        interruptible: bool,
    ) {
        let owners: Vec<u8> = offers.iter().map(|(owner, ..)| *owner).collect();
        let mut state = market_of(&owners);
        for (number, (owner, cores, price, longest, at_least, online, on_demand)) in (0u8..).zip(offers) {
            let row = state.machines.get_mut(&machine(number)).unwrap();
            (row.inventory.cores, row.online) = (cores, online);
            let offer = crate::command::MakeOffer {
                machine: machine(number),
                price_per_hour: money(price),
                duration_min_s: if at_least { 1_000.min(DURATIONS[longest]) } else { 1 },
                duration_max_s: DURATIONS[longest],
                expires_ms: 1_000_000,
                disk_gib: None,
                reserve_price: (!on_demand).then_some(money(9)),
                grace_min: u32::from(!on_demand),
            };
            let owner = AccountId([owner; 20]);
            let made = run(&mut state, number.into(), |state, ctx| crate::market::make_offer(state, ctx, owner, &offer));
            let done = matches!(made, Outcome::Done { .. });
            prop_assert!(done, "{made:?}");
        }
        let order = PlaceOrder {
            machines,
            least: Some(least),
            price_limit: money(limit),
            total_limit: money(total),
            duration_s: DURATIONS[duration],
            expires_ms: 1_000_000,
            immediate: false,
            offer: None,
            start_deadline_s: None,
            away_s: None,
            query: Query::parse(QUERIES[query]).unwrap(),
            interruptible,
        };
        let id = place(&mut state, 100, &order);
        prop_assume!(state.trades_made() == 0);
        look(&mut state, Fresh::default(), LOOKS_PER_ENTRY_MAX);
        let found = state.explain(id).unwrap();
        prop_assert_eq!(found.offers, state.open_offers().count() as u64);
        let dear = state.open_offers().filter(|row| row.price_per_hour > order.price_limit).count() as u64;
        let price = found.conditions.iter().find(|one| one.condition.starts_with("it asks at most")).unwrap();
        prop_assert_eq!(price.offers, dear);
        match &found.change {
            Some((change, cost)) => {
                let held = matches(&state, id, &changed(&order, change));
                prop_assert!(held.is_some_and(|held| held >= *cost), "{change:?} does not match: {found:?}");
            }
            None => {
                let clauses = if order.query.accepts_all() { &[] } else { order.query.condition().clauses() };
                for change in all_changes(&order, clauses) {
                    let held = matches(&state, id, &changed(&order, &change));
                    prop_assert!(held.is_none(), "{change:?} matches and was not named: {found:?}");
                }
            }
        }
    }
}

#[test]
fn an_order_that_does_not_wait_is_not_explained() {
    assert!(market_of(&[]).explain(OrderId([1; 20])).is_none());
}
