//! What reaches the disk before what leaves the node, and what a log survives: a power cut at any write, a torn tail;
//! and what it must not survive: a flipped bit, a missing file.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use common::{
    append,
    recorder::{Event, Pending, Recorder, copy, cut_power_of, noise},
};
use matrixai_consensus::{
    Batch, EngineStore, Identity, LogStore, LogWriter as _, MemoryDisk, MemoryStore, Message, Node, NodeConfig, Role,
    Start, StoreError,
};
use raft::{
    GetEntriesContext, Storage,
    eraftpb::{Entry, HardState},
};

const APPEND: u8 = 3;
const APPEND_RESPONSE: u8 = 4;
const VOTE_REQUEST: u8 = 5;
const VOTE: u8 = 6;

/// Runs cycles of a node until nothing is ready, noting what leaves it; its messages are returned.
fn drain<S: LogStore>(node: &mut Node<S>, recorder: &Recorder) -> Vec<Message> {
    let mut sent = Vec::new();
    let mut writer = node.writer();
    while node.has_ready() {
        let mut send = |messages: Vec<Message>| {
            // The first field of a message is its type.
            messages.iter().for_each(|message| recorder.note(Event::Sent(message.bytes[1])));
            sent.extend(messages);
        };
        let output = node.ready(&mut send).unwrap();
        for entry in output.committed {
            recorder.note(Event::Committed(entry.index));
        }
        if let Some(write) = output.write {
            writer.write(std::slice::from_ref(&write)).unwrap();
            node.written(write.number(), &mut send).unwrap();
        }
    }
    sent
}

/// Asserts that everything written before the first `event` from `from` on was synced before it.
#[track_caller]
fn assert_synced_before(events: &[Event], event: Event) {
    let at = events.iter().position(|&other| other == event).unwrap_or_else(|| panic!("no {event:?} in {events:?}"));
    let last = events[..at].iter().rev().find(|event| matches!(event, Event::Write | Event::Sync));
    assert_eq!(last, Some(&Event::Sync), "{event:?} left before the sync: {events:?}");
    assert!(events[..at].contains(&Event::Write), "{event:?} left before anything was written: {events:?}");
}

fn recorded(id: u64, voters: &[u64]) -> (tempfile::TempDir, Recorder, Node<EngineStore<Recorder>>) {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::default();
    let store = EngineStore::open_with_file_system(&folder.path().join("log"), Arc::new(recorder.clone())).unwrap();
    let node = Node::open(NodeConfig::new(id, 1), store, &Start::genesis(voters).unwrap()).unwrap();
    (folder, recorder, node)
}

#[test]
fn founding_a_store_is_synced() {
    let (_folder, recorder, _node) = recorded(1, &[1, 2]);
    assert_eq!(recorder.lock().events.last(), Some(&Event::Sync));
    assert!(recorder.lock().pending.iter().all(|pending| pending.path.extension().unwrap() == "rewrite"));
}

#[test]
fn a_cluster_of_one_returns_an_entry_only_after_its_sync() {
    let (_folder, recorder, mut node) = recorded(1, &[1]);
    node.campaign().unwrap();
    drain(&mut node, &recorder);
    assert_eq!(node.status().role, Role::Leader);
    recorder.lock().events.clear();
    node.propose(b"alpha".to_vec()).unwrap();
    node.propose(b"beta".to_vec()).unwrap();
    drain(&mut node, &recorder);
    let events = recorder.lock().events.clone();
    assert_eq!(events, [Event::Write, Event::Sync, Event::Committed(2), Event::Committed(3)]);
}

/// The other node of a cluster of two; its disk is of no interest.
fn peer() -> Node<MemoryStore> {
    let store = MemoryStore::open(&MemoryDisk::new()).unwrap();
    Node::open(NodeConfig::new(1, 1), store, &Start::genesis(&[1, 2]).unwrap()).unwrap()
}

/// Carries messages between the two until neither has any.
fn exchange(node: &mut Node<EngineStore<Recorder>>, recorder: &Recorder, peer: &mut Node<MemoryStore>) {
    while node.has_ready() || peer.has_ready() {
        for message in drain(node, recorder) {
            peer.step(&message.bytes).unwrap();
        }
        for message in drain(peer, &Recorder::default()) {
            node.step(&message.bytes).unwrap();
        }
    }
}

#[test]
fn a_follower_votes_and_acknowledges_only_after_its_sync() {
    let mut peer = peer();
    let (_folder, recorder, mut node) = recorded(2, &[1, 2]);
    recorder.lock().events.clear();
    peer.campaign().unwrap();
    exchange(&mut node, &recorder, &mut peer);
    assert_eq!(peer.status().role, Role::Leader);
    assert_synced_before(&recorder.lock().events, Event::Sent(VOTE));

    recorder.lock().events.clear();
    peer.propose(b"alpha".to_vec()).unwrap();
    exchange(&mut node, &recorder, &mut peer);
    assert_synced_before(&recorder.lock().events, Event::Sent(APPEND_RESPONSE));
    assert_synced_before(&recorder.lock().events, Event::Committed(2));
}

#[test]
fn a_candidate_syncs_its_own_vote_first_and_a_leader_sends_while_it_writes() {
    let mut peer = peer();
    let (_folder, recorder, mut node) = recorded(2, &[1, 2]);
    recorder.lock().events.clear();
    node.campaign().unwrap();
    exchange(&mut node, &recorder, &mut peer);
    assert_eq!(node.status().role, Role::Leader);
    assert_synced_before(&recorder.lock().events, Event::Sent(VOTE_REQUEST));

    // An append promises nothing about the sender's disk, so it need not wait; the entry is committed after both
    // synced.
    recorder.lock().events.clear();
    node.propose(b"alpha".to_vec()).unwrap();
    exchange(&mut node, &recorder, &mut peer);
    let events = recorder.lock().events.clone();
    assert_eq!(events[..3], [Event::Sent(APPEND), Event::Write, Event::Sync]);
    assert!(events[3..].contains(&Event::Committed(2)));
}

fn hard_state(term: u64, commit: u64) -> Option<HardState> {
    Some(HardState { term, commit, ..HardState::default() })
}

fn founding() -> Batch {
    Batch { hard_state: hard_state(1, 0), identity: Some(Identity { node: 1, incarnation: 1 }), ..Batch::default() }
}

fn entry(index: u64, bytes: usize) -> Batch {
    let entry = Entry { index, term: 1, data: noise(index, bytes).into(), ..Entry::default() };
    Batch { entries: vec![entry], hard_state: hard_state(1, index - 1), ..Batch::default() }
}

/// Sizes of entries that end in one sector, span a few, and are long enough to be compressed.
const SIZES: [usize; 12] = [1, 60, 400, 512, 700, 1_500, 3, 5_000, 8_000, 9_000, 30_000, 2];

/// Asserts that a log holds the entries of [`SIZES`] up to at least `acknowledged`, and returns how many it holds.
#[track_caller]
fn assert_log(path: &Path, acknowledged: u64) -> u64 {
    let store = EngineStore::open(path).unwrap();
    let last = store.last_index().unwrap();
    assert!(last >= acknowledged, "{last} entries left of {acknowledged} acknowledged");
    for entry in store.entries(1, last + 1, None, GetEntriesContext::empty(false)).unwrap() {
        assert_eq!(entry.data, noise(entry.index, SIZES[entry.index as usize - 1]));
    }
    last
}

/// Asserts what a power cut before a sync would leave: everything acknowledged, and a log as good as new.
fn cut_power(folder: &Path, pending: &[Pending], acknowledged: u64) {
    if acknowledged == 0 {
        return;
    }
    cut_power_of(folder, pending, acknowledged, |after| {
        let last = assert_log(after, acknowledged);
        assert!(last <= acknowledged + 1);
        // It can be written, closed and opened.
        let mut store = EngineStore::open(after).unwrap();
        let next = last + 1;
        if next <= SIZES.len() as u64 {
            append(&mut store, &entry(next, SIZES[next as usize - 1])).unwrap();
            drop(store);
            assert_log(after, next);
        }
    });
}

#[test]
fn acknowledged_entries_survive_a_power_cut_at_any_sync() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let recorder = Recorder::default();
    let mut store = EngineStore::open_with_file_system(&path, Arc::new(recorder.clone())).unwrap();
    append(&mut store, &founding()).unwrap();
    let acknowledged = Arc::new(AtomicU64::new(0));
    let known = acknowledged.clone();
    let check = move |folder: &Path, pending: &[Pending]| cut_power(folder, pending, known.load(Ordering::Relaxed));
    recorder.lock().before_sync = Some(Box::new(check));
    for (at, &bytes) in SIZES.iter().enumerate() {
        append(&mut store, &entry(at as u64 + 1, bytes)).unwrap();
        acknowledged.store(at as u64 + 1, Ordering::Relaxed);
    }
    recorder.lock().before_sync = None;
    drop(store);
    assert_eq!(assert_log(&path, SIZES.len() as u64), SIZES.len() as u64);
}

/// A cleanly closed log of [`SIZES`], its one file, and where each record ends.
fn closed_log() -> (tempfile::TempDir, PathBuf, Vec<usize>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let file = path.join("0000000000000001.raftlog");
    append(&mut EngineStore::open(&path).unwrap(), &founding()).unwrap();
    let mut ends = vec![fs::metadata(&file).unwrap().len() as usize];
    for (at, &bytes) in SIZES.iter().enumerate() {
        append(&mut EngineStore::open(&path).unwrap(), &entry(at as u64 + 1, bytes)).unwrap();
        ends.push(fs::metadata(&file).unwrap().len() as usize);
    }
    (folder, file, ends)
}

/// Asserts that the log with these file contents is refused as damaged.
#[track_caller]
fn assert_refused(file: &Path, contents: &[u8], what: &str) {
    let scratch = file.parent().unwrap().with_file_name("scratch");
    copy(file.parent().unwrap(), &scratch);
    fs::write(scratch.join(file.file_name().unwrap()), contents).unwrap();
    match EngineStore::open(&scratch) {
        Err(StoreError::Damaged { .. }) => {}
        other => panic!("{what}: {other:?}"),
    }
    // Refusing changed nothing: a second try refuses as well.
    assert!(EngineStore::open(&scratch).is_err(), "{what}, second try");
}

#[test]
fn a_flipped_bit_anywhere_makes_the_log_refuse_to_open() {
    let (_folder, file, ends) = closed_log();
    let whole = fs::read(&file).unwrap();
    // The file's header and the first records, a sample of the middle, and the last record. The header's
    // last eight bytes are an alignment that nothing was written with and nothing read depends on.
    let dense = (0..53 + 8).chain(53 + 16..ends[2]).step_by(3);
    let sample = (ends[2]..ends[ends.len() - 2]).step_by(397);
    let last = (ends[ends.len() - 2]..whole.len()).step_by(2);
    for at in dense.chain(sample).chain(last) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        assert_refused(&file, &damaged, &format!("byte {at}"));
        if at % 5 == 0 {
            // As after a crash: space is preallocated behind.
            damaged.resize(whole.len() + 10_000, 0);
            assert_refused(&file, &damaged, &format!("byte {at}, with space behind"));
        }
    }
}

#[test]
fn a_torn_tail_is_dropped_and_no_more() {
    let (folder, file, ends) = closed_log();
    let whole = fs::read(&file).unwrap();
    let scratch = folder.path().join("scratch");
    let [.., before, end] = ends[..] else { unreachable!() };
    for cut in before..=end {
        copy(file.parent().unwrap(), &scratch);
        let mut torn = whole[..cut].to_vec();
        // Before preallocated space a cut inside the checksum cannot be told from a wrong one; disks cut at sectors.
        if cut % 2 == 0 && cut <= end - 4 {
            torn.resize(end + 4096, 0);
        }
        fs::write(scratch.join(file.file_name().unwrap()), torn).unwrap();
        let expected = SIZES.len() as u64 - u64::from(cut < end);
        assert_eq!(assert_log(&scratch, expected), expected, "cut at {cut}");
    }
}

#[test]
fn a_log_without_its_beginning_or_middle_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let mut store = EngineStore::open(&path).unwrap();
    append(&mut store, &founding()).unwrap();
    // Three files' worth.
    for index in 1..=66 {
        append(&mut store, &entry(index, 2 << 20)).unwrap();
    }
    drop(store);
    let file = |number| format!("{number:016}.raftlog");
    assert!(path.join(file(3)).exists() && !path.join(file(4)).exists());
    let scratch = folder.path().join("scratch");
    for missing in [1, 2] {
        let _ = fs::remove_dir_all(&scratch);
        fs::create_dir(&scratch).unwrap();
        for number in (1..=3).filter(|&number| number != missing) {
            fs::hard_link(path.join(file(number)), scratch.join(file(number))).unwrap();
        }
        let error = EngineStore::open(&scratch).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "without file {missing}: {error}");
    }
    // A flipped bit in a file that is no longer written to.
    let mut contents = fs::read(path.join(file(2))).unwrap();
    for at in [30, 1 << 20, (2 << 20) + 120, contents.len() - 3] {
        contents[at] ^= 4;
        fs::write(path.join(file(2)), &contents).unwrap();
        let error = EngineStore::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "byte {at}: {error}");
        contents[at] ^= 4;
    }
    fs::write(path.join(file(2)), &contents).unwrap();
    assert_eq!(EngineStore::open(&path).unwrap().last_index().unwrap(), 66);
}
