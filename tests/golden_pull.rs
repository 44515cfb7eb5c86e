//! The vendor's bodies of PullLogs (`tests/golden/sls`, origin in the SLS protocol notes: serialised and compressed
//! by the official Python SDK 0.9.52), read by the walker and written as HEC events.
//!
//! Two laws: the walker sees exactly the bytes that the vendor's SDK sees, and a reader of our default event gets
//! what the SDK's flat form holds, but for the differences that are ours on purpose: the time is in the envelope
//! alone, an empty topic or source is left out, and bytes that are not UTF-8 become U+FFFD instead of vanishing.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::Digest as _;
use sls2siem::proto::format::Encoder;
use sls2siem::proto::format::hec::{HecEncoder, HecParams, RecordContext};
use sls2siem::proto::format::template::Template;
use sls2siem::proto::ids::{Cursor, ShardId};
use sls2siem::proto::sls::wire::{LogGroup, LogGroups, Position, WireError, scan};

type Bytes = Vec<u8>;

#[derive(Debug, Default, PartialEq)]
struct Group {
    topic: Bytes,
    source: Bytes,
    machine_uuid: Bytes,
    tags: Vec<(Bytes, Bytes)>,
    logs: Vec<Log>,
}

#[derive(Debug, Default, PartialEq)]
struct Log {
    secs: u32,
    nanos: Option<u32>,
    contents: Vec<(Bytes, Bytes)>,
}

/// The cases that a client has to accept, with their decompressed bodies.
fn cases() -> Vec<(Value, Bytes)> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/sls/");
    let index = fs::read(format!("{root}pull_responses.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let mut cases = Vec::new();
    for case in index["cases"].as_array().unwrap() {
        if case["expect"] == "error" {
            continue;
        }
        let body = fs::read(format!("{root}{}", case["body_file"].as_str().unwrap())).unwrap();
        let headers = &case["response_headers"];
        let size = headers["x-log-bodyrawsize"].as_str().unwrap().parse().unwrap();
        let raw = match headers["x-log-compresstype"].as_str() {
            _ if size == 0 => Vec::new(),
            None => body,
            Some("lz4") => lz4_flex::block::decompress(&body, size).unwrap(),
            Some("zstd") => zstd::decode_all(&body[..]).unwrap(),
            Some(_) => {
                let mut raw = Vec::new();
                flate2::read::ZlibDecoder::new(&body[..]).read_to_end(&mut raw).unwrap();
                raw
            }
        };
        assert_eq!(raw.len(), size);
        cases.push((case.clone(), raw));
    }
    assert_eq!(cases.len(), 19, "the vectors are all there");
    cases
}

fn read_group(group: &LogGroup<'_>) -> Result<Group, WireError> {
    let own =
        |pair: Result<(&[u8], &[u8]), WireError>| pair.map(|(key, value)| (key.to_vec(), value.to_vec()));
    let mut logs = Vec::new();
    for log in group.logs() {
        let log = log?;
        let time = log.time()?;
        let contents = log.contents().map(own).collect::<Result<_, _>>()?;
        logs.push(Log { secs: time.secs, nanos: time.nanos, contents });
    }
    Ok(Group {
        topic: group.topic.to_vec(),
        source: group.source.to_vec(),
        machine_uuid: group.machine_uuid.to_vec(),
        tags: group.tags().map(own).collect::<Result<_, _>>()?,
        logs,
    })
}

fn read(body: &[u8]) -> Result<Vec<Group>, WireError> {
    LogGroups::new(body).map(|group| group.and_then(|group| read_group(&group))).collect()
}

/// A text of the vectors: a string, or the base64 of bytes that are none. Absent is empty.
fn bytes(text: &Value) -> Bytes {
    match text {
        Value::Null => Vec::new(),
        Value::String(text) => text.as_bytes().to_vec(),
        other => STANDARD.decode(other["base64"].as_str().unwrap()).unwrap(),
    }
}

fn pairs(list: &Value) -> Vec<(Bytes, Bytes)> {
    list.as_array().unwrap().iter().map(|pair| (bytes(&pair[0]), bytes(&pair[1]))).collect()
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().map(|value| u32::try_from(value).unwrap())
}

fn expected_groups(decoded: &Value) -> Vec<Group> {
    let log = |log: &Value| Log {
        secs: number(&log["time"]).unwrap(),
        nanos: number(&log["time_ns"]),
        contents: pairs(&log["contents"]),
    };
    let group = |group: &Value| Group {
        topic: bytes(&group["topic"]),
        source: bytes(&group["source"]),
        machine_uuid: bytes(&group["machine_uuid"]),
        tags: pairs(&group["tags"]),
        logs: group["logs"].as_array().unwrap().iter().map(log).collect(),
    };
    decoded.as_array().unwrap().iter().map(group).collect()
}

#[test]
fn decoded_groups_are_those_of_the_vendor() {
    let mut compared = 0;
    for (case, body) in cases() {
        let name = &case["name"];
        let groups = read(&body).unwrap();
        let shape = scan(&body).unwrap();
        assert_eq!(shape.groups as usize, groups.len(), "{name}");
        assert_eq!(shape.records as usize, groups.iter().map(|group| group.logs.len()).sum::<usize>());
        assert_eq!(case["response_headers"]["x-log-count"].as_str().unwrap(), shape.groups.to_string());
        if case["decoded"].is_array() {
            assert_eq!(groups, expected_groups(&case["decoded"]), "{name}");
            compared += 1;
            continue;
        }
        for (group, summary) in groups.iter().zip(case["decoded_summary"].as_array().unwrap()) {
            assert_eq!(group.topic, bytes(&summary["topic"]), "{name}");
            assert_eq!(Some(group.logs.len() as u64), summary["logs"].as_u64(), "{name}");
            let expected = summary["first_log_contents"].as_array().unwrap();
            assert_eq!(group.logs[0].contents.len(), expected.len());
            for ((key, value), expected) in group.logs[0].contents.iter().zip(expected) {
                assert_eq!(*key, bytes(&expected[0]), "{name}");
                let Some(hash) = expected[1]["sha256"].as_str() else {
                    assert_eq!(*value, bytes(&expected[1]), "{name}");
                    continue;
                };
                let hex: String =
                    sha2::Sha256::digest(value).iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(hex, hash, "{name}");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 19);
}

/// The default event's members as a reader that keeps the last of a repeated key sees them.
fn flat(group: &Group, log: &Log) -> BTreeMap<String, String> {
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut event = BTreeMap::new();
    for (key, value) in [("__topic__", &group.topic), ("__source__", &group.source)] {
        if !value.is_empty() {
            event.insert(key.to_owned(), lossy(value));
        }
    }
    let tags = group.tags.iter().map(|(key, value)| (format!("__tag__:{}", lossy(key)), lossy(value)));
    event.extend(tags);
    event.extend(log.contents.iter().map(|(key, value)| (lossy(key), lossy(value))));
    event
}

fn encode(body: &[u8]) -> (Vec<String>, u32) {
    let host = Template::parse("{__source__}").unwrap();
    let mut encoder = Encoder::Hec(HecEncoder::new(HecParams { host, ..HecParams::default() }));
    let cursor = Cursor::new("MTc2NzMyMjk5OTAwMDAwMDAwMA==");
    let context = RecordContext { shard: ShardId(0), cursor: &cursor };
    let (mut at, mut frame) = (Position::default(), Vec::new());
    let encoded = encoder.encode(body, &mut at, u32::MAX, usize::MAX, &context, &mut frame).unwrap();
    assert!(encoded.body_done);
    let text = String::from_utf8(frame).unwrap();
    (text.split_terminator('\n').map(str::to_owned).collect(), encoded.invalid_utf8)
}

#[test]
fn default_events_hold_what_the_vendor_s_flat_form_holds() {
    let mut compared = 0;
    for (case, body) in cases() {
        let name = case["name"].as_str().unwrap();
        let (lines, invalid) = encode(&body);
        let groups = read(&body).unwrap();
        let logs: Vec<_> =
            groups.iter().flat_map(|group| group.logs.iter().map(move |log| (group, log))).collect();
        assert_eq!(lines.len(), logs.len(), "{name}");
        assert_eq!(invalid, u32::from(name.starts_with("invalid_utf8")), "{name}");
        for (index, (line, (group, log))) in lines.iter().zip(&logs).enumerate() {
            let envelope: BTreeMap<String, Value> = serde_json::from_str(line).unwrap();
            let keys: Vec<_> = envelope.keys().map(String::as_str).collect();
            let host = String::from_utf8_lossy(&group.source);
            assert_eq!(
                keys,
                if host.is_empty() { vec!["event", "time"] } else { vec!["event", "host", "time"] }
            );
            assert_eq!(envelope.get("host").map_or("", |host| host.as_str().unwrap()), host);
            // The literal itself: a float would lose digits.
            let nanos =
                log.nanos.filter(|&nanos| nanos != 0).map_or(String::new(), |nanos| format!(".{nanos:09}"));
            let time = format!("{{\"time\":{}{},", log.secs, nanos.trim_end_matches('0'));
            assert!(line.starts_with(&time), "{name}: {line} is not of {time}");
            let event: BTreeMap<String, String> = serde_json::from_value(envelope["event"].clone()).unwrap();
            assert_eq!(event, flat(group, log), "{name}");

            let Some(vendor) = case["sdk_flat_json"].get(index) else { continue };
            let mut vendor: BTreeMap<String, Value> = serde_json::from_value(vendor.clone()).unwrap();
            let fraction = vendor.remove("__time_ns_part__").map(|part| part[0].as_str().unwrap().to_owned());
            assert_eq!(fraction, log.nanos.filter(|&nanos| nanos != 0).map(|nanos| nanos.to_string()));
            if log.contents.iter().all(|(key, _)| key != b"__time__") {
                assert_eq!(vendor.remove("__time__").unwrap(), log.secs.to_string());
            }
            vendor.retain(|key, value| !matches!(key.as_str(), "__topic__" | "__source__") || value != "");
            // The vendor drops the bytes that we mark.
            let marked = |text: &str| text.replace('\u{fffd}', "");
            let event: BTreeMap<_, _> =
                event.iter().map(|(key, value)| (key.clone(), marked(value))).collect();
            let vendor: BTreeMap<_, _> =
                vendor.iter().map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned())).collect();
            assert_eq!(event, vendor, "{name}");
            compared += 1;
        }
    }
    assert_eq!(compared, 16, "records compared with the vendor's own output");
}

#[test]
fn truncated_at_every_byte_nothing_panics() {
    let mut encoder = HecEncoder::new(HecParams::default());
    let (cursor, mut frame) = (Cursor::default(), Vec::new());
    let context = RecordContext { shard: ShardId(0), cursor: &cursor };
    let mut bodies = cases();
    // The compressions of one body are one body.
    bodies.dedup_by(|left, right| left.1 == right.1);
    for (case, body) in bodies {
        // Of a long value every 997th place is enough: nothing but the value lies in between.
        let step = if body.len() > 20_000 { 997 } else { 1 };
        let mut refused = 0;
        for end in (0..body.len()).step_by(step) {
            let cut = &body[..end];
            let error = read(cut).is_err();
            let mut at = Position::default();
            assert_eq!(at.skip(cut, u32::MAX).is_err(), scan(cut).is_err());
            assert!(error || scan(cut).is_ok());
            refused += usize::from(error);
            at = Position::default();
            frame.clear();
            let result = encoder.encode(cut, &mut at, u32::MAX, usize::MAX, &context, &mut frame);
            assert!(result.is_err() || !error, "{} cut at {end}", case["name"]);
            assert_eq!(bytecount(&frame), at.record_index);
        }
        assert!(body.is_empty() || refused > 0, "{}", case["name"]);
    }
}

fn bytecount(frame: &[u8]) -> u32 {
    u32::try_from(memchr::memchr_iter(b'\n', frame).count()).unwrap()
}
