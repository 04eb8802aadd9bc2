//! Clients: what they have asked for and not heard about yet. A client asks again, with the same envelope, until it is
//! answered or loses patience; what it never heard of is unknown, not failed.

use super::{
    checks::{
        linear::{Does, Histories, Op as Past},
        roots::{Roots, place},
    },
    clock::Micros,
    rng::Rng,
};
use matrixai_coordinator::pending::Waiting;
use matrixai_proto::v1::{Batch, Command, Envelope, command::Kind};
use matrixai_protocol::sha256;
use matrixai_state::{
    Outcome,
    ids::{AccountId, CommandId, Hash, Key},
};
use prost::Message as _;
use std::collections::BTreeMap;

/// Tries after which most clients lose patience.
const TRIES_MAX: u32 = 12;
/// One client in so many loses it at once.
const HASTY_ONE_IN: u64 = 16;

/// A transfer between watched accounts.
#[derive(Debug, Clone, Copy)]
pub struct Moves {
    /// Payer.
    pub from: AccountId,
    /// Receiver.
    pub to: AccountId,
    /// Minor units.
    pub amount: u128,
}

/// An envelope on its way.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its name.
    pub id: (Key, CommandId),
    payload: Hash,
    bytes: Vec<u8>,
    /// When it was asked for first, in the world's own count.
    pub call: u64,
    /// What it does to watched accounts.
    pub moves: Option<Moves>,
    /// Tries so far.
    pub tries: u32,
    tries_max: u32,
    /// Tries that may still have an effect: all but those that a coordinator answered with "not proposed".
    open: u32,
    /// Which coordinator is asked next.
    pub node: u64,
}

impl Asked {
    /// The envelope as a coordinator gets it.
    pub fn waiting(&self) -> Waiting {
        Waiting { id: self.id, payload: self.payload, bytes: self.bytes.clone() }
    }
}

/// An envelope as a coordinator takes it in. Its fields have the right lengths: they were made here.
pub fn waiting(envelope: &Envelope) -> Waiting {
    let key = envelope.key.as_slice().try_into().unwrap_or([0; 32]);
    let id = envelope.command_id.as_slice().try_into().unwrap_or([0; 16]);
    Waiting { id: (key, id), payload: sha256(&[&envelope.payload]), bytes: envelope.encode_to_vec() }
}

/// An envelope to be asked for.
#[derive(Debug)]
pub struct Request {
    /// Who signs.
    pub key: Key,
    /// What.
    pub commands: Vec<Kind>,
    /// What it does to watched accounts.
    pub moves: Option<Moves>,
    /// Ledger time after which it is refused.
    pub expires_ms: u64,
    /// Another cluster's id, for an envelope that went astray.
    pub astray: bool,
    /// The id of an earlier envelope, which is a mistake.
    pub reuses: Option<CommandId>,
    /// Bytes that are no batch.
    pub garbage: bool,
    /// Never give up.
    pub patient: bool,
}

/// A read of one account's balance.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Whose.
    pub account: AccountId,
    /// Who asks.
    pub reader: usize,
    /// How old the answer may be, ms; none for a linearizable one.
    pub bound_ms: Option<u64>,
    /// When it was asked for: in the order of everything, and in time.
    pub call: u64,
    /// See `call`.
    pub at: Micros,
}

/// Everything asked for.
#[derive(Debug)]
pub struct Clients {
    rng: Rng,
    cluster_id: Hash,
    asked: BTreeMap<u64, Asked>,
    reading: BTreeMap<u64, Reading>,
    next: u64,
    /// Who answers best, as clients believe.
    pub leader: u64,
    /// Envelopes and commands asked for.
    pub commands: u64,
    /// Linearizable reads asked for.
    pub reads: u64,
}

impl Clients {
    /// Nobody has asked for anything.
    pub fn new(rng: Rng, cluster_id: Hash) -> Self {
        Self {
            rng,
            cluster_id,
            asked: BTreeMap::new(),
            reading: BTreeMap::new(),
            next: 0,
            leader: 1,
            commands: 0,
            reads: 0,
        }
    }

    /// Seals a request; answers its number.
    pub fn ask(&mut self, request: Request, call: u64) -> u64 {
        self.next += 1;
        self.commands += request.commands.len() as u64;
        let mut command_id = [0; 16];
        command_id[..8].copy_from_slice(&self.next.to_le_bytes());
        let command_id = request.reuses.unwrap_or(command_id);
        let commands: Vec<_> = request.commands.into_iter().map(|kind| Command { kind: Some(kind) }).collect();
        let linked = commands.len() > 1 && self.next.is_multiple_of(2);
        let mut payload = Batch { commands, linked }.encode_to_vec();
        if request.garbage {
            payload.push(0xff);
        }
        let envelope = Envelope {
            cluster_id: if request.astray { vec![7; 32] } else { self.cluster_id.to_vec() },
            key: request.key.to_vec(),
            method: "commands".to_owned(),
            command_id: command_id.to_vec(),
            expires_ms: request.expires_ms,
            signature: vec![0; 64],
            payload,
        };
        let hasty = self.rng.one_in(HASTY_ONE_IN);
        let tries_max = match (request.patient, hasty) {
            (true, _) => u32::MAX,
            (false, true) => 1,
            (false, false) => TRIES_MAX,
        };
        let asked = Asked {
            id: (request.key, command_id),
            payload: sha256(&[&envelope.payload]),
            bytes: envelope.encode_to_vec(),
            call,
            moves: request.moves,
            tries: 0,
            tries_max,
            open: 0,
            node: self.leader,
        };
        self.asked.insert(self.next, asked);
        self.next
    }

    /// A request goes out (again); none when it has been answered or the client gave up.
    pub fn send(&mut self, number: u64, histories: &mut Histories) -> Option<&Asked> {
        let spent = self.asked.get(&number).is_some_and(|asked| asked.tries >= asked.tries_max);
        if spent && let Some(asked) = self.asked.remove(&number) {
            self.forget(&asked, histories);
            return None;
        }
        let asked = self.asked.get_mut(&number)?;
        asked.tries += 1;
        asked.open += 1;
        Some(asked)
    }

    /// A coordinator said that it did not propose a request.
    pub fn not_proposed(&mut self, number: u64) {
        if let Some(asked) = self.asked.get_mut(&number) {
            asked.open = asked.open.saturating_sub(1);
        }
    }

    /// How often a request was sent; none when it is no longer waited for.
    pub fn tries(&self, number: u64) -> Option<u32> {
        self.asked.get(&number).map(|asked| asked.tries)
    }

    /// Asks another coordinator next time: the one named, or any.
    pub fn turn_to(&mut self, number: u64, node: u64, nodes: &[u64]) {
        let node = if nodes.contains(&node) { node } else { *self.rng.pick(nodes) };
        if let Some(asked) = self.asked.get_mut(&number) {
            asked.node = node;
        }
        self.leader = node;
    }

    /// A request was decided; answers it, if it still waited.
    pub fn decided(
        &mut self,
        number: u64,
        outcome: &Outcome,
        answer: u64,
        log: (&Roots, u64),
        minimum: bool,
        histories: &mut Histories,
    ) -> Option<Asked> {
        let asked = self.asked.remove(&number)?;
        let hint = log.0.place_of(log.1, &asked.id);
        if let Some(moves) = asked.moves {
            let past = |answer, does| Past { call: asked.call, answer, does, hint };
            match outcome {
                Outcome::Done { .. } => {
                    histories.add(moves.from, past(Some(answer), Does::Debit(moves.amount)));
                    histories.add(moves.to, past(Some(answer), Does::Credit(moves.amount)));
                }
                // Where accounts must keep something, less than all of it is too much.
                Outcome::Refused(refusal) if refusal.name() == "insufficient_funds" && !minimum => {
                    histories.add(moves.from, past(Some(answer), Does::TooMuch(moves.amount)));
                }
                // An envelope sent again after it was forgotten is refused for its age, whatever became of another try.
                Outcome::Refused(refusal) if refusal.name() == "expired" && asked.open > 1 => {
                    self.forget(&asked, histories);
                }
                Outcome::Refused(_) => {}
            }
        }
        Some(asked)
    }

    /// What became of it is unknown, unless every try was answered with "not proposed": then it never happened.
    fn forget(&self, asked: &Asked, histories: &mut Histories) {
        if let Some(moves) = asked.moves.filter(|_| asked.open > 0) {
            let past = |does| Past { call: asked.call, answer: None, does, hint: u64::MAX };
            histories.forgotten(asked.call, asked.id);
            histories.add(moves.from, past(Does::Debit(moves.amount)));
            histories.add(moves.to, past(Does::Credit(moves.amount)));
        }
    }

    /// The world ends: everything that still waits is unknown.
    pub fn close(&mut self, histories: &mut Histories) {
        for asked in std::mem::take(&mut self.asked).into_values() {
            self.forget(&asked, histories);
        }
    }

    /// Begins a read; answers its number.
    pub fn read(&mut self, reading: Reading) -> u64 {
        self.next += 1;
        self.reads += 1;
        self.reading.insert(self.next, reading);
        self.next
    }

    /// A read was answered with a balance as of an index, or (`seen` is none) failed: a read that failed tells nothing.
    pub fn has_read(&mut self, number: u64, seen: Option<(u128, u64)>, answer: u64, histories: &mut Histories) {
        let Some(reading) = self.reading.remove(&number) else { return };
        if let Some((balance, index)) = seen
            && reading.bound_ms.is_none()
        {
            let hint = place(index, u64::MAX);
            let past = Past { call: reading.call, answer: Some(answer), does: Does::Read(balance), hint };
            histories.add(reading.account, past);
        }
    }

    /// Whose balance a read is about.
    pub fn reading(&self, number: u64) -> Option<Reading> {
        self.reading.get(&number).copied()
    }

    /// Number of the newest request: ids of earlier ones can be made from smaller numbers.
    pub fn newest(&self) -> u64 {
        self.next
    }
}
