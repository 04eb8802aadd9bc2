//! Backups of the state: taken from a running cluster, looked at, begun again from.

use super::Desk;
use crate::{
    args::SnapshotVerb,
    client::ask,
    error::{CliError, Result},
    keys, output,
};
use matrixai_coordinator::backup::{self, Inspection};
use matrixai_proto::v1;
use serde_json::json;
use std::path::{Path, PathBuf};
use tokio::{
    fs::{self, File},
    io::AsyncWriteExt as _,
    task::spawn_blocking,
};

pub(super) async fn run(desk: &Desk, verb: SnapshotVerb) -> Result<()> {
    match verb {
        SnapshotVerb::Save { file } => save(desk, &file).await,
        SnapshotVerb::Inspect { file } => {
            show(desk, &inspected(&file).await?, "holds");
            Ok(())
        }
        SnapshotVerb::Restore { file, data, node_key, lose_later_entries } => {
            if !lose_later_entries {
                return Err(CliError::usage(
                    "to restore is to give up every entry after the snapshot, and is wrong while a majority of the members \
                     lives: bring them back, or add new nodes. If no majority lives, say --lose-later-entries",
                ));
            }
            restore(desk, file, data, &node_key).await
        }
    }
}

/// Beside its place, synced, checked whole, renamed: a backup that is there can be used.
async fn save(desk: &Desk, file: &Path) -> Result<()> {
    let doing = |error| CliError::local(&format!("write {}", file.display()), error);
    let client = desk.client().await?;
    let mut pieces = ask!(client, cluster_client::ClusterClient.save_snapshot, v1::SaveSnapshotRequest {})?;
    let unfinished = file.with_extension("unfinished");
    let mut out = File::create(&unfinished).await.map_err(doing)?;
    let broken = |status: tonic::Status| crate::client::refused(&status);
    while let Some(piece) = pieces.message().await.map_err(broken)? {
        out.write_all(&piece.data).await.map_err(doing)?;
    }
    out.sync_all().await.map_err(doing)?;
    let inspection = inspected(&unfinished).await?;
    fs::rename(&unfinished, file).await.map_err(doing)?;
    show(desk, &inspection, "saved:");
    Ok(())
}

async fn inspected(file: &Path) -> Result<Inspection> {
    let file = file.to_owned();
    let inspected = spawn_blocking(move || backup::inspect(&file)).await;
    let inspected = inspected.map_err(|error| CliError::local("read the snapshot", error))?;
    inspected.map_err(|error| CliError::local("use the snapshot", error))
}

async fn restore(desk: &Desk, file: PathBuf, data: PathBuf, node_key: &Path) -> Result<()> {
    let key = keys::read(node_key)?;
    let folder = data.display().to_string();
    let restored = spawn_blocking(move || backup::restore(&file, &data, &key)).await;
    let restored = restored.map_err(|error| CliError::local("restore", error))?;
    let node = restored.map_err(|error| CliError::local("restore", error))?;
    output::show(desk.format, &json!({ "node": node, "data": folder }), || {
        format!(
            "node {node} begins again in {folder}; start it as before, with the addresses that it had, once every member that \
             comes back is restored from the same snapshot"
        )
    });
    Ok(())
}

fn show(desk: &Desk, of: &Inspection, what: &str) {
    let value = json!({
        "cluster_id": hex::encode(of.cluster_id), "index": of.index, "term": of.term, "voters": of.voters,
        "now_ms": of.now_ms, "root": hex::encode(of.root), "accounts": of.accounts, "jobs": of.jobs,
        "machines": of.machines, "minted": of.minted, "burned": of.burned, "bytes": of.bytes,
    });
    output::show(desk.format, &value, || {
        format!(
            "{what} cluster {} after log entry {} (term {}, voters {:?})\nroot {}\n{} accounts, {} jobs, {} machines; \
             minted {}, burned {} minor units; {} bytes",
            hex::encode(of.cluster_id),
            of.index,
            of.term,
            of.voters,
            hex::encode(of.root),
            of.accounts,
            of.jobs,
            of.machines,
            of.minted,
            of.burned,
            of.bytes
        )
    });
}
