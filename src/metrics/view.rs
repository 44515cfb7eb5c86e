//! What the snapshots mean: is the process alive, can logs flow, how fast do they.
//!
//! Why: the health endpoints, the status page and a live view must not each judge the same numbers in their own way.
//! Invariants: 1. a rate is taken between two stamps of one executor, never from the time of reading, and the rates
//! of executors are added: a late reader or a paused executor does not bend them.
//! Bounds: one row per pipeline, shard and core.
//! Driven by: `Registry::{health, readiness, overview, sample}`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::history::{History, Point as HistoryPoint};
use super::{Complaint, ControlSnapshot, Latest, State};
use crate::proto::counters::{Counters, ShardGauge};
use crate::proto::time::Instant;

/// Everything the status page and a live view show.
#[derive(Clone, Debug)]
pub struct Overview {
    /// Version of the program.
    pub version: String,
    /// Time since the registry was made.
    pub uptime: Duration,
    /// One row per pipeline of the settings.
    pub pipelines: Vec<PipelineOverview>,
    /// One row per executor that has reported.
    pub cores: Vec<CoreOverview>,
    /// Share of a core that all executors used together, over the last hour.
    pub cpu_history: Vec<f32>,
    /// The last warnings and errors of the log, the newest first.
    pub complaints: Vec<Complaint>,
    /// The merged settings, secrets masked.
    pub settings: String,
}

/// One pipeline over all executors.
#[derive(Clone, Debug)]
pub struct PipelineOverview {
    /// Its name.
    pub name: Arc<str>,
    /// `project/logstore`.
    pub source: String,
    /// Kind of sink.
    pub sink: String,
    /// Decompressed bytes pulled per second, over the last ten seconds.
    pub raw_bytes_per_second: f64,
    /// Bytes handed to the sink per second, over the last ten seconds.
    pub sent_bytes_per_second: f64,
    /// Logs acknowledged per second, over the last ten seconds.
    pub acked_records_per_second: f64,
    /// Counters summed over the executors.
    pub totals: Counters,
    /// Its shards, by number.
    pub shards: Vec<ShardOverview>,
    /// Its control thread's state, where it has reported.
    pub control: Option<ControlSnapshot>,
    /// The last hour.
    pub history: Vec<HistoryPoint>,
}

impl PipelineOverview {
    /// Its state in a word.
    pub fn state(&self) -> &'static str {
        match &self.control {
            None => "starting",
            Some(control) if !control.member => "no lease",
            Some(_) if self.totals.held_shards > 0 => "held",
            Some(control) if !control.alarms.is_empty() => "trouble",
            Some(_) => "ok",
        }
    }
}

/// One shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardOverview {
    /// How it stands.
    pub gauge: ShardGauge,
    /// The core that works on it.
    pub core: usize,
    /// Age of its checkpoint, where known.
    pub checkpoint_age_seconds: Option<u64>,
}

/// One executor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CoreOverview {
    /// The core.
    pub core: usize,
    /// Share of the core that its thread used over the last ten seconds; 1.0 is all of it.
    pub cpu: f64,
    /// Time since it reported.
    pub age: Duration,
    /// Signals that the watchdog sent it.
    pub watchdog_signals: u64,
}

/// What the rates are measured from: each executor's sums at an earlier moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample(BTreeMap<usize, Point>);

#[derive(Clone, Debug)]
struct Point {
    at: Instant,
    cpu: Duration,
    /// Per pipeline: raw bytes pulled, bytes sent, records acknowledged.
    sums: BTreeMap<Arc<str>, [u64; 3]>,
}

fn sums(counters: &Counters) -> [u64; 3] {
    [counters.pulled_raw_bytes, counters.sent_bytes, counters.acked_records]
}

impl Sample {
    pub(super) fn of(latest: &Latest) -> Self {
        let points = latest.executors.iter().map(|(core, stamped)| {
            let sums = stamped
                .value
                .pipelines
                .iter()
                .map(|p| (Arc::clone(&p.pipeline), sums(&p.counters)))
                .collect();
            (*core, Point { at: stamped.at, cpu: stamped.value.cpu, sums })
        });
        Self(points.collect())
    }
}

/// What is wrong with the process itself.
pub(super) fn health(state: &State) -> Vec<String> {
    silent_executors(state, START)
}

/// Why logs do not flow.
pub(super) fn readiness(state: &State) -> Vec<String> {
    let mut reasons = silent_executors(state, Duration::ZERO);
    for info in &state.info.pipelines {
        let name = &info.name;
        match state.latest.controls.get(name) {
            None => reasons.push(format!("pipeline {name}: not yet a lease: its control thread is starting")),
            Some(control) if !control.member => {
                reasons.push(format!("pipeline {name}: not yet a lease: the consumer group does not answer"));
            }
            Some(_) => {}
        }
        let alarms = state.latest.controls.get(name).into_iter().flat_map(|control| &control.alarms);
        reasons.extend(alarms.map(|alarm| format!("pipeline {name}: {alarm}")));
        let held = state.totals(name).held_shards;
        if held > 0 {
            reasons
                .push(format!("pipeline {name}: {held} shard(s) held until the sink or an operator helps"));
        }
    }
    reasons
}

fn silent_executors(state: &State, start_limit: Duration) -> Vec<String> {
    let silent = |core: &usize| {
        let Some(stamped) = state.latest.executors.get(core) else {
            let age = state.now.since(Instant::default());
            let text = || format!("executor on core {core} has not started after {} s", age.as_secs());
            return (age >= start_limit).then(text);
        };
        let age = state.now.since(stamped.at);
        (age > FRESH).then(|| format!("executor on core {core} has not reported for {} s", age.as_secs()))
    };
    state.info.cores.iter().filter_map(silent).collect()
}

pub(super) fn overview(
    state: &State,
    window: &VecDeque<Sample>,
    history: &History,
    complaints: Vec<Complaint>,
) -> Overview {
    Overview {
        version: state.info.version.clone(),
        uptime: state.now.since(Instant::default()),
        pipelines: state
            .info
            .pipelines
            .iter()
            .map(|info| {
                let [raw_bytes_per_second, sent_bytes_per_second, acked_records_per_second] =
                    rates(state, window, &info.name);
                PipelineOverview {
                    name: Arc::clone(&info.name),
                    source: info.source.clone(),
                    sink: info.sink.clone(),
                    raw_bytes_per_second,
                    sent_bytes_per_second,
                    acked_records_per_second,
                    totals: state.totals(&info.name),
                    shards: shards(state, &info.name),
                    control: state.latest.controls.get(&info.name).cloned(),
                    history: history.of(&info.name),
                }
            })
            .collect(),
        cores: cores(state, window),
        cpu_history: history.cpu(),
        complaints,
        settings: state.info.settings.clone(),
    }
}

fn rates(state: &State, window: &VecDeque<Sample>, pipeline: &Arc<str>) -> [f64; 3] {
    let mut rates = [0.0; 3];
    for (core, part) in state.parts(pipeline) {
        let Some((point, elapsed)) = since(state, window, core) else { continue };
        let old = point.sums.get(pipeline).copied().unwrap_or_default();
        for ((rate, new), old) in rates.iter_mut().zip(sums(&part.counters)).zip(old) {
            *rate += per_second(new.saturating_sub(old), elapsed);
        }
    }
    rates
}

fn cores(state: &State, window: &VecDeque<Sample>) -> Vec<CoreOverview> {
    let row = |(&core, stamped): (&usize, &super::Stamped<super::ExecutorSnapshot>)| {
        let cpu = since(state, window, core).map_or(0.0, |(point, elapsed)| {
            stamped.value.cpu.saturating_sub(point.cpu).as_secs_f64() / elapsed.as_secs_f64()
        });
        let watchdog_signals = state.latest.watchdogs.get(&core).map_or(0, |dog| dog.signals);
        CoreOverview { core, cpu, age: state.now.since(stamped.at), watchdog_signals }
    };
    state.latest.executors.iter().map(row).collect()
}

/// The earliest point of one executor and the time between its two stamps, where there is any: samples of a process that has
/// just begun know nobody.
fn since<'a>(state: &State, window: &'a VecDeque<Sample>, core: usize) -> Option<(&'a Point, Duration)> {
    let point = window.iter().find_map(|sample| sample.0.get(&core))?;
    let elapsed = state.latest.executors.get(&core)?.at.since(point.at);
    (!elapsed.is_zero()).then_some((point, elapsed))
}

fn shards(state: &State, pipeline: &str) -> Vec<ShardOverview> {
    let ages = state.latest.controls.get(pipeline).map(|c| c.checkpoints.as_slice()).unwrap_or_default();
    let mut rows: Vec<_> = state
        .parts(pipeline)
        .flat_map(|(core, part)| part.shards.iter().map(move |gauge| (core, *gauge)))
        .map(|(core, gauge)| ShardOverview {
            gauge,
            core,
            checkpoint_age_seconds: ages.iter().find(|c| c.shard == gauge.shard).map(|c| c.age_seconds),
        })
        .collect();
    rows.sort_by_key(|row| (row.gauge.shard, row.core));
    rows
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn per_second(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}

/// An executor posts every 200 ms and its watchdog ends the process well before this.
const FRESH: Duration = Duration::from_secs(5);

/// An executor that has not posted this long after the start never will.
const START: Duration = Duration::from_secs(10);
