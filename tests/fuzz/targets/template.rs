//! Templates against a second reader and a second renderer.

use prost::Message as _;
use serde_json::Value;
use sls2siem::proto::format::template::Template;
use sls2siem::proto::sls::wire::LogGroups;

use super::input::Input;
use super::schema::{Group, List, Log, Pair};

/// Topic, source, tags and fields of a log, each behind its length; then the template.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let group = group(&mut input);
    let Ok(text) = core::str::from_utf8(input.rest()) else { return };
    let expected = read(text);
    let template = match (Template::parse(text), &expected) {
        (Ok(template), Some(_)) => template,
        (Err(error), None) => {
            assert!(error.position < text.len() && text.is_char_boundary(error.position), "{error}");
            return;
        }
        (parsed, expected) => panic!("{text:?}: {parsed:?}, expected {expected:?}"),
    };
    let parts = expected.unwrap();
    let name = |part: &Part| match part {
        Part::Literal(_) => None,
        Part::Name(name) => Some(name.clone()),
    };
    let names: Vec<String> = parts.iter().filter_map(name).collect();
    let of_group =
        |name: &String| ["__topic__", "__source__"].contains(&name.as_str()) || name.starts_with("__tag__:");
    assert_eq!(template.is_empty(), text.is_empty());
    assert_eq!(template.is_constant(), names.is_empty());
    assert_eq!(template.needs_group(), names.iter().any(of_group));
    assert_eq!(template.needs_log(), names.iter().any(|name| !of_group(name)));

    let list = List { groups: vec![group] };
    let body = list.encode_to_vec();
    let seen = LogGroups::new(&body).next().unwrap().unwrap();
    let log = seen.logs().next().unwrap().unwrap();
    let mut out = b"before".to_vec();
    template.render(&seen, Some(&log), &mut out).unwrap();
    let mut expected = b"before".to_vec();
    for part in &parts {
        match part {
            Part::Literal(text) => expected.extend_from_slice(text.as_bytes()),
            Part::Name(name) => match value(&list.groups[0], name) {
                Some(value) => expected.extend_from_slice(&value),
                // What a broken or repeated text means is the product's own choice.
                None => return,
            },
        }
    }
    assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&expected));
    assert_eq!(out, expected);
}

fn group(input: &mut Input<'_>) -> Group {
    let mut pairs = |count: u8| -> Vec<Pair> {
        let mut pair = || Pair { key: input.chunk().to_vec(), value: input.chunk().to_vec() };
        (0..count).map(|_| pair()).collect()
    };
    let (tags, contents, names) = (pairs(2), pairs(3), pairs(1).remove(0));
    let log = Log { time: input.u32(), contents, nanos: None };
    Group { logs: vec![log], topic: Some(names.key), source: Some(names.value), machine: None, tags }
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Name(String),
}

/// The grammar once more, a character at a time.
fn read(text: &str) -> Option<Vec<Part>> {
    let (mut parts, mut literal) = (Vec::new(), String::new());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '{' | '}' if letters.next_if_eq(&letter).is_some() => literal.push(letter),
            '}' => return None,
            '{' => {
                let mut name = String::new();
                loop {
                    match letters.next()? {
                        '}' => break,
                        '{' => return None,
                        letter => name.push(letter),
                    }
                }
                if name.is_empty() || name == "__tag__:" {
                    return None;
                }
                parts.push(Part::Literal(core::mem::take(&mut literal)));
                parts.push(Part::Name(name));
            }
            _ => literal.push(letter),
        }
    }
    parts.push(Part::Literal(literal));
    Some(parts)
}

/// The last value of that name; `None` where only the product can say.
fn value(group: &Group, name: &str) -> Option<Vec<u8>> {
    let log = &group.logs[0];
    let last = |pairs: &[Pair], key: &str| {
        pairs.iter().rfind(|pair| pair.key == key.as_bytes()).map(|pair| pair.value.clone())
    };
    match (name, name.strip_prefix("__tag__:")) {
        ("__topic__", _) => group.topic.clone(),
        ("__source__", _) => group.source.clone(),
        ("__time__", _) => Some(log.time.to_string().into_bytes()),
        (_, Some(tag)) => Some(last(&group.tags, tag).unwrap_or_default()),
        _ => last(&log.contents, name).or_else(|| member(&log.contents, name)),
    }
}

/// `field.member.0`, where that has one meaning: one field, valid JSON, keys without dots, escapes and repetitions.
fn member(contents: &[Pair], name: &str) -> Option<Vec<u8>> {
    let Some((field, path)) = name.split_once('.') else { return Some(Vec::new()) };
    let dotted = |pair: &&Pair| {
        let key = pair.key.as_slice();
        name.as_bytes().strip_prefix(key).is_some_and(|rest| rest.starts_with(b".") && rest.len() > 1)
    };
    let found: Vec<&Pair> = contents.iter().filter(dotted).collect();
    let [pair] = found.as_slice() else { return found.is_empty().then(Vec::new) };
    let text = core::str::from_utf8(&pair.value).ok()?;
    if pair.key != field.as_bytes() || text.contains('\\') || name.len() > 200 {
        return None;
    }
    let mut here: Value = serde_json::from_str(text).ok()?;
    // A tree sorts keys and loses repeated ones: what it writes the same way has neither.
    if here.to_string() != text {
        return None;
    }
    for step in path.split('.') {
        here = match &mut here {
            Value::Object(members) if members.keys().any(|key| key.contains('.')) => return None,
            Value::Object(members) => members.remove(step).unwrap_or(Value::Null),
            Value::Array(items) => {
                let index = step.parse().ok().filter(|index: &usize| index.to_string() == step);
                index.and_then(|index| items.get_mut(index).map(Value::take)).unwrap_or(Value::Null)
            }
            _ => Value::Null,
        };
    }
    Some(match here {
        Value::Null => Vec::new(),
        Value::String(text) => text.into_bytes(),
        other => other.to_string().into_bytes(),
    })
}
