//! Artifacts over gRPC: who may store, when it counts as stored, and what becomes of torn, wrong, missing and changed bytes.

use crate::{
    common::now_ms,
    founded::{Cluster, until},
};
use futures::stream;
use matrixai_proto::{
    envelope::{self, ARTIFACT_PUT, COMMANDS, Signer},
    v1::{
        Envelope, GetRequest, PutClaim, PutHeader, PutRequest, StatReply, StatRequest,
        artifacts_client::ArtifactsClient, put_request::Part,
    },
};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use std::fs;
use tonic::{Code, Status};

const CHUNK: usize = 200_000;

fn sha256(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

/// Bytes that compress to nothing regular, different for each seed.
fn bytes(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at as u8).wrapping_mul(31).wrapping_add((at >> 8) as u8) ^ seed).collect()
}

fn claim(cluster: &Cluster, signer: &Signer, bytes: &[u8]) -> Envelope {
    claim_of(cluster.id, signer, ARTIFACT_PUT, now_ms() + 60_000, bytes)
}

fn claim_of(cluster_id: [u8; 32], signer: &Signer, method: &str, expires_ms: u64, bytes: &[u8]) -> Envelope {
    let payload = PutClaim { sha256: sha256(bytes), size: bytes.len() as u64 }.encode_to_vec();
    signer.seal(cluster_id, method, envelope::random().unwrap(), expires_ms, payload)
}

/// Uploads `sent` under the name of `whole`, from `offset`.
async fn put_at(
    cluster: &Cluster,
    at: usize,
    claim: Option<Envelope>,
    whole: &[u8],
    offset: usize,
    sent: &[u8],
) -> Result<u32, Status> {
    let header = PutHeader { sha256: sha256(whole), size: whole.len() as u64, offset: offset as u64, claim };
    let parts: Vec<Part> = std::iter::once(Part::Header(header))
        .chain(sent.chunks(CHUNK).map(|chunk| Part::Data(chunk.to_vec())))
        .collect();
    let messages = stream::iter(parts.into_iter().map(|part| PutRequest { part: Some(part) }));
    let reply = ArtifactsClient::new(cluster.channel(at)).put(messages).await?;
    Ok(reply.into_inner().replicas)
}

async fn put(cluster: &Cluster, at: usize, signer: &Signer, bytes: &[u8]) -> Result<u32, Status> {
    put_at(cluster, at, Some(claim(cluster, signer, bytes)), bytes, 0, bytes).await
}

async fn get(cluster: &Cluster, at: usize, sha256: Vec<u8>, offset: u64) -> Result<Vec<u8>, Status> {
    let mut client = ArtifactsClient::new(cluster.channel(at));
    let mut replies = client.get(GetRequest { sha256, offset }).await?.into_inner();
    let mut got = Vec::new();
    while let Some(reply) = replies.message().await? {
        got.extend(reply.data);
    }
    Ok(got)
}

async fn stat(cluster: &Cluster, at: usize, sha256: Vec<u8>) -> StatReply {
    ArtifactsClient::new(cluster.channel(at)).stat(StatRequest { sha256 }).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_on_a_quorum_then_on_all_and_had_from_any() {
    let cluster = Cluster::found(|_| {}).await;
    let (signer, _) = cluster.account().await;
    let whole = bytes(3_000_000, 1);
    let replicas = put(&cluster, 0, &signer, &whole).await.unwrap();
    assert!((2..=3).contains(&replicas), "{replicas}");
    let mut holders = 0;
    for at in 0..3 {
        holders += u32::from(cluster.artifact(at, &sha256(&whole)).exists());
    }
    assert!(holders >= replicas, "acknowledged for {replicas}, on {holders} disks");
    until("a copy on every coordinator", async || {
        let mut all = true;
        for at in 0..3 {
            let held = stat(&cluster, at, sha256(&whole)).await;
            all &= held == StatReply { complete: true, size: 3_000_000, received: 0 };
        }
        all
    })
    .await;
    assert_eq!(get(&cluster, 2, sha256(&whole), 0).await.unwrap(), whole);
    assert_eq!(get(&cluster, 1, sha256(&whole), 2_999_990).await.unwrap(), &whole[2_999_990..]);
    assert_eq!(get(&cluster, 1, sha256(&whole), 3_000_001).await.unwrap_err().code(), Code::InvalidArgument);
    // Again, by which a client that lost the answer learns it.
    assert!(put(&cluster, 1, &signer, &whole).await.unwrap() >= 2);
    // And without its bytes, by a client that asked before it sent.
    let known = Some(claim(&cluster, &signer, &whole));
    assert!(put_at(&cluster, 2, known, &whole, whole.len(), &[]).await.unwrap() >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_upload_goes_on_where_it_broke_off() {
    let cluster = Cluster::found(|_| {}).await;
    let (signer, _) = cluster.account().await;
    let whole = bytes(700_000, 2);
    let send = async |offset: usize, to: usize| {
        put_at(&cluster, 0, Some(claim(&cluster, &signer, &whole)), &whole, offset, &whole[offset..to]).await
    };
    let torn = send(0, 300_000).await.unwrap_err();
    assert_eq!(torn.code(), Code::Aborted, "{torn}");
    let held = stat(&cluster, 0, sha256(&whole)).await;
    assert_eq!(held, StatReply { complete: false, size: 0, received: 300_000 });
    assert_eq!(send(200_000, 700_000).await.unwrap_err().code(), Code::OutOfRange);
    send(300_000, 700_000).await.unwrap();
    assert_eq!(get(&cluster, 1, sha256(&whole), 0).await.unwrap(), whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_keys_of_this_cluster_store_and_only_what_they_signed() {
    let cluster = Cluster::found(|_| {}).await;
    let (signer, _) = cluster.account().await;
    let stranger = Signer::generate().unwrap();
    let whole = bytes(1_000, 3);
    let other = bytes(1_000, 4);
    let forged = Envelope { signature: vec![1; 64], ..claim(&cluster, &signer, &whole) };
    let in_time = now_ms() + 60_000;
    let cases = [
        (None, Code::Unauthenticated),
        (Some(forged), Code::Unauthenticated),
        (Some(claim(&cluster, &signer, &other)), Code::Unauthenticated),
        (Some(claim_of([9; 32], &signer, ARTIFACT_PUT, in_time, &whole)), Code::Unauthenticated),
        (Some(claim_of(cluster.id, &signer, ARTIFACT_PUT, 1, &whole)), Code::Unauthenticated),
        (Some(claim_of(cluster.id, &signer, ARTIFACT_PUT, in_time + 3_600_000, &whole)), Code::Unauthenticated),
        (Some(claim_of(cluster.id, &signer, COMMANDS, in_time, &whole)), Code::InvalidArgument),
        (Some(claim(&cluster, &stranger, &whole)), Code::PermissionDenied),
    ];
    for (case, (claim, code)) in cases.into_iter().enumerate() {
        let refused = put_at(&cluster, 0, claim, &whole, 0, &whole).await.unwrap_err();
        assert_eq!(refused.code(), code, "case {case}: {refused}");
    }
    let wrong = put_at(&cluster, 0, Some(claim(&cluster, &signer, &whole)), &whole, 0, &other).await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument, "{wrong}");
    let long = put_at(&cluster, 0, Some(claim(&cluster, &signer, &whole)), &whole, 0, &bytes(1_001, 3)).await;
    assert_eq!(long.unwrap_err().code(), Code::InvalidArgument);
    for at in 0..3 {
        assert!(!stat(&cluster, at, sha256(&whole)).await.complete);
    }
    assert_eq!(get(&cluster, 0, sha256(&whole), 0).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_changed_is_had_from_a_peer() {
    let cluster = Cluster::found(|_| {}).await;
    let (signer, _) = cluster.account().await;
    let whole = bytes(900_000, 5);
    put(&cluster, 0, &signer, &whole).await.unwrap();
    let copy = cluster.artifact(1, &sha256(&whole));
    until("a copy on the second coordinator", async || copy.exists()).await;

    fs::remove_file(&copy).unwrap();
    assert_eq!(get(&cluster, 1, sha256(&whole), 0).await.unwrap(), whole);
    assert_eq!(fs::read(&copy).unwrap(), whole, "kept for the next one");

    let mut changed = whole.clone();
    changed[500_000] ^= 1;
    fs::write(&copy, &changed).unwrap();
    assert!(get(&cluster, 1, sha256(&whole), 0).await.is_err(), "changed bytes must not look like an answer");
    assert_eq!(get(&cluster, 1, sha256(&whole), 0).await.unwrap(), whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_says_which_and_how_much() {
    let cluster = Cluster::found(|config| config.artifacts.bytes_max = 1_000_000).await;
    let (signer, _) = cluster.account().await;
    put(&cluster, 0, &signer, &bytes(600_000, 6)).await.unwrap();
    let full = put(&cluster, 0, &signer, &bytes(600_000, 7)).await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted, "{full}");
    let folder = cluster.artifacts(0).display().to_string();
    assert!(full.message().contains(&folder) && full.message().contains("600000"), "{full}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_nothing_is_acknowledged() {
    let mut cluster = Cluster::found(|_| {}).await;
    let (signer, _) = cluster.account().await;
    let whole = bytes(50_000, 8);
    // Lets the first coordinator know the account, whoever led.
    put(&cluster, 0, &signer, &bytes(10, 9)).await.unwrap();
    cluster.stop(1).await;
    cluster.stop(2).await;
    let alone = put(&cluster, 0, &signer, &whole).await.unwrap_err();
    assert_eq!(alone.code(), Code::Unavailable, "{alone}");
    assert!(alone.message().starts_with("1 of the 2 coordinators"), "{alone}");
    cluster.restart(2).await;
    until("an acknowledgement by two", async || put(&cluster, 0, &signer, &whole).await.is_ok()).await;
    assert!(stat(&cluster, 2, sha256(&whole)).await.complete);
}
