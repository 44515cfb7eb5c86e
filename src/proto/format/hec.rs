//! One log becomes one line: the HEC envelope as JSON.
//!
//! Why: the transcoder is the largest part of the CPU time that is ours, so a record is written in one pass from
//! the body into the frame: what a group shares is escaped once into `head` and `tail`, the contents go through
//! the vector kernel, and the time's fraction, which stands at the end of a log but at the beginning of an
//! envelope, is guessed from the log's last bytes and checked afterwards.
//! Invariants: 1. only the seven keys that splunkd knows stand in an envelope. 2. Each record ends with exactly
//! one newline and holds no other: the n-th line is the n-th object. 3. Same body, position, settings and context
//! give the same bytes. 4. After an error `out` ends behind the last whole record and `at` stands in front of the
//! broken one. 5. No allocation per record once the buffers have grown.
//! Bounds: a frame ends with the record that reaches `limit`; a record is at most six times its log and what the
//! settings add.
//! Driven by: the pipeline, one call per frame.
//! Spec: Splunk HEC `/services/collector/event`: time as a decimal literal (never through a float), metadata only
//! when not empty. A nanosecond part above 999,999,999 is left out: it is not a time.

use super::json;
use super::simd::{Kernel, Seen, Shapes};
use super::template::Template;
use crate::proto::ids::{Cursor, ShardId};
use crate::proto::sls::wire::{Log, LogGroup, LogTime, Position, Span, WireError};

mod forms;

/// What the settings say about events.
#[derive(Clone, Debug, Default)]
pub struct HecParams {
    /// What stands under `event`.
    pub event: EventForm,
    /// `index`; left out where it renders empty, as the next three.
    pub index: Template,
    /// `sourcetype`.
    pub sourcetype: Template,
    /// `source`.
    pub source: Template,
    /// `host`.
    pub host: Template,
    /// Indexed fields by name; those that render empty are left out.
    pub fields: Vec<(String, Template)>,
    /// Topic, and the fields of its logs whose value is nested as JSON when it is valid JSON.
    pub json_fields: Vec<(String, Vec<String>)>,
    /// Adds the indexed field `event_id`: this text (`project/logstore`), shard, cursor of the pull, index in it.
    pub event_id: Option<String>,
}

/// What stands under `event`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EventForm {
    /// An object of topic, source, tags and contents.
    #[default]
    Object,
    /// The text that the vendor's Splunk sample sends: that object as JSON inside a string.
    String,
    /// The value of one field; the object where a log has it not or empty (splunkd refuses a blank event).
    Raw(String),
}

/// Where the records of a body come from.
#[derive(Clone, Copy, Debug)]
pub struct RecordContext<'a> {
    /// The shard.
    pub shard: ShardId,
    /// The position that the body was pulled from.
    pub cursor: &'a Cursor,
}

/// What one call of `encode` wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Records.
    pub records: u32,
    /// Records with bytes that are not UTF-8.
    pub invalid_utf8: u32,
    /// Nothing is left behind `at`.
    pub body_done: bool,
    /// The one record that was written is longer than the sink takes and must not be sent to it.
    pub oversize: bool,
    /// The next record is such a one: it is written when `out` is empty.
    pub before_oversize: bool,
}

/// Writes HEC envelopes. Holds only settings and scratch space: any body of any shard may come next.
#[derive(Clone, Debug)]
pub struct HecEncoder {
    kernel: Kernel,
    shapes: Shapes,
    event: EventForm,
    metadata: Vec<Entry>,
    fields: Vec<Entry>,
    json_fields: Vec<(String, Vec<String>)>,
    event_id: Option<String>,
    stamp: Stamp,
    group: GroupText,
    /// `"event_id":"…/` of this call.
    id_text: Vec<u8>,
    /// Unescaped text of a template.
    rendered: Vec<u8>,
}

/// A JSON key and the template of its value.
#[derive(Clone, Debug)]
struct Entry {
    /// `"key":`.
    key: Vec<u8>,
    value: Template,
    per_log: bool,
}

/// What the records of a group share, escaped.
#[derive(Clone, Debug, Default)]
struct GroupText {
    /// `,"host":"…"`, and `,"event":{"__topic__":"…",` too where no metadata needs the log.
    head: Vec<u8>,
    /// `,"event":{…` where metadata of the log come in between.
    event: Vec<u8>,
    /// `,"fields":{…}}\n`, or without its end where fields of the log are to be added.
    tail: Vec<u8>,
    /// Entry of `json_fields` for this topic.
    json_fields: Option<usize>,
    invalid: bool,
}

impl HecEncoder {
    /// For these settings.
    pub fn new(params: HecParams) -> Self {
        let metadata = [
            ("host", params.host),
            ("source", params.source),
            ("sourcetype", params.sourcetype),
            ("index", params.index),
        ];
        let fields = params.fields.into_iter();
        Self {
            kernel: Kernel::best(),
            shapes: Shapes::new(),
            event: params.event,
            metadata: metadata.into_iter().filter_map(|(key, value)| Entry::new(key, value)).collect(),
            fields: fields.filter_map(|(key, value)| Entry::new(&key, value)).collect(),
            json_fields: params.json_fields,
            event_id: params.event_id,
            stamp: Stamp::new(),
            group: GroupText::default(),
            id_text: Vec::new(),
            rendered: Vec::new(),
        }
    }

    /// Appends records of `body` from `at` on, up to the record with index `end` (not included), until they are at
    /// least `limit` bytes, or until the body ends. At least one record is written where there is one.
    pub fn encode(
        &mut self,
        body: &[u8],
        at: &mut Position,
        end: u32,
        limit: usize,
        context: &RecordContext<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, WireError> {
        let start = out.len();
        let mut encoded = Encoded::default();
        let mut current = None;
        self.begin_ids(context);
        while at.record_index < end {
            let Some(log) = at.seek(body)? else {
                encoded.body_done = true;
                return Ok(encoded);
            };
            let group = match current {
                Some((count, group)) if count == at.group_count => group,
                _ => {
                    let group = LogGroup::at(body, at)?;
                    self.enter_group(&group)?;
                    current = Some((at.group_count, group));
                    group
                }
            };
            let mark = out.len();
            let invalid = match self.record(body, &group, log, at.record_index, out) {
                Ok(invalid) => invalid,
                Err(error) => {
                    out.truncate(mark);
                    return Err(error);
                }
            };
            at.pass(log);
            encoded.records += 1;
            encoded.invalid_utf8 += u32::from(invalid);
            if out.len() - start >= limit {
                break;
            }
        }
        // What is broken behind whole records is found by the next call.
        encoded.body_done = matches!(at.seek(body), Ok(None));
        Ok(encoded)
    }

    /// Escapes what the records of `group` share.
    fn enter_group(&mut self, group: &LogGroup<'_>) -> Result<(), WireError> {
        let text = &mut self.group;
        text.head.clear();
        text.event.clear();
        text.tail.clear();
        text.invalid = false;
        let mut per_log = false;
        for entry in &self.metadata {
            per_log |= entry.per_log;
            if !entry.per_log {
                text.invalid |= !entry.write(group, None, b",", b"", &mut self.rendered, &mut text.head)?;
            }
        }
        let event = if per_log { &mut text.event } else { &mut text.head };
        event.extend_from_slice(b",\"event\":");
        if self.event == EventForm::Object {
            text.invalid |= !object_head(group, event)?;
        }
        text.tail.extend_from_slice(b",\"fields\":{");
        let mut more = self.event_id.is_some();
        for entry in &self.fields {
            more |= entry.per_log;
            if !entry.per_log {
                text.invalid |= !entry.write(group, None, b"", b",", &mut self.rendered, &mut text.tail)?;
            }
        }
        if !more {
            close_fields(&mut text.tail);
        }
        text.json_fields = self.json_fields.iter().position(|(topic, _)| topic.as_bytes() == group.topic);
        Ok(())
    }

    /// Appends one record; true when bytes of it were not UTF-8.
    fn record(
        &mut self,
        body: &[u8],
        group: &LogGroup<'_>,
        span: Span,
        index: u32,
        out: &mut Vec<u8>,
    ) -> Result<bool, WireError> {
        let log = Log::at(body, span)?;
        let mark = out.len();
        let guess = log.guess_time();
        let mut seen = self.head_and_event(body, group, &log, span, guess, out)?;
        if !Stamp::same(guess, seen.time) {
            out.truncate(mark);
            seen = self.head_and_event(body, group, &log, span, seen.time, out)?;
        }
        let fields = out.len();
        out.extend_from_slice(&self.group.tail);
        if out.last() != Some(&b'\n') {
            for entry in self.fields.iter().filter(|entry| entry.per_log) {
                seen.invalid |= !entry.write(group, Some(&log), b"", b",", &mut self.rendered, out)?;
            }
            if self.event_id.is_some() {
                out.extend_from_slice(&self.id_text);
                out.extend_from_slice(itoa::Buffer::new().format(index).as_bytes());
                out.extend_from_slice(b"\",");
            }
            close_fields_behind(out, fields);
        }
        Ok(seen.invalid || self.group.invalid)
    }

    /// Everything up to the end of the event, with `time` as the time.
    fn head_and_event(
        &mut self,
        body: &[u8],
        group: &LogGroup<'_>,
        log: &Log<'_>,
        span: Span,
        time: LogTime,
        out: &mut Vec<u8>,
    ) -> Result<Seen, WireError> {
        self.stamp.write(time, out);
        out.extend_from_slice(&self.group.head);
        let mut invalid = false;
        if !self.group.event.is_empty() {
            for entry in self.metadata.iter().filter(|entry| entry.per_log) {
                invalid |= !entry.write(group, Some(log), b",", b"", &mut self.rendered, out)?;
            }
            out.extend_from_slice(&self.group.event);
        }
        let mut seen = if self.event == EventForm::Object && self.group.json_fields.is_none() {
            let seen = self.kernel.contents(body, span, &mut self.shapes, out)?;
            close_object(out);
            seen
        } else {
            self.special_event(group, log, out)?
        };
        seen.invalid |= invalid;
        Ok(seen)
    }

    /// `"event_id":"prefix/shard/cursor/`: what the ids of this body share.
    fn begin_ids(&mut self, context: &RecordContext<'_>) {
        let Some(prefix) = &self.event_id else { return };
        let text = &mut self.id_text;
        text.clear();
        text.extend_from_slice(b"\"event_id\":\"");
        json::escape(prefix.as_bytes(), text);
        text.push(b'/');
        text.extend_from_slice(itoa::Buffer::new().format(context.shard.0).as_bytes());
        text.push(b'/');
        json::escape(context.cursor.as_str().as_bytes(), text);
        text.push(b'/');
    }
}

impl Entry {
    /// `None` for the empty template: the key is never written.
    fn new(key: &str, value: Template) -> Option<Self> {
        let mut text = Vec::new();
        json::string(key.as_bytes(), &mut text);
        text.push(b':');
        (!value.is_empty()).then(|| Self { key: text, per_log: value.needs_log(), value })
    }

    /// Appends `before`, key, value and `after`, or nothing where the value is empty. False when it was not UTF-8.
    fn write(
        &self,
        group: &LogGroup<'_>,
        log: Option<&Log<'_>>,
        before: &[u8],
        after: &[u8],
        rendered: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<bool, WireError> {
        rendered.clear();
        self.value.render(group, log, rendered)?;
        if rendered.is_empty() {
            return Ok(true);
        }
        out.extend_from_slice(before);
        out.extend_from_slice(&self.key);
        let valid = json::string(rendered, out);
        out.extend_from_slice(after);
        Ok(valid)
    }
}

/// Beginning of an envelope; the digits of the last second are kept.
#[derive(Clone, Debug)]
struct Stamp {
    secs: u32,
    /// `{"time":<secs>`.
    text: Vec<u8>,
}

impl Stamp {
    fn new() -> Self {
        Self { secs: 0, text: b"{\"time\":0".to_vec() }
    }

    fn write(&mut self, time: LogTime, out: &mut Vec<u8>) {
        if self.secs != time.secs {
            self.secs = time.secs;
            self.text.truncate(b"{\"time\":".len());
            self.text.extend_from_slice(itoa::Buffer::new().format(time.secs).as_bytes());
        }
        out.extend_from_slice(&self.text);
        let nanos = Self::nanos(time);
        if nanos != 0 {
            // The leading 1 keeps the zeros; a dot takes its place.
            let dot = out.len();
            out.extend_from_slice(itoa::Buffer::new().format(nanos + NANOS).as_bytes());
            if let Some(one) = out.get_mut(dot) {
                *one = b'.';
            }
            while out.last() == Some(&b'0') {
                out.pop();
            }
        }
    }

    fn nanos(time: LogTime) -> u32 {
        time.nanos.filter(|&nanos| nanos < NANOS).unwrap_or(0)
    }

    /// True when both are written the same.
    fn same(left: LogTime, right: LogTime) -> bool {
        left.secs == right.secs && Self::nanos(left) == Self::nanos(right)
    }
}

const NANOS: u32 = 1_000_000_000;

/// Appends `{"__topic__":"…","__source__":"…","__tag__:K":"…",`. False when some of it was not UTF-8.
pub(super) fn object_head(group: &LogGroup<'_>, out: &mut Vec<u8>) -> Result<bool, WireError> {
    let mut valid = true;
    out.push(b'{');
    for (key, value) in [(&b"\"__topic__\":"[..], group.topic), (b"\"__source__\":", group.source)] {
        if !value.is_empty() {
            out.extend_from_slice(key);
            valid &= json::string(value, out);
            out.push(b',');
        }
    }
    for tag in group.tags() {
        let (key, value) = tag?;
        out.extend_from_slice(b"\"__tag__:");
        valid &= json::escape(key, out);
        out.extend_from_slice(b"\":");
        valid &= json::string(value, out);
        out.push(b',');
    }
    Ok(valid)
}

/// Ends an object whose members are each followed by a comma.
pub(super) fn close_object(out: &mut Vec<u8>) {
    match out.last_mut() {
        Some(last) if *last == b',' => *last = b'}',
        _ => out.push(b'}'),
    }
}

/// Ends `,"fields":{…` and the envelope; takes the whole key away where it has no members.
fn close_fields(tail: &mut Vec<u8>) {
    close_fields_behind(tail, 0);
}

fn close_fields_behind(out: &mut Vec<u8>, fields: usize) {
    if out.last() == Some(&b'{') {
        out.truncate(fields);
    } else {
        close_object(out);
    }
    out.extend_from_slice(b"}\n");
}

#[cfg(test)]
mod tests;
