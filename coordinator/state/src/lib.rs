//! The state machine that every coordinator runs over the same log: ledger, market, machines, drilling, jobs.
//!
//! [`State::apply`] is a total function of the entry's index and bytes. Nothing here reads a clock, draws a random number,
//! touches a disk or a network, uses floats, hash maps or threads, or logs: two replicas that have applied the same
//! entries are equal to the byte, and [`State::root`] proves it. Signatures are checked before an entry is proposed and
//! again by auditors, not here.
//!
//! Where to look: `state.rs` (apply, one exhaustive match), `decode.rs` (bytes to commands), `ledger.rs` (the only place
//! where a balance changes), `market/` (the book and matching), `drilling.rs`, `jobs/` (trainings and their proof), `admin.rs` and `admin/`
//! (what admins change), `nodes.rs` (the coordinators), `limits.rs` (what an account may use), `rules.rs` (versions),
//! `owed.rs` (what each machine is to do), `expiry.rs` (what time does), `invariants.rs` (what must always hold).
#![deny(
    clippy::float_arithmetic,
    clippy::arithmetic_side_effects,
    clippy::iter_over_hash_type,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_types,
    clippy::disallowed_methods
)]
#![deny(missing_docs)]

pub mod accounts;
pub mod admin;
pub mod agreements;
pub mod beacon;
mod canonical;
pub mod closing;
pub mod command;
mod context;
pub mod decode;
pub mod drilling;
mod earning;
pub mod economy;
pub mod effect;
mod envelopes;
mod expiry;
pub mod genesis;
pub mod ids;
mod index;
mod invariants;
pub mod jobs;
mod keyed;
mod leases;
pub mod ledger;
pub mod limits;
pub mod machines;
pub mod market;
#[cfg(feature = "measure")]
pub mod measure;
pub mod money;
pub mod nodes;
pub mod outcome;
pub mod owed;
mod part;
pub mod plants;
pub mod power;
mod registry;
pub mod reliability;
pub mod roots;
pub mod rules;
mod slots;
pub mod snapshot;
mod splitting;
mod state;
pub mod strangers;
pub mod table;
pub mod verdicts;
mod views;
pub mod windows;

pub use effect::{Applied, Effect, EnvelopeResult, Event, Movement};
pub use envelopes::linked::LINKED_PER_ENTRY_MAX;
pub use genesis::{Genesis, GenesisError};
pub use index::salt_tables;
pub use money::Money;
pub use outcome::{Outcome, Refusal};
pub use owed::{Assignment, Task, TrainingContext};
pub use state::{Signer, State};
