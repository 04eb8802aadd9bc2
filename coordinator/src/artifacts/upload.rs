//! One artifact on its way to the disk: written, hashed as it comes, and renamed into place only when it is what its
//! name says.

use super::disk::{Disk, DiskError, Kept};
use matrixai_protocol::Hash;
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Bytes read at once when the beginning of a broken upload is hashed again.
const READ_BYTES: usize = 256 << 10;

/// A running upload. Dropping it before [`Upload::commit`] keeps what came if it can be resumed, and removes it if not.
#[derive(Debug)]
pub(crate) struct Upload {
    disk: Arc<Disk>,
    path: PathBuf,
    resumable: bool,
    hash: Hash,
    size: u64,
    /// Absent once it is decided what stays on disk.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    hasher: Sha256,
    written: u64,
}

impl Upload {
    /// Opens the file; the store has reserved `size` bytes and marked the path busy before.
    pub(super) fn open(
        disk: Arc<Disk>,
        path: PathBuf,
        resumable: bool,
        hash: Hash,
        size: u64,
        offset: u64,
    ) -> Result<Self, DiskError> {
        let mut upload = Self { disk, path, resumable, hash, size, open: None };
        match begin(&upload.path, offset) {
            Ok(open) => {
                upload.open = Some(open);
                Ok(upload)
            }
            Err(error) => {
                upload.settle(Kept::Nothing);
                Err(error)
            }
        }
    }

    /// Appends a chunk.
    ///
    /// # Errors
    /// [`DiskError::TooMuch`] past the declared size; [`DiskError::Full`] or [`DiskError::Io`] when the disk fails.
    pub(crate) fn write(&mut self, chunk: &[u8]) -> Result<(), DiskError> {
        let Some(open) = self.open.as_mut() else { return Err(DiskError::TooMuch { size: self.size }) };
        if chunk.len() as u64 > self.size - open.written {
            return Err(DiskError::TooMuch { size: self.size });
        }
        open.file.write_all(chunk).map_err(|error| failed("write", &self.path, &self.disk, self.size, error))?;
        open.hasher.update(chunk);
        open.written += chunk.len() as u64;
        Ok(())
    }

    /// Syncs, compares the hash and puts the artifact in its place. On return the bytes and the name are on disk.
    ///
    /// # Errors
    /// [`DiskError::Short`] keeps what came; [`DiskError::WrongHash`] throws it away; [`DiskError::Full`] and
    /// [`DiskError::Io`] are the disk's.
    pub(crate) fn commit(mut self) -> Result<(), DiskError> {
        let Some(open) = self.open.as_ref() else { return Err(DiskError::Short { received: 0, size: self.size }) };
        if open.written < self.size {
            return Err(DiskError::Short { received: open.written, size: self.size });
        }
        let got: Hash = open.hasher.clone().finalize().into();
        if got != self.hash {
            self.settle(Kept::Nothing);
            return Err(DiskError::WrongHash { wanted: hex::encode(self.hash), got: hex::encode(got) });
        }
        if let Err(error) = open.file.sync_all() {
            // After a failed sync nobody knows what is on disk, and a second sync would not tell: start anew.
            let error = failed("sync", &self.path, &self.disk, self.size, error);
            self.settle(Kept::Nothing);
            return Err(error);
        }
        let target = self.disk.path(&self.hash);
        let kept = self.disk.place(&self.path, &target)?;
        self.settle(kept);
        self.disk.placed(&target)
    }

    /// Decides what stays; tells the store once.
    fn settle(&mut self, kept: Kept) {
        self.open = None;
        if matches!(kept, Kept::Nothing)
            && let Err(error) = fs::remove_file(&self.path)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "what an upload left could not be removed");
        }
        self.disk.ended(&self.path, self.resumable, self.size, kept);
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(written) = self.open.as_ref().map(|open| open.written) else { return };
        // What was not synced may be lost in a crash; the beginning is hashed again when somebody goes on with it.
        self.settle(if self.resumable && written > 0 { Kept::Part(written) } else { Kept::Nothing });
    }
}

fn begin(path: &Path, offset: u64) -> Result<Open, DiskError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(offset == 0);
    let mut file = options.open(path).map_err(DiskError::io("open", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut left = offset;
    while left > 0 {
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = file.read(&mut buffer[..wanted]).map_err(DiskError::io("read", path))?;
        if read == 0 {
            return Err(DiskError::WrongOffset { received: offset - left, offset });
        }
        hasher.update(&buffer[..read]);
        left -= read as u64;
    }
    // After a failed write there may be more in the file than was counted.
    file.set_len(offset).map_err(DiskError::io("cut", path))?;
    file.seek(SeekFrom::Start(offset)).map_err(DiskError::io("seek in", path))?;
    Ok(Open { file, hasher, written: offset })
}

fn failed(what: &'static str, path: &Path, disk: &Disk, need: u64, error: io::Error) -> DiskError {
    if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
        return DiskError::Full { path: disk.root().to_owned(), need, free: 0 };
    }
    DiskError::io(what, path)(error)
}
