//! What a frame looks like, and that every frame is by the letter of its standard.

mod bodies;
mod events;
mod golden;
mod grammar;
mod laws;
mod texts;

use self::bodies::{Group, Record, body, one, pair};
use self::grammar::{Parsed, parse, part, unframe};
use super::*;
use crate::proto::format::template::Template;
use crate::proto::ids::{Cursor, ShardId};

fn template(text: &str) -> Template {
    Template::parse(text).unwrap()
}

fn params() -> SyslogParams {
    SyslogParams {
        hostname: template("{__source__}"),
        app_name: template("{__topic__}"),
        ..SyslogParams::default()
    }
}

/// All frames of a body, one after another.
fn encode(params: &SyslogParams, body: &[u8], limit: usize) -> (Vec<Vec<u8>>, Encoded) {
    let mut encoder = SyslogEncoder::new(params.clone()).unwrap();
    let cursor = Cursor::new("MTc2cursor==");
    let context = RecordContext { shard: ShardId(7), cursor: &cursor };
    let (mut at, mut total, mut frames) = (Position::default(), Encoded::default(), Vec::new());
    while !total.body_done {
        let mut frame = Vec::new();
        let one = encoder.encode(body, &mut at, u32::MAX, limit, &context, &mut frame).unwrap();
        total.records += one.records;
        total.invalid_utf8 += one.invalid_utf8;
        total.oversize |= one.oversize;
        total.body_done = one.body_done;
        assert_eq!(at.record_index, total.records);
        assert!(one.records > 0 || one.body_done || one.before_oversize, "a call makes progress");
        frames.push(if one.oversize { framed(params.framing, &frame) } else { frame });
    }
    (frames, total)
}

/// A message that was written without framing, as if it were sent.
fn framed(framing: Framing, message: &[u8]) -> Vec<u8> {
    let mut frame = match framing {
        Framing::OctetCounting => format!("{} ", message.len()).into_bytes(),
        Framing::Newline => Vec::new(),
        Framing::Marked => [&u32::try_from(message.len()).unwrap().to_le_bytes()[..], &[1]].concat(),
    };
    frame.extend_from_slice(message);
    if framing == Framing::Newline {
        frame.push(b'\n');
    }
    frame
}

/// The messages of a body, with newline framing: as text.
fn lines(params: SyslogParams, body: &[u8]) -> String {
    let params = SyslogParams { framing: Framing::Newline, ..params };
    String::from_utf8(encode(&params, body, 1 << 20).0.concat()).unwrap()
}

fn parsed(params: &SyslogParams, body: &[u8]) -> Vec<Parsed> {
    let frames = encode(params, body, 1 << 20).0;
    let messages = frames.iter().flat_map(|frame| unframe(params.framing, frame));
    messages.map(|(message, _)| parse(params.header, message)).collect()
}

#[test]
fn one_log_in_each_framing() {
    let body = one(Record::new(&[("level", "warn"), ("msg", "a \"b\"\n")]).nanos(120_000_000));
    let message = "<14>1 2026-01-02T03:03:21.120000Z 10.0.0.1 web - - - \
        {\"__topic__\":\"web\",\"__source__\":\"10.0.0.1\",\"__tag__:__hostname__\":\"h1\",\
        \"level\":\"warn\",\"msg\":\"a \\\"b\\\"\\n\"}";
    assert_eq!(lines(params(), &body), format!("{message}\n"));
    let counted = encode(&params(), &body, 1).0.concat();
    assert_eq!(String::from_utf8(counted).unwrap(), format!("{} {message}", message.len()));
    let marked = encode(&SyslogParams { framing: Framing::Marked, ..params() }, &body, 1).0.concat();
    assert_eq!(unframe(Framing::Marked, &marked), [(message.as_bytes(), true)]);
}

#[test]
fn nanoseconds_that_the_header_cannot_show_stand_in_the_object() {
    let body = one(Record::new(&[("k", "v")]).nanos(123_456_789));
    let line = lines(params(), &body);
    assert!(line.contains("03:03:21.123456Z"), "{line}");
    assert!(line.contains(",\"__time_ns_part__\":\"123456789\",\"k\":\"v\"}"), "{line}");
    let line = lines(SyslogParams { header: HeaderForm::Rfc3164, ..params() }, &body);
    assert!(line.contains("\"__time__\":\"1767323001\",\"__time_ns_part__\":\"123456789\","), "{line}");
}

#[test]
fn a_time_in_the_middle_of_a_log_is_found() {
    let record = Record::new(&[("a", "1"), ("b", "2")]).nanos(5_000_000);
    let group = Group { records: vec![record], ..Group::default() };
    let line = lines(params(), &body(&[group], true));
    assert!(
        line.starts_with("<14>1 2026-01-02T03:03:21.005000Z - - - - - {\"a\":\"1\",\"b\":\"2\"}"),
        "{line}"
    );
}

#[test]
fn header_fields_are_cleaned_cut_and_never_empty() {
    let long = "x".repeat(300);
    let body = one(Record::new(&[("h", "my host\n世"), ("long", &long), ("empty", "")]));
    let fields = |text: &str| SyslogParams {
        hostname: template(text),
        app_name: template(text),
        proc_id: template(text),
        msg_id: template(text),
        ..params()
    };
    let all = |text: &str| {
        let one = parsed(&fields(text), &body).remove(0);
        [one.hostname, one.app_name, one.proc_id, one.msg_id]
    };
    assert_eq!(all("{h}"), ["my_host__"; 4].map(str::to_owned));
    assert_eq!(all("{long}").map(|field| field.len()), [255, 48, 128, 32]);
    assert_eq!(all("{empty}"), ["-"; 4].map(str::to_owned));
}

#[test]
fn structured_data_is_grouped_escaped_and_left_out_where_empty() {
    let body = one(Record::new(&[("q", "a\"b\\c]d\n"), ("empty", "")]));
    let with = |data: &[(&str, &[(&str, &str)])]| {
        let element = |(id, params): &(&str, &[(&str, &str)])| {
            let params = params.iter().map(|(name, text)| ((*name).to_owned(), template(text))).collect();
            ((*id).to_owned(), params)
        };
        SyslogParams { structured_data: data.iter().map(element).collect(), ..params() }
    };
    let data: &[(&str, &[(&str, &str)])] = &[
        ("sls@32473", &[("topic", "{__topic__}"), ("none", "{empty}"), ("q", "{q}")]),
        ("gone@32473", &[("none", "{empty}")]),
        ("meta", &[("sequenceId", "1")]),
    ];
    let line = lines(with(data), &body);
    let text = " [sls@32473 topic=\"web\" q=\"a\\\"b\\\\c\\]d\\\\n\"][meta sequenceId=\"1\"] {";
    assert!(line.contains(text), "{line}");
    let counted = parsed(&with(data), &body).remove(0);
    assert_eq!(counted.data[0].1[1], ("q".to_owned(), "a\"b\\c]d\n".to_owned()), "a line break stays");
    assert!(lines(with(&data[1..2]), &body).contains(" - - - {"));
}

#[test]
fn severity_follows_a_field() {
    let severity = |level: &str, map: Vec<(String, u8)>| {
        let params = SyslogParams {
            facility: 23,
            severity: 5,
            severity_field: Some("level".into()),
            severity_map: map,
            ..params()
        };
        let one = parsed(&params, &one(Record::new(&[("level", level)]))).remove(0);
        assert_eq!(one.facility, 23);
        one.severity
    };
    assert_eq!(severity("ERROR", Vec::new()), 3);
    assert_eq!(severity("2", Vec::new()), 2);
    assert_eq!(severity("?", Vec::new()), 5);
    assert_eq!(severity("error", vec![("ERROR".into(), 0)]), 0);
}

#[test]
fn the_old_header() {
    let body = one(Record::new(&[("pid", "12:[a] b"), ("app", "my-app/x 世")]));
    let old = SyslogParams {
        header: HeaderForm::Rfc3164,
        app_name: template("{app}"),
        proc_id: template("{pid}"),
        message: MessageForm::Field("pid".into()),
        utc_offset_secs: -4 * 3_600,
        ..params()
    };
    assert_eq!(lines(old.clone(), &body), "<14>Jan  1 23:03:21 10.0.0.1 myappx[12__a__b]: 12:[a] b\n");
    let bare = SyslogParams { app_name: Template::default(), proc_id: Template::default(), ..old };
    assert_eq!(lines(bare, &body), "<14>Jan  1 23:03:21 10.0.0.1 sls: 12:[a] b\n");
}

#[test]
fn a_byte_order_mark_where_it_is_asked_for() {
    let body = one(Record::new(&[("m", "x")]));
    let params = SyslogParams { bom: true, ..params() };
    assert!(parsed(&params, &body)[0].bom);
    let old = SyslogParams { header: HeaderForm::Rfc3164, ..params };
    assert!(!lines(old, &body).contains('\u{feff}'));
}

#[test]
fn one_field_alone_or_the_object() {
    let field = SyslogParams { message: MessageForm::Field("m".into()), ..params() };
    let text = |value: &str| parsed(&field, &one(Record::new(&[("m", value)]))).remove(0).message;
    assert_eq!(text("a\r\nb\0"), "a\r\nb\0", "octet counting takes any byte");
    assert!(text("").starts_with('{'), "nothing would arrive");
    let line = lines(field, &one(Record::new(&[("m", "a\r\nb\0")])));
    assert!(line.ends_with(" a\\r\\nb\\0\n"), "{line}");
}

#[test]
fn bytes_that_are_no_text_are_counted() {
    let record = Record { contents: vec![pair("k", b"a\xffb")], ..Record::new(&[]) };
    for message in [
        MessageForm::Json,
        MessageForm::Kv("||".into()),
        MessageForm::AliyunKv("||".into()),
        MessageForm::Field("k".into()),
    ] {
        let params = SyslogParams { message, ..params() };
        let (frames, encoded) = encode(&params, &one(record.clone()), 1);
        assert_eq!((encoded.records, encoded.invalid_utf8), (1, 1));
        assert!(String::from_utf8(frames.concat()).unwrap().contains("a\u{fffd}b"));
    }
}

#[test]
fn settings_that_cannot_be_written() {
    let refused = |params: SyslogParams| SyslogEncoder::new(params).unwrap_err();
    assert_eq!(refused(SyslogParams { facility: 24, ..params() }), ParamsError::Facility(24));
    assert_eq!(refused(SyslogParams { severity: 8, ..params() }), ParamsError::Severity(8));
    let map = vec![("x".into(), 9)];
    assert_eq!(refused(SyslogParams { severity_map: map, ..params() }), ParamsError::Severity(9));
    assert_eq!(refused(SyslogParams { utc_offset_secs: 86_400, ..params() }), ParamsError::UtcOffset(86_400));
    assert_eq!(refused(SyslogParams { max_message_bytes: 479, ..params() }), ParamsError::MessageBytes(479));
    let data = |id: &str, name: &str| SyslogParams {
        structured_data: vec![(id.into(), vec![(name.into(), Template::default())])],
        ..params()
    };
    for id in ["", "sls", "sls@", "sls@x", "a b@1", "@1", &format!("{}@1", "x".repeat(31))] {
        assert_eq!(refused(data(id, "x")), ParamsError::SdId(id.into()));
    }
    assert_eq!(refused(data("a@1", "x=")), ParamsError::SdName("x=".into()));
    assert!(SyslogEncoder::new(data("a@32473.1", "x")).is_ok());
    for separator in ["", "a", "=", "\\", "\n", "世", "123456789"] {
        let message = MessageForm::Kv(separator.into());
        assert_eq!(refused(SyslogParams { message, ..params() }), ParamsError::Separator(separator.into()));
    }
}

fn long_log() -> Vec<u8> {
    one(Record::new(&[("m", &"世界\"quoted\"\n".repeat(200))]))
}

#[test]
fn a_long_message_is_cut_visibly() {
    let params = SyslogParams { max_message_bytes: 500, ..params() };
    let one = parsed(&params, &long_log()).remove(0);
    assert!((480..=500).contains(&one.bytes), "{}", one.bytes);
    let object: serde_json::Value = serde_json::from_str(&one.message).unwrap();
    assert!(object["m"].as_str().unwrap().ends_with("…[truncated]"), "{object}");
    let field = SyslogParams { message: MessageForm::Field("m".into()), ..params };
    let one = parsed(&field, &long_log()).remove(0);
    assert!((480..=500).contains(&one.bytes) && one.message.ends_with("…[truncated]"), "{one:?}");
}

#[test]
fn a_long_message_in_parts_is_the_whole_message() {
    for header in [HeaderForm::Rfc5424, HeaderForm::Rfc3164] {
        let whole = SyslogParams { header, max_message_bytes: 100_000, ..params() };
        let split = SyslogParams {
            max_message_bytes: 500,
            oversize: Oversize::Split,
            framing: Framing::Marked,
            ..whole.clone()
        };
        let expected = parsed(&whole, &long_log()).remove(0);
        let (frames, encoded) = encode(&split, &long_log(), 1);
        assert_eq!((frames.len(), encoded.records), (1, 1), "the parts of a record stay together");
        let messages = unframe(Framing::Marked, &frames[0]);
        let mut text = String::new();
        for (index, (message, first)) in messages.iter().enumerate() {
            let one = parse(header, message);
            assert!(one.bytes <= 500 && *first == (index == 0));
            let (number, of, id, piece) = part(&one.message).unwrap();
            assert_eq!((number as usize, of as usize), (index + 1, messages.len()));
            assert_eq!(id, part(&parse(header, messages[0].0).message).unwrap().2);
            text += piece;
            let whole_header = Parsed { message: String::new(), bytes: 0, ..expected.clone() };
            assert_eq!(Parsed { message: String::new(), bytes: 0, ..one }, whole_header);
        }
        assert_eq!(text, expected.message);
    }
}

#[test]
fn the_messages_of_a_record_are_counted() {
    let short = || Record::new(&[("m", "x")]);
    let group = Group {
        records: vec![short(), Record::new(&[("m", &"y".repeat(1_200))]), short()],
        ..Group::default()
    };
    let body = body(&[group], false);
    let params = SyslogParams { max_message_bytes: 500, oversize: Oversize::Split, ..params() };
    let framing = params.framing;
    let mut encoder = SyslogEncoder::new(params).unwrap();
    let cursor = Cursor::new("c");
    let context = RecordContext { shard: ShardId(7), cursor: &cursor };
    let (mut at, mut out) = (Position::default(), Vec::new());
    encoder.encode(&body, &mut at, u32::MAX, 1 << 20, &context, &mut out).unwrap();
    let messages = u32::try_from(unframe(framing, &out).len()).unwrap();
    assert_eq!(encoder.split(), [(1, messages - 2)]);
    assert!(messages > 4);
    let mut at = Position::default();
    encoder.encode(&body, &mut at, 1, 1 << 20, &context, &mut out).unwrap();
    assert_eq!(encoder.split(), [], "of the last call alone");
}

#[test]
fn a_header_longer_than_the_limit_is_shortened_and_nothing_is_lost() {
    let body = one(Record::new(&[("h", &"h".repeat(255)), ("sd", &"]".repeat(2_000)), ("m", "the message")]));
    let wide = SyslogParams {
        hostname: template("{h}"),
        app_name: template("{h}"),
        proc_id: template("{h}"),
        msg_id: template("{h}"),
        message: MessageForm::Field("m".into()),
        structured_data: vec![("a@1".into(), vec![("sd".into(), template("{sd}"))])],
        max_message_bytes: 480,
        ..params()
    };
    let cut = parsed(&wide, &body).remove(0);
    assert_eq!((cut.hostname.len(), cut.message.as_str()), (64, "the message…[truncated]"));
    let split = SyslogParams { oversize: Oversize::Split, ..wide };
    let parts = parsed(&split, &body);
    let text: String = parts.iter().map(|one| part(&one.message).unwrap().3).collect();
    assert!(text.starts_with("<14>1 2026-01-02T03:03:21.000000Z hhh") && text.ends_with("] the message"));
    assert_eq!(text.matches("\\]").count(), 2_000);
}

#[test]
fn a_message_for_the_dead_letter_stands_alone() {
    let short = || Record::new(&[("m", "x")]);
    let long = Record::new(&[("m", &"y".repeat(600))]);
    let group = Group { records: vec![short(), long.clone(), long, short()], ..Group::default() };
    let body = body(&[group], false);
    let params = SyslogParams {
        max_message_bytes: 480,
        oversize: Oversize::DeadLetter,
        framing: Framing::Newline,
        ..params()
    };
    let mut encoder = SyslogEncoder::new(params).unwrap();
    let cursor = Cursor::new("c");
    let context = RecordContext { shard: ShardId(7), cursor: &cursor };
    let mut at = Position::default();
    let mut call =
        |out: &mut Vec<u8>| encoder.encode(&body, &mut at, u32::MAX, 1 << 20, &context, out).unwrap();
    let mut frame = Vec::new();
    let first = call(&mut frame);
    assert_eq!(
        (first.records, first.before_oversize, first.oversize, first.body_done),
        (1, true, false, false)
    );
    let length = frame.len();
    let again = call(&mut frame);
    assert_eq!(
        (again.records, again.before_oversize, frame.len()),
        (0, true, length),
        "it needs an empty frame"
    );
    frame.clear();
    for _ in 0..2 {
        let alone = call(&mut frame);
        assert_eq!((alone.records, alone.oversize, alone.before_oversize), (1, true, false));
        assert!(frame.len() > 600 && frame.starts_with(b"<") && !frame.contains(&b'\n'), "without framing");
        frame.clear();
    }
    let last = call(&mut frame);
    assert_eq!((last.records, last.oversize, last.body_done), (1, false, true));
}

/// `kv` remembers the keys of the log before: logs that look alike, differ at a place, have odd keys or none.
#[test]
fn a_log_is_written_the_same_whatever_came_before_it() {
    let long = vec![b'k'; 300];
    let keys: [&[&[u8]]; 12] = [
        &[b"a", b"b", b"c"],
        &[b"a", b"b", b"c"],
        &[b"b", b"a", b"c"],
        &[b"a"],
        &[],
        &[b"", b"a"],
        &[b"", b"a", b""],
        &[b"a|=", b"b\n"],
        &[b"a|=", b"b\n"],
        &[b"\xff", b"b\n"],
        &[b"\xff", &long],
        &[&long, &long, b"a"],
    ];
    let many: Vec<Vec<u8>> = (0..80).map(|number| format!("key{number}").into_bytes()).collect();
    let many: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
    let keys: Vec<&[&[u8]]> = keys.into_iter().chain([&many[..], &many[..]]).collect();
    let record = |keys: &&[&[u8]]| Record {
        contents: keys.iter().zip(0..).map(|(key, value)| pair(key, format!("{value}|x"))).collect(),
        ..Record::new(&[])
    };
    let records: Vec<Record> = keys.iter().map(record).collect();
    let params = SyslogParams { message: MessageForm::Kv("||".to_owned()), ..params() };
    let group = Group {
        topic: b"web".to_vec(),
        source: b"10.0.0.1".to_vec(),
        tags: vec![pair("__hostname__", "h1")],
        records: records.clone(),
    };
    let alone: Vec<String> = records.into_iter().map(|record| lines(params.clone(), &one(record))).collect();
    assert_eq!(lines(params, &body(&[group], false)), alone.concat());
}
