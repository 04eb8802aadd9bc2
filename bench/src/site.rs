//! A founded cluster with open accounts, and the runs on it: warm-up, signing, the measured run, what it cost, and whether
//! all replicas agree afterwards.

use crate::{
    Result,
    cluster::Cluster,
    doing,
    drive::{self, Pace, Run, Tally},
    measure::cpu_s,
    people::{People, Ready},
    report::note,
    route::Route,
    wire::Reader,
};
use matrixai_proto::{
    envelope::{self, KnownKeys},
    v1::{SubmitReply, SubmitRequest},
};
use prost::{Message as _, bytes::Bytes};
use rustix::time::{ClockId, clock_gettime};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

/// Path of a unary submission.
pub const SUBMIT: &str = "/matrixai.v1.Ledger/Submit";
const STREAM: &str = "/matrixai.v1.Ledger/SubmitStream";
/// Counter of the log's synced writes, on each coordinator.
const SYNCS: &str = "matrixai_log_syncs_total";
/// Life of an envelope ahead of ledger time, ms: signing and the run fit in; the cluster allows ten minutes.
pub const LIFE_MS: u64 = 590_000;
/// Envelopes whose verification is timed.
const VERIFIED: usize = 2_000;
/// Signatures that a coordinator checks together at most.
const VERIFIED_TOGETHER: usize = 64;
/// Signed for a warm-up, commands a second of it: more than two cores decide.
const UNARY_PER_S: f64 = 60_000.0;
const STREAMED_PER_S: f64 = 1_000_000.0;
/// Signed for a measured run, as a multiple of what the warm-up decided: caches and tables are warmer then.
const MARGIN: f64 = 1.6;
/// In flight while accounts are opened.
const OPENING_IN_FLIGHT: usize = 2_000;

/// What is run.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Calls (streamed: envelopes) in flight.
    pub clients: usize,
    /// Length of the measured run, s.
    pub seconds: f64,
    /// Length of the run before it, s.
    pub warm: f64,
    /// Commands an envelope over streams; none for unary calls of one command.
    pub batch: Option<u32>,
    /// When unary calls begin.
    pub pace: Pace,
    /// A pause before the measured run, s.
    pub pause: f64,
}

/// What a measured run was.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Commands, latencies, failures.
    pub tally: Tally,
    /// Processor time of all coordinators together, µs a command.
    pub members_us: f64,
    /// Processor time of this process, µs a command.
    pub client_us: f64,
    /// Of the members' time, the part that checks signatures, µs a command (once, at the edge).
    pub verify_us: f64,
    /// Synced writes of the log on all coordinators.
    pub syncs: f64,
    /// Applied index of each coordinator afterwards.
    pub applied: Vec<u64>,
    /// Whether they attested equal roots of a state that holds all of it.
    pub roots_equal: bool,
}

impl Measured {
    /// Whether everything was decided as wanted, everywhere alike.
    #[must_use]
    pub fn good(&self) -> bool {
        self.tally.errors() == 0 && self.tally.commands > 0 && self.roots_equal
    }
}

impl Measured {
    /// Adds another run behind this one.
    #[must_use]
    pub fn and(mut self, next: Self) -> Self {
        let (before, after) = (self.tally.commands as f64, next.tally.commands as f64);
        let mean = |a: f64, b: f64| (a * before + b * after) / (before + after).max(1.0);
        self.members_us = mean(self.members_us, next.members_us);
        self.client_us = mean(self.client_us, next.client_us);
        self.verify_us = mean(self.verify_us, next.verify_us);
        self.syncs += next.syncs;
        self.applied = next.applied;
        self.roots_equal &= next.roots_equal;
        self.tally.elapsed += next.tally.elapsed;
        self.tally.join(next.tally);
        self
    }
}

/// Three coordinators and many accounts.
#[derive(Debug)]
pub struct Site {
    /// The coordinators.
    pub cluster: Cluster,
    people: People,
    connections: usize,
    runs: u64,
}

impl Site {
    /// Starts and founds three coordinators and opens this many accounts, each with money.
    ///
    /// # Errors
    /// When any of it fails.
    pub async fn open(program: &Path, home: Option<PathBuf>, accounts: usize, connections: usize) -> Result<Self> {
        let mut cluster = Cluster::start(program, 3, home)?;
        cluster.found().await?;
        let people = People::new(cluster.cluster_id, accounts)?;
        let site = Self { cluster, people, connections, runs: 0 };
        let begun = Instant::now();
        let openings = site.people.openings(site.expires().await?)?;
        let opened = site.stream(openings, OPENING_IN_FLIGHT, None).await?;
        if opened.commands != 2 * accounts as u64 {
            return Err(format!("open the accounts: {:?}", opened.errors));
        }
        note(&format!("{accounts} accounts opened in {:.1} s", begun.elapsed().as_secs_f64()));
        Ok(site)
    }

    /// Warms up, signs, runs, and waits until all coordinators have applied it and attested a root.
    ///
    /// # Errors
    /// When the cluster stops answering.
    pub async fn measure(&mut self, shape: &Shape) -> Result<Measured> {
        let batch = f64::from(shape.batch.unwrap_or(1));
        let guess = if shape.batch.is_some() { STREAMED_PER_S } else { UNARY_PER_S };
        let warm = self.sign((guess / batch * shape.warm).ceil() as usize + shape.clients, shape.batch).await?;
        let warm = self.run(warm, shape, shape.warm).await?;
        note(&format!("warm-up: {:.0} commands/s", warm.per_s()));
        let calls_per_s = match shape.pace {
            Pace::Open(per_s) => per_s,
            Pace::Closed => MARGIN * warm.calls as f64 / warm.elapsed.as_secs_f64(),
        };
        let work = self.sign((calls_per_s * shape.seconds).ceil() as usize + shape.clients, shape.batch).await?;
        let verify_us = verify_us(&work)? / batch;
        if shape.pause > 0.0 {
            let pids: Vec<String> = self.cluster.coordinators.iter().map(|one| one.pid().to_string()).collect();
            note(&format!("leader {}, processes {}", self.cluster.leader().await? + 1, pids.join(",")));
            tokio::time::sleep(Duration::from_secs_f64(shape.pause)).await;
        }
        let own = || cpu_s(std::process::id());
        let (members_before, own_before, syncs_before) = (self.cluster.cpu_s()?, own()?, self.cluster.counted(SYNCS)?);
        let tally = self.run(work, shape, shape.seconds).await?;
        let (members, own) = (self.cluster.cpu_s()? - members_before, own()? - own_before);
        let syncs = self.cluster.counted(SYNCS)? - syncs_before;
        let us_per_command = |seconds: f64| seconds * 1e6 / tally.commands.max(1) as f64;
        Ok(Measured {
            members_us: us_per_command(members),
            client_us: us_per_command(own),
            verify_us,
            syncs,
            applied: self.cluster.applied(tally.index).await?,
            roots_equal: self.cluster.roots_equal(tally.index).await?,
            tally,
        })
    }

    /// The leader's term: it grows with every election.
    ///
    /// # Errors
    /// When there is no leader.
    pub async fn term(&self) -> Result<u64> {
        let leader = self.cluster.leader().await?;
        Ok(self.cluster.coordinators[leader].status().await?.term)
    }

    async fn expires(&self) -> Result<u64> {
        let leader = self.cluster.leader().await?;
        Ok(self.cluster.coordinators[leader].status().await?.now_ms + LIFE_MS)
    }

    async fn sign(&mut self, calls: usize, batch: Option<u32>) -> Result<Vec<Ready>> {
        let begun = Instant::now();
        self.runs += 1;
        let work = self.people.transfers(self.runs, calls, batch.unwrap_or(1), self.expires().await?)?;
        note(&format!("{} envelopes signed in {:.1} s", work.len(), begun.elapsed().as_secs_f64()));
        Ok(work)
    }

    async fn run(&self, work: Vec<Ready>, shape: &Shape, seconds: f64) -> Result<Tally> {
        if shape.batch.is_some() {
            return self.stream(work, shape.clients, Some(seconds)).await;
        }
        let run = Run {
            route: self.route(self.connections).await?,
            path: SUBMIT,
            work,
            read: decided as Reader,
            clients: shape.clients,
            length: Duration::from_secs_f64(seconds),
        };
        Ok(drive::unary(run, shape.pace).await)
    }

    async fn stream(&self, work: Vec<Ready>, in_flight: usize, seconds: Option<f64>) -> Result<Tally> {
        let streams = self.connections.min(in_flight);
        let run = Run {
            route: self.route(streams).await?,
            path: STREAM,
            work,
            read: decided as Reader,
            clients: in_flight,
            // Without a length: as long as the work takes.
            length: seconds.map_or(Duration::from_secs(3_600), Duration::from_secs_f64),
        };
        Ok(drive::streamed(run, streams).await)
    }

    async fn route(&self, connections: usize) -> Result<Arc<Route>> {
        let addresses = self.cluster.coordinators.iter().map(|one| one.address.clone()).collect();
        Ok(Arc::new(Route::new(addresses, connections, self.cluster.leader().await?)?))
    }
}

/// Reads an answer of `Ledger.Submit`: the index, or the first refusal.
///
/// # Errors
/// The refusal's name.
pub fn decided(answer: &Bytes) -> Result<u64> {
    let reply = SubmitReply::decode(answer.clone()).map_err(doing("read an answer"))?;
    match reply.outcomes.iter().find(|outcome| outcome.code != 0) {
        Some(refused) => Err(refused.name.clone()),
        None => Ok(reply.index),
    }
}

/// Processor time of checking one signature of this work by the edge's own function and in batches of its size, µs. Measured
/// here because the coordinators' threads do everything at once.
fn verify_us(work: &[Ready]) -> Result<f64> {
    let read = |ready: &Ready| SubmitRequest::decode(ready.request.clone()).ok()?.envelope;
    let envelopes: Vec<_> = work.iter().take(VERIFIED).filter_map(read).collect();
    let envelopes: Vec<_> = envelopes.iter().collect();
    let (known, before) = (KnownKeys::default(), thread_cpu_us());
    for batch in envelopes.chunks(VERIFIED_TOGETHER) {
        for result in envelope::verify_all(batch, &known) {
            result.map_err(doing("check an own signature"))?;
        }
    }
    Ok((thread_cpu_us() - before) / envelopes.len().max(1) as f64)
}

/// Processor time of this thread so far, µs.
fn thread_cpu_us() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}
