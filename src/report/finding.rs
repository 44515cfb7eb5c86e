//! What `check` found: one line each, for people, and the same as JSON.
//!
//! Why: a doctor is read from top to bottom by somebody who wants to know what to do next, and by scripts that want
//! to know whether anything failed.
//! Invariants: 1. a warning or a failure says what to do. 2. no secret is in one, as in every text of `report`.
//! Bounds: as `report`.   Driven by: `cli::check`.   Spec: `check` in the reference, README.md.

use std::fmt;

use serde::Serialize;

use super::{Place, Text};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// As it should be.
    Ok,
    /// It will run, but somebody should know.
    Warn,
    /// It will not run like this.
    Fail,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub grade: Grade,
    /// `host`, `settings` or `pipeline NAME`.
    pub place: String,
    /// Stable word for what was looked at, for scripts.
    pub topic: &'static str,
    /// What was found.
    pub text: String,
    /// The cause as received, where there is one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// What to do; empty where nothing is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub todo: String,
}

impl Finding {
    /// As it should be.
    pub fn ok(place: &str, topic: &'static str, text: impl Into<String>) -> Self {
        Self {
            grade: Grade::Ok,
            place: place.to_owned(),
            topic,
            text: text.into(),
            cause: String::new(),
            todo: String::new(),
        }
    }

    /// Something that somebody should know, and what to do about it.
    pub fn warn(place: &str, topic: &'static str, text: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { grade: Grade::Warn, todo: todo.into(), ..Self::ok(place, topic, text) }
    }

    /// Something that has to be repaired, and how.
    pub fn fail(place: &str, topic: &'static str, text: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { grade: Grade::Fail, todo: todo.into(), ..Self::ok(place, topic, text) }
    }

    /// The words that the log would have for it.
    pub fn of(grade: Grade, topic: &'static str, place: &Place, text: Text) -> Self {
        let name = place_of(place);
        let what = text.what.strip_prefix(&format!("{name}: ")).unwrap_or(&text.what).to_owned();
        Self { grade, place: name, topic, text: what, cause: text.cause, todo: text.todo }
    }

    /// With the cause as received.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.cause = super::clean(&cause.into());
        self
    }

    /// With one more thing to do.
    #[must_use]
    pub fn or_do(mut self, more: &str) -> Self {
        if !more.is_empty() {
            self.todo = if self.todo.is_empty() { more.to_owned() } else { format!("{}; {more}", self.todo) };
        }
        self
    }
}

/// `pipeline NAME`
pub fn place_of(place: &Place) -> String {
    format!("pipeline {}", place.pipeline)
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, text, cause, todo, .. } = self;
        write!(f, "{place}: {text}")?;
        if !cause.is_empty() {
            write!(f, " ({cause})")?;
        }
        if !todo.is_empty() {
            write!(f, " - {todo}")?;
        }
        Ok(())
    }
}
