//! The signing envelope: which bytes are signed, and how a signature is made and checked.

use crate::v1::Envelope;

/// Method of an envelope that carries a [`crate::v1::Batch`].
pub const COMMANDS: &str = "commands";
/// Method of an envelope that carries a [`crate::v1::SessionClaim`].
pub const SESSION: &str = "session";
/// Method of an envelope that carries a [`crate::v1::PutClaim`].
pub const ARTIFACT_PUT: &str = "artifact.put";
/// Method of an envelope that carries a [`crate::v1::PeerClaim`].
pub const PEER: &str = "peer";
/// Method of an envelope that carries a [`crate::v1::TransferClaim`].
pub const TRANSFER_LEADER: &str = "transfer_leader";
/// Method of an envelope that carries a [`crate::v1::FoundingClaim`].
pub const FOUND: &str = "found";

/// Longest life of an envelope ahead of ledger time.
pub const EXPIRY_AHEAD_MS_MAX: u64 = 600_000;
/// Longest payload of an envelope: room for as many commands as an envelope may carry.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Longest command: none over 64 KiB enters the log.
pub const COMMAND_BYTES_MAX: usize = 64 << 10;

const DOMAIN: &[u8] = b"MatrixAI/envelope/v1\0";

/// The bytes that an envelope's signature covers (see `Envelope` in ledger.proto).
pub fn signed_bytes(envelope: &Envelope) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(DOMAIN.len() + 128 + envelope.payload.len());
    bytes.extend_from_slice(DOMAIN);
    bytes.extend_from_slice(&envelope.cluster_id);
    bytes.extend_from_slice(&envelope.key);
    bytes.extend_from_slice(&(envelope.method.len() as u32).to_le_bytes());
    bytes.extend_from_slice(envelope.method.as_bytes());
    bytes.extend_from_slice(&envelope.command_id);
    bytes.extend_from_slice(&envelope.expires_ms.to_le_bytes());
    bytes.extend_from_slice(&envelope.payload);
    bytes
}

#[cfg(feature = "signing")]
mod known;
#[cfg(feature = "signing")]
mod verify;

#[cfg(feature = "signing")]
pub use known::KnownKeys;
#[cfg(feature = "signing")]
pub use signing::{SignatureError, Signer};
#[cfg(feature = "signing")]
pub use verify::{verify, verify_all};

#[cfg(feature = "signing")]
mod signing {
    use super::signed_bytes;
    use crate::v1::Envelope;
    use ring::{
        rand::{SecureRandom, SystemRandom},
        signature::{Ed25519KeyPair, KeyPair},
    };

    /// Why an envelope's signature was refused.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
    pub enum SignatureError {
        /// A field has the wrong length; signing over it would be ambiguous.
        #[error("{0} of an envelope must be {1} bytes long")]
        Length(&'static str, usize),
        /// The signature is not the key's over these bytes.
        #[error("the envelope's signature is not its key's over its contents")]
        Wrong,
        /// The private key's seed is unusable.
        #[error("an ed25519 seed must be 32 bytes long")]
        Seed,
    }

    /// An ed25519 key that signs envelopes.
    pub struct Signer {
        seed: [u8; 32],
        pair: Ed25519KeyPair,
    }

    impl std::fmt::Debug for Signer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("Signer").finish_non_exhaustive()
        }
    }

    impl Signer {
        /// The key of a 32-byte seed (RFC 8032's private key).
        ///
        /// # Errors
        /// [`SignatureError::Seed`] when ring refuses the seed.
        pub fn from_seed(seed: [u8; 32]) -> Result<Self, SignatureError> {
            let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| SignatureError::Seed)?;
            Ok(Self { seed, pair })
        }

        /// A new key from the operating system's random source.
        ///
        /// # Errors
        /// [`SignatureError::Seed`] when the system has no random bytes.
        pub fn generate() -> Result<Self, SignatureError> {
            Self::from_seed(random()?)
        }

        /// The private seed, for writing to a key file.
        pub fn seed(&self) -> &[u8; 32] {
            &self.seed
        }

        /// The public key.
        pub fn public_key(&self) -> [u8; 32] {
            let mut key = [0; 32];
            key.copy_from_slice(self.pair.public_key().as_ref());
            key
        }

        /// Signs bytes that carry their own domain tag (proof of possession at enrolment).
        pub fn sign_raw(&self, bytes: &[u8]) -> [u8; 64] {
            let mut signature = [0; 64];
            signature.copy_from_slice(self.pair.sign(bytes).as_ref());
            signature
        }

        /// A signed envelope with a given command id.
        pub fn seal(
            &self,
            cluster_id: [u8; 32],
            method: &str,
            command_id: [u8; 16],
            expires_ms: u64,
            payload: Vec<u8>,
        ) -> Envelope {
            let mut envelope = Envelope {
                cluster_id: cluster_id.to_vec(),
                key: self.public_key().to_vec(),
                method: method.to_owned(),
                command_id: command_id.to_vec(),
                expires_ms,
                payload,
                signature: Vec::new(),
            };
            envelope.signature = self.sign_raw(&signed_bytes(&envelope)).to_vec();
            envelope
        }
    }

    /// Random bytes from the operating system (command ids, salts, seeds).
    ///
    /// # Errors
    /// [`SignatureError::Seed`] when the system has none.
    pub fn random<const N: usize>() -> Result<[u8; N], SignatureError> {
        let mut bytes = [0; N];
        SystemRandom::new().fill(&mut bytes).map_err(|_| SignatureError::Seed)?;
        Ok(bytes)
    }
}

#[cfg(feature = "signing")]
pub use signing::random;
