//! `key=value` texts whose values are hidden: our own, the vendor's, and the extensions of CEF and LEEF.
//!
//! Why: they differ in what stands between pairs, and in nothing else that matters here.
//! Invariants: 1. a piece without a key belongs to the value before it, and shares its fate. 2. a value that looks like
//! JSON is masked as JSON; where it is none and holds one of the names, it is hidden.
//! Bounds: none of its own. Driven by: [`super::syslog`].
//! Spec: `format::syslog::{kv, event}`. CEF writes `\=` in values, so a `=` without it stands behind a key.

use super::{Rule, STARS, json};

/// Pairs with this text between them.
pub(super) fn separated(text: &str, separator: &str, rule: &mut Rule, made: &[(String, usize)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut hidden = false;
    for (at, piece) in text.split(separator).enumerate() {
        let own = piece.split_once('=');
        match own {
            _ if at > 0 && own.is_none() && hidden => continue,
            _ if at > 0 => out.push_str(separator),
            _ => {}
        }
        match own {
            Some((key, value)) => {
                out.push_str(key);
                out.push('=');
                hidden = hides(key, rule, made);
                out.push_str(&shown(value, hidden, rule, made));
            }
            None => out.push_str(&shown(piece, rule.all && !piece.is_empty(), rule, made)),
        }
    }
    out
}

/// The extension of CEF: pairs with a space between them, and spaces in values.
pub(super) fn extension(text: &str, rule: &mut Rule, made: &[(String, usize)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut keys = keys(text).into_iter().peekable();
    match keys.peek() {
        None => return shown(text, rule.may_be_in(text), rule, made),
        Some((first, _)) => {
            let front = text.get(..*first).unwrap_or_default();
            out.push_str(&shown(front, !front.is_empty() && rule.may_be_in(front), rule, made));
        }
    }
    while let Some((start, equals)) = keys.next() {
        let key = text.get(start..equals).unwrap_or_default();
        let end = keys.peek().map_or(text.len(), |(next, _)| next.saturating_sub(1));
        let value = text.get(equals + 1..end).unwrap_or_default();
        let hidden = hides(key, rule, made);
        out.push_str(key);
        out.push('=');
        out.push_str(&shown(value, hidden, rule, made));
        if keys.peek().is_some() {
            out.push(' ');
        }
    }
    out
}

/// Where keys begin, and where their `=` is.
fn keys(text: &str) -> Vec<(usize, usize)> {
    let mut keys = Vec::new();
    let mut escaped = false;
    let mut word = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b' ' => word = at + 1,
            b'=' if at > word => {
                keys.push((word, at));
                // Until the next space there is no other key.
                word = text.len();
            }
            _ => {}
        }
    }
    keys
}

/// Fields are written under keys of letters and digits, some behind `sls`.
fn hides(key: &str, rule: &mut Rule, made: &[(String, usize)]) -> bool {
    let plain = |text: &str| -> String {
        text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
    };
    let bare = plain(key);
    let behind_sls = bare.strip_prefix("sls").unwrap_or(&bare).to_owned();
    let same = rule.names.iter().map(|name| plain(name));
    let same: Vec<bool> = same.map(|name| !name.is_empty() && (name == bare || name == behind_sls)).collect();
    for (met, same) in rule.met.iter_mut().zip(&same) {
        *met |= same;
    }
    rule.hides(key, made) || same.contains(&true)
}

fn shown(value: &str, hidden: bool, rule: &mut Rule, made: &[(String, usize)]) -> String {
    if hidden {
        return STARS.to_owned();
    }
    if json::looks_like_it(value) {
        return match json::mask_if_json(value, rule, made, 0) {
            Some(masked) => masked,
            None if rule.may_be_in(value) => STARS.to_owned(),
            None => value.to_owned(),
        };
    }
    value.to_owned()
}
