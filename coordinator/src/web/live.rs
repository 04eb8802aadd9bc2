//! Live updates: the event feed as server-sent events. A page that hears one fetches itself again, so what happened is
//! rendered in one place only.

use super::Site;
use crate::{events::Lagged, grpc::cluster, shared::Shared};
use actix_web::{
    HttpResponse,
    http::header,
    web::{Bytes, Data},
};
use futures::stream;
use serde_json::json;
use std::{convert::Infallible, pin::Pin, sync::Arc, time::Duration};
use tokio::sync::OwnedSemaphorePermit;

/// Streams at once; more are told to come again.
pub(super) const STREAMS_MAX: usize = 512;

/// A comment is sent after this long without an event, so that whoever sits between does not close the connection.
const IDLE: Duration = Duration::from_secs(15);

/// How long a browser waits before it connects again, ms.
const RETRY_MS: u32 = 3_000;

/// `GET /live`.
pub(super) async fn feed(site: Data<Site>) -> HttpResponse {
    let Ok(place) = Arc::clone(&site.streams).try_acquire_owned() else {
        return HttpResponse::ServiceUnavailable().insert_header((header::RETRY_AFTER, "10")).finish();
    };
    let first = Bytes::from(format!("retry: {RETRY_MS}\n\n"));
    let counted = Counted::new(place, site.shared.clone());
    let following = stream::unfold((subscription(&site.shared), counted), |(events, counted)| async move {
        let (bytes, events) = next(events, &counted.shared).await?;
        Some((Ok::<_, Infallible>(bytes), (events, counted)))
    });
    let body = stream::StreamExt::chain(stream::once(std::future::ready(Ok(first))), following);
    let body: Pin<Box<dyn futures::Stream<Item = Result<Bytes, Infallible>>>> = Box::pin(body);
    HttpResponse::Ok().content_type("text/event-stream").streaming(body)
}

fn subscription(shared: &Shared) -> crate::events::Subscription {
    shared.events().subscribe(0).expect("what comes next has not been dropped")
}

/// The next message; nothing when the coordinator stops.
async fn next(
    mut events: crate::events::Subscription,
    shared: &Shared,
) -> Option<(Bytes, crate::events::Subscription)> {
    let event = tokio::select! {
        event = tokio::time::timeout(IDLE, events.next()) => event,
        () = shared.stopping() => return None,
    };
    match event {
        Err(_) => Some((Bytes::from_static(b":\n\n"), events)),
        Ok(Ok(Some(logged))) => {
            let event = cluster::wire_event(&logged);
            let message = json!({
                "index": event.index,
                "now_ms": event.now_ms,
                "kind": event.kind,
                "subject": hex::encode(event.subject),
                "text": event.text,
            });
            // JSON on one line: a line end inside a text is escaped, so it cannot end the message.
            Some((Bytes::from(format!("id: {}\ndata: {message}\n\n", event.index)), events))
        }
        // A reader that slow sees the newest state with the next event anyhow.
        Ok(Err(Lagged { .. })) => Some((Bytes::from_static(b":\n\n"), subscription(shared))),
        Ok(Ok(None)) => None,
    }
}

/// A stream's place, given back and counted down when the browser goes away.
struct Counted {
    _place: OwnedSemaphorePermit,
    shared: Shared,
}

impl Counted {
    fn new(place: OwnedSemaphorePermit, shared: Shared) -> Self {
        shared.metrics().web_streams.inc();
        Self { _place: place, shared }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.metrics().web_streams.dec();
    }
}
