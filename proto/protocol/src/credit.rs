//! What an operation is worth in ut, the unit of computing power (§4.1): 1 ut is 4.32e11 operations of a reference
//! core's Whetstone, and kappa turns a kernel's operations into those. Protocol constants: changing one changes the
//! rules.

/// kappa of dense arithmetic (igemm, fgemm, qmlp and training flops), 1/16, in 2^-32.
pub const KAPPA_DENSE_Q32: u64 = 1 << 28;
/// kappa of one random read of memwalk, 64, in 2^-32.
pub const KAPPA_READ_Q32: u64 = 64 << 32;
/// Reference operations in one ut.
pub const OPS_PER_UT: u128 = 432_000_000_000;

/// floor(ops * kappa * 10^6 / (4.32e11 * 2^32)) micro-ut; exact for every `ops`.
#[must_use]
pub const fn credit_micro_ut(ops: u64, kappa_q32: u64) -> u128 {
    // 10^6 / 4.32e11 = 1 / 432,000 exactly, which keeps the product within u128 (64 + 38 bits).
    (ops as u128 * kappa_q32 as u128) / ((OPS_PER_UT / 1_000_000) << 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_the_specification() {
        // igemm 4096^3 = 1.3744e11 operations = 0.01988 ut.
        assert_eq!(credit_micro_ut(2 * 4096u64.pow(3), KAPPA_DENSE_Q32), 19_884);
        // GPT-2 on 2.5e9 tokens, 1.86e18 flop = 2.69e5 ut.
        assert_eq!(credit_micro_ut(1_860_000_000_000_000_000, KAPPA_DENSE_Q32) / 1_000_000, 269_097);
        // A gigaflop/s for a day at kappa 1 is 200 ut.
        assert_eq!(credit_micro_ut(86_400_000_000_000, 1 << 32), 200_000_000);
        assert_eq!(credit_micro_ut(u64::MAX, KAPPA_READ_Q32), u128::from(u64::MAX) * 64 / 432_000);
        assert_eq!(credit_micro_ut(0, KAPPA_READ_Q32), 0);
    }
}
