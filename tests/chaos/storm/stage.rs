//! What stands on the stage: the source, the receivers, the networks between, the forwarders and their settings.
//!
//! Why: what is built is another story than what is broken.   Invariants: 1. every receiver is reached through a network that
//! can be cut. 2. each life of a process has a log of its own.   Bounds: those of `server` and `forwarder`.
//! Driven by: `storm`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use sls2siem::proto::rng::Rng;
use tempfile::TempDir;

use super::plans::{
    DRAIN_FAULTS, DRAIN_NETWORK, HEC_FAULTS, Kind, PIPELINES, RECEIVERS, RELP_FAULTS, Receiving,
};
use super::{FORWARDERS, GROUP_LOGS, RECORDS_PER_SECOND, SHARDS, Storm};
use crate::disk::Disk;
use crate::forwarder::Forwarder;
use crate::ledger::Ledger;
use crate::proxy::Proxy;
use crate::server::Server;

/// Of one record, as the source counts them.
const RECORD_BYTES: u64 = 700;
const TOKEN: &str = "c4a05c4a-1111-4222-8333-444455556666";

pub(super) struct Receiver {
    pub(super) server: Option<Server>,
    lives: u32,
}

/// The files of a run; kept where it fails.
pub(super) struct Folder {
    dir: Option<TempDir>,
    seed: u64,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if thread::panicking()
            && let Some(dir) = self.dir.take()
        {
            eprintln!(
                "CHAOS_SEED={} failed; logs, stored records and faults are in {}",
                self.seed,
                dir.keep().display()
            );
        }
    }
}

impl Folder {
    fn path(&self) -> &Path {
        self.dir.as_ref().unwrap().path()
    }
}

impl Storm {
    pub(super) fn new(seed: u64, time: Duration) -> Self {
        eprintln!("CHAOS_SEED={seed} CHAOS_SECONDS={}", time.as_secs());
        let folder = Folder { dir: Some(tempfile::tempdir().unwrap()), seed };
        let dir = folder.path();
        let records = time.as_secs().max(1) * RECORDS_PER_SECOND;
        let rate = RECORDS_PER_SECOND * u64::from(SHARDS) * RECORD_BYTES;
        let tls = dir.join("tls");
        let (records_text, rate_text) = (records.to_string(), rate.to_string());
        let (shards, group_logs) = (SHARDS.to_string(), GROUP_LOGS.to_string());
        let args = [
            "sls",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--tls",
            tls.to_str().unwrap(),
            "--host",
            "127.0.0.1",
            "--shards",
            &shards,
            "--records-per-shard",
            &records_text,
            "--group-logs",
            &group_logs,
            "--profile",
            "access-log",
            "--rate",
            &rate_text,
            "--pull-bytes-max",
            "64KiB",
        ];
        let mut source = Server::start(&args, &dir.join("source.log"));
        let endpoint = source.says("sls https://");
        let endpoint = endpoint.split(' ').next().unwrap().parse().unwrap();
        let admin = format!("http://{}", source.says("admin http://").trim_end_matches('/'));
        let networks: Vec<Proxy> =
            (0..=RECEIVERS.len()).map(|network| Proxy::new(network == DRAIN_NETWORK)).collect();
        networks[0].lead_to(Some(endpoint));
        let disk = Disk::mount(&dir.join("disk"));
        if disk.is_none() {
            assert!(std::env::var_os("CI").is_none(), "a mount namespace is needed for the full disk");
            eprintln!("skipped: a full disk for the dead letter (no mount namespace for this user)");
        }
        let letters = disk.as_ref().map_or_else(|| dir.join("disk"), Disk::files);
        let ledgers = PIPELINES
            .map(|name| (name, Ledger::of(vec![dir.join("stored").join(name)], letters.clone(), name)))
            .into();
        let mut storm = Self {
            seed,
            dice: Rng::new(seed),
            records,
            begun: Instant::now(),
            forwarders: Vec::new(),
            lives: vec![0; FORWARDERS],
            receivers: RECEIVERS.iter().map(|_| Receiver { server: None, lives: 0 }).collect(),
            networks,
            _source: source,
            admin,
            disk,
            mending: BTreeMap::new(),
            ledgers,
            events: BTreeMap::new(),
            starved: 0,
            unopened: 0,
            looks: 0,
            possible_duplicates: 0,
            folder,
        };
        for receiver in 0..RECEIVERS.len() {
            storm.start_receiver(receiver, true);
        }
        for forwarder in 0..FORWARDERS {
            storm.configure(forwarder);
            let started = storm.start_forwarder(forwarder);
            storm.forwarders.push(started);
        }
        storm
    }

    pub(super) fn start_receiver(&mut self, receiver: usize, faulty: bool) {
        let Receiving { pipeline, kind } = RECEIVERS[receiver];
        let life = self.receivers[receiver].lives;
        self.receivers[receiver].lives += 1;
        let dir = self.folder.path().join("stored").join(pipeline);
        fs::create_dir_all(&dir).unwrap();
        let out = dir.join(format!("receiver-{receiver}-{life}.jsonl"));
        let plans = match kind {
            Kind::Hec { .. } => &HEC_FAULTS[..],
            Kind::Syslog { scheme: "tcp" } => &DRAIN_FAULTS[..],
            Kind::Syslog { .. } => &RELP_FAULTS[..],
        };
        let plan = if faulty { plans[self.index(plans.len())] } else { "" };
        let seed = (self.dice.below(1_000_000) + 1).to_string();
        let log = self.folder.path().join(format!("receiver-{receiver}.log"));
        let (token, listen);
        let mut args = match kind {
            Kind::Hec { ack } => {
                token = if ack { format!("{TOKEN},ack") } else { TOKEN.to_owned() };
                vec!["hec", "--listen", "127.0.0.1:0", "--token", &token, "--ack-delay", "100ms..600ms"]
            }
            Kind::Syslog { scheme } => {
                listen = format!("{scheme}://127.0.0.1:0");
                vec!["syslog", "--listen", &listen]
            }
        };
        args.extend(["--strict", "--seed", &seed, "--faults", plan, "--out", out.to_str().unwrap()]);
        let mut server = Server::start(&args, &log);
        let said = server.says("\"listening\":");
        let address = said.split("://").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
        self.networks[receiver + 1].lead_to(Some(address));
        self.receivers[receiver].server = Some(server);
        self.note(&format!("receiver {receiver}, life {life}: {address} {plan}"));
    }

    fn configure(&self, forwarder: usize) {
        let dir = self.folder.path();
        let at = |network: usize| self.networks[network].addr;
        let text = format!(
            r#"
[sls]
endpoint = "https://{sls}"
project = "test-project"
logstore = "test-logstore"
access_key_id = "testAccessKeyId"
access_key_secret = "testAccessKeySecret"
heartbeat_interval = "500ms"
timeout = "4s"
fetch_interval = "50ms"
checkpoint_interval = "200ms"
ca_file = "{tls}/ca.pem"
[pipeline.hec.sls]
consumer_group = "chaos-hec"
[pipeline.hec.hec]
endpoints = ["https://{ack}", "https://{plain}"]
token = "{TOKEN}"
# Each life of a receiver has a certificate of its own.
verify = "off"
timeout = "5s"
ack_timeout = "6s"
batch_bytes = "32KiB"
batch_age = "50ms"
[pipeline.drain.sls]
consumer_group = "chaos-drain"
[pipeline.drain.syslog]
endpoints = ["tcp://{drain}"]
drain_interval = "300ms"
timeout = "5s"
batch_bytes = "16KiB"
batch_age = "50ms"
[pipeline.relp.sls]
consumer_group = "chaos-relp"
[pipeline.relp.syslog]
endpoints = ["relp://{relp}"]
timeout = "5s"
batch_bytes = "16KiB"
batch_age = "50ms"
[dead_letter]
dir = "{letters}"
[runtime]
memory = "32MiB"
[admin]
listen = "127.0.0.1:0"
"#,
            sls = at(0),
            tls = dir.join("tls").display(),
            ack = at(1),
            plain = at(2),
            drain = at(3),
            relp = at(4),
            letters = dir.join("disk").join(format!("letters-{forwarder}")).display(),
        );
        let file = self.config(forwarder);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn config(&self, forwarder: usize) -> PathBuf {
        self.folder.path().join(format!("forwarder-{forwarder}.toml"))
    }

    pub(super) fn start_forwarder(&mut self, forwarder: usize) -> Forwarder {
        let life = self.lives[forwarder];
        self.lives[forwarder] += 1;
        let log = self.folder.path().join(format!("forwarder-{forwarder}-{life}.log"));
        let before = self.disk.as_ref().map_or_else(Vec::new, |disk| disk.enter().to_vec());
        Forwarder::start(&before, &self.config(forwarder), &log)
    }

    pub(super) fn state(&self) -> Value {
        self.get("/state")[0].take()
    }

    pub(super) fn get(&self, path: &str) -> Value {
        let mut answer = ureq::get(format!("{}{path}", self.admin)).call().expect("the emulator answers");
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
    }

    pub(super) fn post(&self, path: &str, body: &str) {
        ureq::post(format!("{}{path}", self.admin)).send(body).expect("the emulator takes it");
    }

    pub(super) fn note(&self, line: &str) {
        let file = self.folder.path().join("faults.log");
        let mut file = fs::File::options().create(true).append(true).open(file).unwrap();
        writeln!(file, "{:>9.3} {line}", self.begun.elapsed().as_secs_f64()).unwrap();
    }
}
