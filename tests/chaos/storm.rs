//! The run: what stands between whom, what goes wrong next, and what has to hold all the time.
//!
//! Why: faults that come alone are handled one by one; the losses of other forwarders happen where two meet.
//! Invariants: 1. one stream of dice, so that a seed gives the same faults in the same order. 2. each thing that is broken is
//! mended, and not broken twice meanwhile. 3. checkpoints are held against the ledger after every sudden death and every
//! [`LOOK`]. Bounds: the faults of the given time, then [`PATIENCE`].
//! Driven by: `main`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::PATIENCE;
use crate::disk::Disk;
use crate::forwarder::Forwarder;
use crate::ledger::Ledger;
use crate::proxy::{Cut, Proxy};
use crate::server::{Server, signal};

const FORWARDERS: usize = 3;
const SHARDS: u32 = 4;
/// Of the seconds of faults, for each shard.
const RECORDS_PER_SECOND: u64 = 60;
const GROUP_LOGS: u64 = 10;
/// Of one record, as the source counts them.
const RECORD_BYTES: u64 = 700;
const LOOK: Duration = Duration::from_secs(1);
const TOKEN: &str = "c4a05c4a-1111-4222-8333-444455556666";

/// The pipelines of each forwarder, which are groups of their own, and the receivers behind them.
const PIPELINES: [&str; 3] = ["hec", "drain", "relp"];
const RECEIVERS: [Receiving; 4] = [
    Receiving { pipeline: "hec", kind: Kind::Hec { ack: true } },
    Receiving { pipeline: "hec", kind: Kind::Hec { ack: false } },
    Receiving { pipeline: "drain", kind: Kind::Syslog { scheme: "tcp" } },
    Receiving { pipeline: "relp", kind: Kind::Syslog { scheme: "relp" } },
];

/// What a receiver is.
#[derive(Clone, Copy)]
struct Receiving {
    pipeline: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Hec { ack: bool },
    Syslog { scheme: &'static str },
}

/// What a receiver may do wrong in one of its lives. Nothing here confirms what is not stored.
const HEC_FAULTS: [&str; 7] = [
    "",
    "event.503=5%,event.reset-after=2%",
    "event.refuse-at:1:6=3%",
    "event.close=5%,ack.tear=5%,event.garbled=2%",
    "event.html:502=3%,event.429:27=3%,ack.500=5%",
    "event.never-ack=2%,event.delay:700ms=5%",
    "event.restart:300ms=0.5%,event.crash:300ms=0.5%",
];
const DRAIN_FAULTS: [&str; 5] = [
    "",
    "message.reset=0.1%,eof.delay:500ms=10%",
    "eof.reset=10%,connect.close=3%",
    "message.crash:300ms=0.05%",
    "connect.close-at:20=10%,eof.hang=3%",
];
const RELP_FAULTS: [&str; 6] = [
    "",
    "syslog.serverclose=0.5%,syslog.tear=0.3%",
    "syslog.500=0.2%",
    "syslog.delay:700ms=0.5%,syslog.wrong-txnr=0.2%",
    "syslog.unanswered=0.1%,open.500=5%",
    "message.crash:300ms=0.05%,message.reset-after=0.1%",
];
const SOURCE_FAULTS: [&str; 5] = [
    "pull.503=20%,heartbeat.500=20%",
    "pull.tear=10%,pull.rawsize=5%,checkpoint.reset-after=20%",
    "heartbeat.hang=30%,get-checkpoint.500=30%",
    "pull.bits=5%,pull.html:502=5%,pull.delay:600ms=10%",
    "checkpoint.500=50%,cursor.reset=30%,pull.hang=1%",
];

/// What can be broken, once at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Forwarder(usize),
    Receiver(usize),
    /// 0 leads to the source, the others to the receivers.
    Network(usize),
    Source,
    Disk,
}

/// How it is mended.
#[derive(Clone, Debug)]
enum Mend {
    Start,
    Continue,
    /// Frozen for a moment again and again: so often still.
    Storm {
        left: u32,
        frozen: bool,
    },
    Files {
        limit: String,
    },
    Line,
    Plan,
    Room,
}

/// Runs it.
pub(crate) fn run(seed: u64, time: Duration) {
    let mut storm = Storm::new(seed, time);
    storm.rage(time);
    storm.calm();
    storm.judge();
}

struct Receiver {
    server: Option<Server>,
    lives: u32,
}

struct Storm {
    seed: u64,
    dice: u64,
    records: u64,
    begun: Instant,
    forwarders: Vec<Forwarder>,
    lives: Vec<u32>,
    receivers: Vec<Receiver>,
    networks: Vec<Proxy>,
    /// Kept alive.
    _source: Server,
    admin: String,
    disk: Option<Disk>,
    mending: BTreeMap<Thing, (Instant, Mend)>,
    ledgers: BTreeMap<&'static str, Ledger>,
    events: BTreeMap<&'static str, u64>,
    looks: u64,
    possible_duplicates: u64,
    /// Last: whatever else ends, its files are kept where the test fails.
    folder: Folder,
}

struct Folder {
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
    fn new(seed: u64, time: Duration) -> Self {
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
        let networks: Vec<Proxy> = (0..=RECEIVERS.len()).map(|_| Proxy::new()).collect();
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
            dice: seed,
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

    /// Breaks things for so long.
    fn rage(&mut self, time: Duration) {
        let end = Instant::now() + time;
        let mut look = Instant::now() + LOOK;
        while Instant::now() < end {
            self.mend(|due| due <= Instant::now());
            self.expect_alive();
            if Instant::now() >= look {
                self.hold_checkpoints_against_the_ledger();
                look = Instant::now() + LOOK;
            }
            self.strike();
            let pause = Instant::now() + Duration::from_millis(self.below(300) + 50);
            while Instant::now() < pause {
                self.mend(|due| due <= Instant::now());
                thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// One fault, somewhere.
    fn strike(&mut self) {
        let choice = self.below(100);
        let forwarder = self.index(FORWARDERS);
        let receiver = self.index(RECEIVERS.len());
        let network = self.index(RECEIVERS.len() + 1);
        let time = Duration::from_millis(self.below(2_000) + 200);
        let dice = self.below(1_000);
        match choice {
            0..42 => self.on(Thing::Forwarder(forwarder), |storm| match choice {
                0..12 => storm.kill_forwarder(forwarder, time),
                12..18 => storm.restart_forwarder(forwarder),
                18..30 => {
                    signal(storm.forwarders[forwarder].pid(), "STOP");
                    let left = 10 + u32::try_from(dice % 10).unwrap();
                    ("a storm of SIGSTOP, 130 ms each", FROZEN, Mend::Storm { left, frozen: true })
                }
                30..36 => {
                    signal(storm.forwarders[forwarder].pid(), "STOP");
                    (
                        "a forwarder frozen for longer than its lease",
                        Duration::from_secs(4) + time,
                        Mend::Continue,
                    )
                }
                _ => storm.take_files(forwarder, time),
            }),
            42..54 => self.on(Thing::Receiver(receiver), |storm| storm.end_receiver(receiver, time)),
            54..60 => self.on(Thing::Receiver(receiver), |storm| {
                signal(storm.receivers[receiver].server.as_ref().unwrap().pid(), "STOP");
                ("a receiver frozen", time, Mend::Continue)
            }),
            60..68 => self.on(Thing::Network(network), |storm| {
                storm.networks[network].silence();
                ("a network silent", time, Mend::Line)
            }),
            68..84 => self.on(Thing::Network(network), |storm| {
                let how = storm.cut_for(network, dice);
                storm.networks[network].cut(how);
                let name = match how {
                    Cut::Fin => "connections ended without a word of TLS",
                    Cut::Reset => "connections reset",
                    Cut::HalfOpen => "connections left half open",
                };
                (name, Duration::ZERO, Mend::Line)
            }),
            84..92 => self.on(Thing::Source, |storm| {
                let plan = SOURCE_FAULTS[usize::try_from(dice).unwrap() % SOURCE_FAULTS.len()];
                storm.post("/fault", plan);
                ("errors of SLS", time, Mend::Plan)
            }),
            _ if self.disk.is_some() => self.on(Thing::Disk, |storm| {
                storm.disk.as_ref().unwrap().fill();
                ("no room for the dead letter", time, Mend::Room)
            }),
            _ => {}
        }
    }

    /// Breaks a thing that is whole.
    fn on(&mut self, thing: Thing, fault: impl FnOnce(&mut Self) -> (&'static str, Duration, Mend)) {
        if self.mending.contains_key(&thing) {
            return;
        }
        let (name, time, mend) = fault(self);
        *self.events.entry(name).or_default() += 1;
        self.note(&format!("{thing:?}: {name}, {time:?}"));
        self.mending.insert(thing, (Instant::now() + time, mend));
    }

    /// Which cut a network bears. Syslog over TCP has no word for its end: a middle box that ends connections in order after it
    /// has swallowed what they carried says what only a receiver may say that has read everything.
    fn cut_for(&self, network: usize, dice: u64) -> Cut {
        let plain_tcp = network == 3;
        // A pull waits a minute for its answer.
        let patient = network > 0 || self.records > 120 * RECORDS_PER_SECOND;
        match dice % 3 {
            0 if !plain_tcp => Cut::Fin,
            1 if patient => Cut::HalfOpen,
            _ => Cut::Reset,
        }
    }

    fn kill_forwarder(&mut self, forwarder: usize, time: Duration) -> (&'static str, Duration, Mend) {
        self.note_duplicates(forwarder);
        self.forwarders[forwarder].kill();
        self.hold_checkpoints_against_the_ledger();
        ("kill -9 of a forwarder", time, Mend::Start)
    }

    /// Ends one in order. What is in flight may not drain while a receiver is away: then it says so.
    fn restart_forwarder(&mut self, forwarder: usize) -> (&'static str, Duration, Mend) {
        self.note_duplicates(forwarder);
        signal(self.forwarders[forwarder].pid(), "TERM");
        ("SIGTERM of a forwarder", Duration::from_millis(500), Mend::Start)
    }

    /// No more file descriptors than it has now.
    fn take_files(&mut self, forwarder: usize, time: Duration) -> (&'static str, Duration, Mend) {
        // One that only begins refuses to work without them, as it should.
        self.forwarders[forwarder].wait_well("before its file descriptors are taken");
        let pid = self.forwarders[forwarder].pid();
        let open = fs::read_dir(format!("/proc/{pid}/fd")).map_or(16, Iterator::count);
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default();
        let limit = line.split_whitespace().nth(3).unwrap_or("1024").to_owned();
        set_files(pid, &open.to_string());
        ("no more file descriptors", time, Mend::Files { limit })
    }

    fn end_receiver(&mut self, receiver: usize, time: Duration) -> (&'static str, Duration, Mend) {
        let mut server = self.receivers[receiver].server.take().unwrap();
        // What a receiver has read and not yet written dies with it. Over plain TCP its kernel says nevertheless that all was
        // read, so that one is asked to end.
        let polite = matches!(RECEIVERS[receiver].kind, Kind::Syslog { scheme: "tcp" }) || self.below(4) == 0;
        let name = if polite {
            server.stop();
            "SIGTERM of a receiver"
        } else {
            server.kill();
            "kill -9 of a receiver"
        };
        self.networks[receiver + 1].lead_to(None);
        (name, time, Mend::Start)
    }

    /// Mends what is due.
    fn mend(&mut self, is_due: impl Fn(Instant) -> bool) {
        let due: Vec<Thing> =
            self.mending.iter().filter(|(_, (at, _))| is_due(*at)).map(|(thing, _)| *thing).collect();
        for thing in due {
            let (_, mend) = self.mending.remove(&thing).unwrap();
            self.note(&format!("{thing:?}: {mend:?}"));
            match (thing, mend) {
                (Thing::Forwarder(forwarder), Mend::Start) => {
                    if !self.forwarders[forwarder].has_ended() {
                        // It still drains.
                        self.mending
                            .insert(thing, (Instant::now() + Duration::from_millis(100), Mend::Start));
                        continue;
                    }
                    let status = self.forwarders[forwarder].ended().unwrap();
                    let tail = self.forwarders[forwarder].tail();
                    assert!(matches!(status.code(), None | Some(0 | 1)), "it ended with {status}\n{tail}");
                    self.forwarders[forwarder] = self.start_forwarder(forwarder);
                }
                (Thing::Forwarder(forwarder), Mend::Storm { left, frozen }) => {
                    let pid = self.forwarders[forwarder].pid();
                    signal(pid, if frozen { "CONT" } else { "STOP" });
                    if left > 0 || !frozen {
                        let (pause, left) = if frozen { (THAWED, left - 1) } else { (FROZEN, left) };
                        let next = Mend::Storm { left, frozen: !frozen };
                        self.mending.insert(thing, (Instant::now() + pause, next));
                    } else {
                        self.forwarders[forwarder].wait_well("after a storm of SIGSTOP");
                    }
                }
                (Thing::Forwarder(forwarder), Mend::Continue) => {
                    signal(self.forwarders[forwarder].pid(), "CONT");
                    self.forwarders[forwarder].wait_well("after it was frozen");
                }
                (Thing::Forwarder(forwarder), Mend::Files { limit }) => {
                    set_files(self.forwarders[forwarder].pid(), &limit);
                    self.forwarders[forwarder].wait_well("after it had no file descriptors");
                }
                (Thing::Receiver(receiver), Mend::Continue) => {
                    signal(self.receivers[receiver].server.as_ref().unwrap().pid(), "CONT");
                }
                (Thing::Receiver(receiver), _) => self.start_receiver(receiver, true),
                (Thing::Network(network), _) => self.networks[network].mend(),
                (Thing::Source, _) => self.post("/fault", ""),
                (Thing::Disk, _) => self.disk.as_ref().unwrap().free(),
                (Thing::Forwarder(_), mend) => panic!("{mend:?} mends no forwarder"),
            }
        }
    }

    /// Nothing goes wrong any more: everything has to drain.
    fn calm(&mut self) {
        let end = Instant::now() + PATIENCE;
        while !self.mending.is_empty() {
            self.mend(|_| true);
            assert!(Instant::now() < end, "not mended: {:?}", self.mending);
        }
        for receiver in 0..RECEIVERS.len() {
            self.receivers[receiver].server.take().unwrap().stop();
            self.start_receiver(receiver, false);
        }
        self.post("/rate?bytes=1000000000", "");
        while !self.is_drained() {
            self.expect_alive();
            if Instant::now() >= end {
                let state = serde_json::to_string_pretty(&self.state()).unwrap();
                let tails: Vec<String> = self.forwarders.iter().map(Forwarder::tail).collect();
                panic!("not drained within {PATIENCE:?}: {state}\n{}", tails.join("\n----\n"));
            }
            self.hold_checkpoints_against_the_ledger();
            thread::sleep(Duration::from_millis(200));
        }
        for forwarder in 0..FORWARDERS {
            self.note_duplicates(forwarder);
            let status = self.forwarders[forwarder].stop();
            assert_eq!(status.code(), Some(0), "{status}\n{}", self.forwarders[forwarder].tail());
        }
    }

    /// Everything that the source gave is stored.
    fn judge(&mut self) {
        let strays = self.get("/verdict");
        assert_eq!(strays["stray_commits"], Value::Array(Vec::new()), "{strays:#}");
        let total = self.records * u64::from(SHARDS);
        let mut text = format!(
            "chaos: CHAOS_SEED={} {:.0?}, {} faults, checkpoints held against the ledger {} times\n",
            self.seed,
            self.begun.elapsed(),
            self.events.values().sum::<u64>(),
            self.looks
        );
        for (name, count) in &self.events {
            let _ = writeln!(text, "  {count:>4} {name}");
        }
        let (mut lost, mut duplicates) = (Vec::new(), 0);
        for (name, ledger) in &mut self.ledgers {
            ledger.refresh();
            let missing: u64 = (0..SHARDS)
                .map(|shard| {
                    let missing = ledger.missing(shard, self.records);
                    lost.extend(missing.iter().take(5).map(|number| format!("{name} {shard}-{number}")));
                    missing.len() as u64
                })
                .sum();
            let (unique, more) = ledger.totals();
            duplicates += more;
            let letters = ledger.letters();
            let _ = writeln!(
                text,
                "  {name}: {total} records, {unique} stored ({letters} of them as dead letters), {more} duplicates, lost {missing}"
            );
        }
        let _ = writeln!(
            text,
            "  {duplicates} duplicates in all; the forwarders that could still be asked counted {} as possible",
            self.possible_duplicates
        );
        eprint!("{text}");
        assert!(lost.is_empty(), "lost: {lost:?}");
    }

    /// No checkpoint is ahead of what is stored, at no moment.
    fn hold_checkpoints_against_the_ledger(&mut self) {
        self.looks += 1;
        // Read before the files: what is stored later cannot hide a checkpoint that ran ahead.
        let state = self.state();
        for name in PIPELINES {
            let ledger = self.ledgers.get_mut(name).unwrap();
            ledger.refresh();
            let Some(saved) = state["groups"][format!("chaos-{name}")]["checkpoints"].as_object() else {
                continue;
            };
            for (shard, groups) in saved {
                let count = (groups.as_u64().unwrap() * GROUP_LOGS).min(self.records);
                let missing = ledger.missing(shard.parse().unwrap(), count);
                assert!(
                    missing.is_empty(),
                    "the checkpoint of {name}, shard {shard}, is at record {count}, and not stored are {missing:?}"
                );
            }
        }
    }

    fn is_drained(&self) -> bool {
        let state = self.state();
        let shards = state["shards"].as_object().unwrap();
        PIPELINES.iter().all(|name| {
            let saved = &state["groups"][format!("chaos-{name}")]["checkpoints"];
            shards.iter().all(|(shard, view)| saved[shard] == view["total"])
        })
    }

    /// No forwarder ends that nobody has ended.
    fn expect_alive(&mut self) {
        for forwarder in 0..FORWARDERS {
            if matches!(self.mending.get(&Thing::Forwarder(forwarder)), Some((_, Mend::Start))) {
                continue;
            }
            if let Some(status) = self.forwarders[forwarder].ended() {
                panic!(
                    "forwarder {forwarder} ended by itself: {status}\n{}",
                    self.forwarders[forwarder].tail()
                );
            }
        }
    }

    fn note_duplicates(&mut self, forwarder: usize) {
        self.possible_duplicates += self.forwarders[forwarder].sum("duplicates_possible_records_total");
    }

    fn start_receiver(&mut self, receiver: usize, faulty: bool) {
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
        let seed = (self.below(1_000_000) + 1).to_string();
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

    fn start_forwarder(&mut self, forwarder: usize) -> Forwarder {
        let life = self.lives[forwarder];
        self.lives[forwarder] += 1;
        let log = self.folder.path().join(format!("forwarder-{forwarder}-{life}.log"));
        let before = self.disk.as_ref().map_or_else(Vec::new, |disk| disk.enter().to_vec());
        Forwarder::start(&before, &self.config(forwarder), &log)
    }

    fn state(&self) -> Value {
        self.get("/state")[0].take()
    }

    fn get(&self, path: &str) -> Value {
        let mut answer = ureq::get(format!("{}{path}", self.admin)).call().expect("the emulator answers");
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
    }

    fn post(&self, path: &str, body: &str) {
        ureq::post(format!("{}{path}", self.admin)).send(body).expect("the emulator takes it");
    }

    fn note(&self, line: &str) {
        let file = self.folder.path().join("faults.log");
        let mut file = fs::File::options().create(true).append(true).open(file).unwrap();
        writeln!(file, "{:>9.3} {line}", self.begun.elapsed().as_secs_f64()).unwrap();
    }

    fn index(&mut self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).unwrap()
    }

    /// The next of the dice (`SplitMix64`).
    fn below(&mut self, bound: u64) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.dice;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Changes the soft limit of a running process.
fn set_files(pid: u32, soft: &str) {
    let status =
        Command::new("prlimit").args(["--pid", &pid.to_string(), &format!("--nofile={soft}:")]).status();
    assert!(status.unwrap().success(), "prlimit --nofile={soft}: of {pid}");
}

const FROZEN: Duration = Duration::from_millis(130);
const THAWED: Duration = Duration::from_millis(70);
