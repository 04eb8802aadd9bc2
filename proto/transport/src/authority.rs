//! A certificate authority for a cluster: small, kept in two files, good for development and for clusters whose
//! operators have no authority of their own. Keys are ECDSA P-256, since browsers take no ed25519.

use crate::node_name;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::time::{Duration, SystemTime};

/// Certificates hold from a little earlier: other machines' clocks are not this one's.
const BACKDATED: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// Longest life of a certificate, days: a century, well within what its format can hold.
pub const DAYS_MAX: u32 = 36_525;

/// Why nothing was issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// A key is none, a name is none, or the system has no random bytes.
    #[error(transparent)]
    Certificate(#[from] rcgen::Error),
    /// A certificate that would name nobody.
    #[error("a certificate needs at least one host (--host NAME_OR_ADDRESS)")]
    NoHost,
    /// No life, or too long a one.
    #[error("a certificate lives 1 to {DAYS_MAX} days, not {0}")]
    Days(u32),
}

/// A certificate and its private key, in PEM.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its private key (PKCS #8).
    pub key: String,
}

/// An authority with its private key.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a new authority.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn create(days: u32) -> Result<(Self, Issued), IssueError> {
        let key = KeyPair::generate()?;
        let pem = key.serialize_pem();
        let mut params = params(&key)?;
        (params.not_before, params.not_after) = validity(SystemTime::now(), days)?;
        let certificate = params.self_signed(&key)?.pem();
        Ok((Self { issuer: Issuer::new(params, key) }, Issued { certificate, key: pem }))
    }

    /// The authority with this private key (PEM). Its name follows from the key, so nothing else is needed.
    ///
    /// # Errors
    /// [`IssueError::Certificate`] when it is no key.
    pub fn of_key(pem: &str) -> Result<Self, IssueError> {
        let key = KeyPair::from_pem(pem)?;
        Ok(Self { issuer: Issuer::new(params(&key)?, key) })
    }

    /// A certificate for the coordinator with this node key, reached at these hosts (names or IP addresses), valid from
    /// now on.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn issue(&self, node_key: &[u8; 32], hosts: &[String], days: u32) -> Result<Issued, IssueError> {
        self.issue_from(SystemTime::now(), node_key, hosts, days)
    }

    /// As [`Authority::issue`], valid from another time on.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn issue_from(
        &self,
        from: SystemTime,
        node_key: &[u8; 32],
        hosts: &[String],
        days: u32,
    ) -> Result<Issued, IssueError> {
        if hosts.is_empty() {
            return Err(IssueError::NoHost);
        }
        let name = node_name(node_key);
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([hosts, std::slice::from_ref(&name)].concat())?;
        params.distinguished_name = named(&format!("MatrixAI coordinator {}", hex::encode(&node_key[..4])));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // A coordinator answers calls and makes them.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = validity(from, days)?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Issued { certificate, key: key.serialize_pem() })
    }
}

/// What the authority's certificate says, but for its time.
fn params(key: &KeyPair) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    // Two authorities must not share a name: whoever checks a chain would take one for the other.
    let point = key.public_key_raw();
    let tail = point.get(point.len().saturating_sub(8)..).unwrap_or_default();
    params.distinguished_name = named(&format!("MatrixAI CA {}", hex::encode(tail)));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn validity(from: SystemTime, days: u32) -> Result<(time::OffsetDateTime, time::OffsetDateTime), IssueError> {
    if !(1..=DAYS_MAX).contains(&days) {
        return Err(IssueError::Days(days));
    }
    Ok(((from - BACKDATED).into(), (from + DAY * days).into()))
}
