//! The actors of a coordinator: mailboxes and lifetimes, nothing else. What is decided is decided in [`crate::core`], the
//! state machine and the consensus node; here it is carried.
//!
//! | actor | thread | carries |
//! |---|---|---|
//! | [`replica`] | its own | node, state and core: the single writer |
//! | [`notifier`] | its own | events and statement lines away from the writer |
//! | [`peers`] | links | one stream to each other coordinator |
//! | [`session`] | sessions | one worker's stream each |
//! | [`ticker`] | links | time |
//!
//! `actix` appears in this folder and in the start-up only. Messages go by `try_send` or awaited `send`, never by
//! `do_send`, which ignores a mailbox's capacity.

mod notifier;
mod peers;
mod replica;
mod session;
mod ticker;

pub(crate) use peers::FRAME_BYTES_MAX;
pub(crate) use replica::{Exported, Frame, Setup};
pub(crate) use session::{DOWN_MAX, Opening};

use crate::shared::Shared;
use actix::{Actor as _, Addr, Arbiter, MailboxError, prelude::SendError};
use matrixai_proto::v1::{Envelope, SubmitReply};
use matrixai_state::State;
use std::sync::Arc;
use tokio::sync::oneshot;
use tonic::Status;

/// Handle to the replica, for services on any thread.
#[derive(Debug, Clone)]
pub(crate) struct Replica {
    actor: Addr<replica::ReplicaActor>,
    sessions: actix::ArbiterHandle,
}

/// The threads that actors live on, to be stopped and joined.
#[derive(Debug)]
pub(crate) struct Threads(Vec<Arbiter>);

impl Threads {
    /// Stops all actors and waits until their threads have ended, so that files are closed when this returns.
    pub(crate) fn stop(self) {
        for arbiter in &self.0 {
            arbiter.stop();
        }
        for arbiter in self.0 {
            if arbiter.join().is_err() {
                tracing::error!("an actor's thread panicked");
            }
        }
    }
}

impl Replica {
    /// Starts the replica and what belongs to it. Must be called on the thread of an actix system.
    pub(crate) fn start(setup: Setup) -> (Self, Threads) {
        let (writer, links, news, sessions) = (Arbiter::new(), Arbiter::new(), Arbiter::new(), Arbiter::new());
        let notifier = notifier::start(&news.handle(), setup.events.clone(), setup.history.clone());
        let actor = replica::start(&writer.handle(), &links.handle(), setup, notifier);
        let replica = Self { actor, sessions: sessions.handle() };
        // Sessions first: they hold addresses of the replica.
        (replica, Threads(vec![sessions, links, writer, news]))
    }

    /// Applies a checked envelope if this coordinator leads; answers after it was applied.
    pub(crate) async fn submit(&self, envelope: Envelope) -> Result<SubmitReply, Status> {
        let (answer, answered) = oneshot::channel();
        self.actor.try_send(replica::Submit { envelope, answer }).map_err(|error| refused(&error))?;
        answered.await.map_err(|_| stopping())?
    }

    /// A linearizable view.
    pub(crate) async fn view(&self) -> Result<Arc<State>, Status> {
        let (answer, answered) = oneshot::channel();
        self.actor.try_send(replica::View { answer }).map_err(|error| refused(&error))?;
        answered.await.map_err(|_| stopping())?
    }

    /// Hands in what another coordinator sent; waits while the mailbox is full.
    pub(crate) async fn frame(&self, frame: Frame) -> Result<(), Status> {
        match self.actor.try_send(frame) {
            Ok(()) => Ok(()),
            Err(SendError::Full(frame)) => self.actor.send(frame).await.map_err(|error| lost(&error)),
            Err(SendError::Closed(_)) => Err(stopping()),
        }
    }

    /// A page of committed entries for an audit.
    pub(crate) async fn export(&self, from_index: u64, to_index: u64) -> Result<Exported, Status> {
        let (answer, answered) = oneshot::channel();
        let export = replica::Export { from_index, to_index, answer };
        self.actor.try_send(export).map_err(|error| refused(&error))?;
        answered.await.map_err(|_| stopping())?
    }

    /// Starts the session of a worker whose claim was checked.
    pub(crate) fn open_session(&self, shared: Shared, opening: Opening) {
        let replica = self.actor.clone();
        session::SessionActor::start_in_arbiter(&self.sessions, move |ctx| {
            session::SessionActor::new(shared, replica, opening, ctx)
        });
    }
}

fn refused<M>(error: &SendError<M>) -> Status {
    match error {
        SendError::Full(_) => {
            Status::resource_exhausted("too many requests wait at this coordinator: try again shortly")
        }
        SendError::Closed(_) => stopping(),
    }
}

fn lost(error: &MailboxError) -> Status {
    Status::unavailable(format!("the coordinator does not answer: {error}"))
}

fn stopping() -> Status {
    Status::unavailable("the coordinator is stopping")
}
