//! Latency of a run: from the moment that a log should have been readable to the moment that the sink answered for it.
//!
//! Why: a test that starts its clock when the forwarder asks measures nothing while the forwarder is late, which is when
//! it matters (coordinated omission). The schedule of the source is a straight line of bytes over time; when a log
//! should have been readable follows from it, whatever happened later.
//! Invariants: 1. every point of the schedule within the measured time counts once, late or not. 2. what never arrived
//! counts with the end of the run.   Bounds: a histogram of 1 µs to an hour at three digits.
//! Driven by: [`super::measure`].   Spec: none.

use std::collections::BTreeMap;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::role::Track;

/// The schedule of every shard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    /// When the first byte was due (unix µs).
    pub(super) start_us: u64,
    /// Of one shard.
    pub(super) bytes_per_second: u64,
    /// Of the measured part (unix µs).
    pub(super) from_us: u64,
    pub(super) to_us: u64,
}

/// Percentiles in milliseconds.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Latency {
    pub(super) points: u64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
    /// (percentile, ms) for the plot.
    pub(super) curve: Vec<(f64, f64)>,
}

/// Puts the two timelines together: bytes and logs readable, logs stored.
pub(super) fn measure(schedule: Schedule, source: &Track, sink: &Track, end_us: u64) -> Result<Latency> {
    let mut stored: BTreeMap<u32, Vec<(u64, u64)>> = BTreeMap::new();
    for (shard, at_us, logs) in sink {
        stored.entry(*shard).or_default().push((*logs, *at_us));
    }
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 3_600_000_000, 3)?;
    for (shard, bytes, logs) in source {
        let due_us = u128::from(*bytes) * 1_000_000 / u128::from(schedule.bytes_per_second.max(1));
        let due_us = schedule.start_us.saturating_add(u64::try_from(due_us).unwrap_or(u64::MAX));
        if *logs == 0 || due_us < schedule.from_us || due_us > schedule.to_us {
            continue;
        }
        let arrivals = stored.get(shard).map_or(&[][..], Vec::as_slice);
        let at = arrivals.partition_point(|(stored, _)| stored < logs);
        let done_us = arrivals.get(at).map_or(end_us, |(_, at_us)| *at_us);
        histogram.saturating_record(done_us.saturating_sub(due_us).max(1));
    }
    let at = |quantile: f64| super::process::as_f64(histogram.value_at_quantile(quantile)) / 1000.0;
    let curve = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1.0];
    Ok(Latency {
        points: histogram.len(),
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: at(1.0),
        curve: curve.iter().map(|quantile| (quantile * 100.0, at(*quantile))).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_counts_and_not_what_was_asked() {
        let schedule = Schedule { start_us: 1_000_000, bytes_per_second: 1000, from_us: 0, to_us: u64::MAX };
        // 1000 bytes are due after a second; the forwarder was late for the second log and never got the third.
        let source = vec![(0, 1000, 1), (0, 2000, 2), (0, 3000, 3)];
        let sink = vec![(0, 2_010_000, 1), (0, 3_500_000, 2)];
        let latency = measure(schedule, &source, &sink, 9_000_000).expect("a histogram");
        assert_eq!(latency.points, 3);
        assert!((latency.p50 - 500.0).abs() < 1.0, "{latency:?}");
        assert!((latency.max - 5000.0).abs() < 5.0, "{latency:?}");
        let early = Schedule { to_us: 2_000_000, ..schedule };
        let latency = measure(early, &source, &sink, 9_000_000).expect("a histogram");
        assert_eq!(latency.points, 1);
        assert!((latency.max - 10.0).abs() < 0.1, "{latency:?}");
    }
}
