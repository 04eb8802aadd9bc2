//! A cluster changes its members while it serves: a fourth coordinator joins, votes and leads, another leaves, clients go
//! on all the while and nothing they were told is lost.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Cluster, Member, admin, eventually, now_ms, status, submit_somewhere, transfer};
use matrixai_proto::{
    envelope::{Signer, TRANSFER_LEADER, random},
    v1::{
        AddNode, AdminAction, NodeStatus, PromoteNode, Propose, RemoveNode, TransferClaim, TransferLeaderRequest,
        admin_action, cluster_client::ClusterClient, command::Kind,
    },
};
use prost::Message as _;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::task::JoinHandle;
use tonic::Code;

/// Clients under way during the changes.
const CLIENTS: usize = 3;
/// What each has to spend.
const MONEY: u128 = 100_000;

fn proposed(action: admin_action::Kind) -> Kind {
    let action = Some(AdminAction { kind: Some(action) });
    Kind::Propose(Propose { action, expires_ms: now_ms() + 3_600_000 })
}

/// Clients that each send one transfer after the other until they are told to stop; each answers how many were done.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<u128>>,
}

impl Load {
    fn start(cluster: &Cluster, addresses: &[String], to: &[u8]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |_| {
            let (signer, _) = cluster.account(MONEY);
            let (cluster_id, stop) = (cluster.cluster_id, stop.clone());
            let (addresses, to) = (addresses.to_vec(), to.to_vec());
            cluster.runtime.spawn(async move {
                let mut done = 0;
                while !stop.load(Ordering::Relaxed) && done < MONEY {
                    let envelope = seal(&signer, cluster_id, transfer(&to, 1));
                    let reply = submit_somewhere(&addresses, &envelope).await;
                    assert_eq!(reply.outcomes[0].name, "done", "{reply:?}");
                    done += 1;
                }
                done
            })
        };
        let clients = (0..CLIENTS).map(start).collect();
        Self { stop, clients }
    }

    fn stop(self, cluster: &Cluster) -> u128 {
        self.stop.store(true, Ordering::Relaxed);
        cluster.runtime.block_on(async {
            let mut sum = 0;
            for client in self.clients {
                sum += client.await.unwrap();
            }
            sum
        })
    }
}

fn seal(signer: &Signer, cluster_id: [u8; 32], kind: Kind) -> matrixai_proto::v1::Envelope {
    let commands = vec![matrixai_proto::v1::Command { kind: Some(kind) }];
    let payload = matrixai_proto::v1::Batch { commands, linked: false }.encode_to_vec();
    signer.seal(cluster_id, matrixai_proto::envelope::COMMANDS, random().unwrap(), now_ms() + 60_000, payload)
}

/// Waits until the leader says this of a node.
fn until(cluster: &Cluster, address: &str, what: &str, wanted: impl Fn(&[NodeStatus]) -> bool) {
    let at_leader = || async {
        let leader = status(address).await.ok()?.leader_grpc;
        let seen = status(&leader).await.ok()?;
        (seen.role == "leader" && wanted(&seen.nodes)).then_some(())
    };
    cluster.runtime.block_on(eventually(what, at_leader));
}

fn stands(nodes: &[NodeStatus], id: u64, standing: &str) -> bool {
    nodes.iter().any(|node| node.id == id && node.standing == standing)
}

#[test]
fn members_change_under_load_and_nothing_is_lost() {
    let mut cluster = Cluster::founded();
    let (_, bob_id) = cluster.account(0);
    let fourth = Member::joining(&cluster.running());
    cluster.members.push(fourth);
    let addresses = cluster.running();
    let load = Load::start(&cluster, &addresses, &bob_id);

    // A stranger cannot hand the leader's office to anyone, and node 4 is nobody yet.
    let claim = |by: &Signer, to: u64| {
        let payload = TransferClaim { to }.encode_to_vec();
        by.seal(cluster.cluster_id, TRANSFER_LEADER, random().unwrap(), now_ms() + 60_000, payload)
    };
    let hand_over = |by: &Signer, to: u64| {
        let at = cluster.runtime.block_on(eventually("a leader", || async {
            Some(status(&addresses[0]).await.ok()?.leader_grpc).filter(|leader| !leader.is_empty())
        }));
        let request = TransferLeaderRequest { claim: Some(claim(by, to)) };
        cluster.runtime.block_on(async move {
            let mut client = ClusterClient::connect(format!("http://{at}")).await.unwrap();
            client.transfer_leader(request).await.map(|_| ())
        })
    };
    let stranger = Signer::generate().unwrap();
    assert_eq!(hand_over(&stranger, 2).unwrap_err().code(), Code::PermissionDenied);

    // It joins as a learner, catches up, and votes.
    let ready = cluster.members[3].handle().ready().clone();
    let key = hex::decode(&ready.node_key).unwrap();
    let add = AddNode { key, grpc: ready.grpc.clone(), web: ready.web.clone() };
    cluster.done(&admin(), vec![proposed(admin_action::Kind::AddNode(add))]);
    until(&cluster, &addresses[3], "node 4 has copied the log", |nodes| {
        nodes.iter().any(|node| node.id == 4 && node.standing == "learner" && node.matched > 0 && node.lag < 100)
    });
    cluster.done(&admin(), vec![proposed(admin_action::Kind::PromoteNode(PromoteNode { node: 4 }))]);
    until(&cluster, &addresses[3], "node 4 votes", |nodes| stands(nodes, 4, "voter"));

    // It leads.
    cluster.runtime.block_on(eventually("node 4 leads", || {
        let (leader, claim) = (addresses.clone(), claim(&admin(), 4));
        async move {
            let seen = status(&leader[3]).await.ok()?;
            if seen.leader == 4 {
                return Some(());
            }
            let mut client = ClusterClient::connect(format!("http://{}", seen.leader_grpc)).await.ok()?;
            // Refused while the leader changes; it is asked again.
            let _ = client.transfer_leader(TransferLeaderRequest { claim: Some(claim) }).await;
            None
        }
    }));

    // Node 1 leaves: it stops by itself and says why.
    cluster.done(&admin(), vec![proposed(admin_action::Kind::RemoveNode(RemoveNode { node: 1 }))]);
    until(&cluster, &addresses[3], "node 1 has left", |nodes| nodes.iter().all(|node| node.id != 1));
    let left = cluster.members[0].grpc.clone();
    cluster.runtime.block_on(eventually("node 1 has stopped", || async { status(&left).await.is_err().then_some(()) }));
    let first = cluster.members[0].handle.take().unwrap();
    let key = hex::decode(&first.ready().node_key).unwrap();
    let (grpc, web) = (first.ready().grpc.clone(), first.ready().web.clone());
    let why = first.stop().unwrap_err().to_string();
    assert!(why.contains("node 1, was removed"), "{why}");
    // Its key never comes back.
    let back = proposed(admin_action::Kind::AddNode(AddNode { key, grpc, web }));
    assert_eq!(cluster.refused(&cluster.seal(&admin(), vec![back])), "node_retired");

    // Whatever was acknowledged is there, once.
    let done = load.stop(&cluster);
    assert!(done > 0);
    assert_eq!(cluster.balance(1, &bob_id), done.to_string());
    assert_eq!(cluster.balance(3, &bob_id), done.to_string());

    // Started again, the removed one finds nobody who listens, and stops.
    cluster.members[0].start();
    cluster
        .runtime
        .block_on(eventually("node 1 has stopped again", || async { status(&left).await.is_err().then_some(()) }));
    let why = cluster.members[0].handle.take().unwrap().stop().unwrap_err().to_string();
    assert!(why.contains("was removed"), "{why}");

    // Node 4 comes back from its own folder, without being told whom to join.
    cluster.members[3].stop();
    cluster.members[3].start();
    assert_eq!(cluster.members[3].handle().ready().node, 4);
    assert_eq!(cluster.balance(3, &bob_id), done.to_string());
}
