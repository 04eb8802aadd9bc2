//! The matching engine: finds, for an order, the cheapest offers that its query accepts, and, for an offer, the first
//! order that may have it, without a look at the others.
//!
//! Orders with the same query share it. A query that few offers satisfy is *narrow*: its offers are kept in a ladder of
//! their own (price, then time), and each offer knows the narrow queries that accept it. So an order looks only at offers
//! that it can have, and an offer that comes or changes its price only at queries that accept it: some four of a thousand.
//! Which queries accept an offer with new attributes is found by one clause of each (`access.rs`). A query that many offers
//! satisfy is *broad*: its orders walk the common ladder, where the next feasible offer is near.
//!
//! The engine is derived from the rows of offers and orders and decides nothing that they do not: whether a query is narrow
//! or broad, built or not, changes what a look costs, never what it finds, nor how many *looks* it is charged (one for each
//! offer that the query accepts). So a replica that began with a snapshot agrees with one that did not.
//!
//! A continuous double auction: price, then time; the one that rests names the price; an order may want several machines
//! and a least number of them at once. Between two calls no resting order could be served by resting offers, so only what
//! is new (`serve_order`, `serve_offers`) is looked at. The engine proposes, and whoever drives it settles.

mod access;
mod matching;
mod offers;
mod orders;

pub use matching::{Fill, Step};

use self::access::{Access, AccessIndex};
use super::query::{Attributes, Query};
use crate::{
    ids::{AccountId, MachineId},
    money::Money,
};
use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::Arc,
};

/// Offers that a narrow query has at most; more are walked in the common ladder, where one in so many is feasible.
pub const NARROW_MAX: usize = 4_096;
/// Offers in all narrow queries together: bounds the memory of many unlike queries to some 500 MB.
const NARROW_TOTAL_MAX: usize = 8_000_000;
/// Queries without orders that are kept in case one comes again.
const IDLE_MAX: usize = 4_096;

/// Where an offer or order is, until it is removed.
pub type Slot = u32;

/// An offer as matching sees it. It is in the book while `open` and its quantity is above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Who is paid; never matched with an order of the same account.
    pub owner: AccountId,
    /// What is for rent: an order takes at most one of its offers.
    pub machine: MachineId,
    /// Per hour.
    pub price: Money,
    /// Its place in time; no two offers or orders share one.
    pub sequence: u64,
    /// Machines.
    pub quantity: u32,
    /// Whether it can be had now.
    pub open: bool,
    /// Shortest rent, seconds.
    pub duration_min_s: u64,
    /// Longest rent, seconds.
    pub duration_max_s: u64,
    /// Ledger time from which it cannot be had, ms.
    pub expires_ms: u64,
    /// Memory of its machine, bytes.
    pub memory_bytes: u64,
    /// Whether it may be taken back while it is rented.
    pub interruptible: bool,
}

/// An order as matching sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bid {
    /// Who pays.
    pub buyer: AccountId,
    /// Highest price of one machine per hour.
    pub limit: Money,
    /// Its place in time.
    pub sequence: u64,
    /// Machines that it still wants.
    pub wanted: u32,
    /// Machines that it must get at once, at least one.
    pub least: u32,
    /// Whether it takes at most one machine of an owner; such an order gets all or nothing.
    pub distinct_owners: bool,
    /// How long it rents, seconds.
    pub duration_s: u64,
    /// Memory that a machine must have, bytes.
    pub memory_bytes: u64,
    /// Whether it takes machines that may be taken back.
    pub interruptible: bool,
}

/// A place in a ladder: the better price first, then the older. Bids' prices count down from the highest there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// An offer's price, or how far an order's limit is below the highest there is.
    pub price: Money,
    /// The place in time.
    pub sequence: u64,
}

impl Ask {
    const fn rank(&self) -> Rank {
        Rank { price: self.price, sequence: self.sequence }
    }

    /// Whether it can be had at all.
    pub const fn in_book(&self) -> bool {
        self.open && self.quantity > 0
    }

    /// Whether an order may take it, its limit and query aside.
    pub fn fits(&self, bid: &Bid, now_ms: u64) -> bool {
        self.owner != bid.buyer
            && (self.duration_min_s..=self.duration_max_s).contains(&bid.duration_s)
            && self.memory_bytes >= bid.memory_bytes
            && self.expires_ms > now_ms
            && (bid.interruptible || !self.interruptible)
    }
}

impl Bid {
    /// Its place among orders.
    pub const fn rank(&self) -> Rank {
        Rank { price: Money::MAX.saturating_sub(self.limit), sequence: self.sequence }
    }

    fn least(&self) -> u32 {
        if self.distinct_owners { self.wanted } else { self.least.max(1) }
    }
}

type Ladder = BTreeMap<Rank, Slot>;

/// See the module. `O` and `B` are what the caller knows its offers and orders by.
pub struct Engine<O, B> {
    asks: Vec<Option<AskEntry<O>>>,
    free_asks: Vec<Slot>,
    bids: Vec<Option<BidEntry<B>>>,
    free_bids: Vec<Slot>,
    /// All offers in the book.
    ladder: Ladder,
    queries: Vec<QueryEntry>,
    by_text: BTreeMap<Arc<str>, Slot>,
    free_queries: Vec<Slot>,
    /// Queries without a ladder of their own that orders wait with.
    broad: Vec<Slot>,
    access: AccessIndex,
    /// Entries of all narrow queries.
    narrow_total: usize,
    /// Queries that depend on the price. While there are none, offers' attributes do not follow their prices.
    on_price: usize,
    /// Queries without orders, the longest idle first.
    idle: VecDeque<Slot>,
    /// Kept between calls for their memory.
    scratch: matching::Scratch<O>,
}

struct AskEntry<O> {
    id: O,
    ask: Ask,
    attributes: Box<Attributes>,
    /// Narrow queries that accept it, with their generation: queries that were dropped since mean nothing.
    narrow: Vec<(Slot, u32)>,
}

struct BidEntry<B> {
    id: B,
    bid: Bid,
    query: Slot,
}

struct QueryEntry {
    query: Query,
    /// Counts the uses of this slot.
    generation: u32,
    reach: Reach,
    /// How an offer finds it while it is narrow.
    access: Access,
    bids: Ladder,
    on_price: bool,
    /// Whether it is in `idle`.
    idle: bool,
}

/// How a query's offers are found.
enum Reach {
    /// It accepts every offer.
    Everything,
    /// It has a ladder of its own; `members` counts those that are not in the book as well.
    Narrow { ladder: Ladder, members: usize },
    /// In the common ladder. `misses`: offers that were passed over since it was last tried to make it narrow.
    Broad { misses: usize },
}

impl<O: Copy, B: Copy> Engine<O, B> {
    /// Without offers and orders.
    pub fn new() -> Self {
        Self {
            asks: Vec::new(),
            free_asks: Vec::new(),
            bids: Vec::new(),
            free_bids: Vec::new(),
            ladder: Ladder::new(),
            queries: Vec::new(),
            by_text: BTreeMap::new(),
            free_queries: Vec::new(),
            broad: Vec::new(),
            access: AccessIndex::default(),
            narrow_total: 0,
            on_price: 0,
            idle: VecDeque::new(),
            scratch: matching::Scratch::default(),
        }
    }

    /// An offer's terms.
    pub fn ask(&self, slot: Slot) -> Option<&Ask> {
        self.ask_entry(slot).map(|entry| &entry.ask)
    }

    /// An order's terms.
    pub fn bid(&self, slot: Slot) -> Option<&Bid> {
        self.bids.get(slot as usize)?.as_ref().map(|entry| &entry.bid)
    }

    /// What the caller knows an order by.
    pub fn order(&self, slot: Slot) -> Option<B> {
        self.bids.get(slot as usize)?.as_ref().map(|entry| entry.id)
    }

    /// What the caller knows an offer by.
    pub fn offer(&self, slot: Slot) -> Option<O> {
        self.ask_entry(slot).map(|entry| entry.id)
    }

    /// Whether an offer is one that a query accepts.
    pub fn accepts(&self, offer: Slot, query: &Query) -> bool {
        self.ask_entry(offer).is_some_and(|entry| query.accepts(&entry.attributes))
    }

    /// Whether orders wait with this query.
    pub fn waits_with(&self, query: &Query) -> bool {
        let slot = self.by_text.get(query.text());
        slot.and_then(|slot| self.query_entry(*slot)).is_some_and(|entry| !entry.bids.is_empty())
    }

    /// Offers in the book, cheapest first, then oldest.
    pub fn offers_in_book(&self) -> impl Iterator<Item = Slot> + '_ {
        self.ladder.values().copied()
    }

    /// The cheapest offer that an order's query accepts, whoever owns it.
    pub fn cheapest(&self, order: Slot) -> Option<&Ask> {
        let query = self.query_entry(self.bids.get(order as usize)?.as_ref()?.query)?;
        let ladder = match &query.reach {
            Reach::Narrow { ladder, .. } => ladder,
            Reach::Everything | Reach::Broad { .. } => &self.ladder,
        };
        let mut offers = ladder.values().filter_map(|slot| self.ask_entry(*slot));
        offers.find(|entry| query.query.accepts(&entry.attributes)).map(|entry| &entry.ask)
    }

    fn ask_entry(&self, slot: Slot) -> Option<&AskEntry<O>> {
        self.asks.get(slot as usize)?.as_ref()
    }

    fn query_entry(&self, slot: Slot) -> Option<&QueryEntry> {
        self.queries.get(slot as usize)
    }
}

impl<O: Copy, B: Copy> Default for Engine<O, B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<O, B> fmt::Debug for Engine<O, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ladder, queries, bids, free_bids, .. } = self;
        let orders = bids.len().saturating_sub(free_bids.len());
        f.debug_struct("Engine")
            .field("offers_in_book", &ladder.len())
            .field("orders", &orders)
            .field("queries", &queries.len())
            .finish_non_exhaustive()
    }
}

/// Puts a value where there is room and returns its slot.
fn put<T>(all: &mut Vec<Option<T>>, free: &mut Vec<Slot>, value: T) -> Slot {
    if let Some(slot) = free.pop()
        && let Some(place) = all.get_mut(slot as usize)
    {
        *place = Some(value);
        return slot;
    }
    let slot = Slot::try_from(all.len()).expect("four thousand million rows do not fit the memory");
    all.push(Some(value));
    slot
}
