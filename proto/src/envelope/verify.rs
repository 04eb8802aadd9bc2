//! Whether an ed25519 signature holds: one rule, with two ways to compute it that cannot differ.
//!
//! **The rule.** For a key A, a message M and a signature (R, S): A and R are canonical encodings of points, A is not of small
//! order, S is below the group's order L, and 8·S·B = 8·R + 8·k·A with k = SHA-512(R ‖ A ‖ M) mod L (RFC 8032 §5.1.7 in its
//! cofactored form; Chalkias, Garillot and Nikolaenko, "Taming the many EdDSAs", 2020, say why it matters that all use one).
//!
//! **Many at once.** With z_i random, 128 bits, and unknown to whoever signed, 8·(Σ z_i·S_i)·B = Σ 8·z_i·R_i + Σ 8·z_i·k_i·A_i.
//! Multiplied by 8 every term lies in the subgroup of prime order L. If every signature meets the rule, the sum does; if one
//! does not, its term is not the identity there, and the sum is the identity for at most one z_i in 2^128. That is why the rule
//! is the cofactored one: without the 8, parts of small order could cancel in the sum and not alone, and what holds would depend
//! on a signature's company. When the sum does not hold, each is looked at alone.

use super::{KnownKeys, SignatureError, signed_bytes};
use crate::v1::Envelope;
use curve25519_dalek::{
    EdwardsPoint, Scalar,
    constants::ED25519_BASEPOINT_POINT,
    edwards::CompressedEdwardsY,
    traits::{IsIdentity as _, VartimeMultiscalarMul as _},
};
use ring::{
    digest,
    rand::{SecureRandom as _, SystemRandom},
};
use std::iter::once;

/// Checks an envelope's lengths and signature.
///
/// # Errors
/// [`SignatureError::Length`] names the field; [`SignatureError::Wrong`] is every other mismatch.
pub fn verify(envelope: &Envelope) -> Result<(), SignatureError> {
    if Equation::of(envelope, None)?.holds() { Ok(()) } else { Err(SignatureError::Wrong) }
}

/// Checks many envelopes, each as [`verify`] would, for less work than one after the other. The points of keys that were
/// seen before come from `known`, and those of signatures that hold go there.
pub fn verify_all(envelopes: &[&Envelope], known: &KnownKeys) -> Vec<Result<(), SignatureError>> {
    let points = known.points(envelopes.iter().map(|envelope| envelope.key.as_slice()));
    let of = |(envelope, point): (&&Envelope, &Option<EdwardsPoint>)| Equation::of(envelope, *point);
    let equations: Vec<Result<Equation, SignatureError>> = envelopes.iter().zip(&points).map(of).collect();
    let good: Vec<&Equation> = equations.iter().flatten().collect();
    let all_hold = good.len() > 1 && hold_together(&good);
    let decide = |equation: &Result<Equation, SignatureError>| match equation {
        Ok(equation) if all_hold || equation.holds() => Ok(()),
        Ok(_) => Err(SignatureError::Wrong),
        Err(error) => Err(*error),
    };
    let results: Vec<Result<(), SignatureError>> = equations.iter().map(decide).collect();
    let new = points.iter().zip(&equations).zip(&results).filter_map(|((point, equation), result)| match equation {
        Ok(equation) if point.is_none() && result.is_ok() => Some((equation.key, -equation.minus_a)),
        Ok(_) | Err(_) => None,
    });
    known.remember(new);
    results
}

/// What is left to compute of a signature whose form is right.
struct Equation {
    key: [u8; 32],
    /// The key, negated.
    minus_a: EdwardsPoint,
    r: EdwardsPoint,
    s: Scalar,
    k: Scalar,
}

impl Equation {
    /// Of this envelope, whose key's point may be known to be this one.
    fn of(envelope: &Envelope, known: Option<EdwardsPoint>) -> Result<Self, SignatureError> {
        field::<32>("cluster_id", &envelope.cluster_id)?;
        field::<16>("command_id", &envelope.command_id)?;
        let key: [u8; 32] = field("key", &envelope.key)?;
        let signature: [u8; 64] = field("signature", &envelope.signature)?;
        let (mut r, mut s) = ([0; 32], [0; 32]);
        r.copy_from_slice(&signature[..32]);
        s.copy_from_slice(&signature[32..]);

        let a = known.or_else(|| point(key).filter(|a| !a.is_small_order())).ok_or(SignatureError::Wrong)?;
        let s = Option::from(Scalar::from_canonical_bytes(s)).ok_or(SignatureError::Wrong)?;
        let mut hash = digest::Context::new(&digest::SHA512);
        hash.update(&r);
        hash.update(&key);
        hash.update(&signed_bytes(envelope));
        let mut wide = [0; 64];
        wide.copy_from_slice(hash.finish().as_ref());
        let r = point(r).ok_or(SignatureError::Wrong)?;
        Ok(Self { key, minus_a: -a, r, s, k: Scalar::from_bytes_mod_order_wide(&wide) })
    }

    fn holds(&self) -> bool {
        let found = EdwardsPoint::vartime_double_scalar_mul_basepoint(&self.k, &self.minus_a, &self.s);
        (found - self.r).mul_by_cofactor().is_identity()
    }
}

/// Whether the random sum of these equations holds. Without random bytes it is said not to, and each is looked at alone.
fn hold_together(equations: &[&Equation]) -> bool {
    let mut random = vec![0; 16 * equations.len()];
    if SystemRandom::new().fill(&mut random).is_err() {
        return false;
    }
    let (chunks, _) = random.as_chunks::<16>();
    let z: Vec<Scalar> = chunks.iter().map(|bytes| Scalar::from(u128::from_le_bytes(*bytes))).collect();
    let of_base: Scalar = z.iter().zip(equations).map(|(z, one)| z * one.s).sum();
    let of_keys = z.iter().zip(equations).map(|(z, one)| z * one.k);
    // The points are negated, not these scalars: half as long as −z mod L, they need half the additions.
    let of_rs = z.iter().copied();
    let points = once(ED25519_BASEPOINT_POINT)
        .chain(equations.iter().map(|one| one.minus_a))
        .chain(equations.iter().map(|one| -one.r));
    let sum = EdwardsPoint::vartime_multiscalar_mul(once(of_base).chain(of_keys).chain(of_rs), points);
    sum.mul_by_cofactor().is_identity()
}

fn field<const N: usize>(name: &'static str, bytes: &[u8]) -> Result<[u8; N], SignatureError> {
    bytes.try_into().map_err(|_| SignatureError::Length(name, N))
}

/// The point of a canonical encoding: y below p = 2^255 − 19, and no sign on x = 0 (which is y = 1 and y = −1).
fn point(bytes: [u8; 32]) -> Option<EdwardsPoint> {
    let sign = bytes[31] >> 7;
    let mut y = bytes;
    y[31] &= 0x7f;
    let high = y[31] == 0x7f && y[1..31].iter().all(|byte| *byte == 0xff);
    if high && y[0] >= 0xed {
        return None;
    }
    let one = y[0] == 1 && y[1..].iter().all(|byte| *byte == 0);
    let minus_one = high && y[0] == 0xec;
    if sign == 1 && (one || minus_one) {
        return None;
    }
    CompressedEdwardsY(bytes).decompress()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::envelope::{COMMANDS, Signer};
    use curve25519_dalek::constants::{ED25519_BASEPOINT_TABLE, EIGHT_TORSION};
    use ring::signature::{ED25519, UnparsedPublicKey};

    fn sealed(number: u8) -> Envelope {
        let signer = Signer::from_seed([number; 32]).unwrap();
        signer.seal([9; 32], COMMANDS, [number; 16], 77, vec![number; usize::from(number)])
    }

    /// A signature with small-order parts in key and R, as only the key's owner can make it: S = r + k·a.
    fn with_torsion(a_torsion: usize, r_torsion: usize) -> Envelope {
        let (a, r) = (Scalar::from(12_345_u64), Scalar::from(67_890_u64));
        let point = |scalar: &Scalar, torsion: usize| scalar * ED25519_BASEPOINT_TABLE + EIGHT_TORSION[torsion];
        let (key, r_point) = (point(&a, a_torsion).compress(), point(&r, r_torsion).compress());
        let mut envelope = sealed(3);
        envelope.key = key.0.to_vec();
        let hash = digest::digest(&digest::SHA512, &[&r_point.0[..], &key.0, &signed_bytes(&envelope)].concat());
        let k = Scalar::from_bytes_mod_order_wide(hash.as_ref().try_into().unwrap());
        envelope.signature = [r_point.0, (r + k * a).to_bytes()].concat();
        envelope
    }

    #[test]
    fn honest_signatures_hold_alone_and_together_and_by_rings_rule() {
        let all: Vec<Envelope> = (1..=70).map(sealed).collect();
        for one in &all {
            verify(one).unwrap();
            UnparsedPublicKey::new(&ED25519, &one.key).verify(&signed_bytes(one), &one.signature).unwrap();
        }
        let all: Vec<&Envelope> = all.iter().collect();
        assert!(verify_all(&all, &KnownKeys::default()).into_iter().all(|result| result.is_ok()));
        assert!(verify_all(&[], &KnownKeys::default()).is_empty());
    }

    #[test]
    fn one_wrong_signature_among_many_is_found() {
        for at in 0..5 {
            let mut all: Vec<Envelope> = (1..=5).map(sealed).collect();
            all[at].payload.push(0);
            let all: Vec<&Envelope> = all.iter().collect();
            let found: Vec<bool> =
                verify_all(&all, &KnownKeys::default()).into_iter().map(|result| result.is_err()).collect();
            assert_eq!(found, (0..5).map(|place| place == at).collect::<Vec<_>>());
        }
    }

    #[test]
    fn company_changes_nothing_for_points_with_small_order_parts() {
        // Kept from one to the next: a known key decides nothing either.
        let known = KnownKeys::default();
        for a_torsion in 0..8 {
            for r_torsion in 0..8 {
                let odd = with_torsion(a_torsion, r_torsion);
                assert_eq!(verify(&odd), Ok(()), "cofactored: small-order parts do not count");
                let (good, again) = (sealed(1), odd.clone());
                assert_eq!(verify_all(&[&odd, &good, &again], &known), [Ok(()), Ok(()), Ok(())]);
                let mut wrong = odd.clone();
                wrong.expires_ms += 1;
                let verdicts = verify_all(&[&wrong, &good, &odd], &known);
                assert_eq!(verdicts, [Err(SignatureError::Wrong), Ok(()), Ok(())]);
            }
        }
    }

    #[test]
    fn keys_of_small_order_and_encodings_that_are_not_canonical_are_refused() {
        for torsion in EIGHT_TORSION {
            // R = A, S = 0 would satisfy the equation for every message.
            let mut envelope = sealed(3);
            envelope.key = torsion.compress().0.to_vec();
            envelope.signature = [torsion.compress().0, [0; 32]].concat();
            assert_eq!(verify(&envelope), Err(SignatureError::Wrong));
        }
        let p = |low: u8| {
            let mut bytes = [0xff; 32];
            (bytes[0], bytes[31]) = (low, 0x7f);
            bytes
        };
        assert!(point(p(0xec)).is_some(), "y = −1");
        assert!((0xed..=0xff).all(|low| point(p(low)).is_none()), "y from p on");
        let mut signed_one = [0; 32];
        (signed_one[0], signed_one[31]) = (1, 0x80);
        assert!(point(signed_one).is_none(), "x = 0 has no sign");
    }

    #[test]
    fn a_scalar_from_the_order_on_is_refused() {
        let mut envelope = sealed(3);
        // S + L: the same scalar, written otherwise.
        let order: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let mut carry = 0_u16;
        for (byte, add) in envelope.signature[32..].iter_mut().zip(order) {
            carry += u16::from(*byte) + u16::from(add);
            *byte = (carry & 0xff) as u8;
            carry >>= 8;
        }
        assert_eq!(verify(&envelope), Err(SignatureError::Wrong));
    }

    #[test]
    fn wrong_lengths_are_named() {
        let mut envelope = sealed(3);
        envelope.key.pop();
        assert_eq!(verify(&envelope), Err(SignatureError::Length("key", 32)));
        let good = sealed(1);
        assert_eq!(
            verify_all(&[&good, &envelope], &KnownKeys::default()),
            [Ok(()), Err(SignatureError::Length("key", 32))]
        );
    }
}
