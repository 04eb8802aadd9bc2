//! What an entry says, read by the simulator itself: its commands with their signers and outcomes.

use matrixai_proto::{
    decode_strict,
    v1::{Batch, Envelope, LogEntry, command::Kind},
};
use matrixai_state::{Applied, Outcome, ids::Key};

/// One command of an entry.
#[derive(Debug, Clone)]
pub struct Said {
    /// Who signed it.
    pub key: Key,
    /// What.
    pub kind: Kind,
    /// Whether it happened.
    pub done: bool,
    /// The outcome's name on the wire.
    pub outcome: &'static str,
    /// Index of the entry that decided it; an earlier one for a repeated envelope.
    pub index: u64,
    /// Envelopes before its own in this entry.
    pub envelope: usize,
}

/// The commands of an entry that can be read, and names of the outcomes of envelopes that cannot.
pub fn read(data: &[u8], applied: &Applied) -> (Vec<Said>, Vec<&'static str>) {
    let mut said = Vec::new();
    let mut unread = Vec::new();
    let Ok(entry) = decode_strict::<LogEntry>(data) else { return (said, unread) };
    for (at, (bytes, result)) in entry.envelopes.iter().zip(&applied.results).enumerate() {
        let envelope = decode_strict::<Envelope>(bytes).ok();
        let batch = envelope.and_then(|envelope| decode_strict::<Batch>(&envelope.payload).ok());
        let commands = batch.map(|batch| batch.commands).unwrap_or_default();
        if commands.len() != result.outcomes.len() || commands.iter().any(|command| command.kind.is_none()) {
            unread.extend(result.outcomes.iter().map(outcome_name));
            continue;
        }
        for (command, outcome) in commands.into_iter().zip(result.outcomes.iter()) {
            let Some(kind) = command.kind else { continue };
            let done = matches!(outcome, Outcome::Done { .. });
            let outcome = outcome_name(outcome);
            said.push(Said { key: result.key, kind, done, outcome, index: result.index, envelope: at });
        }
    }
    (said, unread)
}

/// An outcome's name on the wire.
pub fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done { .. } => "done",
        Outcome::Refused(refusal) => refusal.name(),
    }
}
