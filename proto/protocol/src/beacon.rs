//! The ledger's randomness (§0a): a chain R_0, R_1, … that no single party can choose or foresee. Each beat hashes the
//! VRF outputs of a majority of the coordinators into the next R.

use crate::{Hash, sha256};

/// What the shares of beat `b` prove: it contains R of the beat before, so nobody can share earlier.
#[must_use]
pub fn alpha(chain_id: &Hash, b: u64, prev: &Hash) -> Hash {
    sha256(&[b"MatrixAI/beacon/v1", chain_id, &b.to_le_bytes(), prev])
}

/// R after a beat, from the shares' outputs in order of node id.
#[must_use]
pub fn next(prev: &Hash, betas: &[[u8; 64]]) -> Hash {
    let mut parts: Vec<&[u8]> = Vec::with_capacity(betas.len() + 1);
    parts.push(prev);
    parts.extend(betas.iter().map(|beta| beta.as_slice()));
    sha256(&parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_depends_on_everything() {
        let (chain, r) = ([1; 32], [2; 32]);
        assert_eq!(alpha(&chain, 258, &r), sha256(&[b"MatrixAI/beacon/v1", &chain, &[2, 1, 0, 0, 0, 0, 0, 0], &r]));
        assert_ne!(alpha(&chain, 1, &r), alpha(&chain, 2, &r));

        let (a, b) = ([3; 64], [4; 64]);
        assert_eq!(next(&r, &[a, b]), sha256(&[&r, &a, &b]));
        assert_ne!(next(&r, &[a, b]), next(&r, &[b, a]));
        assert_ne!(next(&r, &[a]), next(&r, &[a, b]));
    }
}
