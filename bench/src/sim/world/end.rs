//! The end of a world: everything is healed, and what was broken must be whole: all nodes agree, and serve.

use super::{Event, HEALING_US, Summary, World};
use crate::sim::{
    checks::{Verdict, Violation, hold},
    clock::Micros,
};

/// The healed cluster is asked to serve so long before the end.
const CANARY_US: Micros = 8_000_000;
/// The operators look whether somebody leads so long after healing.
const INTRODUCED_US: Micros = 6_000_000;

impl World {
    /// The network is whole, every disk has room, every node is started, and no fault that was set up still waits.
    pub(super) fn heal(&mut self) -> Verdict {
        self.healing = true;
        self.away.clear();
        (self.hunt, self.hunted) = (0, None);
        self.net.heal();
        for node in self.nodes() {
            let now = self.now;
            let host = self.host(node);
            host.disk.set_room(None);
            host.disk.keep_power();
            host.trap = None;
            host.stopped_until = host.stopped_until.min(now);
            host.lags_until = now;
            self.after(1_000, Event::Restart { node });
        }
        for worker in 0..self.workers.len() {
            self.after(1_000, Event::WorkerRestart { worker });
        }
        self.after(INTRODUCED_US, Event::Introduce);
        self.after(HEALING_US - CANARY_US, Event::Canary);
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<Summary, Violation> {
        hold("the healed cluster serves", self.canary.is_empty(), || {
            format!("{} commands of the last {CANARY_US} us were not answered", self.canary.len())
        })?;
        self.clients.close(&mut self.checks.linear);
        // The last entries may still be on their way to a follower.
        self.settle()?;
        let members = self.members();
        self.checks.log.converged(&members)?;
        self.checks.durable.kept(self.checks.log.last())?;
        self.compare_states()?;
        self.compare_archives()?;
        self.checks.linear.check(&self.checks.roots)?;
        // The folder holds names only; one that stays is removed by the next run.
        let _ = std::fs::remove_dir_all(&self.folder);
        Ok(Summary {
            commands: self.clients.commands,
            faults: self.faults,
            elections: self.checks.election.elections(),
            entries: self.checks.log.last(),
            snapshots: self.snapshots,
            installed: self.installed,
            acknowledged: self.checks.durable.acknowledged(),
            operations: self.checks.linear.operations,
            undecided: self.checks.linear.undecided,
            simulated_us: self.now,
            trace: self.trace.0,
            coverage: std::mem::take(&mut self.coverage),
        })
    }

    /// What a node has sealed is what was applied. One node's segments stand for all: those of one epoch are equal. Where a bit
    /// was flipped they may be damaged, until they are read through.
    fn compare_archives(&mut self) -> Verdict {
        let whole: Vec<u64> = self.members().into_iter().filter(|node| !self.host(*node).flipped).collect();
        // Each of a few members may have had its bit flipped, one after the other.
        if whole.is_empty() {
            return Ok(());
        }
        let node = *self.rng.pick(&whole);
        let Some(process) = &self.hosts[node as usize - 1].process else { return Ok(()) };
        self.checks.archive.holds(node, process.shelf(), &self.checks.log)
    }

    /// Lets what is on its way arrive, until all living nodes have applied the same or a second has passed.
    fn settle(&mut self) -> Verdict {
        let end = self.now + 1_000_000;
        while let Some((at, event)) = self.queue.pop() {
            let members = self.members();
            if at > end || self.checks.log.converged(&members).is_ok() {
                return Ok(());
            }
            self.now = at;
            self.happen(event)?;
        }
        Ok(())
    }
}
