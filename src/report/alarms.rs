//! Which troubles are going on, and when a line about them is written.
//!
//! Why: a sink that is down for an hour is one fact, not ten thousand lines; and silence afterwards must mean that it
//! works again, so the end is a line too. A sink that says "busy" ten times a minute is one fact as well.
//! Invariants: 1. for each (pipeline, subject, kind of cause) there is a line when it begins, at most one per
//! [`REMIND_AFTER`] while it lasts, and one when it ends. 2. a trouble that several executors report ends when the last
//! of them says so. 3. one that comes back within [`QUIET`] of its end is not told each time: it is counted, summed up
//! once per [`SUMMARY_EVERY`], and told again where it stays for [`SETTLE`]; that it is over is told once it is quiet.
//! Bounds: [`ENTRIES_MAX`] subjects and [`KINDS_MAX`] kinds of each; what is beyond is counted, not written.
//! Driven by: the control plane: [`Alarms::raise`] and [`Alarms::clear`] as reports come, [`Alarms::remind`] with its tick.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Doing, Text, span};
use crate::proto::event::Scope;
use crate::proto::time::Instant;

/// A trouble that lasts is told again after this long.
pub const REMIND_AFTER: Duration = Duration::from_mins(10);

/// A trouble that has been over for this long is forgotten: the next one is a new one.
pub const QUIET: Duration = Duration::from_mins(1);

/// One that came back and stays for this long is told at once and not with the next summary.
pub const SETTLE: Duration = Duration::from_secs(10);

/// Between two summaries of a trouble that comes and goes.
pub const SUMMARY_EVERY: Duration = Duration::from_mins(1);

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
    /// Whether the log knows of the present trouble.
    told: bool,
    /// When it ended; none while it goes on.
    ended: Option<Instant>,
    /// What came and went untold.
    flaps: Flaps,
}

/// Episodes that were counted and not told.
#[derive(Clone, Copy, Debug, Default)]
struct Flaps {
    count: u64,
    attempts: u64,
    /// When the first of them began, and since when a summary is owed.
    since: Instant,
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
            told: true,
            ended: None,
            flaps: Flaps::default(),
        });
        if entry.ended.take().is_some() {
            entry.come_back(now);
        }
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
        if !entry.reporters.is_empty() || entry.ended.is_some() {
            return None;
        }
        entry.ended = Some(now);
        if !entry.told {
            entry.flaps.attempts += entry.attempts;
            return None;
        }
        entry.told = false;
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

    /// Lines about troubles that last, and about those that come and go.
    pub fn remind(&mut self, now: Instant) -> Vec<Line> {
        let lines = self.entries.values_mut().filter_map(|entry| entry.remind(now)).collect();
        self.entries.retain(|_, entry| !entry.is_over(now));
        lines
    }

    /// What is in trouble now, for the status page: pipeline, subject, text, and for how long.
    pub fn current(&self, now: Instant) -> impl Iterator<Item = (&str, Subject, &Text, Duration)> {
        let open = self.entries.iter().filter(|(_, entry)| entry.ended.is_none());
        open.map(move |((pipeline, subject), entry)| {
            (pipeline.as_str(), *subject, &entry.text, now.since(entry.since))
        })
    }

    /// Troubles that found no room in the book.
    pub fn unwritten(&self) -> u64 {
        self.unwritten
    }
}

impl Entry {
    /// The same trouble once more, soon after it was over.
    fn come_back(&mut self, now: Instant) {
        if self.flaps.count == 0 {
            self.flaps.since = now;
        }
        self.flaps.count += 1;
        self.told = false;
        self.since = now;
        self.attempts = 0;
    }

    /// Quiet for long enough, and nothing left to say.
    fn is_over(&self, now: Instant) -> bool {
        self.ended.is_some_and(|ended| now.since(ended) >= QUIET) && self.flaps.count == 0
    }

    fn remind(&mut self, now: Instant) -> Option<Line> {
        let stays = self.ended.is_none() && !self.told && now.since(self.since) >= SETTLE;
        if stays {
            let text = format!("{} - again, for {} now", self.text, span(now.since(self.since)));
            self.told = true;
            self.flaps = Flaps::default();
            self.note(now);
            return Some(Line { level: Level::Warn, text });
        }
        if self.flaps.count > 0 && now.since(self.flaps.since) >= SUMMARY_EVERY {
            let Flaps { count, attempts, since } = std::mem::take(&mut self.flaps);
            let plural = if count == 1 { "" } else { "s" };
            let quiet = if self.ended.is_some() { ", it works now" } else { "" };
            let text = format!(
                "{} - came and went {count} time{plural} ({attempts} attempts) in {}{quiet}",
                self.text,
                span(now.since(since))
            );
            return Some(Line { level: Level::Warn, text });
        }
        (self.ended.is_none() && self.told && self.is_due(now)).then(|| self.write(now))
    }

    fn is_due(&self, now: Instant) -> bool {
        match self.written.iter().find(|(kind, _)| *kind == self.text.kind) {
            Some((_, last)) => now.since(*last) >= REMIND_AFTER,
            None => self.written.len() < KINDS_MAX,
        }
    }

    fn write(&mut self, now: Instant) -> Line {
        let first = self.written.is_empty();
        self.told = true;
        self.note(now);
        // Executors report changes, the control plane every attempt: a count of one says nothing.
        let text = match self.attempts {
            _ if first || now == self.since => self.text.to_string(),
            1 => format!("{} - for {} now", self.text, span(now.since(self.since))),
            attempts => format!("{} - {attempts} attempts in {}", self.text, span(now.since(self.since))),
        };
        Line { level: Level::Warn, text }
    }

    fn note(&mut self, now: Instant) {
        self.written.retain(|(kind, _)| *kind != self.text.kind);
        self.written.push((self.text.kind, now));
    }
}
