//! Segments on a disk: sealed, found again, damaged, fetched, removed; and a disk that fills up.

#![allow(clippy::unwrap_used)]

use super::{store::Incoming, *};
use crate::files::{FilesError, OsFiles, full::Full};
use std::{fs, path::Path, sync::Arc};

const CLUSTER: Hash = [7; 32];
/// Entries of each epoch below.
const EPOCH: u64 = 5;

fn entry(index: u64) -> Entry {
    Entry { index, term: 1 + index / 4, data: vec![index as u8; (index * 13 % 50) as usize] }
}

fn open(dir: &Path) -> Archive {
    Archive::open(Arc::new(OsFiles), dir, CLUSTER).unwrap().with_part_bytes(200)
}

/// Appends up to an entry; epochs close with every fifth.
fn fill(archive: &mut Archive, through: u64) {
    for index in archive.next_index()..=through {
        archive.closed(index.div_ceil(EPOCH), index.div_ceil(EPOCH) * EPOCH);
        archive.append(&entry(index)).unwrap();
    }
}

fn read(archive: &Archive, epoch: u64) -> Result<Vec<Entry>, ReadError> {
    archive.shelf().entries(&archive.shelf().get(epoch).unwrap()).collect()
}

#[test]
fn what_was_sealed_is_found_again_and_the_rest_is_wanted_again() {
    let temp = tempfile::tempdir().unwrap();
    let mut archive = open(temp.path());
    fill(&mut archive, 18);
    let head = archive.head();
    assert_eq!((head.epoch, head.index, archive.next_index()), (3, 15, 19));
    // A crash: the unfinished segment's files stay behind.
    drop(archive);
    let mut archive = open(temp.path());
    assert_eq!((archive.head(), archive.next_index()), (head, 16));
    assert!(!fs::read_dir(temp.path()).unwrap().any(|file| file.unwrap().path().extension().unwrap() == "new"));
    for epoch in 1..=3 {
        let wanted: Vec<Entry> = (epoch * EPOCH - 4..=epoch * EPOCH).map(entry).collect();
        assert_eq!(read(&archive, epoch).unwrap(), wanted);
    }
    assert_eq!(archive.shelf().holding(6).unwrap().epoch(), 2);
    assert_eq!(archive.shelf().holding(16), None);
    // The same entries give the same hash, however they were cut into files and lives.
    fill(&mut archive, 20);
    let other = tempfile::tempdir().unwrap();
    let mut at_once = Archive::open(Arc::new(OsFiles), other.path(), CLUSTER).unwrap();
    fill(&mut at_once, 20);
    assert_eq!(at_once.head(), archive.head());
    assert!(archive.shelf().get(4).unwrap().parts > at_once.shelf().get(4).unwrap().parts);
}

#[test]
fn every_entry_counts_and_so_does_what_came_before() {
    let hash = |change: fn(&mut Entry), before: Head| {
        let mut hasher = SegmentHasher::after(before);
        for index in before.index + 1..=before.index + EPOCH {
            let mut entry = entry(index);
            if index == before.index + 3 {
                change(&mut entry);
            }
            hasher.push(index, &hasher::entry_hash(&entry));
        }
        hasher.sealed().head.hash
    };
    let genesis = Head::genesis(CLUSTER);
    let honest = hash(|_| {}, genesis);
    let changes: [fn(&mut Entry); 2] = [|entry| entry.term += 1, |entry| entry.data.push(0)];
    for change in changes {
        assert_ne!(hash(change, genesis), honest);
    }
    assert_ne!(hash(|_| {}, Head { hash: [8; 32], ..genesis }), honest);
    assert_ne!(hash(|_| {}, Head { epoch: 1, ..genesis }), honest);
}

#[test]
fn a_damaged_segment_is_set_aside_and_fetched_again() {
    let temp = tempfile::tempdir().unwrap();
    let mut archive = open(temp.path());
    fill(&mut archive, 20);
    let good = archive.shelf().get(2).unwrap();
    let sent: Vec<Vec<u8>> = archive.shelf().bytes(&good).collect::<Result<_, _>>().unwrap();
    let bytes = sent.concat();

    // Damage inside is found when it is read; damage at the end, when the folder is opened.
    let path = temp.path().join("000000000002-0000.seg");
    let mut flipped = fs::read(&path).unwrap();
    flipped[180] ^= 1;
    fs::write(&path, flipped).unwrap();
    assert!(matches!(read(&archive, 2), Err(ReadError::Damaged { .. })));
    archive.shelf().set_aside(2).unwrap();
    let last = archive.shelf().get(3).unwrap().parts - 1;
    let path = temp.path().join(format!("000000000003-{last:04}.seg"));
    let cut = fs::read(&path).unwrap();
    fs::write(&path, &cut[..cut.len() - 1]).unwrap();
    let archive = open(temp.path());
    assert_eq!(archive.head().epoch, 4);
    assert_eq!((archive.shelf().get(2), archive.shelf().get(3)), (None, None));
    assert!(temp.path().join("000000000002-0000.seg.damaged").exists());

    // The newest missing one first, by the hash that the next names; then the one before it.
    let (epoch, expected) = archive.shelf().missing(1, 4).unwrap();
    assert_eq!((epoch, expected), (3, Some(archive.shelf().get(4).unwrap().before.hash)));
    let elsewhere = tempfile::tempdir().unwrap();
    let mut other = open(elsewhere.path());
    fill(&mut other, 20);
    for epoch in [3, 2] {
        let (missing, expected) = archive.shelf().missing(1, 4).unwrap();
        assert_eq!(missing, epoch);
        let from = other.shelf().get(epoch).unwrap();
        let mut incoming = Incoming::new(archive.shelf().clone(), epoch, expected.unwrap());
        for piece in other.shelf().bytes(&from) {
            piece.unwrap().chunks(17).for_each(|piece| incoming.push(piece).unwrap());
        }
        assert_eq!(incoming.finish().unwrap().sealed, from.sealed);
    }
    assert_eq!(archive.shelf().missing(1, 4), None);
    assert_eq!(read(&archive, 2).unwrap().len(), 5);

    // Another segment than the wanted one, a damaged one and half a one are not taken.
    archive.shelf().set_aside(2).unwrap();
    let incoming = |hash| Incoming::new(archive.shelf().clone(), 2, hash);
    let differs = incoming([1; 32]).push(&bytes).unwrap_err();
    assert!(matches!(differs, ArchiveError::Differs { .. }), "{differs}");
    let mut damaged = bytes.clone();
    damaged[150] ^= 1;
    assert!(matches!(incoming(good.sealed.head.hash).push(&damaged), Err(ArchiveError::Damaged(_))));
    let mut half = incoming(good.sealed.head.hash);
    half.push(&bytes[..bytes.len() - 1]).unwrap();
    assert!(matches!(half.finish(), Err(ArchiveError::Damaged(_))));
    assert_eq!(archive.shelf().get(2), None);
    assert!(!fs::read_dir(temp.path()).unwrap().any(|file| file.unwrap().path().extension().unwrap() == "new"));
}

#[test]
fn a_member_with_a_snapshot_goes_on_behind_it() {
    let temp = tempfile::tempdir().unwrap();
    let mut archive = open(temp.path());
    fill(&mut archive, 5);
    archive.closed(4, 20);
    assert!(archive.lost_the_next_end());
    let elsewhere = tempfile::tempdir().unwrap();
    let mut all = open(elsewhere.path());
    fill(&mut all, 20);
    archive.continue_behind(all.head());
    assert!(!archive.lost_the_next_end());
    fill(&mut archive, 25);
    fill(&mut all, 25);
    assert_eq!(archive.head(), all.head());
    assert_eq!(
        archive.shelf().missing(1, archive.head().epoch).unwrap(),
        (4, Some(all.shelf().get(4).unwrap().sealed.head.hash))
    );
}

#[test]
fn only_the_newest_are_kept_when_told_so() {
    let temp = tempfile::tempdir().unwrap();
    let mut archive = open(temp.path());
    fill(&mut archive, 30);
    archive.shelf().keep_newest(2).unwrap();
    let (oldest, newest) = archive.shelf().ends().unwrap();
    assert_eq!((oldest.epoch(), newest.epoch(), archive.shelf().size().0), (5, 6, 2));
    let names: Vec<_> = fs::read_dir(temp.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(names.len() as u32, oldest.parts + newest.parts);
    assert_eq!(open(temp.path()).head(), newest.sealed.head);
}

#[test]
fn a_full_disk_costs_the_unfinished_segment_only() {
    let temp = tempfile::tempdir().unwrap();
    let room = Full::default();
    let mut archive = Archive::open(Arc::new(room.clone()), temp.path(), CLUSTER).unwrap().with_part_bytes(200);
    fill(&mut archive, 8);
    room.leave(100);
    archive.closed(2, 10);
    let failed = (9..=10).map(|index| archive.append(&entry(index))).find_map(Result::err).unwrap();
    assert!(matches!(failed, FilesError::NoSpace { .. }), "{failed}");
    assert_eq!((archive.head().epoch, archive.next_index()), (1, 6));
    room.leave(i64::MAX);
    fill(&mut archive, 10);
    assert_eq!(read(&archive, 2).unwrap().len(), 5);
}
