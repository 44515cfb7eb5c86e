//! `sls2siem run`: settings, log, signals, and generations of pipelines until somebody wants an end.
//!
//! Why: one place that starts and ends everything; whoever reads it knows what runs in the process.
//! Invariants: 1. signals are heard from the first generation to the end of the last. 2. settings that a generation cannot
//! start with are given up for those that the one before it ran with.
//! Bounds: one generation at a time. Driven by: `main`. Spec: commands and exit codes in README.md.

mod files;
mod generation;
mod log;
pub(super) mod parts;
mod reload;
mod syslog;
mod tap;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write as _};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use self::generation::Stage;
use self::reload::{Reloaded, Reloader};
use super::RunArgs;
use crate::config::{Cores, Environment, Loaded, PipelineConfig};
use crate::control::pipeline::Inbox;
use crate::control::signals::{self, Wish};
use crate::control::supervisor::Supervisor;
use crate::drive::clock;
use crate::metrics::Journal;
use crate::report::Exit;

/// Forwards until it is told to stop.
pub fn execute(args: &RunArgs, env: Environment) -> Exit {
    let loaded = match args.settings.load(env.clone()) {
        Ok(loaded) => loaded,
        Err(error) => return refuse(Exit::from(&error), &error),
    };
    let journal = Journal::new();
    let level = log::start(loaded.config.log, journal.clone());
    for warning in &loaded.config.warnings {
        tracing::warn!("{warning}");
    }
    forward(args, env, loaded, level, &journal).unwrap_or_else(|(exit, text)| {
        tracing::error!("{text}");
        exit
    })
}

/// An exit code and why.
pub(super) type Refusal = (Exit, String);

fn refused(exit: Exit) -> impl Fn(&dyn Display) -> Refusal {
    move |error| (exit, error.to_string())
}

fn forward(
    args: &RunArgs,
    env: Environment,
    loaded: Loaded,
    level: log::LevelControl,
    journal: &Journal,
) -> Result<Exit, Refusal> {
    let (wishes, inbox) = mpsc::channel();
    // The receiver lives as long as the process works; later signals have nobody to tell.
    let listener = signals::listen(move |wish| {
        let _gone = wishes.send(wish);
    });
    let _listener = listener.map_err(|error| refused(Exit::Failed)(&error))?;
    let reloader = Reloader::new(args.settings.clone(), env, loaded, level);
    let mut operator = Operator::new(inbox, reloader);
    let mut stage = Stage::default();
    let (mut fail_fast, mut before) = (args.fail_fast, None);
    let end = loop {
        let loaded = operator.reloader.current().clone();
        let ended = generation::run(&loaded, fail_fast, journal, &mut stage, &mut operator);
        fail_fast = false;
        match (ended, before.take()) {
            (Ok(_), _) if std::mem::take(&mut operator.again) => before = Some(loaded),
            (Ok(exit), _) => break Ok(exit),
            (Err((_, text)), Some(old)) => {
                tracing::error!(
                    "SIGHUP: the new settings cannot be used ({text}) - nothing is lost, forwarding goes on with the old ones \
                     - repair them and send SIGHUP again"
                );
                operator.reloader.hold(old);
            }
            (Err(refusal), None) => break Err(refusal),
        }
    };
    stage.clear();
    end
}

/// The names under which the pipelines of this process consume: the same in each generation, so SLS gives them the shards
/// that they had.
#[derive(Default)]
struct Consumers(BTreeMap<(String, String), String>);

impl Consumers {
    fn name(&mut self, config: &PipelineConfig) -> String {
        let group = &config.sls.consumer_group;
        config.sls.consumer_name.clone().unwrap_or_else(|| {
            let known = self.0.entry((config.name.clone(), group.clone()));
            known.or_insert_with(|| consumer(group)).clone()
        })
    }
}

/// What comes from outside while the pipelines run: signals of the operator, the supervisor's watchdog.
struct Operator {
    wishes: Receiver<Wish>,
    reloader: Reloader,
    supervisor: Supervisor,
    inboxes: Vec<Inbox>,
    /// An end was asked for.
    stopping: bool,
    /// Another generation comes when this one has ended.
    again: bool,
}

impl Operator {
    fn new(wishes: Receiver<Wish>, reloader: Reloader) -> Self {
        let supervisor = Supervisor::from_environment();
        Self { wishes, reloader, supervisor, inboxes: Vec::new(), stopping: false, again: false }
    }

    /// A generation works.
    fn begin(&mut self, status: &str, inboxes: Vec<(String, Inbox)>) {
        self.inboxes = inboxes.iter().map(|(_, inbox)| inbox.clone()).collect();
        self.reloader.begin(inboxes);
        self.supervisor.ready(status);
        if self.stopping {
            self.stop();
        }
    }

    /// Waits this long, or until a wish came and was carried out.
    fn attend(&mut self, time: Duration, is_healthy: bool) {
        self.supervisor.alive(clock::now(), is_healthy);
        match self.wishes.recv_timeout(time) {
            Ok(Wish::Stop) => {
                self.supervisor.stopping();
                self.give_up();
            }
            Ok(Wish::Reload) => self.reload(),
            Ok(Wish::Louder) => self.reloader.louder(),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            // The signal thread has ended; time still has to pass.
            Err(mpsc::RecvTimeoutError::Disconnected) => thread::park_timeout(time),
        }
    }

    fn reload(&mut self) {
        if matches!(self.reloader.reload(), Reloaded::Again) && !self.stopping {
            self.supervisor.reloading(clock::monotonic());
            self.again = true;
            self.stop();
        }
    }

    fn stop(&self) {
        self.inboxes.iter().for_each(Inbox::stop);
    }

    /// After this generation comes none.
    fn give_up(&mut self) {
        self.stopping = true;
        self.again = false;
        self.stop();
    }
}

/// The cores to run on, of those that the process may use.
pub(super) fn cores(wanted: &Cores) -> Result<Vec<usize>, Refusal> {
    let known = core_affinity::get_core_ids().unwrap_or_default();
    let usable: Vec<usize> = known.into_iter().map(|core| core.id).collect();
    let refused =
        |text: String| (Exit::Config, format!("runtime.cores: {text}; usable cores are {usable:?}"));
    let chosen: Vec<usize> = match wanted {
        Cores::All => usable.clone(),
        Cores::Count(count) if *count > usable.len() => {
            return Err(refused(format!("{count} cores are more than this process may use")));
        }
        Cores::Count(count) => usable.iter().copied().take(*count).collect(),
        Cores::List(list) => match list.iter().find(|core| !usable.contains(core)) {
            Some(core) => return Err(refused(format!("core {core} is not one that this process may use"))),
            None => list.clone(),
        },
    };
    if chosen.is_empty() { Err(refused("there is no core to run on".into())) } else { Ok(chosen) }
}

/// A name that no other consumer has: containers share host names and process ids.
fn consumer(group: &str) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "host",
        host => host,
    };
    format!("{group}-{host}-{}-{:08x}", std::process::id(), random() >> 32)
}

/// A number that differs between processes and calls.
fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// Says why nothing was started. The log is not there yet.
fn refuse(exit: Exit, error: &dyn Display) -> Exit {
    // Where even standard error is closed, the exit code is all that is left.
    let _ = writeln!(io::stderr(), "sls2siem: {error}");
    exit
}
