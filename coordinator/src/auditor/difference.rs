//! The first difference that an audit found: where, what should be there, what is.

use matrixai_state::ids::{CommandId, Key};
use std::fmt;

/// What does not hold. Closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// The source of the log: a damaged, missing or misplaced piece.
    Log,
    /// An entry's form.
    Entry,
    /// An envelope's form.
    Envelope,
    /// An envelope of another cluster.
    Cluster,
    /// An envelope's signature.
    Signature,
    /// The proof that whoever enrols a machine holds its key.
    Possession,
    /// Money that moved, came or went without cause.
    Money,
    /// Something else that must always hold of the state.
    Invariant,
    /// The log's hash at the close of an epoch, against what a majority signed.
    Segment,
    /// The state's root at the close of an epoch, against what a majority signed.
    Root,
}

impl What {
    /// The name for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Entry => "entry",
            Self::Envelope => "envelope",
            Self::Cluster => "cluster",
            Self::Signature => "signature",
            Self::Possession => "possession",
            Self::Money => "money",
            Self::Invariant => "invariant",
            Self::Segment => "segment",
            Self::Root => "root",
        }
    }
}

/// Which envelope of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// Its position in the entry, from 0.
    pub position: usize,
    /// Its signer; zeros when it cannot be read.
    pub key: Key,
    /// Its id; zeros when it cannot be read.
    pub command_id: CommandId,
}

/// A difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The first entry that it can be in.
    pub index: u64,
    /// The last entry that it can be in; the same where it is known exactly.
    pub through: u64,
    /// The envelope, where it is one's.
    pub envelope: Option<At>,
    /// What does not hold.
    pub what: What,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl Difference {
    pub(crate) fn entry(index: u64, what: What, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::entries((index, index), what, expected, found)
    }

    pub(crate) fn entries(
        (index, through): (u64, u64),
        what: What,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self { index, through, envelope: None, what, expected: expected.into(), found: found.into() }
    }

    pub(crate) fn envelope(
        index: u64,
        at: At,
        what: What,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self { envelope: Some(at), ..Self::entry(index, what, expected, found) }
    }

    /// Another entry than the next one.
    pub(crate) fn order(expected: u64, found: u64) -> Self {
        Self::entry(expected, What::Log, format!("entry {expected}"), format!("entry {found}"))
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.index == self.through {
            write!(f, "entry {}", self.index)?;
        } else {
            write!(f, "entries {} to {}", self.index, self.through)?;
        }
        if let Some(At { position, key, command_id }) = &self.envelope {
            let (key, id) = (hex::encode(key), hex::encode(command_id));
            write!(f, ", envelope {position} (command {id} of key {key})")?;
        }
        write!(f, ": {}: expected {}, found {}", self.what.as_str(), self.expected, self.found)
    }
}

impl std::error::Error for Difference {}
