//! The archive: the whole log, epoch by epoch, in sealed files that outlive the truncation of raft's own log.
//!
//! Segment e holds the entries after the one that closed epoch e − 1, up to the one that closed epoch e. Its hash covers
//! every entry's index, term and bytes and the hash of the segment before, and a majority attests it in the log
//! (`AttestRoot.segment`). So one attested hash vouches for the whole log up to there, on whatever disk a copy lies.
//!
//! | part | does |
//! |---|---|
//! | [`hasher`] | what a segment's hash is |
//! | [`format`](mod@format) | a segment as bytes, and back with bounded memory; names the first damage |
//! | [`writer`] | one segment onto a disk, in parts of bounded size |
//! | [`shelf`] | the sealed segments on this disk: found, read, set aside, counted |
//! | [`store`] | entries in, sealed segments out |
//! | `fetch` | what is missing, from the other coordinators |
//! | [`keeper`] | which entries it takes, and what it does when it has fallen behind |
//!
//! The log is not truncated past what is sealed, so an unfinished segment is never worth saving: whatever stopped it, it
//! is dropped and written again from the log.
//!
//! A cluster that began again from a snapshot has no entries from before it. Its archive begins behind the snapshot, in the middle
//! of an epoch ([`Head::restored`]), and its first segment holds the rest of that epoch.

pub(crate) mod fetch;
pub mod format;
pub mod hasher;
pub mod keeper;
pub mod shelf;
pub mod store;
#[cfg(test)]
mod tests;
pub mod writer;

pub use hasher::{Sealed, SegmentHasher};
pub use shelf::{ReadError, Segment, Shelf};
pub use store::{Archive, ArchiveError};

use matrixai_protocol::{Hash, sha256};

const RESTORED_DOMAIN: &[u8] = b"MatrixAI/restored/v1\0";

/// A committed entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Position in the log, from 1.
    pub index: u64,
    /// Term of the leader that wrote it.
    pub term: u64,
    /// Its bytes: a `LogEntry`, or none for what nobody proposed.
    pub data: Vec<u8>,
}

/// A place between two segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The epoch that closed here; 0 at genesis.
    pub epoch: u64,
    /// Index of the entry that closed it; 0 at genesis.
    pub index: u64,
    /// Hash of its segment, and with it of the whole log up to here; the cluster's id at genesis.
    pub hash: Hash,
}

impl Head {
    /// Before the first entry.
    pub const fn genesis(cluster_id: Hash) -> Self {
        Self { epoch: 0, index: 0, hash: cluster_id }
    }

    /// Where a cluster began again from a snapshot, whose entry `index` lies in the epoch after `epoch`. The entries before it were
    /// given up, so nothing but the snapshot can stand for them: the place has the hash of "MatrixAI/restored/v1\0" and of the
    /// snapshot's file, which is the era's name.
    pub fn restored(epoch: u64, index: u64, snapshot: &[u8]) -> Self {
        Self { epoch, index, hash: sha256(&[RESTORED_DOMAIN, snapshot]) }
    }
}
