//! What a log must look like as a syslog message, made the plain way.
//!
//! Why: an expectation that shares code with the forwarder would share its mistakes. Where a rule leaves a choice (how
//! a byte outside of PRINTUSASCII is replaced), only what has no choice is compared; the grammar is checked anyway.
//! Invariants: 1. the time is the log's, cut to the digits shown. 2. host name and app name are source and topic where
//! these can stand as they are. 3. a body has the keys and values of the log, in order, and of its time what the header
//! does not show.   Bounds: one log.
//! Driven by: `store`, for messages whose number is known.   Spec: contract.md, `[syslog]`; syslog.md 1.

use std::collections::BTreeMap;

use super::kv;
use super::parsed::Parsed;
use crate::payload::{LogGroup, Payload, Seq};
use crate::verify::expect::{Expected, Fidelity, Metadata};

/// What the messages come from.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// The logs.
    pub payload: Payload,
    /// Whether HOSTNAME and APP-NAME are source and topic, as by default.
    pub header: bool,
    /// What the bodies are written in.
    pub body: Body,
}

/// What a body is written in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// An object of the log's fields.
    Json,
    /// `key=value` pairs between this separator.
    Kv(String),
    /// Something that is not compared.
    Any,
}

impl Expectation {
    /// Logs of this payload, forwarded as JSON with the usual header.
    pub const fn new(payload: Payload) -> Self {
        Self { payload, header: true, body: Body::Json }
    }
}

/// How well a message agrees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Agreement {
    /// The body is the log, byte for byte as `serde_json` writes it.
    Exact,
    /// The same keys and values in the same order, with other escapes or white space.
    Equivalent,
    /// The body is the beginning of the log, and then something that says so.
    Cut,
    /// The header agrees; the body is in a form that is not compared.
    HeaderOnly,
}

/// Compares messages with the payload that they came from.
#[derive(Debug)]
pub(super) struct Checker {
    expectation: Expectation,
    /// The last group of each shard; logs arrive in order as a rule.
    groups: BTreeMap<u32, (u64, LogGroup)>,
}

impl Checker {
    pub(super) const fn new(expectation: Expectation) -> Self {
        Self { expectation, groups: BTreeMap::new() }
    }

    /// Compares one message with the log of this number.
    pub(super) fn check(&mut self, seq: Seq, message: &Parsed<'_>) -> Result<Agreement, String> {
        let payload = self.expectation.payload;
        let (index, offset) = payload.locate(seq.number);
        if self.groups.get(&seq.shard).is_none_or(|(cached, _)| *cached != index) {
            if self.groups.len() >= MAX_CACHED {
                self.groups.clear();
            }
            self.groups.insert(seq.shard, (index, payload.group(seq.shard, index)));
        }
        let Some((_, group)) = self.groups.get(&seq.shard) else { return Err("no group".to_owned()) };
        compare(group, offset, message, &self.expectation).map_err(|why| format!("{seq}: {why}"))
    }
}

fn compare(
    group: &LogGroup,
    offset: usize,
    message: &Parsed<'_>,
    expectation: &Expectation,
) -> Result<Agreement, String> {
    let log = group.logs.get(offset).ok_or("no such log")?;
    let nanos = log.time_ns.unwrap_or(0);
    let mut expected = Expected::new(group, log, &Metadata::default());
    let shown_step = match message {
        Parsed::Rfc5424(message) => {
            let stamp = message.stamp.ok_or("the timestamp is nil")?;
            if !stamp.is_of(log.time, nanos) {
                return Err(format!("the timestamp is {stamp:?}, expected {} and {nanos} ns", log.time));
            }
            (stamp.digits..9).fold(1, |step, _| step * 10)
        }
        Parsed::Rfc3164(_) => {
            expected = expected.with_member("__time__", log.time.to_string());
            1_000_000_000
        }
    };
    if nanos % shown_step != 0 {
        expected = expected.with_member("__time_ns_part__", nanos.to_string());
    }
    if expectation.header {
        field("HOSTNAME", group.source.as_deref(), message.hostname(), 255)?;
        let longest = if matches!(message, Parsed::Rfc5424(_)) { 48 } else { 0 };
        field("APP-NAME", group.topic.as_deref(), message.app_name(), longest)?;
    }
    match &expectation.body {
        Body::Any => Ok(Agreement::HeaderOnly),
        Body::Json => compare_json(&expected, message.body()),
        Body::Kv(separator) => compare_kv(&expected, message.body(), separator),
    }
}

fn compare_json(expected: &Expected, body: &[u8]) -> Result<Agreement, String> {
    let text = std::str::from_utf8(body).map_err(|why| why.to_string())?;
    match expected.compare_event(text) {
        Ok(Fidelity::Exact) => Ok(Agreement::Exact),
        Ok(Fidelity::Equivalent) => Ok(Agreement::Equivalent),
        Err(_) if is_beginning(&expected.event_text(), text) => Ok(Agreement::Cut),
        Err(why) => Err(why),
    }
}

fn compare_kv(expected: &Expected, body: &[u8], separator: &str) -> Result<Agreement, String> {
    let text = std::str::from_utf8(body).map_err(|why| why.to_string())?;
    let pairs = kv::pairs(text, separator)?;
    for (at, (found, wanted)) in pairs.iter().zip(expected.pairs()).enumerate() {
        let is_last = at + 1 == pairs.len();
        let is_cut = is_last && found.0 == wanted.0 && is_beginning(&wanted.1, &found.1);
        if found != wanted && !is_cut {
            return Err(format!("pair {at} is {found:?}, expected {wanted:?}"));
        }
        if is_cut {
            return Ok(Agreement::Cut);
        }
    }
    if pairs.len() != expected.pairs().len() {
        return Err(format!("{} pairs, expected {}", pairs.len(), expected.pairs().len()));
    }
    Ok(Agreement::Exact)
}

/// A header field against the value that it comes from, where that value can stand there as it is.
fn field(name: &str, wanted: Option<&[u8]>, found: Option<&str>, longest: usize) -> Result<(), String> {
    let wanted = wanted.unwrap_or_default();
    let is_plain = wanted.iter().all(|byte| (33..=126).contains(byte)) && wanted != b"-";
    if wanted.is_empty()
        || !is_plain
        || wanted.len() > longest
        || found.is_some_and(|found| found.as_bytes() == wanted)
    {
        return Ok(());
    }
    Err(format!("{name} is {found:?}, expected {:?}", String::from_utf8_lossy(wanted)))
}

/// Whether a long text is the beginning of this one and a short rest.
fn is_beginning(whole: &str, text: &str) -> bool {
    let same = whole.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
    text.len() < whole.len() && same + MARK_BYTES >= text.len() && same > MARK_BYTES
}

/// Groups kept; beyond it all are made again.
const MAX_CACHED: usize = 256;
/// What may stand behind a text that was cut.
const MARK_BYTES: usize = 64;
