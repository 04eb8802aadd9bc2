//! Jobs: submit, follow, receipt.

use super::{Desk, artifact, cluster, own_account};
use crate::{
    args::JobVerb,
    client::{Client, ask},
    convert,
    error::{CliError, Result},
    jobfile::{self, Job},
    output, result, transfer,
};
use matrixai_proto::{
    envelope::Signer,
    v1::{self, command::Kind},
};
use serde_json::{Value, json};
use std::path::Path;

pub(crate) async fn run(desk: &Desk, verb: JobVerb) -> Result<()> {
    match verb {
        JobVerb::Submit { file, query, wait } => {
            let mut job = jobfile::read(&file)?;
            if let Some(query) = query {
                job.order.query = query;
            }
            let (client, signer) = (desk.client().await?, desk.signer()?);
            let id = submit(&client, &signer, &job).await?;
            if !wait {
                output::show(desk.format, &json!({ "job": hex::encode(&id) }), || {
                    format!("submitted job {}", hex::encode(&id))
                });
                return Ok(());
            }
            let job = follow(&client, &id, |job| output::note(&progress(job))).await?;
            settled(desk, &job)
        }
        JobVerb::Status { job } => {
            let job = transfer::job(&desk.client().await?, &convert::id(&job)?).await?;
            output::show(desk.format, &result::receipt(&job), || progress(&job));
            Ok(())
        }
        JobVerb::Watch { job } => {
            let client = desk.client().await?;
            let job = follow(&client, &convert::id(&job)?, |job| output::note(&progress(job))).await?;
            settled(desk, &job)
        }
        JobVerb::Logs { job } => logs(desk, &job).await,
        JobVerb::Cancel { job } => {
            desk.submit(Kind::CancelJob(v1::CancelJob { job: convert::id(&job)? }), "cancelled").await
        }
        JobVerb::Result { job, model } => {
            let client = desk.client().await?;
            let job = transfer::job(&client, &convert::id(&job)?).await?;
            if let Some(path) = model {
                fetch_model(&client, &job, &path).await?;
            }
            settled(desk, &job)
        }
        JobVerb::Verify { job } => verify(desk, &job).await,
        JobVerb::List => list(desk).await,
    }
}

/// Uploads a job's data, then submits it; answers the job's id.
pub(crate) async fn submit(client: &Client, signer: &Signer, job: &Job) -> Result<Vec<u8>> {
    transfer::put(client, signer, &job.data).await?;
    let command =
        v1::SubmitTraining { name: job.name.clone(), spec: Some(job.spec.clone()), order: Some(job.order.clone()) };
    client.submit_one(signer, Kind::SubmitTraining(command)).await
}

/// Whether a job can still change.
pub(crate) fn is_open(job: &v1::Job) -> bool {
    matches!(job.state.as_str(), "waiting" | "seeding" | "training" | "challenging" | "verifying")
}

/// Follows a job until it is closed, through the loss of a coordinator.
pub(crate) async fn follow(client: &Client, id: &[u8], mut seen: impl FnMut(&v1::Job)) -> Result<v1::Job> {
    loop {
        let request = v1::GetJobRequest { job: id.to_vec() };
        let mut stream = ask!(client, jobs_client::JobsClient.watch_job, request.clone())?;
        while let Ok(Some(job)) = stream.message().await {
            seen(&job);
            if !is_open(&job) {
                return Ok(job);
            }
        }
    }
}

/// One line on where a job is.
pub(crate) fn progress(job: &v1::Job) -> String {
    let spec = job.spec.clone().unwrap_or_default();
    let watch = job.rounds.last().map_or_else(String::new, |round| {
        format!(
            ", watch accuracy {:.1} %",
            100.0 * f64::from(round.watch_correct) / f64::from(round.watch_total.max(1))
        )
    });
    let why = if job.reason.is_empty() { String::new() } else { format!(": {}", job.reason) };
    format!(
        "{} {}{why}; round {}/{}, task {}/{}{watch}",
        output::short(&job.id),
        job.state,
        job.rounds_done,
        spec.rounds,
        job.tasks_done,
        spec.virtual_workers
    )
}

/// Prints a receipt; a job that is closed without having settled ends the program with status 1.
fn settled(desk: &Desk, job: &v1::Job) -> Result<()> {
    output::show(desk.format, &result::receipt(job), || result::page(job));
    if is_open(job) || job.state == "settled" {
        Ok(())
    } else {
        Err(CliError::refused(format!("the job is {}: {}", job.state, job.reason)))
    }
}

/// Fetches the newest model of a job and writes it as safetensors.
pub(crate) async fn fetch_model(client: &Client, job: &v1::Job, path: &Path) -> Result<()> {
    if job.model.is_empty() {
        return Err(CliError::refused(format!("job {} has no model yet", hex::encode(&job.id))));
    }
    let bytes = transfer::get(client, &job.model).await?;
    let spec = convert::spec(&job.spec.clone().unwrap_or_default())?;
    let weights = matrixai_training::weights::Weights::from_bytes(&spec, &bytes)
        .map_err(|error| CliError::refused(format!("the model artifact cannot be read: {error}")))?;
    let file = matrixai_training::weights::to_safetensors(&spec, &weights)
        .map_err(|error| CliError::refused(format!("the model does not fit its specification: {error}")))?;
    artifact::write(path, &file)
}

async fn logs(desk: &Desk, job: &str) -> Result<()> {
    let client = desk.client().await?;
    let job = transfer::job(&client, &convert::id(job)?).await?;
    let newest = client.status().await?.applied;
    let request = v1::WatchEventsRequest { from_index: 1 };
    let mut stream = ask!(client, cluster_client::ClusterClient.watch_events, request)?;
    let quiet = std::time::Duration::from_millis(500);
    while let Ok(Ok(Some(event))) = tokio::time::timeout(quiet, stream.message()).await {
        if event.subject == job.id {
            cluster::print_event(desk.format, &event);
        }
        if event.index > newest {
            break;
        }
    }
    Ok(())
}

/// Trains the job again here, alone, from its data and the log's beacon, and compares with what the machines reported.
async fn verify(desk: &Desk, job: &str) -> Result<()> {
    let client = desk.client().await?;
    let job = transfer::job(&client, &convert::id(job)?).await?;
    let data = transfer::get(&client, &job.spec.clone().unwrap_or_default().dataset).await?;
    let own = tokio::task::spawn_blocking({
        let job = job.clone();
        move || recompute(&job, &data)
    });
    let own = own.await.map_err(|error| CliError::local("recompute the training", error))??;
    let claimed = job.proof.clone().unwrap_or_default().root;
    let first_difference =
        own.checkpoints.iter().zip(&job.rounds).position(|(own, claimed)| own.weights.as_slice() != claimed.weights);
    let equal = own.chain.root.as_slice() == claimed
        && first_difference.is_none()
        && own.weights.hash().as_slice() == job.model;
    let value = json!({
        "equal": equal, "root": hex::encode(own.chain.root), "claimed_root": hex::encode(&claimed),
        "model": hex::encode(own.weights.hash()), "claimed_model": hex::encode(&job.model),
        "first_different_round": first_difference, "correct_first": own.correct_first, "correct_last": own.correct_last,
    });
    output::show(desk.format, &value, || match (equal, first_difference) {
        (true, _) => format!("every checkpoint has the same bits; root {}", hex::encode(own.chain.root)),
        (false, Some(round)) => format!("the model after round {round} differs"),
        (false, None) => "the checkpoints agree, the root differs: deltas or machine keys were changed".to_owned(),
    });
    if equal { Ok(()) } else { Err(CliError::refused("the training's proof does not hold")) }
}

fn recompute(job: &v1::Job, data: &[u8]) -> Result<matrixai_training::verify::Training> {
    let short = |what: &str| CliError::refused(format!("the job has no {what} yet"));
    let spec = convert::spec(&job.spec.clone().unwrap_or_default())?;
    let data = matrixai_training::dataset::Dataset::parse(data, &spec)
        .map_err(|error| CliError::refused(error.to_string()))?;
    let context = matrixai_training::Context {
        spec,
        job: job.id.as_slice().try_into().map_err(|_| short("id"))?,
        beacon: job.beacon.as_slice().try_into().map_err(|_| short("beacon"))?,
    };
    let keys = |round: u32, v: u32| {
        let row = job.rounds.iter().find(|row| row.round == round.saturating_add(1));
        let key = row.and_then(|row| row.machine_keys.get(v as usize));
        key.and_then(|key| key.as_slice().try_into().ok()).unwrap_or([0; 32])
    };
    matrixai_training::verify::recompute(&context, &data, &keys, &mut || Ok(()))
        .map_err(|error| CliError::refused(error.to_string()))
}

async fn list(desk: &Desk) -> Result<()> {
    let client = desk.client().await?;
    let owner = match desk.signer() {
        Ok(signer) => own_account(&client, &signer).await?,
        Err(_) => Vec::new(),
    };
    let request = v1::ListJobsRequest { owner: Vec::new(), limit: 100 };
    let jobs = ask!(client, jobs_client::JobsClient.list_jobs, request.clone())?.jobs;
    let values: Vec<Value> = jobs.iter().map(result::receipt).collect();
    output::show(desk.format, &Value::Array(values), || {
        let rows: Vec<Vec<String>> = jobs
            .iter()
            .map(|job| {
                vec![
                    hex::encode(&job.id),
                    job.name.clone(),
                    job.state.clone(),
                    job.rounds_done.to_string(),
                    if job.owner == owner { "mine".to_owned() } else { output::short(&job.owner) },
                ]
            })
            .collect();
        output::table(&["job", "name", "state", "rounds", "owner"], &rows)
    });
    Ok(())
}
