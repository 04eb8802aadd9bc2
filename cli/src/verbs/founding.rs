//! Showing a coordinator that whoever founds a cluster on it is its operator: with the founding key of its data folder, read there
//! on the same machine, or from a copy that the operator names.

use crate::{
    client::{channel, refused},
    error::{CliError, Code, Result},
    keys,
};
use matrixai_coordinator::founding;
use matrixai_proto::{
    envelope::Signer,
    v1::{self, cluster_client::ClusterClient},
};
use matrixai_transport::Dialer;
use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// Most that is read from standard input, bytes: a key for each of as many coordinators as anybody has.
const KEYS_BYTES_MAX: u64 = 64 << 10;

/// The keys that the operator names; `-` is standard input with one a line.
///
/// # Errors
/// When one cannot be read or is none.
pub(crate) fn keys_in(files: &[PathBuf]) -> Result<Vec<Signer>> {
    let mut found = Vec::new();
    for file in files {
        if file == Path::new("-") {
            let mut text = String::new();
            let read = io::stdin().lock().take(KEYS_BYTES_MAX).read_to_string(&mut text);
            read.map_err(|error| CliError::local("read founding keys", error))?;
            let lines = text.lines().filter(|line| !line.trim().is_empty());
            let parsed = lines.map(|line| keys::parse(line, Path::new("standard input")));
            found.extend(parsed.collect::<Result<Vec<_>>>()?);
        } else {
            found.push(keys::read(file)?);
        }
    }
    Ok(found)
}

/// Founds the cluster of a genesis on every one of its nodes. Nothing is founded before all claims are there.
///
/// # Errors
/// When a coordinator cannot be reached, its founding key is not at hand, or it refuses.
pub(crate) async fn found(
    nodes: &[v1::GenesisNode],
    genesis: &[u8],
    keys: &[Signer],
    dialer: &Dialer,
) -> Result<Vec<u8>> {
    let mut requests = Vec::new();
    for node in nodes {
        let mut client = ClusterClient::new(channel(dialer, &node.grpc)?);
        let status = client.get_status(v1::GetStatusRequest {}).await.map_err(|status| at(node, &status))?.into_inner();
        // One that is part of a cluster says itself whether it is this one, one that waits to join says that it does.
        let claim = status.founding.map(|folder| claim(node, &folder, genesis, keys)).transpose()?;
        requests.push((node, client, v1::InitRequest { genesis: genesis.to_vec(), claim }));
    }
    let mut cluster_id = Vec::new();
    for (node, mut client, request) in requests {
        cluster_id = client.init(request).await.map_err(|status| at(node, &status))?.into_inner().cluster_id;
    }
    Ok(cluster_id)
}

/// The claim that one coordinator asks for.
fn claim(node: &v1::GenesisNode, asks: &v1::FoundingKey, genesis: &[u8], keys: &[Signer]) -> Result<v1::Envelope> {
    if asks.node != node.key {
        let why =
            format!("{} is the coordinator {}, not {}", node.grpc, hex::encode(&asks.node), hex::encode(&node.key));
        return Err(CliError::usage(why));
    }
    let sign = |founder: &Signer| founding::claim(founder, &node.key, genesis);
    if let Some(founder) = keys.iter().find(|founder| founder.public_key() == *asks.key) {
        return Ok(sign(founder));
    }
    // On the same machine, by the same user, it can be read where it is. Whatever a server names here, nothing but a claim to
    // found is ever signed, and only with a key that it has shown to know.
    match keys::read(Path::new(&asks.path)) {
        Ok(founder) if founder.public_key() == *asks.key => Ok(sign(&founder)),
        Ok(_) | Err(_) => Err(CliError::new(
            Code::Usage,
            format!(
                "{} is founded by its operator only: its founding key is in {} on its machine; copy it and name the copy \
                 with --founding-key",
                node.grpc, asks.path
            ),
        )),
    }
}

fn at(node: &v1::GenesisNode, status: &tonic::Status) -> CliError {
    let error = refused(status);
    CliError::new(error.code, format!("{}: {}", node.grpc, error.message))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_made_with_the_key_that_is_asked_for_and_to_the_node_that_was_named() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("founding.key");
        let founder = keys::create(&path).unwrap();
        let other = Signer::from_seed([2; 32]).unwrap();
        let node = v1::GenesisNode { id: 1, key: vec![7; 32], grpc: "host:1".to_owned(), web: "host:2".to_owned() };
        let asks = |key: &Signer, path: &Path, node: u8| v1::FoundingKey {
            key: key.public_key().to_vec(),
            path: path.display().to_string(),
            node: vec![node; 32],
        };
        let nowhere = Path::new("/nowhere/founding.key");
        let made = claim(&node, &asks(&founder, &path, 7), b"genesis", &[]).unwrap();
        assert_eq!(made, founding::claim(&founder, &[7; 32], b"genesis"), "read where it is");
        let made = claim(&node, &asks(&other, nowhere, 7), b"genesis", &[founder, other]).unwrap();
        assert_eq!(made.key, Signer::from_seed([2; 32]).unwrap().public_key(), "one of the copies");

        let other = Signer::from_seed([2; 32]).unwrap();
        let refused = |asks| claim(&node, &asks, b"genesis", &[]).unwrap_err().message;
        assert!(refused(asks(&other, nowhere, 7)).contains("/nowhere/founding.key"));
        // What a server names may be any file of this user.
        assert!(refused(asks(&other, &path, 7)).contains("--founding-key"));
        assert!(refused(asks(&other, &path, 8)).contains("is the coordinator 0808"));
    }
}
