//! Finds the number of every event in a body without parsing it.
//!
//! Why: a sink that is slower than the forwarder measures itself. Looking for one short word costs a tenth of reading
//! the socket; parsing JSON costs more than the forwarder's whole work.
//! Invariants: finds `"seq":"S-N"`, also behind a space or the backslashes of an event that is JSON in a string.
//! It trusts that no value of the payload holds the word.   Bounds: none needed.
//! Driven by: the fast mode, once per complete body.   Spec: `payload` (every log carries a `seq`).

use memchr::memmem::Finder;

use crate::payload::Seq;

/// Appends the numbers found.
pub(super) fn scan(finder: &Finder<'_>, body: &[u8], found: &mut Vec<Seq>) {
    for at in finder.find_iter(body) {
        let rest = body.get(at + NEEDLE.len()..).unwrap_or_default();
        // The opening quote stands before the word, escaped or not; the word's own quotes are escaped alike.
        if at > 0
            && body.get(at - 1) == Some(&b'"')
            && let Some(seq) = value(rest)
        {
            found.push(seq);
        }
    }
}

/// What `scan` wants: made once, used for every body.
pub(super) fn finder() -> Finder<'static> {
    Finder::new(NEEDLE)
}

/// Reads `":"S-N"` with the variations that a JSON writer is free to make.
fn value(rest: &[u8]) -> Option<Seq> {
    let rest = rest.strip_prefix(b"\\").unwrap_or(rest);
    let rest = rest.strip_prefix(b"\":")?;
    let rest = rest.strip_prefix(b" ").unwrap_or(rest);
    let rest = rest.strip_prefix(b"\\").unwrap_or(rest);
    let rest = rest.strip_prefix(b"\"")?;
    let end = rest.iter().take(32).position(|byte| matches!(byte, b'"' | b'\\'))?;
    Seq::parse(rest.get(..end)?)
}

const NEEDLE: &[u8] = b"seq";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::{Payload, Profile};
    use crate::verify::expect::{Expected, Metadata};

    fn seqs(body: &str) -> Vec<String> {
        let mut found = Vec::new();
        scan(&finder(), body.as_bytes(), &mut found);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn finds_what_it_should_and_nothing_else() {
        assert_eq!(seqs(r#"{"event":{"seq":"0-1","a":"b"}}{"event":{"x":"","seq" :"0-2"}}"#), ["0-1"]);
        assert_eq!(seqs(r#"{"event":{"seq": "7-12"}}"#), ["7-12"]);
        assert_eq!(seqs(r#"{"event":"{\"seq\": \"1-2\", \"a\": \"\"}"}"#), ["1-2"]);
        for other in [
            "",
            "seq",
            "\"seq",
            "\"seq\":",
            "\"seq\":\"1-2",
            "\"seq\":1",
            "seq\":\"1-2\"",
            "\"seqs\":\"1-2\"",
        ] {
            assert_eq!(seqs(other), Vec::<String>::new(), "{other}");
        }
    }

    #[test]
    fn finds_every_numbered_nasty_log_once() {
        let payload = Payload::new(Profile::Nasty, 4);
        let mut body = String::new();
        let mut expected = Vec::new();
        for index in 0..20 {
            let group = payload.group(3, index);
            for (offset, log) in group.logs.iter().enumerate() {
                body.push_str("{\"event\":");
                body.push_str(&Expected::new(&group, log, &Metadata::default()).event_text());
                body.push('}');
                let number = index * 100 + offset as u64;
                if payload.is_numbered(number) {
                    expected.push(format!("3-{number}"));
                }
            }
        }
        assert_eq!(seqs(&body), expected);
    }
}
