//! DT32-v1: the arithmetic in which a training's bits don't depend on the machine (PROTOCOLS §2.3).
//!
//! Everything is f32, rounded to nearest even after each single `+ - * /` or square root. Nothing is fused, nothing is
//! flushed to zero, every reduction is one chain in ascending order, and no function comes from a C library. Rust
//! contracts no `a * b + c` and reorders no float, so this plain code *is* the definition; the vectoriser may only
//! put different outputs side by side.

mod gemm;

use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};

pub(crate) use gemm::{Matrix, Scratch, gemm};

/// Adding and subtracting 1.5 · 2^23 rounds an f32 of magnitude below 2^22 to the nearest even integer.
/// `round_ties_even` says the same, but is a call per element on processors without SSE 4.1.
const ROUNDER: f32 = 12_582_912.0;

/// e^x by the fixed polynomial of PROTOCOLS §2.3, at most 0.97 ulp off. `x` is clamped to [-87, 88], where the result
/// is a normal number; NaN stays NaN.
#[inline(always)]
#[must_use]
#[allow(clippy::excessive_precision)] // the constants as published
pub fn detexp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_375;
    const LN2_LOW: f32 = -2.121_944_40e-4;
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let k = (x * LOG2_E + ROUNDER) - ROUNDER;
    let r = (x - k * LN2_HIGH) - k * LN2_LOW;
    let mut y = 1.987_569_15e-4_f32;
    y = y * r + 1.398_199_950_7e-3;
    y = y * r + 8.333_451_907_3e-3;
    y = y * r + 4.166_579_589_4e-2;
    y = y * r + 1.666_666_545_9e-1;
    y = y * r + 5.000_000_120_1e-1;
    y *= r * r;
    y += r;
    y += 1.0;
    y * power_of_two(k)
}

/// 2^k for an integral `k` in [-126, 127], made of exponent bits: exact, as is the product with it.
#[inline(always)]
fn power_of_two(k: f32) -> f32 {
    f32::from_bits((((k as i32) + 127) << 23) as u32)
}

/// Natural logarithm of a normal `x > 0`, about 1 ulp off. The initialisation needs it for the tails of the normal
/// distribution; it is Cephes' `logf` spelled in single operations.
#[must_use]
#[allow(clippy::excessive_precision)] // the constants as published
pub fn detlog(x: f32) -> f32 {
    let bits = x.to_bits();
    // x = m * 2^e with m in [0.5, 1).
    let mut e = ((bits >> 23) & 0xff) as i32 - 126;
    let mut m = f32::from_bits((bits & 0x007f_ffff) | 0x3f00_0000);
    if m < FRAC_1_SQRT_2 {
        e -= 1;
        m += m;
    }
    m -= 1.0;
    let e = e as f32;
    let z = m * m;
    let mut y = 7.037_683_629_2e-2_f32;
    y = y * m - 1.151_461_031_0e-1;
    y = y * m + 1.167_699_874_0e-1;
    y = y * m - 1.242_014_084_6e-1;
    y = y * m + 1.424_932_278_7e-1;
    y = y * m - 1.666_805_766_5e-1;
    y = y * m + 2.000_071_476_5e-1;
    y = y * m - 2.499_999_399_3e-1;
    y = y * m + 3.333_333_117_4e-1;
    y = y * m * z;
    y += -2.121_944_40e-4 * e;
    y += -0.5 * z;
    (m + y) + 0.693_359_375 * e
}

/// Makes a row of logits the softmax probabilities, in place: subtract the largest, [`detexp`], divide by the sum
/// (one chain, ascending).
pub(crate) fn softmax(row: &mut [f32]) {
    let mut top = f32::NEG_INFINITY;
    for &z in row.iter() {
        if z > top {
            top = z;
        }
    }
    for z in row.iter_mut() {
        *z = detexp(*z - top);
    }
    let mut sum = 0.0;
    for &e in row.iter() {
        sum += e;
    }
    for e in row.iter_mut() {
        *e /= sum;
    }
}

/// Index of the largest entry, the first of equals; 0 for a row of NaN.
pub(crate) fn argmax(row: &[f32]) -> usize {
    let mut best = 0;
    for (i, &z) in row.iter().enumerate() {
        if z > row[best] {
            best = i;
        }
    }
    best
}

/// Adds each column of `rows` (row-major, `sums.len()` wide) to `sums`, rows ascending: a chain per column.
pub(crate) fn column_sums(rows: &[f32], sums: &mut [f32]) {
    sums.fill(0.0);
    for row in rows.chunks_exact(sums.len()) {
        for (sum, &x) in sums.iter_mut().zip(row) {
            *sum += x;
        }
    }
}

/// As [`column_sums`], of the squares.
pub(crate) fn column_square_sums(rows: &[f32], sums: &mut [f32]) {
    sums.fill(0.0);
    for row in rows.chunks_exact(sums.len()) {
        for (sum, &x) in sums.iter_mut().zip(row) {
            *sum += x * x;
        }
    }
}

/// A fraction in millionths as f32: one conversion and one division.
pub(crate) fn millionths(value: u32) -> f32 {
    value as f32 / 1_000_000.0
}

/// `to` ([columns][rows]) becomes the transpose of `from` ([rows][columns]).
pub(crate) fn transpose(from: &[f32], columns: usize, to: &mut [f32]) {
    /// Blocks of 16 by 16 keep both sides within a few cache lines.
    const BLOCK: usize = 16;
    let rows = from.len() / columns;
    for row_0 in (0..rows).step_by(BLOCK) {
        let row_1 = rows.min(row_0 + BLOCK);
        for column_0 in (0..columns).step_by(BLOCK) {
            let column_1 = columns.min(column_0 + BLOCK);
            for row in row_0..row_1 {
                let line = &from[row * columns + column_0..row * columns + column_1];
                for (i, &x) in line.iter().enumerate() {
                    to[(column_0 + i) * rows + row] = x;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_meets_its_known_answers() {
        let cases: [(f32, u32); 9] = [
            (0.0, 0x3f80_0000),
            (1.0, 0x402d_f854),
            (-1.0, 0x3ebc_5ab2),
            (0.5, 0x3fd3_094c),
            (-10.0, 0x383e_6bce),
            (20.0, 0x4de7_5844),
            (-87.0, 0x00b3_3687),
            (88.0, 0x7ef8_82b7),
            (std::f32::consts::PI, 0x41b9_2024),
        ];
        for (x, bits) in cases {
            assert_eq!(detexp(x).to_bits(), bits, "exp({x})");
        }
        assert_eq!(detexp(-1e30).to_bits(), 0x00b3_3687);
        assert_eq!(detexp(f32::INFINITY).to_bits(), 0x7ef8_82b7);
        assert!(detexp(f32::NAN).is_nan());
    }

    #[test]
    fn exponential_of_4096_points_has_the_known_digest() {
        let bytes: Vec<u8> = (-2048..2048).flat_map(|i| detexp(i as f32 / 64.0).to_le_bytes()).collect();
        let digest = matrixai_protocol::sha256(&[&bytes]);
        let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "7131a0be657ed16c1dbaf327183985f156e468714e2adbbadb766c8eb418d54c");
    }

    #[test]
    fn logarithm_is_close_to_the_true_one() {
        for i in 1..200_000u32 {
            let x = (i as f32) * (i as f32) * 1e-9 + 1e-10;
            let (got, want) = (f64::from(detlog(x)), f64::from(x).ln());
            assert!((got - want).abs() <= 2e-7 * want.abs().max(0.5), "ln({x}) = {got}, not {want}");
        }
    }

    #[test]
    fn softmax_sums_to_one_and_keeps_order() {
        let mut row = [1.0, 3.0, -200.0, 3.0];
        softmax(&mut row);
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert_eq!(row[1].to_bits(), row[3].to_bits());
        assert!(row[2] > 0.0 && row[2] < 1e-30);
        assert_eq!(argmax(&row), 1, "the first of equals");
        assert_eq!(argmax(&[f32::NAN, f32::NAN]), 0);
    }

    #[test]
    fn transpose_of_an_uneven_shape() {
        let from: Vec<f32> = (0..19 * 37).map(|i| i as f32).collect();
        let mut to = vec![0.0; from.len()];
        transpose(&from, 37, &mut to);
        for row in 0..19 {
            for column in 0..37 {
                assert_eq!(to[column * 19 + row].to_bits(), from[row * 37 + column].to_bits());
            }
        }
    }
}
