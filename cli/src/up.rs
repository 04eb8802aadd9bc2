//! `matrixai up`: a whole cluster on this machine and a real training on it, only through the public RPCs.
//!
//! Three coordinators and some workers run as child processes of this one, each in a folder of its own; everything
//! that follows — accounts, drilling, offers, the job — is what anyone could type by hand against any cluster.

mod children;
mod founding;
mod measuring;
mod people;
mod progress;
mod verdict;

use crate::{
    args::UpArgs,
    client::Client,
    error::{CliError, Result},
    jobfile::{self, Job},
    output::{self, Format},
    result,
    verbs::{artifact, audit, job as job_verbs},
};
use children::Children;
use matrixai_transport::Dialer;
use progress::Progress;
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    time::Instant,
};

/// Machines that a proof needs: one computes, another replays, and a unit of drilling goes to three.
const WORKERS_MIN: usize = 3;
/// More would only share the same few cores of one machine.
const WORKERS_MAX: usize = 32;

pub(crate) async fn run(args: UpArgs, format: Format) -> Result<()> {
    let begun = Instant::now();
    let job = wanted_job(&args)?;
    let home = Home::open(&args)?;
    let mut children = Children::default();
    let stop = tokio::signal::ctrl_c();
    tokio::pin!(stop);
    let outcome = tokio::select! {
        outcome = main_job(&args, &job, &home, &mut children, begun) => Some(outcome),
        _ = &mut stop => None,
    };
    let outcome = match outcome {
        Some(Ok(receipt)) => {
            report(&receipt, format);
            if !args.exit {
                output::note("The cluster stays up; Ctrl-C ends it.");
                tokio::select! {
                    died = children.first_end() => output::note(&format!("{died} ended on its own: its log is in its folder")),
                    _ = &mut stop => {}
                }
            }
            receipt.unmet()
        }
        Some(Err(error)) => Err(error),
        None => Err(CliError::refused("ended by Ctrl-C before the job was done")),
    };
    children.end().await;
    home.close(outcome.is_err());
    outcome
}

/// The folder of this cluster.
#[derive(Debug)]
struct Home {
    path: PathBuf,
    kept: bool,
}

impl Home {
    fn open(args: &UpArgs) -> Result<Self> {
        let path = match &args.data {
            Some(path) => path.clone(),
            None => std::env::temp_dir().join(format!("matrixai-up-{}", std::process::id())),
        };
        std::fs::create_dir_all(&path)
            .map_err(|error| CliError::local(&format!("make the folder {}", path.display()), error))?;
        let path = path
            .canonicalize()
            .map_err(|error| CliError::local(&format!("find the folder {}", path.display()), error))?;
        Ok(Self { path, kept: args.data.is_some() })
    }

    /// Without `--data` only the model, the receipt and the export outlive the cluster (everything, after a failure).
    fn close(&self, failed: bool) {
        if self.kept {
            return;
        }
        if failed {
            output::note(&format!("Logs and data are left in {}", self.path.display()));
            return;
        }
        let entries = std::fs::read_dir(&self.path).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("coordinator-") || name.starts_with("worker-") || name == "keys" {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// What a run ends with: the receipt and what of it did not hold.
#[derive(Debug)]
struct Receipt {
    value: Value,
    page: String,
    unmet: Vec<String>,
}

impl Receipt {
    fn unmet(&self) -> Result<()> {
        if self.unmet.is_empty() {
            return Ok(());
        }
        Err(CliError::refused(format!("the receipt does not hold: {}", self.unmet.join("; "))))
    }
}

fn report(receipt: &Receipt, format: Format) {
    match format {
        Format::Json => {
            output::note(&receipt.page);
            output::json(&receipt.value);
        }
        Format::Table => output::line(&receipt.page),
    }
}

fn wanted_job(args: &UpArgs) -> Result<Job> {
    let count = args.workers.len();
    if !(WORKERS_MIN..=WORKERS_MAX).contains(&count) {
        return Err(CliError::usage(format!(
            "--workers names {count} workers: {WORKERS_MIN} to {WORKERS_MAX} are needed, e.g. 1,0.5,0.25"
        )));
    }
    if let Some(limit) = args.workers.iter().find(|limit| !(**limit > 0.0 && **limit <= 1.0)) {
        return Err(CliError::usage(format!("--workers: a limit of {limit} is not above 0 and at most 1 core")));
    }
    let mut job = match (&args.job, &args.csv) {
        (Some(path), _) => jobfile::read(path)?,
        (None, Some(path)) => {
            let data =
                std::fs::read(path).map_err(|error| CliError::local(&format!("read {}", path.display()), error))?;
            let mut file = jobfile::parse(jobfile::DIGITS_TOML)?;
            (file.data.features, file.data.classes, file.data.scale) = jobfile::guess_shape(&data)?;
            file.name = path.file_stem().map_or_else(|| "csv".to_owned(), |name| name.to_string_lossy().into_owned());
            jobfile::assemble(&file, data)?
        }
        (None, None) => jobfile::assemble(&jobfile::parse(jobfile::DIGITS_TOML)?, jobfile::DIGITS_CSV_GZ.to_vec())?,
    };
    job.order.machines = count as u32;
    if let Some(seed) = args.seed {
        job.spec.seed = seed;
    }
    if let Some(rounds) = args.rounds {
        job.spec.rounds = rounds;
        jobfile::check(&job.spec, &job.data)?;
    }
    Ok(job)
}

async fn main_job(args: &UpArgs, job: &Job, home: &Home, children: &mut Children, begun: Instant) -> Result<Receipt> {
    let progress = Progress::start();
    progress.say("starting three coordinators");
    let quorum = founding::start(&home.path, children).await?;
    let client = Client::connect(&quorum.grpc(), Dialer::default()).await?;
    let people = people::prepare(&home.path, &client, args.workers.len()).await?;
    progress.say(&format!("starting {} workers", args.workers.len()));
    let machines = children.start_workers(&home.path, &args.workers, &client, &people).await?;
    measuring::measure(&client, &people, &machines, &progress).await?;
    people.offer(&client, &machines, &args.workers).await?;
    people.fund(&client).await?;
    measuring::keep_measuring(&client, &people).await?;
    progress.say("storing the data on a quorum and submitting the job");
    let id = job_verbs::submit(&client, &people.buyer, job).await?;
    progress.job(&id);
    let closed = job_verbs::follow(&client, &id, |job| progress.show(job)).await?;
    let closed = verdict::with_digest(&client, closed).await?;
    progress.end();
    write_up(home, &client, &closed, &quorum, begun).await
}

/// Fetches the model, writes receipt and exports, and judges the whole.
async fn write_up(
    home: &Home,
    client: &Client,
    job: &matrixai_proto::v1::Job,
    quorum: &founding::Quorum,
    begun: Instant,
) -> Result<Receipt> {
    let mut value = result::receipt(job);
    let mut page = result::page(job);
    let mut unmet = verdict::unmet(job);
    let model = home.path.join("model.safetensors");
    match job_verbs::fetch_model(client, job, &model).await {
        Ok(()) => {
            value["model_path"] = json!(model);
            page.push_str(&format!("Model     {}\n", model.display()));
        }
        Err(error) => unmet.push(error.message),
    }
    let seconds = begun.elapsed().as_secs_f64();
    value["seconds"] = json!((seconds * 10.0).round() / 10.0);
    value["web"] = json!(quorum.web());
    value["cluster"] = json!(quorum.grpc());
    if !unmet.is_empty() {
        value["unmet"] = json!(unmet);
    }
    page.push_str(&format!("Web       {}\n", quorum.web().join("  ")));
    page.push_str(&format!("Cluster   {}\n", quorum.grpc().join(",")));
    page.push_str(&format!("Folder    {}\n", home.path.display()));
    page.push_str(&format!("Seconds   {seconds:.1} from start to receipt\n"));
    export(client, &home.path).await?;
    artifact::write(&home.path.join("receipt.json"), value.to_string().as_bytes())?;
    Ok(Receipt { value, page, unmet })
}

async fn export(client: &Client, home: &Path) -> Result<()> {
    audit::export(client, &home.join("export")).await.map(|_| ())
}
