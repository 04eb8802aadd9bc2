//! The session: one stream to one of the coordinators, dialled anew at the next one whenever it ends. It carries messages
//! between the wire and the agent and answers pings; what they mean is the agent's business.

use crate::agent::Event;
use crate::cancel::Cancel;
use crate::clock::Clock;
use crate::convert;
use crate::coordinators::{Backoff, Coordinators};
use crate::enrolment::Enrolment;
use crate::identity::{IdentityError, machine_id};
use crate::mailbox::Mailbox;
use crate::sealer::Sealer;
use crate::shell::Outlet;
use matrixai_proto::{
    envelope::SignatureError,
    v1::{
        CoordinatorMessage, GetStatusRequest, Hello, Pong, SessionClaim, Welcome, WorkerMessage,
        agent_client::AgentClient, cluster_client::ClusterClient, coordinator_message::Kind,
        worker_message::Kind as Outgoing,
    },
};
use matrixai_protocol::Hash;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

/// Messages that wait to go out. Reports beyond it are sent again by the agent.
const OUTGOING_MAX: usize = 256;
/// A session is not ended for less silence than this, whatever the coordinator says.
const SILENCE_MIN: Duration = Duration::from_millis(500);

/// Why a session did not come about or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("dial: {0}")]
    Dial(#[from] tonic::transport::Error),
    #[error("no answer for {} ms", .0.as_millis())]
    Silent(Duration),
    #[error("{}: {}", .0.code(), .0.message())]
    Status(#[from] Status),
    #[error("it is not part of a cluster yet")]
    NoCluster,
    #[error("it is part of cluster {0}, not of ours")]
    OtherCluster(String),
    #[error("it said {0} where a welcome was due")]
    NotWelcome(&'static str),
    #[error("it closed the stream")]
    Closed,
    #[error("our messages do not get through to it")]
    Stuck,
    #[error("sign a hello: {0}")]
    Signature(#[from] SignatureError),
    #[error(transparent)]
    Enrolment(#[from] IdentityError),
}

/// What keeps sessions up.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) coordinators: Arc<Coordinators>,
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) outlet: Outlet,
    pub(crate) mailbox: Mailbox,
    /// Keys that the agent holds now.
    pub(crate) holding: watch::Receiver<Vec<String>>,
    pub(crate) enrolment: Enrolment,
    pub(crate) settings: crate::config::Session,
}

impl Session {
    /// Keeps a session up until `stop` is set.
    pub(crate) async fn keep(mut self, stop: &Cancel) {
        stop.guard(self.dial_on_and_on()).await;
        self.outlet.set(None);
    }

    async fn dial_on_and_on(&mut self) {
        let (min, max) = (self.settings.backoff_ms_min, self.settings.backoff_ms_max);
        let mut rounds = Backoff::new(Duration::from_millis(min), Duration::from_millis(max));
        let mut within = Backoff::new(Duration::from_millis(min), Duration::from_millis(min));
        let mut failures = 0;
        for index in 0.. {
            let index = index % self.coordinators.len();
            let mut welcomed = false;
            let error = self.once(index, &mut welcomed).await;
            let address = self.coordinators.at(index).address.as_str();
            if welcomed {
                tracing::info!(address, %error, "the session ended");
                self.outlet.set(None);
                self.mailbox.tell(Event::Disconnected).await;
                rounds.reset();
                failures = 0;
            } else {
                failures += 1;
                tracing::warn!(address, %error, "no session with this coordinator");
            }
            // Each coordinator gets a quick try before the pauses grow.
            let everyone_failed = failures > 0 && failures % self.coordinators.len() == 0;
            tokio::time::sleep(if everyone_failed { rounds.next() } else { within.next() }).await;
        }
    }

    /// One session from dialling to its end; says how it ended and whether it ever began.
    async fn once(&mut self, index: usize, welcomed: &mut bool) -> SessionError {
        match self.open(index).await {
            Ok((outgoing, incoming, silence)) => {
                *welcomed = true;
                self.relay(&outgoing, incoming, silence).await
            }
            Err(error) => error,
        }
    }

    async fn open(
        &mut self,
        index: usize,
    ) -> Result<(mpsc::Sender<WorkerMessage>, Streaming<CoordinatorMessage>, Duration), SessionError> {
        let patience = Duration::from_millis(self.settings.timeout_ms);
        let coordinators = Arc::clone(&self.coordinators);
        let coordinator = coordinators.at(index);
        let channel = within(patience, coordinator.line.connect()).await??;
        // Ledger time first: the hello's claim must not look expired.
        let (cluster, now_ms) = cluster_of(channel.clone(), patience).await?;
        if cluster != *self.sealer.cluster_id() {
            return Err(SessionError::OtherCluster(hex::encode(cluster)));
        }
        self.clock.observe(now_ms);
        let holding = self.holding.borrow().clone();
        let claim = SessionClaim { version: env!("CARGO_PKG_VERSION").to_owned(), holding };
        let hello =
            Hello { claim: Some(self.sealer.session(&claim)?), enrolment: self.enrolment.envelope(&self.sealer)? };
        let (outgoing, messages) = mpsc::channel(OUTGOING_MAX);
        outgoing.try_send(WorkerMessage { kind: Some(Outgoing::Hello(hello)) }).map_err(|_| SessionError::Stuck)?;
        let mut client = AgentClient::new(channel);
        let mut incoming = within(patience, client.session(ReceiverStream::new(messages))).await??.into_inner();
        let first = within(patience, incoming.message()).await??.ok_or(SessionError::Closed)?;
        let welcome = welcome(first)?;
        let machine = machine_id(self.sealer.cluster_id(), &self.sealer.machine_key());
        if welcome.cluster_id != self.sealer.cluster_id() || welcome.machine != machine {
            return Err(SessionError::NotWelcome("somebody else's name"));
        }
        self.clock.observe(welcome.now_ms);
        self.coordinators.prefer(index);
        self.enrolment.welcomed();
        self.outlet.set(Some(outgoing.clone()));
        tracing::info!(address = coordinator.address, machine = hex::encode(machine), "in session");
        self.mailbox.tell(Event::Connected { ledger_ms: welcome.now_ms }).await;
        Ok((outgoing, incoming, Duration::from_millis(welcome.silence_ms).max(SILENCE_MIN)))
    }

    async fn relay(
        &self,
        outgoing: &mpsc::Sender<WorkerMessage>,
        mut incoming: Streaming<CoordinatorMessage>,
        silence: Duration,
    ) -> SessionError {
        loop {
            let message = match timeout(silence, incoming.message()).await {
                Err(_) => return SessionError::Silent(silence),
                Ok(Err(status)) => return status.into(),
                Ok(Ok(None)) => return SessionError::Closed,
                Ok(Ok(Some(message))) => message,
            };
            match message.kind {
                Some(Kind::Ping(ping)) => {
                    let pong = Outgoing::Pong(Pong { nonce: ping.nonce });
                    // Waiting here would stop the reading too: a stream that takes nothing is a dead one.
                    if outgoing.try_send(WorkerMessage { kind: Some(pong) }).is_err() {
                        return SessionError::Stuck;
                    }
                }
                Some(Kind::Ack(ack)) => match ack.command_id.try_into() {
                    Ok(id) => {
                        let verdicts = convert::verdicts(ack.outcomes);
                        self.mailbox.tell(Event::Acked { id, verdicts }).await;
                    }
                    Err(_) => tracing::warn!("an acknowledgement has no command id"),
                },
                Some(Kind::Assignment(wire)) => {
                    let (key, ledger_ms) = (wire.key.clone(), wire.now_ms);
                    self.clock.observe(ledger_ms);
                    match convert::assignment(wire) {
                        Ok(assignment) => self.mailbox.tell(Event::Assigned { assignment, ledger_ms }).await,
                        Err(error) => tracing::error!(key, %error, "an assignment cannot be understood"),
                    }
                }
                Some(Kind::Withdraw(withdraw)) => self.mailbox.tell(Event::Withdrawn { key: withdraw.key }).await,
                Some(Kind::Welcome(_)) | None => tracing::debug!("a message without use was passed over"),
            }
        }
    }
}

fn welcome(message: CoordinatorMessage) -> Result<Welcome, SessionError> {
    Err(SessionError::NotWelcome(match message.kind {
        Some(Kind::Welcome(welcome)) => return Ok(welcome),
        Some(Kind::Ack(_)) => "an acknowledgement",
        Some(Kind::Ping(_)) => "a ping",
        Some(Kind::Assignment(_)) => "an assignment",
        Some(Kind::Withdraw(_)) => "a withdrawal",
        None => "nothing that we know",
    }))
}

/// The cluster that a coordinator is part of, and its ledger time.
pub(crate) async fn cluster_of(channel: Channel, patience: Duration) -> Result<(Hash, u64), SessionError> {
    let mut client = ClusterClient::new(channel);
    let status = within(patience, client.get_status(GetStatusRequest {})).await??.into_inner();
    let cluster = status.cluster_id.try_into().map_err(|_| SessionError::NoCluster)?;
    Ok((cluster, status.now_ms))
}

async fn within<T>(patience: Duration, work: impl Future<Output = T>) -> Result<T, SessionError> {
    timeout(patience, work).await.map_err(|_| SessionError::Silent(patience))
}
