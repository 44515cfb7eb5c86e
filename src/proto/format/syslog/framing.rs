//! How messages on a stream are told apart.
//!
//! Why: the length stands in front of a message and is known behind it; a message is written in place behind as
//! many digits as the last one needed, and moved only where that was wrong.
//! Invariants: 1. an octet count is the number of bytes of its message, without leading zeros. 2. a frame with
//! [`Framing::Newline`] holds as many LF as messages: the encoder escapes those of the text.
//! Bounds: a message is shorter than 4 GiB (the settings allow 16 MiB, a log is below that).
//! Driven by: `syslog`, [`Framer::open`], the message, [`Framer::close`].
//! Spec: RFC 6587 3.4.1 and 3.4.2; RFC 5425 4.3. [`Framing::Marked`] is for sinks that write headers of their own.

/// How messages on a stream are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// `LEN SP MSG`.
    #[default]
    OctetCounting,
    /// `MSG LF`.
    Newline,
    /// Four bytes of length (little-endian), a byte that is 1 for the first message of a record and 0 for the
    /// further parts of one that was split, `MSG`.
    Marked,
}

/// Bytes in front of a message with [`Framing::Marked`].
pub const MARK_BYTES: usize = 5;

/// Writes what stands around messages.
#[derive(Clone, Debug)]
pub(super) struct Framer {
    framing: Framing,
    /// Digits of the last octet count.
    digits: usize,
}

impl Framer {
    pub(super) fn new(framing: Framing) -> Self {
        Self { framing, digits: 3 }
    }

    /// True where no LF, CR or NUL may stand in a message.
    pub(super) fn is_line(framing: Framing) -> bool {
        framing == Framing::Newline
    }

    /// Leaves room for what stands in front of a message.
    pub(super) fn open(&self, out: &mut Vec<u8>) {
        match self.framing {
            Framing::OctetCounting => out.resize(out.len() + self.digits + 1, b' '),
            Framing::Newline => {}
            Framing::Marked => out.resize(out.len() + MARK_BYTES, 0),
        }
    }

    /// Ends the message from `start` on, whose frame was opened at `mark`.
    pub(super) fn close(&mut self, mark: usize, start: usize, first: bool, out: &mut Vec<u8>) {
        let length = out.len() - start;
        match self.framing {
            Framing::OctetCounting => self.count(mark, start, length, out),
            Framing::Newline => out.push(b'\n'),
            Framing::Marked => {
                let count = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
                if let Some(place) = out.get_mut(mark..start) {
                    let [a, b, c, d] = count;
                    place.copy_from_slice(&[a, b, c, d, u8::from(first)]);
                }
            }
        }
    }

    fn count(&mut self, mark: usize, start: usize, length: usize, out: &mut Vec<u8>) {
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(length).as_bytes();
        let wanted = mark + digits.len() + 1;
        if wanted > start {
            out.resize(out.len() + wanted - start, 0);
        }
        if wanted != start {
            self.digits = digits.len();
            out.copy_within(start..start + length, wanted);
            out.truncate(wanted + length);
            if let Some(space) = out.get_mut(wanted - 1) {
                *space = b' ';
            }
        }
        if let Some(place) = out.get_mut(mark..mark + digits.len()) {
            place.copy_from_slice(digits);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(framing: Framing, lengths: &[usize]) -> Vec<u8> {
        let (mut framer, mut out) = (Framer::new(framing), b"#".to_vec());
        for (index, length) in lengths.iter().enumerate() {
            let mark = out.len();
            framer.open(&mut out);
            let start = out.len();
            out.extend((0..*length).map(|at| b'a' + u8::try_from(at % 26).unwrap()));
            framer.close(mark, start, index != 1, &mut out);
        }
        assert_eq!(out.first(), Some(&b'#'), "what stood there before is not touched");
        out.split_off(1)
    }

    #[test]
    fn octet_counts_grow_and_shrink() {
        let text = framed(Framing::OctetCounting, &[5, 1, 12, 1_234, 123_456, 3, 0]);
        let mut rest = &text[..];
        for length in [5, 1, 12, 1_234, 123_456, 3, 0] {
            let head = format!("{length} ");
            rest = rest.strip_prefix(head.as_bytes()).unwrap();
            let (message, after) = rest.split_at(length);
            assert!(message.iter().enumerate().all(|(at, byte)| usize::from(byte - b'a') == at % 26));
            rest = after;
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn lines_and_marks() {
        assert_eq!(framed(Framing::Newline, &[2, 0, 1]), b"ab\n\na\n");
        assert_eq!(framed(Framing::Marked, &[2, 0, 1]), b"\x02\0\0\0\x01ab\0\0\0\0\0\x01\0\0\0\x01a");
    }
}
