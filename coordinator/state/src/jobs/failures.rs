//! What goes wrong with members, and how a training goes on without them: their undone virtual workers move, they come
//! back with the next round, and whoever was proven wrong is out.

use super::{
    DETAIL_BYTES_MAX, FAILURES_MAX, JobRow, JobState, Stage, Standing, TrainLease, Vote, close, reduce, rounds,
};
use crate::{
    closing::CloseReason,
    command::{FailureReason, TaskFailed},
    context::Context,
    expiry::Timer,
    ids::{JobId, MachineId},
    leases,
    machines::{self, Lease},
    outcome::{Outcome, Refusal},
    state::State,
    verdicts,
};

/// Carries a training on as far as it goes: revives lost members when no active one is left, then leases or decides.
pub(super) fn advance(state: &mut State, ctx: &mut Context, job: JobId) {
    let Some(row) = state.jobs.get(&job).filter(|row| row.state == JobState::Training) else { return };
    if row.members.iter().all(|member| matches!(member.standing, Standing::Left | Standing::Guilty)) {
        let text = "None of its machines is left.";
        return close(state, ctx, job, JobState::Failed, CloseReason::ProviderLost, text);
    }
    if row.active().next().is_none() {
        rejoin(state, ctx, job);
    }
    match state.jobs.get(&job).map(|row| row.stage) {
        Some(Stage::Reducing) => reduce::decide(state, ctx, job),
        Some(Stage::Computing) => rounds::assign(state, ctx, job),
        None => {}
    }
}

/// Lost members whose machines are there become active again.
pub(super) fn rejoin(state: &mut State, ctx: &mut Context, job: JobId) {
    let Some(row) = state.jobs.get(&job) else { return };
    let back: Vec<MachineId> = row
        .members
        .iter()
        .filter(|member| member.standing == Standing::Lost)
        .filter(|member| state.machines.get(&member.machine).is_some_and(|machine| machine.available()))
        .map(|member| member.machine)
        .collect();
    for machine in back {
        set_standing(state, job, machine, Standing::Active);
        ctx.event("job.rejoined", job, format!("Machine {machine} takes part in job {job} again."));
        ctx.owed(machine);
    }
}

/// A member's machine is there (again). It waits for the next round, unless nobody else is active.
pub(crate) fn machine_online(state: &mut State, ctx: &mut Context, job: JobId, machine: MachineId) {
    let idle = |row: &JobRow| row.member(machine).is_some() && row.active().next().is_none();
    if state.jobs.get(&job).is_some_and(idle) {
        advance(state, ctx, job);
    }
}

/// A member's machine is lost, revoked or suspended.
pub(crate) fn machine_lost(state: &mut State, ctx: &mut Context, job: JobId, machine: MachineId) {
    let for_good = state.machines.get(&machine).is_none_or(|row| row.revoked || row.suspended);
    let Some(member) = state.jobs.get(&job).and_then(|row| row.member(machine)) else { return };
    let standing = match (member.standing, for_good) {
        (Standing::Guilty | Standing::Left, _) => return,
        (Standing::Active | Standing::Lost, true) => Standing::Left,
        (Standing::Active | Standing::Lost, false) => Standing::Lost,
    };
    set_aside(state, ctx, job, machine, standing);
    advance(state, ctx, job);
}

/// A lease of a job has taken too long: a training lease's, else a replay's.
pub(crate) fn on_lease_due(state: &mut State, ctx: &mut Context, job: JobId, attempt: u32) {
    let holds = |leases: &[TrainLease]| leases.iter().any(|lease| lease.attempt == attempt && lease.granted_ms > 0);
    let Some(row) = state.jobs.get(&job) else { return };
    let late = row.members.iter().find(|member| holds(&member.leases)).map(|member| member.machine);
    match late {
        Some(machine) => failed(state, ctx, job, machine, "it did not report in time"),
        None => verdicts::on_lease_due(state, ctx, job, attempt),
    }
}

/// The reduction has taken long enough: members that have not reported are left out of it.
pub(super) fn on_reduce_due(state: &mut State, ctx: &mut Context, job: JobId) {
    let Some(row) = state.jobs.get(&job) else { return };
    let silent: Vec<MachineId> =
        row.active().filter(|member| member.vote.is_none()).map(|member| member.machine).collect();
    if let Some(row) = state.jobs.get_mut(&job) {
        row.due_ms = ctx.now_ms.saturating_add(super::REDUCE_MS_MAX);
        state.timers.insert((row.due_ms, Timer::Job(job)), ());
    }
    for machine in silent {
        failed(state, ctx, job, machine, "it did not report its reduction in time");
    }
}

/// A machine says that it cannot do a task. `attempt` 0 is a reduction or, while verifying, an opening.
pub(crate) fn task_failed(state: &mut State, ctx: &mut Context, machine: MachineId, cmd: &TaskFailed) -> Outcome {
    if cmd.detail.len() > DETAIL_BYTES_MAX {
        return Refusal::DetailTooLong.into();
    }
    let Some(row) = state.jobs.get(&cmd.job) else { return Refusal::UnknownJob.into() };
    match row.state {
        JobState::Training => {}
        JobState::Verifying => return verdicts::failed(state, ctx, machine, cmd),
        JobState::Waiting | JobState::Seeding | JobState::Challenging => return Refusal::WrongState.into(),
        JobState::Settled | JobState::Cancelled | JobState::Expired | JobState::Failed | JobState::Rejected => {
            return Refusal::JobClosed.into();
        }
    }
    let Some(member) = row.member(machine) else { return Refusal::NotAMember.into() };
    match row.stage {
        Stage::Reducing if cmd.attempt != 0 || member.standing != Standing::Active => Refusal::StaleAttempt.into(),
        Stage::Reducing => reduction_failed(state, ctx, machine, cmd),
        // The data were good enough for the first model, so whatever fails now is the machine's own affair.
        Stage::Computing if member.leases.iter().any(|lease| lease.attempt == cmd.attempt) => {
            failed(state, ctx, cmd.job, machine, &cmd.detail);
            Outcome::DONE
        }
        Stage::Computing => Refusal::StaleAttempt.into(),
    }
}

/// Bad data are a vote, so that one machine cannot end a job by a word; anything else is the machine's own failure.
fn reduction_failed(state: &mut State, ctx: &mut Context, machine: MachineId, cmd: &TaskFailed) -> Outcome {
    match cmd.reason {
        FailureReason::LostInput | FailureReason::Internal => {
            failed(state, ctx, cmd.job, machine, &cmd.detail);
            Outcome::DONE
        }
        FailureReason::BadData => {
            let Some(member) = state.jobs.get_mut(&cmd.job).and_then(|row| row.member_mut(machine)) else {
                return Refusal::NotAMember.into();
            };
            match &member.vote {
                Some(Vote::BadData(_)) => return Outcome::DONE,
                Some(Vote::Made(_)) => return Refusal::AlreadyDone.into(),
                None => member.vote = Some(Vote::BadData(cmd.detail.clone())),
            }
            ctx.owed(machine);
            leases::resume(state, ctx, machine);
            reduce::decide(state, ctx, cmd.job);
            Outcome::DONE
        }
    }
}

/// A member failed by its own fault: set aside for this round, after a few times for good.
fn failed(state: &mut State, ctx: &mut Context, job: JobId, machine: MachineId, why: &str) {
    let Some(member) = state.jobs.get_mut(&job).and_then(|row| row.member_mut(machine)) else { return };
    member.failures = member.failures.saturating_add(1);
    let standing = if member.failures >= FAILURES_MAX { Standing::Left } else { Standing::Lost };
    ctx.event("job.machine_failed", job, format!("Machine {machine} failed in job {job}: {why}."));
    set_aside(state, ctx, job, machine, standing);
    advance(state, ctx, job);
}

/// Takes a member's leases away; what it has done stays done and billed. The caller advances the job.
fn set_aside(state: &mut State, ctx: &mut Context, job: JobId, machine: MachineId, standing: Standing) {
    let Some(row) = state.jobs.get_mut(&job) else { return };
    let round = row.round;
    let Some(member) = row.member_mut(machine) else { return };
    member.standing = standing;
    let leases = std::mem::take(&mut member.leases);
    for lease in leases {
        let tasks = lease.left.len() as u32;
        rounds::count_share(state, job, round, machine, |share| share.saturating_sub(tasks));
        state.timers.remove(&(lease.deadline_ms, Timer::Lease { job, attempt: lease.attempt }));
        leases::end(state, ctx, machine, Lease::Train { job, attempt: lease.attempt });
    }
    ctx.owed(machine);
    leases::resume(state, ctx, machine);
}

fn set_standing(state: &mut State, job: JobId, machine: MachineId, standing: Standing) {
    if let Some(member) = state.jobs.get_mut(&job).and_then(|row| row.member_mut(machine)) {
        member.standing = standing;
    }
}

/// Marks whoever was proven wrong in a job: paid nothing by it, given nothing more.
pub(crate) fn mark_guilty(state: &mut State, job: JobId, machine: MachineId) {
    let Some(row) = state.jobs.get_mut(&job) else { return };
    if let Some(member) = row.member_mut(machine) {
        member.standing = Standing::Guilty;
    }
    for outsider in row.outsiders.iter_mut().filter(|outsider| outsider.machine == machine) {
        outsider.guilty = true;
    }
}

/// Marks and suspends whoever was proven wrong. Suspension takes every lease of the machine away, in all jobs.
pub(crate) fn convict(state: &mut State, ctx: &mut Context, job: JobId, machine: MachineId, why: &str) {
    mark_guilty(state, job, machine);
    machines::suspend(state, ctx, machine, why);
}
