use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::proto::sls::wire::scan;

/// The schema once more, from prost: bytes where it says string, which is the same on the wire.
mod schema {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Pair {
        #[prost(bytes = "vec", required, tag = "1")]
        pub(super) key: Vec<u8>,
        #[prost(bytes = "vec", required, tag = "2")]
        pub(super) value: Vec<u8>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Log {
        #[prost(uint32, required, tag = "1")]
        pub(super) time: u32,
        #[prost(message, repeated, tag = "2")]
        pub(super) contents: Vec<Pair>,
        #[prost(fixed32, optional, tag = "4")]
        pub(super) nanos: Option<u32>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Group {
        #[prost(message, repeated, tag = "1")]
        pub(super) logs: Vec<Log>,
        #[prost(bytes = "vec", optional, tag = "3")]
        pub(super) topic: Option<Vec<u8>>,
        #[prost(bytes = "vec", optional, tag = "4")]
        pub(super) source: Option<Vec<u8>>,
        #[prost(message, repeated, tag = "6")]
        pub(super) tags: Vec<Pair>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct List {
        #[prost(message, repeated, tag = "1")]
        pub(super) groups: Vec<Group>,
    }
}
use schema::{Group, List, Log as Record, Pair};

fn template(text: &str) -> Template {
    Template::parse(text).unwrap()
}

fn encode_all(params: HecParams, body: &[u8], limit: usize) -> (String, Encoded, Vec<usize>) {
    let mut encoder = HecEncoder::new(params);
    let (mut at, mut out, mut total, mut frames) =
        (Position::default(), Vec::new(), Encoded::default(), Vec::new());
    let cursor = Cursor::new("MTc2\"cursor==");
    let context = RecordContext { shard: ShardId(7), cursor: &cursor };
    while !total.body_done {
        let mut frame = Vec::new();
        let one = encoder.encode(body, &mut at, u32::MAX, limit, &context, &mut frame).unwrap();
        total.records += one.records;
        total.invalid_utf8 += one.invalid_utf8;
        total.body_done = one.body_done;
        frames.push(frame.len());
        out.extend(frame);
        assert_eq!(at.record_index, total.records);
        assert!(one.records > 0 || one.body_done, "a call makes progress");
    }
    (String::from_utf8(out).unwrap(), total, frames)
}

/// The straightforward way: text, `serde_json` for each string.
fn reference(list: &List) -> (String, u32) {
    let mut invalid_records = 0;
    let mut lines = String::new();
    for group in &list.groups {
        for log in &group.logs {
            let mut bad = false;
            let mut text = |bytes: &[u8]| {
                bad |= core::str::from_utf8(bytes).is_err();
                serde_json::to_string(&String::from_utf8_lossy(bytes)).unwrap()
            };
            let topic = group.topic.clone().unwrap_or_default();
            let source = group.source.clone().unwrap_or_default();
            let mut line = format!("{{\"time\":{}", log.time);
            if let Some(nanos @ 1..1_000_000_000) = log.nanos {
                line += format!(".{nanos:09}").trim_end_matches('0');
            }
            if !source.is_empty() {
                line = format!("{line},\"host\":{}", text(&source));
            }
            let mut members = Vec::new();
            if !topic.is_empty() {
                members.push(format!("\"__topic__\":{}", text(&topic)));
            }
            if !source.is_empty() {
                members.push(format!("\"__source__\":{}", text(&source)));
            }
            for tag in &group.tags {
                let key = [b"__tag__:", &tag.key[..]].concat();
                members.push(format!("{}:{}", text(&key), text(&tag.value)));
            }
            for pair in &log.contents {
                members.push(format!("{}:{}", text(&pair.key), text(&pair.value)));
            }
            lines = format!("{lines}{line},\"event\":{{{}}}}}\n", members.join(","));
            invalid_records += u32::from(bad);
        }
    }
    (lines, invalid_records)
}

fn default_params() -> HecParams {
    HecParams { host: template("{__source__}"), ..HecParams::default() }
}

fn nasty() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => "[a-z_]{1,12}".prop_map(String::into_bytes),
        3 => "[ -~]{0,60}".prop_map(String::into_bytes),
        2 => "\\PC{0,20}".prop_map(String::into_bytes),
        2 => "(\\{\"[a-z]{1,4}\":\"[a-z]{0,9}\"\\}){0,6}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(0u8..0x23, 0..40),
        1 => Just(Vec::new()),
        1 => (1usize..12_000).prop_map(|length| b"long \"\xe4\xb8\x96\" ".repeat(length / 10)),
    ]
}

fn pair() -> impl Strategy<Value = Pair> {
    let key = prop_oneof![
        5 => prop::sample::select(vec!["status", "request_uri", "k", "k", "", "a_key_of_exactly_28_bytes___", "a_key_that_is_longer_than_any_shape"])
            .prop_map(|key| key.as_bytes().to_vec()),
        1 => nasty(),
    ];
    (key, nasty()).prop_map(|(key, value)| Pair { key, value })
}

fn record() -> impl Strategy<Value = Record> {
    let nanos = prop_oneof![
        Just(None),
        Just(Some(0)),
        Just(Some(5)),
        Just(Some(120_000_000)),
        Just(Some(999_999_999)),
        Just(Some(1_000_000_000)),
        any::<u32>().prop_map(Some),
    ];
    let time = prop_oneof![4 => Just(1_700_000_000), 1 => any::<u32>()];
    (time, prop::collection::vec(pair(), 0..8), nanos).prop_map(|(time, contents, nanos)| Record {
        time,
        contents,
        nanos,
    })
}

fn list() -> impl Strategy<Value = List> {
    let group = (
        prop::collection::vec(record(), 0..6),
        prop::option::of(nasty()),
        prop::option::of(nasty()),
        prop::collection::vec(pair(), 0..3),
    )
        .prop_map(|(logs, topic, source, tags)| Group { logs, topic, source, tags });
    prop::collection::vec(group, 0..4).prop_map(|groups| List { groups })
}

/// Writes the same list in another way: fields in an order drawn from `seed`, unknown fields and earlier values of
/// scalars in between, lengths and numbers as padded varints.
struct Odd(u64);

impl Odd {
    fn draw(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % below
    }

    fn varint(&mut self, mut value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let byte = (value & 0x7f) as u8;
            value >>= 7;
            if value == 0 && (out.len() > 6 || self.draw(8) != 0) {
                out.push(byte);
                return out;
            }
            out.push(byte | 0x80);
        }
    }

    fn bytes(&mut self, number: u8, value: &[u8]) -> Vec<u8> {
        let length = self.varint(value.len() as u64);
        [&[number << 3 | 2][..], &length, value].concat()
    }

    /// Joins fields; `groups` of fields keep their inner order, the groups are interleaved at random.
    fn mix(&mut self, mut groups: Vec<Vec<Vec<u8>>>) -> Vec<u8> {
        groups.push(vec![vec![0x78, 0x80, 1], vec![0x9d, 1, 1, 2, 3, 4]]);
        groups.push(vec![vec![0x71, 1, 2, 3, 4, 5, 6, 7, 8], vec![0x7a, 3, 0x25, 9, 9]]);
        let mut out = Vec::new();
        while !groups.is_empty() {
            let pick = self.draw(groups.len());
            if groups[pick].is_empty() {
                groups.swap_remove(pick);
            } else {
                out.extend(groups[pick].remove(0));
            }
        }
        out
    }

    fn pair(&mut self, number: u8, pair: &Pair) -> Vec<u8> {
        let keys = vec![self.bytes(1, b"earlier"), self.bytes(1, &pair.key)];
        let values = vec![self.bytes(2, b""), self.bytes(2, &pair.value)];
        let message = self.mix(vec![keys, values]);
        self.bytes(number, &message)
    }

    fn list(&mut self, list: &List) -> Vec<u8> {
        let mut groups = Vec::new();
        for group in &list.groups {
            let mut logs = Vec::new();
            for log in &group.logs {
                let contents = log.contents.iter().map(|pair| self.pair(2, pair)).collect();
                let secs = [vec![0x08, 1], [vec![0x08], self.varint(u64::from(log.time))].concat()].to_vec();
                let mut nanos = Vec::new();
                if let Some(value) = log.nanos {
                    nanos.push(vec![0x25, 7, 7, 7, 7]);
                    nanos.push([&[0x25][..], &value.to_le_bytes()].concat());
                }
                let message = self.mix(vec![contents, secs, nanos]);
                logs.push(self.bytes(1, &message));
            }
            let mut scalar = |number, value: &Option<Vec<u8>>| match value {
                Some(value) => vec![self.bytes(number, b"earlier"), self.bytes(number, value)],
                None => Vec::new(),
            };
            let (topic, source) = (scalar(3, &group.topic), scalar(4, &group.source));
            let tags = group.tags.iter().map(|tag| self.pair(6, tag)).collect();
            let message = self.mix(vec![logs, topic, source, tags]);
            groups.push(self.bytes(1, &message));
        }
        self.mix(vec![groups])
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Law: what prost and serde_json make of a body in the plain way is what the encoder writes.
    #[test]
    fn equals_the_straightforward_way(list in list(), limit in 0usize..20_000) {
        let (expected, invalid) = reference(&list);
        let (text, encoded, _) = encode_all(default_params(), &list.encode_to_vec(), limit);
        prop_assert_eq!(&text, &expected);
        prop_assert_eq!(encoded.invalid_utf8, invalid);
        prop_assert_eq!(text.lines().count(), encoded.records as usize);
        for line in text.lines() {
            prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(line).is_ok());
        }
    }

    /// Law: the order and padding of fields, unknown fields and overwritten scalars change nothing.
    #[test]
    fn odd_writers_give_the_same_frames(list in list(), seed in any::<u64>()) {
        let body = Odd(seed).list(&list);
        prop_assert_eq!(List::decode(&body[..]).unwrap(), list.clone(), "prost agrees");
        let (expected, _) = reference(&list);
        let (text, encoded, _) = encode_all(default_params(), &body, 1 << 20);
        prop_assert_eq!(text, expected);
        prop_assert_eq!(scan(&body).unwrap().records, encoded.records);
    }

    /// Law: every kernel writes the same.
    #[test]
    fn kernels_agree(list in list(), seed in any::<u64>()) {
        for body in [list.encode_to_vec(), Odd(seed).list(&list)] {
            let expected = reference(&list).0;
            for kernel in Kernel::all() {
                let mut encoder = HecEncoder::new(default_params());
                encoder.kernel = kernel;
                let cursor = Cursor::default();
                let context = RecordContext { shard: ShardId(0), cursor: &cursor };
                let mut out = Vec::new();
                for _ in 0..2 {
                    out.clear();
                    let mut at = Position::default();
                    encoder.encode(&body, &mut at, u32::MAX, usize::MAX, &context, &mut out).unwrap();
                    prop_assert_eq!(core::str::from_utf8(&out).unwrap(), &expected, "{:?}", kernel);
                }
            }
        }
    }

    /// Law: broken bytes give an error or records, never a panic or half a record.
    #[test]
    fn broken_bodies_end_behind_a_whole_record(list in list(), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut body = list.encode_to_vec();
        prop_assume!(!body.is_empty());
        for (index, value) in flips {
            let index = index.index(body.len());
            body[index] = value;
        }
        let mut encoder = HecEncoder::new(default_params());
        let cursor = Cursor::default();
        let context = RecordContext { shard: ShardId(0), cursor: &cursor };
        let (mut at, mut out) = (Position::default(), Vec::new());
        let result = encoder.encode(&body, &mut at, u32::MAX, usize::MAX, &context, &mut out);
        let text = String::from_utf8(out).unwrap();
        prop_assert_eq!(text.lines().count(), at.record_index as usize);
        let whole = text.is_empty() || text.ends_with("}\n");
        prop_assert!(whole);
        if result.is_err() {
            let again = encoder.encode(&body, &mut at, u32::MAX, usize::MAX, &context, &mut Vec::new());
            prop_assert_eq!(again, result, "the same record fails again");
        }
    }
}

fn one_group(logs: Vec<Record>) -> List {
    let tags = vec![Pair { key: b"__hostname__".to_vec(), value: b"h1".to_vec() }];
    List {
        groups: vec![Group {
            logs,
            topic: Some(b"nginx".to_vec()),
            source: Some(b"10.0.0.1".to_vec()),
            tags,
        }],
    }
}

fn log(time: u32, nanos: Option<u32>, contents: &[(&str, &str)]) -> Record {
    let contents = contents
        .iter()
        .map(|(key, value)| Pair { key: key.as_bytes().to_vec(), value: value.as_bytes().to_vec() })
        .collect();
    Record { time, contents, nanos }
}

#[test]
fn the_default_event() {
    let list = one_group(vec![
        log(1_700_000_000, Some(123_456_789), &[("level", "info"), ("msg", "a \"b\"\n"), ("level", "warn")]),
        log(1_700_000_001, Some(1_200), &[]),
    ]);
    let (text, encoded, _) = encode_all(default_params(), &list.encode_to_vec(), usize::MAX);
    let head = r#""host":"10.0.0.1","event":{"__topic__":"nginx","__source__":"10.0.0.1","__tag__:__hostname__":"h1""#;
    let expected = format!(
        "{{\"time\":1700000000.123456789,{head},\"level\":\"info\",\"msg\":\"a \\\"b\\\"\\n\",\"level\":\"warn\"}}}}\n\
         {{\"time\":1700000001.0000012,{head}}}}}\n"
    );
    assert_eq!(text, expected);
    assert_eq!(encoded, Encoded { records: 2, invalid_utf8: 0, body_done: true, ..Encoded::default() });
}

#[test]
fn metadata_fields_and_ids() {
    let params = HecParams {
        index: template("main"),
        sourcetype: template("sls_{__topic__}"),
        source: template("{file}"),
        host: template("{__tag__:__hostname__}"),
        fields: vec![
            ("env".into(), template("prod \"1\"")),
            ("lvl".into(), template("{level}")),
            ("none".into(), template("{__tag__:absent}")),
        ],
        event_id: Some("p/l".into()),
        ..HecParams::default()
    };
    let list =
        one_group(vec![log(5, None, &[("file", "/a\\b"), ("level", "info")]), log(6, None, &[("x", "y")])]);
    let (text, ..) = encode_all(params, &list.encode_to_vec(), usize::MAX);
    let group = r#""__topic__":"nginx","__source__":"10.0.0.1","__tag__:__hostname__":"h1""#;
    let meta = r#""host":"h1","sourcetype":"sls_nginx","index":"main""#;
    let first = format!(
        r#"{{"time":5,{meta},"source":"/a\\b","event":{{{group},"file":"/a\\b","level":"info"}},"fields":{{"env":"prod \"1\"","lvl":"info","event_id":"p/l/7/MTc2\"cursor==/0"}}}}"#
    );
    let second = format!(
        r#"{{"time":6,{meta},"event":{{{group},"x":"y"}},"fields":{{"env":"prod \"1\"","event_id":"p/l/7/MTc2\"cursor==/1"}}}}"#
    );
    assert_eq!(text, format!("{first}\n{second}\n"));
}

fn audit(value: &str) -> Vec<u8> {
    let logs = vec![log(5, Some(7), &[("event", value), ("other", "{}")])];
    let group = Group { logs, topic: Some(b"actiontrail_audit_event".to_vec()), ..Group::default() };
    List { groups: vec![group] }.encode_to_vec()
}

#[test]
fn nested_json_is_spliced_and_stays_on_its_line() {
    let json_fields = vec![("actiontrail_audit_event".to_owned(), vec!["event".to_owned()])];
    let params = || HecParams { json_fields: json_fields.clone(), ..HecParams::default() };
    let event = |value: &str| {
        let (text, encoded, _) = encode_all(params(), &audit(value), usize::MAX);
        assert_eq!((text.lines().count(), encoded.records), (1, 1));
        let head = r#"{"time":5.000000007,"event":{"__topic__":"actiontrail_audit_event","event":"#;
        let rest = text.strip_prefix(head).unwrap().strip_suffix(",\"other\":\"{}\"}}\n").unwrap();
        rest.to_owned()
    };
    assert_eq!(event("{\"b\": 1.0,\r\n \"a\": \"\\n世\"}"), "{\"b\": 1.0,   \"a\": \"\\n世\"}");
    assert_eq!(event("[1, null]"), "[1, null]");
    assert_eq!(event("not json {"), "\"not json {\"");
    assert_eq!(event("{\"a\":1} trailing"), "\"{\\\"a\\\":1} trailing\"");
    assert_eq!(event(""), "\"\"");
    assert_eq!(event("\"raw\nnewline\""), "\"\\\"raw\\nnewline\\\"\"");
}

#[test]
fn raw_events_are_one_field_or_the_object() {
    let params = HecParams { event: EventForm::Raw("msg".into()), ..HecParams::default() };
    let list = List {
        groups: vec![Group {
            logs: vec![
                log(5, Some(1), &[("msg", "old"), ("msg", "a\nb")]),
                log(6, None, &[("msg", ""), ("k", "v")]),
            ],
            topic: Some(b"t".to_vec()),
            ..Group::default()
        }],
    };
    let (text, ..) = encode_all(params, &list.encode_to_vec(), usize::MAX);
    assert_eq!(
        text,
        "{\"time\":5.000000001,\"event\":\"a\\nb\"}\n\
         {\"time\":6,\"event\":{\"__topic__\":\"t\",\"msg\":\"\",\"k\":\"v\"}}\n"
    );
}

/// The events that the vendor's sample sent, byte for byte.
#[test]
fn the_vendor_sample_s_text() {
    use base64::Engine as _;
    let sample = include_str!("../../../../tests/golden/sls/sample_splunk_output.json");
    let sample: serde_json::Value = serde_json::from_str(sample).unwrap();
    let body = sample["input_protobuf_base64"].as_str().unwrap();
    let body = base64::engine::general_purpose::STANDARD.decode(body).unwrap();
    let params = HecParams {
        event: EventForm::String,
        json_fields: vec![("actiontrail_audit_event".into(), vec!["event".into()])],
        ..HecParams::default()
    };
    let (text, ..) = encode_all(params, &body, usize::MAX);
    let requests = sample["runs"][0]["requests"].as_array().unwrap();
    assert_eq!((text.lines().count(), requests.len()), (5, 5));
    for (line, request) in text.lines().zip(requests) {
        let theirs = request["body"].as_str().unwrap();
        let theirs = theirs.strip_prefix("{\"event\": ").unwrap();
        let (theirs, _) = theirs.rsplit_once(", \"time\"").unwrap();
        let (_, ours) = line.split_once(",\"event\":").unwrap();
        assert_eq!(ours.strip_suffix('}').unwrap(), theirs);
    }
}

#[test]
fn sample_text_keeps_the_place_of_the_first_and_the_value_of_the_last() {
    let tags = vec![Pair { key: b"a".to_vec(), value: b"tag".to_vec() }];
    let contents =
        [("k", "1"), ("__tag__:a", "content"), ("k", "2\u{7f}😀"), ("__time__", "99"), ("__topic__", "t2")];
    let group = Group { logs: vec![log(5, None, &contents)], topic: Some(b"t".to_vec()), source: None, tags };
    let body = List { groups: vec![group] }.encode_to_vec();
    let (text, ..) =
        encode_all(HecParams { event: EventForm::String, ..HecParams::default() }, &body, usize::MAX);
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    let expected = "{\"__topic__\": \"t2\", \"__source__\": \"\", \"__tag__:a\": \"content\", \
                    \"k\": \"2\\u007f\\ud83d\\ude00\"}";
    assert_eq!(line["event"], expected);
}

#[test]
fn a_tag_that_is_named_like_a_json_field_is_no_such_field() {
    let tags = vec![Pair { key: b"event".to_vec(), value: b"[1]".to_vec() }];
    let topic = Some(b"t".to_vec());
    let group = Group { logs: vec![log(5, None, &[("event", "[2]")])], topic, source: None, tags };
    let body = List { groups: vec![group] }.encode_to_vec();
    let params = |event| HecParams {
        event,
        json_fields: vec![("t".into(), vec!["event".into()])],
        ..HecParams::default()
    };
    let (object, ..) = encode_all(params(EventForm::Object), &body, usize::MAX);
    assert!(object.contains("\"__tag__:event\":\"[1]\",\"event\":[2]"), "{object}");
    let (text, ..) = encode_all(params(EventForm::String), &body, usize::MAX);
    assert!(text.contains("\\\"__tag__:event\\\": \\\"[1]\\\", \\\"event\\\": [2]"), "{text}");
}

#[test]
fn fields_that_all_render_empty_are_left_out() {
    for name in ["{absent}", "{__tag__:absent}"] {
        let params = HecParams { fields: vec![("f".into(), template(name))], ..HecParams::default() };
        let list = List { groups: vec![Group { logs: vec![log(5, None, &[])], ..Group::default() }] };
        let (text, ..) = encode_all(params, &list.encode_to_vec(), usize::MAX);
        assert_eq!(text, "{\"time\":5,\"event\":{}}\n", "{name}");
    }
}

#[test]
fn frames_end_at_the_limit_and_at_the_asked_record() {
    let list = one_group((0..100).map(|index| log(index, None, &[("k", "v")])).collect());
    let body = list.encode_to_vec();
    let (whole, total, frames) = encode_all(default_params(), &body, usize::MAX);
    assert_eq!((total.records, frames.len()), (100, 1));
    let (cut, total, frames) = encode_all(default_params(), &body, 1_000);
    assert_eq!((total.records, &cut), (100, &whole));
    assert!(frames.len() > 5 && frames.iter().rev().skip(1).all(|&bytes| (1_000..1_200).contains(&bytes)));
    let (cut, ..) = encode_all(default_params(), &body, 0);
    assert_eq!(cut, whole);

    let lines: Vec<_> = whole.lines().collect();
    let mut encoder = HecEncoder::new(default_params());
    let cursor = Cursor::default();
    let context = RecordContext { shard: ShardId(0), cursor: &cursor };
    let (mut at, mut out) = (Position::default(), Vec::new());
    assert_eq!(at.skip(&body, 40), Ok(40));
    let some = encoder.encode(&body, &mut at, 43, usize::MAX, &context, &mut out).unwrap();
    assert_eq!(some, Encoded { records: 3, invalid_utf8: 0, body_done: false, ..Encoded::default() });
    assert_eq!(core::str::from_utf8(&out).unwrap().trim_end(), lines[40..43].join("\n"));
    let none = encoder.encode(&body, &mut at, 43, usize::MAX, &context, &mut out).unwrap();
    assert_eq!(none.records, 0);
    let rest = encoder.encode(&body, &mut at, 100, usize::MAX, &context, &mut out).unwrap();
    assert_eq!(rest, Encoded { records: 57, invalid_utf8: 0, body_done: true, ..Encoded::default() });
}

#[test]
fn truncated_at_every_byte() {
    let list = one_group(vec![
        log(1_700_000_000, Some(5), &[("level", "info"), ("msg", &"x".repeat(150))]),
        log(1_700_000_000, None, &[("level", "世界"), ("msg", "\"\"")]),
    ]);
    let body = list.encode_to_vec();
    let mut encoder = HecEncoder::new(default_params());
    let cursor = Cursor::default();
    let context = RecordContext { shard: ShardId(0), cursor: &cursor };
    for end in 0..body.len() {
        let (mut at, mut out) = (Position::default(), Vec::new());
        let result = encoder.encode(&body[..end], &mut at, u32::MAX, usize::MAX, &context, &mut out);
        assert_eq!(result.is_err(), end > 0, "the one group is cut at {end}");
        // Cut inside the log: the group's length is repaired, so that the log itself is what is broken.
        let mut repaired = vec![0x0a];
        let inner = &body[3..];
        let inner = &inner[..end.min(inner.len())];
        prost::encoding::encode_varint(inner.len() as u64, &mut repaired);
        repaired.extend(inner);
        let (mut at, mut out) = (Position::default(), Vec::new());
        let _ = encoder.encode(&repaired, &mut at, u32::MAX, usize::MAX, &context, &mut out);
        assert_eq!(memchr::memchr_iter(b'\n', &out).count(), at.record_index as usize);
        assert!(out.is_empty() || out.ends_with(b"}\n"));
    }
}
