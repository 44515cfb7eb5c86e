//! Hostile answers in the place of Splunk: to events, and to questions for acknowledgements.
//!
//! Why: only an answer that says success confirms anything; a hostile one must neither be taken for one nor cost memory.
//! Invariants: as in `row`. Bounds: `hec.timeout` is 3 s here. Driven by: `row`.

use std::io;

use crate::front::Guest;
use crate::http::{self, Deed, FRAMING, answer};
use crate::row::{self, Place, Row};

fn is_event(line: &str) -> bool {
    line.starts_with("POST ") && !line.contains("/ack")
}

fn is_ack(line: &str) -> bool {
    line.contains("/ack")
}

fn row(name: impl Into<String>, deed: Deed, says: &'static [&'static str]) -> Row {
    Row::new(Place::Hec, name, deed, says).to(is_event)
}

fn poll(name: impl Into<String>, deed: Deed, says: &'static [&'static str]) -> Row {
    Row::new(Place::HecWithAcks, name, deed, says).to(is_ack).set("hec.ack_timeout", "4s")
}

fn json(guest: &mut Guest, text: &str) -> io::Result<()> {
    guest.say(&answer("200 OK", "Content-Type: application/json\r\n", text.as_bytes()))
}

fn nested(guest: &mut Guest) -> io::Result<()> {
    guest.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")?;
    guest.flood(b"[")
}

/// Text that could be a whole answer, if it were not for what is in it.
fn nested_within_the_bound(guest: &mut Guest) -> io::Result<()> {
    let (open, close) = ("[".repeat(500_000), "]".repeat(500_000));
    json(guest, &format!(r#"{{"text":"Success","code":0,"x":{open}{close}}}"#))
}

fn nested_objects(guest: &mut Guest) -> io::Result<()> {
    let (open, close) = (r#"{"a":"#.repeat(150_000), "}".repeat(150_000));
    json(guest, &format!(r#"{{"text":"Success","code":0,"x":{open}1{close}}}"#))
}

fn nested_without_end(guest: &mut Guest) -> io::Result<()> {
    json(guest, &"[".repeat(1_000_000))
}

fn numbers_out_of_range(guest: &mut Guest) -> io::Result<()> {
    json(guest, r#"{"text":"Success","code":0,"ackId":18446744073709551616}"#)
}

fn a_negative_id(guest: &mut Guest) -> io::Result<()> {
    json(guest, r#"{"text":"Success","code":0,"ackId":-1}"#)
}

fn a_number_beyond_floats(guest: &mut Guest) -> io::Result<()> {
    json(guest, r#"{"text":"Success","code":0,"ackId":1e400}"#)
}

fn a_refused_event_beyond_the_frame(guest: &mut Guest) -> io::Result<()> {
    guest.say(&answer(
        "400 Bad Request",
        "",
        br#"{"text":"Invalid data format","code":6,"invalid-event-number":18446744073709551615}"#,
    ))
}

fn a_text_with_a_forged_line(guest: &mut Guest) -> io::Result<()> {
    guest.say(&answer("500 Oh", "", br#"{"text":"\n2026-01-01T00:00:00Z ERROR forged\u001b[31m","code":8}"#))
}

fn a_long_wait(guest: &mut Guest) -> io::Result<()> {
    guest.say(&answer(
        "503 Busy",
        "Retry-After: 99999999999999999999\r\n",
        br#"{"text":"Server is busy","code":9}"#,
    ))
}

fn an_end_in_the_middle(guest: &mut Guest) -> io::Result<()> {
    let good = guest.genuine()?;
    guest.say(&good[..good.len() - 5])
}

fn an_answer_to_nothing(guest: &mut Guest) -> io::Result<()> {
    let good = guest.genuine()?;
    guest.say(&good)?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    guest.flood(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
}

fn a_cookie_of_60_kb(guest: &mut Guest) -> io::Result<()> {
    guest.say(&answer(
        "500 Oh",
        &format!("Set-Cookie: AWSALB={}\r\n", "x".repeat(60_000)),
        br#"{"text":"Internal server error","code":8}"#,
    ))
}

fn foreign_ids(guest: &mut Guest) -> io::Result<()> {
    let ids: Vec<String> = (1_000_000..1_050_000).map(|id| format!(r#""{id}":true"#)).collect();
    json(guest, &format!(r#"{{"acks":{{{}}}}}"#, ids.join(",")))
}

fn ids_that_are_none(guest: &mut Guest) -> io::Result<()> {
    json(guest, r#"{"acks":{"-1":true,"18446744073709551616":true,"1e400":true,"":true,"x":true}}"#)
}

fn acks_that_are_no_map(guest: &mut Guest) -> io::Result<()> {
    json(guest, r#"{"acks":[true,true]}"#)
}

fn acks_that_are_words(guest: &mut Guest) -> io::Result<()> {
    json(guest, r#"{"acks":{"0":"true","1":1}}"#)
}

fn nested_acks(guest: &mut Guest) -> io::Result<()> {
    let (open, close) = ("[".repeat(500_000), "]".repeat(500_000));
    json(guest, &format!(r#"{{"x":{open}{close},"acks":{{}}}}"#))
}

#[test]
fn events() {
    let mut rows: Vec<Row> = FRAMING.map(|it| row(format!("hec: {}", it.name), it.deed, it.hec)).into();
    rows.extend([
        row("hec: a head one byte a second", http::slow_head, &["too slow", "no answer within 3 s"]),
        row("hec: a body one byte a second", http::slow_body, &["too slow", "no answer within 3 s"]),
        row("hec: no answer", http::never_answers, &["too slow", "no answer within 3 s"]),
        Row::new(Place::Hec, "hec: reads nothing", http::never_reads, &["too slow", "no answer within 3 s"])
            .at_accept(),
        Row::new(Place::Hec, "hec: resets", http::resets, &["broke the connection", "reset by peer"])
            .at_accept(),
        row(
            "hec: ends without a word",
            http::ends_without_a_word,
            &["closed the connection with answers owed"],
        ),
        row("hec: a body without end", http::endless_body, &["the body of the answer is larger than"]),
        row("hec: 100 MB of nested arrays", nested, &["the body of the answer is larger than"]),
        row("hec: 1 MB of nested arrays", nested_within_the_bound, &["not in the words of HEC", "[[[["]),
        row("hec: nested objects", nested_objects, &["not in the words of HEC", "a"]),
        row("hec: nested arrays that do not end", nested_without_end, &["not in the words of HEC", "[[[["]),
        row(
            "hec: an ackId of 2^64",
            numbers_out_of_range,
            &["not in the words of HEC", "18446744073709551616"],
        ),
        row("hec: an ackId of -1", a_negative_id, &["not in the words of HEC", "-1"]),
        row("hec: an ackId of 1e400", a_number_beyond_floats, &["not in the words of HEC", "1e400"]),
        row(
            "hec: a refused event beyond the frame",
            a_refused_event_beyond_the_frame,
            &["cannot parse an event", "18446744073709551615"],
        ),
        row(
            "hec: a text with a forged line",
            a_text_with_a_forged_line,
            &["has trouble of its own", "HTTP 500, code 8", "forged"],
        ),
        row("hec: a wait of 3 million years", a_long_wait, &["is busy", "HTTP 503, code 9"]),
        row(
            "hec: an end in the middle of an answer",
            an_end_in_the_middle,
            &["closed the connection with answers owed"],
        ),
        row("hec: an answer to nothing", an_answer_to_nothing, &["an answer to no request"]),
        row("hec: a cookie of 60 kB", a_cookie_of_60_kb, &["has trouble of its own", "HTTP 500, code 8"]),
    ]);
    row::run(rows);
}

#[test]
fn polls() {
    let mut rows: Vec<Row> = FRAMING.map(|it| poll(format!("ack: {}", it.name), it.deed, it.hec)).into();
    rows.extend([
        poll("ack: 100 MB of nested arrays", nested, &["the body of the answer is larger than"]),
        poll("ack: 1 MB of nested arrays", nested_acks, &["not in the words of HEC", "[[[["]),
        poll("ack: foreign ids", foreign_ids, &[]),
        poll("ack: ids that are none", ids_that_are_none, &[]),
        poll("ack: no map", acks_that_are_no_map, &["not in the words of HEC", "[true,true]"]),
        poll("ack: words for truth", acks_that_are_words, &["not in the words of HEC", "true"]),
        poll(
            "ack: a body one byte a second",
            http::slow_body,
            &["too slow", "no answer to an acknowledgement poll"],
        ),
        poll("ack: no answer", http::never_answers, &["too slow", "no answer to an acknowledgement poll"]),
        poll(
            "ack: ends without a word",
            http::ends_without_a_word,
            &["closed the connection with answers owed"],
        ),
    ]);
    row::run(rows);
}
