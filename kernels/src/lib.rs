//! The drilling kernels (§1.5 of the protocols): what a machine computes to show its speed.
//!
//! `cpu` holds the reference of each: it *defines* the answer. A faster implementation (`fast`) is another `Compute`,
//! must give the same bits as the reference on the known answers (`selftest`), and is switched off where it does not
//! (`Chosen`): a fast wrong answer costs its quorum the credit.
//!
//! Absent: network, async, clocks, threads beyond the end of a call. Whoever calls brings a `Pace`, which is asked every
//! millisecond or two whether to go on: limits on CPU use and withdrawal of a unit both act there. `unsafe` is in
//! `fast::isa` alone: calls of instructions that were detected, loads and stores.
mod chosen;
mod cpu;
pub mod digest;
mod fast;
mod fill;
mod pace;
mod selftest;

use matrixai_protocol::Hash;
use matrixai_protocol::drilling::{Workload, digest};

pub use chosen::{Chosen, Trial};
pub use fast::{Fast, Rehearsal};
pub use pace::{Pace, Stopped, Unpaced};
pub use selftest::{selftest, selftest_of};

/// An implementation of all kernels.
pub trait Compute: Send + Sync {
    /// Name for logs and figures, e.g. "avx2".
    fn name(&self) -> &'static str;

    /// Digest of the workload under the seed (§1.4). `pace` is ticked at least about every 2 ms of work on a full core.
    ///
    /// # Errors
    /// `Stopped` as soon as a tick says so; nothing is kept.
    fn run(&self, workload: &Workload, seed: &[u8; 32], pace: &mut dyn Pace) -> Result<Hash, Stopped>;
}

/// The CPU reference: one thread, any hardware, baseline instructions unless built for more.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reference;

impl Reference {
    /// The row digests that the digest is made of, in order: what settles a disagreement row by row (§1.1 step 5).
    ///
    /// # Errors
    /// `Stopped` as soon as a tick says so.
    pub fn rows(&self, workload: &Workload, seed: &[u8; 32], pace: &mut dyn Pace) -> Result<Vec<u64>, Stopped> {
        cpu::rows(workload, seed, pace)
    }
}

impl Compute for Reference {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn run(&self, workload: &Workload, seed: &[u8; 32], pace: &mut dyn Pace) -> Result<Hash, Stopped> {
        let rows = self.rows(workload, seed, pace)?;
        Ok(digest(&workload.header(seed), &rows))
    }
}
