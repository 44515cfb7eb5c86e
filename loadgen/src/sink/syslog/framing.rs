//! Cuts a byte stream into syslog messages: octet counting, or lines.
//!
//! Why: receivers tell the two apart by the first byte of each frame and go wrong in their own ways when a sender
//! miscounts; this one says where, and stops there, because nothing behind a wrong count can be trusted.
//! Invariants: 1. a count is decimal, without a leading zero, and followed by exactly one space. 2. the same bytes are
//! cut alike however they arrive.   Bounds: `max_bytes` a message; one search position.
//! Driven by: `conn`, with what is unread, until it says that more is wanted.   Spec: syslog.md 3; RFC 6587, RFC 5425.

use std::ops::Range;

use super::config::Framing;

/// A position in the unread bytes and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) at: usize,
    pub(super) what: String,
}

/// One complete frame at the beginning of the unread bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    /// The message.
    pub(super) message: Range<usize>,
    /// Bytes of the frame.
    pub(super) size: usize,
    /// Whether it is a line.
    pub(super) is_line: bool,
}

/// Finds the ends of frames.
#[derive(Debug)]
pub(super) struct Cutter {
    framing: Framing,
    max_bytes: usize,
    /// Bytes of an unfinished line that hold no LF.
    searched: usize,
}

impl Cutter {
    pub(super) const fn new(framing: Framing, max_bytes: usize) -> Self {
        Self { framing, max_bytes, searched: 0 }
    }

    /// The first frame, or none while it is incomplete.
    pub(super) fn next(&mut self, unread: &[u8]) -> Result<Option<Cut>, Broken> {
        let Some(first) = unread.first() else { return Ok(None) };
        match self.framing {
            Framing::OctetCounting => self.counted(unread),
            Framing::Auto if first.is_ascii_digit() => self.counted(unread),
            Framing::Auto | Framing::Newline => self.line(unread),
        }
    }

    fn counted(&self, unread: &[u8]) -> Result<Option<Cut>, Broken> {
        let broken = |at: usize, what: &str| Err(Broken { at, what: what.to_owned() });
        let digits = unread.iter().take_while(|byte| byte.is_ascii_digit()).count();
        match unread.first() {
            Some(b'0') => return broken(0, "an octet count begins with 0"),
            Some(byte) if !byte.is_ascii_digit() => return broken(0, "no octet count"),
            _ => {}
        }
        if digits > MAX_DIGITS {
            return broken(0, "an octet count has more than nine digits");
        }
        let size = unread
            .get(..digits)
            .unwrap_or_default()
            .iter()
            .fold(0_usize, |size, digit| size * 10 + usize::from(digit - b'0'));
        if size > self.max_bytes {
            return Err(self.too_long(size));
        }
        match unread.get(digits) {
            None => return Ok(None),
            Some(b' ') => {}
            Some(_) => return broken(digits, "no space behind the octet count"),
        }
        let (start, end) = (digits + 1, digits + 1 + size);
        Ok((unread.len() >= end).then_some(Cut { message: start..end, size: end, is_line: false }))
    }

    fn line(&mut self, unread: &[u8]) -> Result<Option<Cut>, Broken> {
        let rest = unread.get(self.searched..).unwrap_or_default();
        let Some(found) = memchr::memchr(b'\n', rest) else {
            self.searched = unread.len();
            return if unread.len() > self.max_bytes { Err(self.too_long(unread.len())) } else { Ok(None) };
        };
        let end = self.searched + found;
        self.searched = 0;
        if end > self.max_bytes {
            return Err(self.too_long(end));
        }
        Ok(Some(Cut { message: 0..end, size: end + 1, is_line: true }))
    }

    fn too_long(&self, size: usize) -> Broken {
        Broken { at: 0, what: format!("a message of {size} bytes or more, allowed are {}", self.max_bytes) }
    }
}

const MAX_DIGITS: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the bytes in pieces that end at these positions and gives the messages, and what broke.
    fn cut(framing: Framing, bytes: &[u8], ends: &[usize]) -> (Vec<Vec<u8>>, Option<String>, usize) {
        let mut cutter = Cutter::new(framing, 100);
        let (mut messages, mut start) = (Vec::new(), 0);
        for end in ends.iter().copied().chain([bytes.len()]) {
            loop {
                match cutter.next(&bytes[start..end]) {
                    Ok(Some(cut)) => {
                        messages.push(bytes[start..end][cut.message].to_vec());
                        start += cut.size;
                    }
                    Ok(None) => break,
                    Err(broken) => return (messages, Some(broken.what), start + broken.at),
                }
            }
        }
        (messages, None, start)
    }

    #[test]
    fn both_framings_split_at_every_byte() {
        let bytes = b"5 <1>ab<2>line\n\n12 <3>with\nfeed<4>x\n3 a\0b";
        let expected: Vec<&[u8]> = vec![b"<1>ab", b"<2>line", b"", b"<3>with\nfeed", b"<4>x", b"a\0b"];
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let (messages, broken, end) = cut(Framing::Auto, bytes, &[first, second]);
                assert_eq!(messages, expected, "split at {first} and {second}");
                assert_eq!((broken, end), (None, bytes.len()));
            }
        }
    }

    #[test]
    fn a_truncated_frame_is_never_a_message() {
        for (framing, whole) in
            [(Framing::Auto, b"10 0123456789".as_slice()), (Framing::Newline, b"10 0123456789\n")]
        {
            for end in 0..whole.len() {
                assert_eq!(cut(framing, &whole[..end], &[]), (vec![], None, 0), "{end}");
            }
            assert_eq!(cut(framing, whole, &[]).0.len(), 1);
        }
    }

    #[test]
    fn wrong_counts_are_told_with_their_place() {
        let cases: [(Framing, &[u8], &str, usize); 6] = [
            (Framing::Auto, b"3 abc05 abcde", "begins with 0", 5),
            (Framing::Auto, b"3 abc3abc", "no space", 6),
            (Framing::Auto, b"1234567890 ", "nine digits", 0),
            (Framing::Auto, b"101 ", "allowed are 100", 0),
            (Framing::OctetCounting, b"3 abc<1>x\n", "no octet count", 5),
            (Framing::OctetCounting, b"0 ", "begins with 0", 0),
        ];
        for (framing, bytes, what, at) in cases {
            let (_, broken, place) = cut(framing, bytes, &[]);
            assert!(broken.as_deref().is_some_and(|text| text.contains(what)), "{what}: {broken:?}");
            assert_eq!(place, at, "{what}");
        }
        assert!(cut(Framing::Newline, &[b'x'; 102], &[]).1.is_some_and(|what| what.contains("allowed")));
    }
}
