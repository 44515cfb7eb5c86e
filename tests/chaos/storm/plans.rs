//! What may go wrong inside of the servers, as their fault plans say it.
//!
//! Why: a receiver is another one in each of its lives.   Invariants: 1. nothing here confirms what is not stored. So no
//! plain syslog receiver ends a connection in order after so many messages: frozen for longer than the silence before our
//! FIN, it would throw away what it has read, in order, and that is what no sender can see (ARCHITECTURE.md).
//! Bounds: static.   Driven by: `stage`.

/// The pipelines of each forwarder, which are groups of their own, and the receivers behind them.
pub(super) const PIPELINES: [&str; 3] = ["hec", "drain", "relp"];
pub(super) const RECEIVERS: [Receiving; 4] = [
    Receiving { pipeline: "hec", kind: Kind::Hec { ack: true } },
    Receiving { pipeline: "hec", kind: Kind::Hec { ack: false } },
    Receiving { pipeline: "drain", kind: Kind::Syslog { scheme: "tcp" } },
    Receiving { pipeline: "relp", kind: Kind::Syslog { scheme: "relp" } },
];

/// What a receiver is.
#[derive(Clone, Copy)]
pub(super) struct Receiving {
    pub(super) pipeline: &'static str,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Hec { ack: bool },
    Syslog { scheme: &'static str },
}

/// What a receiver may do wrong in one of its lives. Nothing here confirms what is not stored.
pub(super) const HEC_FAULTS: [&str; 7] = [
    "",
    "event.503=5%,event.reset-after=2%",
    "event.refuse-at:1:6=3%",
    "event.close=5%,ack.tear=5%,event.garbled=2%",
    "event.html:502=3%,event.429:27=3%,ack.500=5%",
    "event.never-ack=2%,event.delay:700ms=5%",
    "event.restart:300ms=0.5%,event.crash:300ms=0.5%",
];
pub(super) const DRAIN_FAULTS: [&str; 5] = [
    "",
    "message.reset=0.1%,eof.delay:500ms=10%",
    "eof.reset=10%,connect.close=3%",
    "message.crash:300ms=0.05%",
    "connect.close=10%,eof.hang=3%",
];
pub(super) const RELP_FAULTS: [&str; 6] = [
    "",
    "syslog.serverclose=0.5%,syslog.tear=0.3%",
    "syslog.500=0.2%",
    "syslog.delay:700ms=0.5%,syslog.wrong-txnr=0.2%",
    "syslog.unanswered=0.1%,open.500=5%",
    "message.crash:300ms=0.05%,message.reset-after=0.1%",
];
pub(super) const SOURCE_FAULTS: [&str; 5] = [
    "pull.503=20%,heartbeat.500=20%",
    "pull.tear=10%,pull.rawsize=5%,checkpoint.reset-after=20%",
    "heartbeat.hang=30%,get-checkpoint.500=30%",
    "pull.bits=5%,pull.html:502=5%,pull.delay:600ms=10%",
    "checkpoint.500=50%,cursor.reset=30%,pull.hang=1%",
];

/// The network in front of the receiver of plain syslog: 0 leads to the source, the others to the receivers.
pub(super) const DRAIN_NETWORK: usize = 3;
