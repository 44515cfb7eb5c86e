//! The sink of the demo, whichever was asked for: it keeps count of every record and compares its content.
//!
//! Why: live view and verdict are the same for both; only settings, faults and words differ.
//! Invariants: 1. both are reached over TLS and acknowledge in earnest.   Bounds: those of `loadgen`.
//! Driven by: [`super::stage`].   Spec: `loadgen`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use loadgen::payload::Payload;
use loadgen::sink::hec::{AckDelay, HecConfig, HecServer, Token};
use loadgen::sink::syslog::{Expectation, SyslogConfig, SyslogServer, Transport};
use loadgen::sink::tls::TlsSettings;
use loadgen::sink::{hec, syslog};
use loadgen::verify::expect::Metadata;
use loadgen::verify::{Sent, Verdict};
use serde_json::Value;

use super::super::DemoSink;
use super::faults::Faults;
use super::text::count;

/// The running sink.
#[derive(Debug)]
pub(super) enum Sink {
    /// HTTP Event Collector with indexer acknowledgement.
    Hec(HecServer),
    /// Syslog over TLS.
    Syslog(SyslogServer),
}

/// What it is to be.
pub(super) struct Spec<'a> {
    pub(super) kind: DemoSink,
    pub(super) token: &'a str,
    pub(super) faults: &'a mut Faults,
    pub(super) payload: Payload,
    /// Whether contents are compared.
    pub(super) is_strict: bool,
    pub(super) threads: usize,
    /// Cores for its threads; none leaves it to the kernel.
    pub(super) cores: Vec<usize>,
}

/// What it holds.
pub(super) struct Counts {
    /// Different logs stored.
    pub(super) delivered: u64,
    /// Logs stored once more.
    pub(super) duplicates: u64,
    /// Logs taken and not yet confirmed.
    pub(super) waiting: u64,
}

impl Sink {
    /// Starts it on a free port of the loopback.
    pub(super) fn start(spec: Spec<'_>) -> Result<Self> {
        match spec.kind {
            DemoSink::Hec => {
                let mode = if spec.is_strict { hec::Mode::Strict } else { hec::Mode::Fast };
                let config = HecConfig {
                    threads: spec.threads,
                    cores: spec.cores,
                    tls: Some(TlsSettings::default()),
                    ack_delay: AckDelay { low: ACK_DELAY.0, high: ACK_DELAY.1, ..AckDelay::default() },
                    faults: std::mem::take(&mut spec.faults.hec),
                    payload: Some((spec.payload, Metadata::default())),
                    ..HecConfig::new(mode, Token::new(spec.token).with_ack())
                };
                HecServer::start(config).context("the HEC sink").map(Self::Hec)
            }
            DemoSink::Syslog => {
                let mode = if spec.is_strict { syslog::Mode::Strict } else { syslog::Mode::Fast };
                let config = SyslogConfig {
                    threads: spec.threads,
                    cores: spec.cores,
                    faults: std::mem::take(&mut spec.faults.syslog),
                    payload: Some(Expectation::new(spec.payload)),
                    ..SyslogConfig::new(mode, &[Transport::Tls])
                };
                SyslogServer::start(config).context("the syslog sink").map(Self::Syslog)
            }
        }
    }

    /// Certificate of the authority that signed its own.
    pub(super) fn ca_pem(&self) -> Option<&str> {
        match self {
            Self::Hec(server) => server.ca_pem(),
            Self::Syslog(server) => server.ca_pem(),
        }
    }

    /// The forwarder's settings for it, as TOML; no secret is in them.
    pub(super) fn settings(&self, ca_file: &Path) -> String {
        let ca = toml::Value::from(ca_file.to_string_lossy().into_owned());
        match self {
            Self::Hec(server) => format!(
                "[hec]\nendpoints = [\"{}\"]\nack = \"required\"\nca_file = {ca}\n\
                 # The check at the end compares every field as text.\njson_fields = {{}}\n\
                 # Short, so that lost answers are made good while somebody watches.\n\
                 ack_timeout = \"15s\"\ntimeout = \"10s\"\n",
                server.url()
            ),
            Self::Syslog(server) => format!(
                "[syslog]\nendpoints = [\"{}\"]\nca_file = {ca}\n\
                 # RFC 5424 with octet counts, JSON messages; acknowledged when the sink has read every byte.\n\
                 preset = \"syslog-ng\"\nack = \"drain\"\n\
                 # Short, so that lost connections are made good while somebody watches.\n\
                 drain_interval = \"1s\"\ntimeout = \"10s\"\n",
                server.url(Transport::Tls).unwrap_or_default()
            ),
        }
    }

    /// What it holds so far.
    pub(super) fn counts(&self) -> Counts {
        match self {
            Self::Hec(server) => {
                let counts = server.store().counts();
                Counts { delivered: counts.unique, duplicates: counts.duplicates, waiting: counts.waiting }
            }
            Self::Syslog(server) => {
                let counts = server.store().counts();
                Counts { delivered: counts.unique, duplicates: counts.duplicates, waiting: 0 }
            }
        }
    }

    /// Stored against sent.
    pub(super) fn verdict(&self, sent: &Sent) -> Verdict {
        match self {
            Self::Hec(server) => server.verdict(Some(sent)),
            Self::Syslog(server) => server.verdict(Some(sent)),
        }
    }

    /// What differed, for the first few records that did.
    pub(super) fn differences(&self) -> Vec<String> {
        match self {
            Self::Hec(server) => server.store().samples(),
            Self::Syslog(server) => server.store().samples(),
        }
    }

    /// Rules of its protocol that the forwarder broke, and how often.
    pub(super) fn broken_rules(&self) -> Vec<String> {
        let Self::Syslog(server) = self else { return Vec::new() };
        let rules = server.stats().get("violations").and_then(Value::as_object).cloned().unwrap_or_default();
        rules
            .iter()
            .map(|(rule, times)| format!("{rule}: {} times", count(times.as_u64().unwrap_or(0))))
            .collect()
    }

    /// What it looks at, in words.
    pub(super) fn mode(&self, is_strict: bool) -> &'static str {
        match (self, is_strict) {
            (Self::Hec(_), true) => {
                "hec, strict: every event parsed and compared with what was sent; TLS, indexer acknowledgement"
            }
            (Self::Hec(_), false) => {
                "hec, fast: the number of every event checked, contents not compared; TLS, indexer acknowledgement"
            }
            (Self::Syslog(_), true) => {
                "syslog, strict: every message parsed by RFC 5424 and compared with what was sent; TLS, octet counts, \
                 acknowledged when read to the end"
            }
            (Self::Syslog(_), false) => {
                "syslog, fast: the number of every message checked, contents not compared; TLS, octet counts, \
                 acknowledged when read to the end"
            }
        }
    }

    /// Rules of its fault plan and their hits.
    pub(super) fn fault_hits(&self) -> Vec<(String, u64)> {
        let stats = match self {
            Self::Hec(server) => server.stats(),
            Self::Syslog(server) => server.stats(),
        };
        let rules = stats.get("faults").and_then(Value::as_array).into_iter().flatten();
        rules
            .filter_map(|rule| Some((rule.get("rule")?.as_str()?.to_owned(), rule.get("hits")?.as_u64()?)))
            .collect()
    }
}

/// An indexer's usual time until an event is safe.
const ACK_DELAY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));
