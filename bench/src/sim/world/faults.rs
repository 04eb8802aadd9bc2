//! Carries faults out, and ends them.

use super::{Event, World};
use crate::sim::{checks::Verdict, clock::Micros, faults::Fault};

/// A coordinator remembers for so long what another's clock showed, also when that one is gone.
const READING_LIFE_US: Micros = 60_000_000;

impl World {
    pub(super) fn leader(&self) -> Option<u64> {
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
        let nodes = self.present();
        let fault = self.plan.draw(&nodes, leader, self.workers.len() as u64);
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
            Fault::Crash { nodes, power } => self.crash_all(nodes, *power),
            Fault::PowerCut { node, operations } => self.host(*node).disk.cut_in(*operations),
            Fault::AtTask { node, task, when } => self.host(*node).trap = Some((*task, *when)),
            Fault::Stop { node } => {
                let until = self.now + lasts;
                self.host(*node).stopped_until = until;
            }
            Fault::Lag { node } => self.slow_down(*node, lasts),
            Fault::Partition { side } => {
                let others: Vec<u64> = self.nodes().into_iter().filter(|node| !side.contains(node)).collect();
                for (a, b) in side.iter().flat_map(|a| others.iter().map(move |b| (*a, *b))) {
                    self.net.cut(a, b);
                    self.net.cut(b, a);
                }
                self.after(lasts, Event::Relief(fault.clone()));
            }
            Fault::Away { node, cut } => {
                let away = self.plan.away();
                if !self.send_away(*node, *cut) {
                    return false;
                }
                self.after(away, Event::Relief(fault.clone()));
            }
            Fault::Hunt { leaders } => {
                self.hunt = *leaders;
                if let Some(leader) = self.leader() {
                    return self.hunted(leader).is_ok();
                }
            }
            Fault::OneWay { from, to } => {
                self.net.cut(*from, *to);
                self.after(lasts, Event::Relief(fault.clone()));
            }
            Fault::BadNetwork => {
                self.net.set_bad(true);
                self.after(lasts, Event::Relief(fault.clone()));
            }
            Fault::ClockJump { node, by_ms } => return self.set_clock(*node, *by_ms, lasts),
            Fault::DeadBattery { nodes, node, behind_ms } => {
                if !self.set_clock(*node, -behind_ms, lasts) {
                    return false;
                }
                self.crash_all(nodes, true);
            }
            Fault::DiskFull { node, bytes } => {
                self.host(*node).disk.set_room(Some(*bytes));
                self.after(lasts, Event::Relief(fault.clone()));
            }
            Fault::BitFlip { node } => return self.flip(*node),
            Fault::DiskLost { node } => return self.lose_disk(*node),
            Fault::WorkerCrash { worker } => {
                let worker = *worker as usize;
                self.crash_worker(worker);
                let down = self.plan.down();
                self.after(down, Event::WorkerRestart { worker });
            }
        }
        true
    }

    fn crash_all(&mut self, nodes: &[u64], power: bool) {
        let busy = power && nodes.len() > 1 && self.plan.busy();
        for node in nodes {
            self.crash(*node, power);
            let down = self.plan.down();
            if busy {
                let lasts = self.plan.lasts();
                self.slow_down(*node, down + lasts);
            }
            self.after(down, Event::Restart { node: *node });
        }
    }

    /// A machine applies slowly for a while.
    fn slow_down(&mut self, node: u64, lasts: Micros) {
        let until = self.now + lasts;
        self.host(node).lags_until = until;
    }

    /// A node is away for long; answers whether it could be.
    fn send_away(&mut self, node: u64, cut: bool) -> bool {
        // Two at a time would stop most clusters for as long.
        if !self.away.is_empty() {
            return false;
        }
        self.away.insert(node, cut);
        if cut {
            self.isolate(node);
        } else {
            self.crash(node, true);
        }
        true
    }

    /// A node leaves that is only back when all is healed: what the others became meanwhile, it must then learn from them
    /// without another fault to help it.
    pub(super) fn leave(&mut self) -> Verdict {
        let nodes = self.present();
        let fault = self.plan.leaves(&nodes);
        if let Fault::Away { node, cut } = fault
            && self.send_away(node, cut)
        {
            self.faults += 1;
            self.coverage.point("absent until the healing");
        }
        Ok(())
    }

    /// Somebody sets a wall clock, and sets it right after a while. A majority of wrong clocks is right by definition, so one
    /// at a time; answers whether it could.
    fn set_clock(&mut self, node: u64, by_ms: i64, lasts: Micros) -> bool {
        if self.now < self.jumped_until {
            return false;
        }
        self.jumped_until = self.now + 4 * lasts + READING_LIFE_US;
        self.host(node).clock.jump(by_ms);
        self.after(4 * lasts, Event::Relief(Fault::ClockJump { node, by_ms }));
        true
    }

    /// Cuts a node off from all others.
    fn isolate(&mut self, node: u64) {
        for other in self.nodes() {
            self.net.cut(node, other);
            self.net.cut(other, node);
        }
    }

    /// Everything is whole again but for who is away for long, or hunted.
    fn reconnect(&mut self) {
        self.net.heal();
        let away: Vec<u64> =
            self.away.iter().filter(|(_, cut)| **cut).map(|(node, _)| *node).chain(self.hunted).collect();
        away.into_iter().for_each(|node| self.isolate(node));
    }

    /// A node leads while leaders are hunted: it is cut off in its first moment, before it has told anybody, and others lose
    /// power in the same moment.
    pub(super) fn hunted(&mut self, node: u64) -> Verdict {
        if self.hunt == 0 || self.healing {
            return Ok(());
        }
        self.hunt -= 1;
        self.hunted = (self.hunt > 0).then_some(node);
        self.reconnect();
        for other in self.present() {
            if other != node
                && self.host(other).process.is_some()
                && let Some(down) = self.plan.falls()
            {
                self.crash(other, true);
                self.after(down, Event::Restart { node: other });
            }
        }
        Ok(())
    }

    /// Flips a bit on a disk, if a quorum can do without it.
    fn flip(&mut self, node: u64) -> bool {
        if !self.can_spare(node) {
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
            Fault::Partition { .. } | Fault::OneWay { .. } | Fault::BadNetwork => self.reconnect(),
            Fault::Away { node, .. } => {
                self.away.remove(&node);
                self.reconnect();
                return self.restart(node);
            }
            Fault::ClockJump { node, by_ms } => self.host(node).clock.jump(-by_ms),
            Fault::DiskFull { node, .. } => self.host(node).disk.set_room(None),
            Fault::Crash { .. }
            | Fault::DeadBattery { .. }
            | Fault::PowerCut { .. }
            | Fault::AtTask { .. }
            | Fault::Stop { .. }
            | Fault::Lag { .. }
            | Fault::Hunt { .. }
            | Fault::BitFlip { .. }
            | Fault::DiskLost { .. }
            | Fault::WorkerCrash { .. } => {}
        }
        Ok(())
    }
}
