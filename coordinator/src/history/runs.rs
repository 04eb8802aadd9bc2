//! Rows of statements in sled, as sorted runs. One row a key would write a random leaf of the tree for every row, which costs
//! more processor time than everything else that is done for a transfer. So what was applied together is sorted by account
//! and written as one *run* of blocks; a read looks into every run, newest first. Eight runs of one level are merged
//! into one of the next, up to a size at which merging would take too much memory; so there are few runs.
//!
//! Rows come in order of their sequence numbers. Runs therefore hold disjoint, ascending ranges of them, and merged ones,
//! which are neighbours, stay so.

use super::Record;
use matrixai_state::ids::AccountId;
use serde::{Deserialize, Serialize};

/// Runs of one level that are merged.
const MERGED: usize = 8;
/// Rows of a run above which it is not merged any more: some 50 MB of rows.
const RUN_ROWS_MAX: u64 = 1 << 18;
/// Bytes of rows in a block, at least; the last row may exceed it.
const BLOCK_BYTES: usize = 16 << 10;
/// First byte of a block's key, which tells it from the index's record of itself.
const BLOCK: u8 = b'b';

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

impl Runs {
    /// Adds rows, which come after all that are there, to a batch that is yet to be applied together with these runs.
    pub(super) fn add(
        &mut self,
        db: &sled::Db,
        mut rows: Vec<Record>,
        batch: &mut sled::Batch,
    ) -> Result<(), sled::Error> {
        if rows.is_empty() {
            return Ok(());
        }
        // A merge reads what is in the database, so the new rows go straight into the run that replaces the others.
        let mut level = 0;
        while let Some(from) = self.full(level, rows.len() as u64) {
            let mut merged = Vec::new();
            for run in self.runs.drain(from..) {
                for block in db.scan_prefix(prefix(run.id)) {
                    let (key, value) = block?;
                    merged.append(&mut decode(&value)?);
                    batch.remove(key);
                }
            }
            merged.append(&mut rows);
            rows = merged;
            level += 1;
        }
        rows.sort_unstable_by_key(|row| (row.account, row.sequence));
        let run = Run { id: self.next, level, rows: rows.len() as u64 };
        for block in blocks(&rows)? {
            batch.insert(block.key(run.id).as_slice(), block.bytes);
        }
        self.next += 1;
        self.runs.push(run);
        Ok(())
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
        db: &sled::Db,
        account: AccountId,
        before: u64,
        limit: usize,
    ) -> Result<Vec<Record>, sled::Error> {
        let mut found = Vec::new();
        for run in self.runs.iter().rev() {
            // From the last block that can hold such a row back to the one that begins before the account does.
            for block in db.range(key(run.id, AccountId([0; 20]), 0)..key(run.id, account, before)).rev() {
                let (block_key, value) = block?;
                let rows = decode(&value)?;
                let wanted = rows.into_iter().rev().filter(|row| row.account == account && row.sequence < before);
                found.extend(wanted);
                if found.len() >= limit || block_key.as_ref() < key(run.id, account, 0).as_slice() {
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

/// Rows in their order, encoded together.
struct Block {
    account: AccountId,
    sequence: u64,
    bytes: Vec<u8>,
}

impl Block {
    fn key(&self, run: u64) -> [u8; 37] {
        key(run, self.account, self.sequence)
    }
}

fn blocks(rows: &[Record]) -> Result<Vec<Block>, sled::Error> {
    let mut blocks: Vec<Block> = Vec::new();
    for row in rows {
        match blocks.last_mut() {
            Some(block) if block.bytes.len() < BLOCK_BYTES => append(row, &mut block.bytes)?,
            Some(_) | None => {
                let mut bytes = Vec::with_capacity(BLOCK_BYTES + 512);
                append(row, &mut bytes)?;
                blocks.push(Block { account: row.account, sequence: row.sequence, bytes });
            }
        }
    }
    Ok(blocks)
}

fn append(row: &Record, bytes: &mut Vec<u8>) -> Result<(), sled::Error> {
    let unsupported = |error: postcard::Error| sled::Error::Unsupported(error.to_string());
    *bytes = postcard::to_extend(row, std::mem::take(bytes)).map_err(unsupported)?;
    Ok(())
}

fn decode(mut bytes: &[u8]) -> Result<Vec<Record>, sled::Error> {
    let mut rows = Vec::new();
    while !bytes.is_empty() {
        let unsupported = |error: postcard::Error| sled::Error::Unsupported(error.to_string());
        let (row, rest) = postcard::take_from_bytes(bytes).map_err(unsupported)?;
        rows.push(row);
        bytes = rest;
    }
    Ok(rows)
}

fn prefix(run: u64) -> [u8; 9] {
    let mut prefix = [BLOCK; 9];
    prefix[1..].copy_from_slice(&run.to_be_bytes());
    prefix
}

/// Run, then account, then sequence, so that blocks are in the order of their rows.
fn key(run: u64, account: AccountId, sequence: u64) -> [u8; 37] {
    let mut key = [0; 37];
    key[..9].copy_from_slice(&prefix(run));
    key[9..29].copy_from_slice(&account.0);
    key[29..].copy_from_slice(&sequence.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn row(sequence: u64, account: u8) -> Record {
        Record {
            sequence,
            index: sequence,
            now_ms: 0,
            account: AccountId([account; 20]),
            counterparty: None,
            cause: "transfer".to_owned(),
            balance_change: -1,
            held_change: 0,
            balance: 5,
            held: 0,
            job: None,
            hold: None,
            memo: "m".repeat(usize::from(account)),
        }
    }

    #[test]
    fn whatever_was_merged_a_read_finds_what_a_plain_list_has() {
        let folder = tempfile::tempdir().unwrap();
        let db = sled::open(folder.path()).unwrap();
        let (mut runs, mut all, mut sequence, mut most) = (Runs::default(), Vec::new(), 0, 0);
        for round in 0_u64..200 {
            let rows: Vec<Record> = (0..=(round * 7 % 40))
                .map(|place| {
                    sequence += 1;
                    row(sequence, u8::try_from((round + place * place) % 11).unwrap())
                })
                .collect();
            all.extend(rows.clone());
            let mut batch = sled::Batch::default();
            runs.add(&db, rows, &mut batch).unwrap();
            db.apply_batch(batch).unwrap();
            most = most.max(runs.runs.len());
        }
        assert!(most <= 3 * MERGED, "{most} runs");
        for account in 0..12 {
            for (before, limit) in [(u64::MAX, 1_000_000), (u64::MAX, 3), (sequence / 2, 7), (1, 5), (0, 5)] {
                let id = AccountId([account; 20]);
                let of = all.iter().rev().filter(|row| row.account == id && row.sequence < before);
                let wanted: Vec<Record> = of.take(limit).cloned().collect();
                assert_eq!(runs.read(&db, id, before, limit).unwrap(), wanted, "{account} {before} {limit}");
            }
        }
        let rows: u64 = runs.runs.iter().map(|run| run.rows).sum();
        assert_eq!(rows, all.len() as u64);
    }
}
