//! Takes news away from the writer: events into the ring, movements into the statement index. Its own thread may block
//! on the index's disk while the replica goes on, up to a bounded backlog.

use crate::{
    events::{EventRing, Logged},
    history::History,
};
use actix::{Actor, Addr, ArbiterHandle, Context, Handler, Message};
use matrixai_state::{Event, Movement};
use std::sync::Arc;

/// Batches of news waiting.
const MAILBOX: usize = 256;

#[derive(Debug)]
pub(super) struct Notifier {
    events: Arc<EventRing>,
    history: Arc<History>,
}

/// What some applied entries left behind for people, in log order.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct News(pub(super) Vec<EntryNews>);

/// What one applied entry left behind.
#[derive(Debug)]
pub(super) struct EntryNews {
    pub(super) index: u64,
    pub(super) now_ms: u64,
    pub(super) events: Vec<Event>,
    pub(super) movements: Vec<Movement>,
}

/// Starts the notifier.
pub(super) fn start(arbiter: &ArbiterHandle, events: Arc<EventRing>, history: Arc<History>) -> Addr<Notifier> {
    Notifier::start_in_arbiter(arbiter, move |ctx: &mut Context<Notifier>| {
        ctx.set_mailbox_capacity(MAILBOX);
        Notifier { events, history }
    })
}

impl Actor for Notifier {
    type Context = Context<Self>;
}

impl Handler<News> for Notifier {
    type Result = ();

    fn handle(&mut self, News(entries): News, _: &mut Self::Context) {
        for EntryNews { index, now_ms, events, movements } in entries {
            self.events.push(events.into_iter().map(|event| Logged { index, now_ms, event }));
            self.history.record(index, now_ms, movements);
        }
    }
}
