//! Coordinators that come and go: what the admins do about them, machines that join under a new number, and those that have
//! left and must stop.

use super::{Event, Host, OPERATE_EVERY_US, World};
use crate::sim::{
    checks::{Verdict, hold},
    process::Identity,
};
use matrixai_coordinator::core::Address;
use matrixai_state::{
    State,
    ids::NodeId,
    nodes::{NodeRow, Standing},
};

impl World {
    /// The admins look after the coordinators, or have another one lead.
    pub(super) fn operate(&mut self) -> Verdict {
        if self.healing {
            return Ok(());
        }
        let pause = self.rng.between(OPERATE_EVERY_US / 2, OPERATE_EVERY_US * 3 / 2);
        self.after(pause, Event::Operate);
        if self.rng.one_in(4) {
            self.transfer();
            return Ok(());
        }
        let gone = |node: &u64| self.hosts[*node as usize - 1].gone || self.knows_nobody(*node);
        let gone: Vec<u64> = self.nodes().into_iter().filter(gone).collect();
        let request = self.people.operate(&self.newest, &gone);
        self.ask(request, 0);
        Ok(())
    }

    fn transfer(&mut self) {
        let others = self.present();
        // Newcomers are tried out.
        let newest = others.last().copied().filter(|_| self.rng.one_in(2));
        let to = newest.unwrap_or_else(|| *self.rng.pick(&others));
        let Some(leader) = self.leader() else { return };
        let begun = self.host(leader).process.as_mut().is_some_and(|process| process.transfer_leader(to));
        if begun {
            self.coverage.point("the leader's office is handed over");
        }
    }

    /// A new state: machines for coordinators that were added.
    pub(super) fn welcome(&mut self, state: &State) {
        while let Some(row) = state.node(NodeId(self.hosts.len() as u64 + 1)) {
            let id = row.id.0;
            let seed = self.people.node_seed(&row.key);
            let first = &self.hosts[0].identity;
            let (genesis, voters) = (first.genesis.clone(), first.voters.clone());
            let present = state.nodes().filter(|other| other.standing != Standing::Removed && other.id != row.id);
            let told = present.map(|row| Address { id: row.id.0, key: row.key, grpc: row.grpc.clone() }).collect();
            let identity = Identity { id, key_seed: seed.unwrap_or_default(), genesis, voters, told };
            let mut host = Host::new(identity, &self.folder, &mut self.rng);
            host.gone = seed.is_none();
            self.hosts.push(host);
            self.coverage.point("a coordinator was added");
            self.after(1_000_000, Event::Restart { node: id });
            self.after(2_000_000, Event::Segments { node: id });
        }
    }

    /// Whether a node could go for good and leave a quorum that is there: nobody else is gone, and no change is under way.
    pub(super) fn can_spare(&mut self, node: u64) -> bool {
        let Some(leader) = self.leader() else { return false };
        let Some(process) = &self.host(leader).process else { return false };
        let members = process.members().clone();
        let wanted: Vec<u64> = self.newest.voters().map(|row| row.id.0).collect();
        let settled = !members.is_joint() && members.voters().eq(wanted.iter().copied());
        let whole = wanted.iter().all(|id| {
            let host = &self.hosts[*id as usize - 1];
            !host.gone && !host.flipped && !self.knows_nobody(*id)
        });
        settled && whole && (wanted.len() > 2 || !wanted.contains(&node))
    }

    /// A disk and everything on it is gone.
    pub(super) fn lose_disk(&mut self, node: u64) -> bool {
        if !self.can_spare(node) {
            return false;
        }
        self.crash(node, true);
        self.host(node).gone = true;
        true
    }

    /// Whether the admins have removed a node.
    pub(super) fn is_removed(&self, node: u64) -> bool {
        self.newest.node(NodeId(node)).is_some_and(|row: &NodeRow| row.standing == Standing::Removed)
    }

    /// Whether a node runs that was away while every voter whom it knew was replaced: nobody can introduce it to the others.
    fn knows_nobody(&self, node: u64) -> bool {
        let Some(process) = &self.hosts[node as usize - 1].process else { return false };
        let others = self.newest.voters().map(|row| row.id.0).filter(|id| *id != node);
        let mut present = others.filter(|id| !self.hosts[*id as usize - 1].gone).peekable();
        present.peek().is_some() && present.all(|id| process.admits(id).is_err())
    }

    /// Nobody leads although all is healed: whoever refuses a voter as a stranger is started again and told who is who.
    pub(super) fn introduce(&mut self) -> Verdict {
        if self.leader().is_some() {
            return Ok(());
        }
        let present = self.newest.nodes().filter(|row| row.standing != Standing::Removed);
        let all: Vec<Address> =
            present.map(|row| Address { id: row.id.0, key: row.key, grpc: row.grpc.clone() }).collect();
        for node in self.living() {
            let Some(process) = &self.host(node).process else { continue };
            if all.iter().all(|other| process.admits(other.id).is_ok()) {
                continue;
            }
            let told = all.iter().filter(|other| other.id != node).cloned().collect();
            self.host(node).identity.told = told;
            self.coverage.point("a coordinator was introduced by its operator");
            self.crash(node, false);
            self.after(1_000_000, Event::Restart { node });
        }
        Ok(())
    }

    /// Nodes that must be there in the end: those that take part and run.
    pub(super) fn members(&self) -> Vec<u64> {
        let takes_part = |node: &u64| !self.is_removed(*node) && !self.knows_nobody(*node);
        self.living().into_iter().filter(takes_part).collect()
    }

    /// After healing a quorum runs: of those that vote, who are not those of the state while one that is to leave is needed.
    pub(super) fn quorum_runs(&self) -> Verdict {
        let living = self.living();
        let leads = |id: &u64| self.hosts[*id as usize - 1].process.as_ref().filter(|process| process.leads());
        let leader = living.iter().find_map(leads);
        let voters: Vec<u64> = leader.map_or_else(Vec::new, |leader| leader.members().voters().collect());
        let run = voters.iter().filter(|id| living.contains(id) && !self.knows_nobody(**id)).count();
        hold("convergence", run * 2 > voters.len(), || format!("after healing {run} of the voters {voters:?} run"))
    }
}
