//! The pieces of an audit together: while one chunk of the log is replayed, the signatures of the next are checked on every
//! core.

use super::{Auditor, Checked, Counts, Difference, Verdict, check};
use crate::archive::Entry;
use matrixai_protocol::Hash;
use std::{
    num::NonZero,
    thread,
    time::{Duration, Instant},
};

/// Bytes and entries of a chunk: enough to keep every core busy, little enough to keep in memory.
const CHUNK_BYTES: usize = 4 << 20;
const CHUNK_ENTRIES: usize = 4_096;
/// Time between two reports.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// How far an audit is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// What was checked so far.
    pub counts: Counts,
    /// Index of the last entry.
    pub index: u64,
    /// Time since the beginning.
    pub elapsed: Duration,
}

/// Why an audit ended without a verdict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// The log is not what it must be.
    #[error(transparent)]
    Difference(#[from] Difference),
    /// The log could not be read: says nothing about it.
    #[error("{0}")]
    Source(String),
}

/// Audits a log from its source to its end.
///
/// # Errors
/// The first difference by index, or what ended the source.
pub fn run(
    mut auditor: Auditor,
    mut source: impl Iterator<Item = Result<Entry, AuditError>>,
    mut report: impl FnMut(&Progress),
) -> Result<Verdict, AuditError> {
    let started = Instant::now();
    let mut reported = started;
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let cluster_id = *auditor.state().cluster_id();
    let mut waiting: Vec<Result<Checked, Difference>> = Vec::new();
    loop {
        let (chunk, end) = chunk(&mut source);
        let last = chunk.is_empty();
        waiting = thread::scope(|scope| {
            let checking: Vec<_> = split(chunk, threads)
                .into_iter()
                .map(|part| scope.spawn(move || check_all(part, &cluster_id)))
                .collect();
            for checked in waiting.drain(..) {
                auditor.push(&checked?)?;
            }
            let checked = checking.into_iter().flat_map(|thread| thread.join().expect("checking does not panic"));
            Ok::<_, Difference>(checked.collect())
        })?;
        if reported.elapsed() >= REPORT_EVERY {
            reported = Instant::now();
            report(&progress(&auditor, started));
        }
        if let Some(error) = end {
            // What came before the source's end is judged first.
            for checked in waiting {
                auditor.push(&checked?)?;
            }
            return Err(error);
        }
        if last {
            break;
        }
    }
    report(&progress(&auditor, started));
    if auditor.counts().entries == 0 {
        // Everything holds of nothing, which must not be read as a verdict.
        return Err(AuditError::Source(format!(
            "there is no entry {} in it: nothing was audited",
            auditor.next_index()
        )));
    }
    auditor.finish()
}

fn progress(auditor: &Auditor, started: Instant) -> Progress {
    Progress { counts: auditor.counts(), index: auditor.next_index() - 1, elapsed: started.elapsed() }
}

/// The next entries of the source, and the error that ended it.
fn chunk(source: &mut impl Iterator<Item = Result<Entry, AuditError>>) -> (Vec<Entry>, Option<AuditError>) {
    let (mut entries, mut bytes) = (Vec::new(), 0);
    while entries.len() < CHUNK_ENTRIES && bytes < CHUNK_BYTES {
        match source.next() {
            Some(Ok(entry)) => {
                bytes += entry.data.len();
                entries.push(entry);
            }
            Some(Err(error)) => return (entries, Some(error)),
            None => break,
        }
    }
    (entries, None)
}

/// Neighbouring runs of about the same number of bytes, at most `parts`.
fn split(entries: Vec<Entry>, parts: usize) -> Vec<Vec<Entry>> {
    let bytes: usize = entries.iter().map(|entry| entry.data.len() + 1).sum();
    let share = bytes.div_ceil(parts.max(1));
    let (mut split, mut taken) = (vec![Vec::new()], 0);
    for entry in entries {
        if taken >= share {
            split.push(Vec::new());
            taken = 0;
        }
        taken += entry.data.len() + 1;
        if let Some(part) = split.last_mut() {
            part.push(entry);
        }
    }
    split
}

/// Checks entries up to the first difference.
fn check_all(entries: Vec<Entry>, cluster_id: &Hash) -> Vec<Result<Checked, Difference>> {
    let mut checked = Vec::with_capacity(entries.len());
    for entry in entries {
        checked.push(check(entry, cluster_id));
        if checked.last().is_some_and(Result::is_err) {
            break;
        }
    }
    checked
}
