//! Whether what `market explain` names is so: on random books, by the naive matcher.
//!
//! A book is made through the log: offers of a few owners, siblings of one machine among them, machines that are away, and an
//! order, alone or a job's. The naive matcher is told what was offered and judges: does the order match as it is; with the
//! change that was named, and for the cost that was named; and is there none that is cheaper, or none at all if none was
//! named. What money covers is reckoned here again.

use super::{Command, Naive};
use crate::{
    furniture,
    population::{Population, command},
    sim::rng::Rng,
    timing::{Moment, median},
};
use matrixai_proto::v1::{self, command::Kind};
use matrixai_state::{
    Money, State,
    ids::{MachineId, OrderId, made_id},
    machines::Inventory,
    market::{
        OrderRow,
        engine::{Ask, Bid},
        explain::Change,
        query::{Attributes, Number, NumberAttribute, Provenance, Query, TextAttribute},
    },
    measure,
};
use std::sync::Arc;

/// Accounts of a book; the last one buys.
const OWNERS: usize = 4;
/// The fee of the network, basis points, and seconds of an hour.
const FEE_BP: u128 = 100;
const HOUR_S: u128 = 3_600;
const DURATIONS_S: [u64; 3] = [600, 1_800, 3_600];
const REGIONS: [&str; 3] = ["", "asia", "europe"];
const QUERIES: [&str; 9] = [
    "",
    "cores >= 3",
    "cores > 1 && ram >= 2",
    "cores <= 2 && price <= 0.000000004",
    "cores >= 2 && gpu_ram >= 24",
    "cores == 4",
    "cores in [1, 4] && rent_max >= 1800 && cores != 1",
    "region == \"asia\" && ram > 1",
    "cores * 2 > ram + 1 && defined(region)",
];
/// More than any order of a book can cost.
const MUCH: u128 = 1_000_000;

/// What was found on many books.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Books {
    /// Orders that matched as they were.
    pub matched: u32,
    /// Orders that waited and for which a change was named, that matches.
    pub named: u32,
    /// Orders that waited and for which none was named, and none was found.
    pub hopeless: u32,
}

/// Makes so many random books and explains the order of each.
///
/// # Errors
/// Says of which seed and book the naive matcher disagrees, and how.
pub fn explain_books(books: u32, seed: u64) -> Result<Books, String> {
    let mut empty = Population::new(OWNERS + 1);
    // The coordinator's key: who says that a machine is away.
    empty.keys.push([1; 32]);
    let mut found = Books::default();
    for number in 0..books {
        let mut rng = Rng::new(seed.wrapping_mul(1 << 32).wrapping_add(number.into()));
        Book::random(&empty, &mut rng)
            .judge(&mut found)
            .map_err(|error| format!("seed {seed}, book {number}: {error}"))?;
    }
    Ok(found)
}

/// A book with one order.
struct Book {
    state: State,
    /// None for one that the state would not even take.
    order: Option<Asked>,
    naive: Naive,
    /// The shortest and longest rents of the offers.
    durations: Vec<(u64, u64)>,
}

/// An order as it was placed.
#[derive(Clone)]
struct Asked {
    id: OrderId,
    bid: Bid,
    money: u128,
    query: Query,
    traded: bool,
}

impl Book {
    fn random(empty: &Population, rng: &mut Rng) -> Self {
        let mut all = empty.clone();
        let (mut naive, mut durations) = (Naive::new(&[Query::default()]), Vec::new());
        let mut machines: Vec<(usize, MachineId, Inventory)> = Vec::new();
        let mut entries: Vec<(usize, Kind)> = Vec::new();
        for id in 0..rng.below(10) as u32 {
            let again = !machines.is_empty() && rng.one_in(5);
            let (owner, machine, inventory) = if again {
                rng.pick(&machines).clone()
            } else {
                let owner = rng.below(OWNERS as u64) as usize;
                let inventory = Inventory {
                    cores: rng.between(1, 4) as u32,
                    ram_bytes: rng.between(1, 3) << 30,
                    region: (*rng.pick(&REGIONS)).to_owned(),
                    ..Inventory::default()
                };
                let machine = measure::machine_of(&mut all.state, all.ids[owner], id.into(), inventory.clone());
                machines.push((owner, machine, inventory.clone()));
                (owner, machine, inventory)
            };
            let interruptible = rng.one_in(4);
            let terms = v1::MakeOffer {
                machine: machine.0.to_vec(),
                price_per_hour: rng.between(1, 7).to_string(),
                duration_min_s: if rng.one_in(2) { 1 } else { 1_000 },
                duration_max_s: DURATIONS_S[rng.between(1, 2) as usize],
                reserve_price: if interruptible { "9".into() } else { String::new() },
                grace_min: u32::from(interruptible),
                expires_ms: all.state.now_ms() + 86_400_000,
                ..v1::MakeOffer::default()
            };
            durations.push((terms.duration_min_s, terms.duration_max_s));
            let ask = Ask {
                owner: all.ids[owner],
                machine,
                price: money(&terms.price_per_hour),
                sequence: 0,
                quantity: 1,
                open: true,
                duration_min_s: terms.duration_min_s,
                duration_max_s: terms.duration_max_s,
                expires_ms: u64::MAX,
                memory_bytes: inventory.ram_bytes,
                interruptible,
            };
            let attributes = Box::new(attributes(&inventory, &ask));
            naive.apply(&Command::Offer { id, ask, attributes, sibling: None }, &mut Vec::new());
            entries.push((owner, Kind::MakeOffer(terms)));
        }
        for (_, machine, _) in machines.iter().filter(|_| rng.one_in(5)) {
            entries
                .push((OWNERS + 1, Kind::MachineLost(v1::MachineLost { machine: machine.0.to_vec(), silent_ms: 0 })));
            naive.close(*machine);
        }
        let envelopes = entries.into_iter().map(|(from, kind)| all.envelope(from, vec![command(kind)])).collect();
        let entry = all.entry(envelopes, 1);
        all.apply(&entry);
        let order = order(&mut all, rng);
        Self { state: all.state, order, naive, durations }
    }

    fn judge(mut self, found: &mut Books) -> Result<(), String> {
        let Some(order) = self.order.take() else { return Ok(()) };
        let as_it_is = self.cost(&order);
        if order.traded != as_it_is.is_some() {
            return Err(format!("it matched: {}, naively: {as_it_is:?}", order.traded));
        }
        if order.traded {
            found.matched += 1;
            return Ok(());
        }
        let named = self.state.explain(order.id).ok_or("it does not wait")?;
        let others = self.alternatives(&order);
        match &named.change {
            Some((change, cost)) => {
                let matches = self.cost(&changed(&order, change));
                if matches != Some(cost.units()) {
                    return Err(format!("{change:?} for {cost} is named, naively it costs {matches:?}: {named:?}"));
                }
                let better = |(other, least): &&(Change, u128)| match (change, other) {
                    // As many as possible, and only if nothing else does it.
                    (Change::Machines(named), Change::Machines(other)) => other > named,
                    (Change::Machines(_), _) => true,
                    (_, Change::Machines(_)) => false,
                    _ => *least < cost.units(),
                };
                if let Some((other, least)) = others.iter().find(better) {
                    return Err(format!("{change:?} for {cost} is named, {other:?} costs {least}: {named:?}"));
                }
                found.named += 1;
            }
            None if others.is_empty() => found.hopeless += 1,
            None => return Err(format!("no change is named, naively {others:?} match: {named:?}")),
        }
        Ok(())
    }

    /// Single changes that are more generous than any that is needed, and what each would cost if it matches.
    fn alternatives(&mut self, order: &Asked) -> Vec<(Change, u128)> {
        let much = Money::minor(MUCH).expect("it is little");
        let mut all = vec![Change::PriceLimit(much), Change::TotalLimit(much)];
        // A job takes machines on demand alone.
        all.extend((!order.bid.distinct_owners).then_some(Change::Interruptible));
        // As far as an offer needs, not further: only to rent for less is always cheaper, and is no advice.
        let now = order.bid.duration_s;
        let bounds = self
            .durations
            .iter()
            .filter_map(|(min, max)| if *max < now { Some(*max) } else { Some(*min).filter(|min| *min > now) });
        all.extend(bounds.map(Change::Duration));
        let clauses = if order.query.accepts_all() { &[] } else { order.query.condition().clauses() };
        for left_out in 0..clauses.len() {
            let rest =
                clauses.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, clause)| clause.to_string());
            let rest: Vec<String> = rest.collect();
            all.push(Change::Query(Query::parse(&rest.join(" && ")).expect("it was a query")));
        }
        all.extend((1..order.bid.least).map(Change::Machines));
        all.retain(|change| match change {
            Change::Duration(_) => self.wins_by_duration(order, change),
            _ => true,
        });
        all.into_iter().filter_map(|change| Some((change.clone(), self.cost(&changed(order, &change))?))).collect()
    }

    /// Whether another duration is one for which a machine can be had that cannot be had now.
    fn wins_by_duration(&mut self, order: &Asked, change: &Change) -> bool {
        let now = order.bid.duration_s;
        let order = changed(order, change);
        let asks = self.naive.would_get(&order.bid, &order.query);
        asks.iter().take(order.bid.least as usize).any(|ask| !(ask.duration_min_s..=ask.duration_max_s).contains(&now))
    }

    /// What an order's least machines would cost if it was placed now; none if it would not match.
    fn cost(&mut self, order: &Asked) -> Option<u128> {
        let prices: Vec<u128> =
            self.naive.would_get(&order.bid, &order.query).into_iter().map(|ask| ask.price.units()).collect();
        let needed = prices.get(..order.bid.least as usize)?;
        let rent = |price: &u128| (price * u128::from(order.bid.duration_s)).div_ceil(HOUR_S);
        let with_fee = |rent: u128| rent + (rent * FEE_BP).div_ceil(10_000);
        // A job pays one fee on all, otherwise each agreement holds its own.
        let cost = if order.bid.distinct_owners {
            with_fee(needed.iter().map(rent).sum())
        } else {
            needed.iter().map(|price| with_fee(rent(price))).sum()
        };
        (cost <= order.money).then_some(cost)
    }
}

/// Places an order, or a job with one.
fn order(all: &mut Population, rng: &mut Rng) -> Option<Asked> {
    let buyer = OWNERS;
    let machines = rng.between(1, 3) as u32;
    let (limit, total) = (rng.between(1, 7).to_string(), rng.between(1, 20).to_string());
    let duration_s = *rng.pick(&DURATIONS_S);
    let query = Query::parse(QUERIES[rng.below(QUERIES.len() as u64) as usize]).expect("it is a query");
    let (job, interruptible) = (rng.one_in(4), rng.one_in(2));
    let kind = if job {
        let order = v1::OrderTerms {
            machines,
            price_limit: limit,
            total_limit: total,
            duration_s,
            query: query.to_string(),
            ..v1::OrderTerms::default()
        };
        Kind::SubmitTraining(v1::SubmitTraining {
            name: "book".into(),
            spec: Some(furniture::spec()),
            order: Some(order),
        })
    } else {
        Kind::PlaceOrder(v1::PlaceOrder {
            machines,
            least: rng.between(1, machines.into()) as u32,
            price_limit: limit,
            total_limit: total,
            duration_s,
            expires_ms: all.state.now_ms() + 3_600_000,
            query: query.to_string(),
            interruptible,
            ..v1::PlaceOrder::default()
        })
    };
    let least = match &kind {
        Kind::PlaceOrder(order) => order.least,
        _ => machines,
    };
    let (limit, total) = match &kind {
        Kind::PlaceOrder(order) => (money(&order.price_limit), money(&order.total_limit)),
        Kind::SubmitTraining(job) => {
            let terms = job.order.clone().unwrap_or_default();
            (money(&terms.price_limit), money(&terms.total_limit))
        }
        other => unreachable!("{other:?} is no order"),
    };
    let envelope = all.envelope(buyer, vec![command(kind)]);
    let entry = all.entry(vec![envelope], 1);
    let applied = all.state.apply(all.state.index() + 1, &entry);
    let result = &applied.results[0];
    if result.outcomes.iter().any(|outcome| outcome.to_parts().0 != 0) {
        return None;
    }
    let made = made_id(if job { "job" } else { "order" }, &result.key, &result.command_id, 0);
    let id = OrderId(made);
    let memory_bytes = all.state.order(id).map_or(0, |row: &OrderRow| row.memory_bytes);
    let bid = Bid {
        buyer: all.ids[buyer],
        limit,
        sequence: u64::MAX,
        wanted: machines,
        least,
        distinct_owners: job,
        duration_s,
        memory_bytes,
        interruptible: interruptible && !job,
    };
    Some(Asked { id, bid, money: total.units(), query, traded: all.state.trades_made() > 0 })
}

fn changed(order: &Asked, change: &Change) -> Asked {
    let mut order = order.clone();
    match change {
        Change::PriceLimit(limit) => order.bid.limit = *limit,
        Change::TotalLimit(limit) => order.money = limit.units(),
        Change::Duration(duration_s) => order.bid.duration_s = *duration_s,
        Change::Query(query) => order.query = query.clone(),
        Change::Interruptible => order.bid.interruptible = true,
        Change::Machines(machines) => (order.bid.wanted, order.bid.least) = (*machines, *machines),
    }
    order
}

/// What can be asked about an offer, as docs/QUERIES.md says.
fn attributes(inventory: &Inventory, ask: &Ask) -> Attributes {
    let mut of = Attributes::default();
    let gib = Number::whole(inventory.ram_bytes >> 30);
    of.set_number(NumberAttribute::Cores, Number::whole(inventory.cores.into()), Provenance::Claimed);
    of.set_number(NumberAttribute::Ram, gib, Provenance::Claimed);
    of.set_number(NumberAttribute::RentMin, Number::whole(ask.duration_min_s), Provenance::Ledger);
    of.set_number(NumberAttribute::RentMax, Number::whole(ask.duration_max_s), Provenance::Ledger);
    if !inventory.region.is_empty() {
        of.set_text(TextAttribute::Region, Arc::from(inventory.region.as_str()), Provenance::Claimed);
    }
    of
}

fn money(units: &str) -> Money {
    Money::parse(units).expect("it is an amount")
}

/// Milliseconds of CPU time that it takes to explain an order among so many open offers: the median of some rounds. The order
/// asks for three things, and nothing fits.
pub fn explain_ms(offers: usize, rounds: usize, seed: u64) -> f64 {
    const SELLERS: usize = 64;
    const BATCH: usize = 256;
    let (mut all, mut rng) = (Population::new(SELLERS + 1), Rng::new(seed));
    for from in (0..offers).step_by(BATCH) {
        let seller = (from / BATCH) % SELLERS;
        let kinds = (from..offers.min(from + BATCH)).map(|number| {
            let inventory = Inventory {
                cores: rng.between(1, 128) as u32,
                ram_bytes: rng.between(1, 512) << 30,
                region: (*rng.pick(&REGIONS)).to_owned(),
                ..Inventory::default()
            };
            let machine = measure::machine_of(&mut all.state, all.ids[seller], number as u64, inventory);
            Kind::MakeOffer(v1::MakeOffer {
                machine: machine.0.to_vec(),
                price_per_hour: rng.between(1_000, 2_000).to_string(),
                duration_min_s: 1,
                duration_max_s: rng.between(1_000, 86_400),
                expires_ms: all.state.now_ms() + 86_400_000,
                ..v1::MakeOffer::default()
            })
        });
        let commands = kinds.map(command).collect();
        let envelope = all.envelope(seller, commands);
        let entry = all.entry(vec![envelope], 1);
        all.apply(&entry);
    }
    let kind = Kind::PlaceOrder(v1::PlaceOrder {
        machines: 8,
        least: 8,
        price_limit: "1200".into(),
        total_limit: "1000000".into(),
        duration_s: 3_600,
        expires_ms: all.state.now_ms() + 3_600_000,
        query: "region == \"asia\" && cores >= 96 && ram > 600".into(),
        ..v1::PlaceOrder::default()
    });
    let envelope = all.envelope(SELLERS, vec![command(kind)]);
    let entry = all.entry(vec![envelope], 1);
    all.apply(&entry);
    let order = all.state.orders().next().expect("nobody has so much memory").id;
    let view = all.state.clone();
    let round = |_| {
        let from = Moment::now();
        let found = view.explain(order).expect("it waits");
        assert_eq!(found.offers, offers as u64);
        from.cpu_ns() as f64 / 1e6
    };
    median((0..rounds.max(1)).map(round).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_change_that_is_named_matches_naively() {
        let found = explain_books(400, 1).unwrap_or_else(|error| panic!("{error}"));
        // Every kind of answer occurs.
        assert!(found.matched > 20 && found.named > 100 && found.hopeless > 20, "{found:?}");
    }
}
