//! One compute slot a machine, one lease at a time, so that what is measured and billed is one thing's time.
//!
//! What a machine is to compute waits in its queue. The slot goes to the oldest waiting drill, else to the oldest lease of a
//! job: a drill that comes due during a training runs between two of its leases. Two drills in a row are the most while
//! a job waits, or a busy campaign would starve it. Reveals and openings need no slot. Reductions need none either, but
//! while a machine owes one its slot stays empty: what it computes beside a drill would be measured as the drill's time.

use crate::{
    context::Context,
    drilling,
    ids::{JobId, MachineId, UnitId},
    jobs,
    machines::{Lease, Slot},
    state::State,
    verdicts,
};
use serde::{Deserialize, Serialize};

/// Shortest lease of a job, ms: a task that should take a second may still meet a busy machine.
pub(crate) const LEASE_MS_MIN: u64 = 60_000;
/// How many times the expected duration a longer lease may take, and what is added to it, ms.
const LEASE_SLACK: u64 = 4;
const LEASE_ADDED_MS: u64 = 10_000;
/// Longest lease, ms (a day): beyond it a machine's speed is no guide.
pub(crate) const LEASE_MS_MAX: u64 = 86_400_000;
/// Drills that may run one after another while a lease of a job waits.
const DRILLS_IN_A_ROW_MAX: u32 = 2;

const MS_PER_S: u128 = 1_000;

/// What waits for a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QueueRow {
    /// Drills that wait for the slot, oldest first, with their attempts.
    pub(crate) drills: Vec<(UnitId, u32)>,
    /// Leases of jobs that wait for the slot, oldest first.
    pub(crate) leases: Vec<Lease>,
    /// Units whose commitments are all in: it is to reveal.
    pub(crate) reveals: Vec<UnitId>,
    /// Drills that the slot has run since it last ran a lease of a job.
    pub(crate) drills_in_a_row: u32,
}

impl QueueRow {
    /// Takes the lease whose turn it is.
    fn next(&mut self) -> Option<Lease> {
        let drill = match self.drills_in_a_row < DRILLS_IN_A_ROW_MAX || self.leases.is_empty() {
            true if !self.drills.is_empty() => Some(self.drills.remove(0)),
            true | false => None,
        };
        if let Some((unit, attempt)) = drill {
            self.drills_in_a_row = self.drills_in_a_row.saturating_add(1);
            return Some(Lease::Drill { unit, attempt });
        }
        if self.leases.is_empty() {
            return None;
        }
        self.drills_in_a_row = 0;
        Some(self.leases.remove(0))
    }
}

/// How long a lease over `ops` operations may take on a machine of this speed.
pub(crate) fn lease_ms(ops: u128, ops_per_s: u64) -> u64 {
    let expected = ops.saturating_mul(MS_PER_S).checked_div(ops_per_s.into()).unwrap_or(0);
    let expected = u64::try_from(expected).unwrap_or(LEASE_MS_MAX);
    expected.saturating_mul(LEASE_SLACK).saturating_add(LEASE_ADDED_MS).clamp(LEASE_MS_MIN, LEASE_MS_MAX)
}

/// The queue of a machine; empty for one that never had anything.
pub(crate) fn queue(state: &State, machine: MachineId) -> QueueRow {
    state.queues.get(&machine).cloned().unwrap_or_default()
}

pub(crate) fn queue_mut(state: &mut State, machine: MachineId) -> &mut QueueRow {
    if !state.queues.contains(&machine) {
        state.queues.insert(machine, QueueRow::default());
    }
    state.queues.get_mut(&machine).expect("the row was put there if it was missing")
}

/// Puts a lease into a machine's queue; it is granted at once if the slot is free and nothing else is first.
pub(crate) fn enqueue(state: &mut State, ctx: &mut Context, machine: MachineId, lease: Lease) {
    let queue = queue_mut(state, machine);
    match lease {
        Lease::Drill { unit, attempt } => queue.drills.push((unit, attempt)),
        Lease::Train { .. } | Lease::Replay { .. } => queue.leases.push(lease),
    }
    grant(state, ctx, machine);
}

/// Ends a lease, granted or waiting: it was reported, or it holds no longer. The slot goes to what is next.
pub(crate) fn end(state: &mut State, ctx: &mut Context, machine: MachineId, lease: Lease) {
    let queue = queue_mut(state, machine);
    match lease {
        Lease::Drill { unit, attempt } => queue.drills.retain(|drill| *drill != (unit, attempt)),
        Lease::Train { .. } | Lease::Replay { .. } => queue.leases.retain(|waiting| *waiting != lease),
    }
    if let Some(row) = state.machines.get_mut(&machine).filter(|row| row.slot.is_some_and(|slot| slot.lease == lease)) {
        row.slot = None;
        ctx.owed(machine);
    }
    grant(state, ctx, machine);
}

/// A machine may have become free for what waits: it no longer owes a reduction.
pub(crate) fn resume(state: &mut State, ctx: &mut Context, machine: MachineId) {
    grant(state, ctx, machine);
}

/// A machine is there (again).
pub(crate) fn machine_online(state: &mut State, ctx: &mut Context, machine: MachineId) {
    if let Some(job) = state.machines.get(&machine).and_then(|row| row.job) {
        jobs::machine_online(state, ctx, job, machine);
    }
    grant(state, ctx, machine);
}

/// A machine is lost, revoked or suspended: whatever it was to compute goes to others. Its commitments stand, in case it
/// comes back in time to reveal.
pub(crate) fn machine_lost(state: &mut State, ctx: &mut Context, machine: MachineId) {
    let Some(row) = state.machines.get_mut(&machine) else { return };
    let (slot, job) = (row.slot.take(), row.job);
    let queue = queue_mut(state, machine);
    let drills = std::mem::take(&mut queue.drills).into_iter().map(|(unit, attempt)| Lease::Drill { unit, attempt });
    let leases = std::mem::take(&mut queue.leases);
    let lost: Vec<Lease> = slot.into_iter().map(|slot| slot.lease).chain(drills).chain(leases).collect();
    if let Some(job) = job {
        jobs::machine_lost(state, ctx, job, machine);
    }
    for lease in lost {
        match lease {
            Lease::Drill { unit, attempt } => drilling::forfeit(state, ctx, unit, machine, attempt),
            Lease::Replay { job, segment, attempt } => verdicts::verifier_gone(state, ctx, job, segment, attempt),
            // Its job has just been told about the machine.
            Lease::Train { .. } => {}
        }
    }
}

/// Ends every lease of a job that a machine holds or waits for, without telling the job.
pub(crate) fn end_all(state: &mut State, ctx: &mut Context, machine: MachineId, job: JobId) {
    let of_job = |lease: &Lease| match lease {
        Lease::Drill { .. } => false,
        Lease::Train { job: of, .. } | Lease::Replay { job: of, .. } => *of == job,
    };
    queue_mut(state, machine).leases.retain(|lease| !of_job(lease));
    if let Some(row) = state.machines.get_mut(&machine) {
        row.slot = row.slot.filter(|slot| !of_job(&slot.lease));
    }
    ctx.owed(machine);
    grant(state, ctx, machine);
}

/// Gives a free slot to whatever is next and still holds.
fn grant(state: &mut State, ctx: &mut Context, machine: MachineId) {
    while is_free(state, machine) {
        let Some(lease) = state.queues.get_mut(&machine).and_then(QueueRow::next) else { return };
        let deadline_ms = match lease {
            Lease::Drill { unit, attempt } => drilling::granted(state, ctx, unit, machine, attempt),
            Lease::Train { job, attempt } => jobs::granted(state, ctx, job, machine, attempt),
            Lease::Replay { job, segment, attempt } => verdicts::granted(state, ctx, job, segment, attempt),
        };
        if let (Some(deadline_ms), Some(row)) = (deadline_ms, state.machines.get_mut(&machine)) {
            row.slot = Some(Slot { lease, granted_ms: ctx.now_ms, deadline_ms });
            ctx.owed(machine);
        }
    }
}

fn is_free(state: &State, machine: MachineId) -> bool {
    state
        .machines
        .get(&machine)
        .is_some_and(|row| row.available() && row.slot.is_none() && !jobs::owes_reduction(state, row))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRILL: (UnitId, u32) = (UnitId([1; 20]), 1);
    const TRAIN: Lease = Lease::Train { job: JobId([2; 20]), attempt: 1 };

    #[test]
    fn drills_go_first_but_never_starve_a_job() {
        let mut queue = QueueRow { drills: vec![DRILL; 4], leases: vec![TRAIN; 2], ..QueueRow::default() };
        let turns: String = std::iter::from_fn(|| queue.next())
            .map(|lease| match lease {
                Lease::Drill { .. } => 'd',
                Lease::Train { .. } | Lease::Replay { .. } => 't',
            })
            .collect();
        assert_eq!(turns, "ddtddt");
    }

    #[test]
    fn a_lease_allows_for_slow_hours_but_not_for_ever() {
        assert_eq!(lease_ms(1, 1_000), LEASE_MS_MIN);
        assert_eq!(lease_ms(100_000, 1_000), 410_000);
        assert_eq!(lease_ms(u128::MAX, 1), LEASE_MS_MAX);
        assert_eq!(lease_ms(1, 0), LEASE_MS_MIN);
    }
}
