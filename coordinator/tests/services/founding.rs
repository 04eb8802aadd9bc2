//! Who may found a cluster on a coordinator.

use crate::{common::init, founded::Cluster};
use matrixai_proto::{
    envelope::Signer,
    v1::{GetStatusRequest, InitRequest, cluster_client::ClusterClient},
};
use prost::Message as _;
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_waits_to_join_is_founded_by_nobody() {
    // Nobody listens there, so it waits for as long as it lives.
    let cluster = Cluster::start(1, |config| config.join = vec!["127.0.0.1:1".to_owned()]).await;
    let refused = init(&cluster.addresses()[0], &cluster.genesis().encode_to_vec()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("waits to join the cluster of 127.0.0.1:1"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_may_open_as_many_files_as_its_hard_limit_allows() {
    let _cluster = Cluster::start(1, |_| {}).await;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let wanted = limit.maximum.map_or(1 << 20, |maximum| maximum.min(1 << 20));
    assert!(limit.current.is_none_or(|current| current >= wanted), "{limit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reaches_the_port_founds_nothing_without_the_key_of_the_folder() {
    let cluster = Cluster::start(1, |_| {}).await;
    let (address, genesis) = (cluster.addresses()[0].clone(), cluster.genesis().encode_to_vec());
    let mut client = ClusterClient::new(cluster.channel(0));
    let status = client.get_status(GetStatusRequest {}).await.unwrap().into_inner();
    let asks = status.founding.unwrap();
    assert_eq!(cluster.ready(0).founding_key.as_ref(), Some(&asks.path));

    let somebody = Signer::from_seed([3; 32]).unwrap();
    let forged = matrixai_coordinator::founding::claim(&somebody, &asks.node, &genesis);
    for claim in [None, Some(forged)] {
        let refused = client.init(InitRequest { genesis: genesis.clone(), claim }).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
        assert!(refused.message().contains(&asks.path), "{refused:?}");
    }

    let founded = init(&address, &genesis).await.unwrap();
    assert!(!std::path::Path::new(&asks.path).exists(), "the key has done its work");
    let status = client.get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.founding, None);
    // Whoever founds several coordinators and was cut off asks again.
    let again = client.init(InitRequest { genesis, claim: None }).await.unwrap().into_inner();
    assert_eq!(again, founded);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_told_to_join_another_cluster_than_its_folder_s_says_so_and_stops() {
    let (mut ours, theirs) = (Cluster::start(1, |_| {}).await, Cluster::start(1, |_| {}).await);
    for cluster in [&ours, &theirs] {
        init(&cluster.addresses()[0], &cluster.genesis().encode_to_vec()).await.unwrap();
    }
    let other = theirs.addresses();
    ours.stop(0).await;
    ours.configure(0, |config| config.join = other.clone());
    ours.restart(0).await;
    let why = ours.ended(0).await;
    assert!(why.contains(&other[0]) && why.contains("named by `join`"), "{why}");
}
