//! Reading jobs, and what must always hold of them.

use super::{JobState, RoundRow, Stage, Standing, TaskRow};
use crate::{ids::JobId, machines::Lease, state::State, verdicts::ReplayRow};

impl State {
    /// Jobs, newest first.
    pub fn newest_jobs(&self) -> impl Iterator<Item = &super::JobRow> {
        self.job_order.iter().rev().filter_map(|((_, id), ())| self.jobs.get(id))
    }

    /// The models of a job's chain, from the initial one.
    pub fn rounds_of(&self, job: JobId) -> impl DoubleEndedIterator<Item = &RoundRow> {
        self.rounds.range((job, 0)..=(job, u32::MAX)).map(|(_, row)| row)
    }

    /// The computed virtual workers of a round (counted from 0), in order.
    pub fn tasks_of(&self, job: JobId, round: u32) -> impl DoubleEndedIterator<Item = (u32, &TaskRow)> {
        self.tasks.range((job, round, 0)..=(job, round, u32::MAX)).map(|((_, _, worker), row)| (*worker, row))
    }

    /// The challenged segments of a job, in order.
    pub fn replays_of(&self, job: JobId) -> impl DoubleEndedIterator<Item = &ReplayRow> {
        self.replays.range((job, 0)..=(job, u64::MAX)).map(|(_, row)| row)
    }
}

/// Invariants of jobs and of the slots that work for them.
pub(crate) fn check(state: &State) -> Result<(), String> {
    for row in state.jobs() {
        check_members(state, row)?;
        let open = state.hold(row.id).is_some_and(|hold| hold.open);
        ensure(open != row.state.closed(), || format!("job {} is {:?}, its hold open: {open}", row.id, row.state))?;
        let done = state.tasks_of(row.id, row.round).count();
        let computing = row.state == JobState::Training && row.stage == Stage::Computing;
        ensure(!computing || done == row.tasks_done as usize, || {
            format!("job {} counts {} tasks, {done} are there", row.id, row.tasks_done)
        })?;
    }
    state.machines().try_for_each(|machine| match machine.slot.map(|slot| slot.lease) {
        None => Ok(()),
        Some(lease) => {
            ensure(machine.available(), || format!("machine {} has a slot and is not available", machine.id))?;
            ensure(holds(state, lease), || format!("machine {} runs {lease:?}, which nobody leased", machine.id))
        }
    })
}

fn check_members(state: &State, row: &super::JobRow) -> Result<(), String> {
    for member in &row.members {
        let machine = state.machine(member.machine).ok_or("a member has no machine")?;
        let rented = machine.job == Some(row.id);
        ensure(row.state.closed() || rented, || format!("member {} of {} is not rented", member.machine, row.id))?;
        ensure(row.state.closed() || member.standing != Standing::Active || machine.available(), || {
            format!("member {} of job {} is active and not available", member.machine, row.id)
        })?;
        let leased = !member.leases.is_empty();
        ensure(!leased || (row.state == JobState::Training && member.standing == Standing::Active), || {
            format!("member {} of job {} has leases it may not have", member.machine, row.id)
        })?;
    }
    Ok(())
}

fn holds(state: &State, lease: Lease) -> bool {
    match lease {
        Lease::Drill { unit, .. } => state.unit(unit).is_some_and(|unit| !unit.state.decided()),
        Lease::Train { job, attempt } => state.job(job).is_some_and(|row| {
            row.members.iter().flat_map(|member| &member.leases).any(|lease| lease.attempt == attempt)
        }),
        Lease::Replay { job, segment, attempt } => {
            state.replays.get(&(job, segment)).is_some_and(|row| row.attempt == attempt && row.verifier.is_some())
        }
    }
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
