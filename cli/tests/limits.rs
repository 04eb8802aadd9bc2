//! A worker's limit is changed in mid-run, and nobody is told: drilling notices, and its next shares follow.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::Cluster;

/// Shares may be off their machine's true part of the speed by this much.
const TOLERANCE: f64 = 0.25;

#[test]
fn shares_follow_a_machine_that_becomes_slower() {
    let mut cluster = Cluster::found();
    cluster.add_workers(&["0.6", "0.3", "0.3"]);
    // Long beside the moments in which a limited worker computes at full speed.
    let standing = ["drill", "publish", "fgemm", "512,512,512,24,0", "--units", "1000", "--interval-ms", "600"];
    cluster.run(&[&standing[..], &["--key", "operator.key"]].concat());
    let job = cluster.submit(30, 40, 3);
    cluster.follow(&job, "the fourth round is open", |job| job.rounds_done >= 4);
    let folder = cluster.home.path().join("worker-1").join("data");
    cluster.run(&["worker", "limit", "--data", folder.to_str().unwrap(), "0.3"]);
    let settled = cluster.follow(&job, "the job settles", |job| job.state == "settled");

    let machine = cluster.workers[0].text("machine");
    let share = settled.shares.iter().find(|share| hex::encode(&share.machine) == machine).unwrap();
    let part = |rounds: &[u32]| rounds.iter().sum::<u32>() as f64 / (28 * rounds.len()) as f64;
    let before = part(&share.tasks_per_round[..4]);
    let after = part(&share.tasks_per_round[24..]);
    let (true_before, true_after) = (0.6 / 1.2, 0.3 / 0.9);
    assert!((before - true_before).abs() <= TOLERANCE * true_before, "{before} of {:?}", share.tasks_per_round);
    assert!((after - true_after).abs() <= TOLERANCE * true_after, "{after} of {:?}", share.tasks_per_round);
}
