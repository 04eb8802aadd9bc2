//! Who may found a cluster on a coordinator that is part of none: whoever can read its data folder.
//!
//! The folder holds a key, made at the first start and removed once there is a cluster. A claim signed with it names the
//! coordinator and, by its id, the cluster: whoever overhears it can found nothing but what the operator wanted. The key itself is
//! never sent, and what a server says where its key is can make a client sign nothing else.

use matrixai_proto::{
    decode_strict,
    envelope::{self, FOUND, Signer},
    v1::{Envelope, FoundingClaim},
};
use matrixai_state::ids::cluster_id;
use prost::Message as _;
use std::path::PathBuf;
use tonic::Status;

/// What a coordinator knows of its founding key.
#[derive(Debug, Clone)]
pub(crate) struct FoundingKey {
    /// The public key.
    pub(crate) key: [u8; 32],
    /// The file of the private one.
    pub(crate) path: PathBuf,
}

/// The claim that founds the cluster of a genesis on the coordinator with the node key `node`, given the private key of its folder.
/// It does not expire: the key does, with the founding.
pub fn claim(founder: &Signer, node: &[u8], genesis: &[u8]) -> Envelope {
    let payload = FoundingClaim { node: node.to_vec() }.encode_to_vec();
    founder.seal(cluster_id(genesis), FOUND, [0; 16], 0, payload)
}

impl FoundingKey {
    /// Checks a claim to found the cluster of this genesis on the coordinator with the node key `node`.
    ///
    /// # Errors
    /// UNAUTHENTICATED says what is wrong with it, and where the key is.
    pub(crate) fn check(&self, claim: Option<&Envelope>, node: &[u8; 32], genesis: &[u8]) -> Result<(), Status> {
        let refused = |what: &str| {
            Status::unauthenticated(format!(
                "{what}: whoever founds a cluster here shows that he is the operator, with the key in {} on this coordinator's machine",
                self.path.display()
            ))
        };
        let claim = claim.ok_or_else(|| refused("a claim is missing"))?;
        if claim.key != self.key || claim.method != FOUND {
            return Err(refused("the claim is not signed with this coordinator's founding key"));
        }
        envelope::verify(claim).map_err(|error| refused(&error.to_string()))?;
        if claim.cluster_id != cluster_id(genesis) {
            return Err(refused("the claim is one for another genesis"));
        }
        match decode_strict::<FoundingClaim>(&claim.payload) {
            Ok(claimed) if claimed.node == node => Ok(()),
            _ => Err(refused("the claim is one to another coordinator")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use matrixai_proto::envelope::TRANSFER_LEADER;

    const NODE: [u8; 32] = [7; 32];

    #[test]
    fn only_the_key_of_the_folder_founds_and_only_what_it_signed() {
        let founder = Signer::from_seed([1; 32]).unwrap();
        let other = Signer::from_seed([2; 32]).unwrap();
        let folder = FoundingKey { key: founder.public_key(), path: "/c1/founding.key".into() };
        let good = claim(&founder, &NODE, b"genesis");
        folder.check(Some(&good), &NODE, b"genesis").unwrap();

        let refused = |claim: Option<&Envelope>, node: &[u8; 32], genesis: &[u8]| {
            let status = folder.check(claim, node, genesis).unwrap_err();
            assert_eq!(status.code(), tonic::Code::Unauthenticated);
            assert!(status.message().contains("/c1/founding.key"), "{status:?}");
            status.message().to_owned()
        };
        assert!(refused(None, &NODE, b"genesis").contains("missing"));
        assert!(refused(Some(&claim(&other, &NODE, b"genesis")), &NODE, b"genesis").contains("founding key"));
        assert!(refused(Some(&good), &NODE, b"another").contains("another genesis"));
        assert!(refused(Some(&good), &[8; 32], b"genesis").contains("another coordinator"));
        let method = founder.seal(cluster_id(b"genesis"), TRANSFER_LEADER, [0; 16], 0, good.payload.clone());
        assert!(refused(Some(&method), &NODE, b"genesis").contains("founding key"));
        let forged = Envelope { cluster_id: cluster_id(b"another").to_vec(), ..good.clone() };
        assert!(refused(Some(&forged), &NODE, b"another").contains("signature"));
    }
}
