//! RELP sessions.

use super::super::relp::Relp;
use super::marked::marked;
use super::*;
use crate::proto::ids::Txnr;

const OPENED: &[u8] = b"1 rsp 93 200 OK\nrelp_version=0\nrelp_software=librelp,1.11.0,http://librelp.adiscon.com\ncommands=syslog\n";

/// A session that is opened.
fn open(rig: &mut Rig) -> ConnId {
    let conn = rig.connect();
    let said = String::from_utf8(rig.wire(conn).to_vec()).unwrap();
    let (head, offers) = said.split_once(" open ").unwrap();
    let (length, offers) = offers.split_once(' ').unwrap();
    assert_eq!((head, length.parse::<usize>().unwrap()), ("1", offers.len() - 1), "{said}");
    assert!(
        offers.starts_with("relp_version=0\nrelp_software=sls2siem,")
            && offers.ends_with("\ncommands=syslog\n\n")
    );
    rig.wire.insert(conn, Vec::new());
    rig.receive(conn, OPENED);
    conn
}

fn text(rig: &mut Rig, conn: ConnId) -> String {
    String::from_utf8(rig.wire.insert(conn, Vec::new()).unwrap_or_default()).unwrap()
}

#[test]
fn messages_flow_as_far_as_the_window_and_are_settled_by_their_answers() {
    let mut rig = Rig::new(&[Transport::Relp]);
    rig.push_of(0, 0..3, &marked(&[(b"one", true), (b"two\nlines", true), (b"", true)]));
    let conn = rig.connect();
    assert!(
        !rig.wire(conn).windows(8).any(|bytes| bytes == b"syslog 3"),
        "nothing before the answer to open"
    );
    rig.wire.insert(conn, Vec::new());
    rig.receive(conn, OPENED);
    assert_eq!(text(&mut rig, conn), "2 syslog 3 one\n3 syslog 9 two\nlines\n4 syslog 0\n");
    rig.push_of(0, 3..5, &marked(&[(b"4", true), (b"5", true)]));
    assert_eq!(text(&mut rig, conn), "5 syslog 1 4\n", "four are under way");
    // In any order.
    rig.receive(conn, b"3 rsp 6 200 OK\n4 rsp 6 200 OK\n");
    assert_eq!(text(&mut rig, conn), "", "the window slides over answered messages only");
    assert!(rig.settled.is_empty());
    rig.receive(conn, b"2 rsp 6 200 OK\n");
    assert_eq!(rig.settled, [0, 1, 2]);
    assert_eq!(text(&mut rig, conn), "6 syslog 1 5\n");
    rig.receive(conn, b"5 rsp 6 200 OK\n6 rsp 6 200 OK\n");
    assert_eq!(rig.settled, [0, 1, 2, 3, 4]);
    rig.assert_balanced();
    assert_eq!(rig.deadline(), None);
}

#[test]
fn a_session_that_the_server_closes_begins_again_at_one_with_what_is_open() {
    let mut rig = Rig::new(&[Transport::Relp]);
    let first = open(&mut rig);
    rig.push_of(0, 0..2, &marked(&[(b"a", true), (b"b", true)]));
    rig.push(2, &marked(&[(b"c", true)]));
    assert_eq!(text(&mut rig, first), "2 syslog 1 a\n3 syslog 1 b\n4 syslog 1 c\n");
    rig.receive(first, b"2 rsp 6 200 OK\n0 serverclose 0\n");
    assert_eq!(rig.closed, [first]);
    assert_eq!(rig.settled, [0], "what was answered does not go again");
    assert!(rig.alarms.is_empty(), "it worked before: no trouble");
    let second = open(&mut rig);
    assert_eq!(text(&mut rig, second), "2 syslog 1 b\n3 syslog 1 c\n", "in order");
    rig.receive(second, b"2 rsp 6 200 OK\n3 rsp 6 200 OK\n");
    assert_eq!(rig.settled, [0, 1, 2]);
    assert_eq!(rig.cx.counters.duplicates_possible_records, 2);
    rig.assert_balanced();
}

#[test]
fn a_server_that_ends_every_session_after_two_messages_takes_a_whole_frame_once() {
    let mut rig = Rig::new(&[Transport::Relp]);
    let mut conn = open(&mut rig);
    let part = [(&b"c1"[..], true), (b"c2", false)];
    rig.push_of(
        0,
        0..5,
        &marked(&[(b"a", true), (b"b", true), part[0], part[1], (b"d", true), (b"e", true)]),
    );
    let mut got = String::new();
    for (round, settled) in [2, 3, 5].into_iter().enumerate() {
        let sent = text(&mut rig, conn);
        got.extend(sent.lines().take(2).map(|line| format!("{};", line.rsplit(' ').next().unwrap())));
        rig.receive(conn, b"2 rsp 6 200 OK\n3 rsp 6 200 OK\n");
        if settled < 5 {
            rig.receive(conn, b"0 serverclose 0\n");
            conn = open(&mut rig);
        }
        assert_eq!(rig.settled, (0..settled).collect::<Vec<u32>>(), "round {round}");
    }
    assert_eq!(got, "a;b;c1;c2;d;e;");
    rig.assert_balanced();
}

#[test]
fn a_refused_record_leaves_although_the_session_ends_before_its_frame_is_answered() {
    let mut rig = Rig::new(&[Transport::Relp]);
    let first = open(&mut rig);
    rig.push_of(0, 0..3, &marked(&[(b"a", true), (b"b", true), (b"c", true)]));
    rig.receive(first, b"2 rsp 11 500 too bad\n0 serverclose 0\n");
    assert!(rig.settled.is_empty());
    assert_eq!(rig.cx.counters.refused_records, 1);
    assert!(rig.sink.holds(ShardId(0)));
    rig.wait(SECOND);
    let second = open(&mut rig);
    assert_eq!(text(&mut rig, second), "2 syslog 1 b\n3 syslog 1 c\n");
    rig.receive(second, b"2 rsp 6 200 OK\n3 rsp 6 200 OK\n");
    assert_eq!(rig.settled, [1, 2]);
    rig.wait(30 * SECOND);
    assert_eq!(text(&mut rig, second), "4 syslog 1 a\n");
    rig.receive(second, b"4 rsp 6 200 OK\n");
    assert_eq!(rig.settled, [1, 2, 0]);
    rig.assert_balanced();
}

#[test]
fn a_record_in_parts_goes_again_whole() {
    let mut rig = Rig::new(&[Transport::Relp]);
    let first = open(&mut rig);
    rig.push_of(
        0,
        0..2,
        &marked(&[(b"a", true), (b"b1", true), (b"b2", false), (b"b3", false), (b"b4", false)]),
    );
    assert_eq!(text(&mut rig, first), "2 syslog 1 a\n3 syslog 2 b1\n4 syslog 2 b2\n5 syslog 2 b3\n");
    rig.receive(first, b"2 rsp 6 200 OK\n3 rsp 6 200 OK\n0 serverclose 0\n");
    assert_eq!(rig.settled, [0]);
    let second = open(&mut rig);
    assert_eq!(text(&mut rig, second), "2 syslog 2 b1\n3 syslog 2 b2\n4 syslog 2 b3\n5 syslog 2 b4\n");
    rig.receive(second, b"2 rsp 6 200 OK\n3 rsp 6 200 OK\n4 rsp 6 200 OK\n5 rsp 6 200 OK\n");
    assert_eq!(rig.settled, [0, 1]);
    rig.assert_balanced();
}

#[test]
fn a_refused_message_leaves_alone_with_all_of_its_record() {
    let mut rig = Rig::new(&[Transport::Relp]);
    let conn = open(&mut rig);
    let split = [(&b"split"[..], true), (b"rest", false)];
    rig.push_of(0, 0..3, &marked(&[(b"a", true), split[0], split[1], (b"c", true)]));
    rig.receive(conn, b"2 rsp 6 200 OK\n3 rsp 6 200 OK\n4 rsp 11 500 too bad\n5 rsp 6 200 OK\n");
    assert_eq!(rig.settled, [0, 2]);
    assert_eq!(rig.last_trouble(), &SyslogTrouble::Refused { code: 500, text: "too bad".to_owned() });
    assert!(rig.sink.holds(ShardId(0)) && !rig.sink.holds(ShardId(1)));
    assert_eq!(rig.cx.counters.refused_records, 1);
    // It is offered again, alone and whole, until it is taken.
    text(&mut rig, conn);
    rig.wait(29 * SECOND);
    assert_eq!(text(&mut rig, conn), "");
    rig.wait(SECOND);
    assert_eq!(text(&mut rig, conn), "6 syslog 5 split\n7 syslog 4 rest\n");
    rig.receive(conn, b"6 rsp 6 200 OK\n7 rsp 6 200 OK\n");
    assert_eq!((rig.settled.as_slice(), rig.clears), (&[0, 2, 1][..], 1));
    assert!(!rig.sink.holds(ShardId(0)));
    rig.assert_balanced();
}

#[test]
fn numbers_go_from_nine_nines_to_one() {
    let last = Txnr::new(999_999_998).unwrap();
    assert_eq!([last.next().number(), last.next().next().number()], [999_999_999, 1]);
    assert_eq!(last.next().next().distance_from(last), 2);
    assert_eq!((Txnr::new(0), Txnr::new(1_000_000_000)), (None, None));

    let mut cx = Rig::new(&[Transport::Relp]).cx;
    let mut session = Relp::new(10, last);
    session.begin(Instant(0));
    let mut wire = Vec::new();
    let write = |session: &mut Relp, wire: &mut Vec<u8>| {
        while let Some(chunk) = session.chunk(Instant(0)) {
            wire.extend_from_slice(chunk);
            let bytes = chunk.len();
            session.advance(bytes);
        }
    };
    write(&mut session, &mut wire);
    let heard = session.handle_received(Instant(0), b"999999998 rsp 22 200 OK\ncommands=syslog\n", &mut cx);
    assert!(heard.opened, "{heard:?}");
    let mut frame = cx.pool.take(Instant(0)).unwrap();
    frame.bytes = marked(&[(b"a", true), (b"b", true), (b"c", true)]);
    frame.note(Segment { shard: ShardId(0), epoch: Epoch(1), pull: PullId(0), start: 0, end: 3 });
    session.push(frame);
    wire.clear();
    write(&mut session, &mut wire);
    assert_eq!(wire, b"999999999 syslog 1 a\n1 syslog 1 b\n2 syslog 1 c\n");
    let answers = b"1 rsp 6 200 OK\n999999999 rsp 6 200 OK\n2 rsp 6 200 OK\n";
    assert_eq!(session.handle_received(Instant(0), answers, &mut cx).over, None);
    assert_eq!(cx.settled.len(), 1);
}

#[test]
fn what_a_server_may_not_say_is_told_and_costs_nothing() {
    let silent = SyslogTrouble::Silent { waited: TIMEOUT, owed: 0 };
    for (answer, expected) in [
        (&b"1 rsp 15 500 not allowed\n"[..], "OpenRefused"),
        (b"1 rsp 19 200 OK\ncommands=eat\n", "OpenRefused"),
        (b"2 rsp 22 200 OK\ncommands=syslog\n", "OpenRefused"),
        (b"0 serverclose 0\n", "ServerClose"),
        (b"HTTP/1.1 400 Bad Request\r\n", "NotRelp"),
        (b"", "Silent"),
    ] {
        let mut rig = Rig::new(&[Transport::Relp]);
        rig.push(0, &marked(&[(b"a", true)]));
        let conn = rig.connect();
        if answer.is_empty() {
            rig.wait(TIMEOUT);
            assert_eq!(rig.last_trouble(), &silent);
        } else {
            rig.receive(conn, answer);
        }
        assert!(format!("{:?}", rig.last_trouble()).starts_with(expected), "{:?}", rig.last_trouble());
        assert_eq!(rig.closed, [conn]);
        assert!(rig.sink.holds(ShardId(7)));
        rig.wait(31 * SECOND);
        let conn = open(&mut rig);
        assert_eq!(text(&mut rig, conn), "2 syslog 1 a\n");
        rig.receive(conn, b"2 rsp 6 200 OK\n");
        assert_eq!((rig.settled.as_slice(), rig.clears), (&[0][..], 1));
    }
}

#[test]
fn an_answer_that_never_comes_or_fits_nothing_sends_again() {
    for answer in [&b""[..], b"9 rsp 6 200 OK\n", b"1 rsp 6 200 OK\n", b"2 rsp 0\n", b"2 rsp 2 OK\n"] {
        let mut rig = Rig::new(&[Transport::Relp]);
        let first = open(&mut rig);
        rig.push(0, &marked(&[(b"a", true)]));
        if answer.is_empty() {
            rig.wait(TIMEOUT);
            assert_eq!(rig.last_trouble(), &SyslogTrouble::Silent { waited: TIMEOUT, owed: 1 });
        } else {
            rig.receive(first, answer);
            assert!(matches!(rig.last_trouble(), SyslogTrouble::NotRelp { .. }), "{:?}", rig.alarms);
        }
        rig.wait(31 * SECOND);
        let second = open(&mut rig);
        assert_eq!(text(&mut rig, second), "2 syslog 1 a\n");
        assert!(rig.settled.is_empty());
    }
}

#[test]
fn a_stop_says_close_and_takes_an_empty_answer() {
    let mut rig = Rig::new(&[Transport::Relp]);
    let conn = open(&mut rig);
    assert!(!rig.sink.wind_down(rig.now, &mut rig.cx));
    rig.run();
    assert_eq!(text(&mut rig, conn), "2 close 0\n");
    assert!(!rig.sink.wind_down(rig.now, &mut rig.cx), "the answer is waited for");
    rig.receive(conn, b"2 rsp 0\n0 serverclose 0\n");
    assert!(rig.sink.wind_down(rig.now, &mut rig.cx));
    assert!(rig.alarms.is_empty());

    // One that does not answer is not waited for long.
    let mut rig = Rig::new(&[Transport::Relp]);
    open(&mut rig);
    assert!(!rig.sink.wind_down(rig.now, &mut rig.cx));
    rig.run();
    rig.wait(3 * SECOND);
    assert!(rig.sink.wind_down(rig.now, &mut rig.cx));
    assert!(rig.alarms.is_empty());
}
