//! Readers of what the encoder writes, by the letter of the standards and without a line of its code. Each panics
//! on the first octet that is not allowed.

use crate::proto::format::syslog::{Framing, HeaderForm};

/// A message taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) facility: u8,
    pub(super) severity: u8,
    pub(super) time: String,
    pub(super) hostname: String,
    /// APP-NAME, or TAG.
    pub(super) app_name: String,
    pub(super) proc_id: String,
    pub(super) msg_id: String,
    pub(super) data: Vec<(String, Vec<(String, String)>)>,
    pub(super) message: String,
    pub(super) bom: bool,
    pub(super) bytes: usize,
}

/// The messages of a frame; with marks, whether each begins a record.
pub(super) fn unframe(framing: Framing, frame: &[u8]) -> Vec<(&[u8], bool)> {
    let mut messages = Vec::new();
    let mut rest = frame;
    while !rest.is_empty() {
        let (message, first, after) = match framing {
            Framing::OctetCounting => {
                let space = rest.iter().position(|byte| *byte == b' ').expect("a space behind the count");
                let digits = core::str::from_utf8(&rest[..space]).unwrap();
                assert!(digits.starts_with(|c: char| ('1'..='9').contains(&c)), "count {digits:?}");
                assert!(digits.bytes().all(|byte| byte.is_ascii_digit()), "count {digits:?}");
                let (message, after) = rest[space + 1..].split_at(digits.parse().unwrap());
                (message, true, after)
            }
            Framing::Newline => {
                let end = rest.iter().position(|byte| *byte == b'\n').expect("a frame ends with LF");
                let message = &rest[..end];
                assert!(!message.iter().any(|byte| matches!(byte, b'\r' | 0)), "CR or NUL in a line");
                (message, true, &rest[end + 1..])
            }
            Framing::Marked => {
                let length = u32::from_le_bytes(rest[..4].try_into().unwrap()) as usize;
                assert!(rest[4] <= 1, "flag {}", rest[4]);
                let (message, after) = rest[5..].split_at(length);
                (message, rest[4] == 1, after)
            }
        };
        messages.push((message, first));
        rest = after;
    }
    messages
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn literal(&mut self, text: &str) {
        self.0 =
            self.0.strip_prefix(text.as_bytes()).unwrap_or_else(|| panic!("{text:?} is missing: {self:?}"));
    }

    fn until(&mut self, end: u8) -> &'a [u8] {
        let at = self.0.iter().position(|byte| *byte == end).unwrap_or_else(|| panic!("no end: {self:?}"));
        let (found, rest) = self.0.split_at(at);
        self.0 = &rest[1..];
        found
    }

    /// One or more PRINTUSASCII, at most `max`, and the space behind it.
    fn word(&mut self, max: usize) -> String {
        let word = self.until(b' ');
        assert!((1..=max).contains(&word.len()), "{} characters: {word:?}", word.len());
        assert!(word.iter().all(|byte| (33..=126).contains(byte)), "not printable: {word:?}");
        String::from_utf8(word.to_vec()).unwrap()
    }
}

impl core::fmt::Debug for Cursor<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0[..self.0.len().min(80)]))
    }
}

fn priority(cursor: &mut Cursor<'_>) -> (u8, u8) {
    cursor.literal("<");
    let digits = String::from_utf8(cursor.until(b'>').to_vec()).unwrap();
    assert!(digits == "0" || !digits.starts_with('0'), "PRI {digits}");
    assert!(digits.bytes().all(|byte| byte.is_ascii_digit()), "PRI {digits}");
    let number: u8 = digits.parse().unwrap();
    assert!(number <= 191, "PRI {number}");
    (number / 8, number % 8)
}

/// A message with either header.
pub(super) fn parse(header: HeaderForm, message: &[u8]) -> Parsed {
    match header {
        HeaderForm::Rfc5424 => rfc5424(message),
        HeaderForm::Rfc3164 => rfc3164(message),
    }
}

fn rfc5424(message: &[u8]) -> Parsed {
    let mut cursor = Cursor(message);
    let (facility, severity) = priority(&mut cursor);
    cursor.literal("1 ");
    let time = cursor.word(40);
    timestamp(&time);
    let hostname = cursor.word(255);
    let app_name = cursor.word(48);
    let proc_id = cursor.word(128);
    let msg_id = cursor.word(32);
    let data = structured_data(&mut cursor);
    if !cursor.0.is_empty() {
        cursor.literal(" ");
    }
    let bom = cursor.0.starts_with(b"\xef\xbb\xbf");
    let text = if bom { &cursor.0[3..] } else { cursor.0 };
    let message_text = String::from_utf8(text.to_vec()).expect("a message of UTF-8");
    Parsed {
        facility,
        severity,
        time,
        hostname,
        app_name,
        proc_id,
        msg_id,
        data,
        message: message_text,
        bom,
        bytes: message.len(),
    }
}

fn timestamp(text: &str) {
    let (date, clock) = text.strip_suffix('Z').expect("UTC").split_once('T').expect("a T");
    let numbers = |text: &str, separator: char, widths: &[usize]| -> Vec<u32> {
        let parts: Vec<&str> = text.split(separator).collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), widths, "{text}");
        assert!(parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit())), "{text}");
        parts.iter().map(|part| part.parse().unwrap()).collect()
    };
    let date = numbers(date, '-', &[4, 2, 2]);
    let (clock, fraction) = clock.split_once('.').map_or((clock, None), |(clock, rest)| (clock, Some(rest)));
    let clock = numbers(clock, ':', &[2, 2, 2]);
    assert!((1970..=2106).contains(&date[0]) && (1..=12).contains(&date[1]) && (1..=31).contains(&date[2]));
    assert!(clock[0] < 24 && clock[1] < 60 && clock[2] < 60, "{text}");
    if let Some(digits) = fraction {
        assert!(
            (1..=6).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()),
            "{text}"
        );
    }
}

fn structured_data(cursor: &mut Cursor<'_>) -> Vec<(String, Vec<(String, String)>)> {
    let mut elements: Vec<(String, Vec<(String, String)>)> = Vec::new();
    if cursor.0.first() == Some(&b'-') {
        cursor.literal("-");
        return elements;
    }
    let name = |bytes: &[u8]| {
        let name = String::from_utf8(bytes.to_vec()).unwrap();
        let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '=' | ']' | '"');
        assert!((1..=32).contains(&name.len()) && name.chars().all(fits), "SD-NAME {name:?}");
        name
    };
    while cursor.0.first() == Some(&b'[') {
        cursor.literal("[");
        let end = cursor.0.iter().position(|byte| matches!(byte, b' ' | b']')).unwrap();
        let id = name(&cursor.0[..end]);
        assert!(id.contains('@') || ["timeQuality", "origin", "meta"].contains(&id.as_str()), "SD-ID {id}");
        assert!(elements.iter().all(|(other, _)| *other != id), "SD-ID {id} twice");
        cursor.0 = &cursor.0[end..];
        let mut params = Vec::new();
        while cursor.0.first() == Some(&b' ') {
            cursor.literal(" ");
            let param = name(cursor.until(b'='));
            cursor.literal("\"");
            let mut value = Vec::new();
            loop {
                match cursor.0 {
                    [b'"', rest @ ..] => {
                        cursor.0 = rest;
                        break;
                    }
                    [b']', ..] => panic!("] inside of a value: {cursor:?}"),
                    [b'\\', byte @ (b'"' | b'\\' | b']'), rest @ ..] => {
                        value.push(*byte);
                        cursor.0 = rest;
                    }
                    [b'\\', ..] => panic!("a backslash that escapes nothing: {cursor:?}"),
                    [byte, rest @ ..] => {
                        value.push(*byte);
                        cursor.0 = rest;
                    }
                    [] => panic!("a value without an end"),
                }
            }
            params.push((param, String::from_utf8(value).expect("a value of UTF-8")));
        }
        cursor.literal("]");
        elements.push((id, params));
    }
    assert!(!elements.is_empty(), "no structured data: {cursor:?}");
    elements
}

const MONTHS: &str = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec";

fn rfc3164(message: &[u8]) -> Parsed {
    let mut cursor = Cursor(message);
    let (facility, severity) = priority(&mut cursor);
    let (stamp, rest) = cursor.0.split_at(15);
    cursor.0 = rest;
    let time = String::from_utf8(stamp.to_vec()).unwrap();
    assert!(MONTHS.split(' ').any(|month| month == &time[..3]), "{time}");
    assert_eq!((&time[3..4], &time[6..7], &time[9..10], &time[12..13]), (" ", " ", ":", ":"), "{time}");
    let day = time[4..6].trim_start_matches(' ');
    assert!(!day.starts_with('0') && (1..=31).contains(&day.parse::<u32>().unwrap()), "{time}");
    let clock = [&time[7..9], &time[10..12], &time[13..15]].map(|text| text.parse::<u32>().unwrap());
    assert!(clock[0] < 24 && clock[1] < 60 && clock[2] < 60, "{time}");
    cursor.literal(" ");
    let hostname = cursor.word(255);
    let end = cursor.0.iter().position(|byte| !byte.is_ascii_alphanumeric()).expect("an end of the TAG");
    assert!((1..=32).contains(&end), "TAG: {cursor:?}");
    let app_name = String::from_utf8(cursor.0[..end].to_vec()).unwrap();
    let text = String::from_utf8(cursor.0.to_vec()).expect("a message of UTF-8");
    cursor.0 = &cursor.0[end..];
    let mut proc_id = String::new();
    if cursor.0.first() == Some(&b'[') {
        cursor.literal("[");
        proc_id = String::from_utf8(cursor.until(b']').to_vec()).unwrap();
        assert!(!proc_id.is_empty() && proc_id.bytes().all(|byte| (33..=126).contains(&byte)), "{proc_id}");
    }
    cursor.literal(":");
    // CEF and LEEF are tags of their own.
    let message_text = if matches!(app_name.as_str(), "CEF" | "LEEF") {
        text
    } else {
        cursor.literal(" ");
        String::from_utf8(cursor.0.to_vec()).unwrap()
    };
    Parsed {
        facility,
        severity,
        time,
        hostname,
        app_name,
        proc_id,
        message: message_text,
        bytes: message.len(),
        ..Parsed::default()
    }
}

/// `[part 2/5 id=0123456789abcdef] ` taken off: part, count, id, text.
pub(super) fn part(message: &str) -> Option<(u32, u32, &str, &str)> {
    let (head, text) = message.strip_prefix("[part ")?.split_once("] ")?;
    let (numbers, id) = head.split_once(" id=")?;
    let (part, of) = numbers.split_once('/')?;
    assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    Some((part.parse().unwrap(), of.parse().unwrap(), id, text))
}
