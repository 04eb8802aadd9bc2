//! Audits: the whole log replayed here ([`replay`]), and exports for whoever wants to check signatures, money and proofs
//! with other programs than ours.

mod live;
mod replay;

use super::{Desk, account};
use crate::{
    args::{AuditArgs, AuditVerb},
    client::{Client, ask},
    error::{CliError, Result},
    money::units,
    output, result, transfer,
};
use matrixai_proto::v1;
use serde_json::{Value, json};
use std::{fs, io::Write as _, path::Path};

pub(crate) async fn run(desk: &Desk, args: AuditArgs) -> Result<()> {
    let out = match args.verb {
        Some(AuditVerb::Export { out }) => out,
        None if args.replay.from.is_some() => return replay::replay(desk, args.replay).await,
        None => return Err(CliError::usage("say what to do: --from genesis replays the log, `export` writes it out")),
    };
    let entries = export(&desk.client().await?, &out).await?;
    output::show(desk.format, &json!({ "folder": out, "entries": entries }), || {
        format!("wrote {entries} entries to {}", out.display())
    });
    Ok(())
}

/// Writes genesis.bin, log.jsonl, accounts.json and jobs.json to a folder; answers the number of log entries.
pub(crate) async fn export(client: &Client, folder: &Path) -> Result<u64> {
    fs::create_dir_all(folder).map_err(|error| CliError::local(&format!("make {}", folder.display()), error))?;
    let genesis = ask!(client, cluster_client::ClusterClient.get_genesis, v1::GetGenesisRequest {})?;
    write(folder, "genesis.bin", &genesis.genesis)?;
    let accounts = account::all(client).await?;
    write(folder, "accounts.json", accounts_value(&accounts).to_string().as_bytes())?;
    let listed =
        ask!(client, jobs_client::JobsClient.list_jobs, v1::ListJobsRequest { owner: Vec::new(), limit: 1000 })?.jobs;
    let mut jobs = Vec::new();
    for job in &listed {
        // The list leaves out what makes a job long: its rounds and replays.
        jobs.push(transfer::job(client, &job.id).await?);
    }
    write(folder, "jobs.json", Value::Array(jobs.iter().map(job_value).collect()).to_string().as_bytes())?;
    let mut statements = Vec::new();
    for row in &accounts.accounts {
        statements.extend(statement(client, &row.id).await?);
    }
    write(folder, "movements.json", Value::Array(statements).to_string().as_bytes())?;
    log(client, folder, accounts.index).await
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    super::artifact::write(&folder.join(name), bytes)
}

/// Amounts in minor units, so that sums can be checked exactly.
fn accounts_value(reply: &v1::ListAccountsReply) -> Value {
    json!({
        "index": reply.index,
        "now_ms": reply.now_ms,
        "minted": units(&reply.minted).to_string(),
        "burned": units(&reply.burned).to_string(),
        "accounts": reply.accounts.iter().map(|account| json!({
            "account": hex::encode(&account.id), "key": hex::encode(&account.key), "role": account.role,
            "balance": account.balance, "held": account.held,
        })).collect::<Vec<_>>(),
    })
}

async fn statement(client: &Client, account: &[u8]) -> Result<Vec<Value>> {
    const PAGE: u32 = 1_000;
    let (mut all, mut before) = (Vec::new(), 0);
    loop {
        let request = v1::GetStatementRequest { account: account.to_vec(), before, limit: PAGE };
        let page = ask!(client, accounts_client::AccountsClient.get_statement, request.clone())?.movements;
        all.extend(page.iter().map(|row| json!({
            "sequence": row.sequence, "index": row.index, "account": hex::encode(&row.account),
            "counterparty": hex::encode(&row.counterparty), "cause": row.cause,
            "balance_change": row.balance_change, "held_change": row.held_change, "balance": row.balance, "held": row.held,
            "job": hex::encode(&row.job),
        })));
        match page.last() {
            Some(last) if page.len() as u32 == PAGE => before = last.sequence,
            _ => return Ok(all),
        }
    }
}

fn job_value(job: &v1::Job) -> Value {
    let mut value = result::receipt(job);
    let spec = job.spec.clone().unwrap_or_default();
    value["spec"] = json!({
        "dataset": hex::encode(&spec.dataset), "features": spec.features, "classes": spec.classes,
        "feature_scale": spec.feature_scale, "validate_every": spec.validate_every, "hidden": spec.hidden,
        "virtual_workers": spec.virtual_workers, "rounds": spec.rounds, "steps_per_round": spec.steps_per_round,
    });
    value["beacon"] = json!(hex::encode(&job.beacon));
    value["chain"] = job
        .rounds
        .iter()
        .map(|round| {
            json!({
                "round": round.round,
                "weights": hex::encode(&round.weights),
                "momentum": hex::encode(&round.momentum),
                "deltas": round.deltas.iter().map(hex::encode).collect::<Vec<_>>(),
                "machine_keys": round.machine_keys.iter().map(hex::encode).collect::<Vec<_>>(),
                "leaf": hex::encode(&round.leaf),
            })
        })
        .collect();
    value
}

async fn log(client: &Client, folder: &Path, to_index: u64) -> Result<u64> {
    let request = v1::ExportLogRequest { from_index: 1, to_index };
    let mut stream = ask!(client, cluster_client::ClusterClient.export_log, request)?;
    let path = folder.join("log.jsonl");
    let doing = format!("write {}", path.display());
    let mut file = std::io::BufWriter::new(fs::File::create(&path).map_err(|error| CliError::local(&doing, error))?);
    let mut entries = 0;
    while let Some(entry) = stream.message().await.map_err(|status| crate::client::refused(&status))? {
        let line = json!({ "index": entry.index, "term": entry.term, "entry": hex::encode(&entry.entry) });
        writeln!(file, "{line}").map_err(|error| CliError::local(&doing, error))?;
        entries += 1;
    }
    file.flush().map_err(|error| CliError::local(&doing, error))?;
    Ok(entries)
}
