//! AVX2 with FMA: every x86-64 server since 2013 and 2017.
//!
//! Bytes are widened to i16 when they are packed and multiplied by `vpmaddwd`, two exact products summed into 32 bits.
//! (`vpmaddubsw` would do four at once, but its pairs saturate at 2^15: 255 * 127 * 2 is more.)
//!
//! A tile is 6 rows by 2 vectors: 12 sums, 2 vectors of B, one broadcast of A and one product are the 16 registers. Each
//! step takes 8 loads and 12 multiplications (with 12 additions where not fused): 6 cycles of the two multipliers, 4 of
//! the two load ports.

use std::arch::x86_64::*;

use matrixai_protocol::philox::GOLDEN;

use super::{Arithmetic, Isa, Strip};
use crate::fill::{MULTIPLIER_A, MULTIPLIER_B, Tensor, to_bytes, to_float};

/// Lanes of 32 bits in a vector.
const LANES: usize = 8;
const ROWS: usize = 6;
const VECTORS: usize = 2;
const COLUMNS: usize = LANES * VECTORS;

/// Proof that this processor has AVX2 and FMA.
#[derive(Debug, Clone, Copy)]
pub(in crate::fast) struct Avx2(());

impl Avx2 {
    pub(in crate::fast) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }
}

// SAFETY of every call below: `detect` is the only way to an `Avx2`, and found the features that they are compiled for.
#[allow(unsafe_code)]
impl Isa for Avx2 {
    const ROWS: usize = ROWS;
    const COLUMNS: usize = COLUMNS;
    const WORD_BYTES: usize = 2;
    const OFFSET: bool = false;

    fn fill_bytes(self, tensor: &Tensor, number: u64, out: &mut [[i8; 16]]) {
        // SAFETY: see above.
        unsafe { fill_bytes(tensor, number, out) }
    }

    fn fill_floats(self, tensor: &Tensor, number: u64, out: &mut [[u32; 4]]) {
        // SAFETY: see above.
        unsafe { fill_floats(tensor, number, out) }
    }

    fn row_digest(self, row: u64, column: u64, values: &[u32]) -> u64 {
        // SAFETY: see above.
        unsafe { row_digest(row, column, values) }
    }

    fn multiply(self, arithmetic: Arithmetic, strip: &Strip<'_>, c: &mut [u32]) {
        // SAFETY: see above.
        unsafe {
            match arithmetic {
                Arithmetic::Bytes => multiply_bytes(strip, c),
                Arithmetic::Rounded => multiply_floats::<false>(strip, c),
                Arithmetic::Fused => multiply_floats::<true>(strip, c),
            }
        }
    }

    fn peak(self, arithmetic: Arithmetic, steps: u64) -> u64 {
        // SAFETY: see above.
        unsafe {
            match arithmetic {
                Arithmetic::Bytes => peak_bytes(steps),
                Arithmetic::Rounded => peak_floats::<false>(steps),
                Arithmetic::Fused => peak_floats::<true>(steps),
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
#[allow(unsafe_code)]
fn load(words: &[u32; LANES]) -> __m256i {
    // SAFETY: 32 bytes are there to be read; the load need not be aligned.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
#[allow(unsafe_code)]
fn store(words: &mut [u32; LANES], value: __m256i) {
    // SAFETY: 32 bytes are there to be written; the store need not be aligned.
    unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), value) }
}

/// The words of columns of one row of C.
#[inline]
fn columns(c: &mut [u32], at: usize) -> &mut [[u32; LANES]] {
    c[at..at + COLUMNS].as_chunks_mut::<LANES>().0
}

#[target_feature(enable = "avx2")]
fn multiply_bytes(strip: &Strip<'_>, c: &mut [u32]) {
    let depth = strip.b.len() / COLUMNS;
    for (a, c) in strip.a.chunks_exact(strip.pitch).zip(c.chunks_exact_mut(ROWS * strip.stride)) {
        let a = &a[strip.from * ROWS..][..depth * ROWS];
        let mut sums = [[_mm256_setzero_si256(); VECTORS]; ROWS];
        for (row, sums) in sums.iter_mut().enumerate() {
            for (sum, words) in sums.iter_mut().zip(columns(c, row * strip.stride + strip.column)) {
                *sum = load(words);
            }
        }
        for (a, b) in a.as_chunks::<ROWS>().0.iter().zip(strip.b.as_chunks::<COLUMNS>().0) {
            let b = b.as_chunks::<LANES>().0;
            let b: [__m256i; VECTORS] = [load(&b[0]), load(&b[1])];
            for row in 0..ROWS {
                let a = _mm256_set1_epi32(a[row] as i32);
                for vector in 0..VECTORS {
                    sums[row][vector] = _mm256_add_epi32(sums[row][vector], _mm256_madd_epi16(a, b[vector]));
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (sum, words) in sums.iter().zip(columns(c, row * strip.stride + strip.column)) {
                store(words, *sum);
            }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn multiply_floats<const FMA: bool>(strip: &Strip<'_>, c: &mut [u32]) {
    let depth = strip.b.len() / COLUMNS;
    for (a, c) in strip.a.chunks_exact(strip.pitch).zip(c.chunks_exact_mut(ROWS * strip.stride)) {
        let a = &a[strip.from * ROWS..][..depth * ROWS];
        let mut sums = [[_mm256_setzero_ps(); VECTORS]; ROWS];
        for (row, sums) in sums.iter_mut().enumerate() {
            for (sum, words) in sums.iter_mut().zip(columns(c, row * strip.stride + strip.column)) {
                *sum = _mm256_castsi256_ps(load(words));
            }
        }
        for (a, b) in a.as_chunks::<ROWS>().0.iter().zip(strip.b.as_chunks::<COLUMNS>().0) {
            let b = b.as_chunks::<LANES>().0;
            let b: [__m256; VECTORS] = [_mm256_castsi256_ps(load(&b[0])), _mm256_castsi256_ps(load(&b[1]))];
            for row in 0..ROWS {
                let a = _mm256_set1_ps(f32::from_bits(a[row]));
                for vector in 0..VECTORS {
                    let sum = &mut sums[row][vector];
                    *sum = if FMA {
                        _mm256_fmadd_ps(a, b[vector], *sum)
                    } else {
                        _mm256_add_ps(*sum, _mm256_mul_ps(a, b[vector]))
                    };
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (sum, words) in sums.iter().zip(columns(c, row * strip.stride + strip.column)) {
                store(words, _mm256_castps_si256(*sum));
            }
        }
    }
}

/// Blocks that `philox` makes at once: two vectors of four counters.
const BLOCKS: usize = 8;

/// Ten rounds on blocks `number..number + 8`, in vectors of two blocks each. A lane of 64 bits holds a word in its
/// lower half; what is in the upper half never matters, as the multiplication reads only the lower ones.
#[inline]
#[target_feature(enable = "avx2")]
fn philox(tensor: &Tensor, number: u64) -> [__m256i; BLOCKS / 2] {
    let wide = |x: u32| _mm256_set1_epi64x(i64::from(x));
    let number = |lane: u64| number.wrapping_add(lane) as i64;
    let counters = [
        _mm256_setr_epi64x(number(0), number(1), number(2), number(3)),
        _mm256_setr_epi64x(number(4), number(5), number(6), number(7)),
    ];
    let (by_a, by_b) = (wide(MULTIPLIER_A), wide(MULTIPLIER_B));
    let (stream, index) = (wide(tensor.stream), wide(tensor.tensor));
    let mut state = counters.map(|counter| [counter, _mm256_srli_epi64::<32>(counter), stream, index]);
    for [k0, k1] in tensor.round_keys() {
        let (k0, k1) = (wide(k0), wide(k1));
        for words in &mut state {
            let [c0, c1, c2, c3] = *words;
            let (a, b) = (_mm256_mul_epu32(c0, by_a), _mm256_mul_epu32(c2, by_b));
            *words = [
                _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64::<32>(b), c1), k0),
                b,
                _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64::<32>(a), c3), k1),
                a,
            ];
        }
    }
    let halves = state.map(|[c0, c1, c2, c3]| {
        let low = _mm256_blend_epi32::<0b1010_1010>(c0, _mm256_slli_epi64::<32>(c1));
        let high = _mm256_blend_epi32::<0b1010_1010>(c2, _mm256_slli_epi64::<32>(c3));
        // Blocks 0 and 2, blocks 1 and 3.
        let (even, odd) = (_mm256_unpacklo_epi64(low, high), _mm256_unpackhi_epi64(low, high));
        [_mm256_permute2x128_si256::<0x20>(even, odd), _mm256_permute2x128_si256::<0x31>(even, odd)]
    });
    [halves[0][0], halves[0][1], halves[1][0], halves[1][1]]
}

#[target_feature(enable = "avx2")]
#[allow(unsafe_code)]
fn fill_bytes(tensor: &Tensor, number: u64, out: &mut [[i8; 16]]) {
    let (whole, rest) = out.as_chunks_mut::<BLOCKS>();
    let mut number = number;
    for blocks in whole {
        for (out, pair) in blocks.as_chunks_mut::<2>().0.iter_mut().zip(philox(tensor, number)) {
            // SAFETY: 32 bytes are there to be written; the store need not be aligned.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), pair) }
        }
        number = number.wrapping_add(BLOCKS as u64);
    }
    for (out, number) in rest.iter_mut().zip(number..) {
        *out = to_bytes(tensor.block(number));
    }
}

#[target_feature(enable = "avx2")]
#[allow(unsafe_code)]
fn fill_floats(tensor: &Tensor, number: u64, out: &mut [[u32; 4]]) {
    let (whole, rest) = out.as_chunks_mut::<BLOCKS>();
    let mut number = number;
    for blocks in whole {
        for (out, pair) in blocks.as_chunks_mut::<2>().0.iter_mut().zip(philox(tensor, number)) {
            let mantissas = _mm256_or_si256(_mm256_srli_epi32::<9>(pair), _mm256_set1_epi32(0x3f80_0000));
            let floats = _mm256_sub_ps(_mm256_castsi256_ps(mantissas), _mm256_set1_ps(1.5));
            // SAFETY: 32 bytes are there to be written; the store need not be aligned.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm256_castps_si256(floats)) }
        }
        number = number.wrapping_add(BLOCKS as u64);
    }
    for (out, number) in rest.iter_mut().zip(number..) {
        *out = tensor.block(number).map(|word| to_float(word).to_bits());
    }
}

/// Low halves of products with a constant, from three products of 32 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn times(z: __m256i, constant: u64) -> __m256i {
    let (low, high) = (_mm256_set1_epi64x(constant as i64), _mm256_set1_epi64x((constant >> 32) as i64));
    let cross = _mm256_add_epi64(_mm256_mul_epu32(_mm256_srli_epi64::<32>(z), low), _mm256_mul_epu32(z, high));
    _mm256_add_epi64(_mm256_mul_epu32(z, low), _mm256_slli_epi64::<32>(cross))
}

/// `mix64` of four lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn mix64(z: __m256i) -> __m256i {
    let z = times(_mm256_xor_si256(z, _mm256_srli_epi64::<30>(z)), 0xbf58_476d_1ce4_e5b9);
    let z = times(_mm256_xor_si256(z, _mm256_srli_epi64::<27>(z)), 0x94d0_49bb_1331_11eb);
    _mm256_xor_si256(z, _mm256_srli_epi64::<31>(z))
}

#[target_feature(enable = "avx2")]
fn row_digest(row: u64, column: u64, values: &[u32]) -> u64 {
    let (whole, rest) = values.as_chunks::<LANES>();
    let first = (row << 32 | column).wrapping_mul(GOLDEN);
    let position = |lane: u64| first.wrapping_add(lane.wrapping_mul(GOLDEN)) as i64;
    let mut low = _mm256_setr_epi64x(position(0), position(1), position(2), position(3));
    let mut high = _mm256_setr_epi64x(position(4), position(5), position(6), position(7));
    let step = _mm256_set1_epi64x(GOLDEN.wrapping_mul(LANES as u64) as i64);
    let mut sums = [_mm256_setzero_si256(); 2];
    for values in whole {
        let values = load(values);
        let z = _mm256_xor_si256(low, _mm256_cvtepu32_epi64(_mm256_castsi256_si128(values)));
        sums[0] = _mm256_add_epi64(sums[0], mix64(z));
        let z = _mm256_xor_si256(high, _mm256_cvtepu32_epi64(_mm256_extracti128_si256::<1>(values)));
        sums[1] = _mm256_add_epi64(sums[1], mix64(z));
        (low, high) = (_mm256_add_epi64(low, step), _mm256_add_epi64(high, step));
    }
    let sum = _mm256_add_epi64(sums[0], sums[1]);
    let lanes = [
        _mm256_extract_epi64::<0>(sum),
        _mm256_extract_epi64::<1>(sum),
        _mm256_extract_epi64::<2>(sum),
        _mm256_extract_epi64::<3>(sum),
    ];
    let done = (values.len() - rest.len()) as u64;
    let rest = crate::digest::of_words(row, column.wrapping_add(done), rest);
    lanes.iter().fold(rest, |sum, &lane| sum.wrapping_add(lane as u64))
}

/// Sums of the register loops: with the factor and a product all 16 registers but one, enough to hide the 6 cycles of a
/// multiplication and an addition. Every product is with a sum, so that none can be moved out of the loop.
const CHAINS: usize = 13;

#[target_feature(enable = "avx2")]
fn peak_bytes(steps: u64) -> u64 {
    let factor = _mm256_set1_epi32(std::hint::black_box(0x0003_0005));
    let mut sums: [__m256i; CHAINS] = [factor; CHAINS];
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(*sum, factor));
        }
    }
    std::hint::black_box(sums);
    steps * (CHAINS * LANES * 4) as u64
}

#[target_feature(enable = "avx2,fma")]
fn peak_floats<const FMA: bool>(steps: u64) -> u64 {
    // Small enough that the sums neither overflow nor vanish.
    let factor = _mm256_set1_ps(std::hint::black_box(1e-9));
    let mut sums: [__m256; CHAINS] = [_mm256_set1_ps(1.0); CHAINS];
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = if FMA {
                _mm256_fmadd_ps(*sum, factor, *sum)
            } else {
                _mm256_add_ps(*sum, _mm256_mul_ps(*sum, factor))
            };
        }
    }
    std::hint::black_box(sums);
    steps * (CHAINS * LANES * 2) as u64
}
