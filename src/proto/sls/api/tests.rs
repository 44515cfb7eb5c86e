use proptest::prelude::*;

use super::answer::{self, Group, ShardStatus};
use super::pull_head::{PullHead, PullHeadError};
use super::*;
use crate::proto::http1::{Limits, ResponseParser};

const NOW: UnixTime = UnixTime(1_767_323_045_000_000_000);

fn endpoint(port: u16, tls: bool) -> Endpoint<'static> {
    Endpoint { project: "p", host: "cn-hangzhou.log.aliyuncs.com", port, tls }
}

fn caller(version: Version) -> Caller {
    Caller::new(&endpoint(443, true), "g", "c\r\nX: \u{4e2d}", version)
}

fn credentials() -> Credentials {
    Credentials { access_key_id: "id".into(), access_key_secret: "secret".into(), security_token: None }
}

fn every_call() -> Vec<ApiRequest> {
    let cursor = Cursor::new("MTc2NzMyMjk5OTAwMDAwMDAwMA==");
    let options = PullOptions { query: "* | where a = 'x&y'", processor: "p-1", ..PullOptions::default() };
    vec![
        create_group("l", "g", 40, false),
        update_group("l", "g", 40, true),
        list_groups("l"),
        delete_group("l", "g"),
        heartbeat("l", "g", "c/ 1", &[ShardId(0), ShardId(17)]),
        get_checkpoint("l", "g", None),
        get_checkpoint("l", "g", Some(ShardId(3))),
        update_checkpoint("l", "g", "c", ShardId(0), &cursor),
        get_cursor("l", ShardId(1), CursorFrom::Begin),
        get_cursor("l", ShardId(1), CursorFrom::End),
        get_cursor("l", ShardId(1), CursorFrom::Time(NOW)),
        get_cursor_time("l", ShardId(1), &cursor),
        list_shards("l"),
        get_logstore("l"),
        pull_logs("l", ShardId(2), &cursor, None, &PullOptions::default()),
        pull_logs("l", ShardId(2), &cursor, Some(&cursor), &options),
    ]
}

#[test]
fn lines_of_every_call() {
    let seen: Vec<String> = every_call()
        .iter()
        .map(|call| format!("{} {} {}", call.method, call.target(), String::from_utf8_lossy(&call.body)))
        .collect();
    let cursor = "MTc2NzMyMjk5OTAwMDAwMDAwMA%3D%3D";
    let pull = format!("GET /logstores/l/shards/2?type=log&cursor={cursor}&count=1000");
    assert_eq!(
        seen,
        [
            r#"POST /logstores/l/consumergroups {"consumerGroup":"g","order":false,"timeout":40}"#,
            r#"PUT /logstores/l/consumergroups/g {"order":true,"timeout":40}"#,
            "GET /logstores/l/consumergroups ",
            "DELETE /logstores/l/consumergroups/g ",
            "POST /logstores/l/consumergroups/g?type=heartbeat&consumer=c%2F%201 [0,17]",
            "GET /logstores/l/consumergroups/g ",
            "GET /logstores/l/consumergroups/g?shard=3 ",
            r#"POST /logstores/l/consumergroups/g?type=checkpoint&consumer=c&forceSuccess=false {"checkpoint":"MTc2NzMyMjk5OTAwMDAwMDAwMA==","shard":0}"#,
            "GET /logstores/l/shards/1?type=cursor&from=begin ",
            "GET /logstores/l/shards/1?type=cursor&from=end ",
            "GET /logstores/l/shards/1?type=cursor&from=1767323045 ",
            &format!("GET /logstores/l/shards/1?type=cursor_time&cursor={cursor} "),
            "GET /logstores/l/shards ",
            "GET /logstores/l ",
            &format!("{pull} "),
            &format!(
                "{pull}&query=%2A%20%7C%20where%20a%20%3D%20%27x%26y%27&pullMode=scan_on_stream&processor=p-1&end_cursor={cursor} "
            ),
        ]
    );
}

#[test]
fn both_ways_of_sending_have_the_same_headers() {
    for version in [Version::V1, Version::V4 { region: "cn-hangzhou".into() }] {
        let caller = caller(version);
        let mut scratch = Scratch::default();
        for call in every_call() {
            let mut out = Vec::new();
            call.signed_head(&caller, &credentials(), NOW, &mut scratch, &mut out).unwrap();
            let head = String::from_utf8(out).unwrap();
            let mut lines = head.split("\r\n");
            assert_eq!(lines.next().unwrap(), format!("{} {} HTTP/1.1", call.method, call.target()));
            let mut expected: Vec<String> = call
                .headers(&caller, &credentials(), NOW)
                .iter()
                .map(|(name, value)| format!("{name}: {value}"))
                .collect();
            assert!(expected.iter().any(|line| line.starts_with("Authorization: ")));
            if !call.body.is_empty() {
                expected.push(format!("Content-Length: {}", call.body.len()));
            }
            expected.extend([String::new(), String::new()]);
            assert_eq!(lines.collect::<Vec<_>>(), expected);
        }
    }
}

#[test]
fn a_kept_pull_equals_a_new_one() {
    let (a, b, end) = (Cursor::new("YQ=="), Cursor::new("YmJiYg=="), Cursor::new("ZW5k"));
    let zstd = PullOptions { count: 7, compression: Compression::Zstd, ..PullOptions::default() };
    let mut kept = pull_logs("l", ShardId(2), &a, None, &PullOptions::default());
    kept.set_pull_range(&b, Some(&end));
    kept.set_pull_count(7);
    kept.set_compression(Compression::Zstd);
    assert_eq!(kept, pull_logs("l", ShardId(2), &b, Some(&end), &zstd));
    kept.set_pull_range(&a, None);
    assert_eq!(kept, pull_logs("l", ShardId(2), &a, None, &zstd));
    kept.set_pull_count(0);
    assert!(kept.target().contains("count=1"));
    kept.set_pull_count(5000);
    assert!(kept.target().contains("count=1000"));
}

#[test]
fn names_stay_where_they_are_put() {
    let request = list_groups("l/../x y?&#\u{4e2d}");
    assert_eq!(request.target(), "/logstores/l%2F..%2Fx%20y%3F%26%23%E4%B8%AD/consumergroups");
    assert_eq!(get_logstore("..").target(), "/logstores/%2E%2E");
    let mut out = Vec::new();
    let caller = caller(Version::V1);
    request.signed_head(&caller, &credentials(), NOW, &mut Scratch::default(), &mut out).unwrap();
    let head = String::from_utf8(out).unwrap();
    let agent =
        concat!("User-Agent: sls2siem/", env!("CARGO_PKG_VERSION"), " consumer-group/g consumer/c__X:__\r\n");
    assert!(head.contains(agent), "{head}");
    let mut credentials = credentials();
    credentials.security_token = Some("a\r\nX: b".into());
    let error = request
        .signed_head(&caller, &credentials, NOW, &mut Scratch::default(), &mut Vec::new())
        .unwrap_err();
    assert_eq!(error, HttpError::RequestHeader { name: "x-acs-security-token".into() });
}

#[test]
fn hosts() {
    assert_eq!(endpoint(443, true).host_header(), "p.cn-hangzhou.log.aliyuncs.com");
    assert_eq!(endpoint(80, false).host_header(), "p.cn-hangzhou.log.aliyuncs.com");
    assert_eq!(endpoint(80, true).host_header(), "p.cn-hangzhou.log.aliyuncs.com:80");
    let local = Endpoint { project: "p", host: "127.0.0.1", port: 8080, tls: false };
    assert_eq!(local.host_header(), "p.127.0.0.1:8080");
    assert_eq!(Endpoint { project: "", ..local }.host_header(), "127.0.0.1:8080");
}

#[test]
fn answers() {
    assert_eq!(
        answer::groups(br#"[{"name":"g","timeout":40,"order":false,"new":{}},{"name":"h"}]"#).unwrap(),
        [
            Group { name: "g".into(), timeout_secs: 40, order: false },
            Group { name: "h".into(), timeout_secs: 0, order: false }
        ]
    );
    assert_eq!(answer::groups(b"[]").unwrap(), []);
    assert_eq!(answer::heartbeat(b"[3, 0,3]").unwrap(), [ShardId(0), ShardId(3)]);
    assert_eq!(answer::heartbeat(b"[]").unwrap(), []);
    for bad in ["[-1]", "[4294967296]", "[\"0\"]", "[0.5]", "[null]", "{}", "null", "", "[0", "[[0]]"] {
        let error = answer::heartbeat(bad.as_bytes()).unwrap_err();
        assert!(error.to_string().starts_with("the answer to HeartBeat is not what SLS sends: "), "{error}");
    }
    let body = br#"[{"shard":0,"checkpoint":"MTUy","updateTime":1524224984800922,"consumer":"c1"},
        {"shard":1,"checkpoint":"","updateTime":0,"consumer":""},{"shard":2,"updateTime":1524224984}]"#;
    let checkpoints = answer::checkpoints(body).unwrap();
    assert_eq!(checkpoints[0].cursor, Cursor::new("MTUy"));
    assert_eq!(checkpoints[0].update_time, Some(UnixTime(1_524_224_984_800_922_000)));
    assert_eq!(checkpoints[0].consumer, "c1");
    assert!(checkpoints[1].cursor.is_empty() && checkpoints[1].update_time.is_none());
    assert_eq!(checkpoints[2].update_time, Some(UnixTime::from_secs(1_524_224_984)));
    for bad in
        [r#"[{"checkpoint":"a"}]"#, r#"[{"shard":0,"checkpoint":1}]"#, r#"[{"shard":0,"checkpoint":"a b"}]"#]
    {
        assert!(answer::checkpoints(bad.as_bytes()).is_err(), "{bad}");
    }
    assert_eq!(answer::cursor(br#"{"cursor":"MTQ0"}"#).unwrap(), Cursor::new("MTQ0"));
    let long = format!(r#"{{"cursor":"{}"}}"#, "a".repeat(513));
    for bad in [r#"{"cursor":""}"#, "{}", "[]", r#"{"cursor":"a\r\n"}"#, long.as_str()] {
        assert!(answer::cursor(bad.as_bytes()).is_err(), "{bad}");
    }
    assert_eq!(answer::cursor_time(br#"{"cursor_time":1554260243}"#).unwrap(), 1_554_260_243);
    assert_eq!(answer::cursor_time(br#"{"cursor_time":"1554260243"}"#).unwrap(), 1_554_260_243);
    assert!(answer::cursor_time(br#"{"cursor_time":-1}"#).is_err());
    let body = br#"[{"shardID":2,"status":"readonly","inclusiveBeginKey":"00","exclusiveEndKey":"80","createTime":1},
        {"shardID":1,"status":"readwrite"},{"shardID":3,"status":"frozen"}]"#;
    let shards = answer::shards(body).unwrap();
    let short: Vec<_> = shards.iter().map(|shard| (shard.id.0, shard.status)).collect();
    assert_eq!(short, [(1, ShardStatus::ReadWrite), (2, ShardStatus::ReadOnly), (3, ShardStatus::Unknown)]);
    assert_eq!((shards[1].begin_key.as_str(), shards[1].end_key.as_str()), ("00", "80"));
    let logstore = answer::logstore(br#"{"logstoreName":"l","ttl":30,"shardCount":2}"#).unwrap();
    assert_eq!((logstore.ttl_days, logstore.shard_count), (Some(30), Some(2)));
}

#[test]
fn answers_are_bounded() {
    let many = format!("[{}0]", "0,".repeat(answer::ITEMS_MAX));
    assert!(answer::heartbeat(many.as_bytes()).unwrap_err().what.contains("too many"));
    let large = vec![b' '; answer::ANSWER_BYTES_MAX + 1];
    assert!(answer::heartbeat(&large).unwrap_err().what.contains("too large"));
    let deep = "[".repeat(100_000);
    assert!(answer::heartbeat(deep.as_bytes()).unwrap_err().body.len() <= 100);
}

fn pull_head(headers: &str, asked: &str) -> Result<PullHead, PullHeadError> {
    let mut parser = ResponseParser::new(Limits::default());
    let input = format!("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n{headers}\r\n");
    parser.handle(input.as_bytes(), &mut Vec::new()).unwrap();
    PullHead::parse(&parser.head().unwrap(), &Cursor::new(asked))
}

#[test]
fn heads_of_pulls() {
    let full = "x-log-requestid: 5B0A\r\nX-Log-Cursor: bmV4dA==\r\nx-log-count: 2\r\nx-log-bodyrawsize: 78\r\n\
        x-log-compresstype: LZ4\r\nx-log-end-of-cursor: 1\r\nx-log-cursor-time: 1767322999\r\n\
        x-log-read-last-cursor: 1767322999000000001\r\nx-log-rawdatasize: 1048576\r\nx-log-rawdatacount: 57\r\n";
    assert_eq!(
        pull_head(full, "a").unwrap(),
        PullHead {
            next_cursor: Cursor::new("bmV4dA=="),
            count: 2,
            raw_size: 78,
            compression: Compression::Lz4,
            cursor_time: Some(1_767_322_999),
            end_of_cursor: true,
            read_last_cursor: Some(1_767_322_999_000_000_001),
            raw_data_size: Some(1_048_576),
            raw_data_count: Some(57),
            request_id: "5B0A".into(),
        }
    );
    let least = "x-log-cursor: \r\nx-log-count: 0\r\nx-log-bodyrawsize: 0\r\nx-log-cursor-time: soon\r\n";
    let head = pull_head(least, "asked").unwrap();
    assert_eq!((head.next_cursor.as_str(), head.compression), ("asked", Compression::None));
    assert_eq!((head.cursor_time, head.end_of_cursor), (None, false));
    for header in ["x-log-cursor", "x-log-count", "x-log-bodyrawsize"] {
        let without: String = full
            .split_inclusive("\r\n")
            .filter(|line| !line.to_ascii_lowercase().starts_with(&format!("{header}:")))
            .collect();
        assert_eq!(pull_head(&without, "a"), Err(PullHeadError::Missing { header }));
    }
    for (header, value) in [
        ("x-log-cursor", "a b"),
        ("x-log-count", "-1"),
        ("x-log-count", "+1"),
        ("x-log-count", ""),
        ("x-log-bodyrawsize", "99999999999999999999"),
        ("x-log-compresstype", "snappy"),
    ] {
        let with = format!("{header}: {value}\r\n{full}");
        let error = pull_head(&with, "a").unwrap_err();
        assert_eq!(error, PullHeadError::Bad { header, value: value.into() });
        assert!(error.to_string().contains(header));
    }
}

proptest! {
    /// What goes over the wire decodes to what was signed.
    #[test]
    fn queries_decode_to_themselves(consumer in "\\PC*", logstore in "[^.]+") {
        let request = heartbeat(&logstore, "g", &consumer, &[]);
        let target = request.target();
        prop_assert!(target.bytes().all(|byte| byte.is_ascii_graphic()));
        let (path, query) = target.split_once('?').unwrap();
        prop_assert_eq!(path.split('/').count(), 5);
        let value = query.split('&').find_map(|pair| pair.strip_prefix("consumer=")).unwrap();
        prop_assert_eq!(decode(value), consumer);
    }

    /// Any body: no panic.
    #[test]
    fn any_answer(body: Vec<u8>) {
        let _ = answer::groups(&body);
        let _ = answer::heartbeat(&body);
        let _ = answer::checkpoints(&body);
        let _ = answer::cursor(&body);
        let _ = answer::cursor_time(&body);
        let _ = answer::shards(&body);
        let _ = answer::logstore(&body);
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            bytes.push(u8::from_str_radix(str::from_utf8(&after[..2]).unwrap(), 16).unwrap());
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8(bytes).unwrap()
}
