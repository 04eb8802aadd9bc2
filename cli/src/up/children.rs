//! The child processes: started from this same binary, each in its own folder, ended with this one.
//!
//! A child's standard input is a pipe that this process holds open. When this process ends, however it ends, the
//! pipe closes and the child ends too, so nothing is left running.

use super::people::People;
use crate::{
    client::Client,
    error::{CliError, Result},
};
use serde::Deserialize;
use std::{fs, path::Path, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    time::timeout,
};

const READY_TIMEOUT: Duration = Duration::from_secs(30);
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// What a child prints when it serves.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Ready {
    #[serde(default)]
    pub(super) node_key: String,
    #[serde(default)]
    pub(super) grpc: String,
    #[serde(default)]
    pub(super) web: String,
    #[serde(default)]
    pub(super) cluster_id: Option<String>,
    #[serde(default)]
    pub(super) machine: String,
}

/// Every child of this run, oldest first.
#[derive(Debug, Default)]
pub(super) struct Children {
    running: Vec<Running>,
}

/// A child with its input apart: tokio closes the input of a child that is waited for, and that would end it.
#[derive(Debug)]
struct Running {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
}

impl Children {
    /// Starts one child in `folder` and waits until it serves.
    pub(super) async fn start(&mut self, name: &str, folder: &Path, args: &[String]) -> Result<Ready> {
        let doing = format!("start {name}");
        fs::create_dir_all(folder).map_err(|error| CliError::local(&doing, error))?;
        let program = std::env::current_exe().map_err(|error| CliError::local(&doing, error))?;
        let log_path = folder.join("log.txt");
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log_path)
            .map_err(|error| CliError::local(&doing, error))?;
        let mut child = Command::new(program)
            .args(args)
            .arg("--exit-with-parent")
            .current_dir(folder)
            .env_remove("MATRIXAI_CLUSTER")
            .env_remove("MATRIXAI_KEY")
            .env_remove("MATRIXAI_TLS_CA")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(log))
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| CliError::local(&doing, error))?;
        let stdout = child.stdout.take().ok_or_else(|| CliError::local(&doing, "it has no output"))?;
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout(READY_TIMEOUT, lines.next_line()).await;
        let input = child.stdin.take();
        self.running.push(Running { name: name.to_owned(), child, input });
        let failed = |why: &str| CliError::local(&doing, format!("{why}; its log is {}", log_path.display()));
        match line {
            Ok(Ok(Some(line))) => {
                // Keep the pipe empty so that a child never blocks on it.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                serde_json::from_str(&line)
                    .map_err(|error| failed(&format!("its ready line is not understood ({error})")))
            }
            Ok(_) => Err(failed("it ended before it served")),
            Err(_) => Err(failed(&format!("it did not serve within {} s", READY_TIMEOUT.as_secs()))),
        }
    }

    /// Starts the workers, each with its owner's key in its own folder; answers their machine ids.
    pub(super) async fn start_workers(
        &mut self,
        home: &Path,
        limits: &[f64],
        client: &Client,
        people: &People,
    ) -> Result<Vec<String>> {
        let mut machines = Vec::new();
        for (number, limit) in limits.iter().enumerate() {
            let name = format!("worker-{}", number + 1);
            let folder = home.join(&name);
            people.give_owner_key(number, &folder)?;
            let args = [
                "worker",
                "--join",
                &client.addresses().join(","),
                "--data",
                "data",
                "--owner",
                "owner.key",
                "--cpu-limit",
                &limit.to_string(),
            ];
            let ready = self.start(&name, &folder, &args.map(str::to_owned)).await?;
            machines.push(ready.machine);
        }
        Ok(machines)
    }

    /// Waits until one of the children ends; answers its name.
    pub(super) async fn first_end(&mut self) -> String {
        let waits = self.running.iter_mut().map(|running| {
            Box::pin(async move {
                let _ = running.child.wait().await;
                running.name.clone()
            })
        });
        futures::future::select_all(waits).await.0
    }

    /// Ends every child: closing its input asks it to, and what does not follow is killed.
    pub(super) async fn end(&mut self) {
        for running in self.running.iter_mut().rev() {
            drop(running.input.take());
        }
        for running in self.running.iter_mut().rev() {
            if timeout(END_TIMEOUT, running.child.wait()).await.is_err() {
                let _ = running.child.kill().await;
            }
        }
    }
}
