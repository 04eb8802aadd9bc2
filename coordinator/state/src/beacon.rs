//! The beacon: randomness that no single party can choose or foresee (PROTOCOLS §0a).
//!
//! A beat carries VRF proofs of a majority of the voters over R of the beat before; each is verified here, because
//! everything random in the protocols follows from it and nothing else may be believed. *R after X* is R of the second
//! beat applied after X: whoever shared the first one could already have known X.

use crate::{
    command::Beat,
    context::Context,
    drilling,
    effect::Effect,
    ids::{Hash, JobId, NodeId},
    jobs,
    nodes::Standing,
    outcome::{Outcome, Refusal},
    roots,
    state::State,
};
use matrixai_protocol::{beacon, vrf};
use serde::{Deserialize, Serialize};

/// Beats to wait for R after something.
const BEATS_AFTER: u64 = 2;

/// Jobs that one beat carries on; the others are first at the next one.
const JOBS_PER_BEAT_MAX: usize = 64;

/// The newest beat.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beacon {
    /// Its number; 0 before the first.
    pub number: u64,
    /// Its R; genesis' R_0 before the first.
    pub r: Hash,
}

impl Beacon {
    /// Before the first beat.
    pub(crate) const fn genesis(r0: Hash) -> Self {
        Self { number: 0, r: r0 }
    }

    /// The beat whose R is "R after" something that happens now.
    pub(crate) const fn after_now(&self) -> u64 {
        self.number.saturating_add(BEATS_AFTER)
    }
}

/// Applies the next beat.
pub(crate) fn beat(state: &mut State, ctx: &mut Context, _leader: NodeId, cmd: &Beat) -> Outcome {
    let next = match verified(state, cmd) {
        Ok(next) => next,
        Err(refusal) => return refusal.into(),
    };
    state.beacon = next;
    ctx.effect(Effect::Beat { number: next.number });
    roots::beat_applied(state, ctx, next.number);
    for job in take_due(state) {
        jobs::on_beat(state, ctx, job);
    }
    drilling::on_beat(state, ctx);
    Outcome::DONE
}

/// Has `job` carried on at beat `number`, or at the first one after it that has room.
pub(crate) fn wait_for(state: &mut State, job: JobId, number: u64) {
    state.awaiting_beat.insert((number, job), ());
}

fn take_due(state: &mut State) -> Vec<JobId> {
    let last = (state.beacon.number, JobId([0xff; 20]));
    let due: Vec<(u64, JobId)> =
        state.awaiting_beat.range(..=last).take(JOBS_PER_BEAT_MAX).map(|(key, ())| *key).collect();
    due.into_iter()
        .map(|key| {
            state.awaiting_beat.remove(&key);
            key.1
        })
        .collect()
}

/// The beacon after a beat whose number, quorum and proofs all hold.
fn verified(state: &State, cmd: &Beat) -> Result<Beacon, Refusal> {
    if Some(cmd.number) != state.beacon.number.checked_add(1) {
        return Err(Refusal::WrongBeat);
    }
    if cmd.shares.len() < state.majority() {
        return Err(Refusal::TooFewShares);
    }
    // Strictly ascending, so that no node counts twice and R has one form.
    if cmd.shares.windows(2).any(|pair| matches!(pair, [left, right] if left.node >= right.node)) {
        return Err(Refusal::BadShare);
    }
    let alpha = beacon::alpha(&state.cluster_id, cmd.number, &state.beacon.r);
    let betas = cmd
        .shares
        .iter()
        .map(|share| {
            let node = state.node(share.node).filter(|node| node.standing == Standing::Voter)?;
            vrf::verify(&node.key, &alpha, &share.proof)
        })
        .collect::<Option<Vec<_>>>()
        .ok_or(Refusal::BadShare)?;
    Ok(Beacon { number: cmd.number, r: beacon::next(&state.beacon.r, &betas) })
}
