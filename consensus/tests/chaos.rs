//! Random faults from one seed: messages lost, doubled and reordered, nodes cut off, crashed and restarted, disks full.
//! What must hold throughout: no two nodes deliver different entries at one index, nothing delivered is ever lost,
//! reads are linearizable. When the faults end, the cluster must heal and agree. A failure prints its seed: put it in
//! `SEEDS` alone to see it again.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::Cluster;
use matrixai_consensus::{Committed, Error};

const SEEDS: std::ops::Range<u64> = 1..41;
const STEPS: usize = 1_500;

struct Random(u64);

impl Random {
    /// Xorshift over a hashed seed.
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}

/// What an omniscient observer knows.
#[derive(Default)]
struct Observer {
    /// Every entry any node ever delivered.
    history: Vec<Committed>,
    seen: BTreeMap<u64, usize>,
    /// Reads under way: (node, context) to the length of the history when they were asked.
    asked: BTreeMap<(u64, u64), u64>,
    answered: usize,
    answers_seen: BTreeMap<u64, usize>,
}

impl Observer {
    fn watch(&mut self, cluster: &Cluster) {
        for (&id, machine) in &cluster.machines {
            let from = self.seen.entry(id).or_default();
            *from = (*from).min(machine.delivered.len());
            for entry in &machine.delivered[*from..] {
                let at = entry.index as usize - 1;
                match self.history.get(at) {
                    Some(known) => assert_eq!(known, entry, "node {id} delivered another entry"),
                    None => {
                        assert_eq!(at, self.history.len());
                        self.history.push(entry.clone());
                    }
                }
            }
            *from = machine.delivered.len();
        }
        for (&id, machine) in &cluster.machines {
            let from = self.answers_seen.entry(id).or_default();
            *from = (*from).min(machine.reads.len());
            for &(context, index) in &machine.reads[*from..] {
                // A doubled message answers twice, so the read stays asked.
                let floor = *self.asked.get(&(id, context)).expect("an answer to a read that was not asked");
                assert!(index >= floor, "node {id} read at {index} what was already at {floor}");
                self.answered += 1;
            }
            *from = machine.reads.len();
        }
    }

    fn forget(&mut self, id: u64) {
        self.seen.insert(id, 0);
        self.answers_seen.insert(id, 0);
        self.asked.retain(|&(node, _), _| node != id);
    }
}

/// One random event.
fn disturb(cluster: &mut Cluster, random: &mut Random, observer: &mut Observer, step: u64) {
    let nodes = cluster.machines.len();
    let id = random.below(nodes) as u64 + 1;
    match random.below(100) {
        0 => cluster.crash(id),
        1 => {
            cluster.machines[&id].disk.fail_after(Some(random.below(5) as u64));
        }
        2..6 => {
            cluster.machines[&id].disk.fail_after(None);
            if cluster.node(id).is_none() {
                cluster.start(id).unwrap();
                observer.forget(id);
            }
        }
        6 => cluster.isolate(id),
        7 => {
            let other = random.below(nodes) as u64 + 1;
            cluster.cut.insert((id, other));
        }
        8..11 => cluster.cut.clear(),
        11..30 => {
            let data = format!("{step} by {id}").into_bytes();
            // A refusal is a fine answer; only what is delivered counts.
            let _ = cluster.node(id).map(|node| node.propose(data));
        }
        30..38 => {
            let floor = observer.history.len() as u64;
            if cluster.node(id).is_some_and(|node| node.read_index(step).is_ok()) {
                observer.asked.insert((id, step), floor);
            }
        }
        38..60 => {
            if let Some(node) = cluster.node(id) {
                node.tick();
            }
        }
        _ => {
            let _ = cluster.cycle(id);
        }
    }
}

/// Delivers some of the packets under way, in any order, some twice, some never.
fn carry(cluster: &mut Cluster, random: &mut Random) {
    for _ in 0..random.below(4) {
        if cluster.network.is_empty() {
            return;
        }
        let at = random.below(cluster.network.len());
        let packet = cluster.network.swap_remove_back(at).unwrap();
        if random.one_in(20) {
            continue;
        }
        if random.one_in(20) {
            cluster.network.push_back(packet.clone());
        }
        if let Err(error) = cluster.deliver(packet) {
            assert!(matches!(error, Error::Stopped), "{error}");
        }
    }
}

#[test]
fn nothing_delivered_is_lost_and_all_agree() {
    let (mut answered, mut delivered) = (0, 0);
    for seed in SEEDS {
        let mut random = Random::new(seed);
        let mut cluster = Cluster::new([1, 3, 3, 5][random.below(4)], seed);
        let mut observer = Observer::default();
        let context = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for step in 0..STEPS {
                disturb(&mut cluster, &mut random, &mut observer, step as u64);
                carry(&mut cluster, &mut random);
                observer.watch(&cluster);
            }
            heal(&mut cluster, &mut observer);
        }));
        if let Err(panic) = context {
            panic!("seed {seed}: {:?}", panic.downcast_ref::<String>());
        }
        answered += observer.answered;
        delivered += observer.history.len();
    }
    // Faults must not be all that happens.
    assert!(answered > 300 && delivered > 1_000, "only {answered} reads answered, {delivered} entries delivered");
}

fn heal(cluster: &mut Cluster, observer: &mut Observer) {
    cluster.cut.clear();
    for id in cluster.ids() {
        cluster.machines[&id].disk.fail_after(None);
        if cluster.node(id).is_none() {
            cluster.start(id).unwrap();
            observer.forget(id);
        }
    }
    for _ in 0..200 {
        cluster.tick_all();
        assert!(cluster.settle().is_empty());
        observer.watch(cluster);
    }
    let [leader] = cluster.leaders()[..] else { panic!("no single leader after healing") };
    cluster.node(leader).unwrap().propose(b"healed".to_vec()).unwrap();
    for _ in 0..5 {
        cluster.tick_all();
        assert!(cluster.settle().is_empty());
    }
    observer.watch(cluster);
    assert_eq!(observer.history.last().unwrap().data, b"healed");
    for machine in cluster.machines.values() {
        assert_eq!(machine.delivered, observer.history, "a node misses entries after healing");
    }
}
