//! Plain limit orders through the whole state machine: envelopes of 256 commands, holds, agreements and their ends.
//!
//! The mix is that of the plain crowd: 9 % new, 3 % immediate or cancel, 6 % cancelled or withdrawn, 82 % amended, orders and
//! offers by halves. A match rents its machine for a second of ledger time, in which some 16 entries are applied; what falls
//! due then (payments, offers that come back, and whom they serve) is part of the cost, and so is the machine's own word, in the
//! entry after the match, that it has begun; it is not counted among the commands. A few dozen market makers own all:
//! nobody trades with himself.

use crate::{
    population::{Population, command},
    sim::rng::Rng,
    timing::Moment,
};
use matrixai_proto::v1::{self, command::Kind};
use matrixai_state::{
    Effect, Outcome, State, Task,
    ids::{AgreementId, MachineId, OfferId, OrderId, made_id},
    measure,
};

/// Accounts; each has as many machines, and about as many orders.
const MAKERS: usize = 16;
const MACHINES: usize = 32;
/// Commands of an envelope, and envelopes of an entry.
const BATCH: usize = 256;
const ENVELOPES: usize = 4;
/// Ledger time between entries, ms.
const ADVANCE_MS: u64 = 60;
/// Entries before the clock starts.
const WARM: usize = 64;
/// As in the plain crowd: offers from this price up, orders from a little less.
const PRICE: u64 = 1_000_000_000;
/// Covers a second at the highest price there is, and the fee.
const TOTAL: u64 = 300_000;

/// A recorded stream, and the state that it goes to.
#[derive(Debug)]
pub struct Applied {
    state: State,
    entries: Vec<Vec<u8>>,
    /// Commands of the entries after the warming.
    pub commands: usize,
    /// Of them, those that were done.
    pub done: usize,
    /// Trades that they made.
    pub trades: u64,
}

struct Maker {
    orders: Vec<OrderId>,
    offers: Vec<OfferId>,
    machines: Vec<MachineId>,
}

struct Recorder {
    all: Population,
    makers: Vec<Maker>,
    /// Agreements that have not begun, and the keys of their machines.
    begin: Vec<([u8; 32], AgreementId)>,
    rng: Rng,
}

impl Applied {
    /// Records so many commands, which the state that is returned has not seen.
    pub fn record(commands: usize, seed: u64) -> Self {
        let mut all = Population::new(MAKERS);
        let makers = (0..MAKERS)
            .map(|at| {
                let machine =
                    |number: usize| measure::machine(&mut all.state, all.ids[at], (at * MACHINES + number) as u64);
                Maker { orders: Vec::new(), offers: Vec::new(), machines: (0..MACHINES).map(machine).collect() }
            })
            .collect();
        let mut recorder = Recorder { all, makers, begin: Vec::new(), rng: Rng::new(seed) };
        recorder.fill();
        let state = recorder.all.state.clone();
        let mut entries = Vec::new();
        let (mut counted, mut done) = (0, 0);
        let mut trades = 0;
        while counted < commands {
            let (entry, outcomes) = recorder.entry(false);
            entries.push(entry);
            if entries.len() <= WARM {
                trades = recorder.all.state.trades_made();
                continue;
            }
            counted += outcomes.len();
            done += outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Done { .. })).count();
        }
        let trades = recorder.all.state.trades_made() - trades;
        Self { state, entries, commands: counted, done, trades }
    }

    /// Applies the stream to a copy of the state; CPU nanoseconds for each command that is done.
    pub fn ns(&self) -> f64 {
        let mut state = self.state.clone();
        let (warm, entries) = self.entries.split_at(WARM);
        let mut index = state.index();
        let mut apply = |entry: &Vec<u8>| {
            index += 1;
            drop(state.apply(index, entry));
        };
        warm.iter().for_each(&mut apply);
        let from = Moment::now();
        entries.iter().for_each(&mut apply);
        from.cpu_ns() as f64 / self.done as f64
    }
}

impl Recorder {
    /// Every machine is offered, and as many orders wait as find nothing.
    fn fill(&mut self) {
        for _ in 0..MAKERS {
            self.entry(true);
        }
    }

    fn entry(&mut self, filling: bool) -> (Vec<u8>, Vec<Outcome>) {
        let mut said = Vec::new();
        let mut envelopes: Vec<Vec<u8>> = (0..ENVELOPES)
            .map(|_| {
                let maker = self.rng.below(MAKERS as u64) as usize;
                let kinds: Vec<Kind> = (0..BATCH).map(|_| self.kind(maker, filling)).collect();
                let envelope = self.all.envelope(maker, kinds.iter().cloned().map(command).collect());
                said.push((maker, kinds));
                envelope
            })
            .collect();
        for (key, agreement) in std::mem::take(&mut self.begin) {
            let started = Kind::AgreementStarted(v1::AgreementStarted { agreement: agreement.0.to_vec() });
            envelopes.push(self.all.envelope_of(key, vec![command(started)]));
        }
        let entry = self.all.entry(envelopes, ADVANCE_MS);
        let applied = self.all.state.apply(self.all.state.index() + 1, &entry);
        self.begin = applied.effects.iter().flat_map(|effect| self.begins(effect)).collect();
        let mut outcomes = Vec::new();
        for ((maker, kinds), result) in said.iter().zip(&applied.results) {
            for ((position, kind), outcome) in (0u32..).zip(kinds).zip(result.outcomes.iter()) {
                let made = |what| made_id(what, &result.key, &result.command_id, position);
                let maker = &mut self.makers[*maker];
                match (kind, outcome) {
                    (Kind::PlaceOrder(_), Outcome::Done { .. }) => maker.orders.push(OrderId(made("order"))),
                    (Kind::MakeOffer(_), Outcome::Done { .. }) => maker.offers.push(OfferId(made("offer"))),
                    _ => {}
                }
            }
            outcomes.extend(result.outcomes.iter().cloned());
        }
        let state = &self.all.state;
        for maker in &mut self.makers {
            maker.orders.retain(|order| state.order(*order).is_some());
            maker.offers.retain(|offer| state.offer(*offer).is_some_and(|row| !row.status.ended()));
        }
        (entry, outcomes)
    }

    /// What a machine is owed as its worker does it: it says that it has begun.
    fn begins(&self, effect: &Effect) -> Vec<([u8; 32], AgreementId)> {
        let Effect::Owed(machine) = effect else { return Vec::new() };
        let owed = self.all.state.owed(*machine).into_iter();
        let begin =
            owed.filter_map(|owed| if let Task::Begin { agreement } = owed.task { Some(agreement) } else { None });
        let key = self.all.state.machine(*machine).map(|row| row.key);
        begin.filter_map(|agreement| Some((key?, agreement))).collect()
    }

    fn kind(&mut self, maker: usize, filling: bool) -> Kind {
        let bids = self.rng.one_in(2);
        match (if filling { 0 } else { self.rng.below(100) }, bids) {
            (0..9, true) => self.place(false),
            (0..9, false) => self.offer(maker),
            (9..12, _) => self.place(true),
            (12..18, true) => self.of_order(maker, |_, order| Kind::CancelOrder(v1::CancelOrder { order })),
            (12..18, false) => self.of_offer(maker, |_, offer| Kind::WithdrawOffer(v1::WithdrawOffer { offer })),
            (_, true) => self.of_order(maker, |rng, order| {
                let price_limit = limit(rng);
                Kind::AmendOrder(v1::AmendOrder { order, price_limit, ..v1::AmendOrder::default() })
            }),
            (_, false) => self.of_offer(maker, |rng, offer| {
                Kind::AmendOffer(v1::AmendOffer { offer, price_per_hour: price(rng), ..v1::AmendOffer::default() })
            }),
        }
    }

    fn place(&mut self, immediate: bool) -> Kind {
        Kind::PlaceOrder(v1::PlaceOrder {
            machines: 1,
            price_limit: limit(&mut self.rng),
            total_limit: TOTAL.to_string(),
            duration_s: 1,
            expires_ms: self.all.state.now_ms() + 3_600_000,
            immediate,
            ..v1::PlaceOrder::default()
        })
    }

    /// A machine that is not offered; another order if all are.
    fn offer(&mut self, maker: usize) -> Kind {
        let state = &self.all.state;
        let Maker { offers, machines, .. } = &self.makers[maker];
        let offered = |machine: &MachineId| {
            offers.iter().any(|offer| state.offer(*offer).is_some_and(|row| row.machine == *machine))
        };
        let free: Vec<MachineId> = machines.iter().filter(|machine| !offered(machine)).copied().collect();
        if free.is_empty() {
            return self.place(false);
        }
        Kind::MakeOffer(v1::MakeOffer {
            machine: self.rng.pick(&free).0.to_vec(),
            price_per_hour: price(&mut self.rng),
            duration_min_s: 1,
            duration_max_s: 86_400,
            expires_ms: self.all.state.now_ms() + 86_400_000,
            ..v1::MakeOffer::default()
        })
    }

    fn of_order(&mut self, maker: usize, kind: impl FnOnce(&mut Rng, Vec<u8>) -> Kind) -> Kind {
        let orders = &self.makers[maker].orders;
        if orders.is_empty() {
            return self.place(false);
        }
        let order = self.rng.pick(orders).0.to_vec();
        kind(&mut self.rng, order)
    }

    fn of_offer(&mut self, maker: usize, kind: impl FnOnce(&mut Rng, Vec<u8>) -> Kind) -> Kind {
        let offers = &self.makers[maker].offers;
        if offers.is_empty() {
            return self.offer(maker);
        }
        let offer = self.rng.pick(offers).0.to_vec();
        kind(&mut self.rng, offer)
    }
}

fn price(rng: &mut Rng) -> String {
    (PRICE + rng.below(390) * 1_000).to_string()
}

fn limit(rng: &mut Rng) -> String {
    (PRICE - 375_000 + rng.below(390) * 1_000).to_string()
}
