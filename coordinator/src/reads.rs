//! Linearizable reads without a log entry: a read is answered from the applied state once the quorum has confirmed, after
//! the read arrived, which index was committed, and that index is applied here.
//!
//! Reads that arrive together share one question to the quorum. raft drops questions at will (no leader, a leader without
//! a committed entry yet, a lost message), so an unanswered one is asked again under a new context until the reader's
//! patience ends.
//!
//! A reader that is content with a view of a certain age is answered at once when the newest confirmed view is that young:
//! its age counts from when its question was **asked**, by this process's own steady clock, so no other clock is trusted.
//! Otherwise it waits like any other, and its question makes the view young again for those after it.

use crate::plants::{Plant, planted};
use std::collections::BTreeMap;

/// Reads waiting at once.
pub const READS_MAX: usize = 65_536;
/// Questions to the quorum on their way at once; later readers share the next one.
const QUESTIONS_MAX: usize = 8;
/// A question without an answer for this long is asked again.
const ASK_AGAIN_MS: u64 = 250;
/// A reader is told to ask again after this long.
const READ_WAIT_MS: u64 = 5_000;

/// How new a view has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadMode {
    /// It holds everything that was acknowledged anywhere before the read was asked for.
    Linearizable,
    /// It holds everything that was acknowledged anywhere this many milliseconds before.
    Bounded {
        /// Milliseconds.
        age_ms: u64,
    },
}

/// The waiting reads; `T` is whatever answers a reader.
#[derive(Debug)]
pub struct Reads<T> {
    /// Random start of this process's contexts, so that answers to an earlier process are told apart.
    next_context: u64,
    /// Not yet asked about.
    new: Vec<Reader<T>>,
    asked: BTreeMap<u64, Question<T>>,
    /// Confirmed at an index that is not applied yet.
    confirmed: BTreeMap<u64, Question<T>>,
    waiting: usize,
    /// The applied state holds everything that was acknowledged before this time.
    fresh_at: Option<u64>,
}

#[derive(Debug)]
struct Reader<T> {
    to: T,
    since: u64,
}

#[derive(Debug)]
struct Question<T> {
    readers: Vec<Reader<T>>,
    asked_at: u64,
}

impl<T> Reads<T> {
    /// No reads; contexts count up from `first_context`.
    pub fn new(first_context: u64) -> Self {
        Self {
            next_context: first_context,
            new: Vec::new(),
            asked: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            waiting: 0,
            fresh_at: None,
        }
    }

    /// Whether the applied state is new enough as it is.
    pub fn is_fresh(&self, mode: ReadMode, now: u64) -> bool {
        match mode {
            ReadMode::Linearizable => false,
            ReadMode::Bounded { age_ms } => {
                self.fresh_at.is_some_and(|at| planted(Plant::BoundIgnored) || now.saturating_sub(at) <= age_ms)
            }
        }
    }

    /// Adds a reader, or hands it back when too many wait.
    pub fn add(&mut self, to: T, now: u64) -> Result<(), T> {
        if self.waiting == READS_MAX {
            return Err(to);
        }
        self.waiting += 1;
        self.new.push(Reader { to, since: now });
        Ok(())
    }

    /// The context to ask the quorum about now, if there is a reason to.
    pub fn ask(&mut self, now: u64) -> Option<u64> {
        let lost: Vec<u64> = self
            .asked
            .iter()
            .filter(|(_, question)| now.saturating_sub(question.asked_at) >= ASK_AGAIN_MS)
            .map(|(context, _)| *context)
            .collect();
        for context in lost {
            if let Some(question) = self.asked.remove(&context) {
                self.new.extend(question.readers);
            }
        }
        if self.new.is_empty() || self.asked.len() == QUESTIONS_MAX {
            return None;
        }
        let context = self.next_context;
        self.next_context = self.next_context.wrapping_add(1);
        self.asked.insert(context, Question { readers: std::mem::take(&mut self.new), asked_at: now });
        Some(context)
    }

    /// The quorum confirmed: `index` was committed when this context was asked.
    pub fn confirmed(&mut self, context: u64, index: u64) {
        if let Some(question) = self.asked.remove(&context) {
            let none = Question { readers: Vec::new(), asked_at: 0 };
            let confirmed = self.confirmed.entry(index).or_insert(none);
            confirmed.asked_at = confirmed.asked_at.max(question.asked_at);
            confirmed.readers.extend(question.readers);
        }
    }

    /// The highest index that an answerable reader's view must hold; 0 while nobody waits for one.
    pub fn confirmed_through(&self) -> u64 {
        self.confirmed.last_key_value().map_or(0, |(index, _)| *index)
    }

    /// The readers that may be answered from a view of what is `applied`.
    pub fn ready(&mut self, applied: u64) -> Vec<T> {
        let later = self.confirmed.split_off(&applied.saturating_add(1));
        let ready = std::mem::replace(&mut self.confirmed, later);
        self.fresh_at = ready.values().map(|question| Some(question.asked_at)).fold(self.fresh_at, Option::max);
        let readers = ready.into_values().flat_map(|question| question.readers);
        let ready: Vec<T> = readers.map(|reader| reader.to).collect();
        self.waiting -= ready.len();
        ready
    }

    /// The readers whose patience has ended.
    pub fn late(&mut self, now: u64) -> Vec<T> {
        let mut late = Vec::new();
        let queues = [&mut self.new].into_iter();
        let questions = self.asked.values_mut().chain(self.confirmed.values_mut());
        for readers in queues.chain(questions.map(|question| &mut question.readers)) {
            late.extend(readers.extract_if(.., |reader| now.saturating_sub(reader.since) >= READ_WAIT_MS));
        }
        self.waiting -= late.len();
        late.into_iter().map(|reader| reader.to).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_read_waits_for_the_quorum_and_for_apply() {
        let mut reads = Reads::new(7);
        reads.add("a", 0).unwrap();
        reads.add("b", 0).unwrap();
        assert_eq!(reads.ask(0), Some(7), "both share one question");
        assert_eq!(reads.ask(0), None);
        reads.confirmed(7, 10);
        assert!(reads.ready(9).is_empty());
        assert_eq!(reads.ready(10), ["a", "b"]);
    }

    #[test]
    fn a_read_never_rides_on_an_older_question() {
        let mut reads = Reads::new(0);
        reads.add("a", 0).unwrap();
        assert_eq!(reads.ask(0), Some(0));
        reads.add("b", 1).unwrap();
        reads.confirmed(0, 5);
        assert_eq!(reads.ready(5), ["a"]);
        assert_eq!(reads.ask(1), Some(1));
    }

    #[test]
    fn a_bounded_read_counts_age_from_when_the_quorum_was_asked() {
        let mut reads = Reads::new(0);
        let bounded = ReadMode::Bounded { age_ms: 100 };
        assert!(!reads.is_fresh(bounded, 0), "nothing was ever confirmed");
        reads.add("a", 1_000).unwrap();
        assert_eq!(reads.ask(1_000), Some(0));
        reads.confirmed(0, 5);
        assert!(reads.ready(4).is_empty());
        assert!(!reads.is_fresh(bounded, 1_000), "confirmed, but not applied here");
        assert_eq!(reads.ready(5), ["a"]);
        assert!(reads.is_fresh(bounded, 1_100));
        assert!(!reads.is_fresh(bounded, 1_101));
        assert!(!reads.is_fresh(ReadMode::Linearizable, 1_000));
    }

    #[test]
    fn lost_questions_are_asked_again_until_patience_ends() {
        let mut reads = Reads::new(0);
        reads.add("a", 0).unwrap();
        assert_eq!(reads.ask(0), Some(0));
        assert_eq!(reads.ask(ASK_AGAIN_MS), Some(1));
        reads.confirmed(0, 5);
        assert!(reads.ready(5).is_empty(), "the answer to the lost question came too late to be told apart");
        assert!(reads.late(READ_WAIT_MS - 1).is_empty());
        assert_eq!(reads.late(READ_WAIT_MS), ["a"]);
        reads.confirmed(1, 6);
        assert!(reads.ready(6).is_empty());
    }

    #[test]
    fn the_number_of_readers_is_bounded() {
        let mut reads = Reads::new(0);
        for reader in 0..READS_MAX {
            reads.add(reader, 0).unwrap();
        }
        assert_eq!(reads.add(READS_MAX, 0), Err(READS_MAX));
        reads.late(READ_WAIT_MS);
        reads.add(0, 0).unwrap();
    }
}
