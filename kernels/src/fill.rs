//! Inputs from Philox (§1.3): 16-byte block b of stream s, tensor t is philox(b_lo, b_hi, s, t). Any range can be made
//! alone, so kernels make rows when they need them and a row can be recomputed without the rest.

use matrixai_protocol::philox::Philox;

use crate::pace::{OPS_PER_FILLED_BYTE, Pacer, Stopped};

const BLOCK_BYTES: usize = 16;
const BLOCK_WORDS: usize = 4;
/// Bytes or floats made between two looks at the pace.
pub(crate) const PIECE: usize = 1 << 14;

/// Rounds of Philox and its constants, for those who do several blocks at once.
const ROUNDS: usize = 10;
pub(crate) const MULTIPLIER_A: u32 = 0xD251_1F53;
pub(crate) const MULTIPLIER_B: u32 = 0xCD9E_8D57;
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// One tensor of one stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tensor {
    key: [u32; 2],
    pub(crate) stream: u32,
    pub(crate) tensor: u32,
}

impl Tensor {
    pub(crate) fn new(key: [u32; 2], stream: u32, tensor: u32) -> Self {
        Self { key, stream, tensor }
    }

    /// The key of every round.
    pub(crate) fn round_keys(&self) -> [[u32; 2]; ROUNDS] {
        std::array::from_fn(|round| {
            [0, 1].map(|word| self.key[word].wrapping_add(WEYL[word].wrapping_mul(round as u32)))
        })
    }

    #[inline]
    pub(crate) fn block(&self, number: u64) -> [u32; BLOCK_WORDS] {
        Philox::new(self.key).block([number as u32, (number >> 32) as u32, self.stream, self.tensor])
    }

    /// Elements `first..` as signed bytes.
    pub(crate) fn bytes(&self, first: u64, out: &mut [i8]) {
        self.bytes_by(first, out, |number, blocks| {
            for (block, number) in blocks.iter_mut().zip(number..) {
                *block = to_bytes(self.block(number));
            }
        });
    }

    /// Elements `first..` as signed bytes; `blocks` makes those in the middle, which begin at the number it is given.
    pub(crate) fn bytes_by(&self, first: u64, out: &mut [i8], blocks: impl FnOnce(u64, &mut [[i8; BLOCK_BYTES]])) {
        let (head, body, number) = split(first, out, BLOCK_BYTES);
        if !head.is_empty() {
            let from = (first % BLOCK_BYTES as u64) as usize;
            head.copy_from_slice(&to_bytes(self.block(number - 1))[from..from + head.len()]);
        }
        let (whole, rest) = body.as_chunks_mut::<BLOCK_BYTES>();
        if !rest.is_empty() {
            rest.copy_from_slice(&to_bytes(self.block(number + whole.len() as u64))[..rest.len()]);
        }
        blocks(number, whole);
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
        self.words_by(first, out, to_float, |number, blocks| {
            for (block, number) in blocks.iter_mut().zip(number..) {
                *block = self.block(number).map(to_float);
            }
        });
    }

    /// Elements `first..`, made from words by `convert`; `blocks` makes those in the middle, likewise.
    pub(crate) fn words_by<T: Copy>(
        &self,
        first: u64,
        out: &mut [T],
        convert: impl Fn(u32) -> T,
        blocks: impl FnOnce(u64, &mut [[T; BLOCK_WORDS]]),
    ) {
        let (head, body, number) = split(first, out, BLOCK_WORDS);
        if !head.is_empty() {
            let from = (first % BLOCK_WORDS as u64) as usize;
            head.copy_from_slice(&self.block(number - 1).map(&convert)[from..from + head.len()]);
        }
        let (whole, rest) = body.as_chunks_mut::<BLOCK_WORDS>();
        if !rest.is_empty() {
            rest.copy_from_slice(&self.block(number + whole.len() as u64).map(&convert)[..rest.len()]);
        }
        blocks(number, whole);
    }
}

/// Cuts `out` where the first whole block begins, and says which block that is.
fn split<T>(first: u64, out: &mut [T], block: usize) -> (&mut [T], &mut [T], u64) {
    let head = (first.next_multiple_of(block as u64) - first) as usize;
    let (head, body) = out.split_at_mut(head.min(out.len()));
    (head, body, first.div_ceil(block as u64))
}

#[inline]
pub(crate) fn to_bytes(block: [u32; BLOCK_WORDS]) -> [i8; BLOCK_BYTES] {
    let mut bytes = [0; BLOCK_BYTES];
    for (four, word) in bytes.chunks_exact_mut(4).zip(block) {
        four.copy_from_slice(&word.to_le_bytes().map(|b| b as i8));
    }
    bytes
}

#[inline]
pub(crate) fn to_float(x: u32) -> f32 {
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
    fn round_keys_and_multipliers_are_philoxs() {
        let tensor = Tensor::new([0xa409_3822, u32::MAX], 3, 4);
        let mut words = [5, 0, 3, 4];
        for key in tensor.round_keys() {
            let a = u64::from(MULTIPLIER_A) * u64::from(words[0]);
            let b = u64::from(MULTIPLIER_B) * u64::from(words[2]);
            words = [(b >> 32) as u32 ^ words[1] ^ key[0], b as u32, (a >> 32) as u32 ^ words[3] ^ key[1], a as u32];
        }
        assert_eq!(words, tensor.block(5));
    }

    #[test]
    fn floats_fill_their_interval() {
        assert_eq!((to_float(0), to_float(u32::MAX)), (-0.5, 0.499_999_88));
    }
}
