//! Snapshot files: the whole state at one place in the log, so that the log before it can go and a member that lags far
//! behind can catch up.
//!
//! A file is written beside its place, synced, renamed, and its folder synced; under its name there is always a whole
//! one. Its contents are checked frame by frame as they are read ([`mod@file`]), and the state inside has to have the root that
//! it names. The newest two are kept: when the newest turns out damaged, it is set aside and the one before it serves,
//! with the log behind that. A member fetches the file of another in pieces and goes on where it stopped ([`fetch`]).
//!
//! Everything here blocks and is called on threads that may.

pub mod fetch;
pub mod file;
#[cfg(test)]
mod tests;

use crate::files::{self, Files, FilesError};
use file::{FileError, Reader, Writer};
use matrixai_state::{
    State,
    ids::Hash,
    snapshot::{Chunks, Loader, SnapshotError},
};
use serde::{Deserialize, Serialize};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Snapshots kept: the newest, and the one before it in case the newest is damaged.
pub const KEPT: usize = 2;
/// Ending of a snapshot's file name.
const ENDING: &str = ".snapshot";
/// Ending of the name of one that is not what it should be.
const DAMAGED: &str = ".damaged";
/// Format of [`Header`].
const FORMAT: u32 = 1;

/// Where in the log a snapshot was taken, and among whom: the first frame of its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    format: u32,
    /// The cluster.
    pub cluster_id: Hash,
    /// Last entry that the state holds.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// The members of the log once that entry was applied, as the consensus encodes them.
    pub members: Vec<u8>,
}

impl Header {
    /// The header of a view taken at an entry of this term, among these members.
    pub fn of(view: &State, term: u64, members: Vec<u8>) -> Self {
        Self { format: FORMAT, cluster_id: *view.cluster_id(), index: view.index(), term, members }
    }
}

/// Which file: small enough to travel in the log's own messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Last entry that the state holds.
    pub index: u64,
    /// The file's length in bytes.
    pub bytes: u64,
    /// The file's hash, as in its last frame.
    pub hash: Hash,
}

impl Reference {
    /// The bytes that stand for it in the log's messages.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("plain data always encodes")
    }

    /// From [`Reference::encode`]'s bytes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }

    /// The name under which a snapshot is kept.
    pub(crate) fn name(&self) -> String {
        format!("{:020}-{}{ENDING}", self.index, hex::encode(&self.hash[..8]))
    }
}

/// Why a snapshot cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk refused; a full one names the file and the bytes.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The file is damaged or no snapshot.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: FileError,
    },
    /// The state inside is damaged.
    #[error("{}: {error}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: SnapshotError,
    },
    /// The file's header and its contents do not belong together, or it is another cluster's.
    #[error("{}: {what}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// A loaded snapshot.
#[derive(Debug)]
pub struct Loaded {
    /// Where it was taken.
    pub header: Header,
    /// Which file it is.
    pub reference: Reference,
    /// The state.
    pub state: State,
}

/// The folder of snapshots.
#[derive(Debug, Clone)]
pub struct Snapshots {
    files: Arc<dyn Files>,
    dir: PathBuf,
}

impl Snapshots {
    /// The snapshots in a folder, which is made; what a crash left half written is removed.
    ///
    /// # Errors
    /// [`FilesError`].
    pub fn open(files: Arc<dyn Files>, dir: &Path) -> Result<Self, FilesError> {
        files.create_dir(dir)?;
        files::sweep(&*files, dir)?;
        Ok(Self { files, dir: dir.to_owned() })
    }

    /// Writes a view as a file, makes it durable, and removes those that are not kept any longer.
    ///
    /// # Errors
    /// [`FilesError`]; nothing is left behind of the unfinished file.
    pub fn save(&self, header: &Header, view: &State) -> Result<Reference, FilesError> {
        let unfinished = self.dir.join(format!("{:020}{}", header.index, files::UNFINISHED));
        let saved = self.write(&unfinished, header, view);
        if saved.is_err() {
            // It would fill the disk that may be full already; the next start removes it if this fails too.
            let _ = self.files.remove(&unfinished);
        }
        saved
    }

    fn write(&self, unfinished: &Path, header: &Header, view: &State) -> Result<Reference, FilesError> {
        let mut writer = Writer::create(&*self.files, unfinished)?;
        writer.frame(&encoded(header))?;
        for chunk in Chunks::new(view.clone(), Vec::new()) {
            writer.frame(&chunk)?;
        }
        let (bytes, hash) = writer.finish()?;
        let reference = Reference { index: header.index, bytes, hash };
        files::publish(&*self.files, unfinished, &self.path(&reference))?;
        self.prune()?;
        Ok(reference)
    }

    /// The newest snapshot that is whole. One that is not is set aside, loudly, and the one before it is tried.
    ///
    /// # Errors
    /// [`Error`] when the disk refuses. Damage is no error here.
    pub fn newest(&self, cluster_id: &Hash) -> Result<Option<Loaded>, Error> {
        for path in self.paths()?.into_iter().rev() {
            match load(&*self.files, &path) {
                Ok(loaded) if loaded.header.cluster_id == *cluster_id => return Ok(Some(loaded)),
                Ok(_) => {
                    let what = "is a snapshot of another cluster than this folder's".to_owned();
                    return Err(Error::Foreign { path, what });
                }
                Err(Error::Files(error)) => return Err(error.into()),
                Err(error) => {
                    tracing::error!(%error, "a snapshot is damaged and set aside");
                    let mut aside = path.clone().into_os_string();
                    aside.push(DAMAGED);
                    files::publish(&*self.files, &path, Path::new(&aside))?;
                }
            }
        }
        Ok(None)
    }

    /// Loads the snapshot of this index.
    ///
    /// # Errors
    /// [`Error`], [`FilesError::Missing`] among it when it is not here.
    pub fn load(&self, index: u64) -> Result<Loaded, Error> {
        let start = format!("{index:020}-");
        let found = self.names()?.into_iter().find(|name| name.starts_with(&start));
        let path = self.dir.join(found.unwrap_or(start));
        load(&*self.files, &path)
    }

    /// The newest snapshot's file, without looking at what is in it but its end.
    ///
    /// # Errors
    /// [`FilesError`].
    pub fn newest_reference(&self) -> Result<Option<Reference>, FilesError> {
        let Some(name) = self.names()?.pop() else { return Ok(None) };
        let path = self.dir.join(&name);
        let bytes = self.files.len(&path)?;
        let end = self.files.read(&path, bytes.saturating_sub(32), 32)?;
        let index = name.get(..20).and_then(|digits| digits.parse().ok());
        Ok(index.zip(end.try_into().ok()).map(|(index, hash)| Reference { index, bytes, hash }))
    }

    /// Bytes of a snapshot's file, at most `len` from `offset` on.
    ///
    /// # Errors
    /// [`FilesError::Missing`] when it is not kept here.
    pub fn read(&self, reference: &Reference, offset: u64, len: usize) -> Result<Vec<u8>, FilesError> {
        self.files.read(&self.path(reference), offset, len)
    }

    /// Indices of the snapshots kept, ascending.
    ///
    /// # Errors
    /// [`FilesError`].
    pub fn indices(&self) -> Result<Vec<u64>, FilesError> {
        Ok(self.names()?.iter().filter_map(|name| name.get(..20)?.parse().ok()).collect())
    }

    fn names(&self) -> Result<Vec<String>, FilesError> {
        let mut names = self.files.list(&self.dir)?;
        names.retain(|name| name.ends_with(ENDING));
        Ok(names)
    }

    /// Files of snapshots by ascending index.
    fn paths(&self) -> Result<Vec<PathBuf>, FilesError> {
        Ok(self.names()?.into_iter().map(|name| self.dir.join(name)).collect())
    }

    fn path(&self, reference: &Reference) -> PathBuf {
        self.dir.join(reference.name())
    }

    /// Removes all but the newest [`KEPT`], and all but the newest of those set aside.
    fn prune(&self) -> Result<(), FilesError> {
        let mut damaged = self.files.list(&self.dir)?;
        damaged.retain(|name| name.ends_with(DAMAGED));
        damaged.pop();
        let mut gone: Vec<PathBuf> = damaged.into_iter().map(|name| self.dir.join(name)).collect();
        let mut paths = self.paths()?;
        paths.truncate(paths.len().saturating_sub(KEPT));
        gone.append(&mut paths);
        gone.iter().try_for_each(|path| self.files.remove(path))
    }
}

/// Reads and checks a snapshot's file, wherever it is.
///
/// # Errors
/// [`Error`] says what is wrong with it.
pub fn load(files: &dyn Files, path: &Path) -> Result<Loaded, Error> {
    let damaged = |error| match error {
        FileError::Files(error) => Error::Files(error),
        error => Error::File { path: path.to_owned(), error },
    };
    let foreign = |what: &str| Error::Foreign { path: path.to_owned(), what: what.to_owned() };
    let mut reader = Reader::open(files, path).map_err(damaged)?;
    let first = reader.frame().map_err(damaged)?;
    let header: Header = first
        .and_then(|bytes| postcard::from_bytes(&bytes).ok())
        .filter(|header: &Header| header.format == FORMAT)
        .ok_or_else(|| foreign("has no header that this version can read"))?;
    let unsound = |error| Error::State { path: path.to_owned(), error };
    let mut loader = Loader::new();
    while let Some(frame) = reader.frame().map_err(damaged)? {
        loader.push(&frame).map_err(unsound)?;
    }
    let (length, hash) = reader.end();
    let state = loader.finish().map_err(unsound)?;
    if (state.index(), state.cluster_id()) != (header.index, &header.cluster_id) {
        return Err(foreign("holds another state than its header says"));
    }
    let reference = Reference { index: header.index, bytes: length, hash };
    Ok(Loaded { header, reference, state })
}

fn encoded(header: &Header) -> Vec<u8> {
    postcard::to_allocvec(header).expect("plain data always encodes")
}
