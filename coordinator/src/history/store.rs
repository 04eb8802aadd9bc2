//! Where the index of statements lies: what it knows of itself in sled, its rows in one file a run beside it. sled would write rows
//! several times over: each leaf that grows is written anew, and one of so many bytes as a file of its own.
//!
//! A run's file is written and synced before sled knows of it, and removed after sled no longer does; so a file too many is
//! the mark of a crash and removed, and a file too few makes the whole index be built anew.

use crate::files::{Files, FilesError};
use matrixai_state::ids::AccountId;
use std::{
    collections::BTreeSet,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

/// sled's cache; its default is 1 GiB.
const CACHE_BYTES: u64 = 8 << 20;
/// Room that is left to sled: it must not meet a full disk, after which it takes nothing more.
const SLED_ROOM_BYTES: u64 = 4 << 20;
/// The file that sled appends to, in its folder.
const SLED_FILE: &str = "db";
/// First byte of the key of a run's list of blocks.
const BLOCKS: u8 = b'b';
/// Bytes of rows in a block, at least; the last row may exceed it.
const BLOCK_ROWS_BYTES: u32 = 32 << 10;
/// Bytes written at once.
const WRITE_BYTES: usize = 1 << 18;
/// Bytes of one block in such a list.
const BLOCK_BYTES: usize = 20 + 8 + 8 + 4;

/// Why rows cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// sled's.
    #[error("sled: {0}")]
    Sled(#[from] sled::Error),
    /// A file's.
    #[error(transparent)]
    File(#[from] FilesError),
    /// What is there cannot be read.
    #[error("{0}")]
    Format(String),
}

/// The folder.
#[derive(Debug)]
pub(super) struct Store {
    db: sled::Db,
    index: PathBuf,
    rows: PathBuf,
    files: Arc<dyn Files>,
}

/// A row as it is written: whose and which it is, and its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) account: AccountId,
    pub(super) sequence: u64,
    pub(super) bytes: &'a [u8],
}

/// Where a block of rows lies in its run's file, and what its first row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) account: AccountId,
    pub(super) sequence: u64,
    pub(super) offset: u64,
    pub(super) length: u32,
}

impl Store {
    /// Whether the disk has room for so many bytes of rows, and for what sled writes beside them whenever it likes.
    pub(super) fn room(&self, bytes: u64) -> Result<(), FilesError> {
        let needed = bytes.saturating_mul(2).saturating_add(SLED_ROOM_BYTES);
        if self.files.free(&self.rows)? >= needed {
            return Ok(());
        }
        Err(FilesError::NoSpace { path: self.rows.clone(), needed })
    }

    /// Opens or makes it.
    pub(super) fn open(folder: &Path, files: Arc<dyn Files>) -> Result<Self, StoreError> {
        let (index, rows) = (folder.join("index"), folder.join("rows"));
        files.create_dir(&rows)?;
        let db = sled::Config::new().path(&index).cache_capacity(CACHE_BYTES).open()?;
        Ok(Self { db, index, rows, files })
    }

    /// Whether it is new.
    pub(super) fn is_empty(&self) -> bool {
        self.db.is_empty()
    }

    /// A record that was put.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<sled::IVec>, StoreError> {
        Ok(self.db.get(key)?)
    }

    /// Changes several records at once, and hands them to the system: what is told of once is not told again.
    pub(super) fn apply(&self, batch: sled::Batch) -> Result<(), StoreError> {
        self.db.apply_batch(batch)?;
        self.db.flush()?;
        Ok(())
    }

    /// Returns once the records are on the disk. sled's own flush does not wait for the disk.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.db.flush()?;
        let path = self.index.join(SLED_FILE);
        let synced = File::open(&path).and_then(|file| file.sync_data());
        synced.map_err(|error| StoreError::Format(format!("sync {}: {error}", path.display())))
    }

    /// Writes a run's file of these rows, and puts its list of blocks into a batch.
    pub(super) fn create<'a>(
        &self,
        run: u64,
        rows: impl Iterator<Item = Row<'a>>,
        batch: &mut sled::Batch,
    ) -> Result<(), StoreError> {
        let path = self.path(run);
        let written = self.write(&path, rows);
        if written.is_err() {
            // It would fill the disk that may be full already; the next start removes it if this fails too.
            let _ = self.files.remove(&path);
        }
        batch.insert(key(run).as_slice(), written?);
        Ok(())
    }

    /// Writes rows to a file; answers their list of blocks.
    fn write<'a>(&self, path: &Path, rows: impl Iterator<Item = Row<'a>>) -> Result<Vec<u8>, StoreError> {
        let (mut file, mut buffer) = (self.files.create(path)?, Vec::with_capacity(WRITE_BYTES));
        let (mut list, mut block): (Vec<u8>, Option<Block>) = (Vec::new(), None);
        for Row { account, sequence, bytes } in rows {
            if buffer.len() + bytes.len() > WRITE_BYTES {
                file.append(&buffer)?;
                buffer.clear();
            }
            buffer.extend_from_slice(bytes);
            let length = u32::try_from(bytes.len()).map_err(|error| StoreError::Format(error.to_string()))?;
            match &mut block {
                Some(block) if block.length < BLOCK_ROWS_BYTES => block.length += length,
                filling => {
                    let offset = filling.as_ref().map_or(0, |full| full.offset + u64::from(full.length));
                    filling.iter().for_each(|full| full.put(&mut list));
                    *filling = Some(Block { account, sequence, offset, length });
                }
            }
        }
        block.iter().for_each(|last| last.put(&mut list));
        file.append(&buffer)?;
        file.sync()?;
        self.files.sync_dir(&self.rows)?;
        Ok(list)
    }

    /// The blocks of a run, in order.
    pub(super) fn blocks(&self, run: u64) -> Result<Vec<Block>, StoreError> {
        let missing = || StoreError::Format(format!("run {run} has no list of blocks"));
        let list = self.db.get(key(run))?.ok_or_else(missing)?;
        let (blocks, []) = list.as_chunks::<BLOCK_BYTES>() else {
            return Err(StoreError::Format(format!("the list of blocks of run {run} is cut off")));
        };
        Ok(blocks.iter().map(block).collect())
    }

    /// Takes a run out of the records, in a batch; its file goes with [`Store::remove`] after that.
    pub(super) fn forget(run: u64, batch: &mut sled::Batch) {
        batch.remove(key(run).as_slice());
    }

    /// Removes files of runs that the records no longer name.
    pub(super) fn remove(&self, runs: &[u64]) -> Result<(), StoreError> {
        Ok(runs.iter().try_for_each(|run| self.files.remove(&self.path(*run)))?)
    }

    /// Removes the files of all runs but these, and checks that these are there.
    pub(super) fn keep(&self, runs: &BTreeSet<u64>) -> Result<(), StoreError> {
        let kept: BTreeSet<String> = runs.iter().map(|run| name(*run)).collect();
        for file in self.files.list(&self.rows)?.iter().filter(|file| !kept.contains(*file)) {
            self.files.remove(&self.rows.join(file))?;
        }
        runs.iter().try_for_each(|run| self.files.len(&self.path(*run)).map(drop))?;
        Ok(())
    }

    /// Bytes of a run's rows.
    pub(super) fn rows_bytes(&self, run: u64) -> Result<u64, FilesError> {
        self.files.len(&self.path(run))
    }

    /// A run's rows.
    pub(super) fn rows(&self, run: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.path(run);
        let length = usize::try_from(self.files.len(&path)?).map_err(|error| StoreError::Format(error.to_string()))?;
        Ok(self.files.read(&path, 0, length)?)
    }

    /// The rows of a block of a run.
    pub(super) fn block(&self, run: u64, block: &Block) -> Result<Vec<u8>, StoreError> {
        Ok(self.files.read(&self.path(run), block.offset, block.length as usize)?)
    }

    fn path(&self, run: u64) -> PathBuf {
        self.rows.join(name(run))
    }
}

fn name(run: u64) -> String {
    format!("{run}.run")
}

impl Block {
    fn put(&self, list: &mut Vec<u8>) {
        list.extend_from_slice(&self.account.0);
        list.extend_from_slice(&self.sequence.to_be_bytes());
        list.extend_from_slice(&self.offset.to_be_bytes());
        list.extend_from_slice(&self.length.to_be_bytes());
    }
}

fn block(bytes: &[u8; BLOCK_BYTES]) -> Block {
    let mut block = Block { account: AccountId([0; 20]), sequence: 0, offset: 0, length: 0 };
    let number = |from: usize| bytes[from..from + 8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    block.account.0.copy_from_slice(&bytes[..20]);
    (block.sequence, block.offset) = (number(20), number(28));
    block.length = bytes[36..].iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
    block
}

fn key(run: u64) -> [u8; 9] {
    let mut key = [BLOCKS; 9];
    key[1..].copy_from_slice(&run.to_be_bytes());
    key
}
