//! Breaks three real coordinators under client load: kill -9 of the leader and of all, SIGSTOP, cuts through proxies, a full
//! disk, and checks at the end that nothing acknowledged was lost, nothing was done twice, and every client saw one order.
//!
//! `cargo run --release -p matrixai-bench --bin chaos -- --kills 50` prints one JSON object on its last line; status 0
//! only when everything held.

use clap::Parser;
use matrixai_bench::{
    Result,
    chaos::{
        check::judge,
        clients::{self, Field, SINKS},
        windows::search_all,
    },
    cluster::{self, Cluster},
    disk::Disk,
    doing,
    drive::{self, Pace},
    measure::{Latencies, rounded},
    people::People,
    proxy::{Cuts, Proxies},
    report::{self, note},
    route::Route,
    site,
};
use matrixai_proto::v1::{
    DiskFull, Envelope, ExportLogRequest, GetStatusReply, LogEntry, cluster_client::ClusterClient,
};
use prost::Message as _;
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::watch, time::timeout};

/// Longest that a cluster may take to answer again after any single fault.
const PATIENCE: Duration = Duration::from_secs(30);
/// Acknowledged commands between two kills, at least.
const ACKED_PER_KILL: u64 = 100;
/// How far a coordinator's applied index may be behind when the next fault comes.
const BEHIND_MAX: u64 = 50;
/// How long a paused or cut leader stays so after others have answered.
const LINGER: Duration = Duration::from_millis(500);
/// Longest that a leader with a full disk may go on in the room that its log has laid aside (2 MiB).
const FULL_DISK_WAIT: Duration = Duration::from_secs(60);
/// Time between two looks at a coordinator with a full disk.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Largest message of an export.
const EXPORT_BYTES_MAX: usize = 16 << 20;

#[derive(Debug, Parser)]
struct Args {
    /// Kills of the leader. After every fifth comes a pause, after every fifth a cut, after every tenth a kill of all
    /// three, and in the middle a full disk.
    #[arg(long, default_value_t = 10)]
    kills: u32,
    /// Clients, each with one call in flight.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Commands a second; without it, half of what a closed loop of as many clients reaches.
    #[arg(long)]
    rate: Option<f64>,
    /// Accounts.
    #[arg(long, default_value_t = 1_024)]
    accounts: usize,
    /// Keep the coordinators' folders here.
    #[arg(long)]
    home: Option<PathBuf>,
    /// The program under test, instead of building this workspace's.
    #[arg(long)]
    binary: Option<PathBuf>,
}

fn main() -> ExitCode {
    report::finish(report::on_runtime(chaos(Args::parse())))
}

async fn chaos(args: Args) -> Result<(Value, bool)> {
    let program = cluster::program(args.binary.clone())?;
    let temporary = tempfile::tempdir().map_err(doing("make a folder"))?;
    let home = args.home.clone().unwrap_or_else(|| temporary.path().to_owned());
    let mount = |number: usize| Disk::mount(&home.join(format!("coordinator-{number}")));
    let disks: Result<Vec<Disk>> = (1..=3).map(mount).collect();
    let mut cluster = Cluster::start(&program, 3, Some(home))?;
    let targets = cluster.coordinators.iter().map(|one| one.ready.grpc.clone()).collect();
    let proxies = Proxies::start(targets).await?;
    for (coordinator, address) in cluster.coordinators.iter_mut().zip(&proxies.addresses) {
        coordinator.address.clone_from(address);
    }
    proxies.know(cluster.coordinators.iter().map(|one| one.pid()).collect());
    cluster.found().await?;

    let people = People::new(cluster.cluster_id, args.accounts.max(2 * SINKS))?;
    let leader = cluster.leader().await?;
    let route = Arc::new(Route::new(proxies.addresses.clone(), 4, leader)?);
    let ledger_ms = cluster.coordinators[leader].status().await?.now_ms;
    let saturation = open(&people, &route, ledger_ms, args.clients).await?;
    let per_s = args.rate.unwrap_or(saturation / 2.0);
    note(&format!("saturation {saturation:.0}/s with {} clients; the load is {per_s:.0}/s", args.clients));

    let field = Arc::new(Field::new(people, route, ledger_ms));
    let (stop, stopped) = watch::channel(false);
    let load = tokio::spawn(clients::run(field.clone(), args.clients, per_s, stopped));
    let mut breaker =
        Breaker { cluster, proxies, field: field.clone(), faults: Faults::default(), disks, kills: args.kills };
    breaker.all().await?;
    stop.send_replace(true);
    let (journal, refusals) = load.await.map_err(doing("end the clients"))?;
    let Breaker { cluster, faults, .. } = breaker;

    let received = received(&field).await?;
    let log = log(&cluster).await?;
    let verdict = judge(&journal, &log, &received);
    let windows = search_all(&journal, &log);
    let newest = log.last().map_or(0, |(index, _)| *index);
    cluster.applied(newest).await?;
    let roots_equal = cluster.roots_equal(newest).await?;
    let linearizable = verdict.disorder.is_empty() && windows.disorder.is_empty() && windows.undecided == 0;
    let good = verdict.good() && linearizable && refusals.is_empty() && roots_equal;
    for sentence in verdict.disorder.iter().chain(&windows.disorder).chain(&refusals).take(10) {
        note(sentence);
    }
    let Faults { mut failover, mut paused, mut cut, mut all, full_disk } = faults;
    let result = json!({
        "kills": args.kills,
        "failover_p50_ms": rounded(failover.percentile_ms(0.5)),
        "failover_max_ms": rounded(failover.percentile_ms(1.0)),
        "acknowledged": verdict.acknowledged,
        "lost": verdict.lost,
        "doubled": verdict.doubled,
        "linearizable": linearizable,
        "windows": windows.searched,
        "longest_window": windows.longest,
        "undecided": windows.undecided,
        "refused": refusals.len(),
        "reads": journal.reads.len(),
        "pause_max_ms": rounded(paused.percentile_ms(1.0)),
        "cut_max_ms": rounded(cut.percentile_ms(1.0)),
        "all_killed_max_ms": rounded(all.percentile_ms(1.0)),
        "full_disk": full_disk,
        "roots_equal": roots_equal,
        "per_s": rounded(per_s),
    });
    Ok((result, good))
}

/// Opens the accounts, and answers how many transfers a second a closed loop reaches.
async fn open(people: &People, route: &Arc<Route>, ledger_ms: u64, clients: usize) -> Result<f64> {
    let expires_ms = ledger_ms + site::LIFE_MS;
    let run = |work, seconds| drive::Run {
        route: route.clone(),
        path: site::SUBMIT,
        work,
        read: site::decided,
        clients,
        length: Duration::from_secs_f64(seconds),
    };
    let opened = drive::unary(run(people.openings(expires_ms)?, 600.0), Pace::Closed).await;
    if opened.commands != 2 * people.len() as u64 {
        return Err(format!("open the accounts: {:?}", opened.errors));
    }
    // Between the payers only: what the sinks receive is counted.
    let work = people.transfers_among(SINKS, 2, 120_000, 1, expires_ms)?;
    Ok(drive::unary(run(work, 3.0), Pace::Closed).await.per_s())
}

/// What each sink has received in the end.
async fn received(field: &Field) -> Result<Vec<u64>> {
    let mut all = Vec::new();
    for sink in 0..SINKS {
        let ask = async {
            loop {
                if let Ok(received) = field.received(sink, 0).await {
                    return received;
                }
            }
        };
        all.push(timeout(PATIENCE, ask).await.map_err(|_| "the cluster does not answer in the end".to_owned())?);
    }
    Ok(all)
}

/// The ids of all envelopes in the log with their entries' indexes, in order.
async fn log(cluster: &Cluster) -> Result<Vec<(u64, [u8; 16])>> {
    let leader = &cluster.coordinators[cluster.leader().await?];
    let client = ClusterClient::new(cluster::channel(&leader.ready.grpc)?);
    let request = ExportLogRequest { from_index: 1, to_index: 0 };
    let exported = client.max_decoding_message_size(EXPORT_BYTES_MAX).export_log(request).await;
    let mut stream = exported.map_err(|status| format!("export the log: {}", status.message()))?.into_inner();
    let (mut ids, mut expected) = (Vec::new(), 1);
    while let Some(one) = stream.message().await.map_err(|status| format!("export the log: {}", status.message()))? {
        if one.index != expected {
            return Err(format!("export the log: entry {} follows entry {}", one.index, expected - 1));
        }
        expected += 1;
        let entry = LogEntry::decode(one.entry.as_slice()).map_err(doing("read an entry"))?;
        for bytes in entry.envelopes {
            let envelope = Envelope::decode(bytes.as_slice()).map_err(doing("read an envelope"))?;
            ids.extend(<[u8; 16]>::try_from(envelope.command_id.as_slice()).map(|id| (one.index, id)));
        }
    }
    Ok(ids)
}

/// How long each fault kept the next acknowledgement away.
#[derive(Debug, Default)]
struct Faults {
    failover: Latencies,
    paused: Latencies,
    cut: Latencies,
    all: Latencies,
    full_disk: Value,
}

/// The one who breaks things.
struct Breaker {
    cluster: Cluster,
    proxies: Proxies,
    field: Arc<Field>,
    faults: Faults,
    disks: Result<Vec<Disk>>,
    kills: u32,
}

impl Breaker {
    async fn all(&mut self) -> Result<()> {
        for kill in 1..=self.kills {
            self.kill_leader().await?;
            match kill % 10 {
                1 | 6 => self.pause_leader().await?,
                2 | 7 => self.cut_leader().await?,
                3 => self.kill_all().await?,
                _ => {}
            }
            if kill == self.kills.div_ceil(2) {
                self.faults.full_disk = self.fill_leaders_disk().await?;
            }
            note(&format!("{kill} of {}: {} acknowledged", self.kills, self.field.acknowledged()));
        }
        self.steady().await.map(|_| ())
    }

    /// Waits until everybody is there and has caught up and enough was acknowledged; answers who leads.
    async fn steady(&mut self) -> Result<usize> {
        self.proxies.know(self.cluster.coordinators.iter().map(|one| one.pid()).collect());
        let enough = self.field.acknowledged() + ACKED_PER_KILL;
        self.within("commands are acknowledged again", self.field.acked_in_all(enough)).await?;
        let leader = self.cluster.leader().await?;
        let applied = self.cluster.coordinators[leader].status().await?.applied;
        self.cluster.applied(applied.saturating_sub(BEHIND_MAX)).await?;
        self.cluster.leader().await
    }

    async fn kill_leader(&mut self) -> Result<()> {
        let leader = self.steady().await?;
        let (since, waiting) = self.watch(leader);
        self.cluster.coordinators[leader].kill()?;
        let failover = self.answered(since, waiting).await?;
        self.faults.failover.push(failover);
        self.cluster.coordinators[leader].restart()
    }

    async fn pause_leader(&mut self) -> Result<()> {
        let leader = self.steady().await?;
        let (since, waiting) = self.watch(leader);
        self.cluster.coordinators[leader].pause()?;
        let away = self.answered(since, waiting).await;
        tokio::time::sleep(LINGER).await;
        self.cluster.coordinators[leader].resume()?;
        self.faults.paused.push(away?);
        Ok(())
    }

    async fn cut_leader(&mut self) -> Result<()> {
        let leader = self.steady().await?;
        let (since, waiting) = self.watch(leader);
        self.proxies.cut(Cuts::around(leader, self.cluster.coordinators.len()));
        let away = self.answered(since, waiting).await;
        tokio::time::sleep(LINGER).await;
        self.proxies.cut(Cuts::default());
        self.faults.cut.push(away?);
        Ok(())
    }

    async fn kill_all(&mut self) -> Result<()> {
        self.steady().await?;
        for coordinator in &mut self.cluster.coordinators {
            coordinator.kill()?;
        }
        let (since, waiting) = self.watch(usize::MAX);
        for coordinator in &mut self.cluster.coordinators {
            coordinator.restart()?;
        }
        let away = self.answered(since, waiting).await?;
        self.faults.all.push(away);
        Ok(())
    }

    /// Fills the leader's disk, waits until it says so and another one answers, makes room again and waits until it follows.
    /// The log has some room laid aside, so the leader may go on for a moment. One that ended has not kept its word.
    async fn fill_leaders_disk(&mut self) -> Result<Value> {
        let leader = self.steady().await?;
        if let Err(why) = &self.disks {
            return Ok(json!(format!("skipped: {why}")));
        }
        let (_, elsewhere) = self.watch(leader);
        self.fill(leader, true)?;
        let served = async {
            let (refused_us, lacks) = self.said_full(leader).await?;
            let answered_us = self.within("another coordinator answers", elsewhere).await?;
            Result::Ok((refused_us, lacks, answered_us))
        }
        .await;
        self.fill(leader, false)?;
        let (refused_us, lacks, answered_us) = served?;
        let freed_us = self.field.now_us();
        let whole = async {
            while !matches!(
                self.cluster.coordinators[leader].status().await,
                Ok(GetStatusReply { disk_full: None, .. })
            ) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        self.within("the disk has room again", whole).await?;
        let recovered_us = self.field.now_us() - freed_us;
        if self.cluster.coordinators[leader].ended() {
            return Err("the coordinator with the full disk ended".to_owned());
        }
        Ok(json!({
            "next_ack_elsewhere_ms": rounded(answered_us.saturating_sub(refused_us) as f64 / 1e3),
            "recovered_ms": rounded(recovered_us as f64 / 1e3),
            "path": lacks.path,
            "needed_bytes": lacks.needed_bytes,
        }))
    }

    fn fill(&self, place: usize, full: bool) -> Result<()> {
        match &self.disks {
            Ok(disks) if full => disks[place].fill(),
            Ok(disks) => disks[place].free(),
            Err(why) => Err(why.clone()),
        }
    }

    /// What a coordinator lacks once it says that its disk is full, and when it last said that it is not, µs.
    async fn said_full(&mut self, place: usize) -> Result<(u64, DiskFull)> {
        let (begun, mut had_room_us) = (Instant::now(), self.field.now_us());
        while begun.elapsed() < FULL_DISK_WAIT {
            let asked_us = self.field.now_us();
            match self.cluster.coordinators[place].status().await.map(|status| status.disk_full) {
                Ok(Some(lacks)) => return Ok((had_room_us, lacks)),
                Ok(None) => had_room_us = asked_us,
                Err(_) if self.cluster.coordinators[place].ended() => {
                    return Err("the coordinator with the full disk ended; see its log.txt".to_owned());
                }
                Err(_) => {}
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(format!("a leader with a full disk went on for {} s", FULL_DISK_WAIT.as_secs()))
    }

    /// From now on, and the wait for an acknowledgement by another coordinator than `than`.
    fn watch(&self, than: usize) -> (u64, impl Future<Output = u64> + use<>) {
        (self.field.now_us(), self.field.acked_elsewhere(than))
    }

    async fn answered(&self, since: u64, waiting: impl Future<Output = u64>) -> Result<Duration> {
        let at = self.within("another coordinator answers", waiting).await?;
        Ok(Duration::from_micros(at.saturating_sub(since)))
    }

    async fn within<T>(&self, what: &str, wait: impl Future<Output = T>) -> Result<T> {
        timeout(PATIENCE, wait).await.map_err(|_| format!("not within {} s: {what}", PATIENCE.as_secs()))
    }
}
