//! K3 `memwalk`: the reference's walk, its groups of lanes shared out among threads. Every round reads the table that all
//! threads wrote in the one before.

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
