//! Reads request heads and chunked bodies from a buffer.
//!
//! Why: the sink must see what a framework hides: the missing User-Agent, the exact framing, requests one behind the
//! other in one read.
//! Invariants: pure functions of the bytes; incomplete input is `None`, never an error.   Bounds: a head has at most
//! 64 KiB and 64 headers.
//! Driven by: `conn`, with a growing buffer.   Spec: RFC 9112; hec.md 8.

use anyhow::{Context as _, Result, bail, ensure};

/// A request up to its body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) minor: u8,
    pub(super) framing: Framing,
    pub(super) authorization: Option<String>,
    pub(super) channel: Option<String>,
    pub(super) encoding: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) cookie: Option<String>,
    pub(super) has_user_agent: bool,
    pub(super) wants_close: bool,
    pub(super) expects: bool,
}

/// How the body is delimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Framing {
    #[default]
    None,
    Length(u64),
    Chunked,
}

impl Head {
    /// The head at the start of the buffer and its size; `None` while it is incomplete.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        let size = match request.parse(bytes).context("request head")? {
            httparse::Status::Complete(size) => size,
            httparse::Status::Partial => {
                ensure!(bytes.len() < MAX_HEAD, "request head over {MAX_HEAD} bytes");
                return Ok(None);
            }
        };
        let target = request.path.unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut head = Self {
            method: request.method.unwrap_or_default().to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            minor: request.version.unwrap_or(1),
            wants_close: request.version == Some(0),
            ..Self::default()
        };
        for header in request.headers.iter() {
            let value = String::from_utf8_lossy(header.value).trim().to_owned();
            head.header(header.name, value)?;
        }
        Ok(Some((head, size)))
    }

    /// A parameter of the query string, percent-decoded.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = url::form_urlencoded::parse(self.query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// A cookie's value.
    pub(super) fn cookie(&self, name: &str) -> Option<&str> {
        let pairs = self.cookie.as_deref()?.split(';');
        pairs
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    fn header(&mut self, name: &str, value: String) -> Result<()> {
        match name.to_ascii_lowercase().as_str() {
            "content-length" => {
                let size = value.parse().with_context(|| format!("Content-Length `{value}`"))?;
                match self.framing {
                    Framing::None => self.framing = Framing::Length(size),
                    Framing::Length(other) => ensure!(other == size, "two different Content-Lengths"),
                    Framing::Chunked => bail!("Content-Length beside Transfer-Encoding"),
                }
            }
            "transfer-encoding" => {
                ensure!(value.eq_ignore_ascii_case("chunked"), "Transfer-Encoding `{value}`");
                ensure!(self.framing == Framing::None, "Content-Length beside Transfer-Encoding");
                self.framing = Framing::Chunked;
            }
            "authorization" => self.authorization = Some(value),
            "x-splunk-request-channel" => self.channel = Some(value),
            "content-encoding" => self.encoding = Some(value.to_ascii_lowercase()),
            "content-type" => self.content_type = Some(value),
            "cookie" => self.cookie = Some(value),
            "user-agent" => self.has_user_agent = !value.is_empty(),
            "expect" => self.expects = true,
            "connection" => {
                self.wants_close = match self.minor {
                    0 => !value.eq_ignore_ascii_case("keep-alive"),
                    _ => value.eq_ignore_ascii_case("close"),
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// A chunked body at the start of the buffer and its size on the wire; `None` while it is incomplete.
pub(super) fn dechunk(bytes: &[u8], max: usize) -> Result<Option<(Vec<u8>, usize)>> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let (head, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => bail!("chunk size"),
        };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        ensure!(size <= max.saturating_sub(body.len()), "chunked body over {max} bytes");
        at += head;
        if size == 0 {
            // Trailers end with an empty line; nobody sends any.
            return match bytes.get(at..at + 2) {
                Some(b"\r\n") => Ok(Some((body, at + 2))),
                Some(_) => bail!("trailers are not accepted"),
                None => Ok(None),
            };
        }
        let Some(chunk) = bytes.get(at..at + size) else { return Ok(None) };
        body.extend_from_slice(chunk);
        at += size;
        match bytes.get(at..at + 2) {
            Some(b"\r\n") => at += 2,
            Some(_) => bail!("no line end behind a chunk"),
            None => return Ok(None),
        }
    }
}

const MAX_HEAD: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] = b"POST /services/collector/event?channel=a%2Db&x= HTTP/1.1\r\nHost: h\r\nUser-Agent: t\r\n\
        authorization: Splunk abc \r\nCONTENT-length: 3\r\nContent-Encoding: GZIP\r\nCookie: a=1; AWSALB=2\r\n\r\nabcNEXT";

    #[test]
    fn head_at_every_cut() {
        let (head, size) = Head::parse(REQUEST).expect("valid").expect("complete");
        assert_eq!(&REQUEST[size..], b"abcNEXT");
        assert_eq!(head.path, "/services/collector/event");
        assert_eq!(head.parameter("channel").as_deref(), Some("a-b"));
        assert_eq!(head.framing, Framing::Length(3));
        assert_eq!(head.authorization.as_deref(), Some("Splunk abc"));
        assert_eq!(head.encoding.as_deref(), Some("gzip"));
        assert_eq!(head.cookie("AWSALB"), Some("2"));
        assert!(head.has_user_agent && !head.wants_close);
        for end in 0..size {
            assert_eq!(Head::parse(&REQUEST[..end]).expect("valid so far"), None, "{end}");
        }
    }

    #[test]
    fn hostile_heads_are_refused() {
        let with = |headers: &str| format!("POST / HTTP/1.1\r\n{headers}\r\n\r\n").into_bytes();
        for bad in [
            "Content-Length: x",
            "Content-Length: -1",
            "Content-Length: 1\r\nContent-Length: 2",
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 1",
            "Transfer-Encoding: gzip",
            "no colon",
        ] {
            assert!(Head::parse(&with(bad)).is_err(), "{bad}");
        }
        assert!(Head::parse(&with(&"A: b\r\n".repeat(100))).is_err(), "too many headers");
        let endless = [b"POST / HTTP/1.1\r\nA: ".as_slice(), &vec![b'x'; MAX_HEAD]].concat();
        assert!(Head::parse(&endless).is_err(), "too long");
        assert!(Head::parse(b"\x16\x03\x01\x02\x00\x01").is_err(), "TLS on a plain port");
    }

    #[test]
    fn http_1_0_closes_by_default() {
        let close = |text: &[u8]| Head::parse(text).expect("valid").expect("complete").0.wants_close;
        assert!(close(b"GET / HTTP/1.0\r\n\r\n"));
        assert!(!close(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
        assert!(close(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"));
    }

    #[test]
    fn chunks_at_every_cut() {
        let wire = b"3\r\nabc\r\n5;x=y\r\ndefgh\r\n0\r\n\r\nNEXT";
        let size = wire.len() - 4;
        assert_eq!(dechunk(wire, 100).expect("valid"), Some((b"abcdefgh".to_vec(), size)));
        for end in 0..size {
            assert_eq!(dechunk(&wire[..end], 100).expect("valid so far"), None, "{end}");
        }
        assert!(dechunk(wire, 7).is_err(), "over the limit");
        assert!(dechunk(b"3\r\nabcX", 100).is_err() || dechunk(b"3\r\nabcXY", 100).is_err());
        assert!(dechunk(b"ffffffffffffffff\r\n", 100).is_err());
    }
}
