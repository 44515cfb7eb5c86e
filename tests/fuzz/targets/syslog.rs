//! Syslog messages: any log gives frames by the letter of their standards, as the bundled receiver reads them, and what
//! comes out is what went in.

use prost::Message as _;
use sls2siem::proto::format::hec::{Encoded, RecordContext};
use sls2siem::proto::format::syslog::{
    EventParams, Framing, HeaderForm, MessageForm, Oversize, Precision, SyslogEncoder, SyslogParams,
};
use sls2siem::proto::format::template::Template;
use sls2siem::proto::ids::{Cursor, ShardId};
use sls2siem::proto::sls::wire::{Position, WireError};

use super::grammar::{rfc3164, rfc5424};
use super::input::Input;
use super::schema::{Group, List, Log, list};

type Pairs = Vec<(String, String)>;

/// What one call wrote.
struct Frame {
    bytes: Vec<u8>,
    /// One message that nobody is sent, without framing.
    is_bare: bool,
}

impl Frame {
    fn messages(&self, framing: Framing) -> Vec<(&[u8], bool)> {
        if self.is_bare { vec![(self.bytes.as_slice(), true)] } else { unframe(framing, &self.bytes) }
    }
}

fn joined(frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(|frame| frame.bytes.iter().copied()).collect()
}

const CUT: &str = "…[truncated]";
const DELIMITERS: [(&str, &str); 3] = [("x09", "\t"), ("^", "^"), ("x01", "\x01")];

/// Settings, then a body as it is, or decisions for one.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (params, delimiter) = params(&mut input);
    let limit = 1 + usize::from(input.u16());
    let (body, known) = if input.flag() {
        let list = list(&mut input);
        (list.encode_to_vec(), Some(list))
    } else {
        let body = input.rest().to_vec();
        let known = List::decode(body.as_slice()).ok();
        (body, known)
    };
    let Ok((frames, encoded)) = encode(&params, &body, usize::MAX) else { return };
    let (small, again) = encode(&params, &body, limit).expect("it was taken before");
    assert_eq!(
        (joined(&small), again.records, again.invalid_utf8),
        (joined(&frames), encoded.records, encoded.invalid_utf8)
    );
    // The same messages without a limit, to be compared with.
    let long = SyslogParams { max_message_bytes: 1 << 26, ..params.clone() };
    let (whole, _) = encode(&long, &body, usize::MAX).expect("it was taken before");
    let whole: Vec<&[u8]> =
        whole.iter().flat_map(|frame| frame.messages(params.framing)).map(|(message, _)| message).collect();
    assert_eq!(whole.len(), encoded.records as usize);
    let mut messages = frames.iter().flat_map(|frame| {
        let messages = frame.messages(params.framing);
        let alone = messages.len() == 1;
        messages.into_iter().map(move |(message, first)| (message, first, alone))
    });
    for full in &whole {
        shortened(&params, full, &mut messages);
    }
    assert!(messages.next().is_none(), "a message too many");
    let Some(list) = known else { return };
    let logs = list.groups.iter().flat_map(|group| group.logs.iter().map(move |log| (group, log)));
    for (message, (group, log)) in whole.iter().zip(logs) {
        content(&params, delimiter, &text_of(&params, message), group, log);
    }
}

fn params(input: &mut Input<'_>) -> (SyslogParams, &'static str) {
    let template = |text: &str| Template::parse(text).unwrap();
    let texts = ["", "{k}", "{__source__}", "{__topic__}-{level}", "fix", "{event.eventName}"];
    let (named, delimiter) = input.pick(&DELIMITERS);
    let event = EventParams {
        vendor: template(input.pick(&["", "{k}", "a|b\\c"])),
        signature_id: template(input.pick(&["", "{level}"])),
        severity: template(input.pick(&["", "{level}"])),
        extension: if input.flag() {
            vec![("src".into(), template("{src}")), ("cs1".into(), template("{__topic__}/{k} {event.a}"))]
        } else {
            Vec::new()
        },
        unmapped: input.flag(),
        delimiter: named.parse().unwrap(),
        ..EventParams::default()
    };
    let separator = input.pick(&["||", ", ", " ", "_"]);
    let params = SyslogParams {
        header: input.pick(&[HeaderForm::Rfc5424, HeaderForm::Rfc3164]),
        framing: input.pick(&[Framing::OctetCounting, Framing::Newline, Framing::Marked]),
        message: input.pick(&[
            MessageForm::Json,
            MessageForm::Kv(separator.into()),
            MessageForm::AliyunKv(separator.into()),
            MessageForm::Field("k".into()),
            MessageForm::Cef(event.clone()),
            MessageForm::Leef(event),
        ]),
        precision: input.pick(&[Precision::Seconds, Precision::Millis, Precision::Micros]),
        oversize: input.pick(&[Oversize::Truncate, Oversize::Split, Oversize::DeadLetter]),
        max_message_bytes: input.pick(&[480, 481, 600, 8_000]),
        utc_offset_secs: input.pick(&[0, 3_600, -86_399, 86_399]),
        severity_field: input.flag().then(|| "level".into()),
        severity_map: vec![("k".into(), 1)],
        hostname: template(input.pick(&texts)),
        app_name: template(input.pick(&texts)),
        proc_id: template(input.pick(&texts)),
        msg_id: template(input.pick(&texts)),
        structured_data: if input.flag() {
            vec![
                ("a@1".into(), vec![("t".into(), template("{__topic__}")), ("k".into(), template("{k}"))]),
                ("meta".into(), vec![("x".into(), template("{request_uri}"))]),
            ]
        } else {
            Vec::new()
        },
        bom: input.flag(),
        ..SyslogParams::default()
    };
    (params, delimiter)
}

/// All frames of a body and the sums over them.
fn encode(params: &SyslogParams, body: &[u8], limit: usize) -> Result<(Vec<Frame>, Encoded), WireError> {
    let mut encoder = SyslogEncoder::new(params.clone()).expect("these settings are right");
    let cursor = Cursor::new("MTc2==");
    let context = RecordContext { shard: ShardId(7), cursor: &cursor };
    let (mut at, mut frames, mut total) = (Position::default(), Vec::new(), Encoded::default());
    while !total.body_done {
        let (mut frame, before) = (Vec::new(), at.record_index);
        let one = match encoder.encode(body, &mut at, u32::MAX, limit, &context, &mut frame) {
            Ok(one) => one,
            Err(error) => {
                unframe(params.framing, &frame);
                let again = encoder.encode(body, &mut at, u32::MAX, limit, &context, &mut Vec::new());
                assert_eq!(again, Err(error), "it stands in front of the broken one");
                return Err(error);
            }
        };
        assert!(one.body_done || one.records > 0, "a call makes progress");
        assert!(!one.before_oversize || one.records > 0, "into an empty frame it is written");
        assert_eq!(at.record_index - before, one.records);
        total.records += one.records;
        total.invalid_utf8 += one.invalid_utf8;
        total.body_done = one.body_done;
        if !frame.is_empty() {
            frames.push(Frame { bytes: frame, is_bare: one.oversize });
        }
    }
    Ok((frames, total))
}

/// The messages of a frame, and whether each begins a record.
fn unframe(framing: Framing, frame: &[u8]) -> Vec<(&[u8], bool)> {
    let (mut messages, mut rest) = (Vec::new(), frame);
    while !rest.is_empty() {
        let (message, first, after) = match framing {
            Framing::OctetCounting => {
                let space = rest.iter().position(|byte| *byte == b' ').expect("a count");
                let count = core::str::from_utf8(&rest[..space]).unwrap();
                assert!(!count.starts_with(['0', '+']), "count {count:?}");
                let (message, after) = rest[space + 1..].split_at(count.parse().unwrap());
                (message, None, after)
            }
            Framing::Newline => {
                let end = rest.iter().position(|byte| *byte == b'\n').expect("an end of the line");
                assert!(!rest[..end].iter().any(|byte| matches!(byte, b'\r' | 0)), "CR or NUL in a line");
                (&rest[..end], None, &rest[end + 1..])
            }
            Framing::Marked => {
                let length = u32::from_le_bytes(rest[..4].try_into().unwrap()) as usize;
                assert!(rest[4] <= 1, "flag {}", rest[4]);
                let (message, after) = rest[5..].split_at(length);
                (message, Some(rest[4] == 1), after)
            }
        };
        assert!(core::str::from_utf8(message).is_ok(), "no text");
        messages.push((message, first.unwrap_or(true)));
        rest = after;
    }
    messages
}

/// One record within its limit: whole, cut with a mark, in parts that are the whole, or alone for the dead letter.
fn shortened<'a>(
    params: &SyslogParams,
    full: &[u8],
    messages: &mut impl Iterator<Item = (&'a [u8], bool, bool)>,
) {
    let max = params.max_message_bytes;
    let (message, first, alone) = messages.next().expect("a message for each record");
    let text = text_of(params, message);
    let full_text = text_of(params, full);
    assert!(first, "a record begins with its first message");
    if full.len() <= max || params.oversize == Oversize::DeadLetter {
        assert_eq!(message, full);
        assert!(full.len() <= max || alone, "what is too long stands alone");
        return;
    }
    if params.oversize == Oversize::Truncate {
        assert!(message.len() <= max, "{} bytes", message.len());
        let (kept, end) = text.rsplit_once(CUT).expect("a mark");
        assert!(full_text.starts_with(kept) && ["", "\"}"].contains(&end), "{text}");
        return;
    }
    let (mut joined, mut text, mut length) = (String::new(), text, message.len());
    let (_, of, id, _) = part(&text).expect("a part");
    let id = id.to_owned();
    for number in 1..=of {
        if number > 1 {
            let (message, first, _) = messages.next().expect("all of the parts");
            assert!(!first || params.framing != Framing::Marked, "part {number} begins no record");
            (text, length) = (text_of(params, message), message.len());
        }
        assert!(length <= max, "{length} bytes");
        let (found, all, other, piece) = part(&text).expect("a part");
        assert_eq!((found, all, other), (number, of, id.as_str()));
        joined += piece;
    }
    let full = core::str::from_utf8(full).unwrap();
    assert!(joined == full_text || joined == full, "the parts are not the message: {joined:?}, {full:?}");
}

/// `[part 2/5 id=0123456789abcdef] ` taken off.
fn part(text: &str) -> Option<(u32, u32, &str, &str)> {
    let (head, text) = text.strip_prefix("[part ")?.split_once("] ")?;
    let (numbers, id) = head.split_once(" id=")?;
    let (part, of) = numbers.split_once('/')?;
    (id.len() == 16).then_some(())?;
    Some((part.parse().ok()?, of.parse().ok()?, id, text))
}

/// What stands behind the header, by the receiver's grammar.
fn text_of(params: &SyslogParams, message: &[u8]) -> String {
    let shown = || String::from_utf8_lossy(message).into_owned();
    let text = if params.header == HeaderForm::Rfc5424 {
        let parsed = rfc5424::parse(message).unwrap_or_else(|why| panic!("{why:?}: {}", shown()));
        assert_eq!(parsed.has_bom, params.bom);
        parsed.body.unwrap_or_default().to_vec()
    } else if let Some(tagged) = tagged(message) {
        // CEF and LEEF are tags of their own, without a space.
        let parsed = rfc3164::parse(&tagged).unwrap_or_else(|why| panic!("{why:?}: {}", shown()));
        [parsed.tag.as_bytes(), b":", parsed.body].concat()
    } else {
        rfc3164::parse(message).unwrap_or_else(|why| panic!("{why:?}: {}", shown())).body.to_vec()
    };
    String::from_utf8(text).expect("a message of UTF-8")
}

/// `… CEF:0|…` as `… CEF: 0|…`.
fn tagged(message: &[u8]) -> Option<Vec<u8>> {
    let text = core::str::from_utf8(message).ok()?;
    let stamp = text.find('>')? + 1;
    let host = stamp + 16;
    let tag = host + text.get(host..)?.find(' ')? + 1;
    let behind = ["CEF:", "LEEF:"].iter().find(|tagged| text[tag..].starts_with(**tagged))?.len() + tag;
    // A TAG that happens to be called so has its space.
    (!text[behind..].starts_with(' ')).then(|| [&text[..behind], " ", &text[behind..]].concat().into_bytes())
}

/// What stands in a message is what stood in the log.
fn content(params: &SyslogParams, delimiter: &str, text: &str, group: &Group, log: &Log) {
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match &params.message {
        MessageForm::Json => assert_eq!(members(text), flat(params, group, log)),
        MessageForm::Kv(separator) => assert_eq!(kv(separator, text), flat(params, group, log)),
        // The vendor's text: nothing is escaped, so nothing can be taken apart.
        MessageForm::AliyunKv(separator) => assert!(text.starts_with(separator.as_str()), "{text}"),
        MessageForm::Field(name) => {
            let last = log.contents.iter().rfind(|pair| pair.key == name.as_bytes());
            match last.map(|pair| lossy(&pair.value)).filter(|value| !value.is_empty()) {
                Some(value) if params.framing == Framing::Newline => {
                    let line = value.replace('\n', "\\n").replace('\r', "\\r").replace('\0', "\\0");
                    assert_eq!(text, line);
                }
                Some(value) => assert_eq!(text, value),
                None => assert_eq!(members(text), flat(params, group, log)),
            }
        }
        MessageForm::Cef(event) => {
            let pairs = cef(text);
            present(event, group, log, &pairs, |text| text.replace('\0', " "));
        }
        MessageForm::Leef(event) => {
            let pairs = leef(text, delimiter);
            present(event, group, log, &pairs, |text| {
                text.replace(['\0', '\n', '\r'], " ").replace(delimiter, " ")
            });
        }
    }
}

/// The members of `json` and `kv`.
fn flat(params: &SyslogParams, group: &Group, log: &Log) -> Pairs {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut pairs = Pairs::new();
    for (key, value) in [("__topic__", &group.topic), ("__source__", &group.source)] {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            pairs.push((key.into(), text(value)));
        }
    }
    pairs.extend(group.tags.iter().map(|tag| (format!("__tag__:{}", text(&tag.key)), text(&tag.value))));
    let old = params.header == HeaderForm::Rfc3164;
    if old {
        pairs.push(("__time__".into(), log.time.to_string()));
    }
    let nanos = log.nanos.filter(|nanos| *nanos < 1_000_000_000).unwrap_or(0);
    let shown = match params.precision {
        _ if old => 0,
        Precision::Seconds => 0,
        Precision::Millis => 3,
        Precision::Micros => 6,
    };
    if format!("{nanos:09}")[shown..].bytes().any(|digit| digit != b'0') {
        pairs.push(("__time_ns_part__".into(), nanos.to_string()));
    }
    pairs.extend(log.contents.iter().map(|pair| (text(&pair.key), text(&pair.value))));
    pairs
}

/// The members of an object of strings, repeated ones too.
fn members(text: &str) -> Pairs {
    struct Members;
    impl<'de> serde::de::Visitor<'de> for Members {
        type Value = Pairs;
        fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            f.write_str("an object of strings")
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
            let mut pairs = Pairs::new();
            while let Some(entry) = map.next_entry()? {
                pairs.push(entry);
            }
            Ok(pairs)
        }
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let pairs = serde::Deserializer::deserialize_map(&mut json, Members);
    let pairs = pairs.and_then(|pairs| json.end().map(|()| pairs));
    pairs.unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// `key=value` taken apart at the separators.
fn kv(separator: &str, text: &str) -> Pairs {
    let whole = |text: &str| {
        let (mut out, mut rest) = (String::new(), text);
        while let Some((plain, escape)) = rest.split_once('\\') {
            out += plain;
            let (letter, after) = match escape.as_bytes() {
                [b'x', ..] => (char::from(u8::from_str_radix(&escape[1..3], 16).unwrap()), 3),
                [b'n', ..] => ('\n', 1),
                [b'r', ..] => ('\r', 1),
                [b'0', ..] => ('\0', 1),
                [b'\\', ..] => ('\\', 1),
                _ => panic!("an escape that is none: {text}"),
            };
            out.push(letter);
            rest = &escape[after..];
        }
        out + rest
    };
    let parts = text.split(separator).filter(|_| !text.is_empty());
    let pairs = parts.map(|part| part.split_once('=').unwrap_or_else(|| panic!("no pair: {text}")));
    pairs.map(|(key, value)| (whole(key), whole(value))).collect()
}

/// The pairs of a CEF message.
fn cef(text: &str) -> Pairs {
    let mut rest = text.strip_prefix("CEF:0|").unwrap_or_else(|| panic!("no CEF: {text}"));
    for field in 0..6 {
        let end = (0..rest.len())
            .find(|at| rest.as_bytes()[*at] == b'|' && !escaped(rest, *at))
            .expect("six fields");
        let value = &rest[..end];
        assert!(!value.is_empty() && !value.contains(['\n', '\r', '\0']), "{text}");
        assert!(field < 5 || value.parse::<u8>().unwrap() <= 10, "severity {value}");
        rest = &rest[end + 1..];
    }
    // A value reaches up to the word in front of the next equals sign.
    let signs: Vec<usize> =
        (0..rest.len()).filter(|at| rest.as_bytes()[*at] == b'=' && !escaped(rest, *at)).collect();
    let start = |sign: usize| rest[..sign].rfind(' ').map_or(0, |space| space + 1);
    let mut pairs = Pairs::new();
    for (at, sign) in signs.iter().enumerate() {
        let key = &rest[start(*sign)..*sign];
        assert!(is_key(key), "key {key:?}: {text}");
        let end = signs.get(at + 1).map_or(rest.len(), |next| start(*next) - 1);
        let mut value = String::new();
        let mut letters = rest[sign + 1..end].chars();
        while let Some(letter) = letters.next() {
            value.push(match letter {
                '\\' => match letters.next() {
                    Some('n') => '\n',
                    Some('r') => '\r',
                    Some(same @ ('=' | '\\')) => same,
                    other => panic!("the escape {other:?}: {text}"),
                },
                '\n' | '\r' | '\0' => panic!("a line break: {text}"),
                letter => letter,
            });
        }
        pairs.push((key.into(), value));
    }
    assert!(signs.first().is_none_or(|sign| start(*sign) == 0), "text in front of the first key: {text}");
    pairs
}

/// True behind an odd number of backslashes.
fn escaped(text: &str, at: usize) -> bool {
    text.as_bytes()[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// The pairs of a LEEF message.
fn leef(text: &str, delimiter: &str) -> Pairs {
    let rest = text.strip_prefix("LEEF:2.0|").unwrap_or_else(|| panic!("no LEEF: {text}"));
    let fields: Vec<&str> = rest.splitn(6, '|').collect();
    assert!(fields.len() == 6 && fields[..4].iter().all(|field| !field.is_empty()), "{text}");
    assert!(DELIMITERS.contains(&(fields[4], delimiter)), "the delimiter {:?}", fields[4]);
    assert!(!text.contains(['\n', '\r', '\0']), "{text}");
    let pairs = fields[5].split(delimiter).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or_else(|| panic!("no pair in {pair:?}: {text}"));
        assert!(is_key(key), "key {key:?}: {text}");
        (key.to_owned(), value.to_owned())
    });
    pairs.collect()
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Every value that is not blank stands there, where the settings ask for all of them.
fn present(event: &EventParams, group: &Group, log: &Log, pairs: &Pairs, written: impl Fn(&str) -> String) {
    assert!(pairs.iter().any(|(key, value)| matches!(key.as_str(), "rt" | "devTime") && !value.is_empty()));
    if !event.unmapped || !event.extension.is_empty() {
        return;
    }
    let trail = group.topic.as_deref() == Some(b"actiontrail_audit_event");
    for pair in &log.contents {
        let text = written(&String::from_utf8_lossy(&pair.value));
        let text = text.trim_end_matches(' ');
        let unfolded = trail && pair.key == b"event" && pair.value.trim_ascii().starts_with(b"{");
        assert!(
            text.is_empty() || unfolded || pairs.iter().any(|(_, found)| found == text),
            "{text:?} is missing in {pairs:?}"
        );
    }
}
