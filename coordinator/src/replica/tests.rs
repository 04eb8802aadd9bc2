//! Three replicas and their appliers in one thread: the shipped code with messages carried by hand, over logs in memory.

#![allow(clippy::unwrap_used)]

mod plant;

use super::*;
use crate::{
    archive::{Archive, Entry, keeper::Keeper},
    files::OsFiles,
};
use plant::{Plant, create, signer};

/// A quorum with a leader, whose number comes with it.
fn led() -> (Plant, u64) {
    let mut plant = Plant::new(3);
    let leader = plant.until_led();
    (plant, leader)
}

#[test]
fn a_command_is_answered_once_applied_and_is_on_every_replica() {
    let (mut plant, leader) = led();
    plant.submit(leader, 1, &signer(50), create());
    assert!(plant.replies(leader).is_empty(), "nothing is answered before it is applied");
    plant.settle();
    let replies = plant.replies(leader);
    let [(1, Reply::Decided { outcomes, .. })] = replies.as_slice() else { panic!("{replies:?}") };
    assert!(outcomes[0].to_parts().0 == 0, "{outcomes:?}");
    plant.pass(500);
    let roots: Vec<Hash> = plant.views().iter().map(|view| view.root()).collect();
    assert!(plant.views().iter().all(|view| view.accounts().count() == plant.views()[0].accounts().count()));
    assert!(roots.windows(2).all(|pair| pair[0] == pair[1]), "{roots:?}");
}

#[test]
fn a_follower_names_nobody_else_s_outcome() {
    let (mut plant, leader) = led();
    let follower = plant.other(leader);
    plant.submit(follower, 7, &signer(50), create());
    plant.settle();
    assert_eq!(plant.replies(follower), [(7, Reply::NotLeader)]);
}

#[test]
fn what_is_agreed_goes_on_while_the_applier_is_slow_and_answers_wait_for_it() {
    let (mut plant, leader) = led();
    plant.hold_applier(leader, true);
    let before = plant.replica(leader).figures();
    for caller in 0..5 {
        plant.submit(leader, caller, &signer(50 + u8::try_from(caller).unwrap()), create());
        plant.settle();
    }
    let during = plant.replica(leader).figures();
    assert!(during.committed >= before.committed + 5, "the log goes on: {before:?} {during:?}");
    assert_eq!(during.applied, before.applied);
    assert!(plant.replies(leader).is_empty());
    plant.hold_applier(leader, false);
    plant.settle();
    assert_eq!(plant.replies(leader).len(), 5);
}

#[test]
fn an_applier_that_stands_still_ends_in_refusals_and_bounded_memory() {
    let (mut plant, leader) = led();
    plant.hold_applier(leader, true);
    // Entries of their own fill the applier's places, then the waiting ones.
    for caller in 0..300 {
        plant.submit_large(leader, caller);
        plant.settle();
    }
    let held = plant.held_bytes(leader);
    assert!(held <= APPLYING_BYTES_MAX + (16 << 20), "{held} bytes wait at the applier");
    let full = plant.replies(leader).iter().filter(|(_, reply)| *reply == Reply::Full).count();
    assert!(full > 0, "somebody is refused");
    plant.hold_applier(leader, false);
    plant.settle();
    let decided = plant.replies(leader).iter().filter(|(_, reply)| matches!(reply, Reply::Decided { .. })).count();
    assert_eq!(decided + full, 300, "everybody else is answered once it goes on");
}

#[test]
fn reads_are_linearizable_on_any_node_and_bounded_ones_ask_the_quorum_only_when_due() {
    let (mut plant, leader) = led();
    let follower = plant.other(leader);
    plant.submit(leader, 1, &signer(50), create());
    plant.settle();
    plant.on(follower, Input::View { reader: 1, mode: ReadMode::Linearizable });
    plant.settle();
    let views = plant.read(follower);
    assert_eq!(views.len(), 1);
    assert!(views[0].1.index() >= plant.replica(leader).view().index());

    // Cut off, it still answers what it knows to be young enough, and nothing else.
    plant.cut(follower);
    plant.on(follower, Input::View { reader: 2, mode: ReadMode::Bounded { age_ms: 1_000 } });
    plant.on(follower, Input::View { reader: 3, mode: ReadMode::Linearizable });
    plant.settle();
    assert_eq!(plant.read(follower).iter().map(|(reader, _)| *reader).collect::<Vec<_>>(), [2]);
    plant.pass(1_100);
    plant.on(follower, Input::View { reader: 4, mode: ReadMode::Bounded { age_ms: 1_000 } });
    plant.settle();
    assert!(plant.read(follower).is_empty(), "its view may be older than that");
    plant.pass(6_000);
    assert_eq!(plant.refused(follower), [(3, NoView::Late), (4, NoView::Late)]);
}

#[test]
fn callers_of_a_lost_leader_are_told_that_the_outcome_is_unknown() {
    let (mut plant, leader) = led();
    plant.cut(leader);
    plant.submit(leader, 1, &signer(50), create());
    plant.pass(3_000);
    assert_eq!(plant.replies(leader), [(1, Reply::LeadershipLost)]);
    plant.heal();
    plant.pass(3_000);
    let roots: Vec<Hash> = plant.views().iter().map(|view| view.root()).collect();
    assert!(roots.windows(2).all(|pair| pair[0] == pair[1]), "{roots:?}");
}

#[test]
fn a_restart_rebuilds_the_state_from_the_log() {
    let (mut plant, leader) = led();
    for caller in 0..4 {
        plant.submit(leader, caller, &signer(50 + u8::try_from(caller).unwrap()), create());
        plant.settle();
    }
    let follower = plant.other(leader);
    let root = plant.replica(leader).view().root();
    plant.restart(follower);
    assert_eq!(plant.replica(follower).view().index(), 0);
    // What is committed it learns from the leader's next heartbeat.
    plant.pass(500);
    assert_eq!(plant.replica(follower).view().root(), root);
}

/// A policy of small numbers.
const OFTEN: compaction::Policy = compaction::Policy { log_bytes: usize::MAX, log_entries: 10, tail_entries: 3 };

/// Applies `count` entries of one command each.
fn entries(plant: &mut Plant, leader: u64, count: u64) {
    for caller in 0..count {
        plant.submit(leader, caller, &signer(50), create());
        plant.settle();
    }
}

#[test]
fn nothing_is_acknowledged_before_it_is_written() {
    let (mut plant, leader) = led();
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    for id in &others {
        plant.hold_writer(*id, true);
    }
    plant.submit(leader, 1, &signer(50), create());
    plant.settle();
    assert!(plant.replies(leader).is_empty(), "one disk of three is no quorum");
    plant.hold_writer(others[0], false);
    plant.pass(100);
    assert_eq!(plant.replies(leader).len(), 1, "two of three are");
}

#[test]
fn what_arrives_while_the_disk_is_busy_shares_an_entry() {
    let (mut plant, leader) = led();
    plant.hold_writer(leader, true);
    let before = plant.replica(leader).node().status().last;
    for caller in 0..20 {
        plant.submit(leader, caller, &signer(50 + u8::try_from(caller).unwrap()), create());
        plant.settle();
    }
    let entries = plant.replica(leader).node().status().last - before;
    assert_eq!(entries, PROPOSED_WRITES_MAX as u64, "the rest waits");
    plant.hold_writer(leader, false);
    plant.pass(100);
    assert_eq!(plant.replies(leader).len(), 20);
    let entries = plant.replica(leader).node().status().last - before;
    assert_eq!(entries, PROPOSED_WRITES_MAX as u64 + 1, "in one entry");
}

#[test]
fn what_arrives_while_an_entry_is_not_committed_shares_one_unless_it_is_worth_its_own() {
    let (mut plant, leader) = led();
    for id in (1..=3).filter(|id| *id != leader) {
        plant.hold_writer(id, true);
    }
    let before = plant.replica(leader).node().last_index();
    for caller in 0..20 {
        plant.submit(leader, caller, &signer(50 + u8::try_from(caller).unwrap()), create());
        plant.settle();
    }
    assert_eq!(plant.replica(leader).node().last_index() - before, 1, "the first alone, the rest waits for it");
    let many = u64::try_from(ENTRY_WORTH_BYTES / 100).unwrap();
    for caller in 20..20 + many {
        plant.submit(leader, caller, &signer(50), create());
    }
    plant.settle();
    assert_eq!(plant.replica(leader).node().last_index() - before, 2, "so much is worth an entry");
    for id in (1..=3).filter(|id| *id != leader) {
        plant.hold_writer(id, false);
    }
    plant.pass(100);
    assert_eq!(plant.replies(leader).len() as u64, 20 + many);
}

#[test]
fn a_leader_with_a_full_disk_gives_way_at_once_and_comes_back_by_itself() {
    let (mut plant, leader) = led();
    let (disk, _) = plant.disk(leader);
    disk.fail_after(Some(0));
    plant.submit(leader, 1, &signer(50), create());
    plant.settle();
    assert_ne!(plant.replica(leader).place().role, Role::Leader, "within the same moment");
    assert!(matches!(plant.replies(leader).as_slice(), [(1, Reply::LeadershipLost)]));
    let lacks = plant.disk(leader).1.unwrap();
    assert!(lacks.needed > 0, "{lacks:?}");
    plant.pass(1_000);
    let next = (1..=3).find(|id| plant.replica(*id).place().role == Role::Leader).unwrap();
    assert_ne!(next, leader);
    entries(&mut plant, next, 3);
    assert_eq!(plant.replies(next).len(), 3, "the others go on");
    let behind = plant.replica(leader).view().index();
    assert!(behind < plant.replica(next).view().index());

    disk.fail_after(None);
    plant.pass(1_000);
    assert_eq!(plant.disk(leader).1, None);
    assert_eq!(plant.replica(leader).view().root(), plant.replica(next).view().root());
    assert_eq!(plant.replica(next).place().role, Role::Leader, "its return disturbs nobody");
}

#[test]
fn the_log_goes_only_behind_two_snapshots_and_what_is_sealed_and_keeps_a_tail() {
    let mut plant = Plant::with(3, OFTEN);
    let leader = plant.until_led();
    entries(&mut plant, leader, 35);
    assert_eq!(plant.snapshots(leader).len(), 2);
    assert_eq!(plant.replica(leader).figures().first, 1, "nothing is sealed");
    plant.on(leader, Input::Sealed { epoch: 0, through: 1_000, hash: [0; 32] });
    plant.settle();
    let [older, newest] = plant.snapshots(leader)[..] else { panic!() };
    let first = plant.replica(leader).figures().first;
    assert_eq!(first, older.min(newest - OFTEN.tail_entries) + 1);
    let follower = plant.other(leader);
    plant.on(follower, Input::Sealed { epoch: 0, through: 12, hash: [0; 32] });
    plant.settle();
    assert_eq!(plant.replica(follower).figures().first, 13, "the sealed bound counts where it is the least");
}

/// Longer than a state remembers where its epochs ended.
fn many_epochs(policy: compaction::Policy) -> (Plant, u64, u64) {
    let mut plant = Plant::with_beats(3, policy, 200);
    let leader = plant.until_led();
    for _ in 0..600 {
        plant.pass(100);
        let oldest = plant.replica(leader).view().epochs().next().map(|row| row.epoch);
        if let Some(oldest) = oldest.filter(|epoch| *epoch > 12) {
            return (plant, leader, oldest);
        }
    }
    panic!("epochs do not close");
}

#[test]
fn a_snapshot_waits_while_the_archive_lags_further_than_a_state_remembers() {
    let (mut plant, leader, oldest) = many_epochs(OFTEN);
    let taken = plant.snapshots(leader);
    let lost = plant.replica(leader).view().index() - OFTEN.log_entries;
    assert!(taken.iter().all(|index| *index < lost), "a snapshot of now has forgotten where epoch 1 ended: {taken:?}");
    plant.on(leader, Input::Sealed { epoch: oldest - 2, through: 1, hash: [0; 32] });
    plant.pass(200);
    assert_eq!(plant.snapshots(leader), taken, "and where the epoch behind this one did");
    let oldest = plant.replica(leader).view().epochs().next().unwrap().epoch;
    plant.on(leader, Input::Sealed { epoch: oldest, through: 1, hash: [0; 32] });
    plant.pass(50);
    assert!(plant.snapshots(leader).last() > taken.last(), "it follows now");
}

#[test]
fn an_archive_that_was_told_every_end_seals_what_a_state_has_forgotten() {
    let (mut plant, leader, oldest) = many_epochs(compaction::Policy::default());
    let (view, committed) = (plant.replica(leader).view().clone(), plant.entries(leader));
    let (batch, _) =
        Applier::new(State::genesis(plant.genesis()).unwrap(), 0, plant.members(leader)).apply(&committed, false);
    let to_entry = |one: &Committed| Entry { index: one.index, term: one.term, data: one.data.clone() };
    let sealed = |told: bool| {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::open(Arc::new(OsFiles), folder.path(), *view.cluster_id()).unwrap();
        let mut keeper = Keeper::new(archive, 0);
        if told {
            batch.closings().for_each(|(epoch, index)| keeper.closed(epoch, index));
        }
        keeper.take(&view, committed.iter().map(to_entry)).unwrap().len() as u64
    };
    assert_eq!(sealed(false), 0, "the state alone does not say where the first ended");
    assert!(sealed(true) > oldest);
}

#[test]
fn a_restart_goes_on_from_the_newest_snapshot_and_a_damaged_one_costs_nothing() {
    let mut plant = Plant::with(3, OFTEN);
    let leader = plant.until_led();
    let follower = plant.other(leader);
    plant.on(follower, Input::Sealed { epoch: 0, through: 1_000, hash: [0; 32] });
    entries(&mut plant, leader, 35);
    plant.pass(500);
    let root = plant.replica(leader).view().root();
    let kept = plant.snapshots(follower);
    plant.restart(follower);
    assert_eq!(plant.replica(follower).view().index(), kept[1]);
    plant.pass(500);
    assert_eq!(plant.replica(follower).view().root(), root);

    plant.damage_snapshot(follower);
    plant.restart(follower);
    assert_eq!(plant.replica(follower).view().index(), kept[0], "the one before it serves");
    plant.pass(500);
    assert_eq!(plant.replica(follower).view().root(), root);
}

#[test]
fn a_member_that_lags_far_behind_fetches_a_snapshot() {
    let mut plant = Plant::with(3, OFTEN);
    let leader = plant.until_led();
    let follower = plant.other(leader);
    plant.cut(follower);
    for id in (1..=3).filter(|id| *id != follower) {
        plant.on(id, Input::Sealed { epoch: 0, through: 1_000, hash: [0; 32] });
    }
    entries(&mut plant, leader, 45);
    assert!(plant.replica(leader).figures().first > plant.replica(follower).figures().committed + 1);
    plant.heal();
    plant.pass(3_000);
    assert_eq!(plant.replica(follower).view().root(), plant.replica(leader).view().root());
    assert!(plant.replica(follower).figures().first > 30, "its log begins behind the snapshot");
    entries(&mut plant, leader, 3);
    plant.restart(follower);
    plant.pass(500);
    assert_eq!(plant.replica(follower).view().root(), plant.replica(leader).view().root());
}

#[test]
fn what_comes_in_and_goes_out_is_small() {
    // Hundreds of each are moved for an entry.
    assert!(size_of::<Input>() <= 512, "{}", size_of::<Input>());
    assert!(size_of::<Io>() <= 512, "{}", size_of::<Io>());
}
