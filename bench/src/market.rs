//! A market by itself, for measurements and for comparing: commands, the engine behind them, the naive matcher, and the
//! crowds that make commands.
//!
//! [`Fast`] is the product's engine (`coordinator/state/src/market/engine`) with as little around it as a book needs.
//! [`Naive`] holds offers and orders in two lists and, after every command, looks at every order against every offer: the
//! definition that the engine must not differ from.

mod applied;
mod crowd;
mod explained;
mod fast;
mod naive;

pub use applied::Applied;
pub use crowd::{Crowd, Crowded, Mix};
pub use explained::{Books, explain_books, explain_ms};
pub use fast::Fast;
pub use naive::Naive;

use matrixai_state::{
    Money,
    market::{
        engine::{Ask, Bid},
        query::Attributes,
    },
};

/// What can be asked of a market. Ids are the crowd's; the place in time is the market's to give.
#[derive(Debug, Clone)]
pub enum Command {
    /// A new order.
    Place {
        /// Its id.
        id: u32,
        /// Its terms.
        bid: Bid,
        /// Which of the crowd's queries.
        query: u32,
        /// Whether it waits for what it does not get at once.
        rests: bool,
    },
    /// A new limit and number of machines; the order loses its place in time.
    AmendOrder {
        /// Which.
        id: u32,
        /// Highest price.
        limit: Money,
        /// Machines.
        wanted: u32,
    },
    /// The order ends.
    Cancel {
        /// Which.
        id: u32,
    },
    /// A new offer.
    Offer {
        /// Its id.
        id: u32,
        /// Its terms.
        ask: Ask,
        /// What can be asked about it.
        attributes: Box<Attributes>,
        /// The first offer of the same machine, if it has one: whoever takes one of a machine's offers has closed the others.
        sibling: Option<u32>,
    },
    /// A new price and number of machines; the offer loses its place in time and is open again if it was withdrawn or sold.
    AmendOffer {
        /// Which.
        id: u32,
        /// Its price.
        price: Money,
        /// Machines.
        quantity: u32,
    },
    /// The offer cannot be had until it is amended.
    Withdraw {
        /// Which.
        id: u32,
    },
    /// The offer's machine was measured anew.
    Describe {
        /// Which offer.
        id: u32,
        /// What can be asked about it now.
        attributes: Box<Attributes>,
    },
}

/// What a market says of a trade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trade {
    /// Whose order.
    pub order: u32,
    /// Which offer.
    pub offer: u32,
    /// What is paid.
    pub price: Money,
    /// For how many machines.
    pub quantity: u32,
}

/// A fingerprint of trades in their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest(u64);

impl Digest {
    /// Adds the trades of one command, also if there are none.
    pub fn add(&mut self, trades: &[Trade]) {
        let mut word = self.0 ^ trades.len() as u64;
        for trade in trades {
            let price = trade.price.units() as u64;
            for part in [u64::from(trade.order), u64::from(trade.offer), price, u64::from(trade.quantity)] {
                word = (word ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
            }
        }
        self.0 = word.wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (word >> 31);
    }
}
