//! The live view: a block that is redrawn on a terminal, one line a second elsewhere.
//!
//! Why: somebody who sees the system for the first time wants to watch it work; somebody who pipes it into a file
//! wants lines. Both go to standard error: standard output carries the verdict alone.
//! Invariants: 1. what a log line holds cannot move the cursor: control characters are taken out.
//! Bounds: [`WARNINGS_SHOWN`] log lines on a terminal, [`WARNINGS_MAX`] in a file.
//! Driven by: [`super`], some times a second.   Spec: none.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::meter::Meter;
use super::stage::Position;
use super::text::{count, megabytes, per_second, percent};
use crate::proto::time::Instant;

/// Everything that is looked at, at one moment.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) position: Position,
    pub(super) meter: Meter,
    /// CPU time of the forwarder.
    pub(super) cpu: Duration,
    /// Its resident memory.
    pub(super) resident_bytes: u64,
}

/// The view.
#[derive(Debug)]
pub(super) struct View {
    /// Where standard error is a terminal.
    block: Option<ProgressBar>,
    title: String,
    window: VecDeque<Sample>,
    warnings: VecDeque<String>,
    warnings_total: usize,
    line_at: Option<Instant>,
}

impl View {
    pub(super) fn new(title: String) -> Self {
        let block = io::stderr().is_terminal().then(|| {
            let block = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            // The template is a constant that a test renders.
            block.set_style(
                ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            block
        });
        let view = Self {
            block,
            title,
            window: VecDeque::new(),
            warnings: VecDeque::new(),
            warnings_total: 0,
            line_at: None,
        };
        view.say(&view.title.clone());
        view
    }

    /// Shows what is going on while there is nothing to measure.
    pub(super) fn say(&self, text: &str) {
        match &self.block {
            Some(block) if text == self.title => block.set_message(text.to_owned()),
            Some(block) => block.set_message(format!("{}\n  {text}", self.title)),
            None => line(text),
        }
    }

    /// Shows one more measurement; `phase` says what is going on.
    pub(super) fn show(&mut self, phase: &str, sample: Sample) {
        while self.window.len() > 1
            && self.window.get(1).is_some_and(|next| sample.at.since(next.at) >= WINDOW)
        {
            self.window.pop_front();
        }
        let now = sample.at;
        self.window.push_back(sample);
        let (Some(old), Some(new)) = (self.window.front(), self.window.back()) else { return };
        let rates = Rates::between(old, new);
        if let Some(block) = &self.block {
            let mut text = format!("{}\n{}", self.title, rates.block(phase, new));
            if self.warnings_total > 0 {
                let _infallible = write!(text, "\n  log of the forwarder, {} warnings:", self.warnings_total);
            }
            for warning in &self.warnings {
                text.push_str("\n    ");
                text.push_str(warning);
            }
            block.set_message(text);
        } else if self.line_at.is_none_or(|due| due <= now) {
            self.line_at = Some(self.line_at.map_or(now, |due| due.max(now - SECOND)) + SECOND);
            line(&rates.line(phase, new));
        }
    }

    /// Shows a line of the forwarder's log.
    pub(super) fn warn(&mut self, text: &str) {
        let text: String = text.chars().filter(|letter| !letter.is_control()).take(WARNING_CHARS).collect();
        self.warnings_total += 1;
        if self.block.is_none() {
            match self.warnings_total {
                1..=WARNINGS_MAX => line(&format!("  forwarder: {text}")),
                total if total == WARNINGS_MAX + 1 => line("  forwarder: (more warnings are in its log)"),
                _ => {}
            }
            return;
        }
        if self.warnings.len() >= WARNINGS_SHOWN {
            self.warnings.pop_front();
        }
        self.warnings.push_back(text);
    }

    /// Leaves the last picture standing.
    pub(super) fn finish(&mut self) {
        if let Some(block) = self.block.take() {
            block.abandon();
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.finish();
    }
}

fn line(text: &str) {
    // Where nobody reads, the verdict and the exit code are what is left.
    let _closed = writeln!(io::stderr(), "{text}");
}

#[derive(Debug)]
struct Rates {
    /// Log bytes that SLS gave out, a second.
    bytes_in: u64,
    /// Log bytes that the sink stored, a second.
    bytes_out: u64,
    records: u64,
    cpu: String,
}

impl Rates {
    fn between(old: &Sample, new: &Sample) -> Self {
        let span = new.at.since(old.at);
        let rate = |old: u64, new: u64| per_second(new.saturating_sub(old), span);
        let records = rate(old.position.delivered, new.position.delivered);
        let log_bytes = new.position.sent_bytes.checked_div(new.position.sent_logs()).unwrap_or(0);
        Self {
            bytes_in: rate(old.position.served_bytes, new.position.served_bytes),
            bytes_out: records.saturating_mul(log_bytes),
            records,
            cpu: percent(new.cpu.saturating_sub(old.cpu), span),
        }
    }

    fn block(&self, phase: &str, sample: &Sample) -> String {
        let Sample { position, meter, resident_bytes, .. } = sample;
        format!(
            "  {phase}\n  \
             SLS        {:>12}/s   sent         {:>14} records, {}\n  \
             sink       {:>12}/s   delivered    {:>14} records, {}/s, duplicates {}\n  \
             forwarder  CPU {:>7} of a core, memory {}\n  \
             \u{20}          acknowledged {}, in flight {}, lag {} s, retries {}",
            megabytes(self.bytes_in),
            count(position.sent_logs()),
            megabytes(position.sent_bytes),
            megabytes(self.bytes_out),
            count(position.delivered),
            count(self.records),
            count(position.duplicates),
            self.cpu,
            megabytes(*resident_bytes),
            count(meter.acked_records),
            megabytes(meter.inflight_bytes),
            meter.lag_seconds,
            count(meter.retries),
        )
    }

    fn line(&self, phase: &str, sample: &Sample) -> String {
        let Sample { position, meter, resident_bytes, .. } = sample;
        format!(
            "{phase}: in {}/s, out {}/s, {} records/s, CPU {}, memory {}, lag {} s, in flight {}, acknowledged {}, \
             retries {}, duplicates {}",
            megabytes(self.bytes_in),
            megabytes(self.bytes_out),
            count(self.records),
            self.cpu,
            megabytes(*resident_bytes),
            meter.lag_seconds,
            megabytes(meter.inflight_bytes),
            count(meter.acked_records),
            count(meter.retries),
            count(position.duplicates),
        )
    }
}

/// Rates are averages over this time.
const WINDOW: Duration = Duration::from_secs(2);
const SECOND: Duration = Duration::from_secs(1);
/// Log lines below the block.
const WARNINGS_SHOWN: usize = 5;
/// Log lines where there is no block.
const WARNINGS_MAX: usize = 20;
/// Of one log line.
const WARNING_CHARS: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_differences_over_time() {
        let at = |ms: u64| Instant(0) + Duration::from_millis(ms);
        let sample = |ms, served_bytes, delivered, cpu| Sample {
            at: at(ms),
            position: Position {
                sent: [(0, 1000)].into(),
                sent_bytes: 600_000,
                served_bytes,
                delivered,
                ..Position::default()
            },
            meter: Meter::default(),
            cpu: Duration::from_millis(cpu),
            resident_bytes: 1,
        };
        let rates = Rates::between(&sample(0, 100, 0, 10), &sample(2000, 20_000_100, 500, 50));
        assert_eq!((rates.bytes_in, rates.records, rates.bytes_out), (10_000_000, 250, 150_000));
        assert_eq!(rates.cpu, "2.0 %");
    }

    #[test]
    fn the_template_is_one() {
        assert!(ProgressStyle::with_template("{msg}").is_ok());
    }
}
