//! The plant: replicas, their appliers, logs in memory whose disks can fill up, snapshots in a temporary folder, a network
//! that can be cut, clocks that agree, and answers collected.

use super::*;
use crate::{
    core::CoreConfig,
    files::OsFiles,
    snapshots::{
        Loaded, Snapshots,
        fetch::{Arriving, PIECE_BYTES, Piece},
    },
};
use compaction::Policy;
use matrixai_consensus::{LogWriter as _, Members, MemoryDisk, MemoryStore, MemoryWriter, Node, NodeConfig, Start};
use matrixai_proto::{
    envelope::{COMMANDS, Signer},
    v1::{self, command::Kind},
};
use prost::Message as _;
use std::collections::BTreeSet;

const WALL: u64 = 1_900_000_000_000;
const TICK_MS: u64 = 50;

pub(super) fn signer(seed: u8) -> Signer {
    Signer::from_seed([seed; 32]).unwrap()
}

pub(super) fn create() -> Vec<Kind> {
    vec![Kind::CreateAccount(v1::CreateAccount::default())]
}

fn genesis(nodes: u64, beat_ms: u64) -> Vec<u8> {
    let node = |id: u64| v1::GenesisNode {
        id,
        key: signer(u8::try_from(id).unwrap()).public_key().to_vec(),
        grpc: format!("127.0.0.1:{}", 7_000 + id),
        web: format!("127.0.0.1:{}", 8_000 + id),
    };
    v1::Genesis {
        format: 1,
        network: "test".to_owned(),
        test_network: true,
        nodes: (1..=nodes).map(node).collect(),
        admin_keys: vec![signer(9).public_key().to_vec()],
        faucet_daily: "1000".to_owned(),
        faucet_total: "100000".to_owned(),
        fee_bp: 100,
        beat_ms,
        r0: vec![7; 32],
        machine_timeout_ms: 3_000,
        epoch_beats: 2,
        created_ms: WALL,
        ..v1::Genesis::default()
    }
    .encode_to_vec()
}

struct Member {
    id: u64,
    disk: MemoryDisk,
    snapshots: Snapshots,
    replica: Replica<MemoryStore>,
    writer: MemoryWriter,
    applier: Applier,
    /// The applier stands still.
    held: bool,
    to_apply: VecDeque<ToApply>,
    /// The writer stands still.
    stuck: bool,
    to_write: Vec<Write>,
    /// What the disk lacks, as told.
    full: Option<NoSpace>,
    replies: Vec<(Caller, Reply)>,
    views: Vec<(Reader, Arc<State>)>,
    refused: Vec<(Reader, NoView)>,
}

enum ToApply {
    Entries(Vec<Committed>, bool),
    Snapshot(u64),
}

pub(super) struct Plant {
    members: Vec<Member>,
    folder: tempfile::TempDir,
    policy: Policy,
    genesis: Vec<u8>,
    cut: BTreeSet<u64>,
    now: u64,
    commands: u64,
}

impl Plant {
    pub(super) fn new(nodes: u64) -> Self {
        Self::with(nodes, Policy::default())
    }

    pub(super) fn with(nodes: u64, policy: Policy) -> Self {
        Self::with_beats(nodes, policy, 60_000)
    }

    /// An epoch is two beats.
    pub(super) fn with_beats(nodes: u64, policy: Policy, beat_ms: u64) -> Self {
        let (genesis, folder) = (genesis(nodes, beat_ms), tempfile::tempdir().unwrap());
        let open = |id| Member::open(id, MemoryDisk::new(), folder.path(), &genesis, policy);
        let members = (1..=nodes).map(open).collect();
        Self { members, folder, policy, genesis, cut: BTreeSet::new(), now: 0, commands: 0 }
    }

    fn member(&mut self, id: u64) -> &mut Member {
        self.members.iter_mut().find(|member| member.id == id).unwrap()
    }

    pub(super) fn replica(&mut self, id: u64) -> &Replica<MemoryStore> {
        &self.member(id).replica
    }

    pub(super) fn views(&self) -> Vec<Arc<State>> {
        self.members.iter().map(|member| member.replica.view().clone()).collect()
    }

    pub(super) fn other(&self, than: u64) -> u64 {
        self.members.iter().map(|member| member.id).find(|id| *id != than).unwrap()
    }

    pub(super) fn genesis(&self) -> &[u8] {
        &self.genesis
    }

    pub(super) fn members(&mut self, id: u64) -> Members {
        self.member(id).replica.node().status().members
    }

    /// What a replica applied, from the first entry on.
    pub(super) fn entries(&mut self, id: u64) -> Vec<Committed> {
        self.member(id).replica.entries(1, u64::MAX, u64::MAX).unwrap()
    }

    /// Hands something to one replica.
    pub(super) fn on(&mut self, id: u64, input: Input) {
        let now = self.now;
        self.member(id).replica.on(input, now);
    }

    /// Carries work until nobody has any.
    pub(super) fn settle(&mut self) {
        loop {
            let mut quiet = true;
            for at in 0..self.members.len() {
                let now = self.now;
                let member = &mut self.members[at];
                member.write(now);
                member.apply(now);
                if !member.replica.is_busy() {
                    continue;
                }
                quiet = false;
                let from = member.id;
                for io in member.replica.drain(now) {
                    self.carry(at, from, io);
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn carry(&mut self, at: usize, from: u64, io: Io) {
        let now = self.now;
        let member = &mut self.members[at];
        match io {
            Io::Send { to, raft } => self.deliver(from, to, raft, None),
            Io::Broadcast(status) => {
                let others: Vec<u64> = self.members.iter().map(|member| member.id).filter(|id| *id != from).collect();
                others.into_iter().for_each(|to| self.deliver(from, to, Vec::new(), Some(status.clone())));
            }
            Io::Write(write) => member.to_write.push(write),
            Io::RetryWrites => member.stuck = false,
            Io::DiskFull(lacks) => member.full = lacks,
            Io::Apply { entries, view } => member.to_apply.push_back(ToApply::Entries(entries, view)),
            Io::Restore { index } => member.to_apply.push_back(ToApply::Snapshot(index)),
            Io::SaveSnapshot { header, view } => {
                let reference = member.snapshots.save(&header, &view).unwrap();
                member.replica.on(Input::SnapshotSaved { header, reference }, now);
            }
            Io::FetchSnapshot { from: source, reference } => self.fetch(from, source, reference),
            Io::Reply { caller, reply } => member.replies.push((caller, reply)),
            Io::View { readers, view } => member.views.extend(readers.into_iter().map(|reader| (reader, view.clone()))),
            Io::NoView { reader, why } => member.refused.push((reader, why)),
            Io::ComputeRoot(RootDue { epoch, index, view }) => {
                member.replica.on(Input::RootComputed { epoch, index, root: view.root() }, now);
            }
            Io::Stop(reason) => panic!("replica {from} stopped: {reason}"),
            Io::Relay { .. } | Io::Decided { .. } | Io::Proposed { .. } | Io::Place(_) | Io::Links(_) => {}
            Io::ToWorker { .. } | Io::EndSession { .. } => panic!("there are no workers"),
        }
    }

    fn deliver(&mut self, from: u64, to: u64, raft: Vec<Vec<u8>>, status: Option<PeerStatus>) {
        if !self.cut.contains(&from) && !self.cut.contains(&to) {
            self.on(to, Input::Peer { from, raft, status });
        }
    }

    fn fetch(&mut self, to: u64, from: u64, reference: Reference) {
        let index = reference.index;
        let (source, target) = (self.member(from).snapshots.clone(), self.member(to).snapshots.clone());
        let mut arriving = Arriving::begin(&target, reference.clone()).unwrap();
        while let Some(offset) = arriving.next() {
            let Ok(bytes) = source.read(&reference, offset, PIECE_BYTES) else {
                return self.on(to, Input::FetchFailed { index });
            };
            arriving.take(&Piece::new(offset, bytes)).unwrap();
        }
        arriving.install().unwrap();
        self.on(to, Input::SnapshotFetched { index });
    }

    /// Lets time pass, in ticks.
    pub(super) fn pass(&mut self, ms: u64) {
        for _ in 0..ms / TICK_MS {
            self.now += TICK_MS;
            let wall_ms = WALL + self.now;
            for id in self.members.iter().map(|member| member.id).collect::<Vec<_>>() {
                self.on(id, Input::Tick { wall_ms });
            }
            self.settle();
        }
    }

    pub(super) fn until_led(&mut self) -> u64 {
        for _ in 0..200 {
            self.pass(TICK_MS);
            let led = self.members.iter().find(|member| member.replica.place().role == Role::Leader);
            if let Some(id) = led.map(|member| member.id) {
                // A leader stamps once it has heard the others' clocks.
                self.pass(500);
                return id;
            }
        }
        panic!("nobody was elected");
    }

    pub(super) fn cut(&mut self, id: u64) {
        self.cut.insert(id);
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
    }

    pub(super) fn hold_applier(&mut self, id: u64, held: bool) {
        self.member(id).held = held;
    }

    pub(super) fn held_bytes(&mut self, id: u64) -> usize {
        let entries = self.member(id).to_apply.iter().flat_map(|waiting| match waiting {
            ToApply::Entries(entries, _) => entries.as_slice(),
            ToApply::Snapshot(_) => &[],
        });
        entries.map(|entry| entry.data.len()).sum()
    }

    pub(super) fn restart(&mut self, id: u64) {
        let disk = self.member(id).disk.clone();
        let member = Member::open(id, disk, self.folder.path(), &self.genesis, self.policy);
        *self.member(id) = member;
    }

    /// The disk under a member's log, and what the member says of it.
    pub(super) fn disk(&mut self, id: u64) -> (MemoryDisk, Option<NoSpace>) {
        let member = self.member(id);
        (member.disk.clone(), member.full.clone())
    }

    /// Writes of a member stay on their way until it is let go.
    pub(super) fn hold_writer(&mut self, id: u64, held: bool) {
        self.member(id).stuck = held;
    }

    /// Flips a bit in the newest snapshot of a member.
    pub(super) fn damage_snapshot(&mut self, id: u64) {
        let folder = self.folder.path().join(id.to_string());
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|ending| ending == "snapshot"));
        files.sort_unstable();
        let newest = files.pop().unwrap();
        let mut bytes = std::fs::read(&newest).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(newest, bytes).unwrap();
    }

    pub(super) fn snapshots(&mut self, id: u64) -> Vec<u64> {
        self.member(id).snapshots.indices().unwrap()
    }

    pub(super) fn submit(&mut self, to: u64, caller: Caller, by: &Signer, kinds: Vec<Kind>) {
        let commands = kinds.into_iter().map(|kind| v1::Command { kind: Some(kind) }).collect();
        self.submit_payload(to, caller, by, v1::Batch { commands, linked: false }.encode_to_vec());
    }

    /// An envelope so large that few fit an entry. The edge would refuse it; to the replica it is bytes.
    pub(super) fn submit_large(&mut self, to: u64, caller: Caller) {
        let by = signer(u8::try_from(100 + caller % 100).unwrap());
        self.submit_payload(to, caller, &by, vec![0xff; 700 << 10]);
    }

    fn submit_payload(&mut self, to: u64, caller: Caller, by: &Signer, payload: Vec<u8>) {
        self.commands += 1;
        let mut command_id = [0; 16];
        command_id[..8].copy_from_slice(&self.commands.to_le_bytes());
        let hash = matrixai_protocol::sha256(&[&payload]);
        let cluster_id = *self.member(to).replica.view().cluster_id();
        let envelope = by.seal(cluster_id, COMMANDS, command_id, WALL + self.now + 60_000, payload);
        let envelope = Waiting { id: (by.public_key(), command_id), payload: hash, bytes: envelope.encode_to_vec() };
        self.on(to, Input::Submit { caller, envelope });
    }

    /// The replies so far.
    pub(super) fn replies(&mut self, id: u64) -> Vec<(Caller, Reply)> {
        self.member(id).replies.clone()
    }

    /// Takes the answers of reads.
    pub(super) fn read(&mut self, id: u64) -> Vec<(Reader, Arc<State>)> {
        std::mem::take(&mut self.member(id).views)
    }

    /// Reads refused so far, in order of reader.
    pub(super) fn refused(&mut self, id: u64) -> Vec<(Reader, NoView)> {
        let mut refused = self.member(id).refused.clone();
        refused.sort_unstable_by_key(|(reader, _)| *reader);
        refused
    }
}

impl Member {
    fn open(id: u64, disk: MemoryDisk, folder: &std::path::Path, genesis: &[u8], policy: Policy) -> Self {
        let state = State::genesis(genesis).unwrap();
        let founding = state.founding().clone();
        let voters: Vec<u64> = founding.nodes.iter().map(|node| node.id.0).collect();
        let snapshots = Snapshots::open(Arc::new(OsFiles), &folder.join(id.to_string())).unwrap();
        let (state, start) = match snapshots.newest(state.cluster_id()).unwrap() {
            None => (state, Start::genesis(&voters).unwrap()),
            Some(Loaded { header: Header { index, term, members, .. }, state, .. }) => {
                (state, Start { index, term, members: Members::decode(&members).unwrap() })
            }
        };
        let core = CoreConfig {
            me: id,
            cluster_id: *state.cluster_id(),
            told: Vec::new(),
            signer: signer(u8::try_from(id).unwrap()),
            boot: [u8::try_from(id).unwrap(); 8],
            beat_ms: founding.beat_ms,
            machine_timeout_ms: founding.machine_timeout_ms,
        };
        let view = Arc::new(state.clone());
        let node = Node::open(NodeConfig::new(id, 7), MemoryStore::open(&disk).unwrap(), &start).unwrap();
        let writer = node.writer();
        let Start { index, term, members } = start;
        let compaction = Compaction::new(policy, index, term, members.clone(), snapshots.indices().unwrap());
        Self {
            id,
            disk,
            snapshots,
            replica: Replica::new(node, Core::new(core, view.clone()), view, id << 32, compaction),
            writer,
            applier: Applier::new(state, term, members),
            held: false,
            to_apply: VecDeque::new(),
            stuck: false,
            to_write: Vec::new(),
            full: None,
            replies: Vec::new(),
            views: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// Everything that waits goes to the disk at once.
    fn write(&mut self, now: u64) {
        let Some(number) = self.to_write.last().map(Write::number).filter(|_| !self.stuck) else { return };
        match self.writer.write(&self.to_write) {
            Ok(()) => {
                self.to_write.clear();
                self.replica.on(Input::Written { number }, now);
            }
            Err(error) => {
                self.stuck = true;
                self.replica.on(Input::WriteFailed { error }, now);
            }
        }
    }

    fn apply(&mut self, now: u64) {
        while !self.held
            && let Some(waiting) = self.to_apply.pop_front()
        {
            let batch = match waiting {
                ToApply::Entries(entries, view) => self.applier.apply(&entries, view).0,
                ToApply::Snapshot(index) => {
                    let Loaded { header, state, .. } = self.snapshots.load(index).unwrap();
                    let members = Members::decode(&header.members).unwrap();
                    self.applier.restore(state, &header, members)
                }
            };
            self.replica.on(Input::Applied(batch), now);
        }
    }
}
