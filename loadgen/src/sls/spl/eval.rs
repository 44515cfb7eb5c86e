//! Whether a log passes.
//!
//! Why: three-valued logic, as SQL has it: what is not there compares as unknown.
//! Invariants: 1. `and` and `or` end with the first part that decides.   Bounds: none beyond the log's own.
//! Driven by: `Program::apply`.   Spec: SQL's; a field that is there twice has its later value.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::{Comparison, Expr, Operand};
use crate::payload::{Log, LogGroup};

/// A `cast` could not read a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failed;

enum Value<'a> {
    Text(Cow<'a, [u8]>),
    Bigint(i64),
    Double(f64),
}

/// True, false or unknown.
pub(super) fn holds(expr: &Expr, group: &LogGroup, log: &Log) -> Result<Option<bool>, Failed> {
    match expr {
        Expr::All(parts) => until(parts, false, group, log),
        Expr::Any(parts) => until(parts, true, group, log),
        Expr::Not(inner) => Ok(holds(inner, group, log)?.map(|it| !it)),
        Expr::Compare(left, comparison, right) => {
            let Some(left) = value(left, group, log)? else { return Ok(None) };
            let Some(right) = value(right, group, log)? else { return Ok(None) };
            Ok(Some(comparison.holds(compare(&left, &right))))
        }
        Expr::In(what, members) => {
            let Some(what) = value(what, group, log)? else { return Ok(None) };
            for member in members {
                if let Some(member) = value(member, group, log)?
                    && compare(&what, &member) == Some(Ordering::Equal)
                {
                    return Ok(Some(true));
                }
            }
            Ok(Some(false))
        }
        Expr::Like(what, pattern) => match value(what, group, log)? {
            Some(Value::Text(text)) => Ok(Some(like(&String::from_utf8_lossy(&text), pattern))),
            _ => Ok(None),
        },
    }
}

/// The parts in their order, up to the first that is `decides`.
fn until(parts: &[Expr], decides: bool, group: &LogGroup, log: &Log) -> Result<Option<bool>, Failed> {
    let mut outcome = Some(!decides);
    for part in parts {
        match holds(part, group, log)? {
            Some(it) if it == decides => return Ok(Some(decides)),
            Some(_) => {}
            None => outcome = None,
        }
    }
    Ok(outcome)
}

fn value<'a>(operand: &'a Operand, group: &'a LogGroup, log: &'a Log) -> Result<Option<Value<'a>>, Failed> {
    Ok(match operand {
        Operand::Field(name) => field(name, group, log).map(Value::Text),
        Operand::Text(text) => Some(Value::Text(Cow::Borrowed(text.as_bytes()))),
        Operand::Bigint(number) => Some(Value::Bigint(*number)),
        Operand::Double(number) => Some(Value::Double(*number)),
        Operand::AsBigint(inner) => match value(inner, group, log)? {
            None => None,
            Some(Value::Text(text)) => Some(Value::Bigint(read(&text)?)),
            Some(Value::Double(number)) => Some(Value::Bigint(rounded(number)?)),
            Some(number) => Some(number),
        },
        Operand::AsDouble(inner) => match value(inner, group, log)? {
            None => None,
            Some(Value::Text(text)) => Some(Value::Double(read(&text)?)),
            Some(Value::Bigint(number)) => Some(Value::Double(widened(number))),
            Some(number) => Some(number),
        },
    })
}

fn field<'a>(name: &str, group: &'a LogGroup, log: &'a Log) -> Option<Cow<'a, [u8]>> {
    if let Some(content) = log.contents.iter().rfind(|content| content.key == name.as_bytes()) {
        return Some(Cow::Borrowed(&content.value));
    }
    match name {
        "__time__" => Some(Cow::Owned(log.time.to_string().into_bytes())),
        "__time_ns_part__" => log.time_ns.map(|nanos| Cow::Owned(nanos.to_string().into_bytes())),
        "__topic__" => group.topic.as_deref().map(Cow::Borrowed),
        "__source__" => group.source.as_deref().map(Cow::Borrowed),
        _ => {
            let key = name.strip_prefix("__tag__:")?;
            let tag = group.log_tags.iter().rfind(|tag| tag.key == key.as_bytes())?;
            Some(Cow::Borrowed(&tag.value))
        }
    }
}

fn read<T: std::str::FromStr>(text: &[u8]) -> Result<T, Failed> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Failed)
}

fn rounded(number: f64) -> Result<i64, Failed> {
    let number = number.round();
    #[expect(clippy::cast_possible_truncation, reason = "inside of the range of i64")]
    if (-9.2e18..9.2e18).contains(&number) { Ok(number as i64) } else { Err(Failed) }
}

#[expect(clippy::cast_precision_loss, reason = "a double is what was asked for")]
fn widened(number: i64) -> f64 {
    number as f64
}

/// None for what has no order: not-a-number, or text beside a number (which the parser does not let through).
fn compare(left: &Value<'_>, right: &Value<'_>) -> Option<Ordering> {
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => Some(left.cmp(right)),
        (Value::Bigint(left), Value::Bigint(right)) => Some(left.cmp(right)),
        (Value::Bigint(left), Value::Double(right)) => widened(*left).partial_cmp(right),
        (Value::Double(left), Value::Bigint(right)) => left.partial_cmp(&widened(*right)),
        (Value::Double(left), Value::Double(right)) => left.partial_cmp(right),
        _ => None,
    }
}

impl Comparison {
    fn holds(self, order: Option<Ordering>) -> bool {
        match self {
            Self::Equal => order == Some(Ordering::Equal),
            Self::NotEqual => order != Some(Ordering::Equal),
            Self::Less => order == Some(Ordering::Less),
            Self::LessOrEqual => order.is_some_and(Ordering::is_le),
            Self::Greater => order == Some(Ordering::Greater),
            Self::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
        }
    }
}

/// `%` is any run of characters, `_` is one of them.
fn like(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
    let (mut at, mut of) = (0, 0);
    // Where to go on when what follows the last `%` does not match here: after one character more.
    let mut retry = None;
    while let Some(here) = text.get(at) {
        match pattern.get(of) {
            Some('%') => {
                retry = Some((at, of));
                of += 1;
            }
            Some(want) if *want == '_' || want == here => {
                at += 1;
                of += 1;
            }
            _ => {
                let Some((from, star)) = retry else { return false };
                retry = Some((from + 1, star));
                (at, of) = (from + 1, star + 1);
            }
        }
    }
    pattern.iter().skip(of).all(|rest| *rest == '%')
}
