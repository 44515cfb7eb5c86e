//! Takes a body of `key=value` pairs apart.
//!
//! Why: the field that a search looks for must come back as it went in, whatever stands in it.
//! Invariants: 1. a separator in the text parts pairs, always: one inside a key or a value must have been escaped.
//! Bounds: one body.   Driven by: `expect`, `store`.
//! Spec: a separator's character is `\xHH`, a backslash `\\`, line breaks and NUL are `\n`, `\r`, `\0`.

/// The pairs in order, unescaped.
pub(super) fn pairs(text: &str, separator: &str) -> Result<Vec<(String, String)>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').ok_or_else(|| format!("no = in {pair:?}"))?;
        Ok((unescape(key)?, unescape(value)?))
    };
    text.split(separator).map(pair).collect()
}

fn unescape(text: &str) -> Result<String, String> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('\\') {
        plain.push_str(before);
        let (character, size) = match behind.as_bytes().first() {
            Some(b'\\') => ('\\', 1),
            Some(b'n') => ('\n', 1),
            Some(b'r') => ('\r', 1),
            Some(b'0') => ('\0', 1),
            Some(b'x') => {
                let digits = behind.get(1..3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
                (char::from(digits.ok_or_else(|| format!("\\x without two digits in {text:?}"))?), 3)
            }
            _ => return Err(format!("a backslash that escapes nothing in {text:?}")),
        };
        plain.push(character);
        rest = behind.get(size..).unwrap_or_default();
    }
    plain.push_str(rest);
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_back_as_they_went_in() {
        let found = pairs("a=b||__tag__:k=x=y||e=||k=\\x7c\\x7c\\\\\\n\\r\\0|", "||").expect("pairs");
        let wanted = [("a", "b"), ("__tag__:k", "x=y"), ("e", ""), ("k", "||\\\n\r\0|")];
        assert_eq!(found, wanted.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert_eq!(pairs("", "||"), Ok(vec![]));
        for wrong in ["||a=b", "a", "a=b||", "a=\\q", "a=\\x7", "a=\\xzz", "a=\\"] {
            assert!(pairs(wrong, "||").is_err(), "{wrong}");
        }
    }
}
