//! How a coordinator comes to belong to a cluster: it is founded with it, joins it, or is told again who is in it.

use super::{Threads, join_cluster};
use crate::{
    identity::FolderError,
    join::{self, Place},
    shared::{Peer, Shared},
};
use matrixai_proto::v1::Envelope;
use matrixai_state::State;
use std::net::SocketAddr;
use tokio::sync::{mpsc, watch};
use tonic::Status;

/// Founds the cluster of a genesis for whoever claims it with this coordinator's founding key, or confirms that it is this one's.
pub(super) fn found(
    shared: &Shared,
    genesis: &[u8],
    claim: Option<&Envelope>,
    threads: &mut Option<Threads>,
    fatal: &mpsc::UnboundedSender<String>,
) -> Result<(), Status> {
    if let Ok(running) = shared.running() {
        return if running.genesis.bytes == genesis {
            Ok(())
        } else {
            let ours = hex::encode(running.cluster_id);
            Err(Status::failed_precondition(format!("this coordinator already belongs to cluster {ours}")))
        };
    }
    // Its operator has said where it belongs; nobody who reaches its port may say otherwise.
    let Some(founding) = shared.founding_key() else {
        let to = shared.config().join.join(", ");
        return Err(Status::failed_precondition(format!(
            "this coordinator waits to join the cluster of {to}: to found one with it, start it without `join`"
        )));
    };
    founding.check(claim, &shared.node_signer().public_key(), genesis)?;
    let state = State::genesis(genesis).map_err(|error| Status::invalid_argument(error.to_string()))?;
    own_number(shared, &state).map_err(Status::invalid_argument)?;
    let failed = |error: FolderError| Status::internal(error.to_string());
    shared.folder().found(genesis).map_err(failed)?;
    *threads = Some(join_cluster(shared, genesis, Vec::new(), fatal.clone()).map_err(|why| {
        // Half a cluster must not go on.
        let _ = fatal.send(why.clone());
        Status::internal(why)
    })?);
    Ok(())
}

/// Waits until the admins of the cluster that this coordinator is to join have added it.
pub(super) async fn wait_to_join(shared: &Shared, grpc: SocketAddr, web: SocketAddr) -> Result<Place, String> {
    let (config, key) = (shared.config(), shared.node_signer().public_key());
    let me = format!("{}@{}@{}", hex::encode(key), config.advertised(grpc), config.advertised(web));
    join::wait(shared.links(), &config.join, key, &me).await
}

/// Takes the place that the admins gave this coordinator: the folder first, so that a crash leaves one that opens.
pub(super) fn take_place(
    shared: &Shared,
    Place { genesis, era, seat }: &Place,
    threads: &mut Option<Threads>,
    fatal: &mpsc::UnboundedSender<String>,
) -> Result<(), String> {
    if shared.running().is_ok() {
        return Ok(());
    }
    State::genesis(genesis).map_err(|error| error.to_string())?;
    let folder = shared.folder();
    let begin = || {
        if !era.is_empty() {
            let era = era.as_slice().try_into().map_err(|_| "the era of the cluster is no hash".to_owned())?;
            folder.begin_era(era).map_err(|error| error.to_string())?;
        }
        folder.sit(seat).and_then(|()| folder.found(genesis)).map_err(|error| error.to_string())
    };
    begin()?;
    *threads = Some(join_cluster(shared, genesis, Vec::new(), fatal.clone())?);
    Ok(())
}

/// Sees to it that a coordinator stops that was told to join another cluster than the one that its folder belongs to. It does not
/// wait for that: whom `join` names may be gone, and a member is needed.
pub(super) fn watch_for_another(shared: &Shared, genesis: Vec<u8>, fatal: mpsc::UnboundedSender<String>) {
    let shared = shared.clone();
    tokio::spawn(async move {
        let addresses = &shared.config().join;
        let answered = tokio::select! {
            answered = join::elsewhere(shared.links(), addresses, &genesis) => answered,
            () = shared.stopping() => None,
        };
        if let Some(why) = answered {
            // The main task may be gone.
            let _ = fatal.send(why);
        }
    });
}

/// This node's number: in the genesis, or the one that it was given when it joined.
pub(super) fn own_number(shared: &Shared, state: &State) -> Result<u64, String> {
    let key = shared.node_signer().public_key();
    let own = state.founding().nodes.iter().find(|node| node.key == key).map(|node| node.id.0);
    let seat = shared.folder().seat().map_err(|error| error.to_string())?;
    own.or(seat.map(|seat| seat.node)).ok_or_else(|| {
        format!("the genesis does not name this coordinator's node key {}; see its ready line", hex::encode(key))
    })
}

/// Whom the coordinators that the operator names say to be the members; none where nobody is named.
pub(super) async fn introduced(
    shared: &Shared,
    genesis: &[u8],
    mut stopping: watch::Receiver<bool>,
) -> Result<Vec<Peer>, String> {
    let addresses = &shared.config().introduce;
    if addresses.is_empty() {
        return Ok(Vec::new());
    }
    let era = shared.folder().era().map_err(|error| error.to_string())?;
    tokio::select! {
        answered = join::introduced(shared.links(), addresses, genesis, &era) => answered,
        _ = stopping.wait_for(|stopping| *stopping) => Ok(Vec::new()),
    }
}
