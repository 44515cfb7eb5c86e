//! The process as published snapshots: what the executors and control threads say about themselves.
//!
//! Why: a metrics page must never slow the data path. Shared atomics per record cost cache lines and a lock could
//! park an executor, so every writer owns plain counters and hands a whole copy over a few times a second.
//! Invariants: 1. publishing never waits: a full mailbox drops its oldest snapshot, which the newer one supersedes.
//! 2. the lock below is taken by readers and by [`Registry::publisher`] at start, never by a publish.
//! Bounds: [`MAILBOX_SNAPSHOTS`] snapshots per writer, [`WINDOW_SAMPLES`] samples of history.
//! Driven by: executors and control threads post every 200 ms; `admin` calls [`Registry::sample`] once a second.
//! Spec: the names are fixed by the reference in README.md, "Metrics".

mod document;
mod exposition;
mod history;
mod journal;
mod view;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_channel::{Receiver, Sender};

use crate::proto::counters::{Counters, ShardGauge};
use crate::proto::ids::ShardId;
use crate::proto::time::Instant;

pub use document::{ComplaintStatus, CoreStatus, FORMAT, PipelineStatus, PointStatus, ShardStatus, Status};
pub use exposition::NAMES;
pub use history::{POINTS_MAX, Point};
pub use journal::{Complaint, Journal};
pub use view::{CoreOverview, Overview, PipelineOverview, ShardOverview};

#[expect(clippy::disallowed_types, reason = "shared by readers only; no writer takes it after start")]
type ReaderLock<T> = std::sync::Mutex<T>;

/// What never changes while the process runs.
#[derive(Clone, Debug, Default)]
pub struct Info {
    /// Version of the program.
    pub version: String,
    /// The cores that carry an executor: health waits for each of them.
    pub cores: Vec<usize>,
    /// The pipelines of the settings; snapshots of others are not shown.
    pub pipelines: Vec<PipelineInfo>,
    /// The merged settings, secrets masked.
    pub settings: String,
}

/// One pipeline, as an operator knows it.
#[derive(Clone, Debug)]
pub struct PipelineInfo {
    /// Its name, as in `[pipeline.NAME]`; the label `pipeline`.
    pub name: Arc<str>,
    /// Where the logs come from: `project/logstore`.
    pub source: String,
    /// Kind of sink: `hec`, `stdout`, …; the label `sink`.
    pub sink: String,
}

/// An executor's state at one tick.
#[derive(Clone, Debug)]
pub struct ExecutorSnapshot {
    /// The core it is pinned to; the label `core`.
    pub core: usize,
    /// CPU time of its thread since it started.
    pub cpu: Duration,
    /// Its part of every pipeline.
    pub pipelines: Vec<PipelineSnapshot>,
}

/// One pipeline on one executor.
#[derive(Clone, Debug)]
pub struct PipelineSnapshot {
    /// Its name.
    pub pipeline: Arc<str>,
    /// Counts since the executor started; they never go down.
    pub counters: Counters,
    /// The shards that this executor works on.
    pub shards: Vec<ShardGauge>,
}

/// State of one pipeline's control thread. Counts never go down.
#[derive(Clone, Debug)]
pub struct ControlSnapshot {
    /// The pipeline.
    pub pipeline: Arc<str>,
    /// True while the consumer group answers heartbeats: the shards (perhaps none) are known.
    pub member: bool,
    /// Standing trouble, one operator text each; empty when all is well.
    pub alarms: Vec<String>,
    /// Checkpoints saved.
    pub checkpoint_commits: u64,
    /// Checkpoints refused because another consumer holds the shard.
    pub checkpoint_conflicts: u64,
    /// Heartbeats without a good answer.
    pub heartbeat_failures: u64,
    /// Times that data had expired before it was read.
    pub retention_gaps: u64,
    /// Age of each held shard's checkpoint.
    pub checkpoints: Vec<CheckpointGauge>,
}

/// Age of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointGauge {
    /// The shard.
    pub shard: ShardId,
    /// Seconds since it was last saved or confirmed up to date.
    pub age_seconds: u64,
}

/// What the watchdog did to one executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchdogSnapshot {
    /// The executor's core.
    pub core: usize,
    /// Signals sent because its heartbeat stood still.
    pub signals: u64,
}

/// A writer's end. One per thread; a clone is a writer of its own with its own mailbox.
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
    mailbox: Sender<Mail>,
}

impl Publisher {
    /// Posts an executor's state.
    pub fn executor(&self, snapshot: ExecutorSnapshot) {
        self.post(Content::Executor(snapshot));
    }

    /// Posts a control thread's state.
    pub fn control(&self, snapshot: ControlSnapshot) {
        self.post(Content::Control(snapshot));
    }

    /// Posts the watchdog's view of one executor.
    pub fn watchdog(&self, snapshot: WatchdogSnapshot) {
        self.post(Content::Watchdog(snapshot));
    }

    fn post(&self, content: Content) {
        self.post_at(self.shared.now(), content);
    }

    fn post_at(&self, at: Instant, content: Content) {
        // Invariant 1. An error means that the registry is gone: nobody is left to tell.
        let _superseded = self.mailbox.force_send(Mail { at, content });
    }
}

impl Clone for Publisher {
    fn clone(&self) -> Self {
        Registry { shared: Arc::clone(&self.shared) }.publisher()
    }
}

/// The readers' end. Clones read the same process.
#[derive(Clone, Debug)]
pub struct Registry {
    shared: Arc<Shared>,
}

impl Registry {
    /// An empty registry; its uptime starts now.
    pub fn new(info: Info) -> Self {
        Self::with_journal(info, Journal::default())
    }

    /// The same, with what the log has said and will say.
    pub fn with_journal(info: Info, journal: Journal) -> Self {
        let desk = ReaderLock::new(Desk::default());
        Self { shared: Arc::new(Shared { epoch: clock(), info, desk, journal }) }
    }

    /// A new writer.
    pub fn publisher(&self) -> Publisher {
        let (mailbox, reader) = async_channel::bounded(MAILBOX_SNAPSHOTS);
        self.with_desk(|desk| desk.mailboxes.push(reader));
        Publisher { shared: Arc::clone(&self.shared), mailbox }
    }

    /// Takes one sample for the rates of [`Self::overview`]. Once a second is right.
    pub fn sample(&self) {
        self.sample_at(self.shared.now());
    }

    /// The same at a moment of the caller's, counted from the registry's beginning: for a past that is made up.
    pub fn sample_at(&self, now: Instant) {
        let state = self.state_at(now);
        self.with_desk(|desk| {
            desk.window.push_back(view::Sample::of(&desk.latest));
            if desk.window.len() > WINDOW_SAMPLES {
                desk.window.pop_front();
            }
            desk.history.sample(&state);
            desk.kept.collect(&self.shared.journal);
        });
    }

    /// The metrics in the `OpenMetrics` text format.
    pub fn render_openmetrics(&self) -> String {
        exposition::openmetrics(&self.state_at(self.shared.now()))
    }

    /// The metrics in the Prometheus text format 0.0.4, for everyone who does not ask for `OpenMetrics`.
    pub fn render_prometheus(&self) -> String {
        exposition::classic(&self.render_openmetrics())
    }

    /// What is wrong with this process itself; empty while it is alive and well.
    pub fn health(&self) -> Vec<String> {
        view::health(&self.state_at(self.shared.now()))
    }

    /// Why logs do not flow right now; empty when they can.
    pub fn readiness(&self) -> Vec<String> {
        view::readiness(&self.state_at(self.shared.now()))
    }

    /// Everything the status page and a live view show.
    pub fn overview(&self) -> Overview {
        self.overview_at(self.shared.now())
    }

    fn overview_at(&self, now: Instant) -> Overview {
        let state = self.state_at(now);
        self.with_desk(|desk| {
            desk.kept.collect(&self.shared.journal);
            view::overview(&state, &desk.window, &desk.history, desk.kept.read())
        })
    }

    fn state_at(&self, now: Instant) -> State {
        let latest = self.with_desk(|desk| {
            desk.collect();
            desk.latest.clone()
        });
        State { info: self.shared.info.clone(), now, latest }
    }

    fn with_desk<T>(&self, read: impl FnOnce(&mut Desk) -> T) -> T {
        read(&mut self.shared.desk.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Snapshots a writer may leave unread: one for each thing that it speaks for, with room to spare.
pub const MAILBOX_SNAPSHOTS: usize = 16;

/// Samples that the rates look back over: at one a second, the last ten seconds.
pub const WINDOW_SAMPLES: usize = 11;

#[derive(Debug)]
struct Shared {
    epoch: std::time::Instant,
    info: Info,
    desk: ReaderLock<Desk>,
    journal: Journal,
}

impl Shared {
    fn now(&self) -> Instant {
        let elapsed = clock().saturating_duration_since(self.epoch).as_nanos();
        Instant(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }
}

/// One snapshot on its way, stamped by its writer: a stalled executor must not look fresh because it is read late.
#[derive(Debug)]
struct Mail {
    at: Instant,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Executor(ExecutorSnapshot),
    Control(ControlSnapshot),
    Watchdog(WatchdogSnapshot),
}

/// What the readers have collected so far.
#[derive(Debug, Default)]
struct Desk {
    mailboxes: Vec<Receiver<Mail>>,
    latest: Latest,
    window: VecDeque<view::Sample>,
    history: history::History,
    kept: journal::Kept,
}

impl Desk {
    fn collect(&mut self) {
        let latest = &mut self.latest;
        self.mailboxes.retain(|mailbox| {
            // A writer faster than this loop would keep it here for ever, so one mailbox full is enough.
            for _ in 0..MAILBOX_SNAPSHOTS {
                match mailbox.try_recv() {
                    Ok(mail) => latest.accept(mail),
                    Err(why) => return !why.is_closed(),
                }
            }
            true
        });
    }
}

/// The newest snapshot of every writer.
#[derive(Clone, Debug, Default)]
struct Latest {
    executors: BTreeMap<usize, Stamped<ExecutorSnapshot>>,
    controls: BTreeMap<Arc<str>, ControlSnapshot>,
    watchdogs: BTreeMap<usize, WatchdogSnapshot>,
}

impl Latest {
    fn accept(&mut self, mail: Mail) {
        match mail.content {
            Content::Executor(value) => {
                self.executors.insert(value.core, Stamped { at: mail.at, value });
            }
            Content::Control(value) => {
                self.controls.insert(Arc::clone(&value.pipeline), value);
            }
            Content::Watchdog(value) => {
                self.watchdogs.insert(value.core, value);
            }
        }
    }
}

/// A snapshot and when its writer took it.
#[derive(Clone, Debug)]
struct Stamped<T> {
    at: Instant,
    value: T,
}

/// All that a reader needs, copied out so that rendering holds no lock.
#[derive(Clone, Debug)]
struct State {
    info: Info,
    now: Instant,
    latest: Latest,
}

impl State {
    /// Every (executor, pipeline) pair of one pipeline.
    fn parts<'a>(&'a self, pipeline: &'a str) -> impl Iterator<Item = (usize, &'a PipelineSnapshot)> {
        self.latest.executors.values().flat_map(move |stamped| {
            let core = stamped.value.core;
            stamped.value.pipelines.iter().filter(move |p| &*p.pipeline == pipeline).map(move |p| (core, p))
        })
    }

    /// One pipeline's counters summed over its executors.
    fn totals(&self, pipeline: &str) -> Counters {
        let mut sum = Counters::default();
        for (_, part) in self.parts(pipeline) {
            add(&mut sum, &part.counters);
        }
        sum
    }
}

/// Adds `part` to `sum`. The pattern names every field, so a new counter cannot be forgotten here.
fn add(sum: &mut Counters, part: &Counters) {
    let Counters {
        pulled_raw_bytes,
        pulled_wire_bytes,
        pulled_records,
        pulls,
        sent_bytes,
        sent_requests,
        acked_records,
        acked_batches,
        duplicates_possible_records,
        pull_retries,
        sink_retries,
        refused_records,
        dead_letter_records,
        invalid_utf8_records,
        unproven_records,
        held_shards,
        inflight_bytes,
        shards,
        hec_ack_mode,
        sink_ack_seconds,
        pull_seconds,
        end_to_end_seconds,
    } = part;
    sum.pulled_raw_bytes += pulled_raw_bytes;
    sum.pulled_wire_bytes += pulled_wire_bytes;
    sum.pulled_records += pulled_records;
    sum.pulls += pulls;
    sum.sent_bytes += sent_bytes;
    sum.sent_requests += sent_requests;
    sum.acked_records += acked_records;
    sum.acked_batches += acked_batches;
    sum.duplicates_possible_records += duplicates_possible_records;
    sum.pull_retries += pull_retries;
    sum.sink_retries += sink_retries;
    sum.refused_records += refused_records;
    sum.dead_letter_records += dead_letter_records;
    sum.invalid_utf8_records += invalid_utf8_records;
    sum.unproven_records += unproven_records;
    sum.held_shards += held_shards;
    sum.inflight_bytes += inflight_bytes;
    sum.shards += shards;
    sum.hec_ack_mode = match (sum.hec_ack_mode, *hec_ack_mode) {
        (0, known) | (known, 0) => known,
        (one, other) => one.min(other),
    };
    for (total, one) in [
        (&mut sum.sink_ack_seconds, sink_ack_seconds),
        (&mut sum.pull_seconds, pull_seconds),
        (&mut sum.end_to_end_seconds, end_to_end_seconds),
    ] {
        total.counts.iter_mut().zip(one.counts).for_each(|(a, b)| *a += b);
        total.sum_ns = total.sum_ns.saturating_add(one.sum_ns);
    }
}

#[expect(clippy::disallowed_methods, reason = "stamps snapshots; no decision about data depends on it")]
fn clock() -> std::time::Instant {
    std::time::Instant::now()
}

#[cfg(test)]
mod tests;
