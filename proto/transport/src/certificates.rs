//! The files of TLS: read once at start, read again while the process runs, so that renewed certificates need no
//! restart. What cannot be used is refused at the start and logged later, when the old ones stay in use.

use crate::node_name;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use std::{
    fmt, fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

/// How often the files are looked at for renewed certificates.
const REFRESH_EVERY: Duration = Duration::from_secs(30);
/// The only protocol inside a connection of gRPC.
const HTTP_2: &[u8] = b"h2";

/// Where the files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Certificates (PEM) of the authorities that are trusted: the cluster's CA, and its successor while it is replaced.
    pub ca: PathBuf,
    /// This process's own; none for a process that only calls.
    pub own: Option<OwnFiles>,
}

/// Where a coordinator's own files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnFiles {
    /// Its certificate and those between it and the CA (PEM).
    pub certificate: PathBuf,
    /// Its private key (PEM), readable by its owner alone.
    pub key: PathBuf,
    /// The node key that the certificate must name.
    pub node: [u8; 32],
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("read {path}: {error}")]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
    /// A private key that others can read.
    #[error("the private key {0} can be read by others: run chmod 600 on it")]
    Exposed(PathBuf),
    /// A file without what it should hold.
    #[error("{path}: {what}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// What TLS needs, made from the files as they are now.
#[derive(Clone)]
struct Loaded {
    /// The files' bytes, to see a change.
    bytes: Vec<Vec<u8>>,
    client: Arc<ClientConfig>,
    own: Option<Own>,
}

#[derive(Clone)]
struct Own {
    grpc: Arc<ServerConfig>,
    key: Arc<CertifiedKey>,
}

/// The certificates of this process, always the newest that could be used.
pub struct Certificates {
    files: Files,
    current: RwLock<Loaded>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] names the file and what is wrong with it.
    pub fn read(files: Files) -> Result<Arc<Self>, TlsError> {
        let loaded = load(&files, bytes_of(&files)?)?;
        Ok(Arc::new(Self { files, current: RwLock::new(loaded) }))
    }

    /// Reads the files again; true when they have changed. Connections made from here on use the new ones.
    ///
    /// # Errors
    /// As [`Certificates::read`]; then the ones in use stay.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let bytes = bytes_of(&self.files)?;
        if bytes == self.current().bytes {
            return Ok(false);
        }
        let loaded = load(&self.files, bytes)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(true)
    }

    /// Refreshes for ever.
    pub async fn watch(self: Arc<Self>) {
        // A renewal writes three files one after another: between them they may not fit, and that is no news.
        let mut failed_before = false;
        loop {
            tokio::time::sleep(REFRESH_EVERY).await;
            let certificates = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || certificates.refresh()).await {
                Ok(Ok(true)) => tracing::info!(files = ?self.files, "renewed certificates are in use"),
                Ok(Err(error)) if failed_before => {
                    tracing::error!(%error, "certificates cannot be renewed: the old ones stay in use");
                }
                Ok(Err(_)) => failed_before = true,
                Ok(Ok(false)) => failed_before = false,
                // The runtime stops.
                Err(_) => return,
            }
        }
    }

    /// For calls out.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        self.current().client
    }

    /// For gRPC servers: asks callers for a certificate, and refuses those of another CA; who has none may call, and is
    /// seen to have none. None for a process without a certificate of its own.
    pub(crate) fn grpc(&self) -> Option<Arc<ServerConfig>> {
        self.current().own.map(|own| own.grpc)
    }

    /// For a web server, which asks nobody for a certificate; it answers with the newest one. The protocols are left to
    /// the web server.
    ///
    /// # Errors
    /// When the files name no certificate of this process's own.
    pub fn web(self: &Arc<Self>) -> Result<ServerConfig, TlsError> {
        if self.files.own.is_none() {
            return Err(TlsError::Content {
                path: self.files.ca.clone(),
                what: "a server needs a certificate of its own".to_owned(),
            });
        }
        let config = ServerConfig::builder_with_provider(provider()).with_protocol_versions(VERSIONS);
        let config = config.map_err(|error| content(&self.files.ca, error))?;
        Ok(config.with_no_client_auth().with_cert_resolver(Arc::new(Newest(Arc::clone(self)))))
    }

    fn current(&self) -> Loaded {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Answers every handshake with the newest certificate.
#[derive(Debug)]
struct Newest(Arc<Certificates>);

impl ResolvesServerCert for Newest {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.current().own.map(|own| own.key)
    }
}

const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The bytes of the CA's file, the certificate's and the key's.
fn bytes_of(files: &Files) -> Result<Vec<Vec<u8>>, TlsError> {
    let read = |path: &Path| fs::read(path).map_err(|error| TlsError::Read { path: path.to_owned(), error });
    let mut bytes = vec![read(&files.ca)?];
    if let Some(OwnFiles { certificate, key, .. }) = &files.own {
        bytes.push(read(certificate)?);
        let mode = fs::metadata(key).map_err(|error| TlsError::Read { path: key.clone(), error })?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(TlsError::Exposed(key.clone()));
        }
        bytes.push(read(key)?);
    }
    Ok(bytes)
}

fn load(files: &Files, bytes: Vec<Vec<u8>>) -> Result<Loaded, TlsError> {
    let mut parts = bytes.iter();
    let mut next = || parts.next().map(Vec::as_slice).unwrap_or_default();
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&files.ca, next())? {
        roots.add(certificate).map_err(|error| content(&files.ca, error))?;
    }
    let roots = Arc::new(roots);
    let fails = |error: &dyn fmt::Display| content(&files.ca, error);

    let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider()).build();
    let verifier = verifier.map_err(|error| fails(&error))?;
    let client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(|error| fails(&error))?
        .with_webpki_verifier(verifier.clone());
    let Some(OwnFiles { certificate: certificate_path, key: key_path, node }) = &files.own else {
        let mut client = client.with_no_client_auth();
        client.alpn_protocols = vec![HTTP_2.to_vec()];
        return Ok(Loaded { client: Arc::new(client), own: None, bytes });
    };

    let chain = certificates(certificate_path, next())?;
    usable(&verifier, &chain, node).map_err(|error| {
        let key = hex::encode(node);
        content(certificate_path, format!("{error}; this coordinator needs: matrixai certs node {key} --host …"))
    })?;
    let key = PrivateKeyDer::from_pem_slice(next()).map_err(|error| content(key_path, error))?;
    // This also refuses a key that is not the certificate's.
    let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| content(key_path, error))?;
    let key = Arc::new(key);
    let mut client = client.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key.clone())));
    client.alpn_protocols = vec![HTTP_2.to_vec()];
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).allow_unauthenticated().build();
    let mut grpc = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(|error| fails(&error))?
        .with_client_cert_verifier(verifier.map_err(|error| fails(&error))?)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key.clone())));
    grpc.alpn_protocols = vec![HTTP_2.to_vec()];
    Ok(Loaded { client: Arc::new(client), own: Some(Own { grpc: Arc::new(grpc), key }), bytes })
}

/// Whether others will take this chain for that node's, now: better to hear it here than from all of them.
fn usable(
    verifier: &WebPkiServerVerifier,
    chain: &[CertificateDer<'static>],
    node: &[u8; 32],
) -> Result<(), rustls::Error> {
    let (first, between) = chain.split_first().ok_or(rustls::Error::NoCertificatesPresented)?;
    let name = ServerName::try_from(node_name(node)).map_err(|error| rustls::Error::General(error.to_string()))?;
    verifier.verify_server_cert(first, between, &name, &[], UnixTime::now()).map(|_| ())
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| content(path, error))?;
    if found.is_empty() {
        return Err(content(path, "holds no certificate in PEM"));
    }
    Ok(found)
}

fn content(path: &Path, error: impl fmt::Display) -> TlsError {
    TlsError::Content { path: path.to_owned(), what: error.to_string() }
}
