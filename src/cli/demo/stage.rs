//! Both ends of the demo: the emulator with its logs, and the sink that checks what arrives.
//!
//! Why: the run is judged by what the source gave out and what the sink stored, never by what the forwarder says.
//! Invariants: 1. all logs are made and compressed before the first one can be read. 2. once held, the end of every
//! shard stands still.   Bounds: logs in memory, at most [`memory_share`] of what the host has left.
//! Driven by: [`super`].   Spec: `loadgen`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use loadgen::payload::{Payload, Profile};
use loadgen::sink::hec::{AckDelay, HecConfig, HecServer, Mode, Token};
use loadgen::sink::tls::TlsSettings;
use loadgen::sls::{AccessKey, Fill, LeaseState, SlsConfig, SlsServer};
use loadgen::verify::expect::Metadata;
use loadgen::verify::{Sent, Verdict};

use super::faults::Faults;
use super::process;

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
    hec: HecServer,
    payload: Payload,
    mode: Mode,
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
    pub(super) fn start(spec: Spec<'_>) -> Result<Self> {
        let payload = Payload::new(Profile::Mixed, SEED).with_logs_per_group(logs_per_group(spec.rate));
        let mode = if spec.rate <= STRICT_RATE_MAX { Mode::Strict } else { Mode::Fast };
        let threads = spec.cores.len().clamp(1, THREADS_MAX);
        let sls = SlsServer::start(SlsConfig {
            threads,
            cores: spec.cores.clone(),
            tls_dir: Some(spec.folder.join("sls")),
            stores: vec![(PROJECT.to_owned(), LOGSTORE.to_owned())],
            shards: SHARDS,
            keys: vec![AccessKey::new(&spec.secrets.key_id, &spec.secrets.key_secret)],
            faults: spec.faults.sls,
            ..SlsConfig::default()
        })
        .context("the SLS emulator")?;
        let hec = HecServer::start(HecConfig {
            threads,
            cores: spec.cores,
            tls: Some(TlsSettings::default()),
            ack_delay: AckDelay { low: ACK_DELAY.0, high: ACK_DELAY.1, ..AckDelay::default() },
            faults: spec.faults.hec,
            payload: Some((payload, Metadata::default())),
            ..HecConfig::new(mode, Token::new(&spec.secrets.token).with_ack())
        })
        .context("the HEC sink")?;
        let pem = hec.ca_pem().unwrap_or_default();
        std::fs::write(spec.folder.join("hec.pem"), pem).context("the sink's certificate")?;
        Ok(Self { sls, hec, payload, mode })
    }

    /// The forwarder's settings; no secret is in them.
    pub(super) fn settings(&self, folder: &Path, core: usize) -> String {
        let quoted = |path: &Path| toml::Value::from(path.to_string_lossy().into_owned()).to_string();
        format!(
            "# Made by `sls2siem demo`; access key and token come from the environment.\n\
             [sls]\nendpoint = \"{sls}\"\nproject = \"{PROJECT}\"\nlogstore = \"{LOGSTORE}\"\n\
             consumer_group = \"{GROUP}\"\ncheckpoint_interval = \"1s\"\nca_file = {sls_ca}\n\n\
             [hec]\nendpoints = [\"{hec}\"]\nack = \"required\"\nca_file = {hec_ca}\n\
             # The check at the end compares every field as text.\njson_fields = {{}}\n\
             # Short, so that lost answers are made good while somebody watches.\n\
             ack_timeout = \"15s\"\ntimeout = \"10s\"\n\n\
             [runtime]\ncores = \"{core}-{core}\"\n\n[admin]\nlisten = \"127.0.0.1:0\"\n",
            sls = self.sls.endpoint(),
            sls_ca = quoted(self.sls.ca_file().unwrap_or(folder)),
            hec = self.hec.url(),
            hec_ca = quoted(&folder.join("hec.pem")),
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
        let counts = self.hec.store().counts();
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
            delivered: counts.unique,
            duplicates: counts.duplicates,
            waiting: counts.waiting,
            behind: behind.filter(|(_, groups)| *groups > 0).collect(),
        })
    }

    /// Stored against sent.
    pub(super) fn verdict(&self, position: &Position) -> Verdict {
        self.hec.verdict(Some(&Sent(position.sent.clone())))
    }

    /// What differed, for the first few events that did.
    pub(super) fn differences(&self) -> Vec<String> {
        self.hec.store().samples()
    }

    /// What the sink did with what it got, in words.
    pub(super) fn sink_mode(&self) -> &'static str {
        match self.mode {
            Mode::Strict => "hec, strict: every event parsed and compared with what was sent",
            Mode::Fast => "hec, fast: the number of every event checked, contents not compared",
        }
    }

    /// Rules of the fault plan that hit, and how often.
    pub(super) fn fault_hits(&self) -> Vec<(String, u64)> {
        let mut hits: Vec<(String, u64)> = self.sls.fault_hits().into_iter().collect();
        let stats = self.hec.stats();
        let rules = stats.get("faults").and_then(|rules| rules.as_array()).into_iter().flatten();
        hits.extend(
            rules.filter_map(|rule| {
                Some((rule.get("rule")?.as_str()?.to_owned(), rule.get("hits")?.as_u64()?))
            }),
        );
        hits
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

/// An indexer's usual time until an event is safe.
const ACK_DELAY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));

const SEED: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_source_has_small_groups() {
        assert_eq!([1, 100_000, 1_000_000, 10_000_000, u64::MAX].map(logs_per_group), [1, 4, 41, 100, 100]);
    }
}
