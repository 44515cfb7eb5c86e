//! CEF and LEEF 2.0: a header of few fields, and an extension of keys and values.
//!
//! Why: these are the languages in which SIEMs understand an event instead of a text. Both are the same thing with
//! other separators and escapes ([`Style`]), so they share everything else.
//! Invariants: 1. the header has its number of fields whatever they hold. 2. a key is letters and digits, a value
//! holds no separator, no line break and no NUL, so that any parser finds the pairs again. 3. a field of a log is
//! either named by the mapping or written under its own name, unless the settings say that it is not.
//! Bounds: one walk over a log, and over the JSON of one of its fields (`lookup`); seven bytes out for one in.
//! Driven by: `syslog::message`. Spec: syslog notes, sections 7 and 8. CEF: header `|` and `\` escaped, values `\`,
//! `=` and line breaks; LEEF knows no escapes: `|` becomes `_`, the delimiter and line breaks a space. What neither
//! can carry (NUL) becomes a space. Empty values and spaces at the end of a value are left out.

use core::net::IpAddr;

use super::super::template::{Part, Template};
use super::params::ParamsError;
use super::stamp::nanos;
use crate::proto::sls::wire::{LogGroup, LogTime, Span, WireError};

mod actiontrail;
mod keys;
mod lookup;
mod style;

use self::keys::push_tag_key;
use self::lookup::{Lookup, Slot};
pub use self::style::LeefDelimiter;
use self::style::Style;

/// What the settings say about CEF and LEEF. Empty templates: the ready mapping of the topic, or what `Default` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventParams {
    /// Vendor.
    pub vendor: Template,
    /// Product.
    pub product: Template,
    /// Version of the product.
    pub version: Template,
    /// Signature id of CEF, event id of LEEF: what rules are written for.
    pub signature_id: Template,
    /// Name of CEF; LEEF has none.
    pub name: Template,
    /// 0 to 10, or a word such as `high`; empty or anything else: from the severity of the message.
    pub severity: Template,
    /// Keys and values; of known topics they come on top of the ready mapping.
    pub extension: Vec<(String, Template)>,
    /// Fields that nothing names are written under their own names.
    pub unmapped: bool,
    /// Between the pairs of LEEF.
    pub delimiter: LeefDelimiter,
}

impl Default for EventParams {
    fn default() -> Self {
        Self {
            vendor: Template::default(),
            product: Template::default(),
            version: Template::default(),
            signature_id: Template::default(),
            name: Template::default(),
            severity: Template::default(),
            extension: Vec::new(),
            unmapped: true,
            delimiter: LeefDelimiter::default(),
        }
    }
}

impl EventParams {
    pub(super) fn check(&self) -> Result<(), ParamsError> {
        for (at, (key, _)) in self.extension.iter().enumerate() {
            if !is_extension_key(key) || self.extension.iter().take(at).any(|(other, _)| other == key) {
                return Err(ParamsError::ExtensionKey(key.clone()));
            }
        }
        Ok(())
    }
}

/// A key that every parser takes.
pub(crate) fn is_extension_key(key: &str) -> bool {
    (1..=64).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Writes CEF or LEEF.
#[derive(Clone, Debug)]
pub(super) struct Event {
    style: Style,
    /// For the logs of any topic, and for those of ActionTrail.
    plans: [Plan; 2],
    current: usize,
    /// The pairs that the logs of a group share.
    pairs: Vec<u8>,
    /// The header up to the severity, where they share it.
    header: Vec<u8>,
    group_invalid: bool,
    rendered: Vec<u8>,
}

/// What becomes of the logs of some topics.
#[derive(Clone, Debug)]
struct Plan {
    /// Vendor, product, version, signature id, and in CEF the name.
    header: Vec<HeaderField>,
    header_per_log: bool,
    severity: Text,
    /// Judges itself where the settings do not.
    actiontrail: Option<actiontrail::Judge>,
    entries: Vec<Entry>,
    named: Named,
    unmapped: bool,
    lookup: Lookup,
}

/// What of a group the entries tell.
#[derive(Clone, Debug)]
struct Named {
    topic: bool,
    source: bool,
    tags: Vec<String>,
}

#[derive(Clone, Debug)]
struct HeaderField {
    text: Text,
    /// Where the text is empty.
    otherwise: &'static [u8],
}

/// A key of the extension.
#[derive(Clone, Debug)]
struct Entry {
    key: String,
    /// `key=`.
    text: Vec<u8>,
    /// `csNLabel=name` and a separator.
    label: Vec<u8>,
    value: Text,
    rule: Rule,
    /// Longest value, in bytes.
    max: usize,
}

/// When a value is written, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// As it is.
    Plain,
    /// Only an address of version 4.
    Ipv4,
    /// Only an address of version 6.
    Ipv6,
    /// Only an address of either version.
    Ip,
    /// Only what is no address.
    NotIp,
    /// Only where the entry before it was not written.
    Otherwise,
    /// A name and, behind a space, an error code: `success` where there is none, else `failure`.
    Outcome,
    /// `true` for the name of a sign-in.
    SignIn,
}

/// A compiled template.
#[derive(Clone, Debug, Default)]
struct Text {
    pieces: Vec<Piece>,
    per_log: bool,
}

#[derive(Clone, Debug)]
enum Piece {
    Literal(Vec<u8>),
    Topic,
    Source,
    Time,
    Tag(String),
    Field(Slot),
}

/// The log that texts are rendered for.
#[derive(Clone, Copy, Debug)]
struct Now<'a> {
    body: &'a [u8],
    group: &'a LogGroup<'a>,
    time: LogTime,
}

impl Event {
    /// CEF.
    pub(super) fn cef(params: &EventParams) -> Self {
        Self::new(Style::cef(), params)
    }

    /// LEEF 2.0.
    pub(super) fn leef(params: &EventParams) -> Self {
        Self::new(Style::leef(params.delimiter), params)
    }

    fn new(style: Style, params: &EventParams) -> Self {
        let plans = [Plan::new(&style, params, false), Plan::new(&style, params, true)];
        Self {
            style,
            plans,
            current: 0,
            pairs: Vec::new(),
            header: Vec::new(),
            group_invalid: false,
            rendered: Vec::new(),
        }
    }

    /// Prepares what the logs of `group` share.
    pub(super) fn enter_group(&mut self, group: &LogGroup<'_>) -> Result<(), WireError> {
        self.current = usize::from(actiontrail::is_topic(group.topic));
        self.header.clear();
        self.pairs.clear();
        let Some(plan) = self.plans.get_mut(self.current) else { return Ok(()) };
        let now = Now { body: &[], group, time: LogTime::default() };
        let mut valid =
            plan.header_per_log || plan.header(&self.style, &now, &mut self.rendered, &mut self.header)?;
        let (style, pairs) = (&self.style, &mut self.pairs);
        if plan.unmapped {
            for (key, value, named) in
                [("topic", group.topic, plan.named.topic), ("source", group.source, plan.named.source)]
            {
                if !named {
                    valid &= style.pair(key.as_bytes(), value, pairs);
                }
            }
            for tag in group.tags() {
                let (key, value) = tag?;
                if !plan.named.tags.iter().any(|named| named.as_bytes() == key) {
                    self.rendered.clear();
                    push_tag_key(key, &mut self.rendered);
                    valid &= style.pair(&self.rendered, value, pairs);
                }
            }
        }
        valid &= plan.pairs(style, &now, false, &mut self.rendered, pairs)?;
        self.group_invalid = !valid;
        Ok(())
    }

    /// Appends the message of `log` at `span`; says when it was and whether something in it was not UTF-8.
    pub(super) fn message(
        &mut self,
        body: &[u8],
        group: &LogGroup<'_>,
        span: Span,
        severity: u8,
        out: &mut Vec<u8>,
    ) -> Result<(LogTime, bool), WireError> {
        let Some(plan) = self.plans.get_mut(self.current) else { return Ok((LogTime::default(), false)) };
        let time = plan.lookup.read(body, span)?;
        let now = Now { body, group, time };
        let style = &self.style;
        let mut valid = !self.group_invalid;
        if plan.header_per_log {
            valid &= plan.header(style, &now, &mut self.rendered, out)?;
        } else {
            out.extend_from_slice(&self.header);
        }
        let level = plan.level(&now, severity, &mut self.rendered)?;
        style.severity(level, out);
        let begin = out.len();
        style.level_pair(level, out);
        let millis = u64::from(time.secs) * 1_000 + u64::from(nanos(time) / 1_000_000);
        if !plan.entries.iter().any(|entry| entry.key.as_bytes() == style.time_key()) {
            style.pair(style.time_key(), itoa::Buffer::new().format(millis).as_bytes(), out);
        }
        out.extend_from_slice(&self.pairs);
        valid &= plan.pairs(style, &now, true, &mut self.rendered, out)?;
        for (key, value) in plan.lookup.rest(body) {
            valid &= style.pair(key, value, out);
        }
        style.finish(begin, out);
        Ok((time, !valid))
    }
}

impl Plan {
    fn new(style: &Style, params: &EventParams, actiontrail: bool) -> Self {
        let mut lookup = Lookup::default();
        let ready = actiontrail.then(|| actiontrail::ready(style.is_cef()));
        let mut compile = |template: &Template, ready: Option<&str>, plain: &str| {
            let text = ready.filter(|_| actiontrail).unwrap_or(plain);
            let parsed = Template::parse(text).unwrap_or_default();
            Text::new(if template.is_empty() { &parsed } else { template }, &mut lookup)
        };
        let field =
            |text: Text, otherwise: &'static str| HeaderField { text, otherwise: otherwise.as_bytes() };
        let mut header = vec![
            field(compile(&params.vendor, None, "Alibaba Cloud"), "-"),
            field(compile(&params.product, Some("ActionTrail"), "SLS"), "-"),
            field(compile(&params.version, Some("{event.eventVersion}"), "1.0"), "1.0"),
            field(compile(&params.signature_id, Some("{event.eventName}"), "{__topic__}"), "log"),
        ];
        if style.is_cef() {
            let name = "{event.serviceName}:{event.eventName}";
            header.push(field(compile(&params.name, Some(name), "{__topic__}"), "log"));
        }
        let severity = compile(&params.severity, None, "");
        let judge = (actiontrail && params.severity.is_empty()).then(|| actiontrail::Judge::new(&mut lookup));
        let own = params.extension.iter().map(|(key, value)| {
            let value = Text::new(value, &mut lookup);
            Entry::new(style, key, "", value, Rule::Plain, usize::MAX)
        });
        let mut entries: Vec<Entry> = own.collect();
        for one in ready.unwrap_or(&[]) {
            // A rule that looks at the entry before it goes with that one.
            if params.extension.iter().all(|(key, _)| key != one.key) {
                let value = Text::new(&Template::parse(one.value).unwrap_or_default(), &mut lookup);
                entries.push(Entry::new(style, one.key, one.label, value, one.rule, one.max));
            }
        }
        let keys: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        let pieces = || entries.iter().flat_map(|entry| entry.value.pieces.iter());
        // What only the header or the severity looks at is not told by that.
        let slot = |piece: &Piece| match piece {
            Piece::Field(slot) => Some(*slot),
            _ => None,
        };
        let named: Vec<Slot> = pieces().filter_map(slot).collect();
        let unfolded = actiontrail.then_some(actiontrail::FIELD);
        lookup.settle(&keys, style.reserved(), &named, unfolded, params.unmapped);
        let tag = |piece: &Piece| match piece {
            Piece::Tag(name) => Some(name.clone()),
            _ => None,
        };
        Self {
            header_per_log: header.iter().any(|field| field.text.per_log),
            header,
            severity,
            actiontrail: judge,
            named: Named {
                topic: pieces().any(|piece| matches!(piece, Piece::Topic)),
                source: pieces().any(|piece| matches!(piece, Piece::Source)),
                tags: pieces().filter_map(tag).collect(),
            },
            entries,
            unmapped: params.unmapped,
            lookup,
        }
    }

    /// Appends the header up to the severity. False when it was not UTF-8.
    fn header(
        &self,
        style: &Style,
        now: &Now<'_>,
        rendered: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<bool, WireError> {
        let mut valid = true;
        out.extend_from_slice(style.begin());
        for field in &self.header {
            rendered.clear();
            field.text.render(now, &self.lookup, rendered)?;
            // A name of two parts that are both missing.
            let empty = matches!(rendered.as_slice(), b"" | b":");
            let text = if empty { field.otherwise } else { rendered.as_slice() };
            valid &= style.header(text, out);
        }
        Ok(valid)
    }

    /// Appends the entries that need the log, or those that do not. False when some of them were not UTF-8.
    fn pairs(
        &self,
        style: &Style,
        now: &Now<'_>,
        per_log: bool,
        rendered: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<bool, WireError> {
        let (mut valid, mut wrote) = (true, false);
        for entry in self.entries.iter().filter(|entry| entry.value.per_log == per_log) {
            rendered.clear();
            if wrote && entry.rule == Rule::Otherwise {
                continue;
            }
            entry.value.render(now, &self.lookup, rendered)?;
            let before = out.len();
            if let Some(value) = entry.rule.apply(rendered) {
                out.extend_from_slice(&entry.label);
                let length = out.len();
                valid &= style.value(&entry.text, shortened(value, entry.max), out);
                if out.len() == length {
                    out.truncate(before);
                }
            }
            wrote = out.len() > before;
        }
        Ok(valid)
    }

    /// How bad the log is, 0 to 10.
    fn level(&self, now: &Now<'_>, severity: u8, rendered: &mut Vec<u8>) -> Result<u8, WireError> {
        if let Some(judge) = &self.actiontrail {
            return Ok(judge.level(now.body, &self.lookup, rendered));
        }
        rendered.clear();
        self.severity.render(now, &self.lookup, rendered)?;
        Ok(level_of(rendered).unwrap_or_else(|| LEVELS.get(usize::from(severity)).copied().unwrap_or(1)))
    }
}

impl Entry {
    fn new(style: &Style, key: &str, label: &str, value: Text, rule: Rule, max: usize) -> Self {
        let mut label_text = Vec::new();
        if !label.is_empty() {
            style.pair(format!("{key}Label").as_bytes(), label.as_bytes(), &mut label_text);
        }
        Self {
            key: key.to_owned(),
            text: format!("{key}=").into_bytes(),
            label: label_text,
            value,
            rule,
            max,
        }
    }
}

impl Rule {
    /// The value to write, if any.
    fn apply(self, text: &[u8]) -> Option<&[u8]> {
        let address = || core::str::from_utf8(text).ok().and_then(|text| text.parse::<IpAddr>().ok());
        let written = match self {
            Self::Plain | Self::Otherwise => true,
            Self::Ip => address().is_some(),
            Self::Ipv4 => address().is_some_and(|address| address.is_ipv4()),
            Self::Ipv6 => address().is_some_and(|address| address.is_ipv6()),
            Self::NotIp => address().is_none(),
            Self::Outcome => {
                let (name, code) = text.split_at(text.iter().position(|byte| *byte == b' ')?);
                let good = matches!(code.trim_ascii(), b"" | b"success" | b"Success");
                return (!name.is_empty()).then_some(if good { &b"success"[..] } else { b"failure" });
            }
            Self::SignIn => return (text == b"ConsoleSignin").then_some(&b"true"[..]),
        };
        written.then_some(text)
    }
}

impl Text {
    fn new(template: &Template, lookup: &mut Lookup) -> Self {
        let piece = |part: &Part| match part {
            Part::Literal(text) => Piece::Literal(text.clone().into_bytes()),
            Part::Topic => Piece::Topic,
            Part::Source => Piece::Source,
            Part::Time => Piece::Time,
            Part::Tag(name) => Piece::Tag(name.clone()),
            Part::Field(name) => Piece::Field(lookup.slot(name)),
        };
        Self { pieces: template.parts().iter().map(piece).collect(), per_log: template.needs_log() }
    }

    fn render(&self, now: &Now<'_>, lookup: &Lookup, out: &mut Vec<u8>) -> Result<(), WireError> {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.extend_from_slice(text),
                Piece::Topic => out.extend_from_slice(now.group.topic),
                Piece::Source => out.extend_from_slice(now.group.source),
                Piece::Time => out.extend_from_slice(itoa::Buffer::new().format(now.time.secs).as_bytes()),
                Piece::Tag(name) => out.extend_from_slice(last_tag(now.group, name.as_bytes())?),
                Piece::Field(slot) => lookup.append(*slot, now.body, out),
            }
        }
        Ok(())
    }
}

/// A number from 0 to 10, one of CEF's words, or one of syslog's.
fn level_of(text: &[u8]) -> Option<u8> {
    let text = text.trim_ascii();
    match text {
        [digit @ b'0'..=b'9'] => return Some(digit - b'0'),
        b"10" => return Some(10),
        _ => {}
    }
    let word = WORDS.iter().find(|(word, _)| word.as_bytes().eq_ignore_ascii_case(text));
    word.map(|(_, level)| *level).or_else(|| {
        super::severity::common(text).and_then(|severity| LEVELS.get(usize::from(severity)).copied())
    })
}

const WORDS: [(&str, u8); 5] = [("low", 2), ("medium", 5), ("high", 8), ("very-high", 10), ("unknown", 3)];

/// What syslog's severities are in CEF.
const LEVELS: [u8; 8] = [10, 10, 9, 7, 5, 3, 1, 0];

/// The value of the last tag with this name.
fn last_tag<'a>(group: &LogGroup<'a>, name: &[u8]) -> Result<&'a [u8], WireError> {
    let mut value: &[u8] = &[];
    for tag in group.tags() {
        let (key, tag_value) = tag?;
        if key == name {
            value = tag_value;
        }
    }
    Ok(value)
}

/// At most `max` bytes of `text`, whole characters.
fn shortened(text: &[u8], max: usize) -> &[u8] {
    if text.len() <= max {
        return text;
    }
    let mut end = max;
    while end > 0 && text.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
        end -= 1;
    }
    text.get(..end).unwrap_or(&[])
}
