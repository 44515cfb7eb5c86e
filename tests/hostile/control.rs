//! Hostile answers to the calls of the control plane: groups, heartbeats, checkpoints, cursors.
//!
//! Why: these are read by another client and another parser than pulls, and what they say decides what is read at all.
//! Invariants: as in `row`. Bounds: a call ends after 10 s at most. Driven by: `row`.

use std::io;

use crate::front::{Guest, Victim};
use crate::http::{self, Deed, FRAMING, answer};
use crate::row::{self, Place, Row};

fn row(name: impl Into<String>, victim: Victim, deed: Deed, says: &'static [&'static str]) -> Row {
    Row::new(Place::Sls, name, deed, says).to(victim)
}

fn is_heartbeat(line: &str) -> bool {
    line.contains("type=heartbeat")
}

fn is_get_checkpoint(line: &str) -> bool {
    line.starts_with("GET ") && line.contains("/consumergroups/")
}

fn is_save_checkpoint(line: &str) -> bool {
    line.starts_with("POST ") && line.contains("type=checkpoint")
}

fn is_cursor(line: &str) -> bool {
    line.contains("type=cursor&")
}

fn is_groups(line: &str) -> bool {
    line.contains("/consumergroups ") || line.contains("/consumergroups?")
}

fn json(guest: &mut Guest, text: &str) -> io::Result<()> {
    guest.say(&answer(
        "200 OK",
        "Content-Type: application/json\r\nx-log-requestid: HOSTILE\r\n",
        text.as_bytes(),
    ))
}

fn nested(guest: &mut Guest) -> io::Result<()> {
    guest.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")?;
    guest.flood(b"[")
}

fn nested_within_the_bound(guest: &mut Guest) -> io::Result<()> {
    json(guest, &"[".repeat(7 << 20))
}

fn nested_objects(guest: &mut Guest) -> io::Result<()> {
    json(guest, &r#"{"a":"#.repeat(1 << 20))
}

fn numbers_out_of_range(guest: &mut Guest) -> io::Result<()> {
    json(guest, "[0, 4294967296, -1, 1e400]")
}

fn a_fraction(guest: &mut Guest) -> io::Result<()> {
    json(guest, "[0.5]")
}

fn a_million_shards(guest: &mut Guest) -> io::Result<()> {
    json(guest, &format!("[{}0]", "0,".repeat(1_000_000)))
}

fn a_group_with_a_long_name(guest: &mut Guest) -> io::Result<()> {
    json(guest, &format!(r#"[{{"name":"{}","timeout":1e400,"order":[]}}]"#, "x".repeat(1 << 20)))
}

fn a_cursor_with_line_breaks(guest: &mut Guest) -> io::Result<()> {
    json(guest, r#"{"cursor":"MTQ0\r\nx-log-forged: 1"}"#)
}

fn a_cursor_that_is_none(guest: &mut Guest) -> io::Result<()> {
    json(guest, r#"{"cursor":18446744073709551616}"#)
}

fn checkpoints_of_no_shard(guest: &mut Guest) -> io::Result<()> {
    json(guest, r#"[{"shard":-1,"checkpoint":"MTQ0","updateTime":1e400}]"#)
}

fn not_even_text(guest: &mut Guest) -> io::Result<()> {
    guest.say(&answer("200 OK", "", &[0xff; 100_000]))
}

#[test]
fn calls() {
    let mut rows = Vec::new();
    // Every broken frame once, on the call that decides about the lease.
    rows.extend(FRAMING.map(|it| row(format!("heartbeat: {}", it.name), is_heartbeat, it.deed, it.control)));
    rows.extend([
        row(
            "heartbeat: a head one byte a second",
            is_heartbeat,
            http::slow_head,
            &["heartbeat", "(timeout: global)"],
        ),
        row(
            "heartbeat: a body one byte a second",
            is_heartbeat,
            http::slow_body,
            &["heartbeat", "(timeout: global)"],
        ),
        row("heartbeat: no answer", is_heartbeat, http::never_answers, &["heartbeat", "(timeout: global)"]),
        row(
            "heartbeat: ends without a word",
            is_heartbeat,
            http::ends_without_a_word,
            &["heartbeat", "closed the connection with answers owed"],
        ),
        row("heartbeat: 100 MB of nested arrays", is_heartbeat, nested, &["request limit: 8388608"]),
        row(
            "heartbeat: 7 MB of nested arrays",
            is_heartbeat,
            nested_within_the_bound,
            &["recursion limit exceeded"],
        ),
        row("heartbeat: nested objects", is_heartbeat, nested_objects, &["recursion limit exceeded"]),
        row("heartbeat: numbers out of range", is_heartbeat, numbers_out_of_range, &["number out of range"]),
        row("heartbeat: half a shard", is_heartbeat, a_fraction, &["a shard number that is none"]),
        row("heartbeat: a million shards", is_heartbeat, a_million_shards, &["too many items"]),
        row("heartbeat: not even text", is_heartbeat, not_even_text, &["expected value at line 1 column 1"]),
        row(
            "heartbeat: an end without length",
            is_heartbeat,
            http::endless_body,
            &["request limit: 8388608"],
        ),
        row(
            "groups: 7 MB of nested arrays",
            is_groups,
            nested_within_the_bound,
            &["making the consumer group", "recursion limit exceeded"],
        ),
        row(
            "groups: a length of 1 TB",
            is_groups,
            http::length_of_a_terabyte,
            &["making the consumer group", "request limit: 8388608"],
        ),
        row(
            "groups: a head one byte a second",
            is_groups,
            http::slow_head,
            &["making the consumer group", "(timeout: global)"],
        ),
        row(
            "groups: a name of 1 MB",
            is_groups,
            a_group_with_a_long_name,
            &["making the consumer group", "number out of range"],
        ),
        row(
            "checkpoint: no shard",
            is_get_checkpoint,
            checkpoints_of_no_shard,
            &["reading the checkpoint of shard", "number out of range"],
        ),
        row(
            "checkpoint: nested objects",
            is_get_checkpoint,
            nested_objects,
            &["reading the checkpoint of shard", "recursion limit exceeded"],
        ),
        row(
            "checkpoint: chunks without end",
            is_get_checkpoint,
            http::endless_chunks,
            &["reading the checkpoint of shard", "request limit: 8388608"],
        ),
        row(
            "checkpoint: no answer",
            is_get_checkpoint,
            http::never_answers,
            &["reading the checkpoint of shard", "(timeout: global)"],
        ),
        row(
            "cursor: line breaks",
            is_cursor,
            a_cursor_with_line_breaks,
            &["looking for the start of shard", "characters that no cursor has"],
        ),
        row(
            "cursor: a number",
            is_cursor,
            a_cursor_that_is_none,
            &["looking for the start of shard", "a cursor that is not text"],
        ),
        row(
            "cursor: nested objects",
            is_cursor,
            nested_objects,
            &["looking for the start of shard", "recursion limit exceeded"],
        ),
        row(
            "cursor: 100 MB of nested arrays",
            is_cursor,
            nested,
            &["looking for the start of shard", "request limit: 8388608"],
        ),
        row(
            "cursor: a body one byte a second",
            is_cursor,
            http::slow_body,
            &["looking for the start of shard", "(timeout: global)"],
        ),
        row("save: an error page without end", is_save_checkpoint, http::endless_error_body, &["shard"]),
        row("save: no answer", is_save_checkpoint, http::never_answers, &["shard"]),
        row("save: garbage", is_save_checkpoint, http::garbage, &["shard"]),
    ]);
    row::run(rows);
}
