//! A cluster changes its members while it serves: a fourth coordinator joins, votes and leads, another leaves, clients go
//! on all the while and nothing they were told is lost.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Cluster, Member, admin, eventually, now_ms, save, status, submit_somewhere, transfer};
use matrixai_coordinator::{Config, backup, start};
use matrixai_proto::{
    envelope::{Signer, TRANSFER_LEADER, random},
    v1::{
        AddNode, AdminAction, Envelope, NodeStatus, PromoteNode, Propose, RemoveNode, TransferClaim,
        TransferLeaderRequest, admin_action, cluster_client::ClusterClient, command::Kind,
    },
};
use prost::Message as _;
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
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

fn seal(signer: &Signer, cluster_id: [u8; 32], kind: Kind) -> Envelope {
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

/// Adds the member at this place as node `at + 1`, and gives it a vote once it has copied the log.
fn add(cluster: &Cluster, at: usize) {
    let node = at as u64 + 1;
    let ready = cluster.members[at].handle().ready().clone();
    let key = hex::decode(&ready.node_key).unwrap();
    let add = AddNode { key, grpc: ready.grpc.clone(), web: ready.web };
    cluster.done(&admin(), vec![proposed(admin_action::Kind::AddNode(add))]);
    until(cluster, &ready.grpc, "the newcomer has copied the log", |nodes| {
        nodes.iter().any(|of| of.id == node && of.standing == "learner" && of.matched > 0 && of.lag < 100)
    });
    cluster.done(&admin(), vec![proposed(admin_action::Kind::PromoteNode(PromoteNode { node }))]);
    until(cluster, &ready.grpc, "the newcomer votes", |nodes| stands(nodes, node, "voter"));
}

fn office_claim(cluster: &Cluster, by: &Signer, to: u64) -> Envelope {
    let payload = TransferClaim { to }.encode_to_vec();
    by.seal(cluster.cluster_id, TRANSFER_LEADER, random().unwrap(), now_ms() + 60_000, payload)
}

/// Has a node lead, as its own status says; `addresses` are in the order of the nodes.
fn lead(cluster: &Cluster, addresses: &[String], node: u64) {
    cluster.runtime.block_on(eventually("the node leads", || {
        let (address, claim) = (&addresses[node as usize - 1], office_claim(cluster, &admin(), node));
        async move {
            let seen = status(address).await.ok()?;
            if seen.leader == node {
                return Some(());
            }
            let mut client = ClusterClient::connect(format!("http://{}", seen.leader_grpc)).await.ok()?;
            // Refused while the leader changes; it is asked again.
            let _ = client.transfer_leader(TransferLeaderRequest { claim: Some(claim) }).await;
            None
        }
    }));
}

#[test]
fn members_change_under_load_and_nothing_is_lost() {
    let mut cluster = Cluster::founded();
    let (_, bob_id) = cluster.account(0);
    let fourth = Member::joining(&cluster.running());
    cluster.members.push(fourth);
    let addresses = cluster.running();
    let load = Load::start(&cluster, &addresses, &bob_id);

    // A stranger cannot hand the leader's office to anyone.
    let at = cluster.runtime.block_on(eventually("a leader", || async {
        Some(status(&addresses[0]).await.ok()?.leader_grpc).filter(|leader| !leader.is_empty())
    }));
    let claim = office_claim(&cluster, &Signer::generate().unwrap(), 2);
    let refused = cluster.runtime.block_on(async {
        let mut client = ClusterClient::connect(format!("http://{at}")).await.unwrap();
        client.transfer_leader(TransferLeaderRequest { claim: Some(claim) }).await.unwrap_err()
    });
    assert_eq!(refused.code(), Code::PermissionDenied);

    // It joins as a learner, catches up, votes, and leads.
    add(&cluster, 3);
    lead(&cluster, &addresses, 4);

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

/// Makes a new folder in which a member begins again from a backup, and starts it where it was.
fn begin_again(member: &mut Member, file: &Path, web: &str) -> u64 {
    let text = std::fs::read_to_string(member.folder.path().join("node.key")).unwrap();
    let key = Signer::from_seed(hex::decode(text.trim()).unwrap().try_into().unwrap()).unwrap();
    let new = tempfile::tempdir().unwrap();
    let node = backup::restore(file, new.path(), &key).unwrap();
    let mut config = Config::local(new.path()).unwrap();
    (config.listen.grpc, config.listen.web) = (member.grpc.clone(), web.to_owned());
    member.handle = Some(start(config).unwrap());
    member.folder = new;
    node
}

#[test]
fn who_was_away_is_introduced_to_newcomers_and_a_backup_holds_the_members_of_its_day() {
    let mut cluster = Cluster::founded();
    let (alice, _) = cluster.account(1_000);
    let (_, bob_id) = cluster.account(0);

    // Node 3 is away while node 4 comes to lead. It knows nothing of a node 4 and listens only to those of its own log.
    cluster.members[2].stop();
    let fourth = Member::joining(&cluster.running());
    cluster.members.push(fourth);
    let addresses: Vec<String> = cluster.members.iter().map(|member| member.grpc.clone()).collect();
    add(&cluster, 3);
    lead(&cluster, &addresses, 4);
    cluster.done(&alice, vec![transfer(&bob_id, 10)]);
    cluster.members[2].start();
    assert_eq!(cluster.balance(2, &bob_id), "10", "it has read what it missed");

    // Node 1 leaves; a backup of the members since.
    cluster.done(&admin(), vec![proposed(admin_action::Kind::RemoveNode(RemoveNode { node: 1 }))]);
    until(&cluster, &addresses[3], "node 1 has left", |nodes| nodes.iter().all(|node| node.id != 1));
    let left = &addresses[0];
    cluster.runtime.block_on(eventually("node 1 has stopped", || async { status(left).await.is_err().then_some(()) }));
    assert!(cluster.members[0].handle.take().unwrap().stop().unwrap_err().to_string().contains("node 1, was removed"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup");
    cluster.runtime.block_on(save(&addresses[3], &file));
    assert_eq!(backup::inspect(&file).unwrap().voters, [2, 3, 4]);
    cluster.done(&alice, vec![transfer(&bob_id, 100)]);

    // Nodes 2 and 4 begin again from it; node 4 stands in no genesis.
    let webs: Vec<String> = cluster.members[1..].iter().map(|member| member.handle().ready().web.clone()).collect();
    cluster.members[1..].iter_mut().for_each(Member::stop);
    assert_eq!(begin_again(&mut cluster.members[1], &file, &webs[0]), 2);
    assert_eq!(begin_again(&mut cluster.members[3], &file, &webs[2]), 4);
    assert_eq!(cluster.balance(3, &bob_id), "10", "what came after the backup is given up");
    cluster.done(&alice, vec![transfer(&bob_id, 5)]);

    // Node 3 still has what they gave up. It must not take part, and says so.
    cluster.members[2].start();
    let third = cluster.members[2].grpc.clone();
    cluster.runtime.block_on(eventually("node 3 stops", || async { status(&third).await.is_err().then_some(()) }));
    let why = cluster.members[2].handle.take().unwrap().stop().unwrap_err().to_string();
    assert!(why.contains("different snapshots"), "{why}");
    assert_eq!(cluster.balance(1, &bob_id), "15");
}

#[test]
fn who_knows_none_of_those_that_are_left_is_introduced_by_its_operator() {
    let mut cluster = Cluster::founded();
    let (alice, _) = cluster.account(1_000);
    let (_, bob_id) = cluster.account(0);

    // Node 3 is away while node 4 joins and node 2 leaves; then node 1 is lost for good. Nodes 3 and 4 are a majority of the voters.
    cluster.members[2].stop();
    let fourth = Member::joining(&cluster.running());
    cluster.members.push(fourth);
    let addresses: Vec<String> = cluster.members.iter().map(|member| member.grpc.clone()).collect();
    add(&cluster, 3);
    cluster.done(&admin(), vec![proposed(admin_action::Kind::RemoveNode(RemoveNode { node: 2 }))]);
    until(&cluster, &addresses[3], "node 2 has left", |nodes| nodes.iter().all(|node| node.id != 2));
    let second = &addresses[1];
    cluster
        .runtime
        .block_on(eventually("node 2 has stopped", || async { status(second).await.is_err().then_some(()) }));
    assert!(cluster.members[1].handle.take().unwrap().stop().unwrap_err().to_string().contains("node 2, was removed"));
    cluster.done(&alice, vec![transfer(&bob_id, 10)]);
    cluster.members[0].stop();

    // Told where to ask, it listens to node 4; by itself it would not.
    let mut config = Config::local(cluster.members[2].folder.path()).unwrap();
    config.introduce = vec![addresses[0].clone(), addresses[3].clone()];
    cluster.members[2].handle = Some(start(config).unwrap());
    assert_eq!(cluster.balance(2, &bob_id), "10");
    cluster.done(&alice, vec![transfer(&bob_id, 1)]);

    // Its own log names everybody now.
    cluster.members[2].stop();
    cluster.members[2].start();
    assert_eq!(cluster.balance(2, &bob_id), "11");
}
