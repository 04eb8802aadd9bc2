//! Carries the [`crate::replica`]: its mailbox, the channels of those who wait for an answer, and the threads for what is
//! slow. It decides nothing.
//!
//! Everything that waits in the mailbox is handed in before the work is taken out, so that many envelopes share one entry.
//! The log is written on a thread of its own ([`writing`]), committed entries are applied on another ([`applying`]) and
//! archived on a third ([`keeping`]), and snapshots are written and fetched on none of them ([`snapshotting`]); what they have done comes back by a channel and a
//! wake-up, never by polling ([`done`]). A full disk is waited out; any other error of the store or of the node stops the
//! process: a replica that cannot trust its disk must not answer.

mod applying;
mod carry;
mod done;
mod inbox;
mod keeping;
mod snapshotting;
mod writing;

pub(super) use inbox::{
    Export, OpenSession, Refused, SessionNews, Submit, Tick, TransferLeader, Unreachable, View, WantSnapshot,
};
pub(crate) use inbox::{Exported, Frame};

use super::{peers::Peers, session::Carrier, ticker};
use crate::{
    archive::{Head, keeper::Keeper},
    clock::Monotonic,
    core::SessionId,
    directory::Directory,
    events::EventRing,
    history::History,
    links::Links,
    live::Live,
    relay::Relay,
    replica::{Applier, Input, Replica},
    shared::NodeView,
    snapshots::Snapshots,
    telemetry::Metrics,
};
use actix::{Actor, ActorContext as _, Addr, ArbiterHandle, AsyncContext as _, Context};
use applying::{Applying, ToApplier};
use carry::{Callers, Readers};
use done::Done;
use inbox::Pump;
use keeping::Keeping;
use matrixai_consensus::{EngineStore, LogStore};
use matrixai_state::State;
use snapshotting::Snapshotting;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
};
use tokio::sync::{mpsc, watch};
use writing::ToWriter;

/// Messages waiting for the replica.
const MAILBOX: usize = 16_384;
/// Messages handled before work is taken out even though more wait.
const EVENTS_MAX: usize = 2_048;
/// Time between two looks for sessions whose carrier is gone.
const SWEEP_MS: u64 = 1_000;
/// Time between two looks at who the members are and how far each is, for people and for who is listened to.
const MEMBERS_EVERY_MS: u64 = 100;
/// Bytes of entries in one page of an export.
const EXPORT_BYTES: u64 = 1 << 20;

/// What the replica is made of.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) replica: Replica<EngineStore>,
    pub(crate) applier: Applier,
    pub(crate) writer: <EngineStore as LogStore>::Writer,
    pub(crate) snapshots: Snapshots,
    pub(crate) keeper: Keeper,
    /// Where the archive ends, for those who fetch what is missing.
    pub(crate) archived: watch::Sender<Head>,
    pub(crate) links: Arc<Links>,
    pub(crate) relay: Arc<Relay>,
    pub(crate) directory: Arc<Directory>,
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
    replica: Replica<EngineStore>,
    clock: Monotonic,
    callers: Callers,
    readers: Readers,
    sessions: BTreeMap<SessionId, Carrier>,
    peers: Peers,
    /// To the threads that apply and write. What waits there is bounded by the node, which delivers and gives out no more
    /// before it is applied and written.
    applying: Sender<ToApplier>,
    writing: Sender<ToWriter>,
    snapshotting: Snapshotting,
    /// What threads have done, and the way there for tasks.
    done: Receiver<Input>,
    doing: Sender<Input>,
    relay: Arc<Relay>,
    directory: Arc<Directory>,
    metrics: Arc<Metrics>,
    status: watch::Sender<NodeView>,
    fatal: mpsc::UnboundedSender<String>,
    runtime: tokio::runtime::Handle,
    pump_scheduled: bool,
    events: usize,
    swept_at: u64,
    members_at: u64,
    stopped: bool,
}

/// Starts the replica, its threads, its links and its ticks.
pub(super) fn start(
    writer: &ArbiterHandle,
    links: &ArbiterHandle,
    setup: Setup,
) -> Result<(Addr<ReplicaActor>, Vec<JoinHandle<()>>), std::io::Error> {
    let (applying, to_applier) = channel();
    let (writing, to_writer) = channel();
    let (doing, done) = channel();
    let (feed, fed) = keeping::feed();
    let (views, place) = (setup.views.subscribe(), setup.status.subscribe());
    let applier = Applying {
        applier: setup.applier,
        snapshots: setup.snapshots.clone(),
        views: setup.views,
        archive: feed,
        events: setup.events,
        history: setup.history.clone(),
    };
    let snapshotting = Snapshotting {
        history: setup.history,
        snapshots: setup.snapshots,
        links: setup.links.clone(),
        metrics: setup.metrics.clone(),
        runtime: setup.runtime.clone(),
    };
    let (inputs, fatal, writer_of_log) = (doing.clone(), setup.fatal.clone(), setup.writer);
    let (link_arbiter, metrics_of_archive) = (links.clone(), setup.metrics.clone());
    let actor = ReplicaActor::start_in_arbiter(writer, move |ctx: &mut Context<ReplicaActor>| {
        ctx.set_mailbox_capacity(MAILBOX);
        ticker::start(&link_arbiter, ctx.address());
        let peers = Peers::new(link_arbiter, setup.links, setup.live, ctx.address());
        ReplicaActor {
            replica: setup.replica,
            clock: Monotonic::start(),
            callers: Callers::default(),
            readers: Readers::default(),
            sessions: BTreeMap::new(),
            peers,
            applying,
            writing,
            snapshotting,
            done,
            doing,
            relay: setup.relay,
            directory: setup.directory,
            metrics: setup.metrics,
            status: setup.status,
            fatal: setup.fatal,
            runtime: setup.runtime,
            pump_scheduled: false,
            events: 0,
            swept_at: 0,
            members_at: 0,
            stopped: false,
        }
    });
    let done = Done { inputs, replica: actor.clone(), fatal };
    let keeping = Keeping {
        keeper: setup.keeper,
        views,
        status: place,
        head: setup.archived,
        replica: actor.clone(),
        done: done.clone(),
        metrics: metrics_of_archive,
    };
    let threads = vec![
        writing::start(writer_of_log, to_writer, done.clone())?,
        applier.start(to_applier, done)?,
        keeping.start(fed)?,
    ];
    Ok((actor, threads))
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
    /// The way back for what is done elsewhere.
    fn done(&self, ctx: &Context<Self>) -> Done {
        Done { inputs: self.doing.clone(), replica: ctx.address(), fatal: self.fatal.clone() }
    }

    fn now(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Hands something in; work is taken out once the mailbox is empty.
    fn on(&mut self, input: Input, ctx: &mut Context<Self>) {
        self.replica.on(input, self.clock.now_ms());
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

    /// Hands in what threads have done, takes the work out and carries it.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        self.events = 0;
        if self.stopped {
            return;
        }
        let now = self.now();
        while let Ok(done) = self.done.try_recv() {
            self.replica.on(done, now);
        }
        let work = self.replica.drain(now);
        self.carry(work, ctx);
        self.publish_status();
        if self.replica.is_busy() && !self.pump_scheduled {
            self.pump_scheduled = true;
            ctx.notify(Pump);
        }
    }

    /// Stops the process.
    fn fail(&mut self, reason: String, ctx: &mut Context<Self>) {
        self.stopped = true;
        // The main task hears only the first reason, and may be gone already.
        let _ = self.fatal.send(reason);
        ctx.stop();
    }
}
