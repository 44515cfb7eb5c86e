//! What can go wrong below HTTP: handshakes that never come, alerts, garbage, ends that are not announced.
//!
//! Why: TLS is where a middle box shows first, and where "the bytes so far" must never pass for the whole.
//! Invariants: as in `row`. Bounds: a handshake may take 10 s. Driven by: `row`.

use std::io;

use crate::front::{Guest, Victim};
use crate::http::{self, Deed, answer};
use crate::row::{self, Place, Row};

fn is_pull(line: &str) -> bool {
    line.contains("type=log")
}

fn is_event(line: &str) -> bool {
    line.starts_with("POST ")
}

fn early(place: Place, name: &'static str, deed: Deed, says: &'static [&'static str]) -> Row {
    Row::new(place, name, deed, says).over_tls().at_accept()
}

fn late(place: Place, name: &'static str, victim: Victim, deed: Deed, says: &'static [&'static str]) -> Row {
    Row::new(place, name, deed, says).over_tls().to(victim)
}

/// A fatal alert: `handshake_failure`.
fn alert(guest: &mut Guest) -> io::Result<()> {
    guest.say(&[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x28])
}

/// Warnings, which mean nothing, without end.
fn warnings(guest: &mut Guest) -> io::Result<()> {
    guest.flood(&[0x15, 0x03, 0x03, 0x00, 0x02, 0x01, 0x5a])
}

/// The beginning of a handshake message of 16 MB, in records of nothing.
fn a_handshake_message_of_16_mb(guest: &mut Guest) -> io::Result<()> {
    guest.say(&[0x16, 0x03, 0x03, 0x00, 0x04, 0x02, 0xff, 0xff, 0xff])?;
    let mut record = vec![0x16, 0x03, 0x03, 0x40, 0x00];
    record.resize(5 + 0x4000, 0);
    guest.flood(&record)
}

fn empty_records(guest: &mut Guest) -> io::Result<()> {
    guest.flood(&[0x16, 0x03, 0x03, 0x00, 0x00])
}

fn plain_http(guest: &mut Guest) -> io::Result<()> {
    guest.say(&answer("400 Bad Request", "", b"<html>plain HTTP was expected</html>"))
}

/// The TCP connection ends behind most of a body, without `close_notify`.
fn truncated_in_a_body(guest: &mut Guest) -> io::Result<()> {
    let good = guest.genuine()?;
    guest.say(&good[..good.len() - 7])?;
    guest.stream.tcp().shutdown(std::net::Shutdown::Both)
}

/// An answer that is over when the connection is, and an end that anybody could have sent.
fn truncated_where_the_end_is_the_end(guest: &mut Guest) -> io::Result<()> {
    guest.say(b"HTTP/1.1 200 OK\r\n\r\n{\"text\":\"Success\",\"code\":0}")?;
    guest.stream.tcp().shutdown(std::net::Shutdown::Both)
}

/// A record that was not sealed by the peer, in the middle of its answer.
fn a_record_of_somebody_else(guest: &mut Guest) -> io::Result<()> {
    let good = guest.genuine()?;
    guest.say(&good[..good.len() / 2])?;
    let mut tcp = guest.stream.tcp();
    io::Write::write_all(&mut tcp, &[0x17, 0x03, 0x03, 0x00, 0x20])?;
    io::Write::write_all(&mut tcp, &[0x55; 0x20])?;
    guest.hang();
    Ok(())
}

#[test]
fn handshakes_and_ends() {
    let mut rows = Vec::new();
    for place in [Place::Sls, Place::Hec] {
        let name = |sls: &'static str, hec: &'static str| if place == Place::Sls { sls } else { hec };
        rows.extend([
            early(
                place,
                name("sls tls: no handshake", "hec tls: no handshake"),
                http::never_answers,
                &["https://127.0.0.1"],
            ),
            early(place, name("sls tls: an alert", "hec tls: an alert"), alert, &["https://127.0.0.1"]),
            early(place, name("sls tls: warnings", "hec tls: warnings"), warnings, &["https://127.0.0.1"]),
            early(
                place,
                name("sls tls: a handshake message of 16 MB", "hec tls: a handshake message of 16 MB"),
                a_handshake_message_of_16_mb,
                &["https://127.0.0.1"],
            ),
            early(
                place,
                name("sls tls: empty records", "hec tls: empty records"),
                empty_records,
                &["https://127.0.0.1"],
            ),
            early(place, name("sls tls: garbage", "hec tls: garbage"), http::garbage, &["https://127.0.0.1"]),
            early(
                place,
                name("sls tls: plain HTTP", "hec tls: plain HTTP"),
                plain_http,
                &["https://127.0.0.1"],
            ),
            early(
                place,
                name("sls tls: ends at once", "hec tls: ends at once"),
                http::ends_without_a_word,
                &["https://127.0.0.1"],
            ),
        ]);
    }
    for (place, victim, names) in [
        (
            Place::Sls,
            is_pull as Victim,
            ["sls tls: truncated in a body", "sls tls: a record of somebody else"],
        ),
        (Place::Hec, is_event, ["hec tls: truncated in a body", "hec tls: a record of somebody else"]),
    ] {
        for (name, deed) in names.into_iter().zip([truncated_in_a_body as Deed, a_record_of_somebody_else]) {
            rows.push(late(place, name, victim, deed, &["https://127.0.0.1"]));
        }
    }
    rows.push(late(
        Place::Hec,
        "hec tls: truncated where the end is the end",
        is_event,
        truncated_where_the_end_is_the_end,
        &["connection ended without close_notify"],
    ));
    row::run(rows);
}
