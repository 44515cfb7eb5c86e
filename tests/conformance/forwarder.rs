//! One running `sls2siem`: started as a user starts it, watched from outside.
//!
//! Why: exit codes, signals, log lines and the admin page exist only for the real process.
//! Invariants: 1. a forwarder that is dropped is killed. 2. its whole output is searched for the secrets, and for
//! signs of a panic, however the test ends. Bounds: its output is kept in memory. Driven by: the tests.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::rig::{KEY_SECRET, PATIENCE, TOKEN};

/// A forwarder that is about to be started.
pub(crate) struct Start {
    command: Command,
    secrets: Vec<String>,
}

impl Start {
    /// `run` with this settings file and nothing from our environment.
    pub(crate) fn new(file: &Path) -> Self {
        let mut start = Self::bare();
        start.command.arg("--config").arg(file);
        start
    }

    /// `run` without a file.
    pub(crate) fn bare() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sls2siem"));
        command.arg("run").env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, secrets: vec![KEY_SECRET.to_owned(), TOKEN.to_owned()] }
    }

    /// Changes one setting.
    pub(crate) fn set(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.command.arg("--set").arg(format!("{key}={value}"));
        self
    }

    /// One more variable of the environment.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// One more text that no output may hold.
    pub(crate) fn secret(mut self, text: &str) -> Self {
        self.secrets.push(text.to_owned());
        self
    }

    /// Gives up at the start.
    pub(crate) fn fail_fast(mut self) -> Self {
        self.command.arg("--fail-fast");
        self
    }

    /// Starts it.
    pub(crate) fn start(mut self) -> Forwarder {
        let mut child = self.command.spawn().expect("the program starts");
        Forwarder {
            stderr: Output::of(child.stderr.take().unwrap()),
            stdout: Output::of(child.stdout.take().unwrap()),
            secrets: self.secrets,
            child,
        }
    }
}

/// The running process.
pub(crate) struct Forwarder {
    child: Child,
    stderr: Output,
    stdout: Output,
    secrets: Vec<String>,
}

/// The four parts of a message, each given by words that it must hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trouble<'a> {
    /// What failed, and where.
    pub(crate) what: &'a [&'a str],
    /// As received.
    pub(crate) cause: &'a [&'a str],
    /// Whether data is safe.
    pub(crate) safe: &'a [&'a str],
    /// What to do.
    pub(crate) todo: &'a [&'a str],
}

impl Forwarder {
    /// Waits until this holds, while the process runs.
    pub(crate) fn wait_until(&mut self, what: &str, bound: Duration, mut holds: impl FnMut() -> bool) {
        let end = Instant::now() + bound;
        while !holds() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{what}: the forwarder ended with {status}\n{}", self.text());
            }
            assert!(Instant::now() < end, "{what}: not within {bound:?}\n{}", self.text());
            thread::sleep(LOOK);
        }
    }

    /// Waits until its own answers say so.
    pub(crate) fn wait_metrics(&mut self, what: &str, holds: impl Fn(&Metrics) -> bool) {
        let end = Instant::now() + PATIENCE;
        loop {
            let metrics = self.metrics();
            if holds(&metrics) {
                return;
            }
            assert!(Instant::now() < end, "{what}\n{metrics:?}\n{}", self.text());
            thread::sleep(LOOK);
        }
    }

    /// Waits for a line of the log that holds all of this, in this order.
    pub(crate) fn line(&mut self, parts: &[&str]) -> String {
        self.line_within(parts, PATIENCE)
    }

    /// The same, with another bound.
    pub(crate) fn line_within(&mut self, parts: &[&str], bound: Duration) -> String {
        let end = Instant::now() + bound;
        let mut looked_at = 0;
        loop {
            self.stderr.take();
            while let Some(line) = self.stderr.lines.get(looked_at) {
                looked_at += 1;
                if holds_in_order(line, parts) {
                    return line.clone();
                }
            }
            let may_come = Instant::now() < end && !self.stderr.has_ended;
            assert!(may_come, "no line with {parts:?}\n{}", self.text());
            thread::sleep(LOOK);
        }
    }

    /// Waits for a message with these four parts, in this order.
    pub(crate) fn trouble(&mut self, trouble: &Trouble<'_>) -> String {
        let Trouble { what, cause, safe, todo } = *trouble;
        self.line(&[&[" WARN "], what, &[" ("], cause, &[") - "], safe, &[" - "], todo].concat())
    }

    /// Lines of the log so far that hold this.
    pub(crate) fn lines_with(&mut self, part: &str) -> Vec<String> {
        self.stderr.take();
        self.stderr.lines.iter().filter(|line| line.contains(part)).cloned().collect()
    }

    /// Lines of standard output so far.
    pub(crate) fn printed(&mut self) -> &[String] {
        self.stdout.take();
        &self.stdout.lines
    }

    /// Warnings and errors so far.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        [self.lines_with(" WARN "), self.lines_with(" ERROR ")].concat()
    }

    /// True while the process lives.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, named as `kill` names it.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(status.unwrap().success(), "kill -{name}");
    }

    /// Waits for the end of the process.
    pub(crate) fn ended(&mut self, bound: Duration) -> ExitStatus {
        let end = Instant::now() + bound;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.stderr.rest();
                self.stdout.rest();
                return status;
            }
            assert!(Instant::now() < end, "it does not end within {bound:?}\n{}", self.text());
            thread::sleep(LOOK);
        }
    }

    /// Stops it politely; it has to drain and end with 0.
    pub(crate) fn stop(&mut self) {
        self.signal("TERM");
        let status = self.ended(PATIENCE);
        assert_eq!(status.code(), Some(0), "{status}\n{}", self.text());
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.ended(PATIENCE);
    }

    /// Its answer to a path of the admin page: status and body.
    pub(crate) fn ask(&mut self, path: &str) -> (u16, String) {
        let line = self.line(&["admin page", "http://"]);
        let address = line.split("http://").nth(1).unwrap().trim_end_matches('/');
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut answer = agent.get(format!("http://{address}{path}")).call().expect("the admin page answers");
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    }

    /// Waits until a path of the admin page answers so.
    pub(crate) fn wait_answer(&mut self, path: &str, what: &str, holds: impl Fn(u16, &str) -> bool) {
        let end = Instant::now() + PATIENCE;
        loop {
            let (status, text) = self.ask(path);
            if holds(status, &text) {
                return;
            }
            assert!(Instant::now() < end, "{path} never says {what}, but {status} {text}\n{}", self.text());
            thread::sleep(LOOK);
        }
    }

    /// Its metrics now.
    pub(crate) fn metrics(&mut self) -> Metrics {
        let (status, text) = self.ask("/metrics");
        assert_eq!(status, 200);
        Metrics::parse(&text)
    }

    /// Resident memory in bytes.
    pub(crate) fn rss_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The most that was resident so far.
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
    }

    /// Everything that it printed, for failures.
    pub(crate) fn text(&mut self) -> String {
        self.stderr.take();
        let skipped = self.stderr.lines.len().saturating_sub(LINES_SHOWN);
        let mut text = format!("log of the forwarder ({skipped} lines left out):\n");
        for line in &self.stderr.lines[skipped..] {
            let _ = writeln!(text, "  {line}");
        }
        text
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
        self.stderr.rest();
        self.stdout.rest();
        if thread::panicking() {
            return;
        }
        for line in self.stderr.lines.iter().chain(&self.stdout.lines) {
            for secret in &self.secrets {
                assert!(!line.contains(secret.as_str()), "a secret is shown: {line}");
            }
            assert!(!line.contains("panicked at"), "{line}");
        }
    }
}

/// Samples of `/metrics` by name and labels.
#[derive(Debug)]
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.strip_prefix("sls2siem_")?.to_owned(), value.parse().ok()?))
        });
        Self(samples.collect())
    }

    /// The sum of all samples of this name.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are small")]
    pub(crate) fn sum(&self, name: &str) -> u64 {
        let is_of = |key: &str| {
            key.strip_prefix(name).is_some_and(|labels| labels.is_empty() || labels.starts_with('{'))
        };
        let found: Vec<f64> = self.0.iter().filter(|(key, _)| is_of(key)).map(|(_, value)| *value).collect();
        assert!(!found.is_empty(), "no metric {name}: {self:?}");
        found.iter().sum::<f64>() as u64
    }
}

/// Lines of a pipe, collected by a thread.
struct Output {
    inbox: Receiver<String>,
    lines: Vec<String>,
    has_ended: bool,
}

impl Output {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let (sender, inbox) = channel();
        thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        Self { inbox, lines: Vec::new(), has_ended: false }
    }

    fn take(&mut self) {
        loop {
            match self.inbox.try_recv() {
                Ok(line) => self.lines.push(line),
                Err(error) => {
                    self.has_ended = error == std::sync::mpsc::TryRecvError::Disconnected;
                    return;
                }
            }
        }
    }

    /// Everything until the pipe is closed.
    fn rest(&mut self) {
        self.lines.extend(self.inbox.iter());
        self.has_ended = true;
    }
}

/// Whether `line` holds all parts, one behind the other.
fn holds_in_order(line: &str, parts: &[&str]) -> bool {
    let mut rest = line;
    for part in parts {
        let Some((_, behind)) = rest.split_once(part) else { return false };
        rest = behind;
    }
    true
}

pub(crate) const LOOK: Duration = Duration::from_millis(20);
const LINES_SHOWN: usize = 60;
