//! Members of JSON that is the value of a field: `event.userIdentity.userName`.
//!
//! Why: what a SIEM wants of ActionTrail stands inside of the one field `event`. A parser that builds a tree costs
//! an allocation for each member of it, wanted or not; this walks the text in place and steps over the rest.
//! Invariants: 1. any bytes are walked without a panic and to an end: what is broken ends the walk, and what was
//! found before counts. 2. only members that are asked into are entered, so depth is bounded by the names.
//! Bounds: each byte is looked at once for every container around it that is entered.
//! Driven by: `template` for a name with dots, `syslog::event` for all wanted names at once.
//! Spec: RFC 8259, read leniently: commas and what follows the object are not judged. A name is the path with dots;
//! keys may hold dots themselves, elements of arrays are numbers. A key with
//! escapes is compared as it is written. The last one of a repeated key counts.

use super::json::REPLACEMENT;

/// A value in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// The inside of a string, escapes and all.
    String(&'a [u8]),
    /// A number, `true`, `false`, an array or an object, as it stands there.
    Other(&'a [u8]),
    /// `null`.
    Null,
}

impl<'a> Value<'a> {
    /// Appends it as text: a string without its escapes.
    pub(crate) fn append(self, out: &mut Vec<u8>) {
        match self {
            Self::String(text) => unescape(text, out),
            Self::Other(text) => out.extend_from_slice(text),
            Self::Null => {}
        }
    }

    /// The bytes that it stands in.
    pub(crate) fn text(self) -> &'a [u8] {
        match self {
            Self::String(text) | Self::Other(text) => text,
            Self::Null => &[],
        }
    }
}

/// True for text that begins as an object.
pub(crate) fn is_object(text: &[u8]) -> bool {
    text.trim_ascii_start().first() == Some(&b'{')
}

/// Appends the member that `name` means, where the field of a log named by its beginning holds JSON. False where
/// there is none.
pub(crate) fn append(field: &[u8], value: &[u8], name: &[u8], out: &mut Vec<u8>) -> bool {
    if !is_below(field, name) {
        return false;
    }
    let mut path = Path::new(field);
    let mut found = None;
    walk(value, &mut path, &mut |path, value| {
        if path == name {
            found = Some(value);
        }
        is_below(path, name)
    });
    if let Some(value) = found {
        value.append(out);
    }
    found.is_some()
}

/// True when `name` is the name of something inside of `path`.
pub(crate) fn is_below(path: &[u8], name: &[u8]) -> bool {
    name.strip_prefix(path).is_some_and(|rest| rest.first() == Some(&b'.') && rest.len() > 1)
}

/// A path on the stack, so that nothing is allocated; one that is too long is the name of nothing.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    bytes: [u8; PATH_BYTES_MAX],
    length: usize,
}

const PATH_BYTES_MAX: usize = 256;

impl Path {
    /// The name of a field.
    pub(crate) fn new(field: &[u8]) -> Self {
        let mut path = Self { bytes: [0; PATH_BYTES_MAX], length: 0 };
        path.push(field);
        path
    }

    fn push(&mut self, part: &[u8]) {
        if let Some(place) = self.bytes.get_mut(self.length..self.length.saturating_add(part.len())) {
            place.copy_from_slice(part);
        }
        self.length = self.length.saturating_add(part.len());
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }
}

/// Tells every member of the object or array in `text`, by its path that begins with what stands in `path`. Where
/// `visit` says so, the members of that member come next.
pub(crate) fn walk<'a>(text: &'a [u8], path: &mut Path, visit: &mut dyn FnMut(&[u8], Value<'a>) -> bool) {
    let text = text.trim_ascii_start();
    let is_object = match text.first() {
        Some(b'{') => true,
        Some(b'[') => false,
        _ => return,
    };
    let mut rest = text.get(1..).unwrap_or(&[]);
    let mark = path.length;
    for index in 0u32.. {
        rest = skip(rest, |byte| byte.is_ascii_whitespace() || byte == b',');
        path.push(b".");
        if is_object {
            let Some((key, after)) = rest.strip_prefix(b"\"").and_then(string) else { break };
            path.push(key);
            let Some(after) = skip(after, |byte| byte.is_ascii_whitespace()).strip_prefix(b":") else {
                break;
            };
            rest = skip(after, |byte| byte.is_ascii_whitespace());
        } else {
            path.push(itoa::Buffer::new().format(index).as_bytes());
        }
        let Some((value, after)) = value(rest) else { break };
        if visit(path.as_bytes(), value)
            && let Value::Other(inside) = value
        {
            walk(inside, path, visit);
        }
        path.length = mark;
        rest = after;
    }
    path.length = mark;
}

fn skip(text: &[u8], what: impl Fn(u8) -> bool) -> &[u8] {
    let end = text.iter().position(|byte| !what(*byte)).unwrap_or(text.len());
    text.get(end..).unwrap_or(&[])
}

/// The inside of a string whose quote was passed, and what follows it.
fn string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text.get(at) == Some(&b'"') {
            return Some((text.get(..at)?, text.get(at + 1..)?));
        }
        at += 2;
    }
}

/// The value at the beginning of `text`, and what follows it.
fn value(text: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let end = match text.first()? {
        b'"' => {
            let (inside, after) = string(text.get(1..)?)?;
            return Some((Value::String(inside), after));
        }
        b'{' => container(text, b'{', b'}')?,
        b'[' => container(text, b'[', b']')?,
        b'}' | b']' | b',' | b':' => return None,
        _ => {
            let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace();
            text.iter().position(ends).unwrap_or(text.len())
        }
    };
    let (value, after) = text.split_at_checked(end)?;
    Some((if value == b"null" { Value::Null } else { Value::Other(value) }, after))
}

/// Where the container at the beginning of `text` ends. Brackets of the other kind need not be counted.
fn container(text: &[u8], open: u8, close: u8) -> Option<usize> {
    let (mut at, mut depth) = (0, 0u32);
    loop {
        at += memchr::memchr3(b'"', open, close, text.get(at..)?)?;
        let byte = *text.get(at)?;
        at += 1;
        if byte == b'"' {
            let (inside, _) = string(text.get(at..)?)?;
            at += inside.len() + 1;
        } else if byte == open {
            depth += 1;
        } else {
            depth -= 1;
            if depth == 0 {
                return Some(at);
            }
        }
    }
}

/// Appends the inside of a JSON string as the text that it means.
fn unescape(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (plain, escape) = rest.split_at(at);
        out.extend_from_slice(plain);
        let (byte, length) = match escape {
            [_, b'u', ..] => {
                rest = unicode(escape, out);
                continue;
            }
            [_, b'b', ..] => (0x08, 2),
            [_, b'f', ..] => (0x0c, 2),
            [_, b'n', ..] => (b'\n', 2),
            [_, b'r', ..] => (b'\r', 2),
            [_, b't', ..] => (b'\t', 2),
            [_, other, ..] => (*other, 2),
            _ => (b'\\', 1),
        };
        out.push(byte);
        rest = escape.get(length..).unwrap_or(&[]);
    }
    out.extend_from_slice(rest);
}

/// Appends the character of the `\u` escape (or the pair of them) at the beginning of `text`; says what follows it.
fn unicode<'a>(text: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let unit = |text: &[u8]| {
        let digits = text.strip_prefix(b"\\u")?.first_chunk::<4>()?;
        let digit = |value: u32, byte: &u8| Some(value * 16 + char::from(*byte).to_digit(16)?);
        digits.iter().try_fold(0, digit)
    };
    let Some(first) = unit(text) else {
        out.push(b'\\');
        return text.get(1..).unwrap_or(&[]);
    };
    let after = text.get(6..).unwrap_or(&[]);
    if (0xd800..0xdc00).contains(&first)
        && let Some(second @ 0xdc00..0xe000) = unit(after)
    {
        let scalar = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        push_character(char::from_u32(scalar), out);
        return after.get(6..).unwrap_or(&[]);
    }
    push_character(char::from_u32(first), out);
    after
}

fn push_character(character: Option<char>, out: &mut Vec<u8>) {
    match character {
        Some(character) => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        None => out.extend_from_slice(REPLACEMENT),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use serde_json::Value as Json;

    const EVENT: &str = r#" {"eventName": "Run\u4e2d\"s\\", "n":1.50 , "ok":true, "gone":null,"list":[{"a":"x"},"]",[1,2]],
        "userIdentity":{"userName":"ops","deep":{"er":"}"}},"Permissions.1.Port":"22/22", "twice":1,"twice":"two"} "#;

    fn find(name: &str) -> Option<String> {
        let mut out = Vec::new();
        append(b"event", EVENT.as_bytes(), name.as_bytes(), &mut out).then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn finds_members_by_their_path() {
        for (name, expected) in [
            ("event.eventName", "Run中\"s\\"),
            ("event.n", "1.50"),
            ("event.ok", "true"),
            ("event.gone", ""),
            ("event.list.0.a", "x"),
            ("event.list.1", "]"),
            ("event.list.2.1", "2"),
            ("event.userIdentity.userName", "ops"),
            ("event.userIdentity.deep.er", "}"),
            ("event.userIdentity.deep", "{\"er\":\"}\"}"),
            ("event.Permissions.1.Port", "22/22"),
            ("event.twice", "two"),
        ] {
            assert_eq!(find(name).as_deref(), Some(expected), "{name}");
        }
        for name in ["event", "event.", "event.none", "event.n.x", "event.list.9", "other.n", "eventName", ""]
        {
            assert_eq!(find(name), None, "{name}");
        }
    }

    #[test]
    fn escapes_of_all_kinds() {
        let plain = |text: &str| {
            let mut out = Vec::new();
            unescape(text.as_bytes(), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(plain(r#"a\"\\\/\b\f\n\r\tz"#), "a\"\\/\u{8}\u{c}\n\r\tz");
        assert_eq!(plain(r"\ud83d\ude00\u4e2d"), "😀中");
        assert_eq!(plain(r"\ud83dx\ude00"), "\u{fffd}x\u{fffd}");
        assert_eq!(plain(r"\u12\q\"), "\\u12q\\");
    }

    fn json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            any::<i32>().prop_map(Json::from),
            any::<bool>().prop_map(Json::from),
            Just(Json::Null),
            "\\PC{0,8}|[\"\\\\{}\\[\\],:\n]{0,6}".prop_map(Json::from),
        ];
        leaf.prop_recursive(4, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
                prop::collection::btree_map("[a-c]{1,2}", inner, 0..4)
                    .prop_map(|map| Json::Object(map.into_iter().collect())),
            ]
        })
    }

    /// How many members and elements there are in it.
    fn members(value: &Json) -> usize {
        let list = value.as_array().map(|list| list.iter().map(|one| 1 + members(one)).sum());
        let map = value.as_object().map(|map| map.values().map(|one| 1 + members(one)).sum());
        list.or(map).unwrap_or(0)
    }

    proptest! {
        /// Law: every member that a parser finds by its pointer is found by its path, with the same text.
        #[test]
        fn agrees_with_a_parser(value in json(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let text = text.unwrap();
            let mut count = 0;
            walk(text.as_bytes(), &mut Path::new(b"e"), &mut |path, found| {
                let pointer = String::from_utf8(path[1..].to_vec()).unwrap().replace('.', "/");
                let expected = value.pointer(&pointer).unwrap();
                let mut text = Vec::new();
                found.append(&mut text);
                match expected {
                    Json::String(expected) => assert_eq!(&text, expected.as_bytes()),
                    Json::Null => assert!(text.is_empty()),
                    other => assert_eq!(&serde_json::from_slice::<Json>(&text).unwrap(), other),
                }
                count += 1;
                true
            });
            prop_assert_eq!(count, members(&value));
        }

        /// Law: any bytes, and any beginning of good ones, come to an end.
        #[test]
        fn any_bytes(bytes in prop::collection::vec(prop::sample::select(&b"{}[]\",:\\u12 anul"[..]), 0..60), cut in 0usize..300) {
            walk(&bytes, &mut Path::new(b""), &mut |_, _| true);
            walk(EVENT.as_bytes().get(..cut).unwrap_or_default(), &mut Path::new(b""), &mut |_, _| true);
        }
    }
}
