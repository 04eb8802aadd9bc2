//! What a run prints: notes for people on standard error, one JSON object as the last line of standard output.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use serde_json::Value;
use std::process::ExitCode;

/// A line for whoever watches.
pub fn note(text: &str) {
    eprintln!("{text}");
}

/// Prints the result as the last line, or why there is none.
pub fn finish(result: crate::Result<(Value, bool)>) -> ExitCode {
    match result {
        Ok((value, good)) => {
            println!("{value}");
            if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(2)
        }
    }
}

/// Runs to the end on a runtime with a thread a core.
///
/// # Errors
/// Those of the work, or when the system gives no threads.
pub fn on_runtime<T>(work: impl Future<Output = crate::Result<T>>) -> crate::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(crate::doing("start the runtime"))?.block_on(work)
}
