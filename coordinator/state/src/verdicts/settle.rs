//! Settlement: once every challenged segment is equal, lease times become money and computing power.

use super::ReplayState;
use crate::{
    closing::CloseReason,
    context::Context,
    earning,
    effect::Cause,
    ids::{AccountId, JobId, MachineId},
    jobs::{self, Accuracy, JobRow, JobState, Outsider, Standing},
    ledger,
    money::Money,
    power,
    state::State,
};
use std::collections::{BTreeMap, BTreeSet};

/// Notes the lease time of a replay. Paid at the settlement, unless its verifier is proven wrong before.
pub(super) fn bill(state: &mut State, job: JobId, machine: MachineId, price: Money, billed_ms: u64, cpu_us: u64) {
    let Some(owner) = state.machines.get(&machine).map(|row| row.owner) else { return };
    let Some(row) = state.jobs.get_mut(&job) else { return };
    if let Some(member) = row.member_mut(machine) {
        member.verified_ms = member.verified_ms.saturating_add(billed_ms);
        member.cpu_us = member.cpu_us.saturating_add(cpu_us);
        return;
    }
    let same = |outsider: &&mut Outsider| outsider.machine == machine && outsider.price_per_hour == price;
    if let Some(outsider) = row.outsiders.iter_mut().find(same) {
        outsider.verified_ms = outsider.verified_ms.saturating_add(billed_ms);
        outsider.cpu_us = outsider.cpu_us.saturating_add(cpu_us);
        return;
    }
    row.outsiders.push(Outsider {
        machine,
        owner,
        price_per_hour: price,
        cpu_us,
        verified_ms: billed_ms,
        guilty: false,
        paid: Money::ZERO,
    });
    earning::job_verified(state, job, owner, machine);
}

/// Settles a job whose challenged segments are all decided. A strict majority of the verifiers' owners must have counted
/// the same right answers; were one other count enough to end the job unpaid, a buyer would only need one machine more.
pub(super) fn conclude(state: &mut State, ctx: &mut Context, job: JobId) {
    let decided = |state: ReplayState| matches!(state, ReplayState::Equal | ReplayState::Unopened);
    if state.jobs.get(&job).is_none_or(|row| row.state != JobState::Verifying)
        || !state.replays_of(job).all(|replay| decided(replay.state))
    {
        return;
    }
    let Some((accuracy, others)) = counted(state, job) else {
        let text = "Its verifiers counted different right answers.";
        return jobs::close(state, ctx, job, JobState::Failed, CloseReason::Undecided, text);
    };
    for machine in others {
        jobs::mark_guilty(state, job, machine);
    }
    withhold(state, job);
    let Some(row) = state.jobs.get_mut(&job) else { return };
    row.accuracy = Some(accuracy);
    row.accepted = Some(true);
    pay(state, ctx, job);
    jobs::close(state, ctx, job, JobState::Settled, CloseReason::Completed, "");
}

/// What a strict majority of the verifiers' owners counted, and the machines that counted something else.
fn counted(state: &State, job: JobId) -> Option<(Accuracy, Vec<MachineId>)> {
    let reports: Vec<(MachineId, AccountId, Accuracy)> = state
        .replays_of(job)
        .filter_map(|replay| {
            let machine = replay.verifier?;
            Some((machine, state.machines.get(&machine)?.owner, replay.report?.accuracy))
        })
        .collect();
    let mut counts: Vec<Accuracy> = Vec::new();
    for (_, _, accuracy) in &reports {
        if !counts.contains(accuracy) {
            counts.push(*accuracy);
        }
    }
    let owners: BTreeSet<AccountId> = reports.iter().map(|(_, owner, _)| *owner).collect();
    let agree = |accuracy: &Accuracy| {
        let by: BTreeSet<AccountId> =
            reports.iter().filter(|(_, _, other)| other == accuracy).map(|(_, owner, _)| *owner).collect();
        by.len().saturating_mul(2) > owners.len()
    };
    counts.retain(agree);
    // Owners that count now this way and now that way could make two.
    let [accuracy] = *counts.as_slice() else { return None };
    let others = reports.iter().filter(|(_, _, other)| *other != accuracy).map(|(machine, _, _)| *machine).collect();
    Some((accuracy, others))
}

/// Leases with a segment that stayed shut are neither paid nor credited. Then credits all others.
fn withhold(state: &mut State, job: JobId) {
    let shut: BTreeSet<(u32, MachineId, u32)> = state
        .replays_of(job)
        .filter(|replay| replay.state == ReplayState::Unopened)
        .filter_map(|replay| {
            let task = state.tasks.get(&(job, replay.round, replay.virtual_worker))?;
            Some((replay.round, task.machine, task.attempt))
        })
        .collect();
    let mut unpaid: BTreeMap<MachineId, (u64, u32)> = BTreeMap::new();
    for (round, machine, attempt) in shut {
        let (ms, tasks) = unpaid.entry(machine).or_default();
        for (_, task) in state.tasks_of(job, round).filter(|(_, t)| t.machine == machine && t.attempt == attempt) {
            *ms = ms.saturating_add(task.billed_ms);
            *tasks = tasks.saturating_add(1);
        }
    }
    let Some(row) = state.jobs.get_mut(&job) else { return };
    let credit = row.spec.credit_micro_ut();
    let mut credits = Vec::new();
    for member in row.members.iter_mut().filter(|member| member.standing != Standing::Guilty) {
        let (unpaid_ms, unpaid_tasks) = unpaid.get(&member.machine).copied().unwrap_or_default();
        member.unpaid_ms = unpaid_ms;
        let tasks = member.tasks.saturating_sub(unpaid_tasks);
        credits.push((member.machine, credit.saturating_mul(tasks.into())));
    }
    for (machine, micro_ut) in credits {
        power::trained(state, machine, micro_ut);
    }
}

/// One payment: what for, to whom, how much.
struct Payment {
    cause: Cause,
    machine: MachineId,
    owner: AccountId,
    amount: Money,
}

/// Pays everyone out of the hold, rounded down, and the fee on what was paid. The hold covers every machine for the whole
/// rent; should replays after its end exceed that, the last in order get what is left.
fn pay(state: &mut State, ctx: &mut Context, job: JobId) {
    let Some(row) = state.jobs.get(&job) else { return };
    let (fee_bp, payments) = (row.fee_bp, payments(row));
    let mut total = Money::ZERO;
    for payment in payments {
        let paid = ledger::pay_from_hold(state, ctx, job, payment.owner, payment.amount, payment.cause);
        total = total.checked_add(paid).unwrap_or(Money::MAX);
        note(state, job, &payment, paid);
    }
    let fee = total.fee_paid(fee_bp).unwrap_or(Money::ZERO);
    ledger::fee_from_hold(state, ctx, job, fee);
}

/// Training first, then verification, each in the job's order of machines.
fn payments(row: &JobRow) -> Vec<Payment> {
    let rent = |price: Money, ms: u64| price.rent_paid(ms).unwrap_or(Money::MAX);
    let honest = || row.members.iter().filter(|member| member.standing != Standing::Guilty);
    let training = honest().map(|member| Payment {
        cause: Cause::PayTraining,
        machine: member.machine,
        owner: member.owner,
        amount: rent(member.price_per_hour, member.trained_ms.saturating_sub(member.unpaid_ms)),
    });
    let verification = honest().map(|member| Payment {
        cause: Cause::PayVerification,
        machine: member.machine,
        owner: member.owner,
        amount: rent(member.price_per_hour, member.verified_ms),
    });
    let outside = row.outsiders.iter().filter(|outsider| !outsider.guilty).map(|outsider| Payment {
        cause: Cause::PayVerification,
        machine: outsider.machine,
        owner: outsider.owner,
        amount: rent(outsider.price_per_hour, outsider.verified_ms),
    });
    training.chain(verification).chain(outside).collect()
}

/// Writes a payment into the job's row.
fn note(state: &mut State, job: JobId, payment: &Payment, paid: Money) {
    let Some(row) = state.jobs.get_mut(&job) else { return };
    let add = |to: &mut Money| *to = to.checked_add(paid).unwrap_or(Money::MAX);
    if let Some(member) = row.member_mut(payment.machine) {
        let verified = payment.cause == Cause::PayVerification;
        return add(if verified { &mut member.paid_verification } else { &mut member.paid_training });
    }
    if let Some(outsider) = row.outsiders.iter_mut().find(|outsider| outsider.machine == payment.machine) {
        add(&mut outsider.paid);
    }
}
