//! What the nodes signed of each epoch, against what the replay found. Votes are counted here, from the signed
//! attestations, whatever the state thought of them: a log that was changed may well have changed that.

use super::{Difference, What};
use crate::archive::{Head, SegmentHasher};
use matrixai_proto::v1::AttestRoot;
use matrixai_protocol::Hash;
use matrixai_state::{
    Signer, State,
    ids::{Key, NodeId},
};
use std::collections::BTreeMap;

/// Epochs without a majority's attestations that are waited for; nodes attest the newest epoch only, so one may be skipped.
const UNDECIDED_MAX: usize = 16;

/// What the replay found of an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mine {
    /// First entry of its segment.
    pub first: u64,
    /// The entry that closed it.
    pub index: u64,
    /// The state's root after it.
    pub root: Hash,
    /// The segment's hash, if the hash of the segment before is known.
    pub segment: Option<Hash>,
    /// The voters at its close: those that count.
    pub voters: Vec<NodeId>,
}

/// What a node signed of an epoch: index, root, segment.
type Vote = (u64, Hash, Option<Hash>);

/// The epochs that are not decided yet.
#[derive(Debug)]
pub struct Blocks {
    hasher: SegmentHasher,
    /// Whether the hash of the segment before the current one is known.
    chained: bool,
    mine: BTreeMap<u64, Mine>,
    votes: BTreeMap<u64, BTreeMap<NodeId, Vote>>,
    closed: u64,
    /// Epochs before this one are compared, but not counted.
    counted_from: u64,
    roots: u64,
    segments: u64,
    last: Option<Head>,
}

impl Blocks {
    /// Starts behind a place; `chained` if its hash is known.
    pub fn behind(head: Head, chained: bool) -> Self {
        Self {
            hasher: SegmentHasher::after(head),
            chained,
            mine: BTreeMap::new(),
            votes: BTreeMap::new(),
            closed: head.epoch,
            counted_from: 0,
            roots: 0,
            segments: 0,
            last: None,
        }
    }

    /// Counts confirmed epochs from this one on only.
    pub fn count_from(&mut self, epoch: u64) {
        self.counted_from = epoch;
    }

    /// The place that the current segment begins behind, and whether its hash is known.
    pub fn behind_now(&self) -> (Head, bool) {
        (self.hasher.before(), self.chained)
    }

    /// An entry of the log.
    pub fn entry(&mut self, index: u64, hash: &Hash) {
        self.hasher.push(index, hash);
    }

    /// The last entry closed an epoch; `state` is that after it.
    pub fn closed(&mut self, epoch: u64, state: &State) {
        let head = self.hasher.sealed().head;
        let first = self.hasher.before().index + 1;
        let (root, voters) = (state.root(), state.voters().map(|row| row.id).collect());
        let segment = self.chained.then_some(head.hash);
        self.mine.insert(epoch, Mine { first, index: head.index, root, segment, voters });
        self.hasher = SegmentHasher::after(head);
        self.closed = epoch;
        while self.mine.len() > UNDECIDED_MAX {
            self.mine.pop_first();
        }
    }

    /// Attestations that an entry holds.
    ///
    /// # Errors
    /// When a majority signed something else than the replay found.
    pub fn attested(&mut self, index: u64, said: &[(Key, AttestRoot)], state: &State) -> Result<(), Difference> {
        for (key, attestation) in said {
            let Some(Signer::Node(node)) = state.key_role(key) else { continue };
            let Ok(root) = attestation.root.as_slice().try_into() else { continue };
            let segment = attestation.segment.as_slice().try_into().ok();
            let votes = self.votes.entry(attestation.epoch).or_default();
            let vote = votes.entry(node).or_insert((attestation.index, root, segment));
            vote.2 = vote.2.or(segment);
        }
        if said.is_empty() {
            return Ok(());
        }
        let epochs: Vec<u64> = self.votes.keys().copied().collect();
        for epoch in epochs {
            self.decide(index, epoch, state, false)?;
        }
        while self.votes.len() > UNDECIDED_MAX {
            self.votes.pop_first();
        }
        Ok(())
    }

    /// Decides what can be decided without the attestations that are still to come.
    ///
    /// # Errors
    /// As [`Blocks::attested`].
    pub fn finish(&mut self, state: &State) -> Result<(), Difference> {
        let epochs: Vec<u64> = self.votes.keys().copied().collect();
        epochs.into_iter().try_for_each(|epoch| self.decide(state.index(), epoch, state, true))
    }

    /// Epochs whose root, and whose segment, a majority signed as found here.
    pub fn confirmed(&self) -> (u64, u64) {
        (self.roots, self.segments)
    }

    /// The last place that a majority vouches for.
    pub fn last_attested(&self) -> Option<Head> {
        self.last
    }

    /// Compares an epoch once a majority has signed. The segment goes first: a log that was changed explains a state that
    /// differs. So a root waits for the segment's majority, until two more epochs have closed without it.
    fn decide(&mut self, at: u64, epoch: u64, state: &State, last_call: bool) -> Result<(), Difference> {
        let now = || state.voters().map(|row| row.id).collect();
        let voters = self.mine.get(&epoch).map_or_else(now, |mine| mine.voters.clone());
        let half = voters.len() / 2;
        let votes = self.votes.get(&epoch).into_iter().flatten();
        let votes = votes.filter(|(node, _)| voters.contains(node)).map(|(_, vote)| vote);
        let (mut closings, mut segments): (BTreeMap<(u64, Hash), usize>, BTreeMap<Hash, usize>) = Default::default();
        for (index, root, segment) in votes {
            *closings.entry((*index, *root)).or_default() += 1;
            if let Some(segment) = segment {
                *segments.entry(*segment).or_default() += 1;
            }
        }
        let Some(((index, root), _)) = closings.into_iter().find(|(_, votes)| *votes > half) else { return Ok(()) };
        let segment = segments.into_iter().find(|(_, votes)| *votes > half).map(|(segment, _)| segment);
        let Some(mine) = self.mine.get(&epoch).cloned() else {
            return self.unclosed(at, epoch, index);
        };
        let range = (mine.first, mine.index);
        if mine.index != index {
            let expected = format!("epoch {epoch} to close with entry {index}, as a majority signed");
            let found = format!("entry {}", mine.index);
            return Err(Difference::entries(range, What::Segment, expected, found));
        }
        let differs = |what, expected: Hash, found: Hash| {
            let expected = format!("{} for epoch {epoch}, as a majority signed", hex::encode(expected));
            Err(Difference::entries(range, what, expected, hex::encode(found)))
        };
        if let (Some(expected), Some(found)) = (segment, mine.segment)
            && expected != found
        {
            return differs(What::Segment, expected, found);
        }
        if segment.is_none() && mine.root != root && epoch + 2 > self.closed && !last_call {
            return Ok(());
        }
        if mine.root != root {
            return differs(What::Root, root, mine.root);
        }
        if segment.is_none() && epoch + 2 > self.closed && !last_call {
            return Ok(());
        }
        self.confirm(epoch, index, segment, &mine);
        Ok(())
    }

    fn confirm(&mut self, epoch: u64, index: u64, segment: Option<Hash>, mine: &Mine) {
        self.mine.remove(&epoch);
        self.votes.remove(&epoch);
        let counts = epoch >= self.counted_from;
        self.roots += u64::from(counts);
        if let Some(segment) = segment {
            self.segments += u64::from(counts && mine.segment.is_some());
            self.last = Some(Head { epoch, index, hash: segment });
            if !self.chained && self.hasher.before().epoch == epoch {
                self.hasher.chain_to(segment);
                self.chained = true;
            }
        }
    }

    /// A majority signed the close of an epoch that has not closed here.
    fn unclosed(&mut self, at: u64, epoch: u64, index: u64) -> Result<(), Difference> {
        // Decided before, or from before the audit's beginning.
        if epoch <= self.closed {
            self.votes.remove(&epoch);
            return Ok(());
        }
        let first = self.hasher.before().index + 1;
        let expected = format!("epoch {epoch} to close with entry {index}, as a majority signed");
        Err(Difference::entries((first, at), What::Segment, expected, format!("it is open after entry {at}")))
    }
}
