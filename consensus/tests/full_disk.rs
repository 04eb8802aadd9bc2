//! A disk that fills up under the log: nothing acknowledged is lost, nothing is left behind that a restart would
//! stumble over, the same writes go through once there is room, and a cut log gives its files back.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    io::{self, Seek, SeekFrom},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use common::append;
use matrixai_consensus::{
    Batch, Boundary, EngineStore, Identity, LogStore, LogWriter, Members, SnapshotMeta, StoreError, Write,
};
use raft::{
    GetEntriesContext, Storage,
    eraftpb::{Entry, HardState},
};
use raft_engine::env::{DefaultFileSystem, FileSystem, Handle, Permission, WriteExt};

type Disk = DefaultFileSystem;

/// The real file system with an end: no write gets more bytes through than the limit.
#[derive(Clone)]
struct Limited(Arc<State>);

struct State {
    limit: AtomicUsize,
    syncs: AtomicU64,
}

impl Limited {
    fn new() -> Self {
        Self(Arc::new(State { limit: AtomicUsize::new(usize::MAX), syncs: AtomicU64::new(0) }))
    }

    fn limit(&self, bytes: usize) {
        self.0.limit.store(bytes, Relaxed);
    }
}

struct File {
    inner: Arc<<Disk as FileSystem>::Handle>,
    state: Arc<State>,
}

impl Handle for File {
    fn truncate(&self, offset: usize) -> io::Result<()> {
        self.inner.truncate(offset)
    }
    fn file_size(&self) -> io::Result<usize> {
        self.inner.file_size()
    }
    fn sync(&self) -> io::Result<()> {
        self.state.syncs.fetch_add(1, Relaxed);
        self.inner.sync()
    }
}

struct Writer {
    inner: <Disk as FileSystem>::Writer,
    state: Arc<State>,
}

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let limit = self.state.limit.load(Relaxed);
        if bytes.len() <= limit {
            return self.inner.write(bytes);
        }
        self.inner.write_all(&bytes[..limit])?;
        // The words by which raft-engine knows a full disk.
        Err(io::Error::new(io::ErrorKind::StorageFull, "nospace"))
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Seek for Writer {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

impl WriteExt for Writer {
    fn truncate(&mut self, offset: usize) -> io::Result<()> {
        self.inner.truncate(offset)
    }
    fn allocate(&mut self, offset: usize, size: usize) -> io::Result<()> {
        self.inner.allocate(offset, size)
    }
}

impl FileSystem for Limited {
    type Handle = File;
    type Reader = <Disk as FileSystem>::Reader;
    type Writer = Writer;

    fn create<P: AsRef<Path>>(&self, path: P) -> io::Result<File> {
        Ok(File { inner: Arc::new(Disk {}.create(path)?), state: self.0.clone() })
    }
    fn open<P: AsRef<Path>>(&self, path: P, permission: Permission) -> io::Result<File> {
        Ok(File { inner: Arc::new(Disk {}.open(path, permission)?), state: self.0.clone() })
    }
    fn delete<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        Disk {}.delete(path)
    }
    fn rename<P: AsRef<Path>>(&self, from: P, to: P) -> io::Result<()> {
        Disk {}.rename(from, to)
    }
    fn new_reader(&self, handle: Arc<File>) -> io::Result<Self::Reader> {
        Disk {}.new_reader(handle.inner.clone())
    }
    fn new_writer(&self, handle: Arc<File>) -> io::Result<Writer> {
        Ok(Writer { inner: Disk {}.new_writer(handle.inner.clone())?, state: self.0.clone() })
    }
}

/// Bytes without a pattern, which do not compress.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8 | 1
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

fn batch(range: std::ops::RangeInclusive<u64>, bytes: usize) -> Batch {
    let commit = *range.start() - 1;
    let entry = |index| Entry { index, term: 1, data: noise(index, bytes).into(), ..Entry::default() };
    let hard_state = HardState { term: 1, commit, ..HardState::default() };
    Batch { entries: range.map(entry).collect(), hard_state: Some(hard_state), ..Batch::default() }
}

fn founding() -> Batch {
    Batch {
        snapshot: Some(SnapshotMeta { members: Members::new(&[1]).unwrap(), ..SnapshotMeta::default() }),
        identity: Some(Identity { node: 1, incarnation: 1 }),
        ..Batch::default()
    }
}

/// What a power cut now would leave, opened on a disk with room: it must hold exactly this many entries.
#[track_caller]
fn assert_after_a_cut(folder: &Path, first: u64, last: u64) {
    let after = folder.with_file_name("after");
    let _ = fs::remove_dir_all(&after);
    fs::create_dir(&after).unwrap();
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), after.join(file.file_name())).unwrap();
    }
    let store = EngineStore::open(&after).unwrap();
    assert_eq!((store.first_index().unwrap(), store.last_index().unwrap()), (first, last));
    if last >= first {
        let read = store.entries(first, last + 1, None, GetEntriesContext::empty(false)).unwrap();
        assert!(read.iter().all(|entry| entry.data == noise(entry.index, entry.data.len())));
    }
}

fn log_files(folder: &Path) -> usize {
    let names = fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".raftlog")).count()
}

#[track_caller]
fn assert_full(writer: &mut impl LogWriter, writes: &[Write], least: u64) {
    let error = writer.write(writes).unwrap_err();
    let StoreError::NoSpace { needed, .. } = error else { panic!("{error}") };
    assert!(needed >= least, "{needed}");
}

#[test]
fn a_full_disk_loses_nothing_and_the_same_writes_go_through_when_there_is_room() {
    for limit in [0, 1, 16, 68, 69, 100, 5_000, 29_000] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let disk = Limited::new();
        let mut store = EngineStore::open_with_file_system(&path, Arc::new(disk.clone())).unwrap();
        append(&mut store, &founding()).unwrap();
        append(&mut store, &batch(1..=2, 100)).unwrap();
        let mut writer = store.writer();
        let writes = [Write::new(1_000_001, batch(3..=3, 10_000)), Write::new(1_000_002, batch(4..=5, 10_000))];
        for write in &writes {
            store.stage(write).unwrap();
        }
        disk.limit(limit);
        for _ in 0..3 {
            assert_full(&mut writer, &writes, 30_000);
            assert_after_a_cut(&path, 1, 2);
            assert_eq!(log_files(&path), 1, "limit {limit}: a file was left behind");
        }
        let read = store.entries(1, 6, None, GetEntriesContext::empty(false)).unwrap();
        assert_eq!(read.len(), 5, "what is staged stays readable");
        disk.limit(usize::MAX);
        let syncs = disk.0.syncs.load(Relaxed);
        writer.write(&writes).unwrap();
        assert_eq!(disk.0.syncs.load(Relaxed) - syncs, 1, "one sync for the group");
        store.settled(1_000_002);
        assert_after_a_cut(&path, 1, 5);
        append(&mut store, &batch(6..=6, 100)).unwrap();
        assert_after_a_cut(&path, 1, 6);
        drop((store, writer));
        assert_after_a_cut(&path, 1, 6);
    }
}

#[test]
fn a_disk_that_is_full_when_the_next_file_is_due_is_no_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let disk = Limited::new();
    let mut store = EngineStore::open_with_file_system(&path, Arc::new(disk.clone())).unwrap();
    append(&mut store, &founding()).unwrap();
    // A file is full at 64 MiB.
    for from in (1..=65).step_by(5) {
        append(&mut store, &batch(from..=from + 4, 1 << 20)).unwrap();
    }
    let mut writer = store.writer();
    let write = [Write::new(1_000_001, batch(66..=66, 3_000))];
    store.stage(&write[0]).unwrap();
    // Not even a file's header; then a header and no more.
    for limit in [0, 68, 69, 2_000] {
        disk.limit(limit);
        for _ in 0..2 {
            assert_full(&mut writer, &write, 3_000);
            assert_eq!(log_files(&path), if limit < 69 { 1 } else { 2 });
        }
    }
    disk.limit(usize::MAX);
    writer.write(&write).unwrap();
    store.settled(1_000_001);
    assert_after_a_cut(&path, 1, 66);
}

#[test]
fn a_cut_gives_files_back_and_keeps_what_is_not_entries() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let mut store = EngineStore::open(&path).unwrap();
    append(&mut store, &founding()).unwrap();
    let mut next = 1;
    for round in 1..=2 {
        for _ in 0..14 {
            append(&mut store, &batch(next..=next + 4, 1 << 20)).unwrap();
            next += 5;
        }
        assert_eq!(log_files(&path), 2, "round {round}");
        let through = next - 1 - 10;
        let members = Members::new(&[1]).unwrap();
        let cut = Batch {
            hard_state: Some(HardState { term: 1, commit: next - 1, ..HardState::default() }),
            snapshot: Some(SnapshotMeta { index: through, term: 1, members, data: b"data".to_vec() }),
            compact: Some(Boundary { index: through, term: 1 }),
            ..Batch::default()
        };
        append(&mut store, &cut).unwrap();
        // Two files again: the last ten entries lie in both.
        assert!(log_files(&path) <= 2, "round {round}: {} files", log_files(&path));
        assert_after_a_cut(&path, through + 1, next - 1);
        // Cut to the end, one is enough.
        let through = next - 1;
        let members = Members::new(&[1]).unwrap();
        let cut = Batch {
            snapshot: Some(SnapshotMeta { index: through, term: 1, members, data: b"data".to_vec() }),
            compact: Some(Boundary { index: through, term: 1 }),
            ..Batch::default()
        };
        append(&mut store, &cut).unwrap();
        assert_eq!(log_files(&path), 1, "round {round}");
        assert_after_a_cut(&path, next, next - 1);
        assert_eq!(store.identity().node, 1);
    }
    drop(store);
    let store = EngineStore::open(&path).unwrap();
    assert_eq!((store.identity().node, store.latest_snapshot().unwrap().index), (1, next - 1));
    assert_eq!(store.initial_state().unwrap().hard_state.term, 1);
}
