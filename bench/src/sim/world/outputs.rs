//! What coordinators put out: carried to whoever it is for, and shown to the checkers.

use super::{Asker, Event, Frame, Told, World};
use crate::sim::{
    checks::{First, Seen, Verdict, hold},
    client::waiting,
    entries,
    process::{Output, sealed},
};
use matrixai_coordinator::{core::Role, replica::Io};
use matrixai_proto::v1::PeerStatus;
use std::rc::Rc;

/// Time that a snapshot travels, microseconds.
const FETCH_US: (u64, u64) = (5_000, 400_000);

impl World {
    pub(super) fn output(&mut self, node: u64, output: Output) -> Verdict {
        match output {
            Output::Io(io) => self.io(node, *io),
            Output::Later(task) => {
                self.later(node, task);
                Ok(())
            }
            Output::Applied { entry, applied, states: Some((before, after)) } => {
                self.newest = after.clone();
                self.welcome(&after);
                self.minimum |= !after.policy().minimum_balance.is_zero();
                let seen = Seen { node, entry: &entry, applied: &applied };
                self.applied_first(First { seen, before: &before, after: &after })
            }
            Output::Applied { entry, applied, states: None } => {
                self.checks.applied_again(Seen { node, entry: &entry, applied: &applied })
            }
            Output::Restored(index) => {
                self.installed += 1;
                self.trace.add(index);
                self.checks.archive.given(node, index);
                self.checks.log.restored(node, index)
            }
            Output::Saved(index) => {
                self.snapshots += 1;
                self.trace.add(index);
                Ok(())
            }
            Output::Root { epoch, root } => {
                self.trace.add(epoch);
                self.checks.roots.computed(node, epoch, root)
            }
            Output::Sealed(segment) => {
                self.checks.archive.sealed(node, &segment)?;
                self.on(node, [sealed(&segment)])
            }
            Output::Skipped(index) => {
                self.coverage.point("archive: went on behind an attested epoch");
                self.checks.archive.given(node, index);
                Ok(())
            }
            Output::NotArchived(why) => {
                let short = self.host(node).disk.is_short();
                self.coverage.point("archive: the disk was full");
                hold("an archive fails only for its disk", short, || format!("node {node}: {why}"))
            }
            Output::Stop(reason) => self.stopped(node, &reason),
        }
    }

    fn io(&mut self, node: u64, io: Io) -> Verdict {
        match io {
            Io::Send { to, raft } => {
                if self.host(node).links.contains(&to) {
                    self.frame_to(node, to, raft, None);
                }
            }
            Io::Broadcast(status) => {
                for to in self.host(node).links.clone() {
                    self.frame_to(node, to, Vec::new(), Some(status.clone()));
                }
            }
            Io::Reply { caller, reply } => {
                if let Some(asker) = self.callers.remove(&caller).filter(|asker| *asker != Asker::Nobody) {
                    let delay = self.net.delay();
                    self.after(delay, Event::Replied { asker, node, reply });
                }
            }
            Io::View { readers, view } => {
                for read in readers {
                    let Some(reading) = self.clients.reading(read) else { continue };
                    let balance = view.account(reading.account).map(|row| row.balance.units());
                    let delay = self.net.delay();
                    self.after(delay, Event::Viewed { read, seen: Some((balance, view.index())) });
                }
            }
            Io::NoView { reader, .. } => self.after(1_000, Event::Viewed { read: reader, seen: None }),
            Io::ToWorker { session, message } => self.tell(session, Told::Message(message)),
            Io::EndSession { session } => self.tell(session, Told::End),
            Io::Relay { leader, envelope } => {
                if leader != 0 {
                    for delay in self.net.arrivals(node, leader) {
                        let envelopes = vec![(Asker::Nobody, waiting(&envelope))];
                        self.after(delay, Event::Submit { node: leader, envelopes });
                    }
                }
            }
            Io::FetchSnapshot { from, reference } => {
                let (life, delay) = (self.host(node).life, self.rng.between(FETCH_US.0, FETCH_US.1));
                self.after(delay, Event::Fetched { node, life, from, reference });
            }
            Io::Place(place) => {
                self.trace.add(place.term);
                if place.role == Role::Leader {
                    self.after(0, Event::Hunted { node });
                    return self.checks.election.claimed(node, place.term);
                }
            }
            Io::DiskFull(Some(_)) => self.coverage.point("a full disk was reported"),
            Io::DiskFull(None) => self.coverage.point("a full disk had room again"),
            Io::Links(links) => self.host(node).links = links.into_iter().map(|link| link.id).collect(),
            Io::Decided { .. } | Io::Proposed { .. } => {}
            Io::Write(_)
            | Io::RetryWrites
            | Io::Apply { .. }
            | Io::Restore { .. }
            | Io::SaveSnapshot { .. }
            | Io::ComputeRoot(_)
            | Io::Stop(_) => unreachable!("the process keeps these for itself"),
        }
        Ok(())
    }

    fn frame_to(&mut self, from: u64, to: u64, raft: Vec<Vec<u8>>, status: Option<PeerStatus>) {
        let frame = Rc::new(Frame { from, raft, status });
        for delay in self.net.arrivals(from, to) {
            self.after(delay, Event::Frame { to, frame: frame.clone() });
        }
    }

    fn applied_first(&mut self, first: First<'_>) -> Verdict {
        let Seen { entry, applied, .. } = first.seen;
        let (said, unread) = entries::read(&entry.data, applied);
        self.trace.add(entry.index);
        self.coverage.said(&said, &unread);
        let true_ms = self.true_ms();
        self.checks.applied_first(first, true_ms, &said)
    }

    /// A process ended itself: it may when its disk is full or damaged, and not otherwise.
    fn stopped(&mut self, node: u64, reason: &str) -> Verdict {
        let host = self.host(node);
        let (short, flipped) = (host.disk.is_short(), host.flipped);
        if self.is_removed(node) {
            self.coverage.point("a removed coordinator stopped");
            self.crash(node, false);
            self.host(node).gone = true;
            return Ok(());
        }
        let host = self.host(node);
        let (short, flipped) = (host.disk.is_short() || short, host.flipped || flipped);
        hold("a node stops only for its disk", short || flipped, || format!("node {node} stopped: {reason}"))?;
        self.coverage.point(if short { "stopped by a full disk" } else { "stopped by a flipped bit" });
        self.crash(node, false);
        if flipped && !short {
            self.host(node).gone = true;
            return Ok(());
        }
        let pause = self.plan.down();
        self.after(pause, Event::Restart { node });
        Ok(())
    }
}
