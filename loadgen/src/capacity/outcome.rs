//! What one run showed, and what it says about the targets.
//!
//! Why: a figure without its target, and without what stood in its way, is not a result.
//! Invariants: 1. a target that no run was about is named as such, never left out. 2. a run in which something was lost
//! has no figures worth showing: it fails.   Bounds: none.   Driven by: [`super::run`].   Spec: README.md, "Numbers".

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::latency::Latency;
use super::process::{Cpu, as_f64};
use super::spec::{Axis, FULL, IDLE, Load, STEADY, STUCK, SYSLOG_JSON, SYSLOG_KV, Spec, TEN};
use super::stages::{self, Stages};
use crate::verify::Verdict;

/// One run, measured.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Outcome {
    pub(super) spec: Spec,
    pub(super) placement: String,
    /// Of the measured part, in seconds.
    pub(super) wall: f64,
    /// Raw bytes forwarded in it.
    pub(super) raw_bytes: u64,
    pub(super) wire_bytes: u64,
    pub(super) pulls: u64,
    pub(super) requests: u64,
    /// CPU time of all forwarders, by kind of thread.
    pub(super) threads: BTreeMap<String, Cpu>,
    pub(super) source_cpu: f64,
    pub(super) sink_cpu: f64,
    /// Part of the forwarder's cores that went to others, hypervisor included; 0 to 1.
    pub(super) disturbed: f64,
    /// Memory of the largest forwarder at the end and at its highest, in bytes.
    pub(super) resident: u64,
    pub(super) resident_peak: u64,
    pub(super) latency: Option<Latency>,
    pub(super) verdict: Option<Verdict>,
    /// Cores of servers and of all forwarders.
    pub(super) server_cores: usize,
    pub(super) forwarder_cores: usize,
    /// Least and most of all repetitions: µs of CPU per raw MB, or CPU seconds per second where nothing flows.
    pub(super) spread: Option<(f64, f64)>,
    pub(super) runs: u32,
    /// Of a run that was sampled.
    pub(super) stages: Option<Stages>,
}

impl Outcome {
    pub(super) fn cpu(&self) -> Cpu {
        self.threads.values().fold(Cpu::default(), |sum, cpu| sum.plus(*cpu))
    }

    pub(super) fn megabytes(&self) -> f64 {
        as_f64(self.raw_bytes) / 1e6
    }

    /// Raw MB per CPU-second.
    pub(super) fn efficiency(&self) -> f64 {
        self.megabytes() / self.cpu().total().max(1e-9)
    }

    /// Percent of one core.
    pub(super) fn percent(&self) -> f64 {
        self.cpu().total() / self.wall.max(1e-9) * 100.0
    }

    /// Microseconds of CPU per raw MB.
    pub(super) fn cost(&self) -> f64 {
        self.cpu().total() * 1e6 / self.megabytes().max(1e-9)
    }

    /// What limited a run at full speed, or held a steady one back.
    pub(super) fn limit(&self) -> Option<String> {
        let share = |cpu: f64, cores: usize| cpu / (self.wall * as_f64(cores.max(1) as u64)).max(1e-9);
        let own = share(self.cpu().total(), self.forwarder_cores);
        let servers = share(self.source_cpu + self.sink_cpu, self.server_cores);
        match self.spec.load {
            Load::Max(_) if own >= 0.85 => None,
            Load::Max(_) if servers >= 0.7 => Some(format!(
                "the servers were the bottleneck ({:.0} % of their cores; the forwarder used {:.0} % of its own)",
                servers * 100.0,
                own * 100.0
            )),
            Load::Max(_) => Some(format!(
                "nobody was busy all the time (forwarder {:.0} %, servers {:.0} % of their cores): waits between \
                 them, or other programs",
                own * 100.0,
                servers * 100.0
            )),
            Load::Rate(rate) if self.megabytes() < 0.95 * as_f64(rate) / 1e6 * self.wall => Some(format!(
                "the rate was not kept up: {:.1} of {:.1} MB/s",
                self.megabytes() / self.wall,
                as_f64(rate) / 1e6
            )),
            _ => None,
        }
    }

    /// Whether nothing was lost.
    pub(super) fn is_whole(&self) -> bool {
        self.verdict.as_ref().is_none_or(Verdict::is_complete)
    }
}

/// µs of CPU per raw MB of each stage, of the runs that were sampled: what follows "stages, " in their names.
pub(super) fn by_stage(outcomes: &[Outcome]) -> Vec<(String, [f64; stages::NAMES.len()])> {
    let costs = |run: &Outcome| {
        let shares = run.stages.as_ref()?.shares();
        let name = run.spec.name.trim_start_matches("stages, ").to_owned();
        Some((name, shares.map(|share| share * run.cost())))
    };
    outcomes.iter().filter_map(costs).collect()
}

/// One line of the table of targets.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    pub(super) what: String,
    pub(super) target: String,
    pub(super) measured: Option<String>,
    pub(super) is_met: Option<bool>,
    /// Why there is no figure, or what it hides.
    pub(super) note: String,
}

/// The targets, with what the runs say about them.
pub(super) fn rows(outcomes: &[Outcome]) -> Vec<Row> {
    let of = |name: &str| outcomes.iter().find(|outcome| outcome.spec.name == name);
    let mut rows = vec![
        row("full speed, raw MB per CPU-second", ">= 800", of(FULL), |run| {
            (format!("{:.0}", run.efficiency()), run.efficiency() >= 800.0)
        }),
        row("syslog RFC 5424 over TLS, json, raw MB per CPU-second", ">= 700", of(SYSLOG_JSON), |run| {
            (format!("{:.0}", run.efficiency()), run.efficiency() >= 700.0)
        }),
        row("syslog RFC 5424 over TLS, kv, raw MB per CPU-second", ">= 700", of(SYSLOG_KV), |run| {
            (format!("{:.0}", run.efficiency()), run.efficiency() >= 700.0)
        }),
        absent("full speed against the floor of this machine", ">= 0.8", "cargo bench --bench path"),
        steady(of(STEADY)),
        row("10 shards at 10 times the rate, % of one core", "<= 16", of(TEN), |run| {
            (format!("{:.1}", run.percent()), run.percent() <= 16.0)
        }),
        row("idle, 4 shards at their end, % of one core", "<= 0.3", of(IDLE), |run| {
            (format!("{:.2}", run.percent()), run.percent() <= 0.3)
        }),
        flat(outcomes, Axis::Shards, "cost per MB from 1 to 64 shards at full speed, most over least"),
        flat(outcomes, Axis::Spread, "cost per MB from 1 to 64 shards at 50 MB/s, most over least"),
        row("memory at the steady rate, MiB resident", "<= 40", of(STEADY), |run| {
            (mib(run.resident_peak), run.resident_peak <= 40 << 20)
        }),
        row("memory with a sink that stands still, MiB", "<= runtime.memory + 32", of(STUCK), |run| {
            (mib(run.resident_peak), run.resident_peak <= (run.spec.memory_mib + 32) << 20)
        }),
    ];
    rows.push(match of(STEADY).and_then(|run| Some((run, run.latency.as_ref()?))) {
        None => absent("latency p99, readable to answered, ms", "<= fetch_interval + 150", ""),
        Some((run, latency)) => Row {
            what: "latency p99, readable to answered, ms".to_owned(),
            target: format!("<= {}", run.spec.fetch_ms + 150),
            measured: Some(format!("{:.0} (p50 {:.0}, max {:.0})", latency.p99, latency.p50, latency.max)),
            is_met: Some(latency.p99 <= as_f64(run.spec.fetch_ms + 150)),
            note: String::new(),
        },
    });
    rows.push(absent("allocations per record", "0", "cargo test --test alloc_free"));
    rows.push(absent("gzip against the sum of its parts", "within 15 %", "cargo bench --bench path"));
    rows
}

fn steady(run: Option<&Outcome>) -> Row {
    let rate = run.map_or(10.0, |run| match run.spec.load {
        Load::Rate(rate) => as_f64(rate) / 1e6,
        _ => 10.0,
    });
    let target = 0.18 * rate;
    let what = format!("steady {rate:.0} MB/s, one shard, % of one core");
    row(&what, &format!("<= {target:.1}"), run, |run| {
        (format!("{:.2}", run.percent()), run.percent() <= target)
    })
}

fn flat(outcomes: &[Outcome], axis: Axis, what: &str) -> Row {
    let costs: Vec<f64> = outcomes.iter().filter(|run| run.spec.axis == axis).map(Outcome::cost).collect();
    if costs.len() < 2 {
        return absent(what, "<= 1.15", "--sweep");
    }
    let (least, most) =
        costs.iter().fold((f64::MAX, 0.0_f64), |(least, most), cost| (least.min(*cost), most.max(*cost)));
    Row {
        what: what.to_owned(),
        target: "<= 1.15".to_owned(),
        measured: Some(format!("{:.2}", most / least)),
        is_met: Some(most / least <= 1.15),
        note: String::new(),
    }
}

fn row(what: &str, target: &str, run: Option<&Outcome>, read: impl Fn(&Outcome) -> (String, bool)) -> Row {
    let Some(run) = run else { return absent(what, target, "") };
    let (measured, is_met) = read(run);
    Row {
        what: what.to_owned(),
        target: target.to_owned(),
        measured: Some(measured),
        is_met: Some(is_met),
        note: run.limit().unwrap_or_default(),
    }
}

fn absent(what: &str, target: &str, by: &str) -> Row {
    let note = if by.is_empty() { "not part of this run".to_owned() } else { format!("measured by {by}") };
    Row { what: what.to_owned(), target: target.to_owned(), measured: None, is_met: None, note }
}

fn mib(bytes: u64) -> String {
    format!("{:.1}", as_f64(bytes) / f64::from(1 << 20))
}

/// The table as text.
pub(super) fn render(rows: &[Row]) -> String {
    let mut lines = vec![["figure", "target", "measured", ""].map(str::to_owned)];
    lines.extend(rows.iter().map(|row| {
        let verdict = match row.is_met {
            None => "not measured here",
            Some(true) => "met",
            Some(false) => "MISSED",
        };
        let note = if row.note.is_empty() { String::new() } else { format!(" ({})", row.note) };
        let measured = row.measured.clone().unwrap_or_else(|| "-".to_owned());
        [row.what.clone(), row.target.clone(), measured, format!("{verdict}{note}")]
    }));
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(String::len).max();
    let widths: Vec<usize> = (0..3).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for line in &lines {
        for (cell, &width) in line.iter().zip(&widths) {
            let _infallible = write!(text, "{cell:<width$}  ");
        }
        text += line.last().map_or("", String::as_str);
        text.push('\n');
    }
    text
}

/// One run as a line.
pub(super) fn line(run: &Outcome) -> String {
    let cpu = run.cpu();
    let mut text = format!(
        "{:<40} {:7.1} MB/s {:6.2} % of a core ({:.2} user, {:.2} system) {:5.0} MB per CPU-s, {:5.1} MiB",
        run.spec.name,
        run.megabytes() / run.wall.max(1e-9),
        run.percent(),
        cpu.user / run.wall.max(1e-9) * 100.0,
        cpu.system / run.wall.max(1e-9) * 100.0,
        run.efficiency(),
        as_f64(run.resident_peak) / f64::from(1 << 20),
    );
    if let Some((least, most)) = run.spread.filter(|_| run.runs > 1 && run.raw_bytes > 0) {
        let _infallible =
            write!(text, ", median of {} ({:.0} to {:.0} MB per CPU-s)", run.runs, 1e6 / most, 1e6 / least);
    }
    if let Some(latency) = &run.latency {
        let _infallible =
            write!(text, ", p50 {:.0} p99 {:.0} max {:.0} ms", latency.p50, latency.p99, latency.max);
    }
    if let Some(limit) = run.limit() {
        let _infallible = write!(text, "\n    {limit}");
    }
    if run.disturbed > 0.1 {
        let _infallible =
            write!(text, "\n    other programs had {:.0} % of the forwarder's core", run.disturbed * 100.0);
    }
    if let Some(verdict) = run.verdict.as_ref().filter(|verdict| !verdict.is_exact()) {
        let _infallible = write!(text, "\n    lost {}, duplicates {}", verdict.lost, verdict.duplicates);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, load: Load, seconds: f64) -> Outcome {
        Outcome {
            spec: Spec::new(name, load),
            placement: String::new(),
            wall: 10.0,
            raw_bytes: 100_000_000,
            wire_bytes: 0,
            pulls: 0,
            requests: 0,
            threads: [("s2s-core".to_owned(), Cpu { user: seconds, system: 0.0 })].into(),
            source_cpu: 9.0,
            sink_cpu: 0.0,
            disturbed: 0.0,
            resident: 0,
            resident_peak: 30 << 20,
            latency: None,
            verdict: None,
            server_cores: 1,
            forwarder_cores: 1,
            spread: None,
            runs: 1,
            stages: None,
        }
    }

    #[test]
    fn targets_are_met_missed_or_named_as_absent() {
        let steady = run(STEADY, Load::Rate(10_000_000), 0.17);
        let full = run(FULL, Load::Max(1), 0.5);
        let rows = rows(&[steady, full]);
        let text = render(&rows);
        let line = |what: &str| text.lines().find(|line| line.starts_with(what)).expect(what).to_owned();
        assert!(line("steady 10 MB/s").contains("1.70") && line("steady 10 MB/s").contains("met"), "{text}");
        assert!(line("full speed, raw").contains("MISSED (the servers were the bottleneck"), "{text}");
        assert!(line("idle").ends_with("not measured here (not part of this run)"), "{text}");
        assert!(line("memory at").contains("30.0"), "{text}");
        assert_eq!(rows.iter().filter(|row| row.measured.is_none()).count(), rows.len() - 3);
    }

    #[test]
    fn a_rate_that_was_not_kept_up_is_told() {
        assert!(
            run("a", Load::Rate(20_000_000), 1.0).limit().is_some_and(|text| text.contains("10.0 of 20.0"))
        );
        assert_eq!(run("a", Load::Rate(10_000_000), 1.0).limit(), None);
        assert_eq!(run("a", Load::Max(1), 9.0).limit(), None);
    }
}
