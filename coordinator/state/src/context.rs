//! What a handler knows besides the state, and where it leaves what happened.

use crate::{
    LINKED_PER_ENTRY_MAX,
    effect::{Cause, Effect, Event, Memo, Movement, Reference},
    ids::{AccountId, CommandId, Key, MachineId, made_id},
    market::{Fresh, matching::LOOKS_PER_ENTRY_MAX},
};
use std::collections::BTreeSet;

/// The surroundings of one command, or of time-driven work (whose key and command id are zeros).
#[derive(Debug)]
pub(crate) struct Context {
    /// Ledger time of the entry, ms.
    pub(crate) now_ms: u64,
    /// Index of the entry.
    pub(crate) index: u64,
    /// Key that signed the envelope.
    pub(crate) key: Key,
    /// The envelope's id.
    pub(crate) command_id: CommandId,
    /// Position of the command in its envelope.
    pub(crate) position: u32,
    /// What the market is to look at after this command.
    pub(crate) fresh: Fresh,
    /// What matching may still cost in this entry: offers and orders looked at.
    pub(crate) looks: u32,
    /// Linked envelopes that this entry may still have.
    pub(crate) linked: u32,
    pub(crate) effects: BTreeSet<Effect>,
    pub(crate) events: Vec<Event>,
    pub(crate) movements: Vec<Movement>,
}

impl Context {
    /// The surroundings of an entry's time-driven work.
    pub(crate) fn new(index: u64, now_ms: u64) -> Self {
        Self {
            now_ms,
            index,
            key: [0; 32],
            command_id: [0; 16],
            position: 0,
            fresh: Fresh::default(),
            looks: LOOKS_PER_ENTRY_MAX,
            linked: LINKED_PER_ENTRY_MAX,
            effects: BTreeSet::new(),
            events: Vec::new(),
            movements: Vec::new(),
        }
    }

    /// The id of what this command makes; `kind` is "offer", "job", "campaign", "proposal" or "hold".
    pub(crate) fn new_id(&self, kind: &str) -> [u8; 20] {
        made_id(kind, &self.key, &self.command_id, self.position)
    }

    /// What this machine is owed may have changed.
    pub(crate) fn owed(&mut self, machine: MachineId) {
        self.effects.insert(Effect::Owed(machine));
    }

    /// Leaves any other hint.
    pub(crate) fn effect(&mut self, effect: Effect) {
        self.effects.insert(effect);
    }

    /// Leaves news for people: `kind` is a dotted name, `text` one sentence.
    pub(crate) fn event(&mut self, kind: &'static str, subject: impl Into<[u8; 20]>, text: impl Into<String>) {
        self.events.push(Event { kind, subject: subject.into(), text: text.into() });
    }

    /// Adds what only the ledger may add: see `ledger.rs`.
    pub(crate) fn movement(&mut self, movement: Movement) {
        self.movements.push(movement);
    }
}

/// What a movement is about besides amounts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) cause: Cause,
    pub(crate) counterparty: Option<AccountId>,
    pub(crate) reference: Option<Reference>,
    pub(crate) memo: Option<&'a Memo>,
}
