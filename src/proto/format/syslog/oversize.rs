//! Messages that are longer than the receiver takes: cut with a mark, or sent in numbered parts.
//!
//! Why: receivers cut silently, make an event of their own out of the rest, or close the connection, and still say
//! that all is well. So the length is settled here, where it can be done visibly.
//! Invariants: 1. no message is longer than the limit. 2. cuts are between characters. 3. a cut ends with [`CUT`]
//! and does not end inside an escape; JSON of ours stays JSON. 4. the parts of a message, without their
//! `[part …] `, are the message, byte for byte; a header that had to be shortened stands in front of it.
//! Bounds: a copy of one message. The limit is at least 480, a short header 160: there is always room for text.
//! Driven by: `syslog`, for messages above the limit only. Spec: own.

use core::hash::Hasher as _;
use std::io::Write as _;

use super::super::hec::RecordContext;

/// Ends a message that was cut.
pub(super) const CUT: &str = "…[truncated]";
/// The text that a header must leave room for, or it is shortened.
pub(super) const ROOM_MIN: usize = 160;
/// Longest `[part …] `.
const PART_BYTES_MAX: usize = 52;

/// Room for the text of one part behind a header of `header` bytes.
pub(super) fn part_room(max: usize, header: usize) -> usize {
    max.saturating_sub(header + PART_BYTES_MAX).max(4)
}

/// The parts of `text`, each at most `room` bytes (at least 4) and whole characters.
pub(super) fn parts(text: &[u8], room: usize) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (part, after) = rest.split_at(boundary(rest, room));
        rest = after;
        Some(part)
    })
}

/// Appends `[part 2/5 id=0123456789abcdef] `.
pub(super) fn push_part_head(part: u32, of: u32, id: u64, out: &mut Vec<u8>) {
    // Writing into a vector does not fail.
    let _ = write!(out, "[part {part}/{of} id={id:016x}] ");
}

/// A name for one record, the same whenever it is encoded.
pub(super) fn record_id(context: &RecordContext<'_>, index: u32) -> u64 {
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    hash.write(&context.shard.0.to_le_bytes());
    hash.write(context.cursor.as_str().as_bytes());
    hash.write(&index.to_le_bytes());
    hash.finish()
}

struct Fnv(u64);

impl core::hash::Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// Appends as much of `text` as goes into `room` bytes together with the mark. `json`: it is an object of strings as
/// this program writes it, and stays one.
pub(super) fn push_cut(text: &[u8], room: usize, json: bool, out: &mut Vec<u8>) {
    if json {
        let inside = boundary(text, room.saturating_sub(CUT.len() + 2));
        if let Some(end) = text.get(..inside).and_then(value_end) {
            out.extend_from_slice(text.get(..end).unwrap_or(&[]));
            out.extend_from_slice(CUT.as_bytes());
            out.extend_from_slice(b"\"}");
            return;
        }
    }
    let kept = text.get(..boundary(text, room.saturating_sub(CUT.len()))).unwrap_or(&[]);
    out.extend_from_slice(without_open_escape(kept));
    out.extend_from_slice(CUT.as_bytes());
}

/// The last place at or before `at` between two characters of `text`.
fn boundary(text: &[u8], at: usize) -> usize {
    if at >= text.len() {
        return text.len();
    }
    let inside = |at: &usize| text.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
    // UTF-8 has at most three such bytes in a row.
    (at.saturating_sub(3)..=at).rev().find(|at| !inside(at)).unwrap_or(at)
}

/// Where text may be appended to a value of the object that `text` begins with: inside of the value that is cut, or
/// else of the last whole one.
fn value_end(text: &[u8]) -> Option<usize> {
    let (mut at, mut last) = (0, None);
    let mut in_key = true;
    while let Some(quote) = memchr::memchr(b'"', text.get(at..)?) {
        at += quote + 1;
        loop {
            match memchr::memchr2(b'"', b'\\', text.get(at..)?) {
                None => return if in_key { last } else { Some(text.len()) },
                Some(step) => at += step,
            }
            let rest = text.get(at..)?;
            let length = match rest {
                [b'"', ..] => break,
                [_, b'u', ..] => 6,
                _ => 2,
            };
            if rest.len() < length {
                return if in_key { last } else { Some(at) };
            }
            at += length;
        }
        if !in_key {
            last = Some(at);
        }
        in_key = !in_key;
        at += 1;
    }
    last
}

/// `text` without the beginning of an escape at its end.
fn without_open_escape(text: &[u8]) -> &[u8] {
    let tail = text.len().saturating_sub(5);
    match text.get(tail..).and_then(|last| memchr::memchr(b'\\', last)) {
        Some(at) => text.get(..tail + at).unwrap_or(text),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::ids::{Cursor, ShardId};

    fn cut(text: &str, room: usize, json: bool) -> String {
        let mut out = Vec::new();
        push_cut(text.as_bytes(), room, json, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_cut_object_is_an_object() {
        let text = r#"{"a":"one \"two\"","key":"a\u0001b","last":"x"}"#;
        for room in 30..text.len() + 40 {
            let cut = cut(text, room, true);
            assert!(cut.len() <= room.max(CUT.len()), "{cut}");
            let members = serde_json::from_str::<serde_json::Value>(&cut).unwrap();
            assert!(members["a"].as_str().unwrap().starts_with("one"), "{cut}");
        }
        assert_eq!(cut(text, 25, true), format!("{{\"a\":\"one{CUT}\"}}"));
        assert_eq!(cut(text, 20, true), format!("{{\"a\":\"{CUT}"), "nothing to append to");
    }

    #[test]
    fn plain_text_is_cut_between_characters_and_escapes() {
        assert_eq!(cut("世界世界", 14 + 7, false), format!("世界{CUT}"));
        assert_eq!(cut("abc\\x7cdef", 14 + 6, false), format!("abc{CUT}"));
        assert_eq!(cut("abcdefgh", 3, false), CUT);
    }

    #[test]
    fn ids_name_a_record() {
        let (cursor, other) = (Cursor::new("MTc="), Cursor::new("MTg="));
        let at = |shard, cursor, index| record_id(&RecordContext { shard: ShardId(shard), cursor }, index);
        assert_eq!(at(1, &cursor, 2), at(1, &cursor, 2));
        let ids = [at(1, &cursor, 2), at(2, &cursor, 2), at(1, &other, 2), at(1, &cursor, 3)];
        assert!(ids.iter().enumerate().all(|(at, id)| !ids[..at].contains(id)));
        let mut head = Vec::new();
        push_part_head(u32::MAX, u32::MAX, u64::MAX, &mut head);
        assert!(head.len() <= PART_BYTES_MAX);
    }

    proptest! {
        /// Law: the parts are the text, none is too long, each is UTF-8.
        #[test]
        fn parts_are_the_text(text in "\\PC{0,200}", room in 4usize..40) {
            let all: Vec<&[u8]> = parts(text.as_bytes(), room).collect();
            prop_assert_eq!(all.concat(), text.as_bytes());
            for part in all {
                prop_assert!(!part.is_empty() && part.len() <= room && core::str::from_utf8(part).is_ok());
            }
        }

        /// Law: a cut text is UTF-8 within its room, and ends with the mark.
        #[test]
        fn cuts_fit(text in "\\PC{0,200}", room in 14usize..400, json: bool) {
            let cut = cut(&text, room, json);
            prop_assert!(cut.len() <= room && cut.contains(CUT));
        }
    }
}
