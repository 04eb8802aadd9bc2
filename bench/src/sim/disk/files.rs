//! The disk as snapshots and segments see it. After a power cut every call succeeds and does nothing, as in `engine.rs`.

use super::{Disk, Inner, Renamed};
use matrixai_coordinator::files::{Files, FilesError, Growing};
use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::MutexGuard,
};

/// Room on a disk that is large enough, bytes.
const ROOM: u64 = 1 << 40;

#[derive(Debug)]
struct End {
    disk: Disk,
    path: PathBuf,
    id: u64,
}

fn failed(action: &'static str, path: &Path, bytes: usize) -> impl Fn(io::Error) -> FilesError {
    move |error| match error.kind() {
        ErrorKind::StorageFull => FilesError::NoSpace { path: path.to_owned(), needed: bytes as u64 },
        ErrorKind::NotFound => FilesError::Missing { path: path.to_owned() },
        _ => FilesError::Io { action, path: path.to_owned(), detail: error.to_string() },
    }
}

impl Growing for End {
    fn append(&mut self, bytes: &[u8]) -> Result<(), FilesError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some(mut inner) = self.disk.step() else { return Ok(()) };
            let fail = failed("append", &self.path, rest.len());
            let at = inner.file(self.id).map_err(&fail)?.live.len();
            let written = inner.write(self.id, at, rest).map_err(&fail)?;
            rest = &rest[written..];
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), FilesError> {
        let Some(mut inner) = self.disk.step() else { return Ok(()) };
        inner.sync(self.id).map_err(failed("sync", &self.path, 0))
    }
}

impl Disk {
    fn look<T>(
        &self,
        path: &Path,
        look: impl FnOnce(&mut MutexGuard<'_, Inner>, u64) -> io::Result<T>,
    ) -> Result<T, FilesError> {
        let mut inner = self.lock();
        let found = inner.id(path).and_then(|id| look(&mut inner, id));
        found.map_err(failed("read", path, 0))
    }
}

impl Files for Disk {
    fn create_dir(&self, _: &Path) -> Result<(), FilesError> {
        Ok(())
    }

    fn create(&self, path: &Path) -> Result<Box<dyn Growing>, FilesError> {
        let id = self.step().map_or(0, |mut inner| inner.make(path));
        Ok(Box::new(End { disk: self.clone(), path: path.to_owned(), id }))
    }

    fn reopen(&self, path: &Path) -> Result<Box<dyn Growing>, FilesError> {
        let id = self.look(path, |_, id| Ok(id))?;
        Ok(Box::new(End { disk: self.clone(), path: path.to_owned(), id }))
    }

    fn truncate(&self, path: &Path, len: u64) -> Result<(), FilesError> {
        if self.step().is_none() {
            return Ok(());
        }
        self.look(path, |inner, id| {
            inner.file(id)?.cut(len as usize);
            inner.sync(id)
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FilesError> {
        if self.step().is_none() {
            return Ok(());
        }
        self.look(from, |inner, _| {
            inner.change(Renamed::Moved(from.to_owned(), to.to_owned()));
            Ok(())
        })
    }

    fn sync_dir(&self, _: &Path) -> Result<(), FilesError> {
        if let Some(mut inner) = self.step() {
            inner.counts.syncs += 1;
            inner.sync_names();
        }
        Ok(())
    }

    fn read(&self, path: &Path, offset: u64, len: usize) -> Result<Vec<u8>, FilesError> {
        self.look(path, |inner, id| {
            let bytes = &inner.file(id)?.live;
            let from = bytes.len().min(offset as usize);
            Ok(bytes[from..bytes.len().min(from + len)].to_vec())
        })
    }

    fn len(&self, path: &Path) -> Result<u64, FilesError> {
        self.look(path, |inner, id| Ok(inner.file(id)?.live.len() as u64))
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, FilesError> {
        let inner = self.lock();
        let names = inner.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(names.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect())
    }

    fn remove(&self, path: &Path) -> Result<(), FilesError> {
        if let Some(mut inner) = self.step()
            && inner.names.contains_key(path)
        {
            inner.change(Renamed::Removed(path.to_owned()));
        }
        Ok(())
    }

    fn free(&self, _: &Path) -> Result<u64, FilesError> {
        Ok(self.lock().room.map_or(ROOM, |room| room as u64))
    }
}
