//! The stream that a worker keeps to any coordinator. Here it is opened: enrolment relayed, claim checked; then
//! `actors/session.rs` carries it.

use super::Stopping;
use crate::{actors::Opening, edge, shared::Shared};
use matrixai_proto::v1::{
    CoordinatorMessage, Envelope, Hello, WorkerMessage, agent_server::Agent, worker_message::Kind,
};
use matrixai_state::{Refusal, Signer, ids::MachineId};
use std::{pin::Pin, time::Duration};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

/// A stream must bring its hello within this time.
const HELLO_WAIT: Duration = Duration::from_secs(5);

/// The service.
#[derive(Debug)]
pub(crate) struct AgentService {
    pub(crate) shared: Shared,
}

#[tonic::async_trait]
impl Agent for AgentService {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<CoordinatorMessage, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut up = request.into_inner();
        let late = |_| Status::deadline_exceeded("the session brought no hello");
        let first = tokio::time::timeout(HELLO_WAIT, up.message()).await.map_err(late)??;
        let Some(Kind::Hello(hello)) = first.and_then(|message| message.kind) else {
            return Err(Status::invalid_argument("a session begins with a hello"));
        };
        let (machine, holding) = self.admit(hello).await?;
        let (down, stream) = mpsc::channel(crate::actors::DOWN_MAX);
        let opening = Opening { machine, holding, up, down };
        self.shared.running()?.replica.open_session(self.shared.clone(), opening);
        Ok(Response::new(Box::pin(Stopping::new(ReceiverStream::new(stream), &self.shared))))
    }
}

impl AgentService {
    /// Who this is, and what it says it holds. The view is linearizable: an enrolment that was just applied is in it, and
    /// what the worker was last given by another coordinator is too, so that nothing valid is withdrawn from it.
    async fn admit(&self, Hello { claim, enrolment }: Hello) -> Result<(MachineId, Vec<String>), Status> {
        let claim = claim.ok_or_else(|| Status::unauthenticated("a hello has a signed claim"))?;
        if let Some(enrolment) = enrolment {
            self.enrol(enrolment).await?;
        }
        let state = self.shared.view().await?;
        let claimed = edge::session_claim(&claim, &state)?;
        edge::lives_at_most(&claim, &state)?;
        let key = claim.key.as_slice().try_into().map_err(|_| Status::unauthenticated("a key has 32 bytes"))?;
        match state.key_role(&key) {
            Some(Signer::Machine(machine, _)) => Ok((machine, claimed.holding)),
            Some(Signer::Account(_) | Signer::Node(_)) => {
                Err(Status::permission_denied("forbidden: only machine keys have sessions"))
            }
            None => {
                let revoked = state.machine(MachineId::of_key(state.cluster_id(), &key)).is_some();
                let refusal = if revoked { Refusal::Revoked } else { Refusal::UnknownSigner };
                Err(Status::permission_denied(format!("{}: {refusal}", refusal.name())))
            }
        }
    }

    /// Relays an enrolment. One that is already there is as good as a new one: the worker did not hear of it.
    async fn enrol(&self, enrolment: Envelope) -> Result<(), Status> {
        let reply = self.shared.submit_anywhere(enrolment).await?;
        let enrolled = Refusal::MachineEnrolled.number();
        match reply.outcomes.iter().find(|outcome| outcome.code != 0 && outcome.code != enrolled) {
            None => Ok(()),
            Some(refused) => {
                Err(Status::failed_precondition(format!("enrolment refused: {}: {}", refused.name, refused.detail)))
            }
        }
    }
}
