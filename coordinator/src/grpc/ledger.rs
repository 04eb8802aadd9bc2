//! The one way to change anything: signed envelopes, applied by the leader.

mod streamed;

use super::Stopping;
use crate::shared::Shared;
use matrixai_proto::v1::{StreamReply, SubmitReply, SubmitRequest, ledger_server::Ledger};
use std::pin::Pin;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

/// The service.
#[derive(Debug)]
pub(crate) struct LedgerService {
    pub(crate) shared: Shared,
}

#[tonic::async_trait]
impl Ledger for LedgerService {
    type SubmitStreamStream = Pin<Box<dyn Stream<Item = Result<StreamReply, Status>> + Send>>;

    // Of a level that is only looked at where traces are exported: a span costs more than applying the command.
    #[tracing::instrument(name = "ledger.submit", level = "debug", skip_all)]
    async fn submit(&self, request: Request<SubmitRequest>) -> Result<Response<SubmitReply>, Status> {
        let envelope = request.into_inner().envelope;
        let envelope = envelope.ok_or_else(|| Status::invalid_argument("the request has no envelope"))?;
        self.shared.submit(envelope).await.map(Response::new)
    }

    async fn submit_stream(
        &self,
        request: Request<Streaming<SubmitRequest>>,
    ) -> Result<Response<Self::SubmitStreamStream>, Status> {
        self.shared.running()?;
        let replies = streamed::replies(self.shared.clone(), request.into_inner());
        Ok(Response::new(Box::pin(Stopping::new(replies, &self.shared))))
    }
}
