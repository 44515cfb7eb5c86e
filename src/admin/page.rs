//! The status page: one self-contained HTML document, readable on a phone.
//!
//! Why: before a dashboard exists, somebody has to see with a browser whether logs flow and which shard is behind.
//! Invariants: 1. text of others (names, alarms) is escaped; there is no script.
//! Bounds: one row per shard, pipeline and core.
//! Driven by: `admin`, once per request; the page asks again every two seconds.

use std::fmt::Write as _;
use std::time::Duration;

use crate::metrics::{Overview, PipelineOverview};

/// The document.
pub(super) fn render(overview: &Overview, reasons: &[String]) -> String {
    let mut out = String::with_capacity(4096);
    out.push_str(HEAD);
    add(&mut out, format_args!("<h1>sls2siem {}</h1>", Escaped(&overview.version)));
    if reasons.is_empty() {
        out.push_str("<p class=ok>ready</p>");
    } else {
        out.push_str("<ul class=bad>");
        for reason in reasons {
            add(&mut out, format_args!("<li>{}", Escaped(reason)));
        }
        out.push_str("</ul>");
    }
    for pipeline in &overview.pipelines {
        section(&mut out, pipeline);
    }
    out.push_str("<h2>Cores</h2><table><tr><th>core<th>CPU %<th>reported<th>watchdog");
    for core in &overview.cores {
        let (cpu, age) = (core.cpu * 100.0, core.age.as_secs_f64());
        let signals = core.watchdog_signals;
        add(&mut out, format_args!("<tr><td>{}<td>{cpu:.1}<td>{age:.1} s ago<td>{signals}", core.core));
    }
    add(&mut out, format_args!("</table><p>up {} · ", Span(overview.uptime)));
    out.push_str("<a href=/metrics>metrics</a> · <a href=/healthz>health</a> · <a href=/readyz>ready</a>\n");
    out
}

fn section(out: &mut String, pipeline: &PipelineOverview) {
    let totals = &pipeline.totals;
    let (source, sink) = (Escaped(&pipeline.source), Escaped(&pipeline.sink));
    add(out, format_args!("<h2>{}: {source} → {sink}</h2><dl>", Escaped(&pipeline.name)));
    let rate = pipeline.raw_bytes_per_second / 1e6;
    add(out, format_args!("<dt>throughput<dd>{rate:.2} MB/s"));
    add(out, format_args!(", {:.0} logs/s acknowledged", pipeline.acked_records_per_second));
    add(out, format_args!("<dt>pulled<dd>{} logs", totals.pulled_records));
    add(out, format_args!("<dt>acknowledged<dd>{} logs", totals.acked_records));
    add(out, format_args!("<dt>in flight<dd>{} bytes", totals.inflight_bytes));
    add(out, format_args!("<dt>retries<dd>{} pull, {} sink", totals.pull_retries, totals.sink_retries));
    add(out, format_args!("<dt>duplicates possible<dd>{} logs", totals.duplicates_possible_records));
    if let Some(control) = &pipeline.control {
        let (commits, conflicts) = (control.checkpoint_commits, control.checkpoint_conflicts);
        add(out, format_args!("<dt>checkpoints<dd>{commits} saved, {conflicts} refused"));
        add(out, format_args!("<dt>heartbeats failed<dd>{}", control.heartbeat_failures));
    }
    out.push_str("</dl><table><tr><th>shard<th>core<th>lag<th>waiting<th>checkpoint<th>");
    for row in &pipeline.shards {
        let lag = Span(Duration::from_secs(row.gauge.lag_seconds));
        let waiting = Span(Duration::from_secs(row.gauge.pending_seconds));
        add(out, format_args!("<tr><td>{}<td>{}<td>{lag}<td>{waiting}<td>", row.gauge.shard, row.core));
        if let Some(age) = row.checkpoint_age_seconds {
            add(out, format_args!("{} old", Span(Duration::from_secs(age))));
        }
        out.push_str(if row.gauge.held { "<td class=bad>held" } else { "<td>" });
    }
    out.push_str("</table>");
}

fn add(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing into a String cannot fail.
    let _infallible = out.write_fmt(text);
}

/// Text that may hold anything.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A time span in the two largest units that matter.
struct Span(Duration);

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let secs = self.0.as_secs();
        match secs {
            0..60 => write!(f, "{secs} s"),
            60..3600 => write!(f, "{} min {} s", secs / 60, secs % 60),
            3600..86_400 => write!(f, "{} h {} min", secs / 3600, secs / 60 % 60),
            _ => write!(f, "{} d {} h", secs / 86_400, secs / 3600 % 24),
        }
    }
}

const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8>\
<meta name=viewport content='width=device-width,initial-scale=1'><meta http-equiv=refresh content=2>\
<title>sls2siem</title><style>\
:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:0 1rem}\
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:1.5rem;overflow-wrap:anywhere}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem}dd{margin:0}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums;display:block;overflow-x:auto}\
th,td{text-align:right;padding:.1rem .6rem;border-bottom:1px solid #8885;white-space:nowrap}\
.ok{color:#2a7d2a}.bad{color:#c33}</style>";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_is_escaped() {
        let overview = Overview {
            version: "1".to_owned(),
            uptime: Duration::from_secs(61),
            pipelines: Vec::new(),
            cores: Vec::new(),
        };
        let page = render(&overview, &["<script>alert('x')&\"".to_owned()]);
        assert!(page.contains("<li>&lt;script&gt;alert(&#39;x&#39;)&amp;&quot;"), "{page}");
        assert!(!page.contains("<script"));
        assert!(page.contains("up 1 min 1 s"));
    }

    #[test]
    fn spans_use_two_units() {
        for (secs, text) in [(0, "0 s"), (59, "59 s"), (3600, "1 h 0 min"), (90_000, "1 d 1 h")] {
            assert_eq!(Span(Duration::from_secs(secs)).to_string(), text);
        }
    }
}
