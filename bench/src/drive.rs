//! The loops that put load on a server. *Closed*: so many clients, each with one call in flight, for saturation.
//! *Open*: calls begin at fixed times whatever became of the earlier ones, and a latency counts from the time at which its
//! call was to begin, so that a stall is seen by every call it delayed (no coordinated omission).

mod streamed;

pub use streamed::streamed;

use crate::{
    measure::Latencies,
    people::Ready,
    route::Route,
    wire::{self, Reader},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// How long after the end of a run a call may still be tried again before it is given up.
const GRACE: Duration = Duration::from_secs(30);
/// Pause of a client that was refused, before it asks again.
const PAUSE: Duration = Duration::from_millis(10);

/// What a run was.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Commands decided.
    pub commands: u64,
    /// Calls answered.
    pub calls: u64,
    /// Calls that failed and were made again, by the code or refusal.
    pub errors: BTreeMap<String, u64>,
    /// Newest log index of an answer.
    pub index: u64,
    /// Of each call.
    pub latencies: Latencies,
    /// From the first call to the last answer.
    pub elapsed: Duration,
}

impl Tally {
    /// Adds what another counted; how long both took is the caller's to say.
    pub(crate) fn join(&mut self, other: Self) {
        self.commands += other.commands;
        self.calls += other.calls;
        for (name, count) in other.errors {
            *self.errors.entry(name).or_default() += count;
        }
        self.index = self.index.max(other.index);
        self.latencies.join(other.latencies);
    }

    fn answered(&mut self, commands: u32, answer: crate::Result<u64>, latency: Duration) {
        self.calls += 1;
        self.latencies.push(latency);
        match answer {
            Ok(index) => {
                self.commands += u64::from(commands);
                self.index = self.index.max(index);
            }
            Err(refusal) => self.failed(refusal),
        }
    }

    fn failed(&mut self, name: String) {
        *self.errors.entry(name).or_default() += 1;
    }

    /// Commands a second.
    #[must_use]
    pub fn per_s(&self) -> f64 {
        self.commands as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Failures of any kind.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// What every client of a run shares.
#[derive(Debug)]
pub struct Run {
    /// Where to.
    pub route: Arc<Route>,
    /// The method's path.
    pub path: &'static str,
    /// Requests, each sent once (and again until it is answered).
    pub work: Vec<Ready>,
    /// How an answer is read.
    pub read: Reader,
    /// Clients, which is calls in flight.
    pub clients: usize,
    /// How long new calls begin.
    pub length: Duration,
}

/// When calls begin.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// As soon as the client's last one was answered.
    Closed,
    /// So many a second.
    Open(f64),
}

/// Runs unary calls until the time is over or the work is done.
pub async fn unary(run: Run, pace: Pace) -> Tally {
    let (clients, run) = (run.clients, Arc::new(run));
    let (next, begun) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        tasks.spawn(one_client(run.clone(), next.clone(), begun, client, pace));
    }
    gather(tasks, begun).await
}

async fn gather(mut tasks: JoinSet<Tally>, begun: Instant) -> Tally {
    let mut all = Tally::default();
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(tally) => all.join(tally),
            Err(error) => all.failed(format!("a client ended: {error}")),
        }
    }
    all.elapsed = begun.elapsed();
    all
}

async fn one_client(run: Arc<Run>, next: Arc<AtomicUsize>, begun: Instant, client: usize, pace: Pace) -> Tally {
    let mut tally = Tally::default();
    while begun.elapsed() < run.length {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(Ready { request, commands }) = run.work.get(number) else { break };
        let from = match pace {
            Pace::Closed => Instant::now(),
            Pace::Open(per_s) => {
                let due = begun + Duration::from_secs_f64(number as f64 / per_s);
                if due > begun + run.length {
                    break;
                }
                tokio::time::sleep_until(due.into()).await;
                due
            }
        };
        loop {
            let (place, lane) = run.route.lane(client);
            match wire::unary(lane, run.path, request.clone()).await {
                Ok(answer) => {
                    tally.answered(*commands, (run.read)(&answer), from.elapsed());
                    break;
                }
                Err(status) => {
                    tally.failed(format!("{:?}", status.code()));
                    if begun.elapsed() > run.length + GRACE {
                        return tally;
                    }
                    run.route.refused(place, &status);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
    tally
}
