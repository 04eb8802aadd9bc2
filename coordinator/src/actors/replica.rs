//! The single writer: owns the consensus node, the state and the core, and runs them on its own thread.
//!
//! Everything that waits in the mailbox is handed to the core before the node is polled once, so that many envelopes
//! share one entry and one sync. A caller is answered only from applied, committed entries. Any error of the store or of
//! the node stops the process: a replica that cannot trust its disk must not answer.

mod carry;
mod inbox;

pub(super) use inbox::{Export, OpenSession, SessionNews, Submit, Tick, Unreachable, View};
pub(crate) use inbox::{Exported, Frame};

use super::{
    notifier::{EntryNews, News, Notifier},
    peers::{self, Outgoing, PeerActor},
    session::Carrier,
    ticker,
};
use crate::{
    clock::Monotonic,
    core::{Core, Event, SessionId},
    events::EventRing,
    history::History,
    links::Links,
    live::Live,
    reads::Reads,
    relay::Relay,
    shared::{NodeView, Peer},
    telemetry::Metrics,
};
use actix::{Actor, ActorContext as _, Addr, ArbiterHandle, AsyncContext as _, Context};
use carry::Callers;
use inbox::Pump;
use matrixai_consensus::{Committed, EngineStore, EngineWriter, LogWriter as _, Message, Node};
use matrixai_state::{Applied, Effect, State};
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
    writer: EngineWriter,
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
            writer: setup.node.writer(),
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
        let mut send = |messages: Vec<Message>| {
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
        };
        let output = self.node.ready(&mut send)?;
        if let Some(write) = &output.write {
            self.writer.write(std::slice::from_ref(write))?;
            self.node.written(write.number(), &mut send)?;
        }
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
