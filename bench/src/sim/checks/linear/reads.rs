//! A look at the reads alone, for a history that the whole search does not decide: is there a growing row of sets of changes,
//! one for each read, that makes the balances read? Money that lacked, and refusals for it, are left out, so the orders
//! inside a set do not matter: where the whole search drowns in them, this one still finds the read that is stale.

use super::{Does, Found, Op, subset::subsets, units};
use std::collections::HashSet;

/// Steps for the sets that one read may have seen.
const SETS_STEPS: u64 = 100_000;

/// Some of the reads in their order, and the changes before the last of them.
#[derive(Clone)]
struct Row {
    /// Bits of the operations in it.
    done: Vec<u64>,
    balance: i128,
    reads: usize,
}

impl Row {
    fn has(&self, at: usize) -> bool {
        self.done[at / 64] >> (at % 64) & 1 == 1
    }

    fn with(&self, at: usize, op: &Op) -> Self {
        let mut row = self.clone();
        row.done[at / 64] |= 1 << (at % 64);
        row.balance = row.balance.saturating_add(op.change());
        row
    }
}

/// Looks for such a row: when there is none, no order explains the history; when there is one, an order may or may not.
pub(super) fn search(start: u128, ops: &[Op], steps_max: u64) -> Found {
    let count = ops.iter().filter(|op| matches!(op.does, Does::Read(_))).count();
    let mut open = vec![Row { done: vec![0; ops.len().div_ceil(64)], balance: units(start), reads: 0 }];
    let mut seen = HashSet::new();
    let mut best = Found::None { explained: 0, stuck: None };
    let mut most = None;
    for _ in 0..steps_max {
        let Some(row) = open.pop() else { return best };
        if row.reads == count {
            return Found::Order;
        }
        if !seen.insert(row.done.clone()) {
            continue;
        }
        let left = || ops.iter().enumerate().filter(|(at, op)| matches!(op.does, Does::Read(_)) && !row.has(*at));
        let Some(earliest) = left().map(|(_, op)| op).min_by_key(|op| op.answer) else { continue };
        if most.is_none_or(|most| row.reads > most) {
            most = Some(row.reads);
            best = Found::None {
                explained: row.done.iter().map(|word| word.count_ones() as usize).sum(),
                stuck: Some(*earliest),
            };
        }
        for (at, read) in left().filter(|(_, op)| Some(op.call) <= earliest.answer) {
            if grow(&row, (at, read), ops, &mut open).is_none() {
                return Found::Undecided;
            }
        }
    }
    Found::Undecided
}

/// Adds the rows that a read may make of one; none when they are too many to find.
fn grow(row: &Row, (at, read): (usize, &Op), ops: &[Op], open: &mut Vec<Row>) -> Option<()> {
    let Does::Read(wanted) = read.does else { return None };
    let mut grown = row.with(at, read);
    grown.reads += 1;
    let mut optional = Vec::new();
    for (at, op) in ops.iter().enumerate().filter(|(at, op)| op.change() != 0 && !row.has(*at)) {
        if op.answer.is_some_and(|answer| answer < read.call) {
            grown = grown.with(at, op);
        } else if Some(op.call) < read.answer {
            optional.push((at, op));
        }
    }
    let changes: Vec<i128> = optional.iter().map(|(_, op)| op.change()).collect();
    let (missing, mut steps) = (units(wanted).saturating_sub(grown.balance), SETS_STEPS);
    subsets(&changes, missing, &mut steps, &mut |set| {
        open.push(set.iter().fold(grown.clone(), |row, place| row.with(optional[*place].0, optional[*place].1)));
        true
    })
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(call: u64, answer: u64, does: Does) -> Op {
        Op { call, answer: (answer > 0).then_some(answer), does, hint: 0 }
    }

    #[test]
    fn reads_are_explained_by_a_row_of_growing_sets() {
        let ops = [
            op(1, 20, Does::Credit(1)),
            op(2, 21, Does::Debit(4)),
            op(3, 0, Does::Credit(8)),
            op(4, 5, Does::Read(10)),
            op(6, 8, Does::Read(15)),
            op(7, 9, Does::Read(14)),
        ];
        assert_eq!(search(10, &ops, 100), Found::Order);
        assert_eq!(search(10, &ops[..5], 100), Found::Order, "the debit may come behind");
        let gone = [&ops[..], &[op(22, 23, Does::Read(10))]].concat();
        assert_eq!(search(10, &gone, 100), Found::None { explained: 6, stuck: Some(op(22, 23, Does::Read(10))) });
    }

    #[test]
    fn what_was_answered_before_a_read_must_be_in_it() {
        assert!(matches!(search(0, &[op(1, 2, Does::Credit(5)), op(3, 4, Does::Read(0))], 100), Found::None { .. }));
        assert!(matches!(search(0, &[op(3, 0, Does::Credit(5)), op(1, 2, Does::Read(5))], 100), Found::None { .. }));
    }
}
