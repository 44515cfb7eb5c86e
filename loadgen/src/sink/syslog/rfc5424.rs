//! RFC 5424 to the letter: what a strict receiver accepts, and what exactly is wrong with the rest.
//!
//! Why: real receivers are lenient each in its own way (one takes nine digits of a fraction and prints garbage, another
//! drops the event), so a sender that one of them accepts may still be wrong. This one accepts the grammar only.
//! Invariants: 1. every octet of a message belongs to a field, or the message is refused with its offset.
//! Bounds: one message; elements and parameters in vectors.   Driven by: the strict mode, and tests.
//! Spec: syslog.md 1; RFC 5424 section 6. A backslash that escapes nothing is refused: the RFC tells receivers to put
//! up with it and senders not to write it. Registered SD-IDs are those of IANA, others need `@` and a number.

use super::stamp::Stamp;

/// An offset within a message and the rule that is broken there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Offset of the byte at which it shows.
    pub at: usize,
    /// What is wrong.
    pub what: &'static str,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    /// 0 to 23.
    pub facility: u8,
    /// 0 to 7.
    pub severity: u8,
    /// When, unless nil.
    pub stamp: Option<Stamp>,
    /// HOSTNAME, unless nil.
    pub hostname: Option<&'a str>,
    /// APP-NAME, unless nil.
    pub app_name: Option<&'a str>,
    /// PROCID, unless nil.
    pub proc_id: Option<&'a str>,
    /// MSGID, unless nil.
    pub msg_id: Option<&'a str>,
    /// STRUCTURED-DATA, empty if nil.
    pub structured_data: Vec<Element<'a>>,
    /// MSG without its BOM; none if nothing, not even a space, stands behind STRUCTURED-DATA.
    pub body: Option<&'a [u8]>,
    /// Whether MSG has a BOM.
    pub has_bom: bool,
}

/// One element of STRUCTURED-DATA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element<'a> {
    /// SD-ID.
    pub id: &'a str,
    /// Parameters in order, values unescaped.
    pub params: Vec<(&'a str, String)>,
}

impl Message<'_> {
    /// The first value of a parameter.
    pub fn param(&self, id: &str, name: &str) -> Option<&str> {
        let element = self.structured_data.iter().find(|element| element.id == id)?;
        element.params.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }
}

/// Parses one message, without its frame.
pub fn parse(bytes: &[u8]) -> Result<Message<'_>, Violation> {
    let mut cursor = Cursor { bytes, at: 0 };
    let (facility, severity) = cursor.priority()?;
    cursor.expect(b'1', "the version is not 1")?;
    cursor.expect(b' ', "no space behind the version")?;
    let stamp = cursor.stamp()?;
    let hostname = cursor.field(255, "HOSTNAME is empty", "HOSTNAME is longer than 255")?;
    let app_name = cursor.field(48, "APP-NAME is empty", "APP-NAME is longer than 48")?;
    let proc_id = cursor.field(128, "PROCID is empty", "PROCID is longer than 128")?;
    let msg_id = cursor.field(32, "MSGID is empty", "MSGID is longer than 32")?;
    let structured_data = cursor.structured_data()?;
    let (body, has_bom) = cursor.body()?;
    Ok(Message {
        facility,
        severity,
        stamp,
        hostname,
        app_name,
        proc_id,
        msg_id,
        structured_data,
        body,
        has_bom,
    })
}

/// Reads from front to back.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    pub(super) fn broken<T>(&self, what: &'static str) -> Result<T, Violation> {
        Err(Violation { at: self.at, what })
    }

    pub(super) fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), Violation> {
        if self.peek() != Some(byte) {
            return self.broken(what);
        }
        self.at += 1;
        Ok(())
    }

    /// Takes bytes while they fit, as text; they must all be ASCII.
    pub(super) fn while_ascii(&mut self, fits: impl Fn(u8) -> bool) -> &'a str {
        let rest = self.rest();
        let size = rest.iter().position(|byte| !fits(*byte)).unwrap_or(rest.len());
        self.at += size;
        rest.get(..size).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
    }

    /// `<PRI>`: facility and severity.
    pub(super) fn priority(&mut self) -> Result<(u8, u8), Violation> {
        self.expect(b'<', "no priority")?;
        let start = self.at;
        let digits = self.while_ascii(|byte| byte.is_ascii_digit());
        let value = digits.parse::<u8>().ok().filter(|value| *value <= 191);
        let is_canonical = digits.len() == 1 || !digits.starts_with('0');
        let Some(value) = value.filter(|_| is_canonical) else {
            return Err(Violation { at: start, what: "the priority is not a number from 0 to 191" });
        };
        self.expect(b'>', "the priority does not end in >")?;
        Ok((value / 8, value % 8))
    }

    fn stamp(&mut self) -> Result<Option<Stamp>, Violation> {
        if self.rest().starts_with(b"- ") {
            self.at += 2;
            return Ok(None);
        }
        let start = self.at;
        let text = self.while_ascii(|byte| (33..=126).contains(&byte));
        let stamp = Stamp::parse(text).map_err(|(at, what)| Violation { at: start + at, what })?;
        self.expect(b' ', "no space behind TIMESTAMP")?;
        Ok(Some(stamp))
    }

    /// A header field and the space behind it.
    fn field(
        &mut self,
        max: usize,
        empty: &'static str,
        long: &'static str,
    ) -> Result<Option<&'a str>, Violation> {
        let start = self.at;
        let text = self.while_ascii(|byte| (33..=126).contains(&byte));
        if text.is_empty() {
            return self.broken(if self.peek() == Some(b' ') { empty } else { NOT_PRINTABLE });
        }
        if text.len() > max {
            return Err(Violation { at: start + max, what: long });
        }
        if self.peek().is_some_and(|byte| byte != b' ') {
            return self.broken(NOT_PRINTABLE);
        }
        self.expect(b' ', "the header ends early")?;
        Ok((text != "-").then_some(text))
    }

    fn structured_data(&mut self) -> Result<Vec<Element<'a>>, Violation> {
        let mut elements: Vec<Element<'a>> = Vec::new();
        match self.peek() {
            Some(b'-') => self.at += 1,
            Some(b'[') => {
                while self.peek() == Some(b'[') {
                    let start = self.at + 1;
                    let element = self.element()?;
                    if elements.iter().any(|known| known.id == element.id) {
                        return Err(Violation { at: start, what: "an SD-ID stands twice" });
                    }
                    elements.push(element);
                }
            }
            _ => return self.broken("STRUCTURED-DATA is neither - nor an element"),
        }
        match self.peek() {
            None | Some(b' ') => Ok(elements),
            Some(_) => self.broken("no space behind STRUCTURED-DATA"),
        }
    }

    fn element(&mut self) -> Result<Element<'a>, Violation> {
        self.expect(b'[', "no element")?;
        let start = self.at;
        let id = self.name("SD-ID is empty", "SD-ID is longer than 32")?;
        if !is_known_id(id) {
            return Err(Violation { at: start, what: "SD-ID is neither registered nor NAME@NUMBER" });
        }
        let mut params = Vec::new();
        loop {
            match self.peek() {
                Some(b']') => {
                    self.at += 1;
                    return Ok(Element { id, params });
                }
                Some(b' ') => {
                    self.at += 1;
                    let name = self.name("PARAM-NAME is empty", "PARAM-NAME is longer than 32")?;
                    self.expect(b'=', "no = behind PARAM-NAME")?;
                    self.expect(b'"', "PARAM-VALUE does not begin with a quote")?;
                    params.push((name, self.value()?));
                }
                _ => return self.broken("an element holds neither a parameter nor its end"),
            }
        }
    }

    fn name(&mut self, empty: &'static str, long: &'static str) -> Result<&'a str, Violation> {
        let start = self.at;
        let is_of_name = |byte| (33..=126).contains(&byte) && !matches!(byte, b'=' | b']' | b'"');
        let name = self.while_ascii(is_of_name);
        if name.is_empty() {
            return self.broken(empty);
        }
        if name.len() > 32 {
            return Err(Violation { at: start + 32, what: long });
        }
        Ok(name)
    }

    /// A value up to and with its closing quote.
    fn value(&mut self) -> Result<String, Violation> {
        let start = self.at;
        let mut value = Vec::new();
        loop {
            let rest = self.rest();
            let Some(size) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | b']')) else {
                self.at = self.bytes.len();
                return self.broken("PARAM-VALUE does not end");
            };
            value.extend_from_slice(rest.get(..size).unwrap_or_default());
            self.at += size;
            match (rest.get(size), rest.get(size + 1)) {
                (Some(b'"'), _) => {
                    self.at += 1;
                    break;
                }
                (Some(b'\\'), Some(escaped @ (b'"' | b'\\' | b']'))) => {
                    value.push(*escaped);
                    self.at += 2;
                }
                (Some(b'\\'), _) => return self.broken("a backslash that escapes nothing in PARAM-VALUE"),
                _ => return self.broken("] without a backslash in PARAM-VALUE"),
            }
        }
        String::from_utf8(value).map_err(|_| Violation { at: start, what: "PARAM-VALUE is not UTF-8" })
    }

    fn body(&mut self) -> Result<(Option<&'a [u8]>, bool), Violation> {
        if self.peek().is_none() {
            return Ok((None, false));
        }
        self.expect(b' ', "no space in front of MSG")?;
        let body = self.rest();
        let Some(text) = body.strip_prefix(BOM) else { return Ok((Some(body), false)) };
        if let Err(why) = std::str::from_utf8(text) {
            let at = self.at + BOM.len() + why.valid_up_to();
            return Err(Violation { at, what: "MSG has a BOM and is not UTF-8" });
        }
        Ok((Some(text), true))
    }
}

/// Registered with IANA, or of somebody with a number.
fn is_known_id(id: &str) -> bool {
    match id.split_once('@') {
        None => matches!(id, "timeQuality" | "origin" | "meta"),
        Some((name, number)) => {
            let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            !name.is_empty() && number.split('.').all(is_number)
        }
    }
}

const BOM: &[u8] = b"\xEF\xBB\xBF";
const NOT_PRINTABLE: &str = "a header field holds a character outside of PRINTUSASCII, or a space too many";

#[cfg(test)]
mod tests;
