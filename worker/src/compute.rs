//! The one thread that computes. Everything heavy passes through here, so that one throttle holds for all of it and its
//! CPU clock says what each piece cost.

use crate::cancel::Cancel;
use crate::pace::{Pacer, SystemTiming, Throttle};
use std::{io, path::Path, thread, time::Duration};
use tokio::sync::{mpsc, oneshot};

/// Pieces of work that may wait for the thread: one task runs at a time, so more would be a mistake.
const QUEUE_MAX: usize = 4;

type Work = Box<dyn FnOnce(&mut Throttle) + Send>;

/// The way to the thread; it ends when the last of these is gone.
#[derive(Debug, Clone)]
pub(crate) struct Compute {
    queue: mpsc::Sender<Work>,
}

/// The work was cancelled, or the worker is going down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stopped;

impl Compute {
    /// Starts the thread, throttled by the limit in `data`.
    pub(crate) fn start(data: &Path) -> io::Result<Self> {
        let (queue, mut work) = mpsc::channel::<Work>(QUEUE_MAX);
        let data = data.to_owned();
        thread::Builder::new().name("compute".to_owned()).spawn(move || {
            let mut throttle = Throttle::new(SystemTiming, &data);
            while let Some(work) = work.blocking_recv() {
                work(&mut throttle);
            }
        })?;
        Ok(Self { queue })
    }

    /// Runs `work` on the thread. It must call `Pacer::go_on` every few milliseconds and end when that says so, giving
    /// `None`. Returns its result and the CPU time that it took.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        cancel: &Cancel,
        work: impl FnOnce(&mut Pacer<'_>) -> Option<T> + Send + 'static,
    ) -> Result<(T, Duration), Stopped> {
        let (done, result) = oneshot::channel();
        let cancel = cancel.clone();
        let job: Work = Box::new(move |throttle| {
            let start = throttle.cpu();
            let result = (!cancel.is_set()).then(|| work(&mut Pacer::new(throttle, &cancel))).flatten();
            let took = throttle.cpu().saturating_sub(start);
            // Nobody waits for it any more when the task was dropped.
            done.send(result.map(|result| (result, took))).ok();
        });
        self.queue.send(job).await.map_err(|_| Stopped)?;
        result.await.ok().flatten().ok_or(Stopped)
    }
}

/// Microseconds, for reports.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_measured_and_stops_when_cancelled() {
        let data = tempfile::tempdir().unwrap();
        let compute = Compute::start(data.path()).unwrap();
        let cancel = Cancel::default();
        let (sum, cpu) =
            compute.run(&cancel, |_| Some((0..1_000_000u64).fold(0, |a, b| a ^ b.wrapping_mul(a | 1)))).await.unwrap();
        assert!(sum < u64::MAX && cpu > Duration::ZERO);
        let (started, starting) = oneshot::channel();
        let (other, flag) = (compute.clone(), cancel.clone());
        let endless = tokio::spawn(async move {
            let spin = |pacer: &mut Pacer<'_>| -> Option<()> {
                started.send(()).ok();
                while pacer.go_on() {}
                None
            };
            other.run(&flag, spin).await
        });
        starting.await.unwrap();
        cancel.set();
        assert_eq!(endless.await.unwrap().unwrap_err(), Stopped);
        assert_eq!(compute.run(&cancel, |_| Some(())).await.unwrap_err(), Stopped);
        assert!(compute.run(&Cancel::default(), |_| Some(())).await.is_ok());
    }
}
