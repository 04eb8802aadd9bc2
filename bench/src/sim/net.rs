//! The network between coordinators, workers and clients: late, lossy, doubling and reordering, with cuts that may work
//! in one direction only. It decides when a message arrives, if ever; the world carries it.

use super::{clock::Micros, rng::Rng};
use std::collections::BTreeSet;

/// Ordinary delay of a message, microseconds, and the long tail that reorders.
const DELAY_US: (u64, u64) = (150, 2_000);
const TAIL_US: (u64, u64) = (2_000, 60_000);
/// One message in so many takes the tail.
const TAIL_ONE_IN: u64 = 50;
/// A bad network loses and doubles so many messages in a million.
const BAD_LOSS_PPM: u32 = 50_000;
const BAD_DOUBLE_PPM: u32 = 20_000;
/// A good one doubles and loses some too.
const LOSS_PPM: u32 = 500;
const DOUBLE_PPM: u32 = 500;

/// Whoever has an address: coordinators by number; everybody else is outside and reaches them all.
pub type Address = u64;

/// Which ways are cut, and how good the rest is.
#[derive(Debug)]
pub struct Net {
    rng: Rng,
    /// (from, to): messages this way are lost.
    cut: BTreeSet<(Address, Address)>,
    bad: bool,
}

impl Net {
    /// A whole network.
    pub fn new(rng: Rng) -> Self {
        Self { rng, cut: BTreeSet::new(), bad: false }
    }

    /// Delays of the copies of one message between coordinators that arrive.
    pub fn arrivals(&mut self, from: Address, to: Address) -> Vec<Micros> {
        let (loss, double) = if self.bad { (BAD_LOSS_PPM, BAD_DOUBLE_PPM) } else { (LOSS_PPM, DOUBLE_PPM) };
        if self.is_cut(from, to) || self.rng.chance(loss) {
            return Vec::new();
        }
        let copies = if self.rng.chance(double) { 2 } else { 1 };
        (0..copies).map(|_| self.delay()).collect()
    }

    /// Delay of a message of a connection: it is not lost while the connection stands.
    pub fn delay(&mut self) -> Micros {
        let one_in = if self.bad { TAIL_ONE_IN / 5 } else { TAIL_ONE_IN };
        let (low, high) = if self.rng.one_in(one_in) { TAIL_US } else { DELAY_US };
        self.rng.between(low, high)
    }

    /// Whether messages this way are lost now.
    pub fn is_cut(&self, from: Address, to: Address) -> bool {
        self.cut.contains(&(from, to))
    }

    /// Cuts one way.
    pub fn cut(&mut self, from: Address, to: Address) {
        self.cut.insert((from, to));
    }

    /// Makes the network lossy, or good again.
    pub fn set_bad(&mut self, bad: bool) {
        self.bad = bad;
    }

    /// Everything is whole again.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.bad = false;
    }
}
