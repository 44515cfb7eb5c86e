use super::expect::{Checker, Expected, Fidelity, Metadata, identify, split_time};
use super::*;
use crate::payload::{Log, LogGroup, Profile};

fn seq(shard: u32, number: u64) -> Seq {
    Seq { shard, number }
}

#[test]
fn a_complete_run_is_exact() {
    let mut seen = Seen::default();
    for number in 0..200_000 {
        assert_eq!(seen.record(seq(0, number)), Arrival::InOrder);
        assert_eq!(seen.record(seq(7, number)), Arrival::InOrder);
    }
    let sent = "0=200000,7=200000".parse().expect("counts");
    let verdict = seen.verdict(Some(&sent), None);
    assert!(verdict.is_exact(), "{verdict:?}");
    assert_eq!((verdict.sent, verdict.stored_unique), (Some(400_000), 400_000));
}

#[test]
fn every_kind_of_fault_is_counted_as_itself() {
    let mut seen = Seen::default();
    for number in [0, 1, 2, 5, 4, 4, 100_000, 70_000] {
        seen.record(seq(1, number));
    }
    seen.record(seq(2, 0));
    seen.record(seq(5000, 0));
    seen.record(seq(0, 1 << 40));
    let verdict = seen.verdict(Some(&Sent([(1, 8)].into())), None);
    assert_eq!(verdict.lost, 3);
    assert_eq!(verdict.missing, ["1-3", "1-6", "1-7"]);
    assert_eq!(verdict.duplicates, 1);
    assert_eq!(verdict.out_of_order, 2);
    // Two beyond the count, one of a shard that sent nothing, two that nobody can have sent.
    assert_eq!(verdict.unexpected, 5);
    assert!(!verdict.is_complete());
    let assumed = seen.verdict(None, None);
    assert_eq!((assumed.sent, assumed.lost), (None, 100_001 - 7));
}

#[test]
fn one_lost_log_among_many_is_found() {
    let mut seen = Seen::default();
    for number in (0..300_000).filter(|number| *number != 65_536 * 3) {
        seen.record(seq(0, number));
    }
    let verdict = seen.verdict(Some(&Sent::even(1, 300_000)), None);
    assert_eq!((verdict.lost, verdict.missing), (1, vec!["0-196608".to_owned()]));
}

#[test]
fn logs_without_a_number_are_not_lost_where_they_cannot_be_seen() {
    let payload = Payload::new(Profile::Nasty, 1);
    let mut seen = Seen::default();
    for number in (0..1000).filter(|number| payload.is_numbered(*number)) {
        seen.record(seq(0, number));
    }
    let sent = Sent::even(1, 1000);
    assert!(seen.verdict(Some(&sent), Some(&payload)).is_exact());
    assert_eq!(seen.verdict(Some(&sent), None).lost, 10);
}

#[test]
fn sent_reads_both_forms() {
    assert_eq!("2x5".parse::<Sent>().expect("short form"), Sent([(0, 5), (1, 5)].into()));
    assert_eq!("3=1, 4=2".parse::<Sent>().expect("long form").total(), 3);
    for bad in ["x", "1", "a=1", "1=b", "5000x1"] {
        assert!(bad.parse::<Sent>().is_err(), "{bad}");
    }
}

#[test]
fn time_is_read_as_digits() {
    assert_eq!(split_time("1700000000"), Some((1_700_000_000, 0)));
    assert_eq!(split_time("1700000000.1"), Some((1_700_000_000, 100_000_000)));
    assert_eq!(split_time("1700000000.000000001"), Some((1_700_000_000, 1)));
    for bad in ["", ".", "1.", ".5", "-1", "1e9", "1.0000000001", "1.2.3", "+1", " 1"] {
        assert_eq!(split_time(bad), None, "{bad}");
    }
}

fn envelope(group: &LogGroup, log: &Log, change: impl Fn(String) -> String) -> String {
    let expected = Expected::new(group, log, &Metadata::default());
    let host = match group.source.as_deref().map(String::from_utf8_lossy) {
        Some(host) if !host.is_empty() => format!("\"host\":{},", serde_json::Value::from(host)),
        _ => String::new(),
    };
    let time = format!("{}.{:09}", log.time, log.time_ns.unwrap_or(0));
    change(format!("{{\"time\":{time},{host}\"event\":{}}}", expected.event_text()))
}

#[test]
fn every_nasty_log_agrees_with_itself_and_is_identified() {
    let payload = Payload::new(Profile::Nasty, 11);
    let mut checker = Checker::new(payload, Metadata::default());
    for index in 0..10 {
        let group = payload.group(2, index);
        for (offset, log) in group.logs.iter().enumerate() {
            let seq = seq(2, index * 100 + offset as u64);
            let text = envelope(&group, log, |text| text);
            assert_eq!(identify(&text, Some(&payload)), Some(seq));
            assert_eq!(checker.check(seq, &text), Ok(Fidelity::Exact));
            let spaced = envelope(&group, log, |text| text.replacen("\"event\":{", "\"event\": { ", 1));
            assert_eq!(checker.check(seq, &spaced), Ok(Fidelity::Equivalent));
        }
    }
}

/// A name, and what it does to an envelope.
type Change = (&'static str, fn(String) -> String);

#[test]
fn a_single_changed_thing_is_a_mismatch() {
    let payload = Payload::new(Profile::Utf8, 1);
    let group = payload.group(0, 0);
    let log = &group.logs[0];
    let mut checker = Checker::new(payload, Metadata::default());
    let changes: [Change; 8] = [
        ("value", |text| text.replacen("主机-01\",\"__tag__", "主机-02\",\"__tag__", 1)),
        ("key", |text| text.replacen("emoji", "emojj", 1)),
        ("time", |text| text.replacen("\"time\":17", "\"time\":18", 1)),
        ("host", |text| text.replacen("\"host\":\"主机-01\"", "\"host\":\"x\"", 1)),
        ("extra", |text| text.replacen("\"time\"", "\"index\":\"main\",\"time\"", 1)),
        ("unknown", |text| text.replacen("\"time\"", "\"tyme\":1,\"time\"", 1)),
        ("repeat", |text| text.replacen("\"emoji\"", "\"emoji\":\"\",\"emoji\"", 1)),
        ("no time", |text| format!("{{{}", &text[text.find("\"host\"").expect("host")..])),
    ];
    assert_eq!(checker.check(seq(0, 0), &envelope(&group, log, |text| text)), Ok(Fidelity::Exact));
    for (name, change) in changes {
        let text = envelope(&group, log, change);
        assert_ne!(text, envelope(&group, log, |text| text), "{name} changes something");
        assert!(checker.check(seq(0, 0), &text).is_err(), "{name}");
    }
    assert!(checker.check(seq(0, 1), &envelope(&group, log, |text| text)).is_err(), "another log");
}

#[test]
fn broken_utf8_becomes_one_replacement_per_sequence() {
    let content = |key: &'static [u8], value: &'static [u8]| crate::payload::Content {
        key: key.into(),
        value: value.into(),
    };
    let log = Log {
        time: 1,
        time_ns: None,
        contents: vec![
            content(b"k\xFF", b"a\xE2\x82b\xF0\x9F\x98"),
            content(b"k", b"1"),
            content(b"k", b"2"),
        ],
    };
    let group = LogGroup { topic: Some(bytes::Bytes::from_static(b"\x80")), ..LogGroup::default() };
    let expected = Expected::new(&group, &log, &Metadata::default());
    let text = "{\"__topic__\":\"\u{fffd}\",\"k\u{fffd}\":\"a\u{fffd}b\u{fffd}\",\"k\":\"1\",\"k\":\"2\"}";
    assert_eq!(expected.event_text(), text);
}

#[test]
fn a_text_event_is_identified_too() {
    let envelope = r#"{"time":"1","event":"{\"__topic__\": \"t\", \"seq\": \"3-4\"}"}"#;
    assert_eq!(identify(envelope, None), Some(seq(3, 4)));
    assert_eq!(identify(r#"{"event":"plain"}"#, None), None);
}
