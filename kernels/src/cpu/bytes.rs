//! Exact product of byte matrices, the core of `igemm` and `qmlp`: C[i][j] = sum over q of A[i][q] * B[j][q], both with
//! their rows along q.
//!
//! Bytes are widened to i16 once per use, so that the inner loop is the multiply-add of 16-bit pairs that every x86-64
//! has (pmaddwd: two exact products summed into 32 bits; never the saturating pmaddubsw). The loop is written as a dot
//! product with 16 partial sums, the form the compiler turns into it; tiles of several dot products, which would load
//! less, it does not.
//!
//! Roofline: a core with two loads a cycle starts one multiply-add of 8 pairs a cycle: 16 op, 48 Gop/s at 3 GHz, and
//! twice that with 256-bit vectors. Rows of A come from L2 once for every 4 rows of B: 2 bytes for 8 op, 4 B a cycle.

use std::ops::Range;

use crate::pace::{Pacer, Stopped};

/// Partial sums of a dot product.
const LANES: usize = 16;
/// Rows of B against which a row of A is multiplied while it is in L1.
const TILE: usize = 4;
/// Longest piece of the inner product, a multiple of `LANES`: four widened rows of B are 16 KiB, and stay in L1.
const DEPTH: usize = 2048;
/// Rows of A that a caller should hand in at a time: 64 rows of `DEPTH` widened are 256 KiB, and stay in L2.
pub(super) const ROWS_A: usize = 64;
/// Rows of B, columns of C, likewise: with `ROWS_A` the product is 256 KiB.
pub(super) const COLUMNS: usize = 1024;

/// Room for widened rows and the product, kept between calls.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    a: Vec<i16>,
    b: Vec<i16>,
    c: Vec<i32>,
}

/// The product of `a` and `b` (rows of `k`), a row of it per row of `a`, in the scratch room.
///
/// Sums wrap, but none of the kernels' does: k * 128 * 128 < 2^31.
pub(super) fn multiply<'s>(
    a: &[i8],
    b: &[i8],
    k: usize,
    scratch: &'s mut Scratch,
    pacer: &mut Pacer<'_>,
) -> Result<&'s [i32], Stopped> {
    let (m, n) = (a.len() / k, b.len() / k);
    scratch.c.clear();
    scratch.c.resize(m * n, 0);
    for from in (0..k).step_by(DEPTH) {
        let to = k.min(from + DEPTH);
        let stride = (to - from).next_multiple_of(LANES);
        widen(a, k, from..to, stride, &mut scratch.a);
        for (b, column) in b.chunks(TILE * k).zip((0..).step_by(TILE)) {
            widen(b, k, from..to, stride, &mut scratch.b);
            for (a, row) in scratch.a.chunks_exact(stride).zip(scratch.c.chunks_exact_mut(n)) {
                for (b, value) in scratch.b.chunks_exact(stride).zip(&mut row[column..]) {
                    *value = value.wrapping_add(dot(a, b));
                }
            }
            pacer.work((2 * m * TILE * stride) as u64)?;
        }
    }
    Ok(&scratch.c)
}

/// The columns of every row as i16, with zeros up to `stride`.
fn widen(rows: &[i8], k: usize, columns: Range<usize>, stride: usize, out: &mut Vec<i16>) {
    out.clear();
    out.resize(rows.len() / k * stride, 0);
    for (row, out) in rows.chunks_exact(k).zip(out.chunks_exact_mut(stride)) {
        for (wide, &byte) in out.iter_mut().zip(&row[columns.clone()]) {
            *wide = i16::from(byte);
        }
    }
}

/// Dot product of rows whose length is a multiple of `LANES`.
fn dot(a: &[i16], b: &[i16]) -> i32 {
    let mut sums = [0i32; LANES];
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            sums[lane] = sums[lane].wrapping_add(i32::from(a[lane]).wrapping_mul(i32::from(b[lane])));
        }
    }
    sums.iter().fold(0, |sum, &lane| sum.wrapping_add(lane))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pace::Unpaced;

    fn product(a: &[i8], b: &[i8], k: usize) -> Vec<i32> {
        let mut scratch = Scratch::default();
        multiply(a, b, k, &mut scratch, &mut Pacer::new(&mut Unpaced)).unwrap().to_vec()
    }

    #[test]
    fn the_extremes_fit_at_the_longest_inner_product() {
        let k = matrixai_protocol::drilling::IGEMM_K_MAX as usize;
        assert_eq!(product(&vec![-128; 3 * k], &vec![-128; 2 * k], k), [16_384 * 131_071; 6]);
        assert_eq!(product(&vec![-128; k], &vec![127; 5 * k], k), [-16_256 * 131_071; 5]);
    }

    #[test]
    fn any_shape_is_the_plain_sum() {
        let value = |i: usize| (i.wrapping_mul(2_654_435_761) >> 7) as i8;
        for (m, n, k) in
            [(1, 1, 1), (2, 4, 16), (3, 5, 17), (65, 9, 31), (2, 3, DEPTH), (3, 6, DEPTH + 1), (1, 2, 5000)]
        {
            let a: Vec<i8> = (0..m * k).map(value).collect();
            let b: Vec<i8> = (0..n * k).map(|i| value(i + 99)).collect();
            let plain = |i: usize, j: usize| (0..k).map(|q| i32::from(a[i * k + q]) * i32::from(b[j * k + q])).sum();
            let expect: Vec<i32> = (0..m * n).map(|at| plain(at / n, at % n)).collect();
            assert_eq!(product(&a, &b, k), expect, "{m} {n} {k}");
        }
    }
}
