//! Wire primitives of protobuf over a borrowed body: tags, varints, lengths.
//!
//! Why: the walk is these few functions, and each is read by the optimiser as one piece; the `usual_*` ones skip the
//! general field loop for the bytes that every known writer writes.
//! Invariants: 1. `pos` never passes the end of `bytes`, and `bytes` ends where the message ends. 2. A `usual_*`
//! function that answers `None` has moved nothing; the general way then decides.
//! Bounds: a varint of ten bytes. Driven by: `wire`. Spec: protobuf encoding, wire types 0, 1, 2 and 5.

use super::{Fault, Span, WireError};

/// The unread part of one message; `bytes` is the body up to the end of the message, so offsets are the body's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) pos: usize,
}

impl<'a> Reader<'a> {
    #[inline]
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, pos: 0 }
    }

    #[inline]
    pub(super) fn within(body: &'a [u8], span: Span) -> Result<Self, WireError> {
        match body.get(..span.end) {
            Some(bytes) => Ok(Self { bytes, pos: span.start }),
            None => Err(WireError { offset: span.start, what: Fault::LengthPastEnd }),
        }
    }

    pub(super) fn at_end(self) -> Self {
        Self { bytes: self.bytes, pos: self.bytes.len() }
    }

    #[inline]
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.pos..).unwrap_or(&[])
    }

    fn error(&self, what: Fault) -> WireError {
        WireError { offset: self.pos, what }
    }

    /// Key of the next field (number and wire type), checked; `None` at the end of the message.
    #[inline]
    pub(super) fn tag(&mut self) -> Result<Option<u32>, WireError> {
        match self.bytes.get(self.pos) {
            None => Ok(None),
            Some(&byte) if (8..0x80).contains(&byte) => {
                self.pos += 1;
                Ok(Some(u32::from(byte)))
            }
            Some(_) => self.long_tag().map(Some),
        }
    }

    #[cold]
    fn long_tag(&mut self) -> Result<u32, WireError> {
        let start = *self;
        match u32::try_from(self.varint()?) {
            Ok(tag) if tag >= 8 => Ok(tag),
            _ => Err(start.error(Fault::BadField)),
        }
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, WireError> {
        match self.bytes.get(self.pos..) {
            Some(&[a, ..]) if a < 0x80 => {
                self.pos += 1;
                Ok(u64::from(a))
            }
            Some(&[a, b, ..]) if b < 0x80 => {
                self.pos += 2;
                Ok(u64::from(a & 0x7f) | u64::from(b) << 7)
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0;
        for (index, &byte) in self.rest().iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                if index == 9 && byte > 1 {
                    return Err(self.error(Fault::LongVarint));
                }
                self.pos += index + 1;
                return Ok(value);
            }
        }
        Err(self.error(if self.rest().len() < 10 { Fault::Truncated } else { Fault::LongVarint }))
    }

    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "protobuf reads a uint32 as the low half of the varint"
    )]
    pub(super) fn uint32(&mut self) -> Result<u32, WireError> {
        self.varint().map(|value| value as u32)
    }

    #[inline]
    pub(super) fn fixed32(&mut self) -> Result<u32, WireError> {
        match self.rest().first_chunk::<4>() {
            Some(&bytes) => {
                self.pos += 4;
                Ok(u32::from_le_bytes(bytes))
            }
            None => Err(self.error(Fault::Truncated)),
        }
    }

    /// Where the length-delimited value lies; steps over it.
    #[inline]
    pub(super) fn span(&mut self) -> Result<Span, WireError> {
        let start = *self;
        let length = self.varint()?;
        let room = self.bytes.len() - self.pos;
        match usize::try_from(length) {
            Ok(length) if length <= room => {
                let span = Span { start: self.pos, end: self.pos + length };
                self.pos = span.end;
                Ok(span)
            }
            _ => Err(start.error(Fault::LengthPastEnd)),
        }
    }

    #[inline]
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        self.span().map(|span| self.bytes.get(span.start..span.end).unwrap_or(&[]))
    }

    #[inline]
    pub(super) fn message(&mut self) -> Result<Self, WireError> {
        let span = self.span()?;
        Ok(Self { bytes: self.bytes.get(..span.end).unwrap_or(&[]), pos: span.start })
    }

    /// The rest of this message as key (field 1) and value (field 2).
    #[inline]
    pub(super) fn pair(self) -> Result<(&'a [u8], &'a [u8]), WireError> {
        match self.usual_pair() {
            Some(pair) => Ok(pair),
            None => self.any_pair(),
        }
    }

    /// The one way in which every known writer writes a pair: a key of less than 128 bytes, the value, nothing else.
    #[inline]
    fn usual_pair(self) -> Option<(&'a [u8], &'a [u8])> {
        let [0x0a, key_len @ 0..0x80, rest @ ..] = self.rest() else { return None };
        let (key, rest) = rest.split_at_checked(usize::from(*key_len))?;
        let [0x12, rest @ ..] = rest else { return None };
        let (length, value) = short_length(rest)?;
        (value.len() == length).then_some((key, value))
    }

    /// Steps over a content in the usual form and gives its pair; `None` leaves everything as it is.
    #[inline]
    pub(super) fn usual_content(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let [0x12, rest @ ..] = self.rest() else { return None };
        let (length, rest) = short_length(rest)?;
        let end = self.bytes.len() - rest.len() + length;
        let message = Self { bytes: self.bytes.get(..end)?, pos: end - length };
        let pair = message.usual_pair()?;
        self.pos = end;
        Some(pair)
    }

    /// Where the log at this place lies, if a log of the usual length stands here.
    #[inline]
    pub(super) fn usual_log(&self) -> Option<Span> {
        let [0x0a, rest @ ..] = self.rest() else { return None };
        let (length, rest) = short_length(rest)?;
        let start = self.bytes.len() - rest.len();
        (length <= rest.len()).then_some(Span { start, end: start + length })
    }

    fn any_pair(mut self) -> Result<(&'a [u8], &'a [u8]), WireError> {
        let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
        while let Some(tag) = self.tag()? {
            match tag {
                PAIR_KEY => key = self.bytes()?,
                PAIR_VALUE => value = self.bytes()?,
                other => self.skip(other)?,
            }
        }
        Ok((key, value))
    }

    /// Steps over the value of a field.
    #[inline]
    pub(super) fn skip(&mut self, tag: u32) -> Result<(), WireError> {
        match tag & 7 {
            2 => self.span().map(|_| ()),
            0 => self.varint().map(|_| ()),
            1 => self.fixed32().and_then(|_| self.fixed32()).map(|_| ()),
            5 => self.fixed32().map(|_| ()),
            _ => Err(self.error(Fault::BadWireType)),
        }
    }
}

/// Seconds at the beginning of `log` as writers put them there in our days, and how many bytes they take: their
/// tag and a varint of five bytes.
#[inline]
pub(crate) fn usual_secs(log: &[u8]) -> Option<(u32, usize)> {
    let &[0x08, low_a, low_b, low_c, low_d, high] = log.first_chunk::<6>()? else { return None };
    let usual = low_a & low_b & low_c & low_d >= 0x80 && high < 0x10;
    let [a, b, c, d] = [low_a, low_b, low_c, low_d].map(|byte| u32::from(byte & 0x7f));
    usual.then_some((a | b << 7 | c << 14 | d << 21 | u32::from(high) << 28, 6))
}

/// A length of at most two bytes and what follows it.
#[inline]
fn short_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match bytes {
        [a @ 0..0x80, rest @ ..] => Some((usize::from(*a), rest)),
        [a, b @ 0..0x80, rest @ ..] => Some((usize::from(a & 0x7f) | usize::from(*b) << 7, rest)),
        _ => None,
    }
}

const PAIR_KEY: u32 = 1 << 3 | 2;
const PAIR_VALUE: u32 = 2 << 3 | 2;
