//! An audit: the log replayed from a beginning that everyone can check, with everything verified that the coordinators
//! verify at their edges or take on trust.
//!
//! | part | checks |
//! |---|---|
//! | [`signatures`] | every entry's form, every envelope's signature: without the state, on as many threads as there are |
//! | [`books`] | every movement, and after each entry minted − burned = all balances and holds |
//! | [`blocks`] | the state's root and the log's hash at each epoch's close, against what a majority of the nodes signed |
//! | [`source`] | the log as it lies in a folder of sealed segments, every byte |
//! | [`offline`] | the rest of it in the folder of a coordinator that has stopped |
//! | [`mod@run`] | the pieces together, chunk by chunk |
//!
//! Beacon shares are verified by [`State::apply`]; the possession of enrolled keys is verified here, where the state says who
//! enrols. The first difference ends the audit and is named.

// A difference is made once, and ends the audit: what it weighs on the way out costs nothing.
#![allow(clippy::result_large_err)]

pub mod blocks;
pub mod books;
mod difference;
pub mod offline;
pub mod run;
pub mod signatures;
pub mod source;
#[cfg(test)]
mod tests;

pub use difference::{At, Difference, What};
pub use run::{AuditError, Progress, run};
pub use signatures::{Checked, check};

use crate::{archive::Head, edge};
use blocks::Blocks;
use books::Books;
use matrixai_protocol::Hash;
use matrixai_state::{Effect, GenesisError, State};

/// What an audit has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries replayed.
    pub entries: u64,
    /// Envelopes in them, each with a signature that holds.
    pub envelopes: u64,
    /// Commands in them.
    pub commands: u64,
    /// Movements of money.
    pub movements: u64,
    /// Epochs closed.
    pub epochs: u64,
    /// Epochs whose root a majority signed, and it is this replay's.
    pub roots: u64,
    /// Epochs whose segment's hash a majority signed, and it is this log's.
    pub segments: u64,
}

impl Counts {
    /// What was checked after `before`. Epochs that were confirmed are counted apart, for a majority signs later.
    fn since(self, before: &Self) -> Self {
        Self {
            entries: self.entries - before.entries,
            envelopes: self.envelopes - before.envelopes,
            commands: self.commands - before.commands,
            movements: self.movements - before.movements,
            epochs: self.epochs - before.epochs,
            roots: self.roots,
            segments: self.segments,
        }
    }
}

/// A replay under way.
#[derive(Debug)]
pub struct Auditor {
    state: State,
    books: Books,
    blocks: Blocks,
    next: u64,
    counts: Counts,
    /// The first epoch that is counted, and what had been checked when it began; none until it has.
    counted: (u64, Option<Counts>),
}

/// What a whole audit found to be true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How much was checked.
    pub counts: Counts,
    /// Index of the last entry.
    pub index: u64,
    /// Root of the state after it.
    pub root: Hash,
    /// The last place whose root and log a majority signed; what is behind it stands on the signatures of its senders and
    /// on this source alone.
    pub attested: Option<Head>,
    /// Minor units ever made, less those unmade: the sum of all balances and holds.
    pub money: u128,
}

impl Auditor {
    /// Starts with nothing but the genesis.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn genesis(bytes: &[u8]) -> Result<Self, GenesisError> {
        let state = State::genesis(bytes)?;
        let head = Head::genesis(*state.cluster_id());
        let (books, blocks) = (Books::of(&state), Blocks::behind(head, true));
        Ok(Self { books, blocks, state, next: 1, counts: Counts::default(), counted: (0, Some(Counts::default())) })
    }

    /// Counts only what lies in an epoch and behind it. Everything before is replayed and checked all the same: no state but that of
    /// genesis can be begun with on nobody's word.
    #[must_use]
    pub fn counting_from(mut self, epoch: u64) -> Self {
        let (behind, _) = self.blocks.behind_now();
        self.counted = (epoch, (epoch <= behind.epoch + 1).then_some(self.counts));
        self.blocks.count_from(epoch);
        self
    }

    /// Starts with a snapshot's state, which counts for nothing until the close of the epoch that it lies in: if a majority
    /// signed the root that the replay has there, the snapshot was the quorum's, to the last byte. The log must begin with
    /// that epoch; its entries up to the snapshot are hashed, not replayed.
    pub fn snapshot(state: State) -> Self {
        let closed = state.epochs().next_back();
        let segment = closed.and_then(|row| row.segment());
        let genesis = Head::genesis(*state.cluster_id());
        let (head, chained) = closed.map_or((genesis, true), |row| {
            (Head { epoch: row.epoch, index: row.index, hash: segment.unwrap_or_default() }, segment.is_some())
        });
        let books = Books::of(&state);
        let next = head.index + 1;
        let counted = (0, Some(Counts::default()));
        Self { books, blocks: Blocks::behind(head, chained), state, next, counts: Counts::default(), counted }
    }

    /// Starts with a snapshot's state as [`Auditor::snapshot`] does, from a log that begins behind another place than the
    /// close of an epoch: that of a cluster that was restored. No place but one between the last close before the snapshot and the
    /// snapshot is taken. Its hash is the source's word, until a majority signed the segment's, which covers it.
    #[must_use]
    pub fn from_place(mut self, place: Head) -> Self {
        let (behind, _) = self.behind();
        if behind.epoch == place.epoch && behind.index < place.index && place.index <= self.state.index() {
            self.blocks = Blocks::behind(place, true);
            self.next = place.index + 1;
        }
        self
    }

    /// The state after the entries so far.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// How much was checked so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Index of the entry that must come next.
    pub fn next_index(&self) -> u64 {
        self.next
    }

    /// The place that the log must begin behind; its hash is known if `true`.
    pub fn behind(&self) -> (Head, bool) {
        self.blocks.behind_now()
    }

    /// Replays the next entry.
    ///
    /// # Errors
    /// The first difference between what the log says and what must hold.
    pub fn push(&mut self, checked: &Checked) -> Result<(), Difference> {
        let entry = &checked.entry;
        if entry.index != self.next_index() {
            return Err(Difference::order(self.next_index(), entry.index));
        }
        for (at, envelope, command) in &checked.keyed {
            if edge::possessed(envelope, command, &self.state).is_err() {
                let expected = "a signature of the named key over this account's id";
                return Err(Difference::envelope(
                    entry.index,
                    at.clone(),
                    What::Possession,
                    expected,
                    "none that holds",
                ));
            }
        }
        self.blocks.entry(entry.index, &checked.hash);
        self.next += 1;
        self.counts.entries += 1;
        self.counts.envelopes += checked.envelopes;
        if entry.index <= self.state.index() {
            return self.blocks.attested(entry.index, &checked.attestations, &self.state);
        }
        let applied = self.state.apply(entry.index, &entry.data);
        self.books.entry(entry.index, &applied.movements, &self.state)?;
        self.counts.commands += applied.results.iter().map(|result| result.outcomes.len() as u64).sum::<u64>();
        self.counts.movements += applied.movements.len() as u64;
        for effect in &applied.effects {
            if let Effect::RootDue { epoch, index } = effect {
                self.counts.epochs += 1;
                self.books.whole_if_due(*index, self.counts.commands, &self.state)?;
                self.blocks.closed(*epoch, &self.state);
                if epoch + 1 == self.counted.0 {
                    self.counted.1 = Some(self.counts);
                }
            }
        }
        self.blocks.attested(entry.index, &checked.attestations, &self.state)?;
        (self.counts.roots, self.counts.segments) = self.blocks.confirmed();
        Ok(())
    }

    /// Ends the audit behind the last entry.
    ///
    /// # Errors
    /// As [`Auditor::push`], of what could be decided only now; and when the epoch that was to be counted from has not begun.
    pub fn finish(mut self) -> Result<Verdict, AuditError> {
        self.blocks.finish(&self.state)?;
        self.books.whole(self.state.index(), &self.state)?;
        let (from, before) = self.counted;
        let Some(before) = before else {
            let newest = self.blocks.behind_now().0.epoch;
            let what = format!("epoch {from} has not begun in it: the newest that has closed is {newest}");
            return Err(AuditError::Source(what));
        };
        (self.counts.roots, self.counts.segments) = self.blocks.confirmed();
        Ok(Verdict {
            counts: self.counts.since(&before),
            index: self.state.index(),
            root: self.state.root(),
            attested: self.blocks.last_attested(),
            money: self.state.minted().units() - self.state.burned().units(),
        })
    }
}
