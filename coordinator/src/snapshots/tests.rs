//! Snapshot files on a real disk: kept, damaged, fetched in pieces.

#![allow(clippy::unwrap_used)]

use super::{
    fetch::{Arriving, PIECE_BYTES, Piece, PieceError},
    *,
};
use crate::files::OsFiles;
use matrixai_proto::v1;
use prost::Message as _;

fn genesis() -> Vec<u8> {
    v1::Genesis {
        format: 1,
        network: "test".to_owned(),
        test_network: true,
        nodes: vec![v1::GenesisNode {
            id: 1,
            key: vec![1; 32],
            grpc: "127.0.0.1:7001".to_owned(),
            web: "127.0.0.1:8001".to_owned(),
        }],
        admin_keys: vec![vec![9; 32]],
        faucet_daily: "1000".to_owned(),
        faucet_total: "100000".to_owned(),
        fee_bp: 100,
        beat_ms: 1_000,
        r0: vec![7; 32],
        machine_timeout_ms: 3_000,
        epoch_beats: 2,
        created_ms: 1_900_000_000_000,
        ..v1::Genesis::default()
    }
    .encode_to_vec()
}

/// A state with `entries` entries applied. They are empty, as a new leader's are.
fn state(entries: u64) -> State {
    let mut state = State::genesis(&genesis()).unwrap();
    for index in 1..=entries {
        state.apply(index, &[]);
    }
    state
}

fn saved(snapshots: &Snapshots, entries: u64) -> Reference {
    let state = state(entries);
    snapshots.save(&Header::of(&state, 3, vec![1, 2, 3]), &state).unwrap()
}

fn open(dir: &Path) -> Snapshots {
    Snapshots::open(Arc::new(OsFiles), dir).unwrap()
}

fn newest(snapshots: &Snapshots) -> Option<Loaded> {
    snapshots.newest(state(0).cluster_id()).unwrap()
}

#[test]
fn the_newest_two_are_kept_and_come_back_as_they_were() {
    let temp = tempfile::tempdir().unwrap();
    let snapshots = open(temp.path());
    assert!(newest(&snapshots).is_none());
    let references: Vec<Reference> = (1..=3).map(|entries| saved(&snapshots, entries)).collect();
    assert_eq!(snapshots.indices().unwrap(), [2, 3]);
    let loaded = newest(&snapshots).unwrap();
    assert_eq!((loaded.header.term, loaded.header.members.as_slice()), (3, &[1, 2, 3][..]));
    assert_eq!(loaded.state.root(), state(3).root());
    assert_eq!(loaded.reference, references[2]);
    assert_eq!(Reference::decode(&references[2].encode()), Some(references[2].clone()));
}

/// Bytes all over the newest file, flipped or missing: the one before it serves, and the damaged one is set aside.
#[test]
fn a_damaged_snapshot_is_set_aside_for_the_one_before_it() {
    let whole = tempfile::tempdir().unwrap();
    let reference = saved(&open(whole.path()), 2);
    let bytes = std::fs::read(whole.path().join(reference.name())).unwrap();
    for at in (0..bytes.len()).step_by(97) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        for damaged in [flipped, bytes[..at].to_vec()] {
            let temp = tempfile::tempdir().unwrap();
            let snapshots = open(temp.path());
            saved(&snapshots, 1);
            std::fs::write(temp.path().join(reference.name()), damaged).unwrap();
            let loaded = newest(&snapshots).unwrap();
            assert_eq!(loaded.header.index, 1, "byte {at}");
            assert_eq!(snapshots.indices().unwrap(), [1]);
            assert!(OsFiles.list(temp.path()).unwrap().iter().any(|name| name.ends_with(DAMAGED)));
        }
    }
}

#[test]
fn a_file_is_fetched_in_pieces_over_interruptions() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (from, to) = (open(from.path()), open(to.path()));
    let reference = saved(&from, 5);
    let half = usize::try_from(reference.bytes / 2).unwrap();
    let piece = |offset, len: usize| Piece::new(offset, from.read(&reference, offset, len).unwrap());

    let mut arriving = Arriving::begin(&to, reference.clone()).unwrap();
    assert_eq!(arriving.next(), Some(0));
    arriving.take(&piece(0, half)).unwrap();
    let mut wrong = piece(half as u64, PIECE_BYTES);
    wrong.bytes[0] ^= 1;
    assert!(matches!(arriving.take(&wrong), Err(PieceError::Wrong { .. })), "its checksum");
    assert!(matches!(arriving.take(&piece(0, half)), Err(PieceError::Wrong { .. })), "not the next");
    drop(arriving);

    let to = open(&to.dir);
    let mut arriving = Arriving::begin(&to, reference.clone()).unwrap();
    assert_eq!(arriving.next(), Some(half as u64), "it goes on where it stopped");
    arriving.take(&piece(half as u64, PIECE_BYTES)).unwrap();
    assert_eq!(arriving.next(), None);
    arriving.install().unwrap();
    assert_eq!(newest(&to).unwrap().reference, reference);
}

#[test]
fn a_fetched_file_that_is_not_the_named_one_is_not_installed() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (from, to) = (open(from.path()), open(to.path()));
    let reference = saved(&from, 5);
    let named = Reference { hash: [1; 32], ..reference.clone() };
    let mut arriving = Arriving::begin(&to, named).unwrap();
    arriving.take(&Piece::new(0, from.read(&reference, 0, PIECE_BYTES).unwrap())).unwrap();
    assert!(matches!(arriving.install(), Err(Error::Foreign { .. })));
    assert!(newest(&to).is_none());
    assert_eq!(OsFiles.list(&to.dir).unwrap(), [""; 0]);
}
