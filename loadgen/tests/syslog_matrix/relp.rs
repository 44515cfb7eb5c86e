//! RELP sessions: the dialogue, what ends it, and each fault of its plan.

use super::client::{A_WHILE, Client, End, PATIENCE};
use super::*;

fn command(txnr: u32, name: &str, data: &str) -> String {
    if data.is_empty() {
        format!("{txnr} {name} 0\n")
    } else {
        format!("{txnr} {name} {} {data}\n", data.len())
    }
}

/// The responses to these commands, all well.
fn oks(numbers: &[u32]) -> String {
    let lines: Vec<_> = numbers.iter().map(|txnr| format!("{txnr} rsp 6 200 OK\n")).collect();
    lines.concat()
}

const OFFERS: &str = "relp_version=0\nrelp_software=test,1,x\ncommands=syslog";

fn open(server: &SyslogServer, transport: Transport) -> Client {
    let mut client = Client::connect(server, transport);
    client.send(command(1, "open", OFFERS).as_bytes());
    let answer = client.read_until(b"\ncommands=");
    assert!(answer.starts_with(b"1 rsp "), "{}", String::from_utf8_lossy(&answer));
    client.read_until(b"\n");
    client
}

fn messages(range: std::ops::Range<u64>) -> String {
    range
        .map(|number| command(u32::try_from(number).expect("small") + 2, "syslog", &message(number)))
        .collect()
}

#[test]
fn a_session_from_open_to_close() {
    for transport in [Transport::Relp, Transport::RelpTls] {
        let server = strict(&[transport], |_| ());
        let mut client = open(&server, transport);
        client.send(messages(0..500).as_bytes());
        client.send(command(502, "close", "").as_bytes());
        let (bytes, end) = client.end_within(PATIENCE);
        let mut expected = oks(&(2..502).collect::<Vec<_>>());
        expected.push_str("502 rsp 0\n0 serverclose 0\n");
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
        assert_eq!(end, End::Orderly, "{transport:?}");
        assert!(server.verdict(Some(&Sent::even(1, 500))).is_exact());
        assert_eq!(server.violations(), []);
        assert_eq!((stat(&server, "/relp/opens"), stat(&server, "/relp/closes")), (1, 1));
    }
}

#[test]
fn what_breaks_the_protocol_is_sent_away() {
    for (text, what) in [
        (command(3, "syslog", "x"), "TXNR 3 stands where 2 was due"),
        (command(2, "frobnicate", ""), "a command that is not known"),
        ("2 syslog 1 xy\n".to_owned(), "no LF behind the data"),
        ("2 syslog 9999999999 x\n".to_owned(), "DATALEN has more than nine digits"),
    ] {
        let server = strict(&[Transport::Relp], |_| ());
        let mut client = open(&server, Transport::Relp);
        client.send(text.as_bytes());
        let (bytes, _) = client.end_within(PATIENCE);
        assert_eq!(String::from_utf8_lossy(&bytes), "0 serverclose 0\n", "{text}");
        assert_eq!(server.violations()[0].what, what);
        assert_eq!(stat(&server, "/messages"), 0);
    }
    let server = strict(&[Transport::Relp], |_| ());
    let mut client = Client::connect(&server, Transport::Relp);
    client.send(command(1, "syslog", "x").as_bytes());
    assert_eq!(client.end_within(PATIENCE).0, b"0 serverclose 0\n");
    assert_eq!(server.violations()[0].what, "a command in front of open");
}

#[test]
fn responses_as_the_plan_wants_them() {
    // (plan, messages taken of five, what is answered, how it ends)
    let close = "0 serverclose 0\n";
    for (plan, taken, answer, end) in [
        ("syslog.500@2", 4, format!("{}3 rsp 11 500 refused\n{}", oks(&[2]), oks(&[4, 5, 6])), End::Open),
        ("syslog.500:full@2", 4, format!("{}3 rsp 8 500 full\n{}", oks(&[2]), oks(&[4, 5, 6])), End::Open),
        (
            "syslog.after-500@2",
            5,
            format!("{}3 rsp 11 500 refused\n{}", oks(&[2]), oks(&[4, 5, 6])),
            End::Open,
        ),
        ("syslog.unanswered@2", 5, oks(&[2, 4, 5, 6]), End::Open),
        ("syslog.lost@2", 4, oks(&[2, 4, 5, 6]), End::Open),
        ("syslog.serverclose@3", 2, oks(&[2, 3]) + close, End::Orderly),
        ("syslog.serverclose-after@3", 3, oks(&[2, 3]) + close, End::Orderly),
        ("syslog.hang@3", 2, oks(&[2, 3]), End::Open),
        ("syslog.duplicate@1", 5, oks(&[2, 2, 3, 4, 5, 6]), End::Open),
        ("syslog.garbled@1", 5, format!("200 OK\n{}", oks(&[3, 4, 5, 6])), End::Open),
        ("syslog.empty@1", 5, format!("2 rsp 0\n{}", oks(&[3, 4, 5, 6])), End::Open),
        ("syslog.wrong-txnr@1", 5, oks(&[3, 3, 4, 5, 6]), End::Open),
        ("syslog.bits@1", 5, format!("2 rsp 60200 OK\n{}", oks(&[3, 4, 5, 6])), End::Open),
        ("syslog.tear:5@1", 1, "2 rsp".to_owned(), End::Orderly),
        ("syslog.late:100ms@1", 5, oks(&[3, 4, 5, 6, 2]), End::Open),
        ("syslog.delay:100ms@2", 5, oks(&[2, 3, 4, 5, 6]), End::Open),
        ("connect.stop-at:3", 3, oks(&[2, 3, 4]), End::Open),
    ] {
        let server = with_faults(Transport::Relp, plan);
        let mut client = open(&server, Transport::Relp);
        client.send(messages(0..5).as_bytes());
        let bytes = client.read(answer.len());
        assert_eq!(String::from_utf8_lossy(&bytes), answer, "{plan}");
        let time = if end == End::Open { A_WHILE } else { PATIENCE };
        assert_eq!(client.end_within(time), (vec![], end), "{plan}");
        assert_eq!(stat(&server, "/messages"), taken, "{plan}");
    }
    for (plan, taken) in [("syslog.reset@3", 2), ("syslog.reset-after@3", 3), ("connect.reset-at:2", 2)] {
        let server = with_faults(Transport::Relp, plan);
        let mut client = open(&server, Transport::Relp);
        client.send(messages(0..5).as_bytes());
        assert_eq!(client.end(), End::Reset, "{plan}");
        assert_eq!(stat(&server, "/messages"), taken, "{plan}");
    }
}

#[test]
fn a_session_that_is_not_granted() {
    for (plan, answer) in [
        ("open.500", "1 rsp 11 500 refused\n"),
        ("open.500:busy", "1 rsp 8 500 busy\n"),
        ("open.garbled", "200 OK\n"),
    ] {
        let server = with_faults(Transport::Relp, plan);
        let mut client = Client::connect(&server, Transport::Relp);
        client.send(command(1, "open", OFFERS).as_bytes());
        let bytes = client.read(answer.len());
        assert_eq!(String::from_utf8_lossy(&bytes), answer, "{plan}");
        assert_eq!(client.end_within(A_WHILE), (vec![], End::Open), "{plan}");
    }
    let server = with_faults(Transport::Relp, "open.no-syslog");
    let mut client = Client::connect(&server, Transport::Relp);
    client.send(command(1, "open", OFFERS).as_bytes());
    client.read_until(b"\ncommands=other\n");
}

#[test]
fn more_than_the_window_breaks_a_rule() {
    let server = strict(&[Transport::Relp], |config| {
        config.relp_window = Some(3);
        config.faults = FaultPlan::parse("syslog.delay:200ms@1").expect("a plan");
    });
    let mut client = open(&server, Transport::Relp);
    client.send(messages(0..3).as_bytes());
    client.read_until(b"4 rsp 6 200 OK\n");
    assert_eq!(server.violations(), [], "three are within");
    server.set_faults(FaultPlan::parse("syslog.delay:200ms@1").expect("a plan")).expect("set");
    client.send(messages(3..7).as_bytes());
    client.read_until(b"8 rsp 6 200 OK\n");
    assert_eq!(server.violations().len(), 1);
    assert!(server.violations()[0].what.contains("window"));
    assert_eq!(stat(&server, "/relp/outstanding_max"), 4);
}
