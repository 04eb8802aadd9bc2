//! The way in: submission, the match, and the owner's way out.

use super::{JobRow, JobState, Member, NAME_BYTES_MAX, Stage, Standing, close};
use crate::{
    beacon,
    closing::CloseReason,
    command::{CancelJob, SubmitTraining},
    context::Context,
    earning,
    expiry::Timer,
    ids::{AccountId, JobId},
    ledger, limits,
    market::{self, MatchedMachine},
    outcome::{Detail, Outcome, Refusal},
    power,
    state::State,
};
use matrixai_protocol::spec::TrainingSpec;

/// Copies of the model that a member holds at once: weights, outer momentum, delta and gradient.
const MODEL_COPIES: u64 = 4;
/// Bytes of a parameter.
const PARAMETER_BYTES: u64 = 4;

/// Memory that a training takes at least, bytes: its data set and the copies of its model.
pub(crate) fn memory_bytes(spec: &TrainingSpec) -> u64 {
    let model = spec.parameters().saturating_mul(PARAMETER_BYTES).saturating_mul(MODEL_COPIES);
    spec.dataset_bytes.saturating_add(model)
}

/// Submits a training: refused for its name, its specification, its terms, or lack of money, in this order.
pub(crate) fn submit_training(state: &mut State, ctx: &mut Context, owner: AccountId, cmd: &SubmitTraining) -> Outcome {
    if !(1..=NAME_BYTES_MAX).contains(&cmd.name.len()) {
        return Refusal::BadName.into();
    }
    if let Err(error) = cmd.spec.validate() {
        return Refusal::BadSpec(Detail::new(error)).into();
    }
    let memory_bytes = memory_bytes(&cmd.spec);
    let id = JobId(ctx.new_id("job"));
    // The window forgets an envelope when it expires; what it made stays, and ids follow from the envelope's.
    if state.jobs.contains(&id) {
        return Refusal::IdReused.into();
    }
    let held = limits::check_open(state, owner)
        .and_then(|()| market::check_terms(state, owner, &cmd.order, memory_bytes))
        .and_then(|()| ledger::hold_for_job(state, ctx, owner, id, cmd.order.total_limit));
    if let Err(refusal) = held {
        return refusal.into();
    }
    let row = JobRow {
        id,
        owner,
        name: cmd.name.clone(),
        spec: cmd.spec.clone(),
        order: cmd.order.clone(),
        fee_bp: state.policy.fee_bp,
        state: JobState::Waiting,
        reason: format!("It waits for {} machines that fit its order.", cmd.order.machines),
        submitted_ms: ctx.now_ms,
        matched_ms: 0,
        closed: None,
        closed_ms: 0,
        beacon: None,
        members: Vec::new(),
        outsiders: Vec::new(),
        stage: Stage::Reducing,
        round: 0,
        tasks_done: 0,
        due_ms: 0,
        attempts: 0,
        root: None,
        challenge_beacon: None,
        accepted: None,
        accuracy: None,
    };
    state.jobs.insert(id, row);
    limits::opened(state, owner);
    state.job_order.insert((ctx.index, id), ());
    ctx.event("job.submitted", id, format!("Account {owner} submitted job {id}, {:?}.", cmd.name));
    market::place_for_job(state, ctx, id, owner, cmd.order.clone(), memory_bytes);
    Outcome::made(id)
}

/// The market found all machines of a job. Their rows' `job` is set, the hold is lowered to the agreement's price.
pub(crate) fn matched(state: &mut State, ctx: &mut Context, job: JobId, mut machines: Vec<MatchedMachine>) {
    machines.sort_unstable_by_key(|matched| matched.machine);
    let members = machines.iter().filter_map(|matched| member(state, matched)).collect();
    let Some(row) = state.jobs.get_mut(&job) else { return };
    row.state = JobState::Seeding;
    row.reason = String::new();
    row.matched_ms = ctx.now_ms;
    row.members = members;
    // Expired means *after* the end.
    let due_ms = row.rent_end_ms().saturating_add(1);
    state.timers.insert((due_ms, Timer::Job(job)), ());
    earning::job_matched(state, job);
    let seeded = state.beacon.after_now();
    beacon::wait_for(state, job, seeded);
}

fn member(state: &State, matched: &MatchedMachine) -> Option<Member> {
    let row = state.machines.get(&matched.machine)?;
    Some(Member {
        machine: matched.machine,
        owner: matched.owner,
        key: row.key,
        offer: matched.offer,
        price_per_hour: matched.price_per_hour,
        speed_matched: power::fgemm(state, matched.machine),
        standing: Standing::Active,
        failures: 0,
        tasks: 0,
        cpu_us: 0,
        trained_ms: 0,
        unpaid_ms: 0,
        verified_ms: 0,
        paid_training: Default::default(),
        paid_verification: Default::default(),
        leases: Vec::new(),
        vote: None,
    })
}

/// The owner ends a job. Nothing is verified before its end, so nothing is paid; once the whole model is committed the
/// owner can no longer take it for nothing.
pub(crate) fn cancel_job(state: &mut State, ctx: &mut Context, owner: AccountId, cmd: &CancelJob) -> Outcome {
    let Some(row) = state.jobs.get(&cmd.job) else { return Refusal::UnknownJob.into() };
    if row.owner != owner {
        return Refusal::NotYourJob.into();
    }
    match row.state {
        // All deltas of the last round are stored: whoever has them has the whole model.
        JobState::Training if row.stage == Stage::Reducing && row.round >= row.spec.rounds => {
            Refusal::WrongState.into()
        }
        JobState::Waiting | JobState::Seeding | JobState::Training => {
            close(state, ctx, cmd.job, JobState::Cancelled, CloseReason::Buyer, "Its owner cancelled it.");
            Outcome::DONE
        }
        JobState::Challenging | JobState::Verifying => Refusal::WrongState.into(),
        JobState::Cancelled => Outcome::DONE,
        JobState::Settled | JobState::Expired | JobState::Failed | JobState::Rejected => Refusal::JobClosed.into(),
    }
}
