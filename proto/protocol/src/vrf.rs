//! ECVRF-EDWARDS25519-SHA512-TAI of RFC 9381 (§3.1): a key's one provable random output for each input.
//!
//! Our own, because the published crates accept s >= q or loose point encodings; proofs enter hashes, so each must have
//! exactly one spelling. Try-and-increment takes time that depends on alpha alone, and alpha is public.

use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::{Scalar, clamp_integer};
use curve25519_dalek::traits::{IsIdentity, VartimeMultiscalarMul};
use sha2::{Digest, Sha512};

/// Bytes of a proof: Gamma 32, c 16, s 32.
pub const PROOF_BYTES: usize = 80;
/// Bytes of an output.
pub const OUTPUT_BYTES: usize = 64;

const SUITE: u8 = 0x03;
const CHALLENGE_BYTES: usize = 16;

/// The secret half of an ed25519 seed: scalar, nonce prefix, and the encoded public key.
struct Secret {
    x: Scalar,
    prefix: [u8; 32],
    public: [u8; 32],
}

impl Secret {
    fn expand(seed: &[u8; 32]) -> Self {
        let (low, prefix) = halves(&sha512(&[seed]));
        let x = Scalar::from_bytes_mod_order(clamp_integer(low));
        Self { x, prefix, public: EdwardsPoint::mul_base(&x).compress().to_bytes() }
    }
}

/// The ed25519 public key of a seed.
#[must_use]
pub fn public_key(seed: &[u8; 32]) -> [u8; 32] {
    Secret::expand(seed).public
}

/// Proves the output of `alpha` under the key of `seed` (RFC 9381 §5.1).
#[must_use]
pub fn prove(seed: &[u8; 32], alpha: &[u8]) -> [u8; PROOF_BYTES] {
    let secret = Secret::expand(seed);
    // Each try fails with probability one half: all 256 fail for no alpha that anyone will ever see.
    let h = encode_to_curve(&secret.public, alpha).expect("one of 256 candidates is a point");
    let h_bytes = h.compress().to_bytes();
    let gamma = secret.x * h;
    let gamma_bytes = gamma.compress().to_bytes();
    let k = Scalar::from_bytes_mod_order_wide(&sha512(&[&secret.prefix, &h_bytes]));
    let c = challenge(&secret.public, &h_bytes, &gamma_bytes, &EdwardsPoint::mul_base(&k), &(k * h));
    let s = k + scalar_of(&c) * secret.x;

    let mut proof = [0; PROOF_BYTES];
    proof[..32].copy_from_slice(&gamma_bytes);
    proof[32..48].copy_from_slice(&c);
    proof[48..].copy_from_slice(s.as_bytes());
    proof
}

/// The output of `alpha` if the proof is right (RFC 9381 §5.3, with key validation). `None` otherwise, which includes
/// every encoding that is not the only one: s >= q, y >= p, a negative zero, a wrong length, a key of small order.
#[must_use]
pub fn verify(key: &[u8; 32], alpha: &[u8], proof: &[u8]) -> Option<[u8; OUTPUT_BYTES]> {
    let proof: &[u8; PROOF_BYTES] = proof.try_into().ok()?;
    let gamma_bytes: [u8; 32] = proof[..32].try_into().ok()?;
    let c: [u8; CHALLENGE_BYTES] = proof[32..48].try_into().ok()?;
    let s_bytes: [u8; 32] = proof[48..].try_into().ok()?;

    let y = decode_point(key)?;
    if y.mul_by_cofactor().is_identity() {
        return None;
    }
    let gamma = decode_point(&gamma_bytes)?;
    let s = Option::<Scalar>::from(Scalar::from_canonical_bytes(s_bytes))?;
    let h = encode_to_curve(key, alpha)?;

    let c_scalar = scalar_of(&c);
    let u = EdwardsPoint::vartime_double_scalar_mul_basepoint(&-c_scalar, &y, &s);
    let v = EdwardsPoint::vartime_multiscalar_mul([s, -c_scalar], [h, gamma]);
    (challenge(key, &h.compress().to_bytes(), &gamma_bytes, &u, &v) == c).then(|| output(&gamma))
}

/// The output that a valid proof gives (RFC 9381 §5.2). `None` if Gamma is not a canonical point; proves nothing.
#[must_use]
pub fn proof_to_output(proof: &[u8; PROOF_BYTES]) -> Option<[u8; OUTPUT_BYTES]> {
    let gamma_bytes: [u8; 32] = proof[..32].try_into().ok()?;
    decode_point(&gamma_bytes).map(|gamma| output(&gamma))
}

fn output(gamma: &EdwardsPoint) -> [u8; OUTPUT_BYTES] {
    sha512(&[&[SUITE, 0x03], gamma.mul_by_cofactor().compress().as_bytes(), &[0x00]])
}

/// Try-and-increment (RFC 9381 §5.4.1.1), salted with the public key.
fn encode_to_curve(public: &[u8; 32], alpha: &[u8]) -> Option<EdwardsPoint> {
    (0..=u8::MAX).find_map(|counter| {
        let (candidate, _) = halves(&sha512(&[&[SUITE, 0x01], public, alpha, &[counter, 0x00]]));
        let point = decode_point(&candidate)?.mul_by_cofactor();
        (!point.is_identity()).then_some(point)
    })
}

/// RFC 9381 §5.4.3.
fn challenge(
    public: &[u8; 32],
    h: &[u8; 32],
    gamma: &[u8; 32],
    u: &EdwardsPoint,
    v: &EdwardsPoint,
) -> [u8; CHALLENGE_BYTES] {
    let hash = sha512(&[&[SUITE, 0x02], public, h, gamma, u.compress().as_bytes(), v.compress().as_bytes(), &[0x00]]);
    let mut c = [0; CHALLENGE_BYTES];
    c.copy_from_slice(&hash[..CHALLENGE_BYTES]);
    c
}

/// RFC 8032 §5.1.3, strictly: only the encoding that compressing gives back. The library takes y >= p and -0 as well.
fn decode_point(bytes: &[u8; 32]) -> Option<EdwardsPoint> {
    if is_canonical(bytes) { CompressedEdwardsY(*bytes).decompress() } else { None }
}

/// Whether y < p = 2^255 - 19, and x is no negative zero: x = 0 belongs to y = 1 and y = -1 alone.
fn is_canonical(bytes: &[u8; 32]) -> bool {
    let [low, middle @ .., high] = bytes;
    let (sign, high) = (high >> 7, high & 0x7f);
    let near_p = high == 0x7f && middle.iter().all(|byte| *byte == 0xff);
    let is_one = *low == 1 && high == 0 && middle.iter().all(|byte| *byte == 0);
    match low {
        0xed.. if near_p => false,
        0xec if near_p => sign == 0,
        _ => !is_one || sign == 0,
    }
}

fn scalar_of(c: &[u8; CHALLENGE_BYTES]) -> Scalar {
    Scalar::from(u128::from_le_bytes(*c))
}

fn sha512(parts: &[&[u8]]) -> [u8; 64] {
    let mut hasher = Sha512::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

fn halves(hash: &[u8; 64]) -> ([u8; 32], [u8; 32]) {
    let (mut low, mut high) = ([0; 32], [0; 32]);
    low.copy_from_slice(&hash[..32]);
    high.copy_from_slice(&hash[32..]);
    (low, high)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use curve25519_dalek::constants::EIGHT_TORSION;

    use super::*;
    use crate::test_support::{hex, unhex};

    /// RFC 9381 appendix B.3, examples 16 to 18: (seed, alpha, proof, output).
    const EXAMPLES: [(&str, &str, &str, &str); 3] = [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "",
            "8657106690b5526245a92b003bb079ccd1a92130477671f6fc01ad16f26f723f26f8a57ccaed74ee1b190bed1f479d97\
             27d2d0f9b005a6e456a35d4fb0daab1268a1b0db10836d9826a528ca76567805",
            "90cf1df3b703cce59e2a35b925d411164068269d7b2d29f3301c03dd757876ff\
             66b71dda49d2de59d03450451af026798e8f81cd2e333de5cdf4f3e140fdd8ae",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "72",
            "f3141cd382dc42909d19ec5110469e4feae18300e94f304590abdced48aed5933bf0864a62558b3ed7f2fea45c92a465\
             301b3bbf5e3e54ddf2d935be3b67926da3ef39226bbc355bdc9850112c8f4b02",
            "eb4440665d3891d668e7e0fcaf587f1b4bd7fbfe99d0eb2211ccec90496310eb\
             5e33821bc613efb94db5e5b54c70a848a0bef4553a41befc57663b56373a5031",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "af82",
            "9bc0f79119cc5604bf02d23b4caede71393cedfbb191434dd016d30177ccbf8096bb474e53895c362d8628ee9f9ea3c0\
             e52c7a5c691b6c18c9979866568add7a2d41b00b05081ed0f58ee5e31b3a970e",
            "645427e5d00c62a23fb703732fa5d892940935942101e456ecca7bb217c61c45\
             2118fec1219202a0edcf038bb6373241578be7217ba85a2687f7a0310b2df19f",
        ),
    ];

    /// The group order q, little-endian.
    const ORDER: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";

    fn example(index: usize) -> ([u8; 32], Vec<u8>, [u8; PROOF_BYTES], Vec<u8>) {
        let (seed, alpha, proof, output) = EXAMPLES[index];
        (unhex(seed).try_into().unwrap(), unhex(alpha), unhex(proof).try_into().unwrap(), unhex(output))
    }

    #[test]
    fn examples_of_the_rfc() {
        for index in 0..EXAMPLES.len() {
            let (seed, alpha, proof, output) = example(index);
            assert_eq!(hex(&prove(&seed, &alpha)), hex(&proof));
            assert_eq!(verify(&public_key(&seed), &alpha, &proof).unwrap().to_vec(), output);
            assert_eq!(proof_to_output(&proof).unwrap().to_vec(), output);
        }
        let (seed, ..) = example(0);
        assert_eq!(hex(&public_key(&seed)), "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
    }

    #[test]
    fn any_flipped_bit_is_refused() {
        let (seed, alpha, proof, _) = example(1);
        let key = public_key(&seed);
        for bit in 0..PROOF_BYTES * 8 {
            let mut tampered = proof;
            tampered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verify(&key, &alpha, &tampered), None, "bit {bit}");
        }
        assert_eq!(verify(&key, b"another alpha", &proof), None);
        let (other, ..) = example(2);
        assert_eq!(verify(&public_key(&other), &alpha, &proof), None);
    }

    #[test]
    fn other_lengths_are_refused() {
        let (seed, alpha, proof, _) = example(0);
        let key = public_key(&seed);
        assert_eq!(verify(&key, &alpha, &proof[..79]), None);
        assert_eq!(verify(&key, &alpha, &[proof.as_slice(), &[0]].concat()), None);
        assert_eq!(verify(&key, &alpha, &[]), None);
    }

    #[test]
    fn s_plus_q_is_refused() {
        for index in 0..EXAMPLES.len() {
            let (seed, alpha, mut proof, _) = example(index);
            let mut carry = 0u16;
            for (byte, q) in proof[48..].iter_mut().zip(unhex(ORDER)) {
                let sum = u16::from(*byte) + u16::from(q) + carry;
                *byte = sum as u8;
                carry = sum >> 8;
            }
            assert_eq!(carry, 0);
            assert_eq!(verify(&public_key(&seed), &alpha, &proof), None);
        }
    }

    /// y + p for the y that leave room below 2^255: 0 to 18.
    fn non_canonical(y: u8) -> [u8; 32] {
        let mut bytes = [0xff; 32];
        bytes[0] = 0xed + y;
        bytes[31] = 0x7f;
        bytes
    }

    #[test]
    fn non_canonical_points_are_refused() {
        let (seed, alpha, proof, _) = example(0);
        for y in 0..19 {
            let bytes = non_canonical(y);
            assert!(decode_point(&bytes).is_none(), "y = {y} + p");
            let mut tampered = proof;
            tampered[..32].copy_from_slice(&bytes);
            assert_eq!(verify(&public_key(&seed), &alpha, &tampered), None);
            assert_eq!(verify(&bytes, &alpha, &proof), None);
        }
        // The library would take some of them: the check is ours.
        assert!(CompressedEdwardsY(non_canonical(1)).decompress().is_some());
        // Negative zero: x = 0 has one sign only.
        let mut negative_zero = [0; 32];
        (negative_zero[0], negative_zero[31]) = (1, 0x80);
        assert!(decode_point(&negative_zero).is_none());
    }

    #[test]
    fn canonical_is_what_compressing_gives_back() {
        let near = |low: u8, fill: u8, high: u8| {
            let mut bytes = [fill; 32];
            (bytes[0], bytes[31]) = (low, high);
            bytes
        };
        let lows = (0..=255)
            .flat_map(|low| [near(low, 0, 0), near(low, 0, 0x80), near(low, 0xff, 0x7f), near(low, 0xff, 0xff)]);
        let others = (0..500_u64).map(|number| crate::sha256(&[&number.to_le_bytes()]));
        let (mut taken, mut refused) = (0, 0);
        for bytes in lows.chain(others) {
            let Some(point) = CompressedEdwardsY(bytes).decompress() else { continue };
            let same = point.compress().to_bytes() == bytes;
            assert_eq!(is_canonical(&bytes), same, "{}", hex(&bytes));
            if same { taken += 1 } else { refused += 1 }
        }
        assert!(taken > 500 && refused > 10, "{taken} taken, {refused} refused");
    }

    #[test]
    fn keys_of_small_order_are_refused() {
        // A forger who knows no secret takes Gamma = 0 and s = k, which closes both equations whenever cY = 0; with Y of
        // order 8 at most, every eighth k does.
        let alpha = b"beat";
        for torsion in EIGHT_TORSION {
            let key = torsion.compress().to_bytes();
            let h = encode_to_curve(&key, alpha).unwrap();
            let gamma = EdwardsPoint::default().compress().to_bytes();
            let (k, c) = (1u64..)
                .map(|k| {
                    let (u, v) = (EdwardsPoint::mul_base(&Scalar::from(k)), Scalar::from(k) * h);
                    (k, challenge(&key, &h.compress().to_bytes(), &gamma, &u, &v))
                })
                .find(|(_, c)| (scalar_of(c) * torsion).is_identity())
                .unwrap();
            let mut proof = [0; PROOF_BYTES];
            proof[..32].copy_from_slice(&gamma);
            proof[32..48].copy_from_slice(&c);
            proof[48..].copy_from_slice(Scalar::from(k).as_bytes());
            assert_eq!(verify(&key, alpha, &proof), None);
        }
    }

    #[test]
    fn lottery_known_answer() {
        // §3.2: the key of example 16 on the input of epoch 7 of a network called matrixai-devnet.
        let (seed, ..) = example(0);
        let mut chain_id = [0; 32];
        chain_id[..15].copy_from_slice(b"matrixai-devnet");
        let r: [u8; 32] = std::array::from_fn(|i| i as u8);
        let alpha = crate::sha256(&[
            b"MatrixAI/PoH/alpha/v1",
            &chain_id,
            &7u64.to_le_bytes(),
            &r,
            &crate::sha256(&[b"snapshot"]),
        ]);
        let proof = prove(&seed, &alpha);
        assert_eq!(
            hex(&proof),
            "e507512fc217f54eb78c8b7169fc162543a81f85a0d1e7f059f2efb44970d58d6a3d11daee2fc5c1a95a5b79ee2deb1b\
             5f9cfe64c1bd3784151ceb35240557192309c98fc3e88ffff6b00576cb973901"
        );
        let output = hex(&verify(&public_key(&seed), &alpha, &proof).unwrap());
        assert!(output.starts_with("1bc6ce07") && output.ends_with("88befdbb"), "{output}");
    }
}
