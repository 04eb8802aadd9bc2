//! Idempotency: an envelope is applied once. Its outcomes are remembered until it expires, so that whoever lost the
//! answer asks again and gets the first one; after that its expiry refuses it.

use crate::{
    ids::{CommandId, Hash, Key},
    outcome::Outcome,
    state::{KeyOwner, State},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::Arc;

/// Unexpired envelopes of one key.
pub const WINDOW_ENVELOPES_MAX: u32 = 65_536;
/// Envelopes forgotten in one entry. An entry of 1 MiB cannot hold as many, so forgetting keeps up with remembering.
const FORGOTTEN_PER_ENTRY_MAX: u32 = 8_192;

/// What is remembered of an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WindowRow {
    pub(crate) expires_ms: u64,
    /// SHA-256 of the payload: the same id for other contents is an error of the caller.
    pub(crate) payload: Hash,
    /// Index of the entry that applied it.
    pub(crate) index: u64,
    #[serde(serialize_with = "as_slice", deserialize_with = "from_vec")]
    pub(crate) outcomes: Arc<[Outcome]>,
}

/// Whether a key may have one more envelope remembered. A node's always may: were the window full of machines that come
/// and go, no beat could be told.
pub(crate) fn has_room(state: &State, key: &Key) -> bool {
    state.window_counts.get(key).is_none_or(|count| *count < WINDOW_ENVELOPES_MAX)
        || matches!(state.keys.get(key), Some(KeyOwner::Node(_)))
}

/// Remembers an applied envelope.
pub(crate) fn remember(state: &mut State, key: Key, id: CommandId, row: WindowRow) {
    let count = state.window_counts.get(&key).copied().unwrap_or(0);
    state.window_counts.insert(key, count.saturating_add(1));
    state.window_expiry.insert((row.expires_ms, key, id), ());
    state.windows.insert((key, id), row);
}

/// Forgets envelopes whose expiry has passed; they are refused as expired from now on.
pub(crate) fn expire(state: &mut State, now_ms: u64) {
    for _ in 0..FORGOTTEN_PER_ENTRY_MAX {
        let Some((expires_ms, key, id)) = state.window_expiry.first().map(|(due, ())| *due) else { return };
        // An envelope is good up to and including its expiry.
        if expires_ms >= now_ms {
            return;
        }
        state.window_expiry.remove(&(expires_ms, key, id));
        state.windows.remove(&(key, id));
        let left = state.window_counts.get(&key).copied().unwrap_or(0).saturating_sub(1);
        match left {
            0 => state.window_counts.remove(&key),
            left => state.window_counts.insert(key, left),
        };
    }
}

fn as_slice<S: Serializer>(outcomes: &Arc<[Outcome]>, serializer: S) -> Result<S::Ok, S::Error> {
    outcomes.as_ref().serialize(serializer)
}

fn from_vec<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[Outcome]>, D::Error> {
    Vec::deserialize(deserializer).map(Arc::from)
}
