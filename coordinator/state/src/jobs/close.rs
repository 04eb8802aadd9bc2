//! The way out: a job closes once, whatever the reason, and then holds no machine, no lease and no money.

use super::{JobState, Stage, failures};
use crate::{
    closing::CloseReason,
    context::Context,
    earning,
    ids::{JobId, MachineId},
    leases, ledger, limits, market, reliability,
    state::State,
};
use std::collections::BTreeSet;

/// Closes a job: what remains of its hold goes back, its machines go free, its leases end. Payments come before.
/// `text` is for people.
pub(crate) fn close(state: &mut State, ctx: &mut Context, job: JobId, to: JobState, reason: CloseReason, text: &str) {
    let Some(row) = state.jobs.get_mut(&job).filter(|row| !row.state.closed()) else { return };
    row.state = to;
    row.closed = Some(reason);
    row.reason = text.to_owned();
    row.closed_ms = ctx.now_ms;
    let owner = row.owner;
    for member in &mut row.members {
        member.leases.clear();
        member.vote = None;
    }
    let members: Vec<MachineId> = row.members.iter().map(|member| member.machine).collect();
    let verifiers = state.replays_of(job).filter_map(|replay| replay.verifier);
    let busy: BTreeSet<MachineId> = members.iter().copied().chain(verifiers).collect();
    reliability::job_closed(state, job);
    earning::job_closed(state, job);
    limits::closed(state, owner);
    market::end_order(state, job.into());
    ledger::refund(state, ctx, job);
    market::release_machines(state, ctx, job, &members);
    for machine in busy {
        leases::end_all(state, ctx, machine, job);
    }
    announce(ctx, job, to, text);
}

fn announce(ctx: &mut Context, job: JobId, to: JobState, text: &str) {
    let kind = match to {
        JobState::Settled => "job.settled",
        JobState::Cancelled => "job.cancelled",
        JobState::Expired => "job.expired",
        JobState::Rejected => "job.rejected",
        JobState::Failed
        | JobState::Waiting
        | JobState::Seeding
        | JobState::Training
        | JobState::Challenging
        | JobState::Verifying => "job.failed",
    };
    let why = if text.is_empty() { String::new() } else { format!(" {text}") };
    ctx.event(kind, job, format!("Job {job} is {}.{why}", to.as_str()));
}

/// A job's order waited too long and has left the book.
pub(crate) fn order_lapsed(state: &mut State, ctx: &mut Context, job: JobId) {
    let text = "No machines that fit its order were offered in time.";
    close(state, ctx, job, JobState::Expired, CloseReason::Expired, text);
}

/// Something of a job is due: its rent is over, or a stage has taken long enough. After the commit the rent no longer
/// ends a job: the work is done, and verification has its own limit.
pub(crate) fn on_due(state: &mut State, ctx: &mut Context, job: JobId) {
    let Some(row) = state.jobs.get(&job) else { return };
    let stage_over = row.due_ms <= ctx.now_ms;
    let rent_over = ctx.now_ms > row.rent_end_ms();
    match (row.state, row.stage) {
        (JobState::Seeding | JobState::Training, _) if rent_over => {
            let text = "Its rent ended before it was trained.";
            close(state, ctx, job, JobState::Expired, CloseReason::Expired, text);
        }
        (JobState::Training, Stage::Reducing) if stage_over => failures::on_reduce_due(state, ctx, job),
        (JobState::Verifying, _) if stage_over => {
            close(state, ctx, job, JobState::Failed, CloseReason::Undecided, "It was not verified in time.");
        }
        (
            JobState::Waiting
            | JobState::Seeding
            | JobState::Training
            | JobState::Challenging
            | JobState::Verifying
            | JobState::Settled
            | JobState::Cancelled
            | JobState::Expired
            | JobState::Failed
            | JobState::Rejected,
            Stage::Reducing | Stage::Computing,
        ) => {}
    }
}
