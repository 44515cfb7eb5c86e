//! A small HTTP/1.1 server that can misbehave on purpose.
//!
//! Why: faults such as a reset in place of an answer, a body cut in its middle or an answer sent twice lie below what
//! a ready-made server lets one do, and header names must go out exactly as given.
//! Invariants: 1. requests of one connection are answered in order, one at a time. 2. A request that cannot be framed
//! is answered 400 and the connection closes: nothing after it can be trusted.
//! Bounds: head 64 KiB, body `BODY_BYTES_MAX`; beyond, 431 and 413 and the connection closes.
//! Driven by: `server`, one task per connection, with a `Handler`.   Spec: RFC 9112; protocol/sls.md 1.2, 1.3.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// One request, wholly read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path as it came.
    pub(crate) raw_path: String,
    /// Path with its escapes resolved.
    pub(crate) path: String,
    /// Decoded pairs, in the order of the wire.
    pub(crate) query: Vec<(String, String)>,
    /// Lower-case names, trimmed values.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// One answer.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Written exactly as given: lower-case names.
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Waited before the first byte is sent.
    pub(crate) delay: Duration,
    pub(crate) delivery: Delivery,
}

/// How the bytes of an answer reach the peer.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    #[default]
    Whole,
    /// The connection is reset, nothing is sent.
    Reset,
    /// Half the body, or so many bytes of it, then a cut.
    Torn(Option<usize>),
    /// So many bytes a second.
    Slow(u64),
    /// Sent twice.
    Twice,
    /// Never sent; the connection stays open until the peer closes it.
    Never,
}

/// What answers the requests of a port.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn handle(&self, request: Request) -> impl Future<Output = Reply> + Send;

    /// The time that answers are dated with (unix ms).
    fn now_ms(&self) -> u64;
}

const HEAD_BYTES_MAX: usize = 64 << 10;
const BODY_BYTES_MAX: usize = 64 << 20;
const HEADERS_MAX: usize = 128;
const READ_BYTES: usize = 64 << 10;

impl Request {
    /// A header's value by its lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A query parameter's decoded value.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Takes a request target apart: origin-form, or absolute-form as a proxy is sent it.
    pub(crate) fn set_target(&mut self, target: &str) -> Option<String> {
        let (authority, origin) = split_absolute(target);
        let (path, query) = origin.split_once('?').unwrap_or((origin, ""));
        path.clone_into(&mut self.raw_path);
        self.path = percent_decode(path, false);
        self.query = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                (percent_decode(key, true), percent_decode(value, true))
            })
            .collect();
        authority
    }
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(crate) fn json(value: &serde_json::Value) -> Self {
        Self::new(200).with("content-type", "application/json").with_body(value.to_string().into_bytes())
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn with_body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }
}

/// Serves one accepted connection until either side ends it.
pub(crate) async fn serve(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    handler: Arc<impl Handler>,
) -> Result<()> {
    stream.set_nodelay(true)?;
    match tls {
        None => Box::pin(converse(Wire::Plain(stream), handler)).await,
        Some(acceptor) => {
            let stream = acceptor.accept(stream).await.context("TLS handshake")?;
            Box::pin(converse(Wire::Tls(Box::new(stream)), handler)).await
        }
    }
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

impl Wire {
    async fn read(&mut self, buf: &mut Vec<u8>) -> std::io::Result<usize> {
        buf.reserve(READ_BYTES);
        match self {
            Self::Plain(stream) => stream.read_buf(buf).await,
            Self::Tls(stream) => stream.read_buf(buf).await,
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        async fn all(
            stream: &mut (impl AsyncWrite + AsyncRead + Unpin),
            bytes: &[u8],
        ) -> std::io::Result<()> {
            stream.write_all(bytes).await?;
            stream.flush().await
        }
        match self {
            Self::Plain(stream) => all(stream, bytes).await,
            Self::Tls(stream) => all(stream.as_mut(), bytes).await,
        }
    }

    /// Ends it in order: `close_notify` where there is TLS, then FIN.
    async fn finish(&mut self) -> Result<()> {
        match self {
            Self::Plain(stream) => stream.shutdown().await?,
            Self::Tls(stream) => stream.shutdown().await?,
        }
        Ok(())
    }

    /// A reset (RST) in place of an orderly end; under TLS the session is not closed either.
    fn reset(&self) {
        let tcp = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        };
        // A socket that is gone already cannot be reset, which is the same to the peer.
        tcp.set_zero_linger().ok();
    }
}

async fn converse(mut wire: Wire, handler: Arc<impl Handler>) -> Result<()> {
    let mut input = Vec::new();
    loop {
        let (request, keep_alive) = match read_request(&mut wire, &mut input).await {
            Ok(Some(read)) => read,
            Ok(None) => return Ok(()),
            Err(error) => {
                wire.write(&head(&Reply::new(400), 0, false, handler.now_ms())).await?;
                return Err(error);
            }
        };
        let is_head = request.method == "HEAD";
        let mut reply = handler.handle(request).await;
        if is_head {
            reply.body.clear();
        }
        if !reply.delay.is_zero() {
            tokio::time::sleep(reply.delay).await;
        }
        if !deliver(&mut wire, &reply, keep_alive, handler.now_ms()).await? {
            return Ok(());
        }
        if !keep_alive {
            return wire.finish().await;
        }
    }
}

/// Sends an answer; false when the connection has to end.
async fn deliver(wire: &mut Wire, reply: &Reply, keep_alive: bool, now_ms: u64) -> Result<bool> {
    let head = head(reply, reply.body.len(), keep_alive, now_ms);
    match reply.delivery {
        Delivery::Whole => send(wire, &head, &reply.body).await?,
        Delivery::Twice => {
            send(wire, &head, &reply.body).await?;
            send(wire, &head, &reply.body).await?;
        }
        Delivery::Reset => {
            wire.reset();
            return Ok(false);
        }
        Delivery::Torn(bytes) => {
            let cut = bytes.unwrap_or(reply.body.len() / 2).min(reply.body.len());
            send(wire, &head, reply.body.get(..cut).unwrap_or_default()).await?;
            return Ok(false);
        }
        Delivery::Slow(rate) => {
            // Ten pieces a second, each at least a byte.
            let piece = usize::try_from(rate / 10).unwrap_or(usize::MAX).max(1);
            wire.write(&head).await?;
            for bytes in reply.body.chunks(piece) {
                tokio::time::sleep(Duration::from_millis(100)).await;
                wire.write(bytes).await?;
            }
        }
        Delivery::Never => {
            let mut ignored = Vec::new();
            while wire.read(&mut ignored).await? != 0 {
                ignored.clear();
            }
            return Ok(false);
        }
    }
    Ok(true)
}

async fn send(wire: &mut Wire, head: &[u8], body: &[u8]) -> std::io::Result<()> {
    // One write for small answers: a second one costs more than the copy.
    if body.len() <= 16 << 10 {
        return wire.write(&[head, body].concat()).await;
    }
    wire.write(head).await?;
    wire.write(body).await
}

fn head(reply: &Reply, length: usize, keep_alive: bool, now_ms: u64) -> Vec<u8> {
    let mut text = format!(
        "HTTP/1.1 {} {}\r\nserver: nginx\r\ndate: {}\r\ncontent-length: {length}\r\nconnection: {}\r\n",
        reply.status,
        reason(reply.status),
        http_date(now_ms / 1000),
        if keep_alive { "keep-alive" } else { "close" },
    );
    for (name, value) in &reply.headers {
        text.push_str(name);
        text.push_str(": ");
        text.push_str(value);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// `Fri, 02 Jan 2026 03:04:05 GMT`
pub(crate) fn http_date(unix_s: u64) -> String {
    let at = i64::try_from(unix_s).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    at.unwrap_or_default().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Reads the next request; `None` when the peer ended the connection between two.
async fn read_request(wire: &mut Wire, input: &mut Vec<u8>) -> Result<Option<(Request, bool)>> {
    let (mut request, head_len, framing) = loop {
        if let Some(parsed) = parse_head(input)? {
            break parsed;
        }
        ensure!(input.len() < HEAD_BYTES_MAX, "the request head is longer than {HEAD_BYTES_MAX} bytes");
        if wire.read(input).await? == 0 {
            ensure!(input.is_empty(), "the connection ended inside a request head");
            return Ok(None);
        }
    };
    ensure!(framing.length <= BODY_BYTES_MAX, "the body is longer than {BODY_BYTES_MAX} bytes");
    if framing.expects_continue && input.len() < head_len + framing.length {
        wire.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    while input.len() < head_len + framing.length {
        ensure!(wire.read(input).await? != 0, "the connection ended inside a request body");
    }
    request.body = input.get(head_len..head_len + framing.length).unwrap_or_default().to_vec();
    input.drain(..head_len + framing.length);
    Ok(Some((request, framing.keep_alive)))
}

struct Framing {
    length: usize,
    keep_alive: bool,
    expects_continue: bool,
}

fn parse_head(input: &[u8]) -> Result<Option<(Request, usize, Framing)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head_len) = head.parse(input)? else { return Ok(None) };
    let mut request = Request { method: head.method.unwrap_or_default().to_owned(), ..Request::default() };
    for header in head.headers.iter() {
        let value = String::from_utf8_lossy(header.value).trim().to_owned();
        request.headers.push((header.name.to_ascii_lowercase(), value));
    }
    let authority = request.set_target(head.path.unwrap_or_default());
    if let (None, Some(authority)) = (request.header("host"), authority) {
        request.headers.push(("host".to_owned(), authority));
    }
    if request.header("transfer-encoding").is_some() {
        bail!("a body without Content-Length");
    }
    let connection = request.header("connection").unwrap_or_default().to_ascii_lowercase();
    let framing = Framing {
        length: request.header("content-length").map_or(Ok(0), str::parse).context("Content-Length")?,
        keep_alive: if head.version == Some(1) { connection != "close" } else { connection == "keep-alive" },
        expects_continue: request
            .header("expect")
            .is_some_and(|value| value.eq_ignore_ascii_case("100-continue")),
    };
    Ok(Some((request, head_len, framing)))
}

fn split_absolute(target: &str) -> (Option<String>, &str) {
    let Some(rest) = ["http://", "https://"].iter().find_map(|scheme| target.strip_prefix(scheme)) else {
        return (None, target);
    };
    let at = rest.find('/').unwrap_or(rest.len());
    let (authority, origin) = rest.split_at(at);
    (Some(authority.to_owned()), if origin.is_empty() { "/" } else { origin })
}

/// Resolves `%XX`, and `+` as a space where `plus` says so; bytes that are not UTF-8 become U+FFFD.
fn percent_decode(text: &str, plus: bool) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let escape = (byte == b'%').then(|| tail.get(..2)).flatten();
        let decoded = escape.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        rest = if let Some(value) = decoded {
            out.push(value);
            tail.get(2..).unwrap_or_default()
        } else {
            out.push(if plus && byte == b'+' { b' ' } else { byte });
            tail
        };
    }
    String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Payload Too Large",
        415 => "Unsupported Media Type",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_of_both_forms_are_taken_apart() {
        let mut request = Request::default();
        let authority = request.set_target("http://p.example.com:80/logstores/a%20b?x=1%262&y=a+b%2B&z&=e");
        assert_eq!(authority.as_deref(), Some("p.example.com:80"));
        assert_eq!(
            (request.raw_path.as_str(), request.path.as_str()),
            ("/logstores/a%20b", "/logstores/a b")
        );
        let pairs: Vec<_> = request.query.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("x", "1&2"), ("y", "a b+"), ("z", ""), ("", "e")]);
        assert_eq!(request.set_target("/a+b%zz%4"), None);
        assert_eq!(request.path, "/a+b%zz%4");
    }

    #[test]
    fn a_head_is_read_whole_or_not_at_all() {
        let text = b"POST /x?a=1 HTTP/1.1\r\nHost: p.h\r\nContent-Length: 3\r\nX-Log-A:  v \r\n\r\nabc";
        for cut in 0..text.len() - 3 {
            assert!(parse_head(&text[..cut]).unwrap().is_none(), "{cut}");
        }
        let (request, head_len, framing) = parse_head(text).unwrap().unwrap();
        assert_eq!((head_len, framing.length, framing.keep_alive), (text.len() - 3, 3, true));
        assert_eq!(request.header("x-log-a"), Some("v"));
        assert!(parse_head(b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(parse_head(b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n").is_err());
    }

    #[test]
    fn dates_are_rfc_1123() {
        assert_eq!(http_date(1_767_323_045), "Fri, 02 Jan 2026 03:04:05 GMT");
    }
}
