//! Attestations of the state's root. Each node computes the root at the close of an epoch off its apply thread and signs
//! it into the log; a node that differs from a majority stops loudly, since everything it would serve is wrong.

use matrixai_proto::v1::AttestRoot;
use matrixai_state::{
    State,
    ids::{Hash, NodeId},
};
use std::collections::BTreeMap;

/// Time after which an attestation that did not arrive is sent again.
const RESEND_MS: u64 = 2_000;
/// Own roots kept for comparison; the state keeps as many epochs.
const EPOCHS_KEPT: usize = 16;

/// The roots this node has computed.
#[derive(Debug)]
pub(super) struct Roots {
    me: u64,
    /// By epoch: index and root.
    own: BTreeMap<u64, (u64, Hash)>,
    sent_at: Option<u64>,
}

impl Roots {
    pub(super) fn new(me: u64) -> Self {
        Self { me, own: BTreeMap::new(), sent_at: None }
    }

    /// A root was computed here.
    pub(super) fn computed(&mut self, epoch: u64, index: u64, root: Hash) {
        self.own.insert(epoch, (index, root));
        while self.own.len() > EPOCHS_KEPT {
            self.own.pop_first();
        }
        self.sent_at = None;
    }

    /// There is another leader, who may not have what was sent to the last one.
    pub(super) fn leader_changed(&mut self) {
        self.sent_at = None;
    }

    /// The attestation of the newest root, if the log does not have it yet and none was sent just now.
    pub(super) fn due(&mut self, state: &State, now: u64) -> Option<AttestRoot> {
        let (epoch, (index, root)) = self.own.last_key_value()?;
        if self.sent_at.is_some_and(|at| now.saturating_sub(at) < RESEND_MS) {
            return None;
        }
        let row = state.epochs().find(|row| row.epoch == *epoch)?;
        if row.attested.iter().any(|said| said.node == NodeId(self.me)) {
            return None;
        }
        self.sent_at = Some(now);
        Some(AttestRoot { epoch: *epoch, index: *index, root: root.to_vec(), segment: Vec::new() })
    }

    /// Why this node must stop, if a majority attested another root than this node computed.
    pub(super) fn diverged(&self, state: &State) -> Option<String> {
        state.epochs().find_map(|row| {
            let epoch = row.epoch;
            let (index, own) = self.own.get(&epoch)?;
            let root = row.root().filter(|root| root != own)?;
            Some(format!(
                "the state of this coordinator differs from the quorum's: at log entry {index} (epoch {epoch}) its root is \
                 {}, a majority's is {}; replace this coordinator",
                hex::encode(own),
                hex::encode(root)
            ))
        })
    }
}
