//! Signs with the machine key: one place knows the key, the cluster and what time to write into an envelope.

use crate::clock::Clock;
use matrixai_proto::{
    envelope::{ARTIFACT_PUT, COMMANDS, SESSION, SignatureError, Signer, random},
    v1::{Envelope, PutClaim, SessionClaim},
};
use matrixai_protocol::Hash;
use prost::Message as _;
use std::sync::Arc;

/// Life of an envelope from when it is signed, ledger ms. Half of what the ledger allows, since the estimate of ledger
/// time may be off.
const LIFE_MS: u64 = 300_000;

#[derive(Debug)]
pub(crate) struct Sealer {
    signer: Signer,
    cluster_id: Hash,
    clock: Arc<Clock>,
}

impl Sealer {
    pub(crate) fn new(signer: Signer, cluster_id: Hash, clock: Arc<Clock>) -> Self {
        Self { signer, cluster_id, clock }
    }

    pub(crate) fn cluster_id(&self) -> &Hash {
        &self.cluster_id
    }

    pub(crate) fn machine_key(&self) -> [u8; 32] {
        self.signer.public_key()
    }

    /// Ledger time at which an envelope signed now lapses.
    pub(crate) fn expires_ms(&self) -> u64 {
        self.clock.ledger_ms().saturating_add(LIFE_MS)
    }

    /// Commands under a given id, so that sending them again is recognised.
    pub(crate) fn commands(&self, id: [u8; 16], payload: Vec<u8>) -> Envelope {
        self.signer.seal(self.cluster_id, COMMANDS, id, self.expires_ms(), payload)
    }

    /// The claim that opens a session.
    pub(crate) fn session(&self, claim: &SessionClaim) -> Result<Envelope, SignatureError> {
        Ok(self.signer.seal(self.cluster_id, SESSION, random()?, self.expires_ms(), claim.encode_to_vec()))
    }

    /// The claim that an upload of this artifact is ours.
    pub(crate) fn put(&self, hash: &Hash, size: u64) -> Result<Envelope, SignatureError> {
        let claim = PutClaim { sha256: hash.to_vec(), size };
        Ok(self.signer.seal(self.cluster_id, ARTIFACT_PUT, random()?, self.expires_ms(), claim.encode_to_vec()))
    }

    /// Proof for the owner's enrolment that this machine holds its key.
    pub(crate) fn possession(&self, owner: &[u8; 20]) -> [u8; 64] {
        let mut bytes = b"MatrixAI/enrol/v1".to_vec();
        bytes.extend_from_slice(&self.cluster_id);
        bytes.extend_from_slice(owner);
        self.signer.sign_raw(&bytes)
    }
}
