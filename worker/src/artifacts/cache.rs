//! Artifacts on this disk, by hash. Everything here can be fetched again, so nothing is synced and the least recently used
//! makes room; what is read is hashed first, so a damaged file is as good as none.

use crate::identity::{IdentityError, parse_hash};
use matrixai_protocol::{Hash, sha256};
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

/// Folder of downloads that are not whole.
const PARTIAL: &str = "partial";
/// A download that nobody went on with for this long is given up.
const PARTIAL_KEPT: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug)]
pub(crate) struct Cache {
    root: PathBuf,
    bytes_max: u64,
    index: Mutex<Index>,
    writes: AtomicU64,
}

#[derive(Debug, Default)]
struct Index {
    files: BTreeMap<Hash, Entry>,
    bytes: u64,
    /// Counts uses; the larger, the later.
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    size: u64,
    used: u64,
}

impl Cache {
    /// Opens the folder and counts what is in it.
    pub(crate) fn open(root: &Path, bytes_max: u64) -> Result<Self, IdentityError> {
        let partial = root.join(PARTIAL);
        fs::create_dir_all(&partial).map_err(IdentityError::io("make folder", &partial))?;
        drop_stale(&partial)?;
        let mut found = Vec::new();
        for folder in entries(root)?.into_iter().filter(|path| path.is_dir() && *path != partial) {
            for path in entries(&folder)? {
                let meta = fs::metadata(&path).map_err(IdentityError::io("look at", &path))?;
                match path.file_name().and_then(|name| name.to_str()).and_then(parse_hash) {
                    Some(hash) => found.push((meta.modified().unwrap_or(SystemTime::UNIX_EPOCH), hash, meta.len())),
                    // A write that was cut off.
                    None => fs::remove_file(&path).map_err(IdentityError::io("remove", &path))?,
                }
            }
        }
        found.sort_unstable();
        let cache = Self { root: root.to_owned(), bytes_max, index: Mutex::default(), writes: AtomicU64::new(0) };
        for (_, hash, size) in found {
            cache.book(hash, size);
        }
        cache.make_room(None)?;
        Ok(cache)
    }

    /// The artifact's bytes, if they are here and are what their name says.
    pub(crate) fn read(&self, hash: &Hash) -> Result<Option<Arc<[u8]>>, IdentityError> {
        let path = self.path(hash);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(IdentityError::io("read", &path)(error)),
        };
        if sha256(&[&bytes]) != *hash {
            tracing::warn!(path = %path.display(), "an artifact changed on disk: it is fetched again");
            self.remove(hash)?;
            return Ok(None);
        }
        self.book(*hash, bytes.len() as u64);
        // Only so that a restart knows the order of use.
        if let Ok(file) = OpenOptions::new().write(true).open(&path) {
            file.set_modified(SystemTime::now()).ok();
        }
        Ok(Some(bytes.into()))
    }

    /// Keeps bytes under their hash, which the caller has computed.
    pub(crate) fn write(&self, hash: &Hash, bytes: &[u8]) -> Result<(), IdentityError> {
        let path = self.path(hash);
        if path.exists() {
            return Ok(());
        }
        // Of its own: two tasks may keep the same bytes at a time.
        let temp = path.with_extension(format!("new{}", self.writes.fetch_add(1, Ordering::Relaxed)));
        let write = |temp: &Path| {
            fs::create_dir_all(temp.parent().unwrap_or(temp))?;
            File::create(temp)?.write_all(bytes)?;
            fs::rename(temp, &path)
        };
        write(&temp).map_err(IdentityError::io("write", &path))?;
        self.book(*hash, bytes.len() as u64);
        self.make_room(Some(hash))
    }

    /// Where a download of the artifact is written.
    pub(super) fn partial(&self, hash: &Hash) -> PathBuf {
        self.root.join(PARTIAL).join(hex::encode(hash))
    }

    fn path(&self, hash: &Hash) -> PathBuf {
        let name = hex::encode(hash);
        self.root.join(&name[..2]).join(&name)
    }

    /// Counts a file, or notes another use of it.
    fn book(&self, hash: Hash, size: u64) {
        let index = &mut *self.index.lock().unwrap_or_else(PoisonError::into_inner);
        index.uses += 1;
        if let Some(before) = index.files.insert(hash, Entry { size, used: index.uses }) {
            index.bytes = index.bytes.saturating_sub(before.size);
        }
        index.bytes = index.bytes.saturating_add(size);
    }

    /// Removes what was used longest ago until the rest fits; `spared` stays even if it alone is too large.
    fn make_room(&self, spared: Option<&Hash>) -> Result<(), IdentityError> {
        loop {
            let victim = {
                let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
                if index.bytes <= self.bytes_max {
                    return Ok(());
                }
                let others = index.files.iter().filter(|(hash, _)| Some(*hash) != spared);
                others.min_by_key(|(_, entry)| entry.used).map(|(hash, _)| *hash)
            };
            let Some(victim) = victim else { return Ok(()) };
            self.remove(&victim)?;
        }
    }

    fn remove(&self, hash: &Hash) -> Result<(), IdentityError> {
        let path = self.path(hash);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(IdentityError::io("remove", &path)(error)),
            _ => {}
        }
        let index = &mut *self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = index.files.remove(hash) {
            index.bytes = index.bytes.saturating_sub(entry.size);
        }
        Ok(())
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, IdentityError> {
    let read = fs::read_dir(folder).map_err(IdentityError::io("list", folder))?;
    read.map(|entry| entry.map(|entry| entry.path()).map_err(IdentityError::io("list", folder))).collect()
}

fn drop_stale(partial: &Path) -> Result<(), IdentityError> {
    for path in entries(partial)? {
        let modified = fs::metadata(&path).and_then(|meta| meta.modified());
        if modified.ok().and_then(|at| at.elapsed().ok()).is_none_or(|age| age > PARTIAL_KEPT) {
            fs::remove_file(&path).map_err(IdentityError::io("remove", &path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn keep(cache: &Cache, bytes: &[u8]) -> Hash {
        let hash = sha256(&[bytes]);
        cache.write(&hash, bytes).unwrap();
        hash
    }

    #[test]
    fn the_least_recently_used_makes_room() {
        let temp = tempfile::tempdir().unwrap();
        let cache = Cache::open(temp.path(), 30).unwrap();
        let (a, b, c) = (keep(&cache, &[1; 10]), keep(&cache, &[2; 10]), keep(&cache, &[3; 10]));
        assert_eq!(cache.read(&a).unwrap().as_deref(), Some(&[1; 10][..]));
        let d = keep(&cache, &[4; 10]);
        assert_eq!(cache.read(&b).unwrap(), None);
        for hash in [a, c, d] {
            assert!(cache.read(&hash).unwrap().is_some());
        }
        // One that is larger than the limit is kept alone.
        let large = keep(&cache, &[5; 40]);
        assert!(cache.read(&large).unwrap().is_some());
        assert_eq!(cache.read(&a).unwrap(), None);
    }

    #[test]
    fn a_restart_finds_what_is_there_and_keeps_to_a_smaller_limit() {
        let temp = tempfile::tempdir().unwrap();
        let cache = Cache::open(temp.path(), 100).unwrap();
        let (a, b) = (keep(&cache, &[1; 10]), keep(&cache, &[2; 10]));
        let old = File::options().write(true).open(cache.path(&b)).unwrap();
        old.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
        drop(cache);
        let cache = Cache::open(temp.path(), 15).unwrap();
        assert!(cache.read(&a).unwrap().is_some());
        assert_eq!(cache.read(&b).unwrap(), None);
    }

    #[test]
    fn damage_is_noticed() {
        let temp = tempfile::tempdir().unwrap();
        let cache = Cache::open(temp.path(), 100).unwrap();
        let hash = keep(&cache, &[1; 10]);
        fs::write(cache.path(&hash), [9; 10]).unwrap();
        assert_eq!(cache.read(&hash).unwrap(), None);
        assert!(!cache.path(&hash).exists());
        cache.write(&hash, &[1; 10]).unwrap();
        assert!(cache.read(&hash).unwrap().is_some());
    }
}
