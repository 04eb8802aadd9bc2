//! What this worker must remember over a crash to be paid for what it did: digests and salts behind its commitments,
//! traces and salts behind its seals, and reports that nobody has acknowledged yet.
//!
//! Losing the journal loses pay, never correctness: the ledger forfeits what is not revealed, and everything else is
//! done again. So it is a sled database that may be thrown away; what cannot be opened is put aside and begun anew.
//! sled's own `flush` never calls fsync, so each write here is followed by an fdatasync of its log file: when
//! [`Journal::keep`] returns, the secret is on the disk, and only then may what it opens be sent.

use crate::agent::Report;
use crate::identity::IdentityError;
use matrixai_protocol::Hash;
use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::sync::mpsc;

/// sled's page cache; its default is a gigabyte.
const CACHE_BYTES: u64 = 32 << 20;
/// The file that sled appends to.
const LOG_FILE: &str = "db";
/// A unit is decided within minutes of its commitment.
const COMMITMENTS_KEPT_MS: u64 = 24 * 3_600_000;
/// A challenge comes when its job ends.
const TRACES_KEPT_MS: u64 = 14 * 24 * 3_600_000;
/// An unacknowledged report that old is about something long decided.
const REPORTS_KEPT_MS: u64 = 24 * 3_600_000;
/// Longest assignment key that is read back.
const KEY_BYTES_MAX: usize = 512;

/// Why the journal failed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// sled's.
    #[error("{doing} the journal: {source}")]
    Sled {
        /// A verb phrase.
        doing: &'static str,
        /// What sled said.
        source: sled::Error,
    },
    /// The file system's.
    #[error(transparent)]
    File(#[from] IdentityError),
}

fn failed(doing: &'static str) -> impl FnOnce(sled::Error) -> JournalError {
    move |source| JournalError::Sled { doing, source }
}

/// A value and the salt that hides it until it is opened: a unit's digest, or a segment's trace root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Secret {
    pub(crate) value: Hash,
    pub(crate) salt: [u8; 32],
}

/// What a secret is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// The commitment to a unit's digest.
    Unit([u8; 20]),
    /// The sealed trace of a virtual worker's round.
    Segment { job: [u8; 20], round: u32, virtual_worker: u32 },
}

impl Subject {
    fn key(&self) -> Vec<u8> {
        match self {
            Self::Unit(unit) => unit.to_vec(),
            Self::Segment { job, round, virtual_worker } => {
                let mut key = job.to_vec();
                key.extend_from_slice(&round.to_be_bytes());
                key.extend_from_slice(&virtual_worker.to_be_bytes());
                key
            }
        }
    }
}

/// The open database.
#[derive(Debug)]
pub(crate) struct Journal {
    db: sled::Db,
    commitments: sled::Tree,
    traces: sled::Tree,
    reports: sled::Tree,
    /// Another descriptor of sled's log, for fdatasync: it syncs the file, whoever wrote.
    log: File,
    /// Dropped last: whoever waits for [`Journal::open`]'s receiver knows that the database is closed.
    _open: mpsc::Sender<()>,
}

impl Journal {
    /// Opens the journal in `folder`; a damaged one is renamed aside and a new one begun. The receiver ends when the
    /// journal is closed.
    pub(crate) fn open(folder: &Path) -> Result<(Self, mpsc::Receiver<()>), JournalError> {
        match Self::try_open(folder) {
            Err(JournalError::Sled { source: error, .. }) if is_damage(&error) => {
                let aside = quarantine(folder)?;
                tracing::error!(
                    %error, aside = %aside.display(),
                    "the journal could not be opened and was put aside: what was not revealed yet is not paid"
                );
                Self::try_open(folder)
            }
            result => result,
        }
    }

    fn try_open(folder: &Path) -> Result<(Self, mpsc::Receiver<()>), JournalError> {
        let config = sled::Config::new().path(folder).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let db = config.open().map_err(failed("open"))?;
        let tree = |name: &str| db.open_tree(name).map_err(failed("open"));
        let (commitments, traces, reports) = (tree("commitments.1")?, tree("traces.1")?, tree("reports.1")?);
        let path = folder.join(LOG_FILE);
        let log = File::open(&path).map_err(IdentityError::io("open", &path))?;
        let (open, closed) = mpsc::channel(1);
        Ok((Self { commitments, traces, reports, db, log, _open: open }, closed))
    }

    /// Writes a secret and the report that gives its hash away, and returns when they are on the disk.
    pub(crate) fn keep(&self, secret: Option<(Subject, Secret)>, report: &Report) -> Result<(), JournalError> {
        if let Some((subject, secret)) = secret {
            let mut value = Vec::with_capacity(72);
            value.extend_from_slice(&now_ms().to_be_bytes());
            value.extend_from_slice(&secret.value);
            value.extend_from_slice(&secret.salt);
            self.tree(&subject).insert(subject.key(), value).map_err(failed("write to"))?;
        }
        let mut value = now_ms().to_be_bytes().to_vec();
        value.extend_from_slice(&report.payload);
        self.reports.insert(report_key(&report.key, report.part), value).map_err(failed("write to"))?;
        self.sync()
    }

    /// The secret about a subject, if it was kept.
    pub(crate) fn secret(&self, subject: &Subject) -> Result<Option<Secret>, JournalError> {
        let found = self.tree(subject).get(subject.key()).map_err(failed("read from"))?;
        Ok(found.as_deref().and_then(read_secret))
    }

    /// Reports that were kept and not forgotten.
    pub(crate) fn reports(&self) -> Result<Vec<Report>, JournalError> {
        let mut reports = Vec::new();
        for row in &self.reports {
            let (key, value) = row.map_err(failed("read from"))?;
            if let (Some((key, part)), Some((_, payload))) = (read_report_key(&key), value.split_first_chunk::<8>()) {
                reports.push(Report { key, part, payload: payload.to_vec() });
            }
        }
        Ok(reports)
    }

    /// The report was acknowledged. Not synced: to send an acknowledged report again is harmless.
    pub(crate) fn forget(&self, key: &str, part: u32) -> Result<(), JournalError> {
        self.reports.remove(report_key(key, part)).map_err(failed("write to"))?;
        Ok(())
    }

    /// Drops what can no longer be asked for.
    pub(crate) fn prune(&self) -> Result<(), JournalError> {
        let now = now_ms();
        for (tree, kept_ms) in
            [(&self.commitments, COMMITMENTS_KEPT_MS), (&self.traces, TRACES_KEPT_MS), (&self.reports, REPORTS_KEPT_MS)]
        {
            for row in tree {
                let (key, value) = row.map_err(failed("read from"))?;
                let written = value.first_chunk().map_or(0, |ms| u64::from_be_bytes(*ms));
                if now.saturating_sub(written) > kept_ms {
                    tree.remove(key).map_err(failed("write to"))?;
                }
            }
        }
        self.sync()
    }

    fn sync(&self) -> Result<(), JournalError> {
        self.db.flush().map_err(failed("write to"))?;
        self.log.sync_data().map_err(|source| failed("sync")(source.into()))
    }

    fn tree(&self, subject: &Subject) -> &sled::Tree {
        match subject {
            Subject::Unit(_) => &self.commitments,
            Subject::Segment { .. } => &self.traces,
        }
    }
}

fn read_secret(bytes: &[u8]) -> Option<Secret> {
    let (_, rest) = bytes.split_first_chunk::<8>()?;
    let (value, rest) = rest.split_first_chunk::<32>()?;
    Some(Secret { value: *value, salt: rest.try_into().ok()? })
}

fn report_key(key: &str, part: u32) -> Vec<u8> {
    let mut bytes = key.as_bytes().to_vec();
    bytes.extend_from_slice(&part.to_be_bytes());
    bytes
}

fn read_report_key(bytes: &[u8]) -> Option<(String, u32)> {
    let (key, part) = bytes.split_last_chunk::<4>()?;
    let key = std::str::from_utf8(key).ok().filter(|key| key.len() <= KEY_BYTES_MAX)?;
    Some((key.to_owned(), u32::from_be_bytes(*part)))
}

/// Whether an error is about what is on the disk. A folder in use or a full disk is no reason to begin anew.
fn is_damage(error: &sled::Error) -> bool {
    match error {
        sled::Error::Io(error) => matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof),
        sled::Error::Corruption { .. }
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_)
        | sled::Error::CollectionNotFound(_) => true,
    }
}

/// Renames the folder to a name that is free.
fn quarantine(folder: &Path) -> Result<PathBuf, IdentityError> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut aside = folder.with_file_name(format!("{name}.damaged-{}", now_ms()));
    for n in 1.. {
        if !aside.exists() {
            break;
        }
        aside = folder.with_file_name(format!("{name}.damaged-{}-{n}", now_ms()));
    }
    fs::rename(folder, &aside).map_err(IdentityError::io("put aside", folder))?;
    Ok(aside)
}

/// Wall clock, for the age of rows only.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn report(key: &str, part: u32) -> Report {
        Report { key: key.to_owned(), part, payload: vec![part as u8; 3] }
    }

    #[test]
    fn what_was_kept_is_there_after_a_crash() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("journal");
        let unit = Subject::Unit([7; 20]);
        let segment = Subject::Segment { job: [1; 20], round: 2, virtual_worker: 3 };
        let (one, two) = (Secret { value: [1; 32], salt: [2; 32] }, Secret { value: [3; 32], salt: [4; 32] });
        let journal = Journal::open(&folder).unwrap().0;
        journal.keep(Some((unit, one)), &report("drill/07/1", 0)).unwrap();
        journal.keep(Some((segment, two)), &report("train/01/2/9", 3)).unwrap();
        // A copy taken while the database is open is what a killed process leaves.
        let copy = temp.path().join("copy");
        fs::create_dir(&copy).unwrap();
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
            fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
        let found = Journal::open(&copy).unwrap().0;
        assert_eq!(found.secret(&unit).unwrap(), Some(one));
        assert_eq!(found.secret(&segment).unwrap(), Some(two));
        assert_eq!(found.reports().unwrap(), [report("drill/07/1", 0), report("train/01/2/9", 3)]);
        assert!(!temp.path().read_dir().unwrap().any(|e| e.unwrap().file_name().to_string_lossy().contains("damaged")));
        found.forget("drill/07/1", 0).unwrap();
        assert_eq!(found.reports().unwrap(), [report("train/01/2/9", 3)]);
        assert_eq!(found.secret(&Subject::Unit([8; 20])).unwrap(), None);
    }

    #[test]
    fn a_damaged_journal_is_put_aside() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("journal");
        drop(Journal::open(&folder).unwrap().0);
        fs::write(folder.join("conf"), "not sled's").unwrap();
        let journal = Journal::open(&folder).unwrap().0;
        assert_eq!(journal.reports().unwrap(), []);
        journal.keep(None, &report("a", 1)).unwrap();
        let aside = fs::read_dir(temp.path()).unwrap().map(Result::unwrap);
        assert_eq!(aside.filter(|e| e.file_name().to_string_lossy().starts_with("journal.damaged-")).count(), 1);
    }

    #[test]
    fn a_journal_in_use_is_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("journal");
        let _open = Journal::open(&folder).unwrap();
        assert!(Journal::open(&folder).is_err());
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
    }

    #[test]
    fn pruning_drops_only_the_old() {
        let temp = tempfile::tempdir().unwrap();
        let journal = Journal::open(&temp.path().join("journal")).unwrap().0;
        journal
            .keep(Some((Subject::Unit([1; 20]), Secret { value: [1; 32], salt: [2; 32] })), &report("a", 1))
            .unwrap();
        let mut old = (now_ms() - COMMITMENTS_KEPT_MS - 1000).to_be_bytes().to_vec();
        old.extend_from_slice(&[0; 64]);
        journal.commitments.insert([9; 20], old).unwrap();
        journal.prune().unwrap();
        assert_eq!(journal.commitments.len(), 1);
        assert_eq!(journal.reports().unwrap().len(), 1);
    }
}
