//! The overview as a document for programs: what `/status.json` answers and `sls2siem top` reads.
//!
//! Why: the status page is for people, the metrics are for a time series; a script or a terminal wants the judged
//! state with its reasons in one piece. One set of types writes and reads it, so neither can drift.
//! Invariants: 1. [`FORMAT`] grows when the meaning of a member changes; members may be added without that. 2. a reader
//! takes missing members for their defaults and leaves out what it does not know. 3. no secret: settings are masked.
//! Bounds: that of the overview, and [`POINTS`] points of history of each pipeline.
//! Driven by: `admin` writes, `cli::top` reads. Spec: "Metrics" of the reference in README.md.

use serde::{Deserialize, Serialize};

use super::history::SAMPLES_PER_POINT;
use super::{Overview, PipelineOverview, Point};

/// Version of the document.
pub const FORMAT: u32 = 1;
/// The last five minutes.
const POINTS: usize = 60;

/// The whole process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of the program.
    pub version: String,
    /// Since the start.
    pub uptime_seconds: u64,
    /// Whether logs can flow, as `/readyz` says it.
    pub ready: bool,
    /// Why not.
    pub reasons: Vec<String>,
    /// In the order of the settings.
    pub pipelines: Vec<PipelineStatus>,
    /// Executors that have reported.
    pub cores: Vec<CoreStatus>,
    /// The last warnings and errors of the log, the newest first.
    pub complaints: Vec<ComplaintStatus>,
    /// Seconds between two points of history.
    pub history_step_seconds: u32,
    /// The merged settings as TOML, secrets masked.
    pub settings: String,
}

/// One pipeline. Rates are over the last ten seconds, counts since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "counts are the metrics of the same names in the reference, README.md")]
pub struct PipelineStatus {
    pub name: String,
    /// `project/logstore`.
    pub source: String,
    /// Kind of sink.
    pub sink: String,
    /// starting, no lease, held, trouble or ok.
    pub state: String,
    /// Standing trouble, in the words of the log.
    pub alarms: Vec<String>,
    pub raw_bytes_per_second: f64,
    pub sent_bytes_per_second: f64,
    pub acked_records_per_second: f64,
    /// Over the last five seconds.
    pub retries_per_second: f64,
    pub pulled_raw_bytes: u64,
    pub pulled_records: u64,
    pub sent_bytes: u64,
    pub acked_records: u64,
    pub duplicates_possible_records: u64,
    pub pull_retries: u64,
    pub sink_retries: u64,
    pub refused_records: u64,
    pub dead_letter_records: u64,
    pub unproven_records: u64,
    pub inflight_bytes: u64,
    pub held_shards: u64,
    pub checkpoint_commits: u64,
    pub checkpoint_conflicts: u64,
    pub heartbeat_failures: u64,
    pub retention_gaps: u64,
    /// The largest of the shards.
    pub lag_seconds: u64,
    /// The largest of the shards.
    pub pending_seconds: u64,
    pub shards: Vec<ShardStatus>,
    /// The oldest first.
    pub history: Vec<PointStatus>,
}

/// One shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShardStatus {
    /// Its number.
    pub shard: u32,
    /// The core that works on it.
    pub core: usize,
    /// Seconds between now and the oldest log that is not acknowledged.
    pub lag_seconds: u64,
    /// Seconds without progress while logs wait for the sink.
    pub pending_seconds: u64,
    /// It cannot go on without the sink or an operator.
    pub held: bool,
    /// Since the checkpoint was saved or up to date; null where not known.
    pub checkpoint_age_seconds: Option<u64>,
}

/// One executor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CoreStatus {
    /// The core.
    pub core: usize,
    /// Share of it that the executor's thread used over the last ten seconds.
    pub cpu: f64,
    /// Since it reported.
    pub heartbeat_age_seconds: f64,
    /// Times that it had to be nudged.
    pub watchdog_signals: u64,
}

/// One line of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ComplaintStatus {
    /// Since it was last said.
    pub ago_seconds: u64,
    /// `error` or `warning`.
    pub level: String,
    /// In the words of the log.
    pub text: String,
    /// How often it was said.
    pub times: u64,
}

/// One moment of the past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "as the members of the pipeline")]
pub struct PointStatus {
    pub raw_bytes_per_second: f32,
    pub sent_bytes_per_second: f32,
    pub acked_records_per_second: f32,
    pub lag_seconds: u32,
}

impl Status {
    /// The document of this moment.
    pub fn of(overview: &Overview, reasons: Vec<String>) -> Self {
        let core = |core: &super::CoreOverview| CoreStatus {
            core: core.core,
            cpu: core.cpu,
            heartbeat_age_seconds: core.age.as_secs_f64(),
            watchdog_signals: core.watchdog_signals,
        };
        let complaint = |said: &super::Complaint| ComplaintStatus {
            ago_seconds: said.ago.as_secs(),
            level: if said.is_error { "error" } else { "warning" }.to_owned(),
            text: said.text.clone(),
            times: said.times,
        };
        Self {
            format: FORMAT,
            version: overview.version.clone(),
            uptime_seconds: overview.uptime.as_secs(),
            ready: reasons.is_empty(),
            reasons,
            pipelines: overview.pipelines.iter().map(PipelineStatus::of).collect(),
            cores: overview.cores.iter().map(core).collect(),
            complaints: overview.complaints.iter().map(complaint).collect(),
            history_step_seconds: SAMPLES_PER_POINT,
            settings: overview.settings.clone(),
        }
    }
}

impl PipelineStatus {
    fn of(pipeline: &PipelineOverview) -> Self {
        let totals = &pipeline.totals;
        let count = |of: fn(&super::ControlSnapshot) -> u64| pipeline.control.as_ref().map_or(0, of);
        let shard = |row: &super::ShardOverview| ShardStatus {
            shard: row.gauge.shard.0,
            core: row.core,
            lag_seconds: row.gauge.lag_seconds,
            pending_seconds: row.gauge.pending_seconds,
            held: row.gauge.held,
            checkpoint_age_seconds: row.checkpoint_age_seconds,
        };
        let largest =
            |of: fn(&super::ShardOverview) -> u64| pipeline.shards.iter().map(of).max().unwrap_or(0);
        let past = pipeline.history.len().saturating_sub(POINTS);
        Self {
            name: pipeline.name.to_string(),
            source: pipeline.source.clone(),
            sink: pipeline.sink.clone(),
            state: pipeline.state().to_owned(),
            alarms: pipeline.control.as_ref().map(|control| control.alarms.clone()).unwrap_or_default(),
            raw_bytes_per_second: pipeline.raw_bytes_per_second,
            sent_bytes_per_second: pipeline.sent_bytes_per_second,
            acked_records_per_second: pipeline.acked_records_per_second,
            retries_per_second: pipeline.history.last().map_or(0.0, |point| f64::from(point.retries)),
            pulled_raw_bytes: totals.pulled_raw_bytes,
            pulled_records: totals.pulled_records,
            sent_bytes: totals.sent_bytes,
            acked_records: totals.acked_records,
            duplicates_possible_records: totals.duplicates_possible_records,
            pull_retries: totals.pull_retries,
            sink_retries: totals.sink_retries,
            refused_records: totals.refused_records,
            dead_letter_records: totals.dead_letter_records,
            unproven_records: totals.unproven_records,
            inflight_bytes: totals.inflight_bytes,
            held_shards: totals.held_shards,
            checkpoint_commits: count(|control| control.checkpoint_commits),
            checkpoint_conflicts: count(|control| control.checkpoint_conflicts),
            heartbeat_failures: count(|control| control.heartbeat_failures),
            retention_gaps: count(|control| control.retention_gaps),
            lag_seconds: largest(|row| row.gauge.lag_seconds),
            pending_seconds: largest(|row| row.gauge.pending_seconds),
            shards: pipeline.shards.iter().map(shard).collect(),
            history: pipeline.history.iter().skip(past).map(PointStatus::of).collect(),
        }
    }
}

impl PointStatus {
    fn of(point: &Point) -> Self {
        Self {
            raw_bytes_per_second: point.raw_bytes,
            sent_bytes_per_second: point.sent_bytes,
            acked_records_per_second: point.acked_records,
            lag_seconds: point.lag_seconds,
        }
    }
}
