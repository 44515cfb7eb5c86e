//! Puts records together that a sender split: `[part 2/5 id=0123456789abcdef] `, then the text.
//!
//! Why: a split is only right if the parts, side by side, are the record byte for byte.
//! Invariants: 1. a record is whole when each of its numbers is there once; a part that comes again replaces itself,
//! and a record that is whole is forgotten, so that a second sending makes a second record.
//! Bounds: records that are not whole stay in memory.   Driven by: `store`.   Spec: syslog.md, consequences (b).

use std::collections::BTreeMap;

/// A message that is a part of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part<'a> {
    number: usize,
    of: usize,
    id: &'a str,
    text: &'a [u8],
}

impl<'a> Part<'a> {
    /// Reads the words in front of the text; none if this is no part.
    pub(super) fn of(body: &'a [u8]) -> Option<Self> {
        let rest = body.strip_prefix(b"[part ")?;
        let end = rest.iter().take(HEAD_BYTES).position(|byte| *byte == b']')?;
        let (numbers, id) = std::str::from_utf8(rest.get(..end)?).ok()?.split_once(" id=")?;
        let (number, of) = numbers.split_once('/')?;
        let (number, of) = (number.parse().ok()?, of.parse().ok()?);
        let text = rest.get(end + 1..)?.strip_prefix(b" ")?;
        (number >= 1 && number <= of && of <= MAX_PARTS).then_some(Self { number, of, id, text })
    }
}

/// Records that are not whole yet.
#[derive(Debug, Default)]
pub(super) struct Parts(BTreeMap<(String, usize), BTreeMap<usize, Vec<u8>>>);

impl Parts {
    /// Takes a part; gives the record if it is whole now.
    pub(super) fn take(&mut self, part: &Part<'_>) -> Option<Vec<u8>> {
        let key = (part.id.to_owned(), part.of);
        let parts = self.0.entry(key.clone()).or_default();
        parts.insert(part.number, part.text.to_vec());
        if parts.len() < part.of {
            return None;
        }
        self.0.remove(&key).map(|parts| parts.into_values().flatten().collect())
    }
}

const HEAD_BYTES: usize = 64;
const MAX_PARTS: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_its_parts_in_order() {
        let mut parts = Parts::default();
        let mut take = |text: &str| Part::of(text.as_bytes()).map(|part| parts.take(&part));
        assert_eq!(take("[part 2/3 id=a] b]"), Some(None));
        assert_eq!(take("[part 1/3 id=a] a "), Some(None));
        assert_eq!(take("[part 1/3 id=a] a "), Some(None), "again");
        assert_eq!(take("[part 1/1 id=b] x"), Some(Some(b"x".to_vec())));
        assert_eq!(take("[part 3/3 id=a] c"), Some(Some(b"a b]c".to_vec())));
        assert_eq!(take("[part 3/3 id=a] c"), Some(None), "of a second record");
        for other in
            ["", "[part", "[part 1/2 id=a]x", "[part 0/2 id=a] x", "[part 3/2 id=a] x", "[part 1 id=a] x"]
        {
            assert_eq!(take(other), None, "{other}");
        }
    }
}
