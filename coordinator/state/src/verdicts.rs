//! Verdicts on trainings (PROTOCOLS §2.4): the chain is committed, the beacon draws segments after that, machines of other
//! owners replay them bit for bit and post their own roots before they can see the claimed ones, and all must be equal.
//!
//! A replay that differs from the claim is looked at once more by a third owner's machine: the odd one out is guilty, be
//! it prover or verifier. Where there is no third, the proof does not hold, but nobody is suspended on one word alone.

mod draw;
mod settle;

pub(crate) use draw::{assign, granted, verifier_gone};

use crate::{
    beacon,
    closing::CloseReason,
    command::{SegmentReplayed, TaskFailed, TraceOpened},
    context::Context,
    expiry::Timer,
    ids::{Hash, JobId, MachineId},
    jobs::{self, Accuracy, JobRow, JobState},
    leases,
    machines::Lease,
    money::Money,
    outcome::{Outcome, Refusal},
    state::State,
};
use matrixai_protocol::training::{challenge as rho_of, challenged, merkle_root, seal};
use serde::{Deserialize, Serialize};

/// A prover must open a segment within this after its verifier posted, ms.
pub const OPEN_MS_MAX: u64 = 20_000;
/// A job must be verified within this after the challenge was drawn, ms.
pub const VERIFY_MS_MAX: u64 = 600_000;

/// How far the replay of a segment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplayState {
    /// For a verifier, or for its report.
    Waiting,
    /// The delta is equal; the prover is to open its seal.
    Replayed,
    /// Delta and trace are equal.
    Equal,
    /// They are not.
    Unequal,
    /// The delta is equal, and the prover did not open in time: its lease is not paid.
    Unopened,
}

impl ReplayState {
    /// The wire's state.
    pub const fn as_str(self) -> &'static str {
        match self {
            ReplayState::Waiting => "waiting",
            ReplayState::Replayed => "replayed",
            ReplayState::Equal => "equal",
            ReplayState::Unequal => "unequal",
            ReplayState::Unopened => "unopened",
        }
    }
}

/// What a verifier found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Root of its own step trace.
    pub trace_root: Hash,
    /// SHA-256 of its own delta.
    pub delta: Hash,
    /// What it counted on the validation rows.
    pub accuracy: Accuracy,
}

/// A challenged segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayRow {
    /// round * virtual workers + virtual worker.
    pub segment: u64,
    /// The round, from 0.
    pub round: u32,
    /// The virtual worker.
    pub virtual_worker: u32,
    /// Who computed it.
    pub prover: MachineId,
    /// Who replays it; none until one is drawn.
    pub verifier: Option<MachineId>,
    /// What the verifier is paid, minor units per hour.
    pub price_per_hour: Money,
    /// The lease's fencing number; 0 before the first.
    pub attempt: u32,
    /// How far it is.
    pub state: ReplayState,
    /// Ledger time of the lease's grant, ms; 0 before.
    pub granted_ms: u64,
    /// Ledger time of the lease's deadline, then of the opening's, ms.
    pub due_ms: u64,
    /// What the verifier found.
    pub report: Option<Report>,
    /// The claimed trace root, once its seal is open.
    pub opened: Option<Hash>,
    /// An earlier verifier that found something else than the claim.
    pub dissenter: Option<MachineId>,
}

/// The last model is there: commits the chain. The challenge waits for R after this.
pub(crate) fn commit(state: &mut State, ctx: &mut Context, job: JobId) {
    let leaves: Vec<Hash> = state.rounds_of(job).map(|figure| figure.leaf).collect();
    let root = merkle_root(&leaves);
    let Some(row) = state.jobs.get_mut(&job) else { return };
    row.state = JobState::Challenging;
    row.root = Some(root);
    for member in &mut row.members {
        member.vote = None;
        ctx.owed(member.machine);
    }
    ctx.event(
        "job.committed",
        job,
        format!("Job {job} is trained; its chain of {} models is committed.", leaves.len()),
    );
    let due = state.beacon.after_now();
    beacon::wait_for(state, job, due);
}

/// R after the commit is here: draws what is to be replayed, and by whom.
pub(crate) fn challenge(state: &mut State, ctx: &mut Context, job: JobId) {
    let r = state.beacon.r;
    let Some(row) = state.jobs.get_mut(&job) else { return };
    row.state = JobState::Verifying;
    row.challenge_beacon = Some(r);
    row.due_ms = ctx.now_ms.saturating_add(VERIFY_MS_MAX);
    state.timers.insert((row.due_ms, Timer::Job(job)), ());
    let (workers, spot_checks) = (u64::from(row.spec.virtual_workers), row.spec.spot_checks);
    let segments = row.spec.segments();
    let Some(rho) = rho(state, job) else { return };
    let drawn = challenged(&rho, segments, spot_checks);
    for segment in &drawn {
        let round = segment.checked_div(workers).and_then(|round| u32::try_from(round).ok()).unwrap_or(u32::MAX);
        let worker = segment.checked_rem(workers).and_then(|worker| u32::try_from(worker).ok()).unwrap_or(u32::MAX);
        let prover = state.tasks.get(&(job, round, worker)).map(|task| task.machine);
        let row = ReplayRow {
            segment: *segment,
            round,
            virtual_worker: worker,
            prover: prover.expect("a committed chain has every task"),
            verifier: None,
            price_per_hour: Money::ZERO,
            attempt: 0,
            state: ReplayState::Waiting,
            granted_ms: 0,
            due_ms: 0,
            report: None,
            opened: None,
            dissenter: None,
        };
        state.replays.insert((job, *segment), row);
    }
    ctx.event("job.challenged", job, format!("{} of {segments} segments of job {job} are replayed.", drawn.len()));
    assign(state, ctx, job);
}

/// What the challenge and the verifiers are drawn from; none before R after the commit.
fn rho(state: &State, job: JobId) -> Option<Hash> {
    let row = state.jobs.get(&job)?;
    Some(rho_of(&state.cluster_id, &job.0, &row.root?, &row.challenge_beacon?))
}

/// A verifier's own replay of a segment: ends its lease.
pub(crate) fn segment_replayed(
    state: &mut State,
    ctx: &mut Context,
    machine: MachineId,
    cmd: &SegmentReplayed,
) -> Outcome {
    let Some(row) = state.jobs.get(&cmd.job) else { return Refusal::UnknownJob.into() };
    let Some(replay) = state.replays.get_mut(&(cmd.job, cmd.segment)) else { return Refusal::UnknownSegment.into() };
    let total = cmd.validation_total;
    if total == 0 || cmd.first_correct > total || cmd.last_correct > total {
        return Refusal::BadFigures.into();
    }
    let accuracy = Accuracy { first_correct: cmd.first_correct, last_correct: cmd.last_correct, total };
    let report = Report { trace_root: cmd.trace_root, delta: cmd.delta, accuracy };
    let mine = replay.verifier == Some(machine) && replay.attempt == cmd.attempt;
    if mine && replay.report == Some(report) {
        return Outcome::DONE;
    }
    if let Err(refusal) = verifying(row) {
        return refusal.into();
    }
    if !mine {
        return Refusal::StaleAttempt.into();
    }
    if replay.state != ReplayState::Waiting {
        return Refusal::AlreadyDone.into();
    }
    if replay.granted_ms == 0 {
        return Refusal::NotGranted.into();
    }
    replay.report = Some(report);
    let (billed_ms, price, due_ms) =
        (ctx.now_ms.saturating_sub(replay.granted_ms), replay.price_per_hour, replay.due_ms);
    state.timers.remove(&(due_ms, Timer::Lease { job: cmd.job, attempt: cmd.attempt }));
    settle::bill(state, cmd.job, machine, price, billed_ms, cmd.cpu_us);
    leases::end(state, ctx, machine, replay_lease(cmd.job, cmd.segment, cmd.attempt));
    compare(state, ctx, cmd.job, cmd.segment);
    Outcome::DONE
}

/// A prover opens its seal on a segment.
pub(crate) fn trace_opened(state: &mut State, ctx: &mut Context, machine: MachineId, cmd: &TraceOpened) -> Outcome {
    let Some(row) = state.jobs.get(&cmd.job) else { return Refusal::UnknownJob.into() };
    let Some(replay) = state.replays.get_mut(&(cmd.job, cmd.segment)) else { return Refusal::UnknownSegment.into() };
    if replay.prover != machine {
        return Refusal::NotAMember.into();
    }
    match replay.opened {
        None => {}
        Some(opened) if opened == cmd.trace_root => return Outcome::DONE,
        Some(_) => return Refusal::AlreadyDone.into(),
    }
    if let Err(refusal) = verifying(row) {
        return refusal.into();
    }
    if replay.state != ReplayState::Replayed {
        return Refusal::WrongState.into();
    }
    let (round, worker) = (replay.round, replay.virtual_worker);
    let key = row.member(machine).map(|member| member.key);
    let sealed = state.tasks.get(&(cmd.job, round, worker)).map(|task| task.seal);
    let opened = key.map(|key| seal(&cmd.job.0, round, worker, &key, &cmd.trace_root, &cmd.salt));
    if opened.is_none() || opened != sealed {
        return Refusal::WrongSeal.into();
    }
    replay.opened = Some(cmd.trace_root);
    let due_ms = replay.due_ms;
    state.timers.remove(&(due_ms, Timer::Open { job: cmd.job, segment: cmd.segment }));
    ctx.owed(machine);
    compare(state, ctx, cmd.job, cmd.segment);
    Outcome::DONE
}

/// A prover has not opened in time. The delta was equal, so the job goes on; the lease is not paid.
pub(crate) fn on_open_due(state: &mut State, ctx: &mut Context, job: JobId, segment: u64) {
    if state.jobs.get(&job).is_none_or(|row| row.state != JobState::Verifying) {
        return;
    }
    let Some(replay) = state.replays.get_mut(&(job, segment)) else { return };
    if replay.state != ReplayState::Replayed {
        return;
    }
    replay.state = ReplayState::Unopened;
    let prover = replay.prover;
    ctx.owed(prover);
    ctx.event("job.unopened", job, format!("Machine {prover} did not open segment {segment} of job {job}."));
    settle::conclude(state, ctx, job);
}

/// A replay's lease has taken too long.
pub(crate) fn on_lease_due(state: &mut State, ctx: &mut Context, job: JobId, attempt: u32) {
    let late = state.replays_of(job).find(|replay| replay.attempt == attempt).map(|replay| replay.segment);
    if let Some(segment) = late {
        verifier_gone(state, ctx, job, segment, attempt);
    }
}

/// A machine cannot do a task of a job that is being verified: a replay, or with attempt 0 its openings.
pub(crate) fn failed(state: &mut State, ctx: &mut Context, machine: MachineId, cmd: &TaskFailed) -> Outcome {
    let mine = |replay: &&ReplayRow| match cmd.attempt {
        0 => replay.prover == machine && replay.state == ReplayState::Replayed,
        attempt => {
            replay.verifier == Some(machine) && replay.attempt == attempt && replay.state == ReplayState::Waiting
        }
    };
    let segments: Vec<u64> = state.replays_of(cmd.job).filter(mine).map(|replay| replay.segment).collect();
    if segments.is_empty() {
        return Refusal::StaleAttempt.into();
    }
    for segment in segments {
        match cmd.attempt {
            0 => on_open_due(state, ctx, cmd.job, segment),
            attempt => verifier_gone(state, ctx, cmd.job, segment, attempt),
        }
    }
    Outcome::DONE
}

/// Compares what a verifier found with the claim, as far as it is open.
fn compare(state: &mut State, ctx: &mut Context, job: JobId, segment: u64) {
    let Some(replay) = state.replays.get_mut(&(job, segment)) else { return };
    let Some(report) = replay.report else { return };
    let claimed = state.tasks.get(&(job, replay.round, replay.virtual_worker)).map(|task| task.delta);
    if claimed != Some(report.delta) || replay.opened.is_some_and(|opened| opened != report.trace_root) {
        return dispute(state, ctx, job, segment);
    }
    let prover = replay.prover;
    if replay.opened.is_none() {
        replay.state = ReplayState::Replayed;
        replay.due_ms = ctx.now_ms.saturating_add(OPEN_MS_MAX);
        state.timers.insert((replay.due_ms, Timer::Open { job, segment }), ());
        return ctx.owed(prover);
    }
    replay.state = ReplayState::Equal;
    let dissenter = replay.dissenter;
    ctx.event("job.segment_equal", job, format!("Segment {segment} of job {job} was replayed: equal bits."));
    if let Some(machine) = dissenter {
        jobs::convict(state, ctx, job, machine, "its replay of a segment differs from the prover's and another's");
    }
    settle::conclude(state, ctx, job);
}

/// A replay differs from the claim: another owner's machine looks, unless one has already.
fn dispute(state: &mut State, ctx: &mut Context, job: JobId, segment: u64) {
    let Some(replay) = state.replays.get_mut(&(job, segment)) else { return };
    if replay.dissenter.is_some() {
        return reject(state, ctx, job, segment);
    }
    replay.state = ReplayState::Waiting;
    replay.dissenter = replay.verifier.take();
    ctx.event("job.disputed", job, format!("A replay of segment {segment} of job {job} differs; another one decides."));
    assign(state, ctx, job);
}

/// Two owners' replays differ from the claim: nobody is paid, the prover is suspended.
fn reject(state: &mut State, ctx: &mut Context, job: JobId, segment: u64) {
    let Some(prover) = state.replays.get(&(job, segment)).map(|replay| replay.prover) else { return };
    jobs::mark_guilty(state, job, prover);
    let why = format!("Segment {segment} of its proof, by machine {prover}, is not what a replay gives.");
    reject_as(state, ctx, job, segment, CloseReason::ProofRejected, &why);
    jobs::convict(state, ctx, job, prover, "its segment of a training is not what a replay gives");
}

/// One replay differs from the claim and nobody else can look: the proof does not hold, whoever is wrong.
fn reject_undecided(state: &mut State, ctx: &mut Context, job: JobId, segment: u64) {
    let why =
        format!("A replay of segment {segment} differs from its proof, and no third machine can tell who is wrong.");
    reject_as(state, ctx, job, segment, CloseReason::Undecided, &why);
}

fn reject_as(state: &mut State, ctx: &mut Context, job: JobId, segment: u64, reason: CloseReason, text: &str) {
    if let Some(replay) = state.replays.get_mut(&(job, segment)) {
        replay.state = ReplayState::Unequal;
    }
    if let Some(row) = state.jobs.get_mut(&job) {
        row.accepted = Some(false);
    }
    jobs::close(state, ctx, job, JobState::Rejected, reason, text);
}

fn verifying(row: &JobRow) -> Result<(), Refusal> {
    match row.state {
        JobState::Verifying => Ok(()),
        JobState::Waiting | JobState::Seeding | JobState::Training | JobState::Challenging => Err(Refusal::WrongState),
        JobState::Settled | JobState::Cancelled | JobState::Expired | JobState::Failed | JobState::Rejected => {
            Err(Refusal::JobClosed)
        }
    }
}

const fn replay_lease(job: JobId, segment: u64, attempt: u32) -> Lease {
    Lease::Replay { job, segment, attempt }
}
