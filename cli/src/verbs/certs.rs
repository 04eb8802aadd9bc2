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
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;
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
