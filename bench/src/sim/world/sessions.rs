//! Workers' sessions: a worker keeps one with any coordinator, which relays its reports to the leader. A session's messages
//! keep their order; it ends with either side, and then the worker dials another.

use super::{Asker, Event, Told, WORKER_TICK_US, World};
use crate::sim::{checks::Verdict, client::waiting, clock::Micros, worker::Wish};
use matrixai_coordinator::{
    core::{Reply, ToWorker},
    pending::Waiting,
    replica::Input,
    wire_assignment, wire_outcome,
};
use matrixai_proto::v1::Envelope;

/// Pause before a worker dials again.
const DIAL_US: (u64, u64) = (200_000, 2_000_000);
/// Ledger time that a report lives, ms.
const LIFE_MS: u64 = 60_000;
/// A silent side is given up after this long.
const SILENCE_US: Micros = 3_000_000;

impl World {
    /// A worker's own clock, ms; theirs are as good as any.
    fn worker_ms(&self) -> u64 {
        self.now / 1_000
    }

    fn wishes(&mut self, worker: usize, wishes: Vec<Wish>) {
        for wish in wishes {
            match wish {
                Wish::Later { after_us, number } => self.after(after_us, Event::WorkerLater { worker, number }),
                Wish::Send { id, payload } => self.carry_report(worker, id, payload),
            }
        }
    }

    fn carry_report(&mut self, worker: usize, id: [u8; 16], payload: Vec<u8>) {
        let Some((node, session)) = self.workers[worker].session else { return };
        let envelope = Envelope {
            cluster_id: self.newest.cluster_id().to_vec(),
            key: self.workers[worker].key.to_vec(),
            method: "commands".to_owned(),
            command_id: id.to_vec(),
            expires_ms: self.newest.now_ms() + LIFE_MS,
            payload,
            signature: vec![0; 64],
        };
        let waiting = waiting(&envelope);
        let delay = self.net.delay();
        self.after(delay, Event::Report { node, worker, session, id, waiting });
    }

    /// The coordinator of a session takes a report and relays it to the leader as it knows it.
    pub(super) fn report(&mut self, node: u64, worker: usize, session: u64, id: [u8; 16], waiting: Waiting) -> Verdict {
        let Some(process) = &self.host(node).process else { return Ok(()) };
        let leader = process.leader();
        if leader == 0 || self.net.is_cut(node, leader) {
            self.tell(session, Told::Ack { id, outcomes: Vec::new() });
            return Ok(());
        }
        let delay = self.net.delay();
        let envelopes = vec![(Asker::Worker { worker, session, id }, waiting)];
        self.after(delay, Event::Submit { node: leader, envelopes });
        Ok(())
    }

    /// What became of a report.
    pub(super) fn relayed(&mut self, worker: usize, session: u64, id: [u8; 16], reply: &Reply) {
        let outcomes = match reply {
            Reply::Decided { outcomes, .. } => outcomes.iter().map(wire_outcome).collect(),
            Reply::NotLeader | Reply::LeadershipLost | Reply::Full | Reply::Reused | Reply::Late => Vec::new(),
        };
        if self.workers[worker].session.is_some_and(|(_, own)| own == session) {
            self.tell(session, Told::Ack { id, outcomes });
        }
    }

    pub(super) fn worker_tick(&mut self, worker: usize) -> Verdict {
        self.after(WORKER_TICK_US, Event::WorkerTick { worker });
        let now = self.worker_ms();
        let wishes = self.workers[worker].tick(now);
        self.wishes(worker, wishes);
        Ok(())
    }

    pub(super) fn worker_later(&mut self, worker: usize, number: u64) -> Verdict {
        let now = self.worker_ms();
        let wishes = self.workers[worker].later(number, now);
        self.wishes(worker, wishes);
        Ok(())
    }

    pub(super) fn dial(&mut self, worker: usize) -> Verdict {
        if !self.workers[worker].up || self.workers[worker].session.is_some() {
            return Ok(());
        }
        let present = self.present();
        let node = *self.rng.pick(&present);
        self.next_session += 1;
        let session = self.next_session;
        let holding = self.workers[worker].holding();
        let delay = self.net.delay();
        self.after(delay, Event::Hello { node, session, worker, holding });
        // A coordinator that does not answer is given up.
        self.after(SILENCE_US, Event::Dial { worker });
        Ok(())
    }

    pub(super) fn hello(&mut self, node: u64, session: u64, worker: usize, holding: Vec<String>) -> Verdict {
        if !self.workers[worker].up || self.workers[worker].session.is_some() {
            return Ok(());
        }
        let Some(process) = &self.host(node).process else {
            let pause = self.rng.between(DIAL_US.0, DIAL_US.1);
            self.after(pause, Event::Dial { worker });
            return Ok(());
        };
        let ledger_ms = process.view().now_ms();
        self.workers[worker].session = Some((node, session));
        self.sessions.insert(session, (worker, node, self.now));
        self.tell(session, Told::Welcome { ledger_ms });
        self.after(2_000, Event::Measured { node, session });
        let machine = self.workers[worker].machine;
        self.on(node, [Input::SessionOpened { session, machine, holding }])
    }

    pub(super) fn measured(&mut self, node: u64, session: u64) -> Verdict {
        if !self.sessions.contains_key(&session) {
            return Ok(());
        }
        let round_trip_us = self.rng.between(500, 3_000);
        self.on(node, [Input::SessionMeasured { session, round_trip_us }])
    }

    pub(super) fn hangup(&mut self, node: u64, session: u64) -> Verdict {
        self.on(node, [Input::SessionClosed { session }])
    }

    /// Something travels down a session, behind everything that already does.
    pub(super) fn tell(&mut self, session: u64, told: Told) {
        let delay = self.net.delay();
        let now = self.now;
        let Some((worker, _, last)) = self.sessions.get_mut(&session) else { return };
        *last = (*last + 1).max(now + delay);
        let (worker, at) = (*worker, *last);
        self.after(at - now, Event::Told { worker, session, told });
    }

    pub(super) fn told(&mut self, worker: usize, session: u64, told: Told) -> Verdict {
        if self.workers[worker].session.is_none_or(|(_, own)| own != session) {
            return Ok(());
        }
        let now = self.worker_ms();
        let worker_of = &mut self.workers[worker];
        let wishes = match told {
            Told::Welcome { ledger_ms } => worker_of.connected(Some(ledger_ms), now),
            Told::Message(ToWorker::Assign { assignment, now_ms }) => {
                worker_of.assigned(wire_assignment(*assignment, now_ms), now)
            }
            Told::Message(ToWorker::Withdraw(key)) => worker_of.withdrawn(key, now),
            Told::Ack { id, outcomes } => worker_of.acked(id, outcomes, now),
            Told::End => {
                self.sessions.remove(&session);
                self.lose_session(worker);
                return Ok(());
            }
        };
        self.wishes(worker, wishes);
        Ok(())
    }

    /// The worker's session is gone, and it notices after a while.
    fn lose_session(&mut self, worker: usize) {
        let now = self.worker_ms();
        self.workers[worker].session = None;
        let wishes = self.workers[worker].connected(None, now);
        let pause = self.rng.between(DIAL_US.0, DIAL_US.1);
        self.after(pause, Event::Dial { worker });
        self.wishes(worker, wishes);
    }

    /// All sessions of a node end with it.
    pub(super) fn drop_sessions(&mut self, node: u64) {
        let ended: Vec<(u64, usize)> = self
            .sessions
            .iter()
            .filter(|(_, (_, of, _))| *of == node)
            .map(|(id, (worker, ..))| (*id, *worker))
            .collect();
        for (session, worker) in ended {
            self.sessions.remove(&session);
            self.lose_session(worker);
        }
    }

    /// A worker's process dies; its coordinator notices after a while.
    pub(super) fn crash_worker(&mut self, worker: usize) {
        if let Some((node, session)) = self.workers[worker].session {
            self.sessions.remove(&session);
            self.after(SILENCE_US, Event::Hangup { node, session });
        }
        self.workers[worker].crash();
    }

    pub(super) fn restart_worker(&mut self, worker: usize) -> Verdict {
        if !self.workers[worker].up {
            self.workers[worker].restart();
            self.after(0, Event::Dial { worker });
        }
        Ok(())
    }
}
