//! `sls2siem run`: settings, executors, control threads, signals, exit code, in this order.
//!
//! Why: one place that starts and ends everything; whoever reads it knows what runs in the process.
//! Invariants: 1. everything that can be refused is refused before the first heartbeat. 2. the executors outlive the
//! control threads, the admin page outlives both.
//! Bounds: per pipeline one control thread, its callers and one thread for reports.
//! Driven by: `main`. Spec: commands and exit codes in README.md.

mod parts;

use std::fmt::Display;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::RunArgs;
use crate::admin;
use crate::config::{Config, Cores, Environment, LogConfig, LogFormat, PipelineConfig};
use crate::control::credentials::CredentialsSource;
use crate::control::pipeline::{Control, ControlSpec, Ended, Inbox};
use crate::control::placement::Placement;
use crate::control::sls_api::SlsApi;
use crate::control::{self, signals};
use crate::drive::{self, ABORT_AFTER, Executors, Gauges, PipelineId, StartSpec};
use crate::metrics::{
    ExecutorSnapshot, Info, PipelineInfo, PipelineSnapshot, Publisher, Registry, WatchdogSnapshot,
};
use crate::proto::sls::lease::event::Outcome;
use crate::report::{Exit, Place};

/// Forwards until it is told to stop.
pub fn execute(args: &RunArgs, env: Environment) -> Exit {
    let config = match args.settings.load(env) {
        Ok(loaded) => loaded.config,
        Err(error) => return refuse(Exit::Config, &error),
    };
    if let Some(text) = parts::not_built(&config) {
        return refuse(Exit::Config, &text);
    }
    log_to_stderr(config.log);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    forward(&config, args.fail_fast).unwrap_or_else(|(exit, text)| {
        tracing::error!("{text}");
        exit
    })
}

/// An exit code and why.
type Refusal = (Exit, String);

fn refused(exit: Exit) -> impl Fn(&dyn Display) -> Refusal {
    move |error| (exit, error.to_string())
}

fn forward(config: &Config, fail_fast: bool) -> Result<Exit, Refusal> {
    let cores = cores(&config.runtime.cores)?;
    let placement = Placement::new(cores.clone(), &parts::pins(&config.runtime.pin));
    let placement = Arc::new(placement.map_err(|error| refused(Exit::Config)(&error))?);
    let memory = u64::try_from(config.runtime.memory / cores.len()).unwrap_or(u64::MAX);
    let start = StartSpec { cores: cores.clone(), memory_bytes: memory, abort_after: ABORT_AFTER };
    let executors = Arc::new(drive::start(&start).map_err(|error| refused(Exit::Failed)(&error))?);
    let registry = Registry::new(info(config, cores));
    let admin = config.admin.listen.map(|listen| admin::start(listen, registry.clone())).transpose();
    let admin = admin.map_err(|error| refused(Exit::Failed)(&error))?;
    if let Some(admin) = &admin {
        tracing::info!("admin page: http://{}/", admin.local_addr());
    }
    let process = Process { executors: &executors, placement, registry: &registry, fail_fast };
    let pipelines = (0..).zip(&config.pipelines).map(|(id, pipeline)| process.open(PipelineId(id), pipeline));
    let controls: Vec<(Place, Control)> = pipelines.collect::<Result<_, _>>()?;

    let inboxes: Vec<Inbox> = controls.iter().map(|(_, control)| control.inbox()).collect();
    let stops = inboxes.clone();
    let listener = signals::listen(move || stops.iter().for_each(Inbox::stop));
    let listener = listener.map_err(|error| refused(Exit::Failed)(&error))?;

    let exit = wait(controls, &inboxes, &mut Watch::new(&executors, &registry, config));
    drop(listener);
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
    fail_fast: bool,
}

impl Process<'_> {
    /// Puts one pipeline to work on every executor and starts its control thread.
    fn open(&self, id: PipelineId, config: &PipelineConfig) -> Result<(Place, Control), Refusal> {
        let settings = |error: &dyn Display| (Exit::Config, format!("pipeline {}: {error}", config.name));
        let place = Place::new(config);
        let credentials =
            CredentialsSource::new(&config.sls.credentials).map_err(|error| settings(&error))?;
        let consumer =
            config.sls.consumer_name.clone().unwrap_or_else(|| consumer(&config.sls.consumer_group));
        let spec = parts::api(&config.sls, &consumer);
        let api = SlsApi::new(&spec).map_err(|error| settings(&error))?;
        let (reports, told) = mpsc::channel();
        for executor in 0..self.executors.len() {
            let params = parts::core(config, spec.caller(), credentials.initial());
            let make = drive::pipeline(params.map_err(|error| settings(&error))?);
            let source = parts::source(&config.sls);
            let endpoints = parts::endpoints(&config.sink);
            let spec = drive::PipelineSpec { id, make, source, endpoints, reports: reports.clone() };
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

/// Waits for all control threads. The first one that fails stops the others.
fn wait(mut running: Vec<(Place, Control)>, inboxes: &[Inbox], watch: &mut Watch) -> Exit {
    let mut exit = Exit::Done;
    while !running.is_empty() {
        watch.publish();
        let (ended, others) = running.into_iter().partition(|(_, control)| control.is_finished());
        running = others;
        let ended: Vec<(Place, Control)> = ended;
        for (place, control) in ended {
            let own = match control.join() {
                Some(Ended::Lease(Outcome::Drained)) => Exit::Done,
                Some(Ended::Lease(Outcome::Undrained { .. })) => Exit::Failed,
                Some(Ended::Sink(alarm)) => {
                    let (exit, text) = control::failed_sink(&place, &alarm);
                    tracing::error!("{text}");
                    exit
                }
                Some(Ended::Lease(Outcome::Failed { call, cause })) => {
                    let (exit, text) = control::failed_start(&place, &call, &cause);
                    tracing::error!("{text}");
                    exit
                }
                None => Exit::Bug,
            };
            if own != Exit::Done && exit == Exit::Done {
                exit = own;
                inboxes.iter().for_each(Inbox::stop);
            }
        }
        thread::park_timeout(TICK);
    }
    exit
}

/// Copies what the executors show into the metrics.
struct Watch {
    gauges: Gauges,
    publisher: Publisher,
    names: Vec<Arc<str>>,
}

impl Watch {
    fn new(executors: &Executors, registry: &Registry, config: &Config) -> Self {
        let names = config.pipelines.iter().map(|pipeline| pipeline.name.as_str().into()).collect();
        Self { gauges: executors.gauges(), publisher: registry.publisher(), names }
    }

    fn publish(&mut self) {
        for snapshot in self.gauges.read() {
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

fn info(config: &Config, cores: Vec<usize>) -> Info {
    let pipeline = |pipeline: &PipelineConfig| PipelineInfo {
        name: pipeline.name.as_str().into(),
        source: format!("{}/{}", pipeline.sls.project, pipeline.sls.logstore),
        sink: Place::new(pipeline).sink.to_owned(),
    };
    let pipelines = config.pipelines.iter().map(pipeline).collect();
    Info { version: env!("CARGO_PKG_VERSION").to_owned(), cores, pipelines }
}

/// The cores to run on, of those that the process may use.
fn cores(wanted: &Cores) -> Result<Vec<usize>, Refusal> {
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

/// Ours at the chosen level; libraries only when something is wrong: their debug lines may show headers.
fn log_to_stderr(config: LogConfig) {
    let level: LevelFilter = config.level.parse().unwrap_or(LevelFilter::INFO);
    let filter = Targets::new().with_target("sls2siem", level).with_default(level.min(LevelFilter::WARN));
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false);
    let registry = tracing_subscriber::registry().with(filter);
    // A second start in one process (tests) keeps the first log.
    let _kept = match config.format {
        LogFormat::Text => registry.with(lines.with_ansi(io::stderr().is_terminal())).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
}

/// Says why nothing was started. The log is not there yet.
fn refuse(exit: Exit, error: &dyn Display) -> Exit {
    // Where even standard error is closed, the exit code is all that is left.
    let _ = writeln!(io::stderr(), "sls2siem: {error}");
    exit
}

/// Between two copies of the gauges.
const TICK: Duration = Duration::from_millis(200);
/// For the executors to end, after their pipelines have.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(5);
