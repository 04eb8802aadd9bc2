//! The actors of a coordinator: mailboxes and lifetimes, nothing else. What is decided is decided in [`crate::core`], the
//! state machine and the consensus node; here it is carried.
//!
//! | actor | thread | carries |
//! |---|---|---|
//! | [`replica`] | its own, and one that applies | the replica: node, core, reads; the applier: state |
//! | [`peers`] | links | one stream to each other coordinator |
//! | [`session`] | sessions | one worker's stream each |
//! | [`ticker`] | links | time |
//!
//! `actix` appears in this folder and in the start-up only. Messages go by `try_send` or awaited `send`, never by
//! `do_send`, which ignores a mailbox's capacity.

mod peers;
mod replica;
mod session;
mod ticker;

pub(crate) use peers::FRAME_BYTES_MAX;
pub(crate) use replica::{Exported, Frame, Setup};
pub(crate) use session::{DOWN_MAX, Opening};

use crate::{reads::ReadMode, shared::Shared, submitting::Submission};
use actix::{Actor as _, Addr, Arbiter, MailboxError, prelude::SendError};
use matrixai_state::State;
use std::{io, sync::Arc, thread::JoinHandle};
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
pub(crate) struct Threads {
    arbiters: Vec<Arbiter>,
    /// Those end when the replica is gone.
    others: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Stops all actors and waits until their threads have ended, so that files are closed when this returns.
    pub(crate) fn stop(self) {
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
        let arbiters = self.arbiters.into_iter().map(Arbiter::join);
        let ended: Vec<_> = arbiters.chain(self.others.into_iter().map(JoinHandle::join)).collect();
        if ended.iter().any(Result::is_err) {
            tracing::error!("a thread of the replica panicked");
        }
    }
}

impl Replica {
    /// Starts the replica and what belongs to it. Must be called on the thread of an actix system.
    ///
    /// # Errors
    /// The system's, when it starts no thread.
    pub(crate) fn start(setup: Setup) -> io::Result<(Self, Threads)> {
        let (writer, links, sessions) = (Arbiter::new(), Arbiter::new(), Arbiter::new());
        let (actor, others) = replica::start(&writer.handle(), &links.handle(), setup)?;
        let replica = Self { actor, sessions: sessions.handle() };
        // Sessions first: they hold addresses of the replica.
        Ok((replica, Threads { arbiters: vec![sessions, links, writer], others }))
    }

    /// Applies checked envelopes if this coordinator leads; each is answered after it was applied.
    pub(crate) fn submit(&self, submissions: Vec<Submission>) {
        if submissions.is_empty() {
            return;
        }
        if let Err(error) = self.actor.try_send(replica::Submit(submissions)) {
            let status = refused(&error);
            let (SendError::Full(replica::Submit(submissions)) | SendError::Closed(replica::Submit(submissions))) =
                error;
            for Submission { answer, .. } in submissions {
                // It may have given up.
                let _ = answer.send(Err(status.clone()));
            }
        }
    }

    /// A view as new as `mode` asks for.
    pub(crate) async fn view(&self, mode: ReadMode) -> Result<Arc<State>, Status> {
        let (answer, answered) = oneshot::channel();
        self.actor.try_send(replica::View { mode, answer }).map_err(|error| refused(&error))?;
        answered.await.map_err(|_| stopping())?
    }

    /// Begins to hand the leader's office to another voter, if this coordinator leads.
    pub(crate) async fn transfer_leader(&self, to: u64) -> Result<(), Status> {
        let (answer, answered) = oneshot::channel();
        self.actor.try_send(replica::TransferLeader { to, answer }).map_err(|error| refused(&error))?;
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

    /// Asks for a snapshot of now; the status tells when it is there.
    pub(crate) fn want_snapshot(&self) -> Result<(), Status> {
        self.actor.try_send(replica::WantSnapshot).map_err(|error| refused(&error))
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
