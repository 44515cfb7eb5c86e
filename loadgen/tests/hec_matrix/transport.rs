//! Rows about connections: HTTP versions, pipelining, idle time, TLS; and the fast mode.

use std::time::{Duration, Instant};

use loadgen::payload::{Payload, Profile};
use loadgen::sink::hec::{HecConfig, HecServer, Mode, Token};
use loadgen::sink::tls::TlsSettings;
use loadgen::verify::Sent;
use loadgen::verify::expect::{Expected, Metadata};

use crate::client::*;
use crate::{stat, stored, strict, without_ack};

#[test]
fn row_http_1_0_when_no_user_agent() {
    let server = strict(without_ack);
    let mut client = Client::connect(&server);
    let request = String::from_utf8(post(EVENT, &[], event(0).as_bytes())).expect("text");
    let answer = client.request(request.replace("User-Agent: test\r\n", "").as_bytes());
    assert_eq!((answer.minor, answer.code()), (0, 0));
    assert_eq!(answer.header("Connection"), Some("Close"));
    assert!(client.is_ended());
    assert_eq!(stat(&server, "/oddities/no User-Agent"), 1);
    let mut client = Client::connect(&server);
    assert_eq!(client.post(event(1)).minor, 1);
    let answer = client.request(&post(EVENT, &["Connection: close"], event(2).as_bytes()));
    assert_eq!((answer.minor, answer.code()), (1, 0));
    assert!(client.is_ended());
}

#[test]
fn row_pipelined_requests_are_answered_in_order() {
    let server = strict(|_| {});
    let mut client = Client::connect(&server);
    let requests: Vec<u8> = (0..50).flat_map(|number| post(EVENT, &[], event(number).as_bytes())).collect();
    client.send(&requests);
    for id in 0..50 {
        assert_eq!(client.answer().expect("an answer").ack_id(), Some(id));
    }
    assert_eq!(stored(&server), (0..50).collect::<Vec<_>>());
    let events = server.events();
    assert!(
        events.windows(2).all(|pair| pair[0].receive < pair[1].receive && pair[0].request < pair[1].request)
    );
}

#[test]
fn row_requests_cut_at_every_byte() {
    let server = strict(without_ack);
    let request = post(EVENT, &[], event(0).as_bytes());
    for at in (1..request.len()).step_by(7) {
        let mut client = Client::connect(&server);
        client.send(&request[..at]);
        std::thread::sleep(Duration::from_millis(2));
        client.send(&request[at..]);
        assert_eq!(client.answer().expect("an answer").code(), 0, "split at {at}");
    }
    let whole = server.events().len();
    for at in (0..request.len()).step_by(7) {
        Client::connect(&server).send(&request[..at]);
    }
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(server.events().len(), whole, "a request that was cut stores nothing");
    assert_eq!(stat(&server, "/open_connections"), 0);
}

#[test]
fn chunked_bodies_and_bad_heads() {
    let server = strict(without_ack);
    let mut client = Client::connect(&server);
    let head = format!(
        "POST {EVENT} HTTP/1.1\r\nHost: s\r\nUser-Agent: t\r\n{AUTH}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let (first, second) = (event(0), event(1));
    let body = format!("{:x}\r\n{first}\r\n{:X}\r\n{second}\r\n0\r\n\r\n", first.len(), second.len());
    client.send(head.as_bytes());
    assert_eq!(client.request(body.as_bytes()).code(), 0);
    assert_eq!(stored(&server), [0, 1]);
    for bad in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"GET\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ] {
        let mut client = Client::connect(&server);
        assert_eq!(client.request(bad).status, 400);
        assert!(client.is_ended());
    }
}

#[test]
fn row_close_after_idle_when_busy() {
    let server = strict(|config| {
        config.busy = true;
        config.busy_idle = Duration::from_millis(500);
    });
    let mut client = Client::connect(&server);
    client.post(event(0));
    let start = Instant::now();
    assert!(client.is_ended());
    let idle = start.elapsed();
    assert!((400..3000).contains(&idle.as_millis()), "{idle:?}");
    server.set_busy(false);
    let mut client = Client::connect(&server);
    client.post(event(1));
    std::thread::sleep(Duration::from_millis(900));
    assert_eq!(client.post(event(2)).code(), 0, "not busy: kept");
    assert_eq!(HecConfig::new(Mode::Strict, Token::new("t")).busy_idle, Duration::from_secs(12));
}

#[test]
fn row_tls_12_only_default_cert_and_mtls() {
    let tls = |settings: TlsSettings| strict(|config| config.tls = Some(settings));
    let connect = |server: &HecServer, versions: &[&'static rustls::SupportedProtocolVersion]| {
        Client::tls(server.address(), server.ca_pem().expect("TLS"), None, versions)
    };
    let (v12, v13) = (&[&rustls::version::TLS12], &[&rustls::version::TLS13]);

    let both = tls(TlsSettings::default());
    assert_eq!(connect(&both, v12).expect("1.2").post(event(0)).code(), 0);
    assert_eq!(connect(&both, v13).expect("1.3").post(event(0)).code(), 0);

    let old = tls(TlsSettings { only_12: true, ..TlsSettings::default() });
    assert_eq!(connect(&old, v12).expect("1.2").post(event(0)).code(), 0);
    assert!(connect(&old, v13).is_err());

    let default = tls(TlsSettings { splunk_default: true, ..TlsSettings::default() });
    let why = connect(&default, rustls::DEFAULT_VERSIONS).err().expect("no name in the certificate");
    assert!(why.contains("certificate"), "{why}");

    let mutual = tls(TlsSettings { require_client: true, ..TlsSettings::default() });
    assert!(connect(&mutual, v12).is_err(), "without a client certificate");
    let ca = mutual.ca_pem().expect("TLS");
    let mut client =
        Client::tls(mutual.address(), ca, mutual.client_pem(), rustls::DEFAULT_VERSIONS).expect("mTLS");
    assert_eq!(client.post(event(0)).code(), 0);
}

/// All logs of some groups as the forwarder would send them.
fn envelopes(payload: &Payload, shard: u32, groups: std::ops::Range<u64>) -> Vec<String> {
    let one = |index| {
        let group = payload.group(shard, index);
        let envelope = |log| {
            let event = Expected::new(&group, log, &Metadata::default()).event_text();
            let host = group.source.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            let host = if host.is_empty() {
                String::new()
            } else {
                format!("\"host\":{},", serde_json::json!(host))
            };
            let (seconds, nanos) = (log.time, log.time_ns.unwrap_or(0));
            format!("{{\"time\":{seconds}.{nanos:09},{host}\"event\":{event}}}\n")
        };
        group.logs.iter().map(envelope).collect::<Vec<_>>()
    };
    groups.flat_map(one).collect()
}

#[test]
fn whole_payloads_are_judged_in_both_modes() {
    for (mode, profile) in [
        (Mode::Fast, Profile::Mixed),
        (Mode::Fast, Profile::Nasty),
        (Mode::Strict, Profile::Mixed),
        (Mode::Strict, Profile::Nasty),
    ] {
        let payload = Payload::new(profile, 77);
        let mut config = HecConfig::new(mode, Token::new(TOKEN).with_ack());
        config.payload = Some((payload, Metadata::default()));
        config.tls = Some(TlsSettings::default());
        let server = HecServer::start(config).expect("start");
        let mut client = Client::connect(&server);
        for shard in 0..2 {
            for (id, batch) in envelopes(&payload, shard, 0..6).chunks(70).enumerate() {
                let answer = client.request(&post(EVENT, &[], batch.concat().as_bytes()));
                assert_eq!(answer.code(), 0, "{}", answer.body);
                assert_eq!(answer.ack_id(), Some(id as u64 + u64::from(shard) * 9));
            }
        }
        let sent = Sent::even(2, 600);
        let verdict = server.verdict(Some(&sent));
        assert!(verdict.is_exact(), "{mode:?} {profile:?} {verdict:?} {}", server.stats());
        if mode == Mode::Strict {
            assert_eq!(stat(&server, "/exact"), 1200, "{profile:?}");
        }
        // One more log than was stored is one lost.
        let more = Sent::even(2, 601);
        assert_eq!(server.verdict(Some(&more)).lost, 2, "{mode:?} {profile:?}");
    }
}

#[test]
fn a_changed_event_is_caught() {
    let payload = Payload::new(Profile::AccessLog, 1);
    let server = strict(|config| config.payload = Some((payload, Metadata::default())));
    let mut client = Client::connect(&server);
    let mut batch = envelopes(&payload, 0, 0..1);
    batch[17] = batch[17].replacen("https://", "http://", 1);
    batch[18] = batch[18].replacen("{\"time\":17", "{\"time\":16", 1);
    client.post(batch.concat());
    let verdict = server.verdict(Some(&Sent::even(1, 100)));
    assert_eq!((verdict.mismatched, verdict.lost), (2, 0));
    assert!(server.stats()["samples"][0].as_str().expect("a sample").starts_with("0-17:"));
}

#[test]
fn stored_events_are_written_as_lines() {
    let directory = std::env::temp_dir().join(format!("loadgen-hec-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("directory");
    let path = directory.join("stored.jsonl");
    let server = strict(|config| {
        without_ack(config);
        config.keep = false;
        config.out = Some(path.clone());
    });
    Client::connect(&server).post(format!("{}{{\n\"event\":\r\n{{\"seq\":\"0-1\"}}}}", event(0)));
    assert!(server.events().is_empty(), "not kept");
    server.stop();
    let text = std::fs::read_to_string(&path).expect("the file");
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1]["event"]["seq"], "0-1");
    std::fs::remove_dir_all(&directory).expect("clean");
}

#[test]
fn fast_mode_checks_token_and_framing() {
    let mut config = HecConfig::new(Mode::Fast, Token::new(TOKEN).with_ack());
    config.ack_delay = "0s".parse().expect("delay");
    let server = HecServer::start(config).expect("start");
    let mut client = Client::connect(&server);
    let answer = client.request(&raw_post(EVENT, &["Authorization: Splunk nobody"], event(0).as_bytes()));
    assert_eq!(answer.code(), 4);
    client.send(
        &[post(EVENT, &[], events(0..3).as_bytes()), post(EVENT, &[], events(2..5).as_bytes())].concat(),
    );
    assert_eq!(client.answer().expect("first").ack_id(), Some(0));
    assert_eq!(client.answer().expect("second").ack_id(), Some(1));
    assert_eq!(client.poll(CHANNEL, &[0, 1]), [true, true]);
    let verdict = server.verdict(Some(&Sent::even(1, 5)));
    assert_eq!((verdict.lost, verdict.duplicates, verdict.stored_unique), (0, 1, 5));
    assert_eq!(server.stats()["mode"], "fast");
}
