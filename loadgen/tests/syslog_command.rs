//! `loadgen syslog` as a process: starts, receives on several transports, ends on a signal with a verdict.
//!
//! Spec: contract.md, "Commands".
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test, whose helpers may fail it")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

fn start(args: &[&str]) -> (Child, BufReader<ChildStdout>, Vec<String>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .arg("syslog")
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("start");
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    let first: Value = serde_json::from_str(&line).expect("JSON");
    let urls = first["listening"].as_array().expect("urls").iter();
    let addresses =
        urls.map(|url| url.as_str().expect("text").split("://").nth(1).expect("address").to_owned());
    let addresses = addresses.collect();
    (child, stdout, addresses)
}

/// Sends over TCP and waits until the receiver has read all of it.
fn send(address: &str, bytes: &str) {
    let mut stream = TcpStream::connect(address).expect("connect");
    stream.write_all(bytes.as_bytes()).expect("write");
    stream.shutdown(Shutdown::Write).expect("half-close");
    assert_eq!(stream.read(&mut [0; 1]).expect("the end"), 0);
}

fn message(number: u64) -> String {
    format!("<14>1 - h a p m - {{\"seq\":\"0-{number}\"}}")
}

fn end(mut child: Child, mut stdout: BufReader<ChildStdout>, signal: &str) -> (Option<i32>, Value) {
    let done = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill");
    assert!(done.success());
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    (child.wait().expect("exit").code(), serde_json::from_str(&line).expect("JSON"))
}

#[test]
fn ends_on_both_signals_with_a_verdict() {
    for (mode, strict, signal) in [("fast", &[][..], "-TERM"), ("strict", &["--strict"], "-INT")] {
        let args = [&["--listen", "tcp://127.0.0.1:0,tcp://127.0.0.1:0", "--sent", "1x2"], strict].concat();
        let (child, stdout, addresses) = start(&args);
        send(&addresses[0], &format!("{}\n", message(0)));
        send(&addresses[1], &format!("{} {}", message(1).len(), message(1)));
        let (code, result) = end(child, stdout, signal);
        assert_eq!(code, Some(0), "{result}");
        assert_eq!(result["stats"]["mode"], mode);
        assert_eq!((&result["verdict"]["sent"], &result["verdict"]["lost"]), (&2.into(), &0.into()));
        assert_eq!((&result["stats"]["lines"], &result["stats"]["counted_frames"]), (&1.into(), &1.into()));
    }
}

#[test]
fn loss_or_a_broken_rule_is_exit_code_1() {
    let (child, stdout, addresses) = start(&["--listen", "127.0.0.1:0", "--sent", "1x2"]);
    send(&addresses[0], &format!("{}\n", message(1)));
    let (code, result) = end(child, stdout, "-TERM");
    assert_eq!(code, Some(1), "{result}");
    assert_eq!(result["verdict"]["missing"][0], "0-0");

    let (child, stdout, addresses) = start(&["--strict", "--listen", "127.0.0.1:0"]);
    send(&addresses[0], "<14>1 2026-01-02T03:00:45+0800 h a p m - x\n");
    let (code, result) = end(child, stdout, "-TERM");
    assert_eq!(code, Some(1), "{result}");
    let violation = &result["stats"]["violation_samples"][0];
    assert_eq!((&violation["at"], &violation["frame_at"]), (&28.into(), &0.into()), "{violation}");
    assert_eq!(violation["what"], "no colon in the offset");
}

#[test]
fn files_that_were_asked_for_are_written() {
    let dir = std::env::temp_dir().join(format!("loadgen-syslog-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder");
    let file = |name: &str| dir.join(name).to_str().expect("text").to_owned();
    let (ca, client, out) = (file("ca.pem"), file("client.pem"), file("out.jsonl"));
    let listen = "tls://127.0.0.1:0,udp://127.0.0.1:0,tcp://127.0.0.1:0";
    let (child, stdout, addresses) = start(&[
        "--strict",
        "--mtls",
        "--listen",
        listen,
        "--ca-out",
        &ca,
        "--client-out",
        &client,
        "--out",
        &out,
    ]);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
    socket.send_to(message(0).as_bytes(), &addresses[1]).expect("send");
    send(&addresses[2], &format!("{}\n", message(1)));
    let (code, result) = end(child, stdout, "-TERM");
    assert_eq!(code, Some(0), "{result}");
    let read = |path: &str| std::fs::read_to_string(path).expect("a file");
    assert!(read(&ca).starts_with("-----BEGIN CERTIFICATE-----"));
    assert!(read(&client).contains("PRIVATE KEY"));
    let lines = read(&out);
    assert!(
        lines.lines().any(|line| line.contains("\"seq\":\"0-1\"") && line.contains("\"tcp\"")),
        "{lines}"
    );
    std::fs::remove_dir_all(&dir).expect("removed");
}

#[test]
fn a_bad_fault_plan_is_refused_at_once() {
    let done = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["syslog", "--listen", "127.0.0.1:0", "--faults", "message.unheard-of"])
        .output()
        .expect("run");
    assert_eq!(done.status.code(), Some(1));
    assert!(done.stdout.is_empty());
    assert!(String::from_utf8_lossy(&done.stderr).contains("unheard-of"));
}
