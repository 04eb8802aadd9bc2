//! This node's own commands: signed with its key like anyone else's, one at a time about one thing.

use matrixai_proto::{
    envelope::{COMMANDS, Signer},
    v1::{Batch, Command, Envelope},
};
use matrixai_state::ids::{CommandId, Hash, Key, MachineId};
use prost::Message as _;
use std::collections::{BTreeMap, VecDeque};

/// Life of an own envelope, ms of ledger time.
const LIFE_MS: u64 = 60_000;

/// What an own command is about. While one is on its way, no second about the same thing is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// The beat of this number.
    Beat(u64),
    /// The presence of a machine.
    Machine(MachineId),
    /// The root of an epoch.
    Root(u64),
    /// The rules that this build applies.
    Rules,
}

/// The own commands that wait or are on their way.
#[derive(Debug)]
pub(super) struct Own {
    signer: Signer,
    key: Key,
    cluster_id: Hash,
    boot: [u8; 8],
    made: u64,
    queue: VecDeque<(CommandId, Vec<u8>)>,
    on_their_way: BTreeMap<Subject, OnItsWay>,
}

#[derive(Debug)]
struct OnItsWay {
    command_id: CommandId,
    since: u64,
    /// The proposal it is part of, once it is.
    proposal: Option<u64>,
}

impl Own {
    pub(super) fn new(signer: Signer, cluster_id: Hash, boot: [u8; 8]) -> Self {
        let key = signer.public_key();
        Self { signer, key, cluster_id, boot, made: 0, queue: VecDeque::new(), on_their_way: BTreeMap::new() }
    }

    /// This node's public key.
    pub(super) fn key(&self) -> Key {
        self.key
    }

    /// Whether a command about this is on its way.
    pub(super) fn is_on_its_way(&self, subject: Subject) -> bool {
        self.on_their_way.contains_key(&subject)
    }

    /// Signs a command and queues it for the next entry, unless one about the same subject is on its way.
    pub(super) fn queue(&mut self, subject: Subject, command: Command, stamp: u64, now: u64) {
        if self.is_on_its_way(subject) {
            return;
        }
        let envelope = self.seal(command, stamp);
        let mut command_id = [0; 16];
        command_id.copy_from_slice(&envelope.command_id);
        self.queue.push_back((command_id, envelope.encode_to_vec()));
        self.on_their_way.insert(subject, OnItsWay { command_id, since: now, proposal: None });
    }

    /// A signed envelope of one command. Ids count up from the process's random start, so none is used twice.
    pub(super) fn seal(&mut self, command: Command, stamp: u64) -> Envelope {
        self.made += 1;
        let mut command_id = [0; 16];
        command_id[..8].copy_from_slice(&self.boot);
        command_id[8..].copy_from_slice(&self.made.to_le_bytes());
        let payload = Batch { commands: vec![command], linked: false }.encode_to_vec();
        self.signer.seal(self.cluster_id, COMMANDS, command_id, stamp.saturating_add(LIFE_MS), payload)
    }

    /// Takes up to `count` envelopes for the proposal `number`.
    pub(super) fn take(&mut self, number: u64, count: usize) -> Vec<Vec<u8>> {
        let taken: Vec<_> = self.queue.drain(..count.min(self.queue.len())).collect();
        for on_its_way in self.on_their_way.values_mut() {
            if taken.iter().any(|(command_id, _)| *command_id == on_its_way.command_id) {
                on_its_way.proposal = Some(number);
            }
        }
        taken.into_iter().map(|(_, bytes)| bytes).collect()
    }

    pub(super) fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// An own command was applied, whatever became of it: if it is still wanted, it is made again.
    pub(super) fn decided(&mut self, command_id: &CommandId) {
        self.on_their_way.retain(|_, on_its_way| on_its_way.command_id != *command_id);
    }

    /// The proposal of this number was not taken.
    pub(super) fn dropped(&mut self, number: u64) {
        self.on_their_way.retain(|_, on_its_way| on_its_way.proposal != Some(number));
    }

    /// This node no longer leads: everything the leader wants is the next leader's to want.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.on_their_way.clear();
    }

    /// Forgets what has been on its way since before a point in time, so that it is made again.
    pub(super) fn forget_older(&mut self, since: u64) {
        self.on_their_way.retain(|_, on_its_way| on_its_way.since >= since);
    }
}
