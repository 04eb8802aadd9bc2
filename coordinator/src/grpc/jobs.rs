//! Jobs: what was submitted, how far it is, what it cost and what proves it.

use super::{Stopping, convert};
use crate::shared::Shared;
use matrixai_proto::v1::{GetJobRequest, Job, ListJobsReply, ListJobsRequest, jobs_server::Jobs};
use matrixai_state::{State, ids::JobId, jobs::JobRow};
use std::{pin::Pin, sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

/// Changes waiting for a slow reader; what changes meanwhile is seen in the next one.
const CHANGES_MAX: usize = 2;

/// Least time between two looks at a watched job: a busy log has hundreds of entries a second, people do not.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The service.
#[derive(Debug)]
pub(crate) struct JobsService {
    pub(crate) shared: Shared,
}

#[tonic::async_trait]
impl Jobs for JobsService {
    type WatchJobStream = Pin<Box<dyn Stream<Item = Result<Job, Status>> + Send>>;

    async fn get_job(&self, request: Request<GetJobRequest>) -> Result<Response<Job>, Status> {
        let state = self.shared.view_for(request.metadata()).await?;
        let id = JobId(convert::id("job", &request.into_inner().job)?);
        Ok(Response::new(convert::job(&state, found(&state, id)?)))
    }

    async fn list_jobs(&self, request: Request<ListJobsRequest>) -> Result<Response<ListJobsReply>, Status> {
        let state = self.shared.view_for(request.metadata()).await?;
        let ListJobsRequest { owner, limit } = request.into_inner();
        let owner = convert::optional_id("owner", &owner)?;
        let limit = convert::limit(limit, convert::LIST_DEFAULT);
        Ok(Response::new(ListJobsReply { jobs: convert::jobs(&state, owner, limit) }))
    }

    async fn watch_job(&self, request: Request<GetJobRequest>) -> Result<Response<Self::WatchJobStream>, Status> {
        let state = self.shared.view_for(request.metadata()).await?;
        let id = JobId(convert::id("job", &request.into_inner().job)?);
        found(&state, id)?;
        let views = self.shared.subscribe()?;
        let (sender, changes) = mpsc::channel(CHANGES_MAX);
        tokio::spawn(async move {
            tokio::select! {
                () = watch_changes(id, state, views, &sender) => {}
                () = sender.closed() => {}
            }
        });
        Ok(Response::new(Box::pin(Stopping::new(ReceiverStream::new(changes), &self.shared))))
    }
}

/// Sends the job as `state` shows it and after each change, and ends behind its closing.
async fn watch_changes(
    id: JobId,
    mut state: Arc<State>,
    mut views: watch::Receiver<Arc<State>>,
    changes: &mpsc::Sender<Result<Job, Status>>,
) {
    let mut sent: Option<JobRow> = None;
    loop {
        // Jobs are never removed, and the view only gets newer.
        let Some(row) = state.job(id) else { return };
        if sent.as_ref() != Some(row) {
            let closed = convert::closed(row);
            if changes.send(Ok(convert::job(&state, row))).await.is_err() || closed {
                return;
            }
            sent = Some(row.clone());
        }
        tokio::time::sleep(LOOK_EVERY).await;
        // This coordinator's own views may at first be older than the linearizable one that the watch began with.
        let index = state.index();
        match views.wait_for(|view| view.index() > index).await {
            Ok(view) => state = Arc::clone(&view),
            Err(_) => return,
        }
    }
}

fn found(state: &State, id: JobId) -> Result<&JobRow, Status> {
    state.job(id).ok_or_else(|| convert::unknown("job", &id))
}
