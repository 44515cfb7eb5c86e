//! The strict receiver of loadgen: every transport to the letter, and the faults of its plans without a loss.

use std::fs;

use loadgen::fault::FaultPlan;
use loadgen::payload::{Payload, Profile};
use loadgen::sink::syslog::{Expectation, Framing, Mode, SyslogConfig, SyslogServer, Transport};
use loadgen::sink::tls::TlsSettings;
use loadgen::verify::{Sent, Verdict};

use crate::forwarder::{Forwarder, Start};
use crate::rig::{PATIENCE, Rig, SHARDS};

/// Logs that carry their number, and a receiver that knows them.
pub(crate) struct Pair {
    pub(crate) rig: Rig,
    pub(crate) server: SyslogServer,
    pub(crate) transport: Transport,
}

impl Pair {
    pub(crate) fn new(records: u64, transport: Transport, change: impl FnOnce(&mut SyslogConfig)) -> Self {
        let mut rig = Rig::new();
        rig.payload = Payload::new(Profile::AccessLog, 7).with_logs_per_group(50);
        let mut config = SyslogConfig {
            payload: Some(Expectation::new(rig.payload)),
            relp_window: Some(128),
            tls: TlsSettings { require_client: true, ..TlsSettings::default() },
            ..SyslogConfig::new(Mode::Strict, &[transport])
        };
        change(&mut config);
        let server = SyslogServer::start(config).unwrap();
        if let (Some(ca), Some((cert, key))) = (server.ca_pem(), server.client_pem()) {
            for (name, pem) in [("syslog.pem", ca), ("client.pem", cert), ("client.key", key)] {
                fs::write(rig.path(name), pem).unwrap();
            }
        }
        rig.fill(records);
        Self { rig, server, transport }
    }

    pub(crate) fn start(&self) -> Start {
        let mut start = self
            .rig
            .forwarder()
            .set("hec.endpoints", "[]")
            .set("syslog.endpoints", format!("[{:?}]", self.server.url(self.transport).unwrap()))
            .set("syslog.drain_interval", "300ms")
            .set("syslog.batch_bytes", "16KiB")
            .set("syslog.batch_age", "50ms");
        if self.transport.is_encrypted() {
            for (key, name) in
                [("ca_file", "syslog.pem"), ("client_cert", "client.pem"), ("client_key", "client.key")]
            {
                start = start.set(&format!("syslog.{key}"), self.rig.path(name).display());
            }
        }
        start
    }

    pub(crate) fn verdict(&self) -> Verdict {
        self.server.verdict(Some(&Sent::even(SHARDS, self.rig.sent)))
    }

    /// Runs until every checkpoint is at its end, and stops.
    fn run(&self, start: Start) -> Forwarder {
        let mut forwarder = start.start();
        forwarder.wait_until("checkpoints at the ends", self.rig.patience(), || self.rig.is_drained());
        // A receiver that has ended its own side may read on for a moment.
        forwarder.wait_until("everything stored", PATIENCE, || self.verdict().lost == 0);
        forwarder.stop();
        self.rig.assert_commits();
        forwarder
    }

    fn assert_clean(&self, forwarder: &mut Forwarder) {
        let (violations, stats) = (self.server.violations(), self.server.stats());
        assert!(violations.is_empty(), "{violations:?}\n{stats:#}\n{}", forwarder.text());
    }
}

#[test]
fn every_transport_is_exact_and_breaks_no_rule() {
    for transport in [Transport::Tcp, Transport::Tls, Transport::Relp, Transport::RelpTls] {
        let pair = Pair::new(2_000, transport, |_| ());
        let mut forwarder = pair.run(pair.start());
        let verdict = pair.verdict();
        assert!(verdict.is_exact(), "{transport:?}: {verdict:?}\n{:#}", pair.server.stats());
        pair.assert_clean(&mut forwarder);
        assert_eq!(forwarder.complaints(), [""; 0], "{transport:?}");
    }
}

#[test]
fn lines_are_as_exact_as_counted_octets() {
    let pair = Pair::new(1_000, Transport::Tcp, |config| config.framing = Framing::Newline);
    let mut forwarder = pair.run(pair.start().set("syslog.framing", "newline"));
    let verdict = pair.verdict();
    assert!(verdict.is_exact(), "{verdict:?}\n{:#}", pair.server.stats());
    pair.assert_clean(&mut forwarder);
}

/// Nothing is lost whatever the receiver does, and the faults have struck. A receiver that closes (`message.close`,
/// `close-at`) throws away what its process has read already: no acknowledgement can know of that, so it is not here.
/// Faults strike a message at a time, and a stream is acknowledged a frame at a time at least: where every frame of
/// some hundred messages met one, nothing would ever be proven.
fn loses_nothing(transport: Transport, plan: &str) {
    let faults = FaultPlan::parse(plan).unwrap();
    let pair = Pair::new(2_000, transport, |config| config.faults = faults);
    let mut forwarder = pair.run(pair.start().set("syslog.timeout", "2s"));
    let verdict = pair.verdict();
    assert!(verdict.is_complete(), "{verdict:?}\n{:#}\n{}", pair.server.stats(), forwarder.text());
    assert!(verdict.duplicates > 0, "no fault has struck: {verdict:?}\n{:#}", pair.server.stats());
}

#[test]
fn a_stream_that_breaks_in_every_way_loses_nothing() {
    loses_nothing(
        Transport::Tcp,
        "message.reset=0.03%,message.reset-after=0.03%,message.hang=0.01%,message.fin=0.02%,message.close=0.05%,\
         eof.reset=20%,eof.hang=5%,eof.delay:300ms=20%",
    );
}

#[test]
fn the_same_over_tls_with_peers_that_forget_close_notify() {
    loses_nothing(
        Transport::Tls,
        "message.reset=0.05%,message.fin=0.02%,eof.reset=20%,eof.hang=5%,eof.no-notify=30%",
    );
}

#[test]
fn relp_sessions_that_break_in_every_way_lose_nothing() {
    loses_nothing(
        Transport::Relp,
        "syslog.serverclose=0.2%,syslog.serverclose-after=0.2%,syslog.unanswered=0.05%,syslog.tear=0.1%,\
         syslog.duplicate=0.1%,syslog.garbled=0.1%,syslog.empty=0.1%,syslog.delay:100ms=0.1%,\
         open.500=10%,message.reset=0.1%",
    );
}
