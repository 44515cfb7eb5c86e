//! TCP connections: made with a deadline, through a proxy where there is one, with sane options.
//!
//! Why: glommio's connect resolves names on the executor, its read timeout spoils the next read, and the
//! kernel's defaults take minutes to notice a dead peer.
//! Invariants: 1. only addresses are connected to. 2. no timeout of glommio's streams is ever set.
//! Bounds: [`CONNECT_PATIENCE`] for TCP, the same again for the proxy; a proxy's answer is at most 8 KiB.
//! Driven by: `conn`.
//! Spec: RFC 9110 section 9.3.6 (CONNECT); tcp(7).

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_lite::io::{AsyncRead as _, AsyncWrite as _};
use glommio::net::TcpStream;

use super::wait::within;
use crate::proto::event::{Closed, ClosedKind};

/// How long a connect may take.
pub(crate) const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// Silence after which the kernel asks whether the peer is alive, and how often, and how long apart.
const KEEPALIVE: (i32, i32, i32) = (30, 3, 10);
/// Send buffer where the host allows it; below that the kernel's own tuning goes further.
const SEND_BUFFER_BYTES: i32 = 4 * 1024 * 1024;
const PROXY_ANSWER_BYTES_MAX: usize = 8 * 1024;

/// A TCP stream that several futures of one task use in turn.
pub(crate) struct Socket {
    stream: RefCell<TcpStream>,
    /// Bytes that the kernel has taken: acknowledgements rest on it, so every way to write has to count here.
    written: Cell<u64>,
}

impl Socket {
    /// Connects, within the deadline. Bytes that stay unacknowledged for longer than `patience` break the connection later.
    pub(crate) async fn connect(address: SocketAddr, patience: Duration) -> Result<Self, Closed> {
        let failed = |detail: String| Closed {
            kind: ClosedKind::Connect,
            detail: format!("connect to {address}: {detail}"),
        };
        match within(CONNECT_PATIENCE, TcpStream::connect(address)).await {
            None => Err(failed(format!("no answer within {} s", CONNECT_PATIENCE.as_secs()))),
            Some(Err(error)) => Err(failed(io::Error::from(error).to_string())),
            Some(Ok(stream)) => {
                tune(stream.as_raw_fd(), patience);
                Ok(Self { stream: RefCell::new(stream), written: Cell::new(0) })
            }
        }
    }

    /// Reads what is there into `buffer`.
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_read(cx, buffer)
    }

    /// Writes what fits of `bytes`.
    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match ready!(Pin::new(&mut *self.stream.borrow_mut()).poll_write(cx, bytes)) {
            Ok(0) if !bytes.is_empty() => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Ok(written) => {
                self.written.set(self.written.get() + written as u64);
                Poll::Ready(Ok(written))
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Bytes that the kernel has taken so far.
    pub(crate) fn written(&self) -> u64 {
        self.written.get()
    }

    /// Bytes that the peer's kernel has not acknowledged, a FIN counted as one. Also right after the connection has
    /// broken: the kernel keeps the numbers as long as the socket is open.
    pub(crate) fn unacked(&self) -> u64 {
        unacked(&*self.stream.borrow())
    }

    /// Writes all of `bytes`.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = poll_fn(|cx| self.poll_write(cx, bytes)).await?;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Writes what the kernel has room for at once, and never waits: then the error is `WouldBlock`.
    pub(crate) fn now(&self) -> Now<'_> {
        Now(self)
    }

    /// Sends FIN.
    pub(crate) fn finish(&self) {
        let fd = self.stream.borrow().as_raw_fd();
        #[expect(unsafe_code, reason = "glommio's shutdown is a method of a stream that may be borrowed")]
        // SAFETY: `fd` is open as long as `self.stream` lives; the call takes integers only.
        let _ = unsafe { libc::shutdown(fd, libc::SHUT_WR) };
    }

    /// Asks a proxy for a tunnel to `host`.
    pub(crate) async fn tunnel(&self, proxy: &ProxySpec, host: &str, port: u16) -> Result<(), Closed> {
        let failed = |detail: &str| Closed {
            kind: ClosedKind::Connect,
            detail: format!("proxy {}:{} to {host}:{port}: {detail}", proxy.host, proxy.port),
        };
        let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
        if let Some(authorization) = &proxy.authorization {
            use secrecy::ExposeSecret as _;
            request += "Proxy-Authorization: ";
            request += authorization.expose_secret();
            request += "\r\n";
        }
        request += "\r\n";
        let talk = async {
            self.write_all(request.as_bytes()).await?;
            self.proxy_answer().await
        };
        let answer = match within(CONNECT_PATIENCE, talk).await {
            None => return Err(failed("no answer to CONNECT")),
            Some(Err(error)) => return Err(failed(&error.to_string())),
            Some(Ok(answer)) => answer,
        };
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(&answer) {
            Ok(httparse::Status::Complete(end)) if end == answer.len() => match response.code {
                Some(200..300) => Ok(()),
                code => Err(failed(&format!(
                    "it answered {} {}",
                    code.unwrap_or(0),
                    response.reason.unwrap_or_default()
                ))),
            },
            _ => Err(failed("it did not answer as an HTTP proxy does")),
        }
    }

    /// Reads up to the end of the proxy's header; bytes after it would belong to nobody.
    async fn proxy_answer(&self) -> io::Result<Vec<u8>> {
        let mut answer = Vec::new();
        let mut piece = [0; 1024];
        while !answer.ends_with(b"\r\n\r\n") && answer.len() < PROXY_ANSWER_BYTES_MAX {
            let read = poll_fn(|cx| self.poll_read(cx, &mut piece)).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            answer.extend_from_slice(piece.get(..read).unwrap_or_default());
        }
        Ok(answer)
    }
}

/// See [`Socket::now`]. glommio's own writes know one slice only; TLS records lie in many.
pub(crate) struct Now<'a>(&'a Socket);

impl io::Write for Now<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[io::IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let fd = self.0.stream.borrow().as_raw_fd();
        // The ABI of `IoSlice` is that of `iovec`; the kernel only reads through it.
        let message = libc::msghdr {
            msg_name: std::ptr::null_mut(),
            msg_namelen: 0,
            msg_iov: pieces.as_ptr().cast_mut().cast(),
            msg_iovlen: pieces.len(),
            msg_control: std::ptr::null_mut(),
            msg_controllen: 0,
            msg_flags: 0,
        };
        loop {
            #[expect(unsafe_code, reason = "std cannot reach a stream of glommio")]
            // SAFETY: `message` and the `pieces` that it points to outlive the call, which only reads them. `fd` is open
            // as long as the borrowed socket lives.
            let sent =
                unsafe { libc::sendmsg(fd, &raw const message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
            if let Ok(sent) = usize::try_from(sent) {
                self.0.written.set(self.0.written.get() + sent as u64);
                return Ok(sent);
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An HTTP proxy.
#[derive(Clone, Debug)]
pub struct ProxySpec {
    /// Name or address of the proxy.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Value of `Proxy-Authorization`, for example `Basic …`.
    pub authorization: Option<secrecy::SecretString>,
}

/// How a peer is called in messages: its name and the address behind it, or the address alone where that is its name.
pub(crate) fn peer_name(host: &str, port: u16, address: SocketAddr) -> String {
    if host.trim_matches(['[', ']']) == address.ip().to_string() {
        address.to_string()
    } else {
        format!("{host}:{port} ({address})")
    }
}

/// Bytes of an open socket that the peer's kernel has not acknowledged, a FIN counted as one.
pub(crate) fn unacked(socket: &impl AsRawFd) -> u64 {
    let mut bytes: libc::c_int = 0;
    #[expect(unsafe_code, reason = "SIOCOUTQ (named TIOCOUTQ) is not in std")]
    // SAFETY: `socket` is borrowed, so its descriptor is open; `bytes` is a writable int that outlives the call.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    // What cannot be known is not acknowledged.
    if answer == 0 { u64::try_from(bytes).unwrap_or(u64::MAX) } else { u64::MAX }
}

/// Sets what can be set; a refused option costs speed or patience only, so it is not an error.
fn tune(fd: RawFd, patience: Duration) {
    let (idle, count, interval) = KEEPALIVE;
    let user_timeout = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    set(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1);
    set(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1);
    set(fd, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, idle);
    set(fd, libc::IPPROTO_TCP, libc::TCP_KEEPCNT, count);
    set(fd, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, interval);
    set(fd, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, user_timeout);
    // A fixed buffer ends the kernel's own tuning, which by default goes further than a fixed one may.
    if send_buffer_limit() >= SEND_BUFFER_BYTES {
        set(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, SEND_BUFFER_BYTES);
    }
}

/// Room for bursts of datagrams, where the host allows it.
pub(crate) fn widen_send_buffer(socket: &UdpSocket) {
    if send_buffer_limit() >= SEND_BUFFER_BYTES {
        set(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, SEND_BUFFER_BYTES);
    }
}

fn set(fd: RawFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) {
    let size = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4);
    #[expect(unsafe_code, reason = "std cannot reach a stream of glommio")]
    // SAFETY: `fd` is the open socket of the caller; `value` is an int of `size` bytes that outlives the call.
    let answer = unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), size) };
    if answer != 0 {
        tracing::debug!(level, name, error = %io::Error::last_os_error(), "a socket option was refused");
    }
}

fn send_buffer_limit() -> i32 {
    static LIMIT: OnceLock<i32> = OnceLock::new();
    *LIMIT.get_or_init(|| {
        std::fs::read_to_string("/proc/sys/net/core/wmem_max")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0)
    })
}
