//! Judges a journal. The replicated log is the witness: it is one order of all commands, so a history is linearizable if
//! that order agrees with real time and every read fits into it. Finding a witness proves linearizability; and since
//! this log is the order in which the replicas really applied everything, the lack of one is a violation, never an
//! "unknown".

use super::{Journal, Read, Sent};
use std::collections::BTreeMap;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Transfers that were acknowledged.
    pub acknowledged: u64,
    /// Acknowledged, but not in the log, or not at the index that was named, or missing from a balance.
    pub lost: u64,
    /// Minor units that sinks have beyond one for each transfer in the log.
    pub doubled: u64,
    /// What contradicts real time, the first few, as sentences.
    pub disorder: Vec<String>,
}

impl Verdict {
    /// Whether everything held.
    #[must_use]
    pub fn good(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.disorder.is_empty()
    }
}

/// Sentences kept about disorder.
const DISORDER_MAX: usize = 10;

/// Judges a journal by the log (ids of transfers with their index, in order; later copies of an id are retries and
/// change nothing) and by what each sink has received in the end.
#[must_use]
pub fn judge(journal: &Journal, log: &[(u64, [u8; 16])], received: &[u64]) -> Verdict {
    let mut position: BTreeMap<[u8; 16], (usize, u64)> = BTreeMap::new();
    for (place, (index, id)) in log.iter().enumerate() {
        position.entry(*id).or_insert((place, *index));
    }
    let mut verdict = Verdict::default();
    let mut ordered: Vec<(usize, &Sent)> = Vec::new();
    for sent in &journal.sent {
        let found = position.get(&sent.id);
        if let Some(acked) = sent.acked {
            verdict.acknowledged += 1;
            if found.is_none_or(|(_, index)| *index != acked.index) {
                verdict.lost += 1;
            }
        }
        ordered.extend(found.map(|(place, _)| (*place, sent)));
    }
    ordered.sort_by_key(|(place, _)| *place);

    let mut expected = vec![0; received.len()];
    for (_, sent) in &ordered {
        expected[sent.sink] += 1;
    }
    for (expected, received) in expected.iter().zip(received) {
        verdict.doubled += received.saturating_sub(*expected);
        verdict.lost += expected.saturating_sub(*received);
    }

    writes_in_real_time(&ordered, &mut verdict.disorder);
    let mut by_sink: BTreeMap<usize, (Vec<&Sent>, Vec<&Read>)> = BTreeMap::new();
    for (_, sent) in ordered {
        by_sink.entry(sent.sink).or_default().0.push(sent);
    }
    for read in &journal.reads {
        by_sink.entry(read.sink).or_default().1.push(read);
    }
    for (sink, (writes, mut reads)) in by_sink {
        reads_fit(sink, &writes, &mut reads, &mut verdict.disorder);
    }
    verdict.disorder.truncate(DISORDER_MAX);
    verdict
}

/// No transfer may come after one in the log that was sent only when the first had been acknowledged.
fn writes_in_real_time(ordered: &[(usize, &Sent)], disorder: &mut Vec<String>) {
    let mut newest_invoked = 0;
    for (place, sent) in ordered {
        if let Some(acked) = sent.acked
            && newest_invoked > acked.at_us
        {
            disorder.push(format!("the transfer at {place} was acknowledged before one ahead of it was sent"));
        }
        newest_invoked = newest_invoked.max(sent.invoked_us);
    }
}

/// A read of n fits between the n-th and the next credit of its sink: every earlier credit was sent before the read
/// ended, every later one was not acknowledged before it began, and reads do not go back. Pairs that agree with
/// real time make a whole order that does.
fn reads_fit(sink: usize, writes: &[&Sent], reads: &mut [&Read], disorder: &mut Vec<String>) {
    // Over the first n writes: when the last of them was sent. From write n on: when the first was acknowledged.
    let mut sent_by = vec![0];
    for write in writes {
        sent_by.push(write.invoked_us.max(*sent_by.last().unwrap_or(&0)));
    }
    let mut acked_from = vec![u64::MAX];
    for write in writes.iter().rev() {
        let next = *acked_from.last().unwrap_or(&u64::MAX);
        acked_from.push(write.acked.map_or(next, |acked| next.min(acked.at_us)));
    }
    acked_from.reverse();

    reads.sort_by_key(|read| read.invoked_us);
    let mut answered: Vec<&Read> = reads.to_vec();
    answered.sort_by_key(|read| read.answered_us);
    let (mut ended, mut most_seen) = (answered.into_iter().peekable(), 0);
    for read in reads.iter() {
        let Some(n) = usize::try_from(read.received).ok().filter(|n| *n <= writes.len()) else {
            disorder.push(format!("sink {sink} was read as {}, more than it was ever sent", read.received));
            continue;
        };
        if sent_by[n] > read.answered_us {
            disorder.push(format!("sink {sink} was read as {n} before the {n}th transfer was sent"));
        }
        if acked_from[n] < read.invoked_us {
            disorder.push(format!("sink {sink} was read as {n} after a later transfer had been acknowledged"));
        }
        while let Some(earlier) = ended.next_if(|earlier| earlier.answered_us < read.invoked_us) {
            most_seen = most_seen.max(earlier.received);
        }
        if most_seen > read.received {
            disorder.push(format!("sink {sink} was read as {n} after it had been read as {most_seen}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Acked;
    use super::*;

    fn sent(name: u8, invoked_us: u64, acked: Option<(u64, u64)>) -> Sent {
        let acked = acked.map(|(at_us, index)| Acked { at_us, index, place: 0 });
        Sent { id: [name; 16], sink: 0, invoked_us, acked }
    }

    fn read(invoked_us: u64, answered_us: u64, received: u64) -> Read {
        Read { sink: 0, invoked_us, answered_us, received }
    }

    fn log(names: &[(u64, u8)]) -> Vec<(u64, [u8; 16])> {
        names.iter().map(|(index, name)| (*index, [*name; 16])).collect()
    }

    #[test]
    fn a_good_history_is_good() {
        let sent = vec![sent(1, 0, Some((10, 5))), sent(2, 5, Some((20, 5))), sent(3, 15, None)];
        let reads = vec![read(0, 1, 0), read(11, 19, 2), read(30, 40, 3)];
        let verdict = judge(&Journal { sent, reads }, &log(&[(5, 1), (5, 2), (6, 3), (7, 1)]), &[3]);
        assert!(verdict.good(), "{verdict:?}");
        assert_eq!(verdict.acknowledged, 2);
    }

    #[test]
    fn what_was_acknowledged_and_is_gone_is_lost() {
        let journal = Journal { sent: vec![sent(1, 0, Some((10, 5))), sent(2, 0, Some((10, 6)))], reads: Vec::new() };
        assert_eq!(judge(&journal, &log(&[(5, 1)]), &[1]).lost, 1);
        assert_eq!(judge(&journal, &log(&[(5, 1), (7, 2)]), &[2]).lost, 1, "another index was named");
        assert_eq!(judge(&journal, &log(&[(5, 1), (6, 2)]), &[1]).lost, 1, "a balance lacks one");
        assert_eq!(judge(&journal, &log(&[(5, 1), (6, 2)]), &[3]).doubled, 1);
    }

    #[test]
    fn an_order_against_real_time_is_seen() {
        let journal = Journal { sent: vec![sent(1, 0, Some((10, 6))), sent(2, 20, Some((30, 5)))], reads: Vec::new() };
        assert!(!judge(&journal, &log(&[(5, 2), (6, 1)]), &[2]).good());
    }

    #[test]
    fn a_stale_read_an_early_one_and_one_that_goes_back_are_seen() {
        let writes = || vec![sent(1, 0, Some((10, 5))), sent(2, 50, Some((60, 6)))];
        let order = log(&[(5, 1), (6, 2)]);
        let found = |reads| judge(&Journal { sent: writes(), reads }, &order, &[2]).disorder.len();
        assert_eq!(found(vec![read(20, 30, 1), read(55, 58, 1), read(59, 90, 2)]), 0);
        assert_eq!(found(vec![read(20, 30, 0)]), 1, "stale");
        assert_eq!(found(vec![read(20, 30, 2)]), 1, "early");
        assert_eq!(found(vec![read(51, 52, 2), read(53, 54, 1)]), 1, "back");
        assert_eq!(found(vec![read(70, 71, 3)]), 1, "out of nothing");
    }
}
