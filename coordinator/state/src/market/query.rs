//! What an order asks of a machine: a typed condition over its attributes, such as
//! `cores >= 8 && region in ["asia", "europe"] && speed.fgemm > 40e9`.
//!
//! Numbers are fixed-point (`query/number.rs`), so every replica decides alike. An attribute may be undefined (nothing has
//! measured it); then a comparison with it is neither true nor false, `&&` and `||` carry that on as Kleene's logic does,
//! and an order matches only what is *true*. A query is bounded in bytes, terms and depth, and has one canonical text: the
//! text of equal conditions that were written in unlike ways is the same, and reading it gives the same condition.
//!
//! | written | meaning |
//! |---|---|
//! | `a < b`, `<=`, `>`, `>=`, `==`, `!=` | numbers, with `+ - * /` between them; texts with `==` and `!=` only |
//! | `a in [x, y]` | equal to one of them |
//! | `!a`, `a && b`, `a \|\| b`, `(a)`, `true`, `false` | as usual, in this order of binding |
//! | `defined(a)` | whether the attribute has a value; never undefined itself |
//! | `provenance(a) == "measured"` | where the value comes from: `ledger`, `measured`, `attested`, `claimed` |
//! | `40e9`, `0.98`, `98%`, `40G`, `512MiB`, `2h` | at most nine decimals; sizes are in GiB, times in seconds |

mod attributes;
mod condition;
mod eval;
mod lexer;
mod number;
mod parser;
#[cfg(test)]
mod tests;

pub use attributes::{Attribute, Attributes, NumberAttribute, Provenance, TextAttribute};
pub use condition::{Comparison, Condition, Numeric, Operator, Values};
pub use eval::{Described, Truth};
pub use number::Number;
pub use parser::QueryError;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::{
    fmt,
    sync::{Arc, LazyLock},
};

/// Longest text of a query, bytes.
pub const QUERY_BYTES_MAX: usize = 1_024;
/// Most levels of operators one inside the other.
pub const QUERY_DEPTH_MAX: usize = 16;
/// Longest text literal, bytes.
pub const TEXT_BYTES_MAX: usize = 128;

/// A condition that has been read, and its canonical text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    text: Arc<str>,
    condition: Arc<Condition>,
}

impl Query {
    /// Reads a query. No text at all is the query that every machine satisfies.
    ///
    /// # Errors
    /// Says in which column what was expected.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let condition = parser::parse(text)?;
        let text = if condition == Condition::Const(true) { String::new() } else { condition.to_string() };
        // The canonical text must be readable again wherever it is stored.
        if text.len() > QUERY_BYTES_MAX {
            return Err(QueryError::too_long(text.len()));
        }
        Ok(Self { text: text.into(), condition: Arc::new(condition) })
    }

    /// The canonical text; empty for the query that every machine satisfies.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Whether every machine satisfies it.
    pub fn accepts_all(&self) -> bool {
        self.text.is_empty()
    }

    /// The condition.
    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    /// Whether a machine with these attributes satisfies it: neither false nor undefined.
    pub fn accepts<D: Described>(&self, attributes: &D) -> bool {
        self.condition.truth(attributes) == Truth::True
    }
}

/// One for all: most orders ask for nothing.
static EVERYTHING: LazyLock<Query> =
    LazyLock::new(|| Query { text: "".into(), condition: Arc::new(Condition::Const(true)) });

/// The query that every machine satisfies.
impl Default for Query {
    fn default() -> Self {
        EVERYTHING.clone()
    }
}

/// Stored as its canonical text.
impl Serialize for Query {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Query {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let query = Self::parse(&text).map_err(D::Error::custom)?;
        if *query.text == *text { Ok(query) } else { Err(D::Error::custom("a query is not in its canonical form")) }
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
