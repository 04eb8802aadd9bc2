//! The two verbs that run for long: a coordinator and a worker.

use crate::{
    args::{CoordinatorArgs, CoordinatorVerb, WorkerArgs, WorkerVerb},
    error::{CliError, Code, Result},
    output::{self, Format},
};
use serde_json::json;
use std::{io::Read as _, path::PathBuf};

/// Runs a coordinator until it is told to stop, or tells the node key of its folder.
pub(crate) fn coordinator(args: &CoordinatorArgs, ca: Option<&PathBuf>, format: Format) -> Result<()> {
    if let Some(CoordinatorVerb::Key { data }) = &args.verb {
        let key = matrixai_coordinator::node_key(data);
        let key = hex::encode(key.map_err(|error| CliError::new(Code::Local, error.to_string()))?);
        output::show(format, &json!({ "node_key": key }), || key.clone());
        return Ok(());
    }
    let mut flags = Vec::new();
    push_path(&mut flags, "tls.cert", args.tls_cert.as_ref());
    push_path(&mut flags, "tls.key", args.tls_key.as_ref());
    push_path(&mut flags, "tls.ca", ca);
    push_path(&mut flags, "data", args.data.as_ref());
    push(&mut flags, "listen.grpc", args.grpc.clone());
    push(&mut flags, "listen.web", args.web.clone());
    if !args.join.is_empty() {
        push(&mut flags, "join", Some(args.join.join(",")));
    }
    if !args.introduce.is_empty() {
        push(&mut flags, "introduce", Some(args.introduce.join(",")));
    }
    let config = matrixai_coordinator::Config::load(args.config.as_deref(), &flags)
        .map_err(|error| CliError::usage(error.to_string()))?;
    if args.exit_with_parent {
        end_with_input();
    }
    matrixai_coordinator::run(config).map_err(|error| CliError::new(Code::Local, error.to_string()))
}

/// Runs a worker until it is told to stop, or changes the limit of a running one.
pub(crate) fn worker(args: &WorkerArgs, ca: Option<&PathBuf>) -> Result<()> {
    if let Some(WorkerVerb::Limit { data, limit }) = &args.verb {
        matrixai_worker::set_limit(data, *limit).map_err(|error| CliError::usage(error.to_string()))?;
        output::note(&format!("the worker in {} may use {limit} of a core", data.display()));
        return Ok(());
    }
    let mut flags = Vec::new();
    push_path(&mut flags, "data", args.data.as_ref());
    push_path(&mut flags, "tls.ca", ca);
    push_path(&mut flags, "owner_key", args.owner.as_ref());
    push(&mut flags, "cpu_limit", args.cpu_limit.map(|limit| limit.to_string()));
    push(&mut flags, "region", args.region.clone());
    if !args.join.is_empty() {
        push(&mut flags, "join", Some(args.join.join(",")));
    }
    let config = matrixai_worker::Config::load(args.config.as_deref(), &flags)
        .map_err(|error| CliError::usage(error.to_string()))?;
    if args.exit_with_parent {
        end_with_input();
    }
    matrixai_worker::run(config).map_err(|error| CliError::new(Code::Local, error.to_string()))
}

fn push(flags: &mut Vec<(&'static str, String)>, key: &'static str, value: Option<String>) {
    flags.extend(value.map(|value| (key, value)));
}

fn push_path(flags: &mut Vec<(&'static str, String)>, key: &'static str, path: Option<&PathBuf>) {
    push(flags, key, path.map(|path| path.display().to_string()));
}

/// Ends this process when its standard input closes: the parent holds the other end, so a child never outlives it.
/// Ending at once is safe: whatever was acknowledged is on disk.
fn end_with_input() {
    std::thread::spawn(|| {
        let mut sink = [0; 64];
        while matches!(std::io::stdin().read(&mut sink), Ok(read) if read > 0) {}
        std::process::exit(0);
    });
}
