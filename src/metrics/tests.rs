use super::*;
use crate::proto::counters::{BUCKETS_MS, Histogram};

/// The list of the reference, as the user's scripts have it.
const REFERENCE: &str = "pulled_raw_bytes_total pulled_wire_bytes_total pulled_records_total sent_bytes_total \
    acked_records_total acked_batches_total duplicates_possible_records_total retries_total \
    refused_records_total dead_letter_records_total invalid_utf8_records_total retention_gaps_total \
    checkpoint_commits_total checkpoint_conflicts_total heartbeat_failures_total held_shards inflight_bytes \
    lag_seconds checkpoint_age_seconds executor_cpu_seconds_total sink_ack_seconds pull_seconds \
    end_to_end_seconds";

fn info(cores: &[usize], pipelines: &[&str]) -> Info {
    let pipelines = pipelines.iter().map(|name| PipelineInfo {
        name: (*name).into(),
        source: "p/l".to_owned(),
        sink: "hec".to_owned(),
    });
    Info {
        version: "1.2.3".to_owned(),
        cores: cores.to_vec(),
        pipelines: pipelines.collect(),
        ..Info::default()
    }
}

fn counters(raw: u64, acked: u64) -> Counters {
    Counters { pulled_raw_bytes: raw, acked_records: acked, ..Counters::default() }
}

fn executor(core: usize, pipeline: &str, counters: Counters, shards: Vec<ShardGauge>) -> ExecutorSnapshot {
    let part = PipelineSnapshot { pipeline: pipeline.into(), counters, shards };
    ExecutorSnapshot { core, cpu: Duration::from_millis(1500), pipelines: vec![part] }
}

fn gauge(shard: u32, lag_seconds: u64) -> ShardGauge {
    ShardGauge { shard: ShardId(shard), lag_seconds, pending_seconds: 0, held: false }
}

fn control(pipeline: &str) -> ControlSnapshot {
    ControlSnapshot {
        pipeline: pipeline.into(),
        member: true,
        alarms: Vec::new(),
        checkpoint_commits: 7,
        checkpoint_conflicts: 1,
        heartbeat_failures: 2,
        retention_gaps: 3,
        checkpoints: vec![CheckpointGauge { shard: ShardId(4), age_seconds: 5 }],
    }
}

fn at(secs: u64) -> Instant {
    Instant(secs * 1_000_000_000)
}

/// Everything in one exposition: family name -> (kind, samples of name, labels, value).
type Families = BTreeMap<String, (String, Vec<(String, Labels, f64)>)>;
type Labels = BTreeMap<String, String>;

/// A strict reader of both formats: HELP, then TYPE, then the family's samples and nothing else, no series twice.
fn read(text: &str) -> Families {
    let mut families = Families::new();
    let mut family = String::new();
    let mut seen = std::collections::BTreeSet::new();
    let mut lines = text.lines().peekable();
    assert!(text.ends_with('\n'));
    while let Some(line) = lines.next() {
        if line == "# EOF" {
            assert!(lines.peek().is_none(), "text after EOF");
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("help text");
            assert!(!help.is_empty() && !help.contains(['\\', '\n']));
            let kind = lines.next().and_then(|l| l.strip_prefix("# TYPE ")).expect("TYPE after HELP");
            let (again, kind) = kind.split_once(' ').expect("kind");
            assert_eq!(again, name);
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(
                families.insert(name.to_owned(), (kind.to_owned(), Vec::new())).is_none(),
                "{name} twice"
            );
            name.clone_into(&mut family);
        } else {
            assert!(!line.starts_with('#') && !line.is_empty(), "{line:?}");
            let (series, value) = line.rsplit_once(' ').expect("value");
            let (name, labels) = series.split_once('{').expect("labels");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
            assert!(name.starts_with(&family), "{name} under {family}");
            assert!(seen.insert(series.to_owned()), "{series} twice");
            let labels = read_labels(labels.strip_suffix('}').expect("closing brace"));
            let entry = families.get_mut(&family).expect("a family before its samples");
            entry.1.push((name.to_owned(), labels, value.parse().expect("a number")));
        }
    }
    families
}

fn read_labels(mut text: &str) -> Labels {
    let mut labels = Labels::new();
    while !text.is_empty() {
        let (key, rest) = text.split_once("=\"").expect("key");
        assert!(key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{key}");
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next().expect("closing quote") {
                (_, '\\') => match chars.next().expect("escape").1 {
                    'n' => value.push('\n'),
                    c @ ('\\' | '"') => value.push(c),
                    c => panic!("bad escape {c}"),
                },
                (i, '"') => break i + 1,
                (_, c) => value.push(c),
            }
        };
        assert!(labels.insert(key.to_owned(), value).is_none(), "{key} twice");
        text = &rest[end..];
        assert!(text.is_empty() || text.starts_with(','), "{text}");
        text = text.strip_prefix(',').unwrap_or(text);
    }
    labels
}

fn value(families: &Families, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let labels: Labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let mut samples = families.values().flat_map(|(_, samples)| samples);
    samples.find(|(n, l, _)| *n == format!("sls2siem_{name}") && *l == labels).map(|(.., value)| *value)
}

/// A registry with two executors sharing one pipeline and everything filled in.
fn busy() -> Registry {
    let registry = Registry::new(info(&[0, 1], &["default"]));
    for core in [0, 1] {
        let mut one = counters(100, 10);
        one.pull_retries = 2;
        one.sink_retries = 3;
        one.sink_ack_seconds.observe(Duration::from_millis(3));
        one.sink_ack_seconds.observe(Duration::from_secs(1000));
        let shard = u32::try_from(core).expect("small");
        registry.publisher().executor(executor(core, "default", one, vec![gauge(shard, 9)]));
    }
    registry.publisher().control(control("default"));
    registry.publisher().watchdog(WatchdogSnapshot { core: 1, signals: 4 });
    registry
}

#[test]
fn every_name_of_the_reference_is_there_with_its_type_before_the_first_sample() {
    let idle = Registry::new(Info::default());
    for registry in [idle, busy()] {
        let families = read(&registry.render_prometheus());
        for name in REFERENCE.split(' ').map(|name| format!("sls2siem_{name}")) {
            assert!(NAMES.contains(&name.as_str()), "{name} is not in NAMES");
        }
        for name in NAMES {
            let (kind, _) = families.get(name).unwrap_or_else(|| panic!("{name} is missing"));
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
        }
        assert_eq!(families.len(), NAMES.len(), "a family that the reference does not have");
    }
}

#[test]
fn openmetrics_names_a_counter_without_its_suffix_and_ends_with_eof() {
    let text = busy().render_openmetrics();
    assert!(text.ends_with("# EOF\n"));
    let families = read(&text);
    let (kind, samples) = &families["sls2siem_pulled_raw_bytes"];
    assert_eq!((kind.as_str(), samples[0].0.as_str()), ("counter", "sls2siem_pulled_raw_bytes_total"));
    assert_eq!(families.len(), NAMES.len());
}

#[test]
fn values_are_sums_over_executors_with_the_labels_of_the_reference() {
    let families = read(&busy().render_prometheus());
    let of = |name: &str, labels: &[(&str, &str)]| value(&families, name, labels);
    assert_eq!(of("pulled_raw_bytes_total", &[("pipeline", "default")]), Some(200.0));
    assert_eq!(of("acked_records_total", &[("pipeline", "default"), ("sink", "hec")]), Some(20.0));
    assert_eq!(of("retries_total", &[("pipeline", "default"), ("reason", "pull")]), Some(4.0));
    let sink_retries = [("pipeline", "default"), ("reason", "sink"), ("sink", "hec")];
    assert_eq!(of("retries_total", &sink_retries), Some(6.0));
    assert_eq!(of("lag_seconds", &[("pipeline", "default"), ("shard", "1")]), Some(9.0));
    assert_eq!(of("checkpoint_age_seconds", &[("pipeline", "default"), ("shard", "4")]), Some(5.0));
    assert_eq!(of("checkpoint_commits_total", &[("pipeline", "default")]), Some(7.0));
    assert_eq!(of("executor_cpu_seconds_total", &[("core", "1")]), Some(1.5));
    assert_eq!(of("watchdog_signals_total", &[("core", "1")]), Some(4.0));
}

#[test]
fn histograms_are_cumulative_and_in_seconds() {
    let families = read(&busy().render_prometheus());
    let (_, samples) = &families["sls2siem_sink_ack_seconds"];
    let buckets: Vec<(f64, f64)> = samples
        .iter()
        .filter(|(name, ..)| name.ends_with("_bucket"))
        .map(|(_, labels, value)| (labels["le"].parse().expect("a bound"), *value))
        .collect();
    assert_eq!(buckets.len(), BUCKETS_MS.len() + 1);
    assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{buckets:?}");
    let upto = |bound: f64| buckets.iter().find(|(le, _)| le.total_cmp(&bound).is_eq()).map(|(_, n)| *n);
    assert_eq!((upto(0.002), upto(0.005), upto(300.0)), (Some(0.0), Some(2.0), Some(2.0)));
    assert_eq!(upto(f64::INFINITY), Some(4.0));
    let labels = [("pipeline", "default"), ("sink", "hec")];
    assert_eq!(value(&families, "sink_ack_seconds_count", &labels), Some(4.0));
    assert_eq!(value(&families, "sink_ack_seconds_sum", &labels), Some(2000.006));
}

#[test]
fn label_values_are_escaped() {
    let name = "a\"b\\c\nd";
    let registry = Registry::new(info(&[], &[name]));
    let families = read(&registry.render_prometheus());
    assert_eq!(value(&families, "pulled_records_total", &[("pipeline", name)]), Some(0.0));
}

#[test]
fn the_sum_of_two_counters_holds_every_field() {
    let mut histogram = Histogram::default();
    histogram.observe(Duration::from_millis(7));
    let one = Counters {
        pulled_raw_bytes: 1,
        pulled_wire_bytes: 2,
        pulled_records: 3,
        pulls: 4,
        sent_bytes: 5,
        sent_requests: 6,
        acked_records: 7,
        acked_batches: 8,
        duplicates_possible_records: 9,
        pull_retries: 10,
        sink_retries: 11,
        refused_records: 12,
        dead_letter_records: 13,
        invalid_utf8_records: 14,
        unproven_records: 18,
        held_shards: 15,
        inflight_bytes: 16,
        shards: 17,
        hec_ack_mode: 2,
        sink_ack_seconds: histogram.clone(),
        pull_seconds: histogram.clone(),
        end_to_end_seconds: histogram,
    };
    let mut sum = Counters::default();
    add(&mut sum, &one);
    assert_eq!(sum, one);
    add(&mut sum, &one);
    assert_eq!((sum.shards, sum.pulls, sum.pull_seconds.count()), (34, 8, 2));
    assert_eq!(sum.pull_seconds.sum_ns, 14_000_000);
}

#[test]
fn a_writer_that_nobody_reads_keeps_the_newest_and_never_waits() {
    let registry = Registry::new(info(&[3], &["default"]));
    let publisher = registry.publisher();
    for n in 1..=1000 {
        publisher.executor(executor(3, "default", counters(n, 0), Vec::new()));
    }
    assert!(publisher.mailbox.len() <= MAILBOX_SNAPSHOTS);
    assert_eq!(registry.overview().pipelines[0].totals.pulled_raw_bytes, 1000);
}

#[test]
fn a_clone_has_its_own_mailbox_and_a_dropped_writer_is_heard_to_the_end() {
    let registry = Registry::new(info(&[0, 1], &["default"]));
    let first = registry.publisher();
    let second = first.clone();
    first.executor(executor(0, "default", counters(1, 0), Vec::new()));
    for _ in 0..100 {
        second.executor(executor(1, "default", counters(10, 0), Vec::new()));
    }
    drop((first, second));
    assert_eq!(registry.overview().pipelines[0].totals.pulled_raw_bytes, 11);
    registry.sample();
    assert!(registry.with_desk(|desk| desk.mailboxes.is_empty()), "closed mailboxes go away");
}

#[test]
fn writers_on_threads_are_summed() {
    let cores: Vec<usize> = (0..8).collect();
    let registry = Registry::new(info(&cores, &["default"]));
    std::thread::scope(|scope| {
        for core in cores {
            let publisher = registry.publisher();
            scope.spawn(move || {
                for n in 0..=500 {
                    publisher.executor(executor(core, "default", counters(n, n), Vec::new()));
                }
            });
        }
        for _ in 0..50 {
            registry.sample();
        }
    });
    let totals = &registry.overview().pipelines[0].totals;
    assert_eq!((totals.pulled_raw_bytes, totals.acked_records), (4000, 4000));
}

#[test]
fn rates_are_taken_between_stamps_and_added_over_executors() {
    let registry = Registry::new(info(&[0, 1], &["default"]));
    let publisher = registry.publisher();
    let post = |core, secs, raw, cpu| {
        let mut snapshot = executor(core, "default", counters(raw, raw / 10), Vec::new());
        snapshot.cpu = Duration::from_millis(cpu);
        publisher.post_at(at(secs), Content::Executor(snapshot));
    };
    post(0, 1, 0, 0);
    post(1, 2, 1000, 100);
    registry.sample();
    assert!(
        registry.overview_at(at(2)).pipelines[0].raw_bytes_per_second.abs() < 1e-9,
        "one point is no rate"
    );
    post(0, 11, 5000, 1000);
    post(1, 7, 2000, 600);
    let overview = registry.overview_at(at(1000));
    let pipeline = &overview.pipelines[0];
    assert!((pipeline.raw_bytes_per_second - 700.0).abs() < 1e-6, "500 + 200 whenever it is read");
    assert!((pipeline.acked_records_per_second - 70.0).abs() < 1e-6);
    assert!((overview.cores[0].cpu - 0.1).abs() < 1e-9);
    assert!((overview.cores[1].cpu - 0.1).abs() < 1e-9);
}

/// The first sample of a process is taken before anybody has reported.
#[test]
fn rates_are_known_as_soon_as_an_executor_has_reported_twice() {
    let registry = Registry::new(info(&[0], &["default"]));
    registry.sample();
    let publisher = registry.publisher();
    for (secs, raw) in [(1, 1000), (3, 5000)] {
        let snapshot = executor(0, "default", counters(raw, raw / 10), Vec::new());
        publisher.post_at(at(secs), Content::Executor(snapshot));
        registry.sample();
    }
    let rate = registry.overview_at(at(3)).pipelines[0].raw_bytes_per_second;
    assert!((rate - 2000.0).abs() < 1e-6, "{rate}");
}

#[test]
fn the_window_of_samples_is_bounded() {
    let registry = busy();
    for _ in 0..100 {
        registry.sample();
    }
    assert_eq!(registry.with_desk(|desk| desk.window.len()), WINDOW_SAMPLES);
}

#[test]
fn a_moving_shard_is_shown_once_as_its_younger_snapshot_has_it() {
    for younger in [0, 1] {
        let registry = Registry::new(info(&[0, 1], &["default"]));
        let publisher = registry.publisher();
        for core in [0, 1] {
            let (secs, lag) = if core == younger { (9, 111) } else { (8, 222) };
            let snapshot = executor(core, "default", counters(0, 0), vec![gauge(5, lag)]);
            publisher.post_at(at(secs), Content::Executor(snapshot));
        }
        let families = read(&registry.render_prometheus());
        let lag = value(&families, "lag_seconds", &[("pipeline", "default"), ("shard", "5")]);
        assert_eq!(lag, Some(111.0), "core {younger} is younger");
    }
}

#[test]
fn health_follows_the_stamps_of_the_executors() {
    let registry = Registry::new(info(&[2], &[]));
    let health = |secs| view::health(&registry.state_at(at(secs)));
    assert_eq!(health(3), Vec::<String>::new(), "still starting");
    assert_eq!(health(12), ["executor on core 2 has not started after 12 s"]);
    let publisher = registry.publisher();
    publisher.post_at(at(20), Content::Executor(executor(2, "default", counters(0, 0), Vec::new())));
    assert_eq!(health(24), Vec::<String>::new());
    assert_eq!(health(27), ["executor on core 2 has not reported for 7 s"]);
}

#[test]
fn readiness_names_each_reason() {
    let registry = Registry::new(info(&[0], &["default", "other"]));
    let publisher = registry.publisher();
    let reasons = || view::readiness(&registry.state_at(at(1)));
    assert_eq!(reasons().len(), 3);
    assert!(reasons()[0].contains("core 0 has not started"));
    assert!(reasons()[1].contains("pipeline default: not yet a lease"));

    let mut held = counters(0, 0);
    held.held_shards = 2;
    publisher.post_at(at(1), Content::Executor(executor(0, "default", held, Vec::new())));
    publisher.control(control("default"));
    let lost = ControlSnapshot {
        member: false,
        alarms: vec!["hec refused the token (403, code 4)".to_owned()],
        ..control("other")
    };
    publisher.control(lost);
    let reasons = reasons();
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert!(reasons[0].contains("pipeline default: 2 shard(s) held"));
    assert!(reasons[1].contains("pipeline other: not yet a lease"));
    assert_eq!(reasons[2], "pipeline other: hec refused the token (403, code 4)");
}
