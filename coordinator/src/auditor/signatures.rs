//! What can be checked of an entry without the state, and takes nearly all of an audit's time: its form, and the signature
//! of each of its envelopes. Pure, so that entries can be checked in any order on any number of threads.

use super::{At, Difference, What};
use crate::archive::{Entry, hasher::entry_hash};
use matrixai_proto::{
    decode_strict,
    envelope::{self, COMMANDS},
    v1::{self, Batch, Command, Envelope, LogEntry, command::Kind},
};
use matrixai_protocol::Hash;
use matrixai_state::ids::Key;

/// An entry whose signatures hold, with what of it the replay looks at.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The entry.
    pub entry: Entry,
    /// Its hash.
    pub hash: Hash,
    /// How many envelopes it holds.
    pub envelopes: u64,
    /// Commands that make a key somebody's, whose proof of possession only the state can judge.
    pub keyed: Vec<(At, Envelope, Command)>,
    /// Attestations, with the key that signed each.
    pub attestations: Vec<(Key, v1::AttestRoot)>,
}

/// Checks an entry of a cluster's log.
///
/// # Errors
/// The first difference: an entry or envelope that no honest leader proposes, another cluster's, or a signature that does
/// not hold.
pub fn check(entry: Entry, cluster_id: &Hash) -> Result<Checked, Difference> {
    let hash = entry_hash(&entry);
    let mut checked = Checked { entry, hash, envelopes: 0, keyed: Vec::new(), attestations: Vec::new() };
    let index = checked.entry.index;
    if checked.entry.data.is_empty() {
        return Ok(checked);
    }
    let wire: LogEntry = decode_strict(&checked.entry.data)
        .map_err(|error| Difference::entry(index, What::Entry, "a LogEntry", error.to_string()))?;
    for (position, bytes) in wire.envelopes.iter().enumerate() {
        checked.envelopes += 1;
        check_envelope(&mut checked, position, bytes, cluster_id)?;
    }
    Ok(checked)
}

fn check_envelope(checked: &mut Checked, position: usize, bytes: &[u8], cluster_id: &Hash) -> Result<(), Difference> {
    let index = checked.entry.index;
    let unread = At { position, key: [0; 32], command_id: [0; 16] };
    let malformed = |at: &At, why: &dyn std::fmt::Display| {
        Difference::envelope(index, at.clone(), What::Envelope, "an envelope of commands", why.to_string())
    };
    let wire: Envelope = decode_strict(bytes).map_err(|error| malformed(&unread, &error))?;
    let at = At {
        key: wire.key.as_slice().try_into().unwrap_or(unread.key),
        command_id: wire.command_id.as_slice().try_into().unwrap_or(unread.command_id),
        position,
    };
    let found = |what, expected: String, found: String| Difference::envelope(index, at.clone(), what, expected, found);
    if wire.cluster_id != cluster_id {
        return Err(found(What::Cluster, hex::encode(cluster_id), hex::encode(&wire.cluster_id)));
    }
    envelope::verify(&wire).map_err(|error| {
        found(What::Signature, "the key's signature over the contents".to_owned(), error.to_string())
    })?;
    if wire.method != COMMANDS {
        return Err(malformed(&at, &format_args!("the method {:?}", wire.method)));
    }
    let batch: Batch = decode_strict(&wire.payload).map_err(|error| malformed(&at, &error))?;
    for command in batch.commands {
        match command.kind {
            Some(Kind::EnrolMachine(_) | Kind::RotateKey(_) | Kind::RecoverAccount(_)) => {
                checked.keyed.push((at.clone(), wire.clone(), command));
            }
            Some(Kind::AttestRoot(attestation)) => checked.attestations.push((at.key, attestation)),
            _ => {}
        }
    }
    Ok(())
}
