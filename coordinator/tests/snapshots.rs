//! Snapshots of real coordinators: backups, what begins again from one, and what must not begin at all.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Cluster, eventually, node_key, restore_all, save, transfer};
use matrixai_coordinator::{Config, backup, start};
use matrixai_proto::{
    envelope::Signer,
    v1::{GetAccountRequest, GetStatementReply, GetStatementRequest, accounts_client::AccountsClient},
};
use tonic::{Code, Request};

async fn statement(address: &str, account: &[u8]) -> GetStatementReply {
    let request = GetStatementRequest { account: account.to_vec(), before: 0, limit: 100 };
    eventually("a statement", || async {
        let mut client = AccountsClient::connect(format!("http://{address}")).await.ok()?;
        Some(client.get_statement(request.clone()).await.ok()?.into_inner())
    })
    .await
}

#[test]
fn a_backup_is_where_a_whole_cluster_begins_again() {
    let mut cluster = Cluster::founded();
    let (alice, alice_id) = cluster.account(1_000);
    let (_, bob_id) = cluster.account(0);
    cluster.done(&alice, vec![transfer(&bob_id, 10)]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup");
    cluster.runtime.block_on(save(&cluster.members[0].grpc, &file));
    cluster.done(&alice, vec![transfer(&bob_id, 100)]);

    let inspection = backup::inspect(&file).unwrap();
    assert_eq!((inspection.cluster_id, inspection.voters), (cluster.cluster_id, vec![1, 2, 3]));
    assert!(inspection.accounts >= 2);

    // What cannot be meant is refused.
    let stranger = Signer::generate().unwrap();
    let nowhere = folder.path().join("nowhere");
    let error = backup::restore(&file, &nowhere, &stranger).unwrap_err().to_string();
    assert!(error.contains("voters: [1, 2, 3]"), "{error}");
    assert!(!nowhere.exists());
    let own = node_key(cluster.members[0].folder.path());
    let error = backup::restore(&file, cluster.members[0].folder.path(), &own).unwrap_err().to_string();
    assert!(error.contains("not empty"), "{error}");
    let mut damaged = std::fs::read(&file).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let damaged_file = folder.path().join("damaged");
    std::fs::write(&damaged_file, damaged).unwrap();
    assert!(backup::restore(&damaged_file, &nowhere, &own).unwrap_err().to_string().contains("damaged"));

    restore_all(&mut cluster, &file);
    cluster.leader();
    assert_eq!(cluster.balance(0, &bob_id), "10", "what came after the backup is given up");
    cluster.done(&alice, vec![transfer(&bob_id, 5)]);
    assert_eq!(cluster.balance(1, &bob_id), "15", "and it goes on");
    let told = cluster.runtime.block_on(statement(&cluster.members[2].grpc, &alice_id));
    assert_eq!(told.complete_from_index, inspection.index + 1, "the backup holds no statements");
    assert_eq!(told.movements.len(), 1);
}

#[test]
fn a_coordinator_goes_on_from_its_snapshot_and_without_its_log_not_at_all() {
    let mut cluster = Cluster::founded();
    let (alice, alice_id) = cluster.account(1_000);
    let (_, bob_id) = cluster.account(0);
    let folder = tempfile::tempdir().unwrap();
    cluster.runtime.block_on(save(&cluster.members[0].grpc, &folder.path().join("backup")));
    cluster.done(&alice, vec![transfer(&bob_id, 10)]);
    cluster.members[0].stop();
    cluster.members[0].start();
    cluster.leader();
    assert_eq!(cluster.balance(0, &bob_id), "10");
    let told = cluster.runtime.block_on(statement(&cluster.members[0].grpc, &alice_id));
    assert_eq!((told.movements.len(), told.complete_from_index), (2, 0), "its index had the rest already");

    cluster.members[0].stop();
    let data = cluster.members[0].folder.path();
    std::fs::remove_dir_all(data.join("raft")).unwrap();
    let error = start(Config::local(data).unwrap()).unwrap_err().to_string();
    assert!(error.contains("A lost disk means a new id"), "{error}");
    std::fs::create_dir(data.join("raft")).unwrap();
    let error = start(Config::local(data).unwrap()).unwrap_err().to_string();
    assert!(error.contains("A lost disk means a new id"), "an empty one is no better: {error}");
    assert_eq!(cluster.balance(1, &bob_id), "10", "the others go on");
}

#[test]
fn reads_are_as_new_as_the_caller_asks() {
    let mut cluster = Cluster::founded();
    let (_, alice_id) = cluster.account(1_000);
    let leader = cluster.leader();
    let follower = (leader + 1) % 3;
    let address = cluster.members[follower].grpc.clone();
    let read = async |consistency: &str| {
        let mut client = AccountsClient::connect(format!("http://{address}")).await.unwrap();
        let mut request = Request::new(GetAccountRequest { account: alice_id.clone() });
        request.metadata_mut().insert("matrixai-consistency", consistency.parse().unwrap());
        client.get_account(request).await
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for consistency in ["linearizable", "bounded:1000", "bounded:600000", "stale"] {
        let account = runtime.block_on(read(consistency)).unwrap().into_inner();
        assert_eq!(account.balance, "1000", "{consistency}");
    }
    for consistency in ["bounded", "bounded:soon", "eventual"] {
        assert_eq!(runtime.block_on(read(consistency)).unwrap_err().code(), Code::InvalidArgument, "{consistency}");
    }
    // Alone, it answers only what may be old.
    for number in (0..3).filter(|number| *number != follower) {
        cluster.members[number].stop();
    }
    assert_eq!(runtime.block_on(read("bounded:600000")).unwrap().into_inner().balance, "1000");
    assert_eq!(runtime.block_on(read("stale")).unwrap().into_inner().balance, "1000");
    assert_eq!(runtime.block_on(read("bounded:0")).unwrap_err().code(), Code::Unavailable);
}
