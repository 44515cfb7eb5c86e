//! Frames whose messages are marked: a length and a flag in front of each, for transports with headers of their own.
//!
//! Why: RELP and UDP put something between messages that no encoder can know (transaction numbers, datagrams), so the
//! frame tells where they are instead of framing them.
//! Invariants: 1. a frame of the encoder holds whole messages; anything else is a bug of ours, and the process ends.
//! Bounds: none of its own. Driven by: `relp`, `udp`. Spec: `format::syslog::Framing::Marked`: u32 little-endian length
//!  of the message, one byte (1 = first message of its record, 0 = one more of a record that was split), the message.

use core::ops::Range;

/// Bytes in front of each message.
const MARK_BYTES: usize = 5;

/// One message of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Where its text is.
    pub(super) text: Range<usize>,
    /// It is the first one of its record.
    pub(super) first: bool,
}

/// The message whose mark is at `at`; `None` at the end of the frame.
pub(super) fn message(frame: &[u8], at: usize) -> Option<Message> {
    let rest = frame.get(at..).filter(|rest| !rest.is_empty())?;
    let Some((&[a, b, c, d, flag], _)) = rest.split_first_chunk::<MARK_BYTES>() else {
        // Invariant 1.
        assert!(rest.len() >= MARK_BYTES, "a marked frame ends inside of a mark");
        return None;
    };
    let start = at + MARK_BYTES;
    let end = start + usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX - start);
    assert!(end <= frame.len(), "a marked frame ends inside of a message");
    Some(Message { text: start..end, first: flag == 1 })
}

/// Where the messages of the record with index `record` are, marks included.
pub(super) fn record_range(frame: &[u8], record: u32) -> Range<usize> {
    let (mut at, mut seen, mut start) = (0, 0_u32, None);
    while let Some(message) = message(frame, at) {
        if message.first {
            if start.is_some() {
                break;
            }
            if seen == record {
                start = Some(at);
            }
            seen += 1;
        }
        at = message.text.end;
    }
    start.map_or(at..at, |start| start..at)
}

#[cfg(test)]
pub(super) fn marked(messages: &[(&[u8], bool)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (text, first) in messages {
        out.extend_from_slice(&u32::try_from(text.len()).unwrap().to_le_bytes());
        out.push(u8::from(*first));
        out.extend_from_slice(text);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_records_are_found() {
        let frame =
            marked(&[(b"one", true), (b"", true), (b"three", true), (b"more of three", false), (b"4", true)]);
        let (mut at, mut texts) = (0, Vec::new());
        while let Some(message) = message(&frame, at) {
            texts.push((frame[message.text.clone()].to_vec(), message.first));
            at = message.text.end;
        }
        assert_eq!(at, frame.len());
        assert_eq!(texts.len(), 5);
        assert_eq!(texts[3], (b"more of three".to_vec(), false));
        assert_eq!(frame[record_range(&frame, 2)], marked(&[(b"three", true), (b"more of three", false)]));
        assert_eq!(frame[record_range(&frame, 3)], marked(&[(b"4", true)]));
        assert!(record_range(&frame, 4).is_empty());
    }

    #[test]
    #[should_panic(expected = "inside of a message")]
    fn a_torn_frame_is_a_bug_of_ours() {
        let frame = marked(&[(b"one", true)]);
        message(&frame[..frame.len() - 1], 0);
    }
}
