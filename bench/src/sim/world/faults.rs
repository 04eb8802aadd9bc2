//! Carries faults out, and ends them.

use super::{Event, World};
use crate::sim::{checks::Verdict, faults::Fault};

impl World {
    fn leader(&self) -> Option<u64> {
        let leads = |host: &&super::Host| host.process.as_ref().is_some_and(|process| process.leads());
        self.hosts.iter().find(leads).map(|host| host.identity.id)
    }

    pub(super) fn next_fault(&mut self) -> Verdict {
        if self.healing {
            return Ok(());
        }
        let pause = self.plan.pause();
        self.after(pause, Event::Fault);
        let leader = self.leader();
        let fault = self.plan.draw(leader, self.workers.len() as u64);
        if self.inflict(&fault) {
            self.faults += 1;
            self.coverage.point(fault.name());
        }
        Ok(())
    }

    /// Makes a fault happen; answers whether it could.
    fn inflict(&mut self, fault: &Fault) -> bool {
        let lasts = self.plan.lasts();
        match fault {
            Fault::Crash { nodes, power } => {
                for node in nodes {
                    self.crash(*node, *power);
                    let down = self.plan.down();
                    self.after(down, Event::Restart { node: *node });
                }
            }
            Fault::PowerCut { node, operations } => self.host(*node).disk.cut_in(*operations),
            Fault::AtTask { node, task, before } => self.host(*node).trap = Some((*task, *before)),
            Fault::Stop { node } => {
                let until = self.now + lasts;
                self.host(*node).stopped_until = until;
            }
            Fault::Partition { side } => {
                let others: Vec<u64> = self.nodes().into_iter().filter(|node| !side.contains(node)).collect();
                for (a, b) in side.iter().flat_map(|a| others.iter().map(move |b| (*a, *b))) {
                    self.net.cut(a, b);
                    self.net.cut(b, a);
                }
                self.after(lasts, Event::Relief(fault.clone()));
            }
            Fault::OneWay { from, to } => {
                self.net.cut(*from, *to);
                self.after(lasts, Event::Relief(fault.clone()));
            }
            Fault::BadNetwork => {
                self.net.set_bad(true);
                self.after(lasts, Event::Relief(fault.clone()));
            }
            Fault::ClockJump { node, by_ms } => {
                // A majority of wrong clocks is right by definition, so one at a time.
                if self.jumped.is_some() {
                    return false;
                }
                self.jumped = Some(*node);
                self.host(*node).clock.jump(*by_ms);
                self.after(2 * lasts, Event::Relief(fault.clone()));
            }
            Fault::DiskFull { node, bytes } => {
                self.host(*node).disk.set_room(Some(*bytes));
                self.after(lasts, Event::Relief(fault.clone()));
            }
            Fault::BitFlip { node } => return self.flip(*node),
            Fault::WorkerCrash { worker } => {
                let worker = *worker as usize;
                self.crash_worker(worker);
                let down = self.plan.down();
                self.after(down, Event::WorkerRestart { worker });
            }
        }
        true
    }

    /// Flips a bit on a disk, if a quorum can do without it.
    fn flip(&mut self, node: u64) -> bool {
        if self.hosts.iter().any(|host| host.flipped) {
            return false;
        }
        self.crash(node, true);
        let host = self.host(node);
        let (disk, folder) = (host.disk.clone(), host.folder.clone());
        host.flipped = disk.flip_bit(&folder);
        let down = self.plan.down();
        self.after(down, Event::Restart { node });
        true
    }

    pub(super) fn relieve(&mut self, fault: Fault) -> Verdict {
        match fault {
            // What overlaps is healed together: the next fault comes soon enough.
            Fault::Partition { .. } | Fault::OneWay { .. } | Fault::BadNetwork => self.net.heal(),
            Fault::ClockJump { node, by_ms } => {
                if self.jumped == Some(node) {
                    self.jumped = None;
                    self.host(node).clock.jump(-by_ms);
                }
            }
            Fault::DiskFull { node, .. } => self.host(node).disk.set_room(None),
            Fault::Crash { .. }
            | Fault::PowerCut { .. }
            | Fault::AtTask { .. }
            | Fault::Stop { .. }
            | Fault::BitFlip { .. }
            | Fault::WorkerCrash { .. } => {}
        }
        Ok(())
    }
}
