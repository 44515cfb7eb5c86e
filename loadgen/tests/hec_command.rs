//! `loadgen hec` as a process: starts, serves, ends on a signal with a verdict.
//!
//! Spec: contract.md, "Commands".
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test, whose helpers may fail it")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

fn start(args: &[&str]) -> (Child, BufReader<ChildStdout>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["hec", "--plain", "--listen", "127.0.0.1:0", "--token", "t"])
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("start");
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    let first: Value = serde_json::from_str(&line).expect("JSON");
    let url = first["listening"].as_str().expect("url").to_owned();
    (child, stdout, url.trim_start_matches("http://").to_owned())
}

fn post(address: &str, body: &str) {
    let mut stream = TcpStream::connect(address).expect("connect");
    let head = "POST /services/collector/event HTTP/1.1\r\nHost: s\r\nUser-Agent: t\r\nConnection: close\r\n";
    write!(stream, "{head}Authorization: Splunk t\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .expect("write");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answer");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
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
    for (mode, args, signal) in
        [("fast", &["--sent", "1x2"][..], "-TERM"), ("strict", &["--strict", "--sent", "1x2"], "-INT")]
    {
        let (child, stdout, address) = start(args);
        post(&address, "{\"event\":{\"seq\":\"0-0\"}}{\"event\":{\"seq\":\"0-1\"}}");
        let (code, result) = end(child, stdout, signal);
        assert_eq!(code, Some(0), "{result}");
        assert_eq!(result["stats"]["mode"], mode);
        assert_eq!((&result["verdict"]["sent"], &result["verdict"]["lost"]), (&2.into(), &0.into()));
    }
}

#[test]
fn loss_is_exit_code_1() {
    let (child, stdout, address) = start(&["--sent", "1x2"]);
    post(&address, "{\"event\":{\"seq\":\"0-1\"}}");
    let (code, result) = end(child, stdout, "-TERM");
    assert_eq!(code, Some(1), "{result}");
    assert_eq!(result["verdict"]["missing"][0], "0-0");
}

#[test]
fn a_bad_fault_plan_is_refused_at_once() {
    let done = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["hec", "--plain", "--listen", "127.0.0.1:0", "--faults", "event.unheard-of"])
        .output()
        .expect("run");
    assert_eq!(done.status.code(), Some(1));
    assert!(done.stdout.is_empty());
    assert!(String::from_utf8_lossy(&done.stderr).contains("unheard-of"));
}
