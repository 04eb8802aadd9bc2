//! Refusals at the node's edge, each with the state it leaves behind.

#![allow(clippy::unwrap_used)]

mod common;

use common::Cluster;
use matrixai_consensus::{
    ENTRY_BYTES_MAX, EngineStore, Error, MemoryDisk, MemoryStore, Node, NodeConfig, ProposeError, ReadError, Role,
};

fn open(disk: &MemoryDisk, id: u64, voters: &[u64]) -> Result<Node<MemoryStore>, Error> {
    Node::open(NodeConfig::new(id, 1), MemoryStore::open(disk).unwrap(), voters)
}

fn cluster_of_three() -> Cluster {
    let mut cluster = Cluster::new(3, 5);
    cluster.node(1).unwrap().campaign().unwrap();
    assert!(cluster.settle().is_empty());
    assert_eq!(cluster.leaders(), [1]);
    cluster
}

#[test]
fn a_node_may_move_to_the_thread_that_owns_it() {
    fn assert_send<T: Send>() {}
    assert_send::<Node<EngineStore>>();
    assert_send::<Node<MemoryStore>>();
}

#[test]
fn store_and_configuration_must_belong_together() {
    let disk = MemoryDisk::new();
    assert!(matches!(open(&disk, 1, &[]), Err(Error::NotAMember { id: 1, .. })));
    assert!(matches!(open(&disk, 4, &[1, 2, 3]), Err(Error::NotAMember { id: 4, .. })));
    assert!(matches!(open(&disk, 1, &[1, 1]), Err(Error::Config(_))));
    assert_eq!(disk.appends(), 0, "a refused opening leaves the store as it was");

    drop(open(&disk, 1, &[3, 1, 2]).unwrap());
    assert!(matches!(open(&disk, 2, &[1, 2, 3]), Err(Error::Foreign { stored: 1, given: 2 })));
    assert!(matches!(open(&disk, 1, &[1, 2]), Err(Error::MembersDiffer { .. })));
    assert_eq!(open(&disk, 1, &[1, 2, 3]).unwrap().status().members.ids(), [1, 2, 3]);
    assert_eq!(open(&disk, 1, &[]).unwrap().status().members.ids(), [1, 2, 3]);
}

#[test]
fn proposals_are_refused_by_name() {
    let mut cluster = cluster_of_three();
    let follower = cluster.node(2).unwrap();
    assert_eq!(follower.propose(vec![1]), Err(ProposeError::NotLeader { leader: Some(1) }));
    let leader = cluster.node(1).unwrap();
    assert_eq!(leader.propose(Vec::new()), Err(ProposeError::Empty));
    let bytes = ENTRY_BYTES_MAX + 1;
    assert_eq!(leader.propose(vec![1; bytes]), Err(ProposeError::TooLarge { bytes, limit: ENTRY_BYTES_MAX }));
    leader.propose(vec![1; ENTRY_BYTES_MAX]).unwrap();
    assert!(cluster.settle().is_empty());
    assert_eq!(cluster.machines[&3].delivered.last().unwrap().data.len(), ENTRY_BYTES_MAX);

    let alone = open(&MemoryDisk::new(), 1, &[1, 2]).unwrap().propose(vec![1]);
    assert_eq!(alone, Err(ProposeError::NotLeader { leader: None }));
}

#[test]
fn a_leader_that_cannot_commit_is_busy_before_it_is_full() {
    let mut cluster = cluster_of_three();
    cluster.isolate(1);
    let mut taken = 0;
    let refusal = loop {
        match cluster.node(1).unwrap().propose(vec![1; 1 << 20]) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(cluster.settle().is_empty());
    };
    assert_eq!((refusal, taken), (ProposeError::Busy, 64));
    cluster.cut.clear();
    for _ in 0..4 {
        cluster.tick_all();
        assert!(cluster.settle().is_empty());
    }
    assert_eq!(cluster.machines[&2].delivered.len(), 65);
    cluster.node(1).unwrap().propose(vec![1]).unwrap();
}

#[test]
fn entries_are_exported_up_to_the_commit_index_only() {
    let mut cluster = cluster_of_three();
    for at in 1..=9 {
        cluster.node(1).unwrap().propose(vec![at; 1000]).unwrap();
        assert!(cluster.settle().is_empty());
    }
    cluster.isolate(1);
    let leader = cluster.node(1).unwrap();
    leader.propose(vec![10]).unwrap();
    let all = leader.entries(0, u64::MAX, u64::MAX).unwrap();
    assert_eq!(all.iter().map(|entry| entry.index).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
    assert_eq!(leader.entries(3, 6, u64::MAX).unwrap(), all[2..5]);
    assert_eq!(leader.entries(3, 6, 0).unwrap(), all[2..3]);
    assert_eq!(leader.entries(3, 9, 2500).unwrap(), all[2..4]);
    assert!(leader.entries(11, 20, 1).unwrap().is_empty());
    assert!(leader.entries(6, 3, 1).unwrap().is_empty());
}

#[test]
fn a_long_log_is_delivered_again_in_parts() {
    let mut cluster = cluster_of_three();
    for at in 1..=30 {
        cluster.node(1).unwrap().propose(vec![at; 1 << 20]).unwrap();
        assert!(cluster.settle().is_empty());
    }
    for id in cluster.ids() {
        cluster.crash(id);
        cluster.start(id).unwrap();
    }
    let mut parts = 0;
    while cluster.node(2).unwrap().has_ready() {
        cluster.poll(2).unwrap();
        parts += 1;
    }
    assert!(cluster.machines[&2].delivered.len() >= 30 && parts >= 4, "{parts} parts");
    cluster.node(3).unwrap().campaign().unwrap();
    assert!(cluster.settle().is_empty());
    for machine in cluster.machines.values() {
        assert_eq!(machine.delivered.len(), 32);
    }
}

#[test]
fn messages_for_others_and_from_strangers_change_nothing() {
    let mut cluster = cluster_of_three();
    cluster.tick_all();
    cluster.tick_all();
    cluster.node(1).unwrap().propose(b"secret".to_vec()).unwrap();
    cluster.poll(1).unwrap();
    let for_two = cluster.network.iter().filter(|packet| packet.to == 2).cloned().collect::<Vec<_>>();
    assert!(!for_two.is_empty());
    let mut stranger = open(&MemoryDisk::new(), 2, &[2, 7]).unwrap();
    for packet in for_two {
        let before = cluster.node(3).unwrap().status();
        cluster.node(3).unwrap().step(&packet.bytes).unwrap();
        assert_eq!(cluster.node(3).unwrap().status(), before);
        let before = stranger.status();
        stranger.step(&packet.bytes).unwrap();
        assert_eq!(stranger.status(), before);
    }
    assert!(!stranger.has_ready());
}

#[test]
fn a_read_that_cannot_fail_silently_is_refused() {
    let mut node = open(&MemoryDisk::new(), 1, &[1, 2]).unwrap();
    assert_eq!(node.read_index(1), Err(ReadError::NoLeader));
    let mut cluster = Cluster::new(1, 5);
    let node = cluster.node(1).unwrap();
    node.campaign().unwrap();
    while node.status().role != Role::Leader {
        node.poll(&mut |_| {}).unwrap();
    }
    assert_eq!(node.read_index(1), Err(ReadError::NotReady));
    assert!(cluster.settle().is_empty());
    cluster.node(1).unwrap().read_index(1).unwrap();
    assert!(cluster.settle().is_empty());
    assert_eq!(cluster.machines[&1].reads, [(1, 1)]);
}

#[test]
fn after_a_failed_write_the_node_does_nothing_more() {
    let mut cluster = cluster_of_three();
    cluster.machines[&1].disk.fail_after(Some(0));
    let node = cluster.node(1).unwrap();
    node.propose(vec![1]).unwrap();
    let mut sent = 0;
    assert!(matches!(node.poll(&mut |messages| sent += messages.len()), Err(Error::Store(_))));
    assert_eq!(sent, 2, "a leader sends appends before it writes; they promise nothing");
    assert!(!node.has_ready());
    assert_eq!(node.propose(vec![1]), Err(ProposeError::Stopped));
    assert_eq!(node.read_index(1), Err(ReadError::Stopped));
    assert!(matches!(node.poll(&mut |_| {}), Err(Error::Stopped)));
    assert!(matches!(node.step(&[]), Err(Error::Stopped)));
    node.tick();
}

/// A leader with five entries of which the third has become unreadable, and a follower that needs them.
fn damaged_leader() -> Cluster {
    let mut cluster = cluster_of_three();
    cluster.isolate(3);
    for at in 1..=5 {
        cluster.node(1).unwrap().propose(vec![at]).unwrap();
        assert!(cluster.settle().is_empty());
    }
    cluster.machines[&1].disk.damage(Some(3));
    cluster.cut.clear();
    cluster
}

#[test]
fn an_unreadable_entry_stops_an_export_and_the_node() {
    let mut cluster = damaged_leader();
    let node = cluster.node(1).unwrap();
    assert_eq!(node.entries(1, 3, u64::MAX).unwrap().len(), 2);
    let error = node.entries(1, 6, u64::MAX).unwrap_err();
    assert!(error.is_fatal() && error.to_string().contains("entry 3 cannot be read"), "{error}");
    assert!(matches!(node.entries(1, 2, u64::MAX), Err(Error::Stopped)));
    assert!(MemoryStore::open(&cluster.machines[&1].disk).is_err());
}

#[test]
#[should_panic(expected = "entry 3 cannot be read")]
fn an_unreadable_entry_stops_the_process_of_a_leader_that_must_send_it() {
    let mut cluster = damaged_leader();
    for _ in 0..6 {
        cluster.tick_all();
        cluster.settle();
    }
}
