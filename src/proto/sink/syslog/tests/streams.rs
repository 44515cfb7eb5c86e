//! Streams: drain, kernel, written.

use super::*;

#[test]
fn an_epoch_is_proven_by_the_peers_end_behind_ours() {
    let mut rig = Rig::new(&[Transport::Drain]);
    let first = rig.connect();
    for record in 0..3 {
        rig.push(record, b"message\n");
        rig.wait(SECOND / 2);
    }
    assert_eq!(rig.wire(first), b"message\nmessage\nmessage\n");
    assert!(rig.settled.is_empty() && rig.finishing.is_empty() && rig.connecting.is_empty());
    // Due: the next connection is asked for first, and the old one goes on until it is there.
    rig.wait(SECOND / 2);
    assert!(rig.finishing.is_empty() && rig.connecting.len() == 1);
    rig.push(3, b"late\n");
    assert!(rig.wire(first).ends_with(b"late\n"));
    let second = rig.connect();
    rig.hush();
    assert_eq!(rig.finishing, [first]);
    // The same shard waits for the proof, another one does not.
    rig.push(4, b"next\n");
    rig.push_of(1, 10..11, b"other\n");
    assert_eq!(rig.wire(second), b"other\n");
    rig.drains(first);
    assert_eq!(rig.settled, [0, 1, 2, 3]);
    assert_eq!(rig.wire(second), b"other\nnext\n");
    assert_eq!(rig.cx.counters.acked_batches, 4);
    assert!(rig.alarms.is_empty());
}

#[test]
fn the_last_frames_are_proven_without_any_that_follow() {
    let mut rig = Rig::new(&[Transport::Drain]);
    let conn = rig.connect();
    rig.push(0, b"alone\n");
    rig.wait(INTERVAL);
    rig.hush();
    assert_eq!(rig.finishing, [conn]);
    assert!(rig.connecting.is_empty(), "nobody needs another connection");
    rig.drains(conn);
    assert_eq!(rig.settled, [0]);
    assert_eq!(rig.deadline(), None);
    rig.assert_balanced();
}

#[test]
fn the_fin_is_asked_for_after_the_last_byte() {
    let mut rig = Rig::new(&[Transport::Drain]);
    let conn = rig.connect();
    // The socket takes nothing.
    let mut frame = rig.cx.pool.take(rig.now).unwrap();
    frame.bytes.extend_from_slice(b"0123456789");
    let name = Segment { shard: ShardId(0), epoch: Epoch(1), pull: PullId(0), start: 0, end: 1 };
    frame.note(name);
    rig.sink.push(frame);
    rig.sink.dispatch(rig.now, &mut rig.cx);
    rig.cx.actions.clear();
    rig.wait(INTERVAL + SECOND);
    assert!(rig.finishing.is_empty());
    rig.transmit(conn, 4);
    rig.run();
    assert!(rig.finishing.is_empty());
    rig.transmit(conn, 6);
    rig.run();
    rig.hush();
    assert_eq!(rig.finishing, [conn]);
    rig.drains(conn);
    assert_eq!(rig.settled, [0]);
}

#[test]
fn our_fin_waits_for_a_moment_in_which_an_end_is_the_receivers_own() {
    let mut rig = Rig::new(&[Transport::Drain]);
    let first = rig.connect();
    rig.push_of(0, 0..4, b"<1>a\n<1>b\n<1>c\n<1>d\n");
    rig.wait(INTERVAL);
    assert!(rig.finishing.is_empty(), "everything is written; it may still be handling it");
    rig.closes(first, ClosedKind::Eof, 0);
    assert!(rig.settled.is_empty());
    // It ends connections early: the next epoch is full with two records, and the silence is longer.
    rig.wait(SECOND);
    rig.connect();
    rig.wait(SECOND / 10);
    assert!(rig.finishing.is_empty());
    rig.work_off();
    assert_eq!(rig.settled, [0, 1, 2, 3]);
}

#[test]
fn our_fin_waits_for_a_receiver_that_lags_and_is_given_up_when_nothing_moves() {
    let mut rig = Rig::new(&[Transport::Drain]);
    let first = rig.connect();
    rig.push(0, b"a\n");
    rig.push(1, b"b\n");
    rig.lags = true;
    rig.wait(INTERVAL + TIMEOUT / 2);
    assert!(rig.finishing.is_empty() && rig.alarms.is_empty(), "its buffer is full");
    rig.lags = false;
    rig.wait(SECOND);
    assert_eq!(rig.finishing, [first]);
    rig.drains(first);
    assert_eq!(rig.settled, [0, 1]);
    rig.connect();
    rig.push(2, b"c\n");
    rig.lags = true;
    rig.wait(INTERVAL + TIMEOUT);
    assert_eq!(rig.last_trouble(), &SyslogTrouble::Stalled { waited: TIMEOUT });
    rig.lags = false;
    rig.work_off();
    assert_eq!(rig.settled, [0, 1, 2]);
}

#[test]
fn a_receiver_that_ends_after_every_single_message_can_be_proven() {
    let mut rig = Rig::new(&[Transport::Drain]);
    rig.connect();
    rig.push_of(0, 0..3, b"<1>a\n<1>b\n<1>c\n");
    let mut rounds = 0;
    while rig.sink.frames() > 0 {
        rounds += 1;
        assert!(rounds < 60, "no progress: {:?}", rig.settled);
        while !rig.connecting.is_empty() {
            rig.connect();
        }
        // It ends after the first message; ours is there by then where nothing follows.
        let used: Vec<ConnId> =
            rig.wire.iter().filter(|(_, bytes)| !bytes.is_empty()).map(|(conn, _)| *conn).collect();
        for conn in used {
            rig.wire.remove(&conn);
            if rig.finishing.contains(&conn) {
                rig.drains(conn);
            } else {
                rig.closes(conn, ClosedKind::Eof, 1);
            }
        }
        rig.wait(SECOND);
    }
    assert_eq!(rig.settled, [0, 1, 2]);
}

#[test]
fn the_end_of_every_lease_cuts_what_is_written_in_part_and_forgets_it() {
    for transport in [Transport::Drain, Transport::Kernel, Transport::Written] {
        let mut rig = Rig::new(&[transport]);
        let conn = rig.connect();
        rig.push(0, b"whole\n");
        let mut frame = rig.cx.pool.take(rig.now).unwrap();
        frame.bytes.extend_from_slice(b"0123456789");
        frame.note(Segment { shard: ShardId(0), epoch: Epoch(1), pull: PullId(0), start: 1, end: 2 });
        rig.sink.push(frame);
        rig.sink.dispatch(rig.now, &mut rig.cx);
        rig.cx.actions.clear();
        rig.transmit(conn, 4);
        rig.sink.sever(&mut rig.cx);
        rig.sink.forget(ShardId(0), Epoch(1), &mut rig.cx);
        rig.run();
        assert_eq!(rig.closed, [conn], "{transport:?}");
        rig.wait(60 * SECOND);
        assert_eq!(rig.wire(conn), b"whole\n0123", "{transport:?}");
        assert!(rig.wire.len() == 1 && rig.settled.is_empty(), "{transport:?}");
        rig.assert_balanced();
    }
}

#[test]
fn an_end_that_proves_nothing_sends_everything_again_in_order() {
    // Before our end, after it with the FINs crossing on the way, and as a reset.
    for (finish, kind, unacked) in
        [(false, ClosedKind::Eof, 0), (true, ClosedKind::Eof, 1), (true, ClosedKind::Reset, 0)]
    {
        let mut rig = Rig::new(&[Transport::Drain]);
        let first = rig.connect();
        rig.push_of(0, 0..2, b"a\nb\n");
        rig.push(2, b"c\n");
        if finish {
            rig.wait(INTERVAL + SECOND);
            rig.finished(first);
        }
        rig.closes(first, kind, unacked);
        assert!(rig.settled.is_empty(), "{finish} {kind:?} {unacked}");
        assert_eq!(rig.cx.counters.duplicates_possible_records, 3);
        rig.push(3, b"d\n");
        rig.work_off();
        // Epochs follow each other: the shard is on one connection at a time.
        let again: Vec<u8> = rig
            .wire
            .iter()
            .filter(|(conn, _)| **conn != first)
            .flat_map(|(_, bytes)| bytes.clone())
            .collect();
        assert_eq!(again, b"a\nb\nc\nd\n", "{finish} {kind:?} {unacked}");
        assert_eq!(rig.settled, [0, 1, 2, 3]);
        rig.wait(15 * SECOND);
        rig.assert_balanced();
    }
}

#[test]
fn a_receiver_that_ends_connections_early_gets_shorter_epochs_and_is_told_about_once() {
    let mut rig = Rig::new(&[Transport::Drain]);
    rig.connect();
    for record in 0..8 {
        rig.push(record, b"0123456789");
    }
    take_25_bytes_of_each(&mut rig);
}

#[test]
fn a_frame_is_cut_where_a_receiver_takes_less_of_a_connection() {
    for line in ["<1>456789\n", "8 <1>56789"] {
        let mut rig = Rig::new(&[Transport::Drain]);
        rig.connect();
        rig.push_of(0, 0..6, line.repeat(6).as_bytes());
        rig.push_of(0, 6..8, line.repeat(2).as_bytes());
        take_25_bytes_of_each(&mut rig);
        rig.wait(15 * SECOND);
        rig.assert_balanced();
    }
}

/// A receiver that never takes more than 25 bytes of a connection gets eight records of about ten bytes.
fn take_25_bytes_of_each(rig: &mut Rig) {
    let mut rounds = 0;
    while rig.sink.frames() > 0 {
        rounds += 1;
        assert!(rounds < 60, "no progress: {:?}", rig.settled);
        while !rig.connecting.is_empty() {
            rig.connect();
        }
        let full: Vec<ConnId> =
            rig.wire.iter().filter(|(_, bytes)| bytes.len() > 25).map(|(conn, _)| *conn).collect();
        for conn in full {
            rig.wire.remove(&conn);
            rig.closes(conn, ClosedKind::Eof, 1);
        }
        for conn in rig.finishing.clone() {
            rig.drains(conn);
        }
        rig.wait(SECOND);
    }
    assert_eq!(rig.settled, [0, 1, 2, 3, 4, 5, 6, 7]);
    let ends = rig
        .alarms
        .iter()
        .filter(|alarm| matches!(alarm.cause, Cause::Syslog(SyslogTrouble::EndsEarly { .. })));
    assert!((1..=2).contains(&ends.count()), "{:?}", rig.alarms);
}

#[test]
fn a_receiver_that_never_ends_is_told_about_and_left() {
    let mut rig = Rig::new(&[Transport::Drain, Transport::Drain]);
    let first = rig.connect();
    rig.push(0, b"a\n");
    rig.wait(INTERVAL);
    rig.finished(first);
    rig.wait(89 * SECOND);
    assert!(rig.alarms.is_empty());
    rig.wait(SECOND);
    assert_eq!(rig.last_trouble(), &SyslogTrouble::NeverEnds { waited: TIMEOUT });
    assert_eq!(rig.closed, [first]);
    let (_, route) = rig.connecting[0];
    assert_eq!(route, RouteId(1), "the other endpoint, not the one that hangs");
    let second = rig.connect();
    assert_eq!(rig.wire(second), b"a\n");
    rig.wait(INTERVAL);
    rig.drains(second);
    assert_eq!(rig.settled, [0]);
}

#[test]
fn a_receiver_that_does_not_read_is_left_after_a_while() {
    let mut rig = Rig::new(&[Transport::Drain]);
    let first = rig.connect();
    let mut frame = rig.cx.pool.take(rig.now).unwrap();
    frame.bytes.extend_from_slice(b"0123456789");
    frame.note(Segment { shard: ShardId(0), epoch: Epoch(1), pull: PullId(0), start: 0, end: 1 });
    rig.sink.push(frame);
    rig.sink.dispatch(rig.now, &mut rig.cx);
    rig.cx.actions.clear();
    rig.transmit(first, 3);
    rig.wait(TIMEOUT + SECOND);
    assert_eq!(rig.last_trouble(), &SyslogTrouble::Stalled { waited: TIMEOUT });
    assert_eq!(rig.closed, [first]);
    rig.wait(SECOND);
    let second = rig.connect();
    assert_eq!(rig.wire(second), b"0123456789", "from its beginning");
}

#[test]
fn an_epoch_ends_early_when_it_holds_its_share_of_the_memory() {
    let mut rig = Rig::new(&[Transport::Drain]);
    let first = rig.connect();
    let text = vec![b'x'; 30_000];
    for record in 0..5 {
        rig.push(record, &text);
    }
    // A quarter of 400,000 bytes of frames.
    assert_eq!(rig.wire(first).len(), 120_000);
    let second = rig.connect();
    rig.hush();
    assert_eq!(rig.finishing, [first]);
    rig.drains(first);
    assert_eq!(rig.settled, [0, 1, 2, 3]);
    assert_eq!(rig.wire(second).len(), 30_000);
}

#[test]
fn endpoints_that_refuse_are_spared_and_the_others_used() {
    let mut rig = Rig::new(&[Transport::Drain, Transport::Drain]);
    let (refused, route) = rig.connecting.pop().unwrap();
    assert_eq!(route, RouteId(0));
    let why = Closed { kind: ClosedKind::Connect, detail: "refused".to_owned() };
    rig.sink.handle_closed(rig.now, refused, &why, &mut rig.cx);
    rig.run();
    assert_eq!(rig.connecting[0].1, RouteId(1));
    assert!(!rig.sink.holds(ShardId(0)), "one of two works");
    let conn = rig.connect();
    rig.push(0, b"a\n");
    assert_eq!(rig.wire(conn), b"a\n");
}

#[test]
fn shards_are_spread_over_endpoints_and_stay_where_they_are() {
    let mut rig =
        Rig::with(&[Transport::Drain, Transport::Drain], |params| params.drain_interval = 100 * SECOND);
    let first = rig.connect();
    for shard in 0..8 {
        rig.push_of(shard, 0..1, &[b'a' + u8::try_from(shard).unwrap(), b'\n']);
    }
    assert!(rig.connecting.is_empty(), "one connection takes all as long as it keeps up");
    for shard in 0..8 {
        rig.push_of(shard, 1..2, &[b'A' + u8::try_from(shard).unwrap(), b'\n']);
    }
    assert_eq!(rig.wire(first).len(), 32);
}

#[test]
fn a_shard_that_is_given_up_does_not_wait_for_the_interval() {
    let mut rig = Rig::with(&[Transport::Drain], |params| params.drain_interval = 600 * SECOND);
    let conn = rig.connect();
    rig.push(0, b"a\n");
    rig.sink.hasten(ShardId(0));
    rig.run();
    rig.hush();
    assert_eq!(rig.finishing, [conn]);
    rig.drains(conn);
    assert_eq!(rig.settled, [0]);
    assert!(rig.sink.wind_down(rig.now, &mut rig.cx));
}

#[test]
fn a_spare_connection_is_not_kept_for_long_and_its_end_is_no_trouble() {
    let mut rig = Rig::new(&[Transport::Drain]);
    let conn = rig.connect();
    rig.wait(9 * SECOND);
    assert!(rig.closed.is_empty());
    rig.wait(2 * SECOND);
    assert_eq!(rig.closed, [conn]);
    rig.push(0, b"a\n");
    let conn = rig.connect();
    rig.wait(INTERVAL);
    rig.drains(conn);
    assert!(rig.alarms.is_empty());
}

#[test]
fn kernel_settles_after_the_dwell_and_sends_again_what_a_break_leaves_open() {
    let mut rig = Rig::new(&[Transport::Kernel]);
    let first = rig.connect();
    rig.push(0, b"a\n");
    rig.wait(SECOND);
    assert_eq!(rig.measuring, [first]);
    rig.ledger(first, 0);
    assert!(rig.settled.is_empty(), "its kernel has it, its process perhaps not");
    for _ in 0..6 {
        rig.wait(SECOND);
        rig.ledger(first, 0);
    }
    assert_eq!(rig.settled, [0]);
    rig.push(1, b"b\n");
    rig.wait(SECOND);
    rig.ledger(first, 0);
    rig.closes(first, ClosedKind::Reset, 0);
    assert_eq!(rig.settled, [0], "arrived a moment before the break is not enough");
    let second = rig.connect();
    assert_eq!(rig.wire(second), b"b\n");
    assert!(rig.alarms.is_empty(), "an end after good work is no trouble");
}

#[test]
fn kernel_settles_with_a_receiver_that_ends_each_connection_soon() {
    let mut rig = Rig::new(&[Transport::Kernel]);
    for record in 0..5_u32 {
        rig.push(record, b"a\n");
        // Of one the last byte is missing: it goes again.
        for unacked in [1, 0].into_iter().skip(usize::from(record != 2)) {
            let conn = rig.connect();
            assert_eq!(rig.wire(conn), b"a\n");
            rig.wait(SECOND / 2);
            rig.closes(conn, ClosedKind::Eof, unacked);
            assert_eq!(rig.settled.len(), record as usize + usize::from(unacked == 0));
            rig.wait(60 * SECOND);
        }
    }
    rig.assert_balanced();
}

#[test]
fn written_counts_with_the_socket_and_says_so() {
    let mut rig = Rig::new(&[Transport::Written]);
    let conn = rig.connect();
    rig.push(0, b"a\n");
    assert_eq!(rig.measuring, [conn]);
    rig.ledger(conn, 2);
    assert_eq!(rig.settled, [0]);
    assert_eq!(rig.cx.counters.unproven_records, 1);
    rig.assert_balanced();
}

#[test]
fn a_lost_lease_takes_back_what_was_not_begun() {
    let mut rig = Rig::new(&[Transport::Drain]);
    rig.push(0, b"a\n");
    rig.push_of(1, 5..6, b"b\n");
    rig.sink.forget(ShardId(0), Epoch(1), &mut rig.cx);
    assert!(!rig.sink.carries(ShardId(0)) && rig.sink.carries(ShardId(1)));
    let conn = rig.connect();
    assert_eq!(rig.wire(conn), b"b\n");
}
