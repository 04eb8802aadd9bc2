//! The log and the snapshots of a coordinator that has stopped, read from its folder.

use super::AuditError;
use crate::{
    archive::{Entry, Head},
    files::OsFiles,
    identity, snapshots,
};
use matrixai_consensus::EngineStore;
use matrixai_state::State;
use std::path::Path;

/// Bytes of entries read from the raft log at a time.
const PAGE_BYTES: u64 = 4 << 20;

/// The entries of the segments, and behind their last one those that the raft log in a folder knows to be committed. The
/// folder is opened as its coordinator would: a torn tail that was never acknowledged is cut off.
///
/// # Errors
/// When the log cannot be opened: damaged, or in use by its coordinator, which is then to be asked itself.
pub fn with_the_rest<'a>(
    sealed: impl Iterator<Item = Result<Entry, AuditError>> + 'a,
    behind: u64,
    raft: &Path,
) -> Result<impl Iterator<Item = Result<Entry, AuditError>> + 'a, AuditError> {
    if !raft.exists() {
        return Err(AuditError::Source(format!("{} is missing", raft.display())));
    }
    let store = EngineStore::open(raft).map_err(|error| AuditError::Source(error.to_string()))?;
    let mut rest = Rest { store, next: behind + 1, page: Vec::new().into_iter(), ended: false };
    let mut sealed = Some(sealed);
    Ok(std::iter::from_fn(move || {
        if let Some(entries) = &mut sealed {
            match entries.next() {
                Some(Ok(entry)) => {
                    rest.next = entry.index + 1;
                    return Some(Ok(entry));
                }
                Some(Err(error)) => {
                    rest.ended = true;
                    return Some(Err(error));
                }
                None => sealed = None,
            }
        }
        rest.next()
    }))
}

#[derive(Debug)]
struct Rest {
    store: EngineStore,
    next: u64,
    page: std::vec::IntoIter<Entry>,
    ended: bool,
}

impl Rest {
    fn next(&mut self) -> Option<Result<Entry, AuditError>> {
        if self.ended {
            return None;
        }
        if let Some(entry) = self.page.next() {
            return Some(Ok(entry));
        }
        let page = match self.store.committed(self.next, PAGE_BYTES) {
            Ok(page) => page,
            Err(error) => {
                self.ended = true;
                return Some(Err(AuditError::Source(error.to_string())));
            }
        };
        self.next = page.last().map_or(self.next, |entry| entry.index + 1);
        let page = page.into_iter().map(|entry| Entry { index: entry.index, term: entry.term, data: entry.data });
        self.page = page.collect::<Vec<_>>().into_iter();
        self.page.next().map(Ok)
    }
}

/// Where the log of a folder begins, if its cluster was restored.
///
/// # Errors
/// When the folder says something else than where.
pub fn restored(data: &Path) -> Result<Option<Head>, AuditError> {
    identity::restored(data).map_err(|error| AuditError::Source(error.to_string()))
}

/// The state of a snapshot file.
///
/// # Errors
/// One sentence about the file.
pub fn snapshot(path: &Path) -> Result<State, String> {
    snapshots::load(&OsFiles, path).map(|loaded| loaded.state).map_err(|error| error.to_string())
}
