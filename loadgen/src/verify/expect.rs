//! The HEC event that a log must become, made the plain way.
//!
//! Why: an expectation that shares code with the forwarder would share its mistakes. This one goes from the decoded
//! protobuf through owned strings and `serde_json`, slow and obvious.
//! Invariants: 1. keys in order, repeated ones kept: topic, source, tags, fields. 2. Bytes that are not UTF-8 become
//! U+FFFD, one per broken sequence. 3. Time is compared as decimal digits, never as a float.   Bounds: one log.
//! Driven by: `Checker::check` with each stored envelope.   Spec: contract.md, "The default HEC event".

use std::collections::BTreeMap;

use bytes::Bytes;

use super::json::{self, members};
use crate::payload::{Log, LogGroup, Payload, Seq};

/// What the forwarder was told to put beside the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// `host`; `{__source__}` stands for the group's source.
    pub host: String,
    /// `source`, fixed.
    pub source: String,
    /// `sourcetype`, fixed.
    pub sourcetype: String,
    /// `index`, fixed.
    pub index: String,
}

impl Default for Metadata {
    fn default() -> Self {
        Self {
            host: "{__source__}".to_owned(),
            source: String::new(),
            sourcetype: String::new(),
            index: String::new(),
        }
    }
}

/// One expected envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    seconds: u32,
    nanos: u32,
    metadata: Vec<(&'static str, String)>,
    event: Vec<(String, String)>,
    /// How many of them the group gives: topic, source, tags.
    of_group: usize,
}

/// How well an envelope agrees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fidelity {
    /// The event's text is byte for byte what `serde_json` writes.
    Exact,
    /// The same keys and values in the same order, with other escapes or white space.
    Equivalent,
}

impl Expected {
    /// The envelope of one log.
    pub fn new(group: &LogGroup, log: &Log, metadata: &Metadata) -> Self {
        let lossy = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let optional = |bytes: &Option<Bytes>| bytes.as_ref().map(lossy).unwrap_or_default();
        let (topic, source) = (optional(&group.topic), optional(&group.source));
        let mut event = Vec::new();
        for (key, value) in [("__topic__", &topic), ("__source__", &source)] {
            if !value.is_empty() {
                event.push((key.to_owned(), value.clone()));
            }
        }
        event.extend(
            group.log_tags.iter().map(|tag| (format!("__tag__:{}", lossy(&tag.key)), lossy(&tag.value))),
        );
        let of_group = event.len();
        event.extend(log.contents.iter().map(|content| (lossy(&content.key), lossy(&content.value))));
        let host = metadata.host.replace("{__source__}", &source);
        let metadata = [
            ("host", host),
            ("source", metadata.source.clone()),
            ("sourcetype", metadata.sourcetype.clone()),
            ("index", metadata.index.clone()),
        ];
        Self {
            seconds: log.time,
            nanos: log.time_ns.unwrap_or(0),
            metadata: metadata.into_iter().filter(|(_, value)| !value.is_empty()).collect(),
            event,
            of_group,
        }
    }

    /// The same with a member between those of the group and those of the log.
    #[must_use]
    pub fn with_member(mut self, key: &str, value: String) -> Self {
        self.event.insert(self.of_group, (key.to_owned(), value));
        self.of_group += 1;
        self
    }

    /// Keys and values of the event, in order.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.event
    }

    /// The event as `serde_json` writes it.
    pub fn event_text(&self) -> String {
        let quote = |text: &str| serde_json::Value::from(text).to_string();
        let pairs: Vec<_> =
            self.event.iter().map(|(key, value)| format!("{}:{}", quote(key), quote(value))).collect();
        format!("{{{}}}", pairs.join(","))
    }

    /// Compares with an envelope as it was stored; the error says what differs.
    pub fn compare(&self, envelope: &str) -> Result<Fidelity, String> {
        let members = members(envelope).ok_or("the envelope is not a JSON object")?;
        let mut event = None;
        let mut metadata = BTreeMap::new();
        let mut has_time = false;
        for member in &members {
            match member.key().as_deref() {
                Some("time") if !has_time => {
                    has_time = true;
                    self.compare_time(member.value)?;
                }
                Some("event") if event.is_none() => event = Some(member.value),
                Some(key @ ("host" | "source" | "sourcetype" | "index")) => {
                    let value = json::string(member.value).ok_or_else(|| format!("{key} is not a string"))?;
                    if metadata.insert(key.to_owned(), value).is_some() {
                        return Err(format!("{key} stands twice"));
                    }
                }
                _ => return Err(format!("unexpected key {}", member.raw_key())),
            }
        }
        if !has_time {
            return Err("time is missing".to_owned());
        }
        let expected: BTreeMap<_, _> =
            self.metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        if metadata != expected {
            return Err(format!("metadata is {metadata:?}, expected {expected:?}"));
        }
        self.compare_event(event.ok_or("event is missing")?)
    }

    fn compare_time(&self, text: &str) -> Result<(), String> {
        let digits = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        match split_time(digits) {
            Some(time) if time == (u64::from(self.seconds), self.nanos) => Ok(()),
            _ => Err(format!("time is {text}, expected {}.{:09}", self.seconds, self.nanos)),
        }
    }

    /// Compares with the event alone; the error says what differs.
    pub fn compare_event(&self, text: &str) -> Result<Fidelity, String> {
        if text == self.event_text() {
            return Ok(Fidelity::Exact);
        }
        let members = members(text).ok_or("the event is not an object")?;
        if members.len() != self.event.len() {
            return Err(format!("the event has {} keys, expected {}", members.len(), self.event.len()));
        }
        for (member, (key, value)) in members.iter().zip(&self.event) {
            let (found_key, found) = (member.key(), json::string(member.value));
            if found_key.as_ref() != Some(key) {
                return Err(format!("key {}, expected {key:?}", member.raw_key()));
            }
            if found.as_ref() != Some(value) {
                return Err(format!("{key:?} is {}, expected {:?}", clip(member.value), clip(value)));
            }
        }
        Ok(Fidelity::Equivalent)
    }
}

/// Compares stored envelopes with the payload that they came from.
#[derive(Debug)]
pub struct Checker {
    payload: Payload,
    metadata: Metadata,
    /// The last group of each shard; logs arrive in order as a rule.
    groups: BTreeMap<u32, (u64, LogGroup)>,
}

impl Checker {
    /// A checker for a payload that was forwarded with these settings.
    pub const fn new(payload: Payload, metadata: Metadata) -> Self {
        Self { payload, metadata, groups: BTreeMap::new() }
    }

    /// Compares one stored envelope with the log of this number.
    pub fn check(&mut self, seq: Seq, envelope: &str) -> Result<Fidelity, String> {
        let (index, offset) = self.payload.locate(seq.number);
        if self.groups.get(&seq.shard).is_none_or(|(cached, _)| *cached != index) {
            if self.groups.len() >= MAX_CACHED {
                self.groups.clear();
            }
            self.groups.insert(seq.shard, (index, self.payload.group(seq.shard, index)));
        }
        let Some((_, group)) = self.groups.get(&seq.shard) else { return Err("no group".to_owned()) };
        let log = group.logs.get(offset).ok_or("no such log")?;
        Expected::new(group, log, &self.metadata).compare(envelope).map_err(|why| format!("{seq}: {why}"))
    }
}

/// The number of a stored event: from its `seq` field, or from its time for a log without one.
pub fn identify(envelope: &str, payload: Option<&Payload>) -> Option<Seq> {
    let members = members(envelope)?;
    let find = |name: &str| members.iter().find(|member| member.key().as_deref() == Some(name));
    let raw = find("event")?.value;
    // `event = "string"` carries the object as text.
    let inner = json::string(raw);
    if let Some(seq) = seq_in(inner.as_deref().unwrap_or(raw)) {
        return Some(seq);
    }
    let (seconds, nanos) = split_time(find("time")?.value.trim_matches('"'))?;
    payload?.number_by_time(seconds, nanos)
}

fn seq_in(event: &str) -> Option<Seq> {
    let members = members(event)?;
    let member = members.iter().find(|member| member.key().as_deref() == Some("seq"))?;
    Seq::parse(json::string(member.value)?.as_bytes())
}

/// Seconds and nanoseconds of a decimal literal with up to nine digits behind the point.
pub fn split_time(text: &str) -> Option<(u64, u32)> {
    let (seconds, fraction) = text.split_once('.').map_or((text, None), |(whole, part)| (whole, Some(part)));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(seconds) {
        return None;
    }
    let nanos = match fraction {
        None => 0,
        Some(part) if digits(part) && part.len() <= 9 => format!("{part:0<9}").parse().ok()?,
        Some(_) => return None,
    };
    Some((seconds.parse().ok()?, nanos))
}

fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Groups kept; beyond it all are made again.
const MAX_CACHED: usize = 256;
