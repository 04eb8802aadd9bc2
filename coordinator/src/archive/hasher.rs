//! What a segment's hash is. It says nothing of files: parts, frames and compression may change without it.

use super::{Entry, Head};
use matrixai_protocol::{Hash, sha256};
use sha2::{Digest as _, Sha256};

const ENTRY_DOMAIN: &[u8] = b"MatrixAI/entry/v1\0";
const CONTENT_DOMAIN: &[u8] = b"MatrixAI/segment-content/v1\0";
const SEGMENT_DOMAIN: &[u8] = b"MatrixAI/segment/v1\0";

/// SHA-256 of an entry: "MatrixAI/entry/v1\0", index and term (u64, little endian), bytes.
pub fn entry_hash(entry: &Entry) -> Hash {
    sha256(&[ENTRY_DOMAIN, &entry.index.to_le_bytes(), &entry.term.to_le_bytes(), &entry.data])
}

/// What a finished segment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// The place that it ends at, with its hash.
    pub head: Head,
    /// Its entries.
    pub entries: u64,
    /// SHA-256 of "MatrixAI/segment-content/v1\0" and its entries' hashes in order.
    pub content: Hash,
}

/// Hashes a segment entry by entry.
#[derive(Debug, Clone)]
pub struct SegmentHasher {
    before: Head,
    content: Sha256,
    entries: u64,
}

impl SegmentHasher {
    /// The segment that begins behind this place.
    pub fn after(before: Head) -> Self {
        Self { before, content: Sha256::new_with_prefix(CONTENT_DOMAIN), entries: 0 }
    }

    /// The place that the segment begins behind.
    pub const fn before(&self) -> Head {
        self.before
    }

    /// Learns the hash of the segment before, which was not known when this one began.
    pub fn chain_to(&mut self, hash: Hash) {
        self.before.hash = hash;
    }

    /// Entries so far.
    pub const fn entries(&self) -> u64 {
        self.entries
    }

    /// Index of the next entry.
    pub const fn next_index(&self) -> u64 {
        self.before.index + self.entries + 1
    }

    /// Takes in the next entry by its hash.
    ///
    /// # Panics
    /// When it is not the next one: a segment has no gaps.
    pub fn push(&mut self, index: u64, entry_hash: &Hash) {
        assert!(index == self.next_index(), "entry {index} is not entry {}, which comes next", self.next_index());
        self.content.update(entry_hash);
        self.entries += 1;
    }

    /// The segment as it would be if it ended here: its hash is SHA-256 of "MatrixAI/segment/v1\0", the hash of the segment
    /// before, epoch, first index, last index (u64, little endian), and the content's hash.
    pub fn sealed(&self) -> Sealed {
        let content: Hash = self.content.clone().finalize().into();
        let (epoch, index) = (self.before.epoch + 1, self.before.index + self.entries);
        let numbers = [epoch, self.before.index + 1, index].map(u64::to_le_bytes);
        let hash = sha256(&[SEGMENT_DOMAIN, &self.before.hash, numbers.as_flattened(), &content]);
        Sealed { head: Head { epoch, index, hash }, entries: self.entries, content }
    }
}
