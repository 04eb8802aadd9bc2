//! Rows of statements, as sorted runs. A tree with one row a key would write a random leaf for every row, which costs
//! more processor time than everything else that is done for a transfer. So what was applied together is sorted by account
//! and written as one *run* of blocks; a read looks into every run, newest first. Eight runs of one level are merged
//! into one of the next, up to a size at which merging would take too much memory; so there are few runs.
//!
//! Rows come in order of their sequence numbers. Runs therefore hold disjoint, ascending ranges of them, and merged ones,
//! which are neighbours, stay so. A merge moves rows as they are: a row is its account (20 bytes), its sequence number
//! (8, big-endian), the length of the rest (4, little-endian) and the rest, which only a read looks into.

use super::{
    Record,
    store::{Row, Store, StoreError},
};
use matrixai_state::{Movement, effect::Reference, ids::AccountId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Runs of one level that are merged.
const MERGED: usize = 8;
/// Rows of a run above which it is not merged any more: some 65 MB of rows.
const RUN_ROWS_MAX: u64 = 3 << 17;
/// Rows whose memory is kept from one run to the next.
const KEPT_ROWS: usize = 1 << 16;
/// Bytes of a row before its rest.
const HEAD_BYTES: usize = 20 + 8 + 4;

/// What there is, in ascending order of sequence numbers; kept in the index's record of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Runs {
    next: u64,
    runs: Vec<Run>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    id: u64,
    level: u32,
    rows: u64,
}

/// Encoded rows.
#[derive(Debug, Default)]
pub(super) struct Rows {
    bytes: Vec<u8>,
    places: Vec<Place>,
}

/// Whose a row is, and where it lies.
#[derive(Debug, Clone, Copy)]
struct Place {
    account: AccountId,
    sequence: u64,
    start: usize,
    end: usize,
}

/// What of a row only its reader needs.
#[derive(Debug, Serialize, Deserialize)]
struct Rest<Text> {
    index: u64,
    now_ms: u64,
    counterparty: Option<AccountId>,
    cause: Text,
    balance_change: i128,
    held_change: i128,
    balance: u128,
    held: u128,
    reference: Option<Reference>,
    memo: Text,
}

impl Rows {
    /// Adds a movement of the log entry `index` at ledger time `now_ms`.
    pub(super) fn push(&mut self, index: u64, now_ms: u64, movement: &Movement) -> Result<(), StoreError> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&movement.account.0);
        self.bytes.extend_from_slice(&movement.sequence.to_be_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        let rest = Rest {
            index,
            now_ms,
            counterparty: movement.counterparty,
            cause: movement.cause.as_str(),
            balance_change: movement.balance_change,
            held_change: movement.held_change,
            balance: movement.balance.units(),
            held: movement.held.units(),
            reference: movement.reference,
            memo: movement.memo.as_deref().unwrap_or_default(),
        };
        self.bytes = postcard::to_extend(&rest, std::mem::take(&mut self.bytes)).map_err(malformed)?;
        let end = self.bytes.len();
        let length = u32::try_from(end - start - HEAD_BYTES).map_err(|error| StoreError::Format(error.to_string()))?;
        self.bytes[start + HEAD_BYTES - 4..start + HEAD_BYTES].copy_from_slice(&length.to_le_bytes());
        self.places.push(Place { account: movement.account, sequence: movement.sequence, start, end });
        Ok(())
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Adds the rows of a block as they are.
    fn append(&mut self, block: &[u8]) -> Result<(), StoreError> {
        let base = self.bytes.len();
        self.bytes.extend_from_slice(block);
        for row in rows_of(block) {
            let Place { account, sequence, start, end } = row?.0;
            self.places.push(Place { account, sequence, start: base + start, end: base + end });
        }
        Ok(())
    }

    /// The rows, sorted by account.
    fn sorted(&mut self) -> impl Iterator<Item = Row<'_>> {
        // Stable: it makes use of the order within the runs that were merged. Most comparisons end with the first eight bytes.
        let first = |place: &Place| u64::from_be_bytes(*place.account.0.first_chunk().unwrap_or(&[0; 8]));
        self.places.sort_by(|a, b| {
            let rest = || (a.account, a.sequence).cmp(&(b.account, b.sequence));
            first(a).cmp(&first(b)).then_with(rest)
        });
        let bytes = &self.bytes;
        self.places.iter().map(|place| Row {
            account: place.account,
            sequence: place.sequence,
            bytes: &bytes[place.start..place.end],
        })
    }

    /// Makes room for others; memory for as many as are gathered is kept, not that of a merge.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.places.clear();
        self.bytes.shrink_to(KEPT_ROWS * 256);
        self.places.shrink_to(KEPT_ROWS);
    }
}

impl Runs {
    /// Adds rows, which come after all that are there, with a batch that is yet to be applied together with these runs, and leaves
    /// none. Answers the runs whose files are to be removed once that is on the disk.
    pub(super) fn add(
        &mut self,
        store: &Store,
        rows: &mut Rows,
        batch: &mut sled::Batch,
    ) -> Result<Vec<u64>, StoreError> {
        if rows.len() == 0 {
            return Ok(Vec::new());
        }
        // The new rows go straight into the run that replaces the others.
        let (mut level, mut count) = (0, rows.len() as u64);
        let mut merged = Vec::new();
        while let Some(from) = self.full(level, count) {
            merged.splice(0..0, self.runs.drain(from..));
            count = rows.len() as u64 + merged.iter().map(|run: &Run| run.rows).sum::<u64>();
            level += 1;
        }
        // A disk that is full is found before anything is changed.
        let bytes = merged.iter().map(|run| store.rows_bytes(run.id)).sum::<Result<u64, _>>()?;
        store.room(bytes.saturating_add(rows.bytes.len() as u64))?;
        for run in &merged {
            rows.append(&store.rows(run.id)?)?;
            Store::forget(run.id, batch);
        }
        let run = Run { id: self.next, level, rows: rows.len() as u64 };
        store.create(run.id, rows.sorted(), batch)?;
        rows.clear();
        self.next += 1;
        self.runs.push(run);
        Ok(merged.iter().map(|run| run.id).collect())
    }

    /// Their numbers.
    pub(super) fn ids(&self) -> BTreeSet<u64> {
        self.runs.iter().map(|run| run.id).collect()
    }

    /// From which run on those of a level are to be merged with new rows.
    fn full(&self, level: u32, rows: u64) -> Option<usize> {
        let of_level = self.runs.iter().rev().take_while(|run| run.level == level).take(MERGED - 1);
        let (count, sum) = of_level.fold((0, rows), |(count, sum), run| (count + 1, sum + run.rows));
        if count == MERGED - 1 && sum <= RUN_ROWS_MAX { Some(self.runs.len() - count) } else { None }
    }

    /// At most `limit` rows of an account before a sequence number, newest first.
    pub(super) fn read(
        &self,
        store: &Store,
        account: AccountId,
        before: u64,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let mut found = Vec::new();
        for run in self.runs.iter().rev() {
            let blocks = store.blocks(run.id)?;
            // From the last block that can hold such a row back to the one that begins before the account does.
            let end = blocks.partition_point(|block| (block.account, block.sequence) < (account, before));
            for block in blocks[..end].iter().rev() {
                let rows = store.block(run.id, block)?;
                let mut wanted = Vec::new();
                for row in rows_of(&rows) {
                    let (place, rest) = row?;
                    if place.account == account && place.sequence < before {
                        wanted.push(record(place, rest)?);
                    }
                }
                found.extend(wanted.into_iter().rev());
                if found.len() >= limit || block.account < account {
                    break;
                }
            }
            if found.len() >= limit {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }
}

/// The rows of a block: where each is, and its rest.
fn rows_of(block: &[u8]) -> impl Iterator<Item = Result<(Place, &[u8]), StoreError>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        if start == block.len() {
            return None;
        }
        let row = row_at(block, start);
        start = row.as_ref().map_or(block.len(), |(place, _)| place.end);
        Some(row.ok_or_else(|| StoreError::Format("a block of statements ends within a row".to_owned())))
    })
}

fn row_at(block: &[u8], start: usize) -> Option<(Place, &[u8])> {
    let (account, after) = block.get(start..)?.split_first_chunk::<20>()?;
    let (sequence, after) = after.split_first_chunk::<8>()?;
    let (length, after) = after.split_first_chunk::<4>()?;
    let rest = after.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    let end = start + HEAD_BYTES + rest.len();
    Some((Place { account: AccountId(*account), sequence: u64::from_be_bytes(*sequence), start, end }, rest))
}

fn record(place: Place, rest: &[u8]) -> Result<Record, StoreError> {
    let rest: Rest<String> = postcard::from_bytes(rest).map_err(malformed)?;
    Ok(Record {
        sequence: place.sequence,
        index: rest.index,
        now_ms: rest.now_ms,
        account: place.account,
        counterparty: rest.counterparty,
        cause: rest.cause,
        balance_change: rest.balance_change,
        held_change: rest.held_change,
        balance: rest.balance,
        held: rest.held,
        reference: rest.reference,
        memo: rest.memo,
    })
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn malformed(error: postcard::Error) -> StoreError {
    StoreError::Format(error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::files::OsFiles;
    use matrixai_state::{effect::Cause, money::Money};
    use std::sync::Arc;

    fn movement(sequence: u64, account: u8) -> Movement {
        let memo = "m".repeat(usize::from(account));
        Movement {
            sequence,
            account: AccountId([account; 20]),
            counterparty: (account > 3).then_some(AccountId([9; 20])),
            cause: Cause::Transfer,
            balance_change: -1,
            held_change: 0,
            balance: Money::minor(u128::from(sequence)).unwrap(),
            held: Money::ZERO,
            reference: None,
            memo: (!memo.is_empty()).then(|| memo.as_str().into()),
        }
    }

    #[test]
    fn whatever_was_merged_a_read_finds_what_a_plain_list_has() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Arc::new(OsFiles)).unwrap();
        let (mut runs, mut all, mut sequence, mut most) = (Runs::default(), Vec::new(), 0, 0);
        for round in 0_u64..200 {
            let mut rows = Rows::default();
            for place in 0..=(round * 7 % 40) {
                sequence += 1;
                let movement = movement(sequence, u8::try_from((round + place * place) % 11).unwrap());
                rows.push(round, 7, &movement).unwrap();
                all.push(crate::history::record(round, 7, movement));
            }
            let mut batch = sled::Batch::default();
            let doomed = runs.add(&store, &mut rows, &mut batch).unwrap();
            store.apply(batch).unwrap();
            store.remove(&doomed).unwrap();
            most = most.max(runs.runs.len());
        }
        assert!(most <= 3 * MERGED, "{most} runs");
        for account in 0..12 {
            for (before, limit) in [(u64::MAX, 1_000_000), (u64::MAX, 3), (sequence / 2, 7), (1, 5), (0, 5)] {
                let id = AccountId([account; 20]);
                let of = all.iter().rev().filter(|row| row.account == id && row.sequence < before);
                let wanted: Vec<Record> = of.take(limit).cloned().collect();
                assert_eq!(runs.read(&store, id, before, limit).unwrap(), wanted, "{account} {before} {limit}");
            }
        }
        store.keep(&runs.ids()).unwrap();
        let rows: u64 = runs.runs.iter().map(|run| run.rows).sum();
        assert_eq!(rows, all.len() as u64);
    }
}
