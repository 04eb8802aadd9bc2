//! What snapshots and sealed segments need of a disk, and nothing more: the one seam through which they reach it, so that a
//! simulator can put a disk under them that loses what was not synced, fills up, and flips bits.
//!
//! The order that makes a file durable under its name is always the same, and [`publish`] is it: write beside the place,
//! sync the file, rename it over, sync the folder. A crash leaves the old file or the new one, and perhaps a file whose
//! name ends in [`UNFINISHED`], which the next start removes.

#[cfg(test)]
pub(crate) mod full;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

/// Ending of the names of files that are being written.
pub const UNFINISHED: &str = ".new";

/// Why a file could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilesError {
    /// The disk is full. The same may be tried again once there is room.
    #[error("the disk is full: {} needs {needed} bytes more", path.display())]
    NoSpace {
        /// The file that was to grow.
        path: PathBuf,
        /// Bytes of the write that did not fit.
        needed: u64,
    },
    /// There is no such file or folder.
    #[error("{} is missing", path.display())]
    Missing {
        /// What was asked for.
        path: PathBuf,
    },
    /// The system refused for another reason.
    #[error("cannot {action} {}: {detail}", path.display())]
    Io {
        /// A verb: create, append, sync, read.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
}

/// A file that is being written at its end.
pub trait Growing: Send + std::fmt::Debug {
    /// Adds bytes at the end. After an error the file may hold some of them: cut it ([`Files::truncate`]) or drop it.
    ///
    /// # Errors
    /// [`FilesError::NoSpace`] names the file and the bytes that did not fit.
    fn append(&mut self, bytes: &[u8]) -> Result<(), FilesError>;

    /// Makes everything appended durable, as far as the file's contents go; its name needs [`Files::sync_dir`].
    ///
    /// # Errors
    /// [`FilesError`]; after a failed sync nothing of the file may be trusted.
    fn sync(&mut self) -> Result<(), FilesError>;
}

/// A disk. Paths are whole ones. Every call blocks: callers keep away from threads that must not.
pub trait Files: Send + Sync + std::fmt::Debug {
    /// Makes a folder and those above it; one that is there is fine.
    ///
    /// # Errors
    /// [`FilesError`].
    fn create_dir(&self, dir: &Path) -> Result<(), FilesError>;

    /// Makes an empty file, in place of one of the same name.
    ///
    /// # Errors
    /// [`FilesError`].
    fn create(&self, path: &Path) -> Result<Box<dyn Growing>, FilesError>;

    /// Opens a file that is there to write on at its end.
    ///
    /// # Errors
    /// [`FilesError::Missing`] when it is not there.
    fn reopen(&self, path: &Path) -> Result<Box<dyn Growing>, FilesError>;

    /// Cuts a file to its first `len` bytes, durably.
    ///
    /// # Errors
    /// [`FilesError::Missing`] when it is not there.
    fn truncate(&self, path: &Path, len: u64) -> Result<(), FilesError>;

    /// Gives a file another name, replacing what has it. Durable after [`Files::sync_dir`].
    ///
    /// # Errors
    /// [`FilesError::Missing`] when it is not there.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), FilesError>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// [`FilesError`].
    fn sync_dir(&self, dir: &Path) -> Result<(), FilesError>;

    /// Bytes of a file from `offset` on, at most `len`; fewer at its end, none behind it.
    ///
    /// # Errors
    /// [`FilesError::Missing`] when it is not there.
    fn read(&self, path: &Path, offset: u64, len: usize) -> Result<Vec<u8>, FilesError>;

    /// Length of a file.
    ///
    /// # Errors
    /// [`FilesError::Missing`] when it is not there.
    fn len(&self, path: &Path) -> Result<u64, FilesError>;

    /// Names of the files in a folder, ascending; none when the folder is missing.
    ///
    /// # Errors
    /// [`FilesError`].
    fn list(&self, dir: &Path) -> Result<Vec<String>, FilesError>;

    /// Removes a file; one that is missing is fine.
    ///
    /// # Errors
    /// [`FilesError`].
    fn remove(&self, path: &Path) -> Result<(), FilesError>;

    /// Bytes that can still be written below a folder.
    ///
    /// # Errors
    /// [`FilesError`].
    fn free(&self, dir: &Path) -> Result<u64, FilesError>;
}

/// Gives a finished, synced file its place: renames it and syncs the folder.
///
/// # Errors
/// Those of [`Files::rename`] and [`Files::sync_dir`].
pub fn publish(files: &dyn Files, unfinished: &Path, place: &Path) -> Result<(), FilesError> {
    files.rename(unfinished, place)?;
    files.sync_dir(place.parent().unwrap_or(Path::new(".")))
}

/// Removes what a crash left half written in a folder.
///
/// # Errors
/// Those of [`Files::list`] and [`Files::remove`].
pub fn sweep(files: &dyn Files, dir: &Path) -> Result<(), FilesError> {
    let left = files.list(dir)?.into_iter().filter(|name| name.ends_with(UNFINISHED));
    for name in left {
        files.remove(&dir.join(name))?;
    }
    Ok(())
}

/// The disk of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsFiles;

#[derive(Debug)]
struct OsFile {
    path: PathBuf,
    file: File,
}

impl Growing for OsFile {
    fn append(&mut self, bytes: &[u8]) -> Result<(), FilesError> {
        self.file.write_all(bytes).map_err(failed("append", &self.path, bytes.len()))
    }

    fn sync(&mut self) -> Result<(), FilesError> {
        // The length is part of what fdatasync keeps; times are not worth their own write.
        self.file.sync_data().map_err(failed("sync", &self.path, 0))
    }
}

impl Files for OsFiles {
    fn create_dir(&self, dir: &Path) -> Result<(), FilesError> {
        fs::create_dir_all(dir).map_err(failed("make folder", dir, 0))
    }

    fn create(&self, path: &Path) -> Result<Box<dyn Growing>, FilesError> {
        let file = File::create(path).map_err(failed("create", path, 0))?;
        Ok(Box::new(OsFile { path: path.to_owned(), file }))
    }

    fn reopen(&self, path: &Path) -> Result<Box<dyn Growing>, FilesError> {
        let file = OpenOptions::new().append(true).open(path).map_err(failed("open", path, 0))?;
        Ok(Box::new(OsFile { path: path.to_owned(), file }))
    }

    fn truncate(&self, path: &Path, len: u64) -> Result<(), FilesError> {
        let cut = || -> io::Result<()> {
            let file = OpenOptions::new().write(true).open(path)?;
            file.set_len(len)?;
            file.sync_data()
        };
        cut().map_err(failed("cut", path, 0))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FilesError> {
        fs::rename(from, to).map_err(failed("rename", from, 0))
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), FilesError> {
        File::open(dir).and_then(|folder| folder.sync_all()).map_err(failed("sync folder", dir, 0))
    }

    fn read(&self, path: &Path, offset: u64, len: usize) -> Result<Vec<u8>, FilesError> {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(path)?;
            // Memory is taken for what is there, not for what was asked for.
            let rest = file.metadata()?.len().saturating_sub(offset).min(len as u64);
            file.seek(SeekFrom::Start(offset))?;
            let mut bytes = Vec::with_capacity(usize::try_from(rest).unwrap_or(0));
            file.take(rest).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(failed("read", path, 0))
    }

    fn len(&self, path: &Path) -> Result<u64, FilesError> {
        fs::metadata(path).map(|metadata| metadata.len()).map_err(failed("look at", path, 0))
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, FilesError> {
        let list = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(dir)? {
                let entry = entry?;
                // A name that is no UTF-8 is none of ours.
                if entry.file_type()?.is_file()
                    && let Ok(name) = entry.file_name().into_string()
                {
                    names.push(name);
                }
            }
            names.sort_unstable();
            Ok(names)
        };
        match list() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            listed => listed.map_err(failed("list", dir, 0)),
        }
    }

    fn remove(&self, path: &Path) -> Result<(), FilesError> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(failed("remove", path, 0)),
        }
    }

    fn free(&self, dir: &Path) -> Result<u64, FilesError> {
        let stat = rustix::fs::statvfs(dir).map_err(|error| failed("ask for the room of", dir, 0)(error.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

fn failed(action: &'static str, path: &Path, needed: usize) -> impl FnOnce(io::Error) -> FilesError {
    let path = path.to_owned();
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            FilesError::NoSpace { path, needed: needed as u64 }
        }
        io::ErrorKind::NotFound => FilesError::Missing { path },
        _ => FilesError::Io { action, path, detail: error.to_string() },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_grows_is_published_and_read_in_pieces() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a/b");
        OsFiles.create_dir(&dir).unwrap();
        let (unfinished, place) = (dir.join("x.new"), dir.join("x"));
        let mut file = OsFiles.create(&unfinished).unwrap();
        file.append(b"hello ").unwrap();
        file.append(b"world").unwrap();
        file.sync().unwrap();
        publish(&OsFiles, &unfinished, &place).unwrap();
        assert_eq!(OsFiles.list(&dir).unwrap(), ["x"]);
        assert_eq!(OsFiles.read(&place, 6, 100).unwrap(), b"world");
        assert_eq!(OsFiles.read(&place, 0, 5).unwrap(), b"hello");
        assert_eq!(OsFiles.read(&place, 100, 5).unwrap(), b"");
        OsFiles.reopen(&place).unwrap().append(b"!").unwrap();
        assert_eq!(OsFiles.len(&place).unwrap(), 12);
        OsFiles.truncate(&place, 5).unwrap();
        assert_eq!(OsFiles.read(&place, 0, 100).unwrap(), b"hello");
        assert!(OsFiles.free(&dir).unwrap() > 0);
    }

    #[test]
    fn leftovers_are_swept_and_what_is_missing_is_said() {
        let temp = tempfile::tempdir().unwrap();
        for name in ["whole", "half.new"] {
            OsFiles.create(&temp.path().join(name)).unwrap();
        }
        sweep(&OsFiles, temp.path()).unwrap();
        assert_eq!(OsFiles.list(temp.path()).unwrap(), ["whole"]);
        let missing = temp.path().join("none");
        assert_eq!(OsFiles.len(&missing), Err(FilesError::Missing { path: missing.clone() }));
        assert_eq!(OsFiles.reopen(&missing).unwrap_err(), FilesError::Missing { path: missing.clone() });
        OsFiles.remove(&missing).unwrap();
        assert_eq!(OsFiles.list(&missing).unwrap(), [""; 0]);
    }

    /// /dev/full answers every write with "no space left".
    #[test]
    fn a_full_disk_names_the_file_and_what_it_needs() {
        let full = Path::new("/dev/full");
        let error = OsFiles.reopen(full).unwrap().append(&[0; 77]).unwrap_err();
        assert_eq!(error, FilesError::NoSpace { path: full.to_owned(), needed: 77 });
        assert!(error.to_string().contains("/dev/full needs 77 bytes"), "{error}");
    }
}
