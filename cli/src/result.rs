//! A job's receipt as one JSON object and as a page for people; `job result` and `up` print the same.

use crate::{
    money::wire_mai,
    output::{self, short},
};
use matrixai_proto::v1;
use serde_json::{Value, json};

/// The receipt of a job as the cluster knows it.
pub(crate) fn receipt(job: &v1::Job) -> Value {
    let shares: Vec<Value> = job.shares.iter().map(share).collect();
    let escrow = job.escrow.clone().unwrap_or_default();
    let accuracy = job.accuracy.unwrap_or_default();
    let proof = job.proof.clone().unwrap_or_default();
    let seconds = job.closed_ms.saturating_sub(job.submitted_ms) as f64 / 1e3;
    json!({
        "state": job.state,
        "reason": job.reason,
        "closed": job.closed,
        "fault": job.fault,
        "job": hex::encode(&job.id),
        "name": job.name,
        "shares": shares,
        "escrow": {
            "held": wire_mai(&escrow.held),
            "paid": wire_mai(&escrow.paid),
            "fees": wire_mai(&escrow.fees),
            "refunded": wire_mai(&escrow.refunded),
        },
        "accuracy": {
            "first": fraction(accuracy.first_correct, accuracy.total),
            "last": fraction(accuracy.last_correct, accuracy.total),
            "validation_rows": accuracy.total,
        },
        "proof": {
            "root": hex::encode(&proof.root),
            "verdict": proof.verdict,
            "replayed": proof.replayed.iter().map(replay).collect::<Vec<_>>(),
        },
        "drilling": { "units": job.drilling_units, "accepted": job.drilling_accepted },
        "digest": job.digest.iter().map(|digest| json!({
            "node": digest.node, "index": digest.index, "root": hex::encode(&digest.root),
        })).collect::<Vec<_>>(),
        "rounds": job.rounds_done,
        "model": hex::encode(&job.model),
        "seconds": seconds,
    })
}

/// The speed that decided a machine's share: the mean over the rounds it was split by.
fn split_speed(share: &v1::Share) -> u64 {
    let speeds: Vec<u64> = share.speed_per_round.iter().copied().filter(|speed| *speed > 0).collect();
    speeds.iter().sum::<u64>().checked_div(speeds.len() as u64).unwrap_or(share.speed_matched)
}

fn share(share: &v1::Share) -> Value {
    json!({
        "machine": hex::encode(&share.machine),
        "account": hex::encode(&share.account),
        "speed": split_speed(share),
        "speed_now": share.speed,
        "ut": output::ut(&share.micro_ut),
        "cpu_s": share.cpu_us as f64 / 1e6,
        "share": f64::from(share.share_e6) / 1e6,
        "tasks": share.tasks,
        "price_per_hour": wire_mai(&share.price_per_hour),
        "billed_s": share.billed_ms as f64 / 1e3,
        "paid": wire_mai(&share.paid),
        "paid_verification": wire_mai(&share.paid_verification),
        "standing": share.standing,
        "tasks_per_round": share.tasks_per_round,
    })
}

fn replay(replay: &v1::Replay) -> Value {
    json!({
        "segment": replay.segment,
        "round": replay.round,
        "virtual_worker": replay.virtual_worker,
        "prover": hex::encode(&replay.prover),
        "verifier": hex::encode(&replay.verifier),
        "state": replay.state,
    })
}

fn fraction(correct: u32, total: u32) -> f64 {
    if total == 0 { 0.0 } else { f64::from(correct) / f64::from(total) }
}

/// The receipt for people.
pub(crate) fn page(job: &v1::Job) -> String {
    let escrow = job.escrow.clone().unwrap_or_default();
    let accuracy = job.accuracy.unwrap_or_default();
    let proof = job.proof.clone().unwrap_or_default();
    let rows: Vec<Vec<String>> = job.shares.iter().map(share_row).collect();
    let head = [
        "machine",
        "account",
        "speed (fgemm)",
        "ut",
        "tasks",
        "share",
        "CPU s",
        "MAI/h",
        "billed s",
        "paid MAI",
        "standing",
    ];
    let mut text = format!("Job {} “{}”: {}", hex::encode(&job.id), job.name, job.state);
    if !job.reason.is_empty() {
        text.push_str(&format!(" ({})", job.reason));
    }
    text.push_str("\n\nWho did which share (virtual workers are split by measured fgemm speed)\n");
    text.push_str(&output::table(&head, &rows));
    text.push_str(&format!(
        "\nEscrow    held {} = paid {} + fees {} + refunded {} MAI\n",
        wire_mai(&escrow.held),
        wire_mai(&escrow.paid),
        wire_mai(&escrow.fees),
        wire_mai(&escrow.refunded)
    ));
    text.push_str(&format!(
        "Accuracy  {:.1} % before, {:.1} % after {} rounds ({} validation rows)\n",
        100.0 * fraction(accuracy.first_correct, accuracy.total),
        100.0 * fraction(accuracy.last_correct, accuracy.total),
        job.rounds_done,
        accuracy.total
    ));
    text.push_str(&format!(
        "Proof     {} root {}\n",
        if proof.verdict.is_empty() { "–" } else { &proof.verdict },
        hex::encode(&proof.root)
    ));
    for replay in &proof.replayed {
        text.push_str(&format!(
            "          segment {} (round {}, virtual worker {}): computed by {}, replayed by {}: {}\n",
            replay.segment,
            replay.round,
            replay.virtual_worker,
            short(&replay.prover),
            short(&replay.verifier),
            replay.state
        ));
    }
    text.push_str(&format!("Drilling  {} of {} units accepted\n", job.drilling_accepted, job.drilling_units));
    for digest in &job.digest {
        text.push_str(&format!(
            "State     node {} at entry {}: {}\n",
            digest.node,
            digest.index,
            hex::encode(&digest.root)
        ));
    }
    text
}

fn share_row(share: &v1::Share) -> Vec<String> {
    vec![
        short(&share.machine),
        short(&share.account),
        output::speed(split_speed(share)),
        format!("{:.6}", output::ut(&share.micro_ut)),
        share.tasks.to_string(),
        format!("{:.1} %", f64::from(share.share_e6) / 1e4),
        format!("{:.2}", share.cpu_us as f64 / 1e6),
        wire_mai(&share.price_per_hour),
        format!("{:.2}", share.billed_ms as f64 / 1e3),
        wire_mai(&share.paid),
        share.standing.clone(),
    ]
}
