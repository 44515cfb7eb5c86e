//! One line of a dead letter file.
//!
//! Why: people read these with jq and feed them to other tools, so the line is plain JSON that says everything: the
//! record as it was sent, why it was refused, and where it came from.
//! Invariants: 1. `event` is byte for byte what was sent (as base64 where it is not UTF-8). 2. a line has no line break
//!  inside. Bounds: one record. Driven by: the writer, and `book` for reading.
//! Spec: README.md, dead letter.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::proto::event::{DeadLetter, HecAnswer, Refusal};
use crate::proto::time::UnixTime;

/// Whose records these are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Project of SLS.
    pub project: String,
    /// Logstore.
    pub logstore: String,
    /// Table of the sink.
    pub sink: String,
}

/// A line.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Record<'a> {
    /// When it was written, RFC 3339.
    pub time: Cow<'a, str>,
    /// Name of the pipeline.
    pub pipeline: Cow<'a, str>,
    /// Table of the sink that refused it.
    pub sink: Cow<'a, str>,
    /// Project of SLS.
    pub project: Cow<'a, str>,
    /// Logstore.
    pub logstore: Cow<'a, str>,
    /// Shard.
    pub shard: u32,
    /// Cursor of the pull that brought it.
    pub cursor: Cow<'a, str>,
    /// Its number in that pull.
    pub index: u32,
    /// Why, in a few words.
    pub reason: Cow<'a, str>,
    /// As received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<Response<'a>>,
    /// The record as it was sent, without the end of its line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Cow<'a, str>>,
    /// The same where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_base64: Option<Cow<'a, str>>,
}

/// What the sink answered.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Response<'a> {
    /// HTTP status, or code of RELP.
    pub status: u16,
    /// `code` of HEC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// Text of the answer, cut.
    pub text: Cow<'a, str>,
    /// `invalid-event-number` of HEC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid_event_number: Option<u64>,
}

impl Record<'_> {
    /// The bytes that were sent; `None` for a line that holds neither form.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match (&self.event, &self.event_base64) {
            (Some(text), _) => Some(text.as_bytes().to_vec()),
            (None, Some(text)) => STANDARD.decode(text.as_bytes()).ok(),
            (None, None) => None,
        }
    }

    /// Names the record, whichever line it stands in: after a crash it can be written twice.
    pub fn name(&self) -> String {
        let Self { pipeline, project, logstore, shard, cursor, index, .. } = self;
        format!("{pipeline}/{project}/{logstore}/{shard}/{cursor}/{index}")
    }
}

/// Appends the line of a refused record.
pub(super) fn line(out: &mut Vec<u8>, now: UnixTime, origin: &Origin, letter: &DeadLetter) {
    let bytes = letter.bytes.strip_suffix(b"\n").unwrap_or(&letter.bytes);
    let text = std::str::from_utf8(bytes).ok();
    let (reason, response) = reason(&letter.record.refusal, letter.record.index.as_deref());
    let record = Record {
        time: time(now).into(),
        pipeline: origin.pipeline.as_str().into(),
        sink: origin.sink.as_str().into(),
        project: origin.project.as_str().into(),
        logstore: origin.logstore.as_str().into(),
        shard: letter.shard.0,
        cursor: letter.record.cursor.as_str().into(),
        index: letter.record.number,
        reason: reason.into(),
        response,
        event: text.map(Into::into),
        event_base64: text.is_none().then(|| STANDARD.encode(bytes).into()),
    };
    // Plain strings and numbers always serialize, and a Vec takes everything.
    if serde_json::to_writer(&mut *out, &record).is_ok() {
        out.push(b'\n');
    }
}

fn reason<'a>(refusal: &'a Refusal, index: Option<&str>) -> (String, Option<Response<'a>>) {
    match refusal {
        Refusal::Hec(HecAnswer { status, code, text, invalid_event, .. }) => {
            let reason = match (code, index) {
                (Some(7), Some(index)) => format!("index {index:?} is refused"),
                (Some(code), _) => format!("HEC code {code}: {text}"),
                (None, _) => format!("HTTP {status}"),
            };
            let response = Response {
                status: *status,
                code: *code,
                text: text.as_str().into(),
                invalid_event_number: *invalid_event,
            };
            (reason, Some(response))
        }
        Refusal::Relp { code, text } => {
            let response = Response { status: *code, text: text.as_str().into(), ..Response::default() };
            (format!("RELP {code}: {text}"), Some(response))
        }
        Refusal::Oversize { bytes } => (format!("{bytes} bytes are more than max_message_bytes"), None),
    }
}

/// RFC 3339 in UTC, to the millisecond.
fn time(now: UnixTime) -> String {
    let millis = i64::try_from(now.0 / 1_000_000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).map(|time| time.to_string()).unwrap_or_default()
}
