//! Leases, forfeits and verdicts of units: when a quorum is complete, who is left out, and who is credited.

use super::{DECIDERS_MIN, DRILL_MS_MAX, REPLICAS_MAX, REVEAL_MS_MAX, ReplicaState, SHORT_MS_MAX, UnitRow, UnitState};
use crate::{
    context::Context,
    expiry::Timer,
    ids::{Hash, MachineId, UnitId},
    leases,
    machines::Lease,
    market,
    plants::{Plant, planted},
    power,
    state::State,
};

/// A member's machine begins: returns the deadline, none when the unit needs it no longer.
pub(crate) fn granted(
    state: &mut State,
    ctx: &mut Context,
    unit: UnitId,
    machine: MachineId,
    attempt: u32,
) -> Option<u64> {
    let row = state.units.get_mut(&unit).filter(|unit| unit.state == UnitState::Open)?;
    let replica = row.replica_mut(machine).filter(|replica| replica.attempt == attempt)?;
    if replica.state != ReplicaState::Waiting {
        return None;
    }
    replica.state = ReplicaState::Leased;
    replica.granted_ms = ctx.now_ms;
    let timer = lease_timer(ctx.now_ms, unit, machine, attempt);
    state.timers.insert(timer, ());
    Some(timer.0)
}

/// The timer of a lease that was granted then.
pub(super) fn lease_timer(granted_ms: u64, unit: UnitId, machine: MachineId, attempt: u32) -> (u64, Timer) {
    (granted_ms.saturating_add(DRILL_MS_MAX), Timer::Drill { unit, machine, attempt })
}

/// A lease has taken too long.
pub(crate) fn on_lease_due(state: &mut State, ctx: &mut Context, unit: UnitId, machine: MachineId, attempt: u32) {
    if !planted(Plant::LateReportTaken) {
        forfeit(state, ctx, unit, machine, attempt);
    }
}

/// A member that has not committed leaves the unit: lost, or too slow. The next beat draws a replacement.
pub(crate) fn forfeit(state: &mut State, ctx: &mut Context, unit: UnitId, machine: MachineId, attempt: u32) {
    let Some(row) = state.units.get_mut(&unit) else { return };
    let Some(replica) = row.replica_mut(machine).filter(|replica| replica.attempt == attempt) else { return };
    if !matches!(replica.state, ReplicaState::Waiting | ReplicaState::Leased) {
        return;
    }
    replica.state = ReplicaState::Forfeited;
    let timer = lease_timer(replica.granted_ms, unit, machine, attempt);
    row.short_since_ms = row.short_since_ms.or(Some(ctx.now_ms));
    state.timers.remove(&timer);
    state.short_units.insert((state.beacon.number.saturating_add(1), unit), ());
    power::lost(state, machine);
    ctx.event("unit.forfeited", unit, format!("Machine {machine} did not deliver unit {unit}."));
    leases::end(state, ctx, machine, Lease::Drill { unit, attempt });
}

/// Whether an open unit has fewer members than it wants.
pub(super) fn wants_members(state: &State, unit: UnitId) -> bool {
    state.units.get(&unit).is_some_and(|row| row.state == UnitState::Open && row.active().count() < row.quorum as usize)
}

/// A unit could not be filled up: it waits for the next beat, or when it has waited enough goes on with those it has,
/// or ends when they are too few.
pub(super) fn shorten(state: &mut State, ctx: &mut Context, unit: UnitId) {
    let next = state.beacon.number.saturating_add(1);
    let Some(row) = state.units.get_mut(&unit) else { return };
    let since_ms = row.short_since_ms.unwrap_or(ctx.now_ms);
    row.short_since_ms = Some(since_ms);
    let patient = ctx.now_ms < since_ms.saturating_add(SHORT_MS_MAX) && row.replicas.len() < REPLICAS_MAX;
    let left = row.active().count();
    if patient {
        state.short_units.insert((next, unit), ());
    } else if left >= DECIDERS_MIN {
        row.quorum = u32::try_from(left).unwrap_or(u32::MAX);
        after_commit(state, ctx, unit);
    } else {
        close(state, ctx, unit, UnitState::Void);
    }
}

/// Asks for the reveals once every member has committed.
pub(super) fn after_commit(state: &mut State, ctx: &mut Context, unit: UnitId) {
    let Some(row) = state.units.get_mut(&unit).filter(|row| row.state == UnitState::Open) else { return };
    let committed = row.active().filter(|replica| replica.state == ReplicaState::Committed).count();
    if committed < row.quorum as usize {
        return;
    }
    row.state = UnitState::Revealing;
    row.reveal_by_ms = ctx.now_ms.saturating_add(REVEAL_MS_MAX);
    let timer = (row.reveal_by_ms, Timer::Reveal(unit));
    let members: Vec<MachineId> = row.active().map(|replica| replica.machine).collect();
    state.timers.insert(timer, ());
    for machine in members {
        leases::queue_mut(state, machine).reveals.push(unit);
        ctx.owed(machine);
    }
}

/// Decides once every member has revealed.
pub(super) fn after_reveal(state: &mut State, ctx: &mut Context, unit: UnitId) {
    let complete = |row: &UnitRow| row.active().all(|replica| replica.state == ReplicaState::Revealed);
    if state.units.get(&unit).is_some_and(complete) {
        decide(state, ctx, unit);
    }
}

/// Reveals have taken long enough: whoever has not revealed is left out.
pub(crate) fn on_reveal_due(state: &mut State, ctx: &mut Context, unit: UnitId) {
    let Some(row) = state.units.get_mut(&unit).filter(|row| row.state == UnitState::Revealing) else { return };
    let mut silent = Vec::new();
    for replica in row.replicas.iter_mut().filter(|replica| replica.state == ReplicaState::Committed) {
        replica.state = ReplicaState::Forfeited;
        silent.push(replica.machine);
    }
    for machine in silent {
        power::lost(state, machine);
        ctx.event("unit.forfeited", unit, format!("Machine {machine} did not reveal unit {unit}."));
    }
    decide(state, ctx, unit);
}

/// The literal rule: all digests bit-identical, or nobody is credited.
fn decide(state: &mut State, ctx: &mut Context, unit: UnitId) {
    let Some(row) = state.units.get(&unit) else { return };
    let digests: Vec<Hash> = row.replicas.iter().filter_map(|replica| replica.digest).collect();
    let equal = digests.windows(2).all(|pair| matches!(pair, [left, right] if left == right));
    let verdict = match (digests.len() >= DECIDERS_MIN, equal) {
        (false, _) => UnitState::Void,
        (true, true) => UnitState::Accepted,
        (true, false) => UnitState::Rejected,
    };
    close(state, ctx, unit, verdict);
}

/// Ends a unit: counts it, credits or counts against its members, and withdraws whatever they still had to do for it.
fn close(state: &mut State, ctx: &mut Context, unit: UnitId, verdict: UnitState) {
    let Some(row) = state.units.get_mut(&unit) else { return };
    row.state = verdict;
    row.decided_ms = ctx.now_ms;
    let row = row.clone();
    state.timers.remove(&(row.reveal_by_ms, Timer::Reveal(unit)));
    if let Some(campaign) = state.campaigns.get_mut(&row.campaign) {
        let count = match verdict {
            UnitState::Accepted => &mut campaign.accepted,
            UnitState::Rejected => &mut campaign.rejected,
            UnitState::Void | UnitState::Open | UnitState::Revealing => &mut campaign.void,
        };
        *count = count.saturating_add(1);
    }
    for replica in row.active() {
        match verdict {
            UnitState::Accepted => power::accepted(state, replica.machine, &row.workload, replica.elapsed_us),
            UnitState::Rejected => power::lost(state, replica.machine),
            UnitState::Void | UnitState::Open | UnitState::Revealing => {}
        }
    }
    for replica in &row.replicas {
        state.timers.remove(&lease_timer(replica.granted_ms, unit, replica.machine, replica.attempt));
        leases::queue_mut(state, replica.machine).reveals.retain(|other| *other != unit);
        leases::end(state, ctx, replica.machine, Lease::Drill { unit, attempt: replica.attempt });
        ctx.owed(replica.machine);
    }
    announce(ctx, &row);
    if verdict == UnitState::Accepted {
        // A machine that has just been measured may be what an order waits for.
        row.active().for_each(|replica| market::machine_changed(state, ctx, replica.machine));
    }
}

fn announce(ctx: &mut Context, row: &UnitRow) {
    let (kind, verdict) = match row.state {
        UnitState::Accepted => ("unit.accepted", "accepted: all digests are equal"),
        UnitState::Rejected => ("unit.rejected", "rejected: the digests differ"),
        UnitState::Void | UnitState::Open | UnitState::Revealing => ("unit.void", "void: too few machines delivered"),
    };
    ctx.event(kind, row.id, format!("The {} unit {} is {verdict}.", row.workload.kernel(), row.id));
}
