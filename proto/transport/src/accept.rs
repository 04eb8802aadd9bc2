//! Calls in. A handshake takes its time on a task of its own, so that a slow caller delays nobody; how many there are and
//! how long one may take is bounded, and the oldest makes room for the next: callers who are silent keep nobody out.
//! Connections are counted, since each is an open file and the log needs some too. Dropping [`Incoming`] closes the
//! listener at once.

use crate::{Accepted, Certificates, Stream, node_name};
use rustls::{
    client::verify_server_name,
    pki_types::{CertificateDer, ServerName},
    server::ParsedCertificate,
};
use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{AbortHandle, JoinSet},
    time::{Sleep, sleep},
};
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::Connected;

/// Handshakes at once; the oldest ends when there are more.
pub(crate) const HANDSHAKES_MAX: usize = 256;
/// Longest handshake.
pub(crate) const HANDSHAKE_WAIT: Duration = Duration::from_secs(5);
/// Longest wait for the first bytes of a request. A browser's spare connection is opened again when it is needed.
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// Pause after the system refused to accept: it goes on refusing as long as files are short.
const REFUSED_PAUSE: Duration = Duration::from_millis(200);

/// Connections that are ready to serve.
#[derive(Debug)]
pub struct Incoming {
    listener: TcpListener,
    certificates: Option<Arc<Certificates>>,
    handshakes: JoinSet<Option<Accepted>>,
    /// Those that go on, the oldest first.
    oldest: VecDeque<AbortHandle>,
    places: Arc<Semaphore>,
    /// Until the listener is asked again.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    /// Accepts with TLS where there are certificates; connections beyond `connections_max` at once are closed. Whoever binds
    /// the listener answers for plaintext being on loopback.
    pub fn new(listener: TcpListener, certificates: Option<Arc<Certificates>>, connections_max: usize) -> Self {
        let places = Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS)));
        Self { listener, certificates, handshakes: JoinSet::new(), oldest: VecDeque::new(), places, pause: None }
    }

    fn accepted(&mut self, stream: TcpStream) -> Option<Accepted> {
        // Without it answers wait for acknowledgements; a connection that refuses it is broken already.
        stream.set_nodelay(true).ok()?;
        let Some(certificates) = &self.certificates else {
            let place = self.places.clone().try_acquire_owned().ok()?;
            return Some(Accepted::new(Stream::Plaintext(stream), place, FIRST_WAIT));
        };
        // A process without a certificate of its own cannot shake hands, and is kept from serving by its configuration.
        let acceptor = TlsAcceptor::from(certificates.grpc()?);
        self.oldest.retain(|handshake| !handshake.is_finished());
        while self.oldest.len() >= HANDSHAKES_MAX {
            if let Some(handshake) = self.oldest.pop_front() {
                handshake.abort();
            }
        }
        let places = self.places.clone();
        self.oldest.push_back(self.handshakes.spawn(handshake(acceptor, stream, places)));
        None
    }
}

async fn handshake(acceptor: TlsAcceptor, stream: TcpStream, places: Arc<Semaphore>) -> Option<Accepted> {
    match tokio::time::timeout(HANDSHAKE_WAIT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let place: OwnedSemaphorePermit = places.try_acquire_owned().ok()?;
            Some(Accepted::new(Stream::Tls(Box::new(stream.into())), place, FIRST_WAIT))
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "a caller was refused");
            None
        }
        Err(_) => None,
    }
}

impl tokio_stream::Stream for Incoming {
    type Item = io::Result<Accepted>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            // None: no handshake goes on. A task that panicked or made room is a connection lost.
            while let Poll::Ready(Some(ended)) = this.handshakes.poll_join_next(context) {
                if let Ok(Some(stream)) = ended {
                    return Poll::Ready(Some(Ok(stream)));
                }
            }
            if let Some(pause) = &mut this.pause {
                if pause.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                this.pause = None;
            }
            match this.listener.poll_accept(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    this.pause = Some(Box::pin(sleep(REFUSED_PAUSE)));
                }
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

impl Connected for Accepted {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        match self.stream() {
            Stream::Plaintext(_) => Caller::Plaintext,
            Stream::Tls(stream) => {
                let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                Caller::Tls(shown.map(|certificate| Arc::new(certificate.clone().into_owned())))
            }
        }
    }
}
