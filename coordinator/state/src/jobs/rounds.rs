//! Rounds: a model is there, its round's virtual workers are split over the members by speed, leased, computed, reported.

use super::{JobRow, JobState, RoundShare, Stage, Standing, TaskRow, TrainLease, failures, reduce};
use crate::{
    command::TaskDone,
    context::Context,
    effect::Cause,
    expiry::Timer,
    ids::{JobId, MachineId},
    leases, ledger,
    machines::Lease,
    money::Money,
    outcome::{Outcome, Refusal},
    plants::{Plant, planted},
    power, splitting,
    state::State,
};
use std::collections::BTreeSet;

/// R after the match is here: the members make the first model.
pub(super) fn seed(state: &mut State, ctx: &mut Context, job: JobId) {
    let r = state.beacon.r;
    let Some(row) = state.jobs.get_mut(&job) else { return };
    row.state = JobState::Training;
    row.beacon = Some(r);
    ctx.event("job.seeded", job, format!("The beacon has seeded job {job}."));
    reduce::open(state, ctx, job, 0);
}

/// Opens a round: whoever is there takes part, also those that were lost in the last one.
pub(super) fn open(state: &mut State, ctx: &mut Context, job: JobId, round: u32) {
    failures::rejoin(state, ctx, job);
    let Some(row) = state.jobs.get_mut(&job) else { return };
    (row.stage, row.round, row.tasks_done) = (Stage::Computing, round, 0);
    let members: Vec<(MachineId, bool)> =
        row.members.iter().map(|member| (member.machine, member.standing == Standing::Active)).collect();
    let shares = members
        .into_iter()
        .map(|(machine, active)| RoundShare { tasks: 0, speed: if active { power::fgemm(state, machine) } else { 0 } })
        .collect();
    if let Some(figure) = state.rounds.get_mut(&(job, round)) {
        figure.shares = shares;
    }
    failures::advance(state, ctx, job);
}

/// Leases every virtual worker of the open round that is neither done nor leased to the active members, by their speed
/// now. Done ones stay valid whoever did them: that is why a loss costs no bits.
pub(super) fn assign(state: &mut State, ctx: &mut Context, job: JobId) {
    let Some(row) = state.jobs.get(&job) else { return };
    let workers = unassigned(state, row);
    let active: Vec<MachineId> = row.active().map(|member| member.machine).collect();
    if workers.is_empty() || active.is_empty() {
        return;
    }
    let speeds: Vec<u64> = active.iter().map(|machine| power::fgemm(state, *machine)).collect();
    let runs = splitting::split(&workers, &speeds);
    let mut leased = Vec::new();
    let Some(row) = state.jobs.get_mut(&job) else { return };
    let round = row.round;
    for (machine, run) in active.into_iter().zip(runs).filter(|(_, run)| !run.is_empty()) {
        let attempt = row.next_attempt();
        let Some(member) = row.member_mut(machine) else { continue };
        leased.push((machine, attempt, run.len()));
        member.leases.push(TrainLease { attempt, left: run, granted_ms: 0, deadline_ms: 0, billed_to_ms: 0 });
    }
    for (machine, attempt, tasks) in leased {
        count_share(state, job, round, machine, |share| share.saturating_add(tasks as u32));
        leases::enqueue(state, ctx, machine, Lease::Train { job, attempt });
    }
}

/// Virtual workers of the open round that nobody has done or is to do.
fn unassigned(state: &State, row: &JobRow) -> Vec<u32> {
    let mut taken: BTreeSet<u32> = state.tasks_of(row.id, row.round).map(|(worker, _)| worker).collect();
    taken.extend(row.members.iter().flat_map(|member| &member.leases).flat_map(|lease| &lease.left));
    (0..row.spec.virtual_workers).filter(|worker| !taken.contains(worker)).collect()
}

/// Changes the number of tasks that a round's split shows for a member.
pub(super) fn count_share(
    state: &mut State,
    job: JobId,
    round: u32,
    machine: MachineId,
    change: impl FnOnce(u32) -> u32,
) {
    let Some(at) = state.jobs.get(&job).and_then(|row| row.members.iter().position(|m| m.machine == machine)) else {
        return;
    };
    if let Some(share) = state.rounds.get_mut(&(job, round)).and_then(|figure| figure.shares.get_mut(at)) {
        share.tasks = change(share.tasks);
    }
}

/// A lease gets its machine's slot: billing begins. Returns the deadline, none when the lease holds no longer.
pub(crate) fn granted(
    state: &mut State,
    ctx: &mut Context,
    job: JobId,
    machine: MachineId,
    attempt: u32,
) -> Option<u64> {
    let speed = power::fgemm(state, machine);
    let row = state.jobs.get_mut(&job)?;
    let task_ops = u128::from(row.spec.task_ops());
    let lease = row.member_mut(machine)?.leases.iter_mut().find(|lease| lease.attempt == attempt)?;
    let ops = task_ops.saturating_mul(lease.left.len() as u128);
    lease.granted_ms = ctx.now_ms;
    lease.billed_to_ms = ctx.now_ms;
    lease.deadline_ms = ctx.now_ms.saturating_add(leases::lease_ms(ops, speed));
    let deadline_ms = lease.deadline_ms;
    state.timers.insert((deadline_ms, Timer::Lease { job, attempt }), ());
    Some(deadline_ms)
}

/// One virtual worker's round is computed and its delta stored.
pub(crate) fn task_done(state: &mut State, ctx: &mut Context, machine: MachineId, cmd: &TaskDone) -> Outcome {
    let Some(row) = state.jobs.get(&cmd.job) else { return Refusal::UnknownJob.into() };
    if row.member(machine).is_none() {
        return Refusal::NotAMember.into();
    }
    if let Some(task) = state.tasks.get(&(cmd.job, cmd.round, cmd.virtual_worker)) {
        return match (task.machine == machine && task.attempt == cmd.attempt, task.delta, task.seal) {
            (true, delta, seal) if delta == cmd.delta && seal == cmd.sealed_trace => Outcome::DONE,
            (true, _, _) => Refusal::AlreadyDone.into(),
            (false, _, _) => Refusal::StaleAttempt.into(),
        };
    }
    if row.state.closed() {
        return Refusal::JobClosed.into();
    }
    if row.state != JobState::Training {
        return Refusal::WrongState.into();
    }
    if row.stage != Stage::Computing || row.round != cmd.round {
        return Refusal::WrongRound.into();
    }
    match record(state, ctx, machine, cmd) {
        Ok(finished) => {
            if planted(Plant::PaidOnReport)
                && let Some(member) = state.jobs.get(&cmd.job).and_then(|row| row.member(machine))
            {
                let (owner, rent) = (member.owner, member.price_per_hour.rent_paid(member.trained_ms));
                let cause = Cause::PayTraining;
                ledger::pay_from_hold(state, ctx, cmd.job, owner, rent.unwrap_or(Money::ZERO), cause);
            }
            if finished {
                leases::end(state, ctx, machine, Lease::Train { job: cmd.job, attempt: cmd.attempt });
            }
            let all = |row: &JobRow| row.tasks_done >= row.spec.virtual_workers;
            if state.jobs.get(&cmd.job).is_some_and(all) {
                reduce::open(state, ctx, cmd.job, cmd.round.saturating_add(1));
            }
            Outcome::DONE
        }
        Err(refusal) => refusal.into(),
    }
}

/// Writes a report down; `true` when it was its lease's last.
fn record(state: &mut State, ctx: &mut Context, machine: MachineId, cmd: &TaskDone) -> Result<bool, Refusal> {
    let row = state.jobs.get_mut(&cmd.job).ok_or(Refusal::UnknownJob)?;
    let member = row.member_mut(machine).ok_or(Refusal::NotAMember)?;
    let at = member.leases.iter().position(|lease| lease.attempt == cmd.attempt).ok_or(Refusal::StaleAttempt)?;
    let lease = member.leases.get_mut(at).ok_or(Refusal::StaleAttempt)?;
    if !lease.left.contains(&cmd.virtual_worker) {
        return Err(Refusal::BadVirtualWorker);
    }
    if lease.granted_ms == 0 {
        return Err(Refusal::NotGranted);
    }
    let billed_ms = ctx.now_ms.saturating_sub(lease.billed_to_ms);
    let deadline_ms = lease.deadline_ms;
    lease.billed_to_ms = ctx.now_ms;
    lease.left.retain(|worker| *worker != cmd.virtual_worker);
    let finished = lease.left.is_empty();
    if finished {
        member.leases.remove(at);
    }
    member.tasks = member.tasks.saturating_add(1);
    member.cpu_us = member.cpu_us.saturating_add(cmd.cpu_us);
    member.trained_ms = member.trained_ms.saturating_add(billed_ms);
    row.tasks_done = row.tasks_done.saturating_add(1);
    let task = TaskRow {
        machine,
        attempt: cmd.attempt,
        delta: cmd.delta,
        seal: cmd.sealed_trace,
        cpu_us: cmd.cpu_us,
        billed_ms,
    };
    state.tasks.insert((cmd.job, cmd.round, cmd.virtual_worker), task);
    if finished {
        state.timers.remove(&(deadline_ms, Timer::Lease { job: cmd.job, attempt: cmd.attempt }));
    }
    Ok(finished)
}
