//! The quorum as clients see it: founding, commands, refusals, restarts, the loss of a leader.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Cluster, Member, eventually, init, now_ms, status, submit_to, transfer};
use matrixai_coordinator::{Config, start};
use matrixai_proto::{
    envelope::{COMMANDS, Signer, random},
    v1::{
        Batch, Command, CreateAccount, EnrolMachine, Envelope, ExportLogRequest, FaucetDraw, GetGenesisRequest,
        Inventory, RotateKey, WatchEventsRequest, cluster_client::ClusterClient, command::Kind,
    },
};
use matrixai_state::ids::AccountId;
use prost::Message as _;
use std::fs;
use tonic::Code;

#[test]
fn a_coordinator_without_a_cluster_can_only_be_asked_and_founded() {
    let cluster = Cluster::unfounded();
    let member = &cluster.members[0];
    cluster.runtime.block_on(async {
        assert_eq!(status(&member.grpc).await.unwrap().role, "uninitialised");
        let refused = common::get_account(&member.grpc, &[1; 20]).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable);
        assert!(refused.message().contains("matrixai cluster init"), "{refused:?}");

        let refused = init(&member.grpc, b"no genesis").await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert_eq!(init(&member.grpc, &cluster.genesis).await.unwrap().node, 1);
        init(&member.grpc, &cluster.genesis).await.unwrap();
        let mut other = matrixai_proto::v1::Genesis::decode(cluster.genesis.as_slice()).unwrap();
        other.network = "other".to_owned();
        let refused = init(&member.grpc, &other.encode_to_vec()).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        // A genesis without this coordinator's key founds nothing on it.
        other.nodes.truncate(1);
        let refused = init(&cluster.members[1].grpc, &other.encode_to_vec()).await.unwrap_err();
        assert!(refused.message().contains("node key"), "{refused:?}");
    });
}

#[test]
fn money_moves_once_is_told_everywhere_and_survives_a_restart() {
    let mut cluster = Cluster::founded();
    let leader = cluster.leader();
    let follower = (leader + 1) % 3;
    let (alice, alice_id) = cluster.account(1_000);
    let (_, bob_id) = cluster.account(0);

    let envelope = cluster.seal(&alice, vec![transfer(&bob_id, 300)]);
    let refused = cluster.runtime.block_on(submit_to(&cluster.members[follower].grpc, &envelope)).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let named = refused.metadata().get("matrixai-leader").unwrap().to_str().unwrap();
    assert_eq!(named, cluster.members[leader].grpc);

    let first = cluster.submit(&envelope);
    assert_eq!(first.outcomes[0].name, "done");
    assert_eq!(cluster.submit(&envelope), first, "the same envelope again is answered with the first outcome");
    for member in 0..3 {
        assert_eq!(cluster.balance(member, &alice_id), "700");
        assert_eq!(cluster.balance(member, &bob_id), "300");
    }

    let addresses: Vec<String> = cluster.members.iter().map(|member| member.grpc.clone()).collect();
    cluster.members.iter_mut().for_each(Member::stop);
    cluster.members.iter_mut().for_each(Member::start);
    for (member, address) in cluster.members.iter().zip(&addresses) {
        assert_eq!(member.handle().ready().grpc, *address, "a restart keeps its port");
        assert_eq!(member.handle().ready().cluster_id, Some(hex::encode(cluster.cluster_id)));
    }
    for member in 0..3 {
        assert_eq!(cluster.balance(member, &alice_id), "700");
    }
    assert_eq!(cluster.submit(&envelope), first, "even after a restart");
    cluster.done(&alice, vec![transfer(&bob_id, 1)]);
    assert_eq!(cluster.balance(0, &bob_id), "301");
}

#[test]
fn the_loss_of_a_leader_loses_nothing_that_was_acknowledged() {
    let mut cluster = Cluster::founded();
    let (alice, alice_id) = cluster.account(1_000);
    let (_, bob_id) = cluster.account(0);
    let envelope = cluster.seal(&alice, vec![transfer(&bob_id, 100)]);
    let first = cluster.submit(&envelope);

    let lost = cluster.leader();
    cluster.members[lost].stop();
    let next = cluster.leader();
    assert_ne!(next, lost);
    assert_eq!(cluster.submit(&envelope), first, "the new leader knows the first outcome");
    cluster.done(&alice, vec![transfer(&bob_id, 10)]);
    assert_eq!(cluster.balance(next, &alice_id), "890");

    cluster.members[lost].start();
    assert_eq!(cluster.balance(lost, &alice_id), "890", "it catches up before it answers");

    // All three attest the same root at one index, the returned one included.
    let grpc = cluster.members[lost].grpc.clone();
    let index = cluster.runtime.block_on(status(&grpc)).unwrap().applied;
    let roots = cluster.runtime.block_on(eventually("three equal roots", || async {
        let roots = status(&grpc).await.ok()?.roots;
        (roots.len() == 3 && roots[0].index > index).then_some(roots)
    }));
    assert!(roots.iter().all(|root| root.root == roots[0].root && root.index == roots[0].index), "{roots:?}");
}

#[test]
fn commands_sent_while_the_leader_dies_happen_once_each() {
    const CLIENTS: usize = 8;
    const COMMANDS_EACH: usize = 25;
    let mut cluster = Cluster::founded();
    let (_, bob_id) = cluster.account(0);
    let clients: Vec<(Signer, Vec<u8>)> = (0..CLIENTS).map(|_| cluster.account(1_000)).collect();
    let lost = cluster.leader();
    let addresses: Vec<String> = cluster.members.iter().map(|member| member.grpc.clone()).collect();
    let (half_way, mut seen) = tokio::sync::mpsc::channel(CLIENTS);
    let mut running = Vec::new();
    for (signer, _) in &clients {
        let envelopes: Vec<_> = (0..COMMANDS_EACH).map(|_| cluster.seal(signer, vec![transfer(&bob_id, 1)])).collect();
        let (addresses, half_way) = (addresses.clone(), half_way.clone());
        running.push(cluster.runtime.spawn(async move {
            for (number, envelope) in envelopes.iter().enumerate() {
                if number == COMMANDS_EACH / 2 {
                    half_way.send(()).await.unwrap();
                }
                let reply = common::submit_somewhere(&addresses, envelope).await;
                assert_eq!(reply.outcomes[0].name, "done", "{reply:?}");
            }
        }));
    }
    // The leader goes as soon as the first client is half way through, so commands of all are on their way.
    seen.blocking_recv().unwrap();
    cluster.members[lost].stop();
    cluster.runtime.block_on(async {
        for client in running {
            client.await.unwrap();
        }
    });
    let next = cluster.leader();
    assert_ne!(next, lost);
    assert_eq!(cluster.balance(next, &bob_id), (CLIENTS * COMMANDS_EACH).to_string());
    cluster.members[lost].start();
    for (_, client) in &clients {
        assert_eq!(cluster.balance(lost, client), (1_000 - COMMANDS_EACH).to_string());
    }
}

#[test]
fn bad_input_is_refused_by_name_and_changes_nothing() {
    let cluster = Cluster::founded();
    let leader = cluster.leader();
    let grpc = cluster.members[leader].grpc.clone();
    let (alice, alice_id) = cluster.account(1_000);
    let (_, bob_id) = cluster.account(0);
    let unauthenticated = |envelope: &Envelope| {
        let refused = cluster.runtime.block_on(submit_to(&grpc, envelope)).unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
        refused.metadata().get("matrixai-refusal").unwrap().to_str().unwrap().to_owned()
    };

    let mut forged = cluster.seal(&alice, vec![transfer(&bob_id, 1)]);
    forged.signature[5] ^= 1;
    assert_eq!(unauthenticated(&forged), "bad_signature");
    let mut unsigned = cluster.seal(&alice, vec![transfer(&bob_id, 1)]);
    unsigned.signature.clear();
    assert_eq!(unauthenticated(&unsigned), "bad_signature");
    let mut stolen = cluster.seal(&alice, vec![transfer(&bob_id, 1)]);
    stolen.key = Signer::generate().unwrap().public_key().to_vec();
    assert_eq!(unauthenticated(&stolen), "bad_signature");

    let payload = cluster.seal(&alice, vec![transfer(&bob_id, 1)]).payload;
    let elsewhere = alice.seal([9; 32], COMMANDS, random().unwrap(), now_ms() + 60_000, payload.clone());
    assert_eq!(cluster.refused(&elsewhere), "wrong_cluster");
    let expired = alice.seal(cluster.cluster_id, COMMANDS, random().unwrap(), now_ms() - 60_000, payload.clone());
    assert_eq!(cluster.refused(&expired), "expired");
    let eternal = alice.seal(cluster.cluster_id, COMMANDS, random().unwrap(), now_ms() + 3_600_000, payload.clone());
    assert_eq!(cluster.refused(&eternal), "expires_too_far");
    // Field 99 of a batch, which no version has.
    let unknown = [payload.as_slice(), &[0x98, 0x06, 0x01]].concat();
    assert_eq!(cluster.refused(&cluster.seal_payload(&alice, unknown)), "malformed");
    assert_eq!(cluster.refused(&cluster.seal_payload(&alice, vec![0xff; 40])), "malformed");
    let overflow = (u128::MAX - 5).to_string();
    let draw = Kind::FaucetDraw(FaucetDraw { amount: overflow });
    assert_eq!(cluster.refused(&cluster.seal(&alice, vec![draw])), "bad_amount");

    // A replayed id with other contents.
    let first = cluster.seal(&alice, vec![transfer(&bob_id, 100)]);
    cluster.submit(&first);
    let command_id = first.command_id.as_slice().try_into().unwrap();
    let other = Batch { commands: vec![Command { kind: Some(transfer(&bob_id, 200)) }], linked: false }.encode_to_vec();
    let reused = alice.seal(cluster.cluster_id, COMMANDS, command_id, now_ms() + 60_000, other);
    assert_eq!(cluster.refused(&reused), "id_reused");

    // A machine is enrolled only by whoever holds its key, and its key moves no money.
    let machine = Signer::generate().unwrap();
    let enrol = |possession: Vec<u8>| {
        let inventory = Inventory { cores: 1, ram_bytes: 1 << 30, ..Inventory::default() };
        let machine_key = machine.public_key().to_vec();
        Kind::EnrolMachine(EnrolMachine { machine_key, possession, inventory: Some(inventory) })
    };
    assert_eq!(unauthenticated(&cluster.seal(&alice, vec![enrol(vec![1; 64])])), "bad_possession");
    let possession = [b"MatrixAI/enrol/v1".as_slice(), &cluster.cluster_id, &alice_id].concat();
    cluster.done(&alice, vec![enrol(machine.sign_raw(&possession).to_vec())]);
    assert_eq!(cluster.refused(&cluster.seal(&machine, vec![transfer(&bob_id, 1)])), "forbidden");

    // An account's key gives way only to one that whoever names it holds, and is dead then; a machine is enrolled for the
    // account as for its new key.
    let next = Signer::generate().unwrap();
    let rotate = |possession: Vec<u8>| Kind::RotateKey(RotateKey { new_key: next.public_key().to_vec(), possession });
    assert_eq!(unauthenticated(&cluster.seal(&alice, vec![rotate(vec![1; 64])])), "bad_possession");
    let for_a_machine = next.sign_raw(&possession).to_vec();
    assert_eq!(unauthenticated(&cluster.seal(&alice, vec![rotate(for_a_machine)])), "bad_possession");
    let statement = [b"MatrixAI/account-key/v1".as_slice(), &cluster.cluster_id, &alice_id].concat();
    cluster.done(&alice, vec![rotate(next.sign_raw(&statement).to_vec())]);
    assert_eq!(cluster.refused(&cluster.seal(&alice, vec![transfer(&bob_id, 1)])), "key_retired");
    let second = Signer::generate().unwrap();
    let own_id = AccountId::of_key(&cluster.cluster_id, &next.public_key()).0;
    let possession = [b"MatrixAI/enrol/v1".as_slice(), &cluster.cluster_id, &own_id].concat();
    let inventory = Some(Inventory { cores: 1, ram_bytes: 1 << 30, ..Inventory::default() });
    let (machine_key, possession) = (second.public_key().to_vec(), second.sign_raw(&possession).to_vec());
    cluster.done(&next, vec![Kind::EnrolMachine(EnrolMachine { machine_key, possession, inventory })]);

    assert_eq!((cluster.balance(0, &alice_id), cluster.balance(1, &bob_id)), ("900".to_owned(), "100".to_owned()));
}

#[test]
fn every_member_exports_the_same_log_and_tells_the_same_events() {
    let cluster = Cluster::founded();
    let (alice, _) = cluster.account(1_000);
    let (_, bob_id) = cluster.account(0);
    let end = cluster.done(&alice, vec![transfer(&bob_id, 1)]).index;
    cluster.runtime.block_on(async {
        let mut logs = Vec::new();
        let mut feeds = Vec::new();
        for member in &cluster.members {
            let mut client = ClusterClient::connect(format!("http://{}", member.grpc)).await.unwrap();
            let genesis = client.get_genesis(GetGenesisRequest {}).await.unwrap().into_inner();
            assert_eq!(genesis.genesis, cluster.genesis);
            eventually("this member has applied it", || async {
                (status(&member.grpc).await.ok()?.applied >= end).then_some(())
            })
            .await;
            let request = ExportLogRequest { from_index: 1, to_index: end };
            let mut stream = client.export_log(request).await.unwrap().into_inner();
            let mut log = Vec::new();
            while let Some(entry) = stream.message().await.unwrap() {
                log.push(entry);
            }
            assert_eq!(log.iter().map(|entry| entry.index).collect::<Vec<_>>(), (1..=end).collect::<Vec<_>>());
            logs.push(log);

            let mut stream = client.watch_events(WatchEventsRequest { from_index: 1 }).await.unwrap().into_inner();
            let mut feed = Vec::new();
            while feed.len() < 2 {
                feed.push(stream.message().await.unwrap().unwrap());
            }
            feeds.push(feed);
        }
        assert!(logs.iter().all(|log| *log == logs[0]));
        assert!(feeds.iter().all(|feed| *feed == feeds[0]), "{feeds:?}");
    });
}

#[test]
fn a_folder_belongs_to_one_process_and_one_cluster() {
    let mut member = Member::new();
    let config = || Config::local(member.folder.path()).unwrap();
    let error = start(config()).unwrap_err().to_string();
    assert!(error.contains("in use by another coordinator"), "{error}");
    let path = member.folder.path().to_owned();
    member.stop();
    fs::write(path.join("format"), "matrixai-coordinator 99\n").unwrap();
    let error = start(Config::local(&path).unwrap()).unwrap_err().to_string();
    assert!(error.contains("matrixai-coordinator 99"), "{error}");
}

#[test]
fn an_account_of_an_unknown_signer_is_named_so() {
    let cluster = Cluster::founded();
    let stranger = Signer::generate().unwrap();
    assert_eq!(cluster.refused(&cluster.seal(&stranger, vec![transfer(&[1; 20], 1)])), "unknown_signer");
    cluster.done(&stranger, vec![Kind::CreateAccount(CreateAccount::default())]);
    assert_eq!(cluster.refused(&cluster.seal(&stranger, vec![transfer(&[1; 20], 1)])), "unknown_account");
}
