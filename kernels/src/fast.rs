//! The fast implementations of a CPU: the same bits as the reference, in the instructions that the processor has,
//! found when the program runs, on as many threads as wished.
//!
//! `isa` is the seam: what differs between processors. `product` blocks and packs for it, `team` shares the work out.

mod fgemm;
mod igemm;
mod isa;
mod memwalk;
mod product;
mod qmlp;
mod rehearsal;
mod team;

use matrixai_protocol::Hash;
use matrixai_protocol::drilling::{Kernel, Workload, digest};

use crate::Compute;
use crate::pace::{Pace, Stopped};
use isa::Isa;
pub use rehearsal::Rehearsal;
use team::Team;

/// A set of instructions that this processor has.
#[derive(Debug, Clone, Copy)]
enum Path {
    #[cfg(target_arch = "x86_64")]
    Avx2(isa::avx2::Avx2),
}

/// The kernels in one set of instructions.
#[derive(Debug, Clone, Copy)]
pub struct Fast {
    path: Path,
    threads: usize,
}

impl Fast {
    /// All that this processor can run, the fastest first; none where it has nothing better than the reference.
    #[must_use]
    pub fn available(threads: usize) -> Vec<Self> {
        let mut paths: Vec<Path> = Vec::new();
        #[cfg(target_arch = "x86_64")]
        paths.extend(isa::avx2::Avx2::detect().map(Path::Avx2));
        paths.into_iter().map(|path| Self { path, threads }).collect()
    }
}

impl Compute for Fast {
    fn name(&self) -> &'static str {
        match self.path {
            #[cfg(target_arch = "x86_64")]
            Path::Avx2(_) => "avx2",
        }
    }

    fn run(&self, workload: &Workload, seed: &[u8; 32], pace: &mut dyn Pace) -> Result<Hash, Stopped> {
        let team = &mut Team::new(self.threads, pace);
        let rows = match self.path {
            #[cfg(target_arch = "x86_64")]
            Path::Avx2(isa) => rows(isa, workload, seed, team)?,
        };
        Ok(digest(&workload.header(seed), &rows))
    }
}

/// Row digests of a workload, in order.
fn rows<I: Isa>(isa: I, workload: &Workload, seed: &[u8; 32], team: &mut Team<'_>) -> Result<Vec<u64>, Stopped> {
    let key = Workload::key(&workload.header(seed));
    let [a, b, c, d, e, ..] = *workload.params();
    let size = |param: u32| param as usize;
    match workload.kernel() {
        Kernel::Igemm => igemm::rows(isa, key, (size(a), size(b), size(c)), d, team),
        Kernel::Fgemm => fgemm::rows(isa, key, (size(a), size(b), size(c)), (d, e == 1), team),
        Kernel::Memwalk => memwalk::rows(key, (a, b, c), team),
        Kernel::Qmlp => qmlp::rows(isa, key, (size(a), size(b)), (c, d), team),
    }
}
