//! A log's disk that is full. Nothing was acknowledged, so nothing is lost: a leader gives its place to somebody who can
//! write, says what it lacks, and tries the same writes again until there is room. Any other failure of the disk ends
//! the process.

use super::{Io, NoSpace, Replica};
use matrixai_consensus::{LogStore, StoreError};

/// Time between two attempts to write.
const RETRY_MS: u64 = 250;

/// Whether the log's disk takes writes.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// What it lacks, and when that was last found.
    full: Option<(NoSpace, u64)>,
    retrying: bool,
}

impl<S: LogStore> Replica<S> {
    pub(super) fn write_failed(&mut self, error: StoreError, now: u64) {
        let StoreError::NoSpace { path, needed } = error else { return self.stop(error.to_string()) };
        let lacks = NoSpace { path, needed };
        if self.disk.full.as_ref().is_none_or(|(known, _)| known.path != lacks.path) {
            let (path, needed) = (lacks.path.display(), lacks.needed);
            tracing::error!(%path, needed, "the disk is full: this coordinator cannot lead or acknowledge until there is room");
        }
        self.work.push(Io::DiskFull(Some(lacks.clone())));
        self.disk = Disk { full: Some((lacks, now)), retrying: false };
        self.node.step_down();
    }

    pub(super) fn retry_writes(&mut self, now: u64) {
        let due = self.disk.full.as_ref().is_some_and(|(_, at)| now.saturating_sub(*at) >= RETRY_MS);
        if due && !self.disk.retrying {
            self.disk.retrying = true;
            self.work.push(Io::RetryWrites);
        }
    }

    pub(super) fn disk_has_room(&mut self) {
        if let Some((NoSpace { path, .. }, _)) = std::mem::take(&mut self.disk).full {
            tracing::info!(path = %path.display(), "the disk has room again");
            self.work.push(Io::DiskFull(None));
        }
    }
}
