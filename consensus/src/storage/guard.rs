//! The file system under raft-engine: passes everything through, except that a log file is never cut before
//! [`super::tail::judge`] has looked at what would be lost.

use std::{
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use raft_engine::env::{FileSystem, Handle, Permission};

use super::tail::{Tail, judge};

/// A file system that refuses to cut off acknowledged records.
pub(crate) struct Guard<F> {
    inner: Arc<F>,
    /// Where the first damage was seen; shared by all handles.
    damage: Arc<OnceLock<String>>,
}

impl<F> Guard<F> {
    pub(crate) fn new(inner: Arc<F>) -> Self {
        Self { inner, damage: Arc::default() }
    }

    /// Why a cut was refused, if one was.
    pub(crate) fn damage(&self) -> Option<&String> {
        self.damage.get()
    }
}

impl<F: FileSystem> Guard<F> {
    fn guard(&self, path: &Path, handle: F::Handle) -> GuardedHandle<F> {
        GuardedHandle {
            path: path.to_owned(),
            inner: Arc::new(handle),
            file_system: self.inner.clone(),
            damage: self.damage.clone(),
        }
    }
}

impl<F: FileSystem> FileSystem for Guard<F> {
    type Handle = GuardedHandle<F>;
    type Reader = F::Reader;
    type Writer = F::Writer;

    fn create<P: AsRef<Path>>(&self, path: P) -> io::Result<Self::Handle> {
        Ok(self.guard(path.as_ref(), self.inner.create(path.as_ref())?))
    }

    fn open<P: AsRef<Path>>(&self, path: P, permission: Permission) -> io::Result<Self::Handle> {
        Ok(self.guard(path.as_ref(), self.inner.open(path.as_ref(), permission)?))
    }

    fn delete<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        self.inner.delete(path)
    }

    fn rename<P: AsRef<Path>>(&self, from: P, to: P) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn reuse<P: AsRef<Path>>(&self, from: P, to: P) -> io::Result<()> {
        self.inner.reuse(from, to)
    }

    fn new_reader(&self, handle: Arc<Self::Handle>) -> io::Result<Self::Reader> {
        self.inner.new_reader(handle.inner.clone())
    }

    fn new_writer(&self, handle: Arc<Self::Handle>) -> io::Result<Self::Writer> {
        self.inner.new_writer(handle.inner.clone())
    }
}

/// An open file. raft-engine cuts through handles only while it recovers, and through writers when it closes a
/// file it wrote itself, so the handle is where to stand guard.
pub(crate) struct GuardedHandle<F: FileSystem> {
    path: PathBuf,
    inner: Arc<F::Handle>,
    file_system: Arc<F>,
    damage: Arc<OnceLock<String>>,
}

impl<F: FileSystem> GuardedHandle<F> {
    fn judge(&self, offset: usize) -> io::Result<Tail> {
        let mut tail = Vec::new();
        let mut reader = self.file_system.new_reader(self.inner.clone())?;
        reader.seek(SeekFrom::Start(offset as u64))?;
        reader.read_to_end(&mut tail)?;
        // A file's name is its number. A file of another name holds no records of raft-engine.
        let name = self.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        Ok(judge(name.parse().unwrap_or_default(), offset, &tail))
    }
}

impl<F: FileSystem> Handle for GuardedHandle<F> {
    fn truncate(&self, offset: usize) -> io::Result<()> {
        match self.judge(offset)? {
            Tail::Empty => {}
            Tail::Torn => {
                tracing::warn!(file = %self.path.display(), offset, "dropping a record whose write a crash cut off");
            }
            Tail::Damaged(how) => {
                let place = format!("{how} (file {}, offset {offset})", self.path.display());
                let error = io::Error::new(io::ErrorKind::InvalidData, place.clone());
                let _ = self.damage.set(place);
                return Err(error);
            }
        }
        self.inner.truncate(offset)
    }

    fn file_size(&self) -> io::Result<usize> {
        self.inner.file_size()
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }
}
