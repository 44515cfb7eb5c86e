//! The forwarder of the demo: this very program, started with `run`, as a process of its own.
//!
//! Why: what is shown must be what is shipped: settings from a file, secrets from the environment, signals, an exit
//! code, and a CPU share that no thread of the demo is mixed into.
//! Invariants: 1. nothing of the caller's environment reaches it that could be a setting. 2. it never outlives the
//! demo. 3. a signal of the terminal reaches the demo only, which then stops the forwarder in order.
//! Bounds: [`LOG_BYTES_MAX`] of log on disk, [`TAIL_LINES`] lines in memory.
//! Driven by: [`super`].   Spec: settings and exit codes of the reference in README.md.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::SyncSender;
use std::thread;

use super::Event;
use crate::config::Environment;
use crate::drive::child;

/// What it is started with.
#[derive(Debug)]
pub(super) struct Spec<'a> {
    /// Folder for its settings and its log.
    pub(super) folder: &'a Path,
    /// The settings, as TOML.
    pub(super) settings: String,
    /// Secrets, as environment.
    pub(super) secrets: Vec<(&'static str, String)>,
    /// The caller's environment.
    pub(super) env: &'a Environment,
}

/// The running forwarder; killed when this is dropped.
#[derive(Debug)]
pub(super) struct Forwarder {
    child: Child,
    ended: Option<ExitStatus>,
    log: PathBuf,
    tail: VecDeque<String>,
    admin: Option<SocketAddr>,
}

impl Forwarder {
    /// Starts it; its log lines arrive as events.
    pub(super) fn start(spec: &Spec<'_>, events: SyncSender<Event>) -> io::Result<Self> {
        let settings = spec.folder.join("sls2siem.toml");
        std::fs::write(&settings, &spec.settings)?;
        let log = spec.folder.join("forwarder.log");
        let file = File::create(&log)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("run").arg("--config").arg(&settings).env_clear();
        command.envs(spec.env.iter().filter(|(name, _)| KEPT.contains(&name.as_str())));
        command.envs(spec.secrets.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // Invariant 3.
        command.process_group(0);
        child::end_with_parent(&mut command);
        let mut started = command.spawn()?;
        if let Some(lines) = started.stderr.take() {
            thread::Builder::new()
                .name("demo-log".to_owned())
                .spawn(move || pass_on(lines, file, &events))?;
        }
        Ok(Self { child: started, ended: None, log, tail: VecDeque::new(), admin: None })
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            // An error means that it was waited for already, which only happens here.
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Asks it to drain and exit.
    pub(super) fn stop(&mut self) -> io::Result<()> {
        child::terminate(&mut self.child)
    }

    /// Ends it at once.
    pub(super) fn kill(&mut self) {
        if self.ended().is_none() {
            // Only a process that is gone cannot be killed.
            let _gone = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }

    /// Takes note of a line. True if it is worth showing: a warning, or what is no line of the log at all.
    pub(super) fn note(&mut self, line: &str) -> bool {
        if self.tail.len() >= TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line.to_owned());
        if self.admin.is_none() {
            self.admin = line.split_once(ADMIN).and_then(|(_, rest)| rest.trim_end_matches('/').parse().ok());
        }
        !matches!(line.split_whitespace().nth(1), Some("INFO" | "DEBUG" | "TRACE"))
    }

    /// Where its metrics are, once it has said so.
    pub(super) fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Its log.
    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of its log.
    pub(super) fn tail(&self) -> impl Iterator<Item = &str> {
        self.tail.iter().map(String::as_str)
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Writes the log down and passes its lines on, to the end of the stream.
fn pass_on(lines: impl Read, mut file: File, events: &SyncSender<Event>) {
    let mut lines = BufReader::new(lines);
    let (mut line, mut room) = (Vec::new(), LOG_BYTES_MAX);
    loop {
        line.clear();
        match lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(bytes) => {
                // A full disk costs the log, not the run; the stream is read on, so the forwarder never waits.
                if room > 0 && file.write_all(&line).is_err() {
                    room = 0;
                }
                room = room.saturating_sub(bytes);
            }
        }
        let text = String::from_utf8_lossy(&line);
        if !text.trim().is_empty() && events.send(Event::Line(text.trim_end().to_owned())).is_err() {
            break;
        }
    }
    // Nobody listens any more only when the demo ends.
    let _over = events.send(Event::LogEnd);
}

/// Variables of the caller that the forwarder may see: none of them is a setting.
const KEPT: [&str; 6] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR", "RUST_BACKTRACE"];

/// What stands before the address in the line that tells it.
const ADMIN: &str = "admin page: http://";

/// Log kept on disk.
pub(super) const LOG_BYTES_MAX: usize = 64 << 20;
/// Of one line.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// Lines that are shown when it ends badly.
const TAIL_LINES: usize = 12;
