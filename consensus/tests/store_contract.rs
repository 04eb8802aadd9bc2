//! What every log store promises, checked alike for the one on disk and the one in memory.

#![allow(clippy::unwrap_used)]

mod common;

use common::append;
use matrixai_consensus::{
    Batch, Boundary, EngineStore, Identity, LogStore, LogWriter as _, Members, MemoryDisk, MemoryStore, SnapshotMeta,
    StoreError, Write,
};
use raft::{
    GetEntriesContext, Storage, StorageError,
    eraftpb::{Entry, HardState},
};

/// A place where a store can be opened again and again.
trait Place {
    type Store: LogStore;
    fn new() -> Self;
    fn open(&self) -> Self::Store;
}

struct Folder(tempfile::TempDir);

impl Place for Folder {
    type Store = EngineStore;
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn open(&self) -> EngineStore {
        EngineStore::open(&self.0.path().join("deep/log")).unwrap()
    }
}

impl Place for MemoryDisk {
    type Store = MemoryStore;
    fn new() -> Self {
        Self::default()
    }
    fn open(&self) -> MemoryStore {
        MemoryStore::open(self).unwrap()
    }
}

fn entries(range: std::ops::RangeInclusive<u64>, term: u64, bytes: usize) -> Vec<Entry> {
    let entry = |index| Entry { index, term, data: vec![index as u8; bytes].into(), ..Entry::default() };
    range.map(entry).collect()
}

fn hard_state(term: u64, vote: u64, commit: u64) -> Option<HardState> {
    Some(HardState { term, vote, commit, ..HardState::default() })
}

/// What a node writes when it founds its store.
fn founding() -> Batch {
    Batch {
        snapshot: Some(SnapshotMeta { members: Members::new(&[1, 2, 3]).unwrap(), ..SnapshotMeta::default() }),
        identity: Some(Identity { node: 2, incarnation: 1 }),
        ..Batch::default()
    }
}

fn read(store: &impl LogStore, low: u64, high: u64, max_size: Option<u64>) -> Vec<Entry> {
    store.entries(low, high, max_size, GetEntriesContext::empty(false)).unwrap()
}

fn a_new_store_is_empty<P: Place>() {
    let store = P::new().open();
    assert_eq!(store.identity(), Identity::default());
    assert!(!store.initial_state().unwrap().initialized());
    assert_eq!((store.first_index().unwrap(), store.last_index().unwrap(), store.term(0).unwrap()), (1, 0, 0));
    assert!(read(&store, 1, 1, None).is_empty());
}

fn what_was_appended_is_there_at_once_and_after_reopening<P: Place>() {
    let place = P::new();
    let mut store = place.open();
    append(&mut store, &founding()).unwrap();
    let first = Batch { entries: entries(1..=3, 1, 10), hard_state: hard_state(1, 2, 0), ..Batch::default() };
    append(&mut store, &first).unwrap();
    append(&mut store, &Batch { entries: entries(4..=5, 2, 0), hard_state: hard_state(2, 0, 4), ..Batch::default() })
        .unwrap();
    let expected = [entries(1..=3, 1, 10), entries(4..=5, 2, 0)].concat();
    let check = |store: &P::Store| {
        assert_eq!(read(store, 1, 6, None), expected);
        assert_eq!(read(store, 3, 5, None), expected[2..4]);
        let state = store.initial_state().unwrap();
        assert_eq!(Some(state.hard_state), hard_state(2, 0, 4));
        assert_eq!(store.latest_snapshot(), founding().snapshot.as_ref());
        assert_eq!(Some(store.identity()), founding().identity);
        assert_eq!((0..=5).map(|index| store.term(index).unwrap()).collect::<Vec<_>>(), [0, 1, 1, 1, 2, 2]);
        assert_eq!(store.last_index().unwrap(), 5);
    };
    check(&store);
    drop(store);
    for _ in 0..3 {
        check(&place.open());
    }
}

fn a_new_leaders_entries_replace_the_rest_of_the_log<P: Place>() {
    let place = P::new();
    let mut store = place.open();
    append(&mut store, &founding()).unwrap();
    append(&mut store, &Batch { entries: entries(1..=9, 1, 5), hard_state: hard_state(1, 0, 3), ..Batch::default() })
        .unwrap();
    append(&mut store, &Batch { entries: entries(4..=5, 3, 7), hard_state: hard_state(3, 0, 3), ..Batch::default() })
        .unwrap();
    let expected = [entries(1..=3, 1, 5), entries(4..=5, 3, 7)].concat();
    let check = |store: &P::Store| {
        assert_eq!(read(store, 1, 6, None), expected);
        assert_eq!((store.last_index().unwrap(), store.term(4).unwrap()), (5, 3));
        let beyond = store.entries(5, 7, None, GetEntriesContext::empty(false));
        assert_eq!(beyond, Err(raft::Error::Store(StorageError::Unavailable)));
        assert_eq!(store.term(6), Err(raft::Error::Store(StorageError::Unavailable)));
    };
    check(&store);
    drop(store);
    check(&place.open());
}

fn reads_stop_at_their_size_but_return_one<P: Place>() {
    let place = P::new();
    let mut store = place.open();
    append(&mut store, &founding()).unwrap();
    let batch = Batch { entries: entries(1..=100, 1, 1000), hard_state: hard_state(1, 0, 0), ..Batch::default() };
    append(&mut store, &batch).unwrap();
    let check = |store: &P::Store| {
        assert_eq!(read(store, 10, 101, Some(0)).len(), 1);
        assert_eq!(read(store, 10, 101, Some(5500)).len(), 5);
        assert_eq!(read(store, 10, 101, Some(u64::MAX)).len(), 91);
        assert_eq!(
            store.entries(0, 5, None, GetEntriesContext::empty(false)),
            Err(raft::Error::Store(StorageError::Compacted))
        );
    };
    check(&store);
    drop(store);
    check(&place.open());
}

fn batches_that_fit_no_log_are_refused_unwritten<P: Place>() {
    let place = P::new();
    let mut store = place.open();
    append(&mut store, &founding()).unwrap();
    append(&mut store, &Batch { entries: entries(1..=3, 2, 1), hard_state: hard_state(2, 0, 0), ..Batch::default() })
        .unwrap();
    let batch = |entries| Batch { entries, hard_state: hard_state(3, 0, 0), ..Batch::default() };
    let torn = [entries(4..=4, 3, 1), entries(6..=6, 3, 1)].concat();
    let falling = [entries(4..=4, 3, 1), entries(5..=5, 2, 1)].concat();
    for (what, wrong) in [
        ("a gap", batch(entries(5..=5, 3, 1))),
        ("a gap inside", batch(torn)),
        ("index 0", batch(entries(0..=0, 3, 1))),
        ("a falling term", batch(falling)),
        ("a term before the log's", batch(entries(4..=4, 1, 1))),
        ("a commit beyond the end", Batch { hard_state: hard_state(3, 0, 4), ..Batch::default() }),
        ("a term below the entries'", Batch { hard_state: hard_state(1, 0, 0), ..Batch::default() }),
    ] {
        assert!(matches!(append(&mut store, &wrong), Err(StoreError::Io { .. })), "{what}");
        assert_eq!(store.last_index().unwrap(), 3, "{what}");
    }
    drop(store);
    assert_eq!(place.open().last_index().unwrap(), 3);
}

fn large_logs_come_back_whole<P: Place>() {
    let place = P::new();
    let mut store = place.open();
    append(&mut store, &founding()).unwrap();
    // More than is kept in memory or read at a time, in entries that compress to nothing and some that are not
    // compressed.
    for chunk in 0..20 {
        let from = chunk * 50 + 1;
        let bytes = if chunk % 2 == 0 { 40_000 } else { 60 };
        let batch = Batch {
            entries: entries(from..=from + 49, 1, bytes),
            hard_state: hard_state(1, 0, from),
            ..Batch::default()
        };
        append(&mut store, &batch).unwrap();
    }
    drop(store);
    let store = place.open();
    assert_eq!(store.last_index().unwrap(), 1000);
    let mut index = 1;
    while index <= 1000 {
        for entry in read(&store, index, 1001, Some(1 << 20)) {
            assert_eq!((entry.index, entry.data.iter().all(|&byte| byte == index as u8)), (index, true));
            index += 1;
        }
    }
}

fn what_is_staged_is_readable_and_lost_without_a_write<P: Place>() {
    let place = P::new();
    let mut store = place.open();
    append(&mut store, &founding()).unwrap();
    append(&mut store, &Batch { entries: entries(1..=9, 1, 40), hard_state: hard_state(1, 0, 3), ..Batch::default() })
        .unwrap();
    // A new leader's entries replace some, twice, and neither has reached the disk.
    let second = Batch { entries: entries(5..=6, 2, 7), hard_state: hard_state(2, 0, 3), ..Batch::default() };
    let third = Batch { entries: entries(6..=8, 3, 9), hard_state: hard_state(3, 0, 4), ..Batch::default() };
    let writes = [Write::new(1_000_001, second), Write::new(1_000_007, third)];
    for write in &writes {
        store.stage(write).unwrap();
    }
    let staged = [entries(1..=4, 1, 40), entries(5..=5, 2, 7), entries(6..=8, 3, 9)].concat();
    assert_eq!(read(&store, 1, 9, None), staged);
    assert_eq!((store.last_index().unwrap(), store.term(5).unwrap()), (8, 2));
    drop(store);
    let mut store = place.open();
    assert_eq!(read(&store, 1, 10, None), entries(1..=9, 1, 40), "the power was cut before the write");
    // Both in one group.
    for write in &writes {
        store.stage(write).unwrap();
    }
    store.writer().write(&writes).unwrap();
    store.settled(1_000_007);
    assert_eq!(read(&store, 1, 9, None), staged);
    drop(store);
    let store = place.open();
    assert_eq!(read(&store, 1, 9, None), staged);
    assert_eq!(Some(store.initial_state().unwrap().hard_state), hard_state(3, 0, 4));
}

fn taken(index: u64, term: u64) -> Option<SnapshotMeta> {
    let members = Members::new(&[1, 2, 3]).unwrap();
    Some(SnapshotMeta { index, term, members, data: b"hash of the data".to_vec() })
}

fn a_log_cut_behind_a_snapshot_starts_there<P: Place>() {
    let place = P::new();
    let mut store = place.open();
    append(&mut store, &founding()).unwrap();
    append(&mut store, &Batch { entries: entries(1..=4, 1, 9), hard_state: hard_state(1, 0, 4), ..Batch::default() })
        .unwrap();
    append(&mut store, &Batch { entries: entries(5..=9, 2, 9), hard_state: hard_state(2, 0, 8), ..Batch::default() })
        .unwrap();
    let behind = |index, term| Batch { compact: Some(Boundary { index, term }), ..Batch::default() };
    for wrong in [behind(3, 1), behind(5, 1), behind(10, 2)] {
        assert!(append(&mut store, &wrong).is_err(), "no snapshot, another term, beyond the end: {wrong:?}");
    }
    append(&mut store, &Batch { snapshot: taken(7, 2), ..behind(4, 1) }).unwrap();
    append(&mut store, &behind(6, 2)).unwrap();
    let check = |store: &P::Store, last: u64| {
        assert_eq!((store.first_index().unwrap(), store.last_index().unwrap()), (7, last));
        assert_eq!((store.term(6).unwrap(), store.term(7).unwrap()), (2, 2));
        assert_eq!(store.term(5), Err(raft::Error::Store(StorageError::Compacted)));
        let gone = Err(raft::Error::Store(StorageError::Compacted));
        assert_eq!(store.entries(6, 8, None, GetEntriesContext::empty(false)), gone);
        assert_eq!(read(store, 7, 10, None), entries(7..=9, 2, 9));
        assert_eq!(store.latest_snapshot(), taken(7, 2).as_ref());
        assert_eq!(Some(store.identity()), founding().identity);
    };
    check(&store, 9);
    drop(store);
    let mut store = place.open();
    check(&store, 9);
    assert_eq!(store.snapshot(0, 3).unwrap().data, b"hash of the data"[..]);
    assert!(!store.take_snapshot_wanted());
    for (request, to) in [(8, 3), (0, 4)] {
        let later = Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        assert_eq!(store.snapshot(request, to), later, "newer than there is, or for a stranger");
        assert!(store.take_snapshot_wanted());
    }
    append(&mut store, &Batch { entries: entries(10..=10, 2, 1), ..Batch::default() }).unwrap();
    // Cut to the end, an empty log goes on where it was.
    append(&mut store, &Batch { snapshot: taken(10, 2), hard_state: hard_state(2, 0, 10), ..behind(10, 2) }).unwrap();
    drop(store);
    let mut store = place.open();
    assert_eq!((store.first_index().unwrap(), store.last_index().unwrap(), store.term(10).unwrap()), (11, 10, 2));
    append(&mut store, &Batch { entries: entries(11..=12, 2, 1), ..Batch::default() }).unwrap();
    drop(store);
    assert_eq!(read(&place.open(), 11, 13, None), entries(11..=12, 2, 1));
}

fn a_log_goes_on_behind_an_installed_snapshot<P: Place>() {
    let place = P::new();
    let mut store = place.open();
    append(&mut store, &founding()).unwrap();
    append(&mut store, &Batch { entries: entries(1..=9, 1, 9), hard_state: hard_state(1, 0, 2), ..Batch::default() })
        .unwrap();
    // One that ends inside the log, of another term, and one far behind its end.
    for (index, term) in [(5, 2), (500, 4)] {
        let restart = Batch {
            restart: Some(Boundary { index, term }),
            snapshot: taken(index, term),
            hard_state: hard_state(term, 0, index),
            ..Batch::default()
        };
        append(&mut store, &restart).unwrap();
        let next = Batch { entries: entries(index + 1..=index + 3, term, 9), ..Batch::default() };
        append(&mut store, &next).unwrap();
        drop(store);
        store = place.open();
        assert_eq!((store.first_index().unwrap(), store.last_index().unwrap()), (index + 1, index + 3));
        assert_eq!(store.term(index).unwrap(), term);
        assert_eq!(read(&store, index + 1, index + 4, None), entries(index + 1..=index + 3, term, 9));
    }
}

macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod engine { $(#[test] fn $name() { super::$name::<super::Folder>(); })* }
        mod memory { $(#[test] fn $name() { super::$name::<super::MemoryDisk>(); })* }
    };
}

contract!(
    a_new_store_is_empty,
    what_was_appended_is_there_at_once_and_after_reopening,
    a_new_leaders_entries_replace_the_rest_of_the_log,
    reads_stop_at_their_size_but_return_one,
    batches_that_fit_no_log_are_refused_unwritten,
    large_logs_come_back_whole,
    what_is_staged_is_readable_and_lost_without_a_write,
    a_log_cut_behind_a_snapshot_starts_there,
    a_log_goes_on_behind_an_installed_snapshot,
);

#[test]
fn a_folder_is_open_only_once() {
    let folder = Folder::new();
    let _open = folder.open();
    let path = folder.0.path().join("deep/log");
    assert_eq!(EngineStore::open(&path).unwrap_err(), StoreError::Locked { path });
}

#[test]
fn a_path_that_cannot_be_a_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, b"").unwrap();
    let error = EngineStore::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }) && error.to_string().contains("file"), "{error}");
}
