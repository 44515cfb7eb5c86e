//! A forwarder as a process that is started, frozen, killed and started again.
//!
//! Why: each life has an end that was wanted; one that ends by itself has a fault.
//! Invariants: 1. it is killed when it is dropped. 2. the log of each life stays in a file of its own.
//! Bounds: [`START`] to answer, [`STOP`] to drain. Driven by: `storm`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::server::signal;

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_mins(1);

/// One life.
pub(crate) struct Forwarder {
    child: Child,
    log: PathBuf,
}

impl Forwarder {
    /// `before` runs it: `prlimit` and the like.
    pub(crate) fn start(before: &[String], config: &Path, log: &Path) -> Self {
        let run = [env!("CARGO_BIN_EXE_sls2siem"), "run", "--config", config.to_str().unwrap()];
        let words: Vec<&str> = before.iter().map(String::as_str).chain(run).collect();
        let output = File::create(log).unwrap();
        let child = Command::new(words[0])
            .args(&words[1..])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Self { child, log: log.to_owned() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.ended().is_some()
    }

    /// Its own numbers and answers; none while it cannot answer.
    pub(crate) fn ask(&self, path: &str) -> Option<(u16, String)> {
        let log = fs::read_to_string(&self.log).ok()?;
        let line = log.lines().find(|line| line.contains("admin page"))?;
        let address = line.split("http://").nth(1)?.trim_end_matches('/');
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(2)));
        let agent: ureq::Agent = config.build().into();
        let mut answer = agent.get(format!("http://{address}{path}")).call().ok()?;
        let text = answer.body_mut().read_to_string().ok()?;
        Some((answer.status().as_u16(), text))
    }

    /// The sum of a metric.
    pub(crate) fn sum(&self, name: &str) -> u64 {
        let Some((200, text)) = self.ask("/metrics") else { return 0 };
        let name = format!("sls2siem_{name}");
        let of = |line: &&str| line.starts_with(&name) && line[name.len()..].starts_with(['{', ' ']);
        let values = text.lines().filter(of).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.sum::<f64>() as u64
    }

    /// All of its threads work: it answers, and says so.
    pub(crate) fn wait_well(&mut self, why: &str) {
        let end = Instant::now() + START;
        let mut last = None;
        while Instant::now() < end {
            if let Some(status) = self.ended() {
                panic!("{why}: it ended with {status}\n{}", self.tail());
            }
            last = self.ask("/healthz");
            if matches!(last, Some((200, _))) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("{why}: it is not well within {START:?}: {last:?}\n{}", self.tail());
    }

    pub(crate) fn kill(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }

    /// Asks it to end and waits for that.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        signal(self.pid(), "TERM");
        let end = Instant::now() + STOP;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(Instant::now() < end, "it does not end within {STOP:?}\n{}", self.tail());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// This stands somewhere in its log.
    pub(crate) fn has_said(&self, text: &str) -> bool {
        fs::read_to_string(&self.log).unwrap().contains(text)
    }

    /// The end of its log.
    pub(crate) fn tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.kill();
    }
}
