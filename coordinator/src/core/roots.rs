//! Attestations of closed epochs. Each node computes the state's root at the close off its apply thread, and the hash of the
//! epoch's segment of the log behind it, and signs both into the log; a node that differs from a majority stops loudly, since
//! everything it would serve is wrong.
//!
//! A segment is sealed moments after the root is computed. When it takes longer (a slow or full disk) the root is attested
//! alone, and the attestation completed later.

use matrixai_proto::v1::AttestRoot;
use matrixai_state::{
    State,
    ids::{Hash, NodeId},
    roots::Attestation,
};
use std::collections::BTreeMap;

/// Time after which an attestation that did not arrive is sent again.
const RESEND_MS: u64 = 2_000;
/// How long a root waits for its segment.
const SEGMENT_WAIT_MS: u64 = 500;
/// Own epochs kept for comparison; the state keeps as many.
const EPOCHS_KEPT: usize = 16;

/// What this node found of an epoch.
#[derive(Debug, Default)]
struct Own {
    index: u64,
    /// The root, and since when it is known.
    root: Option<(Hash, u64)>,
    segment: Option<Hash>,
    sent_at: Option<u64>,
}

/// The epochs this node has computed.
#[derive(Debug)]
pub(super) struct Roots {
    me: u64,
    own: BTreeMap<u64, Own>,
}

impl Roots {
    pub(super) fn new(me: u64) -> Self {
        Self { me, own: BTreeMap::new() }
    }

    /// A root was computed here.
    pub(super) fn computed(&mut self, epoch: u64, index: u64, root: Hash, now: u64) {
        self.of(epoch, index).root = Some((root, now));
    }

    /// A segment was sealed here.
    pub(super) fn sealed(&mut self, epoch: u64, index: u64, segment: Hash) {
        self.of(epoch, index).segment = Some(segment);
    }

    /// What is known of an epoch; it is to be attested as soon as it can be, whatever was sent before.
    fn of(&mut self, epoch: u64, index: u64) -> &mut Own {
        let oldest = self.own.keys().next_back().map_or(0, |newest| newest.saturating_sub(EPOCHS_KEPT as u64));
        self.own.retain(|epoch, _| *epoch > oldest);
        let own = self.own.entry(epoch).or_default();
        (own.index, own.sent_at) = (index, None);
        own
    }

    /// There is another leader, who may not have what was sent to the last one.
    pub(super) fn leader_changed(&mut self) {
        self.own.values_mut().for_each(|own| own.sent_at = None);
    }

    /// The attestation of the newest epoch that the log does not have all of yet, if none was sent just now.
    pub(super) fn due(&mut self, state: &State, now: u64) -> Option<AttestRoot> {
        let me = NodeId(self.me);
        self.own.iter_mut().rev().find_map(|(epoch, own)| {
            let (root, since) = own.root?;
            if own.sent_at.is_some_and(|at| now.saturating_sub(at) < RESEND_MS) {
                return None;
            }
            let row = state.epochs().find(|row| row.epoch == *epoch)?;
            let said = row.attested.iter().find(|said| said.node == me);
            let waits = own.segment.is_none() && now.saturating_sub(since) < SEGMENT_WAIT_MS;
            let lacks = said.is_none_or(|said| said.segment.is_none() && own.segment.is_some());
            if waits || !lacks {
                return None;
            }
            own.sent_at = Some(now);
            let segment = own.segment.map(Vec::from).unwrap_or_default();
            Some(AttestRoot { epoch: *epoch, index: own.index, root: root.to_vec(), segment })
        })
    }

    /// Why this node must stop, if a majority attested another root or another log than this node has.
    pub(super) fn diverged(&self, state: &State) -> Option<String> {
        state.epochs().find_map(|row| {
            let own = self.own.get(&row.epoch)?;
            // Counting votes costs more than seeing that nobody says anything else, which is how it should be.
            let other = |theirs: Hash, own: Option<Hash>| own.is_some_and(|own| own != theirs);
            let contradicts = |said: &Attestation| {
                let root = own.root.map(|(root, _)| root);
                other(said.root, root) || said.segment.is_some_and(|segment| other(segment, own.segment))
            };
            if !row.attested.iter().any(contradicts) {
                return None;
            }
            let differs = |theirs: Option<Hash>, own: Option<Hash>| {
                let (theirs, own) = (theirs?, own?);
                (theirs != own).then_some((theirs, own))
            };
            let root = differs(row.root(), own.root.map(|(root, _)| root)).map(|hashes| ("state", "root", hashes));
            let log = || differs(row.segment(), own.segment).map(|hashes| ("log", "hash", hashes));
            let (what, name, (theirs, own_hash)) = root.or_else(log)?;
            Some(format!(
                "the {what} of this coordinator differs from the quorum's: at log entry {} (epoch {}) its {name} is {}, a \
                 majority's is {}; replace this coordinator",
                own.index,
                row.epoch,
                hex::encode(own_hash),
                hex::encode(theirs)
            ))
        })
    }
}
