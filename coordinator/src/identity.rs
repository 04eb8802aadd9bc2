//! The data folder: who this coordinator is and which cluster it belongs to. Nothing outside this folder is opened.
//!
//! Its files: `format` (what wrote the folder), `lock` (one process at a time), `node.key` (the node's seed), `founding.key` (until
//! there is a cluster: the seed of the key with which one may be founded here),
//! `ports.json` (ports picked on the first start), `genesis` (the cluster), `seat.json` (the place of a coordinator that
//! joined), `era` (the snapshot that the data began again from), `restored.json` (where the log of a restored folder begins),
//! `log-begun` (this node has acknowledged entries: without its log it must not come back), and the folders `raft`,
//! `segments`, `snapshots`, `artifacts` and `history`. Files are written beside their place and renamed, so that a crash leaves the
//! old or the new one.

use crate::{archive::Head, founding::FoundingKey, join::Seat};
use matrixai_proto::envelope::Signer;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// First line of the file `format`; its number rises when an older program can no longer read the folder.
const FORMAT: &str = "matrixai-coordinator 1";
/// Name of the file of the node's seed.
const NODE_KEY: &str = "node.key";
/// Name of the file of the seed with which a cluster may be founded.
const FOUNDING_KEY: &str = "founding.key";
/// Name of the file that says that there is a log.
const LOG_BEGUN: &str = "log-begun";
/// Name of the file of the era.
const ERA: &str = "era";
/// Name of the folder that a new file system has.
pub(crate) const LOST_AND_FOUND: &str = "lost+found";
/// Name of the file that says where a restored log begins.
const RESTORED: &str = "restored.json";
const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;

/// Why a data folder could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The operating system refused.
    #[error("{what} {path}: {error}")]
    Io {
        /// What was tried, as a verb phrase.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Its answer.
        error: io::Error,
    },
    /// Another process has the folder.
    #[error("{0} is in use by another coordinator process")]
    InUse(PathBuf),
    /// The folder was written by something else.
    #[error("{path}: {what}")]
    Foreign {
        /// The file that shows it.
        path: PathBuf,
        /// What it shows.
        what: String,
    },
}

/// Ports picked for `port 0` on the first start, so that a restart keeps the addresses that the cluster knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ports {
    /// The gRPC server's.
    pub(crate) grpc: u16,
    /// The web server's.
    pub(crate) web: u16,
}

/// Where in the log a restored folder begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Restored {
    /// The newest epoch that had closed.
    pub(crate) epoch: u64,
    /// Last entry that the snapshot holds.
    pub(crate) index: u64,
}

/// An opened data folder, locked while this lives.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    seed: [u8; 32],
    _lock: File,
}

impl Folder {
    /// Name of the folder of snapshots.
    pub(crate) const SNAPSHOTS: &'static str = "snapshots";

    /// Makes a folder of a node that exists already, of its key and its cluster's genesis, its place if the genesis does not
    /// name it, the era that begins with it, and where. What makes it one that opens comes last.
    pub(crate) fn prepare(
        root: &Path,
        seed: &[u8; 32],
        genesis: &[u8],
        seat: Option<&Seat>,
        era: &[u8; 32],
        restored: Restored,
    ) -> Result<(), FolderError> {
        write(&root.join(NODE_KEY), format!("{}\n", hex::encode(seed)).as_bytes(), PRIVATE)?;
        seat.map_or(Ok(()), |seat| write_seat(root, seat))?;
        write_era(root, era)?;
        let restored = serde_json::to_vec(&restored).expect("two numbers are JSON");
        write(&root.join(RESTORED), &restored, PUBLIC)?;
        write(&root.join("genesis"), genesis, PUBLIC)?;
        write(&root.join("format"), format!("{FORMAT}\ncluster {}\n", cluster_hex(genesis)).as_bytes(), PUBLIC)
    }

    /// Opens the folder, or makes it with a new node key.
    pub(crate) fn open(root: &Path) -> Result<Self, FolderError> {
        fs::create_dir_all(root).map_err(io_error("make folder", root))?;
        let lock = lock(root)?;
        let format = root.join("format");
        match read(&format)? {
            Some(bytes) => check_format(&format, &bytes)?,
            None => {
                refuse_foreign(root)?;
                write(&format, format!("{FORMAT}\n").as_bytes(), PUBLIC)?;
            }
        }
        let seed = seed_in(&root.join(NODE_KEY))?;
        Ok(Self { root: root.to_owned(), seed, _lock: lock })
    }

    /// The node's key.
    pub(crate) fn signer(&self) -> Signer {
        Signer::from_seed(self.seed).expect("every 32 bytes are an ed25519 seed")
    }

    /// Where the raft log is.
    pub(crate) fn raft(&self) -> PathBuf {
        self.root.join("raft")
    }

    /// Where sealed segments of the log are.
    pub(crate) fn segments(&self) -> PathBuf {
        self.root.join("segments")
    }

    /// Where snapshots are.
    pub(crate) fn snapshots(&self) -> PathBuf {
        self.root.join(Self::SNAPSHOTS)
    }

    /// Whether this folder ever had a log. What it acknowledged others rely on, so without the log it must not come back
    /// under its id.
    pub(crate) fn log_begun(&self) -> Result<bool, FolderError> {
        Ok(read(&self.root.join(LOG_BEGUN))?.is_some())
    }

    /// Notes that this folder has a log from here on. To be called before the log acknowledges anything.
    pub(crate) fn begin_log(&self) -> Result<(), FolderError> {
        write(
            &self.root.join(LOG_BEGUN),
            b"a node that lost the log beside this file comes back under a new id\n",
            PUBLIC,
        )
    }

    /// Where artifacts are.
    pub(crate) fn artifacts(&self) -> PathBuf {
        self.root.join("artifacts")
    }

    /// Where the rebuildable index of statements is.
    pub(crate) fn history(&self) -> PathBuf {
        self.root.join("history")
    }

    /// The genesis bytes, if this coordinator is part of a cluster.
    pub(crate) fn genesis(&self) -> Result<Option<Vec<u8>>, FolderError> {
        let path = self.root.join("genesis");
        let genesis = read(&path)?;
        let format_path = self.root.join("format");
        let marked = read(&format_path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let marked = marked.lines().find_map(|line| line.strip_prefix("cluster ")).map(str::to_owned);
        match (&genesis, marked) {
            (Some(bytes), Some(marked)) if cluster_hex(bytes) != marked => {
                let what = format!("is the genesis of another cluster than this folder's data, which is {marked}'s");
                Err(FolderError::Foreign { path, what })
            }
            (None, Some(marked)) => {
                let what = format!("is missing, but the folder holds data of cluster {marked}");
                Err(FolderError::Foreign { path, what })
            }
            (None, None) if self.raft().exists() => {
                let what = "holds a log although the folder belongs to no cluster".to_owned();
                Err(FolderError::Foreign { path: self.raft(), what })
            }
            _ => Ok(genesis),
        }
    }

    /// The key with which a cluster may be founded here, made when it is not there.
    pub(crate) fn founding_key(&self) -> Result<FoundingKey, FolderError> {
        let path = self.root.join(FOUNDING_KEY);
        let founder = Signer::from_seed(seed_in(&path)?).expect("every 32 bytes are an ed25519 seed");
        // Clients of this machine look for it by this name, wherever they were started.
        let path = path.canonicalize().map_err(io_error("look at", &path))?;
        Ok(FoundingKey { key: founder.public_key(), path })
    }

    /// Removes the key with which a cluster could be founded here.
    pub(crate) fn end_founding(&self) -> Result<(), FolderError> {
        let path = self.root.join(FOUNDING_KEY);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Makes this folder the cluster's: genesis first, then the mark in `format`, so that a crash between the two
    /// leaves a folder that opens.
    pub(crate) fn found(&self, genesis: &[u8]) -> Result<(), FolderError> {
        write(&self.root.join("genesis"), genesis, PUBLIC)?;
        let format = format!("{FORMAT}\ncluster {}\n", cluster_hex(genesis));
        write(&self.root.join("format"), format.as_bytes(), PUBLIC)?;
        self.end_founding()
    }

    /// The place in a cluster that this coordinator joined; none for one that the genesis names.
    pub(crate) fn seat(&self) -> Result<Option<Seat>, FolderError> {
        let path = self.root.join("seat.json");
        let Some(bytes) = read(&path)? else { return Ok(None) };
        let seat = serde_json::from_slice(&bytes);
        seat.map(Some)
            .map_err(|error| FolderError::Foreign { path, what: format!("is no place in a cluster: {error}") })
    }

    /// Keeps the place. To be called before the folder is made the cluster's.
    pub(crate) fn sit(&self, seat: &Seat) -> Result<(), FolderError> {
        write_seat(&self.root, seat)
    }

    /// The era of this folder's data: the hash of the snapshot that it, or the cluster that it joined, began again from.
    /// Empty where that never happened. Entries with equal indices and terms may differ between two eras, so nothing but this
    /// tells a member of one from a member of the other.
    pub(crate) fn era(&self) -> Result<Vec<u8>, FolderError> {
        era(&self.root)
    }

    /// Begins in the era of the others. To be called before the folder is made the cluster's.
    pub(crate) fn begin_era(&self, era: &[u8; 32]) -> Result<(), FolderError> {
        write_era(&self.root, era)
    }

    /// Where the log of this folder begins, if it was restored.
    pub(crate) fn restored(&self) -> Result<Option<Head>, FolderError> {
        restored(&self.root)
    }

    /// The remembered ports; zeros before the first start.
    pub(crate) fn ports(&self) -> Result<Ports, FolderError> {
        let path = self.root.join("ports.json");
        let Some(bytes) = read(&path)? else { return Ok(Ports::default()) };
        serde_json::from_slice(&bytes)
            .map_err(|error| FolderError::Foreign { path, what: format!("is no list of ports: {error}") })
    }

    /// Remembers the ports.
    pub(crate) fn remember(&self, ports: Ports) -> Result<(), FolderError> {
        let json = serde_json::to_vec(&ports).expect("two numbers are JSON");
        write(&self.root.join("ports.json"), &json, PUBLIC)
    }
}

/// Where the log of a folder begins, if it was restored.
pub(crate) fn restored(root: &Path) -> Result<Option<Head>, FolderError> {
    let path = root.join(RESTORED);
    let Some(bytes) = read(&path)? else { return Ok(None) };
    let foreign =
        |error: serde_json::Error| FolderError::Foreign { path, what: format!("is no place in a log: {error}") };
    let Restored { epoch, index } = serde_json::from_slice(&bytes).map_err(foreign)?;
    Ok(Some(Head::restored(epoch, index, &era(root)?)))
}

fn era(root: &Path) -> Result<Vec<u8>, FolderError> {
    let path = root.join(ERA);
    let Some(bytes) = read(&path)? else { return Ok(Vec::new()) };
    let era = hex::decode(String::from_utf8_lossy(&bytes).trim()).ok().filter(|era| era.len() == 32);
    era.ok_or_else(|| FolderError::Foreign { path, what: "is no hash of 64 hex digits".to_owned() })
}

fn write_seat(root: &Path, seat: &Seat) -> Result<(), FolderError> {
    let json = serde_json::to_vec(seat).expect("numbers and strings are JSON");
    write(&root.join("seat.json"), &json, PUBLIC)
}

fn write_era(root: &Path, era: &[u8; 32]) -> Result<(), FolderError> {
    write(&root.join(ERA), format!("{}\n", hex::encode(era)).as_bytes(), PUBLIC)
}

fn cluster_hex(genesis: &[u8]) -> String {
    hex::encode(matrixai_state::ids::cluster_id(genesis))
}

fn lock(root: &Path) -> Result<File, FolderError> {
    let path = root.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(PRIVATE)
        .open(&path)
        .map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(FolderError::InUse(root.to_owned())),
        Err(TryLockError::Error(error)) => Err(FolderError::Io { what: "lock", path, error }),
    }
}

fn check_format(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    let text = String::from_utf8_lossy(bytes);
    let first = text.lines().next().unwrap_or_default();
    if first == FORMAT {
        return Ok(());
    }
    let what = format!("says {first:?}, but this program keeps folders of format {FORMAT:?}");
    Err(FolderError::Foreign { path: path.to_owned(), what })
}

/// A folder without a format mark must be new: anything in it is someone else's.
fn refuse_foreign(root: &Path) -> Result<(), FolderError> {
    for entry in fs::read_dir(root).map_err(io_error("list", root))? {
        let entry = entry.map_err(io_error("list", root))?;
        // A crash during the first start leaves the lock and perhaps an unfinished file.
        if !["lock", "format.new", LOST_AND_FOUND].iter().any(|name| entry.file_name() == *name) {
            let what = "is in the folder, which no coordinator has made: name an empty or new folder".to_owned();
            return Err(FolderError::Foreign { path: entry.path(), what });
        }
    }
    Ok(())
}

/// The seed in a file of this folder, which is made with a new one when it is not there.
fn seed_in(path: &Path) -> Result<[u8; 32], FolderError> {
    if let Some(bytes) = read(path)? {
        let mode = fs::metadata(path).map_err(io_error("look at", path))?.permissions().mode();
        if mode & 0o077 != 0 {
            let what =
                "can be read by others, and whoever has it can be this coordinator: run chmod 600 on it".to_owned();
            return Err(FolderError::Foreign { path: path.to_owned(), what });
        }
        let text = String::from_utf8_lossy(&bytes);
        let mut seed = [0; 32];
        return match hex::decode_to_slice(text.trim(), &mut seed) {
            Ok(()) => Ok(seed),
            Err(_) => {
                Err(FolderError::Foreign { path: path.to_owned(), what: "is no key of 64 hex digits".to_owned() })
            }
        };
    }
    let seed: [u8; 32] = matrixai_proto::envelope::random().map_err(|error| FolderError::Io {
        what: "draw a random seed for",
        path: path.to_owned(),
        error: io::Error::other(error),
    })?;
    write(path, format!("{}\n", hex::encode(seed)).as_bytes(), PRIVATE)?;
    Ok(seed)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, FolderError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FolderError::Io { what: "read", path: path.to_owned(), error }),
    }
}

/// Writes a whole file: beside its place, synced, renamed, and the folder synced.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FolderError> {
    let new = path.with_file_name(format!("{}.new", path.file_name().unwrap_or_default().to_string_lossy()));
    let put = || {
        // A leftover of a crash keeps its mode, so it must not be reused.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().create_new(true).write(true).mode(mode).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        match path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    };
    put().map_err(io_error("write", path))
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |error| FolderError::Io { what, path, error }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_finds_key_ports_and_cluster() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("data");
        let folder = Folder::open(&root).unwrap();
        let key = folder.signer().public_key();
        assert_eq!((folder.genesis().unwrap(), folder.ports().unwrap()), (None, Ports::default()));
        folder.remember(Ports { grpc: 5, web: 6 }).unwrap();
        folder.found(b"genesis").unwrap();
        assert_eq!(fs::metadata(root.join("node.key")).unwrap().permissions().mode() & 0o777, PRIVATE);
        drop(folder);

        let mode = |mode| fs::set_permissions(root.join("node.key"), fs::Permissions::from_mode(mode)).unwrap();
        mode(0o640);
        assert!(Folder::open(&root).unwrap_err().to_string().contains("chmod 600"));
        mode(PRIVATE);
        let folder = Folder::open(&root).unwrap();
        assert_eq!(folder.signer().public_key(), key);
        assert_eq!(folder.genesis().unwrap().as_deref(), Some(b"genesis".as_slice()));
        assert_eq!(folder.ports().unwrap(), Ports { grpc: 5, web: 6 });
    }

    #[test]
    fn a_key_to_found_with_is_private_kept_and_gone_with_the_founding() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::open(temp.path()).unwrap();
        let FoundingKey { key, path } = folder.founding_key().unwrap();
        assert_ne!(key, folder.signer().public_key());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, PRIVATE);
        assert_eq!(folder.founding_key().unwrap().key, key, "a restart keeps it");
        folder.found(b"genesis").unwrap();
        assert!(!path.exists());
        folder.end_founding().unwrap();
    }

    #[test]
    fn one_process_at_a_time() {
        let temp = tempfile::tempdir().unwrap();
        let _held = Folder::open(temp.path()).unwrap();
        assert!(matches!(Folder::open(temp.path()), Err(FolderError::InUse(_))));
    }

    #[test]
    fn folders_of_others_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("thesis.tex"), "x").unwrap();
        let error = Folder::open(temp.path()).unwrap_err().to_string();
        assert!(error.contains("thesis.tex"), "{error}");

        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join(LOST_AND_FOUND)).unwrap();
        Folder::open(temp.path()).expect("a disk of its own");

        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("format"), "matrixai-coordinator 9\n").unwrap();
        let error = Folder::open(temp.path()).unwrap_err().to_string();
        assert!(error.contains("matrixai-coordinator 9"), "{error}");
    }

    #[test]
    fn data_of_another_cluster_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::open(temp.path()).unwrap();
        folder.found(b"one").unwrap();
        fs::write(temp.path().join("genesis"), "two").unwrap();
        assert!(folder.genesis().unwrap_err().to_string().contains("another cluster"));
        fs::remove_file(temp.path().join("genesis")).unwrap();
        assert!(folder.genesis().unwrap_err().to_string().contains("missing"));
    }
}
