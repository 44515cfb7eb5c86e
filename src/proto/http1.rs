//! The client's side of HTTP/1.1: a writer of request heads and an incremental parser of responses.
//!
//! Why: both SLS and HEC are spoken over bytes that a driver hands in as they come, with several requests
//! in flight on one connection; a client library would own the socket and could not run in the simulation.
//! Invariants: 1. `handle` never consumes a byte of the next response. 2. Cutting the input anywhere gives
//! the same head, the same body and the same error. 3. After an error the parser repeats it until `reset`:
//! a connection whose framing is in doubt is never read on. 4. What is written has no CR, LF or NUL of a caller.
//! Bounds: head [`Limits::head_bytes_max`], [`HEADERS_MAX`] headers, body [`Limits::body_bytes_max`], interim
//! answers [`INTERIM_MAX`], chunk extensions and trailers together one head; beyond each: an error.
//! Driven by: one parser a connection: `handle` until `Done`, then `reset`; `handle_eof` only for an orderly
//! end (FIN, `close_notify`): after a reset a close-delimited body is not known to be whole.
//! Spec: RFC 9112. Departures: `Content-Length` with `Transfer-Encoding` is refused, not repaired; an HTTP/1.0
//! connection is never kept; bare LF ends a line.

mod chunked;
mod error;
mod head;
#[cfg(test)]
mod tests;

use memchr::memchr;

pub use self::error::{FirstBytes, HttpError};
use self::head::{Framing, Parsed, Span};
pub use self::head::{Head, Headers};

/// Most headers of one response.
pub const HEADERS_MAX: usize = 96;

/// Most 1xx answers before the real one.
pub const INTERIM_MAX: u8 = 8;

/// Most empty lines before a status line (some servers end a body with one CRLF too many).
const BLANK_LINES_MAX: u8 = 4;

/// What a response may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Status line and headers together; at most 1 MiB is taken from here.
    pub head_bytes_max: usize,
    /// Body after the transfer coding is removed.
    pub body_bytes_max: u64,
}

impl Default for Limits {
    /// 64 KiB of head, 64 MiB of body.
    fn default() -> Self {
        Self { head_bytes_max: 64 << 10, body_bytes_max: 64 << 20 }
    }
}

/// How far the current response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All input is consumed and the response goes on.
    NeedMore,
    /// The head is complete and no byte of the body is consumed. Call `handle` again, with what is left of
    /// the input even when that is nothing: a response without a body is `Done` only then.
    Head,
    /// The response is complete. What is left of the input belongs to the next one: `reset`, then go on.
    Done,
}

/// Parses one response at a time from bytes that come in any pieces.
#[derive(Clone, Debug)]
pub struct ResponseParser {
    limits: Limits,
    state: State,
    /// Bytes of the head, cleared and not dropped between responses.
    head: Vec<u8>,
    /// Where the line begins that is being gathered.
    line_start: usize,
    spans: [Span; HEADERS_MAX],
    parsed: Option<Parsed>,
    interim: u8,
    blank: u8,
}

#[derive(Clone, Debug)]
enum State {
    Head,
    Body(Framing),
    Done,
    Failed(HttpError),
}

impl ResponseParser {
    /// A parser at the beginning of a response.
    pub fn new(limits: Limits) -> Self {
        let limits = Limits { head_bytes_max: limits.head_bytes_max.min(1 << 20), ..limits };
        Self {
            limits,
            state: State::Head,
            head: Vec::new(),
            line_start: 0,
            spans: [Span::default(); HEADERS_MAX],
            parsed: None,
            interim: 0,
            blank: 0,
        }
    }

    /// Forgets the current response (and an error); buffers stay.
    pub fn reset(&mut self) {
        self.state = State::Head;
        self.head.clear();
        self.line_start = 0;
        self.parsed = None;
        self.interim = 0;
        self.blank = 0;
    }

    /// Takes bytes and says how many it consumed and where the response is now. Returns right after the head
    /// ([`Progress::Head`]) and at the end of the message ([`Progress::Done`]); body bytes are appended to `body`.
    pub fn handle(&mut self, input: &[u8], body: &mut Vec<u8>) -> Result<(usize, Progress), HttpError> {
        let result = match &mut self.state {
            State::Head => self.gather(input),
            State::Body(framing) => framing.handle(input, body, &self.limits).map(|(consumed, complete)| {
                if complete {
                    self.state = State::Done;
                    (consumed, Progress::Done)
                } else {
                    (consumed, Progress::NeedMore)
                }
            }),
            State::Done => return Ok((0, Progress::Done)),
            State::Failed(error) => return Err(error.clone()),
        };
        result.map_err(|error| self.fail(error))
    }

    /// The peer ended the connection in order. `Done` where that ends the body (or it had ended before);
    /// [`HttpError::ClosedIdle`] where no byte of a response came, [`HttpError::Truncated`] anywhere else.
    pub fn handle_eof(&mut self) -> Result<Progress, HttpError> {
        let error = match &self.state {
            State::Done | State::Body(Framing::Empty | Framing::UntilClose { .. }) => {
                self.state = State::Done;
                return Ok(Progress::Done);
            }
            State::Failed(error) => return Err(error.clone()),
            State::Head if self.is_idle() => HttpError::ClosedIdle,
            State::Head => self
                .check_start(true)
                .err()
                .unwrap_or(HttpError::Truncated { part: "head", missing_bytes: None }),
            State::Body(framing) => {
                HttpError::Truncated { part: "body", missing_bytes: framing.missing_bytes() }
            }
        };
        Err(self.fail(error))
    }

    /// The head of the current response, once it is complete; also after an error in what follows it.
    pub fn head(&self) -> Option<Head<'_>> {
        let parsed = self.parsed.as_ref()?;
        Some(Head::new(parsed, &self.head, self.spans.get(..parsed.headers_count)?))
    }

    /// True while no byte of a response has come: the connection can be closed (or was closed by the peer)
    /// without an answer being cut off.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Head) && self.interim == 0 && self.head.iter().all(|&byte| byte == b'\r')
    }

    fn fail(&mut self, error: HttpError) -> HttpError {
        self.state = State::Failed(error.clone());
        error
    }

    /// Takes lines until the empty one that ends a head; interim heads are skipped here.
    fn gather(&mut self, input: &[u8]) -> Result<(usize, Progress), HttpError> {
        let mut rest = input;
        while !rest.is_empty() {
            let line_bytes = memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            let (piece, after) = rest.split_at(line_bytes);
            if self.head.len() + piece.len() > self.limits.head_bytes_max {
                // What fits is kept, so that a peer that does not speak HTTP at all is named as such.
                let room = self.limits.head_bytes_max - self.head.len();
                self.head.extend_from_slice(piece.get(..room).unwrap_or_default());
                self.check_start(false)?;
                return Err(HttpError::HeadTooLarge { limit_bytes: self.limits.head_bytes_max });
            }
            self.head.extend_from_slice(piece);
            rest = after;
            let complete = piece.ends_with(b"\n");
            let blank = complete && matches!(self.head.get(self.line_start..), Some(b"\n" | b"\r\n"));
            if blank && self.line_start == 0 {
                self.blank += 1;
                if self.blank > BLANK_LINES_MAX {
                    return Err(HttpError::NotHttp { first: FirstBytes::new(&self.head) });
                }
                self.head.clear();
                continue;
            }
            self.check_start(complete)?;
            if blank && self.head_complete()? {
                return Ok((input.len() - rest.len(), Progress::Head));
            } else if blank {
                self.head.clear();
                self.line_start = 0;
            } else if complete {
                self.line_start = self.head.len();
            }
        }
        Ok((input.len(), Progress::NeedMore))
    }

    /// Refuses what cannot become a status line as soon as that is certain, and not only at a line end that
    /// a TLS alert never brings.
    fn check_start(&self, line_complete: bool) -> Result<(), HttpError> {
        const START: &[u8] = b"HTTP/1.";
        if self.line_start > 0 {
            return Ok(());
        }
        let first = self.head.get(..START.len()).unwrap_or(&self.head);
        if START.starts_with(first) || (first.len() < START.len() && !line_complete) {
            return Ok(());
        }
        let name = FirstBytes::new(&self.head);
        Err(if first.starts_with(b"HTTP/") {
            HttpError::Version { first: name }
        } else {
            HttpError::NotHttp { first: name }
        })
    }

    /// Reads the gathered head; false where it was an interim one.
    fn head_complete(&mut self) -> Result<bool, HttpError> {
        let parsed = head::parse(&mut self.head, &mut self.spans)?;
        if (100..200).contains(&parsed.status) {
            self.interim += 1;
            return match parsed.status {
                101 => Err(HttpError::Upgraded),
                _ if self.interim > INTERIM_MAX => Err(HttpError::TooManyInterim),
                _ => Ok(false),
            };
        }
        // Kept before the framing is judged: where that fails, the status is what an operator needs.
        let parsed = self.parsed.insert(parsed);
        let spans = self.spans.get(..parsed.headers_count).unwrap_or_default();
        let framing = head::framing(&Head::new(parsed, &self.head, spans), &self.limits)?;
        parsed.keep_alive &= !matches!(framing, Framing::UntilClose { .. });
        parsed.content_length = match framing {
            Framing::Length { left } => Some(left),
            Framing::Empty => Some(0),
            Framing::Chunked(_) | Framing::UntilClose { .. } => None,
        };
        self.state = State::Body(framing);
        Ok(true)
    }
}

impl Framing {
    /// Appends body bytes; true when the message is complete.
    fn handle(
        &mut self,
        input: &[u8],
        body: &mut Vec<u8>,
        limits: &Limits,
    ) -> Result<(usize, bool), HttpError> {
        match self {
            Self::Empty => Ok((0, true)),
            Self::Length { left } => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                body.extend_from_slice(input.get(..take).unwrap_or_default());
                *left -= take as u64;
                Ok((take, *left == 0))
            }
            Self::Chunked(chunked) => chunked.handle(input, body, limits),
            Self::UntilClose { received } => {
                *received += input.len() as u64;
                if *received > limits.body_bytes_max {
                    return Err(HttpError::BodyTooLarge { limit_bytes: limits.body_bytes_max });
                }
                body.extend_from_slice(input);
                Ok((input.len(), false))
            }
        }
    }

    fn missing_bytes(&self) -> Option<u64> {
        match self {
            Self::Length { left } => Some(*left),
            _ => None,
        }
    }
}

/// Appends a request head, the empty line included. Nothing is appended where anything in it would not be
/// one header line: names and `method` have to be tokens, values and `target` free of control characters.
pub fn write_request_head<'a>(
    out: &mut Vec<u8>,
    method: &str,
    target: &str,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
    content_length: Option<u64>,
) -> Result<(), HttpError> {
    let before = out.len();
    let result = append_request_head(out, method, target, headers, content_length);
    if result.is_err() {
        out.truncate(before);
    }
    result
}

fn append_request_head<'a>(
    out: &mut Vec<u8>,
    method: &str,
    target: &str,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
    content_length: Option<u64>,
) -> Result<(), HttpError> {
    let target_ok = !target.is_empty() && target.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_token(method) || !target_ok {
        return Err(HttpError::RequestLine);
    }
    for part in [method, " ", target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    for (name, value) in headers {
        let value_ok = value.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f));
        if !is_token(name) || !value_ok {
            // The value may be a secret: only the name is told.
            return Err(HttpError::RequestHeader { name: name.chars().take(64).collect() });
        }
        for part in [name, ": ", value, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    if let Some(length) = content_length {
        out.extend_from_slice(b"Content-Length: ");
        out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
