//! Blocks: at the close of an epoch every coordinator computes the root of its own copy of the state and the hash of its
//! own copy of the log, and attests both in the log. Equal ones are what lets people believe any one coordinator, and a
//! copy of the log on any disk; a differing one is shouted about.

use crate::{
    command::AttestRoot,
    context::Context,
    effect::Effect,
    ids::{Hash, NodeId},
    ledger::supply,
    outcome::{Outcome, Refusal},
    state::State,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Epochs whose roots are kept.
pub const EPOCHS_KEPT: u64 = 16;

/// What one node says of a closed epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attestation {
    /// Who says it.
    pub node: NodeId,
    /// Root of its state after the entry that closed the epoch.
    pub root: Hash,
    /// Hash of its segment of the log, once it has sealed it.
    pub segment: Option<Hash>,
}

/// A closed epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRow {
    /// Its number, from 1.
    pub epoch: u64,
    /// Index of the entry that closed it; the roots are over the state after that entry, and its segment ends with it.
    pub index: u64,
    /// The voters at its close, in order: those that are waited for and count.
    pub voters: Vec<NodeId>,
    /// In order of node.
    pub attested: Vec<Attestation>,
}

impl EpochRow {
    /// The root that more than half of the voters attested.
    pub fn root(&self) -> Option<Hash> {
        self.majority(|said| Some(said.root))
    }

    /// The segment's hash that more than half of the voters attested.
    pub fn segment(&self) -> Option<Hash> {
        self.majority(|said| said.segment)
    }

    fn majority(&self, of: impl Fn(&Attestation) -> Option<Hash>) -> Option<Hash> {
        let mut votes: BTreeMap<Hash, usize> = BTreeMap::new();
        for hash in self.attested.iter().filter(|said| self.voters.contains(&said.node)).filter_map(of) {
            let count = votes.entry(hash).or_default();
            *count = count.saturating_add(1);
        }
        let half = self.voters.len().checked_div(2).unwrap_or(0);
        votes.into_iter().find(|(_, votes)| *votes > half).map(|(hash, _)| hash)
    }
}

/// Called when a beat was applied: closes an epoch with every `epoch_beats`-th.
pub(crate) fn beat_applied(state: &mut State, ctx: &mut Context, number: u64) {
    let beats = u64::from(state.genesis.epoch_beats);
    if number.checked_rem(beats) != Some(0) {
        return;
    }
    let epoch = number.checked_div(beats).unwrap_or(0);
    let voters = state.voters().map(|row| row.id).collect();
    state.epochs.insert(epoch, EpochRow { epoch, index: ctx.index, voters, attested: Vec::new() });
    if let Some(old) = epoch.checked_sub(EPOCHS_KEPT) {
        state.epochs.remove(&old);
    }
    supply::emit(state, ctx, epoch);
    ctx.effect(Effect::RootDue { epoch, index: ctx.index });
}

/// A node's root for a closed epoch, or the segment's hash that its earlier attestation of that root still lacked.
pub(crate) fn attest(state: &mut State, ctx: &mut Context, node: NodeId, cmd: &AttestRoot) -> Outcome {
    let Some(row) = state.epochs.get_mut(&cmd.epoch) else { return Refusal::UnknownEpoch.into() };
    if row.index != cmd.index {
        return Refusal::WrongIndex.into();
    }
    let said = Attestation { node, root: cmd.root, segment: cmd.segment };
    let differs = row.attested.iter().any(|other| other.node != node && other.root != cmd.root);
    let another = |other: &Attestation| other.node != node && other.segment.is_some() && other.segment != cmd.segment;
    let segment_differs = cmd.segment.is_some() && row.attested.iter().any(another);
    match row.attested.binary_search_by_key(&node, |said| said.node) {
        Err(at) => row.attested.insert(at, said),
        Ok(at) => match row.attested.get_mut(at) {
            Some(known) if known.root != cmd.root => return Refusal::AlreadyAttested.into(),
            Some(known) if cmd.segment.is_none() || known.segment == cmd.segment => return Outcome::DONE,
            Some(known) if known.segment.is_none() => *known = said,
            Some(_) | None => return Refusal::AlreadyAttested.into(),
        },
    }
    let mut subject = [0; 20];
    subject.iter_mut().zip(cmd.root).for_each(|(to, from)| *to = from);
    if differs {
        let text = format!("Node {node} has another root for epoch {} than its peers.", cmd.epoch);
        ctx.event("root.diverged", subject, text);
    }
    if segment_differs {
        let text = format!("Node {node} has another log for epoch {} than its peers.", cmd.epoch);
        ctx.event("segment.diverged", subject, text);
    }
    Outcome::DONE
}

impl State {
    /// The newest epoch that every voter of its time has attested that has not left since, whether or not their roots
    /// agree.
    pub fn digest(&self) -> Option<&EpochRow> {
        let attested = |row: &EpochRow, node: &NodeId| row.attested.iter().any(|said| said.node == *node);
        let whole = |row: &&EpochRow| row.voters.iter().all(|node| !self.takes_part(*node) || attested(row, node));
        self.epochs.iter().rev().map(|(_, row)| row).filter(|row| !row.attested.is_empty()).find(whole)
    }

    /// How many epochs have closed.
    pub fn closed_epochs(&self) -> u64 {
        self.beacon.number.checked_div(self.genesis.epoch_beats.into()).unwrap_or(0)
    }

    /// The closed epochs that are kept, oldest first.
    pub fn epochs(&self) -> impl DoubleEndedIterator<Item = &EpochRow> {
        self.epochs.iter().map(|(_, row)| row)
    }
}
