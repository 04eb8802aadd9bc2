//! Random faults from one seed: messages lost, doubled and reordered, nodes cut off, crashed with some of their writes on
//! the disk and restarted, disks slow and full, logs cut, snapshots offered and fetched or not, members added, promoted
//! and removed, leaders deposed. What must hold throughout: one leader a term, no two nodes deliver different entries
//! at one index, nothing delivered is ever lost, reads are linearizable. When the faults end, the cluster must heal
//! and agree. A failure prints its seed: put it in `SEEDS` alone to see it again.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::{Cluster, Machine};
use matrixai_consensus::{Committed, Error, MemberChange, Role, StoreError};

const SEEDS: std::ops::Range<u64> = 1..61;
const STEPS: usize = 3_000;
/// Most machines, those that were removed included.
const MACHINES_MAX: usize = 8;

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
    leaders: BTreeMap<u64, u64>,
    changes: usize,
    /// Reads under way: (node, context) to the length of the history when they were asked.
    asked: BTreeMap<(u64, u64), u64>,
    answered: usize,
    answers_seen: BTreeMap<u64, usize>,
}

impl Observer {
    fn watch(&mut self, cluster: &Cluster) {
        for (&id, machine) in &cluster.machines {
            if let Some(status) = machine.node.as_ref().map(|node| node.status())
                && status.role == Role::Leader
            {
                let leader = *self.leaders.entry(status.term).or_insert(id);
                assert_eq!(leader, id, "two leaders in term {}", status.term);
            }
            let from = self.seen.entry(id).or_default();
            *from = (*from).min(machine.delivered.len());
            for entry in &machine.delivered[*from..] {
                let at = entry.index as usize - 1;
                match self.history.get(at) {
                    Some(known) => assert_eq!(known, entry, "node {id} delivered another entry"),
                    None => {
                        assert_eq!(at, self.history.len());
                        self.changes += usize::from(entry.members.is_some());
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
    let ids = cluster.ids();
    let id = ids[random.below(ids.len())];
    match random.below(200) {
        0 => {
            let reached = random.below(4);
            cluster.crash_after(id, reached);
        }
        1 => cluster.machines[&id].disk.fail_after(Some(random.below(5) as u64)),
        2..10 => {
            cluster.machines[&id].disk.fail_after(None);
            start(cluster, observer, id);
        }
        10 => cluster.isolate(id),
        11 => {
            let other = ids[random.below(ids.len())];
            cluster.cut.insert((id, other));
        }
        12..20 => cluster.cut.clear(),
        20..45 => {
            let data = format!("{step} by {id}").into_bytes();
            // A refusal is a fine answer; only what is delivered counts.
            let _ = cluster.node(id).map(|node| node.propose(data));
        }
        45..60 => {
            let floor = observer.history.len() as u64;
            if cluster.node(id).is_some_and(|node| node.read_index(step).is_ok()) {
                observer.asked.insert((id, step), floor);
            }
        }
        60..95 => {
            if let Some(node) = cluster.node(id) {
                node.tick();
            }
        }
        95..125 => {
            let count = 1 + random.below(3);
            if let Err(error) = cluster.write(id, count) {
                assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
                cluster.node(id).unwrap().step_down();
            }
        }
        125 => cluster.take_snapshot(id),
        126..129 => {
            let through = cluster.machines[&id].delivered.len().saturating_sub(random.below(20)) as u64;
            if let Some(node) = cluster.node(id) {
                node.compact(through);
            }
        }
        129..133 => cluster.serve(id),
        133 => {
            if let Some(offer) = cluster.machines.get_mut(&id).unwrap().offer.take()
                && let Some(node) = cluster.node(id)
            {
                node.snapshot_failed(offer.index);
            }
        }
        134 => {
            if let Some(node) = cluster.node(id) {
                let to = ids[random.below(ids.len())];
                if random.one_in(2) {
                    node.step_down();
                } else {
                    let _ = node.transfer_leader(to);
                }
            }
        }
        135..138 => change_members(cluster, random, step),
        _ => cluster.cycle_only(id).unwrap(),
    }
}

fn start(cluster: &mut Cluster, observer: &mut Observer, id: u64) {
    if cluster.node(id).is_none() {
        cluster.start(id).unwrap();
        observer.forget(id);
    }
}

/// Asks a leader for some change that it can make: a new machine as a learner, a vote for a learner, an end for a
/// member, or an exchange of one for another at once.
fn change_members(cluster: &mut Cluster, random: &mut Random, step: u64) {
    let leaders = cluster.leaders();
    let Some(&leader) = leaders.get(random.below(leaders.len().max(1))) else { return };
    let members = cluster.node(leader).unwrap().status().members;
    let voters = members.voters().collect::<Vec<_>>();
    let learners = members.learners().collect::<Vec<_>>();
    let voter = voters[random.below(voters.len())];
    let mut change = MemberChange::default();
    let new = cluster.machines.len() as u64 + 1;
    match random.below(4) {
        0 if cluster.machines.len() < MACHINES_MAX => change.learners = vec![new],
        1 if voters.len() > 1 => change.removed = vec![voter],
        2 => change.voters = learners,
        _ if voters.len() > 1 && !learners.is_empty() => {
            change.voters = vec![learners[0]];
            change.removed = vec![voter];
        }
        _ => return,
    }
    let context = format!("{step}: {change:?}").into_bytes();
    let adds = change.learners.contains(&new);
    if cluster.node(leader).unwrap().propose_members(&change, context).is_ok() && adds {
        cluster.start(new).unwrap();
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
    let (mut answered, mut delivered, mut changes, mut restored) = (0, 0, 0, 0);
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
        changes += observer.changes;
        restored += cluster.machines.values().map(|machine| machine.restored).sum::<usize>();
    }
    // Faults must not be all that happens.
    let figures = format!("{answered} reads answered, {delivered} entries, {changes} changes, {restored} snapshots");
    assert!(answered > 300 && delivered > 1_000 && changes > 50 && restored > 20, "only {figures}");
}

fn heal(cluster: &mut Cluster, observer: &mut Observer) {
    cluster.cut.clear();
    for id in cluster.ids() {
        cluster.machines[&id].disk.fail_after(None);
        start(cluster, observer, id);
    }
    for _ in 0..200 {
        cluster.tick_all();
        assert!(cluster.settle().is_empty());
        observer.watch(cluster);
    }
    let [leader] = cluster.leaders()[..] else {
        let statuses = cluster.machines.values().filter_map(|machine| machine.node.as_ref()).map(|node| node.status());
        panic!("no single leader after healing: {:#?}", statuses.collect::<Vec<_>>());
    };
    cluster.node(leader).unwrap().propose(b"healed".to_vec()).unwrap();
    for _ in 0..60 {
        cluster.tick_all();
        assert!(cluster.settle().is_empty());
        observer.watch(cluster);
    }
    assert_eq!(observer.history.last().unwrap().data, b"healed");
    let members = cluster.node(leader).unwrap().status().members;
    assert!(!members.is_joint());
    let is_member = |(id, _): &(&u64, &Machine)| members.contains(**id);
    for (id, machine) in cluster.machines.iter().filter(is_member) {
        assert_eq!(machine.delivered, observer.history, "node {id} misses entries after healing");
        assert_eq!(machine.members, members, "node {id} knows other members");
    }
}
