//! One worker's stream: keeps it alive, measures its round trip, carries assignments down and signed commands up.
//!
//! It decides nothing about work. Commands go to the leader wherever it is; a relay that failed is acknowledged without
//! outcomes, and the worker sends the same envelope again.

use super::replica::{OpenSession, ReplicaActor, SessionNews};
use crate::{
    core::{SessionId, ToWorker},
    grpc::assignments,
    live::Progress,
    shared::Shared,
};
use actix::{
    Actor, ActorContext as _, ActorFutureExt as _, Addr, AsyncContext as _, Context, Handler, Message, Running,
    StreamHandler, WrapFuture as _,
};
use matrixai_proto::v1::{
    Ack, CoordinatorMessage, Envelope, Ping, Pong, SubmitReply, Welcome, Withdraw, WorkerMessage,
    coordinator_message::Kind as Down, worker_message::Kind as Up,
};
use matrixai_state::ids::MachineId;
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

/// Messages of the replica waiting for a session; a worker is owed far fewer at once.
const MAILBOX: usize = 256;
/// Messages waiting for the network.
pub(crate) const DOWN_MAX: usize = 256;
/// Time between two pings.
const PING_EVERY: Duration = Duration::from_millis(500);
/// A worker that is silent for this long has no session any more.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// Envelopes of one worker on their way to the leader at once; more are acknowledged without outcomes.
const RELAYS_MAX: usize = 64;
/// Pongs over which the least round trip is taken: queueing only ever adds.
const ROUND_TRIPS: usize = 8;
/// Bytes of an assignment's key in a progress message.
const PROGRESS_KEY_BYTES_MAX: usize = 256;

static NEXT_SESSION: AtomicU64 = AtomicU64::new(1);

/// The replica's hold on a session.
#[derive(Debug)]
pub(super) struct Carrier {
    pub(super) actor: Addr<SessionActor>,
    cut: Arc<AtomicBool>,
}

impl Carrier {
    /// Ends the session even though its mailbox is full.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }
}

/// A session whose claim was checked.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) machine: MachineId,
    /// Keys of assignments that the worker says it holds.
    pub(crate) holding: Vec<String>,
    pub(crate) up: Streaming<WorkerMessage>,
    pub(crate) down: mpsc::Sender<Result<CoordinatorMessage, Status>>,
}

/// The actor.
#[derive(Debug)]
pub(super) struct SessionActor {
    id: SessionId,
    machine: MachineId,
    shared: Shared,
    replica: Addr<ReplicaActor>,
    down: mpsc::Sender<Result<CoordinatorMessage, Status>>,
    opened: Option<Vec<String>>,
    cut: Arc<AtomicBool>,
    heard: Instant,
    /// The newest ping and when it was sent.
    ping: (u64, Option<Instant>),
    round_trips_us: VecDeque<u64>,
    reported_us: Option<u64>,
    relays: usize,
}

impl SessionActor {
    /// A session that begins as soon as it has greeted the worker.
    pub(super) fn new(shared: Shared, replica: Addr<ReplicaActor>, opening: Opening, ctx: &mut Context<Self>) -> Self {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.add_stream(opening.up);
        Self {
            id: NEXT_SESSION.fetch_add(1, Ordering::Relaxed),
            machine: opening.machine,
            shared,
            replica,
            down: opening.down,
            opened: Some(opening.holding),
            cut: Arc::default(),
            heard: Instant::now(),
            ping: (0, None),
            round_trips_us: VecDeque::new(),
            reported_us: None,
            relays: 0,
        }
    }

    /// Sends a message; a worker that takes none any more loses its session.
    fn send(&self, kind: Down, ctx: &mut Context<Self>) {
        if self.down.try_send(Ok(CoordinatorMessage { kind: Some(kind) })).is_err() {
            ctx.stop();
        }
    }

    fn beat(&mut self, ctx: &mut Context<Self>) {
        if self.heard.elapsed() >= SILENCE_MAX || self.cut.load(Ordering::Relaxed) {
            tracing::debug!(machine = %self.machine, "the worker is silent");
            return ctx.stop();
        }
        // One ping at a time, so that a late pong is not taken for a quick one.
        if self.ping.1.is_none() {
            self.ping = (self.ping.0 + 1, Some(Instant::now()));
            self.send(Down::Ping(Ping { nonce: self.ping.0 }), ctx);
        }
    }

    fn pong(&mut self, Pong { nonce }: Pong) {
        let (expected, Some(sent)) = self.ping else { return };
        if nonce != expected {
            return;
        }
        self.ping.1 = None;
        if self.round_trips_us.len() == ROUND_TRIPS {
            self.round_trips_us.pop_front();
        }
        self.round_trips_us.push_back(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
        let least = self.round_trips_us.iter().min().copied();
        if least != self.reported_us
            && let Some(round_trip_us) = least
        {
            let news = SessionNews::Measured { session: self.id, round_trip_us };
            if self.replica.try_send(news).is_ok() {
                self.reported_us = least;
            }
        }
    }

    /// Carries a signed envelope to the leader and its outcomes back.
    fn relay(&mut self, envelope: Envelope, ctx: &mut Context<Self>) {
        let command_id = envelope.command_id.clone();
        if self.relays == RELAYS_MAX {
            return self.send(Down::Ack(Ack { command_id, outcomes: Vec::new() }), ctx);
        }
        self.relays += 1;
        let shared = self.shared.clone();
        let submitted = async move { shared.submit_anywhere(envelope).await };
        ctx.spawn(submitted.into_actor(self).map(move |result, session, ctx| {
            session.relays -= 1;
            match result {
                Ok(SubmitReply { outcomes, .. }) => session.send(Down::Ack(Ack { command_id, outcomes }), ctx),
                Err(status) if is_final(&status) => session.end(status, ctx),
                Err(status) => {
                    tracing::debug!(machine = %session.machine, status = status.message(), "a relay failed for now");
                    session.send(Down::Ack(Ack { command_id, outcomes: Vec::new() }), ctx);
                }
            }
        }));
    }

    fn end(&self, status: Status, ctx: &mut Context<Self>) {
        // A full queue means that the worker is not reading; it sees the stream end.
        let _ = self.down.try_send(Err(status));
        ctx.stop();
    }
}

/// Whether sending the same envelope again can never help: its signature does not hold.
fn is_final(status: &Status) -> bool {
    matches!(status.code(), tonic::Code::Unauthenticated | tonic::Code::InvalidArgument)
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Ok(state) = self.shared.stale_view() else { return ctx.stop() };
        let welcome = Welcome {
            cluster_id: state.cluster_id().to_vec(),
            machine: self.machine.0.to_vec(),
            now_ms: state.now_ms(),
            silence_ms: u64::try_from(SILENCE_MAX.as_millis()).unwrap_or(u64::MAX),
        };
        self.send(Down::Welcome(welcome), ctx);
        let opened = OpenSession {
            session: self.id,
            machine: self.machine,
            holding: self.opened.take().unwrap_or_default(),
            carrier: Carrier { actor: ctx.address(), cut: self.cut.clone() },
        };
        if self.replica.try_send(opened).is_err() {
            return self.end(Status::resource_exhausted("the coordinator is busy: try another one"), ctx);
        }
        self.beat(ctx);
        ctx.run_interval(PING_EVERY, Self::beat);
    }

    fn stopping(&mut self, _: &mut Self::Context) -> Running {
        // If this is lost, the replica's sweep finds the closed mailbox.
        let _ = self.replica.try_send(SessionNews::Closed { session: self.id });
        self.shared.live().set_progress(self.machine, None);
        Running::Stop
    }
}

/// What the replica tells a session.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) enum Told {
    /// For the worker.
    Message(ToWorker),
    /// The machine has opened another session.
    Replaced,
}

impl Handler<Told> for SessionActor {
    type Result = ();

    fn handle(&mut self, told: Told, ctx: &mut Context<Self>) {
        match told {
            Told::Message(ToWorker::Assign { assignment, now_ms }) => {
                self.send(Down::Assignment(assignments::wire(*assignment, now_ms)), ctx);
            }
            Told::Message(ToWorker::Withdraw(key)) => self.send(Down::Withdraw(Withdraw { key }), ctx),
            Told::Replaced => self.end(Status::aborted("the machine has opened another session"), ctx),
        }
    }
}

impl StreamHandler<Result<WorkerMessage, Status>> for SessionActor {
    fn handle(&mut self, message: Result<WorkerMessage, Status>, ctx: &mut Context<Self>) {
        self.heard = Instant::now();
        match message.map(|message| message.kind) {
            Ok(Some(Up::Pong(pong))) => self.pong(pong),
            Ok(Some(Up::Envelope(envelope))) => self.relay(envelope, ctx),
            Ok(Some(Up::Progress(progress))) => {
                if progress.key.len() <= PROGRESS_KEY_BYTES_MAX {
                    let progress = Progress { key: progress.key, done_e6: progress.done_e6.min(1_000_000) };
                    self.shared.live().set_progress(self.machine, Some(progress));
                }
            }
            Ok(Some(Up::Hello(_))) => self.end(Status::invalid_argument("a session has one hello"), ctx),
            // A message of a later version is skipped.
            Ok(None) => {}
            Err(status) => {
                tracing::debug!(machine = %self.machine, status = status.message(), "the session broke");
                ctx.stop();
            }
        }
    }

    fn finished(&mut self, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
