//! The coordinators of a world: starting, ticking, crashing, and what reaches them.

use super::{Asker, Event, Frame, Host, TICK_MS, World};
use crate::sim::{
    checks::{Verdict, Violation},
    clock::Micros,
    faults::When,
    process::{Output, Process, Task, carry, carry_segment},
};
use matrixai_coordinator::{
    admission::NotAdmitted, core::PeerRefusal, pending::Waiting, reads::ReadMode, replica::Input, snapshots::Reference,
};
use std::rc::Rc;

/// A node looks for missing segments so often.
const SEGMENTS_EVERY_US: Micros = 2_000_000;
/// What a process says that finds a full disk, of the log or of other files.
const NO_SPACE: [&str; 2] = ["no space left", "the disk is full"];

impl World {
    pub(super) fn host(&mut self, node: u64) -> &mut Host {
        &mut self.hosts[node as usize - 1]
    }

    pub(super) fn nodes(&self) -> Vec<u64> {
        (1..=self.hosts.len() as u64).collect()
    }

    /// Nodes that can take part: whose disk is what they left there.
    pub(super) fn present(&self) -> Vec<u64> {
        self.hosts.iter().filter(|host| !host.gone).map(|host| host.identity.id).collect()
    }

    /// Nodes whose process runs.
    pub(super) fn living(&self) -> Vec<u64> {
        self.hosts.iter().filter(|host| host.process.is_some()).map(|host| host.identity.id).collect()
    }

    /// Starts a node on what its disk holds.
    ///
    /// # Errors
    /// It does not start although nobody damaged its disk.
    pub(super) fn start(&mut self, node: u64) -> Verdict {
        let at = self.now;
        let boot = self.rng.word();
        let host = self.host(node);
        host.life += 1;
        let disk = host.disk.next_life();
        let monotonic = host.clock.now_ms(at);
        match Process::start(&host.identity, &disk, &host.folder, boot, monotonic) {
            Ok(process) => {
                let index = process.view().index();
                host.process = Some(process);
                host.stopped_until = at;
                host.busy_until.clear();
                let life = host.life;
                self.checks.log.started(node, index);
                let first = self.rng.between(1_000, TICK_MS * 1_000);
                self.after(first, Event::Tick { node, life });
                Ok(())
            }
            Err(_) if host.flipped => {
                host.gone = true;
                self.coverage.point("flipped bit found at start");
                Ok(())
            }
            // It says what it lacks and ends; whoever keeps it running starts it again.
            Err(why) if host.disk.is_short() && NO_SPACE.iter().any(|text| why.contains(text)) => {
                self.coverage.point("a start on a full disk was given up");
                self.crash(node, false);
                let pause = self.plan.down();
                self.after(pause, Event::Restart { node });
                Ok(())
            }
            Err(why) => Err(Violation {
                invariant: "a node starts again on its own disk",
                story: format!("node {node} at {} us: {why}", self.now),
            }),
        }
    }

    pub(super) fn restart(&mut self, node: u64) -> Verdict {
        if self.away.get(&node) == Some(&false) {
            return Ok(());
        }
        let host = self.host(node);
        if host.process.is_some() || host.gone { Ok(()) } else { self.start(node) }
    }

    /// The process of a node is gone; with `power`, what its disk did not sync may be too.
    pub(super) fn crash(&mut self, node: u64, power: bool) {
        let host = self.host(node);
        // Its handles must do nothing any more before it is dropped: raft-engine tidies up when it is closed.
        host.disk.crash(power);
        host.process = None;
        self.drop_sessions(node);
    }

    /// Hands inputs to a node, if it runs, and carries what comes of them.
    pub(super) fn on(&mut self, node: u64, inputs: impl IntoIterator<Item = Input>) -> Verdict {
        let now = self.now;
        let host = self.host(node);
        let Some(process) = &mut host.process else { return Ok(()) };
        let outputs = process.on(inputs, host.clock.now_ms(now));
        self.carry(node, outputs)
    }

    /// A process does a task, unless it dies before or behind it.
    pub(super) fn task(&mut self, node: u64, life: u64, task: Task) -> Verdict {
        if self.host(node).life != life || self.host(node).process.is_none() {
            return Ok(());
        }
        if self.postponed(node, || Event::Task { node, life, task }) {
            return Ok(());
        }
        let (now, known) = (self.now, self.checks.log.last());
        let host = self.host(node);
        let trap = host.trap.take_if(|(name, _)| *name == task.name());
        if trap.is_none_or(|(_, when)| when != When::Before)
            && let Some(process) = &mut host.process
        {
            let outputs = process.perform(task, known, host.clock.now_ms(now));
            if trap.is_none_or(|(_, when)| when == When::Said) {
                self.carry(node, outputs)?;
            }
        }
        let Some((name, when)) = trap else { return Ok(()) };
        self.coverage.crash_point(name, when);
        self.crash(node, true);
        let pause = self.plan.down();
        self.after(pause, Event::Restart { node });
        Ok(())
    }

    /// Time that a task takes.
    pub(super) fn later(&mut self, node: u64, task: Task) {
        let (low, high): (Micros, Micros) = match task {
            Task::WriteLog => (100, 2_000),
            Task::TellWritten(_) => (1, 20),
            Task::Apply => (20, 300),
            Task::SaveSnapshot => (20_000, 800_000),
            Task::ComputeRoot => (5_000, 50_000),
            Task::Archive => (50, 5_000),
        };
        let mut takes = self.rng.between(low, high);
        if self.rng.one_in(200) {
            takes *= 20;
        }
        let now = self.now;
        let lags = task == Task::Apply && self.host(node).lags_until > now;
        let wait = if lags { self.plan.lag() } else { 0 };
        let host = self.host(node);
        let life = host.life;
        let until = host.busy_until.entry(task.name()).or_default();
        // What waits for a busy machine is done in one go when it gets round to it.
        *until = if lags { (*until).max(now + wait) } else { (*until).max(now) + takes };
        let at = *until;
        self.after(at - now, Event::Task { node, life, task });
    }

    /// A snapshot has travelled from one node's disk to another's, or broke off on the way.
    pub(super) fn fetched(&mut self, node: u64, life: u64, from: u64, reference: &Reference) -> Verdict {
        if self.host(node).life != life {
            return Ok(());
        }
        let cut = self.net.is_cut(node, from) || self.net.is_cut(from, node) || self.rng.one_in(8);
        let source = self.host(from).process.as_ref().map(|process| process.snapshots().clone());
        let target = self.host(node).process.as_ref().map(|process| process.snapshots().clone());
        let arrived = match (source, target) {
            (Some(source), Some(target)) if !cut => carry(&source, &target, reference, usize::MAX).unwrap_or(false),
            _ => false,
        };
        let index = reference.index;
        if arrived {
            // The log begins behind it from now on, however long a busy machine takes to load it.
            self.checks.archive.given(node, index);
            self.on(node, [Input::SnapshotFetched { index }])
        } else {
            self.on(node, [Input::FetchFailed { index }])
        }
    }

    /// A node fetches the newest segment that it misses from another one.
    pub(super) fn fetch_segment(&mut self, node: u64) -> Verdict {
        self.after(SEGMENTS_EVERY_US, Event::Segments { node });
        let Some(process) = &self.host(node).process else { return Ok(()) };
        let (head, first) = process.archived();
        let (missing, target) = (process.missing_segment(), process.shelf().clone());
        self.checks.archive.fits(node, head, first)?;
        let Some((epoch, hash)) = missing else { return Ok(()) };
        let from = *self.rng.pick(&self.nodes());
        let source = self.host(from).process.as_ref().map(|process| process.shelf().clone());
        let Some(source) = source.filter(|_| from != node && !self.net.is_cut(from, node)) else { return Ok(()) };
        // What a full or damaged disk says is no matter: it is tried again.
        if carry_segment(&source, &target, epoch, hash) == Ok(true) {
            self.coverage.point("archive: a segment was fetched");
        }
        Ok(())
    }

    fn carry(&mut self, node: u64, outputs: Vec<Output>) -> Verdict {
        let host = self.host(node);
        if host.disk.is_cut() {
            // The power failed underneath: nothing that it said after that was said.
            self.coverage.point("power cut inside a write");
            self.crash(node, true);
            let pause = self.plan.down();
            self.after(pause, Event::Restart { node });
            return Ok(());
        }
        outputs.into_iter().try_for_each(|output| self.output(node, output))
    }

    /// Whether a node stands still: then what reaches it waits.
    pub(super) fn postponed(&mut self, node: u64, event: impl FnOnce() -> Event) -> bool {
        let (now, until) = (self.now, self.host(node).stopped_until);
        if until > now && self.host(node).process.is_some() {
            self.after(until - now, event());
            return true;
        }
        false
    }

    pub(super) fn tick(&mut self, node: u64, life: u64) -> Verdict {
        if self.host(node).life != life || self.host(node).process.is_none() {
            return Ok(());
        }
        if self.postponed(node, || Event::Tick { node, life }) {
            return Ok(());
        }
        let now = self.now;
        let wall_ms = self.host(node).clock.wall_ms(now);
        self.after(TICK_MS * 1_000, Event::Tick { node, life });
        self.on(node, [Input::Tick { wall_ms }])
    }

    pub(super) fn frame(&mut self, to: u64, frame: Rc<Frame>) -> Verdict {
        if self.postponed(to, || Event::Frame { to, frame: frame.clone() }) {
            return Ok(());
        }
        if let Some(why) = self.refusal(to, frame.from) {
            let delay = self.net.delay();
            if !self.net.is_cut(to, frame.from) {
                self.after(delay, Event::Refused { node: frame.from, by: to, why });
            }
            return Ok(());
        }
        self.trace.add(frame.from << 8 | to);
        frame.raft.iter().for_each(|message| self.trace.add_bytes(message));
        let Frame { from, raft, status } = Rc::unwrap_or_clone(frame);
        self.on(to, [Input::Peer { from, raft, status }])
    }

    /// Why a node does not listen to another one.
    fn refusal(&mut self, node: u64, from: u64) -> Option<PeerRefusal> {
        let (why, point) = match self.host(node).process.as_ref()?.admits(from).err()? {
            NotAdmitted::Removed => (PeerRefusal::Removed, "a removed coordinator was refused"),
            NotAdmitted::Stranger { knows } => (PeerRefusal::Stranger { knows }, "a stranger was refused"),
            NotAdmitted::Impostor => unreachable!("frames come from those whose number they name"),
        };
        self.coverage.point(point);
        Some(why)
    }

    pub(super) fn submit(&mut self, node: u64, envelopes: Vec<(Asker, Waiting)>) -> Verdict {
        if self.host(node).stopped_until > self.now && self.host(node).process.is_some() {
            let wait = self.host(node).stopped_until - self.now;
            self.after(wait, Event::Submit { node, envelopes });
            return Ok(());
        }
        let mut numbered = Vec::with_capacity(envelopes.len());
        for (asker, envelope) in envelopes {
            self.next_caller += 1;
            self.callers.insert(self.next_caller, asker);
            numbered.push(Input::Submit { caller: self.next_caller, envelope });
        }
        self.on(node, numbered)
    }

    pub(super) fn view(&mut self, node: u64, read: u64) -> Verdict {
        if self.postponed(node, || Event::View { node, read }) {
            return Ok(());
        }
        if self.host(node).process.is_none() {
            self.after(1_000, Event::Viewed { read, seen: None });
        }
        let bound_ms = self.clients.reading(read).and_then(|reading| reading.bound_ms);
        let mode = bound_ms.map_or(ReadMode::Linearizable, |age_ms| ReadMode::Bounded { age_ms });
        self.on(node, [Input::View { reader: read, mode }])
    }

    /// The roots of all living nodes are equal, and their states sound.
    pub(super) fn compare_states(&mut self) -> Verdict {
        let views: Vec<_> =
            self.hosts.iter().filter_map(|host| Some((host.identity.id, host.process.as_ref()?.state()))).collect();
        let members = self.members();
        let views: Vec<_> = views.into_iter().filter(|(node, _)| members.contains(node)).collect();
        let roots: Vec<_> = views.iter().map(|(node, view)| (*node, view.root())).collect();
        self.checks.roots.at_end(&roots)?;
        let (_, view) = views
            .first()
            .ok_or_else(|| Violation { invariant: "convergence", story: "after healing no node runs".to_owned() })?;
        crate::sim::checks::money::Money::whole(view)?;
        self.quorum_runs()
    }
}
