//! Names of fields as keys of an extension.
//!
//! Why: both formats take letters and digits alone, and logs have `request_method`, `User-Agent` and `__tag__:x`.
//! Invariants: 1. a key is never empty and never anything but ASCII letters and digits.
//! Bounds: as the name. Driven by: `event`, `lookup`. Spec: own: other characters fall out and the letter behind
//! them becomes a capital (`requestMethod`, `UserAgent`, `tagHostname`); where nothing is left, `field` and a number.
//! Two names that differ in nothing else become one key twice; a parser keeps the last, as of a repeated name.

/// Appends the key for `name`, the content with this number.
pub(super) fn push_key(name: &[u8], number: usize, out: &mut Vec<u8>) {
    let begin = out.len();
    let mut capital = false;
    for byte in name {
        if byte.is_ascii_alphanumeric() {
            let first = out.len() == begin;
            out.push(if capital && !first { byte.to_ascii_uppercase() } else { *byte });
            capital = false;
        } else {
            capital = true;
        }
    }
    if out.len() == begin {
        out.extend_from_slice(b"field");
        out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }
}

/// Appends the key for a tag: `tagHostname`.
pub(super) fn push_tag_key(name: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"tag");
    let begin = out.len();
    push_key(name, 0, out);
    if let Some(first) = out.get_mut(begin) {
        first.make_ascii_uppercase();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_keys() {
        for (name, expected) in [
            ("requestMethod", "requestMethod"),
            ("request_method", "requestMethod"),
            ("User-Agent", "UserAgent"),
            ("__topic__", "topic"),
            ("a b  c", "aBC"),
            ("状态", "field3"),
            ("", "field3"),
            ("é1", "1"),
        ] {
            let mut out = b"#".to_vec();
            push_key(name.as_bytes(), 3, &mut out);
            assert_eq!(core::str::from_utf8(&out[1..]).unwrap(), expected);
        }
        for (name, expected) in [("__hostname__", "tagHostname"), ("k8s-pod", "tagK8sPod"), ("", "tagField0")]
        {
            let mut out = Vec::new();
            push_tag_key(name.as_bytes(), &mut out);
            assert_eq!(core::str::from_utf8(&out).unwrap(), expected);
        }
    }
}
