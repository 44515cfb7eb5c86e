//! Finds the number of a log in a message's text, whatever the text is written in.
//!
//! Why: JSON, `key=value`, CEF and LEEF carry the same field in other clothes, a message may have been cut short, and
//! the fast mode has no time to parse.
//! Invariants: finds `seq` as a whole word, then `=` or `":"` and `S-N`. It trusts that no other value of the payload
//! holds the word.   Bounds: none needed.   Driven by: `store`, once a message.
//! Spec: `payload` (every log carries a `seq`).

use memchr::memmem::Finder;

use crate::payload::Seq;

/// A scanner; made once, used for every message.
#[derive(Debug)]
pub(super) struct Scanner(Finder<'static>);

impl Scanner {
    pub(super) fn new() -> Self {
        Self(Finder::new(NEEDLE))
    }

    /// The first number found.
    pub(super) fn find(&self, text: &[u8]) -> Option<Seq> {
        self.0.find_iter(text).find_map(|at| {
            let is_inside =
                at.checked_sub(1).and_then(|at| text.get(at)).is_some_and(u8::is_ascii_alphanumeric);
            if is_inside { None } else { value(text.get(at + NEEDLE.len()..)?) }
        })
    }
}

/// Reads `=S-N`, `="S-N"`, `":"S-N"`, also with backslashes before the quotes.
fn value(rest: &[u8]) -> Option<Seq> {
    let skip = |rest: &'static [u8], text: &mut &[u8]| {
        if let Some(behind) = text.strip_prefix(rest) {
            *text = behind;
        }
    };
    let mut rest = rest;
    skip(b"\\", &mut rest);
    let is_json = rest.first() == Some(&b'"');
    skip(b"\"", &mut rest);
    rest = rest.strip_prefix(if is_json { b":" } else { b"=" })?;
    if is_json {
        skip(b" ", &mut rest);
    }
    skip(b"\\", &mut rest);
    skip(b"\"", &mut rest);
    let end = rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'-').unwrap_or(rest.len());
    Seq::parse(rest.get(..end)?)
}

const NEEDLE: &[u8] = b"seq";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_it_should_and_nothing_else() {
        let scanner = Scanner::new();
        let find = |text: &str| scanner.find(text.as_bytes()).map(|seq| seq.to_string());
        for (text, seq) in [
            (r#"{"seq":"0-1","a":"b"}"#, "0-1"),
            (r#"{"a":"b", "seq": "7-12""#, "7-12"),
            (r#""{\"seq\": \"1-2\"}""#, "1-2"),
            ("||a=b||seq=3-4||c=d", "3-4"),
            ("CEF:0|a|b|c|d|e|1|seq=3-4 msg=x", "3-4"),
            ("LEEF:2.0|a|b|c|d|^|x=seqx^seq=5-6", "5-6"),
            ("seq=\"9-9\"", "9-9"),
            ("seq=8-8", "8-8"),
        ] {
            assert_eq!(find(text).as_deref(), Some(seq), "{text}");
        }
        for other in
            ["", "seq", "seq=", "seq=1", "seq=-1", "1seq=1-2", "seqs=1-2", "seq:1-2", "seq\"=1-2", "seq=a-1"]
        {
            assert_eq!(find(other), None, "{other}");
        }
    }
}
