//! Snapshots as backups: what is in one, and how a coordinator begins again from one.
//!
//! To restore is to give up everything decided after the snapshot, so it is for the day on which a majority's disks are
//! gone. Each member that is to come back gets a new data folder from the **same** file and its own old node key; together
//! they are the cluster as it was at the snapshot, with the members that it had then. Nothing here can know whether a majority
//! still lives, so the caller has to say that it does not; everything that can be told from the file and the folder is checked.
//!
//! What is restored begins a new **era**, named by the snapshot's hash. Coordinators tell each other theirs and listen to none of
//! another: a member that was restored while a majority lived would vote although it forgot what it had acknowledged, and one
//! that still has a later log remembers what the others gave up. Either stops when a majority is of another era than it.

use crate::{
    files::{self, Files as _, FilesError, OsFiles},
    identity::{self, Folder, FolderError, Restored},
    join::{Seat, SeatPeer},
    snapshots::{self, Loaded, Reference},
};
use matrixai_consensus::Members;
use matrixai_proto::envelope::Signer;
use matrixai_state::{ids::Hash, nodes::Standing};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Bytes copied at once.
const COPY_BYTES: usize = 1 << 20;

/// What is in a snapshot's file. Its checksums and the root of its state were found to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The cluster.
    pub cluster_id: Hash,
    /// Last log entry that the state holds, and its term.
    pub index: u64,
    /// Term of that entry.
    pub term: u64,
    /// Numbers of the members that vote in it.
    pub voters: Vec<u64>,
    /// Ledger time, ms since the Unix epoch.
    pub now_ms: u64,
    /// The root of the state.
    pub root: Hash,
    /// Accounts, jobs and machines in it.
    pub accounts: usize,
    /// Jobs in it.
    pub jobs: usize,
    /// Machines in it.
    pub machines: usize,
    /// Money ever made and unmade, minor units.
    pub minted: String,
    /// Money ever unmade, minor units.
    pub burned: String,
    /// The file's length.
    pub bytes: u64,
}

/// Why a snapshot was not used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file cannot be read, is damaged, or is no snapshot.
    #[error(transparent)]
    Snapshot(#[from] snapshots::Error),
    /// The file names members that cannot be.
    #[error("{}: the members in it cannot be read: {why}", path.display())]
    Members {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The key is none of a member.
    #[error(
        "the node key {key} is not that of a voting member in the snapshot (voters: {voters:?}): only a member can begin \
         again from it; another machine joins the restored cluster as a new node"
    )]
    NoMember {
        /// The key, hex.
        key: String,
        /// Numbers of the voters.
        voters: Vec<u64>,
    },
    /// The folder holds something.
    #[error("{} is not empty: a coordinator begins again only in a new or empty folder", .0.display())]
    NotEmpty(PathBuf),
    /// A file could not be written.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The folder could not be made.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The system refused to look at the folder.
    #[error("look at {}: {error}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// Its answer.
        error: io::Error,
    },
}

/// Checks a snapshot's file and says what is in it.
///
/// # Errors
/// [`BackupError`] says what is wrong with it.
pub fn inspect(file: &Path) -> Result<Inspection, BackupError> {
    let loaded = snapshots::load(&OsFiles, file)?;
    let voters = voters(file, &loaded)?;
    let Loaded { header, reference, state } = loaded;
    Ok(Inspection {
        cluster_id: header.cluster_id,
        index: header.index,
        term: header.term,
        voters,
        now_ms: state.now_ms(),
        root: state.root(),
        accounts: state.accounts().count(),
        jobs: state.jobs().count(),
        machines: state.machines().count(),
        minted: state.minted().to_string(),
        burned: state.burned().to_string(),
        bytes: reference.bytes,
    })
}

/// Makes a data folder in which the member with this node key begins again from a snapshot; answers its number. The last
/// file written is the one without which a coordinator refuses the folder, so a crash leaves none that is half made.
///
/// # Errors
/// [`BackupError`]; a folder that was begun is left for whoever looks into why.
pub fn restore(file: &Path, data: &Path, node_key: &Signer) -> Result<u64, BackupError> {
    let loaded = snapshots::load(&OsFiles, file)?;
    let voters = voters(file, &loaded)?;
    let key = node_key.public_key();
    let founding = loaded.state.founding();
    let row = loaded.state.nodes().find(|row| row.key == key && voters.contains(&row.id.0));
    let node = row.ok_or_else(|| BackupError::NoMember { key: hex::encode(key), voters: voters.clone() })?.id.0;
    let founder = founding.nodes.iter().any(|founder| founder.key == key);
    let present = loaded.state.nodes().filter(|row| row.standing != Standing::Removed);
    let seat = (!founder).then(|| Seat { node, peers: present.map(SeatPeer::of).collect() });
    if !is_empty(data)? {
        return Err(BackupError::NotEmpty(data.to_owned()));
    }
    let snapshots = data.join(Folder::SNAPSHOTS);
    OsFiles.create_dir(&snapshots)?;
    copy(file, &snapshots, &loaded.reference)?;
    OsFiles.sync_dir(data)?;
    let epoch = loaded.state.epochs().next_back().map_or(0, |row| row.epoch);
    let restored = Restored { epoch, index: loaded.header.index };
    Folder::prepare(data, node_key.seed(), &founding.bytes, seat.as_ref(), &loaded.reference.hash, restored)?;
    Ok(node)
}

fn voters(file: &Path, loaded: &Loaded) -> Result<Vec<u64>, BackupError> {
    let unreadable = |why: String| BackupError::Members { path: file.to_owned(), why };
    let members = Members::decode(&loaded.header.members).map_err(|error| unreadable(error.to_string()))?;
    Ok(members.voters().collect())
}

/// Whether there is nothing in a folder but what a new file system has.
fn is_empty(folder: &Path) -> Result<bool, BackupError> {
    match fs::read_dir(folder) {
        Ok(mut entries) => {
            Ok(entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == identity::LOST_AND_FOUND)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(BackupError::Io { path: folder.to_owned(), error }),
    }
}

fn copy(file: &Path, folder: &Path, reference: &Reference) -> Result<(), FilesError> {
    let place = folder.join(reference.name());
    let unfinished = folder.join(format!("restored{}", files::UNFINISHED));
    let mut copy = OsFiles.create(&unfinished)?;
    let mut at = 0;
    while at < reference.bytes {
        let bytes = OsFiles.read(file, at, COPY_BYTES)?;
        if bytes.is_empty() {
            return Err(FilesError::Missing { path: file.to_owned() });
        }
        at += bytes.len() as u64;
        copy.append(&bytes)?;
    }
    copy.sync()?;
    files::publish(&OsFiles, &unfinished, &place)
}
