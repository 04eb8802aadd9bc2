//! Whether everything that a receipt promises holds.

use crate::{client::Client, error::Result, money::units, transfer, verbs::job as job_verbs};
use matrixai_proto::v1;
use std::time::{Duration, Instant};

/// Shares may differ from speed and CPU time by this part (the smallest share is a handful of virtual workers).
const TOLERANCE: f64 = 0.25;
const DIGEST_PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(200);

/// Waits until the coordinators have attested their state roots at one index, and answers the job with them.
pub(super) async fn with_digest(client: &Client, mut job: v1::Job) -> Result<v1::Job> {
    let begun = Instant::now();
    while job.digest.is_empty() && begun.elapsed() < DIGEST_PATIENCE {
        tokio::time::sleep(PAUSE).await;
        job = transfer::job(client, &job.id).await?;
    }
    Ok(job)
}

/// What of the receipt does not hold, one sentence each.
pub(super) fn unmet(job: &v1::Job) -> Vec<String> {
    let mut unmet = Vec::new();
    let mut must = |holds: bool, what: String| {
        if !holds {
            unmet.push(what);
        }
    };
    must(!job_verbs::is_open(job) && job.state == "settled", format!("the job is {} ({})", job.state, job.reason));
    let proof = job.proof.clone().unwrap_or_default();
    must(proof.verdict == "accepted", format!("the proof is not accepted but “{}”", proof.verdict));
    let accuracy = job.accuracy.unwrap_or_default();
    let target = job.spec.as_ref().map_or(0, |spec| spec.target_e6);
    let reached = u64::from(accuracy.last_correct) * 1_000_000 >= u64::from(target) * u64::from(accuracy.total);
    must(
        accuracy.total > 0 && reached,
        format!("{} of {} validation rows are right, short of the target", accuracy.last_correct, accuracy.total),
    );
    let escrow = job.escrow.clone().unwrap_or_default();
    let spent = units(&escrow.paid) + units(&escrow.fees) + units(&escrow.refunded);
    must(
        units(&escrow.held) == spent && spent > 0,
        format!("held {} is not paid + fees + refunded {spent} (minor units)", escrow.held),
    );
    let wanted = job.order.as_ref().map_or(0, |order| order.machines as usize);
    must(job.shares.len() == wanted, format!("{} shares instead of {wanted}", job.shares.len()));
    for share in &job.shares {
        must(units(&share.paid) > 0, format!("machine {} was not paid", hex::encode(&share.machine)));
    }
    let shares: Vec<f64> = job.shares.iter().map(|share| f64::from(share.share_e6)).collect();
    let speeds: Vec<f64> = job.shares.iter().map(mean_speed).collect();
    let cpu: Vec<f64> = job.shares.iter().map(|share| share.cpu_us as f64).collect();
    must(proportional(&shares, &speeds), "shares are not proportional to measured speed within 25 %".to_owned());
    must(proportional(&shares, &cpu), "shares are not proportional to CPU seconds within 25 %".to_owned());
    must(equal_roots(&job.digest), "the coordinators have not attested equal state roots".to_owned());
    unmet
}

fn mean_speed(share: &v1::Share) -> f64 {
    let sum: u64 = share.speed_per_round.iter().sum();
    sum as f64 / share.speed_per_round.len().max(1) as f64
}

/// Whether two figures a machine are the same parts of their sums, within the tolerance.
fn proportional(left: &[f64], right: &[f64]) -> bool {
    let (left_sum, right_sum): (f64, f64) = (left.iter().sum(), right.iter().sum());
    left_sum > 0.0
        && right_sum > 0.0
        && left.iter().zip(right).all(|(left, right)| {
            let (left, right) = (left / left_sum, right / right_sum);
            (left - right).abs() <= TOLERANCE * right
        })
}

fn equal_roots(digest: &[v1::Digest]) -> bool {
    let Some(first) = digest.first() else { return false };
    digest.len() > 1 && digest.iter().all(|other| other.index == first.index && other.root == first.root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_compared_within_a_quarter() {
        assert!(proportional(&[16.0, 8.0, 4.0], &[4.0, 2.1, 0.9]));
        assert!(!proportional(&[16.0, 8.0, 4.0], &[4.0, 2.0, 2.0]));
        assert!(!proportional(&[0.0], &[0.0]));
    }

    #[test]
    fn an_empty_job_meets_nothing() {
        assert!(unmet(&v1::Job::default()).len() >= 5);
    }
}
