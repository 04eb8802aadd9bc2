//! Carries out what the core decided: one arm per action.

use super::{ReplicaActor, inbox::RootComputed};
use crate::{
    actors::{peers::Outgoing, session::Told},
    core::{Action, Event, Reply, SessionId},
    edge,
    pending::Caller,
    shared::{self, LEADER, NodeView},
};
use actix::{AsyncContext as _, Context, prelude::SendError};
use matrixai_consensus::{Output, ProposeError, Role};
use matrixai_proto::v1::{Envelope, PeerStatus, SubmitReply};
use std::collections::{BTreeMap, VecDeque};
use tokio::sync::oneshot;
use tonic::{Status, metadata::MetadataValue};

/// The channels of callers, by the number under which the core knows them.
#[derive(Debug, Default)]
pub(super) struct Callers {
    next: Caller,
    waiting: BTreeMap<Caller, oneshot::Sender<Result<SubmitReply, Status>>>,
}

impl Callers {
    /// Gives a caller a number.
    pub(super) fn add(&mut self, answer: oneshot::Sender<Result<SubmitReply, Status>>) -> Caller {
        self.next += 1;
        self.waiting.insert(self.next, answer);
        self.next
    }
}

impl ReplicaActor {
    /// Carries out actions in order. What an action leads to is queued behind them.
    pub(super) fn carry(&mut self, actions: Vec<Action>, ctx: &mut Context<Self>) {
        let mut queue = VecDeque::from(actions);
        while let Some(action) = queue.pop_front() {
            match action {
                Action::Propose { number, entry, envelopes } => {
                    if let Err(why) = self.propose(entry, envelopes) {
                        queue.extend(self.core.on(Event::Dropped { number, why }, self.now()));
                    }
                }
                Action::Reply { caller, reply } => self.reply(caller, reply),
                Action::Decided { waited_ms } => self.metrics.propose_seconds.observe(waited_ms as f64 / 1_000.0),
                Action::Send { session, message } => self.tell(session, Told::Message(message)),
                Action::End { session } => self.tell(session, Told::Replaced),
                Action::Broadcast(status) => self.broadcast(&status),
                Action::Relay(envelope) => self.relay(envelope),
                Action::Stop(reason) => return self.fail(reason, ctx),
            }
        }
    }

    fn propose(&mut self, entry: Vec<u8>, envelopes: usize) -> Result<(), Reply> {
        match self.node.propose(entry) {
            Ok(()) => {
                self.metrics.envelopes_per_entry.observe(envelopes as f64);
                Ok(())
            }
            Err(ProposeError::NotLeader { .. }) => Err(Reply::NotLeader),
            Err(ProposeError::Busy) => Err(Reply::Full),
            Err(
                error @ (ProposeError::TooLarge { .. }
                | ProposeError::Empty
                | ProposeError::Members(_)
                | ProposeError::Stopped),
            ) => {
                tracing::error!(%error, "an entry was not taken");
                Err(Reply::Full)
            }
        }
    }

    fn reply(&mut self, caller: Caller, reply: Reply) {
        let Some(answer) = self.callers.waiting.remove(&caller) else { return };
        let result = match reply {
            Reply::Decided { index, outcomes } => {
                let outcomes: Vec<_> = outcomes.iter().map(edge::wire_outcome).collect();
                outcomes
                    .iter()
                    .filter(|outcome| outcome.code != 0)
                    .for_each(|outcome| self.metrics.refused(&outcome.name));
                Ok(SubmitReply { index, outcomes })
            }
            Reply::NotLeader => Err(self.with_leader(Status::failed_precondition(
                "this coordinator does not lead: ask the leader named in the metadata, or again shortly",
            ))),
            Reply::LeadershipLost => Err(self.with_leader(Status::unavailable(
                "leadership was lost before the outcome was known: send the same envelope again",
            ))),
            Reply::Full => {
                Err(Status::resource_exhausted("too many commands wait: send the same envelope again shortly"))
            }
            Reply::Reused => edge::Stopped::Refused(matrixai_state::Refusal::IdReused).answer(),
            Reply::Late => Err(Status::unavailable("no quorum decided in time: send the same envelope again")),
        };
        // The caller may have given up; the outcome is kept in the state for its next attempt.
        let _ = answer.send(result);
    }

    /// Names the leader's address in the metadata, if there is one.
    fn with_leader(&self, mut status: Status) -> Status {
        let leader = self.status.borrow().leader;
        if let Some(peer) = self.all.iter().find(|peer| peer.id == leader)
            && let Ok(address) = MetadataValue::try_from(&peer.grpc)
        {
            status.metadata_mut().insert(LEADER, address);
        }
        status
    }

    fn tell(&mut self, session: SessionId, told: Told) {
        let Some(carrier) = self.sessions.get(&session) else { return };
        // A worker that takes nothing is cut off, and told everything again when it comes back.
        if carrier.actor.try_send(told).is_err() {
            carrier.cut();
            self.sessions.remove(&session);
        }
    }

    fn broadcast(&mut self, status: &PeerStatus) {
        for peer in self.peers.values() {
            // A full mailbox is a slow link; the next status is newer anyway.
            let _ = peer.try_send(Outgoing { raft: Vec::new(), status: Some(status.clone()) });
        }
    }

    /// Sends this node's own envelope to the leader. What gets lost is sent again by the core.
    fn relay(&self, envelope: Envelope) {
        let leader = self.status.borrow().leader;
        let Some(peer) = self.all.iter().find(|peer| peer.id == leader).cloned() else { return };
        let relay = self.relay.clone();
        self.runtime.spawn(async move {
            if let Err(status) = relay.submit(&peer, envelope).await {
                tracing::debug!(leader = peer.id, status = status.message(), "an own command did not reach the leader");
            }
        });
    }

    /// Tells the core of a change of this node's place in the quorum.
    pub(super) fn turn(&mut self, output: &Output, ctx: &mut Context<Self>) {
        let role = match output.role {
            Role::Leader => shared::Role::Leader,
            Role::Candidate | Role::PreCandidate => shared::Role::Candidate,
            Role::Follower => shared::Role::Follower,
        };
        let known = self.status.borrow().clone();
        if (known.role, known.leader, known.term) == (role, output.leader, output.term) {
            return;
        }
        if known.role != role || known.leader != output.leader {
            tracing::info!(role = role.as_str(), leader = output.leader, term = output.term, "place in the quorum");
        }
        self.status.send_modify(|view| {
            (view.role, view.leader, view.term) = (role, output.leader, output.term);
        });
        // A leader of a new term must wait like any other, so losing and winning between two polls is a loss too.
        if known.role == shared::Role::Leader && role == shared::Role::Leader {
            let lost = Event::Role { role: shared::Role::Follower, leader: 0 };
            let actions = self.core.on(lost, self.now());
            self.carry(actions, ctx);
        }
        let actions = self.core.on(Event::Role { role, leader: output.leader }, self.now());
        self.carry(actions, ctx);
    }

    pub(super) fn publish_status(&mut self) {
        let node = self.node.status();
        let sessions = u32::try_from(self.core.sessions()).unwrap_or(u32::MAX);
        let applied = self.state.index();
        self.status.send_if_modified(|view| {
            let new = NodeView { committed: node.commit, applied, sessions, ..view.clone() };
            let changed = *view != new;
            *view = new;
            changed
        });
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.metrics.applied_index.set(gauge(applied));
        self.metrics.committed_index.set(gauge(node.commit));
        self.metrics.term.set(gauge(node.term));
        self.metrics.sessions.set(i64::from(sessions));
        self.metrics.set_role(self.status.borrow().role.as_str());
    }

    /// Asks the quorum on behalf of the waiting reads.
    pub(super) fn ask_for_reads(&mut self) {
        let Some(context) = self.reads.ask(self.now()) else { return };
        // Refused or lost is the same: it is asked again after a while.
        if let Err(error) = self.node.read_index(context) {
            tracing::trace!(%error, "a read waits");
        }
    }

    pub(super) fn answer_reads(&mut self) {
        let ready = self.reads.ready(self.state.index());
        if ready.is_empty() {
            return;
        }
        let view = self.views.borrow().clone();
        for reader in ready {
            let _ = reader.send(Ok(view.clone()));
        }
    }

    /// Hands news over as far as the notifier has room.
    pub(super) fn drain_backlog(&mut self) {
        while let Some(news) = self.backlog.pop_front() {
            if let Err(SendError::Full(news)) = self.notifier.try_send(news) {
                self.backlog.push_front(news);
                return;
            }
        }
    }

    /// Starts the computation of the newest due root off this thread, one at a time.
    pub(super) fn compute_root(&mut self, ctx: &mut Context<Self>) {
        if self.root_running {
            return;
        }
        let Some((epoch, index, state)) = self.root_due.take() else { return };
        self.root_running = true;
        let replica = ctx.address();
        let runtime = self.runtime.clone();
        self.runtime.spawn(async move {
            if let Ok(root) = runtime.spawn_blocking(move || state.root()).await {
                // An answer that is lost with the replica is not missed.
                let _ = replica.send(RootComputed { epoch, index, root }).await;
            }
        });
    }

    /// Drops sessions whose actor has ended without saying so.
    pub(super) fn sweep(&mut self) {
        self.sessions.retain(|_, carrier| carrier.actor.connected());
        let sessions = &self.sessions;
        self.core.retain_sessions(|session| sessions.contains_key(&session));
    }
}
