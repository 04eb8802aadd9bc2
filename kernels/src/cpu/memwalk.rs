//! K3 `memwalk`: dependent random reads of a large table (§1.5). Parameters p, q, R: 2^p words, 2^q lanes, R rounds.
//!
//! T0: lane l owns a block of B words: mix64(key ^ (l+1)G), then each the mix of the one before plus G. Round r, lane
//! l: w = mix64(last word of its block ^ rG ^ l); B times w = mix64(w ^ T[w >> (64-p)]), written in order to the lane's
//! block of the next table. Row l is the last word of lane l.
//!
//! A lane waits for memory at every step; other lanes don't. Up to 32 of them walk side by side, and the core keeps as
//! many reads in flight as it can. Roofline: 10 to 20 outstanding lines at 80 to 100 ns are 100 to 250 M reads/s at the
//! very best, 64 B each; with table walks of the address translation 20 to 60 M reads/s. Results go through a small
//! buffer, a cache line or more per lane: lanes' blocks are a power of two apart, so that writing single words would
//! fight over one cache set.

use matrixai_protocol::philox::{GOLDEN, mix64};

use crate::pace::{OPS_PER_MIX, OPS_PER_RANDOM_READ, Pacer, Stopped};

/// Lanes that walk side by side.
pub(crate) const GROUP: usize = 32;
/// Steps between writes; divides every block, which is a power of two of at least 128 words.
const STEPS: usize = 16;

/// The next `STEPS` words of each lane of a group.
type Buffer = [[u64; STEPS]; GROUP];

pub(super) fn rows(key: [u32; 2], p: u32, q: u32, rounds: u32, pacer: &mut Pacer<'_>) -> Result<Vec<u64>, Stopped> {
    let words = 1usize << p;
    let block = words >> q;
    let mut table = vec![0u64; words];
    let mut next = vec![0u64; words];
    for (group, out) in table.chunks_mut(GROUP * block).enumerate() {
        first_table(key, out, block, group, pacer)?;
    }
    for round in 1..=u64::from(rounds) {
        for (group, out) in next.chunks_mut(GROUP * block).enumerate() {
            walk(&table, out, block, group, round, pacer)?;
        }
        std::mem::swap(&mut table, &mut next);
    }
    Ok(table.chunks_exact(block).map(|lane| lane[block - 1]).collect())
}

/// Makes one group's part of the first table.
pub(crate) fn first_table(
    key: [u32; 2],
    out: &mut [u64],
    block: usize,
    group: usize,
    pacer: &mut Pacer<'_>,
) -> Result<(), Stopped> {
    let key = u64::from(key[1]) << 32 | u64::from(key[0]);
    // One G early, so that the first word is a step like the others.
    let mut lanes = lanes(group, |lane| (key ^ lane.wrapping_add(1).wrapping_mul(GOLDEN)).wrapping_sub(GOLDEN));
    advance(&mut lanes, out, block, OPS_PER_MIX, pacer, |lanes| {
        lanes.iter_mut().for_each(|w| *w = mix64(w.wrapping_add(GOLDEN)));
    })
}

/// Walks one round of one group, reading `table` and writing the group's part of the next.
pub(crate) fn walk(
    table: &[u64],
    out: &mut [u64],
    block: usize,
    group: usize,
    round: u64,
    pacer: &mut Pacer<'_>,
) -> Result<(), Stopped> {
    let shift = 64 - table.len().ilog2();
    let mut lanes = lanes(group, |lane| {
        // The last group may have fewer lanes; what the missing ones would start from does not matter.
        let last = table.get((lane as usize + 1) * block - 1).copied().unwrap_or_default();
        mix64(last ^ round.wrapping_mul(GOLDEN) ^ lane)
    });
    let mut read = [0; GROUP];
    advance(&mut lanes, out, block, OPS_PER_RANDOM_READ, pacer, |lanes| {
        // All reads first: nothing but them fills the core's window while memory is slow.
        for (read, w) in read.iter_mut().zip(lanes.iter()) {
            *read = table[(w >> shift) as usize];
        }
        for (w, read) in lanes.iter_mut().zip(read) {
            *w = mix64(*w ^ read);
        }
    })
}

fn lanes(group: usize, start: impl Fn(u64) -> u64) -> [u64; GROUP] {
    std::array::from_fn(|lane| start((group * GROUP + lane) as u64))
}

/// Takes every lane that `out` has a block for through its steps, and writes them down in order.
fn advance(
    lanes: &mut [u64; GROUP],
    out: &mut [u64],
    block: usize,
    ops_per_step: u64,
    pacer: &mut Pacer<'_>,
    mut step: impl FnMut(&mut [u64]),
) -> Result<(), Stopped> {
    let count = out.len() / block;
    let lanes = &mut lanes[..count];
    let mut buffer: Buffer = [[0; STEPS]; GROUP];
    for from in (0..block).step_by(STEPS) {
        for i in 0..STEPS {
            step(lanes);
            for (words, w) in buffer.iter_mut().zip(lanes.iter()) {
                words[i] = *w;
            }
        }
        for (words, out) in buffer.iter().zip(out.chunks_exact_mut(block)) {
            out[from..from + STEPS].copy_from_slice(words);
        }
        pacer.work((count * STEPS) as u64 * ops_per_step)?;
    }
    Ok(())
}
