//! Drilling: what was published, who drew it, what was decided; and the kernels on this machine.

mod local;

use super::{Desk, admin};
use crate::{
    args::DrillVerb,
    client::ask,
    convert,
    error::{CliError, Result},
    output::{self, short},
};
use matrixai_proto::v1::{self, command::Kind};
use serde_json::{Value, json};

/// Number of parameters on the wire, whatever the kernel uses.
const PARAMS: usize = 8;

pub(crate) async fn run(desk: &Desk, verb: DrillVerb) -> Result<()> {
    match verb {
        DrillVerb::Status { units } => status(desk, units).await,
        DrillVerb::Explain { unit } => explain(desk, &unit).await,
        DrillVerb::Digest { kernel, params, seed, device, threads } => {
            local::digest(desk.format, (&kernel, &params), &seed, device, threads)
        }
        DrillVerb::Bench { rounds, threads } => local::bench(desk.format, rounds, threads),
        DrillVerb::Publish { kernel, params, units, redundancy, interval_ms } => {
            let campaign = campaign(&kernel, &params, units, redundancy, interval_ms)?;
            // Where one admin is enough the campaign's own command answers its id; otherwise it takes a proposal.
            if admin::policy(&desk.client().await?).await?.admin_threshold <= 1 {
                return desk.submit(Kind::PublishCampaign(campaign), "published campaign").await;
            }
            admin::propose(desk, v1::admin_action::Kind::PublishCampaign(campaign)).await
        }
    }
}

/// A campaign's command with its parameters padded.
pub(crate) fn campaign(
    kernel: &str,
    params: &[u32],
    units: u32,
    redundancy: u32,
    interval_ms: u64,
) -> Result<v1::PublishCampaign> {
    if params.len() > PARAMS {
        return Err(CliError::usage(format!("a kernel has at most {PARAMS} parameters")));
    }
    let mut padded = params.to_vec();
    padded.resize(PARAMS, 0);
    Ok(v1::PublishCampaign { kernel: kernel.to_owned(), params: padded, units, redundancy, interval_ms })
}

async fn status(desk: &Desk, units: u32) -> Result<()> {
    let client = desk.client().await?;
    let reply = ask!(client, drilling_client::DrillingClient.get_drilling, v1::GetDrillingRequest { units })?;
    let value = json!({
        "beat": reply.beat,
        "beacon": hex::encode(&reply.beacon),
        "campaigns": reply.campaigns.iter().map(campaign_value).collect::<Vec<_>>(),
        "units": reply.units.iter().map(unit_value).collect::<Vec<_>>(),
    });
    output::show(desk.format, &value, || {
        let campaigns: Vec<Vec<String>> = reply
            .campaigns
            .iter()
            .map(|row| {
                vec![
                    short(&row.id),
                    row.kernel.clone(),
                    parameters(&row.params),
                    row.units.to_string(),
                    row.drawn.to_string(),
                    row.accepted.to_string(),
                    row.rejected.to_string(),
                ]
            })
            .collect();
        let units: Vec<Vec<String>> = reply
            .units
            .iter()
            .map(|row| {
                vec![
                    hex::encode(&row.id),
                    row.kernel.clone(),
                    row.state.clone(),
                    row.replicas.len().to_string(),
                    format!("{:.6}", output::ut(&row.micro_ut)),
                ]
            })
            .collect();
        format!(
            "beat {}, R {}\n\n{}\n{}",
            reply.beat,
            hex::encode(&reply.beacon),
            output::table(&["campaign", "kernel", "params", "units", "drawn", "accepted", "rejected"], &campaigns),
            output::table(&["unit", "kernel", "state", "machines", "ut each"], &units),
        )
    });
    Ok(())
}

fn parameters(params: &[u32]) -> String {
    let used = params.iter().rposition(|param| *param != 0).map_or(0, |last| last + 1);
    params.iter().take(used).map(u32::to_string).collect::<Vec<_>>().join(",")
}

fn campaign_value(row: &v1::Campaign) -> Value {
    json!({
        "id": hex::encode(&row.id), "kernel": row.kernel, "params": row.params, "units": row.units, "redundancy": row.redundancy,
        "interval_ms": row.interval_ms, "drawn": row.drawn, "accepted": row.accepted, "rejected": row.rejected,
        "difficulty_ops": row.difficulty_ops,
    })
}

fn unit_value(row: &v1::Unit) -> Value {
    json!({
        "id": hex::encode(&row.id), "campaign": hex::encode(&row.campaign), "kernel": row.kernel, "params": row.params,
        "seed": hex::encode(&row.seed), "beacon": hex::encode(&row.beacon), "beat": row.beat, "state": row.state,
        "ut": output::ut(&row.micro_ut),
        "replicas": row.replicas.iter().map(|replica| json!({
            "machine": hex::encode(&replica.machine), "attempt": replica.attempt, "state": replica.state,
            "granted_ms": replica.granted_ms, "committed_ms": replica.committed_ms,
            "commitment": hex::encode(&replica.commitment), "digest_hash": hex::encode(&replica.digest_hash),
        })).collect::<Vec<_>>(),
    })
}

async fn explain(desk: &Desk, unit: &str) -> Result<()> {
    let client = desk.client().await?;
    let request = v1::GetUnitRequest { unit: convert::id(unit)? };
    let unit = ask!(client, drilling_client::DrillingClient.get_unit, request.clone())?;
    output::show(desk.format, &unit_value(&unit), || {
        let rows: Vec<Vec<String>> = unit
            .replicas
            .iter()
            .map(|replica| {
                let took = replica.committed_ms.checked_sub(replica.granted_ms).filter(|_| replica.committed_ms > 0);
                vec![
                    hex::encode(&replica.machine),
                    replica.attempt.to_string(),
                    replica.state.clone(),
                    took.map_or_else(|| "–".to_owned(), |ms| format!("{ms} ms")),
                    short(&replica.commitment),
                    short(&replica.digest_hash),
                ]
            })
            .collect();
        format!(
            "unit {} of campaign {}: {} {}\nseed {}\ndrawn by R of beat {}: {}\nstate {}, credit {:.6} ut each\n\n{}",
            hex::encode(&unit.id),
            hex::encode(&unit.campaign),
            unit.kernel,
            parameters(&unit.params),
            hex::encode(&unit.seed),
            unit.beat,
            hex::encode(&unit.beacon),
            unit.state,
            output::ut(&unit.micro_ut),
            output::table(&["machine", "attempt", "state", "time", "commitment", "H(digest)"], &rows),
        )
    });
    Ok(())
}
