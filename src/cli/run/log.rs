//! The log on standard error: its shape, its level, and the last complaints for the status page.
//!
//! Why: a level that only a restart can change is never raised when it is needed; and whoever looks at the status
//! page should see the words of the log there.
//! Invariants: 1. libraries are heard only when something is wrong: their debug lines may show headers. 2. the page
//! gets what the log got, no more.
//! Bounds: the complaints are bounded by their reader. Driven by: [`super`], once; the level by signals and reloads.
//! Spec: settings `[log]`; SIGUSR1 in README.md.

use std::io::{self, IsTerminal as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::Registry as Subscribers;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogConfig, LogFormat};
use crate::metrics::Journal;

/// Changes the level while the process runs.
#[derive(Clone, Debug)]
pub(super) struct LevelControl {
    handle: reload::Handle<Targets, Subscribers>,
}

/// Begins to log. A second start in one process (tests) keeps the first log.
pub(super) fn start(config: LogConfig, journal: Journal) -> LevelControl {
    let (filter, handle) = reload::Layer::new(filter(config.level));
    let complaints = Complaints { journal };
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false);
    let registry = tracing_subscriber::registry().with(filter).with(complaints);
    let _kept = match config.format {
        LogFormat::Text => registry.with(lines.with_ansi(io::stderr().is_terminal())).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    LevelControl { handle }
}

/// Ours at the chosen level; libraries only when something is wrong. The TLS library warns of what a peer says, as often as
/// it says it: what comes of that is told once, as the trouble of a connection.
fn filter(level: &str) -> Targets {
    let level: LevelFilter = level.parse().unwrap_or(LevelFilter::INFO);
    Targets::new()
        .with_target("sls2siem", level)
        .with_target("rustls", level.min(LevelFilter::ERROR))
        .with_default(level.min(LevelFilter::WARN))
}

impl LevelControl {
    /// Sets the level; says so in the log.
    pub(super) fn set(&self, level: &str) {
        // Fails only where the log has ended with the process.
        let _ended = self.handle.reload(filter(level));
        tracing::info!("log level: {level}");
    }
}

/// The next louder level; from the loudest back to `quiet`, the one of the settings.
pub(super) fn louder(now: &'static str, quiet: &'static str) -> &'static str {
    match now {
        "off" => "error",
        "error" => "warn",
        "warn" => "info",
        "info" => "debug",
        "debug" => "trace",
        _ if quiet == "trace" => "info",
        _ => quiet,
    }
}

/// Copies warnings and errors for the status page.
#[derive(Debug)]
struct Complaints {
    journal: Journal,
}

impl<S: Subscriber> Layer<S> for Complaints {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let level = *event.metadata().level();
        if level > Level::WARN {
            return;
        }
        let mut message = Message::default();
        event.record(&mut message);
        self.journal.add(level == Level::ERROR, &message.0);
    }
}

#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_go_round() {
        let mut level = "warn";
        let mut seen = Vec::new();
        for _ in 0..4 {
            level = louder(level, "warn");
            seen.push(level);
        }
        assert_eq!(seen, ["info", "debug", "trace", "warn"]);
        assert_eq!(louder("trace", "trace"), "info");
    }
}
