//! A coordinator: one member of the quorum that keeps the ledger, the market, the jobs and the measured machines.
//!
//! It carries the pure parts — `matrixai-state` (what is true), `matrixai-consensus` (in which order), `core.rs` (what
//! this process does about it) — over gRPC, the web and disks, and decides nothing about money or work itself.
//!
//! The pure parts are public, because the simulator (`bench`) links them as they are shipped.
//!
//! [`run`] is a whole process; [`start`] is the same on a thread, for embedding and tests.

mod actors;
pub mod admission;
pub mod archive;
mod artifacts;
pub mod auditor;
pub mod backup;
pub mod clock;
mod config;
pub mod core;
mod directory;
mod edge;
mod events;
pub mod files;
pub mod founding;
mod grpc;
mod history;
mod identity;
mod join;
mod links;
mod live;
pub mod pending;
pub mod plants;
pub mod reads;
mod relay;
pub mod replica;
mod shared;
pub mod snapshots;
mod startup;
mod strangers;
mod submitting;
mod telemetry;
mod verifier;
mod web;

pub use config::{Archiving, Artifacts, Config, ConfigError, Listen, Log, Snapshots, Strangers, Telemetry, Tls};
pub use edge::wire_outcome;
pub use grpc::assignments::wire as wire_assignment;
pub use identity::FolderError;
pub use startup::{Error, Handle, Ready, node_key, run, salt_tables, start};
