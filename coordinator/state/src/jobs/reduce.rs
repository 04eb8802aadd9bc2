//! Reductions: every member makes the next model from the same deltas and reports its hash. They must agree, so that
//! nobody aggregates unchecked for others.

use super::{JobRow, JobState, Made, REDUCE_MS_MAX, RoundRow, Stage, Standing, Vote, close, failures, rounds};
use crate::{
    closing::CloseReason,
    command::RoundReduced,
    context::Context,
    expiry::Timer,
    ids::{Hash, JobId, Key, MachineId},
    leases,
    machines::MachineRow,
    outcome::{Outcome, Refusal},
    state::State,
    verdicts,
};
use matrixai_protocol::training::{leaf, optstate_hash};

/// What precedes the first leaf.
const NO_LEAF: Hash = [0; 32];

/// Asks the members for the model with `round` rounds behind it.
pub(super) fn open(state: &mut State, ctx: &mut Context, job: JobId, round: u32) {
    let Some(row) = state.jobs.get_mut(&job) else { return };
    (row.stage, row.round, row.tasks_done) = (Stage::Reducing, round, 0);
    row.due_ms = ctx.now_ms.saturating_add(REDUCE_MS_MAX);
    for member in &mut row.members {
        member.vote = None;
        ctx.owed(member.machine);
    }
    state.timers.insert((row.due_ms, Timer::Job(job)), ());
    failures::advance(state, ctx, job);
}

/// A member's model. The job goes on when all active members have reported.
pub(crate) fn round_reduced(state: &mut State, ctx: &mut Context, machine: MachineId, cmd: &RoundReduced) -> Outcome {
    let Some(row) = state.jobs.get_mut(&cmd.job) else { return Refusal::UnknownJob.into() };
    if row.member(machine).is_none() {
        return Refusal::NotAMember.into();
    }
    if cmd.watch_correct > cmd.watch_total {
        return Refusal::BadFigures.into();
    }
    let made = Made {
        weights: cmd.weights,
        momentum: cmd.momentum,
        watch_correct: cmd.watch_correct,
        watch_total: cmd.watch_total,
    };
    if state.rounds.get(&(cmd.job, cmd.round)).is_some_and(|figure| figure.made == made) {
        return Outcome::DONE;
    }
    if row.state.closed() {
        return Refusal::JobClosed.into();
    }
    if row.state != JobState::Training {
        return Refusal::WrongState.into();
    }
    if row.stage != Stage::Reducing || row.round != cmd.round {
        return Refusal::WrongRound.into();
    }
    let Some(member) = row.member_mut(machine).filter(|member| member.standing == Standing::Active) else {
        return Refusal::StaleAttempt.into();
    };
    match &member.vote {
        None => {}
        Some(Vote::Made(before)) if *before == made => return Outcome::DONE,
        Some(Vote::Made(_) | Vote::BadData(_)) => return Refusal::AlreadyDone.into(),
    }
    member.vote = Some(Vote::Made(made));
    member.cpu_us = member.cpu_us.saturating_add(cmd.cpu_us);
    ctx.owed(machine);
    leases::resume(state, ctx, machine);
    decide(state, ctx, cmd.job);
    Outcome::DONE
}

/// Whether a machine is asked for a reduction that it has not reported.
pub(crate) fn owes_reduction(state: &State, machine: &MachineRow) -> bool {
    machine.job.and_then(|job| state.jobs.get(&job)).is_some_and(|row| {
        row.state == JobState::Training
            && row.stage == Stage::Reducing
            && row.active().any(|member| member.machine == machine.id && member.vote.is_none())
    })
}

/// Closes the reduction when the active members' reports allow it: unanimous or by strict majority, whose opponents are
/// guilty; bad data as soon as a strict majority says so.
pub(super) fn decide(state: &mut State, ctx: &mut Context, job: JobId) {
    let Some(row) = state.jobs.get(&job) else { return };
    let members = row.active().count();
    let is_majority = |votes: usize| votes.saturating_mul(2) > members;
    let complaints: Vec<&String> = row.active().filter_map(|member| complaint(&member.vote)).collect();
    if let Some(detail) = complaints.first().filter(|_| is_majority(complaints.len())) {
        let text = format!("Its members found the data wrong: {detail}");
        return close(state, ctx, job, JobState::Failed, CloseReason::BadInput, &text);
    }
    if members == 0 || row.active().any(|member| member.vote.is_none()) {
        return;
    }
    let votes_for = |made: &Made| row.active().filter(|member| agrees(&member.vote, made)).count();
    let winner = row.active().filter_map(|member| model(&member.vote)).find(|made| is_majority(votes_for(made)));
    let Some(made) = winner.cloned() else {
        let text = "Its members disagree on the model and none has a majority.";
        return close(state, ctx, job, JobState::Failed, CloseReason::Undecided, text);
    };
    let dissenters: Vec<MachineId> =
        row.active().filter(|member| !agrees(&member.vote, &made)).map(|member| member.machine).collect();
    for machine in &dissenters {
        failures::mark_guilty(state, job, *machine);
    }
    close_round(state, ctx, job, made);
    for machine in dissenters {
        failures::convict(state, ctx, job, machine, "its reduction of a round differs from the majority's");
    }
}

fn complaint(vote: &Option<Vote>) -> Option<&String> {
    match vote {
        Some(Vote::BadData(detail)) => Some(detail),
        Some(Vote::Made(_)) | None => None,
    }
}

fn model(vote: &Option<Vote>) -> Option<&Made> {
    match vote {
        Some(Vote::Made(made)) => Some(made),
        Some(Vote::BadData(_)) | None => None,
    }
}

fn agrees(vote: &Option<Vote>, made: &Made) -> bool {
    model(vote) == Some(made)
}

/// Appends a model to the chain; then the next round, or after the last one the commit.
fn close_round(state: &mut State, ctx: &mut Context, job: JobId, made: Made) {
    let Some(row) = state.jobs.get(&job) else { return };
    let (round, rounds, job_row) = (row.round, row.spec.rounds, row);
    let leaf = leaf_of(state, job_row, &made);
    let text = format!(
        "Job {job} has {round} of {rounds} rounds behind it: {} of {} watch rows are right.",
        made.watch_correct, made.watch_total
    );
    let figure = RoundRow { round, made, closed_ms: ctx.now_ms, leaf, shares: Vec::new() };
    state.rounds.insert((job, round), figure);
    ctx.event("job.round", job, text);
    if round >= rounds {
        verdicts::commit(state, ctx, job);
    } else {
        rounds::open(state, ctx, job, round);
    }
}

/// The leaf of the open reduction's model (PROTOCOLS §2.4): binds the deltas it was made from, and who computed them.
fn leaf_of(state: &State, row: &JobRow, made: &Made) -> Hash {
    let before = row.round.checked_sub(1);
    let mut deltas: Vec<Hash> = Vec::new();
    let mut keys: Vec<Key> = Vec::new();
    for (_, task) in before.into_iter().flat_map(|round| state.tasks_of(row.id, round)) {
        deltas.push(task.delta);
        keys.push(row.member(task.machine).map_or([0; 32], |member| member.key));
    }
    let previous = before.and_then(|round| state.rounds.get(&(row.id, round))).map_or(NO_LEAF, |figure| figure.leaf);
    let step = u64::from(row.round).saturating_mul(row.spec.steps_per_round.into());
    leaf(row.round.into(), step, &made.weights, &optstate_hash(&made.momentum, &deltas, &keys), &previous)
}
