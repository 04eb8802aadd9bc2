//! K4 `qmlp`: inference of a quantised multi-layer perceptron (§1.5). Parameters b samples, d width, D layers, s shift.
//!
//! X[b][d] = fill(0, 0). Layer l: W[d][d] = fill(2, l), acc[i][o] = sum of X[i][q] * W[o][q] in i32, rounded off by s
//! bits, clamped to [-127, 127], and negative values divided by four (rounding down). Digest over the last layer; row =
//! sample.
//!
//! Roofline of a core: the product's (see `bytes`), but every layer's weights are new: d*d bytes at about 1 ns each for
//! 2bd*d operations, so that making them weighs 3% at 256 samples and a third at 16.

use super::bytes::{COLUMNS, ROWS_A, Scratch, multiply};
use crate::digest;
use crate::fill::Tensor;
use crate::pace::{OPS_PER_DIGESTED_VALUE, Pacer, Stopped};

pub(super) fn rows(
    key: [u32; 2],
    (batch, width): (usize, usize),
    depth: u32,
    shift: u32,
    pacer: &mut Pacer<'_>,
) -> Result<Vec<u64>, Stopped> {
    let mut x = vec![0i8; batch * width];
    let mut y = vec![0i8; batch * width];
    let mut weights = vec![0i8; width * width];
    let mut scratch = Scratch::default();
    Tensor::new(key, 0, 0).bytes_paced(0, &mut x, pacer)?;
    for layer in 0..depth {
        Tensor::new(key, 2, layer).bytes_paced(0, &mut weights, pacer)?;
        for (x, y) in x.chunks(ROWS_A * width).zip(y.chunks_mut(ROWS_A * width)) {
            for (w, column) in weights.chunks(COLUMNS * width).zip((0..).step_by(COLUMNS)) {
                let columns = w.len() / width;
                let c = multiply(x, w, width, &mut scratch, pacer)?;
                for (sums, row) in c.chunks_exact(columns).zip(y.chunks_exact_mut(width)) {
                    for (value, &sum) in row[column..column + columns].iter_mut().zip(sums) {
                        *value = activate(sum, shift);
                    }
                }
            }
        }
        std::mem::swap(&mut x, &mut y);
    }
    let mut digests = Vec::with_capacity(batch);
    for (row, values) in (0u64..).zip(x.chunks_exact(width)) {
        digests.push(digest::of_bytes(row, 0, values));
        pacer.work(values.len() as u64 * OPS_PER_DIGESTED_VALUE)?;
    }
    Ok(digests)
}

/// Requantisation and leaky ReLU. `sum` plus the rounding term stays within i32 for widths and shifts in range.
#[inline]
pub(crate) fn activate(sum: i32, shift: u32) -> i8 {
    let value = (sum.wrapping_add(1 << (shift - 1)) >> shift).clamp(-127, 127);
    (if value < 0 { value >> 2 } else { value }) as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activation_rounds_clamps_and_leaks() {
        let check = |sum, expect| assert_eq!(activate(sum, 8), expect, "{sum}");
        check(0, 0);
        check(127, 0);
        check(128, 1);
        check(-128, 0);
        check(-129, -1); // -1 >> 2
        check(-256 * 4, -1);
        check(-256 * 5, -2); // rounds down
        check(i32::MIN, -32); // -127 >> 2
        check(1 << 30, 127);
    }
}
