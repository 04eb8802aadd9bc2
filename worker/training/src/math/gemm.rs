//! The matrix product of DT32-v1: every output element is one chain `acc = acc + a * b` from +0, k ascending, unfused.
//!
//! A chain is sequential, so the speed comes from many chains at once: 4 rows by 8 columns of outputs stay in registers
//! while k runs through two packed panels. On SSE2 that is 8 accumulators of 4 lanes, 2 of B, 1 broadcast of A and room
//! for the products: all 16 registers. 2·4·8 operations per step of k on 2 multipliers and 2 adders of 4 lanes bound it
//! at 16 operations a cycle; the loads (12 floats a step) and the copies SSE's two-operand form needs share the rest of
//! the issue slots.

use crate::pace::{Meter, Stopped};

/// Rows of a register tile.
const TILE_ROWS: usize = 4;
/// Columns of a register tile: two SSE registers, one AVX register.
const TILE_COLUMNS: usize = 8;

/// A matrix seen through strides, so that a transposed operand needs no copy of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Row-major data, `columns` wide.
    pub(crate) fn new(data: &'a [f32], columns: usize) -> Self {
        Self { data, rows: data.len() / columns, columns, row_stride: columns, column_stride: 1 }
    }

    pub(crate) fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    fn at(&self, row: usize, column: usize) -> f32 {
        self.data[row * self.row_stride + column * self.column_stride]
    }
}

/// Buffers for the packed panels, kept between products.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    a: Vec<[f32; TILE_ROWS]>,
    b: Vec<[f32; TILE_COLUMNS]>,
}

/// `c[m][n] = Σ_k a[m][k] * b[k][n]`, with `c` and `b` row-major and `n` columns each.
pub(crate) fn gemm(
    a: Matrix<'_>,
    b: &[f32],
    n: usize,
    c: &mut [f32],
    scratch: &mut Scratch,
    meter: &mut Meter<'_>,
) -> Result<(), Stopped> {
    let (m, k) = (a.rows, a.columns);
    assert!(b.len() == k * n && c.len() == m * n, "shapes of a product agree");
    pack_a(a, &mut scratch.a);
    for column in (0..n).step_by(TILE_COLUMNS) {
        let width = TILE_COLUMNS.min(n - column);
        pack_b(b, n, column, width, &mut scratch.b);
        for (row, panel) in (0..m).step_by(TILE_ROWS).zip(scratch.a.chunks_exact(k)) {
            let tile = tile(panel, &scratch.b);
            for (i, line) in tile.iter().enumerate().take(m - row) {
                let to = &mut c[(row + i) * n + column..];
                match to.first_chunk_mut() {
                    // Of constant length, so no call to memmove.
                    Some(to) if width == TILE_COLUMNS => *to = *line,
                    _ => to[..width].copy_from_slice(&line[..width]),
                }
            }
        }
        meter.spend(2 * (m * k * TILE_COLUMNS) as u64)?;
    }
    Ok(())
}

/// One register tile. Rows and columns beyond the matrix are zeros in the panels; their sums are never read.
#[inline(always)]
fn tile(a: &[[f32; TILE_ROWS]], b: &[[f32; TILE_COLUMNS]]) -> [[f32; TILE_COLUMNS]; TILE_ROWS] {
    let mut sums = [[0.0f32; TILE_COLUMNS]; TILE_ROWS];
    for (a, b) in a.iter().zip(b) {
        for i in 0..TILE_ROWS {
            for j in 0..TILE_COLUMNS {
                sums[i][j] += a[i] * b[j];
            }
        }
    }
    sums
}

/// A as panels of `TILE_ROWS` rows, each panel k-major.
fn pack_a(a: Matrix<'_>, to: &mut Vec<[f32; TILE_ROWS]>) {
    to.clear();
    for row in (0..a.rows).step_by(TILE_ROWS) {
        let height = TILE_ROWS.min(a.rows - row);
        if height < TILE_ROWS {
            to.extend((0..a.columns).map(|k| {
                let mut line = [0.0; TILE_ROWS];
                for (i, x) in line.iter_mut().enumerate().take(height) {
                    *x = a.at(row + i, k);
                }
                line
            }));
        } else if a.row_stride == 1 && a.column_stride == a.rows {
            // A transposed operand: the four rows lie side by side.
            to.extend(a.data.chunks_exact(a.column_stride).map(|column| full(&column[row..])));
        } else {
            let rows = |i: usize| a.data[(row + i) * a.row_stride..].iter().take(a.columns);
            let pairs = rows(0).zip(rows(1)).zip(rows(2).zip(rows(3)));
            to.extend(pairs.map(|((&w, &x), (&y, &z))| [w, x, y, z]));
        }
    }
}

/// `width` columns of B from `column` on, k-major.
fn pack_b(b: &[f32], n: usize, column: usize, width: usize, to: &mut Vec<[f32; TILE_COLUMNS]>) {
    to.clear();
    let rows = b.chunks_exact(n);
    if width == TILE_COLUMNS {
        to.extend(rows.map(|row| full(&row[column..])));
    } else {
        to.extend(rows.map(|row| {
            let mut line = [0.0; TILE_COLUMNS];
            line[..width].copy_from_slice(&row[column..]);
            line
        }));
    }
}

/// The first `N` numbers.
#[inline(always)]
fn full<const N: usize>(numbers: &[f32]) -> [f32; N] {
    *numbers.first_chunk().expect("a full tile lies inside the matrix")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut x = seed;
        (0..count)
            .map(|_| {
                x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (x >> 8) as f32 / 16_777_216.0 - 0.5
            })
            .collect()
    }

    fn product(a: Matrix<'_>, b: &[f32], n: usize) -> Vec<f32> {
        let mut c = vec![f32::NAN; a.rows * n];
        let mut free = || Ok(());
        let done = gemm(a, b, n, &mut c, &mut Scratch::default(), &mut Meter::new(&mut free));
        assert_eq!(done, Ok(()));
        c
    }

    /// The definition itself, one chain at a time.
    fn chains(a: Matrix<'_>, b: &[f32], n: usize) -> Vec<u32> {
        let mut c = Vec::new();
        for row in 0..a.rows {
            for column in 0..n {
                let mut acc = 0.0f32;
                for k in 0..a.columns {
                    acc += a.at(row, k) * b[k * n + column];
                }
                c.push(acc.to_bits());
            }
        }
        c
    }

    #[test]
    fn tiles_equal_single_chains_in_every_shape() {
        for m in [1, 3, 4, 5, 16] {
            for n in [1, 7, 8, 10, 33] {
                for k in [1, 2, 64, 129] {
                    let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
                    let a = Matrix::new(&a, k);
                    let got: Vec<u32> = product(a, &b, n).iter().map(|x| x.to_bits()).collect();
                    assert_eq!(got, chains(a, &b, n), "{m} x {k} x {n}");
                }
            }
        }
    }

    #[test]
    fn a_transposed_operand_is_the_same_matrix() {
        let (rows, columns, n) = (13, 22, 9);
        let (data, b) = (numbers(rows * columns, 3), numbers(rows * n, 4));
        let seen = Matrix::new(&data, columns).transposed();
        let got: Vec<u32> = product(seen, &b, n).iter().map(|x| x.to_bits()).collect();
        assert_eq!(got, chains(seen, &b, n));
    }

    #[test]
    fn a_product_is_not_fused() {
        // a*a = 1 + 2^-11 + 2^-24 rounds to 1 + 2^-11, so the unfused sum is 0; a fused one would keep 2^-24.
        let a = 1.0 + 2f32.powi(-12);
        let got = product(Matrix::new(&[1.0 + 2f32.powi(-11), a], 2), &[-1.0, a], 1);
        assert_eq!(got[0].to_bits(), 0);
    }
}
