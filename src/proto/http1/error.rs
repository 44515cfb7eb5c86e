//! Why bytes of a peer are not an answer, in words for an operator.
//!
//! Why: "invalid token" sends people to the source code; "the peer speaks TLS" sends them to the URL.
//! Invariants: 1. no text holds a header value of ours. Bounds: excerpts of at most [`FirstBytes`] or 64 characters.
//! Driven by: `http1`. Spec: RFC 9112.

use core::fmt;

use thiserror::Error;

/// What is wrong with a response (or with a request that was about to be written).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HttpError {
    /// The first bytes are not those of a status line.
    #[error("the peer speaks {}, not HTTP: first bytes {first}", first.guess())]
    NotHttp {
        /// What came instead.
        first: FirstBytes,
    },
    /// HTTP, but not 1.0 or 1.1.
    #[error("the peer answers in another version of HTTP than 1.1: first bytes {first}")]
    Version {
        /// What came instead.
        first: FirstBytes,
    },
    /// The head is not one.
    #[error("the head of the answer is malformed: {0}")]
    Malformed(httparse::Error),
    /// Status line and headers do not end.
    #[error("the head of the answer is larger than {limit_bytes} bytes")]
    HeadTooLarge {
        /// Bytes allowed.
        limit_bytes: usize,
    },
    /// More headers than are kept.
    #[error("the answer has more than {} headers", super::HEADERS_MAX)]
    TooManyHeaders,
    /// 1xx answers without end.
    #[error("more than {} interim (1xx) answers without a final one", super::INTERIM_MAX)]
    TooManyInterim,
    /// 101: the connection is no HTTP any more, and nobody asked for that.
    #[error("the peer switches to another protocol (101), which was not asked for")]
    Upgraded,
    /// Not a number, or several that differ.
    #[error("the length of the answer is unclear: Content-Length {found:?}")]
    ContentLength {
        /// As received, at most 64 characters.
        found: String,
    },
    /// Two ways to tell the length that contradict each other.
    #[error("the answer has both Content-Length and Transfer-Encoding: its end is not certain")]
    LengthAndChunked,
    /// A transfer coding that was not asked for.
    #[error("the answer has the transfer coding {found:?}; only \"chunked\" is understood")]
    TransferEncoding {
        /// As received, at most 64 characters.
        found: String,
    },
    /// A chunk that is not one.
    #[error("the chunked body is malformed: {0}")]
    Chunk(&'static str),
    /// The body does not fit.
    #[error("the body of the answer is larger than the {limit_bytes} bytes that are allowed")]
    BodyTooLarge {
        /// Bytes allowed.
        limit_bytes: u64,
    },
    /// The connection ended inside a response.
    #[error("the peer closed the connection inside the {part} of its answer{}", Missing(*missing_bytes))]
    Truncated {
        /// "head" or "body".
        part: &'static str,
        /// How much is missing, where that is known.
        missing_bytes: Option<u64>,
    },
    /// The connection ended in order before any byte of a response: nothing is wrong with it but its time.
    #[error("the peer closed the connection before it answered")]
    ClosedIdle,
    /// A request line that cannot be written.
    #[error(
        "the request line has a space, a control character or another character that HTTP does not allow"
    )]
    RequestLine,
    /// A request header that cannot be written. Its value is not told: it may be a secret.
    #[error(
        "the value (or the name) of the request header {name:?} has a character that HTTP does not allow"
    )]
    RequestHeader {
        /// Name of the header.
        name: String,
    },
}

/// The first bytes of something that is not a response.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FirstBytes {
    bytes: [u8; Self::BYTES_MAX],
    count: u8,
}

impl FirstBytes {
    /// As many as a status line needs to be recognised; also the length of a TLS alert.
    pub const BYTES_MAX: usize = 7;

    /// Takes the beginning of `text`.
    pub fn new(text: &[u8]) -> Self {
        let mut bytes = [0; Self::BYTES_MAX];
        let mut count = 0;
        for (to, from) in bytes.iter_mut().zip(text) {
            *to = *from;
            count += 1;
        }
        Self { bytes, count }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.count)).unwrap_or_default()
    }

    fn guess(self) -> &'static str {
        match self.as_bytes() {
            [0x14..=0x17, 3, ..] => "TLS (is the URL http:// where it should be https://?)",
            [b'S', b'S', b'H', ..] => "SSH",
            _ => "TLS or something else",
        }
    }
}

impl fmt::Display for FirstBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.as_bytes().iter().enumerate() {
            write!(f, "{}{byte:02x}", if at == 0 { "" } else { " " })?;
        }
        if !self.as_bytes().is_empty() && self.as_bytes().iter().all(|byte| (b' '..=b'~').contains(byte)) {
            let text = str::from_utf8(self.as_bytes()).unwrap_or_default();
            write!(f, " ({text:?})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for FirstBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FirstBytes({self})")
    }
}

struct Missing(Option<u64>);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bytes) => write!(f, ", {bytes} bytes before its end"),
            None => Ok(()),
        }
    }
}
