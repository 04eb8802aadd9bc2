//! Judges a journal by itself, without the log: for each sink there is an order of its transfers and reads that agrees with
//! real time and explains every answer, searched as the simulator does it (Wing, Gong and Lowe).
//!
//! A sink's history is cut wherever nothing on it was under way: in any order that agrees with real time, everything
//! before such a moment comes before everything behind it, and what the sink holds there is known. So the windows between
//! the cuts can be searched one by one, and together they prove the whole. A transfer that nobody was answered may have
//! happened at any later time or never: nothing behind it is cut. The log's order is only the first thing tried.

use super::{Journal, Read, Sent};
use crate::sim::checks::linear::{Does, Found, Op, search};
use std::collections::BTreeMap;

/// Steps of the search for one window; a window that needs more stays undecided, which the run counts as a failure.
const STEPS_MAX: u64 = 3_000_000;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Windows {
    /// Windows that were searched.
    pub searched: u64,
    /// Operations of the longest.
    pub longest: usize,
    /// Windows that no order explains, as sentences.
    pub disorder: Vec<String>,
    /// Windows that the search gave up.
    pub undecided: u64,
}

/// What clients did to one sink, each transfer with its place in the log.
#[derive(Debug, Default)]
struct Touched<'a> {
    sent: Vec<(&'a Sent, u64)>,
    reads: Vec<&'a Read>,
}

/// Searches every window of every sink. `log` says what to try first: ids of transfers, in the log's order.
#[must_use]
pub fn search_all(journal: &Journal, log: &[(u64, [u8; 16])]) -> Windows {
    let mut places: BTreeMap<[u8; 16], u64> = BTreeMap::new();
    for (place, (_, id)) in (0..).zip(log) {
        places.entry(*id).or_insert(place);
    }
    let mut sinks: BTreeMap<usize, Touched<'_>> = BTreeMap::new();
    for sent in &journal.sent {
        let hint = places.get(&sent.id).copied().unwrap_or(u64::MAX);
        sinks.entry(sent.sink).or_default().sent.push((sent, hint));
    }
    for read in &journal.reads {
        sinks.entry(read.sink).or_default().reads.push(read);
    }
    let mut found = Windows::default();
    for (sink, touched) in sinks {
        let mut before = 0;
        for window in cut(operations(touched)) {
            found.searched += 1;
            found.longest = found.longest.max(window.len());
            match search(before, &window, STEPS_MAX) {
                Found::Order => {}
                Found::Undecided => found.undecided += 1,
                Found::None { explained, stuck } => found.disorder.push(format!(
                    "no order explains what clients saw of sink {sink}: {explained} of {} operations can be ordered, not \
                     {stuck:?}",
                    window.len()
                )),
            }
            before += window.iter().filter(|op| matches!(op.does, Does::Credit(_))).count() as u128;
        }
    }
    found
}

/// A sink's operations with unique times, in the order in which they were asked for. What ended in the microsecond in which
/// something else began counts as at the same time.
fn operations(Touched { sent, reads }: Touched<'_>) -> Vec<Op> {
    let mut credits: Vec<(u64, Option<u64>, Does, u64)> = sent
        .into_iter()
        .map(|(sent, hint)| (sent.invoked_us, sent.acked.map(|acked| acked.at_us), Does::Credit(1), hint))
        .collect();
    // A read of n comes right behind the n-th transfer of the log.
    credits.sort_unstable_by_key(|(.., hint)| *hint);
    let behind = |count: u64| {
        let newest = usize::try_from(count).ok().and_then(|count| count.checked_sub(1)).and_then(|at| credits.get(at));
        newest.map_or(0, |(.., hint)| *hint)
    };
    let read = |read: &&Read| {
        (read.invoked_us, Some(read.answered_us), Does::Read(u128::from(read.received)), behind(read.received))
    };
    let all: Vec<_> = reads.iter().map(read).chain(credits.iter().copied()).collect();
    let calls = all.iter().enumerate().map(|(at, (call, ..))| (*call, false, at));
    let answers = all.iter().enumerate().filter_map(|(at, (_, answer, ..))| answer.map(|answer| (answer, true, at)));
    let mut times: Vec<(u64, bool, usize)> = calls.chain(answers).collect();
    times.sort_unstable();
    let mut ops: Vec<Op> =
        all.iter().map(|(.., does, hint)| Op { call: 0, answer: None, does: *does, hint: *hint }).collect();
    for (time, (_, is_answer, at)) in (0..).zip(times) {
        if is_answer {
            ops[at].answer = Some(time);
        } else {
            ops[at].call = time;
        }
    }
    ops.sort_unstable_by_key(|op| op.call);
    ops
}

/// Cuts operations, in the order of their calls, where everything before has been answered.
fn cut(ops: Vec<Op>) -> Vec<Vec<Op>> {
    let mut windows: Vec<Vec<Op>> = Vec::new();
    let mut busy_until = 0;
    for op in ops {
        match windows.last_mut().filter(|_| op.call < busy_until) {
            Some(window) => window.push(op),
            None => windows.push(vec![op]),
        }
        busy_until = busy_until.max(op.answer.unwrap_or(u64::MAX));
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::super::Acked;
    use super::*;

    fn sent(name: u8, invoked_us: u64, acked_us: Option<u64>) -> Sent {
        let acked = acked_us.map(|at_us| Acked { at_us, index: 1, place: 0 });
        Sent { id: [name; 16], sink: 0, invoked_us, acked }
    }

    fn read(invoked_us: u64, answered_us: u64, received: u64) -> Read {
        Read { sink: 0, invoked_us, answered_us, received }
    }

    fn found(reads: Vec<Read>) -> Windows {
        let sent = vec![sent(1, 0, Some(10)), sent(2, 50, Some(60)), sent(3, 100, None)];
        search_all(&Journal { sent, reads }, &[])
    }

    #[test]
    fn what_an_order_explains_is_good_and_windows_are_cut_where_nothing_is_under_way() {
        let good = found(vec![read(20, 30, 1), read(55, 58, 1), read(59, 90, 2), read(110, 120, 3), read(130, 140, 3)]);
        assert_eq!((good.disorder, good.undecided, good.searched, good.longest), (Vec::new(), 0, 4, 3));
        assert!(found(vec![read(110, 120, 2), read(130, 140, 3)]).disorder.is_empty(), "the unknown may come late");
        assert!(found(vec![read(10, 20, 0)]).disorder.is_empty(), "in one microsecond is at the same time");
    }

    #[test]
    fn what_no_order_explains_is_seen() {
        for (reads, what) in [
            (vec![read(20, 30, 0)], "stale"),
            (vec![read(20, 30, 2)], "early"),
            (vec![read(51, 52, 2), read(53, 54, 1)], "back"),
            (vec![read(70, 71, 3)], "out of nothing"),
            (vec![read(110, 120, 3), read(130, 140, 2)], "the unknown undone"),
        ] {
            assert_eq!(found(reads).disorder.len(), 1, "{what}");
        }
    }
}
