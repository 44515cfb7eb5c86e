//! Which troubles are going on, and when a line about them is written.
//!
//! Why: a sink that is down for an hour is one fact, not ten thousand lines; and silence afterwards must mean that it
//! works again, so the end is a line too.
//! Invariants: 1. for each (pipeline, subject, kind of cause) there is a line when it begins, at most one per
//! [`REMIND_AFTER`] while it lasts, and one when it ends. 2. a trouble that several executors report ends when the last
//! of them says so.
//! Bounds: [`ENTRIES_MAX`] subjects and [`KINDS_MAX`] kinds of each; what is beyond is counted, not written.
//! Driven by: the control plane: [`Alarms::raise`] and [`Alarms::clear`] as reports come, [`Alarms::remind`] with its tick.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Doing, Text, span};
use crate::proto::event::Scope;
use crate::proto::time::Instant;

/// A trouble that lasts is told again after this long.
pub const REMIND_AFTER: Duration = Duration::from_mins(10);

/// More subjects than 256 pipelines with 16 shards each are not kept.
pub const ENTRIES_MAX: usize = 4096;

/// Different causes of one subject that are told apart.
pub const KINDS_MAX: usize = 16;

/// What is in trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A shard's pulls or an endpoint of the sink.
    Data(Scope),
    /// A call of the control plane.
    Control(Doing),
}

/// How loud a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// It works again.
    Info,
    /// It does not work.
    Warn,
}

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How loud.
    pub level: Level,
    /// Without time and level.
    pub text: String,
}

/// The book of troubles of one process.
#[derive(Clone, Debug, Default)]
pub struct Alarms {
    entries: BTreeMap<(String, Subject), Entry>,
    /// Raised while the book was full.
    unwritten: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    since: Instant,
    attempts: u64,
    reporters: BTreeSet<u32>,
    text: Text,
    /// When each kind of cause was last written about.
    written: Vec<(&'static str, Instant)>,
}

impl Alarms {
    /// A trouble, or one more failed attempt of it. `reporter` tells executors (and the control plane) apart.
    pub fn raise(
        &mut self,
        now: Instant,
        reporter: u32,
        pipeline: &str,
        subject: Subject,
        text: Text,
    ) -> Option<Line> {
        let key = (pipeline.to_owned(), subject);
        if self.entries.len() >= ENTRIES_MAX && !self.entries.contains_key(&key) {
            self.unwritten += 1;
            return None;
        }
        let entry = self.entries.entry(key).or_insert_with(|| Entry {
            since: now,
            attempts: 0,
            reporters: BTreeSet::new(),
            text: text.clone(),
            written: Vec::new(),
        });
        entry.attempts += 1;
        entry.reporters.insert(reporter);
        entry.text = text;
        let due = entry.is_due(now);
        due.then(|| entry.write(now))
    }

    /// This reporter's trouble is over after so many failed attempts (0: as counted here).
    pub fn clear(
        &mut self,
        now: Instant,
        reporter: u32,
        pipeline: &str,
        subject: Subject,
        attempts: u64,
    ) -> Option<Line> {
        let key = (pipeline.to_owned(), subject);
        let entry = self.entries.get_mut(&key)?;
        entry.reporters.remove(&reporter);
        entry.attempts = entry.attempts.max(attempts);
        if !entry.reporters.is_empty() {
            return None;
        }
        let entry = self.entries.remove(&key)?;
        let plural = if entry.attempts == 1 { "" } else { "s" };
        let text = format!(
            "{} - works again after {} attempt{plural} in {}",
            entry.text.what,
            entry.attempts,
            span(now.since(entry.since))
        );
        Some(Line { level: Level::Info, text })
    }

    /// The subject is no longer ours (a shard was handed over): nothing to say about it any more.
    pub fn forget(&mut self, pipeline: &str, subject: Subject) {
        self.entries.remove(&(pipeline.to_owned(), subject));
    }

    /// Lines about troubles that last.
    pub fn remind(&mut self, now: Instant) -> Vec<Line> {
        self.entries.values_mut().filter(|entry| entry.is_due(now)).map(|entry| entry.write(now)).collect()
    }

    /// What is in trouble now, for the status page: pipeline, subject, text, and for how long.
    pub fn current(&self, now: Instant) -> impl Iterator<Item = (&str, Subject, &Text, Duration)> {
        self.entries.iter().map(move |((pipeline, subject), entry)| {
            (pipeline.as_str(), *subject, &entry.text, now.since(entry.since))
        })
    }

    /// Troubles that found no room in the book.
    pub fn unwritten(&self) -> u64 {
        self.unwritten
    }
}

impl Entry {
    fn is_due(&self, now: Instant) -> bool {
        match self.written.iter().find(|(kind, _)| *kind == self.text.kind) {
            Some((_, last)) => now.since(*last) >= REMIND_AFTER,
            None => self.written.len() < KINDS_MAX,
        }
    }

    fn write(&mut self, now: Instant) -> Line {
        let first = self.written.is_empty();
        self.written.retain(|(kind, _)| *kind != self.text.kind);
        self.written.push((self.text.kind, now));
        // Executors report changes, the control plane every attempt: a count of one says nothing.
        let text = match self.attempts {
            _ if first => self.text.to_string(),
            1 => format!("{} - for {} now", self.text, span(now.since(self.since))),
            attempts => format!("{} - {attempts} attempts in {}", self.text, span(now.since(self.since))),
        };
        Line { level: Level::Warn, text }
    }
}
