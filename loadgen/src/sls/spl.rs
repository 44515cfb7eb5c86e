//! A small, honest subset of SPL: what a consumer filters with before the data leaves the service.
//!
//! Why: a filter on the server changes what a pull means: counts before and after differ, cursors move without data, and
//! sizes for throttling are those before the filter. A stand-in that ignores the query would hide all of it.
//! Served: `* | where EXPR | project a, b | …` with `=` `!=` `<>` `<` `<=` `>` `>=` between fields and literals, numbers
//! by `cast(a as bigint)` or `cast(a as double)`, `in (…)`, `like`, `and`, `or`, `not`, parentheses. All else is refused
//! with its position; nothing is guessed.
//! Invariants: 1. no text makes it panic or nest deeper than `parse::DEPTH_MAX`. 2. a comparison with a field that a log
//! does not have is neither true nor false, so neither it nor its negation lets the log through.
//! Bounds: the log groups of one pull.
//! Driven by: `pull`.   Spec: protocol/sls.md 3.4. `project` keeps the time and drops topic, source and tags that it does
//! not name [from memory of the vendor's manual]; a `cast` that fails drops the log and counts as a failed line.

mod eval;
mod lex;
mod parse;

use std::fmt;

use prost::bytes::Bytes;

use crate::payload::LogGroup;

/// A query, read and checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Program {
    text: String,
    steps: Vec<Step>,
}

/// One command between pipes.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Where(Expr),
    Project(Vec<String>),
}

#[derive(Debug, Clone, PartialEq)]
enum Expr {
    /// True if all are.
    All(Vec<Expr>),
    /// True if one is.
    Any(Vec<Expr>),
    Not(Box<Expr>),
    Compare(Operand, Comparison, Operand),
    In(Operand, Vec<Operand>),
    Like(Operand, String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Field(String),
    AsBigint(Box<Operand>),
    AsDouble(Box<Operand>),
    Text(String),
    Bigint(i64),
    Double(f64),
}

/// Why a query is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// Characters before it, plus one.
    pub(crate) position: usize,
    pub(crate) text: String,
}

/// Logs of one pull.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    pub(crate) read: u64,
    pub(crate) passed: u64,
    /// Those that a `cast` could not read.
    pub(crate) failed: u64,
}

impl Program {
    /// Reads a query.
    pub(crate) fn parse(text: &str) -> Result<Self, Mistake> {
        Ok(Self { text: text.to_owned(), steps: parse::steps(&lex::tokens(text)?)? })
    }

    /// As it was given.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// What is left of a log group; none if no log passes.
    pub(crate) fn apply(&self, mut group: LogGroup, lines: &mut Lines) -> Option<LogGroup> {
        lines.read += group.logs.len() as u64;
        for step in &self.steps {
            match step {
                Step::Where(expr) => {
                    let logs = std::mem::take(&mut group.logs);
                    for log in logs {
                        match eval::holds(expr, &group, &log) {
                            Ok(Some(true)) => group.logs.push(log),
                            Ok(_) => {}
                            Err(eval::Failed) => lines.failed += 1,
                        }
                    }
                }
                Step::Project(names) => project(&mut group, names),
            }
        }
        lines.passed += group.logs.len() as u64;
        (!group.logs.is_empty()).then_some(group)
    }
}

fn project(group: &mut LogGroup, names: &[String]) {
    let is_named = |name: &str| names.iter().any(|named| named == name);
    for log in &mut group.logs {
        let contents = std::mem::take(&mut log.contents);
        for name in names {
            // A key that is there twice is one field: the later value is the field's.
            log.contents.extend(contents.iter().rfind(|content| content.key == name.as_bytes()).cloned());
        }
    }
    if !is_named("__topic__") {
        group.topic = None;
    }
    if !is_named("__source__") {
        group.source = None;
    }
    let tag = |key: &Bytes| format!("__tag__:{}", String::from_utf8_lossy(key));
    group.log_tags.retain(|it| is_named(&tag(&it.key)));
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at character {} of the query)", self.text, self.position)
    }
}

#[cfg(test)]
mod tests;
