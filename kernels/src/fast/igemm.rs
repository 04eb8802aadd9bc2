//! K1 `igemm`: see the reference for what it is, `product` for how it is blocked.
//!
//! Roofline: 2mnkT operations, compute bound from n = 1024 on everywhere (n / 3 operations a byte). A core of AVX2 at f GHz
//! does 64f Gop/s (two `vpmaddwd` of 16 pairs a cycle): 205 at 3.2. By data sheet, dense int8 Top/s: T4 130, A100 624,
//! RTX 4090 661, H100 SXM 1979. Class S (34.4 Gop) is 0.17 s, 0.26 ms, 0.06 ms, 0.05 ms and 0.02 ms.

use super::isa::{Arithmetic, Isa};
use super::product::{Layout, fill_bytes, products_at_once};
use super::team::Team;
use crate::fill::Tensor;
use crate::pace::Stopped;

pub(super) fn rows<I: Isa>(
    isa: I,
    key: [u32; 2],
    (m, n, k): (usize, usize, usize),
    times: u32,
    team: &mut Team<'_>,
) -> Result<Vec<u64>, Stopped> {
    let layout = Layout::<I>::new(Arithmetic::Bytes, k);
    let b_words = layout.b_words(n);
    let together = products_at_once(b_words, team.threads());
    let mut digests = vec![0u64; m * times as usize];
    let mut b = Vec::new();
    for (digests, first) in digests.chunks_mut(m * together).zip((0..times).step_by(together)) {
        let products = digests.len() / m;
        b.resize(products * b_words, 0);
        let panels = b.chunks_mut(b_words).zip(first..).flat_map(|(b, t)| {
            b.chunks_mut(layout.b_panel()).zip((0..n).step_by(I::COLUMNS)).map(move |(panel, at)| (t, at, panel))
        });
        team.each(panels, Vec::new, |rows, (t, at, panel), pacer| {
            rows.resize(I::COLUMNS.min(n - at) * k, 0);
            fill_bytes(isa, &Tensor::new(key, 1, t), (at * k) as u64, rows, pacer)?;
            layout.pack_b_bytes(rows, panel);
            Ok(())
        })?;
        layout.digest_products(isa, (m, n), (first, &b), digests, team, |t, at, height, rows, a, pacer| {
            rows.resize(height * k, 0);
            fill_bytes(isa, &Tensor::new(key, 0, t), (at * k) as u64, rows, pacer)?;
            layout.pack_a_bytes(rows, a);
            Ok(())
        })?;
    }
    Ok(digests)
}
