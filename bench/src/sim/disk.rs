//! One machine's disk, in memory. It keeps what a power cut would leave beside what is written: a write is safe only
//! once its file is synced, and a cut takes each unsynced sector or leaves it, as it likes.
//!
//! What raft-engine does past its own `FileSystem` (list the folder, lock it, sync it) goes to a real folder that holds an
//! empty file for each file here; it lies on a memory file system where there is one. `disk/engine.rs` is what raft-engine
//! sees of it, `disk/files.rs` what snapshots do.

mod engine;
mod files;

use super::rng::Rng;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Disks write this many bytes at once or not at all.
const SECTOR_BYTES: usize = 512;

/// A handle to a disk; copies are the same disk.
#[derive(Debug, Clone)]
pub struct Disk {
    inner: Arc<Mutex<Inner>>,
    /// The life of the process that holds this handle. Handles of a process that died do nothing.
    life: u64,
}

#[derive(Debug)]
struct Inner {
    rng: Rng,
    files: BTreeMap<u64, File>,
    next_file: u64,
    /// The folders as a reader sees them, and as they are safe.
    names: BTreeMap<PathBuf, u64>,
    safe_names: BTreeMap<PathBuf, u64>,
    /// Changes of names since they were last made safe. A file system's journal keeps their order: a power cut loses the
    /// last ones.
    renamed: Vec<Renamed>,
    life: u64,
    /// Bytes that still fit; none for a disk that is large enough.
    room: Option<usize>,
    /// The power fails at this operation, counted down.
    cut_in: Option<u64>,
    cut: bool,
    counts: Counts,
}

#[derive(Debug, Clone)]
enum Renamed {
    Made(PathBuf, u64),
    Removed(PathBuf),
    Moved(PathBuf, PathBuf),
}

fn rename(names: &mut BTreeMap<PathBuf, u64>, change: Renamed) {
    match change {
        Renamed::Made(path, file) => {
            names.insert(path, file);
        }
        Renamed::Removed(path) => {
            names.remove(&path);
        }
        Renamed::Moved(from, to) => {
            if let Some(file) = names.remove(&from) {
                names.insert(to, file);
            }
        }
    }
}

/// What a disk was asked to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Writes.
    pub writes: u64,
    /// Syncs.
    pub syncs: u64,
    /// Writes that found no room.
    pub refused: u64,
}

/// A file: what a reader sees, and what it takes to go back to what is safe. Kept this way round a sync costs nothing, and most of
/// what is written is synced.
#[derive(Debug, Default)]
struct File {
    /// What a reader sees; zeros follow up to `len`.
    live: Vec<u8>,
    len: usize,
    /// How much of it is safe.
    safe_len: usize,
    /// Changes since the last sync, in order.
    dirty: Vec<Change>,
}

/// A change of a file, and how to undo it.
#[derive(Debug)]
struct Change {
    /// Where, and how many bytes were written; none when the file was cut there.
    at: usize,
    bytes: usize,
    /// What was there.
    before: Vec<u8>,
    /// Where the bytes ended.
    end_before: usize,
}

impl File {
    fn write(&mut self, at: usize, bytes: &[u8]) {
        let (end, end_before) = (at + bytes.len(), self.live.len());
        let before = self.live.get(at..end.min(end_before)).unwrap_or_default().to_vec();
        if at >= end_before {
            self.live.resize(at, 0);
            self.live.extend_from_slice(bytes);
        } else {
            self.live.resize(end.max(end_before), 0);
            self.live[at..end].copy_from_slice(bytes);
        }
        self.len = self.len.max(end);
        self.dirty.push(Change { at, bytes: bytes.len(), before, end_before });
    }

    fn cut(&mut self, len: usize) {
        let (before, end_before) = (self.live.get(len..).unwrap_or_default().to_vec(), self.live.len());
        self.live.truncate(len);
        self.len = len;
        self.dirty.push(Change { at: len, bytes: 0, before, end_before });
    }

    fn sync(&mut self) {
        self.dirty.clear();
        self.safe_len = self.len;
    }

    /// The power is gone: unsynced sectors that `keeps` says yes to have made it, and the length may have or not.
    fn lose(&mut self, mut keeps: impl FnMut() -> bool) {
        let dirty = std::mem::take(&mut self.dirty);
        let written = if dirty.is_empty() { Vec::new() } else { self.live.clone() };
        for change in dirty.iter().rev() {
            self.live.resize(change.end_before, 0);
            if !change.before.is_empty() {
                self.live[change.at..change.at + change.before.len()].copy_from_slice(&change.before);
            }
        }
        for Change { at, bytes, .. } in &dirty {
            let (mut from, end) = (*at, (at + bytes).min(written.len()));
            while from < end {
                let to = ((from / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
                if keeps() {
                    if self.live.len() < to {
                        self.live.resize(to, 0);
                    }
                    self.live[from..to].copy_from_slice(&written[from..to]);
                    self.safe_len = self.safe_len.max(to);
                }
                from = to;
            }
        }
        if keeps() {
            self.safe_len = self.safe_len.max(self.len);
        }
        self.live.truncate(self.safe_len);
        self.len = self.safe_len;
    }
}

impl Disk {
    /// An empty disk.
    pub fn new(rng: Rng) -> Self {
        let inner = Inner {
            rng,
            files: BTreeMap::new(),
            next_file: 0,
            names: BTreeMap::new(),
            safe_names: BTreeMap::new(),
            renamed: Vec::new(),
            life: 0,
            room: None,
            cut_in: None,
            cut: false,
            counts: Counts::default(),
        };
        Self { inner: Arc::new(Mutex::new(inner)), life: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk for a process, if the handle's process lives and has power.
    fn alive(&self) -> Option<MutexGuard<'_, Inner>> {
        let inner = self.lock();
        (inner.life == self.life && !inner.cut).then_some(inner)
    }

    /// Counts one operation; answers the disk if the power holds through it.
    fn step(&self) -> Option<MutexGuard<'_, Inner>> {
        let mut inner = self.alive()?;
        if let Some(left) = &mut inner.cut_in {
            *left = left.saturating_sub(1);
            inner.cut = *left == 0;
        }
        (!inner.cut).then_some(inner)
    }

    /// The disk for the next process; earlier handles do nothing from now on.
    pub fn next_life(&self) -> Self {
        let mut inner = self.lock();
        inner.life += 1;
        (inner.cut, inner.cut_in) = (false, None);
        Self { inner: Arc::clone(&self.inner), life: inner.life }
    }

    /// The process is gone (`power`: and the machine with it, so that what was not synced may be lost).
    pub fn crash(&self, power: bool) {
        let mut inner = self.lock();
        inner.life += 1;
        if !power && !inner.cut {
            return;
        }
        let mut rng = inner.rng.fork(1);
        // Sometimes nothing unsynced survives, sometimes everything, mostly some of it.
        let mode = rng.below(4);
        let renamed = std::mem::take(&mut inner.renamed);
        let kept = rng.below(renamed.len() as u64 + 1) as usize;
        renamed.into_iter().take(kept).for_each(|change| rename(&mut inner.safe_names, change));
        inner.names = inner.safe_names.clone();
        let named: BTreeSet<u64> = inner.names.values().copied().collect();
        inner.files.retain(|file, _| named.contains(file));
        for file in inner.files.values_mut() {
            file.lose(|| match mode {
                0 => false,
                1 => true,
                _ => rng.one_in(2),
            });
        }
    }

    /// The power fails at the n-th operation from now.
    pub fn cut_in(&self, operations: u64) {
        self.lock().cut_in = Some(operations.max(1));
    }

    /// A power cut that has not come yet does not come.
    pub fn keep_power(&self) {
        self.lock().cut_in = None;
    }

    /// Whether the power has failed under the process.
    pub fn is_cut(&self) -> bool {
        self.lock().cut
    }

    /// Leaves room for so many more bytes; none makes the disk large again.
    pub fn set_room(&self, room: Option<usize>) {
        self.lock().room = room;
    }

    /// Whether the disk is full, or about to be.
    pub fn is_short(&self) -> bool {
        self.lock().room.is_some()
    }

    /// Flips one bit in the files under a folder of a machine without power, where everything is safe; answers whether there
    /// was one.
    pub fn flip_bit(&self, folder: &Path) -> bool {
        let mut inner = self.lock();
        let mut rng = inner.rng.fork(2);
        let below = inner.names.iter().filter(|(path, _)| path.starts_with(folder)).map(|(_, file)| *file);
        let full = |file: &u64| inner.files.get(file).is_some_and(|file| !file.live.is_empty());
        let files: Vec<u64> = below.filter(full).collect();
        if files.is_empty() {
            return false;
        }
        let at = *rng.pick(&files);
        let Some(file) = inner.files.get_mut(&at) else { return false };
        let byte = rng.below(file.live.len() as u64) as usize;
        file.live[byte] ^= 1 << rng.below(8);
        true
    }

    /// What the disk was asked to do so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Bytes in all files.
    pub fn bytes(&self) -> usize {
        self.lock().files.values().map(|file| file.live.len()).sum()
    }

    /// Makes a real folder hold an empty file for each file here, and nothing else.
    ///
    /// # Errors
    /// Those of the real folder.
    pub fn mirror(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let inner = self.lock();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if !inner.names.contains_key(&path) {
                fs::remove_file(&path)?;
            }
        }
        for path in inner.names.keys().filter(|path| path.parent() == Some(folder)) {
            if !path.exists() {
                fs::File::create(path)?;
            }
        }
        Ok(())
    }
}

impl Inner {
    fn id(&self, path: &Path) -> io::Result<u64> {
        let missing = || io::Error::new(ErrorKind::NotFound, "no such file on the simulated disk");
        self.names.get(path).copied().ok_or_else(missing)
    }

    fn file(&mut self, id: u64) -> io::Result<&mut File> {
        let missing = || io::Error::new(ErrorKind::NotFound, "the file is no longer on the simulated disk");
        self.files.get_mut(&id).ok_or_else(missing)
    }

    fn change(&mut self, change: Renamed) {
        rename(&mut self.names, change.clone());
        self.renamed.push(change);
    }

    /// Makes a file, in place of one of the same name.
    fn make(&mut self, path: &Path) -> u64 {
        self.next_file += 1;
        let id = self.next_file;
        self.files.insert(id, File::default());
        self.change(Renamed::Made(path.to_owned(), id));
        id
    }

    /// Syncs a file; the journal takes its name along.
    fn sync(&mut self, id: u64) -> io::Result<()> {
        self.counts.syncs += 1;
        self.file(id)?.sync();
        self.sync_names();
        Ok(())
    }

    fn sync_names(&mut self) {
        for change in std::mem::take(&mut self.renamed) {
            rename(&mut self.safe_names, change);
        }
    }

    /// Takes room for a write; what fits is written, as a real disk does.
    fn take_room(&mut self, bytes: usize) -> io::Result<usize> {
        let Some(room) = &mut self.room else { return Ok(bytes) };
        let fits = bytes.min(*room);
        if fits == 0 && bytes > 0 {
            self.counts.refused += 1;
            // What Linux says (ENOSPC), by number: that is how callers know it.
            return Err(io::Error::from_raw_os_error(28));
        }
        *room -= fits;
        Ok(fits)
    }

    fn write(&mut self, id: u64, at: usize, bytes: &[u8]) -> io::Result<usize> {
        // Written over what is there already, a write needs no room.
        let grows = self.file(id).map(|file| (at + bytes.len()).saturating_sub(file.live.len()))?;
        let fits = bytes.len() - (grows - self.take_room(grows)?);
        self.counts.writes += 1;
        self.file(id)?.write(at, &bytes[..fits]);
        Ok(fits)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn disk() -> Disk {
        Disk::new(Rng::new(1)).next_life()
    }

    fn put(disk: &Disk, path: &str, at: usize, bytes: &[u8]) {
        let mut inner = disk.lock();
        let id = inner.id(Path::new(path)).unwrap_or_else(|_| inner.make(Path::new(path)));
        inner.write(id, at, bytes).unwrap();
    }

    fn sync(disk: &Disk, path: &str) {
        let mut inner = disk.lock();
        let id = inner.id(Path::new(path)).unwrap();
        inner.sync(id).unwrap();
    }

    fn bytes_of(disk: &Disk, path: &str) -> Option<Vec<u8>> {
        let mut inner = disk.lock();
        let id = inner.id(Path::new(path)).ok()?;
        inner.file(id).ok().map(|file| file.live.clone())
    }

    #[test]
    fn what_is_synced_survives_and_the_rest_is_lost_by_sectors() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let disk = Disk::new(Rng::new(seed)).next_life();
            put(&disk, "a", 0, &[1; 700]);
            sync(&disk, "a");
            put(&disk, "a", 700, &[2; 1_000]);
            disk.crash(true);
            let left = bytes_of(&disk, "a").unwrap();
            assert_eq!(left[..700], [1; 700]);
            // Sectors end at 1024 and 1536, so the write spans three.
            for sector in [700..1_024, 1_024..1_536, 1_536..1_700] {
                let part = left.get(sector.start..sector.end.min(left.len())).unwrap_or_default();
                assert!(part.iter().all(|byte| *byte == 2) || part.iter().all(|byte| *byte == 0));
            }
            seen.insert(left.iter().filter(|byte| **byte == 2).count());
        }
        assert_eq!(seen.len(), 8, "every set of sectors is lost at some time");
    }

    #[test]
    fn a_killed_process_loses_nothing_and_its_handles_do_nothing() {
        let disk = disk();
        put(&disk, "a", 0, b"alpha");
        disk.crash(false);
        assert!(disk.alive().is_none());
        let next = disk.next_life();
        assert_eq!(bytes_of(&next, "a").unwrap(), b"alpha");
        assert!(next.alive().is_some());
    }

    #[test]
    fn the_power_fails_at_the_operation_it_is_told() {
        let disk = disk();
        disk.cut_in(2);
        assert!(disk.step().is_some());
        assert!(disk.step().is_none() && disk.is_cut());
        assert!(disk.alive().is_none());
        disk.crash(false);
        assert!(disk.next_life().step().is_some());
    }

    #[test]
    fn a_full_disk_takes_what_fits_and_then_refuses() {
        let disk = disk();
        put(&disk, "a", 0, b"12345");
        disk.set_room(Some(3));
        let mut inner = disk.lock();
        let a = inner.id(Path::new("a")).unwrap();
        assert_eq!(inner.write(a, 5, b"67890").unwrap(), 3);
        assert_eq!(inner.write(a, 8, b"9").unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(inner.write(a, 0, b"abc").unwrap(), 3, "what is there can be written over");
    }

    #[test]
    fn names_are_lost_from_the_end_unless_their_folder_is_synced() {
        let mut seen = BTreeSet::new();
        for seed in 0..50 {
            let disk = Disk::new(Rng::new(seed)).next_life();
            put(&disk, "a", 0, b"old");
            sync(&disk, "a");
            put(&disk, "b", 0, b"new");
            let moved = Renamed::Moved("b".into(), "a".into());
            disk.lock().change(moved);
            disk.crash(true);
            let names: Vec<PathBuf> = disk.lock().names.keys().cloned().collect();
            assert!(names.contains(&"a".into()), "a name that was safe is never lost");
            seen.insert(names.len());
        }
        assert_eq!(seen, [1, 2].into(), "before the new file or after the move, and in between");
    }
}
