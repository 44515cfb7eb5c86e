//! Cuts a JSON object into its members without losing what a map would lose.
//!
//! Why: repeated keys, their order and the exact text of a number are what the verifier looks at; a parsed map keeps
//! none of them.
//! Invariants: every byte of the object belongs to a member, to punctuation or to white space; the text inside a
//! value is not judged (the caller has parsed it before).   Bounds: one vector of slices; no recursion.
//! Driven by: `expect` and the strict HEC sink.   Spec: RFC 8259.

/// A key (as text between its quotes, still escaped) and the raw text of its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member<'a> {
    key: &'a str,
    /// The value as it stands in the document.
    pub value: &'a str,
}

impl<'a> Member<'a> {
    /// The key, unescaped; `None` if it is not a valid JSON string.
    pub fn key(&self) -> Option<String> {
        string(self.key)
    }

    /// The key's raw text, quotes included.
    pub const fn raw_key(&self) -> &'a str {
        self.key
    }
}

/// The members of an object in order, repeated keys kept. `None` if the text is not one object.
pub fn members(text: &str) -> Option<Vec<Member<'_>>> {
    let bytes = text.as_bytes();
    let mut at = skip_space(bytes, 0);
    let mut members = Vec::new();
    if *bytes.get(at)? != b'{' {
        return None;
    }
    at = skip_space(bytes, at + 1);
    if *bytes.get(at)? == b'}' {
        return (skip_space(bytes, at + 1) == bytes.len()).then_some(members);
    }
    loop {
        let key_end = skip_string(bytes, at)?;
        let key = text.get(at..key_end)?;
        at = skip_space(bytes, key_end);
        if *bytes.get(at)? != b':' {
            return None;
        }
        at = skip_space(bytes, at + 1);
        let value_end = skip_value(bytes, at)?;
        members.push(Member { key, value: text.get(at..value_end)? });
        at = skip_space(bytes, value_end);
        match *bytes.get(at)? {
            b',' => at = skip_space(bytes, at + 1),
            b'}' => return (skip_space(bytes, at + 1) == bytes.len()).then_some(members),
            _ => return None,
        }
    }
}

/// The text of a JSON string, quotes included; `None` for anything else.
pub fn string(raw: &str) -> Option<String> {
    serde_json::from_str(raw).ok()
}

/// First byte at or after `at` that is not white space.
pub fn skip_space(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).unwrap_or(rest.len())
}

fn skip_value(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'"' => skip_string(bytes, at),
        b'{' | b'[' => skip_nested(bytes, at),
        _ => {
            let rest = bytes.get(at..)?;
            let size = rest
                .iter()
                .position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r'));
            size.filter(|size| *size > 0).map(|size| at + size)
        }
    }
}

fn skip_nested(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match bytes.get(at)? {
            b'"' => {
                at = skip_string(bytes, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

fn skip_string(bytes: &[u8], at: usize) -> Option<usize> {
    if *bytes.get(at)? != b'"' {
        return None;
    }
    let mut at = at + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            _ => at += 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str =
        r#" {"a":1, "a" : "x\"}{" ,"\u0062":{"c":["]",{"d":null}]},"":-1.5e3 , "q\\":[ ] } "#;

    #[test]
    fn keeps_order_repeats_and_raw_text() {
        let members = members(DOCUMENT).expect("an object");
        let found: Vec<_> = members.iter().map(|member| (member.key().expect("key"), member.value)).collect();
        let expected = [
            ("a", "1"),
            ("a", r#""x\"}{""#),
            ("b", r#"{"c":["]",{"d":null}]}"#),
            ("", "-1.5e3"),
            ("q\\", "[ ]"),
        ];
        assert_eq!(found, expected.map(|(key, value)| (key.to_owned(), value)));
        assert_eq!(super::members("{}"), Some(vec![]));
    }

    #[test]
    fn refuses_every_truncation() {
        let text = DOCUMENT.trim();
        for end in 0..text.len() {
            assert_eq!(members(&text[..end]), None, "{}", &text[..end]);
        }
        for bad in ["[]", "1", "{\"a\":1}x", "{\"a\" 1}", "{\"a\":}", "{a:1}", "{\"a\":1,}", "{,}"] {
            assert_eq!(members(bad), None, "{bad}");
        }
    }
}
