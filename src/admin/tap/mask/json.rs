//! JSON whose values are hidden in place.
//!
//! Why: a tree would lose repeated keys, the order and the digits of numbers; what is not hidden has to stay the bytes
//! that the sink gets.
//! Invariants: 1. text behind what is no JSON is hidden. 2. text inside of a string that is JSON itself is masked as
//! such; where it only looks like it and holds one of the names, the whole string is hidden.
//! Bounds: [`DEPTH_MAX`] levels; below them everything is hidden.
//! Driven by: [`super::Rule`].   Spec: RFC 8259.

use super::{Rule, STARS};

/// Levels that are followed, JSON inside of strings included.
pub(super) const DEPTH_MAX: usize = 64;

/// The text with values hidden; `made`: members that count as one of the names.
pub(super) fn mask(text: &str, rule: &mut Rule, made: &[(String, usize)]) -> String {
    let mut walk = Walk { text, at: 0, out: String::with_capacity(text.len()), rule, made };
    let whole = walk.value(0).and_then(|()| walk.end());
    let mut out = walk.out;
    if whole.is_none() {
        out.push_str(STARS);
    }
    out
}

/// As [`mask`], where the text may be no JSON at all.
pub(super) fn mask_if_json(
    text: &str,
    rule: &mut Rule,
    made: &[(String, usize)],
    depth: usize,
) -> Option<String> {
    let mut walk = Walk { text, at: 0, out: String::with_capacity(text.len()), rule, made };
    walk.value(depth).and_then(|()| walk.end())?;
    Some(walk.out)
}

/// Whether a value can be an object or an array.
pub(super) fn looks_like_it(text: &str) -> bool {
    text.trim_start().starts_with(['{', '['])
}

fn is_scalar(text: &str) -> bool {
    let is_number = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E'))
    };
    matches!(text, "true" | "false" | "null") || (!text.is_empty() && is_number(text))
}

struct Walk<'a> {
    text: &'a str,
    at: usize,
    out: String,
    rule: &'a mut Rule,
    made: &'a [(String, usize)],
}

impl<'a> Walk<'a> {
    /// `None`: this is no JSON.
    fn value(&mut self, depth: usize) -> Option<()> {
        self.space();
        if depth >= DEPTH_MAX {
            return None;
        }
        match self.peek()? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.text_value(depth),
            _ => {
                let length = self
                    .rest()
                    .find([',', '}', ']', ' ', '\n', '\r', '\t'])
                    .unwrap_or_else(|| self.rest().len());
                let scalar = self.take(length);
                if !is_scalar(scalar) {
                    return None;
                }
                if self.rule.all {
                    self.hide();
                } else {
                    self.out.push_str(scalar);
                }
                Some(())
            }
        }
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.copy(1);
        self.space();
        if self.peek()? == b'}' {
            self.copy(1);
            return Some(());
        }
        loop {
            self.space();
            let raw = self.string()?;
            self.out.push_str(raw);
            let key = serde_json::from_str::<String>(raw).ok()?;
            self.space();
            self.expect(b':')?;
            // With everything hidden containers are still followed: their keys are shown.
            if !self.rule.all && self.rule.hides(&key, self.made) {
                let mark = self.out.len();
                let walked = self.value(depth + 1);
                self.out.truncate(mark);
                self.hide();
                walked?;
            } else {
                self.value(depth + 1)?;
            }
            self.space();
            if self.peek()? == b'}' {
                self.copy(1);
                return Some(());
            }
            self.expect(b',')?;
        }
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.copy(1);
        self.space();
        if self.peek()? == b']' {
            self.copy(1);
            return Some(());
        }
        loop {
            self.value(depth + 1)?;
            self.space();
            if self.peek()? == b']' {
                self.copy(1);
                return Some(());
            }
            self.expect(b',')?;
        }
    }

    /// A string that is a value: it may be JSON itself.
    fn text_value(&mut self, depth: usize) -> Option<()> {
        let raw = self.string()?;
        if self.rule.all {
            self.hide();
            return Some(());
        }
        let inner = raw.get(1..).filter(|inner| looks_like_it(inner) || inner.starts_with('\\'));
        let Some(inner) = inner.and_then(|_| serde_json::from_str::<String>(raw).ok()) else {
            self.out.push_str(raw);
            return Some(());
        };
        if !looks_like_it(&inner) {
            self.out.push_str(raw);
            return Some(());
        }
        match mask_if_json(&inner, self.rule, self.made, depth + 1) {
            Some(masked) if masked == inner => self.out.push_str(raw),
            Some(masked) => self.out.push_str(&serde_json::to_string(&masked).ok()?),
            None if self.rule.may_be_in(&inner) => self.hide(),
            None => self.out.push_str(raw),
        }
        Some(())
    }

    /// A string with its quotes, as it stands there.
    fn string(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        if !rest.starts_with('"') {
            return None;
        }
        let mut at = 1;
        loop {
            let step = memchr::memchr2(b'"', b'\\', rest.as_bytes().get(at..)?)?;
            at += step;
            if rest.as_bytes().get(at)? == &b'"' {
                return Some(self.take(at + 1));
            }
            at += 2;
        }
    }

    fn space(&mut self) {
        let rest = self.rest();
        let length = rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
        self.copy(length);
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.copy(1))
    }

    fn copy(&mut self, bytes: usize) {
        let taken = self.take(bytes);
        self.out.push_str(taken);
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let taken = self.rest().get(..bytes).unwrap_or_default();
        self.at += taken.len();
        taken
    }

    fn peek(&self) -> Option<u8> {
        self.rest().as_bytes().first().copied()
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Only space is left.
    fn end(&mut self) -> Option<()> {
        self.space();
        self.rest().is_empty().then_some(())
    }

    fn hide(&mut self) {
        self.out.push('"');
        self.out.push_str(STARS);
        self.out.push('"');
    }
}
