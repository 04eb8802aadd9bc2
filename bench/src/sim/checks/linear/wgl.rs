//! The search of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993) with the memory of Lowe ("Testing for
//! linearizability", 2017): try what may come first, undo when stuck, and never look twice at the same set of operations.
//! The balance after a set of operations is the same in every order of them, so the set alone is what is remembered.
//!
//! Three things keep it short. Candidates are tried in the order of their hints, which are their places in the log: when
//! all is well the first try is right, and a wrong hint costs time and never changes the answer. What changes nothing and
//! is explained by the balance as it stands is taken at once, with no alternative: it only gets it out of the way. And a set
//! from which the next balance that was read cannot be reached by any choice of what was under way is left at once. A choice
//! that reaches it is remembered as its witness: while the search stays inside of that, nothing needs to be looked for.

use super::{Does, Found, Op, subset::subsets, units};
use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
};

/// Steps of one look at whether a balance can be reached, and of all looks for each step of the search; when they are spent,
/// it may be.
const REACH_STEPS: u64 = 50_000;
const REACH_STEPS_EACH: u64 = 20;

/// Looks for an order of `ops` from a starting balance, in at most so many steps.
pub fn search(start: u128, ops: &[Op], steps_max: u64) -> Found {
    let mut ops = ops.to_vec();
    ops.sort_by_key(|op| op.call);
    let in_order_of_answers = |wanted: &dyn Fn(&Op) -> bool| {
        let wanted = ops.iter().enumerate().filter(|(_, op)| wanted(op));
        let mut places: Vec<(u64, usize)> = wanted.filter_map(|(at, op)| Some((op.answer?, at))).collect();
        places.sort_unstable();
        places.into_iter().map(|(_, at)| at).collect::<Vec<_>>()
    };
    let answered = in_order_of_answers(&|_| true);
    let search = Search {
        reads: in_order_of_answers(&|op| matches!(op.does, Does::Read(_))),
        done: vec![0; ops.len().div_ceil(64)],
        seen: HashSet::new(),
        balance: start,
        reach_steps: Cell::new(steps_max.saturating_mul(REACH_STEPS_EACH)),
        order: Vec::new(),
        left: answered.len(),
        answered,
        links: Links::new(ops.len()),
        witness: RefCell::default(),
        ops: &ops,
    };
    search.run(steps_max)
}

/// The operations that are not ordered yet, by the time of their call: a list that gives one up, and takes it back when
/// those given up later are back.
struct Links {
    /// The end of the list stands at the place behind the last operation.
    next: Vec<usize>,
    previous: Vec<usize>,
}

impl Links {
    fn new(len: usize) -> Self {
        let ring = len + 1;
        Self {
            next: (0..ring).map(|at| (at + 1) % ring).collect(),
            previous: (0..ring).map(|at| (at + len) % ring).collect(),
        }
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        let end = self.next.len() - 1;
        std::iter::successors(Some(self.next[end]), |at| Some(self.next[*at])).take_while(move |at| *at != end)
    }

    fn remove(&mut self, at: usize) {
        let (previous, next) = (self.previous[at], self.next[at]);
        (self.next[previous], self.previous[next]) = (next, previous);
    }

    fn put_back(&mut self, at: usize) {
        let (previous, next) = (self.previous[at], self.next[at]);
        (self.next[previous], self.previous[next]) = (at, at);
    }
}

struct Search<'a> {
    /// In the order of their calls.
    ops: &'a [Op],
    /// Those with an answer, and of these the reads, in the order of their answers.
    answered: Vec<usize>,
    reads: Vec<usize>,
    links: Links,
    /// Bits of the operations in the order so far.
    done: Vec<u64>,
    seen: HashSet<Vec<u64>>,
    balance: u128,
    /// Left for all looks at whether a balance can be reached.
    reach_steps: Cell<u64>,
    /// A read, and bits of the changes that come before it in some choice that makes its balance.
    witness: RefCell<Option<(usize, Vec<u64>)>>,
    order: Vec<usize>,
    /// Answers not explained yet.
    left: usize,
}

/// What may come after the order so far.
#[derive(Default)]
struct Choice {
    candidates: std::vec::IntoIter<usize>,
    /// Everything before these is done, in `answered` and in `reads`.
    first_answered: usize,
    first_read: usize,
}

impl Search<'_> {
    fn run(mut self, steps_max: u64) -> Found {
        let mut best = Found::None { explained: 0, stuck: None };
        let mut choices = match self.choice(&Choice::default()) {
            Ok(choice) => vec![choice],
            Err(stuck) => return Found::None { explained: 0, stuck: Some(stuck) },
        };
        let mut most = 0;
        for _ in 0..=steps_max {
            if self.left == 0 {
                return Found::Order;
            }
            let Some(choice) = choices.last_mut() else { return best };
            let Some(at) = choice.candidates.next() else {
                choices.pop();
                self.undo();
                continue;
            };
            self.take(at);
            if !self.seen.insert(self.done.clone()) {
                self.undo();
                continue;
            }
            match self.choice(choice) {
                Ok(choice) => choices.push(choice),
                Err(stuck) => {
                    if self.order.len() > most {
                        most = self.order.len();
                        best = Found::None { explained: most, stuck: Some(stuck) };
                    }
                    self.undo();
                }
            }
        }
        Found::Undecided
    }

    fn is_done(&self, at: usize) -> bool {
        self.done[at / 64] >> (at % 64) & 1 == 1
    }

    /// What may come next.
    ///
    /// # Errors
    /// Nothing: this answer cannot be explained any more.
    fn choice(&self, before: &Choice) -> Result<Choice, Op> {
        let skip =
            |places: &[usize], from: usize| from + places[from..].iter().take_while(|at| self.is_done(**at)).count();
        let first_answered = skip(&self.answered, before.first_answered);
        let first_read = skip(&self.reads, before.first_read);
        let Some(earliest) = self.answered.get(first_answered).map(|at| self.ops[*at]) else {
            return Ok(Choice::default());
        };
        // Nothing asked later than the earliest answer may go before it.
        let open = || self.links.iter().take_while(|at| Some(self.ops[*at].call) < earliest.answer);
        let free = open().find(|at| {
            let op = &self.ops[*at];
            op.change() == 0 && self.allows(op)
        });
        if let Some(at) = free {
            return Ok(Choice { candidates: vec![at].into_iter(), first_answered, first_read });
        }
        if let Some(read) = self.reads.get(first_read)
            && !self.reaches(*read)
        {
            return Err(self.ops[*read]);
        }
        if let Some(at) = open().find(|at| !self.may_come(&self.ops[*at])) {
            return Err(self.ops[at]);
        }
        let mut candidates: Vec<usize> = open().filter(|at| self.allows(&self.ops[*at])).collect();
        candidates.sort_by_key(|at| (self.ops[*at].hint, self.ops[*at].answer.unwrap_or(u64::MAX)));
        if candidates.is_empty() {
            Err(earliest)
        } else {
            Ok(Choice { candidates: candidates.into_iter(), first_answered, first_read })
        }
    }

    /// Whether some of what may come before a read makes the balance that it saw, as far as can be told.
    fn reaches(&self, at: usize) -> bool {
        let read = &self.ops[at];
        let Does::Read(wanted) = read.does else { return true };
        if self.is_inside_witness(at) {
            return true;
        }
        let mut missing = units(wanted) - units(self.balance);
        let (mut optional, mut places) = (Vec::new(), Vec::new());
        let mut inside = self.done.clone();
        for at in self.links.iter().take_while(|at| Some(self.ops[*at].call) < read.answer) {
            let op = &self.ops[at];
            if op.change() == 0 {
                continue;
            }
            if op.answer.is_some_and(|answer| answer < read.call) {
                missing = missing.saturating_sub(op.change());
                inside[at / 64] |= 1 << (at % 64);
            } else {
                optional.push(op.change());
                places.push(at);
            }
        }
        let mut reached = false;
        let lent = self.reach_steps.get().min(REACH_STEPS);
        let mut steps = lent;
        let complete = subsets(&optional, missing, &mut steps, &mut |chosen| {
            reached = true;
            chosen.iter().map(|chosen| places[*chosen]).for_each(|at| inside[at / 64] |= 1 << (at % 64));
            false
        });
        self.reach_steps.set(self.reach_steps.get() - (lent - steps));
        if reached {
            self.witness.replace(Some((at, inside)));
        }
        reached || complete.is_err()
    }

    /// Whether every change so far is in the choice that is known to reach a read. What is not done of it can all still be
    /// done: it was asked for before the read was answered.
    fn is_inside_witness(&self, read: usize) -> bool {
        let witness = self.witness.borrow();
        let Some((_, inside)) = witness.as_ref().filter(|(of, _)| *of == read) else { return false };
        let beyond = self.done.iter().zip(inside).map(|(done, inside)| done & !inside).enumerate();
        beyond.filter(|(_, bits)| *bits != 0).all(|(word, bits)| {
            (0..64).filter(|bit| bits >> bit & 1 == 1).all(|bit| self.ops[word * 64 + bit].change() == 0)
        })
    }

    /// Whether enough money may still come, or go, before an answer that needs it.
    fn may_come(&self, op: &Op) -> bool {
        let Some(answer) = op.answer else { return true };
        let before = || self.links.iter().map(|at| &self.ops[at]).take_while(|other| other.call < answer);
        let sum = |wanted: fn(i128) -> i128| {
            before().map(|other| wanted(other.change())).fold(units(self.balance), i128::saturating_add)
        };
        match op.does {
            Does::Debit(amount) => sum(|change| change.max(0)) >= units(amount),
            Does::TooMuch(amount) => sum(|change| change.min(0)) < units(amount),
            Does::Credit(_) | Does::Read(_) => true,
        }
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
        self.balance = self.balance.saturating_add_signed(op.change());
        self.left -= usize::from(op.answer.is_some());
        self.done[at / 64] |= 1 << (at % 64);
        self.links.remove(at);
        self.order.push(at);
    }

    fn undo(&mut self) {
        let Some(at) = self.order.pop() else { return };
        let op = &self.ops[at];
        self.balance = self.balance.saturating_add_signed(-op.change());
        self.left += usize::from(op.answer.is_some());
        self.done[at / 64] &= !(1 << (at % 64));
        self.links.put_back(at);
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
        assert_eq!(search(0, &[credit, stale], 100), Found::None { explained: 0, stuck: Some(stale) });
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
        // Any twenty of forty give the read's balance, but for one unit.
        let mut ops: Vec<Op> = (0..40).map(|at| op(at + 1, 100 + at, Does::Credit(3))).collect();
        ops.push(op(50, 51, Does::Read(61)));
        assert_eq!(search(0, &ops, 1_000), Found::Undecided);
    }

    #[test]
    fn a_read_that_nothing_explains_is_found_among_many_that_are_under_way() {
        let mut ops: Vec<Op> = (0..40).map(|at| op(at + 1, 100 + at, Does::Credit(1 << at))).collect();
        ops.push(op(50, 51, Does::Read(3)));
        ops.push(op(52, 53, Does::Read(2)));
        let Found::None { stuck, .. } = search(0, &ops, 1_000) else { panic!("no order explains it") };
        assert_eq!(stuck, ops.last().copied());
        ops.pop();
        assert_eq!(search(0, &ops, 1_000), Found::Order);
    }
}
