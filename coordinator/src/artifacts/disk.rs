//! The content-addressed files of one coordinator: `<2 hex>/<64 hex>` under its folder, plus unfinished uploads under
//! `partial/`. Blocking; [`super::Artifacts`] carries it off the runtime's threads.
//!
//! A name in place of its hash is a promise that the bytes are whole and on disk: they are written elsewhere, synced,
//! compared with the hash and only then renamed, and the folder is synced before anybody is told.

use super::upload::Upload;
use matrixai_protocol::Hash;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

/// Largest artifact, bytes.
pub(crate) const ARTIFACT_BYTES_MAX: u64 = 64 << 20;

/// Folder of unfinished uploads, under the store's.
pub(super) const PARTIAL: &str = "partial";

/// Suffix of files that nobody resumes: fetches from peers, uploads that run beside another of the same artifact.
const TEMP: &str = "temp";

/// Why the store refused or failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    /// Larger than any artifact may be.
    #[error("an artifact may be {max} bytes large at most, this one says {size}")]
    TooLarge {
        /// Size that was declared, bytes.
        size: u64,
        /// [`ARTIFACT_BYTES_MAX`].
        max: u64,
    },
    /// The limit of this store or the disk under it is reached.
    #[error("{} has no room: {need} bytes are needed and {free} are free", path.display())]
    Full {
        /// Folder of the store.
        path: PathBuf,
        /// Bytes that were to be added.
        need: u64,
        /// Bytes left under the limit (0 when the disk itself is full).
        free: u64,
    },
    /// Another upload of this artifact is being written; a resumed one cannot go on beside it.
    #[error("another upload of this artifact is running: ask for its state again")]
    Busy,
    /// The upload goes on somewhere else than where the file ends.
    #[error("this upload goes on at {received}, not at {offset}")]
    WrongOffset {
        /// Bytes that are here.
        received: u64,
        /// Where the sender wanted to go on.
        offset: u64,
    },
    /// More bytes came than were declared.
    #[error("more than the declared {size} bytes came")]
    TooMuch {
        /// Declared size, bytes.
        size: u64,
    },
    /// The upload ended early; what came is kept and can be gone on with.
    #[error("{received} of {size} bytes came: go on from there")]
    Short {
        /// Bytes that are here.
        received: u64,
        /// Declared size, bytes.
        size: u64,
    },
    /// The bytes are not the ones the name stands for; they were thrown away.
    #[error("the bytes hash to {got}, not to {wanted}")]
    WrongHash {
        /// Name of the artifact, hex.
        wanted: String,
        /// What the bytes hash to, hex.
        got: String,
    },
    /// The file system failed.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// Verb phrase.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl DiskError {
    /// Puts the verb and path to a failure of the file system, for `map_err`.
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, path: path.to_owned(), source }
    }
}

/// The files. Share it as an `Arc`.
#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    bytes_max: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Bytes of whole artifacts, of unfinished ones on disk, and what running uploads have still to write.
    bytes: u64,
    /// Resumable files that nobody writes now, and their lengths.
    idle: BTreeMap<PathBuf, u64>,
    /// Resumable files that are being written.
    busy: BTreeSet<PathBuf>,
    /// Artifacts that were renamed into a folder which is not synced yet: a crash could still take their names.
    unsynced: BTreeSet<PathBuf>,
    temps: u64,
}

/// What the store has of an artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// All of it, on disk for good; its size in bytes.
    Whole(u64),
    /// This many bytes of an unfinished upload (0: nothing).
    Part(u64),
}

impl Disk {
    /// Opens the folder (made if absent) and sweeps what a crash left: files nobody can resume are removed.
    ///
    /// # Errors
    /// [`DiskError::Io`] names what could not be read or made.
    pub(crate) fn open(root: &Path, bytes_max: u64) -> Result<Arc<Self>, DiskError> {
        let partial = root.join(PARTIAL);
        fs::create_dir_all(&partial).map_err(DiskError::io("make folder", &partial))?;
        // All folders at once and synced, so that none has to be made, and synced, under an upload.
        let folders: Vec<PathBuf> = (0..=u8::MAX).map(|byte| root.join(hex::encode([byte]))).collect();
        for folder in &folders {
            fs::create_dir_all(folder).map_err(DiskError::io("make folder", folder))?;
        }
        sync_folder(root)?;
        let mut inner = Inner::default();
        for folder in &folders {
            let files = entries(folder)?;
            if !files.is_empty() {
                // The process before this one may have ended between a rename and its sync.
                sync_folder(folder)?;
            }
            for file in files {
                match file.file_name().and_then(|name| name.to_str()).and_then(parse_hash) {
                    Some(_) => inner.bytes += length(&file)?,
                    None => tracing::warn!(path = %file.display(), "no artifact by its name: left alone"),
                }
            }
        }
        let disk = Self { root: root.to_owned(), bytes_max, inner: Mutex::new(inner) };
        disk.sweep(&partial)?;
        Ok(Arc::new(disk))
    }

    fn sweep(&self, partial: &Path) -> Result<(), DiskError> {
        for file in entries(partial)? {
            let len = length(&file)?;
            let resumable = parse_partial(&file)
                .is_some_and(|(hash, size)| len <= size && !matches!(self.held(&hash), Ok(Held::Whole(_))));
            if resumable {
                let mut inner = self.lock();
                inner.bytes += len;
                inner.idle.insert(file, len);
            } else {
                tracing::info!(path = %file.display(), bytes = len, "removed what an interrupted upload left");
                fs::remove_file(&file).map_err(DiskError::io("remove", &file))?;
            }
        }
        Ok(())
    }

    /// What is here of an artifact.
    ///
    /// # Errors
    /// [`DiskError::Io`] when the file system fails.
    pub(crate) fn held(&self, hash: &Hash) -> Result<Held, DiskError> {
        let path = self.path(hash);
        match fs::metadata(&path) {
            Ok(data) => {
                let unsynced = self.lock().unsynced.contains(&path);
                if unsynced {
                    sync_folder(path.parent().expect("an artifact's path has a folder"))?;
                }
                return Ok(Held::Whole(data.len()));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(DiskError::io("look at", &path)(error)),
        }
        let prefix = self.root.join(PARTIAL).join(hex::encode(hash));
        let inner = self.lock();
        let received = inner.idle.iter().filter(|(path, _)| path.with_extension("") == prefix).map(|(_, len)| *len);
        Ok(Held::Part(received.max().unwrap_or(0)))
    }

    /// Opens a whole artifact for reading; `None` if it is not here.
    ///
    /// # Errors
    /// [`DiskError::Io`] when the file system fails.
    pub(crate) fn read(&self, hash: &Hash) -> Result<Option<(File, u64)>, DiskError> {
        let path = self.path(hash);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DiskError::io("open", &path)(error)),
        };
        let size = file.metadata().map_err(DiskError::io("look at", &path))?.len();
        Ok(Some((file, size)))
    }

    /// Starts an upload, or goes on with one that broke off after `offset` bytes. Beside a running upload of the same
    /// artifact one from 0 is written to a file of its own: whoever ends first wins, and the bytes are the same.
    ///
    /// # Errors
    /// [`DiskError::TooLarge`], [`DiskError::Full`], [`DiskError::Busy`], [`DiskError::WrongOffset`] or
    /// [`DiskError::Io`]; nothing has changed then, except that unfinished uploads that nobody writes may have made room.
    pub(crate) fn upload(self: &Arc<Self>, hash: Hash, size: u64, offset: u64) -> Result<Upload, DiskError> {
        self.admit(size)?;
        let path = self.root.join(PARTIAL).join(format!("{}.{size}", hex::encode(hash)));
        {
            let mut inner = self.lock();
            if inner.busy.contains(&path) {
                drop(inner);
                return if offset == 0 { self.private(hash, size) } else { Err(DiskError::Busy) };
            }
            let received = inner.idle.get(&path).copied().unwrap_or(0);
            if offset != 0 && offset != received {
                return Err(DiskError::WrongOffset { received, offset });
            }
            inner.idle.remove(&path);
            inner.bytes -= received;
            // Taken out of the idle ones first, so that making room cannot remove what is gone on with.
            if let Err(error) = self.reserve(&mut inner, size) {
                if received > 0 {
                    inner.bytes += received;
                    inner.idle.insert(path, received);
                }
                return Err(error);
            }
            inner.busy.insert(path.clone());
        }
        Upload::open(Arc::clone(self), path, true, hash, size, offset)
    }

    /// Starts an upload that nobody resumes: from a peer, whose sender begins anew anyhow.
    ///
    /// # Errors
    /// As [`Disk::upload`].
    pub(crate) fn private(self: &Arc<Self>, hash: Hash, size: u64) -> Result<Upload, DiskError> {
        self.admit(size)?;
        let path = {
            let mut inner = self.lock();
            self.reserve(&mut inner, size)?;
            inner.temps += 1;
            self.root.join(PARTIAL).join(format!("{}.{}.{TEMP}", hex::encode(hash), inner.temps))
        };
        Upload::open(Arc::clone(self), path, false, hash, size, 0)
    }

    /// Removes an artifact whose bytes turned out to have changed on disk, so that it is fetched again.
    ///
    /// # Errors
    /// [`DiskError::Io`] when the file system fails.
    pub(crate) fn discard(&self, hash: &Hash) -> Result<(), DiskError> {
        let path = self.path(hash);
        let Ok(Held::Whole(size)) = self.held(hash) else { return Ok(()) };
        fs::remove_file(&path).map_err(DiskError::io("remove", &path))?;
        let mut inner = self.lock();
        inner.bytes = inner.bytes.saturating_sub(size);
        Ok(())
    }

    /// Bytes on this disk or promised to running uploads.
    pub(crate) fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// Most bytes this store accepts.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Folder of the store.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where a whole artifact lies.
    pub(super) fn path(&self, hash: &Hash) -> PathBuf {
        let name = hex::encode(hash);
        self.root.join(&name[..2]).join(&name)
    }

    /// Renames a finished upload into place, unless another one of the same bytes was first. [`Disk::placed`] must follow.
    ///
    /// Under the lock, so that of two equal uploads exactly one is counted.
    pub(super) fn place(&self, from: &Path, target: &Path) -> Result<Kept, DiskError> {
        let mut inner = self.lock();
        if target.exists() {
            return Ok(Kept::Nothing);
        }
        fs::rename(from, target).map_err(DiskError::io("rename into place", target))?;
        inner.unsynced.insert(target.to_owned());
        Ok(Kept::Whole)
    }

    /// Syncs the folder of a placed artifact: from here on its name stands for good. Also for an upload that was not the
    /// first of its bytes, since the first one may not have come this far.
    pub(super) fn placed(&self, target: &Path) -> Result<(), DiskError> {
        sync_folder(target.parent().expect("an artifact's path has a folder"))?;
        self.lock().unsynced.remove(target);
        Ok(())
    }

    /// Books the end of an upload: `kept` bytes stay on disk of the `reserved` ones.
    pub(super) fn ended(&self, path: &Path, resumable: bool, reserved: u64, kept: Kept) {
        let mut inner = self.lock();
        inner.busy.remove(path);
        inner.bytes = inner.bytes.saturating_sub(reserved);
        match kept {
            Kept::Nothing => {}
            Kept::Whole => inner.bytes += reserved,
            Kept::Part(len) => {
                debug_assert!(resumable, "only resumable uploads leave a part");
                inner.bytes += len;
                inner.idle.insert(path.to_owned(), len);
            }
        }
    }

    fn admit(&self, size: u64) -> Result<(), DiskError> {
        if size > ARTIFACT_BYTES_MAX {
            return Err(DiskError::TooLarge { size, max: ARTIFACT_BYTES_MAX });
        }
        Ok(())
    }

    /// Sets `need` bytes aside; unfinished uploads that nobody writes give way, longest untouched first.
    fn reserve(&self, inner: &mut Inner, need: u64) -> Result<(), DiskError> {
        let excess = (inner.bytes + need).saturating_sub(self.bytes_max);
        if excess > 0 && inner.idle.values().sum::<u64>() >= excess {
            let mut oldest: Vec<(SystemTime, PathBuf)> = inner.idle.keys().map(|p| (touched(p), p.clone())).collect();
            oldest.sort();
            for (_, path) in oldest {
                if inner.bytes + need <= self.bytes_max {
                    break;
                }
                fs::remove_file(&path).map_err(DiskError::io("remove", &path))?;
                inner.bytes -= inner.idle.remove(&path).unwrap_or(0);
                tracing::info!(path = %path.display(), "an unfinished upload gave way to a new one");
            }
        }
        if inner.bytes + need > self.bytes_max {
            let free = self.bytes_max.saturating_sub(inner.bytes);
            return Err(DiskError::Full { path: self.root.clone(), need, free });
        }
        inner.bytes += need;
        Ok(())
    }

    /// A panic while the lock was held can only have left the counters slightly off, which a restart mends.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an upload leaves on disk.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kept {
    Nothing,
    Part(u64),
    Whole,
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, DiskError> {
    let read = fs::read_dir(folder).map_err(DiskError::io("read folder", folder))?;
    read.map(|entry| Ok(entry.map_err(DiskError::io("read folder", folder))?.path())).collect()
}

fn sync_folder(folder: &Path) -> Result<(), DiskError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(DiskError::io("sync folder", folder))
}

fn length(file: &Path) -> Result<u64, DiskError> {
    Ok(fs::metadata(file).map_err(DiskError::io("look at", file))?.len())
}

/// Only orders unfinished uploads by age; a file system without times makes the order arbitrary.
fn touched(path: &Path) -> SystemTime {
    fs::metadata(path).and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn parse_hash(name: &str) -> Option<Hash> {
    // One spelling per hash, or a file could be counted that is never served.
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    hex::decode(name).ok()?.try_into().ok()
}

fn parse_partial(file: &Path) -> Option<(Hash, u64)> {
    let (hash, size) = file.file_name()?.to_str()?.split_once('.')?;
    Some((parse_hash(hash)?, size.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Read as _;
    use tempfile::TempDir;

    const ROOM: u64 = 1_000;

    fn opened(folder: &TempDir) -> Arc<Disk> {
        Disk::open(folder.path(), ROOM).unwrap()
    }

    fn hash(bytes: &[u8]) -> Hash {
        matrixai_protocol::sha256(&[bytes])
    }

    fn stored(disk: &Arc<Disk>, bytes: &[u8]) -> Result<(), DiskError> {
        let mut upload = disk.upload(hash(bytes), bytes.len() as u64, 0)?;
        upload.write(bytes)?;
        upload.commit()
    }

    fn content(disk: &Disk, bytes: &[u8]) -> Option<Vec<u8>> {
        let (mut file, _) = disk.read(&hash(bytes)).unwrap()?;
        let mut read = Vec::new();
        file.read_to_end(&mut read).unwrap();
        Some(read)
    }

    fn partials(folder: &TempDir) -> usize {
        entries(&folder.path().join(PARTIAL)).unwrap().len()
    }

    #[test]
    fn a_torn_upload_is_gone_on_with_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = b"0123456789".as_slice();
        let disk = opened(&folder);
        let mut upload = disk.upload(hash(bytes), 10, 0).unwrap();
        upload.write(&bytes[..6]).unwrap();
        assert!(matches!(upload.commit(), Err(DiskError::Short { received: 6, size: 10 })));
        drop(disk);

        let disk = opened(&folder);
        assert_eq!(disk.held(&hash(bytes)).unwrap(), Held::Part(6));
        assert_eq!(disk.bytes(), 6);
        let wrong = disk.upload(hash(bytes), 10, 5).unwrap_err();
        assert!(matches!(wrong, DiskError::WrongOffset { received: 6, offset: 5 }), "{wrong}");
        let mut upload = disk.upload(hash(bytes), 10, 6).unwrap();
        upload.write(&bytes[6..]).unwrap();
        upload.commit().unwrap();
        assert_eq!(content(&disk, bytes).unwrap(), bytes);
        assert_eq!((disk.held(&hash(bytes)).unwrap(), disk.bytes(), partials(&folder)), (Held::Whole(10), 10, 0));
    }

    #[test]
    fn a_beginning_that_changed_on_disk_is_found_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = b"0123456789".as_slice();
        let disk = opened(&folder);
        disk.upload(hash(bytes), 10, 0).unwrap().write(&bytes[..6]).unwrap();
        let partial = entries(&folder.path().join(PARTIAL)).unwrap().remove(0);
        fs::write(&partial, b"\0\0\0\0\0\0").unwrap();
        let mut upload = disk.upload(hash(bytes), 10, 6).unwrap();
        upload.write(&bytes[6..]).unwrap();
        assert!(matches!(upload.commit(), Err(DiskError::WrongHash { .. })));
        assert_eq!((disk.held(&hash(bytes)).unwrap(), disk.bytes()), (Held::Part(0), 0));
    }

    #[test]
    fn wrong_bytes_are_refused_and_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let disk = opened(&folder);
        let mut upload = disk.upload(hash(b"right"), 5, 0).unwrap();
        upload.write(b"wrong").unwrap();
        let error = upload.commit().unwrap_err().to_string();
        assert!(error.contains(&hex::encode(hash(b"right"))), "{error}");
        assert!(content(&disk, b"right").is_none());
        assert_eq!((disk.bytes(), partials(&folder)), (0, 0));

        let mut upload = disk.upload(hash(b"right"), 5, 0).unwrap();
        assert!(matches!(upload.write(b"righteous"), Err(DiskError::TooMuch { size: 5 })));
    }

    #[test]
    fn limits_are_checked_before_a_byte_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let disk = opened(&folder);
        let large = disk.upload([1; 32], ARTIFACT_BYTES_MAX + 1, 0).unwrap_err();
        assert!(matches!(large, DiskError::TooLarge { .. }), "{large}");
        let running = disk.upload([1; 32], 700, 0).unwrap();
        let full = disk.upload([2; 32], 301, 0).unwrap_err();
        assert!(matches!(&full, DiskError::Full { need: 301, free: 300, .. }), "{full}");
        assert!(full.to_string().contains(&folder.path().display().to_string()), "{full}");
        // What a running upload had reserved is free again when it ends without a byte.
        drop(running);
        drop(disk.upload([2; 32], ROOM, 0).unwrap());
        assert_eq!((disk.bytes(), partials(&folder)), (0, 0));
    }

    #[test]
    fn unfinished_uploads_give_way_but_not_to_what_would_not_fit_anyhow() {
        let folder = tempfile::tempdir().unwrap();
        let disk = opened(&folder);
        stored(&disk, &[7; 500]).unwrap();
        disk.upload([1; 32], 400, 0).unwrap().write(&[0; 300]).unwrap();
        assert!(matches!(disk.upload([2; 32], 501, 0), Err(DiskError::Full { free: 200, .. })));
        assert_eq!(disk.held(&[1; 32]).unwrap(), Held::Part(300));
        drop(disk.upload([2; 32], 500, 0).unwrap());
        assert_eq!((disk.held(&[1; 32]).unwrap(), disk.bytes()), (Held::Part(0), 500));
    }

    #[test]
    fn what_a_crash_left_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        let disk = opened(&folder);
        stored(&disk, b"whole").unwrap();
        drop(disk);
        let partial = folder.path().join(PARTIAL);
        let name = |size: u32, bytes: &[u8]| format!("{}.{size}", hex::encode(hash(bytes)));
        fs::write(partial.join(format!("{}.3.temp", hex::encode(hash(b"fetch")))), b"fet").unwrap();
        fs::write(partial.join(name(5, b"whole")), b"who").unwrap();
        fs::write(partial.join(name(3, b"longer")), b"longer").unwrap();
        fs::write(partial.join("no artifact"), b"x").unwrap();
        fs::write(partial.join(name(9, b"resumable")), b"resu").unwrap();

        let disk = opened(&folder);
        assert_eq!((partials(&folder), disk.bytes()), (1, 9));
        assert_eq!(disk.held(&hash(b"resumable")).unwrap(), Held::Part(4));
        assert_eq!(content(&disk, b"whole").unwrap(), b"whole");
    }

    #[test]
    fn of_two_equal_uploads_at_once_one_is_kept_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let disk = opened(&folder);
        let mut first = disk.upload(hash(b"same"), 4, 0).unwrap();
        first.write(b"sa").unwrap();
        assert!(matches!(disk.upload(hash(b"same"), 4, 2), Err(DiskError::Busy)));
        stored(&disk, b"same").unwrap();
        first.write(b"me").unwrap();
        first.commit().unwrap();
        assert_eq!((content(&disk, b"same").unwrap(), disk.bytes(), partials(&folder)), (b"same".to_vec(), 4, 0));
    }

    #[test]
    fn an_empty_artifact_is_one_too() {
        let folder = tempfile::tempdir().unwrap();
        let disk = opened(&folder);
        stored(&disk, b"").unwrap();
        assert_eq!(disk.held(&hash(b"")).unwrap(), Held::Whole(0));
        disk.discard(&hash(b"")).unwrap();
        assert_eq!(disk.held(&hash(b"")).unwrap(), Held::Part(0));
    }
}
