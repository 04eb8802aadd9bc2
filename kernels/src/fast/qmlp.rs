//! K4 `qmlp`: see the reference for what it is, `product` for how it is blocked. A thread takes some samples through
//! several layers by itself, whose weights all threads packed before.
//!
//! Roofline: the product is `igemm`'s (a core of AVX2 at 3.2 GHz 205 Gop/s; T4 130, A100 624, RTX 4090 661, H100 1979
//! Top/s), with 2b operations for every byte of weights, which are made and packed once: at 256 samples a tenth of the
//! time on a CPU. Class S (8.6 Gop) is 42 ms on that core, 66 us on a T4 and 14, 13 and 4 us on the others.

use super::isa::{Arithmetic, Isa};
use super::product::{Layout, fill_bytes, products_at_once};
use super::team::Team;
use crate::cpu::activate;
use crate::digest;
use crate::fill::Tensor;
use crate::pace::Stopped;

pub(super) fn rows<I: Isa>(
    isa: I,
    key: [u32; 2],
    (batch, width): (usize, usize),
    (depth, shift): (u32, u32),
    team: &mut Team<'_>,
) -> Result<Vec<u64>, Stopped> {
    let layout = Layout::<I>::new(Arithmetic::Bytes, width);
    let layer_words = layout.b_words(width);
    let together = products_at_once(layer_words, team.threads());
    let height = Layout::<I>::block_rows(batch, team.threads());
    let mut x = vec![0i8; batch * width];
    team.each(
        x.chunks_mut(height * width).zip((0u64..).step_by(height * width)),
        || (),
        |(), (x, at), pacer| fill_bytes(isa, &Tensor::new(key, 0, 0), at, x, pacer),
    )?;
    let mut weights = Vec::new();
    for first in (0..depth).step_by(together) {
        let layers = together.min((depth - first) as usize);
        weights.resize(layers * layer_words, 0);
        let panels = weights.chunks_mut(layer_words).zip(first..).flat_map(|(weights, layer)| {
            let columns = (0..width).step_by(I::COLUMNS);
            weights.chunks_mut(layout.b_panel()).zip(columns).map(move |(panel, at)| (layer, at, panel))
        });
        team.each(panels, Vec::new, |rows, (layer, at, panel), pacer| {
            rows.resize(I::COLUMNS.min(width - at) * width, 0);
            fill_bytes(isa, &Tensor::new(key, 2, layer), (at * width) as u64, rows, pacer)?;
            layout.pack_b_bytes(rows, panel);
            Ok(())
        })?;
        let room = || (Vec::new(), Vec::new());
        team.each(x.chunks_mut(height * width), room, |(a, c), x, pacer| {
            for weights in weights.chunks(layer_words) {
                layout.pack_a_bytes(x, a);
                layout.multiply(isa, (a, x.len() / width), (weights, width), c, pacer, |group, _| {
                    for (y, sums) in x.chunks_exact_mut(width).zip(group.rows()) {
                        for (value, &sum) in y[group.column..].iter_mut().zip(sums) {
                            *value = activate(sum as i32, shift);
                        }
                    }
                    Ok(())
                })?;
            }
            Ok(())
        })?;
    }
    Ok((0u64..).zip(x.chunks_exact(width)).map(|(row, values)| digest::of_bytes(row, 0, values)).collect())
}
