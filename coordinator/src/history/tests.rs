//! Statements over restarts, replays, damage and gaps.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::files::full::Full;
use matrixai_state::{effect::Cause, money::Money};

const CLUSTER: Hash = [7; 32];
const ALICE: AccountId = AccountId([1; 20]);
const BOB: AccountId = AccountId([2; 20]);

fn movement(sequence: u64, account: AccountId) -> Movement {
    Movement {
        sequence,
        account,
        counterparty: Some(BOB),
        cause: Cause::Transfer,
        balance_change: -5,
        held_change: i128::MIN,
        balance: Money::minor(u128::from(sequence)).unwrap(),
        held: Money::MAX,
        reference: None,
        memo: Some("rent ☂".into()),
    }
}

fn started(path: &Path, cluster: &Hash, metrics: &Arc<Metrics>) -> History {
    let history = History::new(path, metrics.clone());
    history.start(cluster, 0, 0).unwrap();
    history
}

/// Ends an index as the end of its process would: returns when sled has let go of the folder.
fn ended(history: History, path: &Path, cluster: &Hash) {
    drop(history);
    while open(path, &(Arc::new(OsFiles) as Arc<dyn Files>), cluster).is_err() {
        thread::yield_now();
    }
}

#[tokio::test]
async fn what_a_snapshot_stands_for_is_a_gap_that_statements_tell_of() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history");
    let history = started(&path, &CLUSTER, &Arc::default());
    history.record(1, 5, vec![movement(1, ALICE)]);
    history.skip_to(1, 1);
    assert_eq!(history.statement(ALICE, 0, 10, 1).await.unwrap().complete_from, 0, "nothing was missed");
    history.skip_to(9, 4);
    let statement = history.statement(ALICE, 0, 10, 9).await.unwrap();
    assert_eq!((statement.records.len(), statement.complete_from), (1, 10));
    history.record(10, 6, vec![movement(5, ALICE)]);
    assert_eq!(sequences(&history, ALICE, 0, 10).await, [5, 1]);
    ended(history, &path, &CLUSTER);

    let history = History::new(&path, Arc::default());
    history.start(&CLUSTER, 9, 4).unwrap();
    history.record(10, 6, vec![movement(5, ALICE)]);
    let statement = history.statement(ALICE, 0, 10, 10).await.unwrap();
    assert_eq!((statement.records.len(), statement.complete_from), (2, 10), "it remembers, and nothing is doubled");
}

async fn records(history: &History, account: AccountId, before: u64, limit: usize, index: u64) -> Vec<Record> {
    history.statement(account, before, limit, index).await.unwrap().records
}

async fn sequences(history: &History, account: AccountId, before: u64, index: u64) -> Vec<u64> {
    let records = records(history, account, before, 2, index).await;
    records.iter().map(|record| record.sequence).collect()
}

#[tokio::test]
async fn newest_first_in_pages_of_one_account() {
    let folder = tempfile::tempdir().unwrap();
    let history = started(&folder.path().join("history"), &CLUSTER, &Arc::default());
    history.record(1, 11, vec![movement(1, ALICE), movement(2, BOB), movement(3, ALICE)]);
    history.record(2, 12, Vec::new());
    history.record(3, 13, vec![movement(4, ALICE)]);
    assert_eq!(sequences(&history, ALICE, 0, 3).await, [4, 3]);
    assert_eq!(sequences(&history, ALICE, 3, 3).await, [1]);
    assert_eq!(sequences(&history, BOB, 0, 3).await, [2]);
    assert_eq!(records(&history, ALICE, 0, 1, 3).await, [record(3, 13, movement(4, ALICE))]);
}

#[tokio::test]
async fn entries_delivered_again_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Arc::default();
    let history = started(&folder.path().join("history"), &CLUSTER, &metrics);
    history.record(1, 11, vec![movement(1, ALICE)]);
    history.record(2, 12, vec![movement(2, ALICE)]);
    assert_eq!(sequences(&history, ALICE, 0, 2).await, [2, 1]);
    // The same entries again, one of them with other contents that must not win.
    history.record(1, 99, vec![Movement { balance: Money::MAX, ..movement(1, ALICE) }]);
    history.record(2, 12, vec![movement(2, ALICE)]);
    history.record(3, 13, vec![movement(3, ALICE)]);
    let all = records(&history, ALICE, 0, 10, 3).await;
    let wanted = [(3, 13), (2, 12), (1, 11)].map(|(n, now)| record(n, now, movement(n, ALICE)));
    assert_eq!(all, wanted);
    assert_eq!(metrics.history_rebuilds.get(), 0);
}

/// An index that holds one movement of Alice's, closed.
async fn with_a_movement(path: &Path, metrics: &Arc<Metrics>) {
    let history = started(path, &CLUSTER, metrics);
    history.record(1, 11, vec![movement(1, ALICE)]);
    assert_eq!(sequences(&history, ALICE, 0, 1).await, [1]);
    ended(history, path, &CLUSTER);
}

#[tokio::test]
async fn a_restart_skips_what_the_replay_brings_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history");
    let metrics = Arc::default();
    with_a_movement(&path, &metrics).await;
    let history = started(&path, &CLUSTER, &metrics);
    history.record(1, 99, vec![movement(1, ALICE)]);
    assert_eq!(records(&history, ALICE, 0, 10, 1).await, [record(1, 11, movement(1, ALICE))]);
    assert_eq!(metrics.history_rebuilds.get(), 0);
}

#[tokio::test]
async fn damage_is_quarantined_and_rebuilt() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history");
    fs::create_dir_all(path.join("index")).unwrap();
    fs::write(path.join("index/conf"), b"this is no sled").unwrap();
    let metrics = Arc::default();
    let history = started(&path, &CLUSTER, &metrics);
    assert_eq!(metrics.history_rebuilds.get(), 1);
    assert!(path.with_extension("quarantine").join("index/conf").exists());
    history.record(1, 11, vec![movement(1, ALICE)]);
    assert_eq!(sequences(&history, ALICE, 0, 1).await, [1]);
}

#[tokio::test]
async fn an_attempt_that_never_came_back_is_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history");
    fs::create_dir(&path).unwrap();
    fs::write(path.with_extension("opening"), b"").unwrap();
    let metrics = Arc::default();
    let history = started(&path, &CLUSTER, &metrics);
    assert_eq!(metrics.history_rebuilds.get(), 1);
    assert!(!path.with_extension("opening").exists());
    assert!(sequences(&history, ALICE, 0, 0).await.is_empty());
}

#[tokio::test]
async fn another_clusters_index_is_never_answered_from() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history");
    let metrics = Arc::default();
    with_a_movement(&path, &metrics).await;
    let other = started(&path, &[8; 32], &metrics);
    assert_eq!(metrics.history_rebuilds.get(), 1);
    assert!(sequences(&other, ALICE, 0, 0).await.is_empty());
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let place = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &place);
        } else {
            fs::copy(entry.path(), place).unwrap();
        }
    }
}

/// What a kill leaves is what the files hold at that moment.
#[test]
fn what_is_settled_survives_a_kill_at_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (path, killed) = (folder.path().join("history"), folder.path().join("killed"));
    let history = started(&path, &CLUSTER, &Arc::default());
    history.record(1, 11, vec![movement(1, ALICE)]);
    history.settle(1, runtime.handle());
    copy(&path, &killed);

    let history = History::new(&killed, Arc::default());
    history.start(&CLUSTER, 1, 1).unwrap();
    let statement = runtime.block_on(history.statement(ALICE, 0, 10, 0)).unwrap();
    assert_eq!((statement.records.len(), statement.complete_from), (1, 0), "a start from a snapshot of entry 1");
}

#[tokio::test]
async fn a_full_disk_is_waited_for_and_what_it_left_out_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (room, metrics) = (Full::default(), Arc::<Metrics>::default());
    let files = Arc::new(room.clone());
    let history = History { files, ..History::new(&folder.path().join("history"), metrics.clone()) };
    history.start(&CLUSTER, 0, 0).unwrap();
    room.leave(0);
    history.record(1, 1, vec![movement(1, ALICE)]);
    while metrics.full_disks.all().is_empty() {
        tokio::task::yield_now().await;
    }
    // Apply is not held up, even by more than the queue holds.
    let (all, queued) = (QUEUE_ENTRIES as u64 + 5, QUEUE_ENTRIES as u64);
    for index in 2..=all {
        history.record(index, index, vec![movement(index, ALICE)]);
    }
    room.leave(i64::MAX);
    let statement = history.statement(ALICE, 0, 10, queued).await.unwrap();
    assert_eq!((statement.records[0].sequence, statement.complete_from), (queued, 0));
    assert!(metrics.full_disks.all().is_empty());
    history.record(all + 1, 1, vec![movement(all + 1, ALICE)]);
    let statement = history.statement(ALICE, 0, 10, all + 1).await.unwrap();
    assert_eq!((statement.records[0].sequence, statement.records[1].sequence), (all + 1, queued));
    assert_eq!(statement.complete_from, all + 1, "it says what is missing");
}
