//! An accepted connection: one of a bounded number, whose caller has to begin to speak.

use crate::Stream;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OwnedSemaphorePermit,
    time::{Sleep, sleep},
};

/// Bytes that every caller begins with: HTTP/2's preface. From then on the server's pings find out who is gone.
const FIRST_BYTES: usize = 24;

/// A connection that somebody else opened.
#[derive(Debug)]
pub struct Accepted {
    stream: Stream,
    /// How long the caller may still take for its first bytes, and how many are missing; none once they have come.
    first: Option<(Pin<Box<Sleep>>, usize)>,
    /// Given back when the connection ends.
    _place: OwnedSemaphorePermit,
}

impl Accepted {
    pub(crate) fn new(stream: Stream, place: OwnedSemaphorePermit, first_wait: Duration) -> Self {
        Self { stream, first: Some((Box::pin(sleep(first_wait)), FIRST_BYTES)), _place: place }
    }

    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }
}

impl AsyncRead for Accepted {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = to.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, to);
        let Some((wait, missing)) = &mut this.first else { return read };
        if read.is_ready() {
            *missing = missing.saturating_sub(to.filled().len() - before);
            if *missing == 0 {
                this.first = None;
            }
            return read;
        }
        match wait.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the caller says nothing"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Arc;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
        sync::Semaphore,
    };

    /// A caller, and its connection with this much time for the first bytes.
    async fn pair(first_wait: Duration) -> (TcpStream, Accepted) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let caller = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        (caller, Accepted::new(Stream::Plaintext(stream), place, first_wait))
    }

    #[tokio::test]
    async fn whoever_does_not_begin_to_speak_is_hung_up_on() {
        let (mut caller, mut accepted) = pair(Duration::ZERO).await;
        caller.write_all(&[7; FIRST_BYTES - 1]).await.unwrap();
        let mut all = [0; FIRST_BYTES];
        let read = tokio::time::timeout(Duration::from_secs(10), accepted.read_exact(&mut all)).await;
        let error = read.expect("nobody waits for the rest").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn whoever_has_begun_may_be_silent() {
        let (mut caller, mut accepted) = pair(Duration::from_secs(60)).await;
        caller.write_all(&[7; FIRST_BYTES]).await.unwrap();
        accepted.read_exact(&mut [0; FIRST_BYTES]).await.unwrap();
        assert!(accepted.first.is_none(), "no deadline is left");
    }
}
