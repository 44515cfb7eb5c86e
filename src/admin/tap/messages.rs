//! The messages of a copied frame.
//!
//! Why: whoever looks on wants one event per line, and frames are made for the wire.
//! Invariants: 1. a message that is cut is not shown; it is counted by whoever knows how many there were.
//! Bounds: none of its own. Driven by: [`super`]. Spec: `format::syslog::Framing`; a HEC event is a line.

use crate::proto::format::syslog::{Framing, MARK_BYTES};

/// The whole messages of a frame, or of its beginning.
pub(super) struct Messages<'a> {
    rest: &'a [u8],
    framing: Framing,
    /// The frame goes on behind `rest`.
    is_cut: bool,
}

impl<'a> Messages<'a> {
    pub(super) fn of(bytes: &'a [u8], framing: Framing, is_cut: bool) -> Self {
        Self { rest: bytes, framing, is_cut }
    }

    /// The next one, and what is left behind it.
    fn split(&self) -> Option<(&'a [u8], &'a [u8])> {
        let rest = self.rest;
        match self.framing {
            Framing::Newline => match memchr::memchr(b'\n', rest) {
                Some(end) => Some((rest.get(..end)?, rest.get(end + 1..)?)),
                None if self.is_cut => None,
                None => Some((rest, &[])),
            },
            Framing::OctetCounting => {
                let space = memchr::memchr(b' ', rest)?;
                let count: usize = std::str::from_utf8(rest.get(..space)?).ok()?.parse().ok()?;
                rest.get(space + 1..)?.split_at_checked(count)
            }
            Framing::Marked => {
                let ([a, b, c, d, _first], rest) = rest.split_first_chunk::<MARK_BYTES>()?;
                rest.split_at_checked(usize::try_from(u32::from_le_bytes([*a, *b, *c, *d])).ok()?)
            }
        }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let (message, rest) = self.split()?;
            self.rest = rest;
            if !message.is_empty() {
                return Some(message);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8], framing: Framing, is_cut: bool) -> Vec<String> {
        let texts =
            Messages::of(bytes, framing, is_cut).map(|text| String::from_utf8_lossy(text).into_owned());
        texts.collect()
    }

    #[test]
    fn whole_messages_of_each_framing() {
        assert_eq!(all(b"{a}\n\n{b}\n", Framing::Newline, false), ["{a}", "{b}"]);
        assert_eq!(all(b"{a}\n{b}", Framing::Newline, false), ["{a}", "{b}"]);
        assert_eq!(all(b"3 <1>5 a\nb c", Framing::OctetCounting, false), ["<1>", "a\nb c"]);
        assert_eq!(all(b"\x02\0\0\0\x01ab\x01\0\0\0\0c", Framing::Marked, false), ["ab", "c"]);
    }

    #[test]
    fn what_is_cut_is_left_out_wherever_the_cut_is() {
        for (bytes, framing) in [
            (&b"{aa}\n{bb}\n"[..], Framing::Newline),
            (b"5 <1>aa5 <1>bb", Framing::OctetCounting),
            (b"\x02\0\0\0\x01ab\x02\0\0\0\x01cd", Framing::Marked),
        ] {
            let first = bytes.len() / 2;
            for end in 0..bytes.len() {
                let seen = all(&bytes[..end], framing, true).len();
                assert_eq!(seen, usize::from(end >= first), "{framing:?} cut at {end}");
            }
        }
    }
}
