//! Trainings as pure computation: a data set, a model, one virtual worker's round (a *segment*), the reduction of all
//! deltas to the next checkpoint, and the recomputation of a whole proof (PROTOCOLS §2.2–2.4, §5.2).
//!
//! The result must have the same bits whatever machines did which share, so everything here is a function of the spec,
//! the job's id, the beacon and the data. Absent by design: network, files, clocks, threads, random numbers of our own,
//! fused or reordered floats, and functions of a C library. Speed comes from vectorising over *different* outputs (see
//! `math/gemm.rs`), never from reordering one.
#![forbid(unsafe_code)]

mod context;
pub mod dataset;
pub mod init;
pub mod math;
pub mod model;
pub mod pace;
pub mod reduce;
pub mod segment;
pub mod verify;
pub mod weights;

pub use context::Context;
