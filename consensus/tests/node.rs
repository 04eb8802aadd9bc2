//! Refusals at the node's edge, each with the state it leaves behind.

#![allow(clippy::unwrap_used)]

mod common;

use common::Cluster;
use matrixai_consensus::{
    ENTRY_BYTES_MAX, EngineStore, EngineWriter, Error, LogWriter as _, MemoryDisk, MemoryStore, Node, NodeConfig,
    ProposeError, ReadError, Role, Start, StoreError,
};

fn open(disk: &MemoryDisk, id: u64, voters: &[u64]) -> Result<Node<MemoryStore>, Error> {
    Node::open(NodeConfig::new(id, 1), MemoryStore::open(disk).unwrap(), &Start::genesis(voters)?)
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
    assert_send::<EngineWriter>();
}

#[test]
fn store_and_configuration_must_belong_together() {
    let disk = MemoryDisk::new();
    assert!(matches!(open(&disk, 1, &[]), Err(Error::Config(_))));
    assert!(matches!(open(&disk, 1, &[1, 1]), Err(Error::Config(_))));
    assert_eq!(disk.syncs(), 0, "a refused opening leaves the store as it was");

    drop(open(&disk, 1, &[3, 1, 2]).unwrap());
    assert!(matches!(open(&disk, 2, &[1, 2, 3]), Err(Error::Foreign { stored: 1, given: 2 })));
    assert!(matches!(open(&disk, 1, &[1, 2]), Err(Error::MembersDiffer { .. })));
    assert_eq!(open(&disk, 1, &[1, 2, 3]).unwrap().status().members.ids(), [1, 2, 3]);
    let members = matrixai_consensus::Members::new(&[1, 2, 3]).unwrap();
    let store = MemoryStore::open(&disk).unwrap();
    drop(Node::open(NodeConfig::new(1, 1), store, &Start { index: 7, term: 2, members }).unwrap());
    let error = open(&disk, 1, &[1, 2, 3]).unwrap_err();
    assert!(matches!(error, Error::Start(_)), "a log behind a snapshot is not for a state without it: {error}");
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
    assert_eq!((refusal, taken), (ProposeError::Busy, 16));
    cluster.cut.clear();
    for _ in 0..4 {
        cluster.tick_all();
        assert!(cluster.settle().is_empty());
    }
    assert_eq!(cluster.machines[&2].delivered.len(), 17);
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
        cluster.cycle(2).unwrap();
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
fn messages_for_others_change_nothing() {
    let mut cluster = cluster_of_three();
    cluster.tick_all();
    cluster.tick_all();
    cluster.node(1).unwrap().propose(b"secret".to_vec()).unwrap();
    cluster.cycle(1).unwrap();
    let for_two = cluster.network.iter().filter(|packet| packet.to == 2).cloned().collect::<Vec<_>>();
    assert!(!for_two.is_empty());
    for packet in for_two {
        let before = cluster.node(3).unwrap().status();
        cluster.node(3).unwrap().step(&packet.bytes).unwrap();
        assert_eq!(cluster.node(3).unwrap().status(), before);
    }
}

#[test]
fn a_read_that_cannot_fail_silently_is_refused() {
    let mut node = open(&MemoryDisk::new(), 1, &[1, 2]).unwrap();
    assert_eq!(node.read_index(1), Err(ReadError::NoLeader));
    let mut cluster = Cluster::new(1, 5);
    let node = cluster.node(1).unwrap();
    node.campaign().unwrap();
    assert_eq!(node.status().role, Role::Leader);
    assert_eq!(node.read_index(1), Err(ReadError::NotReady));
    assert!(cluster.settle().is_empty());
    cluster.node(1).unwrap().read_index(1).unwrap();
    assert!(cluster.settle().is_empty());
    assert_eq!(cluster.machines[&1].reads, [(1, 1)]);
}

#[test]
fn a_leader_whose_disk_is_full_names_a_successor_and_goes_on_when_there_is_room() {
    let mut cluster = cluster_of_three();
    cluster.machines[&1].disk.fail_after(Some(0));
    let node = cluster.node(1).unwrap();
    node.propose(b"late".to_vec()).unwrap();
    let mut sent = Vec::new();
    let output = node.ready(&mut |messages| sent.extend(messages)).unwrap();
    assert_eq!(sent.len(), 2, "a leader sends appends before it writes; they promise nothing");
    let write = output.write.unwrap();
    let mut writer = cluster.machines.get_mut(&1).unwrap().writer.take().unwrap();
    let error = writer.write(std::slice::from_ref(&write)).unwrap_err();
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");

    let node = cluster.node(1).unwrap();
    node.step_down();
    assert_eq!(node.status().role, Role::Follower);
    sent.clear();
    node.ready(&mut |messages| sent.extend(messages)).unwrap();
    let [asked] = &sent[..] else { panic!("{sent:?}") };
    let successor = asked.to;
    cluster.node(successor).unwrap().step(&asked.bytes).unwrap();
    for other in [2, 3] {
        while cluster.node(other).unwrap().has_ready() {
            cluster.cycle(other).unwrap();
        }
    }
    let votes = cluster.network.drain(..).filter(|packet| packet.to != 1).collect::<Vec<_>>();
    for packet in votes {
        cluster.deliver(packet).unwrap();
    }
    // The old leader's disk takes no part in the election.
    let mut silent = 0;
    for other in [2, 3] {
        while cluster.node(other).unwrap().has_ready() {
            cluster.cycle(other).unwrap();
        }
        let for_others = cluster.network.drain(..).filter(|packet| packet.to != 1).collect::<Vec<_>>();
        silent += for_others.len();
        for packet in for_others {
            cluster.deliver(packet).unwrap();
        }
    }
    assert!(silent > 0);
    assert_eq!(cluster.leaders(), [successor]);

    // Room again: the same write is tried again, and the node follows.
    cluster.machines[&1].disk.fail_after(None);
    writer.write(std::slice::from_ref(&write)).unwrap();
    cluster.machines.get_mut(&1).unwrap().writer = Some(writer);
    cluster.node(1).unwrap().written(write.number(), &mut |_| {}).unwrap();
    for _ in 0..4 {
        cluster.tick_all();
        assert!(cluster.settle().is_empty());
    }
    cluster.node(successor).unwrap().propose(b"later".to_vec()).unwrap();
    assert!(cluster.settle().is_empty());
    for _ in 0..4 {
        cluster.tick_all();
        assert!(cluster.settle().is_empty());
    }
    assert_eq!(cluster.machines[&1].delivered, cluster.machines[&2].delivered);
    assert_eq!(cluster.machines[&1].delivered.last().unwrap().data, b"later");
}

#[test]
fn a_stopped_node_does_nothing_more() {
    let mut cluster = damaged_leader();
    let node = cluster.node(1).unwrap();
    assert!(node.entries(1, 6, u64::MAX).unwrap_err().is_fatal());
    assert!(!node.has_ready());
    assert_eq!(node.propose(vec![1]), Err(ProposeError::Stopped));
    assert_eq!(node.read_index(1), Err(ReadError::Stopped));
    assert!(matches!(node.ready(&mut |_| {}), Err(Error::Stopped)));
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
