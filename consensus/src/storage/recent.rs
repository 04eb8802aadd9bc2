//! The newest entries of a log in memory: committed entries and those for followers are read right after they were
//! written, and what is not on the disk yet can be read nowhere else.

use std::collections::VecDeque;

use raft::eraftpb::Entry;

use super::{Write, entry_bytes};

/// Bytes kept beyond what is not on the disk yet.
pub(crate) const RECENT_BYTES_MAX: usize = 16 << 20;

/// The newest entries, contiguous up to the log's end.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Writes that are not on the disk: their numbers, and from which entry on the disk may differ.
    unsettled: VecDeque<(u64, u64)>,
}

impl Recent {
    /// Takes in a write, dropping the entries it replaces.
    pub(crate) fn stage(&mut self, write: &Write) {
        if write.batch.restart.is_some() {
            self.entries.clear();
            self.bytes = 0;
        }
        let Some(first) = write.batch.entries.first() else { return };
        self.unsettled.push_back((write.number, first.index));
        self.push(&write.batch.entries);
    }

    /// Takes in entries, dropping those they replace and the oldest over the limit.
    pub(crate) fn push(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        while self.entries.back().is_some_and(|entry| entry.index >= first.index) {
            self.drop_last();
        }
        for entry in entries {
            self.bytes += entry_bytes(entry);
            self.entries.push_back(entry.clone());
        }
        self.trim();
    }

    /// The write of this number, and all before it, are on the disk.
    pub(crate) fn settled(&mut self, number: u64) {
        while self.unsettled.front().is_some_and(|&(staged, _)| staged <= number) {
            self.unsettled.pop_front();
        }
        self.trim();
    }

    fn drop_last(&mut self) {
        self.bytes -= self.entries.pop_back().map_or(0, |entry| entry_bytes(&entry));
    }

    fn trim(&mut self) {
        let pinned = self.unsettled.iter().map(|&(_, first)| first).min().unwrap_or(u64::MAX);
        while self.bytes > RECENT_BYTES_MAX && self.entries.front().is_some_and(|entry| entry.index < pinned) {
            self.bytes -= self.entries.pop_front().map_or(0, |entry| entry_bytes(&entry));
        }
    }

    /// Index of the oldest entry held.
    pub(crate) fn first(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.index)
    }

    /// The entries from `low` to before `high`, or none if the oldest is no longer here.
    pub(crate) fn get(&self, low: u64, high: u64, max_size: Option<u64>) -> Option<Vec<Entry>> {
        let first = self.first()?;
        let start = usize::try_from(low.checked_sub(first)?).ok()?;
        let end = usize::try_from(high.checked_sub(first)?).ok()?.min(self.entries.len());
        let mut left = max_size.unwrap_or(u64::MAX);
        let mut entries = Vec::new();
        for entry in self.entries.range(start.min(end)..end) {
            let size = u64::from(protobuf::Message::compute_size(entry));
            if size > left && !entries.is_empty() {
                break;
            }
            left = left.saturating_sub(size);
            entries.push(entry.clone());
        }
        Some(entries)
    }
}
