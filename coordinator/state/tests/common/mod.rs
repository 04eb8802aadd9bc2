//! A little world around the state machine: names for keys and ids, a clock, and a twin that applies the same log.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod language;

use matrixai_proto::v1::{self, command::Kind};
use matrixai_protocol::{beacon, sha256, vrf};
use matrixai_state::{
    Applied, EnvelopeResult, Outcome, State,
    ids::{AccountId, JobId, MachineId, NodeId},
    snapshot,
};
use prost::Message;
use std::collections::BTreeMap;

/// Ledger time at which every test begins.
pub const START_MS: u64 = 1_800_000_000_000;
/// Default life of an envelope.
pub const LIFE_MS: u64 = 60_000;

/// What a test network is founded with.
#[derive(Debug, Clone)]
pub struct Founding {
    pub nodes: u64,
    pub test_network: bool,
    pub faucet_daily: u128,
    pub faucet_total: u128,
    pub fee_bp: u32,
    pub epoch_beats: u32,
    /// `admin`, `admin2`, …
    pub admins: u64,
    pub admin_threshold: u32,
    pub limits: v1::Limits,
    pub minimum_balance: u128,
    pub economy: Option<v1::Economy>,
}

impl Default for Founding {
    fn default() -> Self {
        let mai = matrixai_state::money::MAI;
        Self {
            nodes: 3,
            test_network: true,
            faucet_daily: 100 * mai,
            faucet_total: 1_000 * mai,
            fee_bp: 100,
            epoch_beats: 5,
            admins: 1,
            admin_threshold: 0,
            limits: v1::Limits::default(),
            minimum_balance: 0,
            economy: None,
        }
    }
}

impl Founding {
    pub fn wire(&self) -> v1::Genesis {
        v1::Genesis {
            format: 1,
            network: "test".into(),
            test_network: self.test_network,
            nodes: (1..=self.nodes)
                .map(|id| v1::GenesisNode {
                    id,
                    key: vrf::public_key(&node_seed(id)).to_vec(),
                    grpc: format!("127.0.0.1:{}", 1000 + id),
                    web: format!("127.0.0.1:{}", 2000 + id),
                })
                .collect(),
            admin_keys: (1..=self.admins)
                .map(|number| if number == 1 { key("admin") } else { key(&format!("admin{number}")) }.to_vec())
                .collect(),
            faucet_daily: self.faucet_daily.to_string(),
            faucet_total: self.faucet_total.to_string(),
            fee_bp: self.fee_bp,
            beat_ms: 1_000,
            r0: sha256(&[b"r0"]).to_vec(),
            machine_timeout_ms: 5_000,
            epoch_beats: self.epoch_beats,
            created_ms: START_MS,
            admin_threshold: self.admin_threshold,
            limits: (self.limits != v1::Limits::default()).then_some(self.limits),
            minimum_balance: if self.minimum_balance == 0 { String::new() } else { self.minimum_balance.to_string() },
            economy: self.economy.clone(),
        }
    }
}

/// The private seed of a node.
pub fn node_seed(id: u64) -> [u8; 32] {
    sha256(&[b"node", &id.to_le_bytes()])
}

/// The key of a name: `n1`, `n2`, … are the nodes' (real ones, since they prove shares), others are just 32 bytes.
pub fn key(name: &str) -> [u8; 32] {
    match name.strip_prefix('n').and_then(|number| number.parse().ok()) {
        Some(id) => vrf::public_key(&node_seed(id)),
        None => sha256(&[b"key", name.as_bytes()]),
    }
}

/// How an envelope differs from an ordinary one.
#[derive(Debug, Clone, Default)]
pub struct Odd {
    pub id: Option<u64>,
    pub expires_in_ms: Option<i64>,
    pub cluster: Option<[u8; 32]>,
    pub method: Option<String>,
    pub no_commands: bool,
    pub linked: bool,
}

#[derive(Debug)]
pub struct World {
    pub state: State,
    twin: State,
    /// (index, entry) of everything applied.
    pub log: Vec<(u64, Vec<u8>)>,
    pub founding: Vec<u8>,
    pub now_ms: u64,
    pub names: BTreeMap<String, [u8; 20]>,
    next_id: u64,
    pub last: Applied,
    /// Sum of all changes of balances and holds so far.
    moved: i128,
}

impl World {
    pub fn new(founding: &Founding) -> Self {
        Self::of(founding.wire().encode_to_vec())
    }

    pub fn of(founding: Vec<u8>) -> Self {
        let state = State::genesis(&founding).unwrap();
        let twin = State::genesis(&founding).unwrap();
        Self {
            state,
            twin,
            log: Vec::new(),
            founding,
            now_ms: START_MS,
            names: BTreeMap::new(),
            next_id: 0,
            last: Applied::default(),
            moved: 0,
        }
    }

    /// The account of a name.
    pub fn account(&self, name: &str) -> AccountId {
        AccountId::SYSTEM
            .iter()
            .find(|(_, system)| *system == name)
            .map_or_else(|| AccountId::of_key(self.state.cluster_id(), &key(name)), |(id, _)| *id)
    }

    /// The machine of a name.
    pub fn machine(&self, name: &str) -> MachineId {
        MachineId::of_key(self.state.cluster_id(), &key(name))
    }

    /// The id that a scenario gave a name to.
    pub fn named(&self, name: &str) -> [u8; 20] {
        self.names.get(name).copied().unwrap_or_else(|| {
            // Unknown names are ids of nothing.
            let mut id = [0xee; 20];
            id[..name.len().min(20)].copy_from_slice(&name.as_bytes()[..name.len().min(20)]);
            id
        })
    }

    pub fn job(&self, name: &str) -> JobId {
        JobId(self.named(name))
    }

    /// An envelope of commands; not signed, since signatures are the edge's.
    pub fn envelope(&mut self, signer: &str, commands: Vec<Kind>, odd: &Odd) -> Vec<u8> {
        self.next_id += 1;
        let id = odd.id.map_or(self.next_id + 1_000_000, |id| id);
        let mut command_id = [0; 16];
        command_id[..8].copy_from_slice(&id.to_le_bytes());
        let commands = match odd.no_commands {
            true => Vec::new(),
            false => commands.into_iter().map(|kind| v1::Command { kind: Some(kind) }).collect(),
        };
        v1::Envelope {
            cluster_id: odd.cluster.unwrap_or(*self.state.cluster_id()).to_vec(),
            key: key(signer).to_vec(),
            method: odd.method.clone().unwrap_or_else(|| "commands".to_owned()),
            command_id: command_id.to_vec(),
            expires_ms: self.now_ms.wrapping_add_signed(odd.expires_in_ms.unwrap_or(LIFE_MS as i64)),
            payload: v1::Batch { commands, linked: odd.linked }.encode_to_vec(),
            signature: vec![0; 64],
        }
        .encode_to_vec()
    }

    /// Applies an entry to both replicas, which must stay equal and sound.
    pub fn apply(&mut self, envelopes: Vec<Vec<u8>>) -> &Applied {
        let entry = v1::LogEntry { now_ms: self.now_ms, rules_version: 1, envelopes }.encode_to_vec();
        let index = self.state.index() + 1;
        // A copy makes the market's engine anew, and must find the same.
        if self.twin.orders().next().is_some() {
            self.twin = self.twin.clone();
        }
        let applied = self.state.apply(index, &entry);
        assert_eq!(applied, self.twin.apply(index, &entry), "two replicas differ");
        if let Err(broken) = self.state.check_invariants() {
            panic!("entry {index}: {broken}");
        }
        self.moved += applied.movements.iter().map(|m| m.balance_change + m.held_change).sum::<i128>();
        let made = self.state.minted().units() as i128 - self.state.burned().units() as i128;
        assert_eq!(self.moved, made, "movements sum to what was made and not burned");
        self.log.push((index, entry));
        self.last = applied;
        &self.last
    }

    /// Submits one envelope in an entry of its own.
    pub fn submit(&mut self, signer: &str, commands: Vec<Kind>) -> EnvelopeResult {
        self.submit_odd(signer, commands, &Odd::default())
    }

    pub fn submit_odd(&mut self, signer: &str, commands: Vec<Kind>, odd: &Odd) -> EnvelopeResult {
        let envelope = self.envelope(signer, commands, odd);
        self.apply(vec![envelope]).results[0].clone()
    }

    /// Submits one command and wants its outcome.
    pub fn one(&mut self, signer: &str, command: Kind) -> Outcome {
        self.submit(signer, vec![command]).outcomes[0].clone()
    }

    /// An entry without envelopes: time passes.
    pub fn tick(&mut self) {
        self.apply(Vec::new());
    }

    /// The next beat with the shares of these nodes.
    pub fn beat_of(&self, nodes: &[u64]) -> Kind {
        let (number, r) = self.state.beacon();
        let alpha = beacon::alpha(self.state.cluster_id(), number + 1, &r);
        let shares = nodes
            .iter()
            .map(|node| v1::BeatShare { node: *node, proof: vrf::prove(&node_seed(*node), &alpha).to_vec() })
            .collect();
        Kind::Beat(v1::Beat { number: number + 1, shares })
    }

    /// One accepted beat, a second later.
    pub fn beat(&mut self) {
        self.now_ms += 1_000;
        let nodes: Vec<u64> = self.state.voters().map(|node| node.id.0).collect();
        let beat = self.beat_of(&nodes);
        // Whoever votes now: the first node may have been removed.
        let leader = format!("n{}", nodes[0]);
        assert_eq!(self.one(&leader, beat), Outcome::DONE);
    }

    /// What every scenario must satisfy at its end, whatever it was about.
    pub fn finish(&self) {
        assert_eq!(self.state.part_hashes(), self.twin.part_hashes(), "two replicas differ");
        let mut restored = restored(&snapshot_of(&self.state)).unwrap();
        assert_eq!(restored.root(), self.state.root(), "a snapshot keeps the root");
        let mut replayed = State::genesis(&self.founding).unwrap();
        for (index, entry) in &self.log {
            replayed.apply(*index, entry);
        }
        assert_eq!(replayed.part_hashes(), self.state.part_hashes(), "a replayed log ends in the same state");
        // A restored state goes on like the one it was taken of.
        let next = v1::LogEntry { now_ms: self.now_ms + 10_000, rules_version: 1, envelopes: Vec::new() };
        let applied = restored.apply(self.state.index() + 1, &next.encode_to_vec());
        let mut original = self.state.clone();
        assert_eq!(applied, original.apply(self.state.index() + 1, &next.encode_to_vec()));
        assert_eq!(restored.root(), original.root());
    }
}

/// The chunks of a state's snapshot, laid end to end.
pub fn snapshot_of(state: &State) -> Vec<u8> {
    snapshot::Chunks::new(state.clone(), b"members".to_vec()).flatten().collect()
}

/// The state of a snapshot, whose bytes arrive in odd pieces.
pub fn restored(bytes: &[u8]) -> Result<State, snapshot::SnapshotError> {
    let mut loader = snapshot::Loader::new();
    bytes.chunks(997).try_for_each(|piece| loader.push(piece))?;
    loader.finish()
}

/// The node of a name like `n1`.
pub fn node(name: &str) -> NodeId {
    NodeId(name.trim_start_matches('n').parse().unwrap())
}
