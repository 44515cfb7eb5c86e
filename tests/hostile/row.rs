//! One row of a table: a hostile server in the place of one of the good ones, what has to be said, and that nothing is lost.
//!
//! Why: each hostility has to be survived in the same way: bounded memory, bounded time, a clear line, another try, and
//! everything delivered once the peer behaves.
//! Invariants: 1. resident memory never exceeds what an idle forwarder has plus `runtime.memory` plus [`SLACK_BYTES`].
//! 2. however often the peer strikes, the log has a few lines of it. 3. all records arrive after the cure.
//! Bounds: [`PATIENCE`] for the line and for the delivery; [`AT_ONCE`] rows at a time.
//! Driven by: the tables.
#![expect(clippy::disallowed_types, reason = "a test: a lock around a counter is the plain way")]

use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread;
use std::time::Instant;

use loadgen::payload::{Payload, Profile};
use loadgen::sink::hec::Token;
use loadgen::sink::tls::{Identity, TlsSettings};
use loadgen::verify::expect::Metadata;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::forwarder::{Forwarder, Start};
use crate::front::{Act, Front, Guest, Manner, Stage, Victim};
use crate::listener::Listener;
use crate::rig::{PATIENCE, Rig, TOKEN};

/// Whose place the hostile server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// SLS, both planes.
    Sls,
    /// A HEC endpoint.
    Hec,
    /// A HEC endpoint whose token has indexer acknowledgement.
    HecWithAcks,
    /// A syslog receiver over TCP.
    Tcp,
    /// A RELP receiver.
    Relp,
}

/// One hostility.
pub(crate) struct Row {
    pub(crate) name: String,
    place: Place,
    stage: Stage,
    victim: Victim,
    act: Act,
    tls: bool,
    /// Parts of one warning, in this order; none where nothing has to be said.
    says: &'static [&'static str],
    settings: Vec<(&'static str, &'static str)>,
    /// It strikes so often before it is cured.
    hits: usize,
}

impl Row {
    /// A row that strikes twice.
    pub(crate) fn new(
        place: Place,
        name: impl Into<String>,
        act: impl Fn(&mut Guest) -> std::io::Result<()> + Send + Sync + 'static,
        says: &'static [&'static str],
    ) -> Self {
        let stage = if matches!(place, Place::Tcp | Place::Relp) { Stage::Accept } else { Stage::Request };
        let (victim, settings): (Victim, _) = (|_| true, Vec::new());
        Self {
            name: name.into(),
            place,
            stage,
            victim,
            act: Box::new(act),
            tls: false,
            says,
            settings,
            hits: 2,
        }
    }

    /// Only these requests.
    pub(crate) fn to(mut self, victim: Victim) -> Self {
        self.victim = victim;
        self
    }

    /// Over TLS.
    pub(crate) fn over_tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Before the first byte of the client is read.
    pub(crate) fn at_accept(mut self) -> Self {
        self.stage = Stage::Accept;
        self
    }

    /// With this setting.
    pub(crate) fn set(mut self, key: &'static str, value: &'static str) -> Self {
        self.settings.push((key, value));
        self
    }

    /// Strikes so often.
    pub(crate) fn hits(mut self, hits: usize) -> Self {
        self.hits = hits;
        self
    }

    fn run(self) {
        let name = self.name.clone();
        let begun = Instant::now();
        let limit = idle_bytes() + MEMORY_BYTES + SLACK_BYTES;
        let mut pair = Pair::new(self.place, self.tls);
        let (says, hits) = (self.says, self.hits);
        let (front, mut forwarder) = pair.between(self);
        forwarder.wait_until(&format!("{name}: it strikes"), PATIENCE * 2, || front.hits() >= hits);
        // What cannot be told from a true answer is only survived.
        if !says.is_empty() {
            let line = forwarder.line_within(&[&[" WARN "], says].concat(), PATIENCE * 2);
            let said = line.split(" WARN ").nth(1).unwrap_or_default();
            if std::env::var_os("HOSTILE_SHOW").is_some() {
                eprintln!("{name}: {said}");
            }
            assert!(said.len() < LINE_BYTES_MAX, "{name}: {} bytes in one line: {said}", said.len());
        }
        assert!(forwarder.is_running(), "{name}: {}", forwarder.text());
        assert_eq!(forwarder.ask("/healthz").0, 200, "{name}: a restart would not help");
        front.cure();
        pair.wait_complete(&name, &mut forwarder);
        let peak = forwarder.peak_bytes();
        assert!(
            peak <= limit,
            "{name}: {peak} bytes were resident, {limit} are allowed\n{}",
            forwarder.text()
        );
        let mut complaints = forwarder.complaints();
        // That an executor got no turn says something of this machine.
        complaints.retain(|line| !line.contains("stands still"));
        assert!(complaints.len() <= COMPLAINTS_MAX, "{name}: {complaints:#?}");
        forwarder.stop();
        eprintln!(
            "{name}: {} strikes, {} complaints, {} MiB at most (idle {}), {:.1?}",
            front.hits(),
            complaints.len(),
            peak >> 20,
            idle_bytes() >> 20,
            begun.elapsed()
        );
    }
}

/// Runs all rows, several at a time; names those that failed.
pub(crate) fn run(rows: Vec<Row>) {
    let only = std::env::var("HOSTILE_ROW").ok();
    let rows =
        rows.into_iter().filter(|row| only.as_ref().is_none_or(|only| row.name.contains(only.as_str())));
    let threads: Vec<_> = rows
        .map(|row| {
            let name = row.name.clone();
            let run = move || {
                let _turn = Turn::take();
                row.run();
            };
            let thread = thread::Builder::new().name(name.clone()).spawn(run).unwrap();
            (name, thread)
        })
        .collect();
    let failed: Vec<_> =
        threads.into_iter().filter_map(|(name, thread)| thread.join().is_err().then_some(name)).collect();
    assert!(failed.is_empty(), "failed: {failed:#?}");
}

/// What the good servers are, and where.
struct Pair {
    rig: Rig,
    place: Place,
    tls: bool,
    listener: Option<Listener>,
}

impl Pair {
    fn new(place: Place, tls: bool) -> Self {
        let payload = Payload::new(Profile::AccessLog, 7).with_logs_per_group(50);
        let mut rig = Rig::with(
            |sls| {
                if !(tls && place == Place::Sls) {
                    sls.tls_dir = None;
                }
            },
            |hec| {
                hec.payload = Some((payload, Metadata::default()));
                if !(tls && place != Place::Sls) {
                    hec.tls = None;
                }
                if place == Place::HecWithAcks {
                    hec.tokens = vec![Token::new(TOKEN).with_ack()];
                }
            },
        );
        rig.payload = payload;
        rig.fill(RECORDS);
        let listener = match place {
            Place::Tcp => Some(Listener::start(false, &[])),
            Place::Relp => Some(Listener::start(true, &[])),
            Place::Sls | Place::Hec | Place::HecWithAcks => None,
        };
        Self { rig, place, tls, listener }
    }

    /// A forwarder that has the hostile server in the place of the good one.
    fn between(&self, row: Row) -> (Front, Forwarder) {
        let Row { stage, victim, act, settings, .. } = row;
        let target: SocketAddr = match (self.place, &self.listener) {
            (Place::Sls, _) => self.rig.sls.addr(),
            (_, Some(listener)) => listener.address,
            (_, None) => {
                self.rig.hec.url().split("://").nth(1).unwrap().trim_end_matches('/').parse().unwrap()
            }
        };
        let good = self.rig.path(if self.place == Place::Sls { "ca.pem" } else { "hec.pem" });
        let tls = self.tls.then(|| {
            let identity = Identity::new(&TlsSettings::default()).unwrap();
            let pem = fs::read_to_string(&good).unwrap();
            self.rig.write_private("both.pem", &(pem.clone() + &identity.ca_pem));
            (identity.config, trusts(&pem))
        });
        let front = Front::start(target, Manner { stage, victim, act, tls });
        let mut start = self.start(front.address);
        for (key, value) in settings {
            start = start.set(key, value);
        }
        (front, start.start())
    }

    /// The settings of the rig, with this address in the place of the good server.
    fn start(&self, address: SocketAddr) -> Start {
        let scheme = if self.tls { "https" } else { "http" };
        let both = self.rig.path("both.pem");
        let both = if self.tls { both.to_str().unwrap() } else { "" };
        let start = self.rig.forwarder().set("runtime.memory", MEMORY_BYTES);
        let start = match self.place {
            Place::Sls => start.set("sls.endpoint", format!("{scheme}://{address}")).set("sls.ca_file", both),
            _ => start.set("sls.ca_file", ""),
        };
        match self.place {
            Place::Sls => start.set("hec.ca_file", ""),
            Place::Hec | Place::HecWithAcks => start
                .set("hec.endpoints", format!("[\"{scheme}://{address}\"]"))
                .set("hec.timeout", "3s")
                .set("hec.ca_file", both),
            Place::Tcp | Place::Relp => {
                let scheme = if self.place == Place::Relp { "relp" } else { "tcp" };
                start
                    .set("hec.ca_file", "")
                    .set("hec.endpoints", "[]")
                    .set("syslog.endpoints", format!("[\"{scheme}://{address}\"]"))
                    .set("syslog.drain_interval", "300ms")
                    .set("syslog.timeout", "3s")
                    .set("syslog.batch_age", "50ms")
            }
        }
    }

    /// Waits until everything is delivered and saved.
    fn wait_complete(&mut self, name: &str, forwarder: &mut Forwarder) {
        let what = format!("{name}: checkpoints at the ends after the cure");
        forwarder.wait_until(&what, PATIENCE * 2, || self.rig.is_drained());
        let total = self.rig.total();
        match &mut self.listener {
            Some(listener) => {
                forwarder.wait_until(&what, PATIENCE, || listener.unique() == total);
            }
            None => self.rig.assert_complete(),
        }
        self.rig.assert_commits();
    }
}

/// What the good server's certificate is checked against.
fn trusts(pem: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The most that a forwarder has resident that moves the same records between good servers.
fn idle_bytes() -> u64 {
    static IDLE: OnceLock<u64> = OnceLock::new();
    *IDLE.get_or_init(|| {
        let mut pair = Pair::new(Place::Hec, false);
        let address = pair.rig.hec.url().split("://").nth(1).unwrap().trim_end_matches('/').parse().unwrap();
        let mut forwarder = pair.start(address).start();
        pair.wait_complete("good servers", &mut forwarder);
        let bytes = forwarder.peak_bytes();
        forwarder.stop();
        bytes
    })
}

/// A place among the rows that run.
struct Turn;

static RUNNING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

impl Turn {
    fn take() -> Self {
        let mut running = RUNNING.0.lock().unwrap();
        while *running >= AT_ONCE {
            running = RUNNING.1.wait(running).unwrap();
        }
        *running += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.0.lock().unwrap() -= 1;
        RUNNING.1.notify_one();
    }
}

/// Of each shard.
const RECORDS: u64 = 200;
/// `runtime.memory`, the least that there is.
const MEMORY_BYTES: u64 = 16 << 20;
/// What a process may need above its bound: stacks, buffers of connections, what the allocator keeps.
const SLACK_BYTES: u64 = 32 << 20;
/// One line of the log about one trouble.
const LINE_BYTES_MAX: usize = 1_200;
/// Lines about one hostility, however often it strikes: what was seen, and what it led to.
const COMPLAINTS_MAX: usize = 8;
const AT_ONCE: usize = 16;
