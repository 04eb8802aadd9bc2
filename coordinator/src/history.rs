//! Statements: every movement of every account, newest first, in an index on this coordinator's disk.
//!
//! The index is derived. The log behind the newest snapshot is replayed at every start, so what is missing of that is
//! delivered again; a movement that is there already is told by its sequence number and skipped. What lies before a snapshot
//! that this coordinator did not live through (one fetched from another, or after its index was lost) cannot be
//! delivered: then the index notes from which log entry on it is complete, and every statement says so. sled syncs lazily and
//! may refuse its folder after a crash: then the folder is set aside and a new one is filled from there. It is written by
//! a thread of its own, behind apply, through a bounded queue: when that is full, apply waits, so the lag has a limit.
//!
//! A full disk stops none of it: the writer keeps what it was told and tries again until there is room. Apply does not wait for that.
//! What comes when the queue is full is left out, and is a gap like that before a snapshot.
//!
//! How rows lie in files is [`runs`]' to know, and which files there are [`store`]'s.

mod room;
mod runs;
mod store;

use crate::{
    files::{Files, FilesError, OsFiles},
    telemetry::Metrics,
};
use matrixai_protocol::Hash;
use matrixai_state::{Movement, effect::Reference, ids::AccountId};
use room::Room;
use runs::{Rows, Runs};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};
use store::{Store, StoreError};
use tokio::{sync::watch, task::spawn_blocking};

/// Log entries that may wait to be written.
const QUEUE_ENTRIES: usize = 1_024;

/// Movements that may wait to be written, in all entries: some 64 MiB.
const QUEUE_MOVEMENTS: usize = 1 << 18;

/// Movements that are worth writing together: small batches would be merged again and again.
const BATCH_MOVEMENTS: usize = 1 << 15;

/// How long a full disk is left alone before it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Places in the queue beside those of entries: for those who wait.
const QUEUE_OTHERS: usize = 64;

/// How long movements wait for company while nobody asks for them.
const BATCH_WAIT: Duration = Duration::from_millis(500);

/// How long a statement waits for the index to reach the view it belongs to.
const CATCH_UP_WAIT: Duration = Duration::from_secs(10);

/// Name of this folder among the full ones.
const DISK: &str = "history";

/// Most movements in one answer.
pub(crate) const STATEMENT_MAX: usize = 1_000;

/// Version of the records below; another one makes the index be built anew.
const FORMAT: u32 = 7;

/// Key of the one [`Meta`] record; no run's has its length.
const META_KEY: &[u8] = b"meta";

/// One change of one account's balance or hold, as it is kept. Amounts in minor units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Position in the whole network's journal, ascending.
    pub(crate) sequence: u64,
    /// Log index of the entry that caused it.
    pub(crate) index: u64,
    /// Ledger time of that entry, ms.
    pub(crate) now_ms: u64,
    /// Whose movement it is.
    pub(crate) account: AccountId,
    /// The other side, if there is one.
    pub(crate) counterparty: Option<AccountId>,
    /// Name of the cause, as in the statement.
    pub(crate) cause: String,
    /// Change of the balance.
    pub(crate) balance_change: i128,
    /// Change of the hold.
    pub(crate) held_change: i128,
    /// Balance after it.
    pub(crate) balance: u128,
    /// Hold after it.
    pub(crate) held: u128,
    /// What it belongs to.
    pub(crate) reference: Option<Reference>,
    /// A transfer's or hold's memo, or an external reference.
    pub(crate) memo: String,
}

/// Where the index stands and whose it is; written in the same batch as the movements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Meta {
    format: u32,
    cluster_id: Hash,
    /// Newest movement that is in or lies in a gap; 0 before the first.
    sequence: u64,
    /// Every movement of this log entry and later ones up to `sequence` is in; 0 when nothing was ever missed.
    complete_from: u64,
    runs: Runs,
}

/// A page of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    /// Newest first.
    pub(crate) records: Vec<Record>,
    /// Movements of earlier log entries may be missing; 0 when none are.
    pub(crate) complete_from: u64,
}

/// Why a statement cannot be had, or the index not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HistoryError {
    /// Not even a new folder could be made.
    #[error("{what} {}: {why}", path.display())]
    Open {
        /// Verb phrase.
        what: &'static str,
        /// The folder.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// The index could not be written any more; a restart builds it again.
    #[error("the statement index of this coordinator stopped: ask another one, or restart this one to build it again")]
    Stopped,
    /// The index did not reach the wanted log entry in time.
    #[error("the statement index is at log entry {written} and entry {wanted} is asked for: try again shortly")]
    Behind {
        /// Newest entry that is in.
        written: u64,
        /// Entry that the answer must include.
        wanted: u64,
    },
}

/// The index of this coordinator; its writer ends with it.
#[derive(Debug)]
pub(crate) struct History {
    folder: PathBuf,
    files: Arc<dyn Files>,
    metrics: Arc<Metrics>,
    running: OnceLock<Running>,
}

#[derive(Debug)]
struct Running {
    shelf: Arc<Shelf>,
    queue: SyncSender<Told>,
    room: Arc<Room>,
    /// Newest log index whose movements are in.
    written: watch::Receiver<u64>,
    /// The newest entry that was left out, and the movements made with it.
    left_out: Mutex<Option<(u64, u64)>>,
}

impl Running {
    /// Says that log entry `index` is waited for; answers where its arrival is seen.
    fn wanted(&self, index: u64) -> watch::Receiver<u64> {
        let written = self.written.clone();
        if *written.borrow() < index && !self.room.is_stuck() {
            // A full queue is written without being asked.
            let _ = self.queue.try_send(Told::Wanted);
        }
        written
    }
}

/// The rows and where they are. Whoever reads holds the lock, for a merge takes blocks away.
#[derive(Debug)]
struct Shelf {
    store: Store,
    meta: RwLock<Meta>,
}

/// What the writer is told.
#[derive(Debug)]
enum Told {
    Entry(Entry),
    /// The state is that of a snapshot: after this log entry, with so many movements made.
    Snapshot {
        index: u64,
        movements: u64,
    },
    /// Somebody waits for what was told before.
    Wanted,
}

/// What one applied log entry adds.
#[derive(Debug)]
struct Entry {
    index: u64,
    now_ms: u64,
    movements: Vec<Movement>,
}

impl History {
    /// An index that will live in `folder`; nothing is opened before the cluster is known.
    pub(crate) fn new(folder: &Path, metrics: Arc<Metrics>) -> Self {
        Self { folder: folder.to_owned(), files: Arc::new(OsFiles), metrics, running: OnceLock::new() }
    }

    /// Opens the index and starts its writer for a state that holds log entry `index` and has made so many movements; must
    /// come before entries behind it are applied. A folder that sled refuses, or that is another cluster's or format's,
    /// is renamed to `<folder>.quarantine` and counted; the new one is filled from there.
    ///
    /// # Errors
    /// [`HistoryError::Open`] when even an empty index cannot be made there.
    ///
    /// # Panics
    /// When it was started before.
    pub(crate) fn start(&self, cluster_id: &Hash, index: u64, movements: u64) -> Result<(), HistoryError> {
        let folder = &self.folder;
        let failed = |what, why| HistoryError::Open { what, path: folder.clone(), why };
        let (store, meta) = match open_guarded(folder, &self.files, cluster_id) {
            Ok(opened) => opened,
            Err(why) => {
                tracing::error!(path = %folder.display(), %why, "the statement index is set aside and built again");
                self.metrics.history_rebuilds.inc();
                set_aside(folder)?;
                open_guarded(folder, &self.files, cluster_id).map_err(|why| failed("open statement index", why))?
            }
        };
        let (queue, entries) = sync_channel(QUEUE_ENTRIES + QUEUE_OTHERS);
        let (progress, written) = watch::channel(0);
        let room = Arc::new(Room::new(QUEUE_ENTRIES, QUEUE_MOVEMENTS));
        let shelf = Arc::new(Shelf { store, meta: RwLock::new(meta) });
        let writer = Writer { shelf: shelf.clone(), progress, metrics: self.metrics.clone(), room: room.clone() };
        thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || writer.run(&entries))
            .map_err(|error| failed("start the writer of", error.to_string()))?;
        let first = self.running.set(Running { shelf, queue, room, written, left_out: Mutex::default() }).is_ok();
        assert!(first, "the statement index is started once");
        self.skip_to(index, movements);
        Ok(())
    }

    /// Hands over the movements of one applied entry, in log order, empty ones included. Blocks while the queue is full, but not
    /// for a full disk: then they are left out.
    ///
    /// # Panics
    /// Before [`History::start`]: what is recorded then would be missing for good.
    pub(crate) fn record(&self, index: u64, now_ms: u64, movements: Vec<Movement>) {
        let running = self.running.get().expect("the statement index starts before the log is replayed");
        let mut left_out = running.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        if !running.room.take(movements.len()) {
            let made = movements.last().map(|movement| movement.sequence);
            if let Some(made) = made.or(left_out.map(|(_, made)| made)) {
                *left_out = Some((index, made));
            }
            return;
        }
        if let Some((index, movements)) = left_out.take() {
            let _stopped = running.queue.send(Told::Snapshot { index, movements });
        }
        // A stopped writer is logged where it stopped, and statements say so.
        let _stopped = running.queue.send(Told::Entry(Entry { index, now_ms, movements }));
        self.metrics.history_lag.set(lag(index, *running.written.borrow()));
    }

    /// The state is that of a snapshot: after log entry `index`, with so many movements made. Those that are not in the index
    /// by then never will be.
    ///
    /// # Panics
    /// Before [`History::start`].
    pub(crate) fn skip_to(&self, index: u64, movements: u64) {
        let running = self.running.get().expect("the statement index starts before the log is replayed");
        let _stopped = running.queue.send(Told::Snapshot { index, movements });
    }

    /// Waits until everything up to log entry `index` is in the index and on the disk, so that it survives what comes; gives
    /// up when the index has stopped. Blocks: must be called on a thread that may.
    pub(crate) fn settle(&self, index: u64, runtime: &tokio::runtime::Handle) {
        let Some(running) = self.running.get() else { return };
        let mut written = running.wanted(index);
        let reached = runtime.block_on(written.wait_for(|at| *at >= index)).is_ok();
        if reached && let Err(error) = running.shelf.store.sync() {
            tracing::warn!(%error, "sync statement index");
        }
    }

    /// Movements of an account before a sequence number (0: the newest ones), newest first, as of log entry `index`
    /// or later; waits for the index to get there.
    ///
    /// # Errors
    /// [`HistoryError::Behind`] when that takes too long, [`HistoryError::Stopped`] after a failure.
    pub(crate) async fn statement(
        &self,
        account: AccountId,
        before: u64,
        limit: usize,
        index: u64,
    ) -> Result<Statement, HistoryError> {
        let running = self.running.get().ok_or(HistoryError::Stopped)?;
        let mut written = running.wanted(index);
        match tokio::time::timeout(CATCH_UP_WAIT, written.wait_for(|at| *at >= index)).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Err(HistoryError::Stopped),
            Err(_) => return Err(HistoryError::Behind { written: *running.written.borrow(), wanted: index }),
        }
        let shelf = running.shelf.clone();
        let read = spawn_blocking(move || shelf.read(account, before, limit.min(STATEMENT_MAX))).await;
        match read {
            Ok(Ok(statement)) => Ok(statement),
            Ok(Err(error)) => {
                tracing::error!(%error, "read statement index");
                Err(HistoryError::Stopped)
            }
            Err(_) => Err(HistoryError::Stopped),
        }
    }
}

struct Writer {
    shelf: Arc<Shelf>,
    progress: watch::Sender<u64>,
    metrics: Arc<Metrics>,
    room: Arc<Room>,
}

impl Writer {
    fn run(self, told: &Receiver<Told>) {
        let mut rows = Rows::default();
        while let Ok(first) = told.recv() {
            let mut gathered = gather(first, told);
            if let Err(error) = self.write_with_room(&mut gathered, told, &mut rows) {
                // Ending drops `progress`, by which everybody who waits learns of it.
                tracing::error!(%error, "write statement index: it stops until the next start");
                return;
            }
            let Gathered { entries, index, movements, .. } = gathered;
            self.room.give_back(entries, movements);
            self.metrics.history_lag.set(lag(self.metrics.applied_index.get().max(0).unsigned_abs(), index));
            self.progress.send_if_modified(|written| {
                let before = std::mem::replace(written, index.max(*written));
                before != *written
            });
        }
        if let Err(error) = self.shelf.store.sync() {
            tracing::warn!(%error, "flush statement index");
        }
    }

    /// Writes, and as long as the disk is full tries again with what comes meanwhile; the end of its coordinator ends that.
    fn write_with_room(
        &self,
        gathered: &mut Gathered,
        told: &Receiver<Told>,
        rows: &mut Rows,
    ) -> Result<(), StoreError> {
        let mut full = false;
        loop {
            let error = match self.write(&gathered.batch, rows) {
                Err(StoreError::File(error @ FilesError::NoSpace { .. })) => error,
                written => {
                    if full {
                        tracing::info!("the statement index has room again");
                        self.metrics.full_disks.told(DISK, Ok(()));
                        self.room.stuck(false);
                    }
                    return written;
                }
            };
            if !full {
                tracing::error!(%error, "write statement index: it waits until there is room");
            }
            full = true;
            self.metrics.full_disks.told::<()>(DISK, Err(&error));
            self.room.stuck(true);
            let until = Instant::now() + RETRY;
            loop {
                match told.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(told) => gathered.add(told),
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return Err(error.into()),
                }
            }
        }
    }

    fn write(&self, told: &[Told], rows: &mut Rows) -> Result<(), StoreError> {
        // Of an attempt that failed.
        rows.clear();
        let known = self.shelf.meta.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut meta = known.clone();
        for told in told {
            match told {
                Told::Snapshot { index, movements } if *movements > meta.sequence => {
                    meta = Meta { sequence: *movements, complete_from: index.saturating_add(1), ..meta };
                    tracing::warn!(
                        index,
                        "the statement index has a gap up to this log entry: a snapshot stands for it, or a full disk left it out"
                    );
                }
                Told::Snapshot { .. } | Told::Wanted => {}
                Told::Entry(Entry { index, now_ms, movements }) => {
                    for movement in movements {
                        // It was delivered before the last restart.
                        if movement.sequence <= meta.sequence {
                            continue;
                        }
                        meta.sequence = movement.sequence;
                        rows.push(*index, *now_ms, movement)?;
                    }
                }
            }
        }
        if meta == known {
            return Ok(());
        }
        let mut batch = sled::Batch::default();
        let store = &self.shelf.store;
        let replaced = meta.runs.add(store, rows, &mut batch)?;
        batch.insert(META_KEY, encode(&meta)?);
        {
            let mut known = self.shelf.meta.write().unwrap_or_else(PoisonError::into_inner);
            store.apply(batch)?;
            *known = meta;
        }
        if !replaced.is_empty() {
            store.sync()?;
            store.remove(&replaced)?;
        }
        Ok(())
    }
}

/// What is written together.
#[derive(Default)]
struct Gathered {
    batch: Vec<Told>,
    /// Newest log entry in it; 0 when it has none.
    index: u64,
    entries: usize,
    movements: usize,
    wanted: bool,
}

/// Gathers what comes after `first` until it is worth a write, or somebody wants it, or it has waited long enough.
fn gather(first: Told, told: &Receiver<Told>) -> Gathered {
    let mut gathered = Gathered::default();
    gathered.add(first);
    let until = Instant::now() + BATCH_WAIT;
    while gathered.movements < BATCH_MOVEMENTS {
        // What waits in the queue already is taken along, wanted or not.
        let wait = if gathered.wanted { Duration::ZERO } else { until.saturating_duration_since(Instant::now()) };
        match told.recv_timeout(wait) {
            Ok(told) => gathered.add(told),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    gathered
}

impl Gathered {
    fn add(&mut self, told: Told) {
        match &told {
            Told::Entry(entry) => {
                self.index = entry.index;
                self.entries += 1;
                self.movements += entry.movements.len();
            }
            Told::Snapshot { index, .. } => self.index = *index,
            Told::Wanted => {
                self.wanted = true;
                return;
            }
        }
        self.batch.push(told);
    }
}

impl Shelf {
    fn read(&self, account: AccountId, before: u64, limit: usize) -> Result<Statement, StoreError> {
        let end = if before == 0 { u64::MAX } else { before };
        let meta = self.meta.read().unwrap_or_else(PoisonError::into_inner);
        let records = meta.runs.read(&self.store, account, end, limit)?;
        Ok(Statement { records, complete_from: meta.complete_from })
    }
}

/// Whoever waits for room learns that there will be none.
impl Drop for Writer {
    fn drop(&mut self) {
        self.room.close();
    }
}

#[cfg(test)]
fn record(index: u64, now_ms: u64, movement: Movement) -> Record {
    Record {
        sequence: movement.sequence,
        index,
        now_ms,
        account: movement.account,
        counterparty: movement.counterparty,
        cause: movement.cause.as_str().to_owned(),
        balance_change: movement.balance_change,
        held_change: movement.held_change,
        balance: movement.balance.units(),
        held: movement.held.units(),
        reference: movement.reference,
        memo: movement.memo.map(|memo| memo.to_string()).unwrap_or_default(),
    }
}

/// Opens the folder behind a marker file: sled may panic on what a crash left, and a release build then aborts. A
/// marker that is still there at the next start says so, and the folder is not tried again.
fn open_guarded(folder: &Path, files: &Arc<dyn Files>, cluster_id: &Hash) -> Result<(Store, Meta), String> {
    let marker = folder.with_extension("opening");
    if marker.exists() {
        fs::remove_file(&marker).map_err(|error| error.to_string())?;
        if folder.exists() {
            return Err("the last attempt to open it did not come back".to_owned());
        }
    }
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent).map_err(|error| error.to_string())?;
    }
    fs::write(&marker, b"").map_err(|error| error.to_string())?;
    let opened = open(folder, files, cluster_id);
    fs::remove_file(&marker).map_err(|error| error.to_string())?;
    opened
}

fn open(folder: &Path, files: &Arc<dyn Files>, cluster_id: &Hash) -> Result<(Store, Meta), String> {
    let store = Store::open(folder, files.clone()).map_err(|error| error.to_string())?;
    let meta: Meta = match store.get(META_KEY).map_err(|error| error.to_string())? {
        Some(bytes) => postcard::from_bytes(&bytes).map_err(|error| format!("its record of itself: {error}"))?,
        None if store.is_empty() => {
            Meta { format: FORMAT, cluster_id: *cluster_id, sequence: 0, complete_from: 0, runs: Runs::default() }
        }
        None => return Err("it has no record of itself".to_owned()),
    };
    if meta.format != FORMAT || meta.cluster_id != *cluster_id {
        return Err(format!("it is of format {} and cluster {}", meta.format, hex::encode(meta.cluster_id)));
    }
    store.keep(&meta.runs.ids()).map_err(|error| error.to_string())?;
    Ok((store, meta))
}

/// Renames the folder away; the one set aside before is removed, so that failures cannot fill the disk.
fn set_aside(folder: &Path) -> Result<(), HistoryError> {
    let aside = folder.with_extension("quarantine");
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| HistoryError::Open { what, path, why: error.to_string() }
    };
    if aside.exists() {
        fs::remove_dir_all(&aside).map_err(failed("remove", &aside))?;
    }
    if folder.exists() {
        fs::rename(folder, &aside).map_err(failed("set aside", folder))?;
    }
    Ok(())
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    postcard::to_allocvec(value).map_err(|error| StoreError::Format(error.to_string()))
}

fn lag(applied: u64, written: u64) -> i64 {
    i64::try_from(applied.saturating_sub(written)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
