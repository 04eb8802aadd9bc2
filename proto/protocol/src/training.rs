//! Proof of training (§2): seeds, the chain of checkpoints, the seal on a step trace, and the challenge.
//!
//! A training is V virtual workers times R rounds; one virtual worker's round is a *segment*, number round * V + v.
//! Everything random comes from sigma, which contains R of the beacon after the match: nobody chooses it.

use crate::philox::Draw;
use crate::{Hash, sha256};

/// The `v` of the seed that makes the first weights.
pub const SIGMA_INIT: u32 = 0xffff_ffff;
/// Prefixes of RFC 6962: a leaf can never be taken for a node.
const LEAF: &[u8] = &[0x00];
const NODE: &[u8] = &[0x01];

/// Seed of a virtual worker of a job (§2.2).
#[must_use]
pub fn sigma(job: &[u8; 20], v: u32, r: &Hash) -> Hash {
    sha256(&[b"MatrixAI/PoT/seed/v1", job, &v.to_le_bytes(), r])
}

/// Leaf `i` of the chain (§2.4): weights and optimiser state after round `i`, bound to the leaf before; that of leaf 0
/// is all zeros. `step` is `i` times the steps of a round.
#[must_use]
pub fn leaf(i: u64, step: u64, weights: &Hash, opt: &Hash, prev: &Hash) -> Hash {
    sha256(&[LEAF, b"ckpt", &i.to_le_bytes(), &step.to_le_bytes(), weights, opt, prev])
}

/// Hash of the optimiser's state after a round: the outer momentum, then for each virtual worker in order its delta and
/// the key of the machine that computed it. `deltas` and `machine_keys` are of one length (both empty for round 0);
/// what the longer has too much is not hashed.
#[must_use]
pub fn optstate_hash(momentum: &Hash, deltas: &[Hash], machine_keys: &[[u8; 32]]) -> Hash {
    let mut parts: Vec<&[u8]> = vec![b"MatrixAI/PoT/opt/v1", momentum];
    for (delta, key) in deltas.iter().zip(machine_keys) {
        parts.push(delta);
        parts.push(key);
    }
    sha256(&parts)
}

/// Root of the RFC 6962 tree over hashes that are leaf hashes already; of nothing, the hash of nothing.
#[must_use]
pub fn merkle_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => sha256(&[]),
        [only] => *only,
        // The left tree is the largest full one that leaves something to its right.
        more => {
            let (left, right) = more.split_at(more.len().next_power_of_two() / 2);
            sha256(&[NODE, &merkle_root(left), &merkle_root(right)])
        }
    }
}

/// Leaf `j` of a segment's trace: weights and inner momentum after step `j`.
#[must_use]
pub fn trace_leaf(j: u64, weights: &Hash, momentum: &Hash) -> Hash {
    sha256(&[LEAF, b"step", &j.to_le_bytes(), weights, momentum])
}

/// Seal on a segment's trace root. The salt keeps it shut until a verifier has posted its own root, so a root can be
/// neither copied from it nor fitted to it.
#[must_use]
pub fn seal(job: &[u8; 20], round: u32, v: u32, key: &[u8; 32], trace_root: &Hash, salt: &[u8; 32]) -> Hash {
    sha256(&[b"MatrixAI/PoT/seal/v1", job, &round.to_le_bytes(), &v.to_le_bytes(), key, trace_root, salt])
}

/// rho of a job (§2.4): contains R after the commit, so that re-committing cannot grind for a lucky challenge.
#[must_use]
pub fn challenge(chain_id: &Hash, job: &[u8; 20], root: &Hash, r: &Hash) -> Hash {
    sha256(&[b"MatrixAI/PoT/challenge/v1", chain_id, job, root, r])
}

/// Segments to be replayed, ascending: the first, the last, and `spot` others drawn without repeats from those between;
/// all of them where there are no more than that.
#[must_use]
pub fn challenged(rho: &Hash, segments: u64, spot: u32) -> Vec<u64> {
    let Some(between) = segments.checked_sub(2) else {
        return (0..segments).collect();
    };
    if between <= u64::from(spot) {
        return (0..segments).collect();
    }
    let mut chosen = Draw::new(rho, 0).draw_distinct(between, spot as usize);
    chosen.iter_mut().for_each(|index| *index += 1);
    chosen.extend([0, segments - 1]);
    chosen.sort_unstable();
    chosen
}

/// Draws of the verifier of a challenged segment; another attempt draws afresh.
#[must_use]
pub fn verifier_draw(rho: &Hash, segment: u64, attempt: u32) -> Draw {
    Draw::new(&sha256(&[b"MatrixAI/PoT/verifier/v1", rho, &segment.to_le_bytes(), &attempt.to_le_bytes()]), 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::hex;

    fn leaves(count: u8) -> Vec<Hash> {
        (0..count).map(|i| sha256(&[LEAF, &[i]])).collect()
    }

    /// RFC 6962 §2.1, read literally: k is the largest power of two smaller than n.
    fn literal_root(leaves: &[Hash]) -> Hash {
        match leaves.len() {
            0 => sha256(&[]),
            1 => leaves[0],
            n => {
                let mut k = 1;
                while k * 2 < n {
                    k *= 2;
                }
                sha256(&[NODE, &literal_root(&leaves[..k]), &literal_root(&leaves[k..])])
            }
        }
    }

    #[test]
    fn merkle_roots_are_those_of_rfc_6962() {
        assert_eq!(hex(&merkle_root(&[])), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        // The leaf of the empty string, as in the certificate transparency test data.
        let empty = sha256(&[LEAF]);
        assert_eq!(hex(&merkle_root(&[empty])), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        for count in 0..40 {
            assert_eq!(merkle_root(&leaves(count)), literal_root(&leaves(count)), "{count} leaves");
        }
        let three = leaves(3);
        let expect = sha256(&[NODE, &sha256(&[NODE, &three[0], &three[1]]), &three[2]]);
        assert_eq!(merkle_root(&three), expect);
    }

    #[test]
    fn sigma_differs_by_worker_job_and_beacon() {
        let (job, r) = ([1; 20], [2; 32]);
        assert_eq!(sigma(&job, 258, &r), sha256(&[b"MatrixAI/PoT/seed/v1", &job, &[2, 1, 0, 0], &r]));
        assert_ne!(sigma(&job, 0, &r), sigma(&job, SIGMA_INIT, &r));
        assert_ne!(sigma(&job, 0, &r), sigma(&[3; 20], 0, &r));
        assert_ne!(sigma(&job, 0, &r), sigma(&job, 0, &[3; 32]));
    }

    #[test]
    fn leaves_chain_and_bind_state_and_machines() {
        let (weights, momentum, zero) = ([1; 32], [2; 32], [0; 32]);
        let first = leaf(0, 0, &weights, &optstate_hash(&momentum, &[], &[]), &zero);
        let opt = |keys: &[[u8; 32]]| optstate_hash(&momentum, &[[3; 32], [4; 32]], keys);
        let second = leaf(1, 60, &weights, &opt(&[[5; 32], [6; 32]]), &first);
        assert_ne!(second, leaf(1, 60, &weights, &opt(&[[6; 32], [5; 32]]), &first));
        assert_ne!(second, leaf(1, 60, &weights, &opt(&[[5; 32], [6; 32]]), &zero));
        assert_ne!(second, leaf(1, 61, &weights, &opt(&[[5; 32], [6; 32]]), &first));
        // A leaf is no trace leaf and no node.
        assert_ne!(trace_leaf(0, &weights, &momentum), sha256(&[NODE, &weights, &momentum]));
    }

    #[test]
    fn seals_bind_every_part() {
        let whole = seal(&[1; 20], 2, 3, &[4; 32], &[5; 32], &[6; 32]);
        assert_ne!(whole, seal(&[9; 20], 2, 3, &[4; 32], &[5; 32], &[6; 32]));
        assert_ne!(whole, seal(&[1; 20], 3, 2, &[4; 32], &[5; 32], &[6; 32]));
        assert_ne!(whole, seal(&[1; 20], 2, 3, &[9; 32], &[5; 32], &[6; 32]));
        assert_ne!(whole, seal(&[1; 20], 2, 3, &[4; 32], &[9; 32], &[6; 32]));
        assert_ne!(whole, seal(&[1; 20], 2, 3, &[4; 32], &[5; 32], &[9; 32]));
    }

    #[test]
    fn challenges_hold_the_ends_and_others_between() {
        let rho = challenge(&[1; 32], &[2; 20], &[3; 32], &[4; 32]);
        for (segments, spot, count) in [(280, 8, 10), (1000, 0, 2), (11, 8, 10), (3, 0, 2)] {
            let drawn = challenged(&rho, segments, spot);
            assert_eq!(drawn.len(), count, "{segments} {spot}");
            assert!(drawn.is_sorted_by(|a, b| a < b));
            assert_eq!((drawn[0], drawn[count - 1]), (0, segments - 1));
        }
        let all = |segments, spot| assert_eq!(challenged(&rho, segments, spot), (0..segments).collect::<Vec<_>>());
        all(0, 8);
        all(1, 8);
        all(2, 0);
        all(3, 1);
        all(10, 8);
        all(10, u32::MAX);
        let other = challenge(&[1; 32], &[2; 20], &[3; 32], &[5; 32]);
        assert_ne!(challenged(&rho, 280, 8), challenged(&other, 280, 8));
    }

    #[test]
    fn every_segment_between_is_drawn_about_equally_often() {
        let mut counts = [0u32; 12];
        for i in 0..2000u32 {
            for segment in challenged(&sha256(&[&i.to_le_bytes()]), 12, 3) {
                counts[segment as usize] += 1;
            }
        }
        assert_eq!((counts[0], counts[11]), (2000, 2000));
        // 600 each on average; five standard deviations.
        assert!(counts[1..11].iter().all(|c| (495..705).contains(c)), "{counts:?}");
    }

    #[test]
    fn verifiers_are_drawn_afresh_per_segment_and_attempt() {
        let draw = |segment, attempt| verifier_draw(&[1; 32], segment, attempt).next_u64();
        assert_eq!(draw(1, 1), draw(1, 1));
        assert_ne!(draw(1, 1), draw(1, 2));
        assert_ne!(draw(1, 1), draw(2, 1));
    }
}
