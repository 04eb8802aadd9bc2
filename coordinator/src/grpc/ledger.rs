//! The one way to change anything: signed envelopes, applied by the leader.

use crate::shared::Shared;
use matrixai_proto::v1::{SubmitReply, SubmitRequest, ledger_server::Ledger};
use tonic::{Request, Response, Status};

/// The service.
#[derive(Debug)]
pub(crate) struct LedgerService {
    pub(crate) shared: Shared,
}

#[tonic::async_trait]
impl Ledger for LedgerService {
    #[tracing::instrument(name = "ledger.submit", skip_all)]
    async fn submit(&self, request: Request<SubmitRequest>) -> Result<Response<SubmitReply>, Status> {
        let envelope = request.into_inner().envelope;
        let envelope = envelope.ok_or_else(|| Status::invalid_argument("the request has no envelope"))?;
        self.shared.submit(envelope).await.map(Response::new)
    }
}
