//! Settings that are made of a log's fields: `sls_{__topic__}`.
//!
//! Why: index, sourcetype, source, host and indexed fields follow the log in most SIEM set-ups, and a constant is
//! the common case that must cost nothing per log.
//! Invariants: 1. parsed once, at start; rendering allocates nothing and never fails for text reasons. 2. A name
//! that a log does not have renders as nothing.
//! Bounds: a render appends at most the literals and one value per name in braces.
//! Driven by: `config` parses, `proto::format::hec` renders. Spec: own. `{name}` with a name of `__topic__`,
//! `__source__`, `__time__` (unix seconds), `__tag__:KEY` or a field of the log; `{{` and `}}` are braces. Where a
//! log or a group repeats a name, the last value counts. A name with dots (`event.userIdentity.userName`) that is no
//! field of a log is a member of the JSON in the field that it begins with, as text.

use core::fmt;

use super::nested;
use crate::proto::sls::wire::{Log, LogGroup, WireError};

/// A parsed template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Literal(String),
    Topic,
    Source,
    Time,
    Tag(String),
    Field(String),
}

/// Why a text is not a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// Offset in the text, in bytes.
    pub position: usize,
    /// What is wrong there.
    pub what: TemplateFault,
}

/// What can be wrong with a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateFault {
    /// `{` without its `}`.
    Unclosed,
    /// `}` without its `{`.
    Unopened,
    /// `{}`, or `{__tag__:}`.
    NoName,
    /// `{` inside a name.
    Nested,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            TemplateFault::Unclosed => "'{' is never closed (write '{{' for a brace)",
            TemplateFault::Unopened => "'}' closes nothing (write '}}' for a brace)",
            TemplateFault::NoName => "the name in the braces is missing",
            TemplateFault::Nested => "'{' inside a name",
        };
        write!(f, "at position {}: {what}", self.position + 1)
    }
}

impl core::error::Error for TemplateError {}

impl Template {
    /// Parses `text`.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut template = Self::default();
        let mut rest = text;
        while let Some(brace) = rest.find(['{', '}']) {
            let position = text.len() - rest.len() + brace;
            let (literal, tail) = rest.split_at(brace);
            template.push_literal(literal);
            if let Some(after) = tail.strip_prefix("{{") {
                template.push_literal("{");
                rest = after;
            } else if let Some(after) = tail.strip_prefix("}}") {
                template.push_literal("}");
                rest = after;
            } else if let Some(tail) = tail.strip_prefix('{') {
                let Some((name, after)) = tail.split_once('}') else {
                    return Err(TemplateError { position, what: TemplateFault::Unclosed });
                };
                if let Some(inner) = name.find('{') {
                    return Err(TemplateError {
                        position: position + 1 + inner,
                        what: TemplateFault::Nested,
                    });
                }
                let part =
                    Part::named(name).ok_or(TemplateError { position, what: TemplateFault::NoName })?;
                template.parts.push(part);
                rest = after;
            } else {
                return Err(TemplateError { position, what: TemplateFault::Unopened });
            }
        }
        template.push_literal(rest);
        Ok(template)
    }

    fn push_literal(&mut self, text: &str) {
        if let Some(Part::Literal(last)) = self.parts.last_mut() {
            last.push_str(text);
        } else if !text.is_empty() {
            self.parts.push(Part::Literal(text.to_owned()));
        }
    }

    /// Appends the text for a log. Without a log, its fields and time render as nothing.
    pub fn render(
        &self,
        group: &LogGroup<'_>,
        log: Option<&Log<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Topic => out.extend_from_slice(group.topic),
                Part::Source => out.extend_from_slice(group.source),
                Part::Time => {
                    if let Some(log) = log {
                        let mut digits = itoa::Buffer::new();
                        out.extend_from_slice(digits.format(log.time()?.secs).as_bytes());
                    }
                }
                Part::Tag(name) => {
                    let mut value: &[u8] = &[];
                    for tag in group.tags() {
                        let (key, tag_value) = tag?;
                        if key == name.as_bytes() {
                            value = tag_value;
                        }
                    }
                    out.extend_from_slice(value);
                }
                Part::Field(name) => {
                    if let Some(log) = log {
                        match log.last(name.as_bytes())? {
                            Some(value) => out.extend_from_slice(value),
                            None if name.contains('.') => member(log, name.as_bytes(), out)?,
                            None => {}
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Its pieces in order.
    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// True for the empty text.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// True when every log gets the same text.
    pub fn is_constant(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Literal(_)))
    }

    /// True when the text can differ between the logs of one group.
    pub fn needs_log(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Time | Part::Field(_)))
    }

    /// True when the text depends on topic, source or tags.
    pub fn needs_group(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Topic | Part::Source | Part::Tag(_)))
    }
}

/// Appends the member of a field's JSON that `name` means, of the last such field.
fn member(log: &Log<'_>, name: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
    let mark = out.len();
    for pair in log.contents() {
        let (field, value) = pair?;
        if nested::is_below(field, name) {
            out.truncate(mark);
            nested::append(field, value, name, out);
        }
    }
    Ok(())
}

impl Part {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "" | "__tag__:" => return None,
            "__topic__" => Self::Topic,
            "__source__" => Self::Source,
            "__time__" => Self::Time,
            other => match other.strip_prefix("__tag__:") {
                Some(tag) => Self::Tag(tag.to_owned()),
                None => Self::Field(other.to_owned()),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::sls::wire::LogGroups;

    // topic t-1, source s, tags a=1 a=2, one log at 1700000000 with k=v, k=last, spaced key=x.
    const BODY: &[u8] = b"\x0a\x49\
        \x0a\x2a\x08\x80\xe2\xcf\xaa\x06\x12\x06\x0a\x01k\x12\x01v\x12\x09\x0a\x01k\x12\x04last\
        \x12\x0f\x0a\x0aspaced key\x12\x01x\
        \x1a\x03t-1\x22\x01s\x32\x06\x0a\x01a\x12\x011\x32\x06\x0a\x01a\x12\x012\x1a\x03t-1";

    fn render(text: &str) -> String {
        let group = LogGroups::new(BODY).next().unwrap().unwrap();
        let log = group.logs().next().unwrap().unwrap();
        let mut out = Vec::new();
        Template::parse(text).unwrap().render(&group, Some(&log), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn renders_names_and_literals() {
        assert_eq!(render("sls_{__topic__}"), "sls_t-1");
        assert_eq!(render("{__source__}/{__tag__:a}/{k}/{spaced key}"), "s/2/last/x");
        assert_eq!(render("{__time__}"), "1700000000");
        assert_eq!(render("{none}{__tag__:none}"), "");
        assert_eq!(render("{{{k}}} {{}}"), "{last} {}");
        assert_eq!(render(""), "");
        assert_eq!(render("世{k}界"), "世last界");
    }

    #[test]
    fn says_what_it_depends_on() {
        let of = |text: &str| {
            let one = Template::parse(text).unwrap();
            (one.is_constant(), one.needs_group(), one.needs_log(), one.is_empty())
        };
        assert_eq!(of(""), (true, false, false, true));
        assert_eq!(of("a{{b}}"), (true, false, false, false));
        assert_eq!(of("{__topic__}"), (false, true, false, false));
        assert_eq!(of("{__tag__:x}{__source__}"), (false, true, false, false));
        assert_eq!(of("{__time__}"), (false, false, true, false));
        assert_eq!(of("{level}-{__topic__}"), (false, true, true, false));
    }

    #[test]
    fn refusals_name_the_place() {
        let refuse = |text: &str| {
            let error = Template::parse(text).unwrap_err();
            (error.position, error.what)
        };
        assert_eq!(refuse("a{b"), (1, TemplateFault::Unclosed));
        assert_eq!(refuse("a}b"), (1, TemplateFault::Unopened));
        assert_eq!(refuse("{k}{}"), (3, TemplateFault::NoName));
        assert_eq!(refuse("{__tag__:}"), (0, TemplateFault::NoName));
        assert_eq!(refuse("{a{b}"), (2, TemplateFault::Nested));
        assert_eq!(refuse("{{a}"), (3, TemplateFault::Unopened));
        let text = Template::parse("x{").unwrap_err().to_string();
        assert_eq!(text, "at position 2: '{' is never closed (write '{{' for a brace)");
    }
}
