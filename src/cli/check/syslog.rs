//! A syslog receiver: TCP, TLS, the end of a connection, a RELP session; with `--probe` two numbered test messages.
//!
//! Why: plain syslog answers nothing, but a receiver that has read everything closes when we do. Whether this one
//! does is what `ack = "drain"` stands on, and it can be tried without a message.
//! Invariants: 1. without `--probe` no message is sent. Bounds: three connections an address.
//! Driven by: [`super::sink`]. Spec: RFC 5424, RFC 3164, RFC 6587; RELP: librelp's protocol description.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use super::network::Peer;
use super::sink::{text, trouble};
use super::{Printer, WAIT};
use crate::cli::run::parts;
use crate::config::{SyslogAck, SyslogConfig, SyslogFormat, SyslogFraming, SyslogTransport, SyslogUrl};
use crate::drive::peer::Link;
use crate::drive::tls::Client;
use crate::drive::{TargetSpec, clock};
use crate::proto::event::{Cause, Closed, ClosedKind};
use crate::proto::ids::EndpointId;
use crate::report::{Finding, Grade, Place, place_of};

/// Looks at every endpoint.
pub(super) fn check(place: &Place, syslog: &SyslogConfig, probe: bool, out: &mut Printer) {
    for (id, url) in (0..).zip(&syslog.endpoints) {
        let endpoint = EndpointId(id);
        let target = TargetSpec {
            host: url.host.clone(),
            port: url.port,
            tls: url.transport.is_tls().then(|| parts::tls(&syslog.tls)),
            server_name: syslog.tls.server_name.clone(),
            proxy: None,
            patience: syslog.timeout,
            datagrams: url.transport == SyslogTransport::Udp,
        };
        let word = |closed: Closed| text(place, endpoint, Cause::Transport(closed));
        let peer = Peer { place, name: format!("syslog {url}"), target: &target, word: &word };
        let udp = url.transport == SyslogTransport::Udp;
        let addresses = if udp { peer.resolve(out) } else { peer.reach(out) };
        for address in addresses {
            Doctor { place, syslog, url, target: &target, endpoint, address }.examine(probe, out);
        }
    }
}

struct Doctor<'a> {
    place: &'a Place,
    syslog: &'a SyslogConfig,
    url: &'a SyslogUrl,
    target: &'a TargetSpec,
    endpoint: EndpointId,
    address: SocketAddr,
}

impl Doctor<'_> {
    fn examine(&self, probe: bool, out: &mut Printer) {
        match self.url.transport {
            SyslogTransport::Udp => self.udp(probe, out),
            SyslogTransport::Relp | SyslogTransport::RelpTls => self.relp(probe, out),
            SyslogTransport::Tcp | SyslogTransport::Tls => self.stream(probe, out),
        }
    }

    fn ok(&self, topic: &'static str, text: &str) -> Finding {
        Finding::ok(&place_of(self.place), topic, format!("syslog {}: {text}", self.url))
    }

    fn warn(&self, topic: &'static str, text: &str, todo: &str) -> Finding {
        Finding::warn(&place_of(self.place), topic, format!("syslog {}: {text}", self.url), todo)
    }

    fn fail(&self, topic: &'static str, closed: Closed) -> Finding {
        trouble(self.place, self.endpoint, Grade::Fail, topic, Cause::Transport(closed))
    }

    fn link(&self) -> Result<Link, Closed> {
        let mut link = Link::connect(self.address, WAIT)?;
        if let Some(tls) = &self.target.tls {
            let name = self.target.server_name.as_deref().filter(|name| !name.is_empty());
            let client = Client::new(tls, name.unwrap_or(&self.target.host))
                .map_err(|error| Closed { kind: ClosedKind::Tls, detail: error.to_string() })?;
            link.start_tls(&client)?;
        }
        Ok(link)
    }

    /// Datagrams: only that nobody refuses them can be seen.
    fn udp(&self, probe: bool, out: &mut Printer) {
        if !probe {
            let todo =
                "use tcp://, tls:// or relp:// where logs must not be lost; --probe sends two test messages";
            out.add(self.warn("syslog", "datagrams are best effort: nobody knows what arrives", todo));
            return;
        }
        let sent = || -> io::Result<()> {
            let any = if self.address.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
            let socket = UdpSocket::bind(any)?;
            socket.connect(self.address)?;
            socket.set_read_timeout(Some(std::time::Duration::from_millis(300)))?;
            for number in 1..=MESSAGES {
                socket.send(self.message(number).as_bytes())?;
                // A closed port answers by ICMP, which shows as an error of the next call.
                match socket.recv(&mut [0; 16]) {
                    Err(error)
                        if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                    Err(error) => return Err(error),
                    Ok(_) => {}
                }
            }
            Ok(())
        };
        match sent() {
            Ok(()) => {
                let todo = "look for \"sls2siem check: test message\" 1 and 2 in the SIEM";
                out.add(self.warn("syslog-probe", "two test messages were sent, nobody refused them", todo));
            }
            Err(error) => {
                let detail = format!("{error}, {}", self.address);
                out.add(self.fail("syslog-probe", Closed { kind: ClosedKind::Connect, detail }));
            }
        }
    }

    /// Does it close when we do, after having read everything?
    fn stream(&self, probe: bool, out: &mut Printer) {
        let messages: Vec<u8> = if probe { self.framed() } else { Vec::new() };
        let drained = || -> Result<bool, Closed> {
            let mut link = self.link()?;
            link.send(&messages)?;
            link.end_writing()?;
            let mut said = Vec::new();
            loop {
                match link.receive(&mut said) {
                    Ok(true) => {}
                    Ok(false) => return Ok(true),
                    Err(closed) if closed.kind == ClosedKind::Timeout => return Ok(false),
                    Err(closed) => return Err(closed),
                }
            }
        };
        let (topic, what) =
            if probe { ("syslog-probe", "two test messages were sent; ") } else { ("syslog", "") };
        match drained() {
            Ok(true) => {
                let text =
                    format!("{what}it closes after our end: it has read everything, ack = \"drain\" works");
                let look =
                    if probe { "look for \"sls2siem check: test message\" 1 and 2 in the SIEM" } else { "" };
                out.add(self.ok(topic, &text).or_do(look));
            }
            Ok(false) => {
                let text = format!(
                    "{what}it does not close within {} s after our end of the stream",
                    WAIT.as_secs()
                );
                let todo = match self.syslog.ack {
                    SyslogAck::Drain => {
                        "ack = \"drain\" would wait for ever: set [syslog] ack = \"kernel\" (weaker), or use relp://"
                    }
                    _ => "nothing with the ack that is set; with ack = \"drain\" it would not work",
                };
                let grade = if self.syslog.ack == SyslogAck::Drain { Grade::Fail } else { Grade::Warn };
                out.add(Finding { grade, ..self.warn(topic, &text, todo) });
            }
            Err(closed) => out.add(self.fail(topic, closed)),
        }
    }

    /// A session: open, with `--probe` two messages, close; every answer has to be 200.
    fn relp(&self, probe: bool, out: &mut Printer) {
        let session = || -> Result<Result<(), String>, Closed> {
            let mut link = self.link()?;
            let offer = concat!(
                "relp_version=0\nrelp_software=sls2siem,",
                env!("CARGO_PKG_VERSION"),
                ",\ncommands=syslog"
            );
            let mut calls = vec![("open", offer.to_owned())];
            if probe {
                calls.extend((1..=MESSAGES).map(|number| ("syslog", self.message(number))));
            }
            let mut input = Vec::new();
            for (number, (command, data)) in (1_u32..).zip(&calls) {
                link.send(format!("{number} {command} {} {data}\n", data.len()).as_bytes())?;
                let answer = relp_answer(&mut link, &mut input)?;
                let good = answer.0 == number && answer.1.split(' ').next().is_some_and(|code| code == "200");
                if !good {
                    return Ok(Err(format!("{command} was answered: {} rsp {}", answer.0, answer.1)));
                }
            }
            let last = calls.len() + 1;
            link.send(format!("{last} close 0\n").as_bytes())?;
            // Some receivers answer, some just close.
            let _either = relp_answer(&mut link, &mut input);
            Ok(Ok(()))
        };
        match session() {
            Ok(Ok(())) if probe => {
                let todo = "look for \"sls2siem check: test message\" 1 and 2 in the SIEM";
                out.add(self.ok("syslog-probe", "RELP: two test messages were acknowledged").or_do(todo));
            }
            Ok(Ok(())) => out.add(self.ok("syslog", "RELP: a session was opened and closed")),
            Ok(Err(answer)) => {
                let text = format!("syslog {}: it refuses the RELP session", self.url);
                let todo = "look into the receiver's log; the port must be that of imrelp or network(transport(relp))";
                out.add(Finding::fail(&place_of(self.place), "syslog", text, todo).because(answer));
            }
            Err(closed) => out.add(self.fail("syslog", closed)),
        }
    }

    fn message(&self, number: u32) -> String {
        let text = format!("sls2siem check: test message {number} of {MESSAGES}");
        let priority = u32::from(self.syslog.facility) * 8 + u32::from(self.syslog.severity);
        let now = i64::try_from(clock::wall().as_secs()).unwrap_or_default();
        let now = jiff::Timestamp::from_second(now).unwrap_or_default();
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host: String = host.trim().chars().filter(char::is_ascii_graphic).take(255).collect();
        let host = if host.is_empty() { "-" } else { &host };
        match self.syslog.format {
            SyslogFormat::Rfc5424 => format!("<{priority}>1 {now} {host} sls2siem - check - {text}"),
            SyslogFormat::Rfc3164 => {
                format!("<{priority}>{} {host} sls2siem: {text}", now.strftime("%b %e %H:%M:%S"))
            }
        }
    }

    fn framed(&self) -> Vec<u8> {
        let frame = |number| {
            let message = self.message(number);
            match self.syslog.framing {
                SyslogFraming::OctetCounting => format!("{} {message}", message.len()),
                SyslogFraming::Newline => format!("{message}\n"),
            }
        };
        (1..=MESSAGES).map(frame).collect::<String>().into_bytes()
    }
}

/// Number and data of the next frame of the peer.
fn relp_answer(link: &mut Link, input: &mut Vec<u8>) -> Result<(u32, String), Closed> {
    loop {
        if let Some((number, data, taken)) = relp_frame(input) {
            input.drain(..taken);
            return Ok((number, data));
        }
        let odd = |detail: String| Closed { kind: ClosedKind::Eof, detail };
        if input.len() > ANSWER_BYTES_MAX || input.first().is_some_and(|byte| !byte.is_ascii_digit()) {
            let start = String::from_utf8_lossy(input.get(..60).unwrap_or(input)).into_owned();
            return Err(odd(format!("no RELP: the peer says {start:?}")));
        }
        if !link.receive(input)? {
            return Err(odd("the peer closed before its answer".to_owned()));
        }
    }
}

/// `TXNR SP COMMAND SP DATALEN [SP DATA] LF`: number, data and length of a whole frame.
fn relp_frame(input: &[u8]) -> Option<(u32, String, usize)> {
    let mut at = 0;
    let mut word = || {
        let rest = input.get(at..)?;
        let end = rest.iter().position(|byte| matches!(byte, b' ' | b'\n'))?;
        at += end + 1;
        str::from_utf8(rest.get(..end)?).ok()
    };
    let number = word()?.parse().ok()?;
    word()?;
    let length: usize = word()?.parse().ok()?;
    if length == 0 {
        return Some((number, String::new(), at));
    }
    let data = input.get(at..at.checked_add(length)?)?;
    // The frame's own line end may still be on its way.
    (input.get(at + length) == Some(&b'\n'))
        .then(|| (number, String::from_utf8_lossy(data).into_owned(), at + length + 1))
}

const MESSAGES: u32 = 2;
const ANSWER_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relp_frames_are_taken_whole_or_not_at_all() {
        let whole = b"1 rsp 25 200 OK\nrelp_version=0\na=b\n";
        let whole = &whole[..];
        let data = "200 OK\nrelp_version=0\na=b";
        assert_eq!(relp_frame(whole), Some((1, data.to_owned(), whole.len())));
        for end in 0..whole.len() {
            assert_eq!(relp_frame(&whole[..end]), None, "{end}");
        }
        assert_eq!(relp_frame(b"7 rsp 0\n8 rsp"), Some((7, String::new(), 8)));
        for odd in [&b"x rsp 1 a\n"[..], b"1 rsp x\n", b"1 rsp 18446744073709551615 a\n", b"\xff 1 1\n"] {
            assert_eq!(relp_frame(odd), None);
        }
    }
}
