//! Philox4x32-10: the one source of pseudo-random numbers (§1.3). It is counter based, so any block can be made without
//! the ones before it: tasks split, rows are recomputed alone, and a GPU fills tensors in parallel with the same bits.
//!
//! `Draw` turns it into a stream for drawing lots: machines, segments, orders of rows.

use crate::Hash;

const ROUNDS: u32 = 10;
const MULTIPLIER_A: u32 = 0xD251_1F53;
const MULTIPLIER_B: u32 = 0xCD9E_8D57;
const WEYL_0: u32 = 0x9E37_79B9;
const WEYL_1: u32 = 0xBB67_AE85;

/// 2^64 divided by the golden ratio, odd: the step of SplitMix64.
pub const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Philox4x32-10 under one key (Salmon et al., SC'11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Philox {
    key: [u32; 2],
}

impl Philox {
    #[must_use]
    pub const fn new(key: [u32; 2]) -> Self {
        Self { key }
    }

    /// Keyed with the first 8 bytes of the hash, as two little-endian words.
    #[must_use]
    pub fn from_hash(hash: &Hash) -> Self {
        Self::new(key_of(hash))
    }

    /// The block of one counter.
    #[inline]
    #[must_use]
    pub const fn block(&self, ctr: [u32; 4]) -> [u32; 4] {
        let [mut c0, mut c1, mut c2, mut c3] = ctr;
        let [mut k0, mut k1] = self.key;
        let mut round = 0;
        while round < ROUNDS {
            let a = MULTIPLIER_A as u64 * c0 as u64;
            let b = MULTIPLIER_B as u64 * c2 as u64;
            (c0, c1, c2, c3) = ((b >> 32) as u32 ^ c1 ^ k0, b as u32, (a >> 32) as u32 ^ c3 ^ k1, a as u32);
            k0 = k0.wrapping_add(WEYL_0);
            k1 = k1.wrapping_add(WEYL_1);
            round += 1;
        }
        [c0, c1, c2, c3]
    }
}

/// The first 8 bytes of a hash as a Philox key.
#[must_use]
pub fn key_of(hash: &Hash) -> [u32; 2] {
    let word = |at: usize| u32::from_le_bytes([hash[at], hash[at + 1], hash[at + 2], hash[at + 3]]);
    [word(0), word(4)]
}

/// The finaliser of SplitMix64 (§1.3): a bijection of u64 in which every input bit reaches every output bit.
#[inline]
#[must_use]
pub const fn mix64(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A stream of draws: blocks of Philox with counters (n_lo, n_hi, stream, 0), n = 0, 1, …, word after word.
#[derive(Debug, Clone)]
pub struct Draw {
    philox: Philox,
    stream: u32,
    block: u64,
    words: [u32; 4],
    used: usize,
}

impl Draw {
    /// A stream keyed with the first 8 bytes of the hash. Streams of different numbers are independent.
    #[must_use]
    pub fn new(hash: &Hash, stream: u32) -> Self {
        Self { philox: Philox::from_hash(hash), stream, block: 0, words: [0; 4], used: 4 }
    }

    pub fn next_u32(&mut self) -> u32 {
        if self.used == self.words.len() {
            self.words = self.philox.block([self.block as u32, (self.block >> 32) as u32, self.stream, 0]);
            self.block = self.block.wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.words[self.used - 1]
    }

    /// Two words, the low one first.
    pub fn next_u64(&mut self) -> u64 {
        let low = self.next_u32();
        u64::from(self.next_u32()) << 32 | u64::from(low)
    }

    /// Uniform below `n`, by Lemire's multiplication with rejection ("Fast Random Integer Generation in an Interval",
    /// TOMACS 2019), so exactly uniform. 0 for `n` = 0, without a draw.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        // 2^64 mod n: products whose low half falls under it would favour some results.
        let biased = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            if product as u64 >= biased {
                return (product >> 64) as u64;
            }
        }
    }

    /// Fisher–Yates, from the last item down.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }

    /// `count` different numbers below `n` in the order drawn, rejecting repeats; all of them if `count` exceeds `n`.
    /// Meant for `count` well under `n`: drawing nearly all of a large `n` takes about n ln n draws.
    pub fn draw_distinct(&mut self, n: u64, count: usize) -> Vec<u64> {
        let wanted = count.min(usize::try_from(n).unwrap_or(usize::MAX));
        let mut seen = std::collections::BTreeSet::new();
        let mut drawn = Vec::with_capacity(wanted);
        while drawn.len() < wanted {
            let number = self.below(n);
            if seen.insert(number) {
                drawn.push(number);
            }
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_known_answers() {
        // Random123, tests/kat_vectors: philox4x32, 10 rounds.
        let check = |key, ctr, expect| assert_eq!(Philox::new(key).block(ctr), expect);
        check([0; 2], [0; 4], [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        check([u32::MAX; 2], [u32::MAX; 4], [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        check(
            [0xa4093822, 0x299f31d0],
            [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
        );
    }

    #[test]
    fn mix64_known_answers() {
        assert_eq!(mix64(1), 0x5692_161d_100b_05e5);
        let mut state = 1_234_567u64;
        let mut next = || {
            state = state.wrapping_add(GOLDEN);
            mix64(state)
        };
        assert_eq!(
            [next(), next(), next()],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn draws_are_the_blocks_in_order() {
        let hash = crate::sha256(&[b"draw"]);
        let mut draw = Draw::new(&hash, 7);
        let words: Vec<u32> = (0..8).map(|_| draw.next_u32()).collect();
        assert_eq!(words[..4], Philox::from_hash(&hash).block([0, 0, 7, 0]));
        assert_eq!(words[4..], Philox::from_hash(&hash).block([1, 0, 7, 0]));
    }

    #[test]
    fn below_stays_below_and_reaches_all() {
        let mut draw = Draw::new(&[3; 32], 0);
        assert_eq!(draw.below(0), 0);
        assert_eq!(draw.below(1), 0);
        let mut counts = [0u32; 7];
        for _ in 0..7_000 {
            counts[draw.below(7) as usize] += 1;
        }
        assert!(counts.iter().all(|&c| (850..1150).contains(&c)), "{counts:?}");
        // A bound just above 2^63 rejects nearly half of the draws.
        let huge = (1u64 << 63) + 1;
        assert!((0..100).all(|_| draw.below(huge) < huge));
    }

    #[test]
    fn shuffles_and_distinct_draws_are_permutations() {
        let mut items: Vec<u32> = (0..100).collect();
        Draw::new(&[1; 32], 0).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());

        let mut all = Draw::new(&[1; 32], 1).draw_distinct(10, 99);
        assert_eq!(all.len(), 10);
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
        assert_eq!(Draw::new(&[1; 32], 1).draw_distinct(0, 3), Vec::<u64>::new());
    }
}
