//! One value against its kind: type, unit, range; and how a value may be shown.
//!
//! Why: the same check and the same words for a file, a variable and a flag.
//! Invariants: 1. a secret is never shown, nor the user name, password or query of an address.
//! Bounds: a shown value is cut at 80 characters.   Driven by: `config::check`.

use std::time::Duration;

use super::Moment;
use super::mistake::{Mistake, MistakeKind};
use super::raw::{Raw, Setting, Slot};
use super::schema::{self, Key, Kind};
use super::units::{parse_moment, parse_size, parse_span, show_size, show_span};
use super::url;

/// What a kind takes, in words.
pub(crate) fn allowed(kind: Kind) -> String {
    let span = |min, max| {
        let [min, max] = [min, max].map(|ms| show_span(Duration::from_millis(ms)));
        format!("{min} to {max}, such as \"5s\" or \"200ms\"")
    };
    match kind {
        Kind::Text | Kind::Secret => "text in quotes".into(),
        Kind::Path => "the name of a file in quotes".into(),
        Kind::Flag => "true or false".into(),
        Kind::Count { min, max } => format!("a whole number from {min} to {max}"),
        Kind::Size { min, max } => {
            format!("{} to {}, such as \"256KiB\", \"1MiB\" or plain bytes", show_size(min), show_size(max))
        }
        Kind::Span { min_ms, max_ms } => span(min_ms, max_ms),
        Kind::SpanOrEmpty { min_ms, max_ms } => format!("{}, or \"\"", span(min_ms, max_ms)),
        Kind::Choice(words) => words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", "),
        Kind::Moment => {
            "\"begin\", \"end\", RFC 3339 with a zone (\"2026-01-02T03:04:05Z\") or unix seconds".into()
        }
        Kind::MomentOrEmpty => {
            "RFC 3339 with a zone (\"2026-01-02T03:04:05Z\"), unix seconds, or \"\"".into()
        }
        Kind::TextList => "a list of texts, such as [\"a\", \"b\"]".into(),
        Kind::TextMap => "a table of texts, such as { name = \"text\" }".into(),
        Kind::ListMap => "a table of lists, such as { name = [\"a\", \"b\"] }".into(),
        Kind::CountMap => "a table of whole numbers, such as { \"0\" = 2 }".into(),
        Kind::TextOrCount => "text in quotes or a whole number".into(),
    }
}

/// Checks one value by its kind; `None` where it is right.
pub(crate) fn check(slot: &Slot, key: &Key, setting: &Setting) -> Option<Mistake> {
    let raw = &setting.raw;
    let problem = problem(key.kind, raw)?;
    let mut mistake = Mistake::new(MistakeKind::Value, slot.to_string(), problem).allowed(allowed(key.kind));
    mistake.value = shown(key, raw);
    if let (Kind::Choice(words), Raw::Text(text)) = (key.kind, raw) {
        let near = schema::nearest(text, words.iter().copied());
        mistake.fix = near.map(|near| format!("did you mean \"{near}\"?"));
    }
    Some(mistake.origin(&setting.origin))
}

fn problem(kind: Kind, raw: &Raw) -> Option<String> {
    let wrong = |problem: &str| Some(problem.to_owned());
    match (kind, raw) {
        (Kind::Text | Kind::Secret | Kind::Path | Kind::TextList | Kind::TextOrCount, Raw::Text(_))
        | (Kind::Flag, Raw::Flag(_))
        | (Kind::TextOrCount, Raw::Integer(_))
        | (Kind::Moment | Kind::MomentOrEmpty, Raw::Integer(0..)) => None,
        (Kind::SpanOrEmpty { .. } | Kind::MomentOrEmpty, Raw::Text(text)) if text.is_empty() => None,
        (Kind::Count { min, max }, Raw::Integer(number)) => range(u64::try_from(*number).ok(), min, max, OUT),
        (Kind::Size { min, max }, Raw::Integer(number)) => {
            range(u64::try_from(*number).ok(), min, max, "not a size")
        }
        (Kind::Size { min, max }, Raw::Text(text)) => range(parse_size(text), min, max, "not a size"),
        (Kind::Span { min_ms, max_ms } | Kind::SpanOrEmpty { min_ms, max_ms }, Raw::Text(text)) => {
            let ms = parse_span(text).and_then(|span| u64::try_from(span.as_millis()).ok());
            range(ms, min_ms, max_ms, "not a time with a unit")
        }
        (Kind::Span { .. } | Kind::SpanOrEmpty { .. }, Raw::Integer(_)) => wrong("the unit is missing"),
        (Kind::Choice(words), Raw::Text(text)) if words.contains(&text.as_str()) => None,
        (Kind::Choice(_), Raw::Text(_)) => wrong("no such choice"),
        (Kind::Moment, Raw::Text(text)) if parse_moment(text).is_some() => None,
        (Kind::MomentOrEmpty, Raw::Text(text)) if matches!(parse_moment(text), Some(Moment::At(_))) => None,
        (Kind::Moment | Kind::MomentOrEmpty, _) => wrong("not a time"),
        (Kind::TextList, Raw::List(items)) if items.iter().all(is_text) => None,
        (Kind::TextList, Raw::List(_)) => wrong("not all of these are texts"),
        (Kind::TextMap | Kind::CountMap | Kind::ListMap, Raw::Table(entries)) => {
            let fits = |value: &Raw| match (kind, value) {
                (Kind::TextMap, Raw::Text(_) | Raw::Integer(_)) | (Kind::CountMap, Raw::Integer(0..)) => true,
                (Kind::ListMap, Raw::List(items)) => items.iter().all(is_text),
                (Kind::ListMap, other) => is_text(other),
                _ => false,
            };
            if entries.iter().all(|(_, value)| fits(value)) {
                None
            } else {
                wrong("not all of these values fit")
            }
        }
        _ => Some(format!("this is {}", raw.type_name())),
    }
}

const OUT: &str = "out of range";

fn range(number: Option<u64>, min: u64, max: u64, shape: &str) -> Option<String> {
    match number {
        None => Some(shape.to_owned()),
        Some(number) if (min..=max).contains(&number) => None,
        Some(_) => Some(OUT.to_owned()),
    }
}

fn is_text(raw: &Raw) -> bool {
    matches!(raw, Raw::Text(_))
}

/// A value as it may be shown: never a secret, passwords in addresses masked, cut.
pub(crate) fn shown(key: &Key, raw: &Raw) -> Option<String> {
    if key.kind == Kind::Secret {
        return None;
    }
    let text = if is_address(key) { mask_all(raw).to_string() } else { raw.to_string() };
    match text.char_indices().nth(80) {
        Some((at, _)) => text.get(..at).map(|head| format!("{head}…")),
        None => Some(text),
    }
}

/// True for keys whose value may carry a user name, a password or a token in a URL.
pub(crate) fn is_address(key: &Key) -> bool {
    matches!(key.name, "endpoint" | "endpoints" | "proxy" | "ecs_metadata_url")
}

/// The value with the secret parts of addresses taken out.
pub(crate) fn mask_all(raw: &Raw) -> Raw {
    match raw {
        Raw::Text(text) => Raw::Text(text.split(',').map(url::masked).collect::<Vec<_>>().join(",")),
        Raw::List(items) => Raw::List(items.iter().map(mask_all).collect()),
        other => other.clone(),
    }
}
