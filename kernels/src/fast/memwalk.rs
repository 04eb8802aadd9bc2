//! K3 `memwalk`: the reference's walk, its groups of lanes shared out among threads. Every round reads the table that all
//! threads wrote in the one before.
//!
//! Roofline: a read moves a line of 64 bytes on a CPU, a sector of 32 on a GPU, and 8 bytes are written: bandwidth / 40
//! bytes is 8 G reads/s on a T4 (320 GB/s), 25 on an RTX 4090 (1008), 51 on an A100 (2039), 84 on an H100 (3350), of which
//! a third to a half can be expected. A core is bound by latency: 10 to 20 lines in flight at 80 to 100 ns are 100 to 250
//! M reads/s at best, walks of the address translation aside.

use super::team::Team;
use crate::cpu::memwalk::{GROUP, first_table, walk};
use crate::pace::Stopped;

pub(super) fn rows(key: [u32; 2], (p, q, rounds): (u32, u32, u32), team: &mut Team<'_>) -> Result<Vec<u64>, Stopped> {
    let words = 1usize << p;
    let block = words >> q;
    let mut table = vec![0u64; words];
    let mut next = vec![0u64; words];
    team.each(
        table.chunks_mut(GROUP * block).enumerate(),
        || (),
        |(), (group, out), pacer| first_table(key, out, block, group, pacer),
    )?;
    for round in 1..=u64::from(rounds) {
        team.each(
            next.chunks_mut(GROUP * block).enumerate(),
            || (),
            |(), (group, out), pacer| walk(&table, out, block, group, round, pacer),
        )?;
        std::mem::swap(&mut table, &mut next);
    }
    Ok(table.chunks_exact(block).map(|lane| lane[block - 1]).collect())
}
