//! What parts CEF from LEEF: separators, escapes, the names of two keys.
//!
//! Why: everything else is the same, and a mistake in an escape is seen best where the other one stands beside it.
//! Invariants: those of `event`. Bounds: two bytes out for one in. Driven by: `event`.
//! Spec: syslog notes, sections 7 and 8; the LEEF delimiter is told as itself, or as `x` and its number.

use core::fmt;
use core::str::FromStr;

use super::super::escape::Escapes;

/// The character between the pairs of LEEF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeefDelimiter(u8);

impl Default for LeefDelimiter {
    fn default() -> Self {
        Self(b'\t')
    }
}

impl LeefDelimiter {
    /// The character.
    pub fn byte(self) -> u8 {
        self.0
    }
}

impl FromStr for LeefDelimiter {
    type Err = &'static str;

    /// One character, or `x` or `0x` and its number.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex =
            text.strip_prefix("0x").or_else(|| text.strip_prefix('x')).filter(|digits| !digits.is_empty());
        let byte = match (hex, text.as_bytes()) {
            (Some(digits), _) => u8::from_str_radix(digits, 16).map_err(|_| "not a number such as x09")?,
            (None, [byte]) => *byte,
            _ => return Err("not one ASCII character, nor its number such as x09"),
        };
        let taken =
            byte.is_ascii_alphanumeric() || matches!(byte, 0 | b'\n' | b'\r' | b' ' | b'|' | b'=' | b'\\');
        if taken || !byte.is_ascii() {
            Err("a character that keys, values or frames need")
        } else {
            Ok(Self(byte))
        }
    }
}

impl fmt::Display for LeefDelimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_ascii_graphic() {
            write!(f, "{}", char::from(self.0))
        } else {
            write!(f, "x{:02x}", self.0)
        }
    }
}

/// CEF or LEEF.
#[derive(Clone, Debug)]
pub(super) struct Style {
    cef: bool,
    delimiter: u8,
    header: Escapes,
    values: Escapes,
    /// What stands behind the fields of the header.
    end: Vec<u8>,
}

impl Style {
    pub(super) fn cef() -> Self {
        let header = spaces(Escapes::none()).with(b'|', b"\\|").with(b'\\', b"\\\\");
        let values = Escapes::none().with(b'\n', b"\\n").with(b'\r', b"\\r").with(0, b" ");
        let values = values.with(b'=', b"\\=").with(b'\\', b"\\\\");
        Self { cef: true, delimiter: b' ', header, values, end: Vec::new() }
    }

    pub(super) fn leef(delimiter: LeefDelimiter) -> Self {
        let header = spaces(Escapes::none()).with(b'|', b"_").with(b'\t', b" ");
        let values = spaces(Escapes::none()).with(delimiter.0, b" ");
        let end = format!("{delimiter}|").into_bytes();
        Self { cef: false, delimiter: delimiter.0, header, values, end }
    }

    pub(super) fn is_cef(&self) -> bool {
        self.cef
    }

    /// The first field of the header.
    pub(super) fn begin(&self) -> &'static [u8] {
        if self.cef { b"CEF:0|" } else { b"LEEF:2.0|" }
    }

    /// The key of the time in milliseconds.
    pub(super) fn time_key(&self) -> &'static [u8] {
        if self.cef { b"rt" } else { b"devTime" }
    }

    /// Keys that are written for every log.
    pub(super) fn reserved(&self) -> &'static [&'static str] {
        if self.cef { &["rt"] } else { &["devTime", "sev"] }
    }

    /// Appends a field of the header. False when it was not UTF-8.
    pub(super) fn header(&self, text: &[u8], out: &mut Vec<u8>) -> bool {
        let valid = self.header.append(text, out);
        out.push(b'|');
        valid
    }

    /// Ends the header.
    pub(super) fn severity(&self, level: u8, out: &mut Vec<u8>) {
        if self.cef {
            out.extend_from_slice(itoa::Buffer::new().format(level).as_bytes());
            out.push(b'|');
        }
        out.extend_from_slice(&self.end);
    }

    /// The severity where it is a pair: LEEF has 1 to 10.
    pub(super) fn level_pair(&self, level: u8, out: &mut Vec<u8>) {
        if !self.cef {
            self.pair(b"sev", itoa::Buffer::new().format(level.max(1)).as_bytes(), out);
        }
    }

    /// Appends a pair and its separator, nothing for an empty value. False when it was not UTF-8.
    pub(super) fn pair(&self, key: &[u8], value: &[u8], out: &mut Vec<u8>) -> bool {
        let mark = out.len();
        out.extend_from_slice(key);
        out.push(b'=');
        self.rest_of_pair(mark, value, out)
    }

    /// As [`Self::pair`], with a key that brings its `=`.
    pub(super) fn value(&self, key: &[u8], value: &[u8], out: &mut Vec<u8>) -> bool {
        let mark = out.len();
        out.extend_from_slice(key);
        self.rest_of_pair(mark, value, out)
    }

    fn rest_of_pair(&self, mark: usize, value: &[u8], out: &mut Vec<u8>) -> bool {
        let begin = out.len();
        let valid = self.values.append(value, out);
        while out.len() > begin && out.last() == Some(&b' ') {
            out.pop();
        }
        if out.len() == begin {
            out.truncate(mark);
        } else {
            out.push(self.delimiter);
        }
        valid
    }

    /// Takes the separator behind the last pair away, where there is one behind `begin`.
    pub(super) fn finish(&self, begin: usize, out: &mut Vec<u8>) {
        if out.len() > begin && out.last() == Some(&self.delimiter) {
            out.pop();
        }
    }
}

fn spaces(escapes: Escapes) -> Escapes {
    escapes.with(b'\n', b" ").with(b'\r', b" ").with(0, b" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters() {
        for (text, byte, shown) in [
            ("x09", b'\t', "x09"),
            ("0x09", b'\t', "x09"),
            ("^", b'^', "^"),
            ("x5E", b'^', "^"),
            ("\t", b'\t', "x09"),
        ] {
            let delimiter: LeefDelimiter = text.parse().unwrap();
            assert_eq!((delimiter.0, delimiter.to_string().as_str()), (byte, shown), "{text}");
        }
        for text in ["", "ab", "世", "|", "=", "a", "x", "x0a", "x00", " ", "xzz", "x80", "x109"] {
            assert!(text.parse::<LeefDelimiter>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn pairs_are_trimmed_and_never_empty() {
        let pair = |style: Style, value: &str| {
            let mut out = Vec::new();
            style.pair(b"k", value.as_bytes(), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(pair(Style::cef(), "a=b\\c|d\r\ne\0 "), "k=a\\=b\\\\c|d\\r\\ne ");
        assert_eq!(pair(Style::cef(), " \0 "), "");
        assert_eq!(pair(Style::cef(), ""), "");
        assert_eq!(pair(Style::leef(LeefDelimiter(b'^')), "a=b\\c^d\te\n"), "k=a=b\\c d\te^");
    }
}
