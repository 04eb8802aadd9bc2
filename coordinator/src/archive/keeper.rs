//! Which entries the archive takes, and what it does when it has fallen behind: decided here, without threads.
//!
//! Entries come behind apply, as they are applied. What is lost on the way (a full queue, a full disk, a restart) is read
//! again from the log, which is not cut before it is sealed. Where each epoch ended is told apart and never lost on the way:
//! a state remembers its newest epochs only, and the archive may lag further behind. Only a member that was given a snapshot has no log to read
//! from: it goes on behind the first epoch that a majority has attested, and what lies before is fetched from the others.

use super::{Archive, Entry, Head, Segment};
use crate::files::FilesError;
use matrixai_state::State;

/// The archive, fed behind apply.
#[derive(Debug)]
pub struct Keeper {
    archive: Archive,
    segments_kept: u64,
}

impl Keeper {
    /// Keeps the newest `segments_kept` segments; 0 keeps all.
    pub fn new(archive: Archive, segments_kept: u64) -> Self {
        Self { archive, segments_kept }
    }

    /// The archive.
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// The epoch ended with this entry. Must be told before a view that holds the entry is given.
    pub fn closed(&mut self, epoch: u64, index: u64) {
        self.archive.closed(epoch, index);
    }

    /// The first entry that is wanted from the log, if a view holds more than what was taken.
    pub fn wanted(&self, view: &State) -> Option<u64> {
        let next = self.archive.next_index();
        (next <= view.index()).then_some(next)
    }

    /// Takes in entries that a view holds, in order: those that come next, until there is a gap. Answers what was sealed.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// [`FilesError`]: the unfinished segment is dropped, and wanted again.
    pub fn take(&mut self, view: &State, entries: impl IntoIterator<Item = Entry>) -> Result<Vec<Segment>, FilesError> {
        self.note(view);
        let mut sealed = Vec::new();
        for entry in entries {
            if entry.index > self.archive.next_index() || self.archive.lost_the_next_end() {
                break;
            }
            if entry.index == self.archive.next_index() {
                sealed.extend(self.archive.append(&entry)?);
            }
        }
        if !sealed.is_empty() && self.segments_kept > 0 {
            self.archive.shelf().keep_newest(self.segments_kept)?;
        }
        Ok(sealed)
    }

    /// Goes on behind an attested epoch if what is wanted next cannot be had: the log begins with `log_first`, or nobody
    /// remembers where the next epoch ended. Answers whether it did.
    pub fn skip(&mut self, view: &State, log_first: u64) -> bool {
        self.note(view);
        if self.archive.head().index + 1 >= log_first && !self.archive.lost_the_next_end() {
            return false;
        }
        let place = view.epochs().find_map(|row| {
            let usable = row.epoch > self.archive.head().epoch && row.index + 1 >= log_first;
            let hash = row.segment().filter(|_| usable)?;
            Some(Head { epoch: row.epoch, index: row.index, hash })
        });
        let Some(place) = place else { return false };
        tracing::info!(epoch = place.epoch, index = place.index, "the archive goes on behind an attested epoch");
        self.archive.continue_behind(place);
        true
    }

    fn note(&mut self, view: &State) {
        for row in view.epochs() {
            self.archive.closed(row.epoch, row.index);
        }
    }
}
