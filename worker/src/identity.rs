//! Who this worker is: the machine key, the cluster it belongs to, and the folder that holds both.
//!
//! The folder is locked while a worker runs in it, carries a format version, and belongs to one cluster from the first
//! contact on: a worker that followed a mistyped address into another cluster would sign for the wrong one.

use matrixai_proto::envelope::{SignatureError, Signer};
use matrixai_protocol::{Hash, sha256};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// Layout of the data folder that this version reads and writes.
const FORMAT: u32 = 1;
const FORMAT_FILE: &str = "format.json";
const KEY_FILE: &str = "machine.key";
const LOCK_FILE: &str = "lock";
/// Mode bits by which others than the owner could read a key.
const OTHERS: u32 = 0o077;

/// Why the data folder or a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The disk refused.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// A verb phrase.
        doing: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process runs in the folder.
    #[error("the folder {} is in use by another worker", .0.display())]
    InUse(PathBuf),
    /// A key file that others can read.
    #[error("the key file {} can be read by others: run chmod 600 on it", .0.display())]
    Exposed(PathBuf),
    /// Not 64 hex digits.
    #[error("{} is no key file: it must hold 64 hex digits", .0.display())]
    NotAKey(PathBuf),
    /// Written by another version.
    #[error("the folder {} is of format {found}, this worker reads format {FORMAT}", path.display())]
    Format {
        /// The folder.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The format file is damaged.
    #[error("{} is not a worker's format file: {what}", path.display())]
    NotAFormat {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The folder belongs to another cluster.
    #[error("this worker's folder {} belongs to cluster {ours}, but {address} is part of cluster {theirs}", path.display())]
    OtherCluster {
        /// The folder.
        path: PathBuf,
        /// The folder's cluster.
        ours: String,
        /// Who answered.
        address: String,
        /// What it answered.
        theirs: String,
    },
    /// The system has no random bytes, or refuses the key.
    #[error("make a machine key: {0}")]
    Key(#[from] SignatureError),
}

impl IdentityError {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

/// What the format file remembers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Format {
    format: u32,
    /// Cluster id in hex; empty until the first contact.
    cluster_id: String,
    /// Whether a coordinator has welcomed this machine: the owner's signature is not needed any more.
    enrolled: bool,
}

/// The data folder, locked for as long as this lives.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    format: Format,
    /// The lock goes with the descriptor, so that a killed worker leaves none behind.
    _lock: File,
}

impl Folder {
    /// Makes or opens the folder and takes its lock.
    pub(crate) fn open(root: &Path) -> Result<Self, IdentityError> {
        fs::create_dir_all(root).map_err(IdentityError::io("make folder", root))?;
        let path = root.join(LOCK_FILE);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(IdentityError::io("open", &path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(IdentityError::InUse(root.to_owned())),
            Err(error) => return Err(IdentityError::io("lock", &path)(error.into())),
        }
        let format = read_format(root)?;
        Ok(Self { root: root.to_owned(), format, _lock: lock })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The cluster that the folder belongs to, once it does.
    pub(crate) fn cluster_id(&self) -> Option<Hash> {
        parse_hash(&self.format.cluster_id)
    }

    /// Whether this machine was ever welcomed.
    pub(crate) fn enrolled(&self) -> bool {
        self.format.enrolled
    }

    /// Binds the folder to the cluster that answered at `address`, for good.
    pub(crate) fn belong(&mut self, cluster: Hash, address: &str) -> Result<(), IdentityError> {
        match self.cluster_id() {
            Some(ours) if ours == cluster => Ok(()),
            Some(ours) => Err(IdentityError::OtherCluster {
                path: self.root.clone(),
                ours: hex::encode(ours),
                address: address.to_owned(),
                theirs: hex::encode(cluster),
            }),
            None => {
                self.format.cluster_id = hex::encode(cluster);
                self.save()
            }
        }
    }

    /// Remembers that the enrolment is done.
    pub(crate) fn set_enrolled(&mut self) -> Result<(), IdentityError> {
        if self.format.enrolled {
            return Ok(());
        }
        self.format.enrolled = true;
        self.save()
    }

    /// The machine key; made at the first start.
    pub(crate) fn machine_key(&self) -> Result<Signer, IdentityError> {
        let path = self.root.join(KEY_FILE);
        if path.exists() {
            return read_key(&path);
        }
        let signer = Signer::generate()?;
        let mut text = hex::encode(signer.seed());
        text.push('\n');
        write_atomically(&path, text.as_bytes(), 0o600)?;
        Ok(signer)
    }

    fn save(&self) -> Result<(), IdentityError> {
        let path = self.root.join(FORMAT_FILE);
        let text = serde_json::to_vec(&self.format)
            .map_err(|error| IdentityError::NotAFormat { path: path.clone(), what: error.to_string() })?;
        write_atomically(&path, &text, 0o644)
    }
}

fn read_format(root: &Path) -> Result<Format, IdentityError> {
    let path = root.join(FORMAT_FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(Format { format: FORMAT, cluster_id: String::new(), enrolled: false });
        }
        Err(error) => return Err(IdentityError::io("read", &path)(error)),
    };
    // The version first: another version's file may well have other fields.
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let wrong = |error: serde_json::Error| IdentityError::NotAFormat { path: path.clone(), what: error.to_string() };
    let version: Version = serde_json::from_slice(&bytes).map_err(wrong)?;
    if version.format != FORMAT {
        return Err(IdentityError::Format { path: root.to_owned(), found: version.format });
    }
    serde_json::from_slice(&bytes).map_err(wrong)
}

/// Reads a key file: 64 hex digits, for its owner's eyes alone.
pub(crate) fn read_key(path: &Path) -> Result<Signer, IdentityError> {
    let text = fs::read_to_string(path).map_err(IdentityError::io("read the key file", path))?;
    let mode = fs::metadata(path).map_err(IdentityError::io("look at", path))?.permissions().mode();
    if mode & OTHERS != 0 {
        return Err(IdentityError::Exposed(path.to_owned()));
    }
    let seed = parse_hash(text.trim()).ok_or_else(|| IdentityError::NotAKey(path.to_owned()))?;
    Ok(Signer::from_seed(seed)?)
}

/// Writes a small file so that after a crash it holds either the old bytes or the new ones.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> Result<(), IdentityError> {
    let mut temp = path.as_os_str().to_owned();
    temp.push(format!(".{}.new", std::process::id()));
    let temp = PathBuf::from(temp);
    match fs::remove_file(&temp) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(IdentityError::io("remove", &temp)(error)),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temp)
        .map_err(IdentityError::io("make", &temp))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(IdentityError::io("write", &temp))?;
    fs::rename(&temp, path).map_err(IdentityError::io("rename into place", path))?;
    if let Some(folder) = path.parent() {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(IdentityError::io("sync folder", folder))?;
    }
    Ok(())
}

/// 32 bytes from 64 hex digits.
pub(crate) fn parse_hash(text: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    hex::decode_to_slice(text, &mut hash).ok().map(|()| hash)
}

/// Id of a machine of a cluster.
pub(crate) fn machine_id(cluster: &Hash, key: &[u8; 32]) -> [u8; 20] {
    id(&sha256(&[b"MatrixAI/machine/v1", cluster, key]))
}

/// Id of the account of a key in a cluster.
pub(crate) fn account_id(cluster: &Hash, key: &[u8; 32]) -> [u8; 20] {
    id(&sha256(&[b"MatrixAI/account/v1", cluster, key]))
}

fn id(hash: &Hash) -> [u8; 20] {
    let mut id = [0; 20];
    id.copy_from_slice(&hash[..20]);
    id
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_only_for_its_owner() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::open(temp.path()).unwrap();
        let key = folder.machine_key().unwrap().public_key();
        assert_eq!(folder.machine_key().unwrap().public_key(), key);
        let path = temp.path().join(KEY_FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(folder.machine_key(), Err(IdentityError::Exposed(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "not hex").unwrap();
        assert!(matches!(folder.machine_key(), Err(IdentityError::NotAKey(_))));
    }

    #[test]
    fn one_worker_a_folder_and_one_cluster_for_good() {
        let temp = tempfile::tempdir().unwrap();
        let mut folder = Folder::open(temp.path()).unwrap();
        assert!(matches!(Folder::open(temp.path()), Err(IdentityError::InUse(_))));
        folder.belong([1; 32], "a:1").unwrap();
        folder.set_enrolled().unwrap();
        drop(folder);
        let mut folder = Folder::open(temp.path()).unwrap();
        assert!(folder.enrolled());
        folder.belong([1; 32], "a:1").unwrap();
        let error = folder.belong([2; 32], "b:2").unwrap_err();
        assert!(matches!(error, IdentityError::OtherCluster { .. }), "{error}");
    }

    #[test]
    fn a_folder_of_another_format_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join(FORMAT_FILE), r#"{"format":2,"colour":"blue"}"#).unwrap();
        assert!(matches!(Folder::open(temp.path()), Err(IdentityError::Format { found: 2, .. })));
        fs::write(temp.path().join(FORMAT_FILE), "{").unwrap();
        assert!(matches!(Folder::open(temp.path()), Err(IdentityError::NotAFormat { .. })));
    }

    #[test]
    fn ids_follow_the_formula() {
        let wanted = sha256(&[b"MatrixAI/machine/v1", &[1; 32], &[2; 32]]);
        assert_eq!(machine_id(&[1; 32], &[2; 32]), wanted[..20]);
        assert_ne!(machine_id(&[1; 32], &[2; 32]), account_id(&[1; 32], &[2; 32]));
    }
}
