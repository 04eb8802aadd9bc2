//! What a simulated cluster is founded with, and the keys of everybody in it.

use super::{clock::START_MS, people::ADMINS};
use matrixai_proto::v1;
use matrixai_protocol::{sha256, vrf};
use matrixai_state::money::MAI;
use prost::Message as _;

/// Time between beats, ms. A beat costs each node its verification of every share, some of the dearest work there is.
const BEAT_MS: u64 = 4_000;
/// A machine without a session for so long is lost, ms.
const MACHINE_TIMEOUT_MS: u64 = 5_000;
/// Beats in an epoch.
const EPOCH_BEATS: u32 = 3;
/// Fee on what is paid, basis points.
const FEE_BP: u32 = 100;

/// The seed of a node's key.
pub fn node_seed(id: u64) -> [u8; 32] {
    sha256(&[b"node", &id.to_le_bytes()])
}

/// Where a node's servers are: gRPC and web.
pub fn addresses(number: u64) -> (String, String) {
    (format!("127.0.0.1:{}", 1_000 + number), format!("127.0.0.1:{}", 2_000 + number))
}

/// A node's public key.
pub fn node_key(id: u64) -> [u8; 32] {
    vrf::public_key(&node_seed(id))
}

/// A key that signs nothing: signatures are checked at the edge, which is not simulated.
pub fn key(kind: &str, number: u64) -> [u8; 32] {
    sha256(&[b"key", kind.as_bytes(), &number.to_le_bytes()])
}

/// The genesis of a cluster of `nodes`.
pub fn genesis(nodes: u64) -> Vec<u8> {
    let node = |id| {
        let (grpc, web) = addresses(id);
        v1::GenesisNode { id, key: node_key(id).to_vec(), grpc, web }
    };
    v1::Genesis {
        format: 1,
        network: "simulated".into(),
        test_network: true,
        nodes: (1..=nodes).map(node).collect(),
        admin_keys: (0..ADMINS).map(|number| key("admin", number).to_vec()).collect(),
        faucet_daily: (1_000 * MAI).to_string(),
        faucet_total: (1_000_000 * MAI).to_string(),
        fee_bp: FEE_BP,
        beat_ms: BEAT_MS,
        r0: sha256(&[b"r0"]).to_vec(),
        machine_timeout_ms: MACHINE_TIMEOUT_MS,
        epoch_beats: EPOCH_BEATS,
        created_ms: START_MS,
        // An epoch takes 12 s: the emission halves some eight times in a seed.
        economy: Some(v1::Economy {
            emission: (100 * MAI + 1).to_string(),
            halving_epochs: 2,
            subsidy_bp: 2_500,
            campaign_bp: 3_333,
            burn_bp: 2_000,
            issuer: key("issuer", 0).to_vec(),
            issue_max: (300 * MAI).to_string(),
            dispute_s: 20,
        }),
        ..Default::default()
    }
    .encode_to_vec()
}
