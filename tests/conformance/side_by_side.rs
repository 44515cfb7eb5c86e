//! The vendor's own consumer and ours as members of one group.
//!
//! Why: who changes over runs both for a while, and the group is the only thing that they share: heartbeats, leases and
//! checkpoints have to mean the same to both, in both directions.
//! The Python with the SDK is `$SLS2SIEM_SDK_VENV/bin/python`, or `python3` if it has the package; without either the
//! test says that it is skipped, and fails with `CI=true`.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use loadgen::payload::{Payload, Profile};
use loadgen::sls::{Fill, LeaseState};
use serde_json::{Value, json};

use crate::rig::{GROUP, KEY_ID, KEY_SECRET, LOGSTORE, PROJECT, Rig};

const SHARDS: u32 = 4;
const BATCH: u64 = 1_000;
/// Leases of a silent consumer last eight seconds here.
const BOUND: Duration = Duration::from_secs(90);

/// A Python that can import the SDK; none means skip.
fn python() -> Option<PathBuf> {
    let candidate = std::env::var_os("SLS2SIEM_SDK_VENV")
        .map_or_else(|| PathBuf::from("python3"), |venv| PathBuf::from(venv).join("bin/python"));
    let mut import = Command::new(&candidate);
    import.args(["-c", "import aliyun.log"]).stdin(Stdio::null()).stderr(Stdio::null());
    if import.status().is_ok_and(|status| status.success()) {
        return Some(candidate);
    }
    let reason = format!("{} cannot import aliyun-log-python-sdk", candidate.display());
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{reason}");
    eprintln!("skipped: {reason}");
    None
}

/// The vendor's consumer; it prints `shard seq` for each log.
struct Vendor {
    child: Child,
    lines: Receiver<String>,
}

impl Vendor {
    fn start(python: &PathBuf, rig: &Rig, name: &str) -> Self {
        let settings = json!({
            "project": PROJECT, "logstore": LOGSTORE, "key": KEY_ID, "secret": KEY_SECRET,
            "scheme": "https", "port": rig.sls.addr().port(),
        });
        let more = json!({ "heartbeat_interval": 4, "data_fetch_interval": 0.2 });
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/loadgen/tests/vendor_sdk/consume.py");
        let mut command = Command::new(python);
        command.args(["-B", script, GROUP, name, "v1", "lz4"]);
        command.env("EMULATOR", settings.to_string()).env("CONSUME", more.to_string());
        command.env("REQUESTS_CA_BUNDLE", rig.path("ca.pem"));
        for proxy in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(proxy);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("Python starts");
        let output = child.stdout.take().unwrap();
        let (send, lines) = channel();
        thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| send.send(line))
        });
        Self { child, lines }
    }

    /// Asks it to stop and gives the `seq` of all that it has consumed.
    fn stop(mut self) -> Vec<String> {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
        self.lines.iter().map(|line| line.split_once(' ').expect("shard and seq").1.to_owned()).collect()
    }
}

impl Drop for Vendor {
    fn drop(&mut self) {
        // Gone already when it was stopped.
        self.child.kill().ok();
    }
}

fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + BOUND;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within {BOUND:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// How many shards each consumer has.
fn shares(rig: &Rig) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for state in rig.group().map(|group| group.leases).unwrap_or_default().values() {
        if let LeaseState::AlreadyAlloc { holder } = state {
            *shares.entry(holder.clone()).or_insert(0) += 1;
        }
    }
    shares
}

#[test]
fn the_vendors_consumer_and_ours_share_a_group_and_hand_over_both_ways() {
    let Some(python) = python() else { return };
    let rig = Rig::with(
        |sls| {
            sls.shards = SHARDS;
            sls.host = "emulator.test".to_owned();
        },
        |hec| {
            hec.payload = None;
            hec.keep = true;
        },
    );
    let payload = Payload::new(Profile::Mixed, 9).with_logs_per_group(20);
    let more = || rig.sls.store().fill_all(Fill::new(payload, BATCH)).unwrap();
    let share = |shares: &[(&str, usize)]| -> BTreeMap<String, usize> {
        shares.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    };

    // The vendor's has all, then ours takes its half, then all.
    more();
    let first = Vendor::start(&python, &rig, "vendor-1");
    wait("the vendor's consumer has all", || shares(&rig) == share(&[("vendor-1", 4)]));
    let mut ours = rig.forwarder().set("sls.consumer_name", "ours").start();
    ours.wait_until("an even share", BOUND, || shares(&rig) == share(&[("ours", 2), ("vendor-1", 2)]));
    more();
    ours.wait_until("the end of the second batch", BOUND, || rig.is_drained());
    let mut seen = first.stop();
    more();
    ours.wait_until("ours has all", BOUND, || shares(&rig) == share(&[("ours", 4)]));
    ours.wait_until("the end of the third batch", BOUND, || rig.is_drained());

    // And back.
    let second = Vendor::start(&python, &rig, "vendor-2");
    ours.wait_until("an even share again", BOUND, || shares(&rig) == share(&[("ours", 2), ("vendor-2", 2)]));
    more();
    ours.wait_until("the end of the fourth batch", BOUND, || rig.is_drained());
    ours.stop();
    more();
    wait("the vendor's consumer has all again", || shares(&rig) == share(&[("vendor-2", 4)]));
    wait("the end of the fifth batch", || rig.is_drained());
    seen.extend(second.stop());

    let events = rig.hec.events();
    let seq = |envelope: &str| -> String {
        let event: Value = serde_json::from_str(envelope).unwrap();
        event["event"]["seq"].as_str().expect("seq").to_owned()
    };
    let delivered: Vec<String> = events.iter().map(|event| seq(&event.envelope)).collect();
    assert!(!seen.is_empty() && !delivered.is_empty());
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for seq in seen.iter().chain(&delivered) {
        *times.entry(seq).or_insert(0) += 1;
    }
    for number in (0..SHARDS).flat_map(|shard| (0..5 * BATCH).map(move |n| format!("{shard}-{n}"))) {
        assert_eq!(times.get(number.as_str()), Some(&1), "{number}");
    }
    assert_eq!(times.len() as u64, u64::from(SHARDS) * 5 * BATCH);
    let judgement = rig.sls.judge();
    assert!(judgement.stray_commits.is_empty() && judgement.stray_pulls.is_empty(), "{judgement:#?}");
    assert_eq!(judgement.unknown_agents, [""; 0]);
    assert_eq!(ours.complaints(), [""; 0]);
}
