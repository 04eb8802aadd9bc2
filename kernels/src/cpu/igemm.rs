//! K1 `igemm`: exact int8 matrix product, the primitive of inference (§1.5). Parameters m, n, k, T.
//!
//! For t < T: A_t[m][k] = fill(0, t), Bt_t[n][k] = fill(1, t), C_t[i][j] = sum of A[i][q] * B[j][q] in i32; row t*m+i.
//!
//! Roofline of a core: see `bytes`; 2mnk operations on (m + n)k bytes are compute bound from n = 64 on. Inputs cost
//! about 1 ns a byte once per product, digests about 2 ns an element: together 3% at n = 1024.

use super::bytes::{COLUMNS, ROWS_A, Scratch, multiply};
use crate::digest;
use crate::fill::Tensor;
use crate::pace::{OPS_PER_DIGESTED_VALUE, Pacer, Stopped};

pub(super) fn rows(
    key: [u32; 2],
    (m, n, k): (usize, usize, usize),
    times: u32,
    pacer: &mut Pacer<'_>,
) -> Result<Vec<u64>, Stopped> {
    let mut digests = Vec::new();
    let mut scratch = Scratch::default();
    let (mut a, mut b) = (vec![0; ROWS_A.min(m) * k], vec![0; n * k]);
    for t in 0..times {
        Tensor::new(key, 1, t).bytes_paced(0, &mut b, pacer)?;
        // A is made block by block: never more of it than is being multiplied.
        for first in (0..m).step_by(ROWS_A) {
            let a = &mut a[..ROWS_A.min(m - first) * k];
            Tensor::new(key, 0, t).bytes_paced((first * k) as u64, a, pacer)?;
            let row = u64::from(t) * m as u64 + first as u64;
            digests.extend(block(row, a, &b, k, &mut scratch, pacer)?);
        }
    }
    Ok(digests)
}

/// Digests of the rows of A times all of B; the first is number `row`.
fn block(
    row: u64,
    a: &[i8],
    b: &[i8],
    k: usize,
    scratch: &mut Scratch,
    pacer: &mut Pacer<'_>,
) -> Result<Vec<u64>, Stopped> {
    let mut digests = vec![0u64; a.len() / k];
    for (b, column) in b.chunks(COLUMNS * k).zip((0u64..).step_by(COLUMNS)) {
        let c = multiply(a, b, k, scratch, pacer)?;
        for ((digest, values), row) in digests.iter_mut().zip(c.chunks_exact(b.len() / k)).zip(row..) {
            *digest = digest.wrapping_add(digest::of_ints(row, column, values));
            pacer.work(values.len() as u64 * OPS_PER_DIGESTED_VALUE)?;
        }
    }
    Ok(digests)
}
