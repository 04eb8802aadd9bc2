//! Where the index of statements lies: what it knows of itself in sled, its rows in one file a run beside it. sled would write rows
//! several times over: each leaf that grows is written anew, and one of so many bytes as a file of its own.
//!
//! A run's file is written and synced before sled knows of it, and removed after sled no longer does; so a file too many is
//! the mark of a crash and removed, and a file too few makes the whole index be built anew.

use matrixai_state::ids::AccountId;
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

/// sled's cache; its default is 1 GiB.
const CACHE_BYTES: u64 = 8 << 20;
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
    /// The system's, about a file.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// What is there cannot be read.
    #[error("{0}")]
    Format(String),
}

/// The folder.
#[derive(Debug)]
pub(super) struct Store {
    db: sled::Db,
    folder: PathBuf,
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
    /// Opens or makes it.
    pub(super) fn open(folder: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(folder.join("rows")).map_err(of(folder))?;
        let db = sled::Config::new().path(folder.join("index")).cache_capacity(CACHE_BYTES).open()?;
        Ok(Self { db, folder: folder.to_owned() })
    }

    /// Whether it is new.
    pub(super) fn is_empty(&self) -> bool {
        self.db.is_empty()
    }

    /// A record that was put.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<sled::IVec>, StoreError> {
        Ok(self.db.get(key)?)
    }

    /// Changes several records at once.
    pub(super) fn apply(&self, batch: sled::Batch) -> Result<(), StoreError> {
        Ok(self.db.apply_batch(batch)?)
    }

    /// Returns once the records are on the disk. sled's own flush does not wait for the disk.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.db.flush()?;
        let path = self.folder.join("index").join(SLED_FILE);
        File::open(&path).and_then(|file| file.sync_data()).map_err(of(&path))
    }

    /// Writes a run's file of these rows, and puts its list of blocks into a batch.
    pub(super) fn create<'a>(
        &self,
        run: u64,
        rows: impl Iterator<Item = Row<'a>>,
        batch: &mut sled::Batch,
    ) -> Result<(), StoreError> {
        let path = self.path(run);
        let mut file = BufWriter::with_capacity(WRITE_BYTES, File::create(&path).map_err(of(&path))?);
        let (mut list, mut block): (Vec<u8>, Option<Block>) = (Vec::new(), None);
        for Row { account, sequence, bytes } in rows {
            file.write_all(bytes).map_err(of(&path))?;
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
        let file = file.into_inner().map_err(|error| of(&path)(error.into_error()))?;
        file.sync_data().map_err(of(&path))?;
        batch.insert(key(run).as_slice(), list);
        Ok(())
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
        for run in runs {
            let path = self.path(*run);
            fs::remove_file(&path).map_err(of(&path))?;
        }
        Ok(())
    }

    /// Removes the files of all runs but these, and checks that these are there.
    pub(super) fn keep(&self, runs: &BTreeSet<u64>) -> Result<(), StoreError> {
        let folder = self.folder.join("rows");
        for entry in fs::read_dir(&folder).map_err(of(&folder))? {
            let path = entry.map_err(of(&folder))?.path();
            let known =
                path.file_stem().and_then(|name| name.to_str()?.parse().ok()).is_some_and(|run| runs.contains(&run));
            if !known {
                fs::remove_file(&path).map_err(of(&path))?;
            }
        }
        for run in runs {
            let path = self.path(*run);
            fs::metadata(&path).map_err(of(&path))?;
        }
        Ok(())
    }

    /// A run's rows.
    pub(super) fn rows(&self, run: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.path(run);
        fs::read(&path).map_err(of(&path))
    }

    /// A run's file, to read blocks from.
    pub(super) fn file(&self, run: u64) -> Result<RunFile, StoreError> {
        let path = self.path(run);
        let file = File::open(&path).map_err(of(&path))?;
        Ok(RunFile { path, file })
    }

    fn path(&self, run: u64) -> PathBuf {
        self.folder.join("rows").join(format!("{run}.run"))
    }
}

/// An open run.
#[derive(Debug)]
pub(super) struct RunFile {
    path: PathBuf,
    file: File,
}

impl RunFile {
    /// The rows of a block.
    pub(super) fn read(&mut self, block: &Block) -> Result<Vec<u8>, StoreError> {
        let mut bytes = vec![0; block.length as usize];
        let found = self.file.seek(SeekFrom::Start(block.offset)).and_then(|_| self.file.read_exact(&mut bytes));
        found.map_err(of(&self.path)).map(|()| bytes)
    }
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

fn of(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::File { path: path.to_owned(), source }
}
