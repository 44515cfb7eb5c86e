//! The vendor's own bodies through the whole program.
//!
//! Why: the payload is ours, and so is its reader; what the vendor's SDK wrote and read back is neither.
//! `tests/golden/sls/pull_responses.json` holds bodies of PullLogs and what the official Python SDK decodes from them.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use loadgen::payload::{Content, Log, LogGroup, LogGroupList, LogTag};
use loadgen::verify::expect::{Expected, Fidelity, Metadata};
use prost::Message as _;
use prost::bytes::Bytes;
use serde_json::Value;

use crate::rig::Rig;

#[test]
fn the_sink_gets_what_the_vendors_sdk_decodes() {
    let rig = Rig::with(
        |sls| sls.shards = 1,
        |hec| {
            hec.payload = None;
            hec.keep = true;
        },
    );
    let groups = groups();
    for group in &groups {
        rig.sls.store().append(0, group).unwrap();
    }
    let mut forwarder = rig.forwarder().start();
    forwarder.wait_until("the checkpoint at the end", rig.patience(), || rig.is_drained());
    forwarder.stop();

    let events = rig.hec.events();
    let logs = groups.iter().flat_map(|group| group.logs.iter().map(move |log| (group, log)));
    let expected: Vec<_> = logs.map(|(group, log)| Expected::new(group, log, &Metadata::default())).collect();
    assert_eq!(events.len(), expected.len());
    assert!(events.len() > 200, "the vectors are there");
    for (event, expected) in events.iter().zip(&expected) {
        assert_eq!(expected.compare(&event.envelope), Ok(Fidelity::Exact), "{}", event.envelope);
    }
}

/// The log groups of all bodies that a client has to accept, as the SDK decoded them.
fn groups() -> Vec<LogGroup> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/sls/");
    let index = fs::read(format!("{root}pull_responses.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let cases = index["cases"].as_array().unwrap().iter().filter(|case| case["expect"] != "error");
    let mut groups = Vec::new();
    for case in cases {
        match case["decoded"].as_array() {
            Some(decoded) => groups.extend(decoded.iter().map(group)),
            // Too long to be written down: only the bytes are there.
            None => groups.extend(body(root, case).log_groups),
        }
    }
    groups
}

fn body(root: &str, case: &Value) -> LogGroupList {
    let bytes = fs::read(format!("{root}{}", case["body_file"].as_str().unwrap())).unwrap();
    let size = case["response_headers"]["x-log-bodyrawsize"].as_str().unwrap().parse().unwrap();
    let raw = lz4_flex::block::decompress(&bytes, size).unwrap();
    LogGroupList::decode(&raw[..]).unwrap()
}

fn group(decoded: &Value) -> LogGroup {
    let pairs = |value: &Value| -> Vec<(Bytes, Bytes)> {
        let pairs = value.as_array().into_iter().flatten();
        pairs.map(|pair| (text(&pair[0]).unwrap(), text(&pair[1]).unwrap())).collect()
    };
    let number = |value: &Value| value.as_u64().map(|number| u32::try_from(number).unwrap());
    let log = |log: &Value| Log {
        time: number(&log["time"]).unwrap(),
        contents: pairs(&log["contents"]).into_iter().map(|(key, value)| Content { key, value }).collect(),
        time_ns: number(&log["time_ns"]),
    };
    LogGroup {
        logs: decoded["logs"].as_array().unwrap().iter().map(log).collect(),
        topic: text(&decoded["topic"]),
        source: text(&decoded["source"]),
        machine_uuid: text(&decoded["machine_uuid"]),
        log_tags: pairs(&decoded["tags"]).into_iter().map(|(key, value)| LogTag { key, value }).collect(),
        ..LogGroup::default()
    }
}

/// A string of the vectors, or the base64 of bytes that are none.
fn text(value: &Value) -> Option<Bytes> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone().into()),
        other => Some(STANDARD.decode(other["base64"].as_str().unwrap()).unwrap().into()),
    }
}
