//! Both servers of a test, what they hold, and the settings that reach them.
//!
//! Why: every test wants the same strict pair and changes one thing about it.
//! Invariants: 1. the logs of a shard are those of one seeded payload, which the sink compares byte for byte.
//! Bounds: the logs stay in memory. Driven by: the tests.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use loadgen::payload::{Payload, Profile};
use loadgen::sink::hec::{HecConfig, HecServer, Mode, Token};
use loadgen::sink::tls::TlsSettings;
use loadgen::sls::{AccessKey, Fill, GroupView, SlsConfig, SlsServer};
use loadgen::verify::expect::Metadata;
use loadgen::verify::{Sent, Verdict};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::forwarder::Start;

pub(crate) const PROJECT: &str = "test-project";
pub(crate) const LOGSTORE: &str = "test-logstore";
pub(crate) const GROUP: &str = "conformance";
pub(crate) const KEY_ID: &str = "LTAIconformance";
pub(crate) const KEY_SECRET: &str = "s3cret-of-the-access-key";
pub(crate) const TOKEN: &str = "5ec2e700-1111-4222-8333-444455556666";
pub(crate) const SHARDS: u32 = 2;

/// How long a condition may take on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Logs of each shard in the tests that move many.
pub(crate) fn records() -> u64 {
    let usual = if cfg!(debug_assertions) { 5_000 } else { 100_000 };
    std::env::var("SLS2SIEM_CONFORMANCE_RECORDS").map_or(usual, |text| text.parse().expect("a number"))
}

/// The emulator and the sink.
pub(crate) struct Rig {
    pub(crate) sls: SlsServer,
    pub(crate) hec: HecServer,
    pub(crate) payload: Payload,
    /// Logs of each shard so far.
    pub(crate) sent: u64,
    /// Shards at the start.
    shards: u32,
    dir: TempDir,
}

impl Rig {
    /// A strict pair without faults, empty.
    pub(crate) fn new() -> Self {
        Self::with(|_| (), |_| ())
    }

    /// A pair whose settings are changed before it starts.
    pub(crate) fn with(sls: impl FnOnce(&mut SlsConfig), hec: impl FnOnce(&mut HecConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let payload = Payload::new(Profile::Nasty, 7).with_logs_per_group(GROUP_LOGS);
        let mut config = SlsConfig {
            tls_dir: Some(dir.path().to_owned()),
            stores: vec![(PROJECT.to_owned(), LOGSTORE.to_owned())],
            shards: SHARDS,
            keys: vec![key()],
            ..SlsConfig::default()
        };
        sls(&mut config);
        let shards = config.shards;
        let sls = SlsServer::start(config).unwrap();
        let mut config = HecConfig {
            tls: Some(TlsSettings::default()),
            // The payload has values of a megabyte that JSON makes six times as long.
            max_event_bytes: 16 << 20,
            payload: Some((payload, Metadata::default())),
            ..HecConfig::new(Mode::Strict, Token::new(TOKEN))
        };
        hec(&mut config);
        let hec = HecServer::start(config).unwrap();
        if let Some(pem) = hec.ca_pem() {
            fs::write(dir.path().join("hec.pem"), pem).unwrap();
        }
        write_private(&dir.path().join("secret"), KEY_SECRET);
        Self { sls, hec, payload, sent: 0, shards, dir }
    }

    /// Adds logs to every shard, readable at once.
    pub(crate) fn fill(&mut self, records: u64) {
        self.fill_over(records, None);
    }

    /// Adds logs to every shard that become readable over about this time.
    pub(crate) fn fill_over(&mut self, records: u64, time: Option<Duration>) {
        assert_eq!(self.sent % u64::from(GROUP_LOGS), 0, "fillings go on at the border of a group");
        let bytes = records * u64::from(self.shards) * LOG_BYTES;
        let rate = time.map(|time| bytes / time.as_secs().max(1));
        self.sls
            .store()
            .fill_all(Fill { bytes_per_second: rate, ..Fill::new(self.payload, records) })
            .unwrap();
        self.sent += records;
    }

    /// A forwarder between the two, not started yet.
    pub(crate) fn forwarder(&self) -> Start {
        let settings = self.settings();
        let (file, made) = (self.path("sls2siem.toml"), self.path("sls2siem.toml.new"));
        write_private(&made, &toml::to_string(&settings).unwrap());
        // In one step: another forwarder may be reading it.
        fs::rename(&made, &file).unwrap();
        Start::new(&file)
    }

    fn settings(&self) -> Value {
        json!({
            "sls": {
                "endpoint": self.sls.endpoint(),
                "project": PROJECT,
                "logstore": LOGSTORE,
                "consumer_group": GROUP,
                "access_key_id": KEY_ID,
                "access_key_secret_file": "secret",
                "heartbeat_interval": "500ms",
                "timeout": "8s",
                "fetch_interval": "50ms",
                "checkpoint_interval": "200ms",
                "ca_file": self.path("ca.pem"),
            },
            "hec": {
                "endpoints": [self.hec.url()],
                "token": TOKEN,
                "ca_file": self.path("hec.pem"),
                "batch_age": "50ms",
            },
            "runtime": { "memory": "64MiB" },
            "admin": { "listen": "127.0.0.1:0" },
        })
    }

    /// A file of this rig.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file of this rig that only the user may read.
    pub(crate) fn write_private(&self, name: &str, text: &str) {
        write_private(&self.path(name), text);
    }

    /// All logs of all shards.
    pub(crate) fn total(&self) -> u64 {
        self.sent * u64::from(self.shards)
    }

    /// How long a whole run may take.
    pub(crate) fn patience(&self) -> Duration {
        PATIENCE + Duration::from_millis(self.total())
    }

    /// Stored against sent.
    pub(crate) fn verdict(&self) -> Verdict {
        self.hec.verdict(Some(&Sent::even(self.shards, self.sent)))
    }

    /// The consumer group, as soon as it is there.
    pub(crate) fn group(&self) -> Option<GroupView> {
        self.sls.store().groups().unwrap().remove(GROUP)
    }

    /// Whether every checkpoint is at the end of its shard.
    pub(crate) fn is_drained(&self) -> bool {
        self.sls.store().is_drained(GROUP).unwrap()
    }

    /// Every log is stored at least once, unchanged, and the sink met nothing that it had to put up with.
    pub(crate) fn assert_complete(&self) {
        let (verdict, stats) = (self.verdict(), self.hec.stats());
        assert!(verdict.is_complete(), "{verdict:?}\n{stats:#}");
        assert_eq!(verdict.stored_unique, self.total(), "{verdict:?}");
        assert_eq!(stats["equivalent"], 0, "escaped in another way than serde_json does: {stats:#}");
        assert_eq!(stats["oddities"], json!({}), "{stats:#}");
    }

    /// Every log is stored exactly once and in order, byte for byte.
    pub(crate) fn assert_exact(&self) {
        self.assert_complete();
        let (verdict, stats) = (self.verdict(), self.hec.stats());
        assert!(verdict.is_exact(), "{verdict:?}\n{stats:#}");
        assert_eq!(stats["exact"], self.total(), "{stats:#}");
    }

    /// Every checkpoint is at its shard's end, none was forced, none went back.
    pub(crate) fn assert_commits(&self) {
        let group = self.group().expect("the group is there");
        for (shard, view) in self.sls.store().shards().unwrap() {
            assert_eq!(group.checkpoints.get(&shard), Some(&view.total), "shard {shard}");
            let positions = self.sls.commits();
            let positions: Vec<u64> = positions
                .iter()
                .filter(|commit| commit.shard == shard && commit.refused.is_none())
                .map(|commit| commit.position.expect("a cursor of this shard"))
                .collect();
            assert!(positions.is_sorted(), "checkpoints of shard {shard} go forward: {positions:?}");
        }
        assert!(self.sls.commits().iter().all(|commit| !commit.force));
    }

    /// No checkpoint is ahead of what is stored. Called while everything runs.
    pub(crate) fn assert_checkpoints_are_stored(&self) {
        let Some(group) = self.group() else { return };
        // Read before the store: what is stored later cannot hide a checkpoint that ran ahead.
        let saved = group
            .checkpoints
            .iter()
            .map(|(shard, groups)| (*shard, (groups * u64::from(GROUP_LOGS)).min(self.sent)));
        let saved = Sent(saved.collect());
        let verdict = self.hec.verdict(Some(&saved));
        assert_eq!(verdict.lost, 0, "checkpoints {saved:?} are ahead of the sink: {verdict:?}");
    }
}

/// Only the user may read it: anything else is warned of.
fn write_private(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

/// The access key that the emulator knows.
pub(crate) fn key() -> AccessKey {
    AccessKey::new(KEY_ID, KEY_SECRET)
}

/// A port of 127.0.0.1 on which nothing listens.
pub(crate) fn closed_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

const GROUP_LOGS: u32 = 50;
/// Of one log of the payload, roughly, the long values included.
const LOG_BYTES: u64 = 800;
