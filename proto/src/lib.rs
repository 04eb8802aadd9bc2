//! The wire: generated messages and services, and the signed envelope that every change travels in.
//!
//! Without features this package is messages only, so that the pure state machine can decode its commands
//! without pulling in a network stack. `grpc` adds the tonic clients and servers, `signing` the envelope's ed25519.

/// Messages and services of `matrixai.v1`.
#[allow(missing_debug_implementations, unreachable_pub, clippy::all)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/matrixai.v1.rs"));
}

pub mod envelope;

/// Descriptors of every file, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Decodes a message and refuses anything that its canonical encoding would not hold: unknown fields, fields out of
/// order, explicit defaults.
///
/// # Errors
/// When the bytes are no such message or not its canonical encoding.
pub fn decode_strict<M: prost::Message + Default>(bytes: &[u8]) -> Result<M, StrictError> {
    let message = M::decode(bytes).map_err(|error| StrictError::Malformed(error.to_string()))?;
    if message.encode_to_vec() == bytes { Ok(message) } else { Err(StrictError::NotCanonical) }
}

/// Why bytes were refused by [`decode_strict`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StrictError {
    /// Not a message of this type.
    #[error("the payload is not a message of its type: {0}")]
    Malformed(String),
    /// Unknown fields, or not the canonical encoding.
    #[error("the payload has unknown fields or is not in canonical form (fields ascending, defaults omitted)")]
    NotCanonical,
}
