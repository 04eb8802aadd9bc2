//! The reference against a slow oracle: the kernels once more, written straight from their definitions (§1.5), one
//! element at a time. What must fail is here too: arithmetic that is nearly right.
#![allow(clippy::unwrap_used)]

use matrixai_kernels::{Compute as _, Fast, Pace, Reference, Stopped, Unpaced, selftest};
use matrixai_protocol::drilling::{Kernel, Workload, digest, row_digest};
use matrixai_protocol::philox::{GOLDEN, Philox, mix64};

const SEED: [u8; 32] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30,
    31,
];

fn workload(kernel: Kernel, params: &[u32]) -> Workload {
    let mut all = [0; 8];
    all[..params.len()].copy_from_slice(params);
    Workload::new(kernel, all).unwrap()
}

/// Word `index` of a tensor.
fn word(key: [u32; 2], stream: u32, tensor: u32, index: usize) -> u32 {
    let block = index as u64 / 4;
    Philox::new(key).block([block as u32, (block >> 32) as u32, stream, tensor])[index % 4]
}

fn byte(key: [u32; 2], stream: u32, tensor: u32, index: usize) -> i8 {
    word(key, stream, tensor, index / 4).to_le_bytes()[index % 4] as i8
}

fn float(key: [u32; 2], stream: u32, tensor: u32, index: usize) -> f32 {
    f32::from_bits((word(key, stream, tensor, index) >> 9) | 0x3f80_0000) - 1.5
}

/// Row digests of a product whose elements `dot` gives from a row of A and a column of B.
fn products<T: Copy>(
    workload: &Workload,
    a: impl Fn([u32; 2], u32, usize) -> T,
    b: impl Fn([u32; 2], u32, usize, usize) -> T,
    dot: impl Fn(&[T], &[T]) -> u32,
) -> Vec<u64> {
    let key = Workload::key(&workload.header(&SEED));
    let [m, n, k, times, ..] = workload.params().map(|p| p as usize);
    let mut rows = Vec::new();
    for t in 0..times {
        let column = |j| (0..k).map(|q| b(key, t as u32, q, j)).collect::<Vec<T>>();
        let columns: Vec<Vec<T>> = (0..n).map(column).collect();
        for i in 0..m {
            let row: Vec<T> = (0..k).map(|q| a(key, t as u32, i * k + q)).collect();
            rows.push(row_digest((t * m + i) as u64, columns.iter().map(|column| dot(&row, column))));
        }
    }
    rows
}

fn igemm(workload: &Workload, dot: impl Fn(&[i8], &[i8]) -> u32) -> Vec<u64> {
    let k = workload.params()[2] as usize;
    products(workload, |key, t, at| byte(key, 0, t, at), |key, t, q, j| byte(key, 1, t, j * k + q), dot)
}

fn fgemm(workload: &Workload, step: impl Fn(f32, f32, f32) -> f32) -> Vec<u64> {
    let n = workload.params()[1] as usize;
    products(
        workload,
        |key, t, at| float(key, 0, t, at),
        |key, t, q, j| float(key, 1, t, q * n + j),
        |a, b| a.iter().zip(b).fold(0.0f32, |acc, (&a, &b)| step(acc, a, b)).to_bits(),
    )
}

fn exact(a: &[i8], b: &[i8]) -> u32 {
    a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum::<i32>() as u32
}

fn rounded(acc: f32, a: f32, b: f32) -> f32 {
    let product = a * b;
    acc + product
}

fn fused(acc: f32, a: f32, b: f32) -> f32 {
    a.mul_add(b, acc)
}

/// vpmaddubsw: A as unsigned (xor 0x80), pairs of products saturated to i16; then 128 * sum of B is taken off.
fn saturating(a: &[i8], b: &[i8]) -> u32 {
    let pair = |a: &[i8], b: &[i8]| {
        let product = |i: usize| i32::from(a[i] as u8 ^ 0x80) * i32::from(b[i]);
        (0..a.len()).map(product).sum::<i32>().clamp(i32::from(i16::MIN), i32::from(i16::MAX))
    };
    let sum: i32 = a.chunks(2).zip(b.chunks(2)).map(|(a, b)| pair(a, b)).sum();
    (sum - 128 * b.iter().map(|&b| i32::from(b)).sum::<i32>()) as u32
}

fn memwalk(workload: &Workload) -> Vec<u64> {
    let key = Workload::key(&workload.header(&SEED));
    let [p, q, rounds, ..] = *workload.params();
    let (lanes, block) = (1usize << q, 1usize << (p - q));
    let mut table = vec![0u64; 1 << p];
    for lane in 0..lanes {
        let mut w = mix64((u64::from(key[1]) << 32 | u64::from(key[0])) ^ (lane as u64 + 1).wrapping_mul(GOLDEN));
        for i in 0..block {
            if i > 0 {
                w = mix64(w.wrapping_add(GOLDEN));
            }
            table[lane * block + i] = w;
        }
    }
    for round in 1..=u64::from(rounds) {
        let before = table.clone();
        for lane in 0..lanes {
            let mut w = mix64(before[lane * block + block - 1] ^ round.wrapping_mul(GOLDEN) ^ lane as u64);
            for i in 0..block {
                w = mix64(w ^ before[(w >> (64 - p)) as usize]);
                table[lane * block + i] = w;
            }
        }
    }
    (0..lanes).map(|lane| table[lane * block + block - 1]).collect()
}

fn qmlp(workload: &Workload) -> Vec<u64> {
    let key = Workload::key(&workload.header(&SEED));
    let [batch, width, depth, shift, ..] = *workload.params();
    let (batch, width) = (batch as usize, width as usize);
    let mut x: Vec<i8> = (0..batch * width).map(|at| byte(key, 0, 0, at)).collect();
    for layer in 0..depth {
        let weights: Vec<i8> = (0..width * width).map(|at| byte(key, 2, layer, at)).collect();
        let output = |i: usize, o: usize| {
            let acc = exact(&x[i * width..][..width], &weights[o * width..][..width]) as i32;
            let v = ((acc + (1 << (shift - 1))) >> shift).clamp(-127, 127);
            (if v < 0 { v >> 2 } else { v }) as i8
        };
        x = (0..batch * width).map(|at| output(at / width, at % width)).collect();
    }
    x.chunks(width).zip(0u64..).map(|(y, row)| row_digest(row, y.iter().map(|&v| i32::from(v) as u32))).collect()
}

fn check(workload: &Workload, expect: &[u64]) {
    let rows = Reference.rows(workload, &SEED, &mut Unpaced).unwrap();
    assert_eq!(rows, expect, "{workload:?}");
    assert_eq!(rows.len() as u64, workload.rows());
    let expect = digest(&workload.header(&SEED), expect);
    assert_eq!(Reference.run(workload, &SEED, &mut Unpaced).unwrap(), expect);
    for fast in [1, 3].into_iter().flat_map(Fast::available) {
        assert_eq!(fast.run(workload, &SEED, &mut Unpaced).unwrap(), expect, "{workload:?} by {}", fast.name());
    }
}

/// (m, n, k, T): around every tile and block, several products, and single rows and columns.
const SHAPES: [[u32; 4]; 8] = [
    [1, 1, 1, 1],
    [5, 7, 33, 3],
    [64, 8, 16, 2],
    [65, 9, 17, 1],
    [130, 3, 5, 2],
    [3, 1030, 7, 1],
    [2, 5, 2100, 2],
    [1, 9, 17_000, 1],
];

#[test]
fn igemm_is_the_oracle() {
    for shape in SHAPES {
        let workload = workload(Kernel::Igemm, &shape);
        check(&workload, &igemm(&workload, exact));
    }
}

#[test]
fn fgemm_is_the_oracle() {
    for [m, n, k, times] in SHAPES {
        let plain = workload(Kernel::Fgemm, &[m, n, k, times, 0]);
        check(&plain, &fgemm(&plain, rounded));
        let contracted = workload(Kernel::Fgemm, &[m, n, k, times, 1]);
        check(&contracted, &fgemm(&contracted, fused));
    }
}

#[test]
fn memwalk_is_the_oracle() {
    // Groups of 1 to 32 lanes, and several groups.
    for params in [[8, 0, 1], [8, 1, 3], [12, 5, 2], [13, 6, 2], [14, 7, 1]] {
        let workload = workload(Kernel::Memwalk, &params);
        check(&workload, &memwalk(&workload));
    }
}

#[test]
fn qmlp_is_the_oracle() {
    for params in [[1, 1, 1, 1], [3, 20, 2, 7], [16, 64, 3, 8], [67, 33, 4, 6], [1, 1030, 2, 10]] {
        let workload = workload(Kernel::Qmlp, &params);
        check(&workload, &qmlp(&workload));
    }
}

#[test]
fn an_fma_contracted_fgemm_fails_the_known_answer() {
    let workload = workload(Kernel::Fgemm, &[64, 64, 64, 1, 0]);
    let known = Reference.run(&workload, &SEED, &mut Unpaced).unwrap();
    assert!(selftest().contains(&(Kernel::Fgemm, true)));
    assert_eq!(digest(&workload.header(&SEED), &fgemm(&workload, rounded)), known);
    assert_ne!(digest(&workload.header(&SEED), &fgemm(&workload, fused)), known);
}

#[test]
fn a_saturating_igemm_fails_the_known_answer() {
    let workload = workload(Kernel::Igemm, &[64, 64, 64, 1]);
    let known = Reference.run(&workload, &SEED, &mut Unpaced).unwrap();
    assert!(selftest().contains(&(Kernel::Igemm, true)));
    assert_eq!(digest(&workload.header(&SEED), &igemm(&workload, exact)), known);
    assert_ne!(digest(&workload.header(&SEED), &igemm(&workload, saturating)), known);
    // Where no pair saturates it would be right: the fault is the saturation.
    assert_eq!(saturating(&[1, 2, 3], &[4, -5, 6]), exact(&[1, 2, 3], &[4, -5, 6]));
    assert_ne!(saturating(&[127, 127], &[127, 127]), exact(&[127, 127], &[127, 127]));
}

#[test]
fn rows_are_numbered_through_all_products() {
    // With the number of the first product's rows, the second product would have other digests.
    let workload = workload(Kernel::Igemm, &[4, 6, 8, 2]);
    let rows = Reference.rows(&workload, &SEED, &mut Unpaced).unwrap();
    let expect = igemm(&workload, exact);
    assert_eq!(rows, expect);
    let key = Workload::key(&workload.header(&SEED));
    let values = (0..6).map(|j| {
        let row = |stream, at: usize| (0..8).map(|q| byte(key, stream, 1, at * 8 + q)).collect::<Vec<i8>>();
        exact(&row(0, 0), &row(1, j))
    });
    assert_eq!(rows[4], row_digest(4, values.clone()));
    assert_ne!(rows[4], row_digest(0, values));
}

#[test]
fn one_wrong_element_changes_the_digest() {
    let workload = workload(Kernel::Igemm, &[8, 8, 8, 1]);
    let right = digest(&workload.header(&SEED), &igemm(&workload, exact));
    for wrong in 0..64 {
        let element = std::cell::Cell::new(0);
        let rows = igemm(&workload, |a, b| {
            let at = element.replace(element.get() + 1);
            exact(a, b).wrapping_add(u32::from(at == wrong))
        });
        assert_ne!(digest(&workload.header(&SEED), &rows), right, "element {wrong}");
    }
}

#[test]
fn another_seed_is_another_answer() {
    for (kernel, params) in SIZES {
        let workload = workload(kernel, params);
        let run = |seed| Reference.run(&workload, &seed, &mut Unpaced).unwrap();
        assert_ne!(run([1; 32]), run([2; 32]));
    }
}

/// A few milliseconds each: enough for several ticks.
const SIZES: [(Kernel, &[u32]); 5] = [
    (Kernel::Igemm, &[256, 256, 512, 2]),
    (Kernel::Fgemm, &[256, 256, 256, 2, 0]),
    (Kernel::Fgemm, &[64, 64, 256, 1, 1]),
    (Kernel::Memwalk, &[16, 6, 3]),
    (Kernel::Qmlp, &[128, 512, 2, 9]),
];

/// Counts ticks, and stops at one of them.
struct StopAt {
    ticks: u32,
    last: u32,
}

impl Pace for StopAt {
    fn tick(&mut self) -> Result<(), Stopped> {
        assert!(self.ticks < self.last, "ticked after the stop");
        self.ticks += 1;
        if self.ticks == self.last { Err(Stopped) } else { Ok(()) }
    }
}

#[test]
fn a_stop_ends_every_kernel_at_once() {
    for (kernel, params) in SIZES {
        let workload = workload(kernel, params);
        for last in [1, 2, 3] {
            let mut pace = StopAt { ticks: 0, last };
            assert_eq!(Reference.run(&workload, &SEED, &mut pace), Err(Stopped), "{kernel}");
            assert_eq!(pace.ticks, last);
        }
        let mut pace = StopAt { ticks: 0, last: u32::MAX };
        let paced = Reference.run(&workload, &SEED, &mut pace);
        assert_eq!(paced, Reference.run(&workload, &SEED, &mut Unpaced));
    }
}
