//! Calls out. Each connection uses the newest certificates, and is refused before a byte is sent when it would leave
//! this machine in plaintext.

use crate::{Certificates, Stream, is_loopback, node_name};
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;

/// How this process calls others: with TLS everywhere, or in plaintext on its own machine.
#[derive(Debug, Clone, Default)]
pub struct Dialer {
    certificates: Option<Arc<Certificates>>,
}

/// Whose certificate the other side must show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callee<'a> {
    /// The host's of the address.
    Host,
    /// The coordinator's with this node key, at whatever host.
    Node(&'a [u8; 32]),
}

/// An address that cannot be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No address.
    #[error("{0:?} is no host:port")]
    Malformed(String),
    /// Outside this machine, without TLS.
    #[error(
        "{0} is not on this machine: plaintext is for loopback, other addresses need TLS (name the cluster's CA, --tls-ca FILE)"
    )]
    Plaintext(String),
}

impl Dialer {
    /// With these certificates; without any, plaintext to loopback.
    pub fn new(certificates: Option<Arc<Certificates>>) -> Self {
        Self { certificates }
    }

    /// "https" or "http", as links to servers of this cluster begin.
    pub fn scheme(&self) -> &'static str {
        if self.certificates.is_some() { "https" } else { "http" }
    }

    /// The way to `host:port`; nothing is dialled yet.
    ///
    /// # Errors
    /// [`AddressError`] says what is wrong with the address.
    pub fn line(&self, address: &str, callee: Callee<'_>) -> Result<Line, AddressError> {
        let malformed = || AddressError::Malformed(address.to_owned());
        // `http` is how tonic is kept from adding TLS of its own; the origin is what the other side sees.
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| malformed())?;
        let uri = endpoint.uri().clone();
        let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else { return Err(malformed()) };
        // An IPv6 address stands in brackets in an address, and without them everywhere else.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if !(uri.path().is_empty() || uri.path() == "/") || port == 0 {
            return Err(malformed());
        }
        let (tls, origin) = match &self.certificates {
            None if may_be_plaintext(&host) => (None, endpoint),
            None => return Err(AddressError::Plaintext(address.to_owned())),
            Some(certificates) => {
                let name = match callee {
                    Callee::Host => host.clone(),
                    Callee::Node(key) => node_name(key),
                };
                let name = ServerName::try_from(name).map_err(|_| malformed())?;
                let origin = format!("https://{address}").parse().map_err(|_| malformed())?;
                (Some((Arc::clone(certificates), name)), endpoint.origin(origin))
            }
        };
        Ok(Line { endpoint: origin.tcp_nodelay(true), connector: Connector { host, port, tls } })
    }
}

/// Whether a host stays on this machine. Of names only `localhost` is taken at its word, and checked when it is dialled.
fn may_be_plaintext(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(is_loopback)
}

/// The way to one address.
#[derive(Debug, Clone)]
pub struct Line {
    endpoint: Endpoint,
    pub(crate) connector: Connector,
}

impl Line {
    /// With other settings of the endpoint: time limits, keep-alive.
    #[must_use]
    pub fn tuned(self, tune: impl FnOnce(Endpoint) -> Endpoint) -> Self {
        Self { endpoint: tune(self.endpoint), ..self }
    }

    /// Dials now.
    ///
    /// # Errors
    /// When there is no connection within the endpoint's limit, or the other side is not who it should be.
    pub async fn connect(&self) -> Result<Channel, tonic::transport::Error> {
        self.endpoint.connect_with_connector(self.connector.clone()).await
    }

    /// Dials when it is first needed, and again after it broke. Must be called inside the runtime.
    pub fn lazy(&self) -> Channel {
        self.endpoint.connect_with_connector_lazy(self.connector.clone())
    }
}

/// Makes the connections of one [`Line`].
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    host: String,
    port: u16,
    tls: Option<(Arc<Certificates>, ServerName<'static>)>,
}

impl Connector {
    pub(crate) async fn connect(self) -> io::Result<Stream> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let Some((certificates, name)) = self.tls else {
            return here(stream.peer_addr()?).map(|()| Stream::Plaintext(stream));
        };
        let connector = TlsConnector::from(certificates.client());
        let stream = connector.connect(name, stream).await?;
        Ok(Stream::Tls(Box::new(stream.into())))
    }
}

/// Refuses plaintext to a `localhost` that is somewhere else.
fn here(address: SocketAddr) -> io::Result<()> {
    if is_loopback(address.ip()) {
        return Ok(());
    }
    Err(io::Error::other(AddressError::Plaintext(address.to_string())))
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect().await.map(TokioIo::new) })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_stays_on_this_machine() {
        let dialer = Dialer::default();
        for address in ["127.0.0.1:1", "[::1]:1", "localhost:1", "127.9.0.1:65535"] {
            assert!(dialer.line(address, Callee::Host).is_ok(), "{address}");
        }
        for address in ["10.0.0.1:1", "[fe80::1]:1", "example.org:1", "0.0.0.0:1", "localhost.example.org:1"] {
            let refused = dialer.line(address, Callee::Host).unwrap_err();
            assert_eq!(refused, AddressError::Plaintext(address.to_owned()));
        }
        for address in ["", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:1/path", "a b:1", "127.0.0.1:99999"] {
            let refused = dialer.line(address, Callee::Host).unwrap_err();
            assert_eq!(refused, AddressError::Malformed(address.to_owned()));
        }
        assert!(here(SocketAddr::from(([192, 0, 2, 1], 1))).is_err());
    }
}
