//! `sls2siem tap` and `top` beside a running forwarder: what they show, what they hide, and that they cost nothing.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::forwarder::{Forwarder, LOOK};
use crate::rig::{KEY_SECRET, PATIENCE, Rig, TOKEN};

/// The program with these arguments.
fn command(forwarder: &mut Forwarder, name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sls2siem"));
    command.arg(name).args(["--admin", &address(forwarder)]).args(args).env_clear().stdin(Stdio::null());
    command
}

fn address(forwarder: &mut Forwarder) -> String {
    let line = forwarder.line(&["admin page", "http://"]);
    line.split("http://").nth(1).unwrap().trim_end_matches('/').to_owned()
}

fn text(output: &Output) -> (String, String) {
    (String::from_utf8(output.stdout.clone()).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn events_are_seen_on_their_way_and_arrive_exactly_once() {
    let mut rig = Rig::new();
    rig.fill_over(1_000, Some(Duration::from_secs(10)));
    let mut forwarder = rig.forwarder().set("admin.tap", true).start();
    forwarder.wait_metrics("logs flow", |metrics| metrics.sum("acked_records_total") > 0);
    let output = command(&mut forwarder, "tap", &["-n", "20", "--pipeline", "default"]).output().unwrap();
    let (out, notes) = text(&output);
    assert_eq!(output.status.code(), Some(0), "{notes}");
    let events: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert_eq!(events.len(), 20, "{notes}");
    assert!(events.iter().all(|event| event["time"].is_number() && event["event"].is_object()), "{out}");
    assert!(notes.contains("20 events shown"), "{notes}");

    // Every value hidden, the keys shown.
    let output = command(&mut forwarder, "tap", &["-n", "5", "--mask-all"]).output().unwrap();
    let (out, _) = text(&output);
    assert_eq!(out.lines().count(), 5);
    for line in out.lines() {
        let event: Value = serde_json::from_str(line).expect(line);
        assert!(event["event"].as_object().unwrap().values().all(|value| value == "***"), "{line}");
    }
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
    forwarder.stop();
    rig.assert_exact();
    rig.assert_commits();
}

#[test]
fn named_fields_are_hidden_and_names_that_hide_nothing_are_told() {
    let mut rig = Rig::new();
    rig.fill_over(1_000, Some(Duration::from_secs(10)));
    let mut forwarder = rig.forwarder().set("admin.tap", true).start();
    forwarder.wait_metrics("logs flow", |metrics| metrics.sum("acked_records_total") > 0);
    let output =
        command(&mut forwarder, "tap", &["-n", "30", "--mask", "seq,no_such_field"]).output().unwrap();
    let (out, notes) = text(&output);
    assert_eq!(out.lines().count(), 30, "{notes}");
    for line in out.lines() {
        let event: Value = serde_json::from_str(line).expect(line);
        assert_eq!(event["event"]["seq"], "***", "every log has its number: {line}");
        assert!(event["time"].is_number(), "and the rest is there: {line}");
    }
    assert!(notes.contains("nothing was hidden for no_such_field: "), "{notes}");
    forwarder.stop();
}

#[test]
fn without_the_setting_nothing_is_shown() {
    let mut rig = Rig::new();
    rig.fill(100);
    let mut forwarder = rig.forwarder().start();
    forwarder.wait_until("checkpoints at the ends", PATIENCE, || rig.is_drained());
    let output = command(&mut forwarder, "tap", &["-n", "1"]).output().unwrap();
    let (out, notes) = text(&output);
    assert_eq!((output.status.code(), out.as_str()), (Some(77), ""), "{notes}");
    assert!(notes.contains("set [admin] tap = true and reload (SIGHUP)") && notes.contains("403"), "{notes}");
    forwarder.stop();
    // And where nobody listens.
    let mut command = Command::new(env!("CARGO_BIN_EXE_sls2siem"));
    let port = crate::rig::closed_port();
    let output = command.args(["tap", "--admin", &format!("127.0.0.1:{port}")]).output().unwrap();
    assert_eq!(output.status.code(), Some(69), "{}", text(&output).1);
}

#[test]
fn a_client_that_does_not_read_slows_nothing_and_hears_what_it_missed() {
    let mut rig = Rig::new();
    rig.fill_over(10_000, Some(Duration::from_secs(10)));
    let mut forwarder = rig.forwarder().set("admin.tap", true).set("hec.batch_bytes", "256KiB").start();
    // The page is up before the pipelines are: a look that comes so early misses nothing.
    let mut stream = TcpStream::connect(address(&mut forwarder)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET /tap HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
    // More than every buffer on the way can hold has been copied or dropped; a copy that comes afterwards tells.
    let mut lines = BufReader::new(&mut stream).lines();
    let mut shown = 0_u64;
    let end = Instant::now() + PATIENCE;
    let missing = loop {
        assert!(Instant::now() < end, "{shown} shown, nothing missing");
        let Ok(document) = serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()) else { continue };
        shown += u64::from(document.get("event").is_some());
        if document.get("alive").is_some() {
            rig.fill(50);
        }
        if let Some(missing) = document.get("not_shown") {
            break missing["events"].as_u64().unwrap();
        }
    };
    assert!(missing > 0 && shown > 0);
    drop(lines);
    drop(stream);
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
    forwarder.stop();
    rig.assert_exact();
}

#[test]
fn a_look_ends_with_the_process_and_with_a_signal() {
    let mut rig = Rig::new();
    rig.fill(100);
    let mut forwarder = rig.forwarder().set("admin.tap", true).start();
    forwarder.wait_until("checkpoints at the ends", PATIENCE, || rig.is_drained());
    let start = |forwarder: &mut Forwarder| {
        let mut command = command(forwarder, "tap", &[]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    // A first event shows that it is attached.
    let (mut one, mut two) = (start(&mut forwarder), start(&mut forwarder));
    let (sender, seen) = std::sync::mpsc::channel();
    for looker in [&mut one, &mut two] {
        let (mut events, sender) = (BufReader::new(looker.stdout.take().unwrap()), sender.clone());
        thread::spawn(move || {
            let mut line = String::new();
            events.read_line(&mut line).unwrap();
            sender.send(line).unwrap();
            // To the end, or it could not write.
            let _ended = std::io::copy(&mut events, &mut std::io::sink());
        });
    }
    let (mut attached, end) = (0, Instant::now() + PATIENCE);
    while attached < 2 {
        assert!(Instant::now() < end, "{attached} of two look on\n{}", forwarder.text());
        rig.fill(50);
        let line = seen.recv_timeout(Duration::from_millis(300));
        attached += usize::from(line.is_ok_and(|line| line.contains("event")));
    }
    let killed = Command::new("kill").arg("-INT").arg(one.id().to_string()).status().unwrap();
    assert!(killed.success());
    assert_eq!(one.wait().unwrap().code(), Some(0));
    forwarder.wait_until("checkpoints at the ends", PATIENCE, || rig.is_drained());
    forwarder.stop();
    assert_eq!(two.wait().unwrap().code(), Some(0));
    let mut notes = String::new();
    two.stderr.take().unwrap().read_to_string(&mut notes).unwrap();
    assert!(notes.contains("the process that was looked at has stopped"), "{notes}");
    rig.assert_exact();
}

#[test]
fn the_figures_are_a_document_and_a_table() {
    let mut rig = Rig::new();
    rig.fill(100);
    let mut forwarder = rig.forwarder().start();
    forwarder.wait_until("checkpoints at the ends", PATIENCE, || rig.is_drained());
    forwarder.wait_answer("/status.json", "that it works", |status, text| {
        let document: Value = serde_json::from_str(text).unwrap();
        let pipeline = &document["pipelines"][0];
        status == 200
            && document["format"] == 1
            && document["ready"] == true
            && pipeline["state"] == "ok"
            && pipeline["acked_records"] == 200
            && pipeline["shards"].as_array().is_some_and(|shards| shards.len() == 2)
    });
    let (_, document) = forwarder.ask("/status.json");
    for secret in [TOKEN, KEY_SECRET] {
        assert!(!document.contains(secret), "{document}");
    }
    forwarder.wait_answer("/readyz", "that it works", |status, _| status == 200);
    let output = command(&mut forwarder, "top", &[]).output().unwrap();
    let (out, notes) = text(&output);
    assert_eq!((output.status.code(), notes.as_str()), (Some(0), ""), "{out}");
    assert!(out.starts_with("sls2siem ") && out.contains("ready: logs can flow"), "{out}");
    let rows = out.lines().filter(|line| line.starts_with("default "));
    assert_eq!(rows.count(), 3, "a pipeline and two shards: {out}");
    forwarder.stop();
}

#[test]
fn the_screen_is_drawn_and_put_back() {
    let mut rig = Rig::new();
    rig.fill(100);
    let mut forwarder = rig.forwarder().start();
    forwarder.wait_until("checkpoints at the ends", PATIENCE, || rig.is_drained());
    forwarder.wait_answer("/readyz", "that it works", |status, _| status == 200);
    let Some(mut terminal) = terminal(&mut forwarder, "") else { return };
    let mut screen = terminal.stdout.take().unwrap();
    let mut keys = terminal.stdin.take().unwrap();
    let (mut seen, mut buffer, mut quit) = (Vec::new(), [0; 4096], false);
    loop {
        let read = screen.read(&mut buffer).unwrap();
        seen.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&seen);
        if !quit && ["SHARDS OF", "q quit", "core "].iter().all(|part| text.contains(part)) {
            // Another order of the shards, then the end.
            keys.write_all(b"sq").unwrap();
            quit = true;
        }
        if read == 0 {
            break;
        }
    }
    assert_eq!(terminal.wait().unwrap().code(), Some(0));
    let text = String::from_utf8_lossy(&seen);
    assert!(text.contains("ready: logs can flow"), "{text:?}");
    let (entered, left) = (text.find("\u{1b}[?1049h").unwrap(), text.rfind("\u{1b}[?1049l").unwrap());
    assert!(entered < left && text.rfind("\u{1b}[?25h").unwrap() > entered, "{text:?}");
    forwarder.stop();
}

/// A terminal that is closed ends it, also where somebody wanted SIGHUP to be ignored: it must not spin without one.
#[test]
fn a_terminal_that_is_gone_ends_it() {
    let mut rig = Rig::new();
    rig.fill(100);
    let mut forwarder = rig.forwarder().start();
    forwarder.wait_until("checkpoints at the ends", PATIENCE, || rig.is_drained());
    let Some(mut terminal) = terminal(&mut forwarder, "trap '' HUP; ") else { return };
    let mut screen = terminal.stdout.take().unwrap();
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&seen).contains("SHARDS OF") {
        let read = screen.read(&mut buffer).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..read]);
    }
    let id = terminal.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    let top = Path::new("/proc").join(children.trim());
    assert_eq!(fs::read_to_string(top.join("comm")).unwrap().trim(), "sls2siem");
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    let end = Instant::now() + PATIENCE;
    // A child that nobody waits for stays as a zombie until somebody does.
    while fs::read_to_string(top.join("stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < end, "it goes on without a terminal");
        thread::sleep(LOOK);
    }
    forwarder.stop();
}

/// `top` in a terminal, after some words of the shell; none where there is no `script`.
fn terminal(forwarder: &mut Forwarder, before: &str) -> Option<Child> {
    let program = env!("CARGO_BIN_EXE_sls2siem");
    let line = format!("{before}stty rows 24 cols 100; exec {program} top --admin {}", address(forwarder));
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").env("NO_COLOR", "1");
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    if spawned.is_err() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI has to have script");
        eprintln!("skipped: there is no script here");
    }
    spawned.ok()
}
