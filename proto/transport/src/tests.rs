//! Handshakes over loopback: who is let in, who is not, and renewal while a server runs.
#![allow(clippy::unwrap_used)]

use crate::{
    Callee, Caller, Certificates, Dialer, Files, Incoming, NotTheNode, OwnFiles,
    accept::{HANDSHAKE_WAIT, HANDSHAKES_MAX},
    authority::Authority,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tempfile::TempDir;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
};
use tokio_stream::StreamExt as _;
use tonic::{body::Body, transport::server::Connected as _};

const NODE: [u8; 32] = [1; 32];
const OTHER: [u8; 32] = [2; 32];
/// As many as no test has.
const CONNECTIONS_MAX: usize = 1_000;
const DAY: Duration = Duration::from_secs(86_400);

/// A folder with a CA and what it issued.
struct Desk {
    folder: TempDir,
    authority: Authority,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (authority, ca) = Authority::create(10).unwrap();
        fs::write(folder.path().join("ca.pem"), ca.certificate).unwrap();
        // What is kept of an authority is its key alone.
        drop(authority);
        Self { folder, authority: Authority::of_key(&ca.key).unwrap() }
    }

    /// Issues for a node from a time on, over whatever it had.
    fn issue(&self, node: [u8; 32], from: SystemTime) -> Files {
        let issued = self.authority.issue_from(from, &node, &["127.0.0.1".to_owned()], 1).unwrap();
        let name = hex::encode(&node[..1]);
        let (certificate, key) =
            (self.folder.path().join(format!("{name}.pem")), self.folder.path().join(format!("{name}.key")));
        fs::write(&certificate, issued.certificate).unwrap();
        write_private(&key, &issued.key, 0o600);
        Files { own: Some(OwnFiles { certificate, key, node }), ..self.callers() }
    }

    fn callers(&self) -> Files {
        Files { ca: self.folder.path().join("ca.pem"), own: None }
    }
}

fn write_private(path: &Path, text: &str, mode: u32) {
    let _ = fs::remove_file(path);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path).unwrap();
    io::Write::write_all(&mut file, text.as_bytes()).unwrap();
}

fn read(files: Files) -> Arc<Certificates> {
    Certificates::read(files).unwrap()
}

/// A server on loopback that tells who called.
async fn server(certificates: Option<Arc<Certificates>>) -> (String, Incoming) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (listener.local_addr().unwrap().to_string(), Incoming::new(listener, certificates, CONNECTIONS_MAX))
}

/// Dials, and answers who the server saw; an error in words when the dial failed.
async fn call(
    server: &mut (String, Incoming),
    certificates: Option<Arc<Certificates>>,
    callee: Callee<'_>,
) -> Result<Caller, String> {
    let line = Dialer::new(certificates).line(&server.0, callee).unwrap();
    let dial = async { line.connector.connect().await.map_err(|error| error.to_string()) };
    let accept = async { server.1.next().await.unwrap().unwrap().connect_info() };
    tokio::pin!(accept);
    // In TLS 1.3 a caller is done before the server has looked at its certificate, so the server has the last word; and a
    // caller that refuses leaves the server nothing to accept.
    let dialled = tokio::select! {
        dialled = dial => dialled,
        seen = &mut accept => return Ok(seen),
    };
    match dialled {
        Ok(_stream) => Ok(accept.await),
        Err(error) => Err(error),
    }
}

#[tokio::test]
async fn a_caller_with_the_ca_is_let_in_and_seen_to_be_nobody() {
    let desk = Desk::new();
    let mut server = server(Some(read(desk.issue(NODE, SystemTime::now())))).await;
    let seen = call(&mut server, Some(read(desk.callers())), Callee::Host).await.unwrap();
    assert_eq!(seen.is_node(&NODE), Err(NotTheNode::NoCertificate));
}

#[tokio::test]
async fn a_coordinator_is_known_by_its_key_and_no_other() {
    let desk = Desk::new();
    let mut server = server(Some(read(desk.issue(NODE, SystemTime::now())))).await;
    let caller = read(desk.issue(OTHER, SystemTime::now()));
    let seen = call(&mut server, Some(caller.clone()), Callee::Node(&NODE)).await.unwrap();
    assert_eq!(seen.is_node(&OTHER), Ok(()));
    assert_eq!(seen.is_node(&NODE), Err(NotTheNode::OtherName));
    let refused = call(&mut server, Some(caller), Callee::Node(&[3; 32])).await.unwrap_err();
    assert!(refused.contains("not valid for name"), "{refused}");
}

#[tokio::test]
async fn another_ca_is_refused_by_both_sides() {
    let (desk, stranger) = (Desk::new(), Desk::new());
    let mut server = server(Some(read(desk.issue(NODE, SystemTime::now())))).await;
    let refused = call(&mut server, Some(read(stranger.callers())), Callee::Host).await.unwrap_err();
    assert!(refused.contains("UnknownIssuer"), "{refused}");

    // One that trusts the server, and shows a certificate of its own CA.
    let mut files = stranger.issue(OTHER, SystemTime::now());
    let both = [stranger.callers().ca, desk.callers().ca].map(|path| fs::read_to_string(path).unwrap()).concat();
    files.ca = stranger.folder.path().join("both.pem");
    fs::write(&files.ca, both).unwrap();
    let line = Dialer::new(Some(read(files))).line(&server.0, Callee::Host).unwrap();
    let dial = async {
        let mut stream = line.connector.connect().await?;
        // The refusal comes with the first answer.
        tokio::io::AsyncReadExt::read_u8(&mut stream).await
    };
    let error = tokio::select! {
        error = dial => error.unwrap_err().to_string(),
        _ = server.1.next() => panic!("a stranger was let in"),
    };
    assert!(error.contains("UnknownCA"), "{error}");
}

#[tokio::test]
async fn an_expired_certificate_is_refused_at_the_start() {
    let desk = Desk::new();
    let error = Certificates::read(desk.issue(NODE, SystemTime::now() - 3 * DAY)).unwrap_err().to_string();
    assert!(error.contains("expired") && error.contains("certs node 0101"), "{error}");
}

#[tokio::test]
async fn a_server_whose_certificate_has_expired_is_refused_by_callers() {
    let desk = Desk::new();
    let own = desk.issue(NODE, SystemTime::now() - 3 * DAY).own.unwrap();
    // `Certificates` would not start with it, so this server is rustls alone.
    let chain = CertificateDer::pem_file_iter(own.certificate).unwrap().map(Result::unwrap).collect();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(own.key).unwrap())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let line = Dialer::new(Some(read(desk.callers()))).line(&address, Callee::Host).unwrap();
    let answer = async {
        let (stream, _) = listener.accept().await.unwrap();
        tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(stream).await
    };
    let (dialled, _) = tokio::join!(line.connector.connect(), answer);
    let refused = dialled.unwrap_err().to_string();
    assert!(refused.contains("expired"), "{refused}");
}

#[tokio::test]
async fn renewed_files_are_used_without_a_restart() {
    let desk = Desk::new();
    let files = desk.issue(NODE, SystemTime::now());
    let certificates = read(files.clone());
    let mut server = server(Some(certificates.clone())).await;
    assert!(!certificates.refresh().unwrap(), "nothing has changed");

    // The next authority: callers who trust it alone are refused until the server has a certificate of it.
    let next = Desk::new();
    let caller = read(next.callers());
    assert!(call(&mut server, Some(caller.clone()), Callee::Host).await.is_err());
    let renewed = next.issue(NODE, SystemTime::now());
    fs::copy(&renewed.ca, &files.ca).unwrap();
    let error = certificates.refresh().unwrap_err().to_string();
    assert!(error.contains("UnknownIssuer"), "half of a renewal is refused: {error}");
    let (new, old) = (renewed.own.unwrap(), files.own.unwrap());
    fs::copy(new.certificate, old.certificate).unwrap();
    fs::copy(new.key, old.key).unwrap();
    assert!(certificates.refresh().unwrap());
    call(&mut server, Some(caller), Callee::Host).await.unwrap();
}

#[tokio::test]
async fn plaintext_and_tls_do_not_mix() {
    let desk = Desk::new();
    let mut plain = server(None).await;
    assert!(matches!(call(&mut plain, None, Callee::Host).await.unwrap(), Caller::Plaintext));
    let mut tls = server(Some(read(desk.issue(NODE, SystemTime::now())))).await;
    let line = Dialer::default().line(&tls.0, Callee::Host).unwrap();
    let speak = async {
        let mut stream = line.connector.connect().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        // An alert and the end, or the end at once.
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await;
    };
    tokio::select! {
        () = speak => {}
        _ = tls.1.next() => panic!("plaintext was let in"),
    }
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let desk = Desk::new();
    let files = desk.issue(NODE, SystemTime::now());
    let own = files.own.clone().unwrap();
    let refused = |files: &Files| Certificates::read(files.clone()).unwrap_err().to_string();

    assert!(refused(&Files { ca: "/nowhere/ca.pem".into(), own: None }).contains("/nowhere/ca.pem"));
    let wrong = Files { own: Some(OwnFiles { node: OTHER, ..own.clone() }), ..files.clone() };
    assert!(refused(&wrong).contains(&format!("certs node {}", hex::encode(OTHER))), "{}", refused(&wrong));
    let other_key = desk.issue(OTHER, SystemTime::now()).own.unwrap().key;
    let wrong = Files { own: Some(OwnFiles { key: other_key, ..own.clone() }), ..files.clone() };
    assert!(refused(&wrong).contains("02.key"), "{}", refused(&wrong));
    let exposed = desk.folder.path().join("exposed.key");
    write_private(&exposed, &fs::read_to_string(&own.key).unwrap(), 0o644);
    let wrong = Files { own: Some(OwnFiles { key: exposed, ..own.clone() }), ..files.clone() };
    assert!(refused(&wrong).contains("chmod 600"));
    fs::write(&files.ca, "no certificate").unwrap();
    assert!(refused(&desk.callers()).contains("holds no certificate"));
}

#[test]
fn what_makes_no_certificate_is_refused() {
    let desk = Desk::new();
    let host = || vec!["127.0.0.1".to_owned()];
    assert!(desk.authority.issue(&NODE, &[], 1).is_err());
    assert!(desk.authority.issue(&NODE, &["höst".to_owned()], 1).is_err());
    for days in [0, crate::authority::DAYS_MAX + 1] {
        assert!(desk.authority.issue(&NODE, &host(), days).unwrap_err().to_string().contains("days"));
    }
    assert!(desk.authority.issue(&NODE, &host(), crate::authority::DAYS_MAX).is_ok());
    assert!(Authority::of_key("no key").is_err());
}

#[tokio::test]
async fn silent_callers_keep_nobody_out() {
    let desk = Desk::new();
    let mut server = server(Some(read(desk.issue(NODE, SystemTime::now())))).await;
    let begun = Instant::now();
    let connect = async {
        let mut silent = Vec::new();
        for _ in 0..HANDSHAKES_MAX + 9 {
            silent.push(TcpStream::connect(&server.0).await.unwrap());
        }
        silent
    };
    let mut silent = tokio::select! {
        silent = connect => silent,
        _ = server.1.next() => panic!("somebody silent was served"),
    };
    call(&mut server, Some(read(desk.callers())), Callee::Host).await.unwrap();
    // The first to come were the first to go.
    assert!(matches!(silent[0].read(&mut [0]).await, Ok(0) | Err(_)));
    assert!(begun.elapsed() < HANDSHAKE_WAIT, "none of them had to give up first");
}

#[tokio::test]
async fn connections_are_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut incoming = Incoming::new(listener, None, 1);
    let _first = TcpStream::connect(address).await.unwrap();
    let served = incoming.next().await.unwrap().unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    let mut nothing = [0];
    tokio::select! {
        _ = incoming.next() => panic!("one too many was served"),
        end = second.read(&mut nothing) => assert!(matches!(end, Ok(0) | Err(_)), "{end:?}"),
    }
    drop(served);
    let _third = TcpStream::connect(address).await.unwrap();
    incoming.next().await.unwrap().unwrap();
}

/// Answers every request with what it sees of the caller.
#[derive(Clone)]
struct Mirror;

impl tower_service::Service<http::Request<Body>> for Mirror {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let seen = match request.extensions().get::<Caller>() {
            None => "nothing",
            Some(Caller::Plaintext) => "plaintext",
            Some(Caller::Tls(None)) => "anybody",
            Some(Caller::Tls(Some(_))) => "certificate",
        };
        let answer = http::Response::builder().header("seen", seen).body(Body::empty());
        std::future::ready(Ok(answer.unwrap()))
    }
}

#[tokio::test]
async fn requests_know_their_caller() {
    let desk = Desk::new();
    let node = read(desk.issue(NODE, SystemTime::now()));
    let cases = [
        (None, None, "plaintext"),
        (Some(node.clone()), Some(read(desk.callers())), "anybody"),
        (Some(node), Some(read(desk.issue(OTHER, SystemTime::now()))), "certificate"),
    ];
    for (serving, calling, wanted) in cases {
        let (address, incoming) = server(serving).await;
        let serve = tonic::transport::Server::builder().serve_with_incoming(Mirror, incoming);
        let serve = tokio::spawn(serve);
        let line = Dialer::new(calling).line(&address, Callee::Host).unwrap();
        for mut channel in [line.lazy(), line.connect().await.unwrap()] {
            std::future::poll_fn(|context| tower_service::Service::poll_ready(&mut channel, context)).await.unwrap();
            let request = http::Request::post("/a.B/C").body(Body::empty()).unwrap();
            let answer = tower_service::Service::call(&mut channel, request).await.unwrap();
            assert_eq!(answer.headers()["seen"], wanted);
        }
        serve.abort();
    }
}
