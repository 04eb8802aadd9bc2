//! A cluster in one thread: nodes over memory disks, and a network that is a queue.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::atomic::{AtomicU64, Ordering},
};

use matrixai_consensus::{
    Batch, Committed, Error, LogStore, LogWriter as _, MemoryDisk, MemoryStore, MemoryWriter, Message, Node,
    NodeConfig, Role, Start, StoreError, Write,
};

/// A message under way.
#[derive(Debug, Clone)]
pub struct Packet {
    pub from: u64,
    pub to: u64,
    pub bytes: Vec<u8>,
}

/// One machine: its disk outlives the node that runs on it.
#[derive(Debug, Default)]
pub struct Machine {
    pub disk: MemoryDisk,
    pub node: Option<Node<MemoryStore>>,
    pub writer: Option<MemoryWriter>,
    /// What this life of the node delivered, from index 1.
    pub delivered: Vec<Committed>,
    /// Reads that this life of the node answered: context and index.
    pub reads: Vec<(u64, u64)>,
}

#[derive(Debug)]
pub struct Cluster {
    pub machines: BTreeMap<u64, Machine>,
    pub network: VecDeque<Packet>,
    pub cut: BTreeSet<(u64, u64)>,
    seed: u64,
}

impl Cluster {
    pub fn new(nodes: u64, seed: u64) -> Self {
        let machines = (1..=nodes).map(|id| (id, Machine::default())).collect();
        let mut cluster = Self { machines, network: VecDeque::new(), cut: BTreeSet::new(), seed };
        for id in 1..=nodes {
            cluster.start(id).unwrap();
        }
        cluster
    }

    pub fn ids(&self) -> Vec<u64> {
        self.machines.keys().copied().collect()
    }

    pub fn start(&mut self, id: u64) -> Result<(), Error> {
        let voters = self.ids();
        let machine = self.machines.get_mut(&id).unwrap();
        let store = MemoryStore::open(&machine.disk)?;
        let node = Node::open(NodeConfig::new(id, self.seed), store, &Start::genesis(&voters)?)?;
        machine.writer = Some(node.writer());
        machine.node = Some(node);
        machine.delivered.clear();
        machine.reads.clear();
        Ok(())
    }

    pub fn crash(&mut self, id: u64) {
        self.machines.get_mut(&id).unwrap().node = None;
    }

    pub fn node(&mut self, id: u64) -> Option<&mut Node<MemoryStore>> {
        self.machines.get_mut(&id)?.node.as_mut()
    }

    pub fn isolate(&mut self, id: u64) {
        for other in self.ids() {
            self.cut.extend([(id, other), (other, id)]);
        }
    }

    /// Runs one cycle of one node, writes what it wants written, and checks what it delivers: indices without a gap, reads only of what is asked.
    pub fn cycle(&mut self, id: u64) -> Result<(), Error> {
        let machine = self.machines.get_mut(&id).unwrap();
        let Some(node) = machine.node.as_mut().filter(|node| node.has_ready()) else { return Ok(()) };
        let network = &mut self.network;
        let mut send = |messages: Vec<Message>| {
            network.extend(messages.into_iter().map(|message| Packet {
                from: id,
                to: message.to,
                bytes: message.bytes,
            }));
        };
        let mut run = || -> Result<_, Error> {
            let output = node.ready(&mut send)?;
            if let Some(write) = &output.write {
                machine.writer.as_mut().unwrap().write(std::slice::from_ref(write))?;
                node.written(write.number(), &mut send)?;
            }
            Ok(output)
        };
        let output = match run() {
            Ok(output) => output,
            Err(error) => {
                machine.node = None;
                return Err(error);
            }
        };
        for entry in output.committed {
            assert_eq!(entry.index, machine.delivered.len() as u64 + 1, "node {id} skipped an entry");
            node.applied(entry.index);
            machine.delivered.push(entry);
        }
        machine.reads.extend(output.reads);
        Ok(())
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
                while self.node(id).is_some_and(|node| node.has_ready()) {
                    if let Err(error) = self.cycle(id) {
                        errors.push((id, error));
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

    pub fn leaders(&self) -> Vec<u64> {
        let leads = |machine: &Machine| machine.node.as_ref().is_some_and(|node| node.status().role == Role::Leader);
        self.machines.iter().filter(|(_, machine)| leads(machine)).map(|(&id, _)| id).collect()
    }
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
