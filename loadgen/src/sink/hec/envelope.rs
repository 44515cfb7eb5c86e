//! Takes a body apart into event envelopes, as far as splunkd would.
//!
//! Why: splunkd indexes while it parses: what stands before the first bad object is kept, the rest is not, and which
//! object it names is what a sender must act on.
//! Invariants: 1. objects before the refused one are accepted, none behind it. 2. An unknown key ends the body
//! silently. 3. Code 7 names the object behind the bad one.   Bounds: one parsed object at a time.
//! Driven by: `collector`, with a whole body.   Spec: hec.md 3, 4, 5. Departures: a JSON array is refused (current
//! versions may take it; senders should not count on it); an envelope key that stands twice or is not a string where
//! one is wanted is code 6; a time is digits with a fraction, no exponent.

use serde_json::Value;

use crate::verify::json::{members, skip_space};

/// What a body may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) max_event_bytes: usize,
    /// Indexes that may be named; empty allows all.
    pub(super) indexes: &'a [String],
}

/// What became of a body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome<'a> {
    /// Envelopes to store, as text.
    pub(super) accepted: Vec<&'a str>,
    /// Objects with `fields` and no event: taken and not stored.
    pub(super) skipped: usize,
    /// Why it ended early, if it did.
    pub(super) end: Option<End>,
}

/// Why a body ended before its last byte.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Answered with this code and `invalid-event-number`.
    Refused { code: u8, number: usize },
    /// Answered as if all were well.
    UnknownKey(String),
}

/// Parses a body up to its first bad object.
pub(super) fn parse<'a>(body: &'a [u8], rules: Rules<'_>) -> Outcome<'a> {
    let (text, is_utf8) = match std::str::from_utf8(body) {
        Ok(text) => (text, true),
        Err(why) => (
            body.get(..why.valid_up_to()).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or(""),
            false,
        ),
    };
    let mut outcome = Outcome::default();
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let mut start = skip_space(text.as_bytes(), 0);
    let mut number = 0;
    while let Some(value) = values.next() {
        let (Ok(Value::Object(_)), Some(object)) = (&value, text.get(start..values.byte_offset())) else {
            outcome.end = Some(End::Refused { code: 6, number });
            return outcome;
        };
        match judge(object, rules) {
            Judgement::Store => outcome.accepted.push(object),
            Judgement::Skip => outcome.skipped += 1,
            Judgement::Refuse(7) => outcome.end = Some(End::Refused { code: 7, number: number + 1 }),
            Judgement::Refuse(code) => outcome.end = Some(End::Refused { code, number }),
            Judgement::Stop(key) => outcome.end = Some(End::UnknownKey(key)),
        }
        if outcome.end.is_some() {
            return outcome;
        }
        number += 1;
        start = skip_space(text.as_bytes(), values.byte_offset());
    }
    if !is_utf8 {
        outcome.end = Some(End::Refused { code: 6, number });
    }
    outcome
}

enum Judgement {
    Store,
    Skip,
    Refuse(u8),
    Stop(String),
}

fn judge(object: &str, rules: Rules<'_>) -> Judgement {
    let Some(members) = members(object) else { return Judgement::Refuse(6) };
    let mut found: [Option<&str>; KEYS.len()] = [None; KEYS.len()];
    for member in &members {
        let key = member.key().unwrap_or_default();
        let slot = KEYS.iter().position(|known| *known == key).and_then(|at| found.get_mut(at));
        match slot {
            None => return Judgement::Stop(key),
            Some(Some(_)) => return Judgement::Refuse(6),
            Some(slot) => *slot = Some(member.value),
        }
    }
    let [time, host, source, sourcetype, index, event, fields] = found;
    let is_text = |value: Option<&str>| value.is_none_or(|value| value.starts_with('"'));
    if !time.is_none_or(is_time) || ![host, source, sourcetype, index].into_iter().all(is_text) {
        return Judgement::Refuse(6);
    }
    match event {
        None if fields.is_some() => return Judgement::Skip,
        None => return Judgement::Refuse(12),
        Some("null" | "\"\"") => return Judgement::Refuse(13),
        Some(event) if event.len() > rules.max_event_bytes => return Judgement::Refuse(6),
        Some(_) => {}
    }
    if !fields.is_none_or(are_flat) {
        return Judgement::Refuse(15);
    }
    let index = index.and_then(crate::verify::json::string).filter(|index| !index.is_empty());
    match index {
        Some(index) if !rules.indexes.is_empty() && !rules.indexes.contains(&index) => Judgement::Refuse(7),
        _ => Judgement::Store,
    }
}

/// A number or a numeric string: digits, and a fraction if there is one.
fn is_time(text: &str) -> bool {
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let text = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, part)| (whole, Some(part)));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole) && fraction.is_none_or(digits)
}

/// Indexed fields: an object of strings, numbers, booleans, or arrays of strings.
fn are_flat(text: &str) -> bool {
    let Ok(Value::Object(fields)) = serde_json::from_str::<Value>(text) else { return false };
    fields.values().all(|value| match value {
        Value::String(_) | Value::Number(_) | Value::Bool(_) => true,
        Value::Array(items) => items.iter().all(Value::is_string),
        Value::Null | Value::Object(_) => false,
    })
}

const KEYS: [&str; 7] = ["time", "host", "source", "sourcetype", "index", "event", "fields"];

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"time":1.5,"host":"h","event":{"a":1}}"#;

    fn parsed(body: &[u8]) -> (usize, usize, Option<End>) {
        let indexes = ["main".to_owned()];
        let outcome = parse(body, Rules { max_event_bytes: 100, indexes: &indexes });
        (outcome.accepted.len(), outcome.skipped, outcome.end)
    }

    fn refused(code: u8, number: usize) -> End {
        End::Refused { code, number }
    }

    #[test]
    fn accepts_the_envelopes_of_the_protocol() {
        for good in [
            GOOD,
            r#"{"event":"text"}"#,
            r#"{"event":0}"#,
            r#"{"event":false}"#,
            r#"{"event":[]}"#,
            r#"{"event":{}}"#,
            r#"{"time":"1700000000.123456789","event":"x"}"#,
            r#"{"time":0,"event":"x","fields":{"a":"b","c":1,"d":["e","f"]}}"#,
            r#"{"event":"x","index":"main"}"#,
            r#"{"event":"x","index":""}"#,
            r#"{ "event" : "x" , "source":"s","sourcetype":"t" }"#,
        ] {
            assert_eq!(parsed(good.as_bytes()), (1, 0, None), "{good}");
        }
        assert_eq!(parsed(format!("{GOOD}{GOOD} \n{GOOD}\n").as_bytes()), (3, 0, None));
        assert_eq!(parsed(br#"{"fields":{"a":1}}"#), (0, 1, None));
        assert_eq!(parsed(b" \n "), (0, 0, None));
    }

    #[test]
    fn every_refusal_names_its_object_and_keeps_the_prefix() {
        for (bad, code) in [
            ("{", 6),
            ("x", 6),
            ("[]", 6),
            ("1", 6),
            (r#"{"event":"x""#, 6),
            (r#"{"event":"\ud800"}"#, 6),
            (r#"{"event":1e999}"#, 6),
            (r#"{"time":true,"event":"x"}"#, 6),
            (r#"{"time":1e9,"event":"x"}"#, 6),
            (r#"{"time":"now","event":"x"}"#, 6),
            (r#"{"time":"","event":"x"}"#, 6),
            (r#"{"host":1,"event":"x"}"#, 6),
            (r#"{"event":"x","event":"y"}"#, 6),
            (r#"{"time":1}"#, 12),
            ("{}", 12),
            (r#"{"event":null}"#, 13),
            (r#"{"event":""}"#, 13),
            (r#"{"event":"x","fields":{"a":{"b":1}}}"#, 15),
            (r#"{"event":"x","fields":"a"}"#, 15),
            (r#"{"event":"x","fields":{"a":[1]}}"#, 15),
        ] {
            assert_eq!(parsed(bad.as_bytes()), (0, 0, Some(refused(code, 0))), "{bad} alone");
            let body = format!("{GOOD}{GOOD}{bad}");
            assert_eq!(parsed(body.as_bytes()), (2, 0, Some(refused(code, 2))), "{bad} behind two");
        }
        let wrong_index = format!("{GOOD}{{\"event\":\"x\",\"index\":\"other\"}}{GOOD}");
        assert_eq!(parsed(wrong_index.as_bytes()), (1, 0, Some(refused(7, 2))), "one too high");
        let long = format!("{GOOD}{{\"event\":\"{}\"}}", "x".repeat(100));
        assert_eq!(parsed(long.as_bytes()), (1, 0, Some(refused(6, 1))));
    }

    #[test]
    fn unknown_key_ends_the_body_silently() {
        let body = format!("{GOOD}{{\"tyme\":1,\"event\":\"x\"}}{GOOD}");
        assert_eq!(parsed(body.as_bytes()), (1, 0, Some(End::UnknownKey("tyme".to_owned()))));
    }

    #[test]
    fn bytes_that_are_not_utf8_refuse_their_object() {
        for bad in [&b"\xFF"[..], b"{\"event\":\"\xC3\"}", b"{\"event\":\"\xED\xA0\x80\"}"] {
            let body = [GOOD.as_bytes(), bad, GOOD.as_bytes()].concat();
            assert_eq!(parsed(&body), (1, 0, Some(refused(6, 1))));
        }
    }

    #[test]
    fn every_truncation_of_the_last_object_is_code_6() {
        for end in 1..GOOD.len() {
            let body = format!("{GOOD}{}", &GOOD[..end]);
            assert_eq!(parsed(body.as_bytes()), (1, 0, Some(refused(6, 1))), "{body}");
        }
    }
}
