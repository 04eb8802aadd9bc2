//! Every decision of a coordinator that is not the ledger's: what is proposed and when, who is answered, which machines
//! are there, who is sent what. Pure: events and a monotonic time go in, actions come out; `actors/` carries both.
//!
//! Nothing here outlives the process, and nothing here may matter to correctness: the state decides what is true, and a
//! coordinator that forgot all of this recovers it from the state (`Dispatch` from what machines are owed, `Beats`
//! from the beacon, `Liveness` by waiting one timeout).
//!
//! | part | decides |
//! |---|---|
//! | [`crate::pending`] | which envelopes form the next entry, and who is answered |
//! | `beats` | when the next beat is due and with whose shares |
//! | `liveness` | which machines are there and which are lost |
//! | `dispatch` | what each session is sent or told to stop |
//! | `membership` | which change of raft's membership is next, and whether this node has left |
//! | `roots` | which epoch's root this node attests, and whether it has diverged |
//! | `own` | this node's own signed commands |

mod beats;
mod dispatch;
mod liveness;
mod membership;
mod own;
mod roots;
#[cfg(test)]
mod tests;

pub use crate::shared::Role;
pub use dispatch::{SessionId, ToWorker};

use crate::{
    clock::LedgerClock,
    pending::{Caller, NotAdded, Pending, Waiting},
};
use beats::Beats;
use dispatch::Dispatch;
use liveness::Liveness;
use matrixai_consensus::{MemberChange, Members, Progress};
use matrixai_proto::{
    envelope::Signer,
    v1::{self, AnnounceRules, Envelope, HeldSession, LogEntry, PeerStatus, command::Kind},
};
use matrixai_state::{
    Applied, Effect, Outcome, State,
    ids::{Hash, Key, MachineId, NodeId},
    nodes::Standing,
    rules,
};
use membership::{Membership, Step};
use own::{Own, Subject};
use prost::Message as _;
use roots::Roots;
use std::sync::Arc;

/// Envelopes in one log entry.
const ENTRY_ENVELOPES_MAX: usize = 8_192;
/// Bytes of envelopes in one log entry; an envelope is far smaller, so the entry stays below the consensus' limit.
const ENTRY_BYTES_MAX: usize = 1 << 20;
/// A caller is told to ask again after this long: the quorum is gone or far behind.
const CALLER_WAIT_MS: u64 = 10_000;
/// Time between two messages about this coordinator's clock and sessions to the others.
const STATUS_EVERY_MS: u64 = 250;
/// Time between two looks at who is there, and at what has waited too long.
const REVIEW_EVERY_MS: u64 = 200;
/// A pause of this length between two ticks means that this process stood still: it heard nobody meanwhile, so nobody's
/// silence counts.
const STALL_MS: u64 = 500;
/// An announcement of this build's rules that did not arrive is made again after this long.
const ANNOUNCE_EVERY_MS: u64 = 2_000;
/// Sessions in one status.
const STATUS_SESSIONS_MAX: usize = 100_000;

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// Time passed; this machine's wall clock shows `wall_ms`.
    Tick {
        wall_ms: u64,
    },
    /// A caller wants an envelope applied. It has been checked: see `edge.rs`.
    Submitted {
        caller: Caller,
        envelope: Waiting,
    },
    /// Everything that arrived together has been handed in: propose it.
    Flush {
        room: usize,
    },
    /// The node did not take the proposal of this number.
    Dropped {
        number: u64,
        why: Reply,
    },
    /// This node's place in the quorum.
    Role {
        role: Role,
        leader: u64,
    },
    /// Entries were applied; `state`, if there is one, has them all. There is one if they left effects.
    Applied {
        state: Option<Arc<State>>,
        entries: Vec<Applied>,
    },
    /// The state was replaced by a snapshot's: what happened in between is not told entry by entry.
    Restored {
        state: Arc<State>,
    },
    /// Another coordinator said what it holds.
    Status {
        from: u64,
        status: PeerStatus,
    },
    /// A worker's session begins here. `holding` are keys of assignments it says it has.
    SessionOpened {
        session: SessionId,
        machine: MachineId,
        holding: Vec<String>,
    },
    /// A session's round trip was measured, microseconds.
    SessionMeasured {
        session: SessionId,
        round_trip_us: u64,
    },
    SessionClosed {
        session: SessionId,
    },
    /// What the node knows of raft's members; `progress` is how far each is, on a leader.
    Members {
        members: Members,
        progress: Vec<Progress>,
        commit: u64,
    },
    /// Another coordinator does not listen to this one.
    Refused {
        by: u64,
        why: PeerRefusal,
    },
    /// The root of the state at the end of an epoch was computed.
    RootComputed {
        epoch: u64,
        index: u64,
        root: Hash,
    },
    /// The epoch's segment of the log was sealed.
    SegmentSealed {
        epoch: u64,
        index: u64,
        hash: Hash,
    },
}

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    /// Propose these bytes of a [`LogEntry`].
    Propose { number: u64, entry: Vec<u8>, envelopes: usize },
    /// Answer a caller.
    Reply { caller: Caller, reply: Reply },
    /// A caller was answered by an applied entry after this long, ms.
    Decided { waited_ms: u64 },
    /// Tell a worker.
    Send { session: SessionId, message: ToWorker },
    /// End a session: the machine has opened another.
    End { session: SessionId },
    /// Tell the other coordinators.
    Broadcast(PeerStatus),
    /// Carry this node's own envelope to the leader.
    Relay(Envelope),
    /// Propose this change of raft's members.
    ChangeMembers(MemberChange),
    /// Hand the leader's office to this voter.
    TransferLeader { to: u64 },
    /// Keep links to these coordinators, and no others.
    Links(Vec<Address>),
    /// Stop the process: its state differs from the quorum's, it has left the cluster, or rules are in effect that its
    /// build does not know.
    Stop(String),
}

/// Another coordinator and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub id: u64,
    pub key: Key,
    /// host:port of its gRPC server.
    pub grpc: String,
}

/// Why another coordinator does not listen to this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerRefusal {
    /// This one was removed from the cluster.
    Removed,
    /// The data of one of the two began again from another snapshot than the other's, or the other's never did.
    OtherEra,
    /// Another process with the same node key speaks to the other one.
    Twin,
    /// The other one has not read of it in its log.
    Stranger {
        /// Up to this number it knows whoever is in the cluster.
        knows: u64,
    },
}

/// What a caller is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Decided by the entry of this index.
    Decided { index: u64, outcomes: Arc<[Outcome]> },
    /// This coordinator does not lead; the envelope was not proposed.
    NotLeader,
    /// It led when the envelope was proposed and no longer does: the outcome is unknown here.
    LeadershipLost,
    /// Too many wait.
    Full,
    /// Another envelope of the same signer and id waits already.
    Reused,
    /// No quorum decided in time.
    Late,
}

/// What a core is told once.
#[derive(Debug)]
pub struct CoreConfig {
    pub me: u64,
    pub cluster_id: Hash,
    /// Coordinators that a joining one was told of, for as long as its state does not know them.
    pub told: Vec<Address>,
    pub signer: Signer,
    /// Random; keeps this process's command ids apart from those of earlier ones.
    pub boot: [u8; 8],
    pub beat_ms: u64,
    pub machine_timeout_ms: u64,
}

/// The decisions of one coordinator.
#[derive(Debug)]
pub struct Core {
    me: u64,
    clock: LedgerClock,
    wall_ms: u64,
    role: Role,
    leader: u64,
    /// Since when this coordinator leads.
    leads_since: Option<u64>,
    /// Since when it has listened without a pause.
    listens_since: u64,
    ticked_at: u64,
    state: Arc<State>,
    pending: Pending,
    proposals: u64,
    own: Own,
    beats: Beats,
    liveness: Liveness,
    dispatch: Dispatch,
    roots: Roots,
    membership: Membership,
    /// The links that were asked for last.
    links: Vec<Address>,
    /// When the others were last told, and when waiting things were last looked at.
    told_at: Option<u64>,
    reviewed_at: Option<u64>,
    /// When this build's rules were last announced.
    announced_at: Option<u64>,
}

impl Core {
    /// A core that knows nothing but its state.
    pub fn new(config: CoreConfig, state: Arc<State>) -> Self {
        let CoreConfig { me, cluster_id, told, signer, boot, beat_ms, machine_timeout_ms } = config;
        let mut clock = LedgerClock::new(me, state.voters().map(|node| node.id.0).collect());
        clock.applied(state.now_ms());
        Self {
            me,
            clock,
            wall_ms: 0,
            role: Role::Follower,
            leader: 0,
            leads_since: None,
            listens_since: 0,
            ticked_at: 0,
            state,
            pending: Pending::default(),
            proposals: 0,
            roots: Roots::new(me),
            membership: Membership::new(me, told),
            links: Vec::new(),
            beats: Beats::new(me, *signer.seed(), cluster_id, beat_ms),
            own: Own::new(signer, cluster_id, boot),
            liveness: Liveness::new(machine_timeout_ms),
            dispatch: Dispatch::default(),
            told_at: None,
            reviewed_at: None,
            announced_at: None,
        }
    }

    /// Takes an event at a monotonic time in ms; answers what is to be done, in order.
    pub fn on(&mut self, event: Event, now: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Tick { wall_ms } => self.tick(wall_ms, now, &mut actions),
            Event::Submitted { caller, envelope } => self.submitted(caller, envelope, now, &mut actions),
            Event::Flush { room } => self.flush(room, &mut actions),
            Event::Dropped { number, why } => {
                self.own.dropped(number);
                answer(self.pending.dropped(number), &why, &mut actions);
            }
            Event::Role { role, leader } => self.turned(role, leader, now, &mut actions),
            Event::Applied { state, entries } => self.applied(state, entries, now, &mut actions),
            Event::Restored { state } => self.restored(state, now, &mut actions),
            Event::Status { from, status } => self.status(from, status, now),
            Event::SessionOpened { session, machine, holding } => {
                if let Some(session) = self.dispatch.open(session, machine, holding) {
                    actions.push(Action::End { session });
                }
                self.send(&mut actions);
            }
            Event::SessionMeasured { session, round_trip_us } => {
                if let Some(machine) = self.dispatch.measured(session, round_trip_us) {
                    self.liveness.heard(machine, round_trip_us, now);
                }
            }
            Event::SessionClosed { session } => self.dispatch.close(session),
            Event::Members { members, progress, commit } => self.membership.heard(members, progress, commit),
            Event::Refused { by, why } => self.membership.refused(by, why, now),
            Event::RootComputed { epoch, index, root } => {
                self.roots.computed(epoch, index, root, now);
                self.attest(now, &mut actions);
            }
            Event::SegmentSealed { epoch, index, hash } => {
                self.roots.sealed(epoch, index, hash);
                self.attest(now, &mut actions);
            }
        }
        actions
    }

    /// Sessions that end here.
    pub fn sessions(&self) -> usize {
        self.dispatch.len()
    }

    /// Keeps only sessions whose carrier still lives: a lost close must not keep a machine alive.
    pub fn retain_sessions(&mut self, alive: impl Fn(SessionId) -> bool) {
        self.dispatch.retain(alive);
    }

    fn leads(&self) -> bool {
        self.leads_since.is_some()
    }

    fn submitted(&mut self, caller: Caller, envelope: Waiting, now: u64, actions: &mut Vec<Action>) {
        let reply = if self.leads() {
            match self.pending.add(envelope, caller, now) {
                Ok(()) => return,
                Err(NotAdded::Full) => Reply::Full,
                Err(NotAdded::Reused) => Reply::Reused,
            }
        } else {
            Reply::NotLeader
        };
        actions.push(Action::Reply { caller, reply });
    }

    /// Bytes of callers' envelopes that wait to be proposed.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.pending.queued_bytes()
    }

    /// Group commit: everything that waits becomes one entry, or a few, as long as there is room for the largest.
    fn flush(&mut self, mut room: usize, actions: &mut Vec<Action>) {
        let Some(now_ms) = self.clock.stamp().filter(|_| self.leads()) else { return };
        while (self.own.has_queued() || self.pending.has_queued()) && room >= matrixai_consensus::ENTRY_BYTES_MAX {
            self.proposals += 1;
            let mut envelopes = self.own.take(self.proposals, ENTRY_ENVELOPES_MAX / 2);
            let used: usize = envelopes.iter().map(Vec::len).sum();
            let (count, bytes) = (ENTRY_ENVELOPES_MAX - envelopes.len(), ENTRY_BYTES_MAX.saturating_sub(used));
            envelopes.append(&mut self.pending.take(self.proposals, count, bytes));
            if envelopes.is_empty() {
                return;
            }
            let count = envelopes.len();
            let entry = LogEntry { now_ms, rules_version: self.state.rules_version(), envelopes }.encode_to_vec();
            room = room.saturating_sub(entry.len());
            actions.push(Action::Propose { number: self.proposals, entry, envelopes: count });
        }
    }

    fn turned(&mut self, role: Role, leader: u64, now: u64, actions: &mut Vec<Action>) {
        let led = self.leads();
        self.role = role;
        self.leader = leader;
        match (led, role == Role::Leader) {
            (false, true) => self.leads_since = Some(now),
            (true, false) => {
                self.leads_since = None;
                self.own.clear();
                // What was proposed may still be committed by the next leader; only the log knows.
                answer(self.pending.all(), &Reply::LeadershipLost, actions);
            }
            (true, true) | (false, false) => {}
        }
        self.roots.leader_changed();
    }

    fn applied(&mut self, state: Option<Arc<State>>, entries: Vec<Applied>, now: u64, actions: &mut Vec<Action>) {
        let changed = state.is_some();
        if let Some(state) = state {
            self.state = state;
        }
        for entry in entries {
            self.clock.applied(entry.now_ms);
            for result in entry.results {
                if result.key == self.own.key() {
                    self.own.decided(&result.command_id);
                }
                let Some((callers, since)) = self.pending.decided(&(result.key, result.command_id)) else { continue };
                actions.push(Action::Decided { waited_ms: now.saturating_sub(since) });
                answer(callers, &Reply::Decided { index: result.index, outcomes: result.outcomes }, actions);
            }
            for effect in entry.effects {
                match effect {
                    Effect::Owed(machine) => self.dispatch.mark(machine),
                    Effect::Beat { .. } => self.beats.applied(now),
                    // The replica takes the view at that very entry and hands in the root.
                    Effect::RootDue { .. } => {}
                }
            }
        }
        if !changed {
            return;
        }
        self.send(actions);
        if let Some(why) = self.state.unsupported_rules().or_else(|| self.roots.diverged(&self.state)) {
            actions.push(Action::Stop(why));
        }
    }

    /// Effects are hints: whatever was missed with the entries in between follows from the state.
    fn restored(&mut self, state: Arc<State>, now: u64, actions: &mut Vec<Action>) {
        self.clock.applied(state.now_ms());
        self.dispatch.mark_all();
        self.applied(Some(state), Vec::new(), now, actions);
    }

    fn status(&mut self, from: u64, status: PeerStatus, now: u64) {
        self.clock.heard(from, status.clock_ms, now);
        self.beats.heard(&self.state, from, status.beat, status.share);
        for held in status.sessions {
            if let Ok(id) = <[u8; 20]>::try_from(held.machine.as_slice()) {
                self.liveness.heard(MachineId(id), held.round_trip_us, now);
            }
        }
    }

    fn tick(&mut self, wall_ms: u64, now: u64, actions: &mut Vec<Action>) {
        if now.saturating_sub(std::mem::replace(&mut self.ticked_at, now)) >= STALL_MS {
            self.listens_since = now;
        }
        self.wall_ms = wall_ms;
        self.clock.tick(wall_ms, now);
        let new_share = self.beats.share(&self.state);
        if new_share || due(self.told_at, STATUS_EVERY_MS, now) {
            self.told_at = Some(now);
            actions.push(Action::Broadcast(self.own_status()));
        }
        if due(self.reviewed_at, REVIEW_EVERY_MS, now) {
            self.reviewed_at = Some(now);
            self.review(now, actions);
        }
        if self.leads()
            && !self.own.is_on_its_way(Subject::Beat(self.state.beacon().0 + 1))
            && let Some(beat) = self.beats.due(&self.state, now)
        {
            self.command(Subject::Beat(beat.number), Kind::Beat(beat), now);
        }
    }

    fn own_status(&self) -> PeerStatus {
        let (beat, share) = self.beats.own_share();
        let sessions = self.dispatch.measured_sessions().take(STATUS_SESSIONS_MAX);
        let sessions = sessions
            .map(|(machine, round_trip_us)| HeldSession { machine: machine.0.to_vec(), round_trip_us })
            .collect();
        PeerStatus { clock_ms: self.wall_ms, beat, share, sessions }
    }

    /// What needs no prompt answer: who is there, who waited too long, whose attestation is still owed.
    fn review(&mut self, now: u64, actions: &mut Vec<Action>) {
        answer(self.pending.older_than(now.saturating_sub(CALLER_WAIT_MS)), &Reply::Late, actions);
        self.own.forget_older(now.saturating_sub(CALLER_WAIT_MS));
        for (machine, round_trip_us) in self.dispatch.measured_sessions() {
            self.liveness.heard(machine, round_trip_us, now);
        }
        if let Some(since) = self.leads_since {
            for change in self.liveness.changes(&self.state, since.max(self.listens_since), now) {
                self.command(Subject::Machine(change.machine()), change.into_command(), now);
            }
        }
        self.liveness.forget(now);
        self.follow_nodes(now, actions);
        self.announce(now, actions);
        self.attest(now, actions);
    }

    /// Brings clock, links and raft's membership to the nodes of the state; stops if this one is no longer among them.
    fn follow_nodes(&mut self, now: u64, actions: &mut Vec<Action>) {
        self.clock.follow(self.membership.voters(&self.state).into_iter());
        let links = self.membership.links(&self.state);
        if links != self.links {
            self.links.clone_from(&links);
            actions.push(Action::Links(links));
        }
        if let Some(why) = self.membership.left(&self.state) {
            actions.push(Action::Stop(why));
        } else if let Some(since) = self.leads_since {
            let led_ms = now.saturating_sub(since);
            actions.extend(self.membership.next(&self.state, led_ms, now).map(|step| match step {
                Step::Change(change) => Action::ChangeMembers(change),
                Step::Transfer(to) => Action::TransferLeader { to },
            }));
        }
    }

    /// Queues one of the leader's own commands, unless one about the same thing is on its way.
    fn command(&mut self, subject: Subject, kind: Kind, now: u64) {
        let Some(stamp) = self.clock.stamp() else { return };
        self.own.queue(subject, v1::Command { kind: Some(kind) }, stamp, now);
    }

    fn attest(&mut self, now: u64, actions: &mut Vec<Action>) {
        let Some(attestation) = self.roots.due(&self.state, now) else { return };
        self.tell_leader(Subject::Root(attestation.epoch), Kind::AttestRoot(attestation), now, actions);
    }

    /// Announces the rules that this build applies, until the state has it.
    fn announce(&mut self, now: u64, actions: &mut Vec<Action>) {
        let known = self.state.node(NodeId(self.me)).filter(|row| row.standing != Standing::Removed);
        if known.is_none_or(|row| row.rules_version == rules::SUPPORTED)
            || !due(self.announced_at, ANNOUNCE_EVERY_MS, now)
        {
            return;
        }
        self.announced_at = Some(now);
        self.tell_leader(
            Subject::Rules,
            Kind::AnnounceRules(AnnounceRules { version: rules::SUPPORTED }),
            now,
            actions,
        );
    }

    /// Has one of this node's own commands applied, wherever the leader is.
    fn tell_leader(&mut self, subject: Subject, kind: Kind, now: u64, actions: &mut Vec<Action>) {
        let Some(stamp) = self.clock.stamp() else { return };
        let command = v1::Command { kind: Some(kind) };
        if self.leads() {
            self.own.queue(subject, command, stamp, now);
        } else if self.leader != 0 {
            actions.push(Action::Relay(self.own.seal(command, stamp)));
        }
    }

    fn send(&mut self, actions: &mut Vec<Action>) {
        let messages = self.dispatch.messages(&self.state);
        actions.extend(messages.into_iter().map(|(session, message)| Action::Send { session, message }));
    }
}

fn answer(callers: Vec<Caller>, reply: &Reply, actions: &mut Vec<Action>) {
    actions.extend(callers.into_iter().map(|caller| Action::Reply { caller, reply: reply.clone() }));
}

fn due(last: Option<u64>, every_ms: u64, now: u64) -> bool {
    last.is_none_or(|last| now.saturating_sub(last) >= every_ms)
}
