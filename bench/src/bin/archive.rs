//! What the archive costs and how fast an audit is: signed transfers in a log, sealed into segments on a disk, then audited
//! from genesis.
//!
//! `cargo run --release -p matrixai-bench --bin archive -- [--commands N] [--batch B] [--entry E] [--accounts A]`: N transfers
//! (200,000), B to an envelope and a signature (1), E envelopes to a log entry (64), between A accounts (1,000). With one
//! command to an envelope the envelope has 256 bytes. Prints one JSON object on its last line; bytes are per million
//! commands, `deflate` is what the first MiB of the first segment would shrink to.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use flate2::{Compression, write::DeflateEncoder};
use matrixai_coordinator::{
    archive::{Archive, Entry, Head, Shelf},
    auditor::{Auditor, run, source},
    files::OsFiles,
};
use matrixai_proto::{
    envelope::{COMMANDS, Signer},
    v1::{self, LogEntry, command::Kind},
};
use matrixai_state::ids::{AccountId, cluster_id};
use prost::Message as _;
use std::{error::Error, io::Write as _, path::Path, sync::Arc, time::Instant};

const START_MS: u64 = 1_900_000_000_000;
/// Entries of a segment: an epoch of some seconds.
const SEGMENT_ENTRIES: u64 = 1_000;
/// Bytes of an envelope with one transfer.
const UNARY_BYTES: usize = 256;

struct Options {
    commands: u64,
    batch: u64,
    entry: u64,
    accounts: u32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = options()?;
    let genesis = genesis()?;
    let cluster = cluster_id(&genesis);
    let folder = tempfile::tempdir()?;
    let mut writer = Writer::new(folder.path(), cluster)?;
    let signers = (0..options.accounts).map(signer).collect::<Result<Vec<_>, _>>()?;
    for few in signers.chunks(256) {
        writer.commit(few.iter().map(|signer| opening(signer, cluster)).collect())?;
    }
    writer.close()?;
    let (_, before) = writer.archive.shelf().size();
    (writer.log_bytes, writer.seal_s) = (0, 0.0);
    let (mut made, mut envelopes) = (0, Vec::new());
    let mut unary_bytes = 0;
    while made < options.commands {
        let count = options.batch.min(options.commands - made);
        let envelope = transfers(&signers, cluster, made, count);
        unary_bytes = envelope.len();
        envelopes.push(envelope);
        made += count;
        if envelopes.len() as u64 == options.entry {
            writer.commit(std::mem::take(&mut envelopes))?;
        }
    }
    writer.commit(envelopes)?;
    writer.close()?;
    let (segments, bytes) = writer.archive.shelf().size();
    let per_million = |bytes: u64| bytes as f64 * 1e6 / made as f64;
    let (log_bytes, archive_bytes) = (writer.log_bytes, bytes - before);
    let seal_s = writer.seal_s;

    let started = Instant::now();
    let (shelf, broken) = Shelf::inspect(Arc::new(OsFiles), folder.path(), cluster)?;
    let deflated = deflated(&shelf)?;
    let auditor = Auditor::genesis(&genesis)?;
    let verdict = run(auditor, source::segments(&shelf, Head::genesis(cluster), broken), |progress| {
        eprintln!("entry {}: {} commands audited", progress.index, progress.counts.commands);
    })?;
    let audit_s = started.elapsed().as_secs_f64();
    println!(
        "{}",
        serde_json::json!({
            "commands": made, "batch": options.batch, "envelopes_per_entry": options.entry, "envelope_bytes": unary_bytes,
            "log_bytes_per_million": per_million(log_bytes), "archive_bytes_per_million": per_million(archive_bytes),
            "segments": segments, "deflate": deflated, "append_us_per_command": seal_s * 1e6 / made as f64,
            "audit_s": audit_s, "audited_commands_per_s": verdict.counts.commands as f64 / audit_s,
            "audited_signatures_per_s": verdict.counts.envelopes as f64 / audit_s,
            "cores": std::thread::available_parallelism()?.get(),
        })
    );
    Ok(())
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut options = Options { commands: 200_000, batch: 1, entry: 64, accounts: 1_000 };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--commands" => options.commands = value.parse()?,
            "--batch" => options.batch = value.parse()?,
            "--entry" => options.entry = value.parse()?,
            "--accounts" => options.accounts = value.parse()?,
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    Ok(options)
}

/// The log's writer, and its archive.
struct Writer {
    archive: Archive,
    index: u64,
    epoch: u64,
    log_bytes: u64,
    seal_s: f64,
}

impl Writer {
    fn new(folder: &Path, cluster: [u8; 32]) -> Result<Self, Box<dyn Error>> {
        let archive = Archive::open(Arc::new(OsFiles), folder, cluster)?;
        Ok(Self { archive, index: 0, epoch: 1, log_bytes: 0, seal_s: 0.0 })
    }

    fn commit(&mut self, envelopes: Vec<Vec<u8>>) -> Result<(), Box<dyn Error>> {
        self.index += 1;
        let now_ms = START_MS + self.index;
        let data = LogEntry { now_ms, rules_version: 1, envelopes }.encode_to_vec();
        self.log_bytes += data.len() as u64;
        if self.index.is_multiple_of(SEGMENT_ENTRIES) {
            self.archive.closed(self.epoch, self.index);
            self.epoch += 1;
        }
        let started = Instant::now();
        self.archive.append(&Entry { index: self.index, term: 1, data })?;
        self.seal_s += started.elapsed().as_secs_f64();
        Ok(())
    }

    /// Seals what is open with a leader's empty entry.
    fn close(&mut self) -> Result<(), Box<dyn Error>> {
        self.index += 1;
        self.archive.closed(self.epoch, self.index);
        self.epoch += 1;
        self.archive.append(&Entry { index: self.index, term: 1, data: Vec::new() })?;
        Ok(())
    }
}

fn signer(number: u32) -> Result<Signer, Box<dyn Error>> {
    let mut seed = [1; 32];
    seed[..4].copy_from_slice(&number.to_le_bytes());
    Ok(Signer::from_seed(seed)?)
}

fn genesis() -> Result<Vec<u8>, Box<dyn Error>> {
    let node = v1::GenesisNode {
        id: 1,
        key: signer(u32::MAX)?.public_key().to_vec(),
        grpc: "127.0.0.1:7600".to_owned(),
        web: "127.0.0.1:7601".to_owned(),
    };
    let genesis = v1::Genesis {
        format: 1,
        network: "bench".to_owned(),
        test_network: true,
        nodes: vec![node],
        faucet_daily: "1000000000".to_owned(),
        faucet_total: "1000000000000000".to_owned(),
        beat_ms: 1_000,
        r0: vec![7; 32],
        machine_timeout_ms: 3_000,
        epoch_beats: 8,
        created_ms: START_MS,
        ..v1::Genesis::default()
    };
    Ok(genesis.encode_to_vec())
}

fn opening(signer: &Signer, cluster: [u8; 32]) -> Vec<u8> {
    let draw = v1::FaucetDraw { amount: "1000000000".to_owned() };
    let kinds = vec![Kind::CreateAccount(v1::CreateAccount::default()), Kind::FaucetDraw(draw)];
    seal(signer, cluster, u64::MAX, kinds)
}

/// An envelope of `count` transfers, the `made`th of the log and those after it.
fn transfers(signers: &[Signer], cluster: [u8; 32], made: u64, count: u64) -> Vec<u8> {
    let number = usize::try_from(made / count.max(1)).unwrap_or(0);
    let from = &signers[number % signers.len()];
    let to = AccountId::of_key(&cluster, &signers[(number * 7 + 1) % signers.len()].public_key()).0.to_vec();
    let transfer = |memo: usize| {
        Kind::Transfer(v1::Transfer { to: to.clone(), amount: "1".to_owned(), memo: "m".repeat(memo), open: false })
    };
    let one = seal(from, cluster, made, vec![transfer(1)]).len();
    let memo = 1 + UNARY_BYTES.saturating_sub(one);
    seal(from, cluster, made, (0..count).map(|_| transfer(if count == 1 { memo } else { 1 })).collect())
}

fn seal(signer: &Signer, cluster: [u8; 32], number: u64, kinds: Vec<Kind>) -> Vec<u8> {
    let commands = kinds.into_iter().map(|kind| v1::Command { kind: Some(kind) }).collect();
    let payload = v1::Batch { commands, linked: false }.encode_to_vec();
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_le_bytes());
    signer.seal(cluster, COMMANDS, id, START_MS + 500_000, payload).encode_to_vec()
}

/// What is left of the first segment's first MiB under deflate at its default level, as a part of it.
fn deflated(shelf: &Shelf) -> Result<f64, Box<dyn Error>> {
    let Some((first, _)) = shelf.ends() else { return Ok(1.0) };
    let Some(piece) = shelf.bytes(&first).next() else { return Ok(1.0) };
    let piece = piece?;
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&piece)?;
    Ok(encoder.finish()?.len() as f64 / piece.len() as f64)
}
