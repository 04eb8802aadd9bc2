//! Proof of drilling (§1): which problems there are, what they cost and are worth, how they are seeded, and how answers
//! are committed to. The kernels themselves are in the package `kernels`; here is what a coordinator must know.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::credit::{KAPPA_DENSE_Q32, KAPPA_READ_Q32, credit_micro_ut};
use crate::philox::{Draw, key_of, mix64};
use crate::{Hash, sha256};

/// First 16 bytes of every header.
const HEADER_TAG: &[u8; 16] = b"MatrixAI/PoD/v1\0";
/// Bytes of a header: tag 16, kernel 8, seed 32, parameters 8 x 4.
pub const HEADER_BYTES: usize = 88;
/// Most memory that a workload may need, in bytes.
pub const MEMORY_BYTES_MAX: u64 = 4 << 30;
/// Most operations that a workload may have.
pub const OPS_MAX: u64 = 1 << 50;
/// Longest inner product of bytes whose sum fits an i32: 128 * 128 * 131071 < 2^31.
pub const IGEMM_K_MAX: u32 = 131_071;
/// Widest layer of qmlp: the sum and its rounding term stay within an i32.
pub const QMLP_WIDTH_MAX: u32 = 65_536;
/// Words of one lane's block in memwalk (§1.5). Below it, recomputing an element costs little more than storing it.
pub const MEMWALK_BLOCK_MIN: u64 = 1024;
/// Tables under 2^20 words fit a cache and are test sizes; they may have shorter blocks, as the published vector has.
const MEMWALK_TEST_P: u32 = 20;
const MEMWALK_TEST_BLOCK_MIN: u64 = 128;

/// The drilling kernels (§1.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kernel {
    /// Exact int8 matrix product.
    Igemm,
    /// Ordered f32 matrix product.
    Fgemm,
    /// Dependent random reads.
    Memwalk,
    /// Quantised multi-layer perceptron.
    Qmlp,
}

impl Kernel {
    /// All kernels in the order of the specification.
    pub const ALL: [Kernel; 4] = [Kernel::Igemm, Kernel::Fgemm, Kernel::Memwalk, Kernel::Qmlp];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Kernel::Igemm => "igemm",
            Kernel::Fgemm => "fgemm",
            Kernel::Memwalk => "memwalk",
            Kernel::Qmlp => "qmlp",
        }
    }

    /// The kernel of that name; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kernel| kernel.as_str() == text)
    }

    /// The name, padded with zeros: part of the header.
    #[must_use]
    pub fn tag(self) -> [u8; 8] {
        let mut tag = [0; 8];
        let name = self.as_str().as_bytes();
        tag[..name.len()].copy_from_slice(name);
        tag
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why parameters do not make a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadError {
    #[error("parameter {name} of {kernel} is {value}, must be {min} to {max}")]
    Range { kernel: Kernel, name: &'static str, value: u32, min: u32, max: u32 },
    #[error("parameter {index} of {kernel} is not used and must be 0")]
    Unused { kernel: Kernel, index: usize },
    #[error("{kernel} would need {bytes} bytes of memory, more than {MEMORY_BYTES_MAX}")]
    Memory { kernel: Kernel, bytes: u128 },
    #[error("{kernel} would take {ops} operations, more than {OPS_MAX}")]
    Ops { kernel: Kernel, ops: u128 },
    #[error("memwalk blocks of {words} words are too short: at least {min}")]
    Block { words: u64, min: u64 },
}

/// A kernel with parameters in range: what remains to be said is the seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawWorkload", into = "RawWorkload")]
pub struct Workload {
    kernel: Kernel,
    params: [u32; 8],
}

/// `Workload` as others write it, before it is checked.
#[derive(Serialize, Deserialize)]
struct RawWorkload {
    kernel: Kernel,
    params: [u32; 8],
}

impl TryFrom<RawWorkload> for Workload {
    type Error = WorkloadError;
    fn try_from(raw: RawWorkload) -> Result<Self, WorkloadError> {
        Workload::new(raw.kernel, raw.params)
    }
}

impl From<Workload> for RawWorkload {
    fn from(workload: Workload) -> Self {
        RawWorkload { kernel: workload.kernel, params: workload.params }
    }
}

/// What parameters cost, before anyone knows that it is bounded.
struct Cost {
    ops: u128,
    rows: u128,
    bytes: u128,
}

impl Workload {
    /// Parameters, by kernel (the rest must be 0): igemm m,n,k,T; fgemm m,n,k,T,fma; memwalk p,q,R; qmlp b,d,D,s.
    ///
    /// # Errors
    /// Says which parameter is out of range, or that memory or operations exceed their limits.
    pub fn new(kernel: Kernel, params: [u32; 8]) -> Result<Self, WorkloadError> {
        // (name, smallest, largest) of each parameter used.
        let ranges: &[(&'static str, u32, u32)] = match kernel {
            Kernel::Igemm => &[("m", 1, 1 << 20), ("n", 1, 1 << 20), ("k", 1, IGEMM_K_MAX), ("T", 1, 1 << 20)],
            Kernel::Fgemm => {
                &[("m", 1, 1 << 20), ("n", 1, 1 << 20), ("k", 1, 1 << 20), ("T", 1, 1 << 20), ("fma", 0, 1)]
            }
            Kernel::Memwalk => &[("p", 8, 28), ("q", 0, 21), ("R", 1, 1 << 20)],
            Kernel::Qmlp => &[("b", 1, 1 << 20), ("d", 1, QMLP_WIDTH_MAX), ("D", 1, 1 << 16), ("s", 1, 24)],
        };
        for (&value, &(name, min, max)) in params.iter().zip(ranges) {
            if value < min || value > max {
                return Err(WorkloadError::Range { kernel, name, value, min, max });
            }
        }
        if let Some(index) = (ranges.len()..params.len()).find(|&i| params[i] != 0) {
            return Err(WorkloadError::Unused { kernel, index });
        }
        if kernel == Kernel::Memwalk {
            check_blocks(params[0], params[1])?;
        }
        let cost = cost(kernel, &params);
        if cost.ops > u128::from(OPS_MAX) {
            return Err(WorkloadError::Ops { kernel, ops: cost.ops });
        }
        if cost.bytes > u128::from(MEMORY_BYTES_MAX) {
            return Err(WorkloadError::Memory { kernel, bytes: cost.bytes });
        }
        Ok(Self { kernel, params })
    }

    #[must_use]
    pub const fn kernel(&self) -> Kernel {
        self.kernel
    }

    #[must_use]
    pub const fn params(&self) -> &[u32; 8] {
        &self.params
    }

    /// Difficulty: arithmetic operations, for memwalk random reads. At most `OPS_MAX`.
    #[must_use]
    pub fn ops(&self) -> u64 {
        cost(self.kernel, &self.params).ops as u64
    }

    /// Row digests that the digest is made of.
    #[must_use]
    pub fn rows(&self) -> u64 {
        cost(self.kernel, &self.params).rows as u64
    }

    /// Bytes of inputs, one product's output and row digests that exist at a time. An implementation may use a small
    /// multiple of it (wider copies of inputs); the tables of memwalk are exact.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        cost(self.kernel, &self.params).bytes as u64
    }

    /// What each member of a quorum earns for it, in micro-ut (§4.1).
    #[must_use]
    pub fn credit_micro_ut(&self) -> u128 {
        let kappa = match self.kernel {
            Kernel::Igemm | Kernel::Fgemm | Kernel::Qmlp => KAPPA_DENSE_Q32,
            Kernel::Memwalk => KAPPA_READ_Q32,
        };
        credit_micro_ut(self.ops(), kappa)
    }

    /// What seeds the inputs and begins the digest: tag, kernel, seed, parameters (§1.3).
    #[must_use]
    pub fn header(&self, seed: &[u8; 32]) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..16].copy_from_slice(HEADER_TAG);
        header[16..24].copy_from_slice(&self.kernel.tag());
        header[24..56].copy_from_slice(seed);
        for (slot, param) in header[56..].chunks_exact_mut(4).zip(self.params) {
            slot.copy_from_slice(&param.to_le_bytes());
        }
        header
    }

    /// Philox key of a header: the first 8 bytes of its hash.
    #[must_use]
    pub fn key(header: &[u8; HEADER_BYTES]) -> [u32; 2] {
        key_of(&sha256(&[header]))
    }
}

fn check_blocks(p: u32, q: u32) -> Result<(), WorkloadError> {
    let words = (1u64 << p) >> q;
    let min = if p < MEMWALK_TEST_P { MEMWALK_TEST_BLOCK_MIN } else { MEMWALK_BLOCK_MIN };
    if words < min { Err(WorkloadError::Block { words, min }) } else { Ok(()) }
}

/// Sums of §1.5 in u128, so that no parameter can overflow them.
fn cost(kernel: Kernel, params: &[u32; 8]) -> Cost {
    let [a, b, c, d, ..] = params.map(u128::from);
    match kernel {
        Kernel::Igemm => {
            let (m, n, k, times) = (a, b, c, d);
            Cost { ops: 2 * m * n * k * times, rows: m * times, bytes: (m + n) * k + 4 * m * n + 8 * m * times }
        }
        Kernel::Fgemm => {
            let (m, n, k, times) = (a, b, c, d);
            Cost { ops: 2 * m * n * k * times, rows: m * times, bytes: 4 * ((m + n) * k + m * n) + 8 * m * times }
        }
        Kernel::Memwalk => {
            let (words, lanes, rounds) = (1u128 << params[0], 1u128 << params[1], c);
            Cost { ops: words * rounds, rows: lanes, bytes: 16 * words + 8 * lanes }
        }
        Kernel::Qmlp => {
            let (batch, width, depth) = (a, b, c);
            Cost {
                ops: 2 * batch * width * width * depth,
                rows: batch,
                bytes: width * width + 2 * batch * width + 8 * batch,
            }
        }
    }
}

/// Digest of one output row (§1.4): the sum of mixed (position, value) pairs. Not linear in the values, so there is no
/// shortcut past the product; independent of order, so lanes may sum as they please. Values are 32-bit patterns; at
/// most 2^32 columns.
#[must_use]
pub fn row_digest(row: u64, values: impl IntoIterator<Item = u32>) -> u64 {
    values.into_iter().enumerate().fold(0, |sum, (column, value)| {
        let position = (row << 32 | column as u64).wrapping_mul(crate::philox::GOLDEN);
        sum.wrapping_add(mix64(position ^ u64::from(value)))
    })
}

/// Digest of a result: H(header || row digests, little-endian).
#[must_use]
pub fn digest(header: &[u8], rows: &[u64]) -> Hash {
    use sha2::Digest as _;
    let mut hasher = sha2::Sha256::new();
    hasher.update(header);
    for row in rows {
        hasher.update(row.to_le_bytes());
    }
    hasher.finalize().into()
}

/// Commitment to a digest (§1.1 step 2). The machine's key is inside, so a copier cannot replay it.
#[must_use]
pub fn commitment(unit: &[u8; 20], key: &[u8; 32], digest: &Hash, salt: &[u8; 32]) -> Hash {
    sha256(&[b"MatrixAI/PoD/commit/v1", unit, key, digest, salt])
}

/// Seed of a unit, from the beacon's R when it is drawn: nobody can compute ahead.
#[must_use]
pub fn unit_seed(r: &Hash, unit: &[u8; 20]) -> [u8; 32] {
    sha256(&[b"MatrixAI/PoD/seed/v1", r, unit])
}

/// Draws of a unit's quorum (§1.1 step 1).
#[must_use]
pub fn assignment_draw(r: &Hash, unit: &[u8; 20]) -> Draw {
    Draw::new(&sha256(&[b"MatrixAI/PoD/assign/v1", r, unit]), 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::test_support::hex;

    fn workload(kernel: Kernel, params: &[u32]) -> Result<Workload, WorkloadError> {
        let mut all = [0; 8];
        all[..params.len()].copy_from_slice(params);
        Workload::new(kernel, all)
    }

    #[test]
    fn names_go_both_ways() {
        for kernel in Kernel::ALL {
            assert_eq!(Kernel::parse(kernel.as_str()), Some(kernel));
        }
        assert_eq!(Kernel::parse("Igemm"), None);
        assert_eq!(&Kernel::Memwalk.tag(), b"memwalk\0");
    }

    #[test]
    fn header_and_key_are_those_published() {
        let seed = std::array::from_fn(|i| i as u8);
        let header = workload(Kernel::Igemm, &[64, 64, 64, 1]).unwrap().header(&seed);
        assert_eq!(&header[..24], b"MatrixAI/PoD/v1\0igemm\0\0\0");
        assert_eq!(header[56..64], [64, 0, 0, 0, 64, 0, 0, 0]);
        assert_eq!(Workload::key(&header), [0x232d_db71, 0xe61f_81e7]);
    }

    #[test]
    fn sizes_of_the_specification() {
        // Class S of §1.8.
        let igemm = workload(Kernel::Igemm, &[1024, 1024, 1024, 16]).unwrap();
        assert_eq!((igemm.ops(), igemm.rows()), (34_359_738_368, 16_384));
        let fgemm = workload(Kernel::Fgemm, &[1024, 1024, 1024, 8]).unwrap();
        assert_eq!((fgemm.ops(), fgemm.rows()), (17_179_869_184, 8192));
        let memwalk = workload(Kernel::Memwalk, &[23, 10, 4]).unwrap();
        assert_eq!((memwalk.ops(), memwalk.rows()), (1 << 25, 1 << 10));
        assert_eq!(memwalk.memory_bytes(), (128 << 20) + (8 << 10));
        let qmlp = workload(Kernel::Qmlp, &[256, 1024, 16, 10]).unwrap();
        assert_eq!((qmlp.ops(), qmlp.rows()), (8_589_934_592, 256));
        // Class L fits too.
        workload(Kernel::Igemm, &[8192, 8192, 8192, 64]).unwrap();
        workload(Kernel::Memwalk, &[27, 17, 8]).unwrap();
        workload(Kernel::Qmlp, &[8192, 4096, 64, 11]).unwrap();
    }

    #[test]
    fn credits() {
        assert_eq!(workload(Kernel::Igemm, &[4096, 4096, 4096, 1]).unwrap().credit_micro_ut(), 19_884);
        // 2^25 reads at kappa 64.
        assert_eq!(workload(Kernel::Memwalk, &[23, 10, 4]).unwrap().credit_micro_ut(), (1 << 31) / 432_000);
    }

    #[test]
    fn parameters_out_of_range_are_named() {
        let says = |kernel, params: &[u32], expect: &str| {
            assert_eq!(workload(kernel, params).unwrap_err().to_string(), expect);
        };
        says(Kernel::Igemm, &[1, 1, 131_072, 1], "parameter k of igemm is 131072, must be 1 to 131071");
        says(Kernel::Igemm, &[0, 1, 1, 1], "parameter m of igemm is 0, must be 1 to 1048576");
        says(Kernel::Igemm, &[1, 1, 1, 1, 1], "parameter 4 of igemm is not used and must be 0");
        says(Kernel::Fgemm, &[1, 1, 1, 1, 2], "parameter fma of fgemm is 2, must be 0 to 1");
        says(Kernel::Memwalk, &[29, 10, 1], "parameter p of memwalk is 29, must be 8 to 28");
        says(Kernel::Memwalk, &[20, 11, 1], "memwalk blocks of 512 words are too short: at least 1024");
        says(Kernel::Memwalk, &[12, 6, 1], "memwalk blocks of 64 words are too short: at least 128");
        says(Kernel::Memwalk, &[28, 10, 1], "memwalk would need 4294975488 bytes of memory, more than 4294967296");
        says(
            Kernel::Fgemm,
            &[8192, 8192, 8192, 2048],
            "fgemm would take 2251799813685248 operations, more than 1125899906842624",
        );
    }

    #[test]
    fn serde_checks_what_it_reads() {
        fn reads<T: for<'a> Deserialize<'a>>() {}
        reads::<Workload>();
        let raw = RawWorkload { kernel: Kernel::Igemm, params: [0; 8] };
        assert!(Workload::try_from(raw).is_err());
    }

    #[test]
    fn commitments_bind_every_part() {
        let (unit, key, salt) = ([1; 20], [2; 32], [3; 32]);
        let digest = [4; 32];
        let whole = commitment(&unit, &key, &digest, &salt);
        assert_eq!(hex(&whole).len(), 64);
        assert_ne!(whole, commitment(&[9; 20], &key, &digest, &salt));
        assert_ne!(whole, commitment(&unit, &[9; 32], &digest, &salt));
        assert_ne!(whole, commitment(&unit, &key, &[9; 32], &salt));
        assert_ne!(whole, commitment(&unit, &key, &digest, &[9; 32]));
    }

    #[test]
    fn seeds_and_quorums_follow_the_beacon() {
        let (r, other, unit) = ([1; 32], [2; 32], [3; 20]);
        assert_ne!(unit_seed(&r, &unit), unit_seed(&other, &unit));
        assert_ne!(unit_seed(&r, &unit), unit_seed(&r, &[4; 20]));
        let quorum = |r| assignment_draw(r, &unit).draw_distinct(1000, 3);
        assert_eq!(quorum(&r), quorum(&r));
        assert_ne!(quorum(&r), quorum(&other));
    }
}
