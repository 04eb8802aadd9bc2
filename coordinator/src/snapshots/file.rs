//! The framing of a snapshot's file: a magic line, frames with their length and SHA-256, and an empty frame at the end that
//! holds the hash over all of them. A file that was cut, or in which a bit has flipped, is told as it is read, and
//! before anything of the frame is used.

use crate::{
    files::{Files, FilesError, Growing},
    plants::{Plant, planted},
};
use matrixai_protocol::sha256;
use matrixai_state::ids::Hash;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

/// First bytes of every file.
const MAGIC: &[u8] = b"MatrixAI/snapshot-file/v1\n";
/// Longest frame that is read.
const FRAME_BYTES_MAX: usize = 2 << 20;
/// Length and hash before a frame.
const HEAD_BYTES: usize = 4 + 32;

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It could not be read.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// It begins with something else.
    #[error("is no snapshot file of this version")]
    Magic,
    /// It ends early.
    #[error("ends in the middle, at byte {0}")]
    Short(u64),
    /// A frame is not what was written.
    #[error("is damaged: the frame at byte {0} does not have its checksum")]
    Checksum(u64),
    /// Bytes follow the end.
    #[error("goes on behind its end at byte {0}")]
    Long(u64),
}

/// A file being written.
#[derive(Debug)]
pub struct Writer {
    file: Box<dyn Growing>,
    total: Sha256,
    bytes: u64,
}

impl Writer {
    /// Begins a file.
    ///
    /// # Errors
    /// [`FilesError`].
    pub fn create(files: &dyn Files, path: &Path) -> Result<Self, FilesError> {
        let mut writer = Self { file: files.create(path)?, total: Sha256::new(), bytes: 0 };
        writer.put(MAGIC)?;
        Ok(writer)
    }

    /// Adds a frame, not empty and at most 2 MiB long.
    ///
    /// # Errors
    /// [`FilesError`].
    ///
    /// # Panics
    /// For a frame of another length.
    pub fn frame(&mut self, bytes: &[u8]) -> Result<(), FilesError> {
        assert!((1..=FRAME_BYTES_MAX).contains(&bytes.len()), "a frame has 1 to {FRAME_BYTES_MAX} bytes");
        let head = head(bytes.len(), &sha256(&[bytes]));
        self.total.update(head);
        self.put(&head)?;
        self.put(bytes)
    }

    /// Ends the file and makes its contents durable; answers its length and hash.
    ///
    /// # Errors
    /// [`FilesError`].
    pub fn finish(mut self) -> Result<(u64, Hash), FilesError> {
        let hash: Hash = self.total.clone().finalize().into();
        self.put(&head(0, &hash))?;
        if !planted(Plant::SnapshotUnsynced) {
            self.file.sync()?;
        }
        Ok((self.bytes, hash))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), FilesError> {
        self.bytes += bytes.len() as u64;
        self.file.append(bytes)
    }
}

fn head(length: usize, hash: &Hash) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    let length = u32::try_from(length).expect("a frame is at most 2 MiB long");
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[4..].copy_from_slice(hash);
    head
}

/// A file being read.
#[derive(Debug)]
pub struct Reader<'a> {
    files: &'a dyn Files,
    path: PathBuf,
    at: u64,
    total: Sha256,
    hash: Hash,
}

impl<'a> Reader<'a> {
    /// Begins to read.
    ///
    /// # Errors
    /// [`FileError::Magic`] for a file of another kind.
    pub fn open(files: &'a dyn Files, path: &Path) -> Result<Self, FileError> {
        let mut reader = Self { files, path: path.to_owned(), at: 0, total: Sha256::new(), hash: [0; 32] };
        match reader.take(MAGIC.len()) {
            Ok(magic) if magic == MAGIC => Ok(reader),
            Ok(_) | Err(FileError::Short(_)) => Err(FileError::Magic),
            Err(error) => Err(error),
        }
    }

    /// The next frame, checked; none at the file's end, which is checked too.
    ///
    /// # Errors
    /// [`FileError`] says what is wrong and where.
    pub fn frame(&mut self) -> Result<Option<Vec<u8>>, FileError> {
        let start = self.at;
        let head: [u8; HEAD_BYTES] = self.take(HEAD_BYTES)?.try_into().map_err(|_| FileError::Short(start))?;
        let mut length = [0; 4];
        length.copy_from_slice(&head[..4]);
        let length = u32::from_le_bytes(length) as usize;
        if length == 0 {
            return self.check_end(start, &head).map(|()| None);
        }
        if length > FRAME_BYTES_MAX {
            return Err(FileError::Checksum(start));
        }
        let bytes = self.take(length)?;
        if sha256(&[&bytes]) != head[4..] {
            return Err(FileError::Checksum(start));
        }
        self.total.update(head);
        Ok(Some(bytes))
    }

    /// Length and hash of the file, once [`Reader::frame`] has answered none.
    pub fn end(&self) -> (u64, Hash) {
        (self.at, self.hash)
    }

    fn check_end(&mut self, start: u64, head: &[u8; HEAD_BYTES]) -> Result<(), FileError> {
        self.hash = self.total.clone().finalize().into();
        if self.hash != head[4..] {
            return Err(FileError::Checksum(start));
        }
        if self.files.len(&self.path)? != self.at {
            return Err(FileError::Long(self.at));
        }
        Ok(())
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>, FileError> {
        let bytes = self.files.read(&self.path, self.at, length)?;
        if bytes.len() < length {
            return Err(FileError::Short(self.at));
        }
        self.at += length as u64;
        Ok(bytes)
    }
}
