//! Key files: 64 hex digits of an ed25519 seed, readable by their owner alone.

use crate::error::{CliError, Result};
use matrixai_proto::envelope::Signer;
use std::{
    fs,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

/// Largest key file, bytes: the digits and some blank lines.
const KEY_FILE_BYTES_MAX: u64 = 1_024;

/// Reads a key file.
///
/// # Errors
/// When it is absent, readable by others, or not 64 hex digits.
pub(crate) fn read(path: &Path) -> Result<Signer> {
    let shown = path.display();
    let failed = |error| CliError::local(&format!("read the key file {shown}"), error);
    // Before it is opened: a device or a pipe may have no end.
    let metadata = fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() || metadata.len() > KEY_FILE_BYTES_MAX {
        return Err(not_a_key(path));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(CliError::usage(format!("the key file {shown} can be read by others: run chmod 600 on it")));
    }
    parse(&fs::read_to_string(path).map_err(failed)?, path)
}

/// The key that 64 hex digits are; `path` says where they come from.
///
/// # Errors
/// When they are none.
pub(crate) fn parse(text: &str, path: &Path) -> Result<Signer> {
    let wrong = || not_a_key(path);
    let bytes = hex::decode(text.trim()).map_err(|_| wrong())?;
    Signer::from_seed(bytes.try_into().map_err(|_| wrong())?).map_err(|_| wrong())
}

fn not_a_key(path: &Path) -> CliError {
    CliError::usage(format!("{} is no key file: it must hold 64 hex digits", path.display()))
}

/// Makes a new key file; never overwrites one.
///
/// # Errors
/// When the file exists already or cannot be written.
pub(crate) fn create(path: &Path) -> Result<Signer> {
    let signer = Signer::generate().map_err(|error| CliError::local("make a key", error))?;
    write(path, &signer)?;
    Ok(signer)
}

/// Reads a key file, or makes it when it is absent.
pub(crate) fn read_or_create(path: &Path) -> Result<Signer> {
    if path.exists() { read(path) } else { create(path) }
}

/// Writes a key to a new file with mode 0600.
pub(crate) fn write(path: &Path, signer: &Signer) -> Result<()> {
    let doing = format!("write the key file {}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| CliError::local(&doing, error))?;
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| CliError::local(&doing, error))?;
    writeln!(file, "{}", hex::encode(signer.seed())).map_err(|error| CliError::local(&doing, error))?;
    file.sync_all().map_err(|error| CliError::local(&doing, error))
}
