//! `sls2siem run`: settings, executors, control threads, signals, exit code, in this order.
//!
//! Why: one place that starts and ends everything; whoever reads it knows what runs in the process.
//! Invariants: 1. everything that can be refused is refused before the first heartbeat. 2. the executors outlive the
//! control threads, the admin page outlives both.
//! Bounds: per pipeline one control thread, its callers and one thread for reports.
//! Driven by: `main`. Spec: commands and exit codes in README.md.

mod files;
mod log;
pub(super) mod parts;
mod reload;
mod syslog;
mod tap;

use std::fmt::Display;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use super::RunArgs;
use crate::admin;
use crate::config::{Config, Cores, Environment, Loaded, PipelineConfig};
use crate::control::credentials::{CredentialsSource, no_keys};
use crate::control::pipeline::{Control, ControlSpec, Ended, Inbox};
use crate::control::placement::Placement;
use crate::control::signals::Wish;
use crate::control::sls_api::SlsApi;
use crate::control::supervisor::Supervisor;
use crate::control::{self, signals};
use crate::dead_letter::Writer;
use crate::drive::{self, ABORT_AFTER, Executors, Gauges, PipelineId, StartSpec, clock};
use crate::metrics::{
    ExecutorSnapshot, Info, Journal, PipelineInfo, PipelineSnapshot, Publisher, Registry, WatchdogSnapshot,
};
use crate::proto::sls::lease::event::Outcome;
use crate::report::{Exit, Place};

/// Forwards until it is told to stop.
pub fn execute(args: &RunArgs, env: Environment) -> Exit {
    let loaded = match args.settings.load(env.clone()) {
        Ok(loaded) => loaded,
        Err(error) => return refuse(Exit::Config, &error),
    };
    let journal = Journal::new();
    let level = log::start(loaded.config.log, journal.clone());
    for warning in &loaded.config.warnings {
        tracing::warn!("{warning}");
    }
    forward(args, env, &loaded, level, journal).unwrap_or_else(|(exit, text)| {
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
    loaded: &Loaded,
    level: log::LevelControl,
    journal: Journal,
) -> Result<Exit, Refusal> {
    let (config, fail_fast) = (&loaded.config, args.fail_fast);
    let cores = cores(&config.runtime.cores)?;
    let placement = Placement::new(cores.clone(), &parts::pins(&config.runtime.pin));
    let placement = Arc::new(placement.map_err(|error| refused(Exit::Config)(&error))?);
    let memory = u64::try_from(config.runtime.memory / cores.len()).unwrap_or(u64::MAX);
    let start = StartSpec { cores: cores.clone(), memory_bytes: memory, abort_after: ABORT_AFTER };
    let executors = Arc::new(drive::start(&start).map_err(|error| refused(Exit::Failed)(&error))?);
    let registry = Registry::with_journal(info(loaded, cores), journal);
    let admin = config
        .admin
        .listen
        .map(|listen| admin::start_with_tap(listen, registry.clone(), tap::source(config, &executors)));
    let admin = admin.transpose().map_err(|error| refused(Exit::Failed)(&error))?;
    if let Some(admin) = &admin {
        tracing::info!("admin page: http://{}/", admin.local_addr());
    }
    let letters = parts::dead_letter(&config.dead_letter).map_err(|error| refused(Exit::Config)(&error))?;
    let letters = letters.as_ref();
    let process = Process { executors: &executors, placement, registry: &registry, letters, fail_fast };
    let pipelines = (0..).zip(&config.pipelines).map(|(id, pipeline)| process.open(PipelineId(id), pipeline));
    let controls: Vec<(Place, Control)> = pipelines.collect::<Result<_, _>>()?;

    let inboxes: Vec<(String, Inbox)> =
        controls.iter().map(|(place, control)| (place.pipeline.clone(), control.inbox())).collect();
    let (wishes, inbox) = mpsc::channel();
    // The receiver lives as long as the wait; later signals have nobody to tell.
    let listener = signals::listen(move |wish| {
        let _gone = wishes.send(wish);
    });
    let listener = listener.map_err(|error| refused(Exit::Failed)(&error))?;

    let watch_files = files::watch(&executors, config);
    let watch_files = watch_files.map_err(|error| refused(Exit::Failed)(&error))?;
    let mut operator = Operator {
        wishes: inbox,
        reloader: reload::Reloader::new(args.settings.clone(), env, loaded.clone(), level, inboxes.clone()),
        supervisor: Supervisor::from_environment(),
        registry: registry.clone(),
        inboxes: inboxes.into_iter().map(|(_, inbox)| inbox).collect(),
    };
    operator.supervisor.ready(&status(config));
    let exit = wait(controls, &mut operator, &mut Watch::new(&executors, &registry, config));
    drop(listener);
    watch_files.stop();
    if let Err(error) = executors.shutdown(SHUTDOWN_WAIT) {
        tracing::warn!("{error}");
    }
    if let Some(admin) = admin {
        admin.stop();
    }
    Ok(exit)
}

/// What all pipelines share.
struct Process<'a> {
    executors: &'a Arc<Executors>,
    placement: Arc<Placement>,
    registry: &'a Registry,
    letters: Option<&'a Writer>,
    fail_fast: bool,
}

impl Process<'_> {
    /// Puts one pipeline to work on every executor and starts its control thread.
    fn open(&self, id: PipelineId, config: &PipelineConfig) -> Result<(Place, Control), Refusal> {
        let settings = |error: &dyn Display| (Exit::Config, format!("pipeline {}: {error}", config.name));
        let place = Place::new(config);
        let credentials = CredentialsSource::new(&config.sls.credentials);
        let consumer =
            config.sls.consumer_name.clone().unwrap_or_else(|| consumer(&config.sls.consumer_group));
        let spec = parts::api(&config.sls, &consumer);
        let api = SlsApi::new(&spec).map_err(|error| settings(&error))?;
        let (reports, told) = mpsc::channel();
        for executor in 0..self.executors.len() {
            let keys = credentials.initial().unwrap_or_else(no_keys);
            let dead_letter = self.letters.map(|letters| letters.mailbox(parts::origin(config)));
            let params = parts::core(config, spec.caller(), keys, dead_letter.is_some());
            let make = drive::pipeline(params.map_err(|error| settings(&error))?);
            let source = parts::source(&config.sls);
            let endpoints = parts::endpoints(&config.sink);
            let reports = reports.clone();
            let spec = drive::PipelineSpec { id, make, source, endpoints, reports, dead_letter };
            self.executors.open(executor, spec).map_err(|error| settings(&error))?;
        }
        let executors = Arc::clone(self.executors);
        let control = Control::start(ControlSpec {
            place: place.clone(),
            lease: parts::lease(&config.sls, self.fail_fast, random()),
            credentials,
            call: Arc::new(move |call, credentials| api.call(call, credentials)),
            command: Box::new(move |executor, command| executors.command(executor, id, command).is_ok()),
            placement: Arc::clone(&self.placement),
            publisher: self.registry.publisher(),
        })
        .map_err(|error| refused(Exit::Failed)(&error))?;
        let inbox = control.inbox();
        thread::Builder::new()
            .name(format!("s2s-rep-{}", config.name))
            .spawn(move || told.iter().for_each(|(executor, _, report)| inbox.report(executor.0, report)))
            .map_err(|error| refused(Exit::Failed)(&error))?;
        tracing::info!(
            "pipeline {}: {}/{} in group {} as {consumer}",
            config.name,
            config.sls.project,
            config.sls.logstore,
            config.sls.consumer_group
        );
        Ok((place, control))
    }
}

/// Waits for all control threads. A pipeline that fails or has done its work does not disturb the others, except at a
/// start with `--fail-fast`: that promises that all of them work.
fn wait(mut running: Vec<(Place, Control)>, operator: &mut Operator, watch: &mut Watch) -> Exit {
    let mut exit = Exit::Done;
    while !running.is_empty() {
        watch.publish(&operator.inboxes);
        let (ended, others) = running.into_iter().partition(|(_, control)| control.is_finished());
        running = others;
        let ended: Vec<(Place, Control)> = ended;
        for (place, control) in ended {
            let (own, ends_all) = match control.join() {
                Some(Ended::Lease(Outcome::Drained)) => (Exit::Done, false),
                Some(Ended::Lease(Outcome::Undrained { .. })) => (Exit::Failed, false),
                Some(Ended::Sink(alarm)) => {
                    let (exit, text) = control::failed_sink(&place, &alarm);
                    tracing::error!("{text}");
                    (exit, true)
                }
                Some(Ended::Keys { text, unreachable }) => {
                    tracing::error!("{text}");
                    (if unreachable { Exit::Unreachable } else { Exit::Refused }, true)
                }
                Some(Ended::Lease(Outcome::Failed { call, cause })) => {
                    let (exit, text) = control::failed_start(&place, &call, &cause);
                    tracing::error!("{text}");
                    (exit, true)
                }
                None => (Exit::Bug, true),
            };
            if exit == Exit::Done {
                exit = own;
            }
            if ends_all {
                operator.stop();
            }
        }
        operator.attend(TICK);
    }
    exit
}

/// What comes from outside while the pipelines run: signals of the operator, the supervisor's watchdog.
struct Operator {
    wishes: Receiver<Wish>,
    reloader: reload::Reloader,
    supervisor: Supervisor,
    registry: Registry,
    inboxes: Vec<Inbox>,
}

impl Operator {
    /// Waits this long, or until a wish came and was carried out.
    fn attend(&mut self, time: Duration) {
        let now = clock::now();
        self.supervisor.alive(now, self.registry.health().is_empty());
        match self.wishes.recv_timeout(time) {
            Ok(Wish::Stop) => {
                self.supervisor.stopping();
                self.stop();
            }
            Ok(Wish::Reload) => self.reloader.reload(),
            Ok(Wish::Louder) => self.reloader.louder(),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            // The signal thread has ended; time still has to pass.
            Err(mpsc::RecvTimeoutError::Disconnected) => thread::park_timeout(time),
        }
    }

    fn stop(&self) {
        self.inboxes.iter().for_each(Inbox::stop);
    }
}

/// One line for `systemctl status`.
fn status(config: &Config) -> String {
    let names: Vec<String> = config
        .pipelines
        .iter()
        .map(|pipeline| format!("{}/{}", pipeline.sls.project, pipeline.sls.logstore))
        .collect();
    format!("forwarding {}", names.join(", "))
}

/// Copies what the executors show into the metrics.
struct Watch {
    gauges: Gauges,
    publisher: Publisher,
    names: Vec<Arc<str>>,
    /// Copies until the control threads hear of the lags.
    until_lags: u32,
}

impl Watch {
    fn new(executors: &Executors, registry: &Registry, config: &Config) -> Self {
        let names = config.pipelines.iter().map(|pipeline| pipeline.name.as_str().into()).collect();
        Self { gauges: executors.gauges(), publisher: registry.publisher(), names, until_lags: 0 }
    }

    fn publish(&mut self, inboxes: &[Inbox]) {
        let tell = self.until_lags == 0;
        self.until_lags = if tell { LAGS_EVERY } else { self.until_lags - 1 };
        for snapshot in self.gauges.read() {
            for seen in snapshot.pipelines.iter().filter(|seen| tell && !seen.shards.is_empty()) {
                if let Some(inbox) = inboxes.get(usize::from(seen.pipeline.0)) {
                    inbox.lags(seen.shards.iter().map(|gauge| (gauge.shard, gauge.lag_seconds)).collect());
                }
            }
            let pipelines = snapshot.pipelines.iter().filter_map(|seen| {
                let name = self.names.get(usize::from(seen.pipeline.0))?;
                Some(PipelineSnapshot {
                    pipeline: Arc::clone(name),
                    counters: seen.counters.clone(),
                    shards: seen.shards.clone(),
                })
            });
            let core = snapshot.core;
            let pipelines = pipelines.collect();
            self.publisher.executor(ExecutorSnapshot { core, cpu: snapshot.cpu, pipelines });
            self.publisher.watchdog(WatchdogSnapshot { core, signals: snapshot.nudges });
        }
    }
}

fn info(loaded: &Loaded, cores: Vec<usize>) -> Info {
    let config = &loaded.config;
    let pipeline = |pipeline: &PipelineConfig| PipelineInfo {
        name: pipeline.name.as_str().into(),
        source: format!("{}/{}", pipeline.sls.project, pipeline.sls.logstore),
        sink: Place::new(pipeline).sink.to_owned(),
    };
    let pipelines = config.pipelines.iter().map(pipeline).collect();
    Info { version: super::VERSION.to_owned(), cores, pipelines, settings: loaded.to_toml() }
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

/// Copies of the gauges between two words about lags.
const LAGS_EVERY: u32 = 25;
/// Between two copies of the gauges.
const TICK: Duration = Duration::from_millis(200);
/// For the executors to end, after their pipelines have.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(5);
