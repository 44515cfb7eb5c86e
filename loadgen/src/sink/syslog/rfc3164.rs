//! RFC 3164 as a sender of today should write it.
//!
//! Why: the RFC describes what was seen, and every receiver guesses differently about what it leaves open. What nobody
//! has to guess about is accepted here.
//! Invariants: 1. `<PRI>Mmm dd hh:mm:ss HOSTNAME TAG[pid]: CONTENT`, the day padded with a space, one space between
//! the parts.   Bounds: one message.   Driven by: the strict mode, and tests.
//! Spec: syslog.md 2; RFC 3164 4.1. Departures: a TAG may hold `-`, `_` and `.`, as the names of real programs do, and
//! has to end in `:` (or `[pid]:`); HOSTNAME is any PRINTUSASCII up to 255; the total length is not limited to 1024.

use super::rfc5424::{Cursor, Violation};
use super::stamp::days_of;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    /// 0 to 23.
    pub facility: u8,
    /// 0 to 7.
    pub severity: u8,
    /// Month, day, hour, minute, second, in a zone that the message does not tell.
    pub stamp: [u8; 5],
    /// HOSTNAME.
    pub hostname: &'a str,
    /// TAG without brackets and colon.
    pub tag: &'a str,
    /// What stands between the brackets.
    pub pid: Option<&'a str>,
    /// What stands behind the colon and its space.
    pub body: &'a [u8],
}

/// Parses one message, without its frame.
pub fn parse(bytes: &[u8]) -> Result<Message<'_>, Violation> {
    let mut cursor = Cursor { bytes, at: 0 };
    let (facility, severity) = cursor.priority()?;
    let stamp = stamp(&mut cursor)?;
    let start = cursor.at;
    let hostname = cursor.while_ascii(|byte| (33..=126).contains(&byte));
    if hostname.is_empty() {
        return cursor.broken("HOSTNAME is empty or holds a character outside of PRINTUSASCII");
    }
    if hostname.len() > 255 {
        return Err(Violation { at: start + 255, what: "HOSTNAME is longer than 255" });
    }
    cursor.expect(b' ', "no space behind HOSTNAME")?;
    let start = cursor.at;
    let tag = cursor.while_ascii(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    match tag.len() {
        0 => return cursor.broken("TAG is empty"),
        1..=32 => {}
        _ => return Err(Violation { at: start + 32, what: "TAG is longer than 32" }),
    }
    let mut pid = None;
    if cursor.peek() == Some(b'[') {
        cursor.at += 1;
        let text = cursor.while_ascii(|byte| (33..=126).contains(&byte) && byte != b']');
        if text.is_empty() {
            return cursor.broken("nothing stands in the brackets behind TAG");
        }
        cursor.expect(b']', "the bracket behind TAG does not close")?;
        pid = Some(text);
    }
    cursor.expect(b':', "TAG does not end in a colon")?;
    if cursor.peek().is_some() {
        cursor.expect(b' ', "no space behind TAG")?;
    }
    Ok(Message { facility, severity, stamp, hostname, tag, pid, body: cursor.rest() })
}

fn stamp(cursor: &mut Cursor<'_>) -> Result<[u8; 5], Violation> {
    let text = cursor.rest().get(..STAMP_BYTES).unwrap_or_default();
    let month = MONTHS.iter().zip(1_u8..).find(|(name, _)| text.starts_with(name.as_bytes()));
    let Some((_, month)) = month else { return cursor.broken("no month's name") };
    let number = |at: usize| {
        let digits = text.get(at..at + 2)?;
        let value = |byte: u8| byte.is_ascii_digit().then(|| byte - b'0');
        match *digits {
            [b' ', ones] if at == DAY_AT => value(ones),
            // Padded with a space, so a leading zero is not a day.
            [b'0', _] if at == DAY_AT => None,
            [tens, ones] => Some(value(tens)? * 10 + value(ones)?),
            _ => None,
        }
    };
    let separators = [(3, b' '), (6, b' '), (9, b':'), (12, b':'), (15, b' ')];
    if let Some((at, _)) = separators.iter().find(|(at, byte)| text.get(*at) != Some(byte)) {
        return Err(Violation { at: cursor.at + at, what: "TIMESTAMP is not `Mmm dd hh:mm:ss `" });
    }
    // A year that has a February 29, because the message does not tell.
    let days = u8::try_from(days_of(2024, i64::from(month))).unwrap_or(31);
    let ranges = [(DAY_AT, 1, days), (7, 0, 23), (10, 0, 59), (13, 0, 59)];
    let mut stamp = [month, 0, 0, 0, 0];
    for (slot, (at, least, most)) in stamp.iter_mut().skip(1).zip(ranges) {
        let Some(value) = number(at).filter(|value| (least..=most).contains(value)) else {
            return Err(Violation { at: cursor.at + at, what: "a number of TIMESTAMP is not in its range" });
        };
        *slot = value;
    }
    cursor.at += STAMP_BYTES;
    Ok(stamp)
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY_AT: usize = 4;
const STAMP_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "<34>Oct 11 22:14:15 mymachine su[12]: 'su root' failed";

    #[test]
    fn the_parts_are_found() {
        let message = parse(GOOD.as_bytes()).unwrap();
        assert_eq!((message.facility, message.severity), (4, 2));
        assert_eq!(message.stamp, [10, 11, 22, 14, 15]);
        assert_eq!((message.hostname, message.tag, message.pid), ("mymachine", "su", Some("12")));
        assert_eq!(message.body, b"'su root' failed");
        let message = parse(b"<0>Feb 29 00:00:00 ::1 a-b_c.d:").unwrap();
        assert_eq!((message.tag, message.body), ("a-b_c.d", b"".as_slice()));
        assert_eq!(parse(b"<13>Nov  3 00:00:00 h t: {\"a\n\xFF").unwrap().stamp[1], 3);
    }

    #[test]
    fn a_truncated_header_is_never_accepted() {
        let header = GOOD.len() - "'su root' failed".len();
        for end in 0..header - 1 {
            assert!(parse(&GOOD.as_bytes()[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn what_receivers_would_guess_about_is_refused() {
        let long = "t".repeat(33);
        for (text, what) in [
            ("Oct 11 22:14:15 h t: x", "no priority"),
            ("<13>1 - - - - - -", "month"),
            ("<13>oct 11 22:14:15 h t: x", "month"),
            ("<13>Nov 03 22:14:15 h t: x", "range"),
            ("<13>Nov 3 22:14:15 h t: x", "Mmm dd"),
            ("<13>Nov 31 22:14:15 h t: x", "range"),
            ("<13>Feb 30 22:14:15 h t: x", "range"),
            ("<13>Oct 11 24:14:15 h t: x", "range"),
            ("<13>Oct 11 2026 22:14:15 h t: x", "Mmm dd"),
            ("<13>Oct 11 22:14:15  t: x", "HOSTNAME"),
            ("<13>Oct 11 22:14:15 h\u{e9} t: x", "behind HOSTNAME"),
            ("<13>Oct 11 22:14:15 h {\"a\":1}", "TAG is empty"),
            ("<13>Oct 11 22:14:15 h t x", "colon"),
            ("<13>Oct 11 22:14:15 h t/u: x", "colon"),
            ("<13>Oct 11 22:14:15 h t[]: x", "brackets"),
            ("<13>Oct 11 22:14:15 h t[1: x", "close"),
            ("<13>Oct 11 22:14:15 h t:x", "behind TAG"),
            (&format!("<13>Oct 11 22:14:15 h {long}: x"), "longer than 32"),
        ] {
            let found = parse(text.as_bytes()).expect_err(text).what;
            assert!(found.contains(what), "{text}: {found}");
        }
    }
}
