//! A client of the public RPCs: finds a coordinator that answers, follows the leader, repeats safely.
//!
//! A submission is signed once and repeated with the same command id until it is answered: the cluster decides it
//! once, however often it arrives. Reads go to any coordinator that answers.

use crate::error::{CliError, Code, Result};
use matrixai_proto::{
    envelope::{self, Signer},
    v1::{self, command::Kind},
};
use matrixai_transport::{Callee, Certificates, Dialer, Files};
use prost::Message as _;
use std::{
    future::Future,
    path::Path,
    time::{Duration, Instant},
};
use tonic::{Status, metadata::AsciiMetadataValue, transport::Channel};

/// How long one verb tries before it gives up.
const PATIENCE: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);
/// Life of an envelope; the cluster allows ten minutes.
const EXPIRY_MS: u64 = 300_000;
/// Metadata key under which a follower names the leader.
const LEADER_KEY: &str = "matrixai-leader";
/// Metadata key under which a read says how new its answer has to be.
const CONSISTENCY_KEY: &str = "matrixai-consistency";
/// Largest message: a job with a thousand rounds of 256 deltas.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// A cluster as seen from outside.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    addresses: Vec<String>,
    channels: Vec<Channel>,
    cluster_id: [u8; 32],
    /// How new the answers of reads have to be.
    consistency: AsciiMetadataValue,
    dialer: Dialer,
}

impl Client {
    /// Connects to the first of the addresses (host:port) that is part of a cluster.
    pub(crate) async fn connect(addresses: &[String], dialer: Dialer) -> Result<Self> {
        let consistency = AsciiMetadataValue::from_static("linearizable");
        let mut client =
            Self { addresses: addresses.to_vec(), channels: Vec::new(), cluster_id: [0; 32], consistency, dialer };
        for address in addresses {
            client.channels.push(client.channel(address)?);
        }
        let status = client.status().await?;
        client.cluster_id = status.cluster_id.try_into().map_err(|_| {
            CliError::new(
                Code::Unreachable,
                format!("{} is not part of a cluster yet: run `matrixai cluster init`", addresses.join(", ")),
            )
        })?;
        Ok(client)
    }

    /// The same, with reads of another consistency; the coordinators know which there are.
    pub(crate) fn reading(mut self, consistency: &str) -> Result<Self> {
        self.consistency = consistency
            .parse()
            .map_err(|_| CliError::usage(format!("--read {consistency}: linearizable, bounded:MS or stale")))?;
        Ok(self)
    }

    /// A read as it is sent.
    pub(crate) fn asking<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert(CONSISTENCY_KEY, self.consistency.clone());
        request
    }

    pub(crate) fn cluster_id(&self) -> [u8; 32] {
        self.cluster_id
    }

    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The coordinators, each with its address: for what is asked of one after the other.
    pub(crate) fn coordinators(&self) -> impl Iterator<Item = (&str, &Channel)> {
        self.addresses.iter().map(String::as_str).zip(&self.channels)
    }

    /// A lazily connected channel to host:port.
    pub(crate) fn channel(&self, address: &str) -> Result<Channel> {
        channel(&self.dialer, address)
    }

    /// The status of the first coordinator that answers.
    pub(crate) async fn status(&self) -> Result<v1::GetStatusReply> {
        self.read(|channel| async move {
            v1::cluster_client::ClusterClient::new(channel).get_status(v1::GetStatusRequest {}).await
        })
        .await
    }

    /// Calls a read on one coordinator after the other until one answers.
    pub(crate) async fn read<T, F, Fut>(&self, call: F) -> Result<T>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = std::result::Result<tonic::Response<T>, Status>>,
    {
        let begun = Instant::now();
        let mut last = String::from("no address was given");
        loop {
            let mut distrusted = 0;
            for (channel, address) in self.channels.iter().zip(&self.addresses) {
                match tokio::time::timeout(CALL_TIMEOUT, call(channel.clone())).await {
                    Ok(Ok(reply)) => return Ok(reply.into_inner()),
                    Ok(Err(status)) if transient(&status) => {
                        distrusted += usize::from(distrust(&status).is_some());
                        last = format!("{address}: {}", refused(&status).message);
                    }
                    Ok(Err(status)) => return Err(refused(&status)),
                    Err(_) => last = format!("{address}: no answer in {} s", CALL_TIMEOUT.as_secs()),
                }
            }
            // Waiting makes no certificate another one.
            if distrusted > 0 && distrusted == self.channels.len() {
                return Err(CliError::new(Code::Unreachable, last));
            }
            if begun.elapsed() > PATIENCE || self.channels.is_empty() {
                return Err(unreachable(&last));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Signs commands and submits them; answers one outcome a command.
    pub(crate) async fn submit(&self, signer: &Signer, commands: Vec<Kind>) -> Result<Vec<v1::Outcome>> {
        self.submit_batch(signer, commands, false).await
    }

    /// The same for commands of which all happen or none.
    pub(crate) async fn submit_linked(&self, signer: &Signer, commands: Vec<Kind>) -> Result<Vec<v1::Outcome>> {
        self.submit_batch(signer, commands, true).await
    }

    async fn submit_batch(&self, signer: &Signer, commands: Vec<Kind>, linked: bool) -> Result<Vec<v1::Outcome>> {
        let commands = commands.into_iter().map(|kind| v1::Command { kind: Some(kind) }).collect();
        let payload = v1::Batch { commands, linked }.encode_to_vec();
        let envelope = self.seal(signer, envelope::COMMANDS, payload).await?;
        Ok(self.submit_envelope(envelope).await?.outcomes)
    }

    /// Submits one command; a refusal is an error. Answers the id of what it made (empty for none).
    pub(crate) async fn submit_one(&self, signer: &Signer, command: Kind) -> Result<Vec<u8>> {
        let outcomes = self.submit(signer, vec![command]).await?;
        let outcome =
            outcomes.into_iter().next().ok_or_else(|| CliError::refused("the cluster answered no outcome"))?;
        if outcome.code == 0 { Ok(outcome.id) } else { Err(refusal(&outcome)) }
    }

    /// A signed envelope that expires a few minutes after the cluster's own time.
    pub(crate) async fn seal(&self, signer: &Signer, method: &str, payload: Vec<u8>) -> Result<v1::Envelope> {
        let now_ms = self.status().await?.now_ms;
        let id = envelope::random().map_err(|error| CliError::local("draw a command id", error))?;
        Ok(signer.seal(self.cluster_id, method, id, now_ms.saturating_add(EXPIRY_MS), payload))
    }

    /// Submits a signed envelope, following the leader, until it is answered.
    pub(crate) async fn submit_envelope(&self, envelope: v1::Envelope) -> Result<v1::SubmitReply> {
        let begun = Instant::now();
        let mut next = 0_usize;
        let mut leader: Option<Channel> = None;
        let mut last = String::new();
        while begun.elapsed() < PATIENCE {
            let target = match leader.take() {
                Some(channel) => channel,
                None => {
                    next = next.wrapping_add(1);
                    match self.channels.get(next % self.channels.len().max(1)) {
                        Some(channel) => channel.clone(),
                        None => return Err(unreachable("no address was given")),
                    }
                }
            };
            let request = v1::SubmitRequest { envelope: Some(envelope.clone()) };
            let mut ledger = v1::ledger_client::LedgerClient::new(target);
            match tokio::time::timeout(CALL_TIMEOUT, ledger.submit(request)).await {
                Ok(Ok(reply)) => return Ok(reply.into_inner()),
                Ok(Err(status)) => {
                    leader = leader_of(&status).and_then(|address| self.channel(&address).ok());
                    if leader.is_some() {
                        continue;
                    }
                    if !transient(&status) && status.code() != tonic::Code::FailedPrecondition {
                        return Err(refused(&status));
                    }
                    last = status.message().to_owned();
                }
                Err(_) => last = format!("no answer in {} s", CALL_TIMEOUT.as_secs()),
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(unreachable(&last))
    }
}

/// A lazily connected channel to host:port.
pub(crate) fn channel(dialer: &Dialer, address: &str) -> Result<Channel> {
    let line = dialer.line(address, Callee::Host).map_err(|error| CliError::usage(error.to_string()))?;
    Ok(line.tuned(|endpoint| endpoint.connect_timeout(CONNECT_TIMEOUT)).lazy())
}

/// How coordinators are called: with TLS when a CA is named, in plaintext on this machine when none is.
pub(crate) fn dialer(ca: Option<&Path>) -> Result<Dialer> {
    let files = ca.map(|ca| Files { ca: ca.to_owned(), own: None });
    let certificates = files.map(Certificates::read).transpose();
    Ok(Dialer::new(certificates.map_err(|error| CliError::usage(format!("--tls-ca: {error}")))?))
}

/// A refused outcome as an error.
pub(crate) fn refusal(outcome: &v1::Outcome) -> CliError {
    CliError::refused(format!("refused ({}): {}", outcome.name, outcome.detail))
}

fn leader_of(status: &Status) -> Option<String> {
    status.metadata().get(LEADER_KEY).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn transient(status: &Status) -> bool {
    use tonic::Code::{Aborted, Cancelled, DeadlineExceeded, ResourceExhausted, Unavailable, Unknown};
    matches!(status.code(), Unavailable | DeadlineExceeded | Aborted | ResourceExhausted | Cancelled | Unknown)
}

pub(crate) fn refused(status: &Status) -> CliError {
    // What HTTP/2 makes of the first bytes of a TLS server.
    if status.message().contains("h2 protocol error") {
        let why = format!(
            "what answers does not speak as expected ({}): if it is a coordinator with TLS, name its authority with --tls-ca",
            status.message()
        );
        return CliError::new(Code::Unreachable, why);
    }
    if let Some(why) = distrust(status) {
        let why = format!(
            "the server's certificate is not trusted ({why}): --tls-ca must name the authority of its cluster, and the address a host \
             that the certificate is for"
        );
        return CliError::new(Code::Unreachable, why);
    }
    CliError::refused(format!("refused ({:?}): {}", status.code(), status.message()))
}

/// What TLS has against a server's certificate, if that is why a call failed.
fn distrust(status: &Status) -> Option<String> {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let text = error.to_string();
        if let Some(at) = text.find("invalid peer certificate") {
            return Some(text[at..].to_owned());
        }
        cause = error.source();
    }
    None
}

fn unreachable(last: &str) -> CliError {
    CliError::new(
        Code::Unreachable,
        format!(
            "no coordinator answered within {} s (last: {last}); name them with --cluster HOST:PORT,…",
            PATIENCE.as_secs()
        ),
    )
}

/// Calls `$method` of a generated client with a request on any coordinator.
macro_rules! ask {
    ($client:expr, $service:ident :: $type:ident . $method:ident, $request:expr) => {{
        let (client, request) = (&$client, $request);
        client
            .read(|channel| {
                let request = client.asking(request.clone());
                async move {
                    matrixai_proto::v1::$service::$type::new(channel)
                        .max_decoding_message_size($crate::client::message_bytes_max())
                        .$method(request)
                        .await
                }
            })
            .await
    }};
}
pub(crate) use ask;

pub(crate) const fn message_bytes_max() -> usize {
    MESSAGE_BYTES_MAX
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use futures::StreamExt as _;
    use matrixai_transport::{Incoming, OwnFiles, authority::Authority};
    use std::{fs, os::unix::fs::PermissionsExt as _};
    use tokio::net::TcpListener;

    const NODE: [u8; 32] = [1; 32];

    /// A server with a certificate of its authority for this host; answers where it listens, and its authority's file.
    async fn server(folder: &Path, host: &str) -> (String, std::path::PathBuf) {
        let (authority, issued) = Authority::create(1).unwrap();
        let file = |end: &str| folder.join(format!("{host}.{end}"));
        let (ca, certificate, key) = (file("ca"), file("pem"), file("key"));
        fs::write(&ca, issued.certificate).unwrap();
        let own = authority.issue(&NODE, &[host.to_owned()], 1).unwrap();
        fs::write(&certificate, own.certificate).unwrap();
        fs::write(&key, own.key).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let own = Some(OwnFiles { certificate, key, node: NODE });
        let certificates = Certificates::read(Files { ca: ca.clone(), own }).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut incoming = Incoming::new(listener, Some(certificates), 100);
        tokio::spawn(async move { while incoming.next().await.is_some() {} });
        (address, ca)
    }

    #[tokio::test]
    async fn a_certificate_that_is_not_trusted_is_said_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (address, ca) = server(folder.path(), "elsewhere").await;
        let (_, other) = server(folder.path(), "127.0.0.1").await;
        for (ca, why) in [(ca, "elsewhere"), (other, "UnknownIssuer")] {
            let begun = Instant::now();
            let dialer = dialer(Some(&ca)).unwrap();
            let error = Client::connect(std::slice::from_ref(&address), dialer).await.unwrap_err();
            assert!(error.message.contains("--tls-ca") && error.message.contains(why), "{}", error.message);
            assert!(error.message.contains(&address), "{}", error.message);
            assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
        }
    }
}
