//! Events of HEC against prost and `serde_json`: a line for each log, and in it what the log holds.

use core::fmt;

use prost::Message as _;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use sls2siem::proto::format::hec::{Encoded, EventForm, HecEncoder, HecParams, RecordContext};
use sls2siem::proto::format::template::Template;
use sls2siem::proto::ids::{Cursor, ShardId};
use sls2siem::proto::sls::wire::{Fault, Position, WireError, scan};

use super::input::Input;
use super::schema::{Group, List, Log, list};

/// Settings, then a body as it is, or decisions for one.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let settings = input.byte();
    let limit = 1 + usize::from(input.u16());
    let (body, known) = if input.flag() {
        let list = list(&mut input);
        (list.encode_to_vec(), Some(list))
    } else {
        let body = input.rest().to_vec();
        let known = List::decode(body.as_slice()).ok();
        (body, known)
    };
    let params = params(settings);
    let whole = match encode(&params, &body, usize::MAX) {
        Ok(whole) => whole,
        Err(error) => {
            assert!(known.is_none() || error.what == Fault::BadWireType, "prost takes it: {error}");
            return;
        }
    };
    assert_eq!(encode(&params, &body, limit).as_ref(), Ok(&whole), "where frames are cut changes nothing");
    let (text, encoded) = whole;
    assert_eq!(scan(&body).unwrap().records, encoded.records);
    let Some(list) = known else { return };
    let mut lines = text.split_terminator('\n');
    let (mut invalid, mut judged) = (0, true);
    let mut index = 0;
    for group in &list.groups {
        for log in &group.logs {
            let line = lines.next().expect("a line for each log");
            let (bad, all) = event(&params, (group, log, index), line);
            invalid += u32::from(bad);
            judged &= all;
            index += 1;
        }
    }
    assert_eq!(lines.next(), None);
    assert!(!judged || invalid == encoded.invalid_utf8, "{invalid} logs are not UTF-8, {encoded:?}");
}

fn params(settings: u8) -> HecParams {
    let template = |text: &str| Template::parse(text).unwrap();
    let mut params = HecParams { host: template("{__source__}"), ..HecParams::default() };
    params.event = match settings & 3 {
        0 | 1 => EventForm::Object,
        2 => EventForm::String,
        _ => EventForm::Raw("k".into()),
    };
    if settings & 4 != 0 {
        params.json_fields = vec![("t".into(), vec!["k".into(), "event".into()])];
    }
    if settings & 8 != 0 {
        params.index = template("i-{__topic__}");
        params.fields = vec![("f".into(), template("{__tag__:k}")), ("none".into(), template(""))];
    }
    if settings & 16 != 0 {
        params.sourcetype = template("{k}");
        params.fields.push(("g".into(), template("{level}")));
    }
    if settings & 32 != 0 {
        params.event_id = Some("project/log\"store".into());
    }
    params
}

/// All frames of a body and the sums over them.
fn encode(params: &HecParams, body: &[u8], limit: usize) -> Result<(String, Encoded), WireError> {
    let mut encoder = HecEncoder::new(params.clone());
    let cursor = Cursor::new("MTc2\"==");
    let context = RecordContext { shard: ShardId(7), cursor: &cursor };
    let (mut at, mut out, mut total) = (Position::default(), Vec::new(), Encoded::default());
    while !total.body_done {
        let before = (at, out.len());
        let one = match encoder.encode(body, &mut at, u32::MAX, limit, &context, &mut out) {
            Ok(one) => one,
            Err(error) => {
                assert!(out.last().is_none_or(|byte| *byte == b'\n'), "half a record is left");
                let again = encoder.encode(body, &mut at, u32::MAX, limit, &context, &mut out);
                assert_eq!(again, Err(error), "it stands in front of the broken one");
                return Err(error);
            }
        };
        assert!(one.body_done || one.records > 0 && at != before.0 && out.len() > before.1, "no progress");
        let lines = out[before.1..].iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(lines, one.records as usize, "a line for each record");
        total.records += one.records;
        total.invalid_utf8 += one.invalid_utf8;
        total.body_done = one.body_done;
        assert_eq!(at.record_index, total.records);
    }
    Ok((String::from_utf8(out).expect("text"), total))
}

/// What one line has to say. Returns whether bytes of it were no text, and whether all of it could be judged.
fn event(params: &HecParams, (group, log, index): (&Group, &Log, u32), line: &str) -> (bool, bool) {
    let mut bad = false;
    let mut text = |bytes: &[u8]| {
        bad |= core::str::from_utf8(bytes).is_err();
        String::from_utf8_lossy(bytes).into_owned()
    };
    let nanos = log.nanos.filter(|nanos| *nanos < 1_000_000_000).unwrap_or(0);
    let mut time = log.time.to_string();
    if nanos != 0 {
        time += format!(".{nanos:09}").trim_end_matches('0');
    }
    let rest = line.strip_prefix(&format!("{{\"time\":{time},")).unwrap_or_else(|| panic!("{time}: {line}"));
    let last =
        |key: &[u8]| log.contents.iter().rfind(|pair| pair.key == key).map(|pair| pair.value.as_slice());
    let (topic, source) = (group.topic.as_deref().unwrap_or(b""), group.source.as_deref().unwrap_or(b""));
    let tag = group.tags.iter().rfind(|tag| tag.key == b"k").map_or(&b""[..], |tag| &tag.value);

    let mut members: Vec<(String, Tree)> = Vec::new();
    let mut add = |members: &mut Vec<(String, Tree)>, name: &str, value: &[u8]| {
        if !value.is_empty() {
            members.push((name.into(), Tree::Text(text(value))));
        }
    };
    add(&mut members, "host", source);
    if !params.sourcetype.is_empty() {
        add(&mut members, "sourcetype", last(b"k").unwrap_or(b""));
    }
    if !params.index.is_empty() {
        add(&mut members, "index", &[b"i-", topic].concat());
    }
    let mut fields = Vec::new();
    if !params.index.is_empty() {
        add(&mut fields, "f", tag);
    }
    if !params.sourcetype.is_empty() {
        add(&mut fields, "g", last(b"level").unwrap_or(b""));
    }
    if let Some(prefix) = &params.event_id {
        fields.push(("event_id".into(), Tree::Text(format!("{prefix}/7/MTc2\"==/{index}"))));
    }
    let nested: &[String] = match params.json_fields.first() {
        Some((wanted, fields)) if wanted.as_bytes() == topic => fields,
        _ => &[],
    };
    let is_nested = |key: &[u8]| nested.iter().any(|name| name.as_bytes() == key);
    let object = |text: &mut dyn FnMut(&[u8]) -> String| -> Option<Tree> {
        let mut members = Vec::new();
        for (name, value) in [("__topic__", topic), ("__source__", source)] {
            if !value.is_empty() {
                members.push((name.to_owned(), Tree::Text(text(value))));
            }
        }
        for tag in &group.tags {
            members.push((format!("__tag__:{}", text(&tag.key)), Tree::Text(text(&tag.value))));
        }
        for pair in &log.contents {
            let tree = if is_nested(&pair.key) { json(&pair.value)? } else { None };
            members.push((text(&pair.key), tree.unwrap_or_else(|| Tree::Text(text(&pair.value)))));
        }
        Some(Tree::Object(members))
    };
    let event = match &params.event {
        EventForm::Object => object(&mut text),
        EventForm::Raw(name) => match last(name.as_bytes()).filter(|value| !value.is_empty()) {
            Some(value) => Some(Tree::Text(text(value))),
            None => object(&mut text),
        },
        EventForm::String => {
            flat((group, log, nanos), &is_nested, &mut text).map(|flat| Tree::Text(format!("{flat:?}")))
        }
    };
    let Some(event) = event else { return (bad, false) };
    members.push(("event".into(), event));
    if !fields.is_empty() {
        members.push(("fields".into(), Tree::Object(fields)));
    }
    let mut found: Tree =
        serde_json::from_str(&format!("{{{rest}")).unwrap_or_else(|error| panic!("{error}: {line}"));
    if params.event == EventForm::String {
        // The text inside of the text, as a reader of it sees it.
        let Tree::Object(members) = &mut found else { panic!("{line}") };
        let (_, event) = members.iter_mut().find(|(name, _)| name == "event").expect("an event");
        let Tree::Text(inner) = &*event else { panic!("no text: {line}") };
        assert!(inner.is_ascii(), "{inner}");
        let inner: Tree = serde_json::from_str(inner).unwrap_or_else(|error| panic!("{error}: {inner}"));
        *event = Tree::Text(format!("{inner:?}"));
    }
    // Members that differ between logs stand behind those of the group.
    let (found, expected) = (sorted(found), sorted(Tree::Object(members)));
    assert_eq!(found, expected, "{line}");
    (bad, true)
}

/// An envelope with its own keys and those of `fields` in the order of the alphabet, each once and known to splunkd.
fn sorted(envelope: Tree) -> Tree {
    let Tree::Object(mut members) = envelope else { panic!("no envelope") };
    members.sort_by(|left, right| left.0.cmp(&right.0));
    for pair in members.windows(2) {
        assert_ne!(pair[0].0, pair[1].0);
    }
    for (name, value) in &mut members {
        assert!(
            ["event", "fields", "host", "index", "source", "sourcetype"].contains(&name.as_str()),
            "{name}"
        );
        if let (Tree::Object(fields), "fields") = (value, name.as_str()) {
            fields.sort_by(|left, right| left.0.cmp(&right.0));
        }
    }
    Tree::Object(members)
}

/// The vendor's flat form: a name keeps the place of its first member and the value of its last.
fn flat(
    (group, log, nanos): (&Group, &Log, u32),
    is_nested: &dyn Fn(&[u8]) -> bool,
    text: &mut dyn FnMut(&[u8]) -> String,
) -> Option<Tree> {
    let mut all: Vec<(Vec<u8>, Option<&[u8]>)> = vec![
        (b"__topic__".to_vec(), Some(group.topic.as_deref().unwrap_or(b""))),
        (b"__source__".to_vec(), Some(group.source.as_deref().unwrap_or(b""))),
    ];
    if nanos != 0 {
        all.push((b"__time_ns_part__".to_vec(), None));
    }
    all.extend(group.tags.iter().map(|tag| ([b"__tag__:", &tag.key[..]].concat(), Some(&tag.value[..]))));
    all.extend(log.contents.iter().map(|pair| (pair.key.clone(), Some(&pair.value[..]))));
    let mut members = Vec::new();
    for (at, (name, _)) in all.iter().enumerate() {
        if all[..at].iter().any(|(other, _)| other == name) || name == b"__time__" {
            continue;
        }
        let (_, last) = all.iter().rfind(|(other, _)| other == name).unwrap();
        let value = match last {
            None => Tree::List(vec![Tree::Text(nanos.to_string())]),
            Some(value) => {
                let tree = if is_nested(name) { json(value)? } else { None };
                tree.unwrap_or_else(|| Tree::Text(text(value)))
            }
        };
        members.push((text(name), value));
    }
    Some(Tree::Object(members))
}

/// The value as JSON; inner `None` where it is none, outer `None` where readers disagree (half of a surrogate pair, a
/// number beyond all floats, a hundred brackets).
fn json(value: &[u8]) -> Option<Option<Tree>> {
    let Ok(text) = core::str::from_utf8(value) else { return Some(None) };
    if serde_json::from_str::<IgnoredAny>(text).is_err() {
        return Some(None);
    }
    serde_json::from_str(text).ok().map(Some)
}

/// JSON with the order and the repetitions of its members.
#[derive(Clone, Debug, PartialEq)]
enum Tree {
    Text(String),
    /// Null, true, false, numbers.
    Other(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Tree;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Other("null".into()))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Other(value.to_string()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
                Ok(Tree::Other(value.to_string()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
                Ok(Tree::Other(value.to_string()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
                Ok(Tree::Other(value.to_string()))
            }
            fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
                Ok(Tree::Text(value.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Tree::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Tree::Object(members))
            }
        }
        from.deserialize_any(Any)
    }
}
