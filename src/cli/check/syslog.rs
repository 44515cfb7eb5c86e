//! A syslog receiver: TCP, TLS, the end of a connection, a RELP session; with `--probe` two numbered test messages.
//!
//! Why: plain syslog answers nothing, but a receiver that has read everything closes when we do. Whether this one
//! does is what `ack = "drain"` stands on, and it can be tried without a message.
//! Invariants: 1. without `--probe` no message is sent. Bounds: three connections an address.
//! Driven by: [`super::sink`]. Spec: RFC 5424, RFC 3164, RFC 6587; RELP: librelp's protocol description.

use std::net::SocketAddr;

use super::network::Peer;
use super::sink::{text, trouble};
use super::{Printer, WAIT};
use crate::cli::run::parts;
use crate::config::{SyslogAck, SyslogConfig, SyslogFormat, SyslogTransport, SyslogUrl};
use crate::control::receiver::{Session, datagrams, frame};
use crate::drive::peer::Link;
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
        Link::to(self.target, self.address, WAIT)
    }

    /// Datagrams: only that nobody refuses them can be seen.
    fn udp(&self, probe: bool, out: &mut Printer) {
        if !probe {
            let todo =
                "use tcp://, tls:// or relp:// where logs must not be lost; --probe sends two test messages";
            out.add(self.warn("syslog", "datagrams are best effort: nobody knows what arrives", todo));
            return;
        }
        match datagrams(self.address, &self.messages()) {
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
        let drained = || -> Result<bool, Closed> {
            let mut bytes = Vec::new();
            if probe {
                self.messages().iter().for_each(|message| frame(&mut bytes, self.syslog.framing, message));
            }
            let mut link = self.link()?;
            link.send(&bytes)?;
            link.drain()
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
            let mut session = match Session::open(self.link()?)? {
                Ok(session) => session,
                Err(answer) => return Ok(Err(answer)),
            };
            for message in if probe { self.messages() } else { Vec::new() } {
                let (code, text) = session.send(&message)?;
                if code != 200 {
                    return Ok(Err(format!("syslog was answered: {code} {text}")));
                }
            }
            session.close();
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

    fn messages(&self) -> Vec<Vec<u8>> {
        (1..=MESSAGES).map(|number| self.message(number).into_bytes()).collect()
    }
}

const MESSAGES: u32 = 2;
