//! Laws over any records: whatever a log holds, every frame can be taken apart again, and what comes out is what
//! went in.

use proptest::prelude::*;

use super::super::{EventParams, LeefDelimiter};
use super::bodies::{Group, Pair, Record, body, pair};
use super::grammar::{parse, part, unframe};
use super::texts::{Pairs, aliyun_kv, cef, kv, leef};
use super::*;

fn nasty() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        5 => "[a-z_]{1,12}".prop_map(String::into_bytes),
        3 => "[ -~]{0,60}".prop_map(String::into_bytes),
        3 => "[|=\\\\^\\]\\[\" \t\r\n\0a]{0,12}".prop_map(String::into_bytes),
        2 => "\\PC{0,20}".prop_map(String::into_bytes),
        2 => "\\{\"eventName\":\"[a-z\\\\\"]{0,9}\",\"userIdentity\":\\{\"userName\":\"x\"\\}\\}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(0u8..0x23, 0..40),
        1 => Just(Vec::new()),
        1 => (1usize..3_000).prop_map(|length| "long \"世]|=\\ ".repeat(length / 10).into_bytes()),
    ]
}

fn content() -> impl Strategy<Value = Pair> {
    let key = prop_oneof![
        6 => prop::sample::select(vec!["level", "src", "request_uri", "k", "k", "", "event", "__time__", "状态", "rt"])
            .prop_map(|key| key.as_bytes().to_vec()),
        1 => nasty(),
    ];
    (key, nasty()).prop_map(|(key, value)| pair(key, value))
}

fn record() -> impl Strategy<Value = Record> {
    let nanos = prop_oneof![Just(None), Just(Some(5)), Just(Some(120_000_000)), any::<u32>().prop_map(Some)];
    (any::<u32>(), nanos, prop::collection::vec(content(), 0..6)).prop_map(|(secs, nanos, contents)| Record {
        secs,
        nanos,
        contents,
    })
}

fn group() -> impl Strategy<Value = Group> {
    let topic = prop_oneof![
        2 => Just(b"actiontrail_audit_event".to_vec()),
        2 => Just(b"web".to_vec()),
        1 => nasty(),
    ];
    let tags = prop::collection::vec((nasty(), nasty()), 0..3);
    (topic, nasty(), tags, prop::collection::vec(record(), 1..4))
        .prop_map(|(topic, source, tags, records)| Group { topic, source, tags, records })
}

fn event() -> impl Strategy<Value = EventParams> {
    let mapping = prop_oneof![
        Just(Vec::new()),
        Just(vec![
            ("src".to_owned(), template("{src}")),
            ("msg".to_owned(), template("{event.eventName} {k}")),
            ("cs1".to_owned(), template("{__topic__}/{__tag__:a}")),
        ]),
    ];
    let field = || prop::sample::select(vec!["", "{k}", "a|b\\c"]).prop_map(template);
    let delimiter = prop::sample::select(vec!["x09", "^", "x01"]);
    (field(), field(), field(), mapping, any::<bool>(), delimiter).prop_map(
        |(vendor, signature_id, severity, extension, unmapped, delimiter)| EventParams {
            vendor,
            signature_id,
            severity,
            extension,
            unmapped,
            delimiter: delimiter.parse::<LeefDelimiter>().unwrap(),
            ..EventParams::default()
        },
    )
}

fn settings() -> impl Strategy<Value = SyslogParams> {
    let message = prop_oneof![
        2 => Just(MessageForm::Json),
        1 => Just(MessageForm::Kv("||".into())),
        1 => Just(MessageForm::Kv(", ".into())),
        1 => Just(MessageForm::Kv(" ".into())),
        1 => Just(MessageForm::AliyunKv("||".into())),
        1 => Just(MessageForm::Field("k".into())),
        2 => event().prop_map(MessageForm::Cef),
        2 => event().prop_map(MessageForm::Leef),
    ];
    let framing = prop::sample::select(vec![Framing::OctetCounting, Framing::Newline, Framing::Marked]);
    let oversize = prop::sample::select(vec![Oversize::Truncate, Oversize::Split, Oversize::DeadLetter]);
    let precision = prop::sample::select(vec![Precision::Seconds, Precision::Millis, Precision::Micros]);
    let header = prop::sample::select(vec![HeaderForm::Rfc5424, HeaderForm::Rfc3164]);
    let max = prop_oneof![480usize..700, 480usize..5_000, Just(1 << 24)];
    let field = || {
        prop::sample::select(vec![
            "",
            "{k}",
            "{__source__}",
            "{__topic__}-{level}",
            "fix",
            "{event.eventName}",
        ])
        .prop_map(template)
    };
    let data = prop_oneof![
        Just(Vec::new()),
        Just(vec![
            (
                "a@1".to_owned(),
                vec![("t".to_owned(), template("{__topic__}")), ("k".to_owned(), template("{k}"))]
            ),
            ("meta".to_owned(), vec![("x".to_owned(), template("{request_uri}"))]),
        ]),
    ];
    let fixed = (header, framing, message, precision, oversize, max);
    (fixed, (field(), field(), field(), field()), data, (any::<bool>(), any::<bool>(), -86_399i32..86_400))
        .prop_map(|(fixed, fields, structured_data, (bom, follow, utc_offset_secs))| SyslogParams {
            header: fixed.0,
            framing: fixed.1,
            message: fixed.2,
            precision: fixed.3,
            oversize: fixed.4,
            max_message_bytes: fixed.5,
            utc_offset_secs,
            severity_field: follow.then(|| "level".to_owned()),
            severity_map: vec![("k".into(), 1)],
            hostname: fields.0,
            app_name: fields.1,
            proc_id: fields.2,
            msg_id: fields.3,
            structured_data,
            bom,
            ..SyslogParams::default()
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// Law: any record gives a frame by the letter of its standard, no message is too long, no record is missing,
    /// and where frames are cut changes nothing.
    #[test]
    fn any_record_gives_parsable_frames(
        params in settings(),
        groups in prop::collection::vec(group(), 1..3),
        odd: bool,
        limit in 1usize..4_000,
    ) {
        let body = body(&groups, odd);
        let records: usize = groups.iter().map(|group| group.records.len()).sum();
        let (frames, encoded) = encode(&params, &body, 1 << 24);
        prop_assert_eq!(encoded.records as usize, records);
        let bad = |record: &Record, group: &Group| {
            let text = |bytes: &Vec<u8>| core::str::from_utf8(bytes).is_err();
            let pairs = record.contents.iter().chain(&group.tags);
            pairs.into_iter().any(|(key, value)| text(key) || text(value)) || text(&group.topic) || text(&group.source)
        };
        let bad = groups.iter().flat_map(|group| group.records.iter().map(|record| bad(record, group)));
        prop_assert!(encoded.invalid_utf8 as usize <= bad.filter(|bad| *bad).count());
        let mut firsts = 0;
        for frame in &frames {
            let messages = unframe(params.framing, frame);
            for (message, first) in &messages {
                let one = parse(params.header, message);
                if one.bytes > params.max_message_bytes {
                    prop_assert!(params.oversize == Oversize::DeadLetter && messages.len() == 1, "{one:?}");
                }
                let further = part(&one.message).is_some_and(|(number, ..)| params.oversize == Oversize::Split && number > 1);
                prop_assert!(params.framing != Framing::Marked || *first != further, "{one:?}");
                firsts += usize::from(!further);
            }
        }
        prop_assert_eq!(firsts, records);
        let small = encode(&params, &body, limit).0;
        prop_assert_eq!(small.concat(), frames.concat());
    }

    /// Law: what stands in a message is what stood in the log.
    #[test]
    fn messages_give_back_what_was_put_in(
        params in settings(),
        groups in prop::collection::vec(group(), 1..3),
        odd: bool,
    ) {
        let params = SyslogParams { max_message_bytes: 1 << 24, framing: Framing::OctetCounting, ..params };
        let messages = parsed(&params, &body(&groups, odd));
        let records = groups.iter().flat_map(|group| group.records.iter().map(move |record| (group, record)));
        prop_assert_eq!(messages.len(), records.clone().count());
        for (one, (group, record)) in messages.iter().zip(records) {
            let text = &one.message;
            let expected = flat(&params, group, record);
            match &params.message {
                MessageForm::Json => prop_assert_eq!(members(text), expected),
                MessageForm::Kv(separator) => prop_assert_eq!(kv(separator, text), expected),
                MessageForm::AliyunKv(separator) => prop_assert_eq!(text, &aliyun_kv(separator, group, record)),
                MessageForm::Field(name) => {
                    let last = record.contents.iter().rfind(|(key, _)| key == name.as_bytes());
                    if let Some((_, value)) = last.filter(|(_, value)| !value.is_empty()) {
                        prop_assert_eq!(text, &String::from_utf8_lossy(value));
                    } else {
                        prop_assert_eq!(members(text), expected);
                    }
                }
                MessageForm::Cef(event) => {
                    let (header, pairs) = cef(text);
                    prop_assert!(header[5].parse::<u8>().unwrap() <= 10);
                    values_are_there(event, group, record, &pairs, |text| text.replace('\0', " "))?;
                }
                MessageForm::Leef(event) => {
                    let delimiter = event.delimiter.to_string();
                    let delimiter = delimiter.strip_prefix('x').map_or(delimiter.as_str(), |hex| {
                        if hex == "09" { "\t" } else { "\x01" }
                    });
                    let (_, pairs) = leef(text, delimiter);
                    let spaces = |text: &str| text.replace(['\0', '\n', '\r'], " ").replace(delimiter, " ");
                    values_are_there(event, group, record, &pairs, spaces)?;
                }
            }
        }
    }
}

/// Every value that is not blank stands there, where the settings ask for all of them.
fn values_are_there(
    event: &EventParams,
    group: &Group,
    record: &Record,
    pairs: &Pairs,
    written: impl Fn(&str) -> String,
) -> Result<(), TestCaseError> {
    if !event.unmapped || !event.extension.is_empty() {
        return Ok(());
    }
    for (key, value) in &record.contents {
        let text = written(&String::from_utf8_lossy(value));
        let text = text.trim_end_matches(' ');
        let unfolded = group.topic == b"actiontrail_audit_event"
            && key == b"event"
            && value.trim_ascii().starts_with(b"{");
        if !text.is_empty() && !unfolded {
            prop_assert!(pairs.iter().any(|(_, found)| found == text), "{text:?} is missing in {pairs:?}");
        }
    }
    Ok(())
}

/// The members of `json` and `kv`.
fn flat(params: &SyslogParams, group: &Group, record: &Record) -> Pairs {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut pairs = Pairs::new();
    for (key, value) in [("__topic__", &group.topic), ("__source__", &group.source)] {
        if !value.is_empty() {
            pairs.push((key.into(), text(value)));
        }
    }
    pairs.extend(group.tags.iter().map(|(key, value)| (format!("__tag__:{}", text(key)), text(value))));
    let old = params.header == HeaderForm::Rfc3164;
    if old {
        pairs.push(("__time__".into(), record.secs.to_string()));
    }
    let nanos = record.nanos.filter(|nanos| *nanos < 1_000_000_000).unwrap_or(0);
    let digits = match params.precision {
        _ if old => 0,
        Precision::Seconds => 0,
        Precision::Millis => 3,
        Precision::Micros => 6,
    };
    if format!("{nanos:09}")[digits..].bytes().any(|digit| digit != b'0') {
        pairs.push(("__time_ns_part__".into(), nanos.to_string()));
    }
    pairs.extend(record.contents.iter().map(|(key, value)| (text(key), text(value))));
    pairs
}

/// The members of an object of strings, repeated ones too.
fn members(text: &str) -> Pairs {
    struct Members(Pairs);
    impl<'de> serde::de::Visitor<'de> for Members {
        type Value = Pairs;
        fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            f.write_str("an object of strings")
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(mut self, mut map: A) -> Result<Pairs, A::Error> {
            while let Some(entry) = map.next_entry()? {
                self.0.push(entry);
            }
            Ok(self.0)
        }
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let pairs = serde::Deserializer::deserialize_map(&mut json, Members(Pairs::new())).unwrap();
    json.end().unwrap();
    pairs
}
