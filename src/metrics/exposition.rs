//! The metrics as text: `OpenMetrics` as `prometheus-client` writes it, and the older Prometheus format made from it.
//!
//! Why: Prometheus asks for `OpenMetrics`, while several collectors read only text format 0.0.4, where a counter's
//! TYPE line must carry the name of its samples, `_total` included; without it they take counters for gauges.
//! Invariants: 1. every name in [`NAMES`] has its HELP and TYPE in every answer, also before the first sample.
//! 2. a pipeline's value is the sum over its executors.
//! Bounds: a few lines per shard, pipeline and core; 18 lines per histogram and pipeline.
//! Driven by: `Registry::render_*`, on a copied state.
//! Spec: `OpenMetrics` 1.0; Prometheus text exposition format 0.0.4.

use core::fmt;
use core::fmt::Write as _;
use std::collections::BTreeMap;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;

use super::State;
use crate::proto::counters::{BUCKETS_MS, Counters, Histogram};
use crate::proto::ids::ShardId;

/// Every metric of the reference, as its samples are named (histograms without `_bucket`, `_sum`, `_count`).
pub const NAMES: [&str; 33] = [
    "sls2siem_pulled_raw_bytes_total",
    "sls2siem_pulled_wire_bytes_total",
    "sls2siem_pulled_records_total",
    "sls2siem_pulls_total",
    "sls2siem_sent_bytes_total",
    "sls2siem_sent_requests_total",
    "sls2siem_acked_records_total",
    "sls2siem_acked_batches_total",
    "sls2siem_duplicates_possible_records_total",
    "sls2siem_retries_total",
    "sls2siem_refused_records_total",
    "sls2siem_dead_letter_records_total",
    "sls2siem_unproven_records_total",
    "sls2siem_invalid_utf8_records_total",
    "sls2siem_retention_gaps_total",
    "sls2siem_checkpoint_commits_total",
    "sls2siem_checkpoint_conflicts_total",
    "sls2siem_heartbeat_failures_total",
    "sls2siem_shards",
    "sls2siem_held_shards",
    "sls2siem_inflight_bytes",
    "sls2siem_hec_ack_mode",
    "sls2siem_lag_seconds",
    "sls2siem_pending_seconds",
    "sls2siem_checkpoint_age_seconds",
    "sls2siem_alarms",
    "sls2siem_executor_cpu_seconds_total",
    "sls2siem_executor_heartbeat_age_seconds",
    "sls2siem_watchdog_signals_total",
    "sls2siem_uptime_seconds",
    "sls2siem_sink_ack_seconds",
    "sls2siem_pull_seconds",
    "sls2siem_end_to_end_seconds",
];

/// `OpenMetrics` 1.0 text.
pub(super) fn openmetrics(state: &State) -> String {
    let mut registry = prometheus_client::registry::Registry::with_prefix("sls2siem");
    registry.register_collector(Box::new(Families(state.clone())));
    let mut out = String::new();
    // Writing into a String cannot fail; a half answer would at least lack its `# EOF`.
    let _infallible = text::encode(&mut out, &registry);
    out
}

/// The same samples in the Prometheus text format 0.0.4.
pub(super) fn classic(openmetrics: &str) -> String {
    let mut out = String::with_capacity(openmetrics.len() + 512);
    let mut help = None;
    for line in openmetrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let suffix = if rest.ends_with(" counter") { "_total" } else { "" };
            if let (Some((name, kind)), Some((_, text))) = (rest.split_once(' '), help.take()) {
                let _infallible = writeln!(out, "# HELP {name}{suffix} {text}\n# TYPE {name}{suffix} {kind}");
            }
        } else if line != "# EOF" {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[derive(Debug)]
struct Families(State);

impl Collector for Families {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page { state: &self.0, encoder };
        page.pipeline_counters()?;
        page.retries()?;
        page.control_counters()?;
        page.gauges()?;
        page.shards()?;
        page.process()?;
        page.histograms()
    }
}

struct Page<'s, 'e> {
    state: &'s State,
    encoder: DescriptorEncoder<'e>,
}

/// Labels of one sample; what has no value is left out.
type Labels<'a> = Vec<(&'static str, &'a str)>;

type Count = (&'static str, &'static str, fn(&Counters) -> u64);

/// Counted where data leaves SLS: labelled with the pipeline.
const PULLED: [Count; 5] = [
    ("pulled_raw_bytes", "Bytes of pulled log groups after decompression", |c| c.pulled_raw_bytes),
    ("pulled_wire_bytes", "Bytes of pull bodies as received", |c| c.pulled_wire_bytes),
    ("pulled_records", "Logs pulled", |c| c.pulled_records),
    ("pulls", "Pulls answered, empty ones included", |c| c.pulls),
    ("invalid_utf8_records", "Logs with bytes that are not UTF-8, written as U+FFFD", |c| {
        c.invalid_utf8_records
    }),
];

/// Counted where data enters the sink: labelled with the pipeline and the sink.
const SENT: [Count; 8] = [
    ("sent_bytes", "Bytes of frames handed to the sink, repetitions included", |c| c.sent_bytes),
    ("sent_requests", "Requests to the sink, repetitions included", |c| c.sent_requests),
    ("acked_records", "Logs acknowledged by the sink", |c| c.acked_records),
    ("acked_batches", "Batches acknowledged by the sink", |c| c.acked_batches),
    ("duplicates_possible_records", "Logs sent again without knowing whether the sink has them", |c| {
        c.duplicates_possible_records
    }),
    ("refused_records", "Logs that the sink refused for good", |c| c.refused_records),
    ("dead_letter_records", "Logs appended to the dead letter", |c| c.dead_letter_records),
    (
        "unproven_records",
        "Logs that count as delivered because they were written: nobody knows whether they arrived",
        |c| c.unproven_records,
    ),
];

impl<'s> Page<'s, '_> {
    fn pipeline_counters(&mut self) -> fmt::Result {
        for (name, help, value) in PULLED {
            let samples = self.pipelines(|name, _, totals| vec![(vec![("pipeline", name)], value(totals))]);
            self.counter(name, help, &samples)?;
        }
        for (name, help, value) in SENT {
            let samples = self.pipelines(|name, sink, totals| {
                vec![(vec![("pipeline", name), ("sink", sink)], value(totals))]
            });
            self.counter(name, help, &samples)?;
        }
        Ok(())
    }

    fn retries(&mut self) -> fmt::Result {
        let samples = self.pipelines(|name, sink, totals| {
            vec![
                (vec![("pipeline", name), ("reason", "pull")], totals.pull_retries),
                (vec![("pipeline", name), ("reason", "sink"), ("sink", sink)], totals.sink_retries),
            ]
        });
        self.counter("retries", "Attempts repeated after a failure", &samples)
    }

    fn control_counters(&mut self) -> fmt::Result {
        type Control = (&'static str, &'static str, fn(&super::ControlSnapshot) -> u64);
        let families: [Control; 4] = [
            ("retention_gaps", "Times that data had expired before it was read", |c| c.retention_gaps),
            ("checkpoint_commits", "Checkpoints saved", |c| c.checkpoint_commits),
            ("checkpoint_conflicts", "Checkpoints refused because another consumer holds the shard", |c| {
                c.checkpoint_conflicts
            }),
            ("heartbeat_failures", "Heartbeats without a good answer", |c| c.heartbeat_failures),
        ];
        let state = self.state;
        for (name, help, value) in families {
            let samples: Vec<_> = state
                .latest
                .controls
                .values()
                .map(|control| (vec![("pipeline", &*control.pipeline)], value(control)))
                .collect();
            self.counter(name, help, &samples)?;
        }
        Ok(())
    }

    fn gauges(&mut self) -> fmt::Result {
        let gauges: [Count; 4] = [
            ("shards", "Shards that this process works on", |c| c.shards),
            ("held_shards", "Shards that cannot go on without the sink or an operator", |c| c.held_shards),
            ("inflight_bytes", "Bytes of memory credit in use", |c| c.inflight_bytes),
            ("hec_ack_mode", "What counts as a receipt: 0 not known, 1 the status, 2 the indexer", |c| {
                c.hec_ack_mode
            }),
        ];
        for (name, help, value) in gauges {
            let samples = self.pipelines(|name, _, totals| vec![(vec![("pipeline", name)], value(totals))]);
            self.gauge(name, help, &samples)?;
        }
        let controls = self.state.latest.controls.values();
        let alarms: Vec<_> =
            controls.map(|c| (vec![("pipeline", &*c.pipeline)], c.alarms.len() as u64)).collect();
        self.gauge("alarms", "Standing troubles; /readyz words them", &alarms)
    }

    fn shards(&mut self) -> fmt::Result {
        let state = self.state;
        // While a shard moves, two executors may name it: the younger snapshot wins.
        let mut executors: Vec<_> = state.latest.executors.values().collect();
        executors.sort_by_key(|stamped| stamped.at);
        let mut shards: BTreeMap<(&str, ShardId), _> = BTreeMap::new();
        for part in executors.iter().flat_map(|stamped| &stamped.value.pipelines) {
            shards.extend(part.shards.iter().map(|gauge| ((&*part.pipeline, gauge.shard), *gauge)));
        }
        let lag = shards.iter().map(|(key, gauge)| (*key, gauge.lag_seconds));
        self.shard_gauge("lag_seconds", "Seconds between now and the oldest log not acknowledged", lag)?;
        let pending = shards.iter().map(|(key, gauge)| (*key, gauge.pending_seconds));
        self.shard_gauge(
            "pending_seconds",
            "Seconds without progress while logs wait for the sink",
            pending,
        )?;
        let ages = state.latest.controls.values().flat_map(|control| {
            control.checkpoints.iter().map(|c| ((&*control.pipeline, c.shard), c.age_seconds))
        });
        self.shard_gauge(
            "checkpoint_age_seconds",
            "Seconds since the checkpoint was last saved or up to date",
            ages,
        )
    }

    fn process(&mut self) -> fmt::Result {
        let state = self.state;
        let cores: Vec<(String, _)> =
            state.latest.executors.iter().map(|(core, stamped)| (core.to_string(), stamped)).collect();
        let mut family = self.encoder.encode_descriptor(
            "executor_cpu_seconds",
            "CPU time of the executor's thread",
            None,
            MetricType::Counter,
        )?;
        for (core, stamped) in &cores {
            let seconds = stamped.value.cpu.as_secs_f64();
            family.encode_family(&[("core", core.as_str())])?.encode_counter(&seconds, NO_EXEMPLAR)?;
        }
        let mut family = self.encoder.encode_descriptor(
            "executor_heartbeat_age_seconds",
            "Seconds since the executor last reported",
            None,
            MetricType::Gauge,
        )?;
        for (core, stamped) in &cores {
            let age = state.now.since(stamped.at).as_secs_f64();
            family.encode_family(&[("core", core.as_str())])?.encode_gauge(&age)?;
        }
        let signals: Vec<(String, u64)> =
            state.latest.watchdogs.values().map(|dog| (dog.core.to_string(), dog.signals)).collect();
        let signals: Vec<_> = signals.iter().map(|(core, n)| (vec![("core", core.as_str())], *n)).collect();
        self.counter(
            "watchdog_signals",
            "Signals sent to an executor whose heartbeat stood still",
            &signals,
        )?;
        let uptime = vec![(vec![("version", state.info.version.as_str())], state.now.0 / 1_000_000_000)];
        self.gauge("uptime_seconds", "Seconds since the process started", &uptime)
    }

    fn histograms(&mut self) -> fmt::Result {
        type Family = (&'static str, &'static str, fn(&Counters) -> &Histogram);
        let families: [Family; 3] = [
            ("sink_ack_seconds", "Time from a frame's first byte sent to its acknowledgement", |c| {
                &c.sink_ack_seconds
            }),
            ("pull_seconds", "Time from a pull's request to the end of its body", |c| &c.pull_seconds),
            (
                "end_to_end_seconds",
                "Time from the end of a pull to the acknowledgement of its last log",
                |c| &c.end_to_end_seconds,
            ),
        ];
        let state = self.state;
        for (name, help, histogram) in families {
            let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
            for info in &state.info.pipelines {
                let totals = state.totals(&info.name);
                let histogram = histogram(&totals);
                let bounds = BUCKETS_MS.iter().map(|&ms| seconds(ms * 1_000_000)).chain([f64::INFINITY]);
                let buckets: Vec<(f64, u64)> = bounds.zip(histogram.counts).collect();
                let labels = [("pipeline", &*info.name), ("sink", info.sink.as_str())];
                family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                    seconds(histogram.sum_ns),
                    histogram.count(),
                    &buckets,
                    None,
                )?;
            }
        }
        Ok(())
    }

    /// Samples of every pipeline, from its counters summed over the executors.
    fn pipelines(
        &self,
        sample: impl Fn(&'s str, &'s str, &Counters) -> Vec<(Labels<'s>, u64)>,
    ) -> Vec<(Labels<'s>, u64)> {
        let state = self.state;
        let names = state.info.pipelines.iter();
        names.flat_map(|info| sample(&info.name, &info.sink, &state.totals(&info.name))).collect()
    }

    fn counter(&mut self, name: &str, help: &str, samples: &[(Labels<'_>, u64)]) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            family.encode_family(labels)?.encode_counter(value, NO_EXEMPLAR)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, samples: &[(Labels<'_>, u64)]) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            family.encode_family(labels)?.encode_gauge(value)?;
        }
        Ok(())
    }

    fn shard_gauge<'v>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = ((&'v str, ShardId), u64)>,
    ) -> fmt::Result {
        let values: Vec<_> = values.map(|((p, shard), value)| (p, shard.to_string(), value)).collect();
        let samples: Vec<_> = values
            .iter()
            .map(|(p, s, value)| (vec![("pipeline", *p), ("shard", s.as_str())], *value))
            .collect();
        self.gauge(name, help, &samples)
    }
}

const NO_EXEMPLAR: Option<&Exemplar<NoLabelSet, u64>> = None;

#[expect(clippy::cast_precision_loss, reason = "seconds for people and dashboards, not for arithmetic")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
