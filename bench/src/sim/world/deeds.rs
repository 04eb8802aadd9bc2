//! What clients do, and what they hear.

use super::{Asker, BUNDLE, BUNDLE_EVERY_US, Event, READ_EVERY_US, READERS, START_MS, STORM_US, World};
use crate::sim::{
    checks::{Verdict, hold},
    client::{Reading, Request},
    clock::Micros,
    found,
    people::{TELLER_START, TELLERS},
};
use matrixai_coordinator::core::Reply;
use matrixai_state::{Outcome, ids::AccountId};

/// A client that hears nothing asks again after this long.
const SILENCE_US: Micros = 3_000_000;
/// Pause before a refused request is sent again, microseconds.
const AGAIN_US: (u64, u64) = (30_000, 300_000);
/// One message of a client in so many is lost, either way.
const LOST_ONE_IN: u64 = 200;

impl World {
    /// A request is made, and sent after a while.
    pub(super) fn ask(&mut self, request: Request, after: Micros) -> u64 {
        let call = self.moment();
        let number = self.clients.ask(request, call);
        self.after(after, Event::Send { requests: vec![number] });
        number
    }

    pub(super) fn bundle(&mut self) -> Verdict {
        if self.now < STORM_US {
            let pause = self.rng.between(BUNDLE_EVERY_US / 2, BUNDLE_EVERY_US * 3 / 2);
            self.after(pause, Event::Bundle);
        }
        if !self.tellers_are_there() {
            return Ok(());
        }
        let mut requests = Vec::new();
        for _ in 0..BUNDLE {
            let newest = self.clients.newest();
            let request = self.people.next(&self.newest, newest);
            let call = self.moment();
            requests.push(self.clients.ask(request, call));
        }
        // Half of the bundles share a connection and arrive together.
        if self.rng.one_in(2) {
            self.after(0, Event::Send { requests });
        } else {
            for request in requests {
                let after = self.rng.below(BUNDLE_EVERY_US);
                self.after(after, Event::Send { requests: vec![request] });
            }
        }
        Ok(())
    }

    pub(super) fn send(&mut self, requests: &[u64]) -> Verdict {
        let mut envelopes = Vec::new();
        let mut node = 0;
        for request in requests {
            let Some(asked) = self.clients.send(*request, &mut self.checks.linear) else { continue };
            node = asked.node;
            let (tries, waiting) = (asked.tries, asked.waiting());
            envelopes.push((Asker::Client(*request), waiting));
            self.after(SILENCE_US, Event::Silence { request: *request, tries });
        }
        if !envelopes.is_empty() && !self.rng.one_in(LOST_ONE_IN) {
            let delay = self.net.delay();
            self.after(delay, Event::Submit { node, envelopes });
        }
        Ok(())
    }

    pub(super) fn silence(&mut self, request: u64, tries: u32) -> Verdict {
        if self.clients.tries(request) == Some(tries) {
            let nodes = self.present();
            self.clients.turn_to(request, 0, &nodes);
            self.after(0, Event::Send { requests: vec![request] });
        }
        Ok(())
    }

    pub(super) fn replied(&mut self, asker: Asker, node: u64, reply: Reply) -> Verdict {
        let request = match asker {
            Asker::Client(request) => request,
            Asker::Worker { worker, session, id } => {
                self.relayed(worker, session, id, &reply);
                return Ok(());
            }
            Asker::Nobody => return Ok(()),
        };
        if self.rng.one_in(LOST_ONE_IN) {
            return Ok(());
        }
        let Reply::Decided { index, outcomes } = reply else {
            self.coverage.reply(&reply);
            if reply == Reply::Reused {
                // Another envelope of this name is under way: this one was never proposed.
                let outcome = Outcome::Refused(matrixai_state::Refusal::IdReused);
                let answer = self.moment();
                self.clients.decided(
                    request,
                    &outcome,
                    answer,
                    (&self.checks.roots, 0),
                    self.minimum,
                    &mut self.checks.linear,
                );
                return Ok(());
            }
            if matches!(reply, Reply::NotLeader | Reply::Full) {
                self.clients.not_proposed(request);
            }
            let nodes = self.present();
            let leader = self.host(node).process.as_ref().map_or(0, |process| process.leader());
            self.clients.turn_to(request, leader, &nodes);
            let pause = self.rng.between(AGAIN_US.0, AGAIN_US.1);
            self.after(pause, Event::Send { requests: vec![request] });
            return Ok(());
        };
        let answer = self.moment();
        let Some(outcome) = outcomes.last().cloned() else { return Ok(()) };
        let Some(asked) = self.clients.decided(
            request,
            &outcome,
            answer,
            (&self.checks.roots, index),
            self.minimum,
            &mut self.checks.linear,
        ) else {
            return Ok(());
        };
        self.canary.retain(|canary| *canary != request);
        self.began(asked.id.0, &outcomes);
        self.checks.reads.told(self.now, index);
        self.checks.durable.told(&self.checks.roots, asked.id.0, asked.id.1, index, &outcomes)
    }

    /// A teller's account is there with its first money: it is watched from now on.
    fn began(&mut self, key: [u8; 32], outcomes: &[Outcome]) {
        let made = outcomes.len() == 2 && outcomes.iter().all(|outcome| matches!(outcome, Outcome::Done { .. }));
        if made && (0..TELLERS).any(|at| found::key("teller", at) == key) {
            let account = self.people.account(&key);
            if !self.checks.linear.watches(&account) {
                self.checks.linear.watch(account, TELLER_START);
            }
        }
    }

    /// What a teller did before it is watched would be missing in its history, so nobody begins before all are.
    fn tellers_are_there(&self) -> bool {
        let accounts = (0..TELLERS).map(|at| self.people.account(&found::key("teller", at)));
        accounts.into_iter().all(|account| self.checks.linear.watches(&account))
    }

    fn watched(&mut self) -> Option<AccountId> {
        let account = self.people.account(&found::key("teller", self.rng.below(TELLERS)));
        self.checks.linear.watches(&account).then_some(account)
    }

    pub(super) fn begin_read(&mut self) -> Verdict {
        self.after(READ_EVERY_US, Event::Read);
        let Some(account) = self.watched() else { return Ok(()) };
        let call = self.moment();
        let reader = self.rng.below(READERS as u64) as usize;
        let bound_ms = if self.rng.one_in(3) { Some(*self.rng.pick(&[100, 1_000, 5_000])) } else { None };
        let read = self.clients.read(Reading { account, reader, bound_ms, call, at: self.now });
        let node = self.readers[reader];
        let delay = self.net.delay();
        self.after(delay, Event::View { node, read });
        Ok(())
    }

    pub(super) fn viewed(&mut self, read: u64, seen: Option<(Option<u128>, u64)>) -> Verdict {
        let answer = self.moment();
        if let Some(reading) = self.clients.reading(read) {
            match seen {
                Some((_, index)) => self.checks.reads.read(reading.at, reading.bound_ms, index)?,
                None => {
                    let nodes = self.present();
                    self.readers[reading.reader] = *self.rng.pick(&nodes);
                }
            }
        }
        let linearizable = self.clients.reading(read).is_some_and(|reading| reading.bound_ms.is_none());
        let lost = linearizable && matches!(seen, Some((None, _)));
        hold("acknowledged is durable", !lost, || {
            "an account that a client opened is not there for a read".to_owned()
        })?;
        self.clients.has_read(
            read,
            seen.and_then(|(balance, index)| Some((balance?, index))),
            answer,
            &mut self.checks.linear,
        );
        Ok(())
    }

    /// The cluster is whole: whoever asks now must be answered before the end.
    pub(super) fn sing(&mut self) -> Verdict {
        for _ in 0..BUNDLE {
            let request = self.people.canary(self.newest.now_ms().max(START_MS));
            let number = self.ask(request, 0);
            self.canary.push(number);
        }
        Ok(())
    }
}
