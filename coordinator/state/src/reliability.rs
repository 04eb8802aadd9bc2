//! Who kept to what was agreed: a machine, its owner as a seller, and whoever rented it as a buyer.
//!
//! Counted when an agreement or a job closes, and only what has somebody's fault: what was completed, and what failed by that
//! side. A loss that nobody can be blamed for counts for nobody, and whoever has nothing counted yet has no reliability.

use crate::{
    closing::{CloseReason, Fault},
    ids::{AccountId, JobId, MachineId},
    jobs::{JobState, Standing},
    market::query::Number,
    state::State,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What somebody completed, and what failed by his fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reliability {
    /// Agreements and jobs that were completed.
    pub completed: u64,
    /// Those that failed by his fault.
    pub failed: u64,
}

impl Reliability {
    /// completed / (completed + failed), rounded down to nine decimals; none while both are zero.
    pub fn share(self) -> Option<Number> {
        Number::ratio(self.completed.into(), u128::from(self.completed).saturating_add(self.failed.into()))
    }

    fn count(&mut self, kept: bool) {
        let counted = if kept { &mut self.completed } else { &mut self.failed };
        *counted = counted.saturating_add(1);
    }
}

/// An account on both sides of the market.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conduct {
    /// What its machines did.
    pub seller: Reliability,
    /// What it rented machines for.
    pub buyer: Reliability,
}

impl State {
    /// How an account kept to what it agreed on.
    pub fn conduct(&self, account: AccountId) -> Conduct {
        self.conduct.get(&account).copied().unwrap_or_default()
    }
}

/// An agreement is closed, and its machine not yet free: then its offers are told.
pub(crate) fn agreement_closed(
    state: &mut State,
    machine: MachineId,
    seller: AccountId,
    buyer: AccountId,
    reason: CloseReason,
) {
    if reason == CloseReason::Completed {
        sold(state, machine, seller, true);
        bought(state, buyer, true);
    }
    match reason.fault() {
        Fault::Provider => sold(state, machine, seller, false),
        Fault::Buyer => bought(state, buyer, false),
        Fault::Nobody => {}
    }
}

/// A machine was rented and did, or did not, what was agreed on.
fn sold(state: &mut State, machine: MachineId, seller: AccountId, kept: bool) {
    if let Some(row) = state.machines.get_mut(&machine) {
        row.reliability.count(kept);
    }
    update(state, seller, |conduct| conduct.seller.count(kept));
}

/// Somebody rented machines and left them their time, or did not.
fn bought(state: &mut State, buyer: AccountId, kept: bool) {
    update(state, buyer, |conduct| conduct.buyer.count(kept));
}

/// A job is closed, and its machines are still its own. Who was proven wrong, failed too often, or took his machine away,
/// failed; whoever was active in a job that was settled completed it.
pub(crate) fn job_closed(state: &mut State, job: JobId) {
    let Some(row) = state.jobs.get(&job) else { return };
    let (owner, settled) = (row.owner, row.state == JobState::Settled);
    let mut counted: Vec<(MachineId, AccountId, bool)> = Vec::new();
    for member in &row.members {
        match member.standing {
            Standing::Active if settled => counted.push((member.machine, member.owner, true)),
            Standing::Active | Standing::Lost => {}
            Standing::Left | Standing::Guilty => counted.push((member.machine, member.owner, false)),
        }
    }
    let guilty = row.outsiders.iter().filter(|outsider| outsider.guilty);
    // One outsider has a row for each price that it was leased at.
    let guilty: BTreeSet<_> = guilty.map(|outsider| (outsider.machine, outsider.owner)).collect();
    counted.extend(guilty.into_iter().map(|(machine, owner)| (machine, owner, false)));
    let buyer = match row.state {
        JobState::Settled => Some(true),
        // What its machines had done by then went unpaid.
        JobState::Cancelled if !row.members.is_empty() => Some(false),
        JobState::Cancelled
        | JobState::Expired
        | JobState::Failed
        | JobState::Rejected
        | JobState::Waiting
        | JobState::Seeding
        | JobState::Training
        | JobState::Challenging
        | JobState::Verifying => None,
    };
    for (machine, owner, kept) in counted {
        sold(state, machine, owner, kept);
    }
    if let Some(kept) = buyer {
        bought(state, owner, kept);
    }
}

fn update(state: &mut State, account: AccountId, act: impl FnOnce(&mut Conduct)) {
    match state.conduct.get_mut(&account) {
        Some(conduct) => act(conduct),
        None => {
            let mut conduct = Conduct::default();
            act(&mut conduct);
            state.conduct.insert(account, conduct);
        }
    }
}
