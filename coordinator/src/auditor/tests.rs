//! An honest log passes; every kind of tampering is named at the place where it was done.

#![allow(clippy::unwrap_used)]

pub(crate) mod maker;

use super::*;
use crate::{
    archive::{Archive, Entry, Shelf, format},
    files::OsFiles,
};
use maker::{Maker, change, genesis, signer};
use matrixai_proto::v1::{self, Envelope, command::Kind as Command};
use matrixai_state::ids::AccountId;
use prost::Message as _;
use std::{fs, path::Path, sync::Arc};

/// Epochs of the logs below.
const EPOCHS: usize = 4;

fn audit(entries: &[Entry]) -> Result<Verdict, AuditError> {
    let auditor = Auditor::genesis(&genesis()).unwrap();
    run(auditor, entries.iter().cloned().map(Ok), |_| {})
}

fn difference(entries: &[Entry]) -> Difference {
    match audit(entries) {
        Err(AuditError::Difference(difference)) => difference,
        other => panic!("no difference was found: {other:?}"),
    }
}

/// The log's closed epochs in a folder, sealed.
fn sealed(log: &Maker, entries: &[Entry], part_bytes: u64) -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    let archive = Archive::open(Arc::new(OsFiles), temp.path(), *log.state.cluster_id()).unwrap();
    let mut archive = archive.with_part_bytes(part_bytes);
    for head in &log.heads {
        archive.closed(head.epoch, head.index);
    }
    for entry in entries {
        archive.append(entry).unwrap();
    }
    archive.drop_unfinished();
    temp
}

fn audit_folder(folder: &Path, genesis: &[u8]) -> Result<Verdict, AuditError> {
    let auditor = Auditor::genesis(genesis).unwrap();
    let cluster_id = *auditor.state().cluster_id();
    let (shelf, broken) = Shelf::inspect(Arc::new(OsFiles), folder, cluster_id).unwrap();
    run(auditor, source::segments(&shelf, Head::genesis(cluster_id), broken), |_| {})
}

fn difference_in(folder: &Path) -> Difference {
    match audit_folder(folder, &genesis()) {
        Err(AuditError::Difference(difference)) => difference,
        other => panic!("no difference was found: {other:?}"),
    }
}

/// Where the frame of each entry begins in a segment's only part, and where the last one ends.
fn frames(entries: &[Entry]) -> Vec<usize> {
    let mut at = format::HEADER_BYTES;
    let mut frames = vec![at];
    for entry in entries {
        at += format::FRAME_BYTES + entry.data.len();
        frames.push(at);
    }
    frames
}

/// The entries of an epoch.
fn of_epoch(log: &Maker, epoch: usize) -> &[Entry] {
    let place = |head: Head| usize::try_from(head.index).unwrap();
    &log.entries[place(log.heads[epoch - 1])..place(log.heads[epoch])]
}

#[test]
fn an_honest_log_passes_from_memory_and_from_segments() {
    let log = Maker::log(EPOCHS);
    let verdict = audit(&log.entries).unwrap();
    assert_eq!(verdict.index, log.entries.len() as u64);
    assert_eq!(verdict.root, log.state.root());
    assert_eq!(verdict.money, 2_000);
    let counts = verdict.counts;
    assert_eq!((counts.epochs, counts.roots, counts.segments), (4, 3, 3), "the newest is not attested yet");
    assert_eq!(verdict.attested, Some(log.heads[3]));
    assert!(counts.commands > counts.envelopes && counts.envelopes > counts.entries, "{counts:?}");

    // Small parts: every segment lies in several files.
    let folder = sealed(&log, &log.entries, 300);
    let verdict = audit_folder(folder.path(), &genesis()).unwrap();
    assert_eq!(verdict.index, log.heads[EPOCHS].index);
    assert!(fs::read_dir(folder.path()).unwrap().count() > 2 * EPOCHS);
}

#[test]
fn an_audit_from_an_epoch_replays_everything_and_counts_the_rest() {
    let log = Maker::log(EPOCHS);
    let whole = audit(&log.entries).unwrap();
    let from = |epoch, entries: &[Entry]| {
        let auditor = Auditor::genesis(&genesis()).unwrap().counting_from(epoch);
        run(auditor, entries.iter().cloned().map(Ok), |_| {})
    };
    assert_eq!(from(1, &log.entries).unwrap(), whole, "the first is all of them");
    let third = from(3, &log.entries).unwrap();
    let of = |epoch| of_epoch(&log, epoch).len() as u64;
    let (counts, all) = (third.counts, whole.counts);
    assert_eq!(counts.entries, all.entries - of(1) - of(2));
    assert_eq!(
        (counts.epochs, counts.roots, counts.segments),
        (2, 1, 1),
        "the third, and the fourth has no majority yet"
    );
    assert!(counts.envelopes < all.envelopes && counts.commands < all.commands && counts.movements < all.movements);
    assert_eq!((third.root, third.money, third.attested), (whole.root, whole.money, whole.attested));

    // What comes before is checked as well.
    let mut entries = log.entries.clone();
    let first = entries[2].data.len() - 1;
    entries[2].data[first] ^= 1;
    assert!(matches!(from(3, &entries), Err(AuditError::Difference(found)) if found.index == 3));
    let Err(AuditError::Source(why)) = from(9, &log.entries) else { panic!("epoch 9 is not there") };
    assert!(why.contains("epoch 9 has not begun"), "{why}");
}

#[test]
fn an_audit_of_nothing_is_no_verdict() {
    let Err(AuditError::Source(why)) = audit(&[]) else { panic!("nothing was found to be good") };
    assert!(why.contains("nothing was audited"), "{why}");
}

#[test]
fn a_flipped_byte_is_named_by_its_entry() {
    let log = Maker::log(EPOCHS);
    let whole = sealed(&log, &log.entries, u64::MAX);
    let path = whole.path().join("000000000002-0000.seg");
    let honest = fs::read(&path).unwrap();
    let (entries, frames) = (of_epoch(&log, 2), frames(of_epoch(&log, 2)));
    // The tag, the kind, the index, the hash and the bytes of the third entry.
    for offset in [0, 5, 8, 30, format::FRAME_BYTES + 40] {
        let mut bytes = honest.clone();
        bytes[frames[2] + offset] ^= 1;
        fs::write(&path, bytes).unwrap();
        let found = difference_in(whole.path());
        assert_eq!((found.what, found.index, found.through), (What::Log, entries[2].index, entries[2].index));
    }
    // The header, and the seal.
    let mut bytes = honest.clone();
    bytes[60] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(difference_in(whole.path()).index, entries[0].index);
    let mut bytes = honest.clone();
    let last = bytes.len() - 40;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    let found = difference_in(whole.path());
    assert_eq!((found.what, found.through), (What::Log, log.heads[2].index));
}

#[test]
fn frames_dropped_swapped_or_cut_off_are_named() {
    let log = Maker::log(EPOCHS);
    let folder = sealed(&log, &log.entries, u64::MAX);
    let path = folder.path().join("000000000003-0000.seg");
    let honest = fs::read(&path).unwrap();
    let (entries, frames) = (of_epoch(&log, 3), frames(of_epoch(&log, 3)));

    fs::write(&path, [&honest[..frames[1]], &honest[frames[2]..]].concat()).unwrap();
    let found = difference_in(folder.path());
    assert_eq!((found.what, found.index), (What::Log, entries[1].index));
    assert!(found.found.contains(&format!("found entry {}", entries[2].index)), "{found}");

    let (one, two) = (&honest[frames[1]..frames[2]], &honest[frames[2]..frames[3]]);
    fs::write(&path, [&honest[..frames[1]], two, one, &honest[frames[3]..]].concat()).unwrap();
    let found = difference_in(folder.path());
    assert_eq!((found.what, found.index), (What::Log, entries[1].index));
    assert!(found.found.contains(&format!("found entry {}", entries[2].index)), "{found}");

    for cut in [frames[2], frames[2] + 9] {
        fs::write(&path, &honest[..cut]).unwrap();
        let found = difference_in(folder.path());
        assert_eq!((found.what, found.index), (What::Log, entries[2].index), "{found}");
        assert!(found.found.contains("ends after entry"), "{found}");
    }

    fs::remove_file(&path).unwrap();
    let found = difference_in(folder.path());
    assert_eq!((found.what, found.index), (What::Log, entries[0].index));
    assert!(found.expected.contains("segment 3"), "{found}");
}

#[test]
fn another_genesis_is_another_cluster() {
    let log = Maker::log(EPOCHS);
    let folder = sealed(&log, &log.entries, u64::MAX);
    let mut altered = v1::Genesis::decode(genesis().as_slice()).unwrap();
    altered.fee_bp = 1;
    let altered = altered.encode_to_vec();
    let Err(AuditError::Difference(found)) = audit_folder(folder.path(), &altered) else { panic!("it passed") };
    assert_eq!((found.what, found.index), (What::Log, 1));
    assert!(found.found.contains(&hex::encode(log.state.cluster_id())), "{found}");
    let auditor = Auditor::genesis(&altered).unwrap();
    let found = run(auditor, log.entries.iter().cloned().map(Ok), |_| {}).unwrap_err();
    let AuditError::Difference(found) = found else { panic!("{found}") };
    assert_eq!((found.what, found.index), (What::Cluster, 1));
}

#[test]
fn a_forged_envelope_is_named() {
    let log = Maker::log(EPOCHS);
    let mut entries = log.entries.clone();
    // Somebody else's payload under the second envelope's signature.
    let victim = entries.iter_mut().filter(|entry| entry.index > log.heads[2].index).nth(3).unwrap();
    let (mut index, mut key) = (0, Vec::new());
    let thief = AccountId::of_key(log.state.cluster_id(), &signer(101).public_key()).0.to_vec();
    let transfer = v1::Transfer { to: thief, amount: "500".to_owned(), memo: String::new(), open: false };
    let command = v1::Command { kind: Some(Command::Transfer(transfer)) };
    change(victim, |wire| {
        let mut envelope = Envelope::decode(wire.envelopes[1].as_slice()).unwrap();
        envelope.payload = v1::Batch { commands: vec![command], linked: false }.encode_to_vec();
        key = envelope.key.clone();
        wire.envelopes[1] = envelope.encode_to_vec();
    });
    index += victim.index;
    let found = difference(&entries);
    assert_eq!((found.what, found.index), (What::Signature, index));
    let at = found.envelope.as_ref().unwrap();
    assert_eq!((at.position, at.key.to_vec()), (1, key));
    assert!(found.to_string().contains("envelope 1"), "{found}");
}

/// What no signature covers is covered by the segment's hash, which a majority signed.
#[test]
fn a_changed_stamp_or_order_is_found_in_its_segment() {
    let log = Maker::log(EPOCHS);
    let at = usize::try_from(log.heads[1].index).unwrap() + 1;
    let range = (log.heads[1].index + 1, log.heads[2].index);
    let expected = hex::encode(log.heads[2].hash);

    let mut entries = log.entries.clone();
    change(&mut entries[at], |wire| wire.now_ms += 1);
    let found = difference(&entries);
    assert_eq!((found.what, found.index, found.through), (What::Segment, range.0, range.1));
    assert!(found.expected.contains(&expected), "{found}");

    // The same in a folder whose every checksum fits.
    let folder = sealed(&log, &entries, u64::MAX);
    let found = difference_in(folder.path());
    assert_eq!((found.what, found.index, found.through), (What::Segment, range.0, range.1));

    let mut entries = log.entries.clone();
    change(&mut entries[at - 1], |wire| wire.envelopes.swap(0, 1));
    let found = difference(&entries);
    assert_eq!((found.what, found.index, found.through), (What::Segment, range.0, range.1));

    let mut entries = log.entries.clone();
    entries[at].term += 1;
    assert_eq!(difference(&entries).what, What::Segment);
}

#[test]
fn an_entry_left_out_doubled_or_swapped_with_care_is_found_in_its_segment() {
    let log = Maker::log(EPOCHS);
    let at = usize::try_from(log.heads[1].index).unwrap();
    let renumber = |mut entries: Vec<Entry>| {
        (1..).zip(&mut entries).for_each(|(index, entry)| entry.index = index);
        entries
    };
    let mut left_out = log.entries.clone();
    left_out.remove(at);
    let mut doubled = log.entries.clone();
    doubled.insert(at, log.entries[at].clone());
    let mut swapped = log.entries.clone();
    swapped.swap(at, at + 1);
    for entries in [left_out, doubled, swapped] {
        let found = difference(&renumber(entries));
        assert_eq!((found.what, found.index), (What::Segment, log.heads[1].index + 1), "{found}");
    }
    // Without the numbers changed too, the place itself is named.
    let mut entries = log.entries.clone();
    entries.remove(at);
    let found = difference(&entries);
    assert_eq!((found.what, found.index), (What::Log, log.entries[at].index));
}

/// Nobody has vouched yet for what comes after the last attested epoch; the verdict says from where on.
#[test]
fn what_no_majority_has_signed_yet_is_told() {
    let log = Maker::log(EPOCHS);
    let mut entries = log.entries.clone();
    change(entries.last_mut().unwrap(), |wire| wire.now_ms += 1);
    let verdict = audit(&entries).unwrap();
    assert!(verdict.attested.unwrap().index < entries.last().unwrap().index);
}

#[test]
fn bytes_that_are_no_entry_and_enrolments_without_the_key_are_named() {
    let log = Maker::log(1);
    let mut entries = log.entries.clone();
    entries[3].data.push(0);
    let found = difference(&entries);
    assert_eq!((found.what, found.index), (What::Entry, entries[3].index));

    let mut log = Maker::log(1);
    let enrol = v1::EnrolMachine {
        machine_key: signer(50).public_key().to_vec(),
        possession: vec![1; 64],
        inventory: Some(v1::Inventory { cores: 1, ram_bytes: 1 << 33, ..v1::Inventory::default() }),
    };
    let envelope = log.seal(&signer(101), vec![Command::EnrolMachine(enrol)]);
    log.commit(vec![envelope]);
    let found = difference(&log.entries);
    assert_eq!((found.what, found.index), (What::Possession, log.state.index()));
}

#[test]
fn books_that_do_not_add_up_are_told() {
    let log = Maker::log(1);
    let mut state = State::genesis(&genesis()).unwrap();
    let mut books = books::Books::of(&state);
    for entry in &log.entries {
        let mut movements = state.apply(entry.index, &entry.data).movements;
        books.entry(entry.index, &movements, &state).unwrap();
        if let Some(movement) = movements.first_mut() {
            let mut books = books::Books::of(&State::genesis(&genesis()).unwrap());
            movement.balance_change += 1;
            let found = books.entry(entry.index, &movements, &state).unwrap_err();
            assert_eq!((found.what, found.index), (What::Money, entry.index));
        }
    }
    books.whole(state.index(), &state).unwrap();
    let found = books::Books::of(&State::genesis(&genesis()).unwrap()).whole(9, &state).unwrap_err();
    assert_eq!(found.what, What::Money);
}

/// From a state in the middle of an epoch, everything behind that epoch's close is vouched for.
#[test]
fn an_audit_may_begin_with_a_snapshot() {
    let log = Maker::log(EPOCHS);
    let mut state = State::genesis(&genesis()).unwrap();
    let middle = usize::try_from(log.heads[1].index).unwrap() + 3;
    for entry in &log.entries[..middle] {
        state.apply(entry.index, &entry.data);
    }
    let from = usize::try_from(log.heads[1].index).unwrap();
    let auditor = Auditor::snapshot(state.clone());
    let verdict = run(auditor, log.entries[from..].iter().cloned().map(Ok), |_| {}).unwrap();
    assert_eq!((verdict.counts.roots, verdict.counts.segments), (2, 2));
    assert_eq!(verdict.root, log.state.root());

    // A snapshot that differs in one balance does not get through the close of its epoch.
    let mut forged = state;
    let spare = Maker::log(1).entries;
    forged.apply(middle as u64 + 1, &spare[0].data);
    let auditor = Auditor::snapshot(forged);
    let found = run(auditor, log.entries[from..].iter().cloned().map(Ok), |_| {}).unwrap_err();
    let AuditError::Difference(found) = found else { panic!("{found}") };
    assert_eq!((found.what, found.through), (What::Root, log.heads[2].index), "{found}");
}
