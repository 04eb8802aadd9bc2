//! The tasks of a process, as the product's threads do them.

use super::{Output, Process, Task, ToApply};
use matrixai_consensus::{Committed, LogWriter as _, Members, StoreError, Write};
use matrixai_coordinator::{
    replica::{AppliedBatch, Input},
    snapshots::{
        Reference, Snapshots,
        fetch::{Arriving, PIECE_BYTES, Piece},
    },
};
use matrixai_state::{Applied, State};
use std::{collections::VecDeque, sync::Arc};

impl Process {
    pub(super) fn task(&mut self, task: Task, known: u64, out: &mut Vec<Output>) -> Option<Input> {
        match task {
            Task::WriteLog => self.write_log(out),
            Task::TellWritten(number) => Some(Input::Written { number }),
            Task::Apply => match self.applying.pop_front()? {
                ToApply::Entries { entries, view } => Some(Input::Applied(self.apply(entries, view, known, out))),
                ToApply::Restore(index) => self.restore(index, out),
            },
            Task::SaveSnapshot => {
                let (header, view) = self.saving.pop_front()?;
                Some(match self.snapshots.save(&header, &view) {
                    Ok(reference) => {
                        out.push(Output::Saved(header.index));
                        Input::SnapshotSaved { header, reference }
                    }
                    Err(error) => Input::SnapshotFailed { why: error.to_string() },
                })
            }
            Task::ComputeRoot => {
                let due = self.roots.pop_front()?;
                let root = due.view.root();
                out.push(Output::Root { epoch: due.epoch, root });
                Some(Input::RootComputed { epoch: due.epoch, index: due.index, root })
            }
            Task::Archive => {
                self.archive(out);
                None
            }
        }
    }

    /// Group commit: everything that waits shares a sync.
    fn write_log(&mut self, out: &mut Vec<Output>) -> Option<Input> {
        if self.refused {
            return None;
        }
        let writes: Vec<Write> = self.writes.drain(..).collect();
        let number = writes.last()?.number();
        match self.writer.write(&writes) {
            Ok(()) => {
                // The acknowledgement is a step of its own: a crash may fall between the sync and what it allows.
                out.push(Output::Later(Task::TellWritten(number)));
                None
            }
            Err(error) => {
                if matches!(error, StoreError::NoSpace { .. }) {
                    self.refused = true;
                    self.writes = VecDeque::from(writes);
                }
                Some(Input::WriteFailed { error })
            }
        }
    }

    /// Applies entries: those that somebody has applied already together, as the product does, and the others one at a time,
    /// so that the states before and after each can be looked at. The replica is told of one batch, and given a view of it
    /// only where the product would.
    fn apply(
        &mut self,
        entries: Vec<Committed>,
        view: bool,
        known_through: u64,
        out: &mut Vec<Output>,
    ) -> AppliedBatch {
        if !entries.is_empty() {
            self.archiving.push_back(entries.clone());
            out.push(Output::Later(Task::Archive));
        }
        let mut known = entries;
        let fresh = known.split_off(known.partition_point(|entry| entry.index <= known_through));
        let mut all = self.apply_together(known, false, out);
        for entry in fresh {
            let next = self.apply_together(vec![entry], true, out);
            all.entries.extend(next.entries);
            all = AppliedBatch {
                entries: all.entries,
                root_due: next.root_due.or(all.root_due),
                view: next.view.or(all.view),
                ..next
            };
        }
        all.view = (view || all.view.is_some()).then(|| self.newest());
        all
    }

    /// Applies entries; where somebody is to look at the states, there is one.
    fn apply_together(&mut self, entries: Vec<Committed>, looked_at: bool, out: &mut Vec<Output>) -> AppliedBatch {
        let before = looked_at.then(|| self.newest());
        let (batch, news) = self.applier.apply(&entries, false);
        if let Some(view) = &batch.view {
            self.newest = view.clone();
        }
        batch.closings().for_each(|(epoch, index)| self.keeper.closed(epoch, index));
        let states = before.map(|before| (before, self.newest()));
        for ((entry, applied), news) in entries.into_iter().zip(&batch.entries).zip(news) {
            let applied = Applied { events: news.events, movements: news.movements, ..applied.clone() };
            out.push(Output::Applied { entry, applied, states: states.clone() });
        }
        batch
    }

    /// The state that the applier has come to, to be kept.
    fn newest(&mut self) -> Arc<State> {
        if self.newest.index() != self.applier.state().index() {
            self.newest = Arc::new(self.applier.state().clone());
        }
        self.newest.clone()
    }

    fn restore(&mut self, index: u64, out: &mut Vec<Output>) -> Option<Input> {
        let restored = self.snapshots.load(index).map_err(|error| error.to_string()).and_then(|loaded| {
            let members = Members::decode(&loaded.header.members).map_err(|error| error.to_string())?;
            Ok(self.applier.restore(loaded.state, &loaded.header, members))
        });
        match restored {
            Ok(batch) => {
                out.push(Output::Restored(index));
                Some(Input::Applied(batch))
            }
            Err(why) => {
                out.push(Output::Stop(format!("restore the snapshot of entry {index}: {why}")));
                None
            }
        }
    }
}

/// Carries a snapshot from one disk to another, up to `pieces` of it; answers whether it is whole and installed.
///
/// # Errors
/// What the receiving disk said.
pub fn carry(from: &Snapshots, to: &Snapshots, reference: &Reference, pieces: usize) -> Result<bool, String> {
    let mut arriving = Arriving::begin(to, reference.clone()).map_err(|error| error.to_string())?;
    for _ in 0..pieces {
        let Some(offset) = arriving.next() else { break };
        let Ok(bytes) = from.read(reference, offset, PIECE_BYTES) else { return Ok(false) };
        arriving.take(&Piece::new(offset, bytes)).map_err(|error| error.to_string())?;
    }
    if arriving.next().is_some() {
        return Ok(false);
    }
    arriving.install().map(|()| true).map_err(|error| error.to_string())
}
