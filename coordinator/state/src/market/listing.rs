//! The market as a buyer and a seller see it: machines that can be rented, ranked and filtered, a page at a time; and what
//! machines like one cost.
//!
//! Only reads. The price of a speed is what 10¹⁵ operations of `fgemm` cost at the price per hour, rounded up: the default
//! ranking, since it compares unlike machines.

use super::{OfferRow, attributes::Rows, query::Query};
use crate::{
    ids::{AccountId, MachineId},
    machines::{Inventory, MachineRow},
    money::Money,
    power,
    state::State,
};
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::indexing_slicing)]
mod tests;

use std::{cmp::Reverse, collections::BTreeSet};

/// Machines of a page.
pub const PAGE_MAX: usize = 100;
/// Operations that a price of a speed is for.
pub const PRICED_OPS: u128 = 1_000_000_000_000_000;
/// A machine is like another if its speed is at least this part of the other's and at most as many times.
pub const LIKE_FACTOR: u64 = 2;
/// Agreements, of like machines, from which on what was paid counts for more than what is asked.
pub const TRADES_ENOUGH: usize = 5;

const S_PER_HOUR: u128 = 3_600;

/// What comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ranking {
    /// The lowest price of the speed; machines without a speed by their price, behind those with one.
    #[default]
    Auto,
    /// The lowest price per hour.
    Price,
    /// The highest speed.
    Speed,
    /// The most computing power ever earned.
    Power,
    /// The highest reliability; machines of which nothing is counted yet behind all others.
    Reliability,
}

impl Ranking {
    /// All of them with their names on the wire. That of the price of a speed is the automatic one.
    pub const ALL: [(&'static str, Ranking); 6] = [
        ("auto", Ranking::Auto),
        ("price", Ranking::Price),
        ("price-per-speed", Ranking::Auto),
        ("speed", Ranking::Speed),
        ("power", Ranking::Power),
        ("reliability", Ranking::Reliability),
    ];

    /// The ranking of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(of, _)| *of == name).map(|(_, ranking)| ranking)
    }
}

/// What somebody looks for.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// What the machine and its offer must be.
    pub query: Query,
    /// Graphics processors that it must have (claimed).
    pub gpus: usize,
    /// Part of the name of its processor or of a graphics processor, in any case; empty for all.
    pub model: String,
    /// Where its owner says that it stands; empty for anywhere.
    pub region: String,
    /// What comes first.
    pub ranking: Ranking,
}

/// An open offer and its machine.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    /// The cheapest open offer of the machine that the search accepts.
    pub offer: &'a OfferRow,
    /// The machine.
    pub machine: &'a MachineRow,
    /// Its speed at `fgemm`, operations per second; none while it is not measured.
    pub speed: Option<u64>,
    /// What [`PRICED_OPS`] cost; none without a speed, or beyond any money.
    pub price_of_speed: Option<Money>,
}

/// What machines like one cost, minor units per hour for that machine: prices of others are scaled by their speeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    /// The machine's speed at `fgemm`, operations per second.
    pub speed: u64,
    /// What is asked for like machines now, ascending.
    pub asked: Vec<Money>,
    /// What was agreed on for like machines lately, ascending.
    pub agreed: Vec<Money>,
}

impl Suggestion {
    /// What to ask: the median of what was agreed on, or of what is asked while little was; none if nothing is known.
    pub fn price(&self) -> Option<Money> {
        let from = if self.agreed.len() >= TRADES_ENOUGH { &self.agreed } else { &self.asked };
        quantile(from, 50).or_else(|| quantile(&self.agreed, 50))
    }
}

/// The value below which so many percent of an ascending list are: the lower of two neighbours.
pub fn quantile(ascending: &[Money], percent: usize) -> Option<Money> {
    let last = ascending.len().checked_sub(1)?;
    ascending.get(last.saturating_mul(percent) / 100).copied()
}

impl State {
    /// Machines that can be rented now and that a search accepts, best first, each with the cheapest of its offers.
    pub fn search(&self, search: &Search) -> Vec<Listed<'_>> {
        let mut seen = BTreeSet::new();
        let open = self.open_offers().filter(|offer| offer.expires_ms > self.head.now_ms);
        let listed = open.filter_map(|offer| {
            let machine = self
                .machines
                .get(&offer.machine)
                .filter(|row| row.available() && row.job.is_none() && row.agreement.is_none())?;
            let wanted = fits(&machine.inventory, search) && search.query.accepts(&Rows::of(self, offer));
            // Offers come cheapest first.
            (wanted && seen.insert(offer.machine)).then(|| self.listed(offer, machine))
        });
        let mut listed: Vec<Listed<'_>> = listed.collect();
        match search.ranking {
            Ranking::Auto => listed.sort_by_key(|of| (of.price_of_speed.is_none(), of.price_of_speed)),
            // As they came.
            Ranking::Price => {}
            Ranking::Speed => listed.sort_by_key(|of| Reverse(of.speed)),
            Ranking::Power => listed.sort_by_key(|of| Reverse(self.earned(of.machine.id))),
            Ranking::Reliability => listed.sort_by_key(|of| Reverse(of.machine.reliability.share())),
        }
        listed
    }

    /// What machines like this one cost; none while it has no speed.
    pub fn suggest(&self, machine: MachineId) -> Option<Suggestion> {
        let owner = self.machines.get(&machine)?.owner;
        let speed = power::measured_fgemm(self, machine).filter(|speed| *speed > 0)?;
        let scaled = |other: MachineId, price: Money, seller: AccountId| {
            let of = self.alike(speed, other).filter(|_| seller != owner)?;
            scale(price, speed, of)
        };
        let open = self.open_offers().filter(|offer| offer.expires_ms > self.head.now_ms);
        let mut asked: Vec<Money> =
            open.filter_map(|offer| scaled(offer.machine, offer.price_per_hour, offer.owner)).collect();
        let trades = self.trades.iter().map(|(_, trade)| trade);
        let mut agreed: Vec<Money> =
            trades.filter_map(|trade| scaled(trade.machine, trade.price_per_hour, trade.seller)).collect();
        asked.sort_unstable();
        agreed.sort_unstable();
        Some(Suggestion { speed, asked, agreed })
    }

    /// The speed of a machine if it is like this one.
    pub(super) fn alike(&self, speed: u64, machine: MachineId) -> Option<u64> {
        let of = power::measured_fgemm(self, machine)?;
        let like = of.saturating_mul(LIKE_FACTOR) >= speed && of <= speed.saturating_mul(LIKE_FACTOR);
        like.then_some(of)
    }

    fn listed<'a>(&self, offer: &'a OfferRow, machine: &'a MachineRow) -> Listed<'a> {
        let speed = power::measured_fgemm(self, machine.id);
        let price_of_speed = speed.and_then(|speed| price_of_speed(offer.price_per_hour, speed));
        Listed { offer, machine, speed, price_of_speed }
    }

    fn earned(&self, machine: MachineId) -> u128 {
        self.power.get(&machine).map_or(0, |row| row.drilling_micro_ut.saturating_add(row.training_micro_ut))
    }
}

fn fits(inventory: &Inventory, search: &Search) -> bool {
    let wanted = search.model.to_lowercase();
    let named = |model: &str| model.to_lowercase().contains(&wanted);
    inventory.gpus.len() >= search.gpus
        && (search.region.is_empty() || inventory.region == search.region)
        && (wanted.is_empty() || named(&inventory.cpu_model) || inventory.gpus.iter().any(|gpu| named(&gpu.model)))
}

fn price_of_speed(per_hour: Money, ops_per_s: u64) -> Option<Money> {
    let an_hour = u128::from(ops_per_s).checked_mul(S_PER_HOUR).filter(|ops| *ops > 0)?;
    per_hour.units().checked_mul(PRICED_OPS).map(|product| product.div_ceil(an_hour)).and_then(Money::minor)
}

/// The price that is for one speed what another is for another, rounded up.
pub(super) fn scale(price: Money, speed: u64, of: u64) -> Option<Money> {
    let of = u128::from(of).max(1);
    price.units().checked_mul(speed.into()).map(|product| product.div_ceil(of)).and_then(Money::minor)
}
