//! A disk that fills up when a test says so.

use super::{Files, FilesError, Growing, OsFiles};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

/// A disk with room for so many bytes more.
#[derive(Debug, Clone)]
pub(crate) struct Full(Arc<AtomicI64>);

impl Default for Full {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(i64::MAX)))
    }
}

impl Full {
    /// Leaves room for so many bytes more.
    pub(crate) fn leave(&self, bytes: i64) {
        self.0.store(bytes, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct FullFile(Full, Box<dyn Growing>, PathBuf);

impl Growing for FullFile {
    fn append(&mut self, bytes: &[u8]) -> Result<(), FilesError> {
        if self.0.0.fetch_sub(bytes.len() as i64, Ordering::SeqCst) < bytes.len() as i64 {
            return Err(FilesError::NoSpace { path: self.2.clone(), needed: bytes.len() as u64 });
        }
        self.1.append(bytes)
    }

    fn sync(&mut self) -> Result<(), FilesError> {
        self.1.sync()
    }
}

impl Files for Full {
    fn create(&self, path: &Path) -> Result<Box<dyn Growing>, FilesError> {
        Ok(Box::new(FullFile(self.clone(), OsFiles.create(path)?, path.to_owned())))
    }

    fn create_dir(&self, dir: &Path) -> Result<(), FilesError> {
        OsFiles.create_dir(dir)
    }

    fn reopen(&self, path: &Path) -> Result<Box<dyn Growing>, FilesError> {
        OsFiles.reopen(path)
    }

    fn truncate(&self, path: &Path, len: u64) -> Result<(), FilesError> {
        OsFiles.truncate(path, len)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FilesError> {
        OsFiles.rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), FilesError> {
        OsFiles.sync_dir(dir)
    }

    fn read(&self, path: &Path, offset: u64, len: usize) -> Result<Vec<u8>, FilesError> {
        OsFiles.read(path, offset, len)
    }

    fn len(&self, path: &Path) -> Result<u64, FilesError> {
        OsFiles.len(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, FilesError> {
        OsFiles.list(dir)
    }

    fn remove(&self, path: &Path) -> Result<(), FilesError> {
        OsFiles.remove(path)
    }

    fn free(&self, dir: &Path) -> Result<u64, FilesError> {
        OsFiles.free(dir).map(|free| free.min(self.0.load(Ordering::SeqCst).max(0).unsigned_abs()))
    }
}
