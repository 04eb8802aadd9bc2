//! The formulas that every part of MatrixAI must agree on to the bit: random numbers, commitments, the beacon, training
//! proofs, splitting. They live in a package of their own because coordinators decide by them, workers compute by them
//! and auditors check by them; whoever disagreed on one would pay or be paid wrongly.
//!
//! Absent by design: I/O, clocks, floats, randomness of our own, and any knowledge of the wire. Numbers are integers;
//! a section sign in a comment refers to the protocol document (v1).
#![forbid(unsafe_code)]
#![deny(clippy::float_arithmetic)]

pub mod beacon;
pub mod credit;
pub mod drilling;
pub mod philox;
pub mod spec;
pub mod split;
pub mod training;
pub mod vrf;

use sha2::{Digest, Sha256};

/// A SHA-256 value.
pub type Hash = [u8; 32];

/// SHA-256 of the parts laid end to end. Callers keep the encoding unambiguous: a domain tag first, fixed widths after.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

#[cfg(test)]
pub(crate) mod test_support {
    //! Hex, written twice nowhere.

    /// Bytes of a hex string; test vectors only.
    pub(crate) fn unhex(text: &str) -> Vec<u8> {
        assert!(text.len().is_multiple_of(2), "odd hex");
        text.as_bytes().chunks(2).map(|pair| nibble(pair[0]) << 4 | nibble(pair[1])).collect()
    }

    pub(crate) fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    fn nibble(c: u8) -> u8 {
        match c {
            b'0'..=b'9' => c - b'0',
            b'a'..=b'f' => c - b'a' + 10,
            other => panic!("not hex: {other}"),
        }
    }
}
