//! The stream to one other coordinator: raft messages, clocks, beacon shares, sessions held. It reconnects for ever,
//! with a growing pause; what is lost meanwhile raft sends again, and the next status replaces the last.

use super::replica::{ReplicaActor, Unreachable};
use crate::{
    links::{self, Links},
    live::Live,
    shared::Peer,
};
use actix::{
    Actor, ActorFutureExt as _, Addr, ArbiterHandle, AsyncContext as _, Context, Handler, Message, WrapFuture as _,
};
use matrixai_proto::v1::{PeerAck, PeerFrame, PeerStatus, peer_client::PeerClient};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Endpoint};

/// Messages of the replica waiting for the link.
const MAILBOX: usize = 1_024;
/// Frames waiting for the network.
const FRAMES_MAX: usize = 256;
/// Largest frame that is sent and accepted: one append message of the consensus is at most 4 MiB.
pub(crate) const FRAME_BYTES_MAX: usize = 16 << 20;
/// Pauses before a new attempt.
const PAUSE_LEAST: Duration = Duration::from_millis(50);
const PAUSE_MOST: Duration = Duration::from_millis(1_000);
/// Longest wait for the other side to accept the stream once the connection stands.
const ACCEPT_WAIT: Duration = Duration::from_secs(3);

/// The link to one coordinator.
#[derive(Debug)]
pub(super) struct PeerActor {
    to: Peer,
    links: Arc<Links>,
    live: Arc<Live>,
    replica: Addr<ReplicaActor>,
    /// Where frames go while a stream stands.
    frames: Option<mpsc::Sender<PeerFrame>>,
    pause: Duration,
}

/// Starts the link to one coordinator.
pub(super) fn start(
    arbiter: &ArbiterHandle,
    to: Peer,
    links: Arc<Links>,
    live: Arc<Live>,
    replica: Addr<ReplicaActor>,
) -> Addr<PeerActor> {
    PeerActor::start_in_arbiter(arbiter, move |ctx: &mut Context<PeerActor>| {
        ctx.set_mailbox_capacity(MAILBOX);
        PeerActor { to, links, live, replica, frames: None, pause: PAUSE_LEAST }
    })
}

impl Actor for PeerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.connect(ctx);
    }
}

impl PeerActor {
    fn connect(&mut self, ctx: &mut Context<Self>) {
        let endpoint = match links::endpoint(&self.to) {
            Ok(endpoint) => endpoint,
            Err(why) => return tracing::error!(why, "a coordinator cannot be reached"),
        };
        let (frames, queue) = mpsc::channel(FRAMES_MAX);
        let first = PeerFrame { claim: Some(self.links.claim(self.to.id)), raft: Vec::new(), status: None };
        let opening = open(endpoint, first, queue);
        ctx.spawn(opening.into_actor(self).map(|acks, link, ctx| match acks {
            Ok(acks) => link.connected(frames, acks, ctx),
            Err(why) => link.broken(&why, ctx),
        }));
    }

    fn connected(&mut self, frames: mpsc::Sender<PeerFrame>, acks: Streaming<PeerAck>, ctx: &mut Context<Self>) {
        tracing::debug!(peer = self.to.id, "linked");
        self.frames = Some(frames);
        self.pause = PAUSE_LEAST;
        let listening = listen(acks, self.live.clone(), self.to.id);
        ctx.spawn(listening.into_actor(self).map(|why, link, ctx| link.broken(&why, ctx)));
    }

    fn broken(&mut self, why: &str, ctx: &mut Context<Self>) {
        if self.frames.take().is_some() {
            tracing::info!(peer = self.to.id, why, "the link broke");
        } else {
            tracing::debug!(peer = self.to.id, why, "no link yet");
        }
        ctx.run_later(self.pause, Self::connect);
        self.pause = (self.pause * 2).min(PAUSE_MOST);
    }
}

/// Something for the other coordinator.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Outgoing {
    pub(super) raft: Vec<Vec<u8>>,
    pub(super) status: Option<PeerStatus>,
}

impl Handler<Outgoing> for PeerActor {
    type Result = ();

    fn handle(&mut self, Outgoing { raft, status }: Outgoing, _: &mut Self::Context) {
        let messages = !raft.is_empty();
        let sent = match &self.frames {
            Some(frames) => frames.try_send(PeerFrame { claim: None, raft, status }).is_ok(),
            None => false,
        };
        if !sent && messages {
            // If the replica's mailbox is full too, raft finds out by itself.
            let _ = self.replica.try_send(Unreachable(self.to.id));
        }
    }
}

async fn open(
    endpoint: Endpoint,
    first: PeerFrame,
    queue: mpsc::Receiver<PeerFrame>,
) -> Result<Streaming<PeerAck>, String> {
    let channel = endpoint.connect().await.map_err(|error| describe(&error))?;
    let frames = tokio_stream::StreamExt::chain(tokio_stream::once(first), ReceiverStream::new(queue));
    let mut client = PeerClient::new(channel).max_encoding_message_size(FRAME_BYTES_MAX);
    match tokio::time::timeout(ACCEPT_WAIT, client.exchange(frames)).await {
        Ok(Ok(acks)) => Ok(acks.into_inner()),
        Ok(Err(status)) => Err(format!("{}: {}", status.code(), status.message())),
        Err(_) => Err("the stream was not accepted in time".to_owned()),
    }
}

/// Listens until the stream ends; answers why it did.
async fn listen(mut acks: Streaming<PeerAck>, live: Arc<Live>, peer: u64) -> String {
    loop {
        match acks.message().await {
            Ok(Some(_)) => live.heard(peer),
            Ok(None) => return "the other side closed it".to_owned(),
            Err(status) => return format!("{}: {}", status.code(), status.message()),
        }
    }
}

/// An error with its causes: tonic's own says only "transport error".
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
