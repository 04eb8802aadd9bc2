//! The one place where the state changes: committed entries in, what they decided and sometimes a view out. It lives apart from the
//! replica, so that the next entries are agreed on while these are applied.

use crate::snapshots::Header;
use matrixai_consensus::{Committed, Members};
use matrixai_state::{Applied, Effect, Event, Movement, State};
use std::sync::Arc;

/// The state and its only writer.
#[derive(Debug)]
pub struct Applier {
    state: State,
    /// Term of the newest entry, and the members since it.
    term: u64,
    members: Members,
}

/// What a batch of entries left behind.
#[derive(Debug)]
pub struct AppliedBatch {
    /// Newest applied entry.
    pub index: u64,
    /// The state with all of them, if somebody is to see it.
    pub view: Option<Arc<State>>,
    /// What each decided, in order; news are taken out.
    pub entries: Vec<Applied>,
    /// Term of the last of them.
    pub term: u64,
    /// The members once it was applied.
    pub members: Members,
    /// The newest epoch that closed in the batch.
    pub root_due: Option<RootDue>,
    /// The state was replaced by a snapshot's.
    pub restored: bool,
}

impl AppliedBatch {
    /// The epochs that closed in the batch, each with the entry that closed it.
    pub fn closings(&self) -> impl Iterator<Item = (u64, u64)> {
        self.entries.iter().flat_map(|entry| &entry.effects).filter_map(|effect| match effect {
            Effect::RootDue { epoch, index } => Some((*epoch, *index)),
            Effect::Owed(_) | Effect::Beat { .. } => None,
        })
    }
}

/// An epoch's root is to be computed.
#[derive(Debug)]
pub struct RootDue {
    /// The epoch.
    pub epoch: u64,
    /// Log index of its close.
    pub index: u64,
    /// The state at its close; shared, because whatever carries one of these is moved from hand to hand.
    pub view: Arc<State>,
}

/// What one applied entry left behind for people.
#[derive(Debug)]
pub struct EntryNews {
    /// Its index.
    pub index: u64,
    /// Ledger time, ms.
    pub now_ms: u64,
    /// What happened.
    pub events: Vec<Event>,
    /// What moved.
    pub movements: Vec<Movement>,
}

impl Applier {
    /// An applier of the entries that follow on this state, whose last entry was of this term, among these members.
    pub fn new(state: State, term: u64, members: Members) -> Self {
        Self { state, term, members }
    }

    /// The state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Applies entries that follow on the state, in order, as far as this build knows the rules in effect. The view that is
    /// wanted behind them there is also unasked when they left effects or news, or rules that this build does not know: whoever
    /// acts on those looks at the state. News are apart: they are for people, not for the replica.
    pub fn apply(&mut self, committed: &[Committed], view: bool) -> (AppliedBatch, Vec<EntryNews>) {
        let mut entries: Vec<Applied> = Vec::with_capacity(committed.len());
        let mut news = Vec::with_capacity(committed.len());
        let mut root_due = None;
        let mut view = view;
        for Committed { index, term, data, members } in committed {
            // A newer build's to apply: the replica stops over such a state and says why.
            if self.state.unsupported_rules().is_some() {
                break;
            }
            self.term = *term;
            if let Some(members) = members {
                self.members = members.clone();
            }
            let mut applied = self.state.apply(*index, data);
            view |= !applied.effects.is_empty() || !applied.events.is_empty();
            for effect in &applied.effects {
                if let Effect::RootDue { epoch, index } = effect {
                    let view = Arc::new(self.state.clone());
                    root_due = Some(RootDue { epoch: *epoch, index: *index, view });
                }
            }
            let (events, movements) = (std::mem::take(&mut applied.events), std::mem::take(&mut applied.movements));
            news.push(EntryNews { index: *index, now_ms: applied.now_ms, events, movements });
            entries.push(applied);
        }
        let view = view || self.state.unsupported_rules().is_some();
        (self.batch(entries, root_due, view), news)
    }

    /// Replaces the state by a snapshot's, with what its header says.
    pub fn restore(&mut self, state: State, header: &Header, members: Members) -> AppliedBatch {
        *self = Self { state, term: header.term, members };
        AppliedBatch { restored: true, ..self.batch(Vec::new(), None, true) }
    }

    fn batch(&self, entries: Vec<Applied>, root_due: Option<RootDue>, view: bool) -> AppliedBatch {
        AppliedBatch {
            index: self.state.index(),
            view: view.then(|| Arc::new(self.state.clone())),
            entries,
            term: self.term,
            members: self.members.clone(),
            root_due,
            restored: false,
        }
    }
}
