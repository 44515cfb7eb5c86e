//! One blocking conversation with a syslog receiver: messages out, and what proves that they arrived.
//!
//! Why: commands send a few messages and wait; what counts as proof must be the same as in a run, or they would prove
//! nothing about it.
//! Invariants: 1. a stream counts as read only when the receiver ended it in order after us and its kernel had every byte.
//!  2. a RELP message counts only with its own answer 200. Bounds: the time that a link is given, again for each message.
//! Driven by: `cli::check` and [`super::replay`]. Spec: RFC 6587; RELP as `proto::sink::syslog::relp`; RFC 5426.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::config::SyslogFraming;
use crate::drive::peer::Link;
use crate::proto::event::{Closed, ClosedKind};
use crate::proto::ids::Txnr;
use crate::proto::sink::syslog::relp::wire::{Reader, Said, status};

/// Answers of a datagram's receiver (a port that is closed, by ICMP) come within this time.
const REFUSAL_WAIT: Duration = Duration::from_millis(300);

/// Appends a message with its framing.
pub fn frame(out: &mut Vec<u8>, framing: SyslogFraming, message: &[u8]) {
    match framing {
        SyslogFraming::OctetCounting => {
            out.extend_from_slice(format!("{} ", message.len()).as_bytes());
            out.extend_from_slice(message);
        }
        SyslogFraming::Newline => {
            for byte in message {
                match byte {
                    b'\n' => out.extend_from_slice(b"\\n"),
                    b'\r' => out.extend_from_slice(b"\\r"),
                    0 => out.extend_from_slice(b"\\0"),
                    byte => out.push(*byte),
                }
            }
            out.push(b'\n');
        }
    }
}

/// Sends datagrams; an error where the receiver refuses them, which not every one does that takes none.
pub fn datagrams(address: SocketAddr, messages: &[Vec<u8>]) -> io::Result<()> {
    let any = if address.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(REFUSAL_WAIT))?;
    let last = messages.len().saturating_sub(1);
    for (number, message) in messages.iter().enumerate() {
        socket.send(message)?;
        if number > 0 && number < last {
            std::thread::park_timeout(DATAGRAM_PAUSE);
            continue;
        }
        // A closed port answers by ICMP, which shows as an error of the next call.
        match socket.recv(&mut [0; 16]) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    Ok(())
}

/// A session of RELP.
pub struct Session {
    link: Link,
    next: Txnr,
    reader: Reader,
    input: Vec<u8>,
}

impl Session {
    /// Offers a session. The inner error is the server's refusal, as received.
    pub fn open(link: Link) -> Result<Result<Self, String>, Closed> {
        let mut session = Self { link, next: Txnr::FIRST, reader: Reader::default(), input: Vec::new() };
        let offer = concat!(
            "relp_version=0\nrelp_software=sls2siem,",
            env!("CARGO_PKG_VERSION"),
            ",\ncommands=syslog"
        );
        let (code, text) = session.call("open", offer.as_bytes())?;
        Ok(if code == 200 { Ok(session) } else { Err(format!("open was answered: {code} {text}")) })
    }

    /// Sends one message and waits for its answer: code and text.
    pub fn send(&mut self, message: &[u8]) -> Result<(u16, String), Closed> {
        self.call("syslog", message)
    }

    /// Ends the session; some servers answer, some just close.
    pub fn close(mut self) {
        let _either = self.call("close", b"");
    }

    fn call(&mut self, command: &str, data: &[u8]) -> Result<(u16, String), Closed> {
        self.link.wait_again();
        let number = self.next;
        self.next = number.next();
        let mut frame = format!("{} {command} {}", number.number(), data.len()).into_bytes();
        if !data.is_empty() {
            frame.push(b' ');
            frame.extend_from_slice(data);
        }
        frame.push(b'\n');
        self.link.send(&frame)?;
        self.answer(number)
    }

    fn answer(&mut self, number: Txnr) -> Result<(u16, String), Closed> {
        let odd = |detail: String| Closed { kind: ClosedKind::Eof, detail };
        loop {
            let (used, said) = self.reader.read(&self.input).map_err(|why| {
                let start = String::from_utf8_lossy(self.input.get(..60).unwrap_or(&self.input)).into_owned();
                odd(format!("no RELP: {why}, the peer says {start:?}"))
            })?;
            self.input.drain(..used);
            match said {
                Some(Said::Answer(other)) if other == number => {
                    let data = self.reader.data();
                    return Ok(match status(data) {
                        Some((code, text)) => (code, String::from_utf8_lossy(text).into_owned()),
                        // An answer to `close` has none.
                        None => (0, String::from_utf8_lossy(data).into_owned()),
                    });
                }
                Some(Said::Answer(other)) => {
                    return Err(odd(format!(
                        "an answer to number {} in place of {}",
                        other.number(),
                        number.number()
                    )));
                }
                Some(Said::ServerClose) => return Err(odd("the server closes the session".to_owned())),
                Some(Said::Hint) => continue,
                None => {}
            }
            if !self.link.receive(&mut self.input)? {
                return Err(odd("the peer closed before its answer".to_owned()));
            }
        }
    }
}

/// Between two datagrams: a receiver's buffer takes some hundred, and is not always awake.
const DATAGRAM_PAUSE: Duration = Duration::from_micros(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames() {
        let (mut counted, mut lines) = (Vec::new(), Vec::new());
        for message in [&b"<14>1 a\nb"[..], b"", b"c\r\0\\n"] {
            frame(&mut counted, SyslogFraming::OctetCounting, message);
            frame(&mut lines, SyslogFraming::Newline, message);
        }
        assert_eq!(counted, b"9 <14>1 a\nb0 5 c\r\0\\n");
        assert_eq!(lines, b"<14>1 a\\nb\n\nc\\r\\0\\n\n");
    }
}
