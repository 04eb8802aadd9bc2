//! K2 `fgemm`: f32 matrix product with a prescribed order of rounding (§1.5). Parameters m, n, k, T, fma.
//!
//! A_t[m][k] = fill(0, t) and B_t[k][n] = fill(1, t) as floats in [-0.5, 0.5); unlike igemm's, B is not stored
//! transposed. Each output starts at +0 and takes its products with q ascending: acc = RN(acc + RN(a * b)), or acc =
//! fma(a, b, acc) if fma is 1; row t*m+i. Every output is a chain of its own: vectors run over j, and blocks over q
//! store a chain's f32 and load it again, so no bit changes.
//!
//! The micro-tile is 4 x 8 chains: with 128-bit vectors 8 registers of sums, 2 of B and broadcasts of A, so that each q
//! reads 12 floats for 64 flop. Roofline: where a core has two multipliers and two adders of 4 lanes (Zen) 16 flop a
//! cycle, where they share two ports (Intel) 8: 48 or 24 Gflop/s at 3 GHz. Without FMA instructions compiled in, fma =
//! 1 calls the exact `fmaf` for each product: the answer is the same, the speed is not.

use crate::digest;
use crate::fill::{PIECE, Tensor};
use crate::pace::{OPS_PER_DIGESTED_VALUE, OPS_PER_FILLED_BYTE, OPS_PER_MUL_ADD, Pacer, Stopped};

/// Rows and columns of a micro-tile.
const TILE_M: usize = 4;
const TILE_N: usize = 8;
/// Piece of q: 8 columns of B are 16 KiB and stay in L1.
const DEPTH: usize = 512;
/// Rows of A at a time: 64 rows of `DEPTH` are 128 KiB and stay in L2.
const ROWS: usize = 64;
/// Columns at a time: with `ROWS` the product is 256 KiB. A multiple of `TILE_N`.
const COLUMNS: usize = 1024;

pub(super) fn rows<const FMA: bool>(
    key: [u32; 2],
    (m, n, k): (usize, usize, usize),
    times: u32,
    pacer: &mut Pacer<'_>,
) -> Result<Vec<u64>, Stopped> {
    let mut digests = Vec::new();
    let (mut a, mut b, mut c) = (Vec::new(), Vec::new(), Vec::new());
    for t in 0..times {
        pack_columns(Tensor::new(key, 1, t), n, k, &mut b, pacer)?;
        for first in (0..m).step_by(ROWS) {
            let count = ROWS.min(m - first);
            pack_rows(Tensor::new(key, 0, t), first, count, k, &mut a, pacer)?;
            let row = u64::from(t) * m as u64 + first as u64;
            let begin = digests.len();
            digests.resize(begin + count, 0u64);
            for (b, column) in b.chunks(COLUMNS * k).zip((0..).step_by(COLUMNS)) {
                let width = multiply::<FMA>(&a, b, k, &mut c, pacer)?;
                let columns = width.min(n - column);
                for ((digest, values), row) in digests[begin..].iter_mut().zip(c.chunks_exact(width)).zip(row..) {
                    *digest = digest.wrapping_add(digest::of_floats(row, column as u64, &values[..columns]));
                    pacer.work(columns as u64 * OPS_PER_DIGESTED_VALUE)?;
                }
            }
        }
    }
    Ok(digests)
}

/// All of B[k][n] as tiles of columns: the columns of a tile at q = 0, then at q = 1, and so on. Missing columns of the
/// last tile stay zeros, whose results nobody looks at.
fn pack_columns(tensor: Tensor, n: usize, k: usize, out: &mut Vec<f32>, pacer: &mut Pacer<'_>) -> Result<(), Stopped> {
    out.resize(n.next_multiple_of(TILE_N) * k, 0.0);
    let mut piece = [0.0; PIECE];
    for q in 0..k {
        for from in (0..n).step_by(PIECE) {
            let piece = &mut piece[..PIECE.min(n - from)];
            tensor.floats((q * n + from) as u64, piece);
            for (columns, tile) in piece.chunks(TILE_N).zip(out[from * k..].chunks_exact_mut(TILE_N * k)) {
                tile[q * TILE_N..][..columns.len()].copy_from_slice(columns);
            }
            pacer.work(4 * piece.len() as u64 * OPS_PER_FILLED_BYTE)?;
        }
    }
    Ok(())
}

/// Rows `first..first + count` of A[m][k] as tiles of rows, likewise.
fn pack_rows(
    tensor: Tensor,
    first: usize,
    count: usize,
    k: usize,
    out: &mut Vec<f32>,
    pacer: &mut Pacer<'_>,
) -> Result<(), Stopped> {
    out.resize(count.next_multiple_of(TILE_M) * k, 0.0);
    let mut piece = [0.0; PIECE];
    for (row, lane) in (0..count).zip((0..TILE_M).cycle()) {
        let tile = &mut out[(row - lane) * k..][..TILE_M * k];
        for from in (0..k).step_by(PIECE) {
            let piece = &mut piece[..PIECE.min(k - from)];
            tensor.floats(((first + row) * k + from) as u64, piece);
            for (slot, &value) in tile[from * TILE_M..].chunks_exact_mut(TILE_M).zip(piece.iter()) {
                slot[lane] = value;
            }
            pacer.work(4 * piece.len() as u64 * OPS_PER_FILLED_BYTE)?;
        }
    }
    Ok(())
}

/// The product of packed `a` and `b`, row after row, into `c`; returns the length of its rows. Both sides of `c` are
/// rounded up to whole tiles.
fn multiply<const FMA: bool>(
    a: &[f32],
    b: &[f32],
    k: usize,
    c: &mut Vec<f32>,
    pacer: &mut Pacer<'_>,
) -> Result<usize, Stopped> {
    let (m, n) = (a.len() / k, b.len() / k);
    c.clear();
    c.resize(m * n, 0.0);
    for from in (0..k).step_by(DEPTH) {
        let depth = DEPTH.min(k - from);
        for (b, column) in b.chunks_exact(TILE_N * k).zip((0..).step_by(TILE_N)) {
            let b = &b[from * TILE_N..][..depth * TILE_N];
            for (a, c) in a.chunks_exact(TILE_M * k).zip(c.chunks_exact_mut(TILE_M * n)) {
                let a = &a[from * TILE_M..][..depth * TILE_M];
                let mut tile = [[0.0; TILE_N]; TILE_M];
                for (chains, row) in tile.iter_mut().zip(c.chunks_exact(n)) {
                    chains.copy_from_slice(&row[column..column + TILE_N]);
                }
                let tile = micro::<FMA>(a, b, tile);
                for (chains, row) in tile.iter().zip(c.chunks_exact_mut(n)) {
                    row[column..column + TILE_N].copy_from_slice(chains);
                }
            }
            pacer.work((m * TILE_N * depth) as u64 * if FMA { OPS_PER_MUL_ADD } else { 2 })?;
        }
    }
    Ok(n)
}

/// Carries 4 x 8 chains through the products of packed rows.
#[inline]
fn micro<const FMA: bool>(a: &[f32], b: &[f32], mut chains: [[f32; TILE_N]; TILE_M]) -> [[f32; TILE_N]; TILE_M] {
    for (a, b) in a.chunks_exact(TILE_M).zip(b.chunks_exact(TILE_N)) {
        for (row, &a) in chains.iter_mut().zip(a) {
            for (chain, &b) in row.iter_mut().zip(b) {
                *chain = if FMA { a.mul_add(b, *chain) } else { *chain + a * b };
            }
        }
    }
    chains
}
