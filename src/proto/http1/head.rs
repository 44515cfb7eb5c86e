//! The head of a response: status, headers, and how its body ends.
//!
//! Why: callers look at a handful of headers; keeping offsets into one reused buffer costs no allocation.
//! Invariants: 1. header values are valid UTF-8: what was not has `?` in place of the foreign bytes.
//! Bounds: [`super::HEADERS_MAX`] headers in a fixed array.
//! Driven by: `http1`. Spec: RFC 9112 6.3 (message body length).

use super::chunked::Chunked;
use super::{HEADERS_MAX, HttpError, Limits};

/// The head of a response, borrowed from its parser.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    parsed: &'a Parsed,
    bytes: &'a [u8],
    spans: &'a [Span],
}

/// What is known of a head beside its headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parsed {
    pub(super) status: u16,
    pub(super) keep_alive: bool,
    pub(super) content_length: Option<u64>,
    pub(super) headers_count: usize,
}

/// Where one header is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    name: (u32, u32),
    value: (u32, u32),
}

/// How a body ends.
#[derive(Clone, Debug)]
pub(super) enum Framing {
    Empty,
    Length { left: u64 },
    Chunked(Chunked),
    UntilClose { received: u64 },
}

impl<'a> Head<'a> {
    pub(super) fn new(parsed: &'a Parsed, bytes: &'a [u8], spans: &'a [Span]) -> Self {
        Self { parsed, bytes, spans }
    }

    /// Status code.
    pub fn status(&self) -> u16 {
        self.parsed.status
    }

    /// Value of the first header of this name; case does not matter.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers(name).next()
    }

    /// Values of all headers of this name, in order.
    pub fn headers<'n>(&self, name: &'n str) -> Headers<'a, 'n> {
        Headers { bytes: self.bytes, spans: self.spans.iter(), name }
    }

    /// Bytes of the body, where the head tells them: 0 for answers that have none.
    pub fn content_length(&self) -> Option<u64> {
        self.parsed.content_length
    }

    /// True where the connection can carry another request after this response.
    pub fn keep_alive(&self) -> bool {
        self.parsed.keep_alive
    }

    fn has(&self, name: &str) -> bool {
        self.header(name).is_some()
    }
}

/// Iterator over the values of one header name.
#[derive(Clone, Debug)]
pub struct Headers<'a, 'n> {
    bytes: &'a [u8],
    spans: core::slice::Iter<'a, Span>,
    name: &'n str,
}

impl<'a> Iterator for Headers<'a, '_> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let found = self
            .spans
            .find(|span| slice(self.bytes, span.name).eq_ignore_ascii_case(self.name.as_bytes()))?;
        Some(str::from_utf8(slice(self.bytes, found.value)).unwrap_or_default())
    }
}

/// Reads a complete head; values that are not UTF-8 are cleaned in place.
pub(super) fn parse(bytes: &mut [u8], spans: &mut [Span; HEADERS_MAX]) -> Result<Parsed, HttpError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(end)) if end == bytes.len() => {}
        Ok(_) => return Err(HttpError::Malformed(httparse::Error::NewLine)),
        Err(httparse::Error::TooManyHeaders) => return Err(HttpError::TooManyHeaders),
        Err(error) => return Err(HttpError::Malformed(error)),
    }
    let status = response.code.unwrap_or_default();
    let http11 = response.version == Some(1);
    let headers_count = response.headers.len();
    let base = bytes.as_ptr().addr();
    let span_of = |part: &[u8]| {
        let start = part.as_ptr().addr().wrapping_sub(base);
        let end = start.saturating_add(part.len());
        (u32::try_from(start).unwrap_or(u32::MAX), u32::try_from(end).unwrap_or(u32::MAX))
    };
    let mut foreign = false;
    for (span, header) in spans.iter_mut().zip(response.headers.iter()) {
        *span = Span { name: span_of(header.name.as_bytes()), value: span_of(header.value) };
        foreign |= !header.value.is_ascii();
    }
    let spans = spans.get(..headers_count).unwrap_or_default();
    if foreign {
        clean_values(bytes, spans);
    }
    let mut parsed = Parsed { status, keep_alive: http11, content_length: None, headers_count };
    let closes = Head::new(&parsed, bytes, spans)
        .headers("connection")
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case("close"));
    parsed.keep_alive &= !closes;
    Ok(parsed)
}

/// Decides how the body ends.
pub(super) fn framing(head: &Head<'_>, limits: &Limits) -> Result<Framing, HttpError> {
    if matches!(head.status(), 204 | 304) {
        return Ok(Framing::Empty);
    }
    if head.has("transfer-encoding") {
        if head.has("content-length") {
            return Err(HttpError::LengthAndChunked);
        }
        let mut codings = head.headers("transfer-encoding").flat_map(|value| value.split(','));
        let first = codings.next().unwrap_or_default().trim();
        return match codings.next() {
            None if first.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked(Chunked::new())),
            _ => Err(HttpError::TransferEncoding { found: excerpt(head, "transfer-encoding") }),
        };
    }
    let mut length = None;
    for text in head.headers("content-length").flat_map(|value| value.split(',')) {
        let found = decimal(text.trim());
        if found.is_none() || length.is_some_and(|known| Some(known) != found) {
            return Err(HttpError::ContentLength { found: excerpt(head, "content-length") });
        }
        length = found;
    }
    match length {
        None => Ok(Framing::UntilClose { received: 0 }),
        Some(0) => Ok(Framing::Empty),
        Some(left) if left <= limits.body_bytes_max => Ok(Framing::Length { left }),
        Some(_) => Err(HttpError::BodyTooLarge { limit_bytes: limits.body_bytes_max }),
    }
}

/// Digits only: `u64::from_str` would take a plus sign.
fn decimal(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn excerpt(head: &Head<'_>, name: &str) -> String {
    let mut text = String::new();
    for value in head.headers(name) {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.extend(value.chars().take(64));
        if text.len() >= 64 {
            break;
        }
    }
    text.chars().take(64).collect()
}

fn clean_values(bytes: &mut [u8], spans: &[Span]) {
    for span in spans {
        if str::from_utf8(slice(bytes, span.value)).is_ok() {
            continue;
        }
        let (start, end) = (span.value.0 as usize, span.value.1 as usize);
        for byte in bytes.get_mut(start..end).unwrap_or_default() {
            if !byte.is_ascii() {
                *byte = b'?';
            }
        }
    }
}

fn slice(bytes: &[u8], (start, end): (u32, u32)) -> &[u8] {
    bytes.get(start as usize..end as usize).unwrap_or_default()
}
