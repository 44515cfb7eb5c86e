//! The vendor's own SDK against the emulator.
//!
//! Why: an emulator written from notes is a guess until somebody else's client accepts it unchanged.
//! Driven by: `cargo test`. The Python with the SDK is `$SLS2SIEM_SDK_VENV/bin/python`, or `python3` if it has the
//! package. Without either the tests say that they are skipped; with `CI=true` they fail.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests are tests")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use loadgen::payload::{Payload, Profile};
use loadgen::sls::{AccessKey, Fill, Judgement, LeaseState, SlsConfig, SlsServer};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vendor_sdk");

/// A Python that can import the SDK; none means skip.
fn python() -> Option<PathBuf> {
    let candidate = std::env::var_os("SLS2SIEM_SDK_VENV")
        .map_or_else(|| PathBuf::from("python3"), |venv| PathBuf::from(venv).join("bin/python"));
    let found = Command::new(&candidate)
        .args(["-c", "import aliyun.log, zstd"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if found {
        return Some(candidate);
    }
    let reason = format!("{} cannot import aliyun-log-python-sdk and zstd", candidate.display());
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{reason}");
    println!("skipped: {reason}");
    None
}

fn script(python: &PathBuf, server: &SlsServer, name: &str) -> Command {
    let settings = serde_json::json!({
        "project": "test-project",
        "logstore": "test-logstore",
        "key": "testAccessKeyId",
        "secret": "testAccessKeySecret",
        "scheme": server.endpoint().split(':').next(),
        "port": server.addr().port(),
    });
    let mut command = Command::new(python);
    command.arg("-B").arg(format!("{SCRIPTS}/{name}")).env("EMULATOR", settings.to_string());
    // A proxy of the machine is none of this test's business.
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(name);
    }
    command
}

/// With the processor and the temporary key that `calls.py` names.
fn settings() -> SlsConfig {
    let mut config = SlsConfig::default();
    config.processors.push(("low".to_owned(), "* | where cast(n as bigint) < 10".to_owned()));
    config.keys.push(AccessKey::new("temporary", "its-secret").with_token("its-token"));
    config
}

#[test]
fn every_call_of_the_sdk_is_understood() {
    let Some(python) = python() else { return };
    let server = SlsServer::start(settings()).unwrap();
    let output = script(&python, &server, "calls.py").output().unwrap();
    let stats = server.stats();
    assert!(output.status.success(), "{}\n{stats:#?}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "calls v1 ok\ncalls v4 ok\n");
    assert_eq!(stats.puts, 16, "{stats:#?}");
}

#[test]
fn a_proxy_may_stand_for_the_name() {
    let Some(python) = python() else { return };
    let server = SlsServer::start(settings()).unwrap();
    // Absolute-form targets reach the emulator; the patched names are not used at all.
    let mut command = script(&python, &server, "calls.py");
    command.env("http_proxy", format!("http://{}", server.addr()));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_sdk_trusts_the_certificate() {
    let Some(python) = python() else { return };
    let dir = std::env::temp_dir().join(format!("loadgen-vendor-sdk-{}", std::process::id()));
    let config = SlsConfig { tls_dir: Some(dir.clone()), host: "emulator.test".to_owned(), ..settings() };
    let server = SlsServer::start(config).unwrap();
    let mut command = script(&python, &server, "calls.py");
    command.env("REQUESTS_CA_BUNDLE", server.ca_file().unwrap()).arg("one-project");
    let output = command.output().unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A running consumer and the lines it prints.
struct Consumer {
    child: Child,
    lines: Receiver<String>,
}

impl Consumer {
    fn start(python: &PathBuf, server: &SlsServer, name: &str, version: &str, compression: &str) -> Self {
        Self::with(python, server, &[name, version, compression], &serde_json::json!({}))
    }

    /// With more arguments of its configuration.
    fn with(python: &PathBuf, server: &SlsServer, args: &[&str; 3], more: &serde_json::Value) -> Self {
        let mut child = script(python, server, "consume.py")
            .arg("group")
            .args(args)
            .env("CONSUME", more.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (send, lines) = channel();
        let output = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// Asks it to stop, waits for it, and gives all it has printed.
    fn stop(mut self) -> Vec<String> {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
        self.lines.iter().collect()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // Gone already when it was stopped.
        self.child.kill().ok();
    }
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let (_never, pause) = channel::<()>();
    for _ in 0..600 {
        if holds() {
            return;
        }
        assert!(pause.recv_timeout(Duration::from_millis(100)).is_err());
    }
    panic!("{what} has not come to be in a minute");
}

fn holders(server: &SlsServer) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    if let Some(group) = server.store().groups().unwrap().get("group") {
        for state in group.leases.values() {
            if let LeaseState::AlreadyAlloc { holder } = state {
                *counts.entry(holder.clone()).or_insert(0) += 1;
            }
        }
    }
    counts
}

#[test]
fn two_consumers_share_a_group_and_hand_over() {
    const BATCH: u64 = 3_000;
    let Some(python) = python() else { return };
    let server = SlsServer::start(SlsConfig { shards: 4, ..SlsConfig::default() }).unwrap();
    let payload = Payload::new(Profile::Mixed, 5).with_logs_per_group(20);
    let more = || server.store().fill_all(Fill::new(payload, BATCH)).unwrap();
    let drained = || server.store().is_drained("group").unwrap();
    let even = BTreeMap::from([("one".to_owned(), 2), ("two".to_owned(), 2)]);

    more();
    let one = Consumer::start(&python, &server, "one", "v1", "lz4");
    wait_until("the first consumer's lease of all shards", || holders(&server).get("one") == Some(&4));
    let two = Consumer::start(&python, &server, "two", "v4", "zstd");
    wait_until("an even share", || holders(&server) == even);
    more();
    wait_until("the end of the second batch", drained);
    let mut seen = one.stop();
    more();
    wait_until("the end of the third batch", drained);
    assert_eq!(holders(&server), BTreeMap::from([("two".to_owned(), 4)]));
    let by_two = two.stop();
    assert!(!seen.is_empty() && !by_two.is_empty());
    seen.extend(by_two);

    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for line in &seen {
        *times.entry(line).or_insert(0) += 1;
    }
    for shard in 0..4 {
        for number in 0..3 * BATCH {
            let line = format!("{shard} {shard}-{number}");
            assert_eq!(times.get(line.as_str()), Some(&1), "{line}");
        }
    }
    assert_eq!(times.len() as u64, 4 * 3 * BATCH);
    assert!(server.commits().iter().all(|commit| commit.refused.is_none()));
    // What the emulator has written down says the same: nobody read or committed what he did not have.
    assert_eq!(server.judge(), Judgement::default());
}

/// Reads lines until this many have come.
fn take(consumer: &Consumer, count: usize) -> Vec<String> {
    let next = || consumer.lines.recv_timeout(Duration::from_mins(1)).unwrap();
    (0..count).map(|_| next()).collect()
}

#[test]
fn a_split_and_a_merge_while_it_consumes_go_by_the_order_that_the_group_has() {
    let Some(python) = python() else { return };
    for in_order in [false, true] {
        let server = SlsServer::start(SlsConfig { shards: 1, ..SlsConfig::default() }).unwrap();
        let store = server.store();
        let payload = Payload::new(Profile::Tiny, 5).with_logs_per_group(10);
        let fill = |shard: u32| store.fill(shard, Fill::new(payload, 200)).unwrap();
        fill(0);
        let consumer = Consumer::with(
            &python,
            &server,
            &["one", "v1", "lz4"],
            &serde_json::json!({ "in_order": in_order }),
        );
        let mut seen = take(&consumer, 200);
        wait_until("the end of the parent", || store.is_drained("group").unwrap());
        // Once consumed to its end before, and once with something left in it.
        assert_eq!(store.split(0).unwrap(), [0, 1, 2]);
        fill(1);
        fill(2);
        seen.extend(take(&consumer, 400));
        wait_until("the end of the children", || store.is_drained("group").unwrap());
        assert_eq!(store.groups().unwrap()["group"].leases[&0], LeaseState::Over);
        fill(1);
        fill(2);
        assert_eq!(store.merge(1).unwrap(), [1, 2, 3]);
        fill(3);
        seen.extend(take(&consumer, 600));
        wait_until("the end of them all", || store.is_drained("group").unwrap());
        seen.extend(consumer.stop());
        assert_eq!(seen.len(), 200 + 400 + 600);
        for (shard, count) in [(0, 200), (1, 400), (2, 400), (3, 200)] {
            let of = |line: &&String| line.starts_with(&format!("{shard} "));
            let numbers: Vec<String> = (0..count).map(|n| format!("{shard} {shard}-{n}")).collect();
            assert_eq!(seen.iter().filter(of).cloned().collect::<Vec<_>>(), numbers);
        }
        if in_order {
            let first = seen.iter().position(|line| line.starts_with("3 ")).unwrap();
            let last =
                seen.iter().rposition(|line| line.starts_with("1 ") || line.starts_with("2 ")).unwrap();
            assert!(last < first, "the child came before its parents had ended");
        }
        let leases = &store.groups().unwrap()["group"].leases;
        assert!((0..3).all(|shard| leases[&shard] == LeaseState::Over), "{leases:?}");
        assert_eq!(server.judge(), Judgement::default());
    }
}

#[test]
fn it_consumes_through_a_query_and_a_processor() {
    let Some(python) = python() else { return };
    let processors = vec![("even".to_owned(), "* | where seq like '%0' | project seq".to_owned())];
    let server = SlsServer::start(SlsConfig { processors, ..SlsConfig::default() }).unwrap();
    let payload = Payload::new(Profile::Tiny, 5).with_logs_per_group(25);
    server.store().fill_all(Fill::new(payload, 1000)).unwrap();
    // Who may not list groups makes one and takes it that it was there before.
    server.set_key(AccessKey::new("testAccessKeyId", "testAccessKeySecret").without("log:ListConsumerGroup"));
    let query = serde_json::json!({ "query": "* | where seq like '%0' and seq not in ('0-10', '1-20')" });
    let first = Consumer::with(&python, &server, &["one", "v1", "lz4"], &query);
    let mut seen = take(&first, 198);
    wait_until("both ends", || server.store().is_drained("group").unwrap());
    seen.extend(first.stop());
    seen.sort();
    let mut want: Vec<String> =
        (0..2).flat_map(|shard| (0..100).map(move |n| format!("{shard} {shard}-{}", n * 10))).collect();
    want.retain(|line| line != "0 0-10" && line != "1 1-20");
    want.sort();
    assert_eq!(seen, want);
    assert!(server.stats().refusals.contains_key("Unauthorized"));
    assert!(server.store().delete_group("group").unwrap());
    let processor = serde_json::json!({ "processor": "even" });
    let second = Consumer::with(&python, &server, &["two", "v4", "zstd"], &processor);
    assert_eq!(take(&second, 200).len(), 200);
    wait_until("both ends", || server.store().is_drained("group").unwrap());
    assert_eq!(second.stop(), [""; 0]);
}
