//! `sls2siem check`: looks at everything that a run will need and says what to do where something is missing.
//!
//! Why: a forwarder that is set up for the first time fails in one of fifty ways, most of them outside of it. Each is
//! cheap to find by asking once, and expensive to find in a log at night.
//! Invariants: 1. nothing is changed: no lease is taken, no checkpoint moves, no event is stored; `--probe` alone
//! sends two test messages. 2. a token or key is sent only to a peer that passed the configured verification.
//! 3. one broken end does not hide the others: every pipeline and endpoint is looked at.
//! Bounds: each question ends after [`WAIT`]; at most [`ADDRESSES_MAX`] addresses of a name are asked.
//! Driven by: `main`, on its own thread. Spec: commands in README.md; RAM actions of the SLS API.

mod hec;
mod host;
mod network;
mod sink;
mod source;
mod syslog;

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use super::CheckArgs;
use crate::config::{Config, Environment};
use crate::report::{Exit, Finding, Grade, Place};

/// For one question.
const WAIT: Duration = Duration::from_secs(5);
/// Addresses of a name that are asked one by one.
const ADDRESSES_MAX: usize = 8;

/// Looks at everything and prints it.
pub fn execute(args: &CheckArgs, env: Environment) -> Exit {
    let loaded = match args.settings.load(env) {
        Ok(loaded) => loaded,
        Err(error) => {
            let _ = writeln!(io::stderr(), "sls2siem: {error}");
            return Exit::from(&error);
        }
    };
    let mut printer = Printer::new(args.json);
    examine(&loaded.config, args, &mut printer);
    printer.finish()
}

fn examine(config: &Config, args: &CheckArgs, out: &mut Printer) {
    host::check(&config.runtime, out);
    settings(config, out);
    let mut shards = Vec::new();
    for pipeline in &config.pipelines {
        let place = Place::new(pipeline);
        let found = source::check(&place, &pipeline.sls, out);
        shards.push((pipeline.name.as_str(), found));
        sink::check(&place, &pipeline.sink, args.probe, out);
    }
    host::placement(&config.runtime, &shards, out);
}

fn settings(config: &Config, out: &mut Printer) {
    let names: Vec<&str> = config.pipelines.iter().map(|pipeline| pipeline.name.as_str()).collect();
    let plural = if names.len() == 1 { "" } else { "s" };
    let text = format!("{} pipeline{plural}: {}", names.len(), names.join(", "));
    out.add(Finding::ok("settings", "settings", text));
    for warning in &config.warnings {
        let (text, todo) = warning.rsplit_once(": chmod").map_or_else(
            || (warning.clone(), "see the settings in README.md".to_owned()),
            |(text, mode)| (text.to_owned(), format!("chmod{mode}")),
        );
        out.add(Finding::warn("settings", "settings", text, todo));
    }
}

/// Prints findings as they come (`--json`: all at the end) and counts them.
struct Printer {
    json: bool,
    colours: bool,
    findings: Vec<Finding>,
    broken: bool,
}

impl Printer {
    fn new(json: bool) -> Self {
        let colours = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { json, colours, findings: Vec::new(), broken: false }
    }

    fn add(&mut self, finding: Finding) {
        // Several addresses of one name mostly say the same.
        if self.findings.contains(&finding) {
            return;
        }
        if !self.json {
            let (word, colour) = match finding.grade {
                Grade::Ok => ("ok", "32"),
                Grade::Warn => ("warn", "33"),
                Grade::Fail => ("fail", "31"),
            };
            let word = format!("{word:<4}");
            let word = if self.colours { format!("\x1b[{colour}m{word}\x1b[0m") } else { word };
            self.print(&format!("{word}  {finding}\n"));
        }
        self.findings.push(finding);
    }

    fn count(&self, grade: Grade) -> usize {
        self.findings.iter().filter(|finding| finding.grade == grade).count()
    }

    fn finish(mut self) -> Exit {
        let (ok, warn, fail) = (self.count(Grade::Ok), self.count(Grade::Warn), self.count(Grade::Fail));
        if self.json {
            let all = serde_json::json!({ "ok": ok, "warn": warn, "fail": fail, "findings": self.findings });
            self.print(&format!("{all:#}\n"));
        } else {
            self.print(&format!("\n{ok} ok, {warn} to know about, {fail} to repair\n"));
        }
        if fail > 0 || self.broken { Exit::Failed } else { Exit::Done }
    }

    fn print(&mut self, text: &str) {
        let written = io::stdout().lock().write_all(text.as_bytes());
        // `sls2siem check | head` is no failure of the check.
        self.broken |= written.is_err_and(|error| error.kind() != io::ErrorKind::BrokenPipe);
    }
}
