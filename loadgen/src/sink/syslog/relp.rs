//! RELP as its server sees it: frames, and what each command is answered with.
//!
//! Why: the acknowledgement of RELP is its whole point, so the server is held to the letter and the sender with it: a
//! number that jumps, a message before the session is open or a frame that is miscounted ends the session, as librelp
//! ends it.
//! Invariants: 1. numbers go up by exactly one and wrap from 999,999,999 to 1. 2. nothing is taken before `open`.
//! Bounds: `max_bytes` of data a frame.   Driven by: `relp_conn`, with what is unread.   Spec: syslog.md 6.

use super::framing::Broken;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) txnr: u32,
    pub(super) command: &'a str,
    pub(super) data: &'a [u8],
    /// Bytes of the frame.
    pub(super) size: usize,
    /// Where the data begins.
    pub(super) data_at: usize,
}

/// The first frame of the unread bytes, or none while it is incomplete.
pub(super) fn cut(unread: &[u8], max_bytes: usize) -> Result<Option<Frame<'_>>, Broken> {
    let Some((txnr, at)) = number(unread, 0, "TXNR")? else { return Ok(None) };
    let Some(at) = literal(unread, at, b' ', "no space behind TXNR")? else { return Ok(None) };
    let rest = unread.get(at..).unwrap_or_default();
    let size = rest.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(rest.len());
    if size > MAX_COMMAND {
        return broken(at, "a command is longer than 32 letters");
    }
    if size == rest.len() {
        return Ok(None);
    }
    if size == 0 {
        return broken(at, "no command");
    }
    let command = rest.get(..size).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default();
    let Some(at) = literal(unread, at + size, b' ', "no space behind the command")? else { return Ok(None) };
    let Some((bytes, at)) = number(unread, at, "DATALEN")? else { return Ok(None) };
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    if bytes > max_bytes {
        return Err(Broken { at, what: format!("a frame of {bytes} bytes, allowed are {max_bytes}") });
    }
    let data_at = if bytes == 0 {
        at
    } else {
        let Some(at) = literal(unread, at, b' ', "no space behind DATALEN")? else { return Ok(None) };
        at
    };
    let end = data_at + bytes;
    let Some(size) = literal(unread, end, b'\n', "no LF behind the data")? else { return Ok(None) };
    let data = unread.get(data_at..end).unwrap_or_default();
    Ok(Some(Frame { txnr, command, data, size, data_at }))
}

/// Up to nine digits that end before something else; none while they may go on.
fn number(unread: &[u8], at: usize, name: &str) -> Result<Option<(u32, usize)>, Broken> {
    let rest = unread.get(at..).unwrap_or_default();
    let size = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if size > MAX_DIGITS {
        return broken(at, &format!("{name} has more than nine digits"));
    }
    if size == rest.len() {
        return Ok(None);
    }
    let digits = rest.get(..size).unwrap_or_default();
    match digits {
        [] => broken(at, &format!("{name} is not a number")),
        [b'0', _, ..] => broken(at, &format!("{name} begins with 0")),
        _ => {
            let value = digits.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
            Ok(Some((value, at + size)))
        }
    }
}

fn literal(unread: &[u8], at: usize, byte: u8, what: &str) -> Result<Option<usize>, Broken> {
    match unread.get(at) {
        None => Ok(None),
        Some(found) if *found == byte => Ok(Some(at + 1)),
        Some(_) => broken(at, what),
    }
}

fn broken<T>(at: usize, what: &str) -> Result<T, Broken> {
    Err(Broken { at, what: what.to_owned() })
}

/// What a frame asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Call {
    /// Begins the session.
    Open,
    /// Hands a message over.
    Syslog,
    /// Ends the session.
    Close,
    /// Nothing to do; it is never answered.
    Hint,
}

/// A session as its server keeps it.
#[derive(Debug)]
pub(super) struct Session {
    is_open: bool,
    is_closed: bool,
    last_txnr: u32,
}

impl Session {
    pub(super) const fn new() -> Self {
        Self { is_open: false, is_closed: false, last_txnr: 0 }
    }

    /// Judges a frame; an error ends the session with `serverclose`.
    pub(super) fn call(&mut self, frame: &Frame<'_>) -> Result<Call, Broken> {
        if frame.txnr == 0 {
            return Ok(Call::Hint);
        }
        let expected = next_txnr(self.last_txnr);
        if frame.txnr != expected {
            return broken(0, &format!("TXNR {} stands where {expected} was due", frame.txnr));
        }
        self.last_txnr = frame.txnr;
        let at = frame.data_at;
        match frame.command {
            _ if self.is_closed => broken(0, "a command behind close"),
            "open" if self.is_open => broken(0, "a second open"),
            "open" => {
                check_offers(frame.data).map_err(|what| Broken { at, what: what.to_owned() })?;
                self.is_open = true;
                Ok(Call::Open)
            }
            _ if !self.is_open => broken(0, "a command in front of open"),
            "syslog" => Ok(Call::Syslog),
            "close" if frame.data.is_empty() => {
                self.is_closed = true;
                Ok(Call::Close)
            }
            "close" => broken(at, "close carries data"),
            _ => broken(0, "a command that is not known"),
        }
    }
}

/// The number behind this one.
pub(super) const fn next_txnr(txnr: u32) -> u32 {
    if txnr >= 999_999_999 { 1 } else { txnr + 1 }
}

/// What a client offers has to name a version and the command that it needs.
fn check_offers(data: &[u8]) -> Result<(), &'static str> {
    let text = std::str::from_utf8(data).map_err(|_| "the offers are not text")?;
    let mut version = None;
    let mut commands = None;
    for line in text.lines().filter(|line| !line.is_empty()) {
        match line.split_once('=') {
            Some(("relp_version", value)) => version = Some(value),
            Some(("commands", value)) => commands = Some(value),
            Some((name, _)) if !name.is_empty() => {}
            _ => return Err("an offer is not NAME=VALUE"),
        }
    }
    match version {
        Some("0" | "1") => {}
        Some(_) => return Err("relp_version is neither 0 nor 1"),
        None => return Err("no relp_version is offered"),
    }
    let needs = commands.ok_or("no commands are offered")?;
    if needs.split(',').any(|command| command == "syslog") {
        Ok(())
    } else {
        Err("syslog is not among the commands")
    }
}

/// A response: a code and text, or nothing at all.
pub(super) fn response(txnr: u32, data: &str) -> Vec<u8> {
    if data.is_empty() {
        return format!("{txnr} rsp 0\n").into_bytes();
    }
    format!("{txnr} rsp {} {data}\n", data.len()).into_bytes()
}

/// What an `open` is answered with.
pub(super) fn offers(commands: &str) -> String {
    format!(
        "200 OK\nrelp_version=0\nrelp_software=loadgen,{},https://example.invalid\n{commands}",
        env!("CARGO_PKG_VERSION")
    )
}

/// The end that a server announces.
pub(super) const SERVERCLOSE: &[u8] = b"0 serverclose 0\n";

const MAX_DIGITS: usize = 9;
const MAX_COMMAND: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Vec<u8> {
        let data = "relp_version=0\nrelp_software=x,1,y\ncommands=syslog";
        format!("1 open {} {data}\n", data.len()).into_bytes()
    }

    /// Number, command and data.
    type Told = (u32, String, Vec<u8>);

    fn frames(bytes: &[u8], ends: &[usize]) -> (Vec<Told>, Option<Broken>) {
        let (mut found, mut start) = (Vec::new(), 0);
        for end in ends.iter().copied().chain([bytes.len()]) {
            loop {
                match cut(&bytes[start..end], 1000) {
                    Ok(Some(frame)) => {
                        found.push((frame.txnr, frame.command.to_owned(), frame.data.to_vec()));
                        start += frame.size;
                    }
                    Ok(None) => break,
                    Err(broken) => return (found, Some(broken)),
                }
            }
        }
        (found, None)
    }

    #[test]
    fn frames_split_at_every_byte() {
        let bytes = [open(), b"2 syslog 8 <1>a\nb\n\n\n3 close 0\n0 hint 0\n".to_vec()].concat();
        let whole = frames(&bytes, &[]).0;
        assert_eq!(whole.len(), 4);
        assert_eq!(whole[1], (2, "syslog".to_owned(), b"<1>a\nb\n\n".to_vec()));
        for at in 0..=bytes.len() {
            assert_eq!(frames(&bytes, &[at]), (whole.clone(), None), "split at {at}");
        }
        let one = b"2 syslog 8 <1>a\nb\n\n\n";
        for end in 0..one.len() {
            assert_eq!(frames(&one[..end], &[]), (vec![], None), "cut at {end}");
        }
    }

    #[test]
    fn miscounted_frames_are_told_with_their_place() {
        for (text, what, at) in [
            ("01 open 0\n", "begins with 0", 0),
            ("1234567890 open 0\n", "nine digits", 0),
            ("x open 0\n", "not a number", 0),
            ("1  open 0\n", "no command", 2),
            ("1 op3n 0\n", "behind the command", 4),
            ("1 abcdefghijklmnopqrstuvwxyzabcdefg 0\n", "longer than 32", 2),
            ("1 open 0 \n", "no LF", 8),
            ("1 open 2 abc\n", "no LF", 11),
            ("1 open 3\nabc\n", "behind DATALEN", 8),
            ("1 open 1001 a", "allowed are 1000", 11),
        ] {
            let broken = frames(text.as_bytes(), &[]).1.expect(text);
            assert!(broken.what.contains(what), "{text}: {}", broken.what);
            assert_eq!(broken.at, at, "{text}");
        }
    }

    fn session(bytes: &[u8]) -> Result<Vec<Call>, String> {
        let (mut session, mut calls, mut start) = (Session::new(), Vec::new(), 0);
        while let Some(frame) = cut(&bytes[start..], 1000).map_err(|broken| broken.what)? {
            calls.push(session.call(&frame).map_err(|broken| broken.what)?);
            start += frame.size;
        }
        Ok(calls)
    }

    #[test]
    fn a_session_to_the_letter() {
        let after = |rest: &[u8]| session(&[open(), rest.to_vec()].concat());
        assert_eq!(
            after(b"2 syslog 1 x\n0 hint 0\n3 syslog 0\n4 close 0\n"),
            Ok(vec![Call::Open, Call::Syslog, Call::Hint, Call::Syslog, Call::Close])
        );
        for (rest, what) in [
            ("3 syslog 1 x\n", "TXNR 3 stands where 2 was due"),
            ("1 syslog 1 x\n", "TXNR 1 stands where 2 was due"),
            ("2 syslog 1 x\n2 syslog 1 x\n", "where 3 was due"),
            ("2 frobnicate 0\n", "not known"),
            ("2 open 14 relp_version=0\n", "second open"),
            ("2 close 0\n3 syslog 1 x\n", "behind close"),
            ("2 close 1 x\n", "carries data"),
        ] {
            let found = after(rest.as_bytes()).expect_err(rest);
            assert!(found.contains(what), "{rest}: {found}");
        }
        assert!(session(b"1 syslog 1 x\n").expect_err("not open").contains("in front of open"));
        assert!(session(b"2 open 0\n").expect_err("jump").contains("where 1 was due"));
        for (offers, what) in [
            ("commands=syslog", "no relp_version"),
            ("relp_version=0", "no commands"),
            ("relp_version=7\ncommands=syslog", "neither 0 nor 1"),
            ("relp_version=0\ncommands=other", "not among"),
            ("relp_version", "NAME=VALUE"),
        ] {
            let bytes = format!("1 open {} {offers}\n", offers.len());
            assert!(session(bytes.as_bytes()).expect_err(offers).contains(what), "{offers}");
        }
    }

    #[test]
    fn numbers_wrap_at_nine_digits() {
        let mut session = Session { is_open: true, is_closed: false, last_txnr: 999_999_998 };
        for txnr in [999_999_999, 1, 2] {
            let frame = Frame { txnr, command: "syslog", data: b"", size: 0, data_at: 0 };
            assert_eq!(session.call(&frame), Ok(Call::Syslog), "{txnr}");
        }
    }

    #[test]
    fn responses() {
        assert_eq!(response(7, "200 OK"), b"7 rsp 6 200 OK\n");
        assert_eq!(response(8, ""), b"8 rsp 0\n");
        let offers = response(1, &offers("commands=syslog"));
        let frame = cut(&offers, 1000).expect("a frame").expect("whole");
        assert!(
            frame.data.starts_with(b"200 OK\nrelp_version=0\n") && frame.data.ends_with(b"commands=syslog")
        );
    }
}
