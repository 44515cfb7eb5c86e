//! Logs whose every field a receiver could get wrong, and what it should make of them.

use loadgen::payload::{Content, Log, LogGroup, LogTag, Seq};
use loadgen::verify::expect::{Expected, Fidelity, Metadata};
use prost::bytes::Bytes;

use crate::output::Event;

/// Logs of one shard: numbers 0 to `count`, in groups of ten.
pub(crate) fn groups(shard: u32, count: u64) -> Vec<LogGroup> {
    (0..count.div_ceil(GROUP_LOGS))
        .map(|index| {
            let first = index * GROUP_LOGS;
            let logs = (first..count.min(first + GROUP_LOGS)).map(|number| log(Seq { shard, number }, &[]));
            group(shard, logs.collect())
        })
        .collect()
}

/// One group with the header fields of its shard.
pub(crate) fn group(shard: u32, logs: Vec<Log>) -> LogGroup {
    LogGroup {
        logs,
        topic: Some(Bytes::from_static(TOPIC.as_bytes())),
        source: Some(source(shard).into()),
        log_tags: vec![LogTag {
            key: Bytes::from_static(b"__hostname__"),
            value: Bytes::from_static("web \"1\" [größer]\\".as_bytes()),
        }],
        ..LogGroup::default()
    }
}

/// One log with these fields behind the usual ones.
pub(crate) fn log(seq: Seq, more: &[(&'static str, Vec<u8>)]) -> Log {
    let text = TEXTS[usize::try_from(seq.number).unwrap() % TEXTS.len()];
    let (level, _) = level(seq);
    let fields = [("seq", seq.to_string().into_bytes()), ("level", level.into()), ("text", text.to_vec())];
    let contents = fields
        .into_iter()
        .chain(more.iter().cloned())
        .map(|(key, value)| Content { key: Bytes::from_static(key.as_bytes()), value: value.into() });
    Log {
        time: TIME + u32::try_from(seq.number).unwrap(),
        contents: contents.collect(),
        time_ns: seq.number.is_multiple_of(3).then_some(123_456_000),
    }
}

/// What the emulator's source of a shard is.
pub(crate) fn source(shard: u32) -> String {
    format!("10.20.30.{shard}")
}

/// Word and severity of a log.
pub(crate) fn level(seq: Seq) -> (&'static str, u64) {
    let levels = [("error", 3), ("WARN", 4), ("info", 6), ("debug", 7), ("critical", 2), ("strange", 6)];
    levels[usize::try_from(seq.number).unwrap() % levels.len()]
}

/// Whether the daemon read every field as it was meant.
pub(crate) fn check(event: &Event, group: &LogGroup, log: &Log) {
    let seq = event.seq().unwrap_or_else(|| panic!("{event:?}"));
    assert_eq!(event.text("host"), source(seq.shard), "{event:?}");
    assert_eq!(event.text("app"), TOPIC, "{event:?}");
    assert_eq!(event.text("msgid"), format!("m{}", level(seq).0), "{event:?}");
    assert_eq!(event.number("facility"), Some(16), "local0: {event:?}");
    assert_eq!(event.number("severity"), Some(level(seq).1), "{event:?}");
    let data = format!("[sls@32473 level=\"{}\" web=\"web \\\"1\\\" [größer\\]\\\\\"]", level(seq).0);
    assert_eq!(event.text("sdata"), data, "{event:?}");
    check_time(event.text("stamp"), log);
    let expected = Expected::new(group, log, &Metadata::default());
    assert_eq!(expected.compare_event(event.text("msg")), Ok(Fidelity::Exact), "{event:?}");
}

/// `…T03:00:45.123456Z`, or without the fraction, which is all that syslog-ng's macro shows.
fn check_time(stamp: &str, log: &Log) {
    let seconds = log.time % 86_400;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let shown = format!("2026-01-02T{hour:02}:{minute:02}:{second:02}");
    let rest = stamp.strip_prefix(&shown).unwrap_or_else(|| panic!("{stamp}, expected {shown}"));
    let fraction = format!(".{:06}", log.time_ns.unwrap_or(0) / 1000);
    let rest = rest.strip_prefix(&fraction).unwrap_or(rest);
    assert!(matches!(rest, "Z" | "+00:00"), "{stamp}, expected {shown}{fraction}");
}

pub(crate) const TOPIC: &str = "nginx-access";
/// 2026-01-02T03:00:45Z, and less than a day on.
const TIME: u32 = 1_767_322_845;
const GROUP_LOGS: u64 = 10;

/// Values that break parsers of lines, of structured data and of JSON.
const TEXTS: [&[u8]; 12] = [
    b"plain",
    b"line\nfeed and\r\nreturn",
    b"nul \0 in the middle",
    b"invalid \xFF\xFE utf-8 \xE2\x82",
    b"\"quoted\" \\ ] [x@1 y=\"z\"]",
    "emoji 😀 汉字 é".as_bytes(),
    b"",
    b"<13>1 2026-01-01T00:00:00Z other app - - - a message in the message",
    b"7 <13>1 - x",
    b"ends with a feed\n",
    b"\t\x0B\x1B[31mcontrol\x7F",
    b"||k=v||{\"a\":1}",
];
