//! The bundled servers as processes of their own, which can be killed.
//!
//! Why: only a process can die. The binary of this test is started once more and becomes `loadgen`, so that nothing else has to
//! be built. Invariants: 1. a server that is dropped is killed. 2. each life of a receiver writes a file of its own with what
//! it stored; what it confirmed is in it. Bounds: [`START`] to listen. Driven by: `storm`.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(30);
const ROLE: &str = "CHAOS_SERVER";

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    Sls(Box<loadgen::sls::SlsArgs>),
    Hec(Box<loadgen::sink::hec::HecArgs>),
    Syslog(Box<loadgen::sink::syslog::SyslogArgs>),
}

/// Becomes the server that the environment names, if it names one.
pub(crate) fn play() {
    let Ok(args) = std::env::var(ROLE) else { return };
    let args = std::iter::once("loadgen").chain(args.split('\n'));
    let done = match Cli::parse_from(args).command {
        Role::Sls(args) => loadgen::sls::run(&args),
        Role::Hec(args) => loadgen::sink::hec::run(*args),
        Role::Syslog(args) => loadgen::sink::syslog::run(*args),
    };
    done.unwrap();
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    lines: Receiver<String>,
}

impl Server {
    /// `loadgen` with these arguments; its words go to this file.
    pub(crate) fn start(args: &[&str], log: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["server_process", "--exact", "--nocapture"])
            .env_clear()
            .env(ROLE, args.join("\n"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (say, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ended = say.send(line);
            }
        });
        Self { child, lines }
    }

    /// What follows this text in one of its lines.
    pub(crate) fn says(&mut self, text: &str) -> String {
        let end = Instant::now() + START;
        loop {
            let line = self.lines.recv_timeout(end.saturating_duration_since(Instant::now()));
            let line = line.unwrap_or_else(|_| panic!("a server never said {text:?}"));
            if let Some((_, rest)) = line.split_once(text) {
                return rest.to_owned();
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }

    /// Asks it to end and waits for that.
    pub(crate) fn stop(&mut self) {
        signal(self.pid(), "TERM");
        let end = Instant::now() + START;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "a server does not end");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal, named as `kill` names it.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
    assert!(status.unwrap().success(), "kill -{name} {pid}");
}
