//! Hostile syslog receivers: over TCP, where nothing is said back, and over RELP, where every message is answered.
//!
//! Why: a receiver that talks where it should be silent, or answers what was not asked, must not be taken for a receipt.
//! Invariants: as in `row`. Bounds: `syslog.timeout` is 3 s here. Driven by: `row`.

use std::io::{self, Read as _};

use crate::front::Guest;
use crate::http::{self, Deed};
use crate::row::{self, Place, Row};

fn tcp(name: &'static str, deed: Deed, says: &'static [&'static str]) -> Row {
    Row::new(Place::Tcp, name, deed, says)
}

fn relp(name: &'static str, deed: Deed, says: &'static [&'static str]) -> Row {
    Row::new(Place::Relp, name, deed, says)
}

/// Takes the `open` of a session, and says this.
fn after_open(guest: &mut Guest, says: &[u8]) -> io::Result<()> {
    let mut piece = [0; 4096];
    while guest.is_hostile() && guest.stream.read(&mut piece).is_err() {}
    guest.say(says)
}

/// A session that is open.
fn opened(guest: &mut Guest) -> io::Result<()> {
    let offer = "200 OK\nrelp_version=0\nrelp_software=x\ncommands=syslog";
    after_open(guest, format!("1 rsp {} {offer}\n", offer.len()).as_bytes())
}

fn sends_gigabytes_back(guest: &mut Guest) -> io::Result<()> {
    guest.flood(b"thank you ")
}

fn a_frame_of_two_gigabytes(guest: &mut Guest) -> io::Result<()> {
    after_open(guest, b"1 rsp 2147483648 200 OK\n")?;
    guest.flood(b"OK ")
}

fn a_length_of_many_digits(guest: &mut Guest) -> io::Result<()> {
    after_open(guest, b"1 rsp ")?;
    guest.flood(b"0")
}

fn a_command_without_end(guest: &mut Guest) -> io::Result<()> {
    after_open(guest, b"1 ")?;
    guest.flood(b"rsp")
}

fn empty_lines_without_end(guest: &mut Guest) -> io::Result<()> {
    guest.flood(b"\n")
}

fn hints_without_end(guest: &mut Guest) -> io::Result<()> {
    opened(guest)?;
    guest.flood(b"0 hint 0\n")
}

fn numbers_that_nobody_gave(guest: &mut Guest) -> io::Result<()> {
    opened(guest)?;
    guest.flood(b"999999 rsp 6 200 OK\n")
}

fn the_same_number_again(guest: &mut Guest) -> io::Result<()> {
    opened(guest)?;
    guest.flood(b"1 rsp 6 200 OK\n")
}

fn serverclose_at_once(guest: &mut Guest) -> io::Result<()> {
    guest.flood(b"0 serverclose 0\n")
}

fn serverclose_after_open(guest: &mut Guest) -> io::Result<()> {
    opened(guest)?;
    guest.flood(b"0 serverclose 0\n")
}

fn refuses_with_a_forged_line(guest: &mut Guest) -> io::Result<()> {
    after_open(guest, b"1 rsp 45 500 \x1b[31m\n2026-01-01T00:00:00.00Z ERROR forged\n")
}

fn never_ends(guest: &mut Guest) -> io::Result<()> {
    guest.swallow()
}

#[test]
fn receivers() {
    row::run(vec![
        tcp("tcp: sends gigabytes back", sends_gigabytes_back, &["syslog tcp"]),
        tcp("tcp: never reads", http::never_reads, &["does not end the connection after us"]),
        tcp("tcp: reads and never ends", never_ends, &["does not end the connection after us"]),
        tcp("tcp: resets", http::resets, &["broke the connection", "reset by peer"]),
        tcp("tcp: ends at once", http::ends_without_a_word, &["syslog tcp", "the connection"]),
        relp(
            "relp: a frame of 2 GiB",
            a_frame_of_two_gigabytes,
            &["does not speak RELP", "a frame of 214748 bytes or more"],
        ),
        relp(
            "relp: a length of many digits",
            a_length_of_many_digits,
            &["does not speak RELP", "more than 9 digits"],
        ),
        relp(
            "relp: a command without end",
            a_command_without_end,
            &["does not speak RELP", "in place of a command"],
        ),
        relp("relp: empty lines without end", empty_lines_without_end, &["syslog relp"]),
        relp("relp: hints without end", hints_without_end, &["syslog relp"]),
        relp(
            "relp: numbers that nobody gave",
            numbers_that_nobody_gave,
            &["does not speak RELP", "number 999999"],
        ),
        relp("relp: the same number again", the_same_number_again, &["does not speak RELP", "number 1 "]),
        relp(
            "relp: serverclose at once",
            serverclose_at_once,
            &["without having taken a message", "serverclose"],
        ),
        relp(
            "relp: serverclose after open",
            serverclose_after_open,
            &["without having taken a message", "serverclose"],
        ),
        relp("relp: refuses with a forged line", refuses_with_a_forged_line, &["syslog relp"]),
        relp("relp: garbage", http::garbage, &["does not speak RELP", "in place of a transaction number"]),
        relp("relp: no answer", http::never_answers, &["no answer to open within 3 s"]),
        relp("relp: resets", http::resets, &["broke the connection", "reset by peer"]),
        relp("relp: ends at once", http::ends_without_a_word, &["syslog relp", "the connection"]),
    ]);
}
