//! When a view of the state is made. A view shares its pages with the state, which must copy each page that it writes while
//! the view lives: one for every batch would cost a busy coordinator more than applying does.
//!
//! So there is one behind a batch that left effects or news, whenever somebody waits for one (a read that the quorum has
//! confirmed, a snapshot that is due), and now and then for those who are content with what this coordinator happens to
//! know. Nobody is answered from an older view than it asked for: a read waits until there is one that holds its index.

use super::{Io, NoView, Reader, Replica};
use crate::{
    core::Event,
    plants::{Plant, planted},
    reads::ReadMode,
    replica::AppliedBatch,
    shared::Role,
};
use matrixai_consensus::{Committed, LogStore};
use matrixai_state::State;
use std::{collections::VecDeque, sync::Arc};

/// Oldest that a view gets while entries are applied, ms. The first batch after such a time comes with one, so that what
/// happens rarely is seen at once.
const VIEW_EVERY_MS: u64 = 200;
/// What an entry costs in memory beside its bytes.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// What the applier has and was given.
#[derive(Debug)]
pub(super) struct Views {
    /// The newest view; it may be behind what is applied.
    pub(super) newest: Arc<State>,
    /// Newest applied entry.
    pub(super) applied: u64,
    /// Newest entry that the applier was given, and the newest that a view was asked for with, at this time.
    given: u64,
    asked: u64,
    asked_at: Option<u64>,
    /// Batches at the applier: their bytes, in order.
    batches: VecDeque<usize>,
    bytes: usize,
}

impl Views {
    pub(super) fn new(view: Arc<State>) -> Self {
        let index = view.index();
        Self {
            newest: view,
            applied: index,
            given: index,
            asked: index,
            asked_at: None,
            batches: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Bytes of entries at the applier.
    pub(super) fn applying_bytes(&self) -> usize {
        self.bytes
    }

    fn give(&mut self, through: u64, bytes: usize) {
        self.given = through;
        self.batches.push_back(bytes);
        self.bytes += bytes;
    }

    /// The view will hold everything given so far.
    fn ask(&mut self, now: u64) {
        (self.asked, self.asked_at) = (self.given, Some(now));
    }
}

impl<S: LogStore> Replica<S> {
    /// Hands committed entries to the applier.
    pub(super) fn apply(&mut self, entries: Vec<Committed>, now: u64) {
        let Some(last) = entries.last() else { return };
        let bytes = entries.iter().map(|entry| entry.data.len() + ENTRY_OVERHEAD_BYTES).sum();
        self.views.give(last.index, bytes);
        let view = self.wants_view(now);
        if view {
            self.views.ask(now);
        }
        self.work.push(Io::Apply { entries, view });
    }

    /// Has the applier's state replaced by the snapshot of this index, of which there will be a view.
    pub(super) fn restore(&mut self, index: u64, now: u64) {
        // Its answer takes a batch off like any other.
        self.views.give(index, 0);
        self.views.ask(now);
        self.work.push(Io::Restore { index });
    }

    /// Asks for a view of what was given without one, if it is wanted by now.
    pub(super) fn ask_for_view(&mut self, now: u64) {
        if self.views.asked < self.views.given && self.wants_view(now) {
            self.views.give(self.views.given, 0);
            self.views.ask(now);
            self.work.push(Io::Apply { entries: Vec::new(), view: true });
        }
    }

    fn wants_view(&self, now: u64) -> bool {
        let old = self.views.asked_at.is_none_or(|at| now.saturating_sub(at) >= VIEW_EVERY_MS);
        old || self.reads.confirmed_through() > self.views.asked || self.compaction.is_due(now)
    }

    pub(super) fn applied(&mut self, batch: AppliedBatch, now: u64) {
        let AppliedBatch { index, view, entries, term, members, root_due, restored } = batch;
        let bytes = self.views.batches.pop_front().unwrap_or_default();
        self.views.bytes -= bytes;
        self.views.applied = index;
        self.node.applied(index);
        self.compaction.applied(index, bytes, term, members);
        if root_due.is_some() {
            self.root_due = root_due;
            self.compute_root();
        }
        if restored {
            self.compaction.saved(index);
        }
        if let Some(view) = &view {
            self.views.newest = view.clone();
        }
        let event = match view {
            Some(state) if restored => Event::Restored { state },
            state => Event::Applied { state, entries },
        };
        self.event(event, now);
        self.answer_reads();
    }

    pub(super) fn read(&mut self, reader: Reader, mode: ReadMode, now: u64) {
        let unconfirmed = planted(Plant::ReadUnconfirmed) && self.place.role == Role::Leader;
        if self.reads.is_fresh(mode, now) || unconfirmed {
            self.work.push(Io::View { readers: vec![reader], view: self.views.newest.clone() });
        } else if let Err(reader) = self.reads.add(reader, now) {
            self.work.push(Io::NoView { reader, why: NoView::Full });
        }
    }

    /// Asks the quorum on behalf of the waiting reads.
    pub(super) fn ask_for_reads(&mut self, now: u64) {
        let Some(context) = self.reads.ask(now) else { return };
        // Refused or lost is the same: it is asked again after a while.
        if let Err(error) = self.node.read_index(context) {
            tracing::trace!(%error, "a read waits");
        }
    }

    pub(super) fn answer_reads(&mut self) {
        let readers: Vec<Reader> = self.reads.ready(self.views.newest.index());
        if !readers.is_empty() {
            self.work.push(Io::View { readers, view: self.views.newest.clone() });
        }
    }
}
