//! Files by content.

use super::Desk;
use crate::{
    args::ArtifactVerb,
    convert,
    error::{CliError, Result},
    output, transfer,
};
use serde_json::json;

pub(crate) async fn run(desk: &Desk, verb: ArtifactVerb) -> Result<()> {
    let client = desk.client().await?;
    match verb {
        ArtifactVerb::Put { file } => {
            let bytes =
                std::fs::read(&file).map_err(|error| CliError::local(&format!("read {}", file.display()), error))?;
            let hash = hex::encode(transfer::put(&client, &desk.signer()?, &bytes).await?);
            output::show(desk.format, &json!({ "sha256": hash, "bytes": bytes.len() }), || hash.clone());
        }
        ArtifactVerb::Get { sha256, to } => {
            let bytes = transfer::get(&client, &convert::hash(&sha256)?).await?;
            match to {
                Some(path) => write(&path, &bytes)?,
                None => output::raw(&bytes),
            }
        }
    }
    Ok(())
}

/// Writes a whole file or nothing: a temporary file beside it, renamed when complete.
pub(crate) fn write(path: &std::path::Path, bytes: &[u8]) -> Result<()> {
    let doing = format!("write {}", path.display());
    let temporary = path.with_extension("part");
    std::fs::write(&temporary, bytes).map_err(|error| CliError::local(&doing, error))?;
    std::fs::rename(&temporary, path).map_err(|error| CliError::local(&doing, error))
}
