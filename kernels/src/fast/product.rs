//! Packing and the blocked product that `igemm`, `fgemm` and `qmlp` share.
//!
//! Blocks are those of GotoBLAS (Goto, van de Geijn 2008): a piece of one panel of B (`DEPTH` words of 16 columns, 16
//! KiB) stays in L1 while all panels of a block of A (`BLOCK_ROWS` rows, 192 KiB at 1024 bytes or 512 floats) go past it
//! from L2; their product, `GROUP_COLUMNS` wide, is 96 KiB. A block of A, its product and its digests are one thread's
//! from beginning to end; packed B is everybody's.

use std::marker::PhantomData;

use super::isa::{Arithmetic, Isa, Strip};
use super::team::Team;
use crate::fill::{Tensor, to_float};
use crate::pace::{Pacer, Stopped};

/// Words of the inner product at a time.
const DEPTH: usize = 256;
/// Most rows of A at a time.
const BLOCK_ROWS: usize = 96;
/// Columns of the product at a time, about.
const GROUP_COLUMNS: usize = 256;
/// Words of packed B that several small products may have at a time: 8 MiB, and 1 MiB more for every thread.
const BATCH_WORDS: usize = 2 << 20;
const BATCH_WORDS_PER_THREAD: usize = 1 << 18;

/// What one unit of other work weighs against one operation of a product.
pub(super) const OPS_PER_FILLED_BYTE: u64 = 40;
pub(super) const OPS_PER_DIGESTED_VALUE: u64 = 120;

/// How the operands of products of one shape lie in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout<I> {
    arithmetic: Arithmetic,
    /// Bytes or floats of the inner product.
    k: usize,
    /// Packed words of it.
    words: usize,
    isa: PhantomData<I>,
}

impl<I: Isa> Layout<I> {
    pub(super) fn new(arithmetic: Arithmetic, k: usize) -> Self {
        let words = match arithmetic {
            Arithmetic::Bytes => k.div_ceil(I::WORD_BYTES),
            Arithmetic::Rounded | Arithmetic::Fused => k,
        };
        Self { arithmetic, k, words, isa: PhantomData }
    }

    /// Words of a panel of A.
    fn a_panel(&self) -> usize {
        self.words * I::ROWS
    }

    /// Words of a panel of B: one row of words more, where its columns' sums start.
    pub(super) fn b_panel(&self) -> usize {
        (self.words + 1) * I::COLUMNS
    }

    /// Words of A packed from that many rows.
    pub(super) fn a_words(&self, rows: usize) -> usize {
        rows.div_ceil(I::ROWS) * self.a_panel()
    }

    /// Words of B packed from that many columns.
    pub(super) fn b_words(&self, columns: usize) -> usize {
        columns.div_ceil(I::COLUMNS) * self.b_panel()
    }

    /// Rows of A that make one item, so that every thread gets several.
    pub(super) fn block_rows(rows: usize, threads: usize) -> usize {
        let share = if threads == 1 { rows } else { rows.div_ceil(4 * threads) };
        share.next_multiple_of(I::ROWS).min(BLOCK_ROWS)
    }

    /// Packs rows of bytes, each `k` long, as panels of A. Rows that the last panel lacks are zeros.
    pub(super) fn pack_a_bytes(&self, rows: &[i8], out: &mut Vec<u32>) {
        out.resize(self.a_words(rows.len() / self.k), 0);
        let offset = if I::OFFSET { i8::MIN } else { 0 };
        for (rows, panel) in rows.chunks(I::ROWS * self.k).zip(out.chunks_exact_mut(self.a_panel())) {
            pack_bytes::<I>(rows, self.k, offset, I::ROWS, panel);
        }
    }

    /// Packs at most a panel's worth of rows of bytes as one of B, whose columns they are.
    pub(super) fn pack_b_bytes(&self, rows: &[i8], panel: &mut [u32]) {
        let (starts, panel) = panel.split_at_mut(I::COLUMNS);
        starts.fill(0);
        if I::OFFSET {
            for (start, row) in starts.iter_mut().zip(rows.chunks_exact(self.k)) {
                let sum = row.iter().fold(0i32, |sum, &byte| sum.wrapping_add(i32::from(byte)));
                *start = sum.wrapping_mul(i32::from(i8::MIN)) as u32;
            }
        }
        pack_bytes::<I>(rows, self.k, 0, I::COLUMNS, panel);
    }

    /// Packs rows of floats, each `k` long, as panels of A.
    pub(super) fn pack_a_floats(&self, rows: &[u32], out: &mut Vec<u32>) {
        out.resize(self.a_words(rows.len() / self.k), 0);
        for (rows, panel) in rows.chunks(I::ROWS * self.k).zip(out.chunks_exact_mut(self.a_panel())) {
            for (lane, row) in rows.chunks_exact(self.k).enumerate() {
                for (slot, word) in panel.iter_mut().skip(lane).step_by(I::ROWS).zip(row) {
                    *slot = *word;
                }
            }
        }
    }

    /// The product of packed A with all columns of packed B, a group of columns at a time: `done` gets the rows of the
    /// group (its first column, how many there are, and every row of the product, as wide as the stride that it gets).
    pub(super) fn multiply(
        &self,
        isa: I,
        (a, rows): (&[u32], usize),
        (b, columns): (&[u32], usize),
        c: &mut Vec<u32>,
        pacer: &mut Pacer<'_>,
        mut done: impl FnMut(Group<'_>, &mut Pacer<'_>) -> Result<(), Stopped>,
    ) -> Result<(), Stopped> {
        let panels = (GROUP_COLUMNS / I::COLUMNS).max(1);
        let group_columns = panels * I::COLUMNS;
        for (b, column) in b.chunks(panels * self.b_panel()).zip((0..columns).step_by(group_columns)) {
            let stride = b.len() / self.b_panel() * I::COLUMNS;
            c.resize(rows.next_multiple_of(I::ROWS) * stride, 0);
            for row in c.chunks_exact_mut(stride) {
                for (starts, panel) in row.chunks_exact_mut(I::COLUMNS).zip(b.chunks_exact(self.b_panel())) {
                    starts.copy_from_slice(&panel[..I::COLUMNS]);
                }
            }
            for from in (0..self.words).step_by(DEPTH) {
                let depth = DEPTH.min(self.words - from);
                for (panel, at) in b.chunks_exact(self.b_panel()).zip((0..).step_by(I::COLUMNS)) {
                    let b = &panel[(from + 1) * I::COLUMNS..][..depth * I::COLUMNS];
                    let strip = Strip { a, pitch: self.a_panel(), from, b, stride, column: at };
                    isa.multiply(self.arithmetic, &strip, c);
                    pacer.work(2 * (rows * depth * I::COLUMNS * self.values_per_word()) as u64)?;
                }
            }
            done(Group { column, columns: stride.min(columns - column), stride, values: c }, pacer)?;
        }
        Ok(())
    }

    /// The digests of the rows of several products of one shape, `rows` by `columns`, from their packed B, the first of which
    /// has number `first`: blocks of A are made by `make_a` (product, first row, rows, room, packed), multiplied and digested.
    pub(super) fn digest_products<R>(
        &self,
        isa: I,
        (rows, columns): (usize, usize),
        (first, b): (u32, &[u32]),
        digests: &mut [u64],
        team: &mut Team<'_>,
        make_a: impl Fn(u32, usize, usize, &mut Vec<R>, &mut Vec<u32>, &mut Pacer<'_>) -> Result<(), Stopped> + Sync,
    ) -> Result<(), Stopped> {
        let height = Self::block_rows(digests.len(), team.threads());
        let products = digests.chunks_mut(rows).zip(b.chunks(self.b_words(columns))).zip(first..);
        let blocks = products.flat_map(|((digests, b), product)| {
            digests
                .chunks_mut(height)
                .zip((0..rows).step_by(height))
                .map(move |(digests, at)| (product, at, b, digests))
        });
        let room = || (Vec::new(), Vec::new(), Vec::new());
        team.each(blocks, room, |(unpacked, a, c), (product, at, b, digests), pacer| {
            make_a(product, at, digests.len(), unpacked, a, pacer)?;
            let row = u64::from(product) * rows as u64 + at as u64;
            self.multiply(isa, (a, digests.len()), (b, columns), c, pacer, |group, pacer| {
                group.digest(isa, row, digests, pacer)
            })
        })
    }

    fn values_per_word(&self) -> usize {
        if self.arithmetic == Arithmetic::Bytes { I::WORD_BYTES } else { 1 }
    }
}

/// How many products are worked on between two meetings of the threads, given the words of packed B of one.
pub(super) fn products_at_once(b_words: usize, threads: usize) -> usize {
    ((BATCH_WORDS + threads * BATCH_WORDS_PER_THREAD) / b_words).max(1)
}

/// Some columns of a product.
pub(super) struct Group<'a> {
    /// The first of them.
    pub(super) column: usize,
    columns: usize,
    stride: usize,
    values: &'a [u32],
}

impl Group<'_> {
    /// The values of each row; of rows that only fill up the last panel too.
    pub(super) fn rows(&self) -> impl Iterator<Item = &[u32]> {
        self.values.chunks_exact(self.stride).map(|row| &row[..self.columns])
    }

    /// Adds the group's part to the digests of its rows, the first of which is number `row`.
    fn digest<I: Isa>(&self, isa: I, row: u64, digests: &mut [u64], pacer: &mut Pacer<'_>) -> Result<(), Stopped> {
        for ((digest, values), row) in digests.iter_mut().zip(self.rows()).zip(row..) {
            *digest = digest.wrapping_add(isa.row_digest(row, self.column as u64, values));
        }
        pacer.work((digests.len() * self.columns) as u64 * OPS_PER_DIGESTED_VALUE)
    }
}

/// Words of the rows side by side, `height` of them; a word that a row lacks bytes for is filled up with zeros.
fn pack_bytes<I: Isa>(rows: &[i8], k: usize, offset: i8, height: usize, panel: &mut [u32]) {
    for (lane, row) in rows.chunks_exact(k).enumerate() {
        let slots = panel.iter_mut().skip(lane).step_by(height);
        for (slot, bytes) in slots.zip(row.chunks(I::WORD_BYTES)) {
            let byte = |at: usize| bytes.get(at).map_or(0, |byte| byte ^ offset);
            *slot = if I::WORD_BYTES == 2 {
                u32::from(i16::from(byte(0)) as u16) | u32::from(i16::from(byte(1)) as u16) << 16
            } else {
                u32::from_le_bytes([0, 1, 2, 3].map(|at| byte(at) as u8))
            };
        }
    }
}

/// Bytes of a tensor from element `first` on, counted as work.
pub(super) fn fill_bytes<I: Isa>(
    isa: I,
    tensor: &Tensor,
    first: u64,
    out: &mut [i8],
    pacer: &mut Pacer<'_>,
) -> Result<(), Stopped> {
    tensor.bytes_by(first, out, |number, blocks| isa.fill_bytes(tensor, number, blocks));
    pacer.work(out.len() as u64 * OPS_PER_FILLED_BYTE)
}

/// Floats of a tensor, by their bits, from element `first` on.
pub(super) fn fill_floats<I: Isa>(
    isa: I,
    tensor: &Tensor,
    first: u64,
    out: &mut [u32],
    pacer: &mut Pacer<'_>,
) -> Result<(), Stopped> {
    let bits = |word| to_float(word).to_bits();
    tensor.words_by(first, out, bits, |number, blocks| isa.fill_floats(tensor, number, blocks));
    pacer.work(4 * out.len() as u64 * OPS_PER_FILLED_BYTE)
}
