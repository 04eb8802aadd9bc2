//! Parts of the kernels alone, for whoever measures what they reach of what the processor could do: the product of
//! operands that are packed already, and its peak, a loop of the same instructions that touches registers only.

use matrixai_protocol::philox::mix64;

use super::isa::{Arithmetic, Isa};
use super::product::{Layout, fill_bytes, fill_floats};
use super::team::Team;
use super::{Fast, Path};
use crate::cpu::memwalk::GROUP;
use crate::fill::Tensor;
use crate::pace::{Pacer, Stopped, Unpaced};

/// Rows, columns and length of the inner product.
const SIDE: usize = 1024;
/// Steps of the register loop in one item of work: about ten milliseconds.
const STEPS: u64 = 1 << 22;
/// The walk's table: 2^22 words in 2^10 lanes, 32 MiB that no second-level cache holds.
const WALK_P: u32 = 22;
const WALK_Q: u32 = 10;

/// Packed operands of a product, filled as the kernels fill them.
#[derive(Debug)]
pub struct Rehearsal {
    fast: Fast,
    arithmetic: Arithmetic,
    a: Vec<u32>,
    b: Vec<u32>,
}

impl Fast {
    /// For `igemm` and `qmlp`, which share their product.
    #[must_use]
    pub fn rehearse_bytes(self) -> Rehearsal {
        Rehearsal::new(self, Arithmetic::Bytes)
    }

    /// For `fgemm` with that rounding.
    #[must_use]
    pub fn rehearse_floats(self, fma: bool) -> Rehearsal {
        Rehearsal::new(self, if fma { Arithmetic::Fused } else { Arithmetic::Rounded })
    }

    /// A walk as one writes it by hand, one word after the other, with as many lanes side by side and as many threads
    /// as `memwalk` has; `table` and `next` are of `walk_words` words. Returns its reads.
    pub fn plain_walk(&self, table: &[u64], next: &mut [u64]) -> u64 {
        let (block, shift) = (1usize << (WALK_P - WALK_Q), 64 - WALK_P);
        let reads = next.len() as u64;
        let walk = |_: &mut (), (group, out): (usize, &mut [u64]), _: &mut Pacer<'_>| {
            let mut lanes: [u64; GROUP] = std::array::from_fn(|lane| mix64((group * GROUP + lane) as u64));
            for i in 0..block {
                for (lane, w) in lanes.iter_mut().enumerate() {
                    *w = mix64(*w ^ table[(*w >> shift) as usize]);
                    out[lane * block + i] = *w;
                }
            }
            Ok(())
        };
        let groups = next.chunks_mut(GROUP * block).enumerate();
        done(Team::new(self.threads, &mut Unpaced).each(groups, || (), walk));
        reads
    }

    /// Parameters of the `memwalk` that walks like `plain_walk`, for some rounds.
    #[must_use]
    pub fn walk_params(rounds: u32) -> [u32; 8] {
        [WALK_P, WALK_Q, rounds, 0, 0, 0, 0, 0]
    }

    /// Words of its table.
    #[must_use]
    pub fn walk_words() -> usize {
        1 << WALK_P
    }
}

impl Rehearsal {
    fn new(fast: Fast, arithmetic: Arithmetic) -> Self {
        let mut rehearsal = Self { fast, arithmetic, a: Vec::new(), b: Vec::new() };
        match fast.path {
            #[cfg(target_arch = "x86_64")]
            Path::Avx2(isa) => rehearsal.pack(isa),
        }
        rehearsal
    }

    /// Computes the product once, without fill, packing or digest; returns its operations.
    pub fn product(&mut self) -> u64 {
        match self.fast.path {
            #[cfg(target_arch = "x86_64")]
            Path::Avx2(isa) => self.multiply(isa),
        }
    }

    /// Runs the register loop on all threads for about as long; returns its operations.
    pub fn peak(&mut self) -> u64 {
        match self.fast.path {
            #[cfg(target_arch = "x86_64")]
            Path::Avx2(isa) => self.spin(isa),
        }
    }

    fn pack<I: Isa>(&mut self, isa: I) {
        let layout = Layout::<I>::new(self.arithmetic, SIDE);
        let (mut bytes, mut floats) = (vec![0i8; SIDE * SIDE], vec![0u32; SIDE * SIDE]);
        let tensor = Tensor::new([1, 2], 0, 0);
        self.b.resize(layout.b_words(SIDE), 0);
        if self.arithmetic == Arithmetic::Bytes {
            done(fill_bytes(isa, &tensor, 0, &mut bytes, &mut Pacer::fast(&mut Unpaced)));
            layout.pack_a_bytes(&bytes, &mut self.a);
            let panels = self.b.chunks_exact_mut(layout.b_panel());
            for (rows, panel) in bytes.chunks(I::COLUMNS * SIDE).zip(panels) {
                layout.pack_b_bytes(rows, panel);
            }
        } else {
            done(fill_floats(isa, &tensor, 0, &mut floats, &mut Pacer::fast(&mut Unpaced)));
            layout.pack_a_floats(&floats, &mut self.a);
            for (word, float) in self.b.iter_mut().zip(floats.iter().cycle()) {
                *word = *float;
            }
        }
    }

    fn multiply<I: Isa>(&mut self, isa: I) -> u64 {
        let layout = Layout::<I>::new(self.arithmetic, SIDE);
        let height = Layout::<I>::block_rows(SIDE, self.fast.threads);
        let block_words = layout.a_words(height);
        let blocks = self.a.chunks(block_words).zip((0..SIDE).step_by(height));
        let mut pace = Unpaced;
        let mut team = Team::new(self.fast.threads, &mut pace);
        let b = &self.b;
        done(team.each(blocks, Vec::new, |c, (a, at), pacer| {
            layout.multiply(isa, (a, height.min(SIDE - at)), (b, SIDE), c, pacer, |group, _| {
                std::hint::black_box(group.rows().next());
                Ok(())
            })
        }));
        2 * (SIDE * SIDE * SIDE) as u64
    }

    fn spin<I: Isa>(&mut self, isa: I) -> u64 {
        let items = 0..self.fast.threads;
        let mut pace = Unpaced;
        let mut team = Team::new(self.fast.threads, &mut pace);
        let ops = std::sync::atomic::AtomicU64::new(0);
        done(team.each(
            items,
            || (),
            |(), _, _| {
                ops.fetch_add(isa.peak(self.arithmetic, STEPS), std::sync::atomic::Ordering::Relaxed);
                Ok(())
            },
        ));
        ops.into_inner()
    }
}

/// Nothing stops who has no pace.
fn done(result: Result<(), Stopped>) {
    debug_assert_eq!(result, Ok(()));
}
