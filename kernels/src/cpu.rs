//! The reference kernels: one page each, plain Rust that the compiler vectorises, no `unsafe`.

mod bytes;
mod fgemm;
mod igemm;
pub(crate) mod memwalk;
mod qmlp;

use matrixai_protocol::drilling::{Kernel, Workload};

use crate::pace::{Pace, Pacer, Stopped};

pub(crate) use qmlp::activate;

/// Row digests of a workload, in order.
pub(crate) fn rows(workload: &Workload, seed: &[u8; 32], pace: &mut dyn Pace) -> Result<Vec<u64>, Stopped> {
    let key = Workload::key(&workload.header(seed));
    let [a, b, c, d, e, ..] = *workload.params();
    let size = |param: u32| param as usize;
    let pacer = &mut Pacer::new(pace);
    match workload.kernel() {
        Kernel::Igemm => igemm::rows(key, (size(a), size(b), size(c)), d, pacer),
        Kernel::Fgemm if e == 0 => fgemm::rows::<false>(key, (size(a), size(b), size(c)), d, pacer),
        Kernel::Fgemm => fgemm::rows::<true>(key, (size(a), size(b), size(c)), d, pacer),
        Kernel::Memwalk => memwalk::rows(key, a, b, c, pacer),
        Kernel::Qmlp => qmlp::rows(key, (size(a), size(b)), c, d, pacer),
    }
}
