//! The one binary: coordinators, workers, and every verb a person types.

mod args;
mod client;
mod convert;
mod error;
mod jobfile;
mod keys;
mod money;
mod output;
mod result;
mod serve;
mod transfer;
mod up;
mod verbs;

use args::{Cli, Verb};
use clap::{CommandFactory as _, Parser as _};
use error::{CliError, Code, Result};
use std::process::ExitCode;
use verbs::Desk;

/// Envelopes and replies are made on one thread and freed on another, thousands of times a second: with the system's allocator
/// that was among the first things in a profile.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const _: () = assert!(!matrixai_coordinator::plants::POSSIBLE, "bugs for the simulator are never part of the product");

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(&format!("matrixai: {error}"));
            ExitCode::from(error.code as u8)
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    match cli.verb {
        Verb::Coordinator(args) => serve::coordinator(&args, cli.tls_ca.as_ref(), cli.output),
        Verb::Worker(args) => serve::worker(&args, cli.tls_ca.as_ref()),
        Verb::Certs(verb) => verbs::certs::run(&verb, cli.output),
        Verb::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "matrixai", &mut script);
            output::raw(&script);
            Ok(())
        }
        verb => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            let runtime = runtime.map_err(|error| CliError::local("start the runtime", error))?;
            let dialer = client::dialer(cli.tls_ca.as_deref())?;
            let desk = Desk { cluster: cli.cluster, key: cli.key, format: cli.output, read: cli.read, dialer };
            runtime.block_on(act(desk, verb))
        }
    }
}

async fn act(desk: Desk, verb: Verb) -> Result<()> {
    match verb {
        Verb::Up(args) => up::run(args, desk.format).await,
        Verb::Cluster(verb) => verbs::cluster::run(&desk, verb).await,
        Verb::Admin(verb) => verbs::admin::run(&desk, verb).await,
        Verb::Account(verb) => verbs::account::run(&desk, verb).await,
        Verb::Faucet { amount } => verbs::account::faucet(&desk, &amount).await,
        Verb::Offer(verb) => verbs::market::offer(&desk, verb).await,
        Verb::Order(verb) => verbs::order::run(&desk, verb).await,
        Verb::Market(verb) => verbs::market::run(&desk, verb).await,
        Verb::Job(verb) => verbs::job::run(&desk, verb).await,
        Verb::Artifact(verb) => verbs::artifact::run(&desk, verb).await,
        Verb::Drill(verb) => verbs::drill::run(&desk, verb).await,
        Verb::Audit(args) => verbs::audit::run(&desk, args).await,
        Verb::Coordinator(_) | Verb::Worker(_) | Verb::Certs(_) | Verb::Completion { .. } => {
            Err(CliError::new(Code::Usage, "not a verb of a client"))
        }
    }
}
