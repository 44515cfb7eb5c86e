//! The last hour, for the plots of the status page.
//!
//! Why: "since when" is the first question after "what is wrong", and not everybody has a Prometheus yet.
//! Invariants: 1. a rate is the growth of a counter between two samples of this ring, divided by the time between.
//! Bounds: [`POINTS_MAX`] points of each pipeline, 32 bytes each: an hour of 30 pipelines is 700 KB.
//! Driven by: `Registry::sample`, once a second.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::State;
use crate::proto::counters::Counters;
use crate::proto::time::Instant;

/// Samples between two points.
pub(super) const SAMPLES_PER_POINT: u32 = 5;

/// An hour.
pub const POINTS_MAX: usize = 720;

/// How one pipeline stood at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Decompressed bytes pulled per second.
    pub raw_bytes: f32,
    /// Bytes handed to the sink per second.
    pub sent_bytes: f32,
    /// Logs acknowledged per second.
    pub acked_records: f32,
    /// Attempts repeated per second.
    pub retries: f32,
    /// The largest lag of its shards.
    pub lag_seconds: u32,
    /// Bytes of memory credit in use.
    pub inflight_bytes: u64,
}

/// The ring of all pipelines, and of the process.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    samples: u32,
    before: Option<Before>,
    pipelines: BTreeMap<Arc<str>, VecDeque<Point>>,
    /// Share of a core that all executors used together; 1.0 is one whole core.
    cpu: VecDeque<f32>,
}

#[derive(Clone, Debug)]
struct Before {
    at: Instant,
    totals: BTreeMap<Arc<str>, Counters>,
    cpu: f64,
}

impl History {
    /// Takes one sample; every few of them make a point.
    pub(super) fn sample(&mut self, state: &State) {
        self.samples += 1;
        if self.samples < SAMPLES_PER_POINT && self.before.is_some() {
            return;
        }
        self.samples = 0;
        let now = Before {
            at: state.now,
            totals: state
                .info
                .pipelines
                .iter()
                .map(|p| (Arc::clone(&p.name), state.totals(&p.name)))
                .collect(),
            cpu: state.latest.executors.values().map(|stamped| stamped.value.cpu.as_secs_f64()).sum(),
        };
        if let Some(before) = self.before.take() {
            self.add(state, &before, &now);
        }
        self.before = Some(now);
    }

    fn add(&mut self, state: &State, before: &Before, now: &Before) {
        let elapsed = now.at.since(before.at).as_secs_f64();
        if elapsed <= 0.0 {
            return;
        }
        for (name, totals) in &now.totals {
            let old = before.totals.get(name).cloned().unwrap_or_default();
            let rate = |new: u64, old: u64| per_second(new.saturating_sub(old), elapsed);
            let lags = state.parts(name).flat_map(|(_, part)| &part.shards).map(|gauge| gauge.lag_seconds);
            let point = Point {
                raw_bytes: rate(totals.pulled_raw_bytes, old.pulled_raw_bytes),
                sent_bytes: rate(totals.sent_bytes, old.sent_bytes),
                acked_records: rate(totals.acked_records, old.acked_records),
                retries: rate(totals.pull_retries + totals.sink_retries, old.pull_retries + old.sink_retries),
                lag_seconds: u32::try_from(lags.max().unwrap_or(0)).unwrap_or(u32::MAX),
                inflight_bytes: totals.inflight_bytes,
            };
            push(self.pipelines.entry(Arc::clone(name)).or_default(), point);
        }
        #[expect(clippy::cast_possible_truncation, reason = "a plot")]
        push(&mut self.cpu, ((now.cpu - before.cpu).max(0.0) / elapsed) as f32);
    }

    pub(super) fn of(&self, pipeline: &str) -> Vec<Point> {
        self.pipelines.get(pipeline).into_iter().flatten().copied().collect()
    }

    pub(super) fn cpu(&self) -> Vec<f32> {
        self.cpu.iter().copied().collect()
    }
}

fn push<T>(ring: &mut VecDeque<T>, value: T) {
    if ring.len() == POINTS_MAX {
        ring.pop_front();
    }
    ring.push_back(value);
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a plot")]
fn per_second(count: u64, elapsed: f64) -> f32 {
    (count as f64 / elapsed) as f32
}
