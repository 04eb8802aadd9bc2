//! The archive of a process, behind apply, as the product's thread keeps it: what it missed is read again from the log.

use super::{Output, Process};
use matrixai_consensus::Committed;
use matrixai_coordinator::{
    archive::{Archive, Entry, Head, Segment, Shelf, keeper::Keeper, store::Incoming},
    replica::Input,
};
use matrixai_protocol::Hash;
use std::sync::Arc;

/// Bytes of the log read again at a time.
const PAGE_BYTES: u64 = 1 << 20;
/// Newest segments that are told of at the start.
const TOLD_AT_START: u64 = 16;

impl Process {
    /// The sealed segments on this disk.
    pub fn shelf(&self) -> &Arc<Shelf> {
        self.keeper.archive().shelf()
    }

    /// Where the archive ends, and the first entry that the log still has.
    pub fn archived(&self) -> (Head, u64) {
        (self.keeper.archive().head(), self.replica.figures().first)
    }

    pub(super) fn archive(&mut self, out: &mut Vec<Output>) {
        let Some(batch) = self.archiving.pop_front() else { return };
        // A full disk drops what was begun; it is wanted again.
        if let Err(why) = self.keep(batch, out) {
            out.push(Output::NotArchived(why));
        }
    }

    fn keep(&mut self, batch: Vec<Committed>, out: &mut Vec<Output>) -> Result<(), String> {
        let gap = batch.first().is_none_or(|first| first.index > self.keeper.archive().next_index());
        while gap && let Some(from) = self.keeper.wanted(self.applier.state()) {
            let (_, first) = self.archived();
            if self.keeper.skip(self.applier.state(), first) {
                out.push(Output::Skipped(self.keeper.archive().head().index));
                continue;
            }
            let page =
                self.replica.entries(from, self.state().index(), PAGE_BYTES).map_err(|error| error.to_string())?;
            if page.first().is_none_or(|first| first.index > from) {
                return Ok(());
            }
            self.take(page, out)?;
            if self.keeper.archive().next_index() == from {
                return Ok(());
            }
        }
        self.take(batch, out)
    }

    fn take(&mut self, entries: Vec<Committed>, out: &mut Vec<Output>) -> Result<(), String> {
        let entries = entries.into_iter().map(|entry| Entry { index: entry.index, term: entry.term, data: entry.data });
        let sealed = self.keeper.take(self.applier.state(), entries).map_err(|error| error.to_string())?;
        out.extend(sealed.into_iter().map(Output::Sealed));
        Ok(())
    }

    /// Tells the replica of the newest segments, which may not have been attested before the last end.
    pub(super) fn tell_known(&mut self, now: u64) {
        let newest = self.keeper.archive().head().epoch;
        for epoch in newest.saturating_sub(TOLD_AT_START) + 1..=newest {
            if let Some(segment) = self.shelf().get(epoch) {
                self.replica.on(sealed(&segment), now);
            }
        }
    }

    /// The newest segment that is missing here, and the hash that it must have.
    pub fn missing_segment(&self) -> Option<(u64, Hash)> {
        let head = self.keeper.archive().head();
        let (epoch, named) = self.shelf().missing(1, head.epoch)?;
        let attested = || self.view().epochs().find(|row| row.epoch == epoch)?.segment();
        Some((epoch, named.or((epoch == head.epoch).then_some(head.hash)).or_else(attested)?))
    }
}

/// What the replica is told of a sealed segment.
pub fn sealed(segment: &Segment) -> Input {
    let Head { epoch, index, hash } = segment.sealed.head;
    Input::Sealed { epoch, through: index, hash }
}

/// An archive that keeps everything.
pub(super) fn keeper(archive: Archive) -> Keeper {
    Keeper::new(archive, 0)
}

/// Carries a segment from one shelf to another; answers whether it was there.
///
/// # Errors
/// What the receiving disk said, or what is wrong with the segment.
pub fn carry_segment(from: &Shelf, to: &Arc<Shelf>, epoch: u64, hash: Hash) -> Result<bool, String> {
    let Some(segment) = from.get(epoch) else { return Ok(false) };
    let mut incoming = Incoming::new(to.clone(), epoch, hash);
    for bytes in from.bytes(&segment) {
        let Ok(bytes) = bytes else { return Ok(false) };
        incoming.push(&bytes).map_err(|error| error.to_string())?;
    }
    incoming.finish().map(|_| true).map_err(|error| error.to_string())
}
