//! The worker: our agent on a machine. It keeps a session with any coordinator, computes what the machine is owed (drilling
//! units, virtual workers of trainings, reductions, replays) on one throttled thread, and reports under the machine key.
//!
//! How it hangs together: `session` turns messages into events, `actors` queues them, `agent` (pure) decides, `shell`
//! performs, `run` computes by way of `compute` and `pace`; `journal` and `artifacts` are the disk. Absent: ledger and
//! matching rules, money, and any belief that a machine may state about its own speed.

mod actors;
pub mod agent;
mod artifacts;
mod cancel;
mod clock;
mod compute;
pub mod config;
pub mod convert;
mod coordinators;
mod enrolment;
mod hardware;
mod identity;
mod journal;
mod mailbox;
mod pace;
mod run;
mod sealer;
mod session;
mod shell;
#[cfg(test)]
mod tests;

pub use config::Config;
pub use pace::{LimitError, limit, set_limit};

use artifacts::{Artifacts, Cache};
use cancel::Cancel;
use clock::Clock;
use compute::Compute;
use coordinators::{Backoff, Coordinators};
use identity::{Folder, machine_id, parse_hash};
use journal::Journal;
use matrixai_kernels::Chosen;
use matrixai_protocol::{Hash, drilling::Kernel};
use matrixai_transport::{Certificates, Dialer};
use run::{Env, Runners};
use sealer::Sealer;
use serde::Serialize;
use session::{Session, SessionError, cluster_of};
use shell::{Outlet, Shell};
use std::{
    io::{self, Write as _},
    sync::{Arc, Mutex},
    time::Duration,
};

/// Threads for network and disk; computing has its own.
const RUNTIME_THREADS: usize = 2;
/// Longest wait for what still runs when the worker shuts down.
const CLOSING_MAX: Duration = Duration::from_secs(5);
/// How often the journal drops what can no longer be asked for.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// Why a worker could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data folder, or a key.
    #[error(transparent)]
    Identity(#[from] identity::IdentityError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] journal::JournalError),
    /// The CPU limit.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// An address in `join`.
    #[error(transparent)]
    Address(#[from] matrixai_transport::AddressError),
    /// The CA's certificate.
    #[error("TLS: {0}")]
    Tls(#[from] matrixai_transport::TlsError),
    /// The configuration names another cluster than the data folder or the coordinators.
    #[error("the configuration insists on cluster {wanted}, but {who} belongs to {found}")]
    WrongCluster {
        /// The configuration's.
        wanted: String,
        /// The folder, or a coordinator's address.
        who: String,
        /// Its cluster.
        found: String,
    },
    /// A thread, a signal handler or the standard output.
    #[error("{0}: {1}")]
    System(&'static str, #[source] io::Error),
}

/// What a worker says on its standard output once it is set up, as one line of JSON.
#[derive(Debug, Clone, Serialize)]
pub struct Ready {
    /// Always "ready".
    pub event: &'static str,
    /// The machine's id in this cluster, in hex.
    pub machine: String,
    /// The machine's public key, in hex.
    pub machine_key: String,
}

/// Runs a worker in this process until SIGTERM or ctrl-C: logs to the standard error, the ready line to the standard output.
///
/// # Errors
/// When it cannot start. A lost connection is no error: it is dialled again for ever.
pub fn run(config: Config) -> Result<(), Error> {
    let filter = tracing_subscriber::EnvFilter::new(&config.log.level);
    // Whoever embeds this may log already.
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).try_init().ok();
    let system = actix::System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(RUNTIME_THREADS)
            .enable_all()
            .build()
            .expect("the system gives threads and a timer")
    });
    system.block_on(async {
        let stop = signals()?;
        serve(config, say_ready, stop).await
    })
}

/// Runs a worker in the present actix system until `stop` completes; `ready` is called once, when the cluster is known and
/// everything is set up.
///
/// # Errors
/// As [`run`].
pub async fn serve(
    config: Config,
    ready: impl FnOnce(&Ready) -> io::Result<()>,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let stopped = Cancel::default();
    let working = work(config, ready, &stopped);
    tokio::pin!(working, stop);
    tokio::select! {
        result = &mut working => return result,
        () = &mut stop => stopped.set(),
    }
    tracing::info!("shutting down");
    working.await
}

async fn work(config: Config, ready: impl FnOnce(&Ready) -> io::Result<()>, stopped: &Cancel) -> Result<(), Error> {
    let mut folder = Folder::open(&config.data)?;
    let data = folder.root().to_owned();
    if config.cpu_limit == 0.0 {
        limit(&data)?;
    } else {
        set_limit(&data, config.cpu_limit)?;
    }
    let signer = folder.machine_key()?;
    let kernels = tested_kernels();
    let (journal, mut journal_closed) = Journal::open(&data.join("journal"))?;
    journal.prune()?;
    let journal = Arc::new(journal);
    let cache = Cache::open(&data.join("artifacts"), config.artifacts.bytes_max)?;
    let inventory = hardware::inventory(&data, &config.region);
    let patience = Duration::from_millis(config.session.timeout_ms);
    let certificates = config.certificates().map(Certificates::read).transpose()?;
    if let Some(certificates) = &certificates {
        // Ends with the runtime.
        tokio::spawn(certificates.clone().watch());
    }
    let coordinators = Arc::new(Coordinators::new(&config.join, &Dialer::new(certificates), patience)?);
    let clock = Arc::new(Clock::start());

    check_pinned(&config.cluster, folder.cluster_id().as_ref(), "the data folder")?;
    let Some(found) = stopped.guard(find_cluster(&coordinators, &config, &clock)).await else { return Ok(()) };
    let (cluster, address) = found;
    check_pinned(&config.cluster, Some(&cluster), &address)?;
    folder.belong(cluster, &address)?;

    let machine_key = signer.public_key();
    let sealer = Arc::new(Sealer::new(signer, cluster, Arc::clone(&clock)));
    let compute = Compute::start(&data).map_err(|error| Error::System("start the computing thread", error))?;
    let artifacts = Artifacts::new(cache, Arc::clone(&coordinators), Arc::clone(&sealer), patience);
    let env = Arc::new(Env {
        compute,
        disabled: kernels.disabled(),
        kernels: Arc::new(kernels),
        ram_bytes: inventory.ram_bytes,
        artifacts,
        journal: Arc::clone(&journal),
        machine_key,
        uploads_max: config.artifacts.uploads_max,
        dataset: Mutex::new(None),
    });
    let agent = agent::Agent::new(machine_key, journal.reports()?);
    let outlet = Outlet::default();
    let handle = actors::Handle::start(agent, Arc::clone(&clock), |mailbox| Shell {
        runners: Runners::new(env, mailbox.clone()),
        outlet: outlet.clone(),
        sealer: Arc::clone(&sealer),
        journal: Arc::clone(&journal),
        mailbox,
    });
    let machine = hex::encode(machine_id(&cluster, &machine_key));
    ready(&Ready { event: "ready", machine, machine_key: hex::encode(machine_key) })
        .map_err(|error| Error::System("write the ready line", error))?;
    let session = Session {
        coordinators,
        sealer,
        clock,
        outlet,
        mailbox: handle.mailbox.clone(),
        holding: handle.holding.clone(),
        enrolment: enrolment::Enrolment::new(folder, config.owner_key, inventory),
        settings: config.session,
    };
    tokio::join!(session.keep(stopped), stopped.guard(prune_now_and_then(journal)));
    handle.stop().await;
    // Until the last task is gone the folder cannot be opened again.
    if tokio::time::timeout(CLOSING_MAX, journal_closed.recv()).await.is_err() {
        tracing::warn!("some work did not end in time");
    }
    Ok(())
}

/// Runs the known answers of all kernels on every path of this processor and says what will not be used. One thread: the
/// limit on computing is a share of one core.
fn tested_kernels() -> Chosen {
    let chosen = Chosen::new(1);
    for trial in chosen.trials().iter().filter(|trial| !trial.right) {
        tracing::error!(kernel = %trial.kernel, path = trial.path, "missed its known answers on this machine and is not used");
    }
    for kernel in Kernel::ALL {
        match chosen.of(kernel) {
            Some(path) => tracing::info!(%kernel, path = path.name(), "drilling will be computed by"),
            None => tracing::error!(%kernel, "no path of this machine knows the answers: this kernel is disabled"),
        }
    }
    chosen
}

fn check_pinned(wanted: &str, found: Option<&Hash>, who: &str) -> Result<(), Error> {
    match (parse_hash(wanted), found) {
        (Some(pinned), Some(found)) if pinned != *found => {
            Err(Error::WrongCluster { wanted: wanted.to_owned(), who: who.to_owned(), found: hex::encode(found) })
        }
        _ => Ok(()),
    }
}

/// Asks around until a coordinator says what cluster it is part of; also sets the clock.
async fn find_cluster(coordinators: &Coordinators, config: &Config, clock: &Clock) -> (Hash, String) {
    let patience = Duration::from_millis(config.session.timeout_ms);
    let (min, max) = (config.session.backoff_ms_min, config.session.backoff_ms_max);
    let mut backoff = Backoff::new(Duration::from_millis(min), Duration::from_millis(max));
    loop {
        for n in 0..coordinators.len() {
            let (index, coordinator) = coordinators.nth(n);
            match cluster_of(coordinator.channel.clone(), patience).await {
                Ok((cluster, now_ms)) => {
                    clock.observe(now_ms);
                    coordinators.prefer(index);
                    return (cluster, coordinator.address.clone());
                }
                Err(SessionError::NoCluster) => {
                    tracing::info!(address = coordinator.address, "not part of a cluster yet");
                }
                Err(error) => tracing::warn!(address = coordinator.address, %error, "no answer from a coordinator"),
            }
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

async fn prune_now_and_then(journal: Arc<Journal>) {
    loop {
        tokio::time::sleep(PRUNE_EVERY).await;
        let journal = Arc::clone(&journal);
        if let Err(error) = artifacts::blocking(move || journal.prune()).await {
            tracing::warn!(%error, "the journal keeps what it no longer needs");
        }
    }
}

fn signals() -> Result<impl Future<Output = ()>, Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error| Error::System("listen for signals", error);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn say_ready(ready: &Ready) -> io::Result<()> {
    let mut line = serde_json::to_vec(ready)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}
