//! Jobs: trainings from submission to settlement (PROTOCOLS §2.2, §2.4, §5.2).
//!
//! ```text
//! waiting ─ machines matched → seeding ─ R after the match → training ─ last round → challenging
//!    ─ R after the commit → verifying ─ every challenged segment equal → settled
//! ```
//! and from anywhere to cancelled, expired, failed or rejected, which pay nobody and refund everything.
//!
//! A training alternates: its members all *reduce* a round's deltas to the next model and report its hash, then *compute*
//! the next round's virtual workers, each under a lease. Rounds, tasks and replays are rows of their own tables, so that
//! a report copies little.

mod close;
mod failures;
mod reduce;
mod rounds;
mod submit;
mod views;

pub(crate) use close::{close, on_due, order_lapsed};
pub(crate) use failures::{convict, machine_lost, machine_online, mark_guilty, on_lease_due, task_failed};
pub(crate) use reduce::{owes_reduction, round_reduced};
pub(crate) use rounds::{granted, task_done};
pub(crate) use submit::{cancel_job, matched, memory_bytes, submit_training};
pub(crate) use views::check;

pub(crate) use crate::verdicts::{on_open_due, segment_replayed, trace_opened};

use crate::{
    closing::CloseReason,
    context::Context,
    ids::{AccountId, Hash, JobId, Key, MachineId, OfferId},
    market::OrderTerms,
    money::Money,
    state::State,
    verdicts,
};
use matrixai_protocol::spec::TrainingSpec;
use serde::{Deserialize, Serialize};

/// Bytes of a job's name.
pub const NAME_BYTES_MAX: usize = 64;
/// Bytes of a failure's detail.
pub const DETAIL_BYTES_MAX: usize = 256;
/// Members must have reported a reduction within this, ms.
pub const REDUCE_MS_MAX: u64 = 120_000;
/// Failures of its own after which a member gets no more work.
pub const FAILURES_MAX: u32 = 3;

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    /// For machines.
    Waiting,
    /// For R after the match.
    Seeding,
    /// Members compute.
    Training,
    /// For R after the commit.
    Challenging,
    /// Verifiers replay.
    Verifying,
    /// Verified and paid.
    Settled,
    /// Ended by its owner.
    Cancelled,
    /// Not matched, or not trained, in time.
    Expired,
    /// Could not be done.
    Failed,
    /// A result was proven wrong.
    Rejected,
}

impl JobState {
    /// The wire's state.
    pub const fn as_str(self) -> &'static str {
        match self {
            JobState::Waiting => "waiting",
            JobState::Seeding => "seeding",
            JobState::Training => "training",
            JobState::Challenging => "challenging",
            JobState::Verifying => "verifying",
            JobState::Settled => "settled",
            JobState::Cancelled => "cancelled",
            JobState::Expired => "expired",
            JobState::Failed => "failed",
            JobState::Rejected => "rejected",
        }
    }

    /// Whether nothing can happen to it any more.
    pub const fn closed(self) -> bool {
        match self {
            JobState::Waiting
            | JobState::Seeding
            | JobState::Training
            | JobState::Challenging
            | JobState::Verifying => false,
            JobState::Settled | JobState::Cancelled | JobState::Expired | JobState::Failed | JobState::Rejected => true,
        }
    }
}

/// What a training's members do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Make the model that has `round` rounds behind it.
    Reducing,
    /// Compute the virtual workers of round `round`, counted from 0.
    Computing,
}

/// A member's standing in its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// There, and given work. Its machine is available.
    Active,
    /// Was lost or failed; takes part again from the next round on, if its machine is there.
    Lost,
    /// Gets no more work: it failed too often, or its machine was revoked or suspended for something else.
    Left,
    /// Proven to have reported something wrong: paid nothing.
    Guilty,
}

impl Standing {
    /// The wire's standing.
    pub const fn as_str(self) -> &'static str {
        match self {
            Standing::Active => "active",
            Standing::Lost => "lost",
            Standing::Left => "left",
            Standing::Guilty => "guilty",
        }
    }
}

/// Virtual workers of one round that one machine is to compute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainLease {
    /// Fencing number, unique in the job.
    pub attempt: u32,
    /// Those not yet done, ascending.
    pub left: Vec<u32>,
    /// Ledger time of the grant and of the deadline, ms; 0 while it waits for the machine's slot.
    pub granted_ms: u64,
    /// See `granted_ms`.
    pub deadline_ms: u64,
    /// Ledger time of its last report, ms: billed up to here.
    pub billed_to_ms: u64,
}

/// What a member reported of a reduction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Vote {
    /// The model it made.
    Made(Made),
    /// It cannot be made: the data are wrong.
    BadData(String),
}

/// A reduced model: what members must agree on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// SHA-256 of the weights artifact.
    pub weights: Hash,
    /// SHA-256 of the outer momentum artifact.
    pub momentum: Hash,
    /// Right answers on the watch rows, and how many there are.
    pub watch_correct: u32,
    /// See `watch_correct`.
    pub watch_total: u32,
}

/// A machine of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Which machine.
    pub machine: MachineId,
    /// The account that is paid.
    pub owner: AccountId,
    /// The machine's key.
    pub key: Key,
    /// The offer it was rented under.
    pub offer: OfferId,
    /// Minor units per hour.
    pub price_per_hour: Money,
    /// Its `fgemm` speed at the match, operations per second.
    pub speed_matched: u64,
    /// Its standing.
    pub standing: Standing,
    /// Failures of its own in this job.
    pub failures: u32,
    /// Tasks it did.
    pub tasks: u32,
    /// CPU time of its tasks and reductions, microseconds (claimed).
    pub cpu_us: u64,
    /// Lease time of its tasks, ms.
    pub trained_ms: u64,
    /// Of that, what is not paid because the lease's seal stayed shut.
    pub unpaid_ms: u64,
    /// Lease time of its replays, ms.
    pub verified_ms: u64,
    /// Paid for training and for verification; nothing before the settlement.
    pub paid_training: Money,
    /// See `paid_training`.
    pub paid_verification: Money,
    /// Its leases of the open round.
    pub leases: Vec<TrainLease>,
    /// What it reported of the open reduction.
    pub vote: Option<Vote>,
}

impl Member {
    /// Lease time that is paid, ms: training and verification.
    pub fn billed_ms(&self) -> u64 {
        self.trained_ms.saturating_sub(self.unpaid_ms).saturating_add(self.verified_ms)
    }

    /// Everything it was paid.
    pub fn paid(&self) -> Money {
        self.paid_training.checked_add(self.paid_verification).unwrap_or(Money::MAX)
    }
}

/// A machine that verifies for a job without being a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outsider {
    /// Which machine.
    pub machine: MachineId,
    /// The account that is paid.
    pub owner: AccountId,
    /// Price of its offer when it was drawn, minor units per hour.
    pub price_per_hour: Money,
    /// CPU time of its replays, microseconds (claimed).
    pub cpu_us: u64,
    /// Lease time of its replays, ms.
    pub verified_ms: u64,
    /// Proven to have reported something wrong: paid nothing.
    pub guilty: bool,
    /// Paid; nothing before the settlement.
    pub paid: Money,
}

/// Right answers on the validation rows, as verifiers counted them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Of the first model.
    pub first_correct: u32,
    /// Of the last model.
    pub last_correct: u32,
    /// How many rows there are.
    pub total: u32,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRow {
    /// Its id.
    pub id: JobId,
    /// Who pays.
    pub owner: AccountId,
    /// For people.
    pub name: String,
    /// What is trained.
    pub spec: TrainingSpec,
    /// What may be rented for it.
    pub order: OrderTerms,
    /// The fee on what it pays, basis points, as it was when the job was submitted.
    pub fee_bp: u32,
    /// How far it is.
    pub state: JobState,
    /// Why it closed; none while it is open.
    pub closed: Option<CloseReason>,
    /// One sentence about it, while it waits or when it closed without settling; else empty.
    pub reason: String,
    /// Ledger times of submission, match and close, ms; 0 before.
    pub submitted_ms: u64,
    /// See `submitted_ms`.
    pub matched_ms: u64,
    /// See `submitted_ms`.
    pub closed_ms: u64,
    /// R after the match: everything random in the training follows from it.
    pub beacon: Option<Hash>,
    /// In order of machine id; empty before the match.
    pub members: Vec<Member>,
    /// Verifiers from outside, in order of first replay.
    pub outsiders: Vec<Outsider>,
    /// What members do, in state training.
    pub stage: Stage,
    /// See [`Stage`].
    pub round: u32,
    /// Tasks done in the open round.
    pub tasks_done: u32,
    /// Ledger time by which the open stage or the verification must be over, ms.
    pub due_ms: u64,
    /// Fencing numbers given out.
    pub attempts: u32,
    /// Root over the chain's leaves; none before the last round.
    pub root: Option<Hash>,
    /// R after the commit: drew the challenge.
    pub challenge_beacon: Option<Hash>,
    /// Whether the proof held; none before the verdict.
    pub accepted: Option<bool>,
    /// What verifiers counted; none before the verdict.
    pub accuracy: Option<Accuracy>,
}

impl JobRow {
    /// Rounds closed so far.
    pub fn rounds_done(&self) -> u32 {
        match (self.beacon, self.stage) {
            (None, _) => 0,
            (Some(_), Stage::Reducing) if self.root.is_none() => self.round.saturating_sub(1),
            (Some(_), Stage::Reducing | Stage::Computing) => self.round,
        }
    }

    /// Ledger time at which the rent is over, ms.
    pub fn rent_end_ms(&self) -> u64 {
        self.matched_ms.saturating_add(self.order.duration_s.saturating_mul(1_000))
    }

    pub(crate) fn member_mut(&mut self, machine: MachineId) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.machine == machine)
    }

    pub(crate) fn member(&self, machine: MachineId) -> Option<&Member> {
        self.members.iter().find(|member| member.machine == machine)
    }

    /// The members that are given work now.
    pub(crate) fn active(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.standing == Standing::Active)
    }

    /// The next fencing number, from 1.
    pub(crate) fn next_attempt(&mut self) -> u32 {
        self.attempts = self.attempts.saturating_add(1);
        self.attempts
    }
}

/// One member's part of a round's split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundShare {
    /// Virtual workers it was given; at the round's close, those it did.
    pub tasks: u32,
    /// `fgemm` speed that the split used, operations per second; 0 for a member that took no part.
    pub speed: u64,
}

/// A model of the chain, and the split of the round that began from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundRow {
    /// Rounds behind the model; 0 is the initial one.
    pub round: u32,
    /// What the members agreed on.
    pub made: Made,
    /// Ledger time at which they did, ms.
    pub closed_ms: u64,
    /// Its leaf of the chain.
    pub leaf: Hash,
    /// How the round of this number (which begins from this model) was split, in the job's order of members; empty for
    /// the last model.
    pub shares: Vec<RoundShare>,
}

/// A computed virtual worker's round: one segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRow {
    /// Who computed it.
    pub machine: MachineId,
    /// The lease's fencing number.
    pub attempt: u32,
    /// SHA-256 of the delta artifact.
    pub delta: Hash,
    /// Seal on its step trace.
    pub seal: Hash,
    /// CPU time, microseconds (claimed).
    pub cpu_us: u64,
    /// Lease time billed for it, ms.
    pub billed_ms: u64,
}

/// R that a job waited for is here.
pub(crate) fn on_beat(state: &mut State, ctx: &mut Context, job: JobId) {
    let Some(row) = state.jobs.get(&job) else { return };
    match row.state {
        JobState::Seeding => rounds::seed(state, ctx, job),
        JobState::Challenging => verdicts::challenge(state, ctx, job),
        JobState::Verifying => verdicts::assign(state, ctx, job),
        JobState::Waiting
        | JobState::Training
        | JobState::Settled
        | JobState::Cancelled
        | JobState::Expired
        | JobState::Failed
        | JobState::Rejected => {}
    }
}
