//! The chunked transfer coding, byte by byte where it is text and slice by slice where it is data.
//!
//! Why: a chunk's size line can be cut anywhere by the network.
//! Invariants: 1. `left` never exceeds what `body_bytes_max` still allows, so a size cannot overflow anything.
//! Bounds: extensions and trailers together at most `head_bytes_max`; a size has at most 16 digits.
//! Driven by: `http1`. Spec: RFC 9112 7.1; a bare LF ends a line.

use super::{HttpError, Limits};

/// Where in a chunked body the reader is.
#[derive(Clone, Debug)]
pub(super) struct Chunked {
    state: State,
    received: u64,
    overhead_bytes: usize,
}

#[derive(Clone, Debug)]
enum State {
    /// In the digits of a size line.
    Size { value: u64, digits: u8 },
    /// After the digits: blanks and extensions, up to the line end.
    Extension { value: u64, cr: bool },
    /// In the data.
    Data { left: u64 },
    /// At the line end after the data.
    DataEnd { cr: bool },
    /// In the trailers; `line` counts bytes of the current one.
    Trailer { line: usize, cr: bool },
}

impl Chunked {
    pub(super) fn new() -> Self {
        Self { state: State::Size { value: 0, digits: 0 }, received: 0, overhead_bytes: 0 }
    }

    /// Appends the data of `input` to `body`; true when the last chunk and the trailers are read.
    pub(super) fn handle(
        &mut self,
        input: &[u8],
        body: &mut Vec<u8>,
        limits: &Limits,
    ) -> Result<(usize, bool), HttpError> {
        let mut rest = input;
        loop {
            if let State::Data { left } = &mut self.state {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                let (data, after) = rest.split_at(take);
                body.extend_from_slice(data);
                rest = after;
                *left -= take as u64;
                if *left == 0 {
                    self.state = State::DataEnd { cr: false };
                }
            }
            let Some((&byte, after)) = rest.split_first() else {
                return Ok((input.len(), false));
            };
            rest = after;
            if self.text(byte, limits)? {
                return Ok((input.len() - rest.len(), true));
            }
        }
    }

    /// One byte that is not data; true at the end of the body.
    fn text(&mut self, byte: u8, limits: &Limits) -> Result<bool, HttpError> {
        let next = match (&self.state, byte) {
            (&State::Size { value, digits }, _) if byte.is_ascii_hexdigit() => {
                if digits == 16 {
                    return Err(HttpError::BodyTooLarge { limit_bytes: limits.body_bytes_max });
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                State::Size { value: value << 4 | u64::from(digit), digits: digits + 1 }
            }
            (State::Size { digits: 0, .. }, _) => return Err(HttpError::Chunk("a chunk without a size")),
            (&State::Size { value, .. }, b'\r') => State::Extension { value, cr: true },
            (&State::Size { value, .. } | &State::Extension { value, .. }, b'\n') => {
                self.size_complete(value, limits)?
            }
            (&State::Size { value, .. }, b';' | b' ' | b'\t') => State::Extension { value, cr: false },
            (State::Size { .. }, _) => return Err(HttpError::Chunk("a chunk size that is not hexadecimal")),
            (State::Extension { cr: true, .. }, _) => {
                return Err(HttpError::Chunk("a CR without LF after a chunk size"));
            }
            (&State::Extension { value, .. }, _) => {
                self.overhead(limits)?;
                State::Extension { value, cr: byte == b'\r' }
            }
            (State::DataEnd { cr: false }, b'\r') => State::DataEnd { cr: true },
            (State::DataEnd { .. }, b'\n') => State::Size { value: 0, digits: 0 },
            (State::DataEnd { .. }, _) => return Err(HttpError::Chunk("a chunk longer than its size")),
            (State::Trailer { line: 0, .. }, b'\n') => return Ok(true),
            (State::Trailer { .. }, b'\n') => State::Trailer { line: 0, cr: false },
            (State::Trailer { cr: true, .. }, _) => {
                return Err(HttpError::Chunk("a CR without LF in the trailers"));
            }
            (&State::Trailer { line, .. }, _) => {
                self.overhead(limits)?;
                let cr = byte == b'\r';
                State::Trailer { line: line + usize::from(!cr), cr }
            }
            (State::Data { .. }, _) => return Err(HttpError::Chunk("data where text was due")),
        };
        self.state = next;
        Ok(false)
    }

    fn size_complete(&mut self, value: u64, limits: &Limits) -> Result<State, HttpError> {
        if value == 0 {
            return Ok(State::Trailer { line: 0, cr: false });
        }
        if value > limits.body_bytes_max - self.received {
            return Err(HttpError::BodyTooLarge { limit_bytes: limits.body_bytes_max });
        }
        self.received += value;
        Ok(State::Data { left: value })
    }

    fn overhead(&mut self, limits: &Limits) -> Result<(), HttpError> {
        self.overhead_bytes += 1;
        if self.overhead_bytes > limits.head_bytes_max {
            return Err(HttpError::HeadTooLarge { limit_bytes: limits.head_bytes_max });
        }
        Ok(())
    }
}
