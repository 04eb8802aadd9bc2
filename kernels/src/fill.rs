//! Inputs from Philox (§1.3): 16-byte block b of stream s, tensor t is philox(b_lo, b_hi, s, t). Any range can be made
//! alone, so kernels make rows when they need them and a row can be recomputed without the rest.

use matrixai_protocol::philox::Philox;

use crate::pace::{OPS_PER_FILLED_BYTE, Pacer, Stopped};

const BLOCK_BYTES: usize = 16;
const BLOCK_WORDS: usize = 4;
/// Bytes or floats made between two looks at the pace.
pub(crate) const PIECE: usize = 1 << 14;

/// One tensor of one stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tensor {
    philox: Philox,
    stream: u32,
    tensor: u32,
}

impl Tensor {
    pub(crate) fn new(key: [u32; 2], stream: u32, tensor: u32) -> Self {
        Self { philox: Philox::new(key), stream, tensor }
    }

    #[inline]
    fn block(&self, number: u64) -> [u32; BLOCK_WORDS] {
        self.philox.block([number as u32, (number >> 32) as u32, self.stream, self.tensor])
    }

    /// Elements `first..` as signed bytes.
    pub(crate) fn bytes(&self, first: u64, out: &mut [i8]) {
        let (head, body, number) = split(first, out, BLOCK_BYTES);
        if !head.is_empty() {
            let from = (first % BLOCK_BYTES as u64) as usize;
            head.copy_from_slice(&to_bytes(self.block(number - 1))[from..from + head.len()]);
        }
        for (piece, number) in body.chunks_mut(BLOCK_BYTES).zip(number..) {
            piece.copy_from_slice(&to_bytes(self.block(number))[..piece.len()]);
        }
    }

    /// `bytes` in pieces, counted as work.
    pub(crate) fn bytes_paced(&self, first: u64, out: &mut [i8], pacer: &mut Pacer<'_>) -> Result<(), Stopped> {
        for (piece, at) in out.chunks_mut(PIECE).zip((first..).step_by(PIECE)) {
            self.bytes(at, piece);
            pacer.work(piece.len() as u64 * OPS_PER_FILLED_BYTE)?;
        }
        Ok(())
    }

    /// Elements `first..` as floats in [-0.5, 0.5) with full mantissas: bits((x>>9)|0x3f800000) - 1.5 (§1.5).
    pub(crate) fn floats(&self, first: u64, out: &mut [f32]) {
        let (head, body, number) = split(first, out, BLOCK_WORDS);
        if !head.is_empty() {
            let from = (first % BLOCK_WORDS as u64) as usize;
            head.copy_from_slice(&self.block(number - 1).map(to_float)[from..from + head.len()]);
        }
        for (piece, number) in body.chunks_mut(BLOCK_WORDS).zip(number..) {
            piece.copy_from_slice(&self.block(number).map(to_float)[..piece.len()]);
        }
    }
}

/// Cuts `out` where the first whole block begins, and says which block that is.
fn split<T>(first: u64, out: &mut [T], block: usize) -> (&mut [T], &mut [T], u64) {
    let head = (first.next_multiple_of(block as u64) - first) as usize;
    let (head, body) = out.split_at_mut(head.min(out.len()));
    (head, body, first.div_ceil(block as u64))
}

#[inline]
fn to_bytes(block: [u32; BLOCK_WORDS]) -> [i8; BLOCK_BYTES] {
    let mut bytes = [0; BLOCK_BYTES];
    for (four, word) in bytes.chunks_exact_mut(4).zip(block) {
        four.copy_from_slice(&word.to_le_bytes().map(|b| b as i8));
    }
    bytes
}

#[inline]
fn to_float(x: u32) -> f32 {
    f32::from_bits((x >> 9) | 0x3f80_0000) - 1.5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_is_the_same_as_its_part_of_the_whole() {
        let tensor = Tensor::new([1, 2], 3, 4);
        let (mut whole, mut floats) = ([0i8; 200], [0f32; 200]);
        tensor.bytes(0, &mut whole);
        tensor.floats(0, &mut floats);
        for first in 0..40 {
            for length in 0..60 {
                let mut part = vec![0i8; length];
                tensor.bytes(first as u64, &mut part);
                assert_eq!(part, whole[first..first + length], "{first}+{length}");
                let mut part = vec![0f32; length];
                tensor.floats(first as u64, &mut part);
                assert_eq!(part, floats[first..first + length], "{first}+{length}");
            }
        }
    }

    #[test]
    fn block_numbers_use_both_counter_words() {
        let tensor = Tensor::new([1, 2], 3, 4);
        let mut out = [0i8; 16];
        tensor.bytes(16 * ((1 << 32) + 5), &mut out);
        assert_eq!(out, to_bytes(Philox::new([1, 2]).block([5, 1, 3, 4])));
    }

    #[test]
    fn floats_fill_their_interval() {
        assert_eq!((to_float(0), to_float(u32::MAX)), (-0.5, 0.499_999_88));
    }
}
