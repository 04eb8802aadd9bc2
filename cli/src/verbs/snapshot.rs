//! Backups of the state: taken from a running cluster, looked at, begun again from.

use super::Desk;
use crate::{
    args::SnapshotVerb,
    client::ask,
    error::{CliError, Result},
    keys, output,
};
use matrixai_coordinator::backup::{self, Inspection};
use matrixai_proto::{envelope, v1};
use serde_json::json;
use std::{
    io,
    path::{Path, PathBuf},
};
use tokio::{fs::File, io::AsyncWriteExt as _, task::spawn_blocking};

pub(super) async fn run(desk: &Desk, verb: SnapshotVerb) -> Result<()> {
    match verb {
        SnapshotVerb::Save { file, force } => save(desk, &file, force).await,
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
async fn save(desk: &Desk, file: &Path, force: bool) -> Result<()> {
    let doing = |error| CliError::local(&format!("write {}", file.display()), error);
    // What must not be replaced is found before a snapshot is made.
    let backup = Backup::begin(file, force)?;
    let client = desk.client().await?;
    let mut pieces = ask!(client, cluster_client::ClusterClient.save_snapshot, v1::SaveSnapshotRequest {})?;
    let mut out = File::create(&backup.unfinished).await.map_err(doing)?;
    let broken = |status: tonic::Status| crate::client::refused(&status);
    while let Some(piece) = pieces.message().await.map_err(broken)? {
        out.write_all(&piece.data).await.map_err(doing)?;
    }
    out.sync_all().await.map_err(doing)?;
    let inspection = inspected(&backup.unfinished).await?;
    backup.publish()?;
    show(desk, &inspection, "saved:");
    Ok(())
}

/// A file on its way to its place. Dropped before that, it leaves nothing behind.
#[derive(Debug)]
struct Backup {
    unfinished: PathBuf,
    place: PathBuf,
    force: bool,
}

impl Backup {
    /// Makes an empty file beside the place, under a name that no other one has.
    fn begin(place: &Path, force: bool) -> Result<Self> {
        check_place(place, force)?;
        let name = place.file_name().ok_or_else(|| CliError::usage(format!("{} names no file", place.display())))?;
        let mark = envelope::random::<8>().map_err(|error| CliError::local("draw a random name", error))?;
        let unfinished = place.with_file_name(format!(".{}.{}.unfinished", name.to_string_lossy(), hex::encode(mark)));
        std::fs::File::create_new(&unfinished)
            .map_err(|error| CliError::local(&format!("write {}", unfinished.display()), error))?;
        Ok(Self { unfinished, place: place.to_owned(), force })
    }

    /// Gives the file its name, durably.
    fn publish(self) -> Result<()> {
        check_place(&self.place, self.force)?;
        let doing = |error| CliError::local(&format!("write {}", self.place.display()), error);
        std::fs::rename(&self.unfinished, &self.place).map_err(doing)?;
        let folder = self.place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(doing)
    }
}

impl Drop for Backup {
    fn drop(&mut self) {
        // It is gone once it has its name.
        let _ = std::fs::remove_file(&self.unfinished);
    }
}

/// Nothing is replaced but a file, and that only when told to: a rename would replace a device or a link as well.
fn check_place(place: &Path, force: bool) -> Result<()> {
    match std::fs::symlink_metadata(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(CliError::local(&format!("look at {}", place.display()), error)),
        Ok(there) if !there.is_file() => {
            Err(CliError::usage(format!("{} is there and no file: name a new one", place.display())))
        }
        Ok(_) if !force => {
            Err(CliError::usage(format!("{} exists already: name a new file, or say --force", place.display())))
        }
        Ok(_) => Ok(()),
    }
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_replaces_only_a_file_and_only_when_told_to() {
        let temp = tempfile::tempdir().unwrap();
        let names = || std::fs::read_dir(temp.path()).unwrap().count();
        let (x, y) = (temp.path().join("a.x"), temp.path().join("a.y"));
        let (one, two) = (Backup::begin(&x, false).unwrap(), Backup::begin(&y, false).unwrap());
        assert_ne!(one.unfinished, two.unfinished);
        one.publish().unwrap();
        drop(two);
        assert!(x.exists() && names() == 1, "one that was not finished leaves nothing");
        assert!(Backup::begin(&x, false).unwrap_err().message.contains("--force"));
        std::fs::write(&x, "old").unwrap();
        Backup::begin(&x, true).unwrap().publish().unwrap();
        assert_eq!(std::fs::read(&x).unwrap(), b"");
        // Made by somebody else meanwhile.
        let late = Backup::begin(&y, false).unwrap();
        std::fs::write(&y, "theirs").unwrap();
        assert!(late.publish().is_err());
        assert_eq!(std::fs::read(&y).unwrap(), b"theirs");
        let link = temp.path().join("link");
        std::os::unix::fs::symlink(&x, &link).unwrap();
        for place in [temp.path(), &link, Path::new("/dev/full")] {
            assert!(Backup::begin(place, true).unwrap_err().message.contains("no file"), "{place:?}");
        }
        assert_eq!(names(), 3);
    }
}
