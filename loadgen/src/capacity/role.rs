//! The servers of a run, each in a process of its own that obeys lines on its standard input.
//!
//! Why: CPU time, memory and cores are the kernel's to count per process; a server in the process that measures would
//! be part of what it measures. Pipes end with the process that holds them, so no server outlives the test.
//! Invariants: 1. one line of JSON answers each line. 2. the process ends with its input.
//! Bounds: logs in memory; a [`Track`] has one entry per shard and [`SAMPLE`] at most.
//! Driven by: `rig`, which starts this program again with a hidden command.   Spec: none.

use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::clock;
use super::spec::{Load, Spec};
use crate::fault::FaultPlan;
use crate::payload::Payload;
use crate::sink::hec::{AckDelay, HecConfig, HecServer, Mode, Token};
use crate::sink::syslog::{self, Body, Expectation, SyslogConfig, SyslogServer, Transport};
use crate::sink::tls::TlsSettings;
use crate::sls::{AccessKey, Fill, LeaseState, ShardView, SlsConfig, SlsServer};
use crate::verify::expect::Metadata;
use crate::verify::{Sent, Verdict};

/// What a server is started with: one line of JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Setup {
    pub(super) spec: Spec,
    pub(super) cores: Vec<usize>,
    pub(super) folder: String,
    pub(super) key: (String, String),
    pub(super) token: String,
}

/// What it is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ask {
    /// Source: so many bytes a second become readable from now on.
    Rate(u64),
    /// How far it is.
    State,
    /// What changed when.
    Timeline,
    /// Sink: stored against sent.
    Verdict(BTreeMap<u32, u64>),
}

/// How far the source is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct SourceState {
    /// When the rate was set last (unix µs).
    pub(super) at_us: u64,
    pub(super) endpoint: String,
    /// Shards that some consumer holds.
    pub(super) held: u32,
    /// Every checkpoint is at the end of its shard.
    pub(super) is_drained: bool,
    /// Logs that can be read, per shard.
    pub(super) sent: BTreeMap<u32, u64>,
    /// All logs, readable or not yet.
    pub(super) made: u64,
    pub(super) visible_bytes: u64,
    pub(super) served_bytes: u64,
    pub(super) wire_bytes: u64,
    pub(super) pulls: u64,
    pub(super) pulls_empty: u64,
}

/// How far the sink is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct SinkState {
    pub(super) url: String,
    pub(super) unique: u64,
    pub(super) requests: u64,
    pub(super) bytes: u64,
}

/// One entry of a timeline: source: (shard, bytes readable, logs readable); sink: (shard, unix µs, logs stored).
pub(super) type Track = Vec<(u32, u64, u64)>;

/// Runs the emulator.
pub(super) fn source(setup: &str) -> Result<ExitCode> {
    let setup: Setup = serde_json::from_str(setup)?;
    let spec = &setup.spec;
    let payload = payload(spec);
    let server = SlsServer::start(SlsConfig {
        threads: setup.cores.len().max(1),
        cores: setup.cores.clone(),
        tls_dir: Some(Path::new(&setup.folder).join("sls")),
        stores: vec![(PROJECT.to_owned(), LOGSTORE.to_owned())],
        shards: spec.shards,
        keys: vec![AccessKey::new(&setup.key.0, &setup.key.1)],
        ..SlsConfig::default()
    })?;
    let share = spec.volume() / u64::from(spec.shards.max(1));
    for shard in 0..spec.shards {
        server.store().fill(shard, Fill::held_back(payload, share))?;
    }
    let per_group = u64::from(payload.logs_per_group());
    let mut at_us = 0;
    serve(SAMPLE, |event| match event {
        Event::Look => {
            let shards = server.store().shards()?;
            let look = |(id, view): (u32, ShardView)| (id, view.visible_bytes, view.visible * per_group);
            Ok(Answer::Seen(shards.into_iter().map(look).collect()))
        }
        Event::Ask(Ask::Rate(rate)) => {
            server.store().set_rate(rate)?;
            at_us = clock::unix_us();
            source_state(&server, payload, at_us).map(Answer::Value)
        }
        Event::Ask(Ask::State) => source_state(&server, payload, at_us).map(Answer::Value),
        Event::Ask(_) => bail!("the source judges nothing"),
    })
}

fn source_state(server: &SlsServer, payload: Payload, at_us: u64) -> Result<serde_json::Value> {
    let store = server.store();
    let (shards, groups, stats) = (store.shards()?, store.groups()?, server.stats());
    let group = groups.get(GROUP);
    let is_held = |state: &&LeaseState| matches!(state, LeaseState::AlreadyAlloc { .. });
    let held = group.map_or(0, |group| group.leases.values().filter(is_held).count());
    let saved = |shard: &u32| group.and_then(|group| group.checkpoints.get(shard)).copied().unwrap_or(0);
    let per_group = u64::from(payload.logs_per_group());
    Ok(serde_json::to_value(SourceState {
        at_us,
        endpoint: server.endpoint(),
        held: u32::try_from(held).unwrap_or(u32::MAX),
        is_drained: shards.iter().all(|(id, view)| saved(id) == view.visible),
        sent: shards.iter().map(|(id, view)| (*id, view.visible * per_group)).collect(),
        made: shards.values().map(|view| view.total * per_group).sum(),
        visible_bytes: shards.values().map(|view| view.visible_bytes).sum(),
        served_bytes: stats.raw_bytes,
        wire_bytes: stats.wire_bytes,
        pulls: stats.pulls,
        pulls_empty: stats.pulls_empty,
    })?)
}

/// Runs the receiver.
pub(super) fn sink(setup: &str) -> Result<ExitCode> {
    let setup: Setup = serde_json::from_str(setup)?;
    let spec = &setup.spec;
    if spec.syslog.is_some() {
        return syslog_sink(&setup);
    }
    let payload = payload(spec);
    let token = Token::new(&setup.token);
    let (low, high) = ACK_DELAY;
    let faults = if matches!(spec.load, Load::Stuck(_)) { "event.hang" } else { "" };
    let server = HecServer::start(HecConfig {
        threads: setup.cores.len().max(1),
        cores: setup.cores.clone(),
        tls: Some(TlsSettings::default()),
        ack_delay: AckDelay { low, high, ..AckDelay::default() },
        faults: FaultPlan::parse(faults)?,
        payload: Some((payload, Metadata::default())),
        ..HecConfig::new(Mode::Fast, if spec.indexer_ack { token.with_ack() } else { token })
    })?;
    trust(&setup, server.ca_pem())?;
    serve(SAMPLE_SINK, |event| match event {
        Event::Look => {
            let now = clock::unix_us();
            let shards = server.store().per_shard();
            Ok(Answer::Seen(shards.into_iter().map(|(id, logs)| (id, now, logs)).collect()))
        }
        Event::Ask(Ask::Verdict(sent)) => {
            let verdict: Verdict = server.verdict(Some(&Sent(sent)));
            Ok(Answer::Value(serde_json::to_value(verdict)?))
        }
        Event::Ask(_) => {
            let stats = server.stats();
            let number = |name: &str| stats.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0);
            Ok(Answer::Value(serde_json::to_value(SinkState {
                url: server.url(),
                unique: server.store().counts().unique,
                requests: number("requests"),
                bytes: number("bytes"),
            })?))
        }
    })
}

/// Runs a receiver of syslog over TLS. It tells nothing of single shards: there is no latency of it.
fn syslog_sink(setup: &Setup) -> Result<ExitCode> {
    let body =
        if setup.spec.syslog.as_deref() == Some("kv") { Body::Kv("||".to_owned()) } else { Body::Json };
    let payload = Some(Expectation { body, ..Expectation::new(payload(&setup.spec)) });
    let server = SyslogServer::start(SyslogConfig {
        threads: setup.cores.len().max(1),
        cores: setup.cores.clone(),
        payload,
        ..SyslogConfig::new(syslog::Mode::Fast, &[Transport::Tls])
    })?;
    trust(setup, server.ca_pem())?;
    serve(SAMPLE_SINK, |event| match event {
        Event::Look => Ok(Answer::Seen(Track::new())),
        Event::Ask(Ask::Verdict(sent)) => {
            Ok(Answer::Value(serde_json::to_value(server.verdict(Some(&Sent(sent))))?))
        }
        Event::Ask(_) => Ok(Answer::Value(serde_json::to_value(SinkState {
            url: server.url(Transport::Tls).unwrap_or_default(),
            unique: server.store().counts().unique,
            ..SinkState::default()
        })?)),
    })
}

/// Leaves the certificate where the forwarder's settings look for it.
fn trust(setup: &Setup, ca_pem: Option<&str>) -> Result<()> {
    let pem = Path::new(&setup.folder).join("sink.pem");
    std::fs::write(&pem, ca_pem.unwrap_or_default()).with_context(|| format!("write {}", pem.display()))
}

fn payload(spec: &Spec) -> Payload {
    Payload::new(spec.profile(), SEED).with_logs_per_group(spec.group_logs)
}

/// What a server has to do next.
enum Event {
    Ask(Ask),
    /// Time to note how far it is.
    Look,
}

/// What came of it.
enum Answer {
    Value(serde_json::Value),
    Seen(Track),
}

/// Answers lines until there are none, and notes changes in between.
fn serve(every: Duration, mut act: impl FnMut(Event) -> Result<Answer>) -> Result<ExitCode> {
    let (sender, lines) = mpsc::sync_channel(16);
    std::thread::Builder::new().name("asks".to_owned()).spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if line.is_err() || sender.send(line).is_err() {
                return;
            }
        }
    })?;
    let mut out = std::io::stdout().lock();
    let (mut track, mut last) = (Track::new(), BTreeMap::new());
    let mut say = |value: serde_json::Value| {
        writeln!(out, "{value}")?;
        out.flush()
    };
    if let Answer::Value(value) = act(Event::Ask(Ask::State))? {
        say(value)?;
    }
    loop {
        match lines.recv_timeout(every) {
            Ok(line) => match serde_json::from_str(&line?)? {
                Ask::Timeline => say(serde_json::to_value(std::mem::take(&mut track))?)?,
                ask => {
                    if let Answer::Value(value) = act(Event::Ask(ask))? {
                        say(value)?;
                    }
                }
            },
            Err(RecvTimeoutError::Timeout) => {
                let Answer::Seen(seen) = act(Event::Look)? else { continue };
                let changed = |(shard, _, logs): &(u32, u64, u64)| last.insert(*shard, *logs) != Some(*logs);
                track.extend(seen.into_iter().filter(changed));
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(ExitCode::SUCCESS),
        }
    }
}

pub(super) const PROJECT: &str = "capacity-project";
pub(super) const LOGSTORE: &str = "capacity-logstore";
pub(super) const GROUP: &str = "capacity";

const SEED: u64 = 1;
/// An indexer's usual time until an event is safe.
const ACK_DELAY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));
/// Between two looks at the source: the points of the schedule that latency is measured at.
const SAMPLE: Duration = Duration::from_millis(5);
/// Between two looks at the sink: the precision of a latency.
const SAMPLE_SINK: Duration = Duration::from_millis(1);
