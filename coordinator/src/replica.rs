//! One coordinator's part in the quorum, whole and pure: the consensus node, the [`Core`] and the waiting reads behind one
//! [`Replica::on`], and beside it the [`Applier`] that owns the state. Inputs and a monotonic time go in, [`Io`] comes out;
//! whoever carries it (threads and actors in the product, one loop in the simulator) decides nothing.
//!
//! # What the carrier owes
//!
//! * Hand in what happens with [`Replica::on`]; when nothing more waits, take the work with [`Replica::drain`], again while
//!   [`Replica::is_busy`]. Envelopes handed in between two drains share an entry.
//! * Carry the work out in the order it comes; work of one kind may be slow without that of others waiting for it.
//!   [`Io::Write`] goes to the log's one writer, several at once if several wait, and comes back as [`Input::Written`].
//!   [`Io::Apply`] and [`Io::Restore`] go to the one [`Applier`], and come back as [`Input::Applied`].
//! * [`Io::Stop`] ends the process: nothing more comes out after it.
//!
//! # Order
//!
//! Acknowledgements leave after what they acknowledge was written. A caller is answered only from applied, committed
//! entries; a read only from a view that holds everything acknowledged before it was asked for. The log is cut only behind
//! a durable snapshot **and** behind what is sealed into segments ([`compaction`]). Everything that waits is bounded: what
//! is full is refused or, where it comes from the log, left there until there is room.

mod acting;
mod applier;
pub mod compaction;
mod cycle;
mod disk;
#[cfg(test)]
mod tests;
mod views;

pub use applier::{AppliedBatch, Applier, EntryNews, RootDue};

use crate::{
    core::{Address, Core, Event, PeerRefusal, Reply, SessionId, ToWorker},
    pending::{Caller, Waiting},
    reads::{ReadMode, Reads},
    shared::Role,
    snapshots::{Header, Reference},
};
use compaction::Compaction;
use disk::Disk;
use matrixai_consensus::{Committed, LogStore, Node, ProposeError, StoreError, Write};
use matrixai_proto::v1::{Envelope, PeerStatus};
use matrixai_state::{
    State,
    ids::{Hash, MachineId},
};
use std::{collections::VecDeque, path::PathBuf, sync::Arc};
use views::Views;

/// A reader's number, given by whoever holds its channel.
pub type Reader = u64;

/// Ticks that piled up while the process stood still count as one: they would start an election before the messages
/// that waited as long have been read.
const TICK_LEAST_MS: u64 = 15;
/// Bytes of committed entries at the applier beyond which a leader proposes nothing more: what is submitted then waits
/// where it is bounded, until it is refused. (The node itself stops delivering at twice as much.)
const APPLYING_BYTES_MAX: usize = 32 << 20;
/// Writes with entries of this leader's own that may be on their way before the next are proposed. What arrives meanwhile
/// shares an entry, and with it a message, a sync, an apply and a view; more in flight would only make the entries smaller.
const PROPOSED_WRITES_MAX: usize = 2;
/// While an entry is not yet committed, only so many bytes of envelopes are worth one of their own. What arrives at an idle
/// leader is proposed at once; under load an entry holds what arrives during a round of the quorum.
const ENTRY_WORTH_BYTES: usize = 128 << 10;
/// Cycles of the node in one drain, so that what has arrived meanwhile gets its turn.
const CYCLES_MAX: usize = 32;

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// Time passed; this machine's wall clock shows `wall_ms`. Wanted every 50 ms: that is the node's tick.
    Tick {
        /// Milliseconds since the Unix epoch.
        wall_ms: u64,
    },
    /// Another coordinator sent this. The carrier has checked that it is who it says.
    Peer {
        /// Its number.
        from: u64,
        /// Messages of its node.
        raft: Vec<Vec<u8>>,
        /// Its clock, share and sessions.
        status: Option<PeerStatus>,
    },
    /// Another coordinator does not listen to this one.
    Refused {
        /// Its number.
        by: u64,
        /// Why.
        why: PeerRefusal,
    },
    /// Messages to this coordinator are being lost.
    Unreachable {
        /// Its number.
        peer: u64,
    },
    /// A caller wants a checked envelope applied.
    Submit {
        /// Where the reply goes.
        caller: Caller,
        /// The envelope.
        envelope: Waiting,
    },
    /// A reader wants a view.
    View {
        /// Where the view goes.
        reader: Reader,
        /// How new it has to be.
        mode: ReadMode,
    },
    /// The writes up to this number are durable.
    Written {
        /// The newest one's.
        number: u64,
    },
    /// A write was refused, and all behind it wait. After [`StoreError::NoSpace`] they are tried again when
    /// [`Io::RetryWrites`] says so.
    WriteFailed {
        /// Why.
        error: StoreError,
    },
    /// The applier has applied a batch, or restored a snapshot.
    Applied(AppliedBatch),
    /// The snapshot asked for with [`Io::SaveSnapshot`] is durable.
    SnapshotSaved {
        /// Where it was taken.
        header: Header,
        /// Its file.
        reference: Reference,
    },
    /// It could not be written; it is tried again later.
    SnapshotFailed {
        /// Why.
        why: String,
    },
    /// Somebody wants a snapshot of now.
    SnapshotWanted,
    /// The offered snapshot of this index is durable here.
    SnapshotFetched {
        /// Last entry that it holds.
        index: u64,
    },
    /// Fetching it was given up.
    FetchFailed {
        /// Last entry that it would hold.
        index: u64,
    },
    /// Everything up to this entry is in durable sealed segments, as far as this node has to seal it.
    Sealed {
        /// The newest one's epoch.
        epoch: u64,
        /// Newest entry in it.
        through: u64,
        /// Its hash.
        hash: Hash,
    },
    /// A worker's session begins here.
    SessionOpened {
        /// Its number.
        session: SessionId,
        /// Whose it is.
        machine: MachineId,
        /// Keys of assignments that the worker says it has.
        holding: Vec<String>,
    },
    /// A session's round trip was measured.
    SessionMeasured {
        /// Its number.
        session: SessionId,
        /// Microseconds.
        round_trip_us: u64,
    },
    /// A session ended.
    SessionClosed {
        /// Its number.
        session: SessionId,
    },
    /// The root asked for with [`Io::ComputeRoot`].
    RootComputed {
        /// Its epoch.
        epoch: u64,
        /// Log index of the state.
        index: u64,
        /// The root.
        root: Hash,
    },
}

/// What is to be done.
#[derive(Debug)]
pub enum Io {
    /// Send messages to another coordinator's node. They may be lost: say so with [`Input::Unreachable`].
    Send {
        /// Its number.
        to: u64,
        /// Encoded messages.
        raft: Vec<Vec<u8>>,
    },
    /// Tell the other coordinators.
    Broadcast(PeerStatus),
    /// Keep links to these coordinators, and no others: they are whom messages go to.
    Links(Vec<Address>),
    /// Write this behind what was given before, and answer with [`Input::Written`] or [`Input::WriteFailed`].
    Write(Write),
    /// Try the writes that were refused again.
    RetryWrites,
    /// The log's disk is full, or no longer is: for people.
    DiskFull(Option<NoSpace>),
    /// Apply these, none at times, and answer with [`Input::Applied`].
    Apply {
        /// What follows on the state.
        entries: Vec<Committed>,
        /// Whether a view is wanted behind them.
        view: bool,
    },
    /// Replace the applier's state by the snapshot of this index, which was fetched, and answer with [`Input::Applied`].
    Restore {
        /// Last entry that it holds.
        index: u64,
    },
    /// Write a snapshot away from the replica's thread, and answer with [`Input::SnapshotSaved`] or its failure.
    SaveSnapshot {
        /// Where it is taken.
        header: Header,
        /// The state.
        view: Arc<State>,
    },
    /// Fetch a snapshot from the coordinator that offers it, and answer with [`Input::SnapshotFetched`] or its failure.
    FetchSnapshot {
        /// Whom to ask.
        from: u64,
        /// For what.
        reference: Reference,
    },
    /// Answer a caller.
    Reply {
        /// Which.
        caller: Caller,
        /// What.
        reply: Reply,
    },
    /// A caller's envelope was decided after this long, for metrics.
    Decided {
        /// Milliseconds.
        waited_ms: u64,
    },
    /// An entry of this many envelopes was proposed, for metrics.
    Proposed {
        /// How many.
        envelopes: usize,
    },
    /// Answer readers.
    View {
        /// Which.
        readers: Vec<Reader>,
        /// The view.
        view: Arc<State>,
    },
    /// Refuse a reader.
    NoView {
        /// Which.
        reader: Reader,
        /// Why.
        why: NoView,
    },
    /// Tell a worker.
    ToWorker {
        /// Its session.
        session: SessionId,
        /// What.
        message: ToWorker,
    },
    /// End a session: the machine has opened another.
    EndSession {
        /// Its number.
        session: SessionId,
    },
    /// Carry this node's own envelope to the leader. What is lost is made again.
    Relay {
        /// The leader's number.
        leader: u64,
        /// The envelope.
        envelope: Envelope,
    },
    /// Compute the root of this view away from the replica's thread.
    ComputeRoot(RootDue),
    /// This node's place in the quorum changed.
    Place(Place),
    /// End the process.
    Stop(String),
}

/// Why a reader gets no view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoView {
    /// Too many wait.
    Full,
    /// No quorum confirmed in time.
    Late,
}

/// A disk without room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoSpace {
    /// The folder that is to grow.
    pub path: PathBuf,
    /// Bytes that it needs.
    pub needed: u64,
}

/// A node's place in the quorum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// What it is.
    pub role: Role,
    /// The leader's number; 0 while there is none.
    pub leader: u64,
    /// The term.
    pub term: u64,
}

/// Figures about a replica, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Newest committed index known here.
    pub committed: u64,
    /// Newest applied index.
    pub applied: u64,
    /// The term.
    pub term: u64,
    /// Sessions that end here.
    pub sessions: usize,
    /// First entry that the log still holds.
    pub first: u64,
    /// Last entry of the newest snapshot; 0 for none.
    pub snapshot: u64,
}

/// One coordinator's part in the quorum.
#[derive(Debug)]
pub struct Replica<S: LogStore> {
    node: Node<S>,
    core: Core,
    reads: Reads<Reader>,
    views: Views,
    place: Place,
    compaction: Compaction,
    disk: Disk,
    /// Whether something was proposed since the last cycle, and the writes on their way that hold such.
    proposed: bool,
    proposed_writes: VecDeque<u64>,
    ticked_at: Option<u64>,
    /// The newest closed epoch whose root is to be computed once the one before is.
    root_due: Option<RootDue>,
    root_running: bool,
    work: Vec<Io>,
    busy: bool,
    stopped: bool,
}

impl<S: LogStore> Replica<S> {
    /// A replica whose applier holds `view`. `first_context` is a random start of the contexts of reads, so that answers to
    /// an earlier process are told apart. `compaction` knows the snapshots that are there.
    pub fn new(node: Node<S>, core: Core, view: Arc<State>, first_context: u64, compaction: Compaction) -> Self {
        Self {
            compaction,
            disk: Disk::default(),
            proposed: false,
            proposed_writes: VecDeque::new(),
            node,
            core,
            reads: Reads::new(first_context),
            views: Views::new(view),
            place: Place::default(),
            ticked_at: None,
            root_due: None,
            root_running: false,
            work: Vec::new(),
            busy: true,
            stopped: false,
        }
    }

    /// Takes something in, at a monotonic time in ms.
    pub fn on(&mut self, input: Input, now: u64) {
        if self.stopped {
            return;
        }
        self.busy = true;
        match input {
            Input::Tick { wall_ms } => self.tick(wall_ms, now),
            Input::Peer { from, raft, status } => self.heard(from, raft, status, now),
            Input::Refused { by, why } => self.event(Event::Refused { by, why }, now),
            Input::Unreachable { peer } => self.node.report_unreachable(peer),
            Input::Submit { caller, envelope } => self.event(Event::Submitted { caller, envelope }, now),
            Input::View { reader, mode } => self.read(reader, mode, now),
            Input::Written { number } => self.written(number),
            Input::WriteFailed { error } => self.write_failed(error, now),
            Input::Applied(batch) => self.applied(batch, now),
            Input::SnapshotSaved { header, reference } => self.snapshot_saved(&header, &reference),
            Input::SnapshotFailed { why } => self.compaction.failed(&why, now),
            Input::SnapshotWanted => self.compaction.wanted(),
            Input::SnapshotFetched { index } => self.snapshot_fetched(index),
            Input::FetchFailed { index } => self.node.snapshot_failed(index),
            Input::Sealed { epoch, through, hash } => {
                self.compaction.sealed(epoch, through);
                self.event(Event::SegmentSealed { epoch, index: through, hash }, now);
            }
            Input::SessionOpened { session, machine, holding } => {
                self.event(Event::SessionOpened { session, machine, holding }, now);
            }
            Input::SessionMeasured { session, round_trip_us } => {
                self.event(Event::SessionMeasured { session, round_trip_us }, now);
            }
            Input::SessionClosed { session } => self.event(Event::SessionClosed { session }, now),
            Input::RootComputed { epoch, index, root } => {
                self.root_running = false;
                self.compute_root();
                self.event(Event::RootComputed { epoch, index, root }, now);
            }
        }
    }

    /// Proposes what waits, lets the node go on as far as it can, and hands out all work.
    pub fn drain(&mut self, now: u64) -> Vec<Io> {
        self.busy = false;
        for cycle in 0..=CYCLES_MAX {
            if self.stopped {
                break;
            }
            if self.may_propose() {
                self.event(Event::Flush { room: self.node.room() }, now);
            }
            self.ask_for_reads(now);
            self.take_snapshot(now);
            if !self.node.has_ready() {
                break;
            }
            if cycle == CYCLES_MAX {
                self.busy = true;
                break;
            }
            if let Err(error) = self.cycle(now) {
                self.stop(error.to_string());
            }
        }
        if !self.stopped {
            self.ask_for_view(now);
        }
        std::mem::take(&mut self.work)
    }

    /// Whether a drain would have something to do.
    pub fn is_busy(&self) -> bool {
        self.busy && !self.stopped
    }

    /// The newest view of the state, which may be a few entries behind what is applied.
    pub fn view(&self) -> &Arc<State> {
        &self.views.newest
    }

    /// This node's place in the quorum.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The consensus node, to look at.
    pub fn node(&self) -> &Node<S> {
        &self.node
    }

    /// Figures for people.
    pub fn figures(&self) -> Figures {
        let node = self.node.status();
        Figures {
            committed: node.commit,
            applied: self.views.applied,
            term: node.term,
            sessions: self.core.sessions(),
            first: node.first,
            snapshot: self.compaction.newest(),
        }
    }

    /// Applied entries from index `from` to `to`, both included, as they are on disk: as many as fit in `max_bytes`, one at
    /// least.
    ///
    /// # Errors
    /// [`matrixai_consensus::Error`] when the log cannot be read; the replica stops.
    pub fn entries(&mut self, from: u64, to: u64, max_bytes: u64) -> Result<Vec<Committed>, matrixai_consensus::Error> {
        let end = to.min(self.views.applied).saturating_add(1);
        self.node.entries(from, end, max_bytes).inspect_err(|error| self.stop(error.to_string()))
    }

    /// Begins to hand the leader's office to another voter.
    ///
    /// # Errors
    /// [`ProposeError`] when this one does not lead, or the other cannot.
    pub fn transfer_leader(&mut self, to: u64) -> Result<(), ProposeError> {
        self.busy = true;
        self.node.transfer_leader(to)
    }

    /// Closes the sessions that are not alive: a lost close must not keep a machine there.
    pub fn retain_sessions(&mut self, alive: impl Fn(SessionId) -> bool) {
        self.core.retain_sessions(alive);
    }

    fn tick(&mut self, wall_ms: u64, now: u64) {
        if self.ticked_at.is_some_and(|at| now.saturating_sub(at) < TICK_LEAST_MS) {
            return;
        }
        self.ticked_at = Some(now);
        self.node.tick();
        self.retry_writes(now);
        for reader in self.reads.late(now) {
            self.work.push(Io::NoView { reader, why: NoView::Late });
        }
        let status = self.node.status();
        let progress = self.node.progress();
        self.event(Event::Members { members: status.members, progress, commit: status.commit }, now);
        self.event(Event::Tick { wall_ms }, now);
    }

    fn heard(&mut self, from: u64, raft: Vec<Vec<u8>>, status: Option<PeerStatus>, now: u64) {
        for message in raft {
            match self.node.step(&message) {
                Ok(()) => {}
                Err(error) if error.is_fatal() => return self.stop(error.to_string()),
                Err(error) => tracing::warn!(from, %error, "a coordinator's message was refused"),
            }
        }
        if let Some(status) = status {
            self.event(Event::Status { from, status }, now);
        }
    }

    fn may_propose(&self) -> bool {
        let alone = self.node.committed_index() >= self.node.last_index();
        self.views.applying_bytes() < APPLYING_BYTES_MAX
            && self.proposed_writes.len() < PROPOSED_WRITES_MAX
            && (alone || self.core.queued_bytes() >= ENTRY_WORTH_BYTES)
    }

    /// Asks for the newest due root, one at a time.
    fn compute_root(&mut self) {
        if !self.root_running
            && let Some(due) = self.root_due.take()
        {
            self.root_running = true;
            self.work.push(Io::ComputeRoot(due));
        }
    }

    fn stop(&mut self, reason: String) {
        if !self.stopped {
            self.stopped = true;
            self.work.push(Io::Stop(reason));
        }
    }
}
