//! The disk as raft-engine sees it. After a power cut every call does nothing and succeeds: raft-engine panics on a failed
//! sync, and what a dead process believes does not matter.

use super::{Disk, Renamed};
use raft_engine::env::{FileSystem, Handle, Permission, WriteExt};
use std::{
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    sync::Arc,
};

/// An open file.
#[derive(Debug)]
pub struct Open {
    disk: Disk,
    id: u64,
}

impl Handle for Open {
    fn truncate(&self, offset: usize) -> io::Result<()> {
        let Some(mut inner) = self.disk.step() else { return Ok(()) };
        inner.file(self.id)?.cut(offset);
        Ok(())
    }

    fn file_size(&self) -> io::Result<usize> {
        // A dead process may ask for a file that its disk never made.
        let mut inner = self.disk.lock();
        if inner.cut {
            Ok(inner.file(self.id).map_or(0, |file| file.len))
        } else {
            inner.file(self.id).map(|file| file.len)
        }
    }

    fn sync(&self) -> io::Result<()> {
        let Some(mut inner) = self.disk.step() else { return Ok(()) };
        inner.sync(self.id)
    }
}

/// A place in an open file.
#[derive(Debug)]
pub struct Cursor {
    file: Arc<Open>,
    at: usize,
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (from, by) = match to {
            SeekFrom::Start(at) => (0, i64::try_from(at).unwrap_or(i64::MAX)),
            SeekFrom::Current(by) => (self.at, by),
            SeekFrom::End(by) => (self.file.file_size()?, by),
        };
        let at = (from as i64).checked_add(by).and_then(|at| usize::try_from(at).ok());
        self.at = at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "before the file's start"))?;
        Ok(self.at as u64)
    }
}

impl Read for Cursor {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut inner = self.file.disk.lock();
        let file = inner.file(self.file.id)?;
        let count = bytes.len().min(file.len.saturating_sub(self.at));
        let held = file.live.len().saturating_sub(self.at).min(count);
        if held > 0 {
            bytes[..held].copy_from_slice(&file.live[self.at..self.at + held]);
        }
        bytes[held..count].fill(0);
        self.at += count;
        Ok(count)
    }
}

impl Write for Cursor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match self.file.disk.step() {
            Some(mut inner) => inner.write(self.file.id, self.at, bytes)?,
            None => bytes.len(),
        };
        self.at += written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl WriteExt for Cursor {
    fn truncate(&mut self, offset: usize) -> io::Result<()> {
        self.file.truncate(offset)
    }

    fn allocate(&mut self, offset: usize, size: usize) -> io::Result<()> {
        let Some(mut inner) = self.file.disk.alive() else { return Ok(()) };
        // Space set aside reads as zeros and is no write; a full disk refuses it when it is written.
        let file = inner.file(self.file.id)?;
        file.len = file.len.max(offset + size);
        Ok(())
    }
}

impl FileSystem for Disk {
    type Handle = Open;
    type Reader = Cursor;
    type Writer = Cursor;

    fn create<P: AsRef<Path>>(&self, path: P) -> io::Result<Open> {
        let id = self.step().map_or(0, |mut inner| inner.make(path.as_ref()));
        Ok(Open { disk: self.clone(), id })
    }

    fn open<P: AsRef<Path>>(&self, path: P, _: Permission) -> io::Result<Open> {
        let id = self.lock().id(path.as_ref())?;
        Ok(Open { disk: self.clone(), id })
    }

    fn delete<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        if let Some(mut inner) = self.step() {
            inner.change(Renamed::Removed(path.as_ref().to_owned()));
        }
        Ok(())
    }

    fn rename<P: AsRef<Path>>(&self, from: P, to: P) -> io::Result<()> {
        if let Some(mut inner) = self.step() {
            inner.id(from.as_ref())?;
            inner.change(Renamed::Moved(from.as_ref().to_owned(), to.as_ref().to_owned()));
        }
        Ok(())
    }

    fn new_reader(&self, handle: Arc<Open>) -> io::Result<Cursor> {
        Ok(Cursor { file: handle, at: 0 })
    }

    fn new_writer(&self, handle: Arc<Open>) -> io::Result<Cursor> {
        Ok(Cursor { file: handle, at: 0 })
    }
}
