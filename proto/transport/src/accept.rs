//! Calls in. A handshake takes its time on a task of its own, so that a slow caller delays nobody; how many there are and
//! how long one may take is bounded. Dropping [`Incoming`] closes the listener at once.

use crate::{Certificates, Stream, node_name};
use rustls::{
    client::verify_server_name,
    pki_types::{CertificateDer, ServerName},
    server::ParsedCertificate,
};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::Connected;

/// Handshakes at once; further callers wait in the system's queue.
const HANDSHAKES_MAX: usize = 256;
/// Longest handshake.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(5);

/// Connections that are ready to serve.
#[derive(Debug)]
pub struct Incoming {
    listener: TcpListener,
    certificates: Option<Arc<Certificates>>,
    handshakes: JoinSet<Option<Stream>>,
}

impl Incoming {
    /// Accepts with TLS where there are certificates. Whoever binds the listener answers for plaintext being on loopback.
    pub fn new(listener: TcpListener, certificates: Option<Arc<Certificates>>) -> Self {
        Self { listener, certificates, handshakes: JoinSet::new() }
    }

    fn accepted(&mut self, stream: TcpStream) -> Option<Stream> {
        // Without it answers wait for acknowledgements; a connection that refuses it is broken already.
        stream.set_nodelay(true).ok()?;
        let Some(certificates) = &self.certificates else { return Some(Stream::Plaintext(stream)) };
        // A process without a certificate of its own cannot shake hands, and is kept from serving by its configuration.
        let acceptor = TlsAcceptor::from(certificates.grpc()?);
        self.handshakes.spawn(async move {
            match tokio::time::timeout(HANDSHAKE_WAIT, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => Some(Stream::Tls(Box::new(stream.into()))),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a caller was refused");
                    None
                }
                Err(_) => None,
            }
        });
        None
    }
}

impl tokio_stream::Stream for Incoming {
    type Item = io::Result<Stream>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            // None: no handshake goes on. A task that panicked is a connection lost.
            while let Poll::Ready(Some(ended)) = this.handshakes.poll_join_next(context) {
                if let Ok(Some(stream)) = ended {
                    return Poll::Ready(Some(Ok(stream)));
                }
            }
            if this.handshakes.len() >= HANDSHAKES_MAX {
                return Poll::Pending;
            }
            match this.listener.poll_accept(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Ok((stream, _))) => {
                    if let Some(ready) = this.accepted(stream) {
                        return Poll::Ready(Some(Ok(ready)));
                    }
                }
            }
        }
    }
}

/// Who is at the other end of a request's connection; in the extensions of every request that came through
/// [`Incoming`].
#[derive(Debug, Clone)]
pub enum Caller {
    /// Somebody on this machine.
    Plaintext,
    /// Whoever holds the certificate, which the cluster's CA signed, or anybody.
    Tls(Option<Arc<CertificateDer<'static>>>),
}

/// A caller who is not the coordinator that it says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTheNode {
    /// It showed no certificate.
    #[error("a call from a coordinator needs a client certificate of the cluster's CA")]
    NoCertificate,
    /// It showed somebody else's.
    #[error("the client certificate does not name this node key")]
    OtherName,
}

impl Caller {
    /// Checks that the caller is the coordinator with this node key. In plaintext there is nothing to check; what a
    /// caller on this machine signs is all there is.
    ///
    /// # Errors
    /// [`NotTheNode`].
    pub fn is_node(&self, key: &[u8; 32]) -> Result<(), NotTheNode> {
        let certificate = match self {
            Self::Plaintext => return Ok(()),
            Self::Tls(None) => return Err(NotTheNode::NoCertificate),
            Self::Tls(Some(certificate)) => certificate,
        };
        let other = |_| NotTheNode::OtherName;
        let name = ServerName::try_from(node_name(key)).map_err(|_| NotTheNode::OtherName)?;
        // The handshake has checked the chain and the times.
        let certificate = ParsedCertificate::try_from(certificate.as_ref()).map_err(other)?;
        verify_server_name(&certificate, &name).map_err(other)
    }
}

impl Connected for Stream {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        match self {
            Self::Plaintext(_) => Caller::Plaintext,
            Self::Tls(stream) => {
                let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                Caller::Tls(shown.map(|certificate| Arc::new(certificate.clone().into_owned())))
            }
        }
    }
}
