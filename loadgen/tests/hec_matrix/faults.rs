//! Rows about answers that are late, lost, broken or refusals.

use std::time::{Duration, Instant};

use loadgen::fault::FaultPlan;
use loadgen::sink::hec::HecServer;

use crate::client::*;
use crate::{stat, stored, strict};

fn with_faults(plan: &str) -> HecServer {
    strict(|config| config.faults = FaultPlan::parse(plan).expect("plan"))
}

/// Plan for the first call, status, code if there is one, text in the body, whether the event is stored.
type RefusalRow = (&'static str, u16, Option<u64>, &'static str, bool);

#[test]
fn row_refusals_and_warnings() {
    let rows: [RefusalRow; 18] = [
        ("event.503", 503, Some(9), "Server is busy", false),
        ("event.503:23", 503, Some(23), "Server is shutting down", false),
        ("event.429", 429, Some(26), "HEC queue is at capacity", false),
        ("event.429:27", 429, Some(27), "HEC ACK channel is at capacity", false),
        ("event.500", 500, Some(8), "Internal server error", false),
        ("event.after-500", 500, Some(8), "Internal server error", true),
        ("event.warn:24", 200, Some(24), "approaching its capacity", true),
        ("event.warn:25", 200, Some(25), "HEC ACK is approaching", true),
        ("event.404", 404, Some(404), "was not found on this server", false),
        ("event.401", 401, Some(2), "Token is required", false),
        ("event.403:1", 403, Some(1), "Token disabled", false),
        ("event.400:28", 400, Some(28), "sticky session", false),
        ("event.redirect", 303, None, "/en-US/", false),
        ("event.html:502", 502, None, "<html>", false),
        ("event.504", 504, None, "<html>", false),
        ("event.garbled", 200, None, "{\"text\":\"Succ", true),
        ("event.no-code", 200, None, "OK", true),
        ("event.busy-at:0", 503, Some(9), "Server is busy", false),
    ];
    for (fault, status, code, text, is_stored) in rows {
        let server = with_faults(&format!("{fault}@1"));
        let mut client = Client::connect(&server);
        let answer = client.post(event(0));
        assert_eq!(answer.status, status, "{fault}");
        assert!(answer.body.contains(text), "{fault}: {}", answer.body);
        if let Some(code) = code {
            assert_eq!(answer.code(), code, "{fault}");
        } else {
            assert!(
                answer.body.is_empty() || serde_json::from_str::<serde_json::Value>(&answer.body).is_err()
            );
        }
        assert_eq!(stored(&server).len(), usize::from(is_stored), "{fault}");
        assert_eq!(client.post(event(1)).code(), 0, "{fault}: the next one is as always");
    }
}

#[test]
fn row_503_with_a_prefix() {
    let server = with_faults("event.busy-at:10@1");
    let mut client = Client::connect(&server);
    let answer = client.post(events(0..20));
    assert_eq!((answer.status, answer.code(), answer.invalid()), (503, 9, Some(10)));
    assert_eq!(answer.ack_id(), Some(0));
    assert_eq!(stored(&server), (0..10).collect::<Vec<_>>());
}

/// Fault, whether the event is stored, whether bytes of an answer come.
const CUTS: [(&str, bool, bool); 6] = [
    ("event.reset", false, false),
    ("event.reset-after", true, false),
    ("event.tear", true, true),
    ("event.tear:0", true, true),
    ("event.restart", true, false),
    ("event.crash", true, false),
];

#[test]
fn row_rst_before_after_and_mid_response() {
    for tls in [false, true] {
        for (fault, is_stored, has_bytes) in CUTS {
            let server = strict(|config| {
                config.faults = FaultPlan::parse(&format!("{fault}@1")).expect("plan");
                config.tls = tls.then(Default::default);
            });
            let mut client = Client::connect(&server);
            client.send(&post(EVENT, &[], event(0).as_bytes()));
            assert!(client.answer().is_none(), "{fault}");
            assert_eq!(!client.rest().is_empty(), has_bytes, "{fault}");
            let mut client = Client::connect(&server);
            assert_eq!(client.post(event(1)).code(), 0, "{fault}");
            assert_eq!(stored(&server).len(), 1 + usize::from(is_stored), "{fault}, TLS {tls}");
        }
    }
}

#[test]
fn row_lost_poll_reply_loses_its_acks() {
    // A rule counts only the calls that no rule before it has hit: so these hit the first four polls in turn.
    let server = with_faults("ack.tear@1,ack.500@1,ack.after-500@1,ack.html:502@1");
    let mut client = Client::connect(&server);
    for number in 0..4 {
        client.post(event(number));
    }
    let channel = format!("X-Splunk-Request-Channel: {CHANNEL}");
    let poll = |ids: &str| {
        let body = format!("{{\"acks\":[{ids}]}}");
        raw_post("/services/collector/ack", &[AUTH, &channel], body.as_bytes())
    };
    client.send(&poll("0"));
    assert!(client.answer().is_none());
    let mut client = Client::connect(&server);
    assert_eq!(client.request(&poll("1")).status, 500);
    assert_eq!(client.request(&poll("2")).status, 500);
    assert_eq!(client.request(&poll("3")).status, 502);
    assert_eq!(
        client.poll(CHANNEL, &[0, 1, 2, 3]),
        [false, true, false, true],
        "told in the torn answer and in the one after which the 500 came"
    );
}

#[test]
fn row_ack_that_never_comes() {
    let server = with_faults("event.never-ack@1");
    let mut client = Client::connect(&server);
    assert_eq!(client.post(event(0)).ack_id(), Some(0));
    assert_eq!(client.post(event(1)).ack_id(), Some(1));
    assert_eq!(client.poll(CHANNEL, &[0, 1]), [false, true]);
    assert_eq!(stored(&server), [0, 1]);
}

#[test]
fn row_slow_answers_and_slow_reader() {
    for (fault, least) in [("event.delay:300ms", 300), ("event.stall:300ms", 300), ("event.slow:1KiB", 200)] {
        let server = with_faults(&format!("{fault}@1"));
        let mut client = Client::connect(&server);
        let start = Instant::now();
        assert_eq!(client.post(event(0)).code(), 0);
        assert!(start.elapsed() >= Duration::from_millis(least), "{fault}");
    }
    let server = with_faults("event.slow-read:100KiB@1");
    let mut client = Client::connect(&server);
    let start = Instant::now();
    let filler = format!("{}{{\"event\":\"{}\"}}", event(0), "x".repeat(400_000));
    assert_eq!(client.post(filler).code(), 0);
    assert!(start.elapsed() >= Duration::from_millis(600), "{:?}", start.elapsed());
}

#[test]
fn hang_duplicate_bits_and_close() {
    let server = with_faults("event.duplicate@1,event.bits@1,event.close@1,event.hang@1");
    let mut client = Client::connect(&server);
    assert_eq!(client.post(event(0)).ack_id(), Some(0));
    assert_eq!(client.answer().expect("the same again").ack_id(), Some(0));
    let healthy = strict(|_| {});
    let mut other = Client::connect(&healthy);
    other.post(event(0));
    let clean = other.post(event(1)).body;
    let bent = client.post(event(1)).body;
    assert_eq!(clean.bytes().zip(bent.bytes()).filter(|(one, other)| one != other).count(), 1, "{bent}");
    client.send(&[post(EVENT, &[], event(2).as_bytes()), post(EVENT, &[], event(3).as_bytes())].concat());
    assert_eq!(client.answer().expect("an answer").ack_id(), Some(2));
    assert!(client.answer().is_none(), "the second answer stays owed");
    assert_eq!(stored(&server), [0, 1, 2]);
    let mut client = Client::connect(&server);
    client.send(&post(EVENT, &[], event(3).as_bytes()));
    assert!(client.is_silent(Duration::from_millis(300)));
    assert_eq!(stat(&server, "/faults/3/hits"), 1);
}

#[test]
fn faults_can_be_set_from_outside() {
    let server = strict(|_| {});
    let mut client = Client::connect(&server);
    let answer = client.request(&raw_post("/_loadgen/faults", &[], b"event.503:23"));
    assert_eq!(answer.status, 200);
    assert_eq!(client.post(event(0)).code(), 23);
    for bad in ["evnt.503", "event.unheard-of", "nonsense", "\u{fffd}"] {
        let answer = client.request(&raw_post("/_loadgen/faults", &[], bad.as_bytes()));
        assert_eq!(answer.status, 400, "{bad}");
        assert!(answer.json()["error"].is_string());
    }
    assert_eq!(client.request(&raw_post("/_loadgen/faults", &[], b"seed = 1\nfaults = []\n")).status, 200);
    assert_eq!(client.post(event(0)).code(), 0);
    let stats = client.request(&get("/_loadgen/stats")).json();
    assert_eq!(stats["mode"], "strict");
    assert_eq!((stats["requests"].as_u64(), stats["unique"].as_u64()), (Some(2), Some(1)));
    assert_eq!(stats["refusals"]["503/23"], 1);
    assert_eq!(stats["open_connections"], 1);
    let verdict = client.request(&get("/_loadgen/verdict?sent=1x2")).json();
    assert_eq!((verdict["lost"].as_u64(), verdict["missing"][0].as_str()), (Some(1), Some("0-1")));
    assert_eq!(client.request(&raw_post("/_loadgen/health", &[], b"18")).status, 200);
    assert_eq!(client.post(event(1)).code(), 9);
    assert_eq!(client.request(&raw_post("/_loadgen/restart?instance=3", &[], b"")).status, 400);
    client.send(&raw_post("/_loadgen/restart", &[], b"10ms"));
    while client.answer().is_some() {}
    assert_eq!(stat(&server, "/instances/0/incarnation"), 1);
}
