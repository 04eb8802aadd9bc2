//! The seam between what all fast paths share and what each processor does in its own instructions.
//!
//! A path is a type that only its `detect` can make, so that having one proves that this processor has the
//! instructions; that is what makes its `unsafe` calls sound, and the rest of the code free of them.
//!
//! Everything packed is in words of 32 bits, whatever it means: an f32, a pair of bytes widened to i16, or four bytes.
//! A panel holds, for a few rows of A or columns of B side by side, their first words, then their second words, and so
//! on; a panel of B begins with one row of words more, where the sums of its columns start.

use crate::fill::Tensor;

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;

/// What a product does with a word of A and a word of B.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    /// Exact sum of the products of their bytes.
    Bytes,
    /// acc = RN(acc + RN(a * b)).
    Rounded,
    /// acc = fma(a, b, acc).
    Fused,
}

/// A part of a product: all panels of A in a row, one of B, some words of both.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strip<'a> {
    /// Panels of A, whole.
    pub(super) a: &'a [u32],
    /// Words from the beginning of one panel of A to the next.
    pub(super) pitch: usize,
    /// Where in each panel of A the part begins, in words.
    pub(super) from: usize,
    /// The part of the panel of B.
    pub(super) b: &'a [u32],
    /// Length of a row of C.
    pub(super) stride: usize,
    /// Column of C at which the panel of B begins.
    pub(super) column: usize,
}

/// The instructions of a path. Row digests, fills and products have the bits of the reference.
pub(super) trait Isa: Copy + Send + Sync + 'static {
    /// Rows of a panel of A.
    const ROWS: usize;
    /// Columns of a panel of B.
    const COLUMNS: usize;
    /// Bytes in a packed word: 2, widened, or 4.
    const WORD_BYTES: usize;
    /// Whether bytes of A are packed plus 128, as the instruction wants one side unsigned. A panel of B then starts
    /// its sums at -128 times the sum of the column.
    const OFFSET: bool;

    /// Blocks `number..` of a tensor as bytes.
    fn fill_bytes(self, tensor: &Tensor, number: u64, out: &mut [[i8; 16]]);

    /// Blocks `number..` of a tensor as floats in [-0.5, 0.5), by their bits.
    fn fill_floats(self, tensor: &Tensor, number: u64, out: &mut [[u32; 4]]);

    /// Part of a row digest from `column` on.
    fn row_digest(self, row: u64, column: u64, values: &[u32]) -> u64;

    /// Adds a strip's products to C, whose rows are as many as those of A's panels.
    fn multiply(self, arithmetic: Arithmetic, strip: &Strip<'_>, c: &mut [u32]);

    /// `steps` times what a product does with one word of A and a panel's row of B for every row of a tile, in
    /// registers alone; returns the operations.
    fn peak(self, arithmetic: Arithmetic, steps: u64) -> u64;
}
