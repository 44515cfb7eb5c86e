//! Bytes from the vendor's SDKs judge our signatures, requests, and the reading of pull answers.
//!
//! Why: a test that uses our own writer to check our own reader finds no shared mistake.
//! Where the files come from: `tests/golden/ORIGIN.md`.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by a panic"
)]

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sls2siem::proto::http1::{HttpError, Limits, Progress, ResponseParser};
use sls2siem::proto::ids::{Cursor, ShardId};
use sls2siem::proto::sls::api::pull_head::PullHead;
use sls2siem::proto::sls::api::{self, ApiRequest, CursorFrom, PullOptions};
use sls2siem::proto::sls::body::{BodyError, Compression, Decompressor};
use sls2siem::proto::sls::sign::{Credentials, Request, Signer, Version};
use sls2siem::proto::time::UnixTime;

/// The moment at which the SDK's clock stood: 2026-01-02T03:04:05Z.
const FROZEN: UnixTime = UnixTime(1_767_323_045_000_000_000);

fn read(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sls").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&read(name)).unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// A vector of the signature files, taken apart.
struct Sent<'a> {
    name: &'a str,
    method: &'a str,
    path: &'a str,
    query: Vec<(String, String)>,
    headers: Vec<(&'a str, &'a str)>,
    body: Vec<u8>,
}

impl<'a> Sent<'a> {
    fn new(vector: &'a Value) -> Self {
        let target = text(vector, "target");
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (form_decode(key), form_decode(value))
        });
        let headers = vector["headers"].as_array().unwrap().iter();
        Self {
            name: text(vector, "name"),
            method: text(vector, "method"),
            path,
            query: pairs.collect(),
            headers: headers.map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap())).collect(),
            body: STANDARD.decode(text(vector, "body_base64")).unwrap(),
        }
    }

    fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }
}

fn form_decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, mut after)) = rest.split_first() {
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                bytes.push(u8::from_str_radix(str::from_utf8(&after[..2]).unwrap(), 16).unwrap());
                after = &after[2..];
            }
            _ => bytes.push(first),
        }
        rest = after;
    }
    String::from_utf8(bytes).unwrap()
}

/// Signs what the SDK signed and compares every header that the signature adds.
fn check_signatures(file: &str) {
    let vectors = json(file);
    let vectors = vectors["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 39);
    let mut signer = Signer::default();
    for vector in vectors {
        let sent = Sent::new(vector);
        let credentials = Credentials {
            access_key_id: text(vector, "access_key_id").into(),
            access_key_secret: text(vector, "access_key_secret").into(),
            security_token: vector["security_token"].as_str().map(Into::into),
        };
        let version = match text(vector, "signature") {
            "v4" => Version::V4 { region: text(vector, "region").into() },
            _ => Version::V1,
        };
        let added = [
            "host",
            "date",
            "x-log-date",
            "x-log-signaturemethod",
            "content-md5",
            "x-log-content-sha256",
            "x-acs-security-token",
            "authorization",
        ];
        let headers: Vec<(&str, String)> = sent
            .headers
            .iter()
            .filter(|(name, _)| !added.contains(&name.to_ascii_lowercase().as_str()))
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        let query: Vec<(&str, String)> =
            sent.query.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        let request = Request {
            method: sent.method,
            path: sent.path,
            query: &query,
            host: sent.header("host").unwrap_or_default(),
            headers: &headers,
            body: &sent.body,
        };
        let mut authorized = false;
        for (name, value) in signer.sign(&version, &credentials, &request, FROZEN) {
            assert_eq!(Some(value), sent.header(name), "{}: {name}", sent.name);
            authorized |= name == "Authorization" && value == text(vector, "expected_authorization");
        }
        assert!(authorized, "{}", sent.name);
    }
}

#[test]
fn signatures_v1() {
    check_signatures("signature_v1.json");
}

#[test]
fn signatures_v4() {
    check_signatures("signature_v4.json");
}

/// Our requests ask for the same as those of the SDK: method, path, decoded query, body, headers that matter.
#[test]
fn requests_ask_what_the_sdk_asks() {
    let vectors = json("signature_v1.json");
    let vectors: Vec<Sent<'_>> = vectors["vectors"].as_array().unwrap().iter().map(Sent::new).collect();
    let (ls, cg, consumer) = ("test-logstore", "test-group", "test-group-1234");
    let cursor = Cursor::new("MTc2NzMyMjk5OTAwMDAwMDAwMA==");
    let end = Cursor::new("MTc2NzMyMjk5OTAwMDAwMDA5OQ==");
    let shard = ShardId(0);
    let pull = |shard, end, options| api::pull_logs(ls, shard, &cursor, end, &options);
    let plain = PullOptions::default();
    let spl = "* | where a = 'x&y=z+%25 1' and b like '中文~%' | project a, b";
    let checkpoint = vectors.iter().find(|sent| sent.name == "update_check_point_not_forced").unwrap();
    let checkpoint: Value = serde_json::from_slice(&checkpoint.body).unwrap();
    let saved = Cursor::new(checkpoint["checkpoint"].as_str().unwrap());
    let ours: [(&str, ApiRequest); 18] = [
        ("get_cursor_begin", api::get_cursor(ls, shard, CursorFrom::Begin)),
        (
            "get_cursor_unix_time",
            api::get_cursor(ls, shard, CursorFrom::Time(UnixTime::from_secs(1_767_322_999))),
        ),
        ("get_cursor_time", api::get_cursor_time(ls, shard, &cursor)),
        ("pull_logs_lz4", pull(shard, None, plain)),
        (
            "pull_logs_end_cursor_zstd",
            pull(ShardId(1), Some(&end), PullOptions { count: 10, compression: Compression::Zstd, ..plain }),
        ),
        (
            "pull_logs_uncompressed",
            pull(shard, None, PullOptions { count: 1, compression: Compression::None, ..plain }),
        ),
        ("pull_logs_spl_query", pull(shard, None, PullOptions { query: spl, ..plain })),
        ("pull_logs_processor", pull(shard, None, PullOptions { processor: "consume-processor-1", ..plain })),
        ("create_consumer_group", api::create_group(ls, cg, 40, false)),
        ("update_consumer_group", api::update_group(ls, cg, 60, true)),
        ("list_consumer_group", api::list_groups(ls)),
        ("delete_consumer_group", api::delete_group(ls, cg)),
        ("heart_beat_shards", api::heartbeat(ls, cg, consumer, &[ShardId(0), ShardId(1), ShardId(17)])),
        ("heart_beat_odd_consumer_name", api::heartbeat(ls, cg, "host a/b+c:中文~*", &[ShardId(0)])),
        ("update_check_point_not_forced", api::update_checkpoint(ls, cg, consumer, shard, &saved)),
        ("get_check_point_shard", api::get_checkpoint(ls, cg, Some(shard))),
        ("list_shards", api::list_shards(ls)),
        ("get_logstore", api::get_logstore(ls)),
    ];
    for (name, ours) in ours {
        let sent = vectors.iter().find(|sent| sent.name == name).unwrap();
        assert_eq!((ours.method, ours.path.as_str()), (sent.method, sent.path), "{name}");
        // The SDK spells booleans in Python's way; servers take both.
        let lower = |key: &str, value: &str| {
            if key == "forceSuccess" { value.to_ascii_lowercase() } else { value.to_owned() }
        };
        let mut theirs: Vec<_> = sent.query.iter().map(|(k, v)| (k.clone(), lower(k, v))).collect();
        let target = ours.target();
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let mut mine: Vec<_> = pairs
            .map(|pair| pair.split_once('=').map(|(k, v)| (form_decode(k), form_decode(v))).unwrap())
            .collect();
        theirs.sort();
        mine.sort();
        assert_eq!(mine, theirs, "{name}");
        let body = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap_or_default();
        assert_eq!(body(&ours.body), body(&sent.body), "{name}");
        for header in ["Accept", "Accept-Encoding"] {
            if let Some((_, value)) = ours.headers.iter().find(|(known, _)| *known == header) {
                assert_eq!(Some(value.as_str()), sent.header(header), "{name}");
            }
        }
    }
}

/// A pull answer as it would come over the wire.
struct Case {
    name: String,
    head: String,
    body: Vec<u8>,
    refused: bool,
    headers: Value,
}

fn cases() -> Vec<Case> {
    let file = json("pull_responses.json");
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 22);
    let case = |case: &Value| {
        let body = read(text(case, "body_file"));
        let mut head = format!("HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in case["response_headers"].as_object().unwrap() {
            for part in [name.as_str(), ": ", value.as_str().unwrap(), "\r\n"] {
                head.push_str(part);
            }
        }
        head += "x-log-requestid: 5B0A6B60BB6EE39764D458B5\r\n\r\n";
        Case {
            name: text(case, "name").into(),
            head,
            body,
            refused: text(case, "expect") == "error",
            headers: case["response_headers"].clone(),
        }
    };
    cases.iter().map(case).collect()
}

fn pull_head(case: &Case) -> PullHead {
    let mut parser = ResponseParser::new(Limits::default());
    let (consumed, progress) = parser.handle(case.head.as_bytes(), &mut Vec::new()).unwrap();
    assert_eq!((consumed, progress), (case.head.len(), Progress::Head), "{}", case.name);
    PullHead::parse(&parser.head().unwrap(), &Cursor::new("asked")).unwrap()
}

#[test]
fn pull_heads_are_read() {
    for case in cases() {
        let head = pull_head(&case);
        let told = |name: &str| case.headers[name].as_str();
        let number = |name: &str| told(name).map(|text| text.parse::<u64>().unwrap());
        assert_eq!(Some(head.next_cursor.as_str()), told("x-log-cursor"), "{}", case.name);
        assert_eq!(Some(head.count), number("x-log-count"), "{}", case.name);
        assert_eq!(Some(head.raw_size), number("x-log-bodyrawsize"), "{}", case.name);
        assert_eq!(head.compression.accept_encoding(), told("x-log-compresstype").unwrap_or_default());
        assert_eq!(head.cursor_time, number("x-log-cursor-time"));
        assert_eq!(head.read_last_cursor, number("x-log-read-last-cursor"));
        assert_eq!(head.raw_data_size, number("x-log-rawdatasize"));
        assert_eq!(head.raw_data_count, number("x-log-rawdatacount"));
        assert_eq!(head.end_of_cursor, told("x-log-end-of-cursor").is_some());
        assert_eq!(head.request_id, "5B0A6B60BB6EE39764D458B5");
    }
}

#[test]
fn pull_bodies_decompress_as_announced_or_are_refused() {
    let mut decompressor = Decompressor::default();
    let mut raw = Vec::new();
    let (mut taken, mut refused, mut many_groups) = (0, 0, Vec::new());
    for case in cases() {
        let head = pull_head(&case);
        let size = usize::try_from(head.raw_size).unwrap();
        let result = decompressor.decompress(head.compression, &case.body, size, 4 << 20, &mut raw);
        if case.refused {
            refused += 1;
            let error = result.unwrap_err();
            match case.name.as_str() {
                "bad_raw_size_too_small" => assert_eq!(error, BodyError::RawOverrun { announced: 8929 }),
                "bad_raw_size_too_big" => {
                    assert_eq!(error, BodyError::RawSize { announced: 8931, found: 8930 });
                }
                _ => assert!(!error.to_string().is_empty(), "{}", case.name),
            }
            assert!(raw.is_empty());
            continue;
        }
        taken += 1;
        result.unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert_eq!(raw.len(), size, "{}", case.name);
        if case.name.starts_with("many_groups") {
            many_groups.push(raw.clone());
        }
    }
    assert_eq!((taken, refused, many_groups.len()), (19, 3, 4));
    assert!(many_groups.windows(2).all(|pair| pair[0] == pair[1]), "all compressions hold the same logs");
}

#[test]
fn responses_cut_at_every_byte_are_never_whole() {
    for case in cases() {
        let wire = [case.head.as_bytes(), &case.body].concat();
        let mut parser = ResponseParser::new(Limits::default());
        let mut body = Vec::new();
        for (at, byte) in wire.iter().enumerate() {
            match parser.clone().handle_eof() {
                Err(HttpError::ClosedIdle) => assert_eq!(at, 0, "{}", case.name),
                Err(HttpError::Truncated { .. }) => assert!(at > 0, "{}", case.name),
                other => panic!("{} cut at {at}: {other:?}", case.name),
            }
            let (consumed, progress) = parser.handle(&[*byte], &mut body).unwrap();
            assert_eq!(consumed, 1);
            let expected = match at + 1 {
                end if end == case.head.len() => Progress::Head,
                end if end == wire.len() => Progress::Done,
                _ => Progress::NeedMore,
            };
            assert_eq!(progress, expected, "{} at {at}", case.name);
        }
        assert_eq!(parser.handle(b"", &mut body), Ok((0, Progress::Done)), "{}", case.name);
        assert_eq!(parser.handle_eof(), Ok(Progress::Done));
        assert_eq!(body, case.body, "{}", case.name);
    }
}

#[test]
fn bodies_cut_at_every_byte_are_refused() {
    let mut decompressor = Decompressor::default();
    let mut raw = Vec::new();
    for case in cases().iter().filter(|case| !case.refused) {
        let head = pull_head(case);
        let size = usize::try_from(head.raw_size).unwrap();
        // The two bodies of one huge value look the same nearly everywhere: their ends, and samples between.
        let bytes = case.body.len();
        let step = if size > 100_000 { 499 } else { 1 };
        for end in (0..bytes).filter(|end| end % step == 0 || *end < 64 || end + 64 > bytes) {
            let cut = &case.body[..end];
            let result = decompressor.decompress(head.compression, cut, size, 4 << 20, &mut raw);
            assert!(result.is_err(), "{} cut at {end}", case.name);
        }
    }
}
