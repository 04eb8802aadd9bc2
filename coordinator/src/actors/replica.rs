//! The single writer: owns the consensus node, the state and the core, and runs them on its own thread.
//!
//! Everything that waits in the mailbox is handed to the core before the node is polled once, so that many envelopes
//! share one entry and one sync. A caller is answered only from applied, committed entries. Any error of the store or of
//! the node stops the process: a replica that cannot trust its disk must not answer.

mod carry;

use super::{
    notifier::{EntryNews, News, Notifier},
    peers::{self, Outgoing, PeerActor},
    session::{Carrier, Told},
    ticker,
};
use crate::{
    clock::Monotonic,
    core::{Action, Core, Event, SessionId},
    edge,
    events::EventRing,
    history::History,
    links::Links,
    live::Live,
    pending::Waiting,
    reads::Reads,
    relay::Relay,
    shared::{LEADER, NodeView, Peer},
    telemetry::Metrics,
};
use actix::{
    Actor, ActorContext as _, Addr, ArbiterHandle, AsyncContext as _, Context, Handler, Message, prelude::SendError,
};
use carry::Callers;
use matrixai_consensus::{Committed, EngineStore, Node};
use matrixai_proto::v1::{Envelope, PeerStatus, SubmitReply};
use matrixai_protocol::sha256;
use matrixai_state::{
    Applied, Effect, State,
    ids::{Hash, MachineId},
};
use prost::Message as _;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Status;

/// Messages waiting for the replica.
const MAILBOX: usize = 16_384;
/// Polls of the node before the mailbox is looked at again.
const POLLS_MAX: usize = 32;
/// Messages handled before the node is polled even though more wait.
const EVENTS_MAX: usize = 2_048;
/// Ticks that piled up while the disk was slow count as one: they would start an election before the messages that
/// waited as long have been read.
const TICK_LEAST_MS: u64 = 25;
/// Batches of news kept for a notifier whose mailbox is full; beyond it apply waits.
const BACKLOG_MAX: usize = 1_024;
/// Time between two looks for sessions whose carrier is gone.
const SWEEP_MS: u64 = 1_000;
/// Bytes of entries in one page of an export.
const EXPORT_BYTES: u64 = 1 << 20;

/// What the replica is made of.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) node: Node<EngineStore>,
    pub(crate) state: State,
    pub(crate) core: Core,
    /// Random start of the contexts of reads.
    pub(crate) first_context: u64,
    /// The other coordinators.
    pub(crate) others: Vec<Peer>,
    pub(crate) links: Arc<Links>,
    pub(crate) relay: Arc<Relay>,
    pub(crate) all: Vec<Peer>,
    pub(crate) events: Arc<EventRing>,
    pub(crate) history: Arc<History>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) live: Arc<Live>,
    pub(crate) views: watch::Sender<Arc<State>>,
    pub(crate) status: watch::Sender<NodeView>,
    /// Where a reason to stop the process goes.
    pub(crate) fatal: mpsc::UnboundedSender<String>,
    /// The runtime for work off this thread.
    pub(crate) runtime: tokio::runtime::Handle,
}

/// The actor.
#[derive(Debug)]
pub(super) struct ReplicaActor {
    node: Node<EngineStore>,
    state: State,
    core: Core,
    clock: Monotonic,
    callers: Callers,
    reads: Reads<oneshot::Sender<Result<Arc<State>, Status>>>,
    sessions: BTreeMap<SessionId, Carrier>,
    peers: BTreeMap<u64, Addr<PeerActor>>,
    notifier: Addr<Notifier>,
    backlog: VecDeque<News>,
    relay: Arc<Relay>,
    all: Vec<Peer>,
    metrics: Arc<Metrics>,
    views: watch::Sender<Arc<State>>,
    status: watch::Sender<NodeView>,
    fatal: mpsc::UnboundedSender<String>,
    runtime: tokio::runtime::Handle,
    /// The newest closed epoch whose root is to be computed, with the state at its close.
    root_due: Option<(u64, u64, State)>,
    root_running: bool,
    pump_scheduled: bool,
    events: usize,
    ticked_at: Option<u64>,
    swept_at: u64,
    stopped: bool,
}

/// Starts the replica, its links and its ticks.
pub(super) fn start(
    writer: &ArbiterHandle,
    links: &ArbiterHandle,
    setup: Setup,
    notifier: Addr<Notifier>,
) -> Addr<ReplicaActor> {
    let link_arbiter = links.clone();
    ReplicaActor::start_in_arbiter(writer, move |ctx: &mut Context<ReplicaActor>| {
        ctx.set_mailbox_capacity(MAILBOX);
        let replica = ctx.address();
        let peer = |peer: Peer| {
            let id = peer.id;
            (id, peers::start(&link_arbiter, peer, setup.links.clone(), setup.live.clone(), replica.clone()))
        };
        let peers = setup.others.into_iter().map(peer).collect();
        ticker::start(&link_arbiter, replica);
        ReplicaActor {
            node: setup.node,
            state: setup.state,
            core: setup.core,
            clock: Monotonic::start(),
            callers: Callers::default(),
            reads: Reads::new(setup.first_context),
            sessions: BTreeMap::new(),
            peers,
            notifier,
            backlog: VecDeque::new(),
            relay: setup.relay,
            all: setup.all,
            metrics: setup.metrics,
            views: setup.views,
            status: setup.status,
            fatal: setup.fatal,
            runtime: setup.runtime,
            root_due: None,
            root_running: false,
            pump_scheduled: false,
            events: 0,
            ticked_at: None,
            swept_at: 0,
            stopped: false,
        }
    })
}

impl Actor for ReplicaActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.schedule(ctx);
    }
}

/// A panic on this thread ends the actor without a word; the process must not go on without its writer.
impl Drop for ReplicaActor {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.fatal.send("the replica broke one of its invariants; see the panic above".to_owned());
        }
    }
}

impl ReplicaActor {
    fn now(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Hands an event to the core and carries out what it wants; the node is polled once the mailbox is empty.
    fn on(&mut self, event: Event, ctx: &mut Context<Self>) {
        let actions = self.core.on(event, self.now());
        self.carry(actions, ctx);
        self.schedule(ctx);
    }

    fn schedule(&mut self, ctx: &mut Context<Self>) {
        self.events += 1;
        if self.events >= EVENTS_MAX {
            self.pump(ctx);
        } else if !self.pump_scheduled {
            self.pump_scheduled = true;
            ctx.notify(Pump);
        }
    }

    /// Proposes what waits, lets the node write and send, applies what is committed, and answers.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        self.events = 0;
        for _ in 0..POLLS_MAX {
            if self.stopped {
                return;
            }
            self.drain_backlog();
            let actions = self.core.on(Event::Flush, self.now());
            self.carry(actions, ctx);
            self.ask_for_reads();
            if !self.node.has_ready() || self.backlog.len() > BACKLOG_MAX {
                self.publish_status();
                return;
            }
            if let Err(error) = self.cycle(ctx) {
                return self.fail(error.to_string(), ctx);
            }
        }
        self.pump_scheduled = true;
        ctx.notify(Pump);
    }

    fn cycle(&mut self, ctx: &mut Context<Self>) -> Result<(), matrixai_consensus::Error> {
        let peers = &self.peers;
        let mut unreachable = Vec::new();
        let output = self.node.poll(&mut |messages| {
            let mut by_peer: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
            for message in messages {
                by_peer.entry(message.to).or_default().push(message.bytes);
            }
            for (to, raft) in by_peer {
                let Some(peer) = peers.get(&to) else { continue };
                if peer.try_send(Outgoing { raft, status: None }).is_err() {
                    unreachable.push(to);
                }
            }
        })?;
        for peer in unreachable {
            self.node.report_unreachable(peer);
        }
        self.turn(&output, ctx);
        self.apply(output.committed, ctx);
        for (context, index) in output.reads {
            self.reads.confirmed(context, index);
        }
        self.answer_reads();
        Ok(())
    }

    fn apply(&mut self, committed: Vec<Committed>, ctx: &mut Context<Self>) {
        let Some(last) = committed.last().map(|entry| entry.index) else { return };
        let mut entries: Vec<Applied> = Vec::with_capacity(committed.len());
        let mut news = Vec::with_capacity(committed.len());
        for Committed { index, data, .. } in committed {
            let mut applied = self.state.apply(index, &data);
            for effect in &applied.effects {
                if let Effect::RootDue { epoch, index } = effect {
                    self.root_due = Some((*epoch, *index, self.state.clone()));
                }
            }
            let (events, movements) = (std::mem::take(&mut applied.events), std::mem::take(&mut applied.movements));
            news.push(EntryNews { index, now_ms: applied.now_ms, events, movements });
            entries.push(applied);
        }
        self.node.applied(last);
        self.backlog.push_back(News(news));
        self.drain_backlog();
        let state = Arc::new(self.state.clone());
        self.views.send_replace(state.clone());
        self.compute_root(ctx);
        let actions = self.core.on(Event::Applied { state, entries }, self.now());
        self.carry(actions, ctx);
    }

    /// Stops the process.
    fn fail(&mut self, reason: String, ctx: &mut Context<Self>) {
        self.stopped = true;
        // The main task hears only the first reason, and may be gone already.
        let _ = self.fatal.send(reason);
        ctx.stop();
    }
}

/// Something may be ready.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Pump;

impl Handler<Pump> for ReplicaActor {
    type Result = ();

    fn handle(&mut self, _: Pump, ctx: &mut Context<Self>) {
        self.pump_scheduled = false;
        self.pump(ctx);
    }
}

/// Time passed.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Tick {
    pub(super) wall_ms: u64,
}

impl Handler<Tick> for ReplicaActor {
    type Result = ();

    fn handle(&mut self, Tick { wall_ms }: Tick, ctx: &mut Context<Self>) {
        let now = self.now();
        if self.ticked_at.is_some_and(|at| now.saturating_sub(at) < TICK_LEAST_MS) {
            return;
        }
        self.ticked_at = Some(now);
        self.node.tick();
        for late in self.reads.late(now) {
            // The reader may have given up already.
            let _ = late.send(Err(Status::unavailable("no quorum confirmed the read in time: try again shortly")));
        }
        if now.saturating_sub(self.swept_at) >= SWEEP_MS {
            self.swept_at = now;
            self.sweep();
        }
        self.on(Event::Tick { wall_ms }, ctx);
    }
}

/// A checked envelope to be applied.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Submit {
    pub(super) envelope: Envelope,
    pub(super) answer: oneshot::Sender<Result<SubmitReply, Status>>,
}

impl Handler<Submit> for ReplicaActor {
    type Result = ();

    fn handle(&mut self, Submit { envelope, answer }: Submit, ctx: &mut Context<Self>) {
        let (Ok(key), Ok(command_id)) = (envelope.key.as_slice().try_into(), envelope.command_id.as_slice().try_into())
        else {
            // The edge has refused such an envelope before.
            let _ = answer.send(Err(Status::invalid_argument("key and command_id have fixed lengths")));
            return;
        };
        let caller = self.callers.add(answer);
        let payload = sha256(&[&envelope.payload]);
        let envelope = Waiting { id: (key, command_id), payload, bytes: envelope.encode_to_vec() };
        self.on(Event::Submitted { caller, envelope }, ctx);
    }
}

/// A wish for a linearizable view.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct View {
    pub(super) answer: oneshot::Sender<Result<Arc<State>, Status>>,
}

impl Handler<View> for ReplicaActor {
    type Result = ();

    fn handle(&mut self, View { answer }: View, ctx: &mut Context<Self>) {
        let now = self.now();
        if let Err(answer) = self.reads.add(answer, now) {
            let _ = answer.send(Err(Status::resource_exhausted("too many reads wait: try again shortly")));
            return;
        }
        self.schedule(ctx);
    }
}

/// What another coordinator sent.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Frame {
    pub(crate) from: u64,
    pub(crate) raft: Vec<Vec<u8>>,
    pub(crate) status: Option<PeerStatus>,
}

impl Handler<Frame> for ReplicaActor {
    type Result = ();

    fn handle(&mut self, Frame { from, raft, status }: Frame, ctx: &mut Context<Self>) {
        for message in raft {
            match self.node.step(&message) {
                Ok(()) => {}
                Err(error) if error.is_fatal() => return self.fail(error.to_string(), ctx),
                Err(error) => tracing::warn!(from, %error, "a coordinator's message was refused"),
            }
        }
        match status {
            Some(status) => self.on(Event::Status { from, status }, ctx),
            None => self.schedule(ctx),
        }
    }
}

/// Messages to a coordinator are being lost.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Unreachable(pub(super) u64);

impl Handler<Unreachable> for ReplicaActor {
    type Result = ();

    fn handle(&mut self, Unreachable(peer): Unreachable, ctx: &mut Context<Self>) {
        self.node.report_unreachable(peer);
        self.schedule(ctx);
    }
}

/// A worker's session begins.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct OpenSession {
    pub(super) session: SessionId,
    pub(super) machine: MachineId,
    pub(super) holding: Vec<String>,
    pub(super) carrier: Carrier,
}

impl Handler<OpenSession> for ReplicaActor {
    type Result = ();

    fn handle(&mut self, message: OpenSession, ctx: &mut Context<Self>) {
        let OpenSession { session, machine, holding, carrier } = message;
        self.sessions.insert(session, carrier);
        self.on(Event::SessionOpened { session, machine, holding }, ctx);
    }
}

/// A session's round trip, or its end.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) enum SessionNews {
    Measured { session: SessionId, round_trip_us: u64 },
    Closed { session: SessionId },
}

impl Handler<SessionNews> for ReplicaActor {
    type Result = ();

    fn handle(&mut self, news: SessionNews, ctx: &mut Context<Self>) {
        match news {
            SessionNews::Measured { session, round_trip_us } => {
                self.on(Event::SessionMeasured { session, round_trip_us }, ctx);
            }
            SessionNews::Closed { session } => {
                self.sessions.remove(&session);
                self.on(Event::SessionClosed { session }, ctx);
            }
        }
    }
}

/// A root was computed.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct RootComputed {
    epoch: u64,
    index: u64,
    root: Hash,
}

impl Handler<RootComputed> for ReplicaActor {
    type Result = ();

    fn handle(&mut self, RootComputed { epoch, index, root }: RootComputed, ctx: &mut Context<Self>) {
        self.root_running = false;
        self.compute_root(ctx);
        self.on(Event::RootComputed { epoch, index, root }, ctx);
    }
}

/// Committed entries as they are on disk, and where the next page begins.
#[derive(Debug)]
pub(crate) struct Exported {
    pub(crate) entries: Vec<Committed>,
    /// Newest applied index: the end of what can be exported now.
    pub(crate) applied: u64,
}

/// A wish for a page of committed entries from one index to another, both included.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Export {
    pub(super) from_index: u64,
    pub(super) to_index: u64,
    pub(super) answer: oneshot::Sender<Result<Exported, Status>>,
}

impl Handler<Export> for ReplicaActor {
    type Result = ();

    fn handle(&mut self, Export { from_index, to_index, answer }: Export, ctx: &mut Context<Self>) {
        let applied = self.state.index();
        let end = to_index.min(applied).saturating_add(1);
        match self.node.entries(from_index, end, EXPORT_BYTES) {
            Ok(entries) => {
                let _ = answer.send(Ok(Exported { entries, applied }));
            }
            Err(error) => {
                let _ = answer.send(Err(Status::internal(error.to_string())));
                self.fail(error.to_string(), ctx);
            }
        }
    }
}
