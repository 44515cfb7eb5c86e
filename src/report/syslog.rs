//! What the silence of a syslog receiver, and the answers of a RELP server, mean to an operator.
//!
//! Why: plain syslog has no words for "I cannot"; what is seen instead (an end too early, no end at all) says nothing
//! to somebody who does not know how it is acknowledged here.
//! Invariants: 1. the text names another level of acknowledgement where this one cannot work with that receiver.
//! Bounds: none.   Driven by: `report`.   Spec: README.md, "What syslog can prove".

use super::{Advice, clean, span};
use crate::proto::event::SyslogTrouble;

/// The cause as received.
pub(super) fn cause(trouble: &SyslogTrouble) -> String {
    match trouble {
        SyslogTrouble::NeverEnds { waited } => format!("no FIN within {} of ours", span(*waited)),
        SyslogTrouble::EndsEarly { closed } => clean(&closed.detail),
        SyslogTrouble::Stalled { waited } => format!("nothing could be written for {}", span(*waited)),
        SyslogTrouble::OpenRefused { answer } => format!("answer to open: {}", clean(answer)),
        SyslogTrouble::ServerClose => "serverclose".to_owned(),
        SyslogTrouble::Silent { waited, owed: 0 } => format!("no answer to open within {}", span(*waited)),
        SyslogTrouble::Silent { waited, owed } => {
            format!("no answer within {}, {owed} messages without one", span(*waited))
        }
        SyslogTrouble::NotRelp { detail } => clean(detail),
        SyslogTrouble::Refused { code, text } => format!("{code} {}", clean(text)),
    }
}

/// What it means and what to do.
pub(super) fn advice(trouble: &SyslogTrouble) -> Advice {
    match trouble {
        SyslogTrouble::NeverEnds { .. } => Advice::new(
            "syslog-never-ends",
            "does not end the connection after us, so nobody knows whether it has read everything",
            "if it is only slow: a longer [syslog] timeout; if it never ends connections: use RELP, or ack = \"kernel\" \
             (its kernel has the logs, weaker), and restart",
        )
        .safe("nothing lost: the logs of that connection are sent again, so they can arrive twice; the checkpoint waits"),
        SyslogTrouble::EndsEarly { .. } => Advice::new(
            "syslog-ends-early",
            "ends connections before we do, so nobody knows what it has read",
            "look for a limit of connections or an idle timeout there or in a balancer between, shorter than [syslog] \
             drain_interval; if it ends its side of every connection at once: use RELP, or ack = \"kernel\"",
        )
        .safe("nothing lost: the logs of that connection are sent again, so they can arrive twice; the checkpoint waits"),
        SyslogTrouble::Stalled { .. } => Advice::new(
            "syslog-stalled",
            "has stopped reading",
            "look at its load, its disk and its queues; pulls pause until it reads again, by themselves",
        ),
        SyslogTrouble::OpenRefused { .. } => Advice::new(
            "relp-open",
            "refused the RELP session, or offers no syslog in it",
            "check that the port belongs to imrelp or another RELP server that takes syslog, and what it allows \
             (permitted peers, connection limits)",
        ),
        SyslogTrouble::ServerClose => Advice::new(
            "relp-serverclose",
            "closes RELP sessions without having taken a message",
            "look at its log: it says serverclose when it stops, or at something that it does not understand",
        ),
        SyslogTrouble::Silent { .. } => Advice::new(
            "relp-silent",
            "does not answer over RELP",
            "look at its load and its queues (a full main queue of rsyslog stops the answers), and that the port is a \
             RELP one; a longer wait: [syslog] timeout",
        ),
        SyslogTrouble::Refused { .. } => Advice::new(
            "relp-refused",
            "refuses a message",
            "look at the log of the RELP server for what it does not take, and repair it there; the log is offered \
             again every 30 s",
        ),
        SyslogTrouble::NotRelp { .. } => Advice::new(
            "relp-protocol",
            "does not speak RELP",
            "check scheme and port in [syslog] endpoints: tcp:// or tls:// for a plain syslog receiver, relp+tls:// \
             where RELP has TLS",
        ),
    }
}
