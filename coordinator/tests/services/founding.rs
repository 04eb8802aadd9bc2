//! Who may found a cluster on a coordinator.

use crate::{common::init, founded::Cluster};
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
