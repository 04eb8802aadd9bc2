//! Joining a cluster that exists: fetches its genesis from one of its coordinators and waits until the admins have added
//! this one. What is fetched is kept in the folder, so that a restart needs nobody.

use crate::{
    links::Links,
    shared::{CONSISTENCY, Peer},
};
use matrixai_proto::v1::{
    GetGenesisReply, GetGenesisRequest, GetPolicyRequest, PolicyNode, cluster_client::ClusterClient,
};
use matrixai_state::{ids::cluster_id, nodes::NodeRow};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tonic::{Request, Status, metadata::MetadataValue};

/// How long a coordinator that is to be introduced asks for the others before it starts without, and one that was told whom to join
/// whether they are of its cluster.
const INTRODUCTION_WAIT: Duration = Duration::from_secs(30);
/// Pause before the coordinators are asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Longest wait for one answer.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// Rounds of asking between two log lines that say what is waited for.
const ROUNDS_PER_LINE: u32 = 60;

/// A place in a cluster that the genesis does not name: the number that this coordinator was given, and the coordinators
/// that there were then. It listens to them until its own log has told it who is who.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seat {
    /// This coordinator's number.
    pub(crate) node: u64,
    /// Every coordinator of the cluster.
    pub(crate) peers: Vec<SeatPeer>,
}

impl SeatPeer {
    /// A coordinator as the state has it.
    pub(crate) fn of(row: &NodeRow) -> Self {
        Self { id: row.id.0, key: hex::encode(row.key), grpc: row.grpc.clone(), web: row.web.clone() }
    }
}

/// A coordinator in the file of a seat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SeatPeer {
    pub(crate) id: u64,
    /// Hex digits.
    pub(crate) key: String,
    pub(crate) grpc: String,
    pub(crate) web: String,
}

impl Seat {
    /// The coordinators, as the rest of the program knows them.
    pub(crate) fn peers(&self) -> Vec<Peer> {
        let peer = |peer: &SeatPeer| {
            let mut key = [0; 32];
            hex::decode_to_slice(&peer.key, &mut key).ok()?;
            Some(Peer { id: peer.id, key, grpc: peer.grpc.clone(), web: peer.web.clone() })
        };
        self.peers.iter().filter_map(peer).collect()
    }
}

/// What a coordinator that joins is told.
#[derive(Debug)]
pub(crate) struct Place {
    /// The genesis of the cluster.
    pub(crate) genesis: Vec<u8>,
    /// Its era; see [`crate::identity::Folder::era`].
    pub(crate) era: Vec<u8>,
    /// The seat in it.
    pub(crate) seat: Seat,
}

/// Asks one coordinator after the other until one says that the admins have added the holder of `key`; answers its place.
///
/// # Errors
/// One sentence when the key belonged to a coordinator that has left: waiting would be for ever.
pub(crate) async fn wait(links: &Links, addresses: &[String], key: [u8; 32], me: &str) -> Result<Place, String> {
    let mut rounds = 0u32;
    loop {
        for address in addresses {
            match ask(links, address).await {
                Ok((GetGenesisReply { genesis, era, .. }, nodes)) => {
                    if let Some(seat) = seat(&nodes, &key)? {
                        return Ok(Place { genesis, era, seat });
                    }
                    if rounds.is_multiple_of(ROUNDS_PER_LINE) {
                        tracing::info!(asked = address, "waits to be added: an admin runs `matrixai cluster add {me}`");
                    }
                }
                Err(status) if rounds.is_multiple_of(ROUNDS_PER_LINE) => {
                    tracing::warn!(asked = address, why = status.message(), "the cluster to join does not answer");
                }
                Err(_) => {}
            }
        }
        rounds = rounds.wrapping_add(1);
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Asks the coordinators that the operator names who the members are now, for one that was away while those that it knows were
/// replaced: by its own log it would listen to none of the others. What they say counts until its log has told it. Empty when
/// nobody answers in time.
///
/// # Errors
/// One sentence when somebody answers for another cluster, or for another era of this one.
pub(crate) async fn introduced(
    links: &Links,
    addresses: &[String],
    genesis: &[u8],
    era: &[u8],
) -> Result<Vec<Peer>, String> {
    let asking = async {
        loop {
            for address in addresses {
                let Ok((theirs, nodes)) = ask(links, address).await else { continue };
                if theirs.genesis != genesis || theirs.era != era {
                    return Err(format!(
                        "{address}, named by `introduce`, is of another cluster or of another era of this one"
                    ));
                }
                return Ok(present(&nodes));
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    };
    match tokio::time::timeout(INTRODUCTION_WAIT, asking).await {
        Ok(answered) => Ok(Seat { node: 0, peers: answered? }.peers()),
        Err(_) => {
            tracing::warn!(
                asked = addresses.join(", "),
                "nobody introduces the others; this coordinator starts without"
            );
            Ok(Vec::new())
        }
    }
}

/// What is wrong if the coordinators that `join` names are of another cluster than the one that this folder belongs to: the first
/// that answers is believed. Nothing when none of them answers in time; the folder needs none of them any more.
pub(crate) async fn elsewhere(links: &Links, addresses: &[String], genesis: &[u8]) -> Option<String> {
    let asking = async {
        loop {
            for address in addresses {
                let Ok((theirs, _)) = ask(links, address).await else { continue };
                let [ours, other] = [genesis, &theirs.genesis].map(|of| hex::encode(cluster_id(of)));
                return (theirs.genesis != genesis).then(|| {
                    format!(
                        "the data folder belongs to cluster {ours}, but {address}, named by `join`, to cluster {other}: to join that one \
                         start with an empty folder, to go on with this one start without `join`"
                    )
                });
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    };
    tokio::time::timeout(INTRODUCTION_WAIT, asking).await.ok().flatten()
}

fn present(nodes: &[PolicyNode]) -> Vec<SeatPeer> {
    let present = nodes.iter().filter(|node| node.standing != "removed");
    let peer = |node: &PolicyNode| SeatPeer {
        id: node.id,
        key: hex::encode(&node.key),
        grpc: node.grpc.clone(),
        web: node.web.clone(),
    };
    present.map(peer).collect()
}

/// The place of a key among the nodes.
fn seat(nodes: &[PolicyNode], key: &[u8; 32]) -> Result<Option<Seat>, String> {
    let Some(own) = nodes.iter().find(|node| node.key == key) else { return Ok(None) };
    if own.standing == "removed" {
        return Err(format!(
            "the key of this coordinator belonged to node {}, which was removed: start it with an empty data folder",
            own.id
        ));
    }
    Ok(Some(Seat { node: own.id, peers: present(nodes) }))
}

async fn ask(links: &Links, address: &str) -> Result<(GetGenesisReply, Vec<PolicyNode>), Status> {
    let line = links.stranger(address).map_err(Status::invalid_argument)?;
    let asking = async {
        let channel = line.connect().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut cluster = ClusterClient::new(channel);
        let genesis = cluster.get_genesis(GetGenesisRequest {}).await?.into_inner();
        let mut request = Request::new(GetPolicyRequest {});
        // Any coordinator's own view will do: it is asked again until this one is in it.
        request.metadata_mut().insert(CONSISTENCY, MetadataValue::from_static("stale"));
        let nodes = cluster.get_policy(request).await?.into_inner().nodes;
        Ok((genesis, nodes))
    };
    let late = |_| Status::deadline_exceeded("no answer in time");
    tokio::time::timeout(ANSWER_WAIT, asking).await.map_err(late)?
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn node(id: u64, standing: &str) -> PolicyNode {
        PolicyNode { id, key: vec![id as u8; 32], standing: standing.to_owned(), ..PolicyNode::default() }
    }

    #[test]
    fn a_seat_is_found_by_key_and_names_whoever_is_there() {
        let nodes = [node(1, "voter"), node(2, "removed"), node(4, "learner")];
        assert_eq!(seat(&nodes, &[7; 32]).unwrap(), None);
        let found = seat(&nodes, &[4; 32]).unwrap().unwrap();
        assert_eq!((found.node, found.peers().iter().map(|peer| peer.id).collect()), (4, vec![1, 4]));
        assert_eq!(found.peers()[0].key, [1; 32]);
        assert!(seat(&nodes, &[2; 32]).unwrap_err().contains("node 2"));
    }
}
