//! Matching: an order gets all the machines it wants or none.
//!
//! Orders are looked at in the book's order (highest limit, then oldest). For each, offers are taken cheapest first, then
//! oldest, one machine an owner, until enough are feasible; the price is that of whichever was in the book first, the
//! offer's or the order's limit. The agreement's whole price must fit the order's total limit.
//!
//! Work is bounded by a [`Budget`] an entry. An order that the budget did not reach is remembered in
//! `head.match_from` and looked at first in the next entry: nothing loses its place.

use super::{
    MatchedMachine, OfferRow, OrderRow, TRADES_MAX, TradeRow,
    attributes::attributes,
    book::{OrderKey, cancel_order, reopen, take},
    query::Query,
};
use crate::{
    context::Context,
    ids::{JobId, MachineId},
    jobs, ledger,
    money::Money,
    power,
    state::State,
};
use std::collections::BTreeSet;

/// Orders and offers looked at in one entry.
pub(crate) const LOOKS_PER_ENTRY_MAX: u32 = 65_536;
/// Bytes of a query's text that are charged as a look.
const QUERY_BYTES_A_LOOK: usize = 32;

/// What matching may still cost in this entry, in looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget(u32);

impl Default for Budget {
    fn default() -> Self {
        Self(LOOKS_PER_ENTRY_MAX)
    }
}

impl Budget {
    /// Pays for one look; `false` when nothing is left.
    fn spend(&mut self) -> bool {
        self.spend_many(1)
    }

    /// Pays for something that costs as much as so many looks.
    fn spend_many(&mut self, looks: u32) -> bool {
        let left = self.0.checked_sub(looks);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

/// What one look at an order found.
enum Found {
    Agreement(Vec<MatchedMachine>, Money),
    Nothing,
    /// The budget ran out first.
    Unfinished,
}

/// Matches every waiting order that can be; see the module. Runs after a command that called `ctx.rematch()`, and in
/// every entry while a pass is unfinished.
pub(crate) fn try_match(state: &mut State, ctx: &mut Context) {
    // A change during an unfinished pass asks for another pass after it, not for this one to begin again: else the
    // orders at the front could use up every entry's budget.
    let mut again = std::mem::take(&mut ctx.rematch) || state.head.match_again;
    let mut from = state.head.match_from.take();
    if from.is_none() {
        if !again {
            return;
        }
        again = false;
    }
    state.head.match_again = false;
    loop {
        let next = match from {
            None => state.orders.first(),
            Some(key) => state.orders.range(key..).next(),
        };
        let Some((key, order)) = next.map(|(key, order)| (*key, order.clone())) else {
            if !again {
                return;
            }
            (again, from) = (false, None);
            continue;
        };
        // An order costs a look too: passes over many hopeless orders are bounded like any other work.
        let whole_budget = ctx.budget == Budget::default();
        let found = if ctx.budget.spend() { look(state, ctx, &order) } else { Found::Unfinished };
        match found {
            Found::Agreement(machines, held) => agree(state, ctx, &order, machines, held),
            Found::Nothing => {}
            // An order that an entry's whole budget cannot serve must not hold up those behind it.
            Found::Unfinished if whole_budget => {}
            Found::Unfinished => {
                state.head.match_from = Some(key);
                state.head.match_again = again;
                return;
            }
        }
        from = Some(OrderKey { sequence: key.sequence.saturating_add(1), ..key });
    }
}

/// A closed job's machines are free again, and their offers back in the book unless they ended meanwhile.
pub(crate) fn release_machines(state: &mut State, ctx: &mut Context, job: JobId, machines: &[MachineId]) {
    for machine in machines {
        let Some(row) = state.machines.get_mut(machine).filter(|row| row.job == Some(job)) else { continue };
        row.job = None;
        if let Some(offer) = state.rented.remove(machine) {
            reopen(state, offer);
        }
    }
    ctx.rematch();
}

fn look(state: &State, ctx: &mut Context, order: &OrderRow) -> Found {
    let wanted = order.terms.machines as usize;
    let mut owners = BTreeSet::new();
    let mut machines = Vec::with_capacity(wanted);
    for (key, offer) in state.book.iter() {
        if key.price_per_hour > order.terms.price_limit {
            return Found::Nothing;
        }
        if !ctx.budget.spend() {
            return Found::Unfinished;
        }
        let Some(offer) = state.offers.get(offer) else { continue };
        if !feasible(state, ctx.now_ms, order, offer) || owners.contains(&offer.owner) {
            continue;
        }
        let query = &order.terms.query;
        if !query.accepts_all() {
            if !ctx.budget.spend_many(looks_of(query)) {
                return Found::Unfinished;
            }
            if !query.accepts(&attributes(state, offer)) {
                continue;
            }
        }
        owners.insert(offer.owner);
        machines.push(MatchedMachine {
            machine: offer.machine,
            owner: offer.owner,
            offer: offer.id,
            price_per_hour: resting_price(order, offer),
        });
        if machines.len() == wanted {
            let held = price_of(&machines, order.terms.duration_s, order.fee_bp);
            return match held.filter(|held| *held <= order.terms.total_limit) {
                Some(held) => Found::Agreement(machines, held),
                None => Found::Nothing,
            };
        }
    }
    Found::Nothing
}

/// Looks that asking a query of one offer costs: putting the attributes together, and the conditions, whose number the
/// length of the text bounds.
fn looks_of(query: &Query) -> u32 {
    u32::try_from(query.text().len() / QUERY_BYTES_A_LOOK).unwrap_or(u32::MAX).saturating_add(1)
}

/// Whether an offer's machine can do this job: there, free, measured, with the memory, for this long, not the buyer's.
fn feasible(state: &State, now_ms: u64, order: &OrderRow, offer: &OfferRow) -> bool {
    let Some(machine) = state.machines.get(&offer.machine) else { return false };
    let fits = (offer.duration_min_s..=offer.duration_max_s).contains(&order.terms.duration_s);
    fits && offer.expires_ms > now_ms
        && offer.owner != order.buyer
        && machine.available()
        && machine.job.is_none()
        && machine.inventory.ram_bytes >= order.memory_bytes
        && power::measured_fgemm(state, offer.machine).is_some()
}

/// Whoever was in the book first names the price.
fn resting_price(order: &OrderRow, offer: &OfferRow) -> Money {
    if offer.sequence < order.sequence { offer.price_per_hour } else { order.terms.price_limit }
}

/// What an agreement can cost at most: every machine for the whole duration, and the fee on it, each rounded up.
fn price_of(machines: &[MatchedMachine], duration_s: u64, fee_bp: u32) -> Option<Money> {
    let rents = machines.iter().try_fold(Money::ZERO, |sum, machine| {
        machine.price_per_hour.rent_held(duration_s).and_then(|rent| sum.checked_add(rent))
    })?;
    rents.checked_add(rents.fee_held(fee_bp)?)
}

fn agree(state: &mut State, ctx: &mut Context, order: &OrderRow, machines: Vec<MatchedMachine>, held: Money) {
    cancel_order(state, order.job);
    ledger::release(state, ctx, order.job, held);
    for matched in &machines {
        take(state, matched.offer);
        state.rented.insert(matched.machine, matched.offer);
        if let Some(row) = state.machines.get_mut(&matched.machine) {
            row.job = Some(order.job);
        }
        let trade = TradeRow {
            job: order.job,
            offer: matched.offer,
            machine: matched.machine,
            buyer: order.buyer,
            seller: matched.owner,
            price_per_hour: matched.price_per_hour,
            matched_ms: ctx.now_ms,
        };
        state.head.trades = state.head.trades.saturating_add(1);
        state.trades.insert(state.head.trades, trade);
        if let Some(old) = state.head.trades.checked_sub(TRADES_MAX) {
            state.trades.remove(&old);
        }
    }
    ctx.event("job.matched", order.job, format!("Job {} has its {} machines.", order.job, machines.len()));
    jobs::matched(state, ctx, order.job, machines);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use crate::{
        command::{MakeOffer, SubmitTraining},
        ids::AccountId,
        machines::{Inventory, MachineRow},
        market::{self, OrderTerms},
        outcome::Outcome,
        power::{PowerRow, SpeedRow},
    };
    use matrixai_proto::v1;
    use matrixai_protocol::{drilling::Kernel, spec::TrainingSpec};
    use proptest::prelude::*;
    use prost::Message;

    const BUYER: AccountId = AccountId([9; 20]);

    fn money(units: u64) -> Money {
        Money::minor(units.into()).unwrap()
    }

    /// A market with a rich buyer, and a measured machine for each owner that is named.
    fn market_of(owners: &[u8]) -> State {
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
        let mut state = State::genesis(&genesis.encode_to_vec()).unwrap();
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

    fn machine(number: u8) -> MachineId {
        MachineId([number; 20])
    }

    /// A context of its own for each command, as different envelopes have.
    fn context(state: &State, budget: u32) -> Context {
        let mut ctx = Context::new(1, 1);
        ctx.position = u32::try_from(state.head.book_sequence).unwrap();
        ctx.budget = Budget(budget);
        ctx
    }

    fn offer(state: &mut State, number: u8, price: u64) {
        let mut ctx = context(state, u32::MAX);
        let owner = state.machines.get(&machine(number)).unwrap().owner;
        let offer = MakeOffer {
            machine: machine(number),
            price_per_hour: money(price),
            duration_min_s: 1,
            duration_max_s: 3_600,
            expires_ms: 1_000_000,
        };
        assert!(matches!(market::make_offer(state, &mut ctx, owner, &offer), Outcome::Done { .. }));
    }

    fn submit(state: &mut State, machines: u32, limit: u64) -> JobId {
        submit_where(state, machines, limit, "")
    }

    fn submit_where(state: &mut State, machines: u32, limit: u64, query: &str) -> JobId {
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
        JobId(id)
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

            submit(&mut state, wanted, limit);
            let mut ctx = context(&state, u32::MAX);
            ctx.rematch();
            try_match(&mut state, &mut ctx);
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
    }

    /// Three hopeless orders stand before one that can be served; each pass may cost two looks.
    #[test]
    fn a_pass_that_runs_out_of_budget_goes_on_where_it_stopped() {
        let mut state = market_of(&[1, 2]);
        offer(&mut state, 0, 5);
        for _ in 0..3 {
            submit(&mut state, 2, 9);
        }
        let served = submit(&mut state, 1, 8);
        let mut entries = 0;
        let mut ctx = context(&state, 2);
        ctx.rematch();
        while state.trades.is_empty() {
            try_match(&mut state, &mut ctx);
            // Something changes in every entry; that must not send the pass back to the front.
            ctx = context(&state, 2);
            ctx.rematch();
            entries += 1;
            assert!(entries < 10, "the last order is never reached");
        }
        assert_eq!(state.trades.first().unwrap().1.job, served);
        assert!(entries > 1, "one entry's budget does not suffice");
    }

    /// Or an entry with a long query and many offers would last as long as its sender likes.
    #[test]
    fn a_query_pays_for_its_length() {
        let query = vec!["cores == 1"; 32].join(" && ");
        let mut state = market_of(&[1]);
        offer(&mut state, 0, 5);
        submit_where(&mut state, 1, 9, &query);
        // The order, the offer, and a look for each 32 bytes of the canonical text and one more.
        let looks = 2 + u32::try_from(query.len() / 32).unwrap() + 1;
        for (budget, traded) in [(looks - 1, 0), (looks, 1)] {
            let mut ctx = context(&state, budget);
            ctx.rematch();
            try_match(&mut state, &mut ctx);
            assert_eq!(state.trades.iter().count(), traded, "with {budget} looks");
        }
    }

    #[test]
    fn without_anything_new_there_is_nothing_to_look_at() {
        let mut state = market_of(&[1]);
        offer(&mut state, 0, 5);
        submit(&mut state, 1, 9);
        let mut ctx = context(&state, u32::MAX);
        try_match(&mut state, &mut ctx);
        assert!(state.trades.is_empty());
        ctx.rematch();
        try_match(&mut state, &mut ctx);
        assert!(!state.trades.is_empty());
    }
}
