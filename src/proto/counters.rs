//! Plain counters of one pipeline on one executor; the driver's tick copies them out.
//!
//! Why: atomics shared between executors would bounce cache lines per record; one owner counts for nothing.
//! Invariants: 1. counts never go down. 2. a histogram's buckets are not cumulative; the exposition adds them up.
//! Bounds: a fixed size, whatever happens.
//! Driven by: the core counts; `drive` copies them out on its tick; `metrics` sums them over executors.

use core::time::Duration;

/// Monotonic counts and current gauges. Plain integers: one owner, no atomics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the metric of the same name in the reference, README.md")]
pub struct Counters {
    pub pulled_raw_bytes: u64,
    pub pulled_wire_bytes: u64,
    pub pulled_records: u64,
    pub pulls: u64,
    pub sent_bytes: u64,
    pub sent_requests: u64,
    pub acked_records: u64,
    pub acked_batches: u64,
    pub duplicates_possible_records: u64,
    pub pull_retries: u64,
    pub sink_retries: u64,
    pub refused_records: u64,
    pub dead_letter_records: u64,
    pub invalid_utf8_records: u64,
    pub unproven_records: u64,
    pub held_shards: u64,
    pub inflight_bytes: u64,
    pub shards: u64,
    /// 0 not known, 1 the status counts, 2 the indexer confirms; over several executors the lowest that is known.
    pub hec_ack_mode: u64,
    /// Time from a frame's first byte on the wire to its acknowledgement.
    pub sink_ack_seconds: Histogram,
    /// Time from a pull's request to the end of its body.
    pub pull_seconds: Histogram,
    /// Time from the end of a pull that brought records to the acknowledgement of its last record.
    pub end_to_end_seconds: Histogram,
}

/// Upper bounds of the buckets, in milliseconds; one more bucket stands for everything above.
pub const BUCKETS_MS: [u64; 14] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000, 60_000, 300_000];

/// A histogram with fixed buckets, as Prometheus wants it (counts are per bucket, not cumulative).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Observations per bucket; the last one is +Inf.
    pub counts: [u64; BUCKETS_MS.len() + 1],
    /// Sum of all observations, in nanoseconds.
    pub sum_ns: u64,
}

impl Histogram {
    /// Adds one observation.
    pub fn observe(&mut self, value: Duration) {
        let ns = u64::try_from(value.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_MS.iter().position(|&ms| ns <= ms * 1_000_000).unwrap_or(BUCKETS_MS.len());
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum_ns = self.sum_ns.saturating_add(ns);
    }

    /// Number of observations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// How one shard stands right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardGauge {
    /// The shard.
    pub shard: super::ids::ShardId,
    /// Seconds between now and the receive time of the oldest record that is not acknowledged; 0 at the end.
    pub lag_seconds: u64,
    /// Seconds since the safe cursor last moved while something was pending; 0 where nothing is pending.
    pub pending_seconds: u64,
    /// True while it cannot go on without an operator or the sink.
    pub held: bool,
}
