//! The search against two slow judges: stateright's tester, and every order there is.

use super::{Does, Found, Op, decide, reads, search};
use crate::sim::rng::Rng;
use stateright::semantics::{ConsistencyTester as _, LinearizabilityTester, SequentialSpec};

/// Small histories drawn.
const HISTORIES: u64 = 1_500;
const STEPS: u64 = 100_000;

/// An account as stateright sees it.
#[derive(Debug, Clone)]
struct Account(u128);

#[derive(Debug, Clone)]
enum Ask {
    Credit(u128),
    Debit(u128),
    Read,
}

#[derive(Debug, Clone, PartialEq)]
enum Answer {
    Done,
    TooMuch,
    Balance(u128),
}

impl SequentialSpec for Account {
    type Op = Ask;
    type Ret = Answer;

    fn invoke(&mut self, ask: &Ask) -> Answer {
        match ask {
            Ask::Credit(amount) => self.0 += amount,
            Ask::Debit(amount) if self.0 < *amount => return Answer::TooMuch,
            Ask::Debit(amount) => self.0 -= amount,
            Ask::Read => return Answer::Balance(self.0),
        }
        Answer::Done
    }
}

/// Stateright's verdict. Every operation is a thread of its own, and what is unknown never returns.
fn stateright_says(start: u128, ops: &[Op]) -> bool {
    let mut moments: Vec<(u64, usize, bool)> = Vec::new();
    for (at, op) in ops.iter().enumerate() {
        moments.push((op.call, at, true));
        moments.extend(op.answer.map(|answer| (answer, at, false)));
    }
    moments.sort_unstable();
    let mut tester = LinearizabilityTester::new(Account(start));
    for (_, at, calls) in moments {
        let (ask, answer) = match ops[at].does {
            Does::Credit(amount) => (Ask::Credit(amount), Answer::Done),
            Does::Debit(amount) => (Ask::Debit(amount), Answer::Done),
            Does::TooMuch(amount) => (Ask::Debit(amount), Answer::TooMuch),
            Does::Read(balance) => (Ask::Read, Answer::Balance(balance)),
        };
        let taken =
            if calls { tester.on_invoke(at, ask).map(|_| ()) } else { tester.on_return(at, answer).map(|_| ()) };
        assert_eq!(taken, Ok(()));
    }
    tester.is_consistent()
}

/// Tries every order: whether what is left can follow.
fn some_order_explains(balance: u128, left: &[Op]) -> bool {
    let answer = |op: &Op| op.answer.unwrap_or(u64::MAX);
    let Some(limit) = left.iter().map(answer).min().filter(|limit| *limit < u64::MAX) else { return true };
    (0..left.len()).filter(|at| left[*at].call < limit).any(|at| {
        let balance = match left[at].does {
            Does::Credit(amount) => balance + amount,
            Does::Debit(amount) if balance >= amount => balance - amount,
            Does::TooMuch(amount) if balance < amount => balance,
            Does::Read(seen) if seen == balance => balance,
            Does::Debit(_) | Does::TooMuch(_) | Does::Read(_) => return false,
        };
        let rest: Vec<Op> = left.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, op)| *op).collect();
        some_order_explains(balance, &rest)
    })
}

/// A history of an account that behaves, of which clients hear late or never; hints are right, wrong or missing.
fn history(rng: &mut Rng) -> (u128, Vec<Op>) {
    let start = u128::from(rng.below(8));
    let mut balance = start;
    let mut ops: Vec<Op> = Vec::new();
    for place in 1..=rng.between(2, 7) {
        // It happens at `place`; a call comes before, an answer behind.
        let reach = rng.between(1, 250);
        let (call, answer) = (1_000 + place * 100 - rng.below(reach), 1_000 + place * 100 + rng.below(reach) + 1);
        let amount = u128::from(rng.between(1, 6));
        let does = match rng.below(3) {
            0 => Does::Credit(amount),
            1 if balance >= amount => Does::Debit(amount),
            1 => Does::TooMuch(amount),
            _ => Does::Read(balance),
        };
        let hint = *rng.pick(&[place, 7 - place.min(7), u64::MAX]);
        let op = Op { call: call * 8 + place, answer: Some(answer * 8 + place), does, hint };
        balance = balance.saturating_add_signed(op.change());
        let forgotten = op.change() != 0 && rng.one_in(5);
        ops.push(Op { answer: op.answer.filter(|_| !forgotten), ..op });
    }
    (start, ops)
}

/// Breaks a history, or not: an answer is another, or comes earlier, or something never happened.
fn damage(rng: &mut Rng, ops: &mut Vec<Op>) {
    let at = rng.below(ops.len() as u64) as usize;
    let other = u128::from(rng.between(1, 3));
    match rng.below(5) {
        0 => {}
        1 => ops[at].answer = ops[at].answer.map(|answer| ops[at].call + (answer - ops[at].call).div_ceil(128) * 8),
        2 => {
            ops.remove(at);
        }
        _ => {
            ops[at].does = match ops[at].does {
                Does::Credit(amount) => Does::Credit(amount + other),
                Does::Debit(amount) => Does::Debit(amount + other),
                Does::TooMuch(amount) => Does::TooMuch(amount.saturating_sub(other)),
                Does::Read(balance) => Does::Read(balance + other),
            }
        }
    }
}

#[test]
fn the_search_agrees_with_stateright_and_with_every_order() {
    let mut rng = Rng::new(1);
    let (mut legal, mut unknown) = (0, 0);
    for number in 0..HISTORIES {
        let (start, mut ops) = history(&mut rng);
        damage(&mut rng, &mut ops);
        let expected = some_order_explains(start, &ops);
        assert_eq!(stateright_says(start, &ops), expected, "stateright about history {number}: {ops:?}");
        let found = search(start, &ops, STEPS);
        assert_eq!(found == Found::Order, expected, "{found:?} about history {number} from {start}: {ops:?}");
        assert_ne!(found, Found::Undecided);
        assert_eq!(decide(start, &ops, STEPS), found);
        // The reads alone never refuse what is legal.
        let reads = reads::search(start, &ops, STEPS);
        assert!(reads == Found::Order || !expected, "{reads:?} about history {number}: {ops:?}");
        legal += u64::from(expected);
        unknown += u64::from(ops.iter().any(|op| op.answer.is_none()));
    }
    let seen = [legal, HISTORIES - legal, unknown];
    assert!(seen.iter().all(|count| *count >= HISTORIES / 4), "legal, broken, with timeouts: {seen:?}");
}

#[test]
fn hints_change_no_verdict() {
    let mut rng = Rng::new(2);
    for _ in 0..HISTORIES {
        let (start, mut ops) = history(&mut rng);
        damage(&mut rng, &mut ops);
        let verdict = |ops: &[Op]| search(start, ops, STEPS) == Found::Order;
        let hinted = verdict(&ops);
        for op in &mut ops {
            op.hint = rng.below(4);
        }
        assert_eq!(verdict(&ops), hinted, "{ops:?}");
    }
}

/// A long history of an account as the simulator's tellers have them, with an outage in which answers pile up, and no hints.
fn long_history(rng: &mut Rng) -> (u128, Vec<Op>) {
    let start = 1 << 37;
    let mut balance = start;
    let mut ops: Vec<Op> = Vec::new();
    for place in 1..=400_u64 {
        let outage = (150..175).contains(&place);
        let does = match rng.below(5) {
            0 if !outage => Does::Read(balance),
            high => {
                let amount = u128::from(rng.below(1 << 10)) << 24 | 1 << (7 * place % 24);
                if high < 3 {
                    Does::Credit(amount)
                } else if balance >= amount {
                    Does::Debit(amount)
                } else {
                    Does::TooMuch(amount)
                }
            }
        };
        let (call, answer) = (1_000 + place * 100 - rng.below(150), 1_000 + place * 100 + rng.below(150) + 1);
        let answer = if outage { 18_500 + rng.below(1_000) } else { answer };
        let op = Op { call: call * 1_000 + place, answer: Some(answer * 1_000 + place), does, hint: u64::MAX };
        balance = balance.saturating_add_signed(op.change());
        let forgotten = op.change() != 0 && rng.one_in(if outage { 3 } else { 25 });
        ops.push(Op { answer: op.answer.filter(|_| !forgotten), ..op });
    }
    (start, ops)
}

#[test]
fn long_histories_are_decided_without_a_hint() {
    let mut rng = Rng::new(3);
    for number in 0..20 {
        let (start, mut ops) = long_history(&mut rng);
        assert_eq!(decide(start, &ops, STEPS), Found::Order, "history {number}");
        let reads: Vec<usize> = (0..ops.len()).filter(|at| matches!(ops[*at].does, Does::Read(_))).collect();
        // A read behind the outage that shows the balance before it.
        let (old, stale) = (reads[reads.len() / 4], reads[reads.len() * 3 / 4]);
        ops[stale].does = ops[old].does;
        assert!(matches!(decide(start, &ops, STEPS), Found::None { .. }), "broken history {number}");
    }
}
