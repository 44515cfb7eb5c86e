//! Readers of message texts, written from the formats' descriptions. Each panics where a text is not of its format.

use super::bodies::{Group, Record};

/// Keys and values in order.
pub(super) type Pairs = Vec<(String, String)>;

/// Takes `kv` apart as its description says: at the separator, at the first `=`, then the escapes.
pub(super) fn kv(separator: &str, text: &str) -> Pairs {
    if text.is_empty() {
        return Pairs::new();
    }
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or_else(|| panic!("no = in {pair:?}"));
        (plain(key), plain(value))
    };
    text.split(separator).map(pair).collect()
}

fn plain(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('\\') {
        out += before;
        let (length, meant) = match after.as_bytes()[0] {
            b'n' => (1, '\n'),
            b'r' => (1, '\r'),
            b'0' => (1, '\0'),
            b'\\' => (1, '\\'),
            b'x' => (3, char::from(u8::from_str_radix(&after[1..3], 16).unwrap())),
            other => panic!("no escape: {}", char::from(other)),
        };
        out.push(meant);
        rest = &after[length..];
    }
    out + rest
}

/// What the vendor's sample makes of a log: an ordered dictionary, joined.
pub(super) fn aliyun_kv(separator: &str, group: &Group, record: &Record) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut dictionary: Vec<(Vec<u8>, String)> = Vec::new();
    let mut set = |key: &[u8], value: String| match dictionary.iter_mut().find(|(other, _)| other == key) {
        Some((_, old)) => *old = value,
        None => dictionary.push((key.to_vec(), value)),
    };
    set(b"__time__", record.secs.to_string());
    set(b"__topic__", text(&group.topic));
    set(b"__source__", text(&group.source));
    if let Some(nanos @ 1..1_000_000_000) = record.nanos {
        set(b"__time_ns_part__", format!("('{nanos}',)"));
    }
    for (key, value) in &group.tags {
        set(&[b"__tag__:", &key[..]].concat(), text(value));
    }
    for (key, value) in &record.contents {
        set(key, text(value));
    }
    let fields = dictionary.iter().filter(|(key, _)| key != b"__time__");
    fields.flat_map(|(key, value)| [separator.to_owned(), text(key), "=".to_owned(), value.clone()]).collect()
}

/// The seven fields of a CEF header behind its version, without their escapes, and the extension.
pub(super) fn cef(text: &str) -> (Vec<String>, Pairs) {
    let mut rest = text.strip_prefix("CEF:0|").unwrap_or_else(|| panic!("no CEF: {text:?}"));
    let mut header = Vec::new();
    while header.len() < 6 {
        let (mut field, mut escaped) = (String::new(), false);
        let end = rest.char_indices().find(|(_, character)| {
            if escaped {
                assert!(matches!(character, '|' | '\\'), "no escape of a header: {character:?}");
                field.push(*character);
                escaped = false;
                return false;
            }
            match character {
                '\\' => escaped = true,
                '|' => return true,
                '\n' | '\r' => panic!("a line break in a header"),
                other => field.push(*other),
            }
            false
        });
        header.push(field);
        rest = &rest[end.expect("the end of a header field").0 + 1..];
    }
    (header, extension(rest))
}

/// Each `=` without a backslash ends a key; the key begins behind the space before it.
fn extension(text: &str) -> Pairs {
    let mut equals = Vec::new();
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        if escaped {
            assert!(matches!(character, '=' | '\\' | 'n' | 'r'), "no escape of a value: {character:?}");
            escaped = false;
        } else if character == '\\' {
            escaped = true;
        } else if character == '=' {
            equals.push(at);
        } else {
            assert!(!matches!(character, '\n' | '\r' | '\0'), "{character:?} in a value");
        }
    }
    assert!(!escaped, "a backslash at the end");
    let begin_of_key = |equal: usize| text[..equal].rfind(' ').map_or(0, |space| space + 1);
    let mut pairs = Pairs::new();
    for (index, equal) in equals.iter().enumerate() {
        let begin = begin_of_key(*equal);
        let key = &text[begin..*equal];
        assert!(!key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric()), "key {key:?}");
        let end = equals.get(index + 1).map_or(text.len(), |next| begin_of_key(*next) - 1);
        let value = &text[equal + 1..end];
        assert!(!value.is_empty() && !value.ends_with(' '), "value {value:?}");
        let (mut plain, mut characters) = (String::new(), value.chars());
        while let Some(character) = characters.next() {
            plain.push(match character {
                '\\' => match characters.next().unwrap() {
                    'n' => '\n',
                    'r' => '\r',
                    other => other,
                },
                other => other,
            });
        }
        pairs.push((key.to_owned(), plain));
    }
    pairs
}

/// Vendor, product, version and event id of LEEF 2.0, and its pairs.
pub(super) fn leef(text: &str, delimiter: &str) -> (Vec<String>, Pairs) {
    let mut fields =
        text.strip_prefix("LEEF:2.0|").unwrap_or_else(|| panic!("no LEEF: {text:?}")).splitn(6, '|');
    let header: Vec<String> = fields.by_ref().take(4).map(str::to_owned).collect();
    let told = fields.next().expect("the delimiter's field");
    let told = told
        .strip_prefix('x')
        .map_or_else(|| told.to_owned(), |hex| char::from(u8::from_str_radix(hex, 16).unwrap()).to_string());
    assert_eq!(told, delimiter);
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or_else(|| panic!("no = in {pair:?}"));
        assert!(!key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric()), "key {key:?}");
        assert!(!value.is_empty() && !value.contains(['\n', '\r', '\0']), "value {value:?}");
        (key.to_owned(), value.to_owned())
    };
    (header, fields.next().expect("the pairs").split(delimiter).map(pair).collect())
}
