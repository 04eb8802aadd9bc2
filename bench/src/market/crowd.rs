//! Those who make commands, from a seed: a crowd with queries, one with plain limit orders, and one that does anything.
//!
//! A crowd is recorded once, on a market of its own, so that it can ask for what is there; what is measured replays it.

use super::{Command, Fast, Trade};
use crate::sim::rng::Rng;
use matrixai_state::{
    Money,
    ids::{AccountId, MachineId},
    market::{
        engine::{Ask, Bid},
        query::{Attributes, Number, NumberAttribute, Provenance, Query, TextAttribute},
    },
};
use std::{collections::BTreeSet, sync::Arc};

/// Regions and systems that machines have, evenly.
const REGIONS: u64 = 8;
const SYSTEMS: u64 = 4;
/// Attributes of which queries bound two: name, and the highest value.
const RANGES: [(NumberAttribute, u64); 5] = [
    (NumberAttribute::Cores, 1_024),
    (NumberAttribute::Ram, 4_096),
    (NumberAttribute::Disk, 100_000),
    (NumberAttribute::SpeedFgemm, 1_000_000_000_000),
    (NumberAttribute::SpeedIgemm, 4_000_000_000_000),
];
/// One attribute in so many is undefined.
const UNDEFINED: u64 = 8;
/// Prices are from this to twice as much, minor units.
const PRICE: u64 = 1_000_000_000;
/// Machines of an order or offer at most.
const MACHINES: u64 = 4;
/// Machines of an order with one of many queries, as of a job's: most are filled in part.
const ORDERED: u64 = 64;

/// Which crowd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// Orders with three-clause queries, a third each of selectivity 1 %, 0.1 % and 0: 10 % new orders, 80 % amended orders
    /// and offers by halves, 10 % cancelled orders and withdrawn offers.
    Queries,
    /// Limit orders on both sides: 9 % new, 3 % immediate or cancel, 6 % cancelled, 82 % moved.
    Plain,
    /// Few offers and orders of every kind, and all commands.
    Anything,
}

/// A recorded crowd.
#[derive(Debug)]
pub struct Crowded {
    /// Its orders' queries.
    pub queries: Vec<Query>,
    /// What fills the market first.
    pub setup: Vec<Command>,
    /// What is measured.
    pub stream: Vec<Command>,
}

/// How big a crowd is.
#[derive(Debug, Clone, Copy)]
pub struct Crowd {
    /// Which.
    pub mix: Mix,
    /// Offers.
    pub offers: u32,
    /// Orders that wait.
    pub orders: u32,
    /// Distinct queries.
    pub queries: usize,
    /// Commands after the setup.
    pub commands: usize,
}

impl Crowd {
    /// Records the crowd of a seed.
    pub fn record(self, seed: u64) -> Crowded {
        let mut rng = Rng::new(seed);
        let queries = match self.mix {
            Mix::Queries => thirds(self.queries, &mut rng),
            Mix::Plain => vec![Query::default()],
            Mix::Anything => anything(),
        };
        let mut recorder = Recorder {
            crowd: self,
            market: Fast::new(&queries),
            rng,
            waiting: Vec::new(),
            away: Vec::new(),
            offers: Vec::new(),
            orders: 0,
            trades: Vec::new(),
            recorded: Vec::new(),
        };
        for _ in 0..self.offers {
            recorder.offer();
        }
        while recorder.waiting.len() < self.orders as usize && recorder.orders < self.orders * 8 {
            recorder.place(true);
        }
        let setup = std::mem::take(&mut recorder.recorded);
        for _ in 0..self.commands {
            recorder.step();
        }
        Crowded { queries, setup, stream: recorder.recorded }
    }
}

struct Recorder {
    crowd: Crowd,
    market: Fast,
    rng: Rng,
    /// Orders that wait, as far as is known, and offers that were withdrawn or have never been.
    waiting: Vec<u32>,
    away: Vec<u32>,
    /// Owner and machine of each offer.
    offers: Vec<(AccountId, MachineId)>,
    orders: u32,
    trades: Vec<Trade>,
    recorded: Vec<Command>,
}

impl Recorder {
    fn step(&mut self) {
        let draw = self.rng.below(100);
        match self.crowd.mix {
            Mix::Queries => match draw {
                0..10 => self.place(true),
                10..50 => self.amend_order(),
                50..90 => self.amend_offer(),
                _ if self.waiting.len() > self.crowd.orders as usize => self.cancel(),
                _ => self.withdraw(),
            },
            Mix::Plain => {
                let bids = self.rng.one_in(2);
                match (draw, bids) {
                    (0..9, true) => self.place(true),
                    (0..9, false) => self.offer_again(),
                    (9..12, _) => self.place(false),
                    (12..18, true) => self.cancel(),
                    (12..18, false) => self.withdraw(),
                    (_, true) => self.amend_order(),
                    (_, false) => self.amend_offer(),
                }
            }
            Mix::Anything => match draw {
                0..25 => self.place(draw < 20),
                25..40 => self.amend_order(),
                40..50 => self.cancel(),
                50..70 => self.amend_offer(),
                70..80 => self.withdraw(),
                80..90 => {
                    let (id, attributes) = (self.any_offer(), Box::new(self.attributes()));
                    self.run(Command::Describe { id, attributes });
                }
                _ => self.offer(),
            },
        }
    }

    fn place(&mut self, rests: bool) {
        let (id, query) = (self.orders, self.rng.below(self.query_count()) as u32);
        let gang = self.crowd.mix == Mix::Anything && self.rng.one_in(3);
        let wanted = self.wanted();
        let bid = Bid {
            buyer: self.account(),
            limit: self.limit(),
            sequence: 0,
            wanted,
            least: if self.crowd.mix == Mix::Anything { self.rng.between(1, wanted.into()) as u32 } else { 1 },
            distinct_owners: gang,
            duration_s: if self.crowd.mix == Mix::Anything { self.rng.between(1, 4) * 1_000 } else { 3_600 },
            memory_bytes: 0,
            interruptible: self.crowd.mix != Mix::Anything || self.rng.one_in(2),
        };
        self.orders += 1;
        self.run(Command::Place { id, bid, query, rests });
        if self.market.waits(id) {
            self.waiting.push(id);
        }
    }

    fn amend_order(&mut self) {
        let Some(id) = self.any_waiting() else { return self.place(true) };
        let limit = match self.crowd.mix {
            // Three of four buyers look first and pay what the cheapest asks; the others hope.
            Mix::Queries if !self.rng.one_in(4) => self.market.cheapest(id).unwrap_or_else(|| self.limit()),
            Mix::Queries => money(PRICE + self.rng.below(PRICE / 200)),
            Mix::Plain | Mix::Anything => self.limit(),
        };
        let wanted = self.wanted();
        self.run(Command::AmendOrder { id, limit, wanted });
    }

    fn cancel(&mut self) {
        let Some(id) = self.any_waiting() else { return self.withdraw() };
        self.run(Command::Cancel { id });
    }

    fn offer(&mut self) {
        let odd = self.crowd.mix == Mix::Anything;
        let id = self.offers.len() as u32;
        // A third of those who do anything offer a machine that is offered already, at other terms.
        let sibling = if odd && id > 0 && self.rng.one_in(3) { Some(self.any_offer()) } else { None };
        let (owner, machine) = match sibling {
            Some(first) => self.offers[first as usize],
            None => (self.account(), machine(id)),
        };
        let ask = Ask {
            owner,
            machine,
            price: self.price(),
            sequence: 0,
            quantity: self.rng.between(1, MACHINES) as u32,
            open: !(odd && self.rng.one_in(8)),
            duration_min_s: if odd { self.rng.below(3) * 1_000 } else { 1 },
            duration_max_s: if odd { self.rng.between(2, 5) * 1_000 } else { 86_400 },
            expires_ms: u64::MAX,
            memory_bytes: u64::MAX,
            interruptible: odd && self.rng.one_in(4),
        };
        let attributes = Box::new(self.attributes());
        self.offers.push((owner, machine));
        self.run(Command::Offer { id, ask, attributes, sibling });
    }

    fn amend_offer(&mut self) {
        let id = self.any_offer();
        let (price, quantity) = (self.price(), self.rng.between(1, MACHINES) as u32);
        self.run(Command::AmendOffer { id, price, quantity });
    }

    fn offer_again(&mut self) {
        match self.away.pop() {
            Some(id) => {
                let (price, quantity) = (self.price(), self.rng.between(1, MACHINES) as u32);
                self.run(Command::AmendOffer { id, price, quantity });
            }
            None => self.offer(),
        }
    }

    fn withdraw(&mut self) {
        let id = self.any_offer();
        self.away.push(id);
        self.run(Command::Withdraw { id });
    }

    fn run(&mut self, command: Command) {
        self.trades.clear();
        self.market.apply(&command, &mut self.trades);
        self.recorded.push(command);
    }

    /// An order that waits; forgets those that it finds filled.
    fn any_waiting(&mut self) -> Option<u32> {
        loop {
            let at = self.rng.below(self.waiting.len() as u64) as usize;
            let id = *self.waiting.get(at)?;
            if self.market.waits(id) {
                return Some(id);
            }
            self.waiting.swap_remove(at);
        }
    }

    fn any_offer(&mut self) -> u32 {
        self.rng.below(self.offers.len() as u64) as u32
    }

    fn query_count(&self) -> u64 {
        match self.crowd.mix {
            Mix::Queries => self.crowd.queries as u64,
            Mix::Plain => 1,
            Mix::Anything => anything().len() as u64,
        }
    }

    fn account(&mut self) -> AccountId {
        let number = self.rng.below(if self.crowd.mix == Mix::Anything { 6 } else { 1_000 });
        let mut id = [0; 20];
        id[..8].copy_from_slice(&number.to_le_bytes());
        AccountId(id)
    }

    fn wanted(&mut self) -> u32 {
        let most = if self.crowd.mix == Mix::Queries { ORDERED } else { MACHINES };
        self.rng.between(1, most) as u32
    }

    /// What a seller asks.
    fn price(&mut self) -> Money {
        money(match self.crowd.mix {
            // A third sells cheaply.
            Mix::Queries => {
                let spread = if self.rng.one_in(3) { PRICE / 20 } else { PRICE };
                PRICE + self.rng.below(spread)
            }
            Mix::Plain => PRICE + self.rng.below(390) * 1_000,
            Mix::Anything => self.rng.between(1, 12),
        })
    }

    /// What a buyer pays.
    fn limit(&mut self) -> Money {
        money(match self.crowd.mix {
            Mix::Queries => PRICE + self.rng.below(PRICE / 20),
            Mix::Plain => PRICE - 375_000 + self.rng.below(390) * 1_000,
            Mix::Anything => self.rng.between(1, 12),
        })
    }

    fn attributes(&mut self) -> Attributes {
        let mut attributes = Attributes::default();
        if self.crowd.mix == Mix::Plain {
            return attributes;
        }
        let few = self.crowd.mix == Mix::Anything;
        for (attribute, end) in RANGES {
            let value = self.rng.below(if few { 4 } else { end });
            if !self.rng.one_in(UNDEFINED) {
                attributes.set_number(attribute, Number::whole(value), Provenance::Measured);
            }
        }
        for (attribute, of) in [(TextAttribute::Region, REGIONS), (TextAttribute::Os, SYSTEMS)] {
            let value = self.rng.below(of);
            if !self.rng.one_in(UNDEFINED) {
                attributes.set_text(attribute, Arc::from(format!("t{value}")), Provenance::Claimed);
            }
        }
        attributes
    }
}

/// That of an offer which is the first of its machine.
fn machine(offer: u32) -> MachineId {
    let mut id = [0; 20];
    id[..4].copy_from_slice(&offer.to_le_bytes());
    MachineId(id)
}

fn money(units: u64) -> Money {
    Money::minor(units.into()).expect("prices are small")
}

/// Distinct queries of three clauses, a third each of selectivity 1 %, 0.1 % and 0.
fn thirds(count: usize, rng: &mut Rng) -> Vec<Query> {
    let (mut queries, mut texts) = (Vec::new(), BTreeSet::new());
    while queries.len() < count {
        let (text, share) = match rng.below(3) {
            0 => (format!("region == \"t{}\"", rng.below(REGIONS)), 1.0 / 8.0),
            1 => {
                let first = rng.below(REGIONS - 1);
                (format!("region in [\"t{first}\", \"t{}\"]", first + 1), 1.0 / 4.0)
            }
            _ => (format!("os == \"t{}\"", rng.below(SYSTEMS)), 1.0 / 4.0),
        };
        let defined = 1.0 - 1.0 / UNDEFINED as f64;
        let wanted: f64 = [0.01, 0.001, 0.0][queries.len() % 3];
        let each = (wanted.max(0.001) / (share * defined)).sqrt() / defined;
        let skew = 0.7 + rng.below(600) as f64 / 1_000.0;
        let first = rng.below(RANGES.len() as u64) as usize;
        let second = (first + 1 + rng.below(RANGES.len() as u64 - 1) as usize) % RANGES.len();
        let clause = |at: usize, accepted: f64| {
            let (attribute, end) = RANGES[at];
            format!("{} >= {}", attribute.name(), (end as f64 * (1.0 - accepted)) as u64)
        };
        // Of selectivity 0: nobody has that much.
        let last = if wanted == 0.0 { -0.5 } else { each / skew };
        let text = [text, clause(first, each * skew), clause(second, last)].join(" && ");
        let query = Query::parse(&text).expect("it is a query");
        if texts.insert(query.text().clone()) {
            queries.push(query);
        }
    }
    queries
}

/// A query of every kind, over attributes with few values.
fn anything() -> Vec<Query> {
    [
        "",
        "false",
        "cores >= 2",
        "cores > 1 && ram >= 1",
        "cores <= 2",
        "2 > cores && region == \"t1\"",
        "region in [\"t1\", \"t2\", \"t3\"]",
        "region != \"t1\"",
        "cores in [1, 3]",
        "cores != 2 && disk < 3",
        "cores == 2 || os == \"t1\"",
        "!(cores > 1) || !defined(ram)",
        "defined(disk) && provenance(os) == \"claimed\"",
        "price <= 0.000000005",
        "price * 2 < 0.000000010 && cores >= 1",
        "cores + ram >= disk",
        "speed.fgemm / cores >= 1",
        "speed.igemm > 1 && speed.fgemm > 1 && os == \"t2\"",
        "ram >= 100",
        "gpu_ram >= 24",
    ]
    .into_iter()
    .map(|text| Query::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")))
    .collect()
}
