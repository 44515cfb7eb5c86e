//! A listener whose connections end by themselves: bounded in number, bytes and time.
//!
//! Why: the HTTP server sets no deadline on a request's head, so one client that sends a byte a minute would keep a
//! connection for ever, and enough of them use up the process's file descriptors, which the data plane needs.
//! Invariants: 1. a connection is counted from accept to drop.
//! Bounds: [`CONNECTIONS_MAX`]; a further one is closed at once. [`REQUEST_BYTES_MAX`] and [`CONNECTION_TIME_MAX`]
//! (of a tap: [`EXTENDED_TIME_MAX`]) end a connection with an error that the HTTP server takes for a broken peer.
//! Driven by: `axum::serve`, on one thread.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;

use super::tap::TAP_TIME_MAX;

/// Connections at the same time.
pub(super) const CONNECTIONS_MAX: usize = 64;

/// Bytes that a client may send on one connection.
pub(super) const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// Life of a connection.
pub(super) const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);

/// Life of a connection whose answer is a tap: that, and a little for its last words.
pub(super) const EXTENDED_TIME_MAX: Duration = TAP_TIME_MAX.saturating_add(Duration::from_secs(10));

/// Lets one connection live longer.
#[derive(Clone, Default)]
pub(super) struct Life(Arc<AtomicBool>);

impl Life {
    pub(super) fn extend(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Connected<IncomingStream<'_, BoundedListener>> for Life {
    fn connect_info(stream: IncomingStream<'_, BoundedListener>) -> Self {
        stream.io().life.clone()
    }
}

/// See the module.
pub(super) struct BoundedListener {
    inner: TcpListener,
    /// Every connection holds a clone.
    open: Arc<()>,
    life: Duration,
}

impl BoundedListener {
    /// Takes a listener that is already non-blocking.
    pub(super) fn new(listener: std::net::TcpListener) -> io::Result<Self> {
        let inner = TcpListener::from_std(listener)?;
        Ok(Self { inner, open: Arc::new(()), life: CONNECTION_TIME_MAX })
    }

    #[cfg(test)]
    pub(super) fn with_life(mut self, life: Duration) -> Self {
        self.life = life;
        self
    }
}

impl axum::serve::Listener for BoundedListener {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BoundedStream, SocketAddr) {
        loop {
            match self.inner.accept().await {
                Ok((inner, peer)) if Arc::strong_count(&self.open) <= CONNECTIONS_MAX => {
                    let stream = BoundedStream {
                        inner,
                        bytes_left: REQUEST_BYTES_MAX,
                        end: Box::pin(tokio::time::sleep(self.life)),
                        life: Life::default(),
                        is_extended: false,
                        _counted: Arc::clone(&self.open),
                    };
                    return (stream, peer);
                }
                Ok(_one_too_many) => {}
                // Mostly a lack of file descriptors, which a pause may cure and a busy loop would not.
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A connection that fails when it is too old or has sent too much.
pub(super) struct BoundedStream {
    inner: TcpStream,
    bytes_left: usize,
    end: Pin<Box<Sleep>>,
    life: Life,
    is_extended: bool,
    _counted: Arc<()>,
}

impl BoundedStream {
    fn check_time(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if !self.is_extended && self.life.0.load(Ordering::Relaxed) {
            self.is_extended = true;
            self.end.as_mut().reset(tokio::time::Instant::now() + EXTENDED_TIME_MAX);
        }
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_time(context)?;
        if self.bytes_left == 0 {
            return Poll::Ready(Err(io::Error::other("request too large")));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        let read = buffer.filled().len().saturating_sub(before);
        self.bytes_left = self.bytes_left.saturating_sub(read);
        polled
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_time(context)?;
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
