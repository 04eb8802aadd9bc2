//! How tasks tell the agent what happened, without knowing what carries it: an actor in the worker, a channel in tests.

use crate::agent::Event;
use futures::future::BoxFuture;
use std::{fmt, sync::Arc};

/// Cheap to clone; waits while the agent's mailbox is full.
#[derive(Clone)]
pub(crate) struct Mailbox(Arc<dyn Fn(Event) -> BoxFuture<'static, bool> + Send + Sync>);

impl Mailbox {
    /// `deliver` says whether there was still an agent to take the event.
    pub(crate) fn new(deliver: impl Fn(Event) -> BoxFuture<'static, bool> + Send + Sync + 'static) -> Self {
        Self(Arc::new(deliver))
    }

    /// Tells the agent. Without one the worker is going down and nothing matters any more.
    pub(crate) async fn tell(&self, event: Event) {
        if !(self.0)(event).await {
            tracing::debug!("an event came after the agent's end");
        }
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}
