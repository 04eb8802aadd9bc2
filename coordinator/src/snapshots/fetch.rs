//! Another member's snapshot, piece by piece: what has arrived stays on the disk, so that a broken connection or a restart
//! goes on where it stopped. Only a file that is whole and has the hash that the leader named gets its place.

use super::{Error, Reference, Snapshots, load};
use crate::{
    files::{self, FilesError, Growing},
    plants::{Plant, planted},
};
use matrixai_protocol::sha256;
use matrixai_state::ids::Hash;
use std::path::PathBuf;

/// Bytes of one piece.
pub const PIECE_BYTES: usize = 1 << 20;
/// Ending of the name of a file that is still arriving.
const ARRIVING: &str = ".part";

/// A piece of a snapshot's file with its checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where it belongs.
    pub offset: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Their SHA-256.
    pub hash: Hash,
}

impl Piece {
    /// A piece with its checksum.
    pub fn new(offset: u64, bytes: Vec<u8>) -> Self {
        Self { offset, hash: sha256(&[&bytes]), bytes }
    }
}

/// Why a piece was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PieceError {
    /// The disk refused.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// It is not the next one, too long, or does not have its checksum: ask again from [`Arriving::next`].
    #[error("a piece at byte {offset} is not what was asked for")]
    Wrong {
        /// Where it said it belongs.
        offset: u64,
    },
}

/// A file that is arriving.
#[derive(Debug)]
pub struct Arriving<'a> {
    snapshots: &'a Snapshots,
    reference: Reference,
    path: PathBuf,
    file: Box<dyn Growing>,
    next: u64,
}

impl<'a> Arriving<'a> {
    /// Begins, or goes on with what has arrived of this very file. What has arrived of others is removed.
    ///
    /// # Errors
    /// [`FilesError`], [`FilesError::NoSpace`] among it when the whole file would not fit.
    pub fn begin(snapshots: &'a Snapshots, reference: Reference) -> Result<Self, FilesError> {
        let Snapshots { files, dir } = snapshots;
        let name = format!("{}{ARRIVING}", reference.name());
        let path = dir.join(&name);
        let mut next = 0;
        for found in files.list(dir)?.into_iter().filter(|name| name.ends_with(ARRIVING)) {
            match files.len(&dir.join(&found))? {
                len if found == name && len <= reference.bytes => next = len,
                _ => files.remove(&dir.join(&found))?,
            }
        }
        let needed = reference.bytes - next;
        if files.free(dir)? < needed {
            return Err(FilesError::NoSpace { path, needed });
        }
        let file = if next == 0 { files.create(&path)? } else { files.reopen(&path)? };
        Ok(Self { snapshots, reference, path, file, next })
    }

    /// The byte to ask for next; none when all have arrived.
    pub fn next(&self) -> Option<u64> {
        (self.next < self.reference.bytes).then_some(self.next)
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// [`PieceError`].
    pub fn take(&mut self, piece: &Piece) -> Result<(), PieceError> {
        let len = piece.bytes.len() as u64;
        let fits = piece.offset == self.next && len > 0 && len <= self.reference.bytes - self.next;
        if !fits || piece.bytes.len() > PIECE_BYTES || sha256(&[&piece.bytes]) != piece.hash {
            return Err(PieceError::Wrong { offset: piece.offset });
        }
        self.file.append(&piece.bytes)?;
        self.next += len;
        Ok(())
    }

    /// Gives the file its place, once all of it has arrived, is durable, and is what the leader named. A file that is not
    /// is removed, so that the next attempt begins anew.
    ///
    /// # Errors
    /// [`Error`].
    pub fn install(mut self) -> Result<(), Error> {
        let Snapshots { files, .. } = self.snapshots;
        if !planted(Plant::InstallUnsynced) {
            self.file.sync()?;
        }
        let checked = load(&**files, &self.path).and_then(|loaded| {
            let what = "is another snapshot than the leader named".to_owned();
            let other = || Error::Foreign { path: self.path.clone(), what };
            if loaded.reference == self.reference { Ok(()) } else { Err(other()) }
        });
        if checked.is_err() {
            files.remove(&self.path)?;
        }
        checked?;
        files::publish(&**files, &self.path, &self.snapshots.path(&self.reference))?;
        self.snapshots.prune()?;
        Ok(())
    }
}
