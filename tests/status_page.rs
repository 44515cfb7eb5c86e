//! The status page in a real browser, without a screen.
//!
//! Why: a page that a unit test finds complete may be blank: a policy that forbids its own script, a style that hides
//! a table, a script that fails.
//! Invariants: the browser asks nobody but the page's own address.
//! Driven by: `cargo test --test status_page`; `SLS2SIEM_SCREENSHOTS=DIR` keeps pictures of 2 and of 200 shards, wide and
//! as on a phone. Without Chromium it is skipped, with CI=true it fails then.

#![expect(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test binary")]
#![expect(clippy::print_stdout, reason = "says that it is skipped")]
#![expect(clippy::disallowed_methods, reason = "the test waits for another process on the machine's clock")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sls2siem::admin::{self, AdminHandle};
use sls2siem::metrics::{
    CheckpointGauge, ControlSnapshot, ExecutorSnapshot, Info, Journal, PipelineInfo, PipelineSnapshot,
    Publisher, Registry,
};
use sls2siem::proto::counters::{Counters, ShardGauge};
use sls2siem::proto::ids::ShardId;
use sls2siem::proto::time::Instant;

/// How long the browser may take on a loaded machine.
const PATIENCE: Duration = Duration::from_mins(2);

fn browser() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = ["chromium", "chromium-browser", "google-chrome"].iter().find_map(|name| {
        std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())
    });
    if found.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI has to have chromium");
        println!("skipped: there is no chromium here");
    }
    found
}

/// Runs the browser; its standard output.
fn browse(browser: &Path, flags: &[&str], url: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let mut command = Command::new(browser);
    command
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args([
            "--enable-logging=stderr",
            "--log-level=0",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(flags)
        .arg(url)
        .stdin(Stdio::null());
    let (out, err) = (profile.path().join("out"), profile.path().join("err"));
    command.stdout(std::fs::File::create(&out).unwrap()).stderr(std::fs::File::create(&err).unwrap());
    let mut child = command.spawn().expect("the browser starts");
    let end = std::time::Instant::now() + PATIENCE;
    let read = |path: &PathBuf| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    while child.try_wait().unwrap().is_none() {
        if std::time::Instant::now() > end {
            let _gone = child.kill();
            let _gone = child.wait();
            panic!("the browser does not end: {}", read(&err));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let log = read(&err);
    let complaints: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(complaints.is_empty(), "the page complains: {complaints:#?}");
    read(&out)
}

/// A process with so many shards over two cores, some of them in trouble.
struct Page {
    admin: AdminHandle,
    registry: Registry,
    publisher: Publisher,
    shards: u32,
}

impl Page {
    fn new(shards: u32) -> Self {
        let journal = Journal::new();
        let pipeline = PipelineInfo {
            name: "default".into(),
            source: "prod-project/nginx-access".to_owned(),
            sink: "hec".to_owned(),
        };
        let info = Info {
            version: "0.1.0 (0123456789ab)".to_owned(),
            cores: vec![2, 3],
            pipelines: vec![pipeline],
            settings: "[sls]\nproject = \"prod-project\"\naccess_key_secret = \"***\"\n".to_owned(),
        };
        let registry = Registry::with_journal(info, journal.clone());
        journal.add(
            false,
            "pipeline default: hec https://splunk-1:8088 is busy: its queues are full (HTTP 503, code 9: Server is busy) \
             - nothing lost: unacknowledged logs are kept or read again, the checkpoint waits - nothing, sending slows \
             down by itself; when it lasts: the indexers are too slow, look at their queues",
        );
        let admin = admin::start("127.0.0.1:0".parse().unwrap(), registry.clone()).expect("a free port");
        let publisher = registry.publisher();
        let page = Self { admin, registry, publisher, shards };
        // More than an hour, without waiting for it.
        for step in 0..=3_700 {
            page.post(step);
            page.registry.sample_at(Instant(step * 1_000_000_000));
        }
        page
    }

    fn post(&self, step: u64) {
        for core in 0..2 {
            let of_core = (0..self.shards).filter(|shard| shard % 2 == core);
            let gauges = of_core.map(|shard| ShardGauge {
                shard: ShardId(shard),
                lag_seconds: u64::from(shard % 40 * shard % 7) + step / 700,
                pending_seconds: u64::from(shard % 5),
                held: shard == 7,
            });
            let counters = Counters {
                pulled_raw_bytes: step * 5_000_000,
                sent_bytes: step * 6_700_000,
                acked_records: step * 9_000,
                pulled_records: step * 9_000 + 400,
                sink_retries: step / 900,
                inflight_bytes: 3_400_000 + step % 90 * 10_000,
                ..Counters::default()
            };
            let part = PipelineSnapshot { pipeline: "default".into(), counters, shards: gauges.collect() };
            self.publisher.executor(ExecutorSnapshot {
                core: usize::try_from(core).unwrap() + 2,
                cpu: Duration::from_micros(step * 14_000),
                pipelines: vec![part],
            });
        }
        let checkpoint = |shard| CheckpointGauge { shard: ShardId(shard), age_seconds: 2 };
        self.publisher.control(ControlSnapshot {
            pipeline: "default".into(),
            member: true,
            alarms: Vec::new(),
            checkpoint_commits: step,
            checkpoint_conflicts: 0,
            heartbeat_failures: 1,
            retention_gaps: 0,
            checkpoints: (0..self.shards).map(checkpoint).collect(),
        });
    }

    fn url(&self) -> String {
        format!("http://{}/", self.admin.local_addr())
    }
}

#[test]
fn a_browser_shows_it_and_its_script_brings_news() {
    let Some(browser) = browser() else { return };
    let page = Page::new(2);
    let dom = browse(&browser, &["--dump-dom", "--virtual-time-budget=1000"], &page.url());
    for part in ["Ready:", "prod-project/nginx-access → hec", "<polyline", "largest lag", "Server is busy"]
    {
        assert!(dom.contains(part), "{part}: {dom}");
    }
    assert!(dom.contains("66\u{202f}600\u{202f}000"), "what both cores have acknowledged: {dom}");
    assert!(!dom.contains("data-news"), "nothing yet: {dom}");
    // A minute of the page's own time: its script has to have asked again and put the answer in place.
    page.post(1_000_000);
    let dom = browse(&browser, &["--dump-dom", "--virtual-time-budget=60000"], &page.url());
    assert!(dom.contains("data-news=\"") && dom.contains("18\u{202f}000\u{202f}000\u{202f}000"), "{dom}");
    page.admin.stop();
}

#[test]
fn pictures_of_few_and_of_many_shards() {
    let Some(browser) = browser() else { return };
    let kept = std::env::var_os("SLS2SIEM_SCREENSHOTS").map(PathBuf::from);
    let dir = tempfile::tempdir().unwrap();
    let folder = kept.unwrap_or_else(|| dir.path().to_owned());
    for shards in [2, 200] {
        let page = Page::new(shards);
        for (name, size) in [("wide", "1280,1600"), ("phone", "390,2400")] {
            let file = folder.join(format!("status-{shards}-{name}.png"));
            let picture = format!("--screenshot={}", file.display());
            browse(&browser, &[&picture, &format!("--window-size={size}"), "--hide-scrollbars"], &page.url());
            let bytes = std::fs::metadata(&file).expect("a picture").len();
            assert!(bytes > 20_000, "{shards} shards, {name}: a picture of {bytes} bytes is blank");
        }
        page.admin.stop();
    }
}
