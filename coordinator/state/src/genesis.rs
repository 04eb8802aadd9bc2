//! What a cluster was founded with: read once, checked once, never changed. What admins have changed since is in
//! `admin.rs` and `nodes.rs`.

use crate::{
    economy::Economy,
    ids::{Hash, Key, NodeId, hex},
    ledger::supply,
    limits::Limits,
    money::Money,
};
use matrixai_proto::{decode_strict, v1};
use std::collections::BTreeSet;

/// The format that this version reads.
pub const FORMAT: u32 = 1;
/// Nodes of a cluster.
pub const NODES_MAX: usize = 15;
/// Keys with the role admin.
pub const ADMINS_MAX: usize = 64;
/// Bytes of a network's name, and of an address.
pub const TEXT_BYTES_MAX: usize = 256;
/// Longest time between beats, ms.
pub const BEAT_MS_MAX: u64 = 60_000;
/// Longest machine timeout, ms.
pub const MACHINE_TIMEOUT_MS_MAX: u64 = 3_600_000;
/// Highest fee: all of what is paid once more.
pub const FEE_BP_MAX: u32 = 10_000;

/// A coordinator of genesis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenesisNode {
    /// Its raft id.
    pub id: NodeId,
    /// Signs its commands and proves its beacon shares.
    pub key: Key,
    /// host:port of its gRPC server.
    pub grpc: String,
    /// host:port of its web server.
    pub web: String,
}

/// A checked genesis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Genesis {
    /// The bytes it was read from.
    pub bytes: Vec<u8>,
    /// Name of the network.
    pub network: String,
    /// Test networks have a faucet and no value.
    pub test_network: bool,
    /// In order of id.
    pub nodes: Vec<GenesisNode>,
    /// Accounts of these keys are admins.
    pub admin_keys: Vec<Key>,
    /// Most that an account draws in 24 h.
    pub faucet_daily: Money,
    /// Most that the faucet ever gives.
    pub faucet_total: Money,
    /// Fee on what is paid, basis points.
    pub fee_bp: u32,
    /// Time between beats, ms.
    pub beat_ms: u64,
    /// The beacon's R_0.
    pub r0: Hash,
    /// A machine without a live session for this long is lost, ms.
    pub machine_timeout_ms: u64,
    /// Beats per epoch.
    pub epoch_beats: u32,
    /// Ledger time at which the cluster begins, ms.
    pub created_ms: u64,
    /// Admins that must approve a change.
    pub admin_threshold: u32,
    /// Limits of accounts that have none of their own.
    pub limits: Limits,
    /// What every account must keep.
    pub minimum_balance: Money,
    /// Where money comes from besides the faucet, and where it ends.
    pub economy: Economy,
}

/// Why bytes are no genesis of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// Not a `Genesis` message in canonical form.
    #[error("genesis: {0}")]
    Malformed(String),
    /// Another version's.
    #[error("genesis has format {0}, this version reads format {FORMAT}")]
    Format(u32),
    /// A field is out of range.
    #[error("genesis: {field} {problem}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Two nodes or admins share what must be unique.
    #[error("genesis names {what} {value} twice")]
    Twice {
        /// What is shared.
        what: &'static str,
        /// Its value.
        value: String,
    },
}

impl Genesis {
    /// Reads and checks the bytes of a `Genesis` message.
    ///
    /// # Errors
    /// Names the first thing that is wrong.
    pub fn read(bytes: &[u8]) -> Result<Self, GenesisError> {
        let wire: v1::Genesis = decode_strict(bytes).map_err(|error| GenesisError::Malformed(error.to_string()))?;
        if wire.format != FORMAT {
            return Err(GenesisError::Format(wire.format));
        }
        let mut nodes = wire.nodes.iter().map(node).collect::<Result<Vec<_>, _>>()?;
        nodes.sort_by_key(|node| node.id);
        let admin_keys = wire.admin_keys.iter().map(|key| hash("an admin key", key)).collect::<Result<Vec<_>, _>>()?;
        let genesis = Self {
            bytes: bytes.to_vec(),
            network: wire.network,
            test_network: wire.test_network,
            nodes,
            admin_keys,
            faucet_daily: money("faucet_daily", &wire.faucet_daily)?,
            faucet_total: money("faucet_total", &wire.faucet_total)?,
            fee_bp: wire.fee_bp,
            beat_ms: wire.beat_ms,
            r0: hash("r0", &wire.r0)?,
            machine_timeout_ms: wire.machine_timeout_ms,
            epoch_beats: wire.epoch_beats,
            created_ms: wire.created_ms,
            admin_threshold: wire.admin_threshold.max(1),
            limits: wire.limits.as_ref().map(limits).unwrap_or_default(),
            minimum_balance: match wire.minimum_balance.as_str() {
                "" => Money::ZERO,
                text => money("minimum_balance", text)?,
            },
            economy: wire.economy.as_ref().map(Economy::read).transpose()?.unwrap_or_default(),
        };
        genesis.check()?;
        Ok(genesis)
    }

    /// A node by its number.
    pub fn node(&self, id: NodeId) -> Option<&GenesisNode> {
        self.nodes.iter().find(|node| node.id == id)
    }

    fn check(&self) -> Result<(), GenesisError> {
        check_text("network", &self.network)?;
        in_range("the number of nodes", self.nodes.len() as u64, 1, NODES_MAX as u64)?;
        in_range("the number of admin keys", self.admin_keys.len() as u64, 0, ADMINS_MAX as u64)?;
        in_range("fee_bp", self.fee_bp.into(), 0, FEE_BP_MAX.into())?;
        in_range("beat_ms", self.beat_ms, 1, BEAT_MS_MAX)?;
        in_range("machine_timeout_ms", self.machine_timeout_ms, 1, MACHINE_TIMEOUT_MS_MAX)?;
        in_range("epoch_beats", self.epoch_beats.into(), 1, u32::MAX.into())?;
        // Without admins there is nobody to reach a threshold, and nothing is ever changed.
        in_range("admin_threshold", self.admin_threshold.into(), 1, self.admin_keys.len().max(1) as u64)?;
        self.limits.check().map_err(|refusal| field("limits", refusal))?;
        let faucet = !self.faucet_daily.is_zero() || !self.faucet_total.is_zero();
        if faucet && !self.test_network {
            return Err(field("faucet_total", "must be 0 where the network is not a test network"));
        }
        if supply::promised(&self.economy, self.faucet_total).is_none() {
            return Err(field("faucet_total", "and the emission exceed all the money there can be"));
        }
        let mut seen = BTreeSet::new();
        for node in &self.nodes {
            in_range("a node's id", node.id.0, 1, u64::MAX)?;
            check_text("a node's grpc address", &node.grpc)?;
            check_text("a node's web address", &node.web)?;
            once(&mut seen, "node", node.id.to_string())?;
            once(&mut seen, "key", hex(&node.key))?;
            once(&mut seen, "address", node.grpc.clone())?;
            once(&mut seen, "address", node.web.clone())?;
        }
        let keys = self.admin_keys.iter().chain(&self.economy.issuer);
        keys.into_iter().try_for_each(|key| once(&mut seen, "key", hex(key)))
    }
}

fn node(wire: &v1::GenesisNode) -> Result<GenesisNode, GenesisError> {
    let key = hash("a node's key", &wire.key)?;
    Ok(GenesisNode { id: NodeId(wire.id), key, grpc: wire.grpc.clone(), web: wire.web.clone() })
}

/// Limits as they are on the wire.
pub(crate) fn limits(wire: &v1::Limits) -> Limits {
    let v1::Limits { commands_per_s, burst, open_max, storage_bytes } = *wire;
    Limits { commands_per_s, burst, open_max, storage_bytes }
}

pub(crate) fn hash(name: &'static str, bytes: &[u8]) -> Result<Hash, GenesisError> {
    bytes.try_into().map_err(|_| field(name, format_args!("has {} bytes, must have 32", bytes.len())))
}

pub(crate) fn money(name: &'static str, text: &str) -> Result<Money, GenesisError> {
    Money::parse(text).ok_or_else(|| field(name, format_args!("{text:?} is not an amount of minor units")))
}

fn check_text(name: &'static str, text: &str) -> Result<(), GenesisError> {
    in_range(name, text.len() as u64, 1, TEXT_BYTES_MAX as u64)
}

pub(crate) fn in_range(name: &'static str, value: u64, min: u64, max: u64) -> Result<(), GenesisError> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(field(name, format_args!("is (or has length) {value}, must be {min} to {max}")))
    }
}

fn once(seen: &mut BTreeSet<(&'static str, String)>, what: &'static str, value: String) -> Result<(), GenesisError> {
    if seen.insert((what, value.clone())) { Ok(()) } else { Err(GenesisError::Twice { what, value }) }
}

pub(crate) fn field(field: &'static str, problem: impl ToString) -> GenesisError {
    GenesisError::Field { field, problem: problem.to_string() }
}
