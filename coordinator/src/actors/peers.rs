//! The stream to one other coordinator: raft messages, clocks, beacon shares, sessions held. It reconnects for ever,
//! with a growing pause; what is lost meanwhile raft sends again, and the next status replaces the last.

use super::replica::{Refused, ReplicaActor, Unreachable};
use crate::{
    core::{Address, PeerRefusal},
    edge,
    links::Links,
    live::Live,
};
use actix::{
    Actor, ActorContext as _, ActorFutureExt as _, Addr, ArbiterHandle, AsyncContext as _, Context, Handler, Message,
    WrapFuture as _, prelude::SendError,
};
use futures::{Stream, StreamExt as _, stream};
use matrixai_proto::v1::{PeerAck, PeerFrame, PeerStatus, peer_client::PeerClient};
use matrixai_transport::Line;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// Messages of the replica waiting for the link.
const MAILBOX: usize = 1_024;
/// Frames waiting for the network, and their bytes. Beyond either, messages are lost and raft is told, which goes back to
/// one message at a time: what a slow link owes must stay less than it can carry within an election's time.
const FRAMES_MAX: usize = 256;
const WAITING_BYTES_MAX: usize = 32 << 20;
/// Largest frame that is accepted: one message of the consensus is at most 4 MiB.
pub(crate) const FRAME_BYTES_MAX: usize = 16 << 20;
/// Messages travel together up to this many bytes; a larger one travels alone.
const FRAME_BYTES: usize = 1 << 20;
/// Pauses before a new attempt.
const PAUSE_LEAST: Duration = Duration::from_millis(50);
const PAUSE_MOST: Duration = Duration::from_millis(1_000);
/// Longest wait for the other side to accept the stream once the connection stands.
const ACCEPT_WAIT: Duration = Duration::from_secs(3);

/// The links that there are, by coordinator, each with what it was made for.
#[derive(Debug)]
pub(super) struct Peers {
    actors: BTreeMap<u64, (Address, Addr<PeerActor>)>,
    /// Links that are to end and had no room to be told.
    ending: Vec<Addr<PeerActor>>,
    arbiter: ArbiterHandle,
    links: Arc<Links>,
    live: Arc<Live>,
    replica: Addr<ReplicaActor>,
}

impl Peers {
    /// No links yet.
    pub(super) fn new(arbiter: ArbiterHandle, links: Arc<Links>, live: Arc<Live>, replica: Addr<ReplicaActor>) -> Self {
        Self { actors: BTreeMap::new(), ending: Vec::new(), arbiter, links, live, replica }
    }

    /// Starts links that are new, and ends those that are no longer wanted or lead elsewhere.
    pub(super) fn keep(&mut self, wanted: Vec<Address>) {
        let mut before = std::mem::take(&mut self.actors);
        for address in wanted {
            let actor = match before.remove(&address.id) {
                Some((known, actor)) if known == address => actor,
                moved => {
                    self.ending.extend(moved.map(|(_, actor)| actor));
                    let (links, live) = (self.links.clone(), self.live.clone());
                    start(&self.arbiter, address.clone(), links, live, self.replica.clone())
                }
            };
            self.actors.insert(address.id, (address, actor));
        }
        self.ending.extend(before.into_values().map(|(_, actor)| actor));
        self.end();
    }

    fn end(&mut self) {
        self.ending.retain(|link| matches!(link.try_send(Close), Err(SendError::Full(Close))));
    }

    /// Hands messages to a link; answers whether they were taken, or there is none to take them.
    pub(super) fn send(&self, to: u64, raft: Vec<Vec<u8>>) -> bool {
        let Some((_, peer)) = self.actors.get(&to) else { return true };
        peer.try_send(Outgoing { raft, status: None }).is_ok()
    }

    /// Tells everybody.
    pub(super) fn broadcast(&mut self, status: &PeerStatus) {
        self.end();
        for (_, peer) in self.actors.values() {
            // A full mailbox is a slow link; the next status is newer anyway.
            let _ = peer.try_send(Outgoing { raft: Vec::new(), status: Some(status.clone()) });
        }
    }
}

/// The link to one coordinator.
#[derive(Debug)]
struct PeerActor {
    to: Address,
    links: Arc<Links>,
    live: Arc<Live>,
    replica: Addr<ReplicaActor>,
    /// Where frames go while a stream stands.
    frames: Option<Frames>,
    pause: Duration,
    /// Whether the log has said that the other one does not know this one, or hears another one of its key.
    strange: bool,
}

/// Where frames wait for the network.
#[derive(Debug, Clone)]
struct Frames {
    queue: mpsc::Sender<PeerFrame>,
    /// Bytes of messages that wait.
    waiting: Arc<AtomicUsize>,
}

impl Frames {
    /// Room for frames, and the stream on which they leave.
    fn new() -> (Self, impl Stream<Item = PeerFrame> + Send + 'static) {
        let (queue, leaving) = mpsc::channel(FRAMES_MAX);
        let waiting = Arc::new(AtomicUsize::new(0));
        let left = waiting.clone();
        let stream = ReceiverStream::new(leaving).inspect(move |frame: &PeerFrame| {
            left.fetch_sub(bytes(&frame.raft), Ordering::Relaxed);
        });
        (Self { queue, waiting }, stream)
    }

    /// Puts a frame behind the others; `false` if there is no room.
    fn push(&self, raft: Vec<Vec<u8>>, status: Option<PeerStatus>) -> bool {
        let bytes = bytes(&raft);
        let before = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        // What finds nothing before it always has room, whatever its size.
        let room = before == 0 || before + bytes <= WAITING_BYTES_MAX;
        let taken = room && self.queue.try_send(PeerFrame { claim: None, raft, status }).is_ok();
        if !taken {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        }
        taken
    }
}

fn bytes(messages: &[Vec<u8>]) -> usize {
    messages.iter().map(Vec::len).sum()
}

/// The first of these messages that fit into a frame together, at least one, taken off.
fn frame(messages: &mut Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut room = FRAME_BYTES;
    let fit = messages.iter().take_while(|message| match room.checked_sub(message.len()) {
        Some(left) => {
            room = left;
            true
        }
        None => false,
    });
    let rest = messages.split_off(fit.count().max(1).min(messages.len()));
    std::mem::replace(messages, rest)
}

/// Starts the link to one coordinator.
fn start(
    arbiter: &ArbiterHandle,
    to: Address,
    links: Arc<Links>,
    live: Arc<Live>,
    replica: Addr<ReplicaActor>,
) -> Addr<PeerActor> {
    PeerActor::start_in_arbiter(arbiter, move |ctx: &mut Context<PeerActor>| {
        ctx.set_mailbox_capacity(MAILBOX);
        PeerActor { to, links, live, replica, frames: None, pause: PAUSE_LEAST, strange: false }
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
        let line = match self.links.line(self.to.id, &self.to.grpc, &self.to.key) {
            Ok(line) => line,
            Err(why) => return tracing::error!(why, "a coordinator cannot be reached"),
        };
        let (frames, leaving) = Frames::new();
        let first = PeerFrame { claim: Some(self.links.claim(self.to.id)), raft: Vec::new(), status: None };
        let opening = open(line, first, leaving);
        ctx.spawn(opening.into_actor(self).map(|acks, link, ctx| match acks {
            Ok(acks) => link.connected(frames, acks, ctx),
            Err(broken) => link.broken(&broken, ctx),
        }));
    }

    fn connected(&mut self, frames: Frames, acks: Streaming<PeerAck>, ctx: &mut Context<Self>) {
        tracing::debug!(peer = self.to.id, "linked");
        self.frames = Some(frames);
        self.pause = PAUSE_LEAST;
        self.strange = false;
        let listening = listen(acks, self.live.clone(), self.to.id);
        ctx.spawn(listening.into_actor(self).map(|broken, link, ctx| link.broken(&broken, ctx)));
    }

    fn broken(&mut self, Broken { why, refusal }: &Broken, ctx: &mut Context<Self>) {
        if let Some(why) = *refusal {
            // If the replica's mailbox is full, the next attempt tells it.
            let _ = self.replica.try_send(Refused { by: self.to.id, why });
            let peer = self.to.id;
            match why {
                PeerRefusal::Stranger { .. } if !std::mem::replace(&mut self.strange, true) => {
                    let advice = "it is introduced when somebody leads whom it knows; if nobody leads, start it with --introduce";
                    tracing::warn!(peer, advice, "a coordinator refuses this one, which its log does not name");
                }
                PeerRefusal::Twin if !std::mem::replace(&mut self.strange, true) => {
                    tracing::warn!(peer, "a coordinator hears another process with this one's node key");
                }
                PeerRefusal::Stranger { .. } | PeerRefusal::Twin | PeerRefusal::Removed | PeerRefusal::OtherEra => {}
            }
        }
        if self.frames.take().is_some() {
            tracing::info!(peer = self.to.id, why, "the link broke");
        } else {
            tracing::debug!(peer = self.to.id, why, "no link yet");
        }
        ctx.run_later(self.pause, Self::connect);
        self.pause = (self.pause * 2).min(PAUSE_MOST);
    }
}

/// Why a stream ended, or never stood.
#[derive(Debug)]
struct Broken {
    why: String,
    /// The other side does not listen to this coordinator.
    refusal: Option<PeerRefusal>,
}

impl From<String> for Broken {
    fn from(why: String) -> Self {
        Self { why, refusal: None }
    }
}

impl From<Status> for Broken {
    fn from(status: Status) -> Self {
        let refusal = edge::peer_refusal(&status);
        Self { why: format!("{}: {}", status.code(), status.message()), refusal }
    }
}

/// The other coordinator has left the cluster, or is somewhere else now.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Close;

impl Handler<Close> for PeerActor {
    type Result = ();

    fn handle(&mut self, Close: Close, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

/// Something for the other coordinator.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Outgoing {
    raft: Vec<Vec<u8>>,
    status: Option<PeerStatus>,
}

impl Handler<Outgoing> for PeerActor {
    type Result = ();

    fn handle(&mut self, Outgoing { mut raft, status }: Outgoing, _: &mut Self::Context) {
        let (messages, frames) = (!raft.is_empty(), self.frames.as_ref());
        let mut sent = status.is_none() || frames.is_some_and(|frames| frames.push(Vec::new(), status));
        while !raft.is_empty() && sent {
            let frame = frame(&mut raft);
            sent = frames.is_some_and(|frames| frames.push(frame, None));
        }
        if !sent && messages {
            // If the replica's mailbox is full too, raft finds out by itself.
            let _ = self.replica.try_send(Unreachable(self.to.id));
        }
    }
}

async fn open(
    line: Line,
    first: PeerFrame,
    leaving: impl Stream<Item = PeerFrame> + Send + 'static,
) -> Result<Streaming<PeerAck>, Broken> {
    let channel = line.connect().await.map_err(|error| describe(&error))?;
    let frames = stream::once(async { first }).chain(leaving);
    let mut client = PeerClient::new(channel).max_encoding_message_size(FRAME_BYTES_MAX);
    match tokio::time::timeout(ACCEPT_WAIT, client.exchange(frames)).await {
        Ok(Ok(acks)) => Ok(acks.into_inner()),
        Ok(Err(status)) => Err(status.into()),
        Err(_) => Err("the stream was not accepted in time".to_owned().into()),
    }
}

/// Listens until the stream ends; answers why it did.
async fn listen(mut acks: Streaming<PeerAck>, live: Arc<Live>, peer: u64) -> Broken {
    loop {
        match acks.message().await {
            Ok(Some(_)) => live.heard(peer),
            Ok(None) => return "the other side closed it".to_owned().into(),
            Err(status) => return status.into(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[test]
    fn frames_hold_whole_messages_in_order_up_to_their_size() {
        let sizes = [10, FRAME_BYTES - 10, 1, FRAME_BYTES + 1, FRAME_BYTES / 2, 0, FRAME_BYTES / 2 + 1];
        let mut messages: Vec<Vec<u8>> = sizes.iter().map(|size| vec![7; *size]).collect();
        let mut frames = Vec::new();
        while !messages.is_empty() {
            frames.push(frame(&mut messages).iter().map(Vec::len).collect::<Vec<_>>());
        }
        let half = FRAME_BYTES / 2;
        assert_eq!(frames, [vec![10, FRAME_BYTES - 10], vec![1], vec![FRAME_BYTES + 1], vec![half, 0], vec![half + 1]]);
        assert!(frame(&mut Vec::new()).is_empty());
    }

    #[test]
    fn a_link_owes_no_more_than_its_limit_and_has_room_again_when_frames_leave() {
        let (frames, leaving) = Frames::new();
        let mut leaving = Box::pin(leaving);
        assert!(frames.push(vec![vec![0; WAITING_BYTES_MAX + 1]], None), "a large one alone");
        assert!(!frames.push(vec![vec![0]], None));
        assert!(leaving.next().now_or_never().flatten().is_some());
        assert!(frames.push(vec![vec![0; WAITING_BYTES_MAX]], None));
        assert!(frames.push(Vec::new(), Some(PeerStatus::default())), "a status is small");
        assert!(!frames.push(vec![vec![0]], None));
    }
}
