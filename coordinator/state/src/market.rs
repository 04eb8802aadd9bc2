//! The market: machines for rent, orders that wait for them, and the agreements between the two.
//!
//! The book (`market/book.rs`) keeps offers and waiting orders. Matching (`market/matching.rs`) gives an order the machines
//! that it wants, of those that its query (`market/query.rs`) accepts; the engine (`market/engine.rs`), which follows the
//! rows (`market/live.rs`), finds them. A job's machines belong to it until `release_machines`; those of an order that
//! stands by itself (`market/orders.rs`) are rented one by one (`agreements.rs`).

mod attributes;
pub(crate) mod book;
pub mod engine;
pub mod explain;
pub mod listing;
pub(crate) mod live;
pub(crate) mod matching;
pub(crate) mod orders;
pub mod outlook;
pub mod query;
mod scan;
mod terms;

pub(crate) use book::{amend_offer, check_terms, end_order, make_offer, on_offer_due, on_order_due, place_for_job};
pub(crate) use book::{take_off, withdraw_all, withdraw_offer};
pub(crate) use live::machine_changed;
pub(crate) use matching::{Fresh, free_again, price_of, release_machines, try_match};

pub use terms::{GRACE_MIN_MAX, Interruption};

use self::query::Query;
use crate::{
    ids::{AccountId, JobId, MachineId, OfferId, OrderId},
    keyed::Identified,
    money::Money,
};
use serde::{Deserialize, Serialize};

/// Machines of one order.
pub const ORDER_MACHINES_MAX: u32 = 64;
/// Longest rent, seconds (30 days).
pub const DURATION_S_MAX: u64 = 2_592_000;
/// Start deadline of an order that names none, seconds: until a job is matched, or a machine that was rented begins.
pub const START_DEADLINE_DEFAULT_S: u64 = 120;
/// Open offers of one machine.
pub const OFFERS_PER_MACHINE_MAX: usize = 16;
/// Agreements kept for `trades()`; older ones are in the history of events.
pub const TRADES_MAX: u64 = 10_000;

/// The order that rents machines for a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderTerms {
    /// Machines wanted, all or none.
    pub machines: u32,
    /// Highest price of one machine, minor units per hour.
    pub price_limit: Money,
    /// Highest hold for the whole job, fees included.
    pub total_limit: Money,
    /// Longest rent, seconds; the hold covers it.
    pub duration_s: u64,
    /// The job is closed if it has not matched this many seconds after submission; 0 means 120.
    pub start_deadline_s: u64,
    /// What each machine must be.
    pub query: Query,
}

/// What became of an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OfferStatus {
    /// In the book.
    Open,
    /// Its machine works under it.
    Rented,
    /// Taken back by its maker, or its machine was revoked or suspended.
    Withdrawn,
    /// Its time is over.
    Lapsed,
}

impl OfferStatus {
    /// The wire's status.
    pub const fn as_str(self) -> &'static str {
        match self {
            OfferStatus::Open => "open",
            OfferStatus::Rented => "rented",
            OfferStatus::Withdrawn => "withdrawn",
            OfferStatus::Lapsed => "lapsed",
        }
    }

    /// Whether it can never be had again.
    pub const fn ended(self) -> bool {
        match self {
            OfferStatus::Open | OfferStatus::Rented => false,
            OfferStatus::Withdrawn | OfferStatus::Lapsed => true,
        }
    }
}

/// A machine for rent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferRow {
    /// Its id.
    pub id: OfferId,
    /// What is for rent.
    pub machine: MachineId,
    /// Who is paid.
    pub owner: AccountId,
    /// Minor units per hour.
    pub price_per_hour: Money,
    /// Shortest rent, seconds.
    pub duration_min_s: u64,
    /// Longest rent, seconds.
    pub duration_max_s: u64,
    /// Ledger time at which it lapses, ms.
    pub expires_ms: u64,
    /// What became of it.
    pub status: OfferStatus,
    /// Ledger time of its making, ms.
    pub made_ms: u64,
    /// Its place in time among all offers and orders.
    pub sequence: u64,
    /// Disk that goes with it, GiB (claimed); none for all that the machine has.
    pub disk_gib: Option<u32>,
    /// How the machine may be taken back while it is rented; none for an offer on demand.
    pub interruption: Option<Interruption>,
}

impl Identified for OfferRow {
    type Id = OfferId;

    fn id(&self) -> &OfferId {
        &self.id
    }
}

/// A waiting order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRow {
    /// Its id; a job's order has the job's.
    pub id: OrderId,
    /// The job it is for; none for one that stands by itself.
    pub job: Option<JobId>,
    /// Who pays.
    pub buyer: AccountId,
    /// Machines that it still wants.
    pub wanted: u32,
    /// Machines that it takes at least at once.
    pub least: u32,
    /// Highest price of one machine, minor units per hour.
    pub price_limit: Money,
    /// What its further agreements may cost, fees included. It is on hold: the job's, or its own.
    pub money: Money,
    /// How long it rents, seconds.
    pub duration_s: u64,
    /// How long a machine may take to begin, and may stay away later, seconds; 0 for a job's, which has its own rules.
    pub start_s: u64,
    /// See `start_s`.
    pub away_s: u64,
    /// What each machine must be.
    pub query: Query,
    /// This offer or nothing.
    pub select: Option<OfferId>,
    /// Whether it waits for what it does not get in its turn.
    pub rests: bool,
    /// The fee when it was placed, basis points: the hold covers it.
    pub fee_bp: u32,
    /// Memory that each machine must have claimed, bytes.
    pub memory_bytes: u64,
    /// Its place in time among all offers and orders.
    pub sequence: u64,
    /// Ledger time until which it waits, ms.
    pub due_ms: u64,
    /// Whether it takes machines that may be taken back. A job's never does: its machines check each other to the end.
    pub interruptible: bool,
}

impl Identified for OrderRow {
    type Id = OrderId;

    fn id(&self) -> &OrderId {
        &self.id
    }
}

/// One machine of an agreement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TradeRow {
    /// The order that it serves.
    pub order: OrderId,
    /// The job it works for; none for an order that stands by itself.
    pub job: Option<JobId>,
    /// The offer that was taken.
    pub offer: OfferId,
    /// The machine.
    pub machine: MachineId,
    /// Who pays.
    pub buyer: AccountId,
    /// Who is paid.
    pub seller: AccountId,
    /// The price agreed on, minor units per hour.
    pub price_per_hour: Money,
    /// Ledger time of the match, ms.
    pub matched_ms: u64,
}

/// A machine that an order was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MatchedMachine {
    pub(crate) machine: MachineId,
    pub(crate) owner: AccountId,
    pub(crate) offer: OfferId,
    pub(crate) price_per_hour: Money,
}
