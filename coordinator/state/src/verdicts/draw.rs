//! Who verifies: drawn after the commit, of another owner than the prover and not the buyer's; machines that are no
//! members of the job and offer themselves within its price limit if there are any, else members.

use super::{ReplayState, reject_undecided, replay_lease, rho};
use crate::{
    beacon,
    context::Context,
    expiry::Timer,
    ids::{AccountId, JobId, MachineId},
    jobs::{self, JobRow, JobState, Standing},
    leases,
    money::Money,
    power,
    state::State,
};
use matrixai_protocol::{philox::Draw, training::verifier_draw};
use std::collections::BTreeMap;

/// Verifiers drawn in one go; the others at the next beat.
const VERIFIERS_PER_BEAT_MAX: usize = 64;
/// Offers looked at for verifiers.
const OFFERS_SEEN_MAX: usize = 4_096;
/// Draws before the first that fits is taken: enough for any pool of which a tenth fits.
const DRAWS_MAX: usize = 64;

/// A machine that may verify.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    machine: MachineId,
    owner: AccountId,
    price_per_hour: Money,
}

/// Draws verifiers for the segments that lack one. Those for whom nobody is there wait for the next beat.
pub(crate) fn assign(state: &mut State, ctx: &mut Context, job: JobId) {
    let Some((row, rho)) = state.jobs.get(&job).filter(|row| row.state == JobState::Verifying).zip(rho(state, job))
    else {
        return;
    };
    let outside = outsiders(state, ctx.now_ms, row);
    let members = members(state, row);
    let lacking = |replay: &&super::ReplayRow| replay.state == ReplayState::Waiting && replay.verifier.is_none();
    let segments: Vec<u64> = state.replays_of(job).filter(lacking).map(|replay| replay.segment).collect();
    let mut waiting = segments.len() > VERIFIERS_PER_BEAT_MAX;
    for segment in segments.into_iter().take(VERIFIERS_PER_BEAT_MAX) {
        let barred = barred(state, job, segment);
        let Some(attempt) = state.jobs.get_mut(&job).map(JobRow::next_attempt) else { return };
        let mut draw = verifier_draw(&rho, segment, attempt);
        let found = pick(&mut draw, &outside, &barred).or_else(|| pick(&mut draw, &members, &barred));
        let disputed = state.replays.get(&(job, segment)).is_some_and(|replay| replay.dissenter.is_some());
        match found {
            Some(verifier) => lease(state, ctx, job, segment, attempt, verifier),
            None if disputed && !may_come_back(state, job, &barred) => {
                return reject_undecided(state, ctx, job, segment);
            }
            None => waiting = true,
        }
    }
    if waiting {
        let next = state.beacon.number.saturating_add(1);
        beacon::wait_for(state, job, next);
    }
}

/// Machines outside the job that offer themselves within its price limit, each at its cheapest offer, in order of id.
fn outsiders(state: &State, now_ms: u64, job: &JobRow) -> Vec<Candidate> {
    let memory_bytes = jobs::memory_bytes(&job.spec);
    let mut found: BTreeMap<MachineId, Candidate> = BTreeMap::new();
    let affordable = state.open_offers().take_while(|offer| offer.price_per_hour <= job.order.price_limit);
    for offer in affordable.take(OFFERS_SEEN_MAX).filter(|offer| offer.expires_ms > now_ms) {
        let free = state
            .machines
            .get(&offer.machine)
            .is_some_and(|row| row.available() && row.is_free() && row.inventory.ram_bytes >= memory_bytes);
        if free && offer.owner != job.owner {
            found.entry(offer.machine).or_insert(Candidate {
                machine: offer.machine,
                owner: offer.owner,
                price_per_hour: offer.price_per_hour,
            });
        }
    }
    found.into_values().collect()
}

/// Members that are there, at the price of their agreement.
fn members(state: &State, job: &JobRow) -> Vec<Candidate> {
    job.members
        .iter()
        .filter(|member| member.standing != Standing::Guilty)
        .filter(|member| state.machines.get(&member.machine).is_some_and(|row| row.available()))
        .map(|member| Candidate { machine: member.machine, owner: member.owner, price_per_hour: member.price_per_hour })
        .collect()
}

/// Accounts whose machines may not verify a segment: the prover's, and that of whoever has replayed it already.
fn barred(state: &State, job: JobId, segment: u64) -> Vec<AccountId> {
    let Some(replay) = state.replays.get(&(job, segment)) else { return Vec::new() };
    [Some(replay.prover), replay.dissenter]
        .into_iter()
        .flatten()
        .filter_map(|machine| state.machines.get(&machine).map(|row| row.owner))
        .collect()
}

/// Whether a member that is away now could verify later.
fn may_come_back(state: &State, job: JobId, barred: &[AccountId]) -> bool {
    let usable = |machine: MachineId| state.machines.get(&machine).is_some_and(|row| !row.revoked && !row.suspended);
    state.jobs.get(&job).is_some_and(|row| {
        row.members.iter().any(|member| {
            member.standing != Standing::Guilty && !barred.contains(&member.owner) && usable(member.machine)
        })
    })
}

fn pick(draw: &mut Draw, from: &[Candidate], barred: &[AccountId]) -> Option<Candidate> {
    let fits = |candidate: &&Candidate| !barred.contains(&candidate.owner);
    from.iter().find(fits)?;
    let drawn = (0..DRAWS_MAX).find_map(|_| from.get(draw.below(from.len() as u64) as usize).filter(fits));
    drawn.or_else(|| from.iter().find(fits)).copied()
}

fn lease(state: &mut State, ctx: &mut Context, job: JobId, segment: u64, attempt: u32, verifier: Candidate) {
    let Some(replay) = state.replays.get_mut(&(job, segment)) else { return };
    replay.verifier = Some(verifier.machine);
    replay.price_per_hour = verifier.price_per_hour;
    replay.attempt = attempt;
    replay.granted_ms = 0;
    replay.report = None;
    leases::enqueue(state, ctx, verifier.machine, replay_lease(job, segment, attempt));
}

/// A replay's lease gets its machine's slot: billing begins. Returns the deadline, none when the lease holds no longer.
pub(crate) fn granted(state: &mut State, ctx: &mut Context, job: JobId, segment: u64, attempt: u32) -> Option<u64> {
    let row = state.jobs.get(&job).filter(|row| row.state == JobState::Verifying)?;
    let ops = u128::from(row.spec.task_ops());
    let replay = state.replays.get(&(job, segment)).filter(|replay| replay.attempt == attempt)?;
    let speed = power::fgemm(state, replay.verifier?);
    let due_ms = ctx.now_ms.saturating_add(leases::lease_ms(ops, speed));
    let replay = state.replays.get_mut(&(job, segment))?;
    replay.granted_ms = ctx.now_ms;
    replay.due_ms = due_ms;
    state.timers.insert((due_ms, Timer::Lease { job, attempt }), ());
    Some(due_ms)
}

/// A verifier is lost, late or cannot: another one is drawn at the next beat.
pub(crate) fn verifier_gone(state: &mut State, ctx: &mut Context, job: JobId, segment: u64, attempt: u32) {
    if state.jobs.get(&job).is_none_or(|row| row.state != JobState::Verifying) {
        return;
    }
    let Some(replay) = state.replays.get_mut(&(job, segment)) else { return };
    if replay.attempt != attempt || replay.state != ReplayState::Waiting {
        return;
    }
    let Some(machine) = replay.verifier.take() else { return };
    let due_ms = replay.due_ms;
    state.timers.remove(&(due_ms, Timer::Lease { job, attempt }));
    let next = state.beacon.number.saturating_add(1);
    beacon::wait_for(state, job, next);
    ctx.event("job.verifier_gone", job, format!("Machine {machine} did not replay segment {segment} of job {job}."));
    leases::end(state, ctx, machine, replay_lease(job, segment, attempt));
}
