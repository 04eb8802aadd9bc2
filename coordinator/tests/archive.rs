//! The archive of three real coordinators: segments that are equal and attested, lost and damaged ones fetched from the others,
//! and the log audited from a live coordinator and from each folder.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Cluster, eventually, status, transfer};
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
async fn audit_live(address: &str, genesis: &[u8]) -> Verdict {
    let mut client = ClusterClient::connect(format!("http://{address}")).await.unwrap();
    let request = ExportLogRequest { from_index: 1, to_index: 0 };
    let mut stream = client.export_log(request).await.unwrap().into_inner();
    let mut entries = Vec::new();
    while let Some(entry) = stream.message().await.unwrap() {
        entries.push(Ok(Entry { index: entry.index, term: entry.term, data: entry.entry }));
    }
    run(Auditor::genesis(genesis).unwrap(), entries.into_iter(), |_| {}).unwrap()
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

    let verdict = cluster.runtime.block_on(audit_live(&cluster.members[0].grpc, &cluster.genesis));
    assert!(verdict.counts.segments >= 3 && verdict.counts.roots >= 3, "{verdict:?}");
    assert_eq!(verdict.money, 1_000);
    for member in &mut cluster.members {
        member.stop();
        let offline = audit_folder(member.folder.path(), &cluster.genesis);
        // The log on the disk may not know yet that its newest entries are committed; what was attested is.
        assert!(offline.index >= attested[0].index && offline.counts.segments >= 2, "{offline:?}");
    }
}
