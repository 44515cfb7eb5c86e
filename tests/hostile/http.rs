//! What any HTTP server can do wrong, whoever it pretends to be.
//!
//! Why: the same framing errors come from proxies in front of SLS and of Splunk alike, and each of our parsers meets them.
//! Invariants: 1. nothing here is a good answer. Bounds: those of `front`. Driven by: `pull`, `control`, `hec`.

use std::io;
use std::io::Read as _;

use crate::front::{Guest, split};

/// Something that is done to a client.
pub(crate) type Deed = fn(&mut Guest) -> io::Result<()>;

/// A head and a body.
pub(crate) fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    let mut whole = std::mem::take(&mut answer).into_bytes();
    whole.extend_from_slice(body);
    whole
}

/// The good server's answer with other headers and another body.
pub(crate) fn forged(guest: &mut Guest, forge: impl Fn(String, &mut Vec<u8>) -> String) -> io::Result<()> {
    let good = guest.genuine()?;
    let (head, body) = split(&good);
    let mut body = body.to_vec();
    let kept: Vec<&str> =
        head.split("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("content-length:")).collect();
    let head = forge(kept.join("\r\n"), &mut body);
    guest.say(format!("{head}\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes())?;
    guest.say(&body)
}

/// A head without this header.
pub(crate) fn without(head: &str, name: &str) -> String {
    let kept = head.split("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with(&format!("{name}:")));
    kept.collect::<Vec<_>>().join("\r\n")
}

/// A head with another value of this header.
pub(crate) fn with(head: &str, name: &str, value: &str) -> String {
    format!("{}\r\n{name}: {value}", without(head, name))
}

pub(crate) fn endless_headers(guest: &mut Guest) -> io::Result<()> {
    guest.say(b"HTTP/1.1 200 OK\r\n")?;
    guest.flood(b"X-Filler: 0123456789012345678901234567890123456789\r\n")
}

pub(crate) fn endless_header_line(guest: &mut Guest) -> io::Result<()> {
    guest.say(b"HTTP/1.1 200 OK\r\nX-Filler: ")?;
    guest.flood(b"0123456789")
}

pub(crate) fn endless_status_line(guest: &mut Guest) -> io::Result<()> {
    guest.say(b"HTTP/1.1 200 ")?;
    guest.flood(b"OK and ")
}

pub(crate) fn thousands_of_headers(guest: &mut Guest) -> io::Result<()> {
    guest.say(format!("HTTP/1.1 200 OK\r\n{}\r\n", "a:b\r\n".repeat(5_000)).as_bytes())
}

pub(crate) fn length_of_a_terabyte(guest: &mut Guest) -> io::Result<()> {
    guest.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n")?;
    guest.flood(b"[")
}

pub(crate) fn negative_length(guest: &mut Guest) -> io::Result<()> {
    guest.say(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n")?;
    guest.flood(b"[")
}

pub(crate) fn two_lengths(guest: &mut Guest) -> io::Result<()> {
    guest.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 200\r\n\r\n[]")?;
    guest.flood(b"[")
}

pub(crate) fn length_in_words(guest: &mut Guest) -> io::Result<()> {
    guest.say(b"HTTP/1.1 200 OK\r\nContent-Length: 0x10\r\n\r\n[]")?;
    guest.flood(b"[")
}

pub(crate) fn length_and_chunks(guest: &mut Guest) -> io::Result<()> {
    guest.say(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n",
    )?;
    guest.flood(b"[")
}

pub(crate) fn endless_chunks(guest: &mut Guest) -> io::Result<()> {
    guest.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    guest.flood(format!("400\r\n{}\r\n", "[".repeat(0x400)).as_bytes())
}

pub(crate) fn endless_body(guest: &mut Guest) -> io::Result<()> {
    guest.say(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
    guest.flood(b"[")
}

pub(crate) fn largest_chunk(guest: &mut Guest) -> io::Result<()> {
    guest.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n")?;
    guest.flood(b"[")
}

pub(crate) fn endless_chunk_extension(guest: &mut Guest) -> io::Result<()> {
    guest.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=")?;
    guest.flood(b"0123456789")
}

pub(crate) fn endless_trailers(guest: &mut Guest) -> io::Result<()> {
    guest.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n")?;
    guest.flood(b"X-Filler: 0123456789\r\n")?;
    // Really without end: the body is whole with its last chunk, and an end would make a good answer of it.
    guest.drip(b"X-Filler: 0123456789\r\n")
}

pub(crate) fn flood_of_interim_answers(guest: &mut Guest) -> io::Result<()> {
    guest.flood(b"HTTP/1.1 100 Continue\r\n\r\n")
}

pub(crate) fn redirect_to_itself(guest: &mut Guest) -> io::Result<()> {
    let target = guest.line().split(' ').nth(1).unwrap_or("/").to_owned();
    guest.say(&answer("302 Found", &format!("Location: {target}\r\n"), b""))
}

pub(crate) fn endless_error_body(guest: &mut Guest) -> io::Result<()> {
    guest.say(b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    guest.flood(format!("400\r\n{}\r\n", "<p>".repeat(0x400 / 3) + "<").as_bytes())
}

pub(crate) fn garbage(guest: &mut Guest) -> io::Result<()> {
    guest.flood(&[0x00, 0xff, 0x80, b'\r', 0x0b, 0x1b])
}

pub(crate) fn slow_head(guest: &mut Guest) -> io::Result<()> {
    guest.drip(b"HTTP/1.1 200 OK\r\nX-A: b\r\nX-C: d\r\nX-E: f\r\n")
}

pub(crate) fn slow_body(guest: &mut Guest) -> io::Result<()> {
    guest.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")?;
    guest.drip(b"[")
}

pub(crate) fn never_answers(guest: &mut Guest) -> io::Result<()> {
    guest.hang();
    Ok(())
}

pub(crate) fn ends_without_a_word(_guest: &mut Guest) -> io::Result<()> {
    Ok(())
}

pub(crate) fn never_reads(guest: &mut Guest) -> io::Result<()> {
    guest.hang();
    Ok(())
}

/// Reads one byte and closes: the client gets a reset while it writes.
pub(crate) fn resets(guest: &mut Guest) -> io::Result<()> {
    let _any = guest.stream.read(&mut [0]);
    Ok(())
}

/// What every parser of HTTP has to refuse, and a part of what is said of it: of pulls, of HEC, of the control plane.
pub(crate) struct Broken {
    pub(crate) name: &'static str,
    pub(crate) deed: Deed,
    pub(crate) pull: &'static [&'static str],
    pub(crate) hec: &'static [&'static str],
    pub(crate) control: &'static [&'static str],
}

const fn broken(
    name: &'static str,
    deed: Deed,
    [pull, hec, control]: [&'static [&'static str]; 3],
) -> Broken {
    Broken { name, deed, pull, hec, control }
}

/// The same words of both planes that share a parser.
const fn alike(
    name: &'static str,
    deed: Deed,
    data: &'static [&'static str],
    control: &'static [&'static str],
) -> Broken {
    broken(name, deed, [data, data, control])
}

const NO_HEADER: &[&str] = &["has no header x-log-cursor"];
const TOO_LARGE: &[&str] = &["the body of the answer is larger than"];
const HEAD_TOO_LARGE: &[&str] = &["the head of the answer is larger than 65536 bytes"];
const BEYOND_8_MIB: &[&str] = &["body is larger than request limit: 8388608"];
const TOO_MANY_HEADERS: &[&str] = &["too many headers"];
const NO_ANSWER: &[&str] = &["(timeout: global)"];
const HEADER_TOO_BIG: &[&str] = &["response header is too big"];
const NO_NUMBER: &[&str] = &["content-length header not a number"];

pub(crate) const FRAMING: [Broken; 17] = [
    alike("endless headers", endless_headers, HEAD_TOO_LARGE, TOO_MANY_HEADERS),
    alike("a header line without end", endless_header_line, HEAD_TOO_LARGE, HEADER_TOO_BIG),
    alike("a status line without end", endless_status_line, HEAD_TOO_LARGE, HEADER_TOO_BIG),
    alike("thousands of headers", thousands_of_headers, &["more than 96 headers"], TOO_MANY_HEADERS),
    alike("a length of 1 TB", length_of_a_terabyte, TOO_LARGE, BEYOND_8_MIB),
    alike(
        "a negative length",
        negative_length,
        &["the length of the answer is unclear", "\"-1\""],
        NO_NUMBER,
    ),
    alike("two lengths", two_lengths, &["is unclear", "2, 200"], &["conflicting content-length headers"]),
    alike("a length that is no number", length_in_words, &["is unclear", "0x10"], NO_NUMBER),
    // The client of the control plane takes chunks where both are given, as RFC 9112 allows; its answer here is an empty list of shards, which is a true answer.
    alike("a length and chunks", length_and_chunks, &["both Content-Length and Transfer-Encoding"], &[]),
    broken("chunks without end", endless_chunks, [NO_HEADER, TOO_LARGE, BEYOND_8_MIB]),
    broken("a chunk of 2^64 - 1", largest_chunk, [NO_HEADER, TOO_LARGE, BEYOND_8_MIB]),
    broken(
        "a chunk extension without end",
        endless_chunk_extension,
        [NO_HEADER, HEAD_TOO_LARGE, &["body data reading stalled"]],
    ),
    broken("trailers without end", endless_trailers, [NO_HEADER, HEAD_TOO_LARGE, NO_ANSWER]),
    alike(
        "a flood of 100 Continue",
        flood_of_interim_answers,
        &["more than 8 interim (1xx) answers"],
        HEADER_TOO_BIG,
    ),
    broken(
        "a redirect to itself",
        redirect_to_itself,
        [&["HTTP 302"], &["redirects", "HTTP 302"], &["the answer is not from SLS", "HTTP 302"]],
    ),
    broken(
        "an error page without end",
        endless_error_body,
        [&["an error answer of more than 1 MiB"], TOO_LARGE, BEYOND_8_MIB],
    ),
    alike("garbage", garbage, &["first bytes 00 ff 80"], &["invalid HTTP version"]),
];
