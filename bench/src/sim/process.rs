//! One coordinator's process: the shipped replica, applier, log and snapshots. What the product's threads do beside the
//! replica's (write the log, apply, save and restore snapshots, compute roots) is done here as [`Task`]s, when the
//! world says that their time has come; so each may be slow, and a crash may fall between any two.

mod keeping;
mod tasks;

pub use keeping::{carry_segment, sealed};
pub use tasks::carry;

use super::{disk::Disk, rng::mix};
use matrixai_consensus::{Committed, EngineStore, LogStore, Members, Node, NodeConfig, SnapshotMeta, Start, Write};
use matrixai_coordinator::{
    admission::{self, NotAdmitted},
    archive::{Archive, Segment, keeper::Keeper},
    core::{self, Address, Core, CoreConfig},
    files::Files,
    replica::{
        Applier, Input, Io, Replica, RootDue,
        compaction::{Compaction, Policy},
    },
    snapshots::{Header, Loaded, Snapshots},
};
use matrixai_proto::envelope::Signer;
use matrixai_state::{Applied, State, ids::Hash};
use std::{collections::VecDeque, path::Path, sync::Arc};

/// Snapshots come often here, so that a seed sees several.
const POLICY: Policy = Policy { log_bytes: 256 << 10, log_entries: 250, tail_entries: 50 };

/// What a coordinator is founded with.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its number.
    pub id: u64,
    /// The seed of its key.
    pub key_seed: [u8; 32],
    /// The genesis of the cluster.
    pub genesis: Arc<Vec<u8>>,
    /// Numbers of the coordinators of genesis.
    pub voters: Vec<u64>,
    /// The coordinators that it was told of when it joined; none for those of genesis.
    pub told: Vec<Address>,
}

/// Work that a process does beside its replica, in the order in which it asks for it, each kind by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Write what waits to the log, with one sync.
    WriteLog,
    /// Tell the replica that the writes up to this number are safe.
    TellWritten(u64),
    /// Apply what is committed, or restore a fetched snapshot.
    Apply,
    /// Save a snapshot.
    SaveSnapshot,
    /// Compute a root.
    ComputeRoot,
    /// Put applied entries into the archive.
    Archive,
}

impl Task {
    /// Its name, for the coverage of crash points.
    pub fn name(self) -> &'static str {
        match self {
            Self::WriteLog => "log write",
            Self::TellWritten(_) => "log write's acknowledgement",
            Self::Apply => "apply",
            Self::SaveSnapshot => "snapshot",
            Self::ComputeRoot => "root",
            Self::Archive => "archive",
        }
    }
}

/// What a process wants done, or has done.
// Made and taken one at a time: the size of one is no matter.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub enum Output {
    /// Something for the world outside.
    Io(Box<Io>),
    /// Call [`Process::perform`] with this after a while.
    Later(Task),
    /// An entry was applied.
    Applied {
        /// The entry.
        entry: Committed,
        /// What it left.
        applied: Applied,
        /// The state before and after it, unless somebody had applied it already: then nobody looks at them.
        states: Option<(Arc<State>, Arc<State>)>,
    },
    /// The state was replaced by a snapshot's, of this index.
    Restored(u64),
    /// A snapshot is durable.
    Saved(u64),
    /// A root was computed.
    Root { epoch: u64, root: Hash },
    /// A segment was sealed.
    Sealed(Segment),
    /// The archive goes on behind this entry, since what is before it is not on this disk.
    Skipped(u64),
    /// The archive was refused by the disk.
    NotArchived(String),
    /// It ends itself.
    Stop(String),
}

enum ToApply {
    Entries { entries: Vec<Committed>, view: bool },
    Restore(u64),
}

/// A living process.
pub struct Process {
    replica: Replica<EngineStore<Disk>>,
    /// Numbers of those that it was told of when it joined.
    told: Vec<u64>,
    applier: Applier,
    /// The newest state that the applier was asked for, since the next entry copies whatever of it is shared.
    newest: Arc<State>,
    writer: <EngineStore<Disk> as LogStore>::Writer,
    snapshots: Snapshots,
    writes: VecDeque<Write>,
    /// A write was refused: what waits is tried again when the replica says so.
    refused: bool,
    applying: VecDeque<ToApply>,
    saving: VecDeque<(Header, Arc<State>)>,
    roots: VecDeque<RootDue>,
    keeper: Keeper,
    archiving: VecDeque<Vec<Committed>>,
}

impl Process {
    /// Starts on what its disk holds. `boot` differs between two lives of one node; `now` is its
    /// monotonic time, ms.
    ///
    /// # Errors
    /// Why it cannot start.
    pub fn start(me: &Identity, disk: &Disk, folder: &Path, boot: u64, now: u64) -> Result<Self, String> {
        let log = folder.join("raft");
        disk.mirror(&log).map_err(|error| error.to_string())?;
        let genesis = State::genesis(&me.genesis).map_err(|error| error.to_string())?;
        let founding = genesis.founding();
        let (beat_ms, machine_timeout_ms) = (founding.beat_ms, founding.machine_timeout_ms);
        let files: Arc<dyn Files> = Arc::new(disk.clone());
        let archive = Archive::open(files.clone(), &folder.join("segments"), *genesis.cluster_id());
        let archive = archive.map_err(|error| error.to_string())?;
        let snapshots = Snapshots::open(files, &folder.join("snapshots")).map_err(|error| error.to_string())?;
        let (state, start, newest) = restored(&snapshots, genesis, &me.voters)?;
        let store =
            EngineStore::open_with_file_system(&log, Arc::new(disk.clone())).map_err(|error| error.to_string())?;
        let config = NodeConfig::new(me.id, mix(boot));
        let mut node = Node::open(config, store, &start).map_err(|error| error.to_string())?;
        let writer = node.writer();
        let kept = snapshots.indices().map_err(|error| error.to_string())?;
        let compaction = Compaction::new(POLICY, start.index, start.term, start.members.clone(), kept);
        if let Some(newest) = newest {
            node.snapshot_taken(newest);
        }
        let view = Arc::new(state.clone());
        let config = CoreConfig {
            me: me.id,
            cluster_id: *state.cluster_id(),
            told: me.told.clone(),
            signer: Signer::from_seed(me.key_seed).map_err(|error| error.to_string())?,
            boot: boot.to_le_bytes(),
            beat_ms,
            machine_timeout_ms,
        };
        let core = Core::new(config, view.clone());
        let mut process = Self {
            newest: view.clone(),
            told: me.told.iter().map(|address| address.id).collect(),
            replica: Replica::new(node, core, view, mix(boot ^ 1), compaction),
            applier: Applier::new(state, start.term, start.members),
            writer,
            snapshots,
            writes: VecDeque::new(),
            refused: false,
            applying: VecDeque::new(),
            saving: VecDeque::new(),
            roots: VecDeque::new(),
            keeper: keeping::keeper(archive),
            archiving: VecDeque::new(),
        };
        process.tell_known(now);
        Ok(process)
    }

    /// The state that this process has come to.
    pub fn state(&self) -> &State {
        self.applier.state()
    }

    /// This process's newest view.
    pub fn view(&self) -> &Arc<State> {
        self.replica.view()
    }

    /// The leader as this process knows it, 0 for none.
    pub fn leader(&self) -> u64 {
        self.replica.place().leader
    }

    /// Whether it believes that it leads.
    pub fn leads(&self) -> bool {
        self.replica.place().role == core::Role::Leader
    }

    /// Whether it listens to another coordinator.
    ///
    /// # Errors
    /// Why not.
    pub fn admits(&self, id: u64) -> Result<(), NotAdmitted> {
        admission::admit(self.view(), self.members(), self.told.iter().copied(), id)
    }

    /// The log's members, as far as this one knows.
    pub fn members(&self) -> &Members {
        self.replica.node().members()
    }

    /// Hands the leader's office over, if this one has it.
    pub fn transfer_leader(&mut self, to: u64) -> bool {
        self.replica.transfer_leader(to).is_ok()
    }

    /// The snapshots on its disk.
    pub fn snapshots(&self) -> &Snapshots {
        &self.snapshots
    }

    /// Takes inputs that arrived together, at a monotonic time in ms.
    pub fn on(&mut self, inputs: impl IntoIterator<Item = Input>, now: u64) -> Vec<Output> {
        let mut out = Vec::new();
        for input in inputs {
            self.replica.on(input, now);
        }
        self.drain(now, &mut out);
        out
    }

    /// Does a task whose time has come. Entries up to `known` have been applied by somebody already.
    pub fn perform(&mut self, task: Task, known: u64, now: u64) -> Vec<Output> {
        let mut out = Vec::new();
        if let Some(input) = self.task(task, known, &mut out) {
            self.replica.on(input, now);
            self.drain(now, &mut out);
        }
        out
    }

    fn drain(&mut self, now: u64, out: &mut Vec<Output>) {
        loop {
            for io in self.replica.drain(now) {
                match io {
                    Io::Write(write) => {
                        self.writes.push_back(write);
                        if !self.refused {
                            out.push(Output::Later(Task::WriteLog));
                        }
                    }
                    Io::RetryWrites => {
                        self.refused = false;
                        out.push(Output::Later(Task::WriteLog));
                    }
                    Io::Apply { entries, view } => {
                        self.applying.push_back(ToApply::Entries { entries, view });
                        out.push(Output::Later(Task::Apply));
                    }
                    Io::Restore { index } => {
                        self.applying.push_back(ToApply::Restore(index));
                        out.push(Output::Later(Task::Apply));
                    }
                    Io::SaveSnapshot { header, view } => {
                        self.saving.push_back((header, view));
                        out.push(Output::Later(Task::SaveSnapshot));
                    }
                    Io::ComputeRoot(due) => {
                        self.roots.push_back(due);
                        out.push(Output::Later(Task::ComputeRoot));
                    }
                    Io::Stop(reason) => out.push(Output::Stop(reason)),
                    io => out.push(Output::Io(Box::new(io))),
                }
            }
            if !self.replica.is_busy() {
                return;
            }
        }
    }
}

/// The state to begin with, as `startup.rs` finds it: that of the newest whole snapshot, or the genesis.
fn restored(
    snapshots: &Snapshots,
    genesis: State,
    voters: &[u64],
) -> Result<(State, Start, Option<SnapshotMeta>), String> {
    let newest = snapshots.newest(genesis.cluster_id()).map_err(|error| error.to_string())?;
    let Some(Loaded { header, reference, state }) = newest else {
        let start = Start::genesis(voters).map_err(|error| error.to_string())?;
        return Ok((genesis, start, None));
    };
    let members = Members::decode(&header.members).map_err(|error| error.to_string())?;
    let (index, term) = (header.index, header.term);
    let newest = SnapshotMeta { index, term, members: members.clone(), data: reference.encode() };
    Ok((state, Start { index, term, members }, Some(newest)))
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("place", &self.replica.place()).finish_non_exhaustive()
    }
}
