//! The tasks of a process, as the product's threads do them.

use super::{Output, Process, Task, ToApply, joined};
use matrixai_consensus::{Committed, LogWriter as _, Members, StoreError, Write};
use matrixai_coordinator::{
    replica::{AppliedBatch, Input},
    snapshots::{
        Reference, Snapshots,
        fetch::{Arriving, PIECE_BYTES, Piece},
    },
};
use std::{collections::VecDeque, sync::Arc};

impl Process {
    pub(super) fn task(&mut self, task: Task, out: &mut Vec<Output>) -> Option<Input> {
        match task {
            Task::WriteLog => self.write_log(out),
            Task::TellWritten(number) => Some(Input::Written { number }),
            Task::Apply => match self.applying.pop_front()? {
                ToApply::Entries(entries) => self.apply(entries, out).map(Input::Applied),
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

    /// Applies entries one at a time, so that each can be looked at.
    fn apply(&mut self, entries: Vec<Committed>, out: &mut Vec<Output>) -> Option<AppliedBatch> {
        let mut batches = Vec::with_capacity(entries.len());
        self.archiving.push_back(entries.clone());
        out.push(Output::Later(Task::Archive));
        let mut before = Arc::new(self.applier.state().clone());
        for entry in entries {
            let (batch, news) = self.applier.apply(std::slice::from_ref(&entry));
            if let (Some(applied), Some(news)) = (batch.entries.first(), news.into_iter().next()) {
                let mut applied = applied.clone();
                (applied.events, applied.movements) = (news.events, news.movements);
                let after = batch.view.clone();
                out.push(Output::Applied { entry, applied, before, after: after.clone() });
                before = after;
            }
            batches.push(batch);
        }
        joined(batches)
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
