//! Coordinators with certificates: everything goes through TLS, and calls between coordinators must come from the node
//! that signs them.

#![allow(clippy::unwrap_used)]

use matrixai_coordinator::{Config, Handle, Tls, node_key, start};
use matrixai_proto::{
    envelope::{ARTIFACT_PUT, COMMANDS, PEER, Signer, random},
    v1::{
        Batch, Command, CreateAccount, Envelope, FaucetDraw, FetchSnapshotRequest, Genesis, GenesisNode,
        GetAccountRequest, GetRequest, GetStatusRequest, InitRequest, PeerAck, PeerClaim, PeerFrame, PutClaim,
        PutHeader, PutRequest, StoreRequest, SubmitRequest, accounts_client::AccountsClient,
        artifacts_client::ArtifactsClient, cluster_client::ClusterClient, command::Kind, ledger_client::LedgerClient,
        peer_client::PeerClient, put_request::Part,
    },
};
use matrixai_transport::{Callee, Certificates, Dialer, Files, OwnFiles, authority::Authority};
use prost::Message as _;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Runtime,
};
use tonic::{Code, Status, transport::Channel};

/// Longest wait for something that has to happen.
const PATIENCE: Duration = Duration::from_secs(60);
/// Attempts to find the coordinator that leads begin so far apart.
const ATTEMPT_EVERY: Duration = Duration::from_millis(20);

/// Three coordinators of one cluster, with certificates of one authority.
struct Cluster {
    // Stopped before the folders go.
    handles: Vec<Handle>,
    runtime: Runtime,
    keys: Vec<[u8; 32]>,
    id: [u8; 32],
    home: TempDir,
}

fn write_private(path: &Path, text: &str) {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    io::Write::write_all(&mut file, text.as_bytes()).unwrap();
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

impl Cluster {
    fn found() -> Self {
        let home = tempfile::tempdir().unwrap();
        let (authority, ca) = Authority::create(1).unwrap();
        fs::write(home.path().join("ca.pem"), ca.certificate).unwrap();
        let member = |number: usize| {
            let data = home.path().join(format!("data-{number}"));
            let key = node_key(&data).unwrap();
            let issued = authority.issue(&key, &["127.0.0.1".to_owned()], 1).unwrap();
            let (cert, private) =
                (home.path().join(format!("{number}.pem")), home.path().join(format!("{number}.key")));
            fs::write(&cert, issued.certificate).unwrap();
            write_private(&private, &issued.key);
            let mut config = Config::local(&data).unwrap();
            config.tls = Tls { ca: home.path().join("ca.pem"), cert, key: private };
            (key, start(config).unwrap())
        };
        let (keys, handles): (Vec<_>, Vec<_>) = (0..3).map(member).unzip();
        let node = |(id, handle): (u64, &Handle)| GenesisNode {
            id,
            key: hex::decode(&handle.ready().node_key).unwrap(),
            grpc: handle.ready().grpc.clone(),
            web: handle.ready().web.clone(),
        };
        let genesis = Genesis {
            format: 1,
            network: "test".to_owned(),
            test_network: true,
            nodes: (1..).zip(&handles).map(node).collect(),
            faucet_daily: "1000000".to_owned(),
            faucet_total: "100000000".to_owned(),
            fee_bp: 100,
            beat_ms: 200,
            r0: vec![7; 32],
            machine_timeout_ms: 2_000,
            epoch_beats: 5,
            created_ms: now_ms(),
            ..Genesis::default()
        }
        .encode_to_vec();
        let id = Sha256::new_with_prefix("MatrixAI/genesis/v1").chain_update(&genesis).finalize().into();
        let cluster = Self { handles, runtime: Runtime::new().unwrap(), keys, id, home };
        cluster.runtime.block_on(async {
            for at in 0..3 {
                let mut client = ClusterClient::new(cluster.channel(at, &cluster.anybody()));
                let path = cluster.handles[at].ready().founding_key.as_ref().unwrap();
                let founder = std::fs::read_to_string(path);
                let seed = hex::decode(founder.unwrap().trim()).unwrap();
                let founder = Signer::from_seed(seed.try_into().unwrap()).unwrap();
                let claim = Some(matrixai_coordinator::founding::claim(&founder, &cluster.keys[at], &genesis));
                client.init(InitRequest { genesis: genesis.clone(), claim }).await.unwrap();
            }
        });
        cluster
    }

    /// Somebody who trusts the cluster's CA.
    fn anybody(&self) -> Dialer {
        Dialer::new(Some(Certificates::read(Files { ca: self.home.path().join("ca.pem"), own: None }).unwrap()))
    }

    /// Somebody who has a coordinator's certificate.
    fn with_certificate_of(&self, at: usize) -> Dialer {
        let file = |end| self.home.path().join(format!("{at}.{end}"));
        let own = OwnFiles { certificate: file("pem"), key: file("key"), node: self.keys[at] };
        let files = Files { ca: self.home.path().join("ca.pem"), own: Some(own) };
        Dialer::new(Some(Certificates::read(files).unwrap()))
    }

    fn channel(&self, at: usize, dialer: &Dialer) -> Channel {
        dialer.line(&self.handles[at].ready().grpc, Callee::Host).unwrap().lazy()
    }

    /// A claim that coordinator `from` calls coordinator `to`, really signed by its node key.
    fn claim(&self, from: usize, to: usize) -> Envelope {
        let seed = fs::read_to_string(self.home.path().join(format!("data-{from}/node.key"))).unwrap();
        let signer = Signer::from_seed(hex::decode(seed.trim()).unwrap().try_into().unwrap()).unwrap();
        let payload = PeerClaim { from: from as u64 + 1, to: to as u64 + 1, era: Vec::new(), process: Vec::new() }
            .encode_to_vec();
        signer.seal(self.id, PEER, random().unwrap(), now_ms() + 60_000, payload)
    }

    /// Submits to the leader, starting anywhere.
    async fn submit(&self, signer: &Signer, kinds: Vec<Kind>) -> Vec<u8> {
        let commands = kinds.into_iter().map(|kind| Command { kind: Some(kind) }).collect();
        let payload = Batch { commands, linked: false }.encode_to_vec();
        let envelope = signer.seal(self.id, COMMANDS, random().unwrap(), now_ms() + 60_000, payload);
        let dialer = self.anybody();
        let submitting = async {
            let mut attempts = tokio::time::interval(ATTEMPT_EVERY);
            for at in (0..3).cycle() {
                attempts.tick().await;
                let request = SubmitRequest { envelope: Some(envelope.clone()) };
                if let Ok(reply) = LedgerClient::new(self.channel(at, &dialer)).submit(request).await {
                    return reply.into_inner().outcomes;
                }
            }
            unreachable!("the cycle has no end")
        };
        let outcomes = tokio::time::timeout(PATIENCE, submitting).await.expect("nobody took the commands");
        assert!(outcomes.iter().all(|outcome| outcome.code == 0), "{outcomes:?}");
        outcomes[0].id.clone()
    }
}

/// Begins a stream as a coordinator would; the first acknowledgement, or why there is none.
async fn exchange(channel: Channel, claim: Envelope) -> Result<PeerAck, Status> {
    let first = PeerFrame { claim: Some(claim), ..PeerFrame::default() };
    let status = PeerFrame { status: Some(Default::default()), ..PeerFrame::default() };
    let frames = futures::StreamExt::chain(tokio_stream::iter([first, status]), futures::stream::pending());
    let mut acks = PeerClient::new(channel).exchange(frames).await?.into_inner();
    tokio::time::timeout(PATIENCE, acks.message()).await.unwrap()?.ok_or_else(|| Status::aborted("closed"))
}

#[test]
fn money_and_artifacts_move_through_tls() {
    let cluster = Cluster::found();
    cluster.runtime.block_on(async {
        let dialer = cluster.anybody();
        let alice = Signer::generate().unwrap();
        let draw = Kind::FaucetDraw(FaucetDraw { amount: "500".to_owned() });
        let account = cluster.submit(&alice, vec![Kind::CreateAccount(CreateAccount::default()), draw]).await;
        // A linearizable read at each: a quorum answers every one of them.
        for at in 0..3 {
            let mut client = AccountsClient::new(cluster.channel(at, &dialer));
            let shown = client.get_account(GetAccountRequest { account: account.clone() }).await.unwrap();
            assert_eq!(shown.into_inner().balance, "500");
        }

        // Stored here, copied to a quorum by mutual TLS, fetched from each.
        let bytes = b"some bytes".to_vec();
        let (sha256, size) = (Sha256::digest(&bytes).to_vec(), bytes.len() as u64);
        let payload = PutClaim { sha256: sha256.clone(), size }.encode_to_vec();
        let claim = alice.seal(cluster.id, ARTIFACT_PUT, random().unwrap(), now_ms() + 60_000, payload);
        let header = PutHeader { sha256: sha256.clone(), size, offset: 0, claim: Some(claim) };
        let parts = [Part::Header(header), Part::Data(bytes.clone())].map(|part| PutRequest { part: Some(part) });
        let put = ArtifactsClient::new(cluster.channel(0, &dialer)).put(tokio_stream::iter(parts)).await.unwrap();
        assert!(put.into_inner().replicas >= 2);
        for at in 0..3 {
            let request = GetRequest { sha256: sha256.clone(), offset: 0 };
            let mut parts = ArtifactsClient::new(cluster.channel(at, &dialer)).get(request).await.unwrap().into_inner();
            let mut got = Vec::new();
            while let Some(part) = parts.message().await.unwrap() {
                got.extend(part.data);
            }
            assert_eq!(got, bytes);
        }
    });
}

#[test]
fn a_call_between_coordinators_comes_from_the_node_that_signed_it() {
    let mut cluster = Cluster::found();
    let refused = |status: Status, why: &str| {
        assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
        assert!(status.message().contains(why), "{status:?}");
    };
    cluster.runtime.block_on(async {
        // The claim is right, as one would be that was overheard.
        let nobody = cluster.channel(0, &cluster.anybody());
        refused(exchange(nobody.clone(), cluster.claim(1, 0)).await.unwrap_err(), "needs a client certificate");
        let request = FetchSnapshotRequest { claim: Some(cluster.claim(1, 0)), ..FetchSnapshotRequest::default() };
        let answer = PeerClient::new(nobody.clone()).fetch_snapshot(request).await;
        refused(answer.unwrap_err(), "needs a client certificate");
        let store = StoreRequest { claim: Some(cluster.claim(1, 0)), sha256: vec![1; 32], ..StoreRequest::default() };
        let answer = PeerClient::new(nobody).store(tokio_stream::iter([store.clone()])).await;
        refused(answer.unwrap_err(), "needs a client certificate");

        let third = cluster.channel(0, &cluster.with_certificate_of(2));
        refused(exchange(third.clone(), cluster.claim(1, 0)).await.unwrap_err(), "does not name this node key");
        let answer = PeerClient::new(third).store(tokio_stream::iter([store])).await;
        refused(answer.unwrap_err(), "does not name this node key");

        let second = cluster.channel(0, &cluster.with_certificate_of(1));
        // The certificate alone is not enough either.
        refused(exchange(second.clone(), cluster.claim(2, 0)).await.unwrap_err(), "does not name this node key");
        // With all that a copy of the data folder holds, beside the coordinator itself, once that was heard.
        let mut client = ClusterClient::new(cluster.channel(0, &cluster.anybody()));
        let heard = async {
            let mut attempts = tokio::time::interval(ATTEMPT_EVERY);
            loop {
                attempts.tick().await;
                let nodes = client.get_status(GetStatusRequest {}).await.unwrap().into_inner().nodes;
                if nodes.iter().any(|node| node.id == 2 && node.heard_ms != u64::MAX) {
                    break;
                }
            }
        };
        tokio::time::timeout(PATIENCE, heard).await.expect("the second is not heard");
        refused(exchange(second, cluster.claim(1, 0)).await.unwrap_err(), "another process");
    });
    cluster.handles.remove(1).stop().unwrap();
    cluster.runtime.block_on(async {
        let second = cluster.channel(0, &cluster.with_certificate_of(1));
        let admitted = async {
            let mut attempts = tokio::time::interval(ATTEMPT_EVERY);
            // Its stream ends with it, which the other one may not have seen yet.
            while exchange(second.clone(), cluster.claim(1, 0)).await.is_err() {
                attempts.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, admitted).await.expect("it is not listened to again");
    });
}

#[test]
fn strangers_and_plaintext_are_not_served() {
    let cluster = Cluster::found();
    cluster.runtime.block_on(async {
        let elsewhere = tempfile::tempdir().unwrap();
        let ca = elsewhere.path().join("ca.pem");
        fs::write(&ca, Authority::create(1).unwrap().1.certificate).unwrap();
        let stranger = Dialer::new(Some(Certificates::read(Files { ca, own: None }).unwrap()));
        for dialer in [stranger, Dialer::default()] {
            let mut client = ClusterClient::new(cluster.channel(0, &dialer));
            let refused = client.get_status(GetStatusRequest {}).await.unwrap_err();
            assert_ne!(refused.code(), Code::Ok);
        }
        ClusterClient::new(cluster.channel(0, &cluster.anybody())).get_status(GetStatusRequest {}).await.unwrap();
    });
}

#[test]
fn the_web_pages_are_behind_tls_too() {
    let cluster = Cluster::found();
    cluster.runtime.block_on(async {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(cluster.home.path().join("ca.pem")).unwrap()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tcp = TcpStream::connect(&cluster.handles[0].ready().web).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
        stream.write_all(b"GET /api/status HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        // Closed without a TLS goodbye, as web servers do.
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"cluster_id\""), "{answer}");
    });
}

#[test]
fn a_coordinator_with_anothers_certificate_does_not_start() {
    let home = tempfile::tempdir().unwrap();
    let (authority, ca) = Authority::create(1).unwrap();
    let issued = authority.issue(&[9; 32], &["127.0.0.1".to_owned()], 1).unwrap();
    fs::write(home.path().join("ca.pem"), ca.certificate).unwrap();
    fs::write(home.path().join("node.pem"), issued.certificate).unwrap();
    write_private(&home.path().join("node.key"), &issued.key);
    let mut config = Config::local(&home.path().join("data")).unwrap();
    let path = |name| home.path().join(name);
    config.tls = Tls { ca: path("ca.pem"), cert: path("node.pem"), key: path("node.key") };
    let refused = start(config).unwrap_err().to_string();
    let key = hex::encode(node_key(&path("data")).unwrap());
    assert!(refused.contains(&format!("certs node {key}")), "{refused}");
}
