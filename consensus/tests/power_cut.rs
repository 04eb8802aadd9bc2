//! A log on disk beside one in memory, the same random writes to both: groups of them, entries that replace others, cuts,
//! restarts behind a snapshot. At every sync the power is cut several times over, and what is left must be the log
//! as it was before the group or after it, never a mixture.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use common::recorder::{Pending, Recorder, cut_power_of, noise};
use matrixai_consensus::{
    Batch, Boundary, EngineStore, Identity, LogStore, LogWriter, Members, MemoryDisk, MemoryStore, SnapshotMeta, Write,
};
use raft::{
    GetEntriesContext, Storage,
    eraftpb::{Entry, HardState},
};

/// Everything a log holds, to compare.
fn describe(store: &impl LogStore) -> String {
    let (first, last) = (store.first_index().unwrap(), store.last_index().unwrap());
    let entries = store.entries(first, last + 1, None, GetEntriesContext::empty(false)).unwrap();
    let front = store.term(first - 1).unwrap();
    let state = store.initial_state().unwrap().hard_state;
    format!("{front} {first} {entries:?} {state:?} {:?} {:?}", store.latest_snapshot(), store.identity())
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// The next write of a node that could have done the ones before.
fn next_batch(store: &MemoryStore, random: &mut Random) -> Batch {
    let HardState { mut term, mut commit, .. } = store.initial_state().unwrap().hard_state;
    let (first, last) = (store.first_index().unwrap(), store.last_index().unwrap());
    let mut batch = Batch::default();
    let members = Members::new(&[1, 2, 3]).unwrap();
    let snapshot = |index, term| SnapshotMeta { index, term, members: members.clone(), data: vec![7; 40] };
    match random.below(10) {
        0 if commit >= first => {
            let index = first + random.below(commit + 1 - first);
            let boundary = Boundary { index, term: store.term(index).unwrap() };
            batch.snapshot = Some(snapshot(commit, store.term(commit).unwrap()));
            batch.compact = Some(boundary);
        }
        1 => {
            term += 1;
            commit = last + random.below(20);
            batch.restart = Some(Boundary { index: commit, term: term - 1 });
            batch.snapshot = Some(snapshot(commit, term - 1));
        }
        2 => term += 1,
        _ => {
            // A new leader replaces what is not committed.
            let from = if random.below(4) == 0 { commit.max(first - 1) + 1 } else { last + 1 };
            term += u64::from(from <= last);
            let count = 1 + random.below(4);
            let sizes = [3, 200, 600, 3_000, 9_000];
            for index in from..from + count {
                let data = noise(index * 31 + term, sizes[random.below(5) as usize]).into();
                batch.entries.push(Entry { index, term, data, ..Entry::default() });
            }
            commit += random.below(from + count - commit);
        }
    }
    batch.hard_state = Some(HardState { term, vote: 1, commit, ..HardState::default() });
    batch
}

#[test]
fn a_power_cut_leaves_the_log_before_a_group_or_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let recorder = Recorder::careless();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut store = EngineStore::open_with_file_system(&path, Arc::new(recorder.clone())).unwrap();
    let mut oracle = MemoryStore::open(&MemoryDisk::new()).unwrap();
    let mut writer = store.writer();
    let founding = Batch {
        identity: Some(Identity { node: 1, incarnation: 1 }),
        hard_state: Some(HardState { term: 1, ..HardState::default() }),
        snapshot: Some(SnapshotMeta { members: Members::new(&[1]).unwrap(), ..SnapshotMeta::default() }),
        ..Batch::default()
    };
    let founding = Write::new(1, founding);
    store.stage(&founding).unwrap();
    oracle.stage(&founding).unwrap();
    writer.write(std::slice::from_ref(&founding)).unwrap();
    store.settled(1);

    let allowed = Arc::new(Mutex::new([String::new(), String::new()]));
    let seen = allowed.clone();
    let check = move |folder: &Path, pending: &[Pending]| {
        let allowed = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        cut_power_of(folder, pending, 1, |after| {
            let store = EngineStore::open_with_file_system(after, Arc::new(Recorder::careless())).unwrap();
            let left = describe(&store);
            assert!(allowed.contains(&left), "{left}\nis neither of\n{allowed:#?}");
        });
    };
    recorder.lock().before_sync = Some(Box::new(check));
    let mut number = 1;
    for _ in 0..10 {
        let before = describe(&oracle);
        let mut group = Vec::new();
        for _ in 0..=random.below(3) {
            number += 1;
            let write = Write::new(number, next_batch(&oracle, &mut random));
            store.stage(&write).unwrap();
            oracle.stage(&write).unwrap();
            group.push(write);
        }
        *allowed.lock().unwrap() = [before, describe(&oracle)];
        writer.write(&group).unwrap();
        store.settled(number);
        assert_eq!(describe(&store), describe(&oracle));
    }
    recorder.lock().before_sync = None;
    drop((store, writer));
    assert_eq!(describe(&EngineStore::open(&path).unwrap()), describe(&oracle));
}
