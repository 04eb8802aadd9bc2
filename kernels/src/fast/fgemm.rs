//! K2 `fgemm`: see the reference for what it is, `product` for how it is blocked. Vectors run along the rows of C, and
//! blocks of the inner product come in order, storing a chain's f32 and loading it again: no bit changes.
//!
//! Roofline: 2mnkT operations, compute bound (n / 6 operations a byte). A core of AVX2 at f GHz does 32f Gflop/s: 102 at
//! 3.2; unfused the same on Zen (two multipliers and two adders), half on Intel (two shared ports). By data sheet, fp32
//! Tflop/s fused: T4 8.1, A100 19.5, RTX 4090 82.6, H100 66.9; unfused half. Full mantissas rounded in order leave
//! nothing to tensor cores. Class S (17.2 Gflop) fused is 0.17 s, 2.1 ms, 0.9 ms, 0.2 ms and 0.3 ms.

use super::isa::{Arithmetic, Isa};
use super::product::{Layout, fill_floats, products_at_once};
use super::team::Team;
use crate::fill::Tensor;
use crate::pace::{Pacer, Stopped};

/// Panels of B made together: rows of B are filled in runs of whole blocks.
const PANELS: usize = 4;

pub(super) fn rows<I: Isa>(
    isa: I,
    key: [u32; 2],
    (m, n, k): (usize, usize, usize),
    (times, fma): (u32, bool),
    team: &mut Team<'_>,
) -> Result<Vec<u64>, Stopped> {
    let layout = Layout::<I>::new(if fma { Arithmetic::Fused } else { Arithmetic::Rounded }, k);
    let b_words = layout.b_words(n);
    let together = products_at_once(b_words, team.threads());
    let mut digests = vec![0u64; m * times as usize];
    let mut b = Vec::new();
    for (digests, first) in digests.chunks_mut(m * together).zip((0..times).step_by(together)) {
        let products = digests.len() / m;
        b.resize(products * b_words, 0);
        let strips = b.chunks_mut(b_words).zip(first..).flat_map(|(b, t)| {
            let columns = (0..n).step_by(PANELS * I::COLUMNS);
            b.chunks_mut(PANELS * layout.b_panel()).zip(columns).map(move |(panels, at)| (t, at, panels))
        });
        team.each(strips, Vec::new, |run, (t, at, panels), pacer| {
            run.resize((PANELS * I::COLUMNS).min(n - at), 0);
            pack_columns(isa, &Tensor::new(key, 1, t), (n, at), run, (panels, layout.b_panel()), pacer)
        })?;
        layout.digest_products(isa, (m, n), (first, &b), digests, team, |t, at, height, rows, a, pacer| {
            rows.resize(height * k, 0);
            fill_floats(isa, &Tensor::new(key, 0, t), (at * k) as u64, rows, pacer)?;
            layout.pack_a_floats(rows, a);
            Ok(())
        })?;
    }
    Ok(digests)
}

/// Columns `at..` of B[k][n], as many as `run` has room for, as panels of B. Sums start at +0, and columns that the
/// last panel lacks are zeros.
fn pack_columns<I: Isa>(
    isa: I,
    tensor: &Tensor,
    (n, at): (usize, usize),
    run: &mut [u32],
    (panels, panel_words): (&mut [u32], usize),
    pacer: &mut Pacer<'_>,
) -> Result<(), Stopped> {
    for panel in panels.chunks_exact_mut(panel_words) {
        panel[..I::COLUMNS].fill(0);
    }
    for q in 0..panel_words / I::COLUMNS - 1 {
        fill_floats(isa, tensor, (q * n + at) as u64, run, pacer)?;
        for (panel, values) in panels.chunks_exact_mut(panel_words).zip(run.chunks(I::COLUMNS)) {
            let (filled, lacking) = panel[(q + 1) * I::COLUMNS..][..I::COLUMNS].split_at_mut(values.len());
            filled.copy_from_slice(values);
            lacking.fill(0);
        }
    }
    Ok(())
}
