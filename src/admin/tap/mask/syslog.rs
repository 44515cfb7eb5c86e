//! Syslog messages whose values are hidden: header, structured data, and what stands behind them.
//!
//! Why: a field can stand in the header too, where the settings put it there by a template.
//! Invariants: 1. of a header that is made of a hidden field only priority, version and time stay. 2. a part of a
//! longer message, and a message whose header is not where it should be, is hidden whole.
//! Bounds: none of its own. Driven by: [`super::Rule`].
//! Spec: RFC 5424 section 6, RFC 3164 section 4.1, as `format::syslog` writes them.

use super::{Body, Rule, STARS, json, pairs};

/// How messages of a pipeline are made.
pub(super) struct Shape<'a> {
    pub(super) is_5424: bool,
    pub(super) header: &'a [String],
    pub(super) body: &'a Body,
    pub(super) made: &'a [(String, usize)],
}

/// The message with values hidden.
pub(super) fn mask(text: &str, rule: &mut Rule, shape: &Shape<'_>) -> String {
    let parsed = if shape.is_5424 { new_header(text) } else { old_header(text) };
    let Some(Header { fixed, fields, data, body }) = parsed else { return unknown(text, rule) };
    let mut out = String::with_capacity(text.len());
    out.push_str(fixed);
    let mut hides_header = false;
    for template in shape.header {
        hides_header |= rule.hides_template(template);
    }
    if hides_header || rule.all {
        let words = fields.split_inclusive(' ').map(|word| match word.trim_end() {
            "" | "-" => word.to_owned(),
            trimmed => word.replace(trimmed, STARS),
        });
        out.extend(words);
    } else {
        out.push_str(fields);
    }
    structured_data(data, rule, shape.made, &mut out);
    out.push_str(&self::body(body, rule, shape, hides_header));
    out
}

fn body(text: &str, rule: &mut Rule, shape: &Shape<'_>, hides_header: bool) -> String {
    let (mark, text) = text.strip_prefix('\u{feff}').map_or(("", text), |text| ("\u{feff}", text));
    let masked = match shape.body {
        _ if text.starts_with("[part ") => unknown(text, rule),
        Body::Json => json::mask(text, rule, shape.made),
        Body::Pairs(separator) => pairs::separated(text, separator, rule, shape.made),
        Body::Cef => match event(text, "CEF:0|", 6, hides_header || rule.all) {
            Some((head, rest)) => head + &pairs::extension(rest, rule, shape.made),
            None => unknown(text, rule),
        },
        Body::Leef(delimiter) => match event(text, "LEEF:2.0|", 5, hides_header || rule.all) {
            Some((head, rest)) => {
                let separator = char::from(*delimiter).to_string();
                head + &pairs::separated(rest, &separator, rule, shape.made)
            }
            None => unknown(text, rule),
        },
        Body::Field(name) => {
            if rule.hides(name, shape.made) {
                return format!("{mark}{STARS}");
            }
            match json::mask_if_json(text, rule, shape.made, 0) {
                Some(masked) => masked,
                None if json::looks_like_it(text) && rule.may_be_in(text) => STARS.to_owned(),
                None => text.to_owned(),
            }
        }
    };
    format!("{mark}{masked}")
}

/// What cannot be taken apart.
fn unknown(text: &str, rule: &mut Rule) -> String {
    rule.may_be_in(text);
    STARS.to_owned()
}

/// CEF and LEEF: so many fields behind the first, each with a `|`; the rest are pairs.
fn event<'a>(text: &'a str, begin: &str, fields: usize, hides: bool) -> Option<(String, &'a str)> {
    let behind = text.strip_prefix(begin)?;
    let (mut left, mut escaped) = (fields, false);
    let last = behind.bytes().position(|byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'|' => left -= 1,
            _ => {}
        }
        left == 0
    })?;
    let (head, rest) = behind.split_at(last + 1);
    Some((if hides { format!("{begin}{STARS}|") } else { format!("{begin}{head}") }, rest))
}

struct Header<'a> {
    /// Priority, version, time, and the space behind it.
    fixed: &'a str,
    /// Made of templates.
    fields: &'a str,
    data: &'a str,
    body: &'a str,
}

fn new_header(text: &str) -> Option<Header<'_>> {
    let mut spaces = text.match_indices(' ').map(|(at, _)| at + 1);
    let stamp_end = spaces.nth(1)?;
    let fields_end = spaces.nth(3)?;
    let data_end = fields_end + data_end(text.get(fields_end..)?)?;
    let (fixed, fields) = (text.get(..stamp_end)?, text.get(stamp_end..fields_end)?);
    Some(Header { fixed, fields, data: text.get(fields_end..data_end)?, body: text.get(data_end..)? })
}

/// Where structured data ends, and the space behind it.
fn data_end(text: &str) -> Option<usize> {
    if text.starts_with("- ") {
        return Some(2);
    }
    let (mut quoted, mut escaped, mut open) = (false, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'[' => open = true,
            b']' => open = false,
            b' ' if !open => return Some(at + 1),
            _ if !open => return None,
            _ => {}
        }
    }
    None
}

/// Values of parameters: ` name="value"`.
fn structured_data(text: &str, rule: &mut Rule, made: &[(String, usize)], out: &mut String) {
    let mut rest = text;
    while let Some((front, behind)) = rest.split_once("=\"") {
        let name = front.rsplit([' ', '[']).next().unwrap_or_default();
        let mut escaped = false;
        let end = behind.bytes().position(|byte| match byte {
            _ if escaped => {
                escaped = false;
                false
            }
            b'\\' => {
                escaped = true;
                false
            }
            byte => byte == b'"',
        });
        let (value, behind) = behind.split_at(end.unwrap_or(behind.len()));
        out.push_str(front);
        out.push_str("=\"");
        out.push_str(if rule.hides(name, made) { STARS } else { value });
        rest = behind;
        if let Some(behind) = rest.strip_prefix('"') {
            out.push('"');
            rest = behind;
        }
    }
    out.push_str(rest);
}

fn old_header(text: &str) -> Option<Header<'_>> {
    let priority = text.find('>')? + 1;
    // `Mmm dd hh:mm:ss `.
    let stamp_end = priority + 16;
    let fixed = text.get(..stamp_end)?;
    let fields = text.get(stamp_end..)?;
    let host_end = fields.find(' ')? + 1;
    let behind = fields.get(host_end..)?;
    let untagged = ["CEF:0|", "LEEF:2.0|"].iter().any(|begin| behind.starts_with(begin));
    let end = if untagged { host_end } else { host_end + behind.find(": ")? + 2 };
    Some(Header { fixed, fields: fields.get(..end)?, data: "", body: fields.get(end..)? })
}
