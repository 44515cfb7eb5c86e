//! One generation: executors, pipelines and the admin page of one set of settings, from their start to their end.
//!
//! Why: settings that cannot change under a running pipeline (sinks, templates, cores) change between two generations of one
//! process: the first drains, saves and ends, the next goes on under the same consumer names, so SLS gives it the same shards.
//! Invariants: 1. whatever was started has ended when [`run`] returns, also where it fails half-way; only the executors stay.
//! 2. the executors outlive the control threads. 3. everything that can be refused is refused before the first heartbeat.
//! Bounds: per pipeline one control thread, its callers and one thread for reports.
//! Driven by: [`super`]. Spec: commands and exit codes in README.md.

use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::{Consumers, Operator, Refusal, cores, files, parts, random, refused, tap};
use crate::admin;
use crate::config::{Config, Loaded, PipelineConfig};
use crate::control;
use crate::control::credentials::{CredentialsSource, no_keys};
use crate::control::pipeline::{Control, ControlSpec, Ended, Inbox};
use crate::control::placement::Placement;
use crate::control::sls_api::SlsApi;
use crate::dead_letter::Writer;
use crate::drive::{self, ABORT_AFTER, ExecutorIndex, Executors, Gauges, PipelineId, StartSpec, clock};
use crate::metrics::{
    ExecutorSnapshot, Info, Journal, PipelineInfo, PipelineSnapshot, Publisher, Registry, WatchdogSnapshot,
};
use crate::proto::event::Report;
use crate::proto::sls::lease::event::Outcome;
use crate::report::{Exit, Place};
use crate::shortage::shortage;

/// Refuses what a generation with these settings would refuse at its start, as far as can be known without starting it.
pub(super) fn check(config: &Config) -> Result<(), Refusal> {
    let cores = cores(&config.runtime.cores)?;
    Placement::new(cores, &parts::pins(&config.runtime.pin))
        .map_err(|error| refused(Exit::Config)(&error))?;
    for pipeline in &config.pipelines {
        let spec = parts::api(&pipeline.sls, &pipeline.sls.consumer_group);
        SlsApi::new(&spec).map_err(|error| unusable(pipeline, !error.is_shortage(), &error))?;
        parts::core(pipeline, spec.caller(), no_keys(), false)
            .map_err(|error| unusable(pipeline, true, &error))?;
        let mut peers = parts::endpoints(&pipeline.sink);
        peers.push(parts::source(&pipeline.sls));
        peers
            .iter()
            .try_for_each(drive::check_target)
            .map_err(|error| unusable(pipeline, error.is_of_settings(), &error))?;
    }
    Ok(())
}

/// A pipeline that cannot start.
fn unusable(config: &PipelineConfig, is_of_settings: bool, error: &dyn Display) -> Refusal {
    (Exit::of_start(is_of_settings), format!("pipeline {}: {error}", config.name))
}

/// A thread of a pipeline that cannot start.
fn no_thread(error: &io::Error) -> Refusal {
    let todo = shortage(error).unwrap_or("look at the limits of this user and service, then try again");
    (Exit::Failed, format!("a thread cannot be started: {error} - {todo}"))
}

/// What outlives a generation.
#[derive(Default)]
pub(super) struct Stage {
    consumers: Consumers,
    /// They stay where the next generation wants the same ones: each executor that ends leaves a file descriptor behind
    /// (glommio 0.9.0 never drops what a task knows of its executor).
    executors: Option<(StartSpec, Arc<Executors>)>,
    /// The number of the next pipeline.
    next: u16,
}

impl Stage {
    /// The executors for these settings.
    fn executors(&mut self, spec: &StartSpec) -> Result<Arc<Executors>, Refusal> {
        if let Some((known, executors)) = &self.executors
            && known == spec
        {
            return Ok(Arc::clone(executors));
        }
        // The kernel gives back the locked memory of rings some time after they are closed.
        let patience = if self.clear() { SHUTDOWN_WAIT } else { Duration::ZERO };
        let end = clock::now() + patience;
        loop {
            match drive::start(spec) {
                Ok(executors) => {
                    let executors = Arc::new(executors);
                    self.executors = Some((spec.clone(), Arc::clone(&executors)));
                    return Ok(executors);
                }
                Err(_) if clock::now() < end => thread::park_timeout(TICK),
                Err(error) => return Err(refused(Exit::Failed)(&error)),
            }
        }
    }

    /// Numbers for so many pipelines: the first of them.
    fn number(&mut self, pipelines: usize) -> u16 {
        let count = u16::try_from(pipelines).unwrap_or(u16::MAX);
        // Those with the lowest numbers are gone long since.
        let base = if self.next.checked_add(count).is_some() { self.next } else { 0 };
        self.next = base.saturating_add(count);
        base
    }

    /// Ends the executors; false where there were none.
    pub(super) fn clear(&mut self) -> bool {
        let Some((_, executors)) = self.executors.take() else { return false };
        if let Err(error) = executors.shutdown(SHUTDOWN_WAIT) {
            tracing::warn!("{error}");
        }
        true
    }
}

/// Forwards until all pipelines have ended or the operator wants an end.
pub(super) fn run(
    loaded: &Loaded,
    fail_fast: bool,
    journal: &Journal,
    stage: &mut Stage,
    operator: &mut Operator,
) -> Result<Exit, Refusal> {
    let config = &loaded.config;
    let cores = cores(&config.runtime.cores)?;
    let placement = Placement::new(cores.clone(), &parts::pins(&config.runtime.pin));
    let placement = Arc::new(placement.map_err(|error| refused(Exit::Config)(&error))?);
    let memory_bytes = u64::try_from(config.runtime.memory / cores.len()).unwrap_or(u64::MAX);
    let spec = StartSpec { cores: cores.clone(), memory_bytes, abort_after: ABORT_AFTER };
    let executors = stage.executors(&spec)?;
    let base = stage.number(config.pipelines.len());
    let registry = Registry::with_journal(info(loaded, cores), journal.clone());
    let admin = config
        .admin
        .listen
        .map(|listen| admin::start_with_tap(listen, registry.clone(), tap::source(config, &executors, base)));
    let admin = admin.transpose().map_err(|error| refused(Exit::Failed)(&error))?;
    if let Some(admin) = &admin {
        tracing::info!("admin page: http://{}/", admin.local_addr());
    }
    let letters = parts::dead_letter(&config.dead_letter)
        .map_err(|error| refused(Exit::of_start(error.is_of_settings()))(&error));
    let exit = letters.and_then(|letters| {
        let letters = letters.as_ref();
        let process =
            Process { executors: &executors, base, placement, registry: &registry, letters, fail_fast };
        let exit = process.forward(config, &mut stage.consumers, operator);
        process.close(config);
        exit
    });
    if let Some(admin) = admin {
        admin.stop();
    }
    exit
}

/// Takes back what a start that failed has begun.
fn end(controls: Vec<(Place, Control)>) {
    for (_, control) in &controls {
        control.inbox().stop();
    }
    for (_, control) in controls {
        let _nothing_was_pulled = control.join();
    }
}

/// What all pipelines of a generation share.
struct Process<'a> {
    executors: &'a Arc<Executors>,
    /// The number of the first pipeline.
    base: u16,
    placement: Arc<Placement>,
    registry: &'a Registry,
    letters: Option<&'a Writer>,
    fail_fast: bool,
}

impl Process<'_> {
    fn forward(
        &self,
        config: &Config,
        consumers: &mut Consumers,
        operator: &mut Operator,
    ) -> Result<Exit, Refusal> {
        let ids = (self.base..).map(PipelineId);
        let ready: Vec<Ready<'_>> = ids
            .zip(&config.pipelines)
            .map(|(id, pipeline)| self.open(id, pipeline, consumers.name(pipeline)))
            .collect::<Result<_, _>>()?;
        let mut controls: Vec<(Place, Control)> = Vec::new();
        for ready in ready {
            match self.start(ready) {
                Ok(control) => controls.push(control),
                Err(refusal) => {
                    end(controls);
                    return Err(refusal);
                }
            }
        }
        let watch_files = match files::watch(self.executors, config, self.base) {
            Ok(watch_files) => watch_files,
            Err(error) => {
                end(controls);
                return Err(no_thread(&error));
            }
        };
        let inboxes: Vec<(String, Inbox)> =
            controls.iter().map(|(place, control)| (place.pipeline.clone(), control.inbox())).collect();
        let watch = Watch::new(self, config, inboxes.iter().map(|(_, inbox)| inbox.clone()).collect());
        operator.begin(&status(config), inboxes);
        let exit = wait(controls, operator, watch);
        watch_files.stop();
        Ok(exit)
    }

    /// The pipelines leave the executors, which may be there for others.
    fn close(&self, config: &Config) {
        for (id, _) in (self.base..).zip(&config.pipelines) {
            for executor in 0..self.executors.len() {
                // One that has ended has forgotten everything.
                let _ended = self.executors.close(executor, PipelineId(id));
            }
        }
    }

    /// Puts one pipeline on every executor, where it waits for its first shard.
    fn open<'c>(
        &self,
        id: PipelineId,
        config: &'c PipelineConfig,
        consumer: String,
    ) -> Result<Ready<'c>, Refusal> {
        let credentials = CredentialsSource::new(&config.sls.credentials);
        let spec = parts::api(&config.sls, &consumer);
        let api = SlsApi::new(&spec).map_err(|error| unusable(config, !error.is_shortage(), &error))?;
        let (reports, told) = mpsc::channel();
        for executor in 0..self.executors.len() {
            let keys = credentials.initial().unwrap_or_else(no_keys);
            let dead_letter = self.letters.map(|letters| letters.mailbox(parts::origin(config)));
            let params = parts::core(config, spec.caller(), keys, dead_letter.is_some());
            let make = drive::pipeline(params.map_err(|error| unusable(config, true, &error))?);
            let source = parts::source(&config.sls);
            let endpoints = parts::endpoints(&config.sink);
            let reports = reports.clone();
            let spec = drive::PipelineSpec { id, make, source, endpoints, reports, dead_letter };
            let opened = self.executors.open(executor, spec);
            opened.map_err(|error| unusable(config, error.is_of_settings(), &error))?;
        }
        Ok(Ready { id, config, consumer, credentials, api, told })
    }

    /// Starts the control thread of a pipeline: from now on it is a member of its group.
    fn start(&self, ready: Ready<'_>) -> Result<(Place, Control), Refusal> {
        let Ready { id, config, consumer, credentials, api, told } = ready;
        let place = Place::new(config);
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
        .map_err(|error| no_thread(&error))?;
        let inbox = control.inbox();
        thread::Builder::new()
            .name(format!("s2s-rep-{}", config.name))
            .spawn(move || told.iter().for_each(|(executor, _, reports)| inbox.reports(executor.0, reports)))
            .map_err(|error| no_thread(&error))?;
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

/// A pipeline that lies on every executor and of which SLS knows nothing yet.
struct Ready<'c> {
    id: PipelineId,
    config: &'c PipelineConfig,
    consumer: String,
    credentials: CredentialsSource,
    api: SlsApi,
    told: mpsc::Receiver<(ExecutorIndex, PipelineId, Vec<Report>)>,
}

/// Waits for all control threads. A pipeline that fails or has done its work does not disturb the others, except at a
/// start with `--fail-fast`: that promises that all of them work.
fn wait(mut running: Vec<(Place, Control)>, operator: &mut Operator, mut watch: Watch) -> Exit {
    let mut exit = Exit::Done;
    while !running.is_empty() {
        watch.publish();
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
                operator.give_up();
            }
        }
        operator.attend(TICK, watch.is_healthy());
    }
    exit
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
    registry: Registry,
    /// The number of the first pipeline.
    base: u16,
    inboxes: Vec<Inbox>,
    publisher: Publisher,
    names: Vec<Arc<str>>,
    /// Copies until the control threads hear of the lags.
    until_lags: u32,
}

impl Watch {
    fn new(process: &Process<'_>, config: &Config, inboxes: Vec<Inbox>) -> Self {
        let &Process { executors, registry, base, .. } = process;
        let names = config.pipelines.iter().map(|pipeline| pipeline.name.as_str().into()).collect();
        let (gauges, publisher) = (executors.gauges(), registry.publisher());
        Self { gauges, registry: registry.clone(), base, inboxes, publisher, names, until_lags: 0 }
    }

    /// Which of this generation's pipelines it is; none for one of the generation before.
    fn place(&self, id: PipelineId) -> Option<usize> {
        id.0.checked_sub(self.base).map(usize::from).filter(|place| *place < self.names.len())
    }

    fn is_healthy(&self) -> bool {
        self.registry.health().is_empty()
    }

    fn publish(&mut self) {
        let tell = self.until_lags == 0;
        self.until_lags = if tell { LAGS_EVERY } else { self.until_lags - 1 };
        for snapshot in self.gauges.read() {
            for seen in snapshot.pipelines.iter().filter(|seen| tell && !seen.shards.is_empty()) {
                if let Some(inbox) = self.place(seen.pipeline).and_then(|place| self.inboxes.get(place)) {
                    inbox.lags(seen.shards.iter().map(|gauge| (gauge.shard, gauge.lag_seconds)).collect());
                }
            }
            let pipelines = snapshot.pipelines.iter().filter_map(|seen| {
                let name = self.names.get(self.place(seen.pipeline)?)?;
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
    Info { version: crate::cli::VERSION.to_owned(), cores, pipelines, settings: loaded.to_toml() }
}

/// Copies of the gauges between two words about lags.
const LAGS_EVERY: u32 = 25;
/// Between two copies of the gauges.
const TICK: Duration = Duration::from_millis(200);
/// For the executors to end, after their pipelines have.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(5);
