//! raft-rs logs through slog; this drain passes what an operator should see on to `tracing` and drops the rest early.

use std::fmt::Write as _;

use slog::{Drain, KV, Level, Logger, Never, OwnedKVList, Record};

/// Target under which raft's own messages appear.
const TARGET: &str = "matrixai_consensus::raft";

/// A logger for raft-rs. Its information level is one line per message in bad times, so it becomes `debug`; its debug
/// and trace levels print whole messages and are dropped.
pub(crate) fn raft_logger() -> Logger {
    Logger::root(TracingDrain, slog::o!())
}

struct TracingDrain;

impl Drain for TracingDrain {
    type Ok = ();
    type Err = Never;

    fn is_enabled(&self, level: Level) -> bool {
        match level {
            Level::Critical | Level::Error => tracing::enabled!(target: TARGET, tracing::Level::ERROR),
            Level::Warning => tracing::enabled!(target: TARGET, tracing::Level::WARN),
            Level::Info => tracing::enabled!(target: TARGET, tracing::Level::DEBUG),
            Level::Debug | Level::Trace => false,
        }
    }

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        if !self.is_enabled(record.level()) {
            return Ok(());
        }
        let mut line = Line(record.msg().to_string());
        // Formatting into a string cannot fail, and a log line is not worth a failure.
        let _ = record.kv().serialize(record, &mut line);
        let _ = values.serialize(record, &mut line);
        let line = line.0;
        match record.level() {
            Level::Critical | Level::Error => tracing::error!(target: TARGET, "{line}"),
            Level::Warning => tracing::warn!(target: TARGET, "{line}"),
            Level::Info | Level::Debug | Level::Trace => tracing::debug!(target: TARGET, "{line}"),
        }
        Ok(())
    }
}

/// A message with its key-value pairs behind it.
struct Line(String);

impl slog::Serializer for Line {
    fn emit_arguments(&mut self, key: slog::Key, value: &std::fmt::Arguments<'_>) -> slog::Result {
        write!(self.0, " {key}={value}").map_err(slog::Error::from)
    }
}
