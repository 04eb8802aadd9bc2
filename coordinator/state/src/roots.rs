//! Roots of the state: at the close of an epoch every coordinator computes one over its own copy and attests it in the
//! log. Equal roots are what lets people believe any one of them; a differing one is shouted about.

use crate::{
    command::AttestRoot,
    context::Context,
    effect::Effect,
    ids::{Hash, NodeId},
    outcome::{Outcome, Refusal},
    state::State,
};
use serde::{Deserialize, Serialize};

/// Epochs whose roots are kept.
pub const EPOCHS_KEPT: u64 = 16;

/// A closed epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRow {
    /// Its number, from 1.
    pub epoch: u64,
    /// Index of the entry that closed it; the roots are over the state after that entry.
    pub index: u64,
    /// Attested roots in order of node.
    pub roots: Vec<(NodeId, Hash)>,
}

/// Called when a beat was applied: closes an epoch with every `epoch_beats`-th.
pub(crate) fn beat_applied(state: &mut State, ctx: &mut Context, number: u64) {
    let beats = u64::from(state.genesis.epoch_beats);
    if number.checked_rem(beats) != Some(0) {
        return;
    }
    let epoch = number.checked_div(beats).unwrap_or(0);
    state.epochs.insert(epoch, EpochRow { epoch, index: ctx.index, roots: Vec::new() });
    if let Some(old) = epoch.checked_sub(EPOCHS_KEPT) {
        state.epochs.remove(&old);
    }
    ctx.effect(Effect::RootDue { epoch, index: ctx.index });
}

/// A node's root for a closed epoch.
pub(crate) fn attest(state: &mut State, ctx: &mut Context, node: NodeId, cmd: &AttestRoot) -> Outcome {
    let Some(row) = state.epochs.get_mut(&cmd.epoch) else { return Refusal::UnknownEpoch.into() };
    if row.index != cmd.index {
        return Refusal::WrongIndex.into();
    }
    let at = match row.roots.binary_search_by_key(&node, |(node, _)| *node) {
        Ok(at) if row.roots.get(at).is_some_and(|(_, root)| *root == cmd.root) => return Outcome::DONE,
        Ok(_) => return Refusal::AlreadyAttested.into(),
        Err(at) => at,
    };
    let differs = row.roots.iter().any(|(_, root)| *root != cmd.root);
    row.roots.insert(at, (node, cmd.root));
    if differs {
        let mut subject = [0; 20];
        subject.iter_mut().zip(cmd.root).for_each(|(to, from)| *to = from);
        let text = format!("Node {node} has another root for epoch {} than its peers.", cmd.epoch);
        ctx.event("root.diverged", subject, text);
    }
    Outcome::DONE
}

impl State {
    /// The newest epoch that every node has attested, whether or not their roots agree.
    pub fn digest(&self) -> Option<&EpochRow> {
        let nodes = self.genesis.nodes.len();
        self.epochs.iter().rev().map(|(_, row)| row).find(|row| row.roots.len() == nodes)
    }

    /// The closed epochs that are kept, oldest first.
    pub fn epochs(&self) -> impl DoubleEndedIterator<Item = &EpochRow> {
        self.epochs.iter().map(|(_, row)| row)
    }
}
