//! `sls2siem demo` as a user starts it: servers, forwarder and verdict, with and without trouble on the way.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test binary: what cannot be started is a failure, and real processes take real time"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A demo whose folder is in `folder`, so that what it leaves behind can be seen.
fn demo(args: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sls2siem"));
    // Settings of the caller must not reach the forwarder.
    let strangers =
        [("SLS_PROJECT", "another"), ("HEC_URL", "https://192.0.2.1:8088"), ("SLS2SIEM_NO__KEY", "1")];
    command.arg("demo").args(args).env("TMPDIR", folder).envs(strangers);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let ran = demo(args, folder.path()).output().expect("the program starts");
    let (code, stdout, stderr) = read(&ran);
    assert_eq!(left_behind(folder.path()).is_some(), code == Some(1), "{stdout}\n{stderr}");
    (code, stdout, stderr)
}

fn read(ran: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("output is UTF-8");
    (ran.status.code(), text(&ran.stdout), text(&ran.stderr))
}

fn left_behind(folder: &Path) -> Option<PathBuf> {
    fs::read_dir(folder).unwrap().next().map(|entry| entry.unwrap().path())
}

/// The text behind a name at the beginning of a line.
fn field<'a>(page: &'a str, name: &str) -> &'a str {
    page.lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_else(|| panic!("no {name} in {page}"))
        .trim()
}

fn number(text: &str) -> u64 {
    let digits: String = text.split(' ').next().unwrap().chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number in {text}"))
}

/// What every run must show that passed.
fn assert_all_delivered(stdout: &str) {
    let sent = number(field(stdout, "sent"));
    assert!(sent > 500, "{stdout}");
    assert_eq!(number(field(stdout, "delivered")), sent, "{stdout}");
    assert_eq!(field(stdout, "lost"), "0", "{stdout}");
    assert_eq!(field(stdout, "changed"), "0", "{stdout}");
    assert!(field(stdout, "checkpoints").ends_with("yes"), "{stdout}");
    assert!(field(stdout, "verdict").contains("PASSED"), "{stdout}");
}

#[test]
fn everything_arrives_once_at_the_rate_that_was_asked_for() {
    let (code, stdout, stderr) = run(&["--seconds", "3", "--rate", "500KB/s"]);
    assert_eq!(code, Some(0), "{stdout}\n{stderr}");
    assert_all_delivered(&stdout);
    assert_eq!(field(&stdout, "duplicates"), "0", "{stdout}");
    assert_eq!(field(&stdout, "out of order"), "0", "{stdout}");
    // 3 s at 500 KB/s; a loaded machine ends a little late, a source that bursts has half a second more.
    let tenths = number(field(&stdout, "sent").split(", ").nth(1).unwrap());
    assert!((13..=16).contains(&tenths), "{stdout}");
    assert!(field(&stdout, "sink").contains("strict"), "{stdout}");
    assert!(stderr.lines().filter(|line| line.starts_with("second ")).count() >= 3, "{stderr}");
}

#[test]
fn nothing_is_lost_when_both_ends_make_trouble() {
    let faults = "hec.503=20%,pull.tear=10%,pull.503@2,hec.reset-after@3,ack.reset@2";
    let (code, stdout, stderr) = run(&["--seconds", "3", "--rate", "500KB/s", "--fault", faults]);
    assert_eq!(code, Some(0), "{stdout}\n{stderr}");
    assert_all_delivered(&stdout);
    for rule in ["pull.503@2", "event.reset-after@3"] {
        let hit =
            stdout.lines().find(|line| line.contains(rule)).unwrap_or_else(|| panic!("{rule}: {stdout}"));
        assert!(!hit.ends_with(": 0 times"), "{stdout}");
    }
}

#[test]
fn everything_arrives_once_over_syslog_too() {
    let (code, stdout, stderr) = run(&["--sink", "syslog", "--seconds", "3", "--rate", "500KB/s"]);
    assert_eq!(code, Some(0), "{stdout}\n{stderr}");
    assert_all_delivered(&stdout);
    assert_eq!(field(&stdout, "duplicates"), "0", "{stdout}");
    assert!(field(&stdout, "sink").starts_with("syslog, strict"), "{stdout}");
}

#[test]
fn nothing_is_lost_when_a_syslog_sink_makes_trouble() {
    let faults = "syslog.reset@300,eof.reset@1,syslog.close@900,pull.tear=10%";
    let (code, stdout, stderr) =
        run(&["--sink", "syslog", "--seconds", "4", "--rate", "500KB/s", "--fault", faults]);
    assert_eq!(code, Some(0), "{stdout}\n{stderr}");
    assert_all_delivered(&stdout);
    for rule in ["message.reset@300", "eof.reset@1", "message.close@900"] {
        let hit =
            stdout.lines().find(|line| line.contains(rule)).unwrap_or_else(|| panic!("{rule}: {stdout}"));
        assert!(!hit.ends_with(": 0 times"), "{stdout}");
    }
}

#[test]
fn a_forwarder_that_dies_is_reported_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let demo = demo(&["--seconds", "60", "--rate", "500KB/s"], folder.path()).spawn().unwrap();
    let forwarder = forwarder_of(&demo);
    std::thread::park_timeout(Duration::from_secs(2));
    signal("KILL", forwarder);
    let killed = Instant::now();
    let (code, stdout, stderr) = read(&demo.wait_with_output().unwrap());
    assert!(killed.elapsed() < Duration::from_secs(10), "{stderr}");
    assert_eq!(code, Some(1), "{stdout}\n{stderr}");
    assert!(stdout.contains("FAILED") && stdout.contains("signal: 9"), "{stdout}");
    let log = PathBuf::from(field(&stdout, "all of it:"));
    assert!(fs::read_to_string(&log).unwrap().contains("shard 0"), "{}", log.display());
    let settings = fs::read_to_string(log.with_file_name("sls2siem.toml")).unwrap();
    assert!(!settings.contains("access_key_secret =") && !settings.contains("token ="), "{settings}");
}

#[test]
fn an_interrupt_ends_it_early_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let demo = demo(&["--seconds", "60", "--rate", "500KB/s"], folder.path()).spawn().unwrap();
    let forwarder = forwarder_of(&demo);
    std::thread::park_timeout(Duration::from_secs(3));
    signal("INT", demo.id());
    let (code, stdout, stderr) = read(&demo.wait_with_output().unwrap());
    assert_eq!(code, Some(0), "{stdout}\n{stderr}");
    assert!(stdout.contains("stopped early"), "{stdout}");
    assert_all_delivered(&stdout);
    assert!(!Path::new(&format!("/proc/{forwarder}")).exists(), "the forwarder is still there");
    assert_eq!(left_behind(folder.path()), None);
}

#[test]
fn a_fault_that_no_server_knows_is_wrong_usage() {
    for wrong in ["503=5%", "hec.frobnicate", "pull.503=200%", "syslog.frobnicate@3"] {
        let (code, stdout, stderr) = run(&["--fault", wrong]);
        assert_eq!((code, stdout.as_str()), (Some(64), ""), "{stderr}");
        assert!(stderr.contains("--fault") && stderr.contains(wrong.split('=').next().unwrap()), "{stderr}");
    }
    let (code, _, stderr) = run(&["--fault", "message.reset@3"]);
    assert!(code == Some(64) && stderr.contains("is for the syslog sink"), "{stderr}");
    let (code, _, stderr) = run(&["--rate", "100GB/s", "--seconds", "86400"]);
    assert_eq!(code, Some(64), "{stderr}");
}

/// The demo's only child, once it has one that holds its shards.
fn forwarder_of(demo: &Child) -> u32 {
    let deadline = Instant::now() + Duration::from_mins(1);
    while Instant::now() < deadline {
        std::thread::park_timeout(Duration::from_millis(50));
        if let Some(child) = child_of(demo.id()) {
            return child;
        }
    }
    panic!("the demo started no forwarder");
}

fn child_of(parent: u32) -> Option<u32> {
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let (_, rest) = stat.rsplit_once(')')?;
        (rest.split_whitespace().nth(1)?.parse() == Ok(parent)).then_some(id)
    })
}

fn signal(name: &str, id: u32) {
    let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {id}")).status().unwrap();
    assert!(sent.success(), "no process {id}");
}
