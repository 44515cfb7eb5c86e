//! A mistake in the settings, and the list of all of them.
//!
//! Why: an operator who repairs one line and meets the next error, and the next, loses an afternoon. So
//! checking goes on after a mistake and everything is told at once.
//! Invariants: 1. a value is shown only where its key is known and is no secret.
//! Bounds: a shown value is cut at 80 characters.
//! Driven by: every step of `config::load` pushes here; only [`ConfigError`] is shown.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from; the later layers win.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Built in: `config/default.toml`.
    Default,
    /// Set by the chosen `syslog.preset`.
    Preset(String),
    /// A fall-back variable, read only where nothing else gives the value.
    Fallback(String),
    /// The configuration file.
    File {
        /// As given on the command line.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// An environment variable, by its name.
    Env(String),
    /// `--set` on the command line.
    Flag,
}

impl Origin {
    /// Rank of the layer: the higher one wins.
    pub(crate) fn layer(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::Preset(_) => 1,
            Self::Fallback(_) => 2,
            Self::File { .. } => 3,
            Self::Env(_) => 4,
            Self::Flag => 5,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Preset(name) => write!(f, "preset {name}"),
            Self::Fallback(name) | Self::Env(name) => write!(f, "environment {name}"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Flag => f.write_str("--set"),
        }
    }
}

/// What sort of mistake it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MistakeKind {
    /// The file cannot be read or is not TOML.
    Syntax,
    /// No such key, table or variable.
    Unknown,
    /// Wrong type, unit, range or shape.
    Value,
    /// Something needed is not given.
    Missing,
    /// Two settings contradict each other.
    Conflict,
    /// The system had too little of something to read a file; nothing is known to be wrong.
    Shortage,
}

/// One mistake, with all that is needed to repair it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// What sort.
    pub kind: MistakeKind,
    /// TOML path, such as `hec.batch_bytes`, or the name of a variable.
    pub path: String,
    /// The value as given; none for secrets and unknown keys.
    pub value: Option<String>,
    /// What is wrong with it.
    pub problem: String,
    /// What would be right.
    pub allowed: Option<String>,
    /// What to do.
    pub fix: Option<String>,
    /// Where it was given; none where it was not.
    pub origin: Option<Origin>,
}

impl Mistake {
    pub(crate) fn new(kind: MistakeKind, path: impl Into<String>, problem: impl Into<String>) -> Self {
        let path = path.into();
        Self {
            kind,
            // A key without a name, as TOML spells it: a message that begins with nothing helps nobody.
            path: if path.is_empty() { "\"\"".to_owned() } else { path },
            value: None,
            problem: problem.into(),
            allowed: None,
            fix: None,
            origin: None,
        }
    }

    pub(crate) fn value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(value.into());
        self
    }

    pub(crate) fn allowed(mut self, allowed: impl Into<String>) -> Self {
        self.allowed = Some(allowed.into());
        self
    }

    pub(crate) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    pub(crate) fn origin(mut self, origin: &Origin) -> Self {
        self.origin = Some(origin.clone());
        self
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        match &self.origin {
            Some(Origin::Env(name)) if *name == self.path => write!(f, " (environment)")?,
            Some(origin) => write!(f, " ({origin})")?,
            None => {}
        }
        write!(f, ": {}", self.problem)?;
        if let Some(allowed) = &self.allowed {
            write!(f, "; allowed: {allowed}")?;
        }
        if let Some(fix) = &self.fix {
            write!(f, "; fix: {fix}")?;
        }
        Ok(())
    }
}

/// The settings cannot be used; holds every mistake that was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// In the order of their paths.
    pub mistakes: Vec<Mistake>,
}

impl ConfigError {
    /// Nothing was found to be wrong: the system could not read them, and the next start may.
    pub fn is_shortage(&self) -> bool {
        !self.mistakes.is_empty() && self.mistakes.iter().all(|mistake| mistake.kind == MistakeKind::Shortage)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.mistakes.len();
        let plural = if count == 1 { "" } else { "s" };
        if self.is_shortage() {
            write!(f, "settings: not all could be read, nothing was started")?;
        } else {
            write!(f, "settings: {count} mistake{plural}, nothing was started")?;
        }
        for mistake in &self.mistakes {
            write!(f, "\n  {mistake}")?;
        }
        Ok(())
    }
}

/// Sorts, and takes out what was found twice (a top-level value is read once per pipeline).
pub(crate) fn finish(mut mistakes: Vec<Mistake>) -> ConfigError {
    mistakes.sort_by(|a, b| (&a.path, a.kind, &a.problem).cmp(&(&b.path, b.kind, &b.problem)));
    mistakes.dedup();
    ConfigError { mistakes }
}
