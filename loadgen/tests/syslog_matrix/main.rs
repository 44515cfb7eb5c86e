//! The syslog receiver against a raw client: what it takes, what it refuses, how it ends, and each fault of its plan.
//!
//! Spec: syslog.md 3, 4, 6.
#![expect(
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test against real sockets and clocks, whose helpers may fail it"
)]

mod client;
mod relp;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use client::{A_WHILE, Client, End, PATIENCE};
use loadgen::fault::FaultPlan;
use loadgen::payload::{Payload, Profile};
use loadgen::sink::syslog::{Expectation, Framing, Mode, SyslogConfig, SyslogServer, Transport};
use loadgen::verify::Sent;
use loadgen::verify::expect::{Expected, Metadata};

fn strict(transports: &[Transport], change: impl FnOnce(&mut SyslogConfig)) -> SyslogServer {
    let mut config = SyslogConfig { keep: true, ..SyslogConfig::new(Mode::Strict, transports) };
    change(&mut config);
    SyslogServer::start(config).expect("start")
}

fn with_faults(transport: Transport, plan: &str) -> SyslogServer {
    strict(&[transport], |config| config.faults = FaultPlan::parse(plan).expect("a plan"))
}

/// A message that carries this number of shard 0.
fn message(number: u64) -> String {
    format!("<14>1 2026-01-02T03:00:45.000001Z h a p m - {{\"seq\":\"0-{number}\"}}")
}

fn counted(text: &str) -> String {
    format!("{} {text}", text.len())
}

fn counted_messages(numbers: std::ops::Range<u64>) -> String {
    numbers.map(|number| counted(&message(number))).collect()
}

fn numbers(server: &SyslogServer) -> Vec<u64> {
    server.messages().iter().filter_map(|message| message.seq).map(|seq| seq.number).collect()
}

fn stat(server: &SyslogServer, path: &str) -> u64 {
    server.stats().pointer(path).and_then(serde_json::Value::as_u64).unwrap_or_else(|| panic!("{path}"))
}

fn wait_until(server: &SyslogServer, what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}: {:#}", server.stats());
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn wait_messages(server: &SyslogServer, count: u64) {
    wait_until(server, "messages", || stat(server, "/messages") >= count);
}

const STREAMS: [Transport; 2] = [Transport::Tcp, Transport::Tls];

#[test]
fn everything_is_read_before_a_half_close_is_answered() {
    for transport in STREAMS {
        let server = strict(&[transport], |_| ());
        let mut client = Client::connect(&server, transport);
        client.send(counted_messages(0..5000).as_bytes());
        client.half_close();
        assert_eq!(client.end_within(PATIENCE), (vec![], End::Orderly), "{transport:?}");
        assert_eq!(stat(&server, "/messages"), 5000, "all of it was taken before the FIN");
        assert!(server.verdict(Some(&Sent::even(1, 5000))).is_exact());
        assert_eq!(server.violations(), []);
        assert_eq!((stat(&server, "/ended"), stat(&server, "/partial")), (1, 0));
        assert_eq!(stat(&server, "/counted_frames"), 5000);
    }
}

#[test]
fn both_framings_and_every_split_give_the_same_messages() {
    let server = strict(&[Transport::Tcp], |_| ());
    let text = format!("{}{}\n{}", counted(&message(0)), message(1), counted(&message(2)));
    for end in 0..=text.len() {
        let mut client = Client::connect(&server, Transport::Tcp);
        client.socket().set_nodelay(true).expect("nodelay");
        client.send(&text.as_bytes()[..end]);
        client.send(&text.as_bytes()[end..]);
        client.half_close();
        assert_eq!(client.end(), End::Orderly, "split at {end}");
    }
    let rounds = text.len() as u64 + 1;
    assert_eq!(stat(&server, "/messages"), 3 * rounds);
    assert_eq!(stat(&server, "/lines"), rounds);
    assert_eq!(server.violations(), []);
}

#[test]
fn a_frame_that_is_cut_by_the_end_is_no_message() {
    let server = strict(&[Transport::Tcp], |_| ());
    let text = counted(&message(0));
    for end in 1..text.len() {
        let mut client = Client::connect(&server, Transport::Tcp);
        client.send(&text.as_bytes()[..end]);
        client.half_close();
        assert_eq!(client.end(), End::Orderly);
    }
    assert_eq!((stat(&server, "/messages"), stat(&server, "/partial")), (0, text.len() as u64 - 1));
}

#[test]
fn a_broken_rule_is_told_with_its_place_and_the_message_counts() {
    let server = strict(&[Transport::Tcp], |config| config.framing = Framing::Newline);
    let mut client = Client::connect(&server, Transport::Tcp);
    let bad = "<14>1 2026-01-02T03:00:45.1234567Z h a p m - {\"seq\":\"0-1\"}";
    client.send(format!("{}\n{bad}\n{}\r\n", message(0), message(2)).as_bytes());
    client.half_close();
    assert_eq!(client.end(), End::Orderly);
    let violations = server.violations();
    assert_eq!(violations.len(), 2, "{violations:#?}");
    let (first, second) = if violations[0].what.contains("fraction") { (0, 1) } else { (1, 0) };
    assert_eq!(violations[first].frame_at, message(0).len() as u64 + 1);
    assert_eq!(violations[first].at, bad.find(".1234567").expect("there") + 7);
    assert!(violations[first].text.contains("45.1234567Z"));
    assert!(violations[second].what.contains("CR"));
    assert_eq!(numbers(&server), [0, 1, 2], "a message that breaks a rule arrived all the same");
}

#[test]
fn a_wrong_count_ends_the_connection_with_a_reset() {
    let server = strict(&[Transport::Tcp], |_| ());
    let mut client = Client::connect(&server, Transport::Tcp);
    client.send(format!("{}{}", counted(&message(0)), "7x more").as_bytes());
    let end = client.end();
    assert!(matches!(end, End::Reset | End::Orderly), "{end:?}");
    assert_eq!(numbers(&server), [0]);
    assert_eq!(server.violations()[0].what, "no space behind the octet count");
    // A message that is too long, as syslog-ng takes it.
    let server = strict(&[Transport::Tcp], |config| config.max_message_bytes = 100);
    let mut client = Client::connect(&server, Transport::Tcp);
    client.send(b"101 ");
    assert_eq!(client.end(), End::Orderly);
    assert!(server.violations()[0].what.contains("allowed are 100"));
}

#[test]
fn a_stream_of_tls_that_just_stops_is_told() {
    let server = strict(&[Transport::Tls], |_| ());
    let mut client = Client::connect(&server, Transport::Tls);
    client.send(counted(&message(0)).as_bytes());
    wait_messages(&server, 1);
    client.socket().shutdown(std::net::Shutdown::Write).expect("shutdown");
    client.end();
    wait_until(&server, "told", || !server.violations().is_empty());
    assert_eq!(server.violations()[0].what, "TLS ended without close_notify");
    assert_eq!(stat(&server, "/broken"), 1);
}

#[test]
fn datagrams_are_messages() {
    let server = strict(&[Transport::Udp], |_| ());
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
    socket.connect(server.listening()[0].address).expect("connect");
    for number in 0..20 {
        socket.send(message(number).as_bytes()).expect("send");
    }
    socket.send(b"no syslog").expect("send");
    wait_messages(&server, 21);
    assert_eq!(numbers(&server), (0..20).collect::<Vec<_>>());
    assert_eq!(server.violations()[0].what, "no priority");
    assert_eq!(stat(&server, "/by_transport/udp"), 21);
}

#[test]
fn resets_stops_and_closes_of_the_plan() {
    // (plan, messages taken of ten, how it ends)
    for (plan, taken, end) in [
        ("message.reset@3", 2, End::Reset),
        ("message.reset-after@3", 3, End::Reset),
        ("message.close@3", 3, End::Reset),
        ("message.hang@3", 2, End::Open),
        ("message.lost@3", 9, End::Orderly),
        ("message.fin@3", 10, End::Orderly),
        ("message.crash@3", 3, End::Reset),
        ("connect.reset-at:4", 4, End::Reset),
        ("connect.close-at:4", 4, End::Reset),
        ("connect.stop-at:4", 4, End::Open),
        ("connect.close", 0, End::Reset),
        ("connect.reset", 0, End::Reset),
        ("connect.hang", 0, End::Open),
        ("eof.hang", 10, End::Open),
        ("eof.reset", 10, End::Reset),
        ("connect.slow:20KiB", 10, End::Orderly),
        ("message.stall:50ms@2", 10, End::Orderly),
        ("eof.delay:50ms", 10, End::Orderly),
    ] {
        let server = with_faults(Transport::Tcp, plan);
        let mut client = Client::connect(&server, Transport::Tcp);
        // A receiver that resets early is met while sending, which is no less a reset.
        let sent = client.try_send(counted_messages(0..10).as_bytes());
        if sent.is_ok() && client.socket().shutdown(std::net::Shutdown::Write).is_ok() {
            let time = if end == End::Open { A_WHILE } else { PATIENCE };
            let found = client.end_within(time).1;
            // An empty receive buffer makes a FIN of what would have been a reset.
            let may_be_fin = plan.contains("close");
            assert!(found == end || (may_be_fin && found == End::Orderly), "{plan}: {found:?}");
        } else {
            assert_eq!(end, End::Reset, "{plan}");
        }
        wait_messages(&server, taken);
        assert_eq!(stat(&server, "/messages"), taken, "{plan}");
        assert_eq!(server.violations(), [], "{plan}");
    }
}

#[test]
fn a_cut_by_bytes_falls_into_the_middle_of_a_frame() {
    for transport in STREAMS {
        let server = with_faults(transport, "connect.reset-at-bytes:100");
        let mut client = Client::connect(&server, transport);
        let _ = client.try_send(counted_messages(0..1000).as_bytes());
        assert_eq!(client.end(), End::Reset, "{transport:?}");
        assert_eq!(stat(&server, "/wire_bytes"), 100);
        assert_eq!(numbers(&server), [0]);
    }
}

#[test]
fn tls_without_close_notify_on_request() {
    let server = with_faults(Transport::Tls, "eof.no-notify");
    let mut client = Client::connect(&server, Transport::Tls);
    client.send(counted(&message(0)).as_bytes());
    client.half_close();
    assert_eq!(client.end(), End::Truncated);
    assert_eq!(numbers(&server), [0]);
}

#[test]
fn a_restart_refuses_for_a_while_and_keeps_its_port() {
    let server = strict(&[Transport::Tcp], |_| ());
    let mut client = Client::connect(&server, Transport::Tcp);
    client.send(counted(&message(0)).as_bytes());
    wait_messages(&server, 1);
    server.crash(Duration::from_millis(200));
    assert_eq!(client.end(), End::Reset);
    wait_until(&server, "is back", || {
        Client::try_connect(&server, Transport::Tcp).is_some_and(|mut client| {
            let sent = client.try_send(counted(&message(1)).as_bytes()).is_ok();
            client.half_close();
            sent && client.end() == End::Orderly
        })
    });
    assert_eq!(numbers(&server), [0, 1]);
    assert_eq!(stat(&server, "/restarts"), 1);
}

/// The syslog message that a log should become, as far as the receiver compares it.
fn rendered(payload: &Payload, shard: u32, number: u64) -> Vec<u8> {
    let (index, offset) = payload.locate(number);
    let group = payload.group(shard, index);
    let log = &group.logs[offset];
    let clean = |value: &Option<bytes::Bytes>, max: usize| {
        let value = value.as_deref().unwrap_or_default();
        let is_clean =
            !value.is_empty() && value.len() <= max && value.iter().all(|byte| (33..=126).contains(byte));
        if is_clean { String::from_utf8_lossy(value).into_owned() } else { "-".to_owned() }
    };
    let (seconds, nanos) = (log.time, log.time_ns.unwrap_or(0));
    let micros = nanos / 1000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let mut event = Expected::new(&group, log, &Metadata::default());
    if nanos % 1000 != 0 {
        event = event.with_member("__time_ns_part__", nanos.to_string());
    }
    let event = event.event_text();
    format!(
        "<14>1 {year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{micros:06}Z {} {} - - - {event}",
        rest / 3600,
        rest / 60 % 60,
        rest % 60,
        clean(&group.source, 255),
        clean(&group.topic, 48),
    )
    .into_bytes()
}

/// Year, month and day of a day since 1970, by counting.
fn civil(mut days: u32) -> (u32, u32, u32) {
    let mut year = 1970;
    loop {
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let months = [31, if is_leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        for (month, length) in (1..).zip(months) {
            if days < length {
                return (year, month, days + 1);
            }
            days -= length;
        }
        year += 1;
    }
}

#[test]
fn contents_are_compared_and_a_changed_byte_is_seen() {
    let payload = Payload::new(Profile::Nasty, 5);
    let server = strict(&[Transport::Tcp], |config| config.payload = Some(Expectation::new(payload)));
    let mut client = Client::connect(&server, Transport::Tcp);
    let send = |client: &mut Client, bytes: &[u8]| {
        client.send(format!("{} ", bytes.len()).as_bytes());
        client.send(bytes);
    };
    for number in 0..300 {
        send(&mut client, &rendered(&payload, 1, number));
    }
    client.half_close();
    assert_eq!(client.end(), End::Orderly);
    let counts: Sent = "1=300".parse().expect("counts");
    let verdict = server.verdict(Some(&counts));
    assert!(verdict.is_exact() && verdict.stored_unique == 300, "{verdict:?} {:#}", server.stats());
    assert_eq!((stat(&server, "/exact"), stat(&server, "/unnumbered")), (300, 0));

    let mut client = Client::connect(&server, Transport::Tcp);
    let good = rendered(&payload, 1, 300);
    let last = good.len() - 2;
    let spoiled = [&good[..last], b"!", &good[last..]].concat();
    send(&mut client, &spoiled);
    let late = String::from_utf8(rendered(&payload, 1, 301)).expect("text").replacen("T03:", "T04:", 1);
    send(&mut client, late.as_bytes());
    client.half_close();
    assert_eq!(client.end(), End::Orderly);
    assert_eq!(stat(&server, "/mismatched"), 2, "{:#}", server.stats());
    let verdict = server.verdict(Some(&"1=303".parse().expect("counts")));
    assert_eq!((verdict.lost, verdict.mismatched), (1, 2), "{verdict:?}");
}

#[test]
fn the_fast_mode_counts_and_says_so() {
    let mut config = SyslogConfig::new(Mode::Fast, &[Transport::Tls]);
    config.threads = 2;
    let server = SyslogServer::start(config).expect("start");
    let mut client = Client::connect(&server, Transport::Tls);
    client.send(counted_messages(0..1000).as_bytes());
    client.send(b"5 plain");
    client.half_close();
    assert_eq!(client.end(), End::Orderly);
    assert_eq!(server.stats()["mode"], "fast");
    assert_eq!((stat(&server, "/messages"), stat(&server, "/unidentified")), (1001, 1));
    assert_eq!(server.violations(), [], "nothing is parsed");
    assert!(server.verdict(Some(&Sent::even(1, 1000))).is_exact());
    assert_eq!(server.verdict(Some(&Sent::even(1, 1001))).lost, 1);
}

#[test]
fn a_plan_with_words_of_another_server_is_refused() {
    for plan in ["event.503", "message.never-ack"] {
        let mut config = SyslogConfig::new(Mode::Fast, &[Transport::Tcp]);
        config.faults = FaultPlan::parse(plan).expect("a plan");
        assert!(SyslogServer::start(config).is_err(), "{plan}");
    }
}
