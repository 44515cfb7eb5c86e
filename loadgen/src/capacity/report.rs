//! report.html and report.json.
//!
//! Why: figures travel as files: one for people, self-contained, one for programs.
//! Invariants: 1. whatever stands in the report says on which machine and by which command.   Bounds: none.
//! Driven by: [`super::run`].   Spec: none.

use std::fmt::{self, Write as _};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::json;

use super::outcome::{Outcome, Row, by_stage};
use super::plot::{Scale, Series, bars, escape, lines};
use super::process::as_f64;
use super::spec::{Axis, Load};
use super::stages;

/// Where it was measured, and how.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Machine {
    processor: String,
    cores: usize,
    kernel: String,
    congestion_control: String,
    forwarder: String,
    commit: String,
    command: String,
}

impl Machine {
    pub(super) fn read(program: &Path, cores: usize) -> Self {
        let file = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let info = file("/proc/cpuinfo");
        let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let said = |command: &mut Command| {
            let output = command.output().ok().filter(|output| output.status.success());
            output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
        };
        Self {
            processor: model.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned()),
            cores,
            kernel: file("/proc/sys/kernel/osrelease"),
            congestion_control: file("/proc/sys/net/ipv4/tcp_congestion_control"),
            forwarder: said(Command::new(program).arg("--version")),
            // Only where it is run in a working copy; a release has no other name for its sources than its version.
            commit: said(Command::new("git").args(["describe", "--always", "--dirty"])),
            command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, cores, kernel, congestion_control, forwarder, commit, command } = self;
        write!(
            f,
            "{processor}, {cores} cores, Linux {kernel} ({congestion_control}); {forwarder}, commit {}; loadgen {command}",
            if commit.is_empty() { "unknown" } else { commit }
        )
    }
}

/// Writes both files.
pub(super) fn write(folder: &Path, machine: &Machine, outcomes: &[Outcome], rows: &[Row]) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let figures: Vec<_> = outcomes
        .iter()
        .map(|run| {
            json!({
                "run": run,
                "percent_of_a_core": run.percent(),
                "raw_mb_per_cpu_second": run.efficiency(),
                "cpu_us_per_raw_mb": run.cost(),
                "limited_by": run.limit(),
            })
        })
        .collect();
    let all = json!({ "machine": machine, "targets": rows, "runs": figures });
    let put = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    };
    put("report.json", serde_json::to_string_pretty(&all)? + "\n")?;
    put("report.html", html(machine, outcomes, rows))
}

fn html(machine: &Machine, outcomes: &[Outcome], rows: &[Row]) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>sls2siem capacity</title><style>{STYLE}</style>\
         <h1>What sls2siem costs</h1><p>{}</p><p>CPU time is that of the whole forwarder process, as the kernel counts \
         it; MB are raw log bytes (10<sup>6</sup>); TLS on both sides. The sink counts and compares the numbers of all \
         logs, not their contents. Latency runs from the moment that a log was to be readable by the schedule to the \
         moment that the sink answered for it.</p>",
        escape(&machine.to_string())
    );
    page += &targets(rows);
    page += "<div class=\"plots\">";
    page += &plots(outcomes);
    page += "</div>";
    page += &runs(outcomes);
    page + "</html>\n"
}

fn targets(rows: &[Row]) -> String {
    let mut table =
        "<table><tr><th>figure</th><th>target</th><th>measured</th><th></th><th></th></tr>".to_owned();
    for row in rows {
        let (class, word) = match row.is_met {
            Some(true) => ("met", "met"),
            Some(false) => ("missed", "missed"),
            None => ("absent", "not measured here"),
        };
        let _infallible = write!(
            table,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"{class}\">{word}</td><td>{}</td></tr>",
            escape(&row.what),
            escape(&row.target),
            escape(row.measured.as_deref().unwrap_or("-")),
            escape(&row.note)
        );
    }
    table + "</table>"
}

fn plots(outcomes: &[Outcome]) -> String {
    let rate = |run: &Outcome| match run.spec.load {
        Load::Rate(rate) => Some(as_f64(rate) / 1e6),
        _ => None,
    };
    let over_rate = |name: &str, value: fn(&Outcome) -> f64| Series {
        name: name.to_owned(),
        points: sorted(
            outcomes
                .iter()
                .filter(|run| run.spec.axis == Axis::Rate)
                .filter_map(|run| Some((rate(run)?, value(run)))),
        ),
    };
    let per_wall = |run: &Outcome, cpu: f64| cpu / run.wall.max(1e-9) * 100.0;
    let mut page = lines(
        "CPU over rate, one shard",
        ("raw MB/s", "% of one core"),
        Scale::Linear,
        &[
            over_rate("all", Outcome::percent),
            over_rate("system", |run| run.cpu().system / run.wall.max(1e-9) * 100.0),
        ],
    );
    let latencies: Vec<Series> = outcomes
        .iter()
        .filter(|run| run.spec.axis == Axis::Rate)
        .filter_map(|run| {
            Some(Series { name: run.spec.name.clone(), points: run.latency.as_ref()?.curve.clone() })
        })
        .take(4)
        .collect();
    page += &lines("Latency, readable to answered", ("percentile", "ms"), Scale::Steps, &latencies);
    let threads: Vec<(String, Vec<f64>)> = outcomes
        .first()
        .map(|run| {
            let bar = |(name, cpu): (&String, &super::process::Cpu)| {
                (name.clone(), vec![per_wall(run, cpu.user), per_wall(run, cpu.system)])
            };
            let mut bars: Vec<_> = run.threads.iter().map(bar).collect();
            bars.sort_by(|left, right| right.1.iter().sum::<f64>().total_cmp(&left.1.iter().sum()));
            bars.truncate(5);
            bars
        })
        .unwrap_or_default();
    let first = outcomes.first().map_or("", |run| run.spec.name.as_str());
    page += &bars(&format!("CPU by thread: {first}"), "% of one core", &["user", "system"], &threads);
    let by_stage = by_stage(outcomes).into_iter().map(|(name, costs)| (name, costs.to_vec()));
    let by_stage: Vec<(String, Vec<f64>)> = by_stage.collect();
    page += &bars("CPU by stage, full speed", "CPU µs per raw MB", &stages::NAMES, &by_stage);
    let shards = Series {
        name: "full speed".to_owned(),
        points: sorted(
            outcomes
                .iter()
                .filter(|run| run.spec.axis == Axis::Shards)
                .map(|run| (f64::from(run.spec.shards), run.cost())),
        ),
    };
    page + &lines("Cost over shards", ("shards", "CPU µs per raw MB"), Scale::Steps, &[shards])
}

fn sorted(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut points: Vec<_> = points.collect();
    points.sort_by(|left, right| left.0.total_cmp(&right.0));
    points
}

fn runs(outcomes: &[Outcome]) -> String {
    let mut table = "<h2>Runs</h2><table><tr><th>run</th><th>MB/s</th><th>% of a core</th><th>user</th><th>system</th>\
                     <th>MB per CPU-s</th><th>spread</th><th>peak MiB</th><th>p99 ms</th><th>pulls</th><th>requests</th>\
                     <th>emulator CPU-s</th><th>sink CPU-s</th><th>others on the core</th><th></th></tr>"
        .to_owned();
    for run in outcomes {
        let (cpu, wall) = (run.cpu(), run.wall.max(1e-9));
        let spread = run.spread.filter(|_| run.runs > 1 && run.raw_bytes > 0);
        let _infallible = write!(
            table,
            "<tr><td>{}</td><td>{:.1}</td><td>{:.2}</td><td>{:.2}</td><td>{:.2}</td><td>{:.0}</td><td>{}</td>\
             <td>{:.1}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.2}</td><td>{:.2}</td><td>{:.0} %</td><td>{}</td></tr>",
            escape(&run.spec.name),
            run.megabytes() / wall,
            run.percent(),
            cpu.user / wall * 100.0,
            cpu.system / wall * 100.0,
            run.efficiency(),
            spread.map_or_else(String::new, |(least, most)| format!(
                "{:.0} to {:.0}",
                1e6 / most,
                1e6 / least
            )),
            as_f64(run.resident_peak) / f64::from(1 << 20),
            run.latency.as_ref().map_or_else(String::new, |latency| format!("{:.0}", latency.p99)),
            run.pulls,
            run.requests,
            run.source_cpu,
            run.sink_cpu,
            run.disturbed * 100.0,
            escape(&run.limit().unwrap_or_default()),
        );
    }
    table + "</table>"
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1200px;padding:0 1rem;color:#1f2937;\
background:#fff}h1{font-size:1.5rem}h2{font-size:1.2rem}table{border-collapse:collapse;margin:1rem 0;font-variant-numeric:\
tabular-nums}td,th{padding:.3rem .6rem;border-bottom:1px solid #e5e7eb;text-align:left;vertical-align:top}th{font-weight:600}\
.met{color:#047857}.missed{color:#b91c1c;font-weight:600}.absent{color:#6b7280}.plots{display:grid;gap:1.5rem;\
grid-template-columns:repeat(auto-fit,minmax(440px,1fr))}svg{width:100%;font:11px system-ui,sans-serif;fill:#374151}\
.title{font-size:14px;font-weight:600}.grid{stroke:#e5e7eb}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_written_and_names_its_machine() {
        let folder = std::env::temp_dir().join(format!("loadgen-report-{}", std::process::id()));
        let machine = Machine::read(Path::new("/nonexistent"), 2);
        let row = Row {
            what: "a <b>".to_owned(),
            target: "<= 1".to_owned(),
            measured: None,
            is_met: None,
            note: String::new(),
        };
        write(&folder, &machine, &[], &[row]).expect("a report");
        let page = fs::read_to_string(folder.join("report.html")).expect("a page");
        assert!(page.contains("a &lt;b&gt;") && page.contains("not measured here"));
        let text = fs::read_to_string(folder.join("report.json")).expect("a file");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(json["machine"]["cores"], 2);
        fs::remove_dir_all(&folder).expect("the folder");
    }
}
