//! Carries out the replica's work: one arm per kind.

use super::{MEMBERS_EVERY_MS, ReplicaActor, applying::ToApplier, inbox::RootComputed, writing::ToWriter};
use crate::{
    actors::session::Told,
    core::{Reply, SessionId},
    edge,
    pending::Caller,
    replica::{Figures, Input, Io, NoView, Place, Reader, RootDue},
    shared::{LEADER, NodeView},
};
use actix::{AsyncContext as _, Context};
use matrixai_proto::v1::{Envelope, SubmitReply};
use matrixai_state::State;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::oneshot;
use tonic::{Status, metadata::MetadataValue};

/// Channels of those who wait for an answer, by the number under which the replica knows them.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    next: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Result<T, Status>>>,
}

/// Those who wait for an outcome.
pub(super) type Callers = Waiting<SubmitReply>;
/// Those who wait for a view.
pub(super) type Readers = Waiting<Arc<State>>;

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { next: 0, waiting: BTreeMap::new() }
    }
}

impl<T> Waiting<T> {
    /// Gives somebody a number.
    pub(super) fn add(&mut self, answer: oneshot::Sender<Result<T, Status>>) -> u64 {
        self.next += 1;
        self.waiting.insert(self.next, answer);
        self.next
    }

    fn answer(&mut self, number: u64, result: Result<T, Status>) {
        if let Some(answer) = self.waiting.remove(&number) {
            // It may have given up; the outcome of an envelope is kept in the state for its next attempt.
            let _ = answer.send(result);
        }
    }
}

impl ReplicaActor {
    /// Carries out work in order.
    pub(super) fn carry(&mut self, work: Vec<Io>, ctx: &mut Context<Self>) {
        for io in work {
            match io {
                Io::Send { to, raft } => self.send(to, raft),
                Io::Broadcast(status) => self.peers.broadcast(&status),
                Io::Links(links) => self.peers.keep(links),
                // The threads end before this only with a panic, which they report themselves.
                Io::Write(write) => drop(self.writing.send(ToWriter::Write(write))),
                Io::RetryWrites => drop(self.writing.send(ToWriter::Retry)),
                Io::Apply { entries, view } => drop(self.applying.send(ToApplier::Apply { entries, view })),
                Io::Restore { index } => drop(self.applying.send(ToApplier::Restore(index))),
                Io::SaveSnapshot { header, view } => self.snapshotting.save(header, view, self.done(ctx)),
                Io::FetchSnapshot { from, reference } => self.snapshotting.fetch(from, reference, self.done(ctx)),
                Io::DiskFull(lacks) => {
                    self.metrics.disk_full.set(i64::from(lacks.is_some()));
                    self.status.send_modify(|view| view.disk_full = lacks);
                }
                Io::Reply { caller, reply } => self.reply(caller, reply),
                Io::Decided { waited_ms } => self.metrics.propose_seconds.observe(waited_ms as f64 / 1_000.0),
                Io::Proposed { envelopes } => self.metrics.envelopes_per_entry.observe(envelopes as f64),
                Io::View { readers, view } => {
                    readers.into_iter().for_each(|reader| self.readers.answer(reader, Ok(view.clone())));
                }
                Io::NoView { reader, why } => self.refuse_reader(reader, why),
                Io::ToWorker { session, message } => self.tell(session, Told::Message(message)),
                Io::EndSession { session } => self.tell(session, Told::Replaced),
                Io::Relay { leader, envelope } => self.relay(leader, envelope),
                Io::ComputeRoot(due) => self.compute_root(due, ctx),
                Io::Place(Place { role, leader, term }) => self.status.send_modify(|view| {
                    (view.role, view.leader, view.term) = (role, leader, term);
                }),
                Io::Stop(reason) => return self.fail(reason, ctx),
            }
        }
    }

    fn send(&mut self, to: u64, raft: Vec<Vec<u8>>) {
        if !self.peers.send(to, raft) {
            self.replica.on(Input::Unreachable { peer: to }, self.now());
        }
    }

    fn reply(&mut self, caller: Caller, reply: Reply) {
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
        self.callers.answer(caller, result);
    }

    fn refuse_reader(&mut self, reader: Reader, why: NoView) {
        let status = match why {
            NoView::Full => Status::resource_exhausted("too many reads wait: try again shortly"),
            NoView::Late => Status::unavailable("no quorum confirmed the read in time: try again shortly"),
        };
        self.readers.answer(reader, Err(status));
    }

    /// Names the leader's address in the metadata, if there is one.
    fn with_leader(&self, mut status: Status) -> Status {
        let leader = self.replica.place().leader;
        if let Some(peer) = self.directory.peer(leader)
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

    /// Sends this node's own envelope to the leader. What gets lost is sent again by the core.
    fn relay(&self, leader: u64, envelope: Envelope) {
        let Some(peer) = self.directory.peer(leader) else { return };
        let relay = self.relay.clone();
        self.runtime.spawn(async move {
            if let Err(status) = relay.submit(&peer, envelope).await {
                tracing::debug!(leader = peer.id, status = status.message(), "an own command did not reach the leader");
            }
        });
    }

    /// Computes a root off this thread.
    fn compute_root(&self, due: RootDue, ctx: &mut Context<Self>) {
        let RootDue { epoch, index, view } = due;
        let replica = ctx.address();
        let runtime = self.runtime.clone();
        self.runtime.spawn(async move {
            if let Ok(root) = runtime.spawn_blocking(move || view.root()).await {
                // An answer that is lost with the replica is not missed.
                let _ = replica.send(RootComputed { epoch, index, root }).await;
            }
        });
    }

    pub(super) fn publish_status(&mut self) {
        let figures = self.replica.figures();
        let sessions = u32::try_from(figures.sessions).unwrap_or(u32::MAX);
        let now = self.now();
        let look = now.saturating_sub(self.members_at) >= MEMBERS_EVERY_MS;
        if look {
            self.members_at = now;
        }
        self.status.send_if_modified(|view| {
            let Figures { committed, applied, first, snapshot, .. } = figures;
            let new = NodeView { committed, applied, sessions, log_first: first, snapshot, ..view.clone() };
            let changed = *view != new;
            *view = new;
            changed
        });
        if look {
            let node = self.replica.node();
            let (members, progress) = (node.status().members, node.progress());
            self.status.send_modify(|view| (view.members, view.progress) = (members, progress));
        }
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.metrics.applied_index.set(gauge(figures.applied));
        self.metrics.committed_index.set(gauge(figures.committed));
        self.metrics.term.set(gauge(figures.term));
        self.metrics.log_entries.set(gauge(figures.committed.saturating_add(1).saturating_sub(figures.first)));
        self.metrics.snapshot_index.set(gauge(figures.snapshot));
        self.metrics.sessions.set(i64::from(sessions));
        self.metrics.set_role(self.replica.place().role.as_str());
    }

    /// Drops sessions whose actor has ended without saying so.
    pub(super) fn sweep(&mut self) {
        self.sessions.retain(|_, carrier| carrier.actor.connected());
        let sessions = &self.sessions;
        self.replica.retain_sessions(|session| sessions.contains_key(&session));
    }
}
