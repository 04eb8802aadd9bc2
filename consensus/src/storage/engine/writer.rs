//! The writing half of the log in raft-engine: several writes become one record with one sync, a full disk leaves
//! the log as it was, and files that hold nothing live any more are removed.

use std::{fmt, path::PathBuf, sync::Arc};

use raft::eraftpb::HardState;
use raft_engine::{
    Command, Engine, LogBatch,
    env::{DefaultFileSystem, FileSystem},
};

use super::{BOUNDARY, Entries, GROUP, HARD_STATE, IDENTITY, SNAPSHOT, encode_pair};
use crate::plants::{Plant, planted};
use crate::storage::{
    Batch, Boundary, Identity, LogWriter, SnapshotMeta, StoreError, Write,
    guard::{Guard, is_no_space},
    image::{Image, to_snapshot},
};

/// Writes are merged into one record up to this many bytes; a larger write is a record of its own. Each record is
/// synced before the next is written, which [`crate::storage::tail`] builds on.
const RECORD_BYTES_MAX: usize = 16 << 20;
/// What a record takes beside its entries, for the message about a full disk.
const RECORD_OVERHEAD_BYTES: u64 = 4 << 10;

/// Writes a log of raft-engine. It owns no raft state, so it may run on a thread of its own.
pub struct EngineWriter<F: FileSystem = DefaultFileSystem> {
    path: PathBuf,
    engine: Arc<Engine<Guard<F>>>,
    /// Highest number written: a write that is given again after a full disk is not written twice.
    written: Option<u64>,
    hard_state: HardState,
    snapshot: Option<SnapshotMeta>,
    boundary: Boundary,
    identity: Identity,
}

impl<F: FileSystem> EngineWriter<F> {
    pub(super) fn new(path: PathBuf, engine: Arc<Engine<Guard<F>>>, image: &Image) -> Self {
        Self {
            path,
            engine,
            written: None,
            hard_state: image.hard_state.clone(),
            snapshot: image.snapshot.clone(),
            boundary: image.boundary,
            identity: image.identity,
        }
    }

    fn write_record(&mut self, batch: &Batch, number: u64) -> Result<(), StoreError> {
        // raft-engine prepares its own copy, so a failure leaves the batch as it was.
        let sync = !(batch.entries.is_empty() && planted(Plant::VoteUnsynced));
        let record = self.record(batch).and_then(|mut record| self.engine.write(&mut record, sync));
        record.map_err(|error| self.describe(error, batch))?;
        self.written = Some(number);
        self.remember(batch);
        if batch.compact.is_some() || batch.restart.is_some() {
            self.remove_dead_files();
        }
        Ok(())
    }

    fn record(&self, batch: &Batch) -> raft_engine::Result<LogBatch> {
        let mut record = LogBatch::default();
        if batch.restart.is_some()
            && let Some(last) = self.engine.last_index(GROUP)
        {
            record.add_command(GROUP, Command::Compact { index: last + 1 });
        }
        record.add_entries::<Entries>(GROUP, &batch.entries)?;
        if let Some(boundary) = batch.compact {
            record.add_command(GROUP, Command::Compact { index: boundary.index + 1 });
        }
        // What is not entries is written anew with every cut, or its last copy would keep an old file alive.
        let anew = batch.compact.is_some() || batch.restart.is_some();
        if let Some(boundary) = batch.compact.or(batch.restart) {
            record.put(GROUP, BOUNDARY.to_vec(), encode_pair((boundary.index, boundary.term)))?;
        }
        if let Some(hard_state) = batch.hard_state.as_ref().or(anew.then_some(&self.hard_state)) {
            record.put_message(GROUP, HARD_STATE.to_vec(), hard_state)?;
        }
        let kept = self.snapshot.as_ref().filter(|_| anew);
        if let Some(snapshot) = batch.snapshot.as_ref().or(kept) {
            record.put_message(GROUP, SNAPSHOT.to_vec(), &to_snapshot(snapshot))?;
        }
        if let Some(identity) = batch.identity.or(anew.then_some(self.identity)) {
            record.put(GROUP, IDENTITY.to_vec(), encode_pair((identity.node, identity.incarnation)))?;
        }
        Ok(record)
    }

    fn remember(&mut self, batch: &Batch) {
        if let Some(hard_state) = &batch.hard_state {
            self.hard_state = hard_state.clone();
        }
        if batch.snapshot.is_some() {
            self.snapshot = batch.snapshot.clone();
        }
        self.boundary = batch.compact.or(batch.restart).unwrap_or(self.boundary);
        self.identity = batch.identity.unwrap_or(self.identity);
    }

    /// Removes files without a live entry or value. The watermark 0 keeps raft-engine from rewriting anything: no file
    /// has that number.
    fn remove_dead_files(&self) {
        self.engine.purge_manager().must_rewrite_append_queue(Some(0), None);
    }

    fn describe(&self, error: raft_engine::Error, batch: &Batch) -> StoreError {
        let full = matches!(&error, raft_engine::Error::Io(error) if is_no_space(error));
        let path = self.path.clone();
        if full {
            StoreError::NoSpace { path, needed: batch.bytes() as u64 + RECORD_OVERHEAD_BYTES }
        } else {
            StoreError::Io { path, action: "append to", detail: error.to_string() }
        }
    }
}

impl<F: FileSystem> LogWriter for EngineWriter<F> {
    fn write(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let done = self.written;
        let mut record: Option<(Batch, u64)> = None;
        for write in writes.iter().filter(|write| Some(write.number) > done) {
            match &mut record {
                Some((batch, number)) if batch.bytes() + write.bytes() <= RECORD_BYTES_MAX => {
                    batch.merge(&write.batch);
                    *number = write.number;
                }
                _ => {
                    if let Some((batch, number)) = record.replace((write.batch.clone(), write.number)) {
                        self.write_record(&batch, number)?;
                    }
                }
            }
        }
        record.map_or(Ok(()), |(batch, number)| self.write_record(&batch, number))
    }
}

impl<F: FileSystem> fmt::Debug for EngineWriter<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineWriter").field("path", &self.path).field("written", &self.written).finish_non_exhaustive()
    }
}
