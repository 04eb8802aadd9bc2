//! The archive of three real coordinators: segments that are equal and attested, lost and damaged ones fetched from the others,
//! and the log audited from a live coordinator and from each folder.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Cluster, eventually, restore_all, save, status, transfer};
use matrixai_coordinator::{
    archive::{Entry, Head, Shelf},
    auditor::{Auditor, Verdict, offline, run, source},
    files::OsFiles,
};
use matrixai_proto::v1::{ExportLogRequest, cluster_client::ClusterClient};
use std::{fs, path::Path, sync::Arc};

fn part(folder: &Path, epoch: u64) -> std::path::PathBuf {
    folder.join("segments").join(format!("{epoch:012}-0000.seg"))
}

/// Audits what a live coordinator exports.
async fn audited(address: &str, auditor: Auditor) -> Verdict {
    let mut client = ClusterClient::connect(format!("http://{address}")).await.unwrap();
    let request = ExportLogRequest { from_index: auditor.next_index(), to_index: 0 };
    let mut stream = client.export_log(request).await.unwrap().into_inner();
    let mut entries = Vec::new();
    while let Some(entry) = stream.message().await.unwrap() {
        entries.push(Ok(Entry { index: entry.index, term: entry.term, data: entry.entry }));
    }
    run(auditor, entries.into_iter(), |_| {}).unwrap()
}

/// Audits the folder of a stopped coordinator.
fn audit_folder(folder: &Path, genesis: &[u8]) -> Verdict {
    let auditor = Auditor::genesis(genesis).unwrap();
    let cluster_id = *auditor.state().cluster_id();
    let (shelf, broken) = Shelf::inspect(Arc::new(OsFiles), &folder.join("segments"), cluster_id).unwrap();
    let sealed = source::segments(&shelf, Head::genesis(cluster_id), broken);
    run(auditor, offline::with_the_rest(sealed, 0, &folder.join("raft")).unwrap(), |_| {}).unwrap()
}

#[test]
fn segments_are_attested_fetched_when_lost_and_audited_from_everywhere() {
    let mut cluster = Cluster::founded();
    let (alice, _) = cluster.account(1_000);
    let (_, bob) = cluster.account(0);
    for amount in 1..5 {
        cluster.done(&alice, vec![transfer(&bob, amount)]);
    }
    let grpc = cluster.members[0].grpc.clone();
    let attested = cluster.runtime.block_on(eventually("segments that all three attest", || async {
        let roots = status(&grpc).await.ok()?.roots;
        let whole = roots.len() == 3 && roots.iter().all(|root| root.segment.len() == 32);
        (whole && roots[0].epoch >= 3).then_some(roots)
    }));
    assert!(attested.iter().all(|said| said.segment == attested[0].segment), "{attested:?}");

    // One segment is lost, another damaged at its end: both come back from the others.
    cluster.members[0].stop();
    let folder = cluster.members[0].folder.path().to_owned();
    let whole = fs::read(part(&folder, 2)).unwrap();
    fs::remove_file(part(&folder, 1)).unwrap();
    fs::write(part(&folder, 2), &whole[..whole.len() - 1]).unwrap();
    cluster.members[0].start();
    cluster.runtime.block_on(eventually("the segments again", || async {
        (part(&folder, 1).exists() && fs::read(part(&folder, 2)).ok()? == whole).then_some(())
    }));

    // Damage inside, while it runs: found by reading, and healed.
    let whole = fs::read(part(&folder, 3)).unwrap();
    let mut rotten = whole.clone();
    rotten[whole.len() / 2] ^= 1;
    fs::write(part(&folder, 3), rotten).unwrap();
    cluster.runtime.block_on(eventually("the damaged segment again", || async {
        (fs::read(part(&folder, 3)).ok()? == whole).then_some(())
    }));
    assert!(part(&folder, 3).with_extension("seg.damaged").exists());

    let verdict =
        cluster.runtime.block_on(audited(&cluster.members[0].grpc, Auditor::genesis(&cluster.genesis).unwrap()));
    assert!(verdict.counts.segments >= 3 && verdict.counts.roots >= 3, "{verdict:?}");
    assert_eq!(verdict.money, 1_000);
    for member in &mut cluster.members {
        member.stop();
        let offline = audit_folder(member.folder.path(), &cluster.genesis);
        // The log on the disk may not know yet that its newest entries are committed; what was attested is.
        assert!(offline.index >= attested[0].index && offline.counts.segments >= 2, "{offline:?}");
    }
}

/// What a cluster that began again from a snapshot decides is sealed, attested, cut and audited like what any other does.
#[test]
fn a_restored_cluster_is_archived_and_audited_from_its_snapshot_on() {
    let mut cluster = Cluster::founded_with(1);
    let (alice, _) = cluster.account(1_000);
    let (_, bob) = cluster.account(0);
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    cluster.runtime.block_on(save(&cluster.members[0].grpc, &first));
    cluster.done(&alice, vec![transfer(&bob, 10)]);
    restore_all(&mut cluster, &first);
    cluster.leader();
    cluster.done(&alice, vec![transfer(&bob, 5)]);

    // So many epochs that a state has forgotten the one in which it began again.
    let begun = offline::snapshot(&first).unwrap();
    let forgotten = begun.epochs().next_back().map_or(0, |row| row.epoch) + 20;
    let grpc = cluster.members[0].grpc.clone();
    let archive = cluster.runtime.block_on(eventually("twenty sealed epochs", || async {
        status(&grpc).await.ok()?.archive.filter(|archive| archive.sealed_epoch >= forgotten)
    }));
    assert_eq!(archive.begins_index, begun.index());
    cluster.runtime.block_on(save(&grpc, &second));
    // The epoch that the second lies in is attested once the next two are sealed.
    let closed = offline::snapshot(&second).unwrap().epochs().next_back().unwrap().epoch;
    cluster.runtime.block_on(eventually("attested epochs behind the second snapshot", || async {
        status(&grpc).await.ok()?.archive.filter(|archive| archive.sealed_epoch >= closed + 3)
    }));

    let hash = archive.begins_hash.try_into().unwrap();
    let place = Head { epoch: archive.begins_epoch, index: archive.begins_index, hash };
    for (file, place) in [(&first, Some(place)), (&second, None)] {
        let auditor = Auditor::snapshot(offline::snapshot(file).unwrap());
        let auditor = place.into_iter().fold(auditor, Auditor::from_place);
        let verdict = cluster.runtime.block_on(audited(&grpc, auditor));
        assert!(verdict.attested.is_some() && verdict.money == 1_000, "{verdict:?}");
    }
    for member in &mut cluster.members {
        member.stop();
        let data = member.folder.path();
        let auditor = Auditor::snapshot(offline::snapshot(&first).unwrap());
        let auditor = auditor.from_place(offline::restored(data).unwrap().unwrap());
        let behind = auditor.behind().0;
        let (shelf, broken) = Shelf::inspect(Arc::new(OsFiles), &data.join("segments"), cluster.cluster_id).unwrap();
        let sealed = source::segments(&shelf, behind, broken);
        let entries = offline::with_the_rest(sealed, behind.index, &data.join("raft")).unwrap();
        let verdict = run(auditor, entries, |_| {}).unwrap();
        assert!(verdict.counts.segments >= 3, "{verdict:?}");
    }
}
