//! A flag that stops one piece of work, wherever it is: computing code polls it, waiting code awaits it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::sync::Notify;

/// Cheap to clone; once set it stays set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cancel(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    set: AtomicBool,
    woken: Notify,
}

impl Cancel {
    pub(crate) fn set(&self) {
        self.0.set.store(true, Ordering::Release);
        self.0.woken.notify_waiters();
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.set.load(Ordering::Acquire)
    }

    /// Returns once it is set.
    pub(crate) async fn wait(&self) {
        // Registered before the flag is read, so that a `set` in between is not missed.
        let woken = self.0.woken.notified();
        tokio::pin!(woken);
        woken.as_mut().enable();
        if !self.is_set() {
            woken.await;
        }
    }

    /// What `work` gives, or `None` when it is stopped first; `work` is dropped then.
    pub(crate) async fn guard<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.wait() => None,
            done = work => Some(done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_ends_when_it_is_set_before_or_after() {
        let cancel = Cancel::default();
        assert_eq!(cancel.guard(async { 1 }).await, Some(1));
        let other = cancel.clone();
        let waiting = tokio::spawn(async move { other.guard(std::future::pending::<()>()).await });
        cancel.set();
        assert!(matches!(waiting.await, Ok(None)));
        assert_eq!(cancel.guard(async { 1 }).await, None);
    }
}
