//! Carries an envelope to the leader for somebody who reached another coordinator: a worker's session, or this node's
//! own attestation. The envelope is signed, so the relay adds and decides nothing; the sender retries what it lost.

use crate::{links::Links, shared::Peer};
use matrixai_proto::v1::{Envelope, SubmitReply, SubmitRequest, ledger_client::LedgerClient};
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;
use tonic::{Request, Status};

/// Envelopes on their way to the leader at once.
const IN_FLIGHT_MAX: usize = 4_096;
/// Longest wait for the leader's answer; an election fits in twice.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// The way to the leader.
#[derive(Debug)]
pub(crate) struct Relay {
    links: Arc<Links>,
    in_flight: Semaphore,
}

impl Relay {
    pub(crate) fn new(links: Arc<Links>) -> Self {
        Self { links, in_flight: Semaphore::new(IN_FLIGHT_MAX) }
    }

    /// Submits to `leader` and answers what it answered.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED when too many are on their way, UNAVAILABLE when the leader is not reached, and whatever the
    /// leader refuses with.
    pub(crate) async fn submit(&self, leader: &Peer, envelope: Envelope) -> Result<SubmitReply, Status> {
        let _permit = self
            .in_flight
            .try_acquire()
            .map_err(|_| Status::resource_exhausted("too many commands are on their way to the leader"))?;
        let channel = self.links.channel(leader.id).ok_or_else(|| Status::unavailable("the leader is not known"))?;
        let mut request = Request::new(SubmitRequest { envelope: Some(envelope) });
        request.set_timeout(ANSWER_WAIT);
        let answer = tokio::time::timeout(ANSWER_WAIT, LedgerClient::new(channel).submit(request)).await;
        match answer {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_) => Err(Status::unavailable(format!("the leader at {} did not answer in time", leader.grpc))),
        }
    }
}
