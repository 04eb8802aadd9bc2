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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{
        command::MakeOffer,
        ids::AccountId,
        market::{
            explain::tests::run,
            make_offer,
            matching::tests::{machine, market_of, money},
        },
        outcome::Outcome,
    };

    #[test]
    fn each_offer_comes_with_the_rows_of_its_machine() {
        let mut state = market_of(&[1; 240]);
        // Neighbours, gaps that are walked and gaps that are searched, and more than one group.
        let offered = [0, 1, 1, 3, 20, 20, 21, 60, 61, 62, 100].into_iter().chain(150..240);
        for (position, number) in (0..).zip(offered) {
            let offer = MakeOffer {
                machine: machine(number),
                price_per_hour: money(1),
                duration_min_s: 1,
                duration_max_s: 60,
                expires_ms: 1_000_000,
                disk_gib: None,
                reserve_price: None,
                grace_min: 0,
            };
            let made = run(&mut state, position, |state, ctx| make_offer(state, ctx, AccountId([1; 20]), &offer));
            assert!(matches!(made, Outcome::Done { .. }), "{made:?}");
        }
        // Without rows of their own, the next ones' must not be taken for theirs.
        for number in [1, 20, 100, 200] {
            state.power.remove(&machine(number)).unwrap();
        }
        state.machines.remove(&machine(61)).unwrap();
        let rented = state.machine_offers.iter().map(|((_, offer), ())| *offer).next().unwrap();
        state.offers.get_mut(&rented).unwrap().status = OfferStatus::Rented;

        let mut seen = Vec::new();
        open_offers(&state, |rows| seen.push(format!("{rows:?}")));
        let open = state.machine_offers.iter().filter_map(|((_, offer), ())| state.offers.get(offer));
        let open = open.filter(|row| row.status == OfferStatus::Open);
        let expected: Vec<String> = open.map(|row| format!("{:?}", Rows::of(&state, row))).collect();
        assert!(seen.len() > TOGETHER && seen == expected, "{} of {}", seen.len(), expected.len());
    }
}
