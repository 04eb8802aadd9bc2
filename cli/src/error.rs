//! What a verb can end with, and the exit code that scripts see for it.

use std::fmt;

/// Exit codes: 0 done, 1 refused or not as wanted, 2 wrong usage or input, 3 cluster out of reach, 4 trouble of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// The cluster refused, or a result is not what was asked for.
    Refused = 1,
    /// The command line or an input file is wrong.
    Usage = 2,
    /// No coordinator could be reached in time.
    Unreachable = 3,
    /// A file, a port or a child process of this machine.
    Local = 4,
}

/// A failure with its exit code; the message says what was wrong, where, and what to do.
#[derive(Debug)]
pub(crate) struct CliError {
    pub(crate) code: Code,
    pub(crate) message: String,
}

pub(crate) type Result<T> = std::result::Result<T, CliError>;

impl CliError {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(Code::Refused, message)
    }

    pub(crate) fn local(doing: &str, error: impl fmt::Display) -> Self {
        Self::new(Code::Local, format!("cannot {doing}: {error}"))
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
