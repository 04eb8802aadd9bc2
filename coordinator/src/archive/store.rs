//! Entries in, sealed segments out: the writing half of the archive, without threads.
//!
//! Whoever drives it notes at which entry each epoch closed, then appends the log from [`Archive::next_index`] on. After an
//! error, a crash or a gap that index tells from where the log must be given again.

use super::{
    Entry, Head,
    format::{Damage, Decoder, Item},
    shelf::{Segment, Shelf},
    writer::{PART_BYTES, Writer},
};
use crate::files::{Files, FilesError};
use matrixai_protocol::Hash;
use std::{collections::BTreeMap, path::Path, sync::Arc};

/// Closings that may be noted ahead of what is sealed: days of an archive that stands still, at 16 bytes each. Where more were
/// forgotten, the segments are fetched from others.
const CLOSINGS_MAX: usize = 1 << 16;

/// Why a segment was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// The disk refused; the same may be tried again.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// What a peer sent is no whole segment.
    #[error("the segment that was fetched is damaged: {0}")]
    Damaged(#[from] Damage),
    /// What a peer sent is another segment than the quorum attested.
    #[error("the segment that was fetched has the hash {}, the quorum's is {}", hex::encode(.found), hex::encode(.expected))]
    Differs {
        /// What a majority attested or a newer segment names.
        expected: Hash,
        /// What was fetched.
        found: Hash,
    },
}

/// The archive of one coordinator.
#[derive(Debug)]
pub struct Archive {
    shelf: Arc<Shelf>,
    head: Head,
    writer: Option<Writer>,
    /// Epoch -> index of the entry that closed it, for epochs after the head.
    closings: BTreeMap<u64, u64>,
    part_bytes_max: u64,
}

impl Archive {
    /// Opens the archive in a folder, or makes it.
    ///
    /// # Errors
    /// [`FilesError`].
    pub fn open(files: Arc<dyn Files>, dir: &Path, cluster_id: Hash) -> Result<Self, FilesError> {
        let shelf = Arc::new(Shelf::open(files, dir, cluster_id)?);
        let head = shelf.ends().map_or(Head::genesis(cluster_id), |(_, newest)| newest.sealed.head);
        Ok(Self { shelf, head, writer: None, closings: BTreeMap::new(), part_bytes_max: PART_BYTES })
    }

    /// With parts of another size.
    #[must_use]
    pub fn with_part_bytes(self, part_bytes_max: u64) -> Self {
        Self { part_bytes_max, ..self }
    }

    /// The sealed segments, for readers on other threads.
    pub fn shelf(&self) -> &Arc<Shelf> {
        &self.shelf
    }

    /// The end of the newest segment: the log up to here may be truncated.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Index of the entry that is wanted next.
    pub fn next_index(&self) -> u64 {
        self.writer.as_ref().map_or(self.head.index + 1, Writer::next_index)
    }

    /// The epoch closed with this entry. Must be known before the entry is appended.
    pub fn closed(&mut self, epoch: u64, index: u64) {
        if epoch > self.head.epoch && self.closings.len() < CLOSINGS_MAX {
            self.closings.insert(epoch, index);
        }
    }

    /// Whether it is unknown where the next segment ends although a later one's end is known: then it can only be fetched.
    pub fn lost_the_next_end(&self) -> bool {
        self.closings.first_key_value().is_some_and(|(epoch, _)| *epoch > self.head.epoch + 1)
    }

    /// Goes on behind another place, because the log before it is not on this disk any more: this node was given a
    /// snapshot. The segments in between are to be fetched.
    pub fn continue_behind(&mut self, head: Head) {
        if head.index <= self.head.index {
            return;
        }
        self.drop_unfinished();
        self.head = head;
        self.closings.retain(|epoch, _| *epoch > head.epoch);
    }

    /// Takes in the next entry; answers the segment if the entry closes it. Blocks on the disk.
    ///
    /// # Errors
    /// [`FilesError`]: the unfinished segment was dropped, see [`Archive::next_index`].
    ///
    /// # Panics
    /// When it is not the next entry.
    pub fn append(&mut self, entry: &Entry) -> Result<Option<Segment>, FilesError> {
        let result = self.append_or_fail(entry);
        if result.is_err() {
            self.drop_unfinished();
        }
        result
    }

    fn append_or_fail(&mut self, entry: &Entry) -> Result<Option<Segment>, FilesError> {
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => {
                let (files, dir) = (self.shelf.files().clone(), self.shelf.dir());
                Writer::begin(files, dir, "own", *self.shelf.cluster_id(), self.head, self.part_bytes_max)?
            }
        };
        let writer = self.writer.insert(writer);
        writer.append(entry)?;
        if self.closings.get(&writer.epoch()) != Some(&entry.index) {
            return Ok(None);
        }
        let Some(writer) = self.writer.take() else { return Ok(None) };
        let segment = writer.seal()?;
        self.shelf.put(segment);
        self.head = segment.sealed.head;
        self.closings.retain(|epoch, _| *epoch > segment.epoch());
        Ok(Some(segment))
    }

    /// Drops the segment that is being written; it begins again with [`Archive::next_index`].
    pub fn drop_unfinished(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.abandon();
        }
    }
}

/// A segment that comes from another coordinator, in pieces, checked as it comes.
#[derive(Debug)]
pub struct Incoming {
    shelf: Arc<Shelf>,
    epoch: u64,
    expected: Hash,
    decoder: Decoder,
    writer: Option<Writer>,
    sealed: bool,
}

impl Incoming {
    /// Waits for the segment of an epoch, which has this hash.
    pub fn new(shelf: Arc<Shelf>, epoch: u64, expected: Hash) -> Self {
        let decoder = Decoder::new(*shelf.cluster_id(), None);
        Self { shelf, epoch, expected, decoder, writer: None, sealed: false }
    }

    /// Takes in a piece. Blocks on the disk.
    ///
    /// # Errors
    /// [`ArchiveError`]; the segment is dropped.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.decoder.feed(bytes);
        while let Some(item) = self.decoder.next_item()? {
            match item {
                Item::Part(header) if self.sealed || header.before.epoch + 1 != self.epoch => {
                    let found = format!("segment {}", header.before.epoch + 1);
                    return Err(Damage::Place { expected: format!("segment {} alone", self.epoch), found }.into());
                }
                Item::Part(header) if header.part == 0 => {
                    let (files, cluster_id) = (self.shelf.files().clone(), *self.shelf.cluster_id());
                    let dir = self.shelf.dir();
                    self.writer = Some(Writer::begin(files, dir, "peer", cluster_id, header.before, PART_BYTES)?);
                }
                Item::Entry(entry, _) => {
                    if let Some(writer) = &mut self.writer {
                        writer.append(&entry)?;
                    }
                }
                Item::Part(_) | Item::More => {}
                Item::Sealed(sealed) if sealed.head.hash == self.expected => self.sealed = true,
                Item::Sealed(sealed) => {
                    return Err(ArchiveError::Differs { expected: self.expected, found: sealed.head.hash });
                }
            }
        }
        Ok(())
    }

    /// Puts the whole segment on the shelf.
    ///
    /// # Errors
    /// [`ArchiveError`] when it is not whole or the disk refuses.
    pub fn finish(mut self) -> Result<Segment, ArchiveError> {
        self.decoder.finish()?;
        let whole = self.writer.take().filter(|_| self.sealed);
        let segment = whole.ok_or(Damage::Truncated { after: 0 })?.seal()?;
        self.shelf.put(segment);
        Ok(segment)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.abandon();
        }
    }
}
