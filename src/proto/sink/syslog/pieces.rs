//! Where a frame of a stream can be cut: behind whole messages, as octet counts or newlines tell.
//!
//! Why: a receiver that ends each connection after a hundred messages proves nothing about a frame of five hundred. The
//! frame has to become smaller than what such a receiver takes, or it would be sent for ever.
//! Invariants: 1. a piece holds whole records: a record of several messages is never cut.
//! Bounds: none of its own. Driven by: `dispatch`. Spec: RFC 6587 section 3.4.

use crate::proto::frame::Frame;

/// Records, at least one, whose messages lie in the first `bytes_max`, and where they end. `None` where the frame
/// cannot be cut: it holds one record, or other messages than it says.
pub(super) fn front(frame: &Frame, bytes_max: usize) -> Option<(u32, usize)> {
    let records = frame.records();
    let mut at = 0;
    let mut front = None;
    for record in 0..records {
        for _ in 0..frame.messages_of(record) {
            at = message_end(&frame.bytes, at)?;
        }
        if at <= bytes_max || front.is_none() {
            front = Some((record + 1, at));
        }
    }
    front.filter(|(count, _)| at == frame.bytes.len() && *count < records)
}

/// The end of the message that begins at `at`; `None` where nothing like one begins there.
fn message_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = bytes.get(at..)?;
    let end = if rest.first()?.is_ascii_digit() {
        let space = memchr::memchr(b' ', rest)?;
        let count: usize = std::str::from_utf8(rest.get(..space)?).ok()?.parse().ok()?;
        space.checked_add(1)?.checked_add(count)?
    } else {
        memchr::memchr(b'\n', rest)? + 1
    };
    let end = at.checked_add(end)?;
    (end <= bytes.len()).then_some(end)
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::proto::flow::Flow;
    use crate::proto::frame::{FramePool, Segment};
    use crate::proto::ids::{Epoch, PullId, ShardId};
    use crate::proto::time::Instant;

    fn frame(bytes: &[u8], records: u32) -> Frame {
        let flow = Flow::new(4_000);
        let mut frame = FramePool::new(Rc::clone(&flow.frames), 100).take(Instant(1)).unwrap();
        frame.bytes.extend_from_slice(bytes);
        frame.note(Segment { shard: ShardId(1), epoch: Epoch(1), pull: PullId(0), start: 0, end: records });
        frame
    }

    #[test]
    fn a_frame_is_cut_behind_whole_messages() {
        for (bytes, ends) in
            [(&b"4 <1>a5 <1>\nb7 <1>7 9 "[..], [6, 13, 22]), (b"<1>a\n<1>bcd\n<1>efghijk\n", [5, 12, 23])]
        {
            let frame = frame(bytes, 3);
            assert_eq!(front(&frame, 1), Some((1, ends[0])), "one at least");
            assert_eq!(front(&frame, ends[1] - 1), Some((1, ends[0])));
            assert_eq!(front(&frame, ends[1]), Some((2, ends[1])));
            assert_eq!(front(&frame, 1_000), None, "all of it");
        }
    }

    #[test]
    fn a_record_of_several_messages_stays_whole() {
        let mut frame = frame(b"<1>a\n<1>b\n<1>c\n<1>d\n", 3);
        assert_eq!(front(&frame, 5), None, "four messages, and three are announced");
        frame.note_split(0, &[(1, 2)]);
        assert_eq!(front(&frame, 1), Some((1, 5)));
        assert_eq!(front(&frame, 10), Some((1, 5)), "the first half of the second record does not count");
        assert_eq!(front(&frame, 15), Some((2, 15)));
        let mut rest = FramePool::new(Rc::clone(&Flow::new(4_000).frames), 100).take(Instant(1)).unwrap();
        frame.move_front_at(2, 15, &mut rest);
        assert_eq!(front(&rest, 1), Some((1, 5)));
        assert_eq!(front(&frame, 1), None, "one record is left");
    }

    #[test]
    fn what_cannot_be_told_apart_stays_whole() {
        assert_eq!(front(&frame(b"<1>a\n<1>b\n", 1), 5), None, "two messages, and one record is announced");
        assert_eq!(front(&frame(b"<1>a\n", 1), 1), None, "one record");
        assert_eq!(front(&frame(b"99 <1>a", 2), 3), None);
        assert_eq!(front(&frame(b"99999999999999999999 <1>a", 2), 3), None);
        assert_eq!(front(&frame(b"<1>a", 2), 3), None);
    }
}
