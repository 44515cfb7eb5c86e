//! Rows of the test matrix for HEC, and defects of other senders, that need no socket: one sink, answers by hand.
//!
//! `row_*` carries the name of a row of the test matrix, `defect_*` that of a sender that has the defect.

mod rig;
mod routes;

use core::time::Duration;

use self::rig::{Rig, SECOND, ok, params};
use super::*;
use crate::proto::context::Settled;
use crate::proto::event::{ClosedKind, Notice, Refusal, Report};

#[test]
fn defect_vector_a_poll_answered_with_4xx_or_a_page_confirms_nothing() {
    let mut rig = Rig::new(params());
    rig.push(3);
    let sent = rig.only_request();
    rig.answer(sent.conn, 200, &[], &ok(Some(0)));
    for (status, body) in [
        (400, r#"{"text":"Invalid data format","code":6}"#),
        (403, "<html>"),
        (502, "<html>Bad Gateway</html>"),
        (200, "<html>all is well</html>"),
        (200, r#"{"text":"Success","code":0}"#),
        (200, r#"{"acks":{"0":"true"}}"#),
    ] {
        rig.pass(2 * SECOND);
        let poll = rig.only_request();
        assert!(poll.head.starts_with("POST /services/collector/ack HTTP/1.1\r\n"), "{}", poll.head);
        rig.answer(poll.conn, status, &[], body);
        assert_eq!(rig.settled(), [], "{status} {body}");
    }
    rig.pass(2 * SECOND);
    let poll = rig.only_request();
    rig.answer(poll.conn, 200, &[], r#"{"acks":{"0":true}}"#);
    assert_eq!(rig.settled(), [(0, 3, Settled::Acked)]);
}

#[test]
fn defect_vector_an_expired_ack_is_pulled_again_not_dropped() {
    let mut rig = Rig::new(Params { ack_timeout: Duration::from_secs(20), ..params() });
    rig.push(3);
    let sent = rig.only_request();
    rig.answer(sent.conn, 200, &[], &ok(Some(0)));
    while rig.settled.is_empty() && rig.now < Instant(0) + Duration::from_mins(1) {
        rig.pass(SECOND);
        for poll in rig.take_requests() {
            rig.answer(poll.conn, 200, &[], r#"{"acks":{"0":false}}"#);
        }
    }
    assert_eq!(rig.settled(), [(0, 3, Settled::Lost)]);
    assert_eq!(rig.cx.counters.duplicates_possible_records, 3);
}

#[test]
fn defect_logit_a_receipt_without_the_right_key_is_no_acknowledgement() {
    let mut rig = Rig::new(Params { ack: AckMode::Required, ..params() });
    rig.admit();
    rig.push(1);
    let sent = rig.only_request();
    rig.answer(sent.conn, 200, &[], r#"{"text":"Success","code":0,"ackID":5}"#);
    assert_eq!(rig.settled(), []);
}

#[test]
fn defect_vector_sc4s_kafka_connect_one_bad_event_costs_neither_the_front_nor_the_tail() {
    for ack in [None, Some(0)] {
        let mut rig = Rig::new(params());
        rig.cx.has_dead_letter = true;
        rig.push(5);
        let sent = rig.only_request();
        let id = ack.map_or(String::new(), |id| format!(r#","ackId":{id}"#));
        let body = format!(r#"{{"text":"Invalid data format","code":6,"invalid-event-number":2{id}}}"#);
        rig.answer(sent.conn, 400, &[], &body);
        let refused = rig.refused();
        assert_eq!(refused.len(), 1);
        assert_eq!((refused[0].0, refused[0].1), (2, 3), "exactly the refused one leaves");
        let tail = rig.only_request();
        assert_eq!(tail.numbers(), [3, 4], "only the tail goes again");
        rig.answer(tail.conn, 200, &[], &ok(ack.map(|id| id + 1)));
        if ack.is_some() {
            assert_eq!(rig.settled(), [], "both wait for their ids");
            rig.pass(2 * SECOND);
            let poll = rig.only_request();
            rig.answer(poll.conn, 200, &[], r#"{"acks":{"0":true,"1":true}}"#);
        }
        let mut settled = rig.settled();
        settled.sort_by_key(|(start, ..)| *start);
        assert_eq!(settled, [(0, 2, Settled::Acked), (3, 5, Settled::Acked)]);
    }
}

#[test]
fn row_code_7_is_one_too_high_and_takes_every_event_with_that_index_out_at_once() {
    let mut rig = Rig::new(params());
    rig.cx.has_dead_letter = true;
    rig.push_lines(&[(0, "a"), (1, "bad"), (2, "a"), (3, "bad"), (4, "")]);
    let sent = rig.only_request();
    rig.answer(sent.conn, 400, &[], r#"{"text":"Incorrect index","code":7,"invalid-event-number":2}"#);
    let refused: Vec<(u32, u32)> = rig.refused().into_iter().map(|(start, end, _)| (start, end)).collect();
    assert_eq!(refused, [(1, 2), (3, 4)]);
    assert_eq!(rig.settled(), [(0, 1, Settled::Acked)]);
    let rest = rig.only_request();
    assert_eq!(rest.numbers(), [2, 4]);
}

#[test]
fn without_a_dead_letter_a_refused_index_holds_the_rest_of_its_batch_in_order() {
    let mut rig = Rig::new(params());
    rig.push_lines(&[(0, "a"), (1, "bad"), (2, "a")]);
    let sent = rig.only_request();
    rig.answer(sent.conn, 400, &[], r#"{"text":"Incorrect index","code":7,"invalid-event-number":2}"#);
    let refused = rig.refused();
    assert_eq!((refused.len(), refused[0].0, refused[0].1), (1, 1, 3));
    assert!(rig.take_requests().is_empty());
}

#[test]
fn defect_kafka_connect_a_colliding_id_is_tracked_and_the_channel_replaced() {
    let mut rig = Rig::new(params());
    for _ in 0..2 {
        rig.push(1);
        let sent = rig.only_request();
        rig.answer(sent.conn, 200, &[], &ok(Some(0)));
    }
    // The second id 0 shows a restart: the first is lost, the second is polled for, and a new GUID is used.
    assert_eq!(rig.settled(), [(0, 1, Settled::Lost)]);
    rig.push(1);
    let sent = rig.only_request();
    rig.pass(2 * SECOND);
    let poll = rig.only_request();
    assert_eq!(poll.body, b"{\"acks\":[0]}");
    assert_ne!(poll.header("X-Splunk-Request-Channel"), sent.header("X-Splunk-Request-Channel"));
    assert!(poll.header("Content-Encoding").is_none());
}

#[test]
fn row_idle_clean_up_and_codes_10_11_28_use_a_new_channel() {
    for code in [10, 11, 28] {
        let mut rig = Rig::new(params());
        rig.push(1);
        let first = rig.only_request();
        rig.answer(first.conn, 200, &[], &ok(Some(0)));
        rig.pass(2 * SECOND);
        let poll = rig.only_request();
        assert_eq!(poll.header("X-Splunk-Request-Channel"), first.header("X-Splunk-Request-Channel"));
        rig.answer(poll.conn, 400, &[], &format!(r#"{{"text":"channel","code":{code}}}"#));
        assert_eq!(rig.settled(), [(0, 1, Settled::Lost)], "{code}: what waited goes again");
        rig.push(1);
        let next = rig.only_request();
        assert_ne!(
            next.header("X-Splunk-Request-Channel"),
            first.header("X-Splunk-Request-Channel"),
            "{code}"
        );
    }
}

#[test]
fn row_ack_off_on_a_poll_degrades_loudly_in_auto_and_holds_in_required() {
    let off = r#"{"text":"ACK is disabled","code":14}"#;
    let mut rig = Rig::new(params());
    rig.push(2);
    let sent = rig.only_request();
    rig.answer(sent.conn, 200, &[], &ok(Some(0)));
    assert_eq!(rig.cx.counters.hec_ack_mode, 2);
    rig.pass(2 * SECOND);
    let poll = rig.only_request();
    rig.answer(poll.conn, 400, &[], off);
    assert_eq!(rig.settled(), [(0, 2, Settled::Lost)], "nobody knows: they are pulled again");
    let reports: Vec<Report> = rig.cx.reports.drain(..).collect();
    assert!(
        reports.iter().any(|report| matches!(report, Report::Notice(Notice::AckOff { .. }))),
        "{reports:?}"
    );
    assert_eq!(rig.cx.counters.hec_ack_mode, 1);
    rig.push(1);
    let sent = rig.only_request();
    rig.answer(sent.conn, 200, &[], &ok(Some(0)));
    assert_eq!(rig.settled(), [(2, 3, Settled::Acked)], "the 200 counts now");

    let mut rig = Rig::new(Params { ack: AckMode::Required, ..params() });
    let asked = rig.only_request();
    assert_eq!(asked.body, b"{\"acks\":[0]}", "asked before anything is sent");
    rig.push(2);
    assert!(rig.take_requests().is_empty());
    let mut asked = asked;
    for _ in 0..4 {
        rig.answer(asked.conn, 400, &[], off);
        assert!(rig.take_requests().is_empty() && rig.hec.is_troubled());
        rig.pass(8 * SECOND);
        asked = rig.only_request();
        assert!(asked.head.contains("/ack "), "nothing is sent, so nothing comes twice");
    }
    rig.answer(asked.conn, 200, &[], r#"{"acks":{"0":false}}"#);
    assert_eq!(rig.only_request().numbers(), [0, 1], "acknowledgement was turned on");
}

#[test]
fn row_lb_with_cookie_is_sent_back_and_a_changed_cookie_resets_the_channel() {
    let mut rig = Rig::new(params());
    rig.push(1);
    let first = rig.only_request();
    assert!(first.header("Cookie").is_none());
    rig.answer(
        first.conn,
        200,
        &["Set-Cookie: AWSALB=one; Path=/; HttpOnly", "Set-Cookie: b=2"],
        &ok(Some(0)),
    );
    rig.push(1);
    let second = rig.only_request();
    assert_eq!(second.header("Cookie").as_deref(), Some("AWSALB=one; b=2"));
    rig.pass(2 * SECOND);
    let poll = rig.only_request();
    assert_eq!(poll.header("Cookie").as_deref(), Some("AWSALB=one; b=2"), "polls go to the same indexer");
    rig.answer(second.conn, 200, &["Set-Cookie: AWSALB=two; Path=/"], &ok(Some(0)));
    assert_eq!(rig.settled(), [(0, 1, Settled::Lost)]);
    rig.push(1);
    let third = rig.only_request();
    assert_ne!(third.header("X-Splunk-Request-Channel"), first.header("X-Splunk-Request-Channel"));
    assert_eq!(third.header("Cookie").as_deref(), Some("AWSALB=two; b=2"), "one of another name stays");
    // The poll that was under way was answered elsewhere: whatever it says, it is about other requests.
    rig.answer(poll.conn, 200, &[], r#"{"acks":{"0":true}}"#);
    assert_eq!(rig.settled(), []);
}

#[test]
fn a_cookie_that_is_new_with_every_answer_does_not_keep_anything_from_being_confirmed() {
    let mut rig = Rig::new(params());
    let mut lost = 0;
    for number in 0..30_u64 {
        rig.push(1);
        let request = rig.take_requests().into_iter().find(|request| !request.head.contains("/ack "));
        let request = request.expect("a request with events");
        let cookie = format!("Set-Cookie: AWSALB=value-{number}; Path=/");
        rig.answer(request.conn, 200, &[&cookie], &ok(Some(number)));
        lost += rig.settled().iter().filter(|(.., how)| *how == Settled::Lost).count();
    }
    assert!((1..=8).contains(&lost), "{lost} were taken for moves");
}

#[test]
fn row_pipelining_starts_with_one_and_falls_back_when_answers_stay_owed() {
    let mut rig = Rig::new(Params { connections: 1, ..params() });
    for _ in 0..6 {
        rig.push(1);
    }
    let first = rig.take_requests();
    assert_eq!(first.len(), 1, "the first answer may bring a cookie");
    rig.answer(first[0].conn, 200, &[], &ok(None));
    let pipelined = rig.take_requests();
    assert_eq!(pipelined.len(), 4);
    rig.answer(first[0].conn, 200, &["Connection: close"], &ok(None));
    assert_eq!(rig.settled(), [(0, 1, Settled::Acked), (1, 2, Settled::Acked)]);
    let mut order = Vec::new();
    while let [request] = &rig.take_requests()[..] {
        order.extend(request.numbers());
        rig.answer(request.conn, 200, &[], &ok(None));
    }
    assert_eq!(order, [2, 3, 4, 5], "one at a time, in order");
}

#[test]
fn a_server_that_never_looks_at_a_second_request_is_driven_one_at_a_time() {
    let mut rig = Rig::new(Params { connections: 1, ..params() });
    for _ in 0..7 {
        rig.push(1);
    }
    let first = rig.only_request();
    rig.answer(first.conn, 200, &[], &ok(None));
    assert_eq!(rig.take_requests().len(), 4);
    rig.answer(first.conn, 200, &[], &ok(None));
    assert_eq!(rig.take_requests().len(), 1, "in place of the answered one");
    rig.pass(70 * SECOND);
    let mut order = Vec::new();
    while let [request] = &rig.take_requests()[..] {
        order.extend(request.numbers());
        rig.answer(request.conn, 200, &[], &ok(None));
    }
    assert_eq!(order, [2, 3, 4, 5, 6], "one at a time");
}

#[test]
fn row_close_after_idle_and_a_stale_connection_is_no_trouble() {
    let mut rig = Rig::new(params());
    rig.push(1);
    let sent = rig.only_request();
    rig.answer(sent.conn, 200, &[], &ok(None));
    rig.push(1);
    let on_stale = rig.only_request();
    rig.close(on_stale.conn, ClosedKind::Reset);
    assert!(!rig.hec.is_troubled());
    assert!(!rig.cx.reports.iter().any(|report| matches!(report, Report::Alarm(_))), "{:?}", rig.cx.reports);
    let again = rig.only_request();
    assert!(again.conn != on_stale.conn && again.numbers() == [1]);
    rig.answer(again.conn, 200, &[], &ok(None));
    assert!(rig.open.contains(&again.conn));
    rig.pass(Duration::from_secs(9));
    assert!(rig.open.contains(&again.conn));
    rig.pass(2 * SECOND);
    assert!(rig.open.is_empty(), "closed before splunkd would (12 s)");
}

#[test]
fn success_before_the_whole_request_was_sent_confirms_nothing() {
    let mut rig = Rig::new(params());
    rig.takes = 600;
    rig.push(50);
    assert!(rig.take_requests().is_empty(), "a part of it is on its way");
    let conn = *rig.open.first().unwrap();
    rig.answer(conn, 200, &[], &ok(None));
    assert_eq!(rig.settled(), []);
    assert!(!rig.open.contains(&conn));
    rig.takes = usize::MAX;
    rig.pass(10 * SECOND);
    let whole = rig.take_requests().into_iter().find(|seen| !seen.body.is_empty()).unwrap();
    assert_eq!(whole.numbers().len(), 50);
    rig.answer(whole.conn, 200, &[], &ok(None));
    assert_eq!(rig.settled(), [(0, 50, Settled::Acked)]);
}

#[test]
fn row_oversize_and_413_halve_and_the_cap_is_learned() {
    for too_large in [(413, "<html>Content-Length of N too large</html>"), (400, OVERSIZE)] {
        let mut rig = Rig::new(params());
        let event = "x".repeat(1 << 20);
        let lines: Vec<(u32, &str)> = (0..8).map(|number| (number, event.as_str())).collect();
        rig.push_lines(&lines);
        let sent = rig.only_request();
        assert!(sent.body.len() > answer::LARGE_BYTES);
        rig.answer(sent.conn, too_large.0, &[], too_large.1);
        assert!(rig.refused().is_empty(), "no event is bad");
        let mut numbers = Vec::new();
        loop {
            let parts = rig.take_requests();
            if parts.is_empty() {
                break;
            }
            for part in parts {
                assert!(part.body.len() <= sent.body.len() / 2);
                numbers.extend(part.numbers());
                rig.answer(part.conn, 200, &[], &ok(None));
            }
        }
        assert_eq!(numbers, (0..8).collect::<Vec<_>>());
        rig.push_lines(&lines);
        assert!(rig.take_requests()[0].body.len() <= sent.body.len() / 2, "it is cut before it is sent");
        // A record that is too large alone is the record's fault.
        let mut rig = Rig::new(params());
        rig.push_lines(&[(0, "x".repeat(6 << 20).as_str())]);
        let sent = rig.only_request();
        rig.answer(sent.conn, too_large.0, &[], too_large.1);
        assert!(matches!(&rig.refused()[..], [(0, 1, Refusal::Hec(_))]));
    }
}

const OVERSIZE: &str = r#"{"text":"Invalid data format","code":6,"invalid-event-number":0}"#;

#[test]
fn row_503_with_a_number_counts_only_with_an_id() {
    let mut rig = Rig::new(params());
    rig.push(4);
    let sent = rig.only_request();
    rig.answer(
        sent.conn,
        503,
        &[],
        r#"{"text":"Server is busy","code":9,"invalid-event-number":2,"ackId":0}"#,
    );
    rig.pass(SECOND);
    let again = rig.take_requests().into_iter().find(|request| request.head.contains("/event ")).unwrap();
    assert_eq!(again.numbers(), [2, 3]);
}

#[test]
fn every_request_names_us_and_expects_nothing() {
    let mut rig = Rig::new(Params { gzip: true, ..params() });
    rig.push(3);
    let sent = rig.only_request();
    assert!(sent.header("User-Agent").is_some_and(|agent| agent.starts_with("sls2siem/")));
    assert_eq!(sent.header("Content-Type").as_deref(), Some("application/json"));
    assert_eq!(sent.header("Content-Encoding").as_deref(), Some("gzip"));
    assert!(sent.header("Expect").is_none() && sent.header("Transfer-Encoding").is_none());
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&sent.body[..]), &mut plain).unwrap();
    assert_eq!(plain, rig::lines(&[(0, ""), (1, ""), (2, "")]));
    rig.answer(sent.conn, 200, &[], &ok(Some(0)));
    rig.pass(2 * SECOND);
    let poll = rig.only_request();
    assert!(poll.header("User-Agent").is_some() && poll.header("Content-Encoding").is_none());
    assert_eq!(poll.header("Content-Type").as_deref(), Some("application/json"));
}

#[test]
fn row_delayed_ack_120_s_holds_no_memory_and_no_id_starves() {
    let mut rig = Rig::new(params());
    // 10 MB/s in requests of 1 MB for 120 s; every id is told 120 s after its request.
    let mut due: std::collections::BTreeMap<u64, Instant> = std::collections::BTreeMap::new();
    let (mut sent, mut confirmed) = (0_u32, 0_u32);
    let mut pending_max = 0;
    while confirmed < 1_200 {
        rig.pass(Duration::from_millis(100));
        if sent < 1_200 {
            rig.push(1);
            sent += 1;
        }
        for request in rig.take_requests() {
            if request.head.contains("/event ") {
                let id = u64::from(request.numbers()[0]);
                due.insert(id, rig.now + 120 * SECOND);
                rig.answer(request.conn, 200, &[], &ok(Some(id)));
            } else {
                let asked: Vec<u64> = rig::ids(&request.body);
                let told = |id: &u64| due.get(id).is_some_and(|at| *at <= rig.now);
                let parts: Vec<String> = asked.iter().map(|id| format!("\"{id}\":{}", told(id))).collect();
                rig.answer(request.conn, 200, &[], &format!("{{\"acks\":{{{}}}}}", parts.join(",")));
            }
        }
        pending_max = pending_max.max(rig.hec.acks.pending());
        assert_eq!(rig.flow.frames.used(), 0, "a frame's bytes are free as soon as it is answered");
        confirmed += u32::try_from(rig.settled().len()).unwrap();
        assert!(rig.now < Instant(0) + 400 * SECOND, "{confirmed} of {sent}");
    }
    assert!(pending_max >= 1_100, "{pending_max} ids waited at once");
    assert_eq!(rig.cx.counters.duplicates_possible_records, 0);
}
