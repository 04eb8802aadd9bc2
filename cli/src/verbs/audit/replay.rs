//! `audit --from`: the whole log replayed on this machine with the coordinators' own pure state machine, every signature and
//! every coin checked. The log comes from a live cluster, from the folder of a stopped coordinator, or from sealed segments
//! alone; none of them is believed.

// As in the auditor itself: an error is made once, and ends the audit.
#![allow(clippy::result_large_err)]

use super::live;
use crate::{
    args::ReplayArgs,
    client::{Client, ask},
    error::{CliError, Result},
    output::{self, Format},
    verbs::Desk,
};
use matrixai_coordinator::{
    archive::{Entry, Head, Shelf},
    auditor::{AuditError, Auditor, Difference, Progress, Verdict, offline, run, source},
    files::OsFiles,
};
use matrixai_proto::v1;
use serde_json::{Value, json};
use std::{
    fs,
    path::Path,
    sync::{Arc, mpsc},
};

pub(crate) async fn replay(desk: &Desk, args: ReplayArgs) -> Result<()> {
    let from = args.from.clone().unwrap_or_default();
    let format = desk.format;
    let client = match (&args.data, &args.segments) {
        (None, None) => Some(desk.client().await?),
        _ => None,
    };
    let genesis = genesis(client.as_ref(), &args).await?;
    let mut auditor = begin(&from, &genesis)?;
    let entries = match client {
        Some(client) => {
            for place in live::places(&client).await {
                auditor = auditor.from_place(place);
            }
            Some(live::entries(client, auditor.next_index()))
        }
        None => None,
    };
    let audited = tokio::task::spawn_blocking(move || audit(auditor, entries, &args));
    let verdict = audited.await.map_err(|error| CliError::local("finish the audit", error))?;
    tell(format, &from, verdict)
}

/// The genesis: of the folder, of the named file, or of the cluster that answers.
async fn genesis(client: Option<&Client>, args: &ReplayArgs) -> Result<Vec<u8>> {
    let path = match (&args.genesis, &args.data, client) {
        (Some(path), _, _) => path.clone(),
        (None, Some(data), _) => data.join("genesis"),
        (None, None, Some(client)) => {
            return Ok(ask!(client, cluster_client::ClusterClient.get_genesis, v1::GetGenesisRequest {})?.genesis);
        }
        (None, None, None) => {
            return Err(CliError::usage("segments alone do not say whose they are: name --genesis FILE"));
        }
    };
    fs::read(&path).map_err(|error| CliError::local(&format!("read {}", path.display()), error))
}

fn begin(from: &str, genesis: &[u8]) -> Result<Auditor> {
    matrixai_coordinator::salt_tables().map_err(|error| CliError::local("begin the audit", error))?;
    if from == "genesis" {
        return Auditor::genesis(genesis).map_err(|error| CliError::usage(error.to_string()));
    }
    if let Some(epoch) = epoch(from) {
        let auditor = Auditor::genesis(genesis).map_err(|error| CliError::usage(error.to_string()))?;
        return match epoch {
            0 => Err(CliError::usage("--from 0: the first epoch is 1; `genesis` says the same")),
            epoch => Ok(auditor.counting_from(epoch)),
        };
    }
    let state = offline::snapshot(Path::new(from)).map_err(|error| CliError::usage(format!("{from}: {error}")))?;
    if state.founding().bytes != genesis {
        return Err(CliError::refused(format!("{from} is a snapshot of another cluster than the log's")));
    }
    Ok(Auditor::snapshot(state))
}

/// The epoch that a beginning names; none where it is genesis or a file.
fn epoch(from: &str) -> Option<u64> {
    from.parse().ok().filter(|_| !Path::new(from).exists())
}

fn audit(
    auditor: Auditor,
    entries: Option<mpsc::Receiver<std::result::Result<Entry, AuditError>>>,
    args: &ReplayArgs,
) -> std::result::Result<(Verdict, Progress), AuditError> {
    let mut last = None;
    let report = |progress: &Progress| {
        last = Some(*progress);
        output::note(&rate(progress));
    };
    let cluster_id = *auditor.state().cluster_id();
    let verdict = match (entries, &args.segments, &args.data) {
        (Some(entries), _, _) => run(auditor, entries.into_iter(), report),
        (None, Some(segments), _) => {
            let (shelf, broken) = shelf(segments, cluster_id)?;
            let auditor = placed(auditor, &shelf, None);
            let behind = known(auditor.behind(), &shelf);
            run(auditor, source::segments(&shelf, behind, broken), report)
        }
        (None, None, Some(data)) => {
            let (shelf, broken) = shelf(&data.join("segments"), cluster_id)?;
            let auditor = placed(auditor, &shelf, offline::restored(data)?);
            let behind = known(auditor.behind(), &shelf);
            let sealed = source::segments(&shelf, behind, broken);
            run(auditor, offline::with_the_rest(sealed, behind.index, &data.join("raft"))?, report)
        }
        (None, None, None) => Err(AuditError::Source("there is no log to audit".to_owned())),
    }?;
    let progress = last.ok_or_else(|| AuditError::Source("the audit reported nothing".to_owned()))?;
    Ok((verdict, progress))
}

fn shelf(
    dir: &Path,
    cluster_id: [u8; 32],
) -> std::result::Result<(Shelf, Option<matrixai_coordinator::archive::ReadError>), AuditError> {
    Shelf::inspect(Arc::new(OsFiles), dir, cluster_id).map_err(|error| AuditError::Source(error.to_string()))
}

/// The auditor, behind the place at which the log of a restored cluster begins.
fn placed(auditor: Auditor, shelf: &Shelf, restored: Option<Head>) -> Auditor {
    let oldest = shelf.ends().map(|(oldest, _)| oldest.before);
    oldest.into_iter().chain(restored).fold(auditor, Auditor::from_place)
}

/// The place to begin behind; where a snapshot does not know its hash, the segment's word is taken until a majority's is
/// found in the log.
fn known((head, known): (Head, bool), shelf: &Shelf) -> Head {
    let said = shelf.get(head.epoch + 1).map(|segment| segment.before).filter(|said| said.index == head.index);
    if known { head } else { said.unwrap_or(head) }
}

fn rate(progress: &Progress) -> String {
    let per_s = |count: u64| count as f64 / progress.elapsed.as_secs_f64().max(1e-3);
    format!(
        "entry {}: {} envelopes, {} commands checked; {:.0} entries/s, {:.0} signatures/s",
        progress.index,
        progress.counts.envelopes,
        progress.counts.commands,
        per_s(progress.counts.entries),
        per_s(progress.counts.envelopes)
    )
}

fn tell(format: Format, from: &str, audited: std::result::Result<(Verdict, Progress), AuditError>) -> Result<()> {
    let (verdict, progress) = match audited {
        Ok(audited) => audited,
        Err(AuditError::Source(why)) => return Err(CliError::local("read the log", why)),
        Err(AuditError::Difference(difference)) => {
            output::show(format, &json!({ "from": from, "difference": difference_value(&difference) }), || {
                "the log is not what it must be".to_owned()
            });
            return Err(CliError::refused(difference.to_string()));
        }
    };
    let attested = verdict.attested.map_or((0, 0), |head| (head.epoch, head.index));
    if from != "genesis" && epoch(from).is_none() && attested.0 == 0 {
        return Err(CliError::refused(
            "no epoch that closed after the snapshot is attested by a majority: nothing vouches for the snapshot. One that has just \
             been saved is vouched for when the epoch that it lies in has closed and the nodes have signed it: wait one epoch \
             (`cluster status` shows the newest signed roots) and audit it again",
        ));
    }
    let begun = match epoch(from) {
        Some(epoch) => format!("genesis, counted from epoch {epoch} on"),
        None => from.to_owned(),
    };
    let counts = verdict.counts;
    let seconds = progress.elapsed.as_secs_f64();
    let value = json!({
        "from": from, "index": verdict.index, "root": hex::encode(verdict.root), "money": verdict.money.to_string(),
        "attested_epoch": attested.0, "attested_index": attested.1,
        "entries": counts.entries, "envelopes": counts.envelopes, "commands": counts.commands,
        "movements": counts.movements, "epochs": counts.epochs, "roots": counts.roots, "segments": counts.segments,
        "seconds": seconds, "signatures_per_s": counts.envelopes as f64 / seconds.max(1e-3), "difference": Value::Null,
    });
    output::show(format, &value, || {
        format!(
            "entries up to {} replayed from {begun}: {} envelopes with good signatures, {} commands, {} movements that add up\n\
             {} of {} epochs agree with the roots, {} with the log hashes that a majority signed, the last closed by entry {}\n\
             {} entries after it rest on this source's word and their senders' signatures\n\
             state root {}",
            verdict.index,
            counts.envelopes,
            counts.commands,
            counts.movements,
            counts.roots,
            counts.epochs,
            counts.segments,
            attested.1,
            verdict.index - attested.1,
            hex::encode(verdict.root)
        )
    });
    Ok(())
}

fn difference_value(difference: &Difference) -> Value {
    let envelope = difference.envelope.as_ref().map(
        |at| json!({ "position": at.position, "key": hex::encode(at.key), "command_id": hex::encode(at.command_id) }),
    );
    json!({
        "index": difference.index, "through": difference.through, "envelope": envelope,
        "what": difference.what.as_str(), "expected": difference.expected, "found": difference.found,
    })
}
