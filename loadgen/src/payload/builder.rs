//! Builds a log group with one allocation for all its values.
//!
//! Why: a gigabyte of access log is 25 million values; one allocation each would take longer than writing them.
//! Invariants: spans are written in order, so a value is a slice of the one buffer.   Bounds: one group.
//! Driven by: the profiles: `log`, then `put…` for its fields, `finish` at the end.   Spec: none.

use std::fmt;
use std::io::Write as _;

use bytes::Bytes;

use super::Seq;
use super::schema::{Content, Log, LogGroup, LogTag};

/// A group under construction.
#[derive(Debug)]
pub(super) struct GroupBuilder {
    text: Vec<u8>,
    logs: Vec<Draft>,
    fields_hint: usize,
}

#[derive(Debug)]
struct Draft {
    time: u32,
    time_ns: Option<u32>,
    cells: Vec<(Bytes, usize)>,
}

impl GroupBuilder {
    /// An empty group; the hint is the usual number of fields of a log.
    pub(super) fn new(count: u32, fields_hint: usize, bytes_hint: usize) -> Self {
        let count = count as usize;
        Self { text: Vec::with_capacity(count * bytes_hint), logs: Vec::with_capacity(count), fields_hint }
    }

    /// Begins the next log.
    pub(super) fn log(&mut self, time: u32, time_ns: Option<u32>) -> &mut Self {
        self.logs.push(Draft { time, time_ns, cells: Vec::with_capacity(self.fields_hint) });
        self
    }

    /// Appends the field that carries the log's number.
    pub(super) fn seq(&mut self, seq: Seq) -> &mut Self {
        self.put_fmt("seq", format_args!("{seq}"))
    }

    /// Appends a field.
    pub(super) fn put(&mut self, key: &'static str, value: &str) -> &mut Self {
        self.put_bytes(Bytes::from_static(key.as_bytes()), value.as_bytes())
    }

    /// Appends a field whose value is written in place.
    pub(super) fn put_fmt(&mut self, key: &'static str, value: fmt::Arguments<'_>) -> &mut Self {
        // Writing into a Vec cannot fail.
        let _ = self.text.write_fmt(value);
        self.close(Bytes::from_static(key.as_bytes()))
    }

    /// Appends a field of arbitrary bytes.
    pub(super) fn put_bytes(&mut self, key: Bytes, value: &[u8]) -> &mut Self {
        self.text.extend_from_slice(value);
        self.close(key)
    }

    /// The group, without topic, source and tags.
    pub(super) fn finish(self) -> LogGroup {
        let text = Bytes::from(self.text);
        let mut start = 0;
        let mut cut = |end: usize| text.slice(std::mem::replace(&mut start, end)..end);
        let logs = self
            .logs
            .into_iter()
            .map(|draft| Log {
                time: draft.time,
                time_ns: draft.time_ns,
                contents: draft
                    .cells
                    .into_iter()
                    .map(|(key, end)| Content { key, value: cut(end) })
                    .collect(),
            })
            .collect();
        LogGroup { logs, ..LogGroup::default() }
    }

    fn close(&mut self, key: Bytes) -> &mut Self {
        let end = self.text.len();
        if let Some(draft) = self.logs.last_mut() {
            draft.cells.push((key, end));
        }
        self
    }
}

impl LogGroup {
    /// Adds topic and source.
    #[must_use]
    pub(super) fn placed(mut self, topic: impl Into<Bytes>, source: impl Into<Bytes>) -> Self {
        self.topic = Some(topic.into());
        self.source = Some(source.into());
        self
    }

    /// Adds a tag.
    #[must_use]
    pub(super) fn tagged(mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        self.log_tags.push(LogTag { key: key.into(), value: value.into() });
        self
    }
}
