//! How bad a log is: fixed, or by one of its fields.
//!
//! Why: alarms of a SIEM follow the severity, and programs name it in a hundred ways.
//! Invariants: 1. a severity is 0 to 7. 2. a value without a meaning gives the default, never an error.
//! Bounds: one walk over the log where a field is set, one pass over some forty words.
//! Driven by: `syslog`. Spec: RFC 5424 6.2.1, table 2. Numbers are syslog's own: 0 is the worst.

use crate::proto::sls::wire::{Log, WireError};

/// Finds the severity of a log.
#[derive(Clone, Debug)]
pub(super) struct Severities {
    default: u8,
    field: Option<String>,
    map: Vec<(String, u8)>,
}

impl Severities {
    pub(super) fn new(default: u8, field: Option<String>, map: Vec<(String, u8)>) -> Self {
        Self { default, field, map }
    }

    /// The severity of `log`.
    #[inline]
    pub(super) fn of(&self, log: &Log<'_>) -> Result<u8, WireError> {
        match &self.field {
            None => Ok(self.default),
            Some(field) => {
                Ok(log.last(field.as_bytes())?.and_then(|value| self.meaning(value)).unwrap_or(self.default))
            }
        }
    }

    fn meaning(&self, value: &[u8]) -> Option<u8> {
        let word = value.trim_ascii();
        if let [digit @ b'0'..=b'7'] = word
            && !self.map.iter().any(|(name, _)| name.as_bytes() == word)
        {
            return Some(digit - b'0');
        }
        let own = self.map.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(word));
        own.map(|(_, severity)| *severity).or_else(|| common(word))
    }
}

/// What a word means to most programs.
pub(super) fn common(word: &[u8]) -> Option<u8> {
    WORDS.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(word)).map(|(_, severity)| *severity)
}

/// The frequent ones first. `fatal` is critical and not an emergency: receivers tell every terminal about those.
const WORDS: [(&str, u8); 34] = [
    ("info", 6),
    ("warn", 4),
    ("warning", 4),
    ("error", 3),
    ("err", 3),
    ("debug", 7),
    ("notice", 5),
    ("critical", 2),
    ("crit", 2),
    ("fatal", 2),
    ("trace", 7),
    ("information", 6),
    ("informational", 6),
    ("alert", 1),
    ("emergency", 0),
    ("emerg", 0),
    ("panic", 0),
    ("high", 3),
    ("medium", 4),
    ("low", 5),
    ("severe", 3),
    ("serious", 3),
    ("suspicious", 4),
    ("remind", 5),
    ("i", 6),
    ("w", 4),
    ("e", 3),
    ("d", 7),
    ("f", 2),
    ("verbose", 7),
    ("fine", 7),
    ("finer", 7),
    ("finest", 7),
    ("config", 6),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(map: &[(&str, u8)], value: &str) -> Option<u8> {
        let map = map.iter().map(|(name, severity)| ((*name).to_owned(), *severity)).collect();
        Severities::new(6, Some("level".into()), map).meaning(value.as_bytes())
    }

    #[test]
    fn words_numbers_and_the_users_own() {
        for (value, expected) in [
            ("ERROR", Some(3)),
            (" Warn\n", Some(4)),
            ("critical", Some(2)),
            ("0", Some(0)),
            ("7", Some(7)),
            ("8", None),
            ("-1", None),
            ("03", None),
            ("", None),
            ("what?", None),
        ] {
            assert_eq!(meaning(&[], value), expected, "{value:?}");
        }
        let own = [("error", 2), ("严重", 1), ("3", 0), ("30", 6)];
        assert_eq!(meaning(&own, "Error"), Some(2), "before the common words");
        assert_eq!(meaning(&own, "严重"), Some(1));
        assert_eq!(meaning(&own, "3"), Some(0), "before the numbers");
        assert_eq!(meaning(&own, "30"), Some(6));
        assert_eq!(meaning(&own, "4"), Some(4));
    }

    #[test]
    fn no_word_stands_there_twice() {
        for (at, (word, severity)) in WORDS.iter().enumerate() {
            assert!(*severity <= 7 && WORDS.iter().skip(at + 1).all(|(other, _)| other != word), "{word}");
        }
    }
}
