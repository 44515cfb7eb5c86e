//! The figures as plain text, for scripts and terminals that can do nothing else.
//!
//! Why: a table in a file or a mail has no screen.
//! Invariants: 1. every shard is there, by lag. Bounds: one line per pipeline, shard and core.
//! Driven by: [`super`]. Spec: own.

use std::fmt::Write as _;

use super::model::Model;
use crate::cli::group::{columns, span};
use crate::metrics::{PipelineStatus, ShardStatus, Status};

/// Everything.
pub(super) fn text(status: &Status) -> String {
    let mut out = String::new();
    // Writing into a string does not fail.
    let _ = writeln!(out, "{}", headline(status));
    for reason in &status.reasons {
        let _ = writeln!(out, "  {}", clean(reason));
    }
    out.push('\n');
    let head =
        ["PIPELINE", "STATE", "READ", "SENT", "LOGS/S", "SHARDS", "LAG", "WAITING", "IN FLIGHT", "RETRIES/S"];
    let mut model = Model::new(String::new(), false);
    model.take(Ok(status.clone()));
    let rows: Vec<_> = model.pipelines().into_iter().map(pipeline).collect();
    columns(&mut out, &head.map(str::to_owned), &rows);
    out.push('\n');
    let head = ["PIPELINE", "SHARD", "CORE", "LAG", "WAITING", "CHECKPOINT", "STATE"];
    let (shards, _, _) = model.shards(usize::MAX);
    let rows: Vec<_> = shards.into_iter().map(|(name, row)| shard(name, row)).collect();
    columns(&mut out, &head.map(str::to_owned), &rows);
    out.push('\n');
    let head = ["CORE", "CPU", "NUDGED"];
    let rows: Vec<[String; 3]> = status
        .cores
        .iter()
        .map(|core| {
            [core.core.to_string(), format!("{:.1} %", core.cpu * 100.0), core.watchdog_signals.to_string()]
        })
        .collect();
    columns(&mut out, &head.map(str::to_owned), &rows);
    if !status.complaints.is_empty() {
        out.push('\n');
    }
    for said in &status.complaints {
        let (level, ago) = (&said.level, span(said.ago_seconds));
        let _ = writeln!(out, "{level} {ago} ago, {} times: {}", said.times, clean(&said.text));
    }
    out
}

/// Version, time, and whether logs can flow.
pub(super) fn headline(status: &Status) -> String {
    let ready = match status.reasons.len() {
        0 => "ready: logs can flow".to_owned(),
        1 => "not ready: 1 reason".to_owned(),
        count => format!("not ready: {count} reasons"),
    };
    format!("sls2siem {} · up {} · {ready}", clean(&status.version), span(status.uptime_seconds))
}

fn pipeline(row: &PipelineStatus) -> [String; 10] {
    [
        clean(&row.name),
        row.state.clone(),
        rate(row.raw_bytes_per_second),
        rate(row.sent_bytes_per_second),
        short(row.acked_records_per_second),
        row.shards.len().to_string(),
        span(row.lag_seconds),
        span(row.pending_seconds),
        bytes(row.inflight_bytes),
        format!("{:.1}", row.retries_per_second),
    ]
}

fn shard(name: &str, row: &ShardStatus) -> [String; 7] {
    [
        clean(name),
        row.shard.to_string(),
        row.core.to_string(),
        span(row.lag_seconds),
        span(row.pending_seconds),
        checkpoint(row),
        shard_state(row).to_owned(),
    ]
}

/// Age of the checkpoint.
pub(super) fn checkpoint(row: &ShardStatus) -> String {
    row.checkpoint_age_seconds.map_or_else(|| "-".to_owned(), span)
}

/// In a word.
pub(super) fn shard_state(row: &ShardStatus) -> &'static str {
    if row.held { "held" } else { "ok" }
}

/// Bytes per second.
fn rate(value: f64) -> String {
    match value {
        value if value >= 1e8 => format!("{:.0} MB/s", value / 1e6),
        value if value >= 1e5 => format!("{:.1} MB/s", value / 1e6),
        value if value >= 100.0 => format!("{:.1} kB/s", value / 1e3),
        value => format!("{value:.0} B/s"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn bytes(value: u64) -> String {
    match value {
        0..1_000 => format!("{value} B"),
        1_000..1_000_000 => format!("{:.1} kB", value as f64 / 1e3),
        value => format!("{:.1} MB", value as f64 / 1e6),
    }
}

/// A number in at most five characters.
pub(super) fn short(value: f64) -> String {
    match value {
        value if value >= 1e10 => format!("{:.0}G", value / 1e9),
        value if value >= 1e9 => format!("{:.1}G", value / 1e9),
        value if value >= 1e8 => format!("{:.0}M", value / 1e6),
        value if value >= 1e6 => format!("{:.1}M", value / 1e6),
        value if value >= 1e5 => format!("{:.0}k", value / 1e3),
        value if value >= 1e4 => format!("{:.1}k", value / 1e3),
        value => format!("{value:.0}"),
    }
}

/// Text of others, without anything that a terminal would obey.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
