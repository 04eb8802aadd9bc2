//! The file system under raft-engine: passes everything through, with three exceptions. A log file is never cut before
//! [`super::tail::judge`] has looked at what would be lost. raft-engine does not hear that a disk is full, only that a
//! write failed: it would go on to a new file with every attempt, here onto the same disk. And a new file whose
//! header does not fit on a full disk is removed: raft-engine goes on with the file before it once there is room, and
//! after a crash would find that file's torn tail not in the last file, where it must refuse it.

use std::{
    io::{self, Read as _, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use raft_engine::env::{FileSystem, Handle, Permission, WriteExt};

use super::tail::{FILE_HEADER_BYTES, Tail, judge};

/// What preallocated space reads as, a block of it.
static ZEROS: [u8; 16 << 10] = [0; 16 << 10];

/// A file system that refuses to cut off acknowledged records.
pub(crate) struct Guard<F> {
    inner: Arc<F>,
    /// Where the first damage was seen; shared by all handles.
    damage: Arc<OnceLock<String>>,
    /// Syncs of log files so far; shared by all handles.
    syncs: Arc<AtomicU64>,
}

impl<F> Guard<F> {
    pub(crate) fn new(inner: Arc<F>) -> Self {
        Self { inner, damage: Arc::default(), syncs: Arc::default() }
    }

    /// Counts the syncs of log files.
    pub(crate) fn syncs(&self) -> Arc<AtomicU64> {
        self.syncs.clone()
    }

    /// Why a cut was refused, if one was.
    pub(crate) fn damage(&self) -> Option<&String> {
        self.damage.get()
    }
}

impl<F: FileSystem> Guard<F> {
    fn guard(&self, path: &Path, handle: F::Handle, new: bool) -> GuardedHandle<F> {
        GuardedHandle {
            new,
            path: path.to_owned(),
            inner: Arc::new(handle),
            file_system: self.inner.clone(),
            damage: self.damage.clone(),
            syncs: self.syncs.clone(),
        }
    }
}

impl<F: FileSystem> FileSystem for Guard<F> {
    type Handle = GuardedHandle<F>;
    type Reader = F::Reader;
    type Writer = GuardedWriter<F>;

    fn create<P: AsRef<Path>>(&self, path: P) -> io::Result<Self::Handle> {
        Ok(self.guard(path.as_ref(), self.inner.create(path.as_ref())?, true))
    }

    fn open<P: AsRef<Path>>(&self, path: P, permission: Permission) -> io::Result<Self::Handle> {
        Ok(self.guard(path.as_ref(), self.inner.open(path.as_ref(), permission)?, false))
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
        let inner = self.inner.new_writer(handle.inner.clone())?;
        Ok(GuardedWriter { inner, file: handle, written: 0 })
    }
}

/// An open file. raft-engine cuts through handles only while it recovers, and through writers when it closes a
/// file it wrote itself, so the handle is where to stand guard.
pub(crate) struct GuardedHandle<F: FileSystem> {
    path: PathBuf,
    /// Whether this process created the file.
    new: bool,
    inner: Arc<F::Handle>,
    file_system: Arc<F>,
    damage: Arc<OnceLock<String>>,
    syncs: Arc<AtomicU64>,
}

impl<F: FileSystem> GuardedHandle<F> {
    fn judge(&self, offset: usize) -> io::Result<Tail> {
        let mut reader = self.file_system.new_reader(self.inner.clone())?;
        reader.seek(SeekFrom::Start(offset as u64))?;
        // Nearly always nothing but preallocated space follows, megabytes of it, which need not be held to be seen.
        if is_zero_to_its_end(&mut reader)? {
            return Ok(Tail::Empty);
        }
        let mut tail = Vec::new();
        reader.seek(SeekFrom::Start(offset as u64))?;
        reader.read_to_end(&mut tail)?;
        // A file's name is its number. A file of another name holds no records of raft-engine.
        let name = self.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        Ok(judge(name.parse().unwrap_or_default(), offset, &tail))
    }
}

/// Whether only zeros, or nothing, are left to read.
fn is_zero_to_its_end(reader: &mut impl io::Read) -> io::Result<bool> {
    let mut block = [0; ZEROS.len()];
    loop {
        match reader.read(&mut block) {
            Ok(0) => return Ok(true),
            Ok(count) if block[..count] == ZEROS[..count] => {}
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
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
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.inner.sync()
    }
}

/// Whether the system refused for want of space, its own or the user's quota.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A file open for writing.
pub(crate) struct GuardedWriter<F: FileSystem> {
    inner: F::Writer,
    file: Arc<GuardedHandle<F>>,
    /// Bytes written since it was opened.
    written: usize,
}

impl<F: FileSystem> Write for GuardedWriter<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes);
        match &written {
            Ok(count) => self.written += count,
            Err(_) if self.file.new && self.written < FILE_HEADER_BYTES => {
                let path = &self.file.path;
                if let Err(error) = self.file.file_system.delete(path) {
                    tracing::error!(file = %path.display(), %error, "cannot remove a log file without a header");
                }
            }
            Err(_) => {}
        }
        // raft-engine looks for "nospace" in the text.
        written
            .map_err(|error| if is_no_space(&error) { io::Error::new(error.kind(), "the disk is full") } else { error })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<F: FileSystem> Seek for GuardedWriter<F> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

impl<F: FileSystem> WriteExt for GuardedWriter<F> {
    fn truncate(&mut self, offset: usize) -> io::Result<()> {
        self.inner.truncate(offset)
    }

    fn allocate(&mut self, offset: usize, size: usize) -> io::Result<()> {
        self.inner.allocate(offset, size)
    }
}
