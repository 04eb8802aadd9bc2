//! A cluster in one thread: nodes over memory disks, callers whose state is the list of what was delivered, and a network
//! that is a queue.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod recorder;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::atomic::{AtomicU64, Ordering},
};

use matrixai_consensus::{
    Batch, Committed, Error, LogStore, LogWriter as _, Members, MemoryDisk, MemoryStore, MemoryWriter, Message, Node,
    NodeConfig, Role, SnapshotMeta, SnapshotOffer, Start, StoreError, Write,
};

/// A message under way.
#[derive(Debug, Clone)]
pub struct Packet {
    pub from: u64,
    pub to: u64,
    pub bytes: Vec<u8>,
}

/// A caller's state and where in the log it is: what a snapshot holds.
#[derive(Debug, Clone)]
pub struct Saved {
    pub meta: SnapshotMeta,
    pub delivered: Vec<Committed>,
}

/// One machine: its disk and its snapshot outlive the node that runs on it.
#[derive(Debug, Default)]
pub struct Machine {
    pub disk: MemoryDisk,
    pub saved: Option<Saved>,
    pub node: Option<Node<MemoryStore>>,
    pub writer: Option<MemoryWriter>,
    /// Given out by the node and not on the disk.
    pub writes: VecDeque<Write>,
    pub offer: Option<SnapshotOffer>,
    /// A snapshot that was fetched and the node has not said to restore.
    pub fetched: Option<Saved>,
    pub wanted: bool,
    /// The state: everything from index 1 on, delivered in this life or restored.
    pub delivered: Vec<Committed>,
    pub members: Members,
    /// Reads that this life of the node answered: context and index.
    pub reads: Vec<(u64, u64)>,
    pub restored: usize,
}

impl Machine {
    fn take_snapshot(&mut self) {
        let (Some(node), Some(last)) = (self.node.as_mut(), self.delivered.last()) else { return };
        if self.saved.as_ref().is_some_and(|saved| saved.meta.index == last.index) {
            return;
        }
        let meta = SnapshotMeta {
            index: last.index,
            term: last.term,
            members: self.members.clone(),
            data: format!("state {}", last.index).into_bytes(),
        };
        self.saved = Some(Saved { meta: meta.clone(), delivered: self.delivered.clone() });
        node.snapshot_taken(meta);
    }
}

#[derive(Debug)]
pub struct Cluster {
    pub machines: BTreeMap<u64, Machine>,
    pub network: VecDeque<Packet>,
    pub cut: BTreeSet<(u64, u64)>,
    pub founders: Vec<u64>,
    /// Whether callers leave offers and wishes for snapshots alone.
    pub unhelpful: bool,
    seed: u64,
}

impl Cluster {
    pub fn new(nodes: u64, seed: u64) -> Self {
        let founders: Vec<u64> = (1..=nodes).collect();
        let machines = founders.iter().map(|&id| (id, Machine::default())).collect();
        let mut cluster =
            Self { machines, network: VecDeque::new(), cut: BTreeSet::new(), founders, unhelpful: false, seed };
        for id in cluster.ids() {
            cluster.start(id).unwrap();
        }
        cluster
    }

    pub fn ids(&self) -> Vec<u64> {
        self.machines.keys().copied().collect()
    }

    /// Starts a node on what its machine holds: one that is new finds itself in the log later.
    pub fn start(&mut self, id: u64) -> Result<(), Error> {
        let machine = self.machines.entry(id).or_default();
        let start = match &machine.saved {
            Some(Saved { meta, .. }) => Start { index: meta.index, term: meta.term, members: meta.members.clone() },
            None => Start::genesis(&self.founders)?,
        };
        let store = MemoryStore::open(&machine.disk)?;
        let mut node = Node::open(NodeConfig::new(id, self.seed), store, &start)?;
        machine.members = start.members;
        machine.delivered.clear();
        if let Some(saved) = &machine.saved {
            machine.delivered = saved.delivered.clone();
            node.snapshot_taken(saved.meta.clone());
        }
        machine.writer = Some(node.writer());
        machine.node = Some(node);
        machine.reads.clear();
        machine.writes.clear();
        (machine.offer, machine.fetched, machine.wanted) = (None, None, false);
        Ok(())
    }

    /// Stops a node; of its writes under way the first `reached` are on the disk.
    pub fn crash_after(&mut self, id: u64, reached: usize) {
        let machine = self.machines.get_mut(&id).unwrap();
        if let Some(mut writer) = machine.writer.take() {
            let writes = machine.writes.make_contiguous();
            // A full disk stops the rest.
            let _ = writer.write(&writes[..reached.min(writes.len())]);
        }
        machine.writes.clear();
        machine.node = None;
    }

    pub fn crash(&mut self, id: u64) {
        self.crash_after(id, 0);
    }

    pub fn node(&mut self, id: u64) -> Option<&mut Node<MemoryStore>> {
        self.machines.get_mut(&id)?.node.as_mut()
    }

    pub fn isolate(&mut self, id: u64) {
        for other in self.ids() {
            self.cut.extend([(id, other), (other, id)]);
        }
    }

    /// Runs one cycle of one node without writing, and checks what it delivers: indices without a gap.
    pub fn cycle_only(&mut self, id: u64) -> Result<(), Error> {
        let machine = self.machines.get_mut(&id).unwrap();
        let Some(node) = machine.node.as_mut().filter(|node| node.has_ready()) else { return Ok(()) };
        let network = &mut self.network;
        let output = match node.ready(&mut |messages| carry(network, id, messages)) {
            Ok(output) => output,
            Err(error) => {
                machine.node = None;
                return Err(error);
            }
        };
        machine.writes.extend(output.write);
        if let Some(index) = output.restore {
            let saved = machine.fetched.take().expect("a snapshot is restored that was not fetched");
            assert_eq!(saved.meta.index, index);
            machine.members = saved.meta.members.clone();
            machine.delivered = saved.delivered.clone();
            machine.saved = Some(saved);
            machine.restored += 1;
        }
        for entry in output.committed {
            assert_eq!(entry.index, machine.delivered.len() as u64 + 1, "node {id} skipped an entry");
            node.applied(entry.index);
            if let Some(members) = &entry.members {
                machine.members = members.clone();
            }
            machine.delivered.push(entry);
        }
        machine.reads.extend(output.reads);
        if output.snapshot_offer.is_some() {
            machine.offer = output.snapshot_offer;
        }
        machine.wanted |= output.snapshot_wanted;
        Ok(())
    }

    /// Puts the first `count` writes of a node on its disk, in one group.
    pub fn write(&mut self, id: u64, count: usize) -> Result<(), StoreError> {
        let machine = self.machines.get_mut(&id).unwrap();
        let count = count.min(machine.writes.len());
        let Some(node) = machine.node.as_mut().filter(|_| count > 0) else { return Ok(()) };
        machine.writer.as_mut().unwrap().write(&machine.writes.make_contiguous()[..count])?;
        let number = machine.writes.drain(..count).next_back().unwrap().number();
        let network = &mut self.network;
        node.written(number, &mut |messages| carry(network, id, messages)).unwrap();
        Ok(())
    }

    /// Runs one cycle of one node and writes what it wants written. A node that cannot is stopped.
    pub fn cycle(&mut self, id: u64) -> Result<(), Error> {
        self.cycle_only(id)?;
        if let Err(error) = self.write(id, usize::MAX) {
            self.crash(id);
            return Err(error.into());
        }
        Ok(())
    }

    /// The offered snapshot's data, from whoever still has it.
    pub fn fetch(&mut self, id: u64) {
        let Some(offer) = self.machines.get_mut(&id).unwrap().offer.take() else { return };
        let fits = |saved: &&Saved| saved.meta.index == offer.index && saved.meta.data == offer.data;
        let found = self.machines.values().filter_map(|machine| machine.saved.as_ref()).find(fits).cloned();
        let machine = self.machines.get_mut(&id).unwrap();
        let Some(node) = machine.node.as_mut() else { return };
        match found {
            Some(saved) => {
                assert_eq!((saved.meta.term, &saved.meta.members), (offer.term, &offer.members));
                // Durable before the node hears of it: a crash from here on starts with it, unless there is a newer one.
                if machine.saved.as_ref().is_none_or(|own| own.meta.index < saved.meta.index) {
                    machine.saved = Some(saved.clone());
                }
                machine.fetched = Some(saved);
                node.snapshot_fetched(offer.index).unwrap();
            }
            None => node.snapshot_failed(offer.index),
        }
    }

    pub fn take_snapshot(&mut self, id: u64) {
        self.machines.get_mut(&id).unwrap().take_snapshot();
    }

    /// What a caller does beside cycles: snapshots that are wanted, data that is offered.
    pub fn serve(&mut self, id: u64) {
        let machine = self.machines.get_mut(&id).unwrap();
        if std::mem::take(&mut machine.wanted) {
            machine.take_snapshot();
        }
        self.fetch(id);
    }

    /// Delivers one packet, unless its way is cut or its receiver is down.
    pub fn deliver(&mut self, packet: Packet) -> Result<(), Error> {
        if self.cut.contains(&(packet.from, packet.to)) {
            return Ok(());
        }
        let to = packet.to;
        let stepped = self.node(to).map_or(Ok(()), |node| node.step(&packet.bytes));
        if stepped.as_ref().is_err_and(Error::is_fatal) {
            self.crash(to);
        }
        stepped
    }

    /// Runs cycles and delivers in order until nothing moves. Errors by node.
    pub fn settle(&mut self) -> Vec<(u64, Error)> {
        let mut errors = Vec::new();
        loop {
            for id in self.ids() {
                let busy = |machine: &Machine| {
                    machine.node.as_ref().is_some_and(|node| node.has_ready() || !machine.writes.is_empty())
                };
                while busy(&self.machines[&id]) {
                    if let Err(error) = self.cycle(id) {
                        errors.push((id, error));
                    }
                    if !self.unhelpful {
                        self.serve(id);
                    }
                }
            }
            let Some(packet) = self.network.pop_front() else { return errors };
            let to = packet.to;
            if let Err(error) = self.deliver(packet) {
                errors.push((to, error));
            }
        }
    }

    pub fn tick_all(&mut self) {
        for machine in self.machines.values_mut() {
            if let Some(node) = &mut machine.node {
                node.tick();
            }
        }
    }

    /// Lets time pass for one node alone.
    pub fn run_ticks_of(&mut self, id: u64, ticks: usize) {
        for _ in 0..ticks {
            self.node(id).unwrap().tick();
        }
    }

    /// Lets time pass in a cluster in which nothing goes wrong.
    #[track_caller]
    pub fn run(&mut self, ticks: usize) {
        for _ in 0..ticks {
            self.tick_all();
            let errors = self.settle();
            assert!(errors.is_empty(), "{errors:?}");
        }
    }

    pub fn leaders(&self) -> Vec<u64> {
        let leads = |machine: &Machine| machine.node.as_ref().is_some_and(|node| node.status().role == Role::Leader);
        self.machines.iter().filter(|(_, machine)| leads(machine)).map(|(&id, _)| id).collect()
    }
}

fn carry(network: &mut VecDeque<Packet>, from: u64, messages: Vec<Message>) {
    network.extend(messages.into_iter().map(|message| Packet { from, to: message.to, bytes: message.bytes }));
}

/// Stages a batch and writes it, as a node and its writer do together.
pub fn append(store: &mut impl LogStore, batch: &Batch) -> Result<(), StoreError> {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let write = Write::new(NUMBER.fetch_add(1, Ordering::Relaxed), batch.clone());
    store.stage(&write)?;
    store.writer().write(std::slice::from_ref(&write))?;
    store.settled(write.number());
    Ok(())
}
