//! The JSON that SLS answers with, and the heads of its pulls: no number is guessed, no text of a peer reaches a
//! terminal unwashed.

use std::collections::BTreeSet;

use serde_json::Value;
use sls2siem::proto::ids::{CURSOR_BYTES_MAX, Cursor};
use sls2siem::proto::sls::api::answer::{self, AnswerError};
use sls2siem::proto::sls::api::pull_head::PullHead;
use sls2siem::proto::sls::error::{Reaction, SlsError, SlsErrorKind};
use sls2siem::proto::time::UnixTime;

use super::input::Input;

/// A status and whether there are headers, then the body of an answer.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let status = 100 + input.u16() % 500;
    let headers: Vec<(String, String)> = (0..input.byte() % 12)
        .map(|_| {
            let name = input.pick(&NAMES).to_owned();
            (name, String::from_utf8_lossy(input.chunk()).into_owned())
        })
        .collect();
    let header =
        |name: &'static str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let body = input.rest();
    answers(body);
    error(&SlsError::parse(status, header, body));
    if let Ok(head) = PullHead::read(&header, &Cursor::new("asked")) {
        let cursor = head.next_cursor.as_str();
        assert!(!cursor.is_empty() && cursor.len() <= CURSOR_BYTES_MAX);
        assert!(cursor.bytes().all(|byte| byte.is_ascii_graphic()), "{cursor:?}");
        assert_eq!(header("x-log-count").and_then(|text| text.parse().ok()), Some(head.count));
        assert_eq!(header("x-log-bodyrawsize").and_then(|text| text.parse().ok()), Some(head.raw_size));
        washed(&head.request_id, 64);
    }
}

const NAMES: [&str; 10] = [
    "x-log-cursor",
    "x-log-count",
    "x-log-bodyrawsize",
    "x-log-compresstype",
    "x-log-cursor-time",
    "x-log-end-of-cursor",
    "x-log-read-last-cursor",
    "x-log-rawdatasize",
    "x-log-requestid",
    "date",
];

fn answers(body: &[u8]) {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    let items = json.as_ref().and_then(Value::as_array);
    let number = |value: &Value| value.as_u64().filter(|number| u32::try_from(*number).is_ok());
    if let Some(shards) = told(answer::heartbeat(body)) {
        let expected: Option<BTreeSet<u64>> = items.unwrap().iter().map(number).collect();
        let expected: Vec<u64> = expected.expect("each is a number").into_iter().collect();
        assert_eq!(shards.iter().map(|shard| u64::from(shard.0)).collect::<Vec<_>>(), expected);
    }
    if let Some(shards) = told(answer::shards(body)) {
        assert_eq!(shards.len(), items.unwrap().len());
        assert!(shards.is_sorted_by_key(|shard| shard.id));
        let ids: BTreeSet<u64> = shards.iter().map(|shard| u64::from(shard.id.0)).collect();
        for item in items.unwrap() {
            let id = item.get("shardID").or_else(|| item.get("shardId")).and_then(number);
            assert!(ids.contains(&id.expect("a number")));
        }
    }
    if let Some(checkpoints) = told(answer::checkpoints(body)) {
        for (checkpoint, item) in checkpoints.iter().zip(items.unwrap()) {
            assert_eq!(item.get("shard").and_then(number), Some(checkpoint.shard.0.into()));
            let text = item.get("checkpoint").and_then(Value::as_str).unwrap_or("");
            assert_eq!(checkpoint.cursor.as_str(), text);
            carried(text);
        }
    }
    if let Some(cursor) = told(answer::cursor(body)) {
        assert_eq!(json.as_ref().unwrap()["cursor"], cursor.as_str());
        assert!(!cursor.is_empty());
        carried(cursor.as_str());
    }
    if let Some(groups) = told(answer::groups(body)) {
        assert_eq!(groups.len(), items.unwrap().len());
    }
    told(answer::cursor_time(body));
    told(answer::logstore(body));
}

/// The answer; or its error, which fits into a line.
fn told<T>(answer: Result<T, AnswerError>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(error) => {
            washed(&error.body, 100);
            assert!(error.to_string().len() < 2_000, "{error}");
            None
        }
    }
}

/// A request can carry it.
fn carried(cursor: &str) {
    assert!(
        cursor.len() <= CURSOR_BYTES_MAX && cursor.bytes().all(|byte| byte.is_ascii_graphic()),
        "{cursor:?}"
    );
}

fn washed(text: &str, chars_max: usize) {
    assert!(text.chars().count() <= chars_max, "{} characters", text.chars().count());
    let bad = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    assert!(!text.contains(bad), "{text:?}");
}

fn error(error: &SlsError) {
    washed(&error.code, 64);
    washed(&error.message, 300);
    washed(&error.request_id, 64);
    // Nothing but a lost lease or an old cursor gives data up.
    let gives_up = matches!(error.reaction(), Reaction::DropShard | Reaction::NewCursor);
    let knows = matches!(
        error.kind(),
        SlsErrorKind::ConsumerGone
            | SlsErrorKind::ConsumerNotMatch
            | SlsErrorKind::ShardGone
            | SlsErrorKind::InvalidCursor
    );
    assert!(gives_up == knows && (!gives_up || !error.code.is_empty()), "{error}");
    error.skew(UnixTime::from_secs(1_767_323_000));
}
