//! The quorum itself: founding it, its health, its event feed, and its log for auditors.

use super::Stopping;
use crate::{
    clock, edge,
    founding::FoundingKey,
    replica::NoSpace,
    shared::{Running, Shared},
};
use matrixai_consensus::Members;
use matrixai_proto::{
    envelope::TRANSFER_LEADER,
    v1::{
        self, ArchiveStatus, AttestedRoot, DiskFull, Event, ExportLogRequest, ExportedEntry, GetGenesisReply,
        GetGenesisRequest, GetPolicyReply, GetPolicyRequest, GetStatusReply, GetStatusRequest, InitReply, InitRequest,
        NodeStatus, SaveSnapshotRequest, TransferClaim, TransferLeaderReply, TransferLeaderRequest, WatchEventsRequest,
        cluster_server::Cluster,
    },
};
use matrixai_state::{
    Refusal, Signer,
    nodes::{NodeRow, Standing},
};
use std::{pin::Pin, time::Duration};
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

/// Messages of a stream waiting for a slow reader.
const STREAM_MAX: usize = 64;
/// Exports at once: the thread that applies the log reads their pages.
const EXPORTS_MAX: usize = 8;
/// An export whose reader takes nothing for this long is ended.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Largest genesis, bytes.
const GENESIS_BYTES_MAX: usize = 64 << 10;

/// The service.
#[derive(Debug)]
pub(crate) struct ClusterService {
    pub(crate) shared: Shared,
}

type Stream1<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Cluster for ClusterService {
    type WatchEventsStream = Stream1<Event>;
    type SaveSnapshotStream = super::snapshots::Pieces;
    type ExportLogStream = Stream1<ExportedEntry>;

    async fn init(&self, request: Request<InitRequest>) -> Result<Response<InitReply>, Status> {
        let InitRequest { genesis, claim } = request.into_inner();
        if genesis.len() > GENESIS_BYTES_MAX {
            return Err(Status::invalid_argument(format!("a genesis has at most {GENESIS_BYTES_MAX} bytes")));
        }
        self.shared.found(genesis, claim).await?;
        let running = self.shared.running()?;
        Ok(Response::new(InitReply { cluster_id: running.cluster_id.to_vec(), node: running.node }))
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusReply>, Status> {
        Ok(Response::new(status(&self.shared)))
    }

    async fn get_genesis(&self, _: Request<GetGenesisRequest>) -> Result<Response<GetGenesisReply>, Status> {
        let genesis = self.shared.genesis()?;
        let cluster_id = self.shared.cluster_id()?.to_vec();
        let era = &self.shared.running()?.era;
        Ok(Response::new(GetGenesisReply { genesis: genesis.bytes.clone(), cluster_id, era: era.clone() }))
    }

    async fn get_policy(&self, request: Request<GetPolicyRequest>) -> Result<Response<GetPolicyReply>, Status> {
        let state = self.shared.view_for(request.metadata()).await?;
        Ok(Response::new(super::convert::policy(&state)))
    }

    async fn transfer_leader(
        &self,
        request: Request<TransferLeaderRequest>,
    ) -> Result<Response<TransferLeaderReply>, Status> {
        let missing = || Status::unauthenticated("a claim signed by an admin or operator is missing");
        let claim = request.into_inner().claim.ok_or_else(missing)?;
        let running = self.shared.running()?;
        let state = running.views.borrow().clone();
        let TransferClaim { to } = edge::claimed(&claim, TRANSFER_LEADER, &state)?;
        edge::lives_at_most(&claim, &state)?;
        let signer = claim.key.as_slice().try_into().ok().and_then(|key| state.key_role(&key));
        let may = matches!(signer, Some(Signer::Account(account)) if state.may_operate(account));
        if !may {
            return Err(Status::permission_denied(Refusal::NotAllowed.to_string()));
        }
        running.replica.transfer_leader(to).await?;
        Ok(Response::new(TransferLeaderReply {}))
    }

    async fn watch_events(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        self.shared.running()?;
        let lagged = |error: crate::events::Lagged| Status::out_of_range(error.to_string());
        let mut events = self.shared.events().subscribe(request.into_inner().from_index).map_err(lagged)?;
        let (sender, stream) = mpsc::channel(STREAM_MAX);
        tokio::spawn(async move {
            loop {
                let next = tokio::select! {
                    next = events.next() => next,
                    () = sender.closed() => return,
                };
                let message = match next {
                    Ok(Some(logged)) => Ok(wire_event(&logged)),
                    Ok(None) => return,
                    Err(error) => Err(lagged(error)),
                };
                let last = message.is_err();
                if sender.send(message).await.is_err() || last {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(Stopping::new(ReceiverStream::new(stream), &self.shared))))
    }

    async fn save_snapshot(
        &self,
        _: Request<SaveSnapshotRequest>,
    ) -> Result<Response<Self::SaveSnapshotStream>, Status> {
        super::snapshots::save(&self.shared).await.map(Response::new)
    }

    async fn export_log(&self, request: Request<ExportLogRequest>) -> Result<Response<Self::ExportLogStream>, Status> {
        let ExportLogRequest { from_index, to_index } = request.into_inner();
        static PLACES: Semaphore = Semaphore::const_new(EXPORTS_MAX);
        let running = self.shared.running()?;
        let (replica, segments) = (running.replica.clone(), running.segments.clone());
        // The end is fixed now, or the stream would follow a busy log for ever.
        let applied = running.status.borrow().applied;
        let end = if to_index == 0 { applied } else { to_index.min(applied) };
        let busy = |_| Status::resource_exhausted("as many exports run as this coordinator takes: try again shortly");
        let place = PLACES.try_acquire().map_err(busy)?;
        let (sender, stream) = mpsc::channel(STREAM_MAX);
        tokio::spawn(async move {
            let _place = place;
            let mut next = from_index.max(1);
            while next <= end {
                // What is sealed costs the thread that orders the log nothing.
                if let Some(segment) = segments.holding(next) {
                    match super::segments::export(&segments, segment, (next, end), &sender).await {
                        Some(behind) if behind > next => next = behind,
                        _ => return,
                    }
                    continue;
                }
                let page = match replica.export(next, end).await {
                    Ok(page) => page,
                    Err(status) => {
                        // The reader may be gone.
                        let _ = sender.send(Err(status)).await;
                        return;
                    }
                };
                let Some(last) = page.entries.last().map(|entry| entry.index) else {
                    let begins = segments.ends().map_or(end, |(oldest, _)| oldest.before.index);
                    let why = format!(
                        "entry {next} is neither in this coordinator's log any more nor in its segments, which begin behind \
                         entry {begins}: ask another coordinator, or again when it has fetched them; the log of a restored \
                         cluster begins with the snapshot"
                    );
                    // The reader may be gone.
                    let _ = sender.send(Err(Status::out_of_range(why))).await;
                    return;
                };
                for entry in page.entries {
                    let exported = ExportedEntry { index: entry.index, term: entry.term, entry: entry.data };
                    let sent = timeout(SILENCE_MAX, sender.send(Ok(exported))).await;
                    if !matches!(sent, Ok(Ok(()))) {
                        return;
                    }
                }
                next = last + 1;
            }
        });
        Ok(Response::new(Box::pin(Stopping::new(ReceiverStream::new(stream), &self.shared))))
    }
}

/// An event on the wire.
pub(crate) fn wire_event(logged: &crate::events::Logged) -> Event {
    Event {
        index: logged.index,
        now_ms: logged.now_ms,
        kind: logged.event.kind.to_owned(),
        subject: logged.event.subject.to_vec(),
        text: logged.event.text.clone(),
    }
}

/// This coordinator's health; answered without the quorum, since it is asked when there may be none.
pub(crate) fn status(shared: &Shared) -> GetStatusReply {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let Ok(running) = shared.running() else {
        let (role, now_ms) = ("uninitialised".to_owned(), clock::wall_ms());
        let node = shared.node_signer().public_key().to_vec();
        let founding = shared.founding_key().map(|FoundingKey { key, path }| v1::FoundingKey {
            key: key.to_vec(),
            path: path.display().to_string(),
            node,
        });
        return GetStatusReply { role, now_ms, version, founding, ..GetStatusReply::default() };
    };
    let view = running.status.borrow().clone();
    let state = running.views.borrow().clone();
    let here = |row: &&NodeRow| row.standing != Standing::Removed || view.members.contains(row.id.0);
    let present = state.nodes().filter(here);
    let nodes = present.map(|row| {
        let id = row.id.0;
        let silence = if id == running.node { Some(Duration::ZERO) } else { shared.live().silence(id) };
        let matched = view.progress.iter().find(|of| of.id == id).map_or(0, |of| of.matched);
        let heard_ms = silence.map_or(u64::MAX, |silence| u64::try_from(silence.as_millis()).unwrap_or(u64::MAX));
        NodeStatus {
            id,
            grpc: row.grpc.clone(),
            web: row.web.clone(),
            heard_ms,
            standing: standing(row, &view.members).to_owned(),
            rules_version: row.rules_version,
            matched,
            lag: if view.progress.is_empty() { 0 } else { view.committed.saturating_sub(matched) },
        }
    });
    let roots = state.digest().map(|row| {
        let root = |said: &matrixai_state::roots::Attestation| AttestedRoot {
            node: said.node.0,
            epoch: row.epoch,
            index: row.index,
            root: said.root.to_vec(),
            segment: said.segment.map(Vec::from).unwrap_or_default(),
        };
        row.attested.iter().map(root).collect()
    });
    GetStatusReply {
        cluster_id: running.cluster_id.to_vec(),
        node: running.node,
        role: view.role.as_str().to_owned(),
        leader: view.leader,
        leader_grpc: shared.peer(view.leader).map(|peer| peer.grpc).unwrap_or_default(),
        term: view.term,
        committed: view.committed,
        applied: view.applied,
        nodes: nodes.collect(),
        now_ms: state.now_ms(),
        version,
        roots: roots.unwrap_or_default(),
        sessions: view.sessions,
        log_first: view.log_first,
        snapshot: view.snapshot,
        disk_full: view.disk_full.map(full),
        archive: Some(archive(running)),
        full_folders: shared.metrics().full_disks.all().into_iter().map(full).collect(),
        rules_version: state.rules_version(),
        rules_supported: matrixai_state::rules::SUPPORTED,
        founding: None,
    }
}

fn full(lacks: NoSpace) -> DiskFull {
    DiskFull { path: lacks.path.display().to_string(), needed_bytes: lacks.needed }
}

fn archive(running: &Running) -> ArchiveStatus {
    let sealed = *running.archived.borrow();
    let begins = running.segments.ends().map_or(sealed, |(oldest, _)| oldest.before);
    ArchiveStatus {
        begins_epoch: begins.epoch,
        begins_index: begins.index,
        begins_hash: begins.hash.to_vec(),
        sealed_epoch: sealed.epoch,
        sealed_index: sealed.index,
    }
}

/// What a node is on the way from what raft has to what the admins want.
fn standing(row: &NodeRow, members: &Members) -> &'static str {
    match row.standing {
        Standing::Voter if !members.is_voter(row.id.0) => "promoting",
        Standing::Removed => "leaving",
        standing => standing.as_str(),
    }
}
