//! Certificates for a cluster: an authority in a folder, and what it signs. Files are made, never replaced.

use crate::{
    args::CertsVerb,
    error::{CliError, Code, Result},
    output::{self, Format},
};
use matrixai_transport::{
    Certificates, Files, OwnFiles,
    authority::{Authority, IssueError, Issued},
};
use serde_json::json;
use std::{
    fs,
    io::Write as _,
    net::IpAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;
/// Longest host name and longest part of one, bytes (RFC 1035).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;
/// Digits of the node key in the names of a coordinator's files.
const NAME_DIGITS: usize = 8;

pub(crate) fn run(verb: &CertsVerb, format: Format) -> Result<()> {
    match verb {
        CertsVerb::Ca { dir, days } => {
            let (_, issued) = Authority::create(*days).map_err(|error| issue_error(&error))?;
            let (certificate, key) = (dir.join("ca.pem"), dir.join("ca.key"));
            write(&certificate, &key, &issued)?;
            show(format, &certificate, &key, "Everyone needs ca.pem. Keep ca.key: whoever has it can join as anybody.");
        }
        CertsVerb::Node { node_key, hosts, dir, days } => {
            let node = crate::convert::hash(node_key)
                .ok()
                .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
                .ok_or_else(|| CliError::usage(format!("`{node_key}` is no node key: it has 64 hex digits")))?;
            if let Some(wrong) = hosts.iter().find(|host| !is_host(host)) {
                return Err(CliError::usage(format!("--host `{wrong}` is neither a host name nor an address")));
            }
            let ca_key = dir.join("ca.key");
            let pem = fs::read_to_string(&ca_key)
                .map_err(|error| CliError::local(&format!("read {}", ca_key.display()), error))?;
            let authority = Authority::of_key(&pem)
                .map_err(|error| CliError::usage(format!("{} is no private key: {error}", ca_key.display())))?;
            let issued = authority.issue(&node, hosts, *days).map_err(|error| issue_error(&error))?;
            let name = format!("node-{}", hex::encode(node).get(..NAME_DIGITS).unwrap_or_default());
            let (certificate, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
            write(&certificate, &key, &issued)?;
            let own = OwnFiles { certificate: certificate.clone(), key: key.clone(), node };
            // A coordinator will refuse what this refuses: the key of another authority than ca.pem's.
            if let Err(error) = Certificates::read(Files { ca: dir.join("ca.pem"), own: Some(own) }) {
                // Just made, and of no use to anyone.
                let _ = fs::remove_file(&certificate).and_then(|()| fs::remove_file(&key));
                return Err(CliError::usage(format!("what {} signs cannot be used: {error}", ca_key.display())));
            }
            show(format, &certificate, &key, "The coordinator needs both and ca.pem: --tls-ca, --tls-cert, --tls-key.");
        }
    }
    Ok(())
}

/// Whether it is an address, or a name of labels of letters, digits and hyphens (RFC 1123).
fn is_host(host: &str) -> bool {
    let of_label = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(of_label)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.parse::<IpAddr>().is_ok() || (host.len() <= NAME_BYTES_MAX && host.split('.').all(is_label))
}

fn show(format: Format, certificate: &Path, key: &Path, what: &str) {
    output::show(format, &json!({ "certificate": certificate, "key": key }), || {
        format!("{}\n{}\n{what}", certificate.display(), key.display())
    });
}

/// Writes a certificate and its key beside each other, both new.
fn write(certificate: &Path, key: &Path, issued: &Issued) -> Result<()> {
    if let Some(taken) = [certificate, key].into_iter().find(|path| path.exists()) {
        let what =
            format!("{} exists already and is not replaced: move it away, or name another --dir", taken.display());
        return Err(CliError::new(Code::Local, what));
    }
    put(key, &issued.key, PRIVATE)?;
    put(certificate, &issued.certificate, PUBLIC)
}

fn put(path: &Path, text: &str, mode: u32) -> Result<()> {
    let doing = format!("write {}", path.display());
    let failed = |error| CliError::local(&doing, error);
    let folder = path.parent().map_or_else(|| PathBuf::from("."), Path::to_owned);
    fs::create_dir_all(&folder).map_err(failed)?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

fn issue_error(error: &IssueError) -> CliError {
    CliError::usage(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::is_host;

    #[test]
    fn hosts_are_names_or_addresses() {
        for host in ["localhost", "c1.example.org", "10.0.0.1", "::1", "a-b"] {
            assert!(is_host(host), "{host}");
        }
        let (label, name) = ("a".repeat(64), "a.".repeat(130) + "a");
        for host in ["", "a b", "10.0.0.0/8", "a..b", "-a", "a-.b", "a:1", &label, &name] {
            assert!(!is_host(host), "{host}");
        }
    }
}
