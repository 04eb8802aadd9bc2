//! Drawing quorums: which machines get which unit, by the beacon alone. No machine picks its units or its partners.

use super::{
    CampaignRow, REPLICAS_MAX, Replica, ReplicaState, UNITS_KEPT_MAX, UnitRow, UnitState,
    decide::{shorten, wants_members},
};
use crate::{
    context::Context,
    ids::{AccountId, CampaignId, MachineId, UnitId},
    leases,
    machines::Lease,
    power,
    state::State,
};
use matrixai_protocol::{
    drilling::{assignment_draw, unit_seed},
    philox::Draw,
};
use std::collections::{BTreeMap, BTreeSet};

/// Quorums and replacements drawn at one beat.
const DRAWS_PER_BEAT_MAX: usize = 64;
/// Drills that may wait for a machine.
const DRILLS_WAITING_MAX: usize = 16;
/// Machines looked at for one quorum: where so many of them fail, their owners are too few.
const CANDIDATES_SEEN_MAX: usize = 1_024;
/// How often one machine may be drawn for one unit: once more after it forfeited, in networks that have no other.
const ATTEMPTS_OF_A_MACHINE_MAX: usize = 2;

/// A machine that may be drawn, with the drills it still has room for.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    machine: MachineId,
    owner: AccountId,
    ram_bytes: u64,
    room: usize,
}

/// Draws what is due at the beat that was just applied: first replacements, then new units, the campaign that has waited
/// longest first.
pub(crate) fn on_beat(state: &mut State, ctx: &mut Context) {
    let short = take_short(state);
    let mut due = due_campaigns(state, ctx.now_ms);
    if short.is_empty() && due.is_empty() {
        return;
    }
    let mut pool = eligible(state);
    let mut left = DRAWS_PER_BEAT_MAX.saturating_sub(short.len());
    for unit in short {
        replace(state, ctx, &mut pool, unit);
    }
    // Round by round, so that no campaign takes all draws.
    while left > 0 && !due.is_empty() {
        due.retain(|campaign| {
            let drawn = left > 0 && draw_unit(state, ctx, &mut pool, *campaign);
            left = left.saturating_sub(usize::from(drawn));
            drawn && is_due(state, ctx.now_ms, *campaign)
        });
    }
}

/// Every machine that may be drawn, in order of id: the dense index that draws are over.
fn eligible(state: &State) -> Vec<Candidate> {
    let candidate = |machine: &MachineId| {
        let row = state.machines.get(machine).filter(|row| row.available())?;
        let waiting = state.queues.get(machine).map_or(0, |queue| queue.drills.len());
        let room = DRILLS_WAITING_MAX.checked_sub(waiting).filter(|room| *room > 0)?;
        Some(Candidate { machine: *machine, owner: row.owner, ram_bytes: row.inventory.ram_bytes, room })
    };
    state.online.iter().filter_map(|(machine, ())| candidate(machine)).collect()
}

fn due_campaigns(state: &State, now_ms: u64) -> Vec<CampaignId> {
    let mut due: Vec<(u64, CampaignId)> = state
        .drawing
        .iter()
        .filter(|(id, ())| is_due(state, now_ms, **id))
        .filter_map(|(id, ())| state.campaigns.get(id).map(|row| (row.drawn_ms, *id)))
        .collect();
    due.sort_unstable();
    due.into_iter().map(|(_, id)| id).collect()
}

fn is_due(state: &State, now_ms: u64, campaign: CampaignId) -> bool {
    state.campaigns.get(&campaign).is_some_and(|row| {
        row.drawn < row.units
            && state.beacon.number >= row.first_beat
            && (row.drawn == 0 || now_ms >= row.drawn_ms.saturating_add(row.interval_ms))
    })
}

/// Draws a campaign's next unit; `false` when too few machines can take it.
fn draw_unit(state: &mut State, ctx: &mut Context, pool: &mut [Candidate], campaign: CampaignId) -> bool {
    let Some(row) = state.campaigns.get(&campaign).cloned() else { return false };
    let id = UnitId::of(campaign, row.drawn);
    let beacon = state.beacon;
    let wanted = row.redundancy as usize;
    let draw = assignment_draw(&beacon.r, &id.0);
    let chosen = choose(draw, pool, wanted, row.workload.memory_bytes(), |_| true);
    if chosen.len() < wanted {
        return false;
    }
    let unit = UnitRow {
        id,
        campaign,
        number: row.drawn,
        workload: row.workload,
        seed: unit_seed(&beacon.r, &id.0),
        beat: beacon.number,
        beacon: beacon.r,
        state: UnitState::Open,
        quorum: row.redundancy,
        replicas: Vec::new(),
        short_since_ms: None,
        reveal_by_ms: 0,
        decided_ms: 0,
    };
    state.units.insert(id, unit);
    state.unit_order.insert((ctx.index, id), ());
    forget_oldest(state);
    count_drawn(state, ctx.now_ms, &row);
    join(state, ctx, pool, id, &chosen);
    true
}

/// Makes room for a unit when more than enough are kept; one that is not decided yet stays and is looked at next time.
fn forget_oldest(state: &mut State) {
    let Some((key, ())) = state.unit_order.first().filter(|_| state.unit_order.len() > UNITS_KEPT_MAX) else { return };
    let key = *key;
    if state.units.get(&key.1).is_none_or(|unit| unit.state.decided()) {
        state.units.remove(&key.1);
        state.unit_order.remove(&key);
    }
}

fn count_drawn(state: &mut State, now_ms: u64, row: &CampaignRow) {
    let Some(campaign) = state.campaigns.get_mut(&row.id) else { return };
    campaign.drawn = campaign.drawn.saturating_add(1);
    campaign.drawn_ms = now_ms;
    if campaign.drawn >= campaign.units {
        state.drawing.remove(&row.id);
    }
}

/// Units that lack members, oldest wish first.
fn take_short(state: &mut State) -> Vec<UnitId> {
    let last = (state.beacon.number, UnitId([0xff; 20]));
    let keys: Vec<(u64, UnitId)> =
        state.short_units.range(..=last).take(DRAWS_PER_BEAT_MAX).map(|(key, ())| *key).collect();
    for key in &keys {
        state.short_units.remove(key);
    }
    keys.into_iter().map(|(_, unit)| unit).collect()
}

/// Draws the members that a unit lacks; what cannot be drawn now is tried again at the next beat, until it is time to go
/// on without.
fn replace(state: &mut State, ctx: &mut Context, pool: &mut [Candidate], id: UnitId) {
    let Some(unit) = state.units.get(&id).filter(|unit| unit.state == UnitState::Open) else { return };
    let owners: BTreeSet<AccountId> = unit.active().map(|replica| replica.owner).collect();
    let mut attempts: BTreeMap<MachineId, usize> = BTreeMap::new();
    for replica in &unit.replicas {
        let count = attempts.entry(replica.machine).or_default();
        *count = count.saturating_add(1);
    }
    let room = REPLICAS_MAX.saturating_sub(unit.replicas.len());
    let lacking = (unit.quorum as usize).saturating_sub(unit.active().count()).min(room);
    let draw = assignment_draw(&state.beacon.r, &id.0);
    let chosen = choose(draw, pool, lacking, unit.workload.memory_bytes(), |candidate| {
        !owners.contains(&candidate.owner)
            && attempts.get(&candidate.machine).is_none_or(|count| *count < ATTEMPTS_OF_A_MACHINE_MAX)
    });
    join(state, ctx, pool, id, &chosen);
    if wants_members(state, id) {
        shorten(state, ctx, id);
    }
}

/// Up to `wanted` machines of distinct owners with room and memory, as indices of the pool, in the order drawn.
fn choose(
    mut draw: Draw,
    pool: &[Candidate],
    wanted: usize,
    memory_bytes: u64,
    passes: impl Fn(&Candidate) -> bool,
) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    let mut owners = BTreeSet::new();
    let mut chosen = Vec::with_capacity(wanted);
    while chosen.len() < wanted && seen.len() < pool.len().min(CANDIDATES_SEEN_MAX) {
        let index = draw.below(pool.len() as u64);
        if !seen.insert(index) {
            continue;
        }
        let index = index as usize;
        let Some(candidate) = pool.get(index) else { continue };
        if candidate.room > 0
            && candidate.ram_bytes >= memory_bytes
            && passes(candidate)
            && owners.insert(candidate.owner)
        {
            chosen.push(index);
        }
    }
    chosen
}

/// Makes the chosen machines members of a unit.
fn join(state: &mut State, ctx: &mut Context, pool: &mut [Candidate], id: UnitId, chosen: &[usize]) {
    for index in chosen {
        let (Some(candidate), Some(unit)) = (pool.get_mut(*index), state.units.get_mut(&id)) else { continue };
        candidate.room = candidate.room.saturating_sub(1);
        let attempt = u32::try_from(unit.replicas.len().saturating_add(1)).unwrap_or(u32::MAX);
        let (machine, owner) = (candidate.machine, candidate.owner);
        unit.replicas.push(Replica {
            machine,
            owner,
            attempt,
            state: ReplicaState::Waiting,
            drawn_ms: ctx.now_ms,
            granted_ms: 0,
            committed_ms: 0,
            elapsed_us: 0,
            commitment: None,
            digest: None,
        });
        power::drawn(state, machine);
        leases::enqueue(state, ctx, machine, Lease::Drill { unit: id, attempt });
    }
}
