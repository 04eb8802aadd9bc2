//! The sealed segments on a disk: found at start by their headers and ends, read through with every byte checked, set
//! aside when damaged. Many may read while one thread seals.

use super::{
    Entry, Head,
    format::{self, Damage, Decoder, HEADER_BYTES, Item, SEAL_BYTES},
    hasher::Sealed,
};
use crate::files::{self, Files, FilesError};
use matrixai_protocol::Hash;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

/// Ending of a part's name.
const ENDING: &str = ".seg";
/// Ending of the name of a part that was set aside.
const DAMAGED: &str = ".damaged";
/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;

/// A sealed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The place that it begins behind.
    pub before: Head,
    /// Its end, its hash, how many entries.
    pub sealed: Sealed,
    /// Files that it lies in.
    pub parts: u32,
    /// Bytes of those files.
    pub bytes: u64,
}

impl Segment {
    /// Its number.
    pub const fn epoch(&self) -> u64 {
        self.sealed.head.epoch
    }
}

/// Why a segment could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Its bytes are not what was sealed.
    #[error("{}: {damage}", path.display())]
    Damaged {
        /// The file, or the first of the files.
        path: PathBuf,
        /// What is wrong.
        damage: Damage,
    },
    /// The disk refused.
    #[error(transparent)]
    Files(#[from] FilesError),
}

/// Name of a part of a segment.
pub(super) fn part_name(epoch: u64, part: u32) -> String {
    format!("{epoch:012}-{part:04}{ENDING}")
}

/// Epoch and part of a name.
fn parse_name(name: &str) -> Option<(u64, u32)> {
    let (epoch, part) = name.strip_suffix(ENDING)?.split_once('-')?;
    let parsed = (epoch.parse().ok()?, part.parse().ok()?);
    (part_name(parsed.0, parsed.1) == name).then_some(parsed)
}

/// The sealed segments in a folder.
#[derive(Debug)]
pub struct Shelf {
    files: Arc<dyn Files>,
    dir: PathBuf,
    cluster_id: Hash,
    segments: RwLock<BTreeMap<u64, Segment>>,
}

impl Shelf {
    /// Looks what is there. A segment that is not whole is set aside; what was unfinished is removed.
    ///
    /// # Errors
    /// [`FilesError`] of a disk that refuses; damage is no error here.
    pub fn open(files: Arc<dyn Files>, dir: &Path, cluster_id: Hash) -> Result<Self, FilesError> {
        files.create_dir(dir)?;
        files::sweep(&*files, dir)?;
        let shelf = Self { files, dir: dir.to_owned(), cluster_id, segments: RwLock::default() };
        let mut before: Option<Head> = None;
        for (epoch, parts) in shelf.listed()? {
            let found = shelf.look(epoch, &parts, before.filter(|head| head.epoch + 1 == epoch));
            match found {
                Ok(segment) => {
                    before = Some(segment.sealed.head);
                    shelf.write().insert(epoch, segment);
                }
                Err(ReadError::Files(error @ (FilesError::Io { .. } | FilesError::NoSpace { .. }))) => {
                    return Err(error);
                }
                Err(error) => {
                    tracing::error!(epoch, %error, "a sealed segment of the log is damaged and set aside");
                    shelf.rename_damaged(epoch, parts.iter().copied())?;
                }
            }
        }
        Ok(shelf)
    }

    /// As [`Shelf::open`], but changes nothing, and looks no further than the first segment that is not whole, which it
    /// answers beside the shelf: for audits.
    ///
    /// # Errors
    /// [`FilesError`] of a disk that refuses to list the folder.
    pub fn inspect(
        files: Arc<dyn Files>,
        dir: &Path,
        cluster_id: Hash,
    ) -> Result<(Self, Option<ReadError>), FilesError> {
        let shelf = Self { files, dir: dir.to_owned(), cluster_id, segments: RwLock::default() };
        for (epoch, parts) in shelf.listed()? {
            match shelf.look(epoch, &parts, None) {
                Ok(segment) => shelf.put(segment),
                Err(error) => return Ok((shelf, Some(error))),
            }
        }
        Ok((shelf, None))
    }

    /// Whose log this is.
    pub fn cluster_id(&self) -> &Hash {
        &self.cluster_id
    }

    /// A segment, if it is here.
    pub fn get(&self, epoch: u64) -> Option<Segment> {
        self.read().get(&epoch).copied()
    }

    /// The segment that holds an entry, if it is here.
    pub fn holding(&self, index: u64) -> Option<Segment> {
        let segments = self.read();
        let at_most = |epoch: u64| segments.range(..=epoch).next_back().map(|(_, segment)| *segment);
        // Epochs and indexes ascend together, so the last epoch that begins before the entry is found by halving.
        let (mut low, mut high) = (*segments.first_key_value()?.0, *segments.last_key_value()?.0);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if at_most(middle)?.before.index < index {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        at_most(low).filter(|found| found.before.index < index && index <= found.sealed.head.index)
    }

    /// The oldest segment behind an epoch.
    pub fn after(&self, epoch: u64) -> Option<Segment> {
        self.read().range(epoch + 1..).next().map(|(_, segment)| *segment)
    }

    /// The oldest and the newest.
    pub fn ends(&self) -> Option<(Segment, Segment)> {
        let segments = self.read();
        Some((*segments.first_key_value()?.1, *segments.last_key_value()?.1))
    }

    /// How many there are, and their bytes.
    pub fn size(&self) -> (u64, u64) {
        let segments = self.read();
        (segments.len() as u64, segments.values().map(|segment| segment.bytes).sum())
    }

    /// The newest epoch from `from` up to `through` that is not here, and the hash that its segment must have if a newer one
    /// here says it.
    pub fn missing(&self, from: u64, through: u64) -> Option<(u64, Option<Hash>)> {
        let segments = self.read();
        let epoch = (from.max(1)..=through).rev().find(|epoch| !segments.contains_key(epoch))?;
        Some((epoch, segments.get(&(epoch + 1)).map(|next| next.before.hash)))
    }

    /// Reads a segment's entries, every byte checked.
    pub fn entries(&self, segment: &Segment) -> Entries {
        Entries {
            bytes: self.bytes(segment),
            decoder: Decoder::new(self.cluster_id, Some(segment.before)),
            sealed: segment.sealed,
            path: self.path(segment.epoch(), 0),
            ended: false,
        }
    }

    /// Reads a segment's bytes as they are, part after part.
    pub fn bytes(&self, segment: &Segment) -> Bytes {
        let paths: Vec<_> = (0..segment.parts).map(|part| self.path(segment.epoch(), part)).collect();
        Bytes { files: self.files.clone(), paths: paths.into_iter(), current: None }
    }

    /// Takes in a segment whose files are in place.
    pub(super) fn put(&self, segment: Segment) {
        self.write().insert(segment.epoch(), segment);
    }

    /// Forgets a segment and gives its files names under which nobody looks for them, so that it is fetched again.
    ///
    /// # Errors
    /// [`FilesError`].
    pub fn set_aside(&self, epoch: u64) -> Result<(), FilesError> {
        let known = self.write().remove(&epoch);
        self.rename_damaged(epoch, 0..known.map_or(0, |segment| segment.parts))
    }

    /// What a reader met: a segment whose bytes are not what was sealed is set aside, so that it is fetched again. A disk that
    /// refuses, or a segment that retention has just removed, says nothing about the bytes.
    pub fn damaged(&self, epoch: u64, error: &ReadError) {
        if matches!(error, ReadError::Files(_)) || self.get(epoch).is_none() {
            return;
        }
        tracing::error!(epoch, %error, "a sealed segment of the log is damaged and set aside");
        if let Err(error) = self.set_aside(epoch) {
            tracing::warn!(%error, "a damaged segment could not be set aside");
        }
    }

    /// Removes the oldest segments but `keep`.
    ///
    /// # Errors
    /// [`FilesError`].
    pub fn keep_newest(&self, keep: u64) -> Result<(), FilesError> {
        let newest = self.read().last_key_value().map_or(0, |(epoch, _)| *epoch);
        let old: Vec<Segment> =
            self.read().range(..=newest.saturating_sub(keep)).map(|(_, segment)| *segment).collect();
        for segment in old {
            // Last part first: a crash between the two leaves a segment that is not whole.
            for part in (0..segment.parts).rev() {
                self.files.remove(&self.path(segment.epoch(), part))?;
            }
            self.write().remove(&segment.epoch());
        }
        Ok(())
    }

    pub(super) fn files(&self) -> &Arc<dyn Files> {
        &self.files
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    fn path(&self, epoch: u64, part: u32) -> PathBuf {
        self.dir.join(part_name(epoch, part))
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<u64, Segment>> {
        self.segments.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<u64, Segment>> {
        self.segments.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Epoch -> parts, both ascending.
    fn listed(&self) -> Result<BTreeMap<u64, Vec<u32>>, FilesError> {
        let mut listed: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        for (epoch, part) in self.files.list(&self.dir)?.iter().filter_map(|name| parse_name(name)) {
            listed.entry(epoch).or_default().push(part);
        }
        Ok(listed)
    }

    /// The segment of these parts, as far as its first header and its end tell.
    fn look(&self, epoch: u64, parts: &[u32], before: Option<Head>) -> Result<Segment, ReadError> {
        let damaged = |part, damage| ReadError::Damaged { path: self.path(epoch, part), damage };
        if let Some(gap) = (0..).zip(parts).find_map(|(expected, part)| (expected != *part).then_some(expected)) {
            let (expected, found) = (format!("part {gap} of segment {epoch}"), "a later part".to_owned());
            return Err(damaged(gap, Damage::Place { expected, found }));
        }
        let next = before.map_or(1, |head| head.index + 1);
        let first = self.files.read(&self.path(epoch, 0), 0, HEADER_BYTES)?;
        let first = first.first_chunk().ok_or_else(|| damaged(0, Damage::Truncated { after: next - 1 }))?;
        let header = format::header(first, next).map_err(|damage| damaged(0, damage))?;
        if header.cluster_id != self.cluster_id {
            return Err(damaged(0, Damage::Cluster(header.cluster_id)));
        }
        if header.before.epoch + 1 != epoch || before.is_some_and(|before| before != header.before) {
            let describe = |head: Head| format!("segment {}, behind {}", head.epoch + 1, hex::encode(head.hash));
            let expected = before.map_or_else(|| format!("segment {epoch}"), describe);
            return Err(damaged(0, Damage::Place { expected, found: describe(header.before) }));
        }
        let lengths =
            parts.iter().map(|part| self.files.len(&self.path(epoch, *part))).collect::<Result<Vec<_>, _>>()?;
        let (last, last_len) = (parts.len() as u32 - 1, lengths.last().copied().unwrap_or_default());
        let end = self.files.read(&self.path(epoch, last), last_len.saturating_sub(SEAL_BYTES as u64), SEAL_BYTES)?;
        let sealed = end.first_chunk().and_then(|end| format::seal(end, header.before).ok());
        // Reading it through tells at which entry it ends.
        let sealed = match sealed {
            Some(sealed) => sealed,
            None => return Err(self.first_damage(epoch, parts, header.before)),
        };
        Ok(Segment { before: header.before, sealed, parts: parts.len() as u32, bytes: lengths.iter().sum() })
    }

    fn first_damage(&self, epoch: u64, parts: &[u32], before: Head) -> ReadError {
        let paths: Vec<_> = parts.iter().map(|part| self.path(epoch, *part)).collect();
        let mut bytes = Bytes { files: self.files.clone(), paths: paths.into_iter(), current: None };
        let mut decoder = Decoder::new(self.cluster_id, Some(before));
        loop {
            let damage = match decoder.next_item() {
                Ok(Some(_)) => continue,
                Ok(None) => match bytes.next() {
                    Some(Ok(piece)) => {
                        decoder.feed(&piece);
                        continue;
                    }
                    Some(Err(error)) => return error.into(),
                    None => decoder.finish().err().unwrap_or(Damage::Seal { index: before.index }),
                },
                Err(damage) => damage,
            };
            return ReadError::Damaged { path: self.path(epoch, parts.last().copied().unwrap_or_default()), damage };
        }
    }

    fn rename_damaged(&self, epoch: u64, parts: impl Iterator<Item = u32>) -> Result<(), FilesError> {
        for part in parts {
            let path = self.path(epoch, part);
            match self.files.rename(&path, &self.dir.join(format!("{}{DAMAGED}", part_name(epoch, part)))) {
                Ok(()) | Err(FilesError::Missing { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.files.sync_dir(&self.dir)
    }
}

/// The bytes of a segment's parts, in pieces.
#[derive(Debug)]
pub struct Bytes {
    files: Arc<dyn Files>,
    paths: std::vec::IntoIter<PathBuf>,
    current: Option<(PathBuf, u64)>,
}

impl Iterator for Bytes {
    type Item = Result<Vec<u8>, FilesError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (path, at) = match self.current.take() {
                Some(current) => current,
                None => (self.paths.next()?, 0),
            };
            match self.files.read(&path, at, READ_BYTES) {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => {
                    self.current = Some((path, at + bytes.len() as u64));
                    return Some(Ok(bytes));
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// The entries of a segment; the first error is the last item.
#[derive(Debug)]
pub struct Entries {
    bytes: Bytes,
    decoder: Decoder,
    sealed: Sealed,
    path: PathBuf,
    ended: bool,
}

impl Iterator for Entries {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            let damage = match self.decoder.next_item() {
                Ok(Some(Item::Entry(entry, _))) => return Some(Ok(entry)),
                Ok(Some(Item::Part(_) | Item::More)) => continue,
                Ok(Some(Item::Sealed(sealed))) if sealed == self.sealed => continue,
                // The end has changed since it was looked at.
                Ok(Some(Item::Sealed(sealed))) => Damage::Seal { index: sealed.head.index },
                Ok(None) => match self.bytes.next() {
                    Some(Ok(bytes)) => {
                        self.decoder.feed(&bytes);
                        continue;
                    }
                    Some(Err(error)) => {
                        self.ended = true;
                        return Some(Err(error.into()));
                    }
                    None => match self.decoder.finish() {
                        Ok(()) => break,
                        Err(damage) => damage,
                    },
                },
                Err(damage) => damage,
            };
            self.ended = true;
            return Some(Err(ReadError::Damaged { path: self.path.clone(), damage }));
        }
        self.ended = true;
        None
    }
}
