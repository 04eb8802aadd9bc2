//! What machines are earning: of each account, the agreements and jobs whose pay is not its own yet.
//!
//! A job's pay is locked until the verdict, an agreement's until its window for disputes is over (`agreements/pay.rs`). Both
//! are formulas of their rows and the time. This list only says which rows to look at, by account and by machine.

use crate::{
    ids::{AccountId, AgreementId, JobId, MachineId},
    invariants::ensure,
    jobs::{JobRow, Standing},
    money::Money,
    state::State,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Under what a machine earns. Closed; append at the end (stored by position).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Earning {
    Agreement(AgreementId),
    Job(JobId),
}

type Key = (AccountId, MachineId, Earning);

impl State {
    /// What an account's machines have earned by now that may still go back: it is paid if every proof of theirs stands.
    pub fn locked(&self, account: AccountId) -> Money {
        let first = (account, MachineId([0; 20]), Earning::Agreement(AgreementId([0; 20])));
        let last = (account, MachineId([0xff; 20]), Earning::Job(JobId([0xff; 20])));
        let amounts = self.earning.range(first..=last).map(|((_, machine, earning), ())| match earning {
            Earning::Agreement(id) => self.agreements.get(id).map_or(Money::ZERO, |row| row.locked_at(self.now_ms())),
            Earning::Job(id) => self.jobs.get(id).map_or(Money::ZERO, |row| by_job(row, *machine)),
        });
        amounts.fold(Money::ZERO, |sum, amount| sum.checked_add(amount).unwrap_or(Money::MAX))
    }
}

/// What a machine is paid by a job if its proof stands.
fn by_job(row: &JobRow, machine: MachineId) -> Money {
    let rent = |price: Money, ms| price.rent_paid(ms).unwrap_or(Money::MAX);
    let member = row.member(machine).filter(|member| member.standing != Standing::Guilty);
    let inside = member.into_iter().flat_map(|member| {
        let trained_ms = member.trained_ms.saturating_sub(member.unpaid_ms);
        [rent(member.price_per_hour, trained_ms), rent(member.price_per_hour, member.verified_ms)]
    });
    let outside = row.outsiders.iter().filter(|outsider| outsider.machine == machine && !outsider.guilty);
    let outside = outside.map(|outsider| rent(outsider.price_per_hour, outsider.verified_ms));
    inside.chain(outside).fold(Money::ZERO, |sum, amount| sum.checked_add(amount).unwrap_or(Money::MAX))
}

/// A job's machines begin to earn.
pub(crate) fn job_matched(state: &mut State, job: JobId) {
    let Some(row) = state.jobs.get(&job) else { return };
    for key in of_job(row) {
        state.earning.insert(key, ());
    }
}

/// A machine that is no member begins to earn by a job.
pub(crate) fn job_verified(state: &mut State, job: JobId, owner: AccountId, machine: MachineId) {
    state.earning.insert((owner, machine, Earning::Job(job)), ());
}

/// A job is closed: whatever it earned them is paid, or never will be.
pub(crate) fn job_closed(state: &mut State, job: JobId) {
    let Some(row) = state.jobs.get(&job) else { return };
    for key in of_job(row) {
        state.earning.remove(&key);
    }
}

fn of_job(row: &JobRow) -> BTreeSet<Key> {
    let members = row.members.iter().map(|member| (member.owner, member.machine));
    let outsiders = row.outsiders.iter().map(|outsider| (outsider.owner, outsider.machine));
    members.chain(outsiders).map(|(owner, machine)| (owner, machine, Earning::Job(row.id))).collect()
}

/// The agreements of a machine that have begun and are not paid for whole.
pub(crate) fn agreements_of(state: &State, owner: AccountId, machine: MachineId) -> Vec<AgreementId> {
    let last = Earning::Agreement(AgreementId([0xff; 20]));
    let range = (owner, machine, Earning::Agreement(AgreementId([0; 20])))..=(owner, machine, last);
    let id = |earning: &Earning| match earning {
        Earning::Agreement(id) => Some(*id),
        Earning::Job(_) => None,
    };
    state.earning.range(range).filter_map(|((_, _, earning), ())| id(earning)).collect()
}

/// The list names exactly what earns.
pub(crate) fn check(state: &State) -> Result<(), String> {
    let agreements = state.agreements().filter(|row| row.earns());
    let agreements = agreements.map(|row| (row.seller, row.machine, Earning::Agreement(row.id)));
    let jobs = state.jobs().filter(|row| !row.state.closed()).flat_map(of_job);
    let wanted: BTreeSet<Key> = agreements.chain(jobs).collect();
    let listed = state.earning.iter().map(|(key, ())| *key);
    ensure(listed.eq(wanted), || "the list of what earns is not what earns".to_owned())
}
