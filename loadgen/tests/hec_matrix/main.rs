//! The strict HEC receiver against the test matrix of the protocol notes: a raw client, a row at a time.
//!
//! Spec: hec.md 12 (the rows), 1 to 5, 7, 8 (what each must do). `row_*` tests carry the row's name.
#![expect(
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test against real sockets and clocks, whose helpers may fail it"
)]

mod acks;
mod client;
mod faults;
mod transport;

use std::io::Write as _;

use client::*;
use loadgen::sink::hec::{HecConfig, HecServer, Mode, Product, Token};

fn strict(change: impl FnOnce(&mut HecConfig)) -> HecServer {
    let mut config = HecConfig::new(Mode::Strict, Token::new(TOKEN).with_ack());
    config.keep = true;
    change(&mut config);
    HecServer::start(config).expect("start")
}

fn without_ack(config: &mut HecConfig) {
    config.tokens = vec![Token::new(TOKEN)];
}

fn stored(server: &HecServer) -> Vec<u64> {
    server.events().iter().map(|event| event.seq.expect("a number").number).collect()
}

fn stat(server: &HecServer, path: &str) -> u64 {
    server.stats().pointer(path).and_then(serde_json::Value::as_u64).unwrap_or(0)
}

/// Name, headers, expected status and code.
type TokenRow = (&'static str, &'static [&'static str], u16, u64);

#[test]
fn row_token_ok_disabled_unknown_missing() {
    let server = strict(|config| {
        config.tokens = vec![Token::new(TOKEN), Token { disabled: true, ..Token::new("off") }];
    });
    let rows: [TokenRow; 11] = [
        ("ok", &[AUTH], 200, 0),
        ("ok, scheme in capitals", &["Authorization: SPLUNK 00000000-0000-4000-8000-000000000001"], 200, 0),
        (
            "ok as basic password",
            &["Authorization: Basic eDowMDAwMDAwMC0wMDAwLTQwMDAtODAwMC0wMDAwMDAwMDAwMDE="],
            200,
            0,
        ),
        ("disabled", &["Authorization: Splunk off"], 403, 1),
        ("unknown", &["Authorization: Splunk nobody"], 403, 4),
        ("unknown basic", &["Authorization: Basic eDp5"], 403, 4),
        ("missing", &[], 401, 2),
        ("other scheme", &["Authorization: Bearer x"], 401, 3),
        ("no token behind the scheme", &["Authorization: Splunk"], 401, 3),
        ("broken basic", &["Authorization: Basic !!"], 401, 3),
        ("empty", &["Authorization: "], 401, 3),
    ];
    let mut client = Client::connect(&server);
    for (name, headers, status, code) in rows {
        let answer = client.request(&raw_post(EVENT, headers, event(1).as_bytes()));
        assert_eq!((answer.status, answer.code()), (status, code), "{name}");
    }
    assert_eq!(server.events().len(), 3);
    assert_eq!(stat(&server, "/refusals/403~14"), 2);
    server.set_tokens(vec![Token::new("off")]);
    let answer = client.request(&raw_post(EVENT, &["Authorization: Splunk off"], event(1).as_bytes()));
    assert_eq!(answer.code(), 0, "enabled again");
}

#[test]
fn row_token_in_the_query() {
    let server = strict(without_ack);
    let path = format!("{EVENT}?token={TOKEN}");
    let mut client = Client::connect(&server);
    let answer = client.request(&raw_post(&path, &[], event(1).as_bytes()));
    assert_eq!((answer.status, answer.code()), (400, 16));
    server.set_tokens(vec![Token { allow_query: true, ..Token::new(TOKEN) }]);
    assert_eq!(client.request(&raw_post(&path, &[], event(1).as_bytes())).code(), 0);
}

#[test]
fn row_endpoints_methods_and_options() {
    let server = strict(without_ack);
    let mut client = Client::connect(&server);
    for path in ["/services/collector", EVENT, "/services/collector/event/1.0"] {
        assert_eq!(client.request(&post(path, &[], event(1).as_bytes())).code(), 0, "{path}");
    }
    let missing = "{\"text\":\"The requested URL was not found on this server.\",\"code\":404}";
    for (request, status) in [
        (get("/"), 404),
        (get("/services/collector/nothing"), 404),
        (get(EVENT), 405),
        (get("/services/collector/ack"), 405),
        (post("/services/collector/health", &[], b""), 405),
    ] {
        let answer = client.request(&request);
        assert_eq!((answer.status, answer.body.as_str()), (status, missing));
    }
    for (path, allow) in [
        (EVENT, "POST,OPTIONS"),
        ("/services/collector/raw", "POST,OPTIONS"),
        ("/services/collector/ack", "POST,OPTIONS"),
        ("/services/collector/health", "GET,HEAD,OPTIONS"),
    ] {
        let answer =
            client.request(format!("OPTIONS {path} HTTP/1.1\r\nHost: s\r\nUser-Agent: t\r\n\r\n").as_bytes());
        assert_eq!((answer.status, answer.header("Allow"), answer.body.as_str()), (200, Some(allow), ""));
    }
}

#[test]
fn row_health_codes() {
    let server = strict(without_ack);
    let mut client = Client::connect(&server);
    let rows =
        [(17, 200, 200, 0), (18, 503, 503, 9), (19, 503, 200, 0), (20, 503, 503, 9), (23, 503, 503, 23)];
    for (code, status, post_status, post_code) in rows {
        server.set_health(code);
        let answer = client.request(&get("/services/collector/health"));
        assert_eq!((answer.status, answer.code()), (status, u64::from(code)));
        let answer = client.post(event(1));
        assert_eq!((answer.status, answer.code()), (post_status, post_code), "health {code}");
    }
    server.set_health(17);
    let with = |token: &str| {
        let request = "GET /services/collector/health/1.0 HTTP/1.1\r\nHost: s\r\nUser-Agent: t\r\n";
        format!("{request}Authorization: Splunk {token}\r\n\r\n").into_bytes()
    };
    assert_eq!(client.request(&with("nobody")).code(), 21);
    server.set_tokens(vec![Token { disabled: true, ..Token::new(TOKEN) }]);
    assert_eq!(client.request(&with(TOKEN)).code(), 22);
}

/// Name, what stands behind two good events, status, code, invalid-event-number, stored.
type PartialRow = (&'static str, &'static str, u16, u64, Option<u64>, usize);

const PARTIAL: [PartialRow; 12] = [
    ("all good", "", 200, 0, None, 2),
    ("code 6 at K", "{\"event\":", 400, 6, Some(2), 2),
    ("code 6 for an array", "[{\"event\":\"x\"}]", 400, 6, Some(2), 2),
    ("code 6 for a time that is no number", "{\"time\":\"now\",\"event\":\"x\"}", 400, 6, Some(2), 2),
    ("code 12 at K", "{\"time\":1}", 400, 12, Some(2), 2),
    ("code 13 at K for null", "{\"event\":null}", 400, 13, Some(2), 2),
    ("code 13 at K for empty", "{\"event\":\"\"}", 400, 13, Some(2), 2),
    ("code 15 at K", "{\"event\":\"x\",\"fields\":{\"a\":{}}}", 400, 15, Some(2), 2),
    ("code 7 off by one", "{\"event\":\"x\",\"index\":\"other\"}", 400, 7, Some(3), 2),
    ("unknown key: 200, truncated indexing", "{\"evnt\":\"x\"}", 200, 0, None, 2),
    ("fields without event: skipped", "{\"fields\":{\"a\":1}}", 200, 0, None, 2),
    ("maxEventSize", "", 200, 0, None, 2),
];

#[test]
fn row_partial_acceptance_with_prefix_and_ack_id() {
    let server = strict(|config| {
        config.tokens = vec![Token { indexes: vec!["main".to_owned()], ..Token::new(TOKEN).with_ack() }];
    });
    let mut client = Client::connect(&server);
    for (next_ack, (name, bad, status, code, invalid, kept)) in (0..).zip(PARTIAL) {
        let before = server.events().len();
        // What stands behind the bad object is never taken, and is taken where nothing was bad.
        let tail = if bad.is_empty() { "" } else { "{\"event\":{\"seq\":\"0-99\"}}" };
        let answer = client.post(format!("{}{bad}{tail}", events(0..2)));
        assert_eq!((answer.status, answer.code(), answer.invalid()), (status, code, invalid), "{name}");
        assert_eq!(answer.ack_id(), Some(next_ack), "{name}: the prefix has an ackId");
        let kept = kept + usize::from(name.starts_with("fields without"));
        assert_eq!(server.events().len() - before, kept, "{name}");
    }
    assert_eq!(client.poll(CHANNEL, &[1]), [true], "the prefix is acknowledged as anything else");
}

#[test]
fn row_bad_first_object_has_no_ack_id() {
    let server = strict(|config| {
        config.tokens = vec![Token { indexes: vec!["main".to_owned()], ..Token::new(TOKEN).with_ack() }];
    });
    let mut client = Client::connect(&server);
    for (name, bad, _, code, invalid, _) in PARTIAL.into_iter().filter(|row| row.2 == 400) {
        let answer = client.post(format!("{bad}{}", events(0..2)));
        let expected = invalid.map(|number| number - 2);
        assert_eq!((answer.code(), answer.invalid(), answer.ack_id()), (code, expected, None), "{name}");
    }
    let answer = client.post("{\"evnt\":\"x\"}{\"event\":\"y\"}");
    assert_eq!((answer.status, answer.code()), (400, 5), "an unknown key alone is no data");
    assert_eq!(client.post(" \n ").code(), 5);
    assert_eq!(client.post("").code(), 5);
    assert!(server.events().is_empty());
    assert_eq!(client.post(event(1)).ack_id(), Some(0), "no id was used up");
}

#[test]
fn row_utf8_and_batches() {
    let server = strict(without_ack);
    let mut client = Client::connect(&server);
    let bad = [event(0).as_bytes(), b"{\"event\":\"\xC3(\"}"].concat();
    let answer = client.post(bad);
    assert_eq!((answer.code(), answer.invalid()), (6, Some(1)));
    assert_eq!(client.post(format!("{}\n \r\n{}\n", event(1), event(2))).code(), 0);
    let exact = "{\"time\":\"1700000000.123456789\",\"host\":\"h\",\"event\":{\"k\":1,\"k\":\"\\u00e9\\/\"}}";
    client.post(exact);
    let events = server.events();
    assert_eq!(events.len(), 4);
    assert_eq!(events[3].envelope, exact);
    assert_eq!(
        events[3].event(),
        Some("{\"k\":1,\"k\":\"\\u00e9\\/\"}"),
        "repeated keys and escapes are kept"
    );
}

#[test]
fn row_oversize_400_code_6_and_413() {
    let filler = |size: usize| format!("{}{{\"event\":\"{}\"}}", event(0), "x".repeat(size));
    let cloud = strict(|config| {
        without_ack(config);
        config.product = Product::Cloud;
        config.max_event_bytes = 50_000_000;
    });
    let mut client = Client::connect(&cloud);
    let answer = client.post(filler(5 * 1024 * 1024));
    assert_eq!((answer.status, answer.code(), answer.invalid()), (400, 6, Some(0)));
    assert_eq!(cloud.events().len(), 0);
    let answer = client.post(filler(5 * 1024 * 1024 - 200));
    assert_eq!((answer.code(), cloud.events().len()), (0, 2));

    let server = strict(|config| {
        without_ack(config);
        config.max_content_length = 10_000;
        config.max_event_bytes = 5_000;
    });
    let mut client = Client::connect(&server);
    let answer = client.post(filler(6_000));
    assert_eq!((answer.code(), answer.invalid()), (6, Some(1)), "maxEventSize");
    let answer = client.post(filler(20_000));
    assert_eq!(answer.status, 413);
    assert!(answer.body.contains("too large (maximum is 10000)"), "{}", answer.body);
    let mut client = Client::connect(&server);
    let answer = client.request(&post(EVENT, &["Content-Encoding: gzip"], &gzip(filler(20_000).as_bytes())));
    assert_eq!(answer.status, 413, "the limit counts after decompression too");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("gzip");
    encoder.finish().expect("gzip")
}

#[test]
fn row_gzip_accepted_deflate_415_html() {
    let server = strict(without_ack);
    let mut client = Client::connect(&server);
    let body = gzip(events(0..3).as_bytes());
    assert_eq!(client.request(&post(EVENT, &["Content-Encoding: gzip"], &body)).code(), 0);
    assert_eq!(stored(&server), [0, 1, 2]);
    let answer = client.request(&post(EVENT, &["Content-Encoding: gzip"], &body[..body.len() - 9]));
    assert_eq!(answer.status, 400);
    for encoding in ["deflate", "zstd", "snappy"] {
        let header = format!("Content-Encoding: {encoding}");
        let answer = client.request(&post(EVENT, &[&header], b"x"));
        assert_eq!(answer.status, 415);
        assert!(answer.header("Content-Type").is_some_and(|kind| kind.starts_with("text/html")));
    }
    assert_eq!(server.events().len(), 3);
}

#[test]
fn raw_endpoint_breaks_lines() {
    let server = strict(without_ack);
    let mut client = Client::connect(&server);
    assert_eq!(client.request(&post("/services/collector/raw", &[], b"one\ntwo\n\n")).code(), 0);
    let events: Vec<_> = server.events().iter().map(|event| event.envelope.clone()).collect();
    assert_eq!(events, ["{\"event\":\"one\"}", "{\"event\":\"two\"}"]);
}
