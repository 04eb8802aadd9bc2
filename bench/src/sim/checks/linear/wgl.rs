//! The search of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993) with the memory of Lowe ("Testing for
//! linearizability", 2017): try what may come first, undo when stuck, and never look twice at the same set of operations.
//!
//! The balance after a set of operations is the same in every order of them, so the set alone is what is remembered.
//! Candidates are tried in the order of their hints, which are their places in the log: when all is well the first try is
//! right. A wrong hint costs time and never changes the answer.

use super::{Does, Op};
use std::collections::HashSet;

/// What the search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// An order that explains everything.
    Order,
    /// There is none.
    None {
        /// Most operations that could be ordered.
        explained: usize,
        /// The earliest answer that could not be explained then.
        stuck: Option<Op>,
    },
    /// The search was given up.
    Undecided,
}

/// Looks for an order of `ops` from a starting balance, in at most so many steps.
pub fn search(start: u128, ops: &[Op], steps_max: u64) -> Found {
    let mut ops = ops.to_vec();
    ops.sort_by_key(|op| (op.hint, op.answer.unwrap_or(u64::MAX)));
    let mut answered: Vec<(u64, usize)> =
        ops.iter().enumerate().filter_map(|(at, op)| Some((op.answer?, at))).collect();
    answered.sort_unstable();
    let mut search = Search {
        done: vec![0; ops.len().div_ceil(64)],
        seen: HashSet::new(),
        balance: start,
        order: Vec::new(),
        left: answered.len(),
        answered: answered.into_iter().map(|(_, at)| at).collect(),
        first_answer: 0,
        first: 0,
        ops: &ops,
    };
    search.run(steps_max)
}

struct Search<'a> {
    /// In the order in which they are tried.
    ops: &'a [Op],
    /// Those with an answer, in the order of their answers.
    answered: Vec<usize>,
    /// Bits of the operations in the order so far.
    done: Vec<u64>,
    seen: HashSet<Vec<u64>>,
    balance: u128,
    order: Vec<usize>,
    /// Answers not explained yet.
    left: usize,
    /// Everything before these is done: in `answered`, and in `ops`.
    first_answer: usize,
    first: usize,
}

impl Search<'_> {
    fn run(&mut self, steps_max: u64) -> Found {
        let (mut from, mut steps, mut most) = (0, 0, 0);
        let mut best = Found::None { explained: 0, stuck: self.earliest() };
        while self.left > 0 {
            steps += 1;
            if steps > steps_max {
                return Found::Undecided;
            }
            if let Some(at) = self.next(from) {
                self.take(at);
                if self.seen.insert(self.done.clone()) {
                    from = 0;
                    continue;
                }
            } else if self.order.len() >= most {
                most = self.order.len();
                best = Found::None { explained: most, stuck: self.earliest() };
            }
            match self.undo() {
                Some(at) => from = at + 1,
                None => return best,
            }
        }
        Found::Order
    }

    fn is_done(&self, at: usize) -> bool {
        self.done[at / 64] >> (at % 64) & 1 == 1
    }

    /// The answer that came first among what is not ordered yet: nothing asked later may go before it.
    fn earliest(&mut self) -> Option<Op> {
        while self.answered.get(self.first_answer).is_some_and(|at| self.is_done(*at)) {
            self.first_answer += 1;
        }
        self.answered.get(self.first_answer).map(|at| self.ops[*at])
    }

    /// The next operation that may come now.
    fn next(&mut self, from: usize) -> Option<usize> {
        let limit = self.earliest()?.answer?;
        while self.first < self.ops.len() && self.is_done(self.first) {
            self.first += 1;
        }
        (from.max(self.first)..self.ops.len()).find(|at| {
            let op = &self.ops[*at];
            op.call < limit && !self.is_done(*at) && self.allows(op)
        })
    }

    fn allows(&self, op: &Op) -> bool {
        match op.does {
            Does::Credit(_) => true,
            Does::Debit(amount) => self.balance >= amount,
            Does::TooMuch(amount) => self.balance < amount,
            Does::Read(balance) => self.balance == balance,
        }
    }

    fn take(&mut self, at: usize) {
        let op = &self.ops[at];
        match op.does {
            Does::Credit(amount) => self.balance += amount,
            Does::Debit(amount) => self.balance -= amount,
            Does::TooMuch(_) | Does::Read(_) => {}
        }
        self.left -= usize::from(op.answer.is_some());
        self.done[at / 64] |= 1 << (at % 64);
        self.order.push(at);
    }

    fn undo(&mut self) -> Option<usize> {
        let at = self.order.pop()?;
        let op = &self.ops[at];
        match op.does {
            Does::Credit(amount) => self.balance -= amount,
            Does::Debit(amount) => self.balance += amount,
            Does::TooMuch(_) | Does::Read(_) => {}
        }
        self.left += usize::from(op.answer.is_some());
        self.done[at / 64] &= !(1 << (at % 64));
        self.first = self.first.min(at);
        if let Some(answer) = op.answer {
            let place = self.answered.partition_point(|other| self.ops[*other].answer < Some(answer));
            self.first_answer = self.first_answer.min(place);
        }
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(call: u64, answer: u64, does: Does) -> Op {
        Op { call, answer: (answer > 0).then_some(answer), does, hint: u64::MAX - call }
    }

    #[test]
    fn a_read_behind_a_credit_must_see_it() {
        let credit = op(1, 2, Does::Credit(5));
        assert_eq!(search(0, &[credit, op(3, 4, Does::Read(5))], 100), Found::Order);
        let stale = op(3, 4, Does::Read(0));
        assert_eq!(search(0, &[credit, stale], 100), Found::None { explained: 1, stuck: Some(stale) });
        assert_eq!(search(0, &[op(1, 9, Does::Credit(5)), op(3, 4, Does::Read(0))], 100), Found::Order);
    }

    #[test]
    fn the_unknown_may_happen_late_or_never_but_not_before_it_is_asked() {
        let unknown = op(3, 0, Does::Credit(5));
        assert_eq!(search(0, &[unknown, op(4, 5, Does::Read(0)), op(6, 7, Does::Read(5))], 100), Found::Order);
        assert_eq!(search(0, &[unknown, op(4, 5, Does::Read(0))], 100), Found::Order);
        assert!(matches!(search(0, &[unknown, op(1, 2, Does::Read(5))], 100), Found::None { .. }));
        let (seen, gone) = (op(4, 5, Does::Read(5)), op(6, 7, Does::Read(0)));
        assert!(matches!(search(0, &[unknown, seen, gone], 100), Found::None { .. }));
    }

    #[test]
    fn money_must_be_there_when_it_goes_and_lack_when_it_is_refused() {
        assert!(matches!(search(3, &[op(1, 2, Does::Debit(5))], 100), Found::None { .. }));
        assert_eq!(search(3, &[op(1, 4, Does::Debit(5)), op(2, 3, Does::Credit(2))], 100), Found::Order);
        assert!(matches!(search(5, &[op(1, 2, Does::TooMuch(5))], 100), Found::None { .. }));
        assert_eq!(search(4, &[op(1, 2, Does::TooMuch(5))], 100), Found::Order);
    }

    #[test]
    fn a_search_without_end_is_given_up() {
        let unknown: Vec<Op> = (0..40).map(|at| op(at + 1, 0, Does::Credit(1 << at))).collect();
        let ops = [unknown, vec![op(50, 51, Does::Read(u128::MAX))]].concat();
        assert_eq!(search(0, &ops, 1_000), Found::Undecided);
    }
}
