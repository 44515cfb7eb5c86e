//! The status page: one self-contained HTML document, readable on a phone and without colours.
//!
//! Why: before a dashboard exists, somebody has to see with a browser whether logs flow, which shard is behind and
//! what the log said.
//! Invariants: 1. text of others (names, alarms, log lines) is escaped. 2. nothing is loaded from anywhere else; the
//! one script is ours, is named by its hash in the policy, and only asks for this page again.
//! 3. a state is always a word, never a colour alone.
//! Bounds: one row per shard and core; the shards of a large pipeline are folded.
//! Driven by: `admin`, once per request; the page asks again every five seconds, by its script or by itself.

mod plot;

use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::metrics::{Complaint, CoreOverview, Overview, PipelineOverview, Point, ShardOverview};
use plot::plot;

/// The document.
pub(super) fn render(overview: &Overview, reasons: &[String]) -> String {
    let mut out = String::with_capacity(32 << 10);
    out.push_str(HEAD);
    head(&mut out, overview, reasons);
    totals(&mut out, overview);
    if overview.pipelines.len() > 1 {
        table_of_pipelines(&mut out, overview);
    }
    let several = overview.pipelines.len() > 1;
    for pipeline in &overview.pipelines {
        section(&mut out, pipeline, several);
    }
    cores(&mut out, &overview.cores);
    complaints(&mut out, &overview.complaints);
    if !overview.settings.is_empty() {
        let settings = Escaped(&overview.settings);
        add(
            &mut out,
            format_args!(
                "<details id=settings><summary>Settings, secrets masked</summary><pre>{settings}</pre></details>"
            ),
        );
    }
    add(&mut out, format_args!("<p>up {} · ", Span(overview.uptime)));
    out.push_str(
        "<a href=/metrics>metrics</a> · <a href=/healthz>health</a> · <a href=/readyz>ready</a></p></main>",
    );
    add(&mut out, format_args!("<script>{SCRIPT}</script>\n"));
    out
}

/// `Content-Security-Policy` of every answer: our style, our script, nothing from elsewhere.
pub(super) fn policy() -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        let hash = STANDARD.encode(Sha256::digest(SCRIPT.as_bytes()));
        format!(
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hash}'; connect-src 'self'; img-src data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
    });
    &POLICY
}

fn head(out: &mut String, overview: &Overview, reasons: &[String]) {
    add(out, format_args!("<h1>sls2siem <small>{}</small></h1>", Escaped(&overview.version)));
    if reasons.is_empty() {
        out.push_str("<p class=ok><b>Ready:</b> logs can flow</p>");
        return;
    }
    add(out, format_args!("<p class=bad><b>Not ready:</b> {} reasons</p><ul class=bad>", reasons.len()));
    for reason in reasons.iter().take(REASONS_MAX) {
        add(out, format_args!("<li>{}", Escaped(reason)));
    }
    if reasons.len() > REASONS_MAX {
        add(out, format_args!("<li>and {} more: <a href=/readyz>all</a>", reasons.len() - REASONS_MAX));
    }
    out.push_str("</ul>");
}

/// Everything together, with the plots of the last hour.
fn totals(out: &mut String, overview: &Overview) {
    let sum = |of: fn(&Point) -> f32| sums(overview, of);
    let count = |of: fn(&PipelineOverview) -> u64| overview.pipelines.iter().map(of).sum::<u64>();
    out.push_str("<div class=plots>");
    plot(out, "read", &sum(|p| p.raw_bytes), &rate);
    plot(out, "sent", &sum(|p| p.sent_bytes), &rate);
    plot(out, "acknowledged", &sum(|p| p.acked_records), &|v| format!("{v:.0} logs/s"));
    plot(out, "largest lag", &largest(overview), &|v| seconds(v).to_string());
    plot(out, "in flight", &sum(inflight), &|v| format!("{:.1} MB", v / 1e6));
    plot(out, "retries", &sum(|p| p.retries), &|v| format!("{v:.1}/s"));
    plot(out, "CPU", &overview.cpu_history, &|v| format!("{:.1} % of a core", v * 100.0));
    out.push_str("</div><dl>");
    let acked = Count(count(|p| p.totals.acked_records));
    add(out, format_args!("<dt>logs acknowledged<dd>{acked}"));
    add(out, format_args!("<dt>pulled<dd>{}", Count(count(|p| p.totals.pulled_records))));
    let (pull, sink) = (count(|p| p.totals.pull_retries), count(|p| p.totals.sink_retries));
    add(out, format_args!("<dt>retries<dd>{} of pulls, {} of the sink", Count(pull), Count(sink)));
    add(
        out,
        format_args!("<dt>possibly twice<dd>{}", Count(count(|p| p.totals.duplicates_possible_records))),
    );
    add(out, format_args!("<dt>refused for good<dd>{}", Count(count(|p| p.totals.refused_records))));
    add(out, format_args!("<dt>dead letters<dd>{}", Count(count(|p| p.totals.dead_letter_records))));
    add(out, format_args!("<dt>shards held<dd>{}", Count(count(|p| p.totals.held_shards))));
    out.push_str("</dl>");
}

/// One line per pipeline, where there are several.
fn table_of_pipelines(out: &mut String, overview: &Overview) {
    out.push_str(
        "<h2>Pipelines</h2><table><tr><th>pipeline<th>read<th>sent<th>logs/s<th>shards<th>lag<th>in flight<th>state",
    );
    for pipeline in &overview.pipelines {
        let name = Escaped(&pipeline.name);
        let lag = pipeline.shards.iter().map(|row| row.gauge.lag_seconds).max().unwrap_or(0);
        add(out, format_args!("<tr><td><a href='#p-{name}'>{name}</a>"));
        add(out, format_args!("<td>{}", Rate(pipeline.raw_bytes_per_second)));
        add(out, format_args!("<td>{}", Rate(pipeline.sent_bytes_per_second)));
        add(out, format_args!("<td>{:.0}<td>{}", pipeline.acked_records_per_second, pipeline.shards.len()));
        add(out, format_args!("<td>{}", Span(Duration::from_secs(lag))));
        add(out, format_args!("<td>{}<td>{}", Bytes(pipeline.totals.inflight_bytes), pipeline.state()));
    }
    out.push_str("</table>");
}

fn section(out: &mut String, pipeline: &PipelineOverview, several: bool) {
    let totals = &pipeline.totals;
    let (name, source, sink) = (Escaped(&pipeline.name), Escaped(&pipeline.source), Escaped(&pipeline.sink));
    add(out, format_args!("<h2 id='p-{name}'>{name}: {source} → {sink}</h2>"));
    for alarm in pipeline.control.iter().flat_map(|control| &control.alarms).take(REASONS_MAX) {
        add(out, format_args!("<p class=bad><b>Trouble:</b> {}</p>", Escaped(alarm)));
    }
    if several {
        let values = |of: fn(&Point) -> f32| pipeline.history.iter().map(of).collect::<Vec<_>>();
        out.push_str("<div class=plots>");
        plot(out, "read", &values(|p| p.raw_bytes), &rate);
        plot(out, "largest lag", &values(lag), &|v| seconds(v).to_string());
        out.push_str("</div>");
    }
    out.push_str("<dl>");
    add(out, format_args!("<dt>throughput<dd>{} read, ", Rate(pipeline.raw_bytes_per_second)));
    add(out, format_args!("{} sent, ", Rate(pipeline.sent_bytes_per_second)));
    add(out, format_args!("{:.0} logs/s acknowledged", pipeline.acked_records_per_second));
    add(out, format_args!("<dt>in flight<dd>{}", Bytes(totals.inflight_bytes)));
    let (pull, sink) = (Count(totals.pull_retries), Count(totals.sink_retries));
    add(out, format_args!("<dt>retries<dd>{pull} of pulls, {sink} of the sink"));
    add(out, format_args!("<dt>possibly twice<dd>{}", Count(totals.duplicates_possible_records)));
    let (refused, dead) = (Count(totals.refused_records), Count(totals.dead_letter_records));
    add(out, format_args!("<dt>refused<dd>{refused} for good, {dead} dead letters"));
    if let Some(control) = &pipeline.control {
        let (commits, conflicts) = (Count(control.checkpoint_commits), Count(control.checkpoint_conflicts));
        add(out, format_args!("<dt>checkpoints<dd>{commits} saved, {conflicts} refused"));
        add(out, format_args!("<dt>heartbeats failed<dd>{}", Count(control.heartbeat_failures)));
        add(out, format_args!("<dt>retention gaps<dd>{}", Count(control.retention_gaps)));
    }
    out.push_str("</dl>");
    shards(out, pipeline);
}

/// The worst first, and of many only those until they are asked for.
fn shards(out: &mut String, pipeline: &PipelineOverview) {
    let mut rows: Vec<&ShardOverview> = pipeline.shards.iter().collect();
    rows.sort_by_key(|row| {
        let gauge = row.gauge;
        (!gauge.held, std::cmp::Reverse((gauge.lag_seconds, gauge.pending_seconds)), gauge.shard)
    });
    let worst = rows.iter().map(|row| row.gauge.lag_seconds).max().unwrap_or(0);
    let (shown, folded) =
        rows.split_at(rows.len().min(if rows.len() > FOLD_FROM { SHOWN } else { FOLD_FROM }));
    if shown.is_empty() {
        out.push_str("<p>no shards here</p>");
        return;
    }
    table_of_shards(out, shown, worst);
    if !folded.is_empty() {
        let (name, count) = (Escaped(&pipeline.name), folded.len());
        add(
            out,
            format_args!("<details id='s-{name}'><summary>{count} more shards, with less lag</summary>"),
        );
        table_of_shards(out, folded, worst);
        out.push_str("</details>");
    }
}

fn table_of_shards(out: &mut String, rows: &[&ShardOverview], worst: u64) {
    // What matters most comes first: a phone shows half of the columns.
    out.push_str("<table><tr><th>shard<th>state<th>lag<th class=bar><th>waiting<th>checkpoint<th>core");
    for row in rows {
        let gauge = row.gauge;
        let lag = Span(Duration::from_secs(gauge.lag_seconds));
        let width = gauge.lag_seconds * 100 / worst.max(1);
        let state = if gauge.held { "<td class=bad><b>held</b>" } else { "<td>ok" };
        add(out, format_args!("<tr><td>{}{state}<td>{lag}", gauge.shard));
        add(out, format_args!("<td class=bar><i style='width:{width}%'></i>"));
        add(out, format_args!("<td>{}<td>", Span(Duration::from_secs(gauge.pending_seconds))));
        if let Some(age) = row.checkpoint_age_seconds {
            add(out, format_args!("{} old", Span(Duration::from_secs(age))));
        }
        add(out, format_args!("<td>{}", row.core));
    }
    out.push_str("</table>");
}

fn cores(out: &mut String, cores: &[CoreOverview]) {
    out.push_str("<h2>Cores</h2><table><tr><th>core<th>CPU<th class=bar><th>reported<th>nudged");
    for core in cores {
        let (cpu, age) = (core.cpu * 100.0, core.age.as_secs_f64());
        add(out, format_args!("<tr><td>{}<td>{cpu:.1} %", core.core));
        add(out, format_args!("<td class=bar><i style='width:{:.0}%'></i>", cpu.clamp(0.0, 100.0)));
        add(out, format_args!("<td>{age:.1} s ago<td>{} times", core.watchdog_signals));
    }
    out.push_str("</table>");
}

fn complaints(out: &mut String, complaints: &[Complaint]) {
    if complaints.is_empty() {
        return;
    }
    out.push_str("<h2>Last warnings and errors</h2><ol>");
    for line in complaints.iter().take(COMPLAINTS_SHOWN) {
        let word = if line.is_error { "error" } else { "warning" };
        add(out, format_args!("<li><b>{word}</b>, {} ago", Span(line.ago)));
        if line.times > 1 {
            add(out, format_args!(", {} times", line.times));
        }
        add(out, format_args!(": {}", Escaped(&line.text)));
    }
    out.push_str("</ol>");
}

/// Sums of all pipelines, aligned at their newest points.
fn sums(overview: &Overview, of: fn(&Point) -> f32) -> Vec<f32> {
    fold(overview, of, |a, b| a + b)
}

fn largest(overview: &Overview) -> Vec<f32> {
    fold(overview, lag, f32::max)
}

fn fold(overview: &Overview, of: fn(&Point) -> f32, join: fn(f32, f32) -> f32) -> Vec<f32> {
    let longest = overview.pipelines.iter().map(|pipeline| pipeline.history.len()).max().unwrap_or(0);
    let mut values = vec![0.0_f32; longest];
    for pipeline in &overview.pipelines {
        for (value, point) in values.iter_mut().rev().zip(pipeline.history.iter().rev()) {
            *value = join(*value, of(point));
        }
    }
    values
}

#[expect(clippy::cast_precision_loss, reason = "a plot")]
fn lag(point: &Point) -> f32 {
    point.lag_seconds as f32
}

#[expect(clippy::cast_precision_loss, reason = "a plot")]
fn inflight(point: &Point) -> f32 {
    point.inflight_bytes as f32
}

fn rate(value: f32) -> String {
    Rate(f64::from(value)).to_string()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a plot of whole seconds")]
fn seconds(value: f32) -> Span {
    Span(Duration::from_secs(value.max(0.0) as u64))
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

/// Bytes per second.
struct Rate(f64);

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            v if v >= 1e5 => write!(f, "{:.2} MB/s", v / 1e6),
            v if v >= 100.0 => write!(f, "{:.2} kB/s", v / 1e3),
            v => write!(f, "{v:.0} B/s"),
        }
    }
}

/// Bytes.
struct Bytes(u64);

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            bytes @ 0..1_000 => write!(f, "{bytes} B"),
            bytes @ 1_000..1_000_000 => write!(f, "{}.{} kB", bytes / 1_000, bytes % 1_000 / 100),
            bytes => write!(f, "{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
        }
    }
}

/// A count with thin groups of three.
struct Count(u64);

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = self.0.to_string();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                f.write_char('\u{202f}')?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

/// Reasons and troubles that are shown in full.
const REASONS_MAX: usize = 20;
/// A pipeline with more shards than this folds all but the worst.
const FOLD_FROM: usize = 16;
/// The worst, where the others are folded.
const SHOWN: usize = 10;
const COMPLAINTS_SHOWN: usize = 20;

const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8>\
<meta name=viewport content='width=device-width,initial-scale=1'>\
<noscript><meta http-equiv=refresh content=5></noscript>\
<link rel=icon href='data:,'><title>sls2siem</title><style>\
:root{color-scheme:light dark}\
body{font:16px/1.45 system-ui,sans-serif;max-width:64rem;margin:0 auto;padding:0 1rem 2rem}\
h1{font-size:1.4rem;margin:.8rem 0 .2rem}h1 small{font-weight:400;opacity:.7}\
h2{font-size:1.1rem;margin:1.6rem 0 .4rem;overflow-wrap:anywhere}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem;margin:.4rem 0}dd{margin:0}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums;display:block;overflow-x:auto;margin:.3rem 0}\
th,td{text-align:right;padding:.1rem .6rem;border-bottom:1px solid #8885;white-space:nowrap}\
th{font-weight:600}.bar{width:7rem;min-width:5rem;text-align:left}.bar i{display:block;height:.6rem;background:currentColor;opacity:.55}\
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(12rem,1fr));gap:.6rem 1.2rem;margin:.6rem 0}\
figure{margin:0}svg{display:block;width:100%;height:3rem;border-bottom:1px solid #8888;border-left:1px solid #8888}\
polyline{fill:none;stroke:currentColor;stroke-width:1.5;vector-effect:non-scaling-stroke}\
small{opacity:.75}pre{overflow-x:auto;font-size:.85rem}li{overflow-wrap:anywhere;margin:.2rem 0}\
summary{cursor:pointer;padding:.2rem 0}@media(max-width:34rem){.bar{display:none}th,td{padding:.1rem .35rem}dl{gap:.1rem .6rem}}.ok{color:light-dark(#176117,#7ddc7d)}.bad{color:light-dark(#a11515,#ff9d9d)}\
</style><main>";

/// Asks for this page again and puts its content in place; what was unfolded stays so. Pauses in a hidden tab.
const SCRIPT: &str = "(()=>{let news=0;const again=async()=>{if(document.hidden)return;try{\
const answer=await fetch(location.pathname,{cache:'no-store'});if(!answer.ok)throw answer.status;\
const fresh=new DOMParser().parseFromString(await answer.text(),'text/html').querySelector('main');\
const main=document.querySelector('main');\
for(const open of main.querySelectorAll('details[open]')){const same=fresh.querySelector('#'+CSS.escape(open.id));if(same)same.open=true}\
main.replaceWith(fresh);document.title='sls2siem';document.documentElement.dataset.news=++news}catch(error){document.title='(no answer) sls2siem'}};\
setInterval(again,5000)})()";

#[cfg(test)]
mod tests;
