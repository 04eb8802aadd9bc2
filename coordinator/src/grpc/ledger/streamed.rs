//! Envelopes of one stream: read while few enough are undecided, answered as they are decided.

use crate::shared::{LEADER, Shared};
use futures::{StreamExt as _, stream};
use matrixai_proto::v1::{Envelope, Outcome, PlacedOutcome, StreamReply, SubmitReply, SubmitRequest};
use std::pin::Pin;
use tokio_stream::Stream;
use tonic::{Status, Streaming};

/// Undecided envelopes of one stream; the sender waits by HTTP/2 flow control while there are as many. A round of the
/// consensus takes milliseconds, so this is room for some hundred thousand envelopes a second.
const UNDECIDED_MAX: usize = 1_024;

type Replies = Pin<Box<dyn Stream<Item = Result<StreamReply, Status>> + Send>>;

/// The answers to a stream's envelopes. Ends when the sender has closed its side and everything is answered; an error
/// of the stream itself ends it at once.
pub(super) fn replies(shared: Shared, requests: Streaming<SubmitRequest>) -> Replies {
    let decide = move |request: Result<SubmitRequest, Status>| {
        let shared = shared.clone();
        async move {
            let envelope = request?.envelope;
            let envelope = envelope.ok_or_else(|| Status::invalid_argument("the request has no envelope"))?;
            let Envelope { key, command_id, .. } = &envelope;
            let (key, command_id) = (key.clone(), command_id.clone());
            let reply = match shared.submit(envelope).await {
                Ok(reply) => decided(reply),
                Err(status) => undecided(&status),
            };
            Ok(StreamReply { key, command_id, ..reply })
        }
    };
    // An error is the stream's last word.
    let until_error = stream::unfold(Some(requests), |requests| async move {
        let mut requests = requests?;
        match requests.message().await {
            Ok(Some(request)) => Some((Ok(request), Some(requests))),
            Ok(None) => None,
            Err(status) => Some((Err(status), None)),
        }
    });
    Box::pin(until_error.map(decide).buffer_unordered(UNDECIDED_MAX))
}

fn decided(reply: SubmitReply) -> StreamReply {
    let commands = u32::try_from(reply.outcomes.len()).unwrap_or(u32::MAX);
    let says_more = |outcome: &Outcome| outcome.code != 0 || !outcome.id.is_empty();
    let notable = (0..)
        .zip(reply.outcomes)
        .filter(|(_, outcome)| says_more(outcome))
        .map(|(place, outcome)| PlacedOutcome { place, outcome: Some(outcome) })
        .collect();
    StreamReply { index: reply.index, commands, notable, ..StreamReply::default() }
}

fn undecided(status: &Status) -> StreamReply {
    let leader = status.metadata().get(LEADER).and_then(|leader| leader.to_str().ok()).unwrap_or_default();
    StreamReply {
        code: u32::try_from(i32::from(status.code())).unwrap_or_default(),
        message: status.message().to_owned(),
        leader: leader.to_owned(),
        ..StreamReply::default()
    }
}
