//! Both ends of the demo: the emulator with its logs, and the sink that checks what arrives.
//!
//! Why: the run is judged by what the source gave out and what the sink stored, never by what the forwarder says.
//! Invariants: 1. all logs are made and compressed before the first one can be read. 2. once held, the end of every
//! shard stands still.   Bounds: logs in memory, at most [`memory_share`] of what the host has left.
//! Driven by: [`super`].   Spec: `loadgen`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use loadgen::payload::{Payload, Profile};
use loadgen::sls::{AccessKey, Fill, LeaseState, SlsConfig, SlsServer};
use loadgen::verify::{Sent, Verdict};

use super::super::DemoSink;
use super::faults::Faults;
use super::process;
use super::sink::{self, Sink};

/// Shards of the logstore.
pub(super) const SHARDS: u32 = 4;
const PROJECT: &str = "demo-project";
const LOGSTORE: &str = "demo-logstore";
const GROUP: &str = "demo";

/// Secrets of one run.
pub(super) struct Secrets {
    pub(super) key_id: String,
    pub(super) key_secret: String,
    pub(super) token: String,
}

/// What is to be set up.
pub(super) struct Spec<'a> {
    pub(super) folder: &'a Path,
    pub(super) secrets: &'a Secrets,
    pub(super) sink: DemoSink,
    pub(super) faults: Faults,
    /// Bytes a second.
    pub(super) rate: u64,
    /// Cores for both servers; none leaves it to the kernel.
    pub(super) cores: Vec<usize>,
}

/// The running servers.
#[derive(Debug)]
pub(super) struct Stage {
    sls: SlsServer,
    sink: Sink,
    payload: Payload,
    is_strict: bool,
}

/// How far the source and the sink are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// Logs that could be read so far, per shard.
    pub(super) sent: BTreeMap<u32, u64>,
    /// Their bytes.
    pub(super) sent_bytes: u64,
    /// Bytes given out, repetitions included.
    pub(super) served_bytes: u64,
    /// Different logs stored by the sink.
    pub(super) delivered: u64,
    /// Logs stored once more.
    pub(super) duplicates: u64,
    /// Logs that the sink has taken and not yet confirmed.
    pub(super) waiting: u64,
    /// Log groups between a shard's checkpoint and its end, where there are any.
    pub(super) behind: BTreeMap<u32, u64>,
}

impl Position {
    /// Logs that could be read so far.
    pub(super) fn sent_logs(&self) -> u64 {
        self.sent.values().sum()
    }
}

impl Stage {
    /// Starts both servers on free ports of the loopback.
    pub(super) fn start(mut spec: Spec<'_>) -> Result<Self> {
        let payload = Payload::new(Profile::Mixed, SEED).with_logs_per_group(logs_per_group(spec.rate));
        let is_strict = spec.rate <= STRICT_RATE_MAX;
        let threads = spec.cores.len().clamp(1, THREADS_MAX);
        let sls = SlsServer::start(SlsConfig {
            threads,
            cores: spec.cores.clone(),
            tls_dir: Some(spec.folder.join("sls")),
            stores: vec![(PROJECT.to_owned(), LOGSTORE.to_owned())],
            shards: SHARDS,
            keys: vec![AccessKey::new(&spec.secrets.key_id, &spec.secrets.key_secret)],
            faults: std::mem::take(&mut spec.faults.sls),
            ..SlsConfig::default()
        })
        .context("the SLS emulator")?;
        let sink = Sink::start(sink::Spec {
            kind: spec.sink,
            token: &spec.secrets.token,
            faults: &mut spec.faults,
            payload,
            is_strict,
            threads,
            cores: spec.cores,
        })?;
        let pem = sink.ca_pem().unwrap_or_default();
        std::fs::write(spec.folder.join(SINK_CA), pem).context("the sink's certificate")?;
        Ok(Self { sls, sink, payload, is_strict })
    }

    /// The forwarder's settings; no secret is in them.
    pub(super) fn settings(&self, folder: &Path, core: usize) -> String {
        let quoted = |path: &Path| toml::Value::from(path.to_string_lossy().into_owned()).to_string();
        format!(
            "# Made by `sls2siem demo`; access key and token come from the environment.\n\
             [sls]\nendpoint = \"{sls}\"\nproject = \"{PROJECT}\"\nlogstore = \"{LOGSTORE}\"\n\
             consumer_group = \"{GROUP}\"\ncheckpoint_interval = \"1s\"\nca_file = {sls_ca}\n\n\
             {sink}\n\
             [runtime]\ncores = \"{core}-{core}\"\n\n[admin]\nlisten = \"127.0.0.1:0\"\n",
            sls = self.sls.endpoint(),
            sls_ca = quoted(self.sls.ca_file().unwrap_or(folder)),
            sink = self.sink.settings(&folder.join(SINK_CA)),
        )
    }

    /// Makes so many bytes of logs, spread over the shards and not readable yet.
    pub(super) fn prepare(&self, raw_bytes: u64) -> Result<()> {
        let store = self.sls.store();
        let fill = Fill::held_back(self.payload, raw_bytes / u64::from(SHARDS));
        std::thread::scope(|scope| {
            let fills: Vec<_> = (0..SHARDS)
                .map(|shard| {
                    scope.spawn({
                        let store = &store;
                        move || store.fill(shard, fill)
                    })
                })
                .collect();
            // A panic has ended the process already.
            fills.into_iter().try_for_each(|fill| fill.join().unwrap_or(Ok(())))
        })
    }

    /// Lets what was prepared become readable at this rate; 0 ends it.
    pub(super) fn set_rate(&self, bytes_per_second: u64) -> Result<()> {
        self.sls.store().set_rate(bytes_per_second)
    }

    /// Whether the forwarder holds every shard.
    pub(super) fn is_joined(&self) -> Result<bool> {
        let groups = self.sls.store().groups()?;
        let Some(group) = groups.get(GROUP) else { return Ok(false) };
        let held = group.leases.values().filter(|lease| matches!(lease, LeaseState::AlreadyAlloc { .. }));
        Ok(held.count() == SHARDS as usize)
    }

    /// How far everything is.
    pub(super) fn position(&self) -> Result<Position> {
        let counts = self.sink.counts();
        let store = self.sls.store();
        let (shards, groups) = (store.shards()?, store.groups()?);
        let saved = |shard: &u32| groups.get(GROUP).and_then(|group| group.checkpoints.get(shard)).copied();
        let per_group = u64::from(self.payload.logs_per_group());
        let behind =
            shards.iter().map(|(id, view)| (*id, view.visible.saturating_sub(saved(id).unwrap_or(0))));
        Ok(Position {
            sent: shards.iter().map(|(id, view)| (*id, view.visible * per_group)).collect(),
            sent_bytes: shards.values().map(|view| view.visible_bytes).sum(),
            served_bytes: self.sls.stats().raw_bytes,
            delivered: counts.delivered,
            duplicates: counts.duplicates,
            waiting: counts.waiting,
            behind: behind.filter(|(_, groups)| *groups > 0).collect(),
        })
    }

    /// Stored against sent.
    pub(super) fn verdict(&self, position: &Position) -> Verdict {
        self.sink.verdict(&Sent(position.sent.clone()))
    }

    /// What differed, for the first few records that did.
    pub(super) fn differences(&self) -> Vec<String> {
        self.sink.differences()
    }

    /// Rules of the sink's protocol that were broken.
    pub(super) fn broken_rules(&self) -> Vec<String> {
        self.sink.broken_rules()
    }

    /// What the sink did with what it got, in words.
    pub(super) fn sink_mode(&self) -> &'static str {
        self.sink.mode(self.is_strict)
    }

    /// Rules of the fault plan that hit, and how often.
    pub(super) fn fault_hits(&self) -> Vec<(String, u64)> {
        self.sls.fault_hits().into_iter().chain(self.sink.fault_hits()).collect()
    }
}

/// Bytes of logs that may be made: they lie in memory, once as they are and once compressed.
pub(super) fn memory_share() -> u64 {
    process::available_bytes().map_or(u64::MAX, |bytes| bytes / 2)
}

/// A slow source has small groups, so that logs come steadily at any rate.
fn logs_per_group(rate: u64) -> u32 {
    let fitting = rate / u64::from(SHARDS) / GROUPS_PER_SECOND / LOG_BYTES;
    u32::try_from(fitting).unwrap_or(u32::MAX).clamp(1, 100)
}

/// Groups a second and shard that a source at least has.
const GROUPS_PER_SECOND: u64 = 10;
/// Size of a log, roughly.
const LOG_BYTES: u64 = 600;

/// Up to here the sink compares everything; beyond it, that would take longer than forwarding does.
const STRICT_RATE_MAX: u64 = 20_000_000;

/// Threads of each server.
const THREADS_MAX: usize = 4;

/// File of the certificate that the forwarder has to trust.
const SINK_CA: &str = "sink.pem";

const SEED: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_source_has_small_groups() {
        assert_eq!([1, 100_000, 1_000_000, 10_000_000, u64::MAX].map(logs_per_group), [1, 4, 41, 100, 100]);
    }
}
