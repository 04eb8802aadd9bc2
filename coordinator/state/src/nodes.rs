//! The coordinators of the cluster: those of genesis, those that joined, those that left.
//!
//! A node's *standing* is what the admins want. The consensus follows it: the leader proposes changes of the raft
//! membership until the two agree, a learner first and a voter once it has caught up. Everything that counts nodes (the
//! beacon's majority, the attestations' majority, the median of clocks) counts the voters of this table.
//!
//! Ids count up and a row is never removed, so neither a retired id nor a retired key can come back: a coordinator that
//! lost its disk has forgotten what it voted for, and must not vote again under the same name.

use crate::{
    command::AnnounceRules,
    context::Context,
    genesis::{GenesisNode, NODES_MAX, TEXT_BYTES_MAX},
    ids::{Key, NodeId},
    outcome::{Detail, Outcome, Refusal},
    rules,
    state::{KeyOwner, State},
};
use serde::{Deserialize, Serialize};

/// Nodes ever, those that left included.
pub const NODES_EVER_MAX: u64 = 1_024;

/// What the admins want a node to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Follows the log and has no vote.
    Learner,
    /// Counts in every majority.
    Voter,
    /// Left for good.
    Removed,
}

impl Standing {
    /// The wire's standing.
    pub const fn as_str(self) -> &'static str {
        match self {
            Standing::Learner => "learner",
            Standing::Voter => "voter",
            Standing::Removed => "removed",
        }
    }
}

/// A coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Its raft id.
    pub id: NodeId,
    /// Signs its commands and proves its beacon shares.
    pub key: Key,
    /// host:port of its gRPC server.
    pub grpc: String,
    /// host:port of its web server.
    pub web: String,
    /// What the admins want it to be.
    pub standing: Standing,
    /// Newest rules version that it announced; [`rules::FIRST`] before it has announced any.
    pub rules_version: u32,
}

impl NodeRow {
    /// A voter from the start.
    pub(crate) fn of_genesis(node: &GenesisNode) -> Self {
        let GenesisNode { id, key, grpc, web } = node.clone();
        Self { id, key, grpc, web, standing: Standing::Voter, rules_version: rules::FIRST }
    }
}

impl State {
    /// Every node there ever was, in order of id.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = &NodeRow> {
        self.nodes.iter().map(|(_, row)| row)
    }

    /// A node by its id, also one that has left.
    pub fn node(&self, id: NodeId) -> Option<&NodeRow> {
        self.nodes.get(&id)
    }

    /// The nodes that count in majorities, in order of id.
    pub fn voters(&self) -> impl Iterator<Item = &NodeRow> {
        self.nodes().filter(|row| row.standing == Standing::Voter)
    }

    /// How many voters are a majority.
    pub fn majority(&self) -> usize {
        self.voters().count().checked_div(2).unwrap_or(0).saturating_add(1)
    }

    /// Whether a node takes part: learner or voter.
    pub(crate) fn takes_part(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|row| row.standing != Standing::Removed)
    }
}

/// A node says which rules its build applies.
pub(crate) fn announce_rules(state: &mut State, ctx: &mut Context, node: NodeId, cmd: &AnnounceRules) -> Outcome {
    if cmd.version < rules::FIRST {
        return Refusal::BadRulesVersion.into();
    }
    let Some(row) = state.nodes.get_mut(&node) else { return Refusal::UnknownNode.into() };
    if row.rules_version != cmd.version {
        row.rules_version = cmd.version;
        ctx.event("node.rules", subject(node), format!("Node {node} applies rules up to version {}.", cmd.version));
    }
    Outcome::DONE
}

/// Whether a coordinator of this key and these addresses may join.
pub(crate) fn check_add(state: &State, key: &Key, grpc: &str, web: &str) -> Result<(), Refusal> {
    match state.keys.get(key) {
        None => {}
        Some(KeyOwner::Node(node)) if !state.takes_part(*node) => return Err(Refusal::NodeRetired),
        Some(KeyOwner::Account(..) | KeyOwner::Machine(_) | KeyOwner::Node(_) | KeyOwner::Retired(_)) => {
            return Err(Refusal::KeyInUse);
        }
    }
    let present = state.nodes().filter(|row| row.standing != Standing::Removed).count();
    if present >= NODES_MAX || state.nodes.len() >= NODES_EVER_MAX {
        return Err(Refusal::TooManyNodes);
    }
    check_addresses(state, None, grpc, web)
}

/// A coordinator joins as a learner; [`check_add`] has passed.
pub(crate) fn add(state: &mut State, ctx: &mut Context, key: Key, grpc: &str, web: &str) {
    let last = state.nodes.last().map_or(0, |(id, _)| id.0);
    let id = NodeId(last.saturating_add(1));
    let row = NodeRow {
        id,
        key,
        grpc: grpc.to_owned(),
        web: web.to_owned(),
        standing: Standing::Learner,
        rules_version: rules::FIRST,
    };
    state.nodes.insert(id, row);
    state.keys.insert(key, KeyOwner::Node(id));
    ctx.event("node.added", subject(id), format!("Node {id} at {grpc} joins as a learner."));
}

/// Whether a learner may become a voter.
pub(crate) fn check_promote(state: &State, node: NodeId) -> Result<(), Refusal> {
    let row = state.nodes.get(&node).ok_or(Refusal::UnknownNode)?;
    match row.standing {
        Standing::Learner if row.rules_version < state.head.rules_version => {
            Err(Refusal::RulesNotAnnounced(Detail::new(format_args!("node {node} has not"))))
        }
        Standing::Learner => Ok(()),
        Standing::Voter => Err(Refusal::WrongStanding(Detail::new(format_args!("node {node} is a voter")))),
        Standing::Removed => Err(Refusal::NodeRemoved),
    }
}

/// Whether a node may leave.
pub(crate) fn check_remove(state: &State, node: NodeId) -> Result<(), Refusal> {
    let row = state.nodes.get(&node).ok_or(Refusal::UnknownNode)?;
    match row.standing {
        Standing::Voter if state.voters().count() == 1 => Err(Refusal::LastVoter),
        Standing::Voter | Standing::Learner => Ok(()),
        Standing::Removed => Err(Refusal::NodeRemoved),
    }
}

/// Sets a node's standing; the caller has checked it.
pub(crate) fn set_standing(state: &mut State, ctx: &mut Context, node: NodeId, standing: Standing) {
    let Some(row) = state.nodes.get_mut(&node) else { return };
    row.standing = standing;
    let (kind, text) = match standing {
        Standing::Voter => ("node.promoted", format!("Node {node} is to be a voter.")),
        Standing::Removed => ("node.removed", format!("Node {node} leaves for good.")),
        Standing::Learner => ("node.added", format!("Node {node} is a learner.")),
    };
    ctx.event(kind, subject(node), text);
}

/// Whether a node may have these addresses.
pub(crate) fn check_move(state: &State, node: NodeId, grpc: &str, web: &str) -> Result<(), Refusal> {
    let row = state.nodes.get(&node).ok_or(Refusal::UnknownNode)?;
    if row.standing == Standing::Removed {
        return Err(Refusal::NodeRemoved);
    }
    check_addresses(state, Some(node), grpc, web)
}

/// A coordinator has moved; [`check_move`] has passed.
pub(crate) fn set_address(state: &mut State, ctx: &mut Context, node: NodeId, grpc: &str, web: &str) {
    let Some(row) = state.nodes.get_mut(&node) else { return };
    (row.grpc, row.web) = (grpc.to_owned(), web.to_owned());
    ctx.event("node.moved", subject(node), format!("Node {node} is at {grpc} now."));
}

/// The voters that have not announced a rules version, if any.
pub(crate) fn check_announced(state: &State, version: u32) -> Result<(), Refusal> {
    match state.voters().find(|row| row.rules_version < version) {
        Some(row) => Err(Refusal::RulesNotAnnounced(Detail::new(format_args!("node {} has not", row.id)))),
        None => Ok(()),
    }
}

fn check_addresses(state: &State, of: Option<NodeId>, grpc: &str, web: &str) -> Result<(), Refusal> {
    let bad = |what: std::fmt::Arguments<'_>| Err(Refusal::BadAddress(Detail::new(what)));
    for address in [grpc, web] {
        // A name, or an address (an IPv6 one in brackets).
        let of_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        let is_host = |host: &str| !host.is_empty() && host.bytes().all(of_host);
        let port = address.rsplit_once(':').filter(|(host, _)| is_host(host)).map(|(_, port)| port.parse::<u16>());
        if address.len() > TEXT_BYTES_MAX || !matches!(port, Some(Ok(1..))) {
            return bad(format_args!("{address:?} is not host:port"));
        }
    }
    let others = state.nodes().filter(|row| row.standing != Standing::Removed && Some(row.id) != of);
    let mut taken = others.flat_map(|row| [row.grpc.as_str(), row.web.as_str()]);
    if grpc == web || taken.any(|address| address == grpc || address == web) {
        return bad(format_args!("another server has {grpc} or {web}"));
    }
    Ok(())
}

/// A node in an event: its id in the last eight bytes.
fn subject(node: NodeId) -> [u8; 20] {
    let mut subject = [0; 20];
    subject.iter_mut().rev().zip(node.0.to_le_bytes()).for_each(|(to, from)| *to = from);
    subject
}
