//! The whole state as bytes, page by page, so that whoever loads it has the same root as whoever wrote it.

use crate::{
    genesis::{Genesis, GenesisError},
    ids::Hash,
    state::State,
};
use serde::{Deserialize, Serialize};

/// First bytes of every snapshot of this version.
const MAGIC: &[u8] = b"MatrixAI/snapshot/v1\0";

/// Why bytes are no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Not written by this version.
    #[error("not a snapshot of this version")]
    Magic,
    /// The encoding is broken.
    #[error("the snapshot is damaged: {0}")]
    Damaged(String),
    /// The genesis inside is none.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// The contents are not what the snapshot says they are.
    #[error("the snapshot's contents do not have the root that it names")]
    Root,
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    genesis: Vec<u8>,
    root: Hash,
    parts: Vec<u8>,
}

/// The state as bytes.
pub fn encode(state: &State) -> Vec<u8> {
    let plain = "the state is plain data, which postcard always encodes";
    let parts = postcard::to_allocvec(&state.parts()).expect(plain);
    let envelope = Envelope { genesis: state.founding().bytes.clone(), root: state.root(), parts };
    let mut bytes = MAGIC.to_vec();
    bytes.extend(postcard::to_allocvec(&envelope).expect(plain));
    bytes
}

/// The state of a snapshot.
///
/// # Errors
/// When the bytes are damaged or do not have the root that they name.
pub fn decode(bytes: &[u8]) -> Result<State, SnapshotError> {
    let body = bytes.strip_prefix(MAGIC).ok_or(SnapshotError::Magic)?;
    let damaged = |error: postcard::Error| SnapshotError::Damaged(error.to_string());
    let envelope: Envelope = postcard::from_bytes(body).map_err(damaged)?;
    let state = State::from_parts(Genesis::read(&envelope.genesis)?, &envelope.parts).map_err(damaged)?;
    if state.root() == envelope.root { Ok(state) } else { Err(SnapshotError::Root) }
}
