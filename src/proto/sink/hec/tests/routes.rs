//! Several indexers: who gets what, who leaves, who comes back.

use super::rig::Seen;
use super::*;
use crate::proto::ids::RouteId;

fn two() -> Rig {
    let endpoint = |name: &str| Endpoint { authority: format!("{name}:8088"), base_path: String::new() };
    Rig::new(Params { endpoints: vec![endpoint("one"), endpoint("two")], ..params() })
}

/// Sends records one by one and answers by address; returns where they were taken.
fn feed(
    rig: &mut Rig,
    records: u32,
    answer: impl Fn(&Seen) -> (u16, &'static [&'static str], String),
) -> Vec<RouteId> {
    let mut taken = Vec::new();
    for _ in 0..records {
        rig.push(1);
        let end = rig.now + 120 * SECOND;
        while rig.settled.is_empty() {
            assert!(rig.now < end, "it is held up");
            for request in rig.take_requests() {
                let (status, headers, body) = answer(&request);
                if status == 200 && request.head.contains("/event ") {
                    taken.push(request.route);
                }
                rig.answer(request.conn, status, headers, &body);
            }
            rig.pass(Duration::from_millis(20));
        }
        assert!(matches!(rig.settled()[..], [(_, _, Settled::Acked)]));
    }
    taken
}

#[test]
fn row_404_503_and_23_during_a_rolling_restart_go_on_elsewhere() {
    for (status, body) in [
        (404, r#"{"text":"The requested URL was not found on this server.","code":404}"#),
        (503, r#"{"text":"Server is shutting down","code":23}"#),
        (503, r#"{"text":"Server is busy","code":9}"#),
    ] {
        let mut rig = two();
        let taken = feed(&mut rig, 10, |request| {
            if request.route == RouteId(0) { (status, &[], body.to_owned()) } else { (200, &[], ok(None)) }
        });
        assert!(taken.iter().all(|route| *route == RouteId(1)), "{taken:?}");
        assert!(!rig.hec.is_troubled(), "the other one works");
        assert_eq!(rig.cx.counters.duplicates_possible_records, 0, "{status}: nothing was taken");
    }
}

#[test]
fn row_an_ejected_endpoint_comes_back_by_its_health() {
    // Both fail often enough to be put out of use; then the second one works again and gets everything.
    let mut rig = two();
    rig.refuse_connects.extend([RouteId(0), RouteId(1)]);
    for conn in rig.open.clone() {
        rig.close(conn, ClosedKind::Reset);
    }
    rig.push(1);
    rig.pass(10 * SECOND);
    rig.refuse_connects.remove(&RouteId(1));
    let end = rig.now + 120 * SECOND;
    while rig.settled.is_empty() {
        assert!(rig.now < end);
        rig.pass(SECOND);
        for request in rig.take_requests() {
            assert_eq!(request.route, RouteId(1));
            let well = request.head.contains("/health ");
            let healthy = r#"{"text":"HEC is healthy","code":17}"#.to_owned();
            rig.answer(request.conn, 200, &[], &if well { healthy } else { ok(None) });
        }
    }
    rig.settled();
    feed(&mut rig, 5, |_| (200, &[], ok(None)));
    rig.pass(120 * SECOND);
    rig.take_requests();
    rig.refuse_connects.clear();
    rig.pass(60 * SECOND);
    let health = rig.take_requests();
    let asked = health
        .iter()
        .find(|request| request.route == RouteId(0))
        .expect("it is asked, without a log to send");
    assert!(asked.head.starts_with("GET /services/collector/health HTTP/1.1\r\n"), "{}", asked.head);
    assert!(asked.header("Authorization").is_none(), "it needs no token");
    assert!(asked.header("User-Agent").is_some());
    let full = r#"{"text":"HEC is unhealthy, queues are full","code":18}"#;
    rig.answer(asked.conn, 503, &["Retry-After: 7"], full);
    rig.pass(6 * SECOND);
    assert!(rig.take_requests().is_empty(), "it asked for 7 s");
    rig.pass(60 * SECOND);
    let asked = rig.only_request();
    rig.answer(asked.conn, 200, &[], r#"{"text":"HEC is healthy","code":17}"#);
    let taken = feed(&mut rig, 20, |_| (200, &[], ok(None)));
    assert!(taken.contains(&RouteId(0)), "{taken:?}");
}

#[test]
fn defect_kafka_connect_all_endpoints_out_is_a_wait_and_no_end() {
    let mut rig = two();
    rig.refuse_connects.extend([RouteId(0), RouteId(1)]);
    rig.push(3);
    rig.pass(600 * SECOND);
    assert!(rig.hec.is_troubled());
    rig.take_requests();
    rig.refuse_connects.clear();
    let end = rig.now + 120 * SECOND;
    while rig.settled.is_empty() {
        assert!(rig.now < end);
        rig.pass(SECOND);
        for request in rig.take_requests() {
            rig.answer(request.conn, 200, &[], &ok(None));
        }
    }
    assert_eq!(rig.settled(), [(0, 3, Settled::Acked)]);
    assert!(!rig.hec.is_troubled());
}

#[test]
fn row_429_and_warnings_slow_down_and_retry_after_is_honoured_with_a_cap() {
    for (status, code) in [(429, 26), (429, 27), (503, 9)] {
        let mut rig = Rig::new(params());
        rig.push(1);
        let sent = rig.only_request();
        let body = format!(r#"{{"text":"busy","code":{code}}}"#);
        rig.answer(sent.conn, status, &["Retry-After: 20"], &body);
        rig.pass(19 * SECOND);
        assert!(rig.take_requests().is_empty(), "{code}: it asked for 20 s");
        rig.pass(2 * SECOND);
        let again = rig.only_request();
        rig.answer(again.conn, status, &["Retry-After: 99999"], &body);
        rig.pass(61 * SECOND);
        assert_eq!(rig.take_requests().len(), 1, "{code}: nobody may send us away for a day");
    }
    for code in [24, 25] {
        let mut rig = Rig::new(params());
        rig.push(1);
        let sent = rig.only_request();
        rig.answer(sent.conn, 200, &[], &format!(r#"{{"text":"near its limit","code":{code}}}"#));
        assert_eq!(rig.settled(), [(0, 1, Settled::Acked)], "a warning is a success");
        rig.push(1);
        rig.pass(Duration::from_millis(100));
        assert!(rig.take_requests().is_empty(), "{code}: a pause");
        rig.pass(Duration::from_millis(400));
        assert_eq!(rig.take_requests().len(), 1);
    }
}

#[test]
fn a_pause_that_was_asked_for_outlasts_successes_of_requests_from_before() {
    let mut rig = Rig::new(Params { connections: 1, ..params() });
    rig.push(1);
    let first = rig.only_request();
    rig.answer(first.conn, 200, &[], &ok(None));
    rig.push(1);
    rig.push(1);
    assert_eq!(rig.take_requests().len(), 2, "both are under way");
    rig.answer(first.conn, 429, &["Retry-After: 20"], r#"{"text":"busy","code":26}"#);
    rig.answer(first.conn, 200, &[], &ok(None));
    rig.pass(19 * SECOND);
    assert!(rig.take_requests().is_empty(), "it asked for 20 s");
    rig.pass(2 * SECOND);
    assert_eq!(rig.only_request().numbers(), [1]);
}

#[test]
fn another_token_is_tried_at_once() {
    let mut rig = Rig::new(params());
    rig.push(1);
    let sent = rig.only_request();
    rig.answer(sent.conn, 403, &[], r#"{"text":"Invalid token","code":4}"#);
    assert!(rig.take_requests().is_empty() && rig.hec.is_troubled());
    rig.hec.set_token(&String::from("other").into());
    rig.pass(Duration::from_millis(10));
    let again = rig.only_request();
    assert_eq!(again.header("Authorization").as_deref(), Some("Splunk other"));
}

#[test]
fn code_14_of_one_indexer_says_nothing_about_another() {
    let mut rig = two();
    rig.push(1);
    let sent = rig.only_request();
    rig.answer(sent.conn, 200, &[], &ok(Some(0)));
    rig.pass(2 * SECOND);
    let poll = rig.only_request();
    rig.answer(poll.conn, 400, &[], r#"{"text":"ACK is disabled","code":14}"#);
    assert_eq!(rig.settled(), [(0, 1, Settled::Lost)]);
    rig.push(1);
    let again = rig.only_request();
    assert_eq!(again.route, sent.route);
    rig.answer(again.conn, 200, &[], &ok(Some(1)));
    assert_eq!(rig.settled(), [(1, 2, Settled::Acked)], "here the 200 counts");

    rig.refuse_connects.insert(sent.route);
    for conn in rig.open.clone() {
        rig.close(conn, ClosedKind::Eof);
    }
    rig.push(1);
    rig.pass(10 * SECOND);
    let other = rig.only_request();
    assert_ne!(other.route, sent.route);
    rig.answer(other.conn, 200, &[], &ok(Some(0)));
    assert_eq!(rig.settled(), [], "there the indexer is asked");
    rig.pass(2 * SECOND);
    let polls: Vec<Seen> = rig.take_requests();
    let poll = polls.iter().find(|poll| poll.route == other.route).unwrap();
    rig.answer(poll.conn, 200, &[], r#"{"acks":{"0":true}}"#);
    assert_eq!(rig.settled(), [(2, 3, Settled::Acked)]);
}

#[test]
fn requests_that_are_refused_together_are_one_attempt() {
    let mut rig = Rig::new(params());
    let busy = r#"{"text":"Server is busy","code":9}"#;
    // The first request of a connection goes alone.
    for _ in 0..2 {
        rig.push(1);
        let first = rig.only_request();
        rig.answer(first.conn, 200, &[], &ok(None));
    }
    for _ in 0..4 {
        rig.push(1);
    }
    let together = rig.take_requests();
    assert_eq!(together.len(), 4);
    for request in together {
        rig.answer(request.conn, 503, &[], busy);
    }
    rig.pass(Duration::from_millis(150));
    assert!(!rig.take_requests().is_empty(), "the pause of one refusal is over");
}

/// One connection could carry it all; searches run on all indexers, so each has to have its share.
#[test]
fn every_indexer_gets_its_share_of_little() {
    let mut rig = two();
    let mut taken = Vec::new();
    let end = rig.now + 600 * SECOND;
    while rig.now < end {
        taken.extend(feed(&mut rig, 1, |_| (200, &[], ok(None))));
        rig.pass(Duration::from_millis(180));
        assert!(rig.open.len() <= 2, "{:?}", rig.open);
    }
    let of_first = taken.iter().filter(|route| **route == RouteId(0)).count() * 100 / taken.len();
    assert!((40..=60).contains(&of_first), "{of_first} % of {}", taken.len());
    let changes = taken.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!((15..=25).contains(&changes), "{changes} changes in ten minutes");
    assert_eq!(rig.cx.counters.duplicates_possible_records, 0);
}

#[test]
fn a_shard_goes_to_the_next_indexer_when_the_one_before_owes_nothing() {
    let mut rig = two();
    feed(&mut rig, 1, |_| (200, &[], ok(None)));
    rig.push(1);
    let first = rig.only_request();
    rig.pass(36 * SECOND);
    // Its turn is over; what goes there opens the way to the next.
    rig.push(1);
    let second = rig.only_request();
    assert_eq!(second.conn, first.conn);
    assert_eq!(rig.open.len(), 2, "the other one is there");
    rig.push(1);
    rig.push(1);
    assert_eq!(rig.take_requests().len(), 0, "it would overtake");
    rig.answer(first.conn, 200, &[], &ok(None));
    assert_eq!(rig.take_requests().len(), 0, "one is still owed");
    rig.answer(first.conn, 200, &[], &ok(None));
    let after = rig.take_requests();
    assert!(!after.is_empty() && after.iter().all(|request| request.route != first.route), "{after:?}");
    assert!(!rig.open.contains(&first.conn), "replaced and empty: closed");
}

#[test]
fn the_first_connection_waits_until_all_names_are_known() {
    let endpoint = |name: &str| Endpoint { authority: format!("{name}:8088"), base_path: String::new() };
    let params = Params { endpoints: vec![endpoint("one"), endpoint("two")], ..params() };
    let mut first = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let flow = crate::proto::flow::Flow::new(64 << 20);
        let pool = crate::proto::frame::FramePool::new(std::rc::Rc::clone(&flow.frames), 1_000);
        let mut cx = Context::new(pool, seed);
        let mut hec = Hec::new(params.clone(), &mut cx);
        cx.actions.clear();
        hec.handle_routes(Instant(0), EndpointId(0), Ok(vec![RouteId(0)]), &mut cx);
        hec.dispatch(Instant(0), &mut cx);
        assert!(cx.actions.is_empty(), "{:?}", cx.actions);
        hec.handle_routes(Instant(0), EndpointId(1), Ok(vec![RouteId(1)]), &mut cx);
        hec.dispatch(Instant(0), &mut cx);
        let Some(Action::Connect { to: crate::proto::event::To::Sink(route), .. }) = cx.actions.pop_front()
        else {
            panic!("{:?}", cx.actions);
        };
        first.insert(route);
    }
    assert_eq!(first.len(), 2, "by lot");
}
