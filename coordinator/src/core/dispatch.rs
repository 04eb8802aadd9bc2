//! What each session that ends here is sent: what its machine is owed by this coordinator's own applied state, and a
//! withdrawal when an assignment's key is no longer owed. Keys make both harmless to repeat.

use matrixai_state::{Assignment, State, ids::MachineId};
use std::collections::{BTreeMap, BTreeSet};

/// A session's number, unique in this process.
pub type SessionId = u64;

/// A message to a worker.
#[derive(Debug, Clone, PartialEq)]
pub enum ToWorker {
    /// Do this. `now_ms` is the ledger time of the state that owes it.
    Assign { assignment: Box<Assignment>, now_ms: u64 },
    /// The assignment of this key no longer holds.
    Withdraw(String),
}

/// The sessions and what they were sent.
#[derive(Debug, Default)]
pub(super) struct Dispatch {
    sessions: BTreeMap<SessionId, Session>,
    by_machine: BTreeMap<MachineId, SessionId>,
    /// Machines whose dues may have changed.
    marked: BTreeSet<MachineId>,
}

#[derive(Debug)]
struct Session {
    machine: MachineId,
    /// None before the first measurement: such a session does not count as live yet.
    round_trip_us: Option<u64>,
    /// Keys that the worker has from us and still holds as far as we know.
    sent: BTreeSet<String>,
    /// Keys that the worker said it holds when it came: to be withdrawn unless owed.
    claimed: BTreeSet<String>,
}

impl Dispatch {
    /// A session begins; answers the machine's older session, which it replaces.
    pub(super) fn open(&mut self, id: SessionId, machine: MachineId, holding: Vec<String>) -> Option<SessionId> {
        let claimed = holding.into_iter().collect();
        self.sessions.insert(id, Session { machine, round_trip_us: None, sent: BTreeSet::new(), claimed });
        self.marked.insert(machine);
        let older = self.by_machine.insert(machine, id);
        older.inspect(|older| {
            self.sessions.remove(older);
        })
    }

    /// A session ended.
    pub(super) fn close(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.remove(&id)
            && self.by_machine.get(&session.machine) == Some(&id)
        {
            self.by_machine.remove(&session.machine);
        }
    }

    /// Closes the sessions that are not alive.
    pub(super) fn retain(&mut self, alive: impl Fn(SessionId) -> bool) {
        let gone: Vec<SessionId> = self.sessions.keys().copied().filter(|id| !alive(*id)).collect();
        gone.into_iter().for_each(|id| self.close(id));
    }

    /// A session's round trip was measured; answers its machine.
    pub(super) fn measured(&mut self, id: SessionId, round_trip_us: u64) -> Option<MachineId> {
        let session = self.sessions.get_mut(&id)?;
        session.round_trip_us = Some(round_trip_us);
        Some(session.machine)
    }

    /// Machines with a measured session here.
    pub(super) fn measured_sessions(&self) -> impl Iterator<Item = (MachineId, u64)> {
        self.sessions.values().filter_map(|session| Some((session.machine, session.round_trip_us?)))
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// What this machine is owed may have changed.
    pub(super) fn mark(&mut self, machine: MachineId) {
        if self.by_machine.contains_key(&machine) {
            self.marked.insert(machine);
        }
    }

    /// What any machine is owed may have changed.
    pub(super) fn mark_all(&mut self) {
        self.marked.extend(self.by_machine.keys());
    }

    /// What the marked machines' sessions are to be told.
    pub(super) fn messages(&mut self, state: &State) -> Vec<(SessionId, ToWorker)> {
        let mut messages = Vec::new();
        for machine in std::mem::take(&mut self.marked) {
            let Some(id) = self.by_machine.get(&machine) else { continue };
            let Some(session) = self.sessions.get_mut(id) else { continue };
            let owed = state.owed(machine);
            let keys: BTreeSet<&String> = owed.iter().map(|assignment| &assignment.key).collect();
            let held = session.sent.union(&session.claimed);
            let gone = held.filter(|key| !keys.contains(key)).cloned();
            messages.extend(gone.map(|key| (*id, ToWorker::Withdraw(key))));
            let sent = keys.into_iter().cloned().collect();
            for assignment in owed {
                if !session.sent.contains(&assignment.key) {
                    let assignment = Box::new(assignment);
                    messages.push((*id, ToWorker::Assign { assignment, now_ms: state.now_ms() }));
                }
            }
            session.sent = sent;
            session.claimed.clear();
        }
        messages
    }
}
