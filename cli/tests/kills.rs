//! Kill -9 in the middle of a round: of the leader, of a worker, of everything. Nothing acknowledged is lost, nobody is
//! paid twice, and the model has the bits it would have had.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::Cluster;
use matrixai_proto::v1;
use serde_json::Value;

/// A round is open, some of its tasks are done and some are not.
fn mid_round(job: &v1::Job, rounds_done: u32) -> bool {
    let tasks = job.spec.as_ref().unwrap().virtual_workers;
    job.state == "training" && job.rounds_done >= rounds_done && job.tasks_done > 0 && job.tasks_done < tasks
}

fn assert_paid_once(job: &v1::Job) {
    let escrow = job.escrow.as_ref().unwrap();
    let units = |text: &str| text.parse::<u128>().unwrap();
    assert_eq!(units(&escrow.held), units(&escrow.paid) + units(&escrow.fees) + units(&escrow.refunded));
    let paid: u128 = job.shares.iter().map(|share| units(&share.paid)).sum();
    assert_eq!(paid, units(&escrow.paid));
    let spec = job.spec.as_ref().unwrap();
    let tasks: u64 = job.shares.iter().map(|share| share.tasks).sum();
    assert_eq!(
        tasks,
        u64::from(spec.rounds) * u64::from(spec.virtual_workers),
        "each task counts for one machine, once"
    );
}

fn assert_same_bits(cluster: &Cluster, job: &[u8]) {
    let verdict = cluster.run(&["job", "verify", &hex::encode(job)]);
    assert_eq!(verdict["equal"], true, "{verdict}");
}

/// All accounts. What is locked until a verdict is left out: it grows with every task, also with those that
/// are done meanwhile.
fn ledger(cluster: &Cluster) -> Value {
    let mut accounts = cluster.run(&["account", "list"])["accounts"].take();
    for account in accounts.as_array_mut().unwrap() {
        account.as_object_mut().unwrap().remove("locked").unwrap();
    }
    accounts
}

#[test]
fn the_leader_the_worker_and_then_all_are_killed() {
    let mut cluster = Cluster::found();
    cluster.add_workers(&["0.6", "0.4", "0.3"]);

    // The leader, in the middle of a round.
    let job = cluster.submit(6, 60, 3);
    let leader = cluster.leader();
    let before = cluster.follow(&job, "the second round is half done", |job| mid_round(job, 1));
    cluster.coordinators[leader].kill();
    assert_eq!(before.state, "training");
    let settled = cluster.follow(&job, "the job settles under a new leader", |job| job.state == "settled");
    assert_paid_once(&settled);
    assert_same_bits(&cluster, &job);
    cluster.assert_conserved();
    cluster.coordinators[leader].restart();

    // A worker, in the middle of a round: its virtual workers move.
    let job = cluster.submit(6, 60, 3);
    let before = cluster.follow(&job, "the third round is half done", |job| mid_round(job, 2));
    let lost = cluster.workers[2].text("machine");
    cluster.workers[2].kill();
    assert!(before.tasks_done < 28);
    let settled = cluster.follow(&job, "the job settles without the worker", |job| job.state == "settled");
    assert_paid_once(&settled);
    assert_same_bits(&cluster, &job);
    let share = settled.shares.iter().find(|share| hex::encode(&share.machine) == lost).unwrap();
    assert_eq!(share.tasks_per_round.last(), Some(&0), "the last round was done without the lost machine");
    cluster.workers[2].restart();

    // Everything, in the middle of a round.
    let job = cluster.submit(6, 60, 3);
    cluster.follow(&job, "the second round is half done", |job| mid_round(job, 1));
    let accounts = ledger(&cluster);
    for process in cluster.workers.iter_mut().chain(&mut cluster.coordinators) {
        process.kill();
    }
    for process in cluster.coordinators.iter_mut().chain(&mut cluster.workers) {
        process.restart();
    }
    assert_eq!(ledger(&cluster), accounts, "the ledger is what it was");
    let settled = cluster.follow(&job, "the job goes on and settles", |job| job.state == "settled");
    assert_paid_once(&settled);
    assert_same_bits(&cluster, &job);
    cluster.assert_conserved();
}
