//! What waits for what: acknowledgements for the disk, delivery for the caller, a start for a log that fits it.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Cluster, append};
use matrixai_consensus::{
    Batch, Committed, Error, Identity, LogWriter as _, MemberChange, Members, MemoryDisk, MemoryStore, Node,
    NodeConfig, ProposeError, Role, SnapshotMeta, Start,
};
use raft::eraftpb::{Entry, HardState};

const APPEND_RESPONSE: u8 = 4;
const HEARTBEAT_RESPONSE: u8 = 9;

fn cluster_led_by_one(nodes: u64) -> Cluster {
    let mut cluster = Cluster::new(nodes, 5);
    cluster.node(1).unwrap().campaign().unwrap();
    assert!(cluster.settle().is_empty());
    assert_eq!(cluster.leaders(), [1]);
    cluster
}

/// The kinds of messages that left a node since the last look; the first field of a message is its type.
fn kinds_from(cluster: &mut Cluster, id: u64) -> Vec<u8> {
    cluster.network.drain(..).filter(|packet| packet.from == id).map(|packet| packet.bytes[1]).collect()
}

fn deliver_to(cluster: &mut Cluster, id: u64) {
    let packets = cluster.network.drain(..).filter(|packet| packet.to == id).collect::<Vec<_>>();
    for packet in packets {
        cluster.deliver(packet).unwrap();
    }
}

#[test]
fn an_acknowledgement_waits_for_the_disk_and_a_heartbeats_answer_does_not() {
    let mut cluster = cluster_led_by_one(3);
    cluster.node(1).unwrap().propose(b"alpha".to_vec()).unwrap();
    cluster.cycle_only(1).unwrap();
    deliver_to(&mut cluster, 2);
    cluster.cycle_only(2).unwrap();
    assert_eq!(kinds_from(&mut cluster, 2), [0_u8; 0], "its disk does not have the entry");
    cluster.run_ticks_of(1, 2);
    cluster.cycle_only(1).unwrap();
    deliver_to(&mut cluster, 2);
    cluster.cycle_only(2).unwrap();
    assert_eq!(kinds_from(&mut cluster, 2), [HEARTBEAT_RESPONSE]);
    cluster.write(2, usize::MAX).unwrap();
    assert_eq!(kinds_from(&mut cluster, 2), [APPEND_RESPONSE]);
}

#[test]
fn a_leader_by_its_own_vote_sends_nothing_of_a_term_that_is_not_on_its_disk() {
    let mut cluster = cluster_led_by_one(1);
    let change = MemberChange { learners: vec![2], ..MemberChange::default() };
    cluster.node(1).unwrap().propose_members(&change, Vec::new()).unwrap();
    assert!(cluster.settle().is_empty());
    cluster.start(2).unwrap();
    cluster.run(4);
    assert_eq!(cluster.machines[&2].delivered, cluster.machines[&1].delivered);
    // Another entry carries to the disk that the change is committed.
    cluster.node(1).unwrap().propose(b"alpha".to_vec()).unwrap();
    assert!(cluster.settle().is_empty());
    cluster.crash(1);
    cluster.start(1).unwrap();
    assert!(cluster.node(1).unwrap().status().members.is_learner(2));
    cluster.node(1).unwrap().campaign().unwrap();
    for _ in 0..3 {
        cluster.cycle_only(1).unwrap();
        cluster.run_ticks_of(1, 2);
    }
    assert_eq!(cluster.node(1).unwrap().status().role, Role::Leader);
    assert_eq!(kinds_from(&mut cluster, 1), [0_u8; 0], "after a crash it could lead this term again");
    cluster.write(1, usize::MAX).unwrap();
    assert!(!kinds_from(&mut cluster, 1).is_empty());
}

/// Runs cycles of a cluster of one until nothing is ready; what was delivered.
fn drain(node: &mut Node<MemoryStore>) -> Vec<Committed> {
    let mut writer = node.writer();
    let mut committed = Vec::new();
    while node.has_ready() {
        let output = node.ready(&mut |_| {}).unwrap();
        committed.extend(output.committed);
        if let Some(write) = output.write {
            writer.write(std::slice::from_ref(&write)).unwrap();
            node.written(write.number(), &mut |_| {}).unwrap();
        }
    }
    committed
}

#[test]
fn delivery_and_proposals_wait_for_a_caller_that_does_not_apply() {
    const MIB: usize = 1 << 20;
    let disk = MemoryDisk::new();
    let open = || {
        let start = Start::genesis(&[1]).unwrap();
        Node::open(NodeConfig::new(1, 1), MemoryStore::open(&disk).unwrap(), &start).unwrap()
    };
    let mut node = open();
    node.campaign().unwrap();
    let mut delivered = drain(&mut node);
    let refused = loop {
        if let Err(error) = node.propose(vec![1; MIB]) {
            break error;
        }
        delivered.extend(drain(&mut node));
    };
    assert_eq!((refused, delivered.len()), (ProposeError::Busy, 65));
    node.applied(30);
    for _ in 0..29 {
        node.propose(vec![1; MIB]).unwrap();
        delivered.extend(drain(&mut node));
    }
    assert_eq!(node.propose(vec![1; MIB]), Err(ProposeError::Busy));
    assert_eq!(delivered.len(), 94);

    // After a restart the log is delivered again, as fast as it is applied.
    let mut node = open();
    let mut again = drain(&mut node);
    assert!((60..=68).contains(&again.len()), "{}", again.len());
    assert!(!node.has_ready());
    loop {
        node.applied(again.last().unwrap().index);
        let more = drain(&mut node);
        if more.is_empty() {
            break;
        }
        again.extend(more);
    }
    // That the last entry is committed was not worth a write of its own.
    assert!(again == delivered[..93], "{}", again.len());
}

/// A disk with entries 1 to 9 of term 2, of which some are committed.
fn logged(commit: u64) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let mut store = MemoryStore::open(&disk).unwrap();
    let members = Members::new(&[1, 2, 3]).unwrap();
    let entry = |index| Entry { index, term: 2, data: vec![index as u8].into(), ..Entry::default() };
    let batch = Batch {
        entries: (1..=9).map(entry).collect(),
        hard_state: Some(HardState { term: 2, vote: 3, commit, ..HardState::default() }),
        snapshot: Some(SnapshotMeta { members, ..SnapshotMeta::default() }),
        identity: Some(Identity { node: 1, incarnation: 4 }),
        ..Batch::default()
    };
    append(&mut store, &batch).unwrap();
    disk
}

fn open_at(disk: &MemoryDisk, index: u64, term: u64) -> Result<Node<MemoryStore>, Error> {
    let start = Start { index, term, members: Members::new(&[1, 2, 3]).unwrap() };
    Node::open(NodeConfig::new(1, 1), MemoryStore::open(disk).unwrap(), &start)
}

#[test]
fn a_start_inside_the_log_is_followed_by_what_is_behind_it() {
    for (start, commit) in [(0, 7), (5, 7), (7, 7), (7, 3)] {
        let mut node = open_at(&logged(commit), start, if start == 0 { 0 } else { 2 }).unwrap();
        let indices = drain(&mut node).iter().map(|entry| entry.index).collect::<Vec<_>>();
        assert_eq!(indices, (start + 1..=commit).collect::<Vec<_>>(), "start {start}, commit {commit}");
        let status = node.status();
        assert_eq!((status.first, status.last, status.commit), (1, 9, commit.max(start)));
    }
}

#[test]
fn a_start_that_the_log_did_not_reach_empties_it() {
    // A snapshot was installed, and the power was cut before the log heard of it. What the log had committed is
    // a part of the snapshot; what it had not may have gone another way.
    for (index, term, commit) in [(20, 3, 9), (20, 2, 3), (5, 3, 4)] {
        let disk = logged(commit);
        for _ in 0..2 {
            let mut node = open_at(&disk, index, term).unwrap();
            assert!(drain(&mut node).is_empty());
            let status = node.status();
            assert_eq!((status.first, status.last, status.commit), (index + 1, index, index));
            assert_eq!(status.term, term.max(2));
        }
        assert!(matches!(open_at(&disk, 0, 0), Err(Error::Start(_))), "the state in between is missing");
        assert!(matches!(open_at(&disk, index - 1, 2), Err(Error::Start(_))));
    }
}

#[test]
fn a_start_that_contradicts_what_is_committed_is_refused() {
    let disk = logged(7);
    for term in [1, 3] {
        let error = open_at(&disk, 6, term).unwrap_err();
        assert!(matches!(error, Error::Start(_)) && error.is_fatal(), "{error}");
    }
    assert_eq!(disk.last_index(), 9, "a refused opening leaves the log as it was");
}

#[test]
fn an_election_that_nobody_answers_is_held_again_after_half_the_time() {
    let mut cluster = Cluster::new(3, 5);
    let mut asked = Vec::new();
    for tick in 0_usize..120 {
        cluster.run_ticks_of(1, 1);
        cluster.cycle_only(1).unwrap();
        cluster.write(1, usize::MAX).unwrap();
        if !kinds_from(&mut cluster, 1).is_empty() {
            asked.push(tick);
        }
    }
    let longest = NodeConfig::new(1, 5).election_ticks;
    let gaps: Vec<usize> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(asked[0] + 1 >= longest, "the first waits for the whole timeout: {asked:?}");
    assert!(gaps.len() >= 5 && gaps.iter().all(|gap| (longest / 2..longest).contains(gap)), "{asked:?}");
}
