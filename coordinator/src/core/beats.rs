//! The beacon's beats (PROTOCOLS §0a): every coordinator sends its share for the next beat once it has applied the last
//! one; the leader proposes a beat when its time has come and a majority's shares are in, with every share it has.

use matrixai_proto::v1::{Beat, BeatShare};
use matrixai_protocol::{beacon, vrf};
use matrixai_state::{
    State,
    ids::{Hash, NodeId},
};
use std::collections::BTreeMap;

/// Shares and times of beats.
#[derive(Debug)]
pub(super) struct Beats {
    me: u64,
    seed: [u8; 32],
    cluster_id: Hash,
    beat_ms: u64,
    /// When the last beat was applied here.
    applied_at: Option<u64>,
    /// Each coordinator's newest share and its beat. Only this node's own has been checked.
    shares: BTreeMap<u64, (u64, Vec<u8>)>,
}

impl Beats {
    pub(super) fn new(me: u64, seed: [u8; 32], cluster_id: Hash, beat_ms: u64) -> Self {
        Self { me, seed, cluster_id, beat_ms, applied_at: None, shares: BTreeMap::new() }
    }

    /// A beat was applied.
    pub(super) fn applied(&mut self, now: u64) {
        self.applied_at = Some(now);
    }

    /// Makes this node's share for the next beat if it is not made yet; answers whether it did. It follows from the
    /// state alone, so the effect that a beat leaves is only a hint, and a replay at start makes one share, not all.
    pub(super) fn share(&mut self, state: &State) -> bool {
        let number = next(state);
        if self.shares.get(&self.me).is_some_and(|(beat, _)| *beat == number) {
            return false;
        }
        self.shares.insert(self.me, (number, vrf::prove(&self.seed, &self.alpha(state)).to_vec()));
        true
    }

    /// This node's newest share, for the others.
    pub(super) fn own_share(&self) -> (u64, Vec<u8>) {
        self.shares.get(&self.me).cloned().unwrap_or_default()
    }

    /// Another coordinator sent its share.
    pub(super) fn heard(&mut self, state: &State, from: u64, beat: u64, share: Vec<u8>) {
        let known = state.node(NodeId(from)).is_some();
        if known && from != self.me && share.len() == vrf::PROOF_BYTES {
            self.shares.insert(from, (beat, share));
        }
    }

    /// The next beat, if its time has come and a majority's shares are in. A share that came in time is always included:
    /// leaving one out is the only choice a leader would have over the beacon.
    pub(super) fn due(&mut self, state: &State, now: u64) -> Option<Beat> {
        if self.applied_at.is_some_and(|at| now.saturating_sub(at) < self.beat_ms) {
            return None;
        }
        let number = next(state);
        let in_time =
            state.voters().filter(|node| self.shares.get(&node.id.0).is_some_and(|(beat, _)| *beat == number));
        if in_time.count() < state.majority() {
            return None;
        }
        let alpha = self.alpha(state);
        let mut shares = Vec::new();
        for node in state.voters() {
            let id = node.id.0;
            let Some((_, proof)) = self.shares.get(&id).filter(|(beat, _)| *beat == number) else { continue };
            // One bad share would have the whole beat refused, so each is checked first.
            if vrf::verify(&node.key, &alpha, proof).is_some() {
                shares.push(BeatShare { node: id, proof: proof.clone() });
            } else {
                tracing::warn!(node = id, beat = number, "a coordinator's beacon share is not its proof");
                self.shares.remove(&id);
            }
        }
        (shares.len() >= state.majority()).then_some(Beat { number, shares })
    }

    /// What the shares of the next beat prove.
    fn alpha(&self, state: &State) -> Hash {
        let (_, r) = state.beacon();
        beacon::alpha(&self.cluster_id, next(state), &r)
    }
}

/// The number of the next beat.
fn next(state: &State) -> u64 {
    state.beacon().0 + 1
}
