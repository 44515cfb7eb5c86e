//! Events that are not the plain object: nested JSON, one field's value, the vendor sample's text.
//!
//! Why: users who move over from the vendor's Splunk sample or add-on keep their searches.
//! Invariants: those of `hec`. A value is nested only when the whole of it is valid JSON, and its bytes stay as they
//! are but for raw newlines between tokens, which become spaces.
//! Bounds: these forms walk a log's contents more than once (`string`: once per content). Checking nested JSON costs
//! one small allocation per value that has containers in it; the default form never comes here.
//! Driven by: `hec`.
//! Spec: SLS protocol notes, flattening and Splunk sample output. Departures of `string`: bytes that are not UTF-8
//! become U+FFFD (the sample drops them or fails), a content named `__time__` is left out of the text as in the
//! sample but does not replace the envelope's time, and numbers in nested JSON keep their digits.

use core::fmt::Write as _;

use serde::de::IgnoredAny;

use super::super::json;
use super::super::simd::Seen;
use super::{EventForm, HecEncoder, Stamp, close_object, object_head};
use crate::proto::sls::wire::{Log, LogGroup, LogTime, WireError};

impl HecEncoder {
    /// Appends the value of `event` in its configured form.
    pub(super) fn special_event(
        &mut self,
        group: &LogGroup<'_>,
        log: &Log<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Seen, WireError> {
        let time = log.time()?;
        let nested = self.group.json_fields.and_then(|index| self.json_fields.get(index));
        let nested = nested.map_or(&[][..], |(_, fields)| fields);
        let valid = match &self.event {
            EventForm::Object => {
                // The head of the object is part of the group's text.
                object_contents(log, nested, out)?
            }
            EventForm::Raw(field) => match log.last(field.as_bytes())? {
                Some(value) if !value.is_empty() => json::string(value, out),
                _ => object_head(group, out)? & object_contents(log, nested, out)?,
            },
            EventForm::String => {
                self.rendered.clear();
                let valid = sample_text(group, log, time, nested, &mut self.rendered)?;
                json::string(&self.rendered, out);
                valid
            }
        };
        Ok(Seen { time, invalid: !valid })
    }
}

/// The contents as members and the end of the object. False when some of them were not UTF-8.
fn object_contents(log: &Log<'_>, nested: &[String], out: &mut Vec<u8>) -> Result<bool, WireError> {
    let mut valid = true;
    for pair in log.contents() {
        let (key, value) = pair?;
        valid &= json::string(key, out);
        out.push(b':');
        match nested_json(key, value, nested) {
            Some(text) => {
                let space = |byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte };
                out.extend(text.bytes().map(space));
            }
            None => valid &= json::string(value, out),
        }
        out.push(b',');
    }
    close_object(out);
    Ok(valid)
}

/// The value as JSON text where it is to be nested.
fn nested_json<'a>(key: &[u8], value: &'a [u8], nested: &[String]) -> Option<&'a str> {
    let wanted = nested.iter().any(|field| field.as_bytes() == key);
    let text = core::str::from_utf8(value).ok().filter(|_| wanted)?;
    serde_json::from_str::<IgnoredAny>(text).is_ok().then_some(text)
}

/// A member of the vendor's flat form.
#[derive(Clone, Copy)]
struct Member<'a> {
    prefix: &'static [u8],
    key: &'a [u8],
    value: &'a [u8],
}

impl Member<'_> {
    fn name(&self) -> impl Iterator<Item = &u8> {
        self.prefix.iter().chain(self.key)
    }
}

/// Topic, source, the place of the nanoseconds, tags, contents: the order in which the vendor's SDK flattens.
fn members<'a>(
    group: &LogGroup<'a>,
    log: &Log<'a>,
    nanos: bool,
) -> impl Iterator<Item = Result<Member<'a>, WireError>> {
    let fixed = [(TOPIC, group.topic), (SOURCE, group.source), (NANOS_PART, &[][..])];
    let fixed = fixed.into_iter().take(if nanos { 3 } else { 2 }).map(Ok::<_, WireError>);
    let plain = |pair: Result<(&'a [u8], &'a [u8]), WireError>| {
        pair.map(|(key, value)| Member { prefix: b"", key, value })
    };
    let tag = |pair: Result<(&'a [u8], &'a [u8]), WireError>| {
        pair.map(|(key, value)| Member { prefix: b"__tag__:", key, value })
    };
    fixed.map(plain).chain(group.tags().map(tag)).chain(log.contents().map(plain))
}

/// What `json.dumps` of the vendor's sample gives. False when some bytes were not UTF-8.
fn sample_text(
    group: &LogGroup<'_>,
    log: &Log<'_>,
    time: LogTime,
    nested: &[String],
    out: &mut Vec<u8>,
) -> Result<bool, WireError> {
    let mut valid = true;
    let nanos = Stamp::nanos(time);
    out.push(b'{');
    for (index, member) in members(group, log, nanos != 0).enumerate() {
        let member = member?;
        // A name keeps the place of its first member and the value of its last.
        let (mut last, mut last_index, mut earlier) = (member, index, false);
        for (other_index, other) in members(group, log, nanos != 0).enumerate() {
            let other = other?;
            if other.name().eq(member.name()) {
                earlier |= other_index < index;
                (last, last_index) = (other, other_index);
            }
        }
        if earlier || member.name().eq(b"__time__") {
            continue;
        }
        if out.len() > 1 {
            out.extend_from_slice(b", ");
        }
        out.push(b'"');
        ascii(member.prefix, out);
        valid &= ascii(member.key, out);
        out.extend_from_slice(b"\": ");
        if last_index == 2 && nanos != 0 {
            // A tuple of one by a stray comma in the SDK; kept, because it is what users have in their index.
            out.extend_from_slice(b"[\"");
            out.extend_from_slice(itoa::Buffer::new().format(nanos).as_bytes());
            out.extend_from_slice(b"\"]");
        } else if let Some(text) =
            nested_json(last.key, last.value, nested).filter(|_| last.prefix.is_empty())
        {
            spaced(text, out);
        } else {
            out.push(b'"');
            valid &= ascii(last.value, out);
            out.push(b'"');
        }
    }
    out.push(b'}');
    Ok(valid)
}

/// Appends `bytes` as Python writes them into a JSON string: ASCII alone. False when they were not UTF-8.
fn ascii(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    let mut valid = true;
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\u{7f}'.. => unicode_escape(character, out),
                other => {
                    json::escape(other.encode_utf8(&mut [0; 4]).as_bytes(), out);
                }
            }
        }
        if !chunk.invalid().is_empty() {
            valid = false;
            unicode_escape('\u{fffd}', out);
        }
    }
    valid
}

fn unicode_escape(character: char, out: &mut Vec<u8>) {
    for unit in character.encode_utf16(&mut [0; 2]) {
        let mut text = Hex(out);
        // Writing into a vector does not fail.
        let _ = write!(text, "\\u{unit:04x}");
    }
}

struct Hex<'a>(&'a mut Vec<u8>);

impl core::fmt::Write for Hex<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// Valid JSON with Python's spaces after commas and colons, and ASCII alone.
fn spaced(text: &str, out: &mut Vec<u8>) {
    let (mut inside, mut escaped) = (false, false);
    for character in text.chars() {
        let mut utf8 = [0; 4];
        let bytes = character.encode_utf8(&mut utf8).as_bytes();
        if inside {
            match character {
                '\u{7f}'.. => unicode_escape(character, out),
                _ => out.extend_from_slice(bytes),
            }
            inside = escaped || character != '"';
            escaped = !escaped && character == '\\';
        } else {
            match character {
                ' ' | '\t' | '\n' | '\r' => {}
                ',' => out.extend_from_slice(b", "),
                ':' => out.extend_from_slice(b": "),
                _ => out.extend_from_slice(bytes),
            }
            inside = character == '"';
        }
    }
}

const TOPIC: &[u8] = b"__topic__";
const SOURCE: &[u8] = b"__source__";
const NANOS_PART: &[u8] = b"__time_ns_part__";
