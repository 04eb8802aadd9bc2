//! The pages' figures as JSON, exact. Ids and hashes are hex, money is decimal MAI in a string, computing power is
//! micro-ut in a string, times are ms since the Unix epoch: a figure that could exceed 2^53 is a string where it may
//! and JavaScript would round it.

use super::{ROWS, Site, found};
use crate::grpc::{cluster, convert};
use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use matrixai_proto::v1;
use matrixai_state::{
    State,
    money::{InMai, Money},
};
use serde_json::{Value, json};

/// Accounts in an answer.
const ACCOUNTS_MAX: usize = 1_000;

/// Answers with what a function makes of this coordinator's view.
fn answer(site: &Site, of: impl FnOnce(&State) -> Option<Value>) -> HttpResponse {
    let Ok(state) = site.shared.stale_view() else {
        let error = json!({ "error": "not initialised: run matrixai cluster init" });
        return HttpResponse::ServiceUnavailable().json(error);
    };
    match of(&state) {
        Some(mut value) => {
            value["index"] = json!(state.index());
            value["now_ms"] = json!(state.now_ms());
            HttpResponse::Ok().json(value)
        }
        None => HttpResponse::NotFound().json(json!({ "error": "there is nothing of this id" })),
    }
}

/// `GET /api/status`: answered before there is a cluster, too.
pub(super) async fn status(site: Data<Site>) -> HttpResponse {
    HttpResponse::Ok().json(status_json(&cluster::status(&site.shared)))
}

pub(super) async fn machines(site: Data<Site>) -> HttpResponse {
    answer(&site, |state| Some(json!({ "machines": list(convert::machines(state, None), machine) })))
}

/// `GET /api/offers`: the open offers and the latest agreements.
pub(super) async fn offers(site: Data<Site>) -> HttpResponse {
    answer(&site, |state| {
        Some(json!({
            "offers": list(convert::offers(state, false), offer),
            "trades": list(convert::trades(state, ROWS), trade),
        }))
    })
}

pub(super) async fn jobs(site: Data<Site>) -> HttpResponse {
    answer(&site, |state| Some(json!({ "jobs": list(convert::jobs(state, None, ROWS), job_json) })))
}

pub(super) async fn job(site: Data<Site>, id: Path<String>) -> HttpResponse {
    answer(&site, |state| found(state, &id).map(job_json))
}

pub(super) async fn accounts(site: Data<Site>) -> HttpResponse {
    answer(&site, |state| {
        let accounts = state.accounts().take(ACCOUNTS_MAX).map(|row| convert::account(state, row));
        Some(json!({
            "accounts": accounts.map(account).collect::<Vec<_>>(),
            "minted": mai(&state.minted().to_string()),
            "burned": mai(&state.burned().to_string()),
        }))
    })
}

pub(super) async fn drilling(site: Data<Site>) -> HttpResponse {
    answer(&site, |state| Some(drilling_json(convert::drilling(state, ROWS))))
}

fn list<T>(rows: Vec<T>, to: impl Fn(T) -> Value) -> Vec<Value> {
    rows.into_iter().map(to).collect()
}

fn mai(minor: &str) -> String {
    Money::parse(minor).map_or_else(|| "0".to_owned(), |money| InMai(money).to_string())
}

fn status_json(status: &v1::GetStatusReply) -> Value {
    let node = |node: &v1::NodeStatus| {
        let heard = (node.heard_ms != u64::MAX).then_some(node.heard_ms);
        json!({ "id": node.id, "grpc": node.grpc, "web": node.web, "heard_ms": heard,
            "standing": node.standing, "rules_version": node.rules_version })
    };
    let root = |root: &v1::AttestedRoot| json!({ "node": root.node, "epoch": root.epoch, "index": root.index, "root": hex::encode(&root.root), "segment": hex::encode(&root.segment) });
    json!({
        "cluster_id": hex::encode(&status.cluster_id),
        "node": status.node,
        "role": status.role,
        "leader": status.leader,
        "leader_grpc": status.leader_grpc,
        "term": status.term,
        "committed": status.committed,
        "applied": status.applied,
        "now_ms": status.now_ms,
        "version": status.version,
        "sessions": status.sessions,
        "nodes": status.nodes.iter().map(node).collect::<Vec<_>>(),
        "roots": status.roots.iter().map(root).collect::<Vec<_>>(),
    })
}

fn machine(machine: v1::Machine) -> Value {
    let claimed = machine.inventory.unwrap_or_default();
    let gpus = claimed.gpus.iter().map(|gpu| json!({ "model": gpu.model, "ram_bytes": gpu.ram_bytes }));
    let speeds = machine.speeds.iter().map(|speed| {
        json!({
            "kernel": speed.kernel,
            "ops_per_s": speed.ops_per_s,
            "min_ops_per_s": speed.min_ops_per_s,
            "max_ops_per_s": speed.max_ops_per_s,
            "samples": speed.samples,
            "provisional": speed.provisional,
        })
    });
    json!({
        "id": hex::encode(machine.id),
        "owner": hex::encode(machine.owner),
        "key": hex::encode(machine.key),
        "status": machine.status,
        "measured": speeds.collect::<Vec<_>>(),
        "claimed": {
            "cpu_model": claimed.cpu_model,
            "cores": claimed.cores,
            "isa": claimed.isa,
            "ram_bytes": claimed.ram_bytes,
            "disk_bytes": claimed.disk_bytes,
            "gpus": gpus.collect::<Vec<_>>(),
            "os": claimed.os,
            "region": claimed.region,
        },
        "drilling_micro_ut": machine.drilling_micro_ut,
        "training_micro_ut": machine.training_micro_ut,
        "units_accepted": machine.units_accepted,
        "units_lost": machine.units_lost,
        "round_trip_us": machine.round_trip_us,
        "reliability": reliability(machine.reliability),
        "owner_reliability": reliability(machine.owner_reliability),
        "enrolled_ms": machine.enrolled_ms,
    })
}

fn reliability(of: Option<v1::Reliability>) -> Value {
    let v1::Reliability { completed, failed } = of.unwrap_or_default();
    json!({ "completed": completed, "failed": failed })
}

fn offer(offer: v1::Offer) -> Value {
    json!({
        "id": hex::encode(offer.id),
        "machine": hex::encode(offer.machine),
        "owner": hex::encode(offer.owner),
        "price_per_hour": mai(&offer.price_per_hour),
        "duration_min_s": offer.duration_min_s,
        "duration_max_s": offer.duration_max_s,
        "disk_gib": offer.disk_gib,
        "reserve_price": (!offer.reserve_price.is_empty()).then(|| mai(&offer.reserve_price)),
        "grace_min": offer.grace_min,
        "expires_ms": offer.expires_ms,
        "status": offer.status,
        "made_ms": offer.made_ms,
    })
}

fn trade(trade: v1::Trade) -> Value {
    json!({
        "job": hex::encode(trade.job),
        "offer": hex::encode(trade.offer),
        "machine": hex::encode(trade.machine),
        "buyer": hex::encode(trade.buyer),
        "seller": hex::encode(trade.seller),
        "price_per_hour": mai(&trade.price_per_hour),
        "matched_ms": trade.matched_ms,
    })
}

fn account(account: v1::Account) -> Value {
    json!({
        "id": hex::encode(account.id),
        "key": hex::encode(account.key),
        "role": account.role,
        "balance": mai(&account.balance),
        "held": mai(&account.held),
        "created_ms": account.created_ms,
    })
}

fn job_json(job: v1::Job) -> Value {
    let escrow = job.escrow.unwrap_or_default();
    let proof = job.proof.unwrap_or_default();
    let spec = job.spec.unwrap_or_default();
    let order = job.order.unwrap_or_default();
    let accuracy = job.accuracy.map(|counted| {
        json!({ "first_correct": counted.first_correct, "last_correct": counted.last_correct, "total": counted.total })
    });
    json!({
        "id": hex::encode(job.id),
        "owner": hex::encode(job.owner),
        "name": job.name,
        "state": job.state,
        "reason": job.reason,
        "closed": job.closed,
        "fault": job.fault,
        "submitted_ms": job.submitted_ms,
        "matched_ms": job.matched_ms,
        "closed_ms": job.closed_ms,
        "rounds_done": job.rounds_done,
        "rounds_wanted": spec.rounds,
        "tasks_done": job.tasks_done,
        "virtual_workers": spec.virtual_workers,
        "steps_per_round": spec.steps_per_round,
        "target_e6": spec.target_e6,
        "dataset": hex::encode(spec.dataset),
        "order": {
            "machines": order.machines,
            "price_limit": mai(&order.price_limit),
            "total_limit": mai(&order.total_limit),
            "duration_s": order.duration_s,
            "query": order.query,
        },
        "shares": list(job.shares, share),
        "escrow": {
            "held": mai(&escrow.held),
            "paid": mai(&escrow.paid),
            "fees": mai(&escrow.fees),
            "refunded": mai(&escrow.refunded),
        },
        "rounds": list(job.rounds, round),
        "accuracy": accuracy,
        "proof": {
            "root": hex::encode(proof.root),
            "verdict": proof.verdict,
            "beacon": hex::encode(proof.beacon),
            "replayed": list(proof.replayed, replay),
        },
        "beacon": hex::encode(job.beacon),
        "model": hex::encode(job.model),
        "digest": list(job.digest, |digest| {
            json!({ "node": digest.node, "index": digest.index, "root": hex::encode(digest.root) })
        }),
        "drilling": { "units": job.drilling_units, "accepted": job.drilling_accepted },
    })
}

fn share(share: v1::Share) -> Value {
    json!({
        "machine": hex::encode(share.machine),
        "machine_key": hex::encode(share.machine_key),
        "account": hex::encode(share.account),
        "speed_matched": share.speed_matched,
        "speed": share.speed,
        "micro_ut": share.micro_ut,
        "cpu_us": share.cpu_us,
        "tasks": share.tasks,
        "share_e6": share.share_e6,
        "price_per_hour": mai(&share.price_per_hour),
        "billed_ms": share.billed_ms,
        "paid": mai(&share.paid),
        "paid_verification": mai(&share.paid_verification),
        "standing": share.standing,
        "tasks_per_round": share.tasks_per_round,
        "speed_per_round": share.speed_per_round,
    })
}

fn round(round: v1::RoundFigure) -> Value {
    json!({
        "round": round.round,
        "watch_correct": round.watch_correct,
        "watch_total": round.watch_total,
        "weights": hex::encode(round.weights),
        "momentum": hex::encode(round.momentum),
        "closed_ms": round.closed_ms,
        "leaf": hex::encode(round.leaf),
        "deltas": list(round.deltas, |delta| json!(hex::encode(delta))),
        "machine_keys": list(round.machine_keys, |key| json!(hex::encode(key))),
    })
}

fn replay(replay: v1::Replay) -> Value {
    json!({
        "segment": replay.segment,
        "round": replay.round,
        "virtual_worker": replay.virtual_worker,
        "prover": hex::encode(replay.prover),
        "verifier": hex::encode(replay.verifier),
        "state": replay.state,
        "trace_root": hex::encode(replay.trace_root),
    })
}

fn drilling_json(drilling: v1::GetDrillingReply) -> Value {
    let campaign = |campaign: v1::Campaign| {
        json!({
            "id": hex::encode(campaign.id),
            "kernel": campaign.kernel,
            "params": campaign.params,
            "units": campaign.units,
            "redundancy": campaign.redundancy,
            "interval_ms": campaign.interval_ms,
            "drawn": campaign.drawn,
            "accepted": campaign.accepted,
            "rejected": campaign.rejected,
            "difficulty_ops": campaign.difficulty_ops,
        })
    };
    json!({
        "campaigns": list(drilling.campaigns, campaign),
        "units": list(drilling.units, unit),
        "beat": drilling.beat,
        "beacon": hex::encode(drilling.beacon),
    })
}

fn unit(unit: v1::Unit) -> Value {
    let replica = |replica: v1::Replica| {
        json!({
            "machine": hex::encode(replica.machine),
            "attempt": replica.attempt,
            "state": replica.state,
            "granted_ms": replica.granted_ms,
            "committed_ms": replica.committed_ms,
            "commitment": hex::encode(replica.commitment),
            "digest_hash": hex::encode(replica.digest_hash),
        })
    };
    json!({
        "id": hex::encode(unit.id),
        "campaign": hex::encode(unit.campaign),
        "kernel": unit.kernel,
        "params": unit.params,
        "seed": hex::encode(unit.seed),
        "beacon": hex::encode(unit.beacon),
        "beat": unit.beat,
        "state": unit.state,
        "replicas": list(unit.replicas, replica),
        "micro_ut": unit.micro_ut,
    })
}
