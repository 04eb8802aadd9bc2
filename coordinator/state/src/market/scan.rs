//! A look at everything that is offered now: each open offer with its machine's rows, in the order of machines.
//!
//! Machines and what they have shown are walked beside their offers rather than searched for, and offers, which are found
//! through the hash table, are searched for in groups whose searches wait for memory together.

use super::{OfferStatus, attributes::Rows};
use crate::{
    ids::{MachineId, OfferId},
    state::State,
    table::Table,
};
use std::{cmp::Ordering, hint::black_box};

/// Offers that are searched for together.
const TOGETHER: usize = 64;
/// Rows that are passed over before the next one is searched for: as many as a search would look at.
const PASSED_MAX: usize = 16;

/// Shows every open offer.
pub(super) fn open_offers<'a>(state: &'a State, mut show: impl FnMut(Rows<'a>)) {
    let mut machine_of = beside(&state.machines);
    let mut power_of = beside(&state.power);
    let mut keys = state.machine_offers.iter().map(|(key, ())| key);
    let mut group: Vec<&(MachineId, OfferId)> = Vec::with_capacity(TOGETHER);
    loop {
        group.clear();
        group.extend(keys.by_ref().take(TOGETHER));
        if group.is_empty() {
            return;
        }
        black_box(group.iter().fold(0, |seen, (_, offer)| seen ^ state.offers.touch(offer)));
        for (machine, offer) in &group {
            if let Some(row) = state.offers.get(offer).filter(|row| row.status == OfferStatus::Open) {
                show(Rows::new(row, machine_of(machine), power_of(machine)));
            }
        }
    }
}

/// Finds the rows of machines that are asked for in ascending order.
fn beside<'a, V: Clone, const ROWS: usize>(
    table: &'a Table<MachineId, V, ROWS>,
) -> impl FnMut(&MachineId) -> Option<&'a V> {
    let mut rows = table.range(MachineId([0; 20])..);
    let mut next = rows.next();
    move |machine| {
        let mut passed = 0usize;
        loop {
            let (id, row) = next?;
            match id.cmp(machine) {
                Ordering::Equal => return Some(row),
                Ordering::Greater => return None,
                Ordering::Less if passed < PASSED_MAX => passed = passed.saturating_add(1),
                Ordering::Less => rows = table.range(*machine..),
            }
            next = rows.next();
        }
    }
}
