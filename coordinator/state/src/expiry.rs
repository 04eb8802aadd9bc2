//! Time-driven work: what is due at a ledger time, done before the entry's commands, a bounded number an entry.
//!
//! Whatever is due but not reached keeps its place and is done first in the next entry. A timer is a hint: its handler
//! looks whether it still means something, so a timer that was not removed in time does no harm.

use crate::{
    admin, agreements,
    context::Context,
    drilling,
    ids::{AgreementId, JobId, MachineId, OfferId, OrderId, ProposalId, UnitId},
    jobs,
    ledger::two_phase,
    limits, market,
    state::State,
};
use serde::{Deserialize, Serialize};

/// Work that timers may be in one entry, by [`Timer::cost`]. Anyone may have thousands of offers lapse at once: they must
/// not keep leases and reveals waiting for minutes.
const WORK_PER_ENTRY_MAX: u32 = 8_192;

/// What can be due. Closed; append at the end (stored by position).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Timer {
    /// An offer lapses.
    Offer(OfferId),
    /// An order has waited long enough.
    Order(OrderId),
    /// The lease of a drilling replica is over, or it has not revealed.
    Drill { unit: UnitId, machine: MachineId, attempt: u32 },
    /// A unit's reveals have taken long enough.
    Reveal(UnitId),
    /// A lease of a job (training or replay) is over.
    Lease { job: JobId, attempt: u32 },
    /// A prover has not opened a segment.
    Open { job: JobId, segment: u64 },
    /// Something else of a job is due: its rent is over, or it asked to be looked at.
    Job(JobId),
    /// A proposal lapses.
    Proposal(ProposalId),
    /// A rent is over, or its machine has not begun, or has stayed away for too long.
    Agreement(AgreementId),
}

impl Timer {
    /// What handling it costs, roughly, in lapsed offers.
    const fn cost(self) -> u32 {
        match self {
            Timer::Offer(_) | Timer::Proposal(_) => 1,
            Timer::Order(_) | Timer::Agreement(_) => 4,
            Timer::Drill { .. } | Timer::Reveal(_) | Timer::Lease { .. } | Timer::Open { .. } | Timer::Job(_) => 32,
        }
    }
}

/// Does what is due, within limits. Holds, remembered envelopes and buckets have lists of their own, each with its limit.
pub(crate) fn run(state: &mut State, ctx: &mut Context) {
    let mut left = WORK_PER_ENTRY_MAX;
    while let Some((due_ms, timer)) = state.timers.first().map(|(key, ())| *key) {
        let Some(rest) = left.checked_sub(timer.cost()).filter(|_| due_ms <= ctx.now_ms) else { break };
        left = rest;
        state.timers.remove(&(due_ms, timer));
        match timer {
            Timer::Offer(offer) => market::on_offer_due(state, ctx, offer),
            Timer::Order(order) => market::on_order_due(state, ctx, order),
            Timer::Drill { unit, machine, attempt } => drilling::on_lease_due(state, ctx, unit, machine, attempt),
            Timer::Reveal(unit) => drilling::on_reveal_due(state, ctx, unit),
            Timer::Lease { job, attempt } => jobs::on_lease_due(state, ctx, job, attempt),
            Timer::Open { job, segment } => jobs::on_open_due(state, ctx, job, segment),
            Timer::Job(job) => jobs::on_due(state, ctx, job),
            Timer::Proposal(proposal) => admin::on_due(state, ctx, proposal),
            Timer::Agreement(agreement) => agreements::on_due(state, ctx, agreement),
        }
    }
    two_phase::expire(state, ctx);
    state.windows.expire(ctx.now_ms);
    limits::expire(state, ctx.now_ms);
}
