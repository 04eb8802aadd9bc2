//! How many bytes of artifacts this coordinator has taken from each account: the limit is the state's, the count is this
//! coordinator's own. A copy from another coordinator counts there, not here; an artifact that was here already costs
//! nobody anything.
//!
//! The count is kept in a file of lines, `account bytes`, which is summed up and written anew at the start. Lines are not
//! synced: after a crash of the whole machine an account may have a few more bytes than it should.

use matrixai_state::ids::AccountId;
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The counts. Share it as an `Arc`.
#[derive(Debug)]
pub(crate) struct Quota(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    file: File,
    /// Bytes of each account, those of uploads under way included.
    taken: BTreeMap<AccountId, u64>,
}

/// Bytes that are set aside for an upload; given back unless they are kept.
#[derive(Debug)]
pub(crate) struct Place {
    quota: Arc<Quota>,
    account: AccountId,
    bytes: u64,
}

impl Quota {
    /// Reads the counts of earlier starts.
    ///
    /// # Errors
    /// Those of the file system; a line that is none is left out, and with it the end of a line that a crash cut off.
    pub(crate) fn open(path: &Path) -> io::Result<Arc<Self>> {
        let mut taken = BTreeMap::new();
        match fs::read_to_string(path) {
            Ok(text) => text.lines().filter_map(line).for_each(|(account, bytes)| {
                let sum: &mut u64 = taken.entry(account).or_default();
                *sum = sum.saturating_add(bytes);
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        for (account, bytes) in &taken {
            writeln!(file, "{account} {bytes}")?;
        }
        file.sync_all()?;
        fs::rename(&new, path)?;
        let file = OpenOptions::new().append(true).open(path)?;
        Ok(Arc::new(Self(Mutex::new(Inner { file, taken }))))
    }

    /// Sets bytes aside for an upload of an account that may have `limit` in all (0: no limit).
    ///
    /// # Errors
    /// What the account has already, when it would be too much.
    pub(crate) fn reserve(self: &Arc<Self>, account: AccountId, bytes: u64, limit: u64) -> Result<Place, u64> {
        let mut inner = self.lock();
        let has = inner.taken.get(&account).copied().unwrap_or(0);
        let sum = has.saturating_add(bytes);
        if limit != 0 && sum > limit {
            return Err(has);
        }
        inner.taken.insert(account, sum);
        Ok(Place { quota: Arc::clone(self), account, bytes })
    }

    /// A sum is whole at any time, so a panic elsewhere spoils nothing.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The upload is stored: its bytes count for good.
    ///
    /// # Errors
    /// When the line could not be written; the bytes count until the next start all the same.
    pub(crate) fn keep(mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.bytes);
        writeln!(self.quota.lock().file, "{} {bytes}", self.account)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.bytes > 0
            && let Some(sum) = self.quota.lock().taken.get_mut(&self.account)
        {
            *sum = sum.saturating_sub(self.bytes);
        }
    }
}

fn line(text: &str) -> Option<(AccountId, u64)> {
    let (account, bytes) = text.split_once(' ')?;
    let mut id = [0; 20];
    hex::decode_to_slice(account, &mut id).ok()?;
    Some((AccountId(id), bytes.parse().ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_from_start_to_start_and_only_when_kept() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("taken");
        let (alice, bob) = (AccountId([1; 20]), AccountId([2; 20]));
        let quota = Quota::open(&path).unwrap();
        quota.reserve(alice, 60, 100).unwrap().keep().unwrap();
        drop(quota.reserve(alice, 40, 100).unwrap());
        let under_way = quota.reserve(alice, 30, 100).unwrap();
        assert_eq!(quota.reserve(alice, 11, 100).unwrap_err(), 90, "what is under way counts");
        under_way.keep().unwrap();
        quota.reserve(bob, 1 << 40, 0).unwrap().keep().unwrap();
        drop(quota);

        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        write!(file, "0101 not a whole line").unwrap();
        let quota = Quota::open(&path).unwrap();
        assert_eq!(quota.reserve(alice, 11, 100).unwrap_err(), 90);
        drop(quota.reserve(alice, 10, 100).unwrap());
        assert_eq!(quota.reserve(bob, 1, 1 << 40).unwrap_err(), 1 << 40);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2, "one line an account after a start");
    }
}
