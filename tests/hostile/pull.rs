//! Hostile answers to PullLogs.
//!
//! Why: a pulled body is the largest thing that comes in, and its headers announce what it costs.
//! Invariants: as in `row`. Bounds: the slow rows wait for the minute that a pull may take. Driven by: `row`.

use std::io;

use crate::front::Guest;
use crate::http::{self, Deed, FRAMING, forged, with, without};
use crate::row::{self, Place, Row};

fn is_pull(line: &str) -> bool {
    line.contains("type=log")
}

fn row(name: impl Into<String>, deed: Deed, says: &'static [&'static str]) -> Row {
    Row::new(Place::Sls, name, deed, says).to(is_pull)
}

/// The head of a pull that says this of its body.
fn head(guest: &mut Guest, raw_size: u64, compression: &str, length: &str) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nx-log-cursor: MTQ0NzI5OTYwNjg5NjYzMjM1Ng==\r\nx-log-count: 1\r\nx-log-requestid: HOSTILE\r\n\
         x-log-bodyrawsize: {raw_size}\r\nx-log-compresstype: {compression}\r\n{length}\r\n\r\n"
    );
    guest.say(head.as_bytes())
}

fn body(guest: &mut Guest, raw_size: u64, compression: &str, body: &[u8]) -> io::Result<()> {
    head(guest, raw_size, compression, &format!("Content-Length: {}", body.len()))?;
    guest.say(body)
}

fn chunks_beyond_what_was_announced(guest: &mut Guest) -> io::Result<()> {
    head(guest, 100, "lz4", "Transfer-Encoding: chunked")?;
    guest.flood(format!("10000\r\n{}\r\n", "a".repeat(0x10000)).as_bytes())
}

fn a_body_without_end(guest: &mut Guest) -> io::Result<()> {
    head(guest, 100, "", "Connection: close")?;
    guest.flood(b"aaaaaaaa")
}

fn a_length_that_nobody_pays(guest: &mut Guest) -> io::Result<()> {
    head(guest, 100, "lz4", "Content-Length: 60000000")?;
    guest.flood(b"aaaaaaaa")
}

fn raw_size_too_small(guest: &mut Guest) -> io::Result<()> {
    forged(guest, |head, _| with(&head, "x-log-bodyrawsize", "7"))
}

fn raw_size_too_big(guest: &mut Guest) -> io::Result<()> {
    forged(guest, |head, _| with(&head, "x-log-bodyrawsize", "3000000"))
}

fn raw_size_of_a_terabyte(guest: &mut Guest) -> io::Result<()> {
    forged(guest, |head, _| with(&head, "x-log-bodyrawsize", "1099511627776"))
}

fn raw_size_beyond_numbers(guest: &mut Guest) -> io::Result<()> {
    forged(guest, |head, _| with(&head, "x-log-bodyrawsize", "18446744073709551616"))
}

fn raw_size_absent(guest: &mut Guest) -> io::Result<()> {
    forged(guest, |head, _| without(&head, "x-log-bodyrawsize"))
}

fn lz4_bomb(guest: &mut Guest) -> io::Result<()> {
    let bomb = lz4_flex::block::compress(&vec![0; 64 << 20]);
    body(guest, 1_000_000, "lz4", &bomb)
}

fn zstd_bomb(guest: &mut Guest) -> io::Result<()> {
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
    body(guest, 1_000_000, "zstd", &bomb)
}

fn zstd_with_a_huge_window(guest: &mut Guest) -> io::Result<()> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(30).unwrap();
    encoder.include_contentsize(false).unwrap();
    io::Write::write_all(&mut encoder, &[0; 1 << 20]).unwrap();
    body(guest, 1 << 20, "zstd", &encoder.finish().unwrap())
}

fn deflate_bomb(guest: &mut Guest) -> io::Result<()> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    io::Write::write_all(&mut encoder, &vec![0; 64 << 20])?;
    body(guest, 1_000_000, "deflate", &encoder.finish()?)
}

fn an_honest_body_above_the_memory(guest: &mut Guest) -> io::Result<()> {
    let bomb = lz4_flex::block::compress(&vec![0; 60 << 20]);
    body(guest, 60 << 20, "lz4", &bomb)
}

fn a_million_groups(guest: &mut Guest) -> io::Result<()> {
    let groups = [0x0a, 0x00].repeat(1_000_000);
    let packed = lz4_flex::block::compress(&groups);
    body(guest, groups.len() as u64, "lz4", &packed)
}

/// One group of a million empty logs; the second group is cut, so that nothing of it may be used.
fn a_million_logs(guest: &mut Guest) -> io::Result<()> {
    let logs = [0x0a, 0x00].repeat(1_000_000);
    let mut list = vec![0x0a];
    list.extend(varint(logs.len() as u64));
    list.extend(logs);
    list.extend([0x0a, 0x7f]);
    let packed = lz4_flex::block::compress(&list);
    body(guest, list.len() as u64, "lz4", &packed)
}

/// Lengths inside of lengths, each one byte shorter than the rest.
fn lengths_within_lengths(guest: &mut Guest) -> io::Result<()> {
    let mut list = Vec::new();
    for left in (1..200_000_u64).rev() {
        list.push(0x0a);
        list.extend(varint(left * 4));
    }
    body(guest, list.len() as u64, "", &list)
}

fn a_length_beyond_the_end(guest: &mut Guest) -> io::Result<()> {
    let list = [0x0a, 0x80, 0x80, 0x80, 0x80, 0x04, 1, 2, 3];
    body(guest, list.len() as u64, "", &list)
}

fn a_varint_without_end(guest: &mut Guest) -> io::Result<()> {
    body(guest, 1000, "", &[0xff; 1000])
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn an_end_in_the_middle_of_a_body(guest: &mut Guest) -> io::Result<()> {
    let good = guest.genuine()?;
    guest.say(&good[..good.len() - 10])
}

fn an_answer_to_nothing(guest: &mut Guest) -> io::Result<()> {
    let good = guest.genuine()?;
    guest.say(&good)?;
    guest.flood(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
}

fn a_cursor_of_a_megabyte(guest: &mut Guest) -> io::Result<()> {
    forged(guest, |head, _| with(&head, "x-log-cursor", &"M".repeat(60_000)))
}

fn a_cursor_with_another_request_in_it(guest: &mut Guest) -> io::Result<()> {
    forged(guest, |head, _| with(&head, "x-log-cursor", "MTQ0\tNzI5 HTTP/1.1 x: y"))
}

fn a_count_beyond_numbers(guest: &mut Guest) -> io::Result<()> {
    forged(guest, |head, _| with(&head, "x-log-count", "1e400"))
}

fn a_compression_that_is_not_known(guest: &mut Guest) -> io::Result<()> {
    forged(guest, |head, _| with(&head, "x-log-compresstype", &"br".repeat(10_000)))
}

fn an_error_with_a_forged_line(guest: &mut Guest) -> io::Result<()> {
    let text =
        r#"{"errorCode":"X\n2026-01-01T00:00:00Z ERROR forged","errorMessage":"\u001b[31m\r\nforged"}"#;
    guest.say(&http::answer("400 Bad", "x-log-requestid: A\tB\r\n", text.as_bytes()))
}

#[test]
fn pulls() {
    let mut rows = vec![
        row(
            "pull: a head one byte a second",
            http::slow_head,
            &["pull of shard", "no whole answer within 60 s"],
        ),
        row(
            "pull: a body one byte a second",
            |guest| {
                head(guest, 1000, "", "Content-Length: 1000")?;
                guest.drip(b"a")
            },
            &["pull of shard", "no whole answer within 60 s"],
        ),
        row("pull: no answer", http::never_answers, &["pull of shard", "no whole answer within 60 s"]),
    ];
    // These wait for the minute of a pull: one strike of each is enough.
    rows = rows.into_iter().map(|row| row.hits(1)).collect();
    rows.extend(FRAMING.map(|it| row(format!("pull: {}", it.name), it.deed, it.pull)));
    rows.extend([
        row(
            "pull: chunks beyond what was announced",
            chunks_beyond_what_was_announced,
            &["bytes or more that becomes 100, as its header says"],
        ),
        row(
            "pull: a body without end",
            a_body_without_end,
            &["bytes or more that becomes 100, as its header says"],
        ),
        row("pull: a length that nobody pays", a_length_that_nobody_pays, &["pull of shard"]),
        row(
            "pull: raw size too small",
            raw_size_too_small,
            &["the body is damaged", "more than the 7 bytes"],
        ),
        row("pull: raw size too big", raw_size_too_big, &["the body is damaged", "says 3000000"]),
        row(
            "pull: raw size of 1 TB",
            raw_size_of_a_terabyte,
            &["one log group is larger than the memory bound", "1099511627776 bytes"],
        ),
        row(
            "pull: raw size beyond numbers",
            raw_size_beyond_numbers,
            &["x-log-bodyrawsize with the value", "18446744073709551616"],
        ),
        row("pull: raw size absent", raw_size_absent, &["has no header x-log-bodyrawsize"]),
        row("pull: lz4 bomb", lz4_bomb, &["the body is damaged", "more than the 1000000 bytes"]),
        row("pull: zstd bomb", zstd_bomb, &["the body is damaged", "holds 67108864 bytes", "says 1000000"]),
        row("pull: zstd with a huge window", zstd_with_a_huge_window, &["the body is damaged"]),
        row("pull: deflate bomb", deflate_bomb, &["the body is damaged", "more than the 1000000 bytes"]),
        row(
            "pull: an honest body above the memory",
            an_honest_body_above_the_memory,
            &["one log group is larger than the memory bound", "62914560 bytes"],
        ),
        row(
            "pull: a million groups",
            a_million_groups,
            &["the body is damaged", "1000000 log groups", "says 1"],
        ),
        row("pull: a million logs", a_million_logs, &["the body is damaged", "not valid protobuf"]),
        row("pull: lengths within lengths", lengths_within_lengths, &["the body is damaged"]),
        row(
            "pull: a length beyond the end",
            a_length_beyond_the_end,
            &["the body is damaged", "length points past the end"],
        ),
        row(
            "pull: a varint without end",
            a_varint_without_end,
            &["the body is damaged", "varint longer than 64 bits"],
        ),
        row(
            "pull: an end in the middle of a body",
            an_end_in_the_middle_of_a_body,
            &["closed the connection with answers owed"],
        ),
        row("pull: an answer to nothing", an_answer_to_nothing, &["although nothing was asked"]),
        row(
            "pull: a cursor of 60 kB",
            a_cursor_of_a_megabyte,
            &["x-log-cursor with the value", "which is not one of SLS"],
        ),
        row(
            "pull: a cursor with another request in it",
            a_cursor_with_another_request_in_it,
            &["x-log-cursor with the value", "which is not one of SLS"],
        ),
        row("pull: a count beyond numbers", a_count_beyond_numbers, &["x-log-count with the value", "1e400"]),
        row(
            "pull: a compression that is not known",
            a_compression_that_is_not_known,
            &["x-log-compresstype with the value", "brbr"],
        ),
        row(
            "pull: an error with a forged line",
            an_error_with_a_forged_line,
            &["SLS refuses the request", "HTTP 400"],
        ),
        row(
            "pull: ends without a word",
            http::ends_without_a_word,
            &["closed the connection with answers owed"],
        ),
    ]);
    row::run(rows);
}
