//! The emulator, a daemon and the settings of the forwarder between them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use loadgen::sls::{AccessKey, SlsConfig, SlsServer};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::daemon::{Daemon, Kind};
use crate::forwarder::Start;

pub(crate) const SHARDS: u32 = 2;
pub(crate) const KEY_SECRET: &str = "s3cret-of-the-access-key";
/// There is none here; what looks for secrets looks for this too.
pub(crate) const TOKEN: &str = "5ec2e700-1111-4222-8333-444455556666";

/// How long a condition may take on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

const GROUP: &str = "real-sinks";

/// The emulator and a folder for the forwarder's files.
pub(crate) struct Rig {
    pub(crate) sls: SlsServer,
    dir: TempDir,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sls = SlsServer::start(SlsConfig {
            tls_dir: Some(dir.path().to_owned()),
            shards: SHARDS,
            keys: vec![AccessKey::new("LTAIrealsinks", KEY_SECRET)],
            ..SlsConfig::default()
        })
        .unwrap();
        Self { sls, dir }
    }

    /// A forwarder to this daemon, with these settings of `[syslog]` besides its preset and TLS.
    pub(crate) fn forwarder(&self, daemon: &Daemon, syslog: &Value) -> Start {
        let mut sink = json!({
            "endpoints": [daemon.endpoint()],
            "preset": if daemon.kind.is_rsyslog() { "rsyslog" } else { "syslog-ng" },
            "batch_age": "50ms",
            "drain_interval": "500ms",
        });
        if matches!(daemon.kind, Kind::RsyslogTls | Kind::RsyslogRelpTls | Kind::SyslogNgTls) {
            for (key, file) in
                [("ca_file", "ca.pem"), ("client_cert", "client.pem"), ("client_key", "client.key")]
            {
                sink[key] = json!(daemon.path(file));
            }
        }
        for (key, value) in syslog.as_object().expect("settings") {
            sink[key] = value.clone();
        }
        let settings = json!({
            "sls": {
                "endpoint": self.sls.endpoint(),
                "project": "test-project",
                "logstore": "test-logstore",
                "consumer_group": GROUP,
                "access_key_id": "LTAIrealsinks",
                "access_key_secret": KEY_SECRET,
                "heartbeat_interval": "500ms",
                "timeout": "30s",
                "fetch_interval": "50ms",
                "checkpoint_interval": "200ms",
                "ca_file": self.dir.path().join("ca.pem"),
            },
            "syslog": sink,
            "runtime": { "memory": "64MiB", "cores": 1 },
            "admin": { "listen": "127.0.0.1:0" },
        });
        let file = self.dir.path().join("sls2siem.toml");
        write_private(&file, &toml::to_string(&settings).unwrap());
        Start::new(&file)
    }

    /// Whether every checkpoint is at the end of its shard.
    pub(crate) fn is_drained(&self) -> bool {
        self.sls.store().is_drained(GROUP).unwrap()
    }
}

/// Only the user may read it: anything else is warned of.
fn write_private(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}
