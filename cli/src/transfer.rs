//! Files to and from the cluster by SHA-256, in chunks, going on where a broken transfer stopped.

use crate::{
    client::{Client, ask, message_bytes_max},
    error::{CliError, Code, Result},
};
use matrixai_proto::{
    envelope::{self, Signer},
    v1::{self, artifacts_client::ArtifactsClient, put_request::Part},
};
use prost::Message as _;
use tonic::Status;

const CHUNK_BYTES: usize = 256 << 10;
const ATTEMPTS: usize = 10;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

/// Stores bytes on a quorum of coordinators; answers their SHA-256.
pub(crate) async fn put(client: &Client, signer: &Signer, bytes: &[u8]) -> Result<[u8; 32]> {
    let hash = matrixai_protocol::sha256(&[bytes]);
    let mut last = String::new();
    for attempt in 0..ATTEMPTS {
        let address = client.addresses().get(attempt % client.addresses().len().max(1));
        let address = address.ok_or_else(|| CliError::usage("no coordinator address was given"))?;
        match put_once(client, signer, address, hash, bytes).await {
            Ok(()) => return Ok(hash),
            Err(PutError::Refused(status)) => return Err(crate::client::refused(&status)),
            Err(PutError::Broken(why)) => last = why,
            Err(PutError::Local(error)) => return Err(error),
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(CliError::new(Code::Unreachable, format!("the upload broke off {ATTEMPTS} times (last: {last})")))
}

enum PutError {
    Refused(Status),
    Broken(String),
    Local(CliError),
}

async fn put_once(
    client: &Client,
    signer: &Signer,
    address: &str,
    hash: [u8; 32],
    bytes: &[u8],
) -> std::result::Result<(), PutError> {
    let mut artifacts = ArtifactsClient::new(client.channel(address).map_err(PutError::Local)?);
    let broken = |status: Status| match status.code() {
        tonic::Code::InvalidArgument | tonic::Code::PermissionDenied | tonic::Code::Unauthenticated => {
            PutError::Refused(status)
        }
        _ => PutError::Broken(status.message().to_owned()),
    };
    let stat = artifacts.stat(v1::StatRequest { sha256: hash.to_vec() }).await.map_err(broken)?.into_inner();
    let offset = if stat.complete { 0 } else { stat.received.min(bytes.len() as u64) };
    let size = bytes.len() as u64;
    let payload = v1::PutClaim { sha256: hash.to_vec(), size }.encode_to_vec();
    let claim = client.seal(signer, envelope::ARTIFACT_PUT, payload).await.map_err(PutError::Local)?;
    let header = v1::PutHeader { sha256: hash.to_vec(), size, offset, claim: Some(claim) };
    let rest = bytes.get(offset as usize..).unwrap_or_default();
    let mut parts = vec![v1::PutRequest { part: Some(Part::Header(header)) }];
    parts.extend(rest.chunks(CHUNK_BYTES).map(|chunk| v1::PutRequest { part: Some(Part::Data(chunk.to_vec())) }));
    artifacts.put(futures::stream::iter(parts)).await.map_err(broken)?;
    Ok(())
}

/// Fetches an artifact and checks its hash.
pub(crate) async fn get(client: &Client, hash: &[u8]) -> Result<Vec<u8>> {
    let mut bytes: Vec<u8> = Vec::new();
    let mut last = String::new();
    for attempt in 0..ATTEMPTS {
        let address = client.addresses().get(attempt % client.addresses().len().max(1));
        let address = address.ok_or_else(|| CliError::usage("no coordinator address was given"))?;
        match get_once(client, address, hash, &mut bytes).await {
            Ok(()) if matrixai_protocol::sha256(&[&bytes]).as_slice() == hash => return Ok(bytes),
            Ok(()) => {
                last = format!("{address} sent other bytes than the hash names");
                bytes.clear();
            }
            Err(status) if status.code() == tonic::Code::NotFound && attempt + 1 >= client.addresses().len() => {
                return Err(CliError::refused(format!("no coordinator holds artifact {}", hex::encode(hash))));
            }
            Err(status) => last = status.message().to_owned(),
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(CliError::new(Code::Unreachable, format!("the download broke off {ATTEMPTS} times (last: {last})")))
}

async fn get_once(client: &Client, address: &str, hash: &[u8], bytes: &mut Vec<u8>) -> std::result::Result<(), Status> {
    let channel = client.channel(address).map_err(|error| Status::unavailable(error.message))?;
    let mut artifacts = ArtifactsClient::new(channel).max_decoding_message_size(message_bytes_max());
    let request = v1::GetRequest { sha256: hash.to_vec(), offset: bytes.len() as u64 };
    let mut stream = artifacts.get(request).await?.into_inner();
    while let Some(part) = stream.message().await? {
        bytes.extend_from_slice(&part.data);
    }
    Ok(())
}

/// Fetches a job.
pub(crate) async fn job(client: &Client, id: &[u8]) -> Result<v1::Job> {
    ask!(client, jobs_client::JobsClient.get_job, v1::GetJobRequest { job: id.to_vec() })
}
