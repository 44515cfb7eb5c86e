//! Logs that break parsers, encoders and their shortcuts.
//!
//! Why: "byte for byte equal" is only worth something over bytes that somebody gets wrong: repeated and empty keys,
//! keys named like the envelope's own, invalid UTF-8 in every place, every control character, megabyte values.
//! Invariants: 1. no other field is named `seq`, and no value holds that word, so a cheap scan stays exact.
//! 2. Log numbers 96, 193, … have no contents; their time says which one they are.   Bounds: a value has at most
//! 1,000,000 bytes, in one log of 4999.
//! Driven by: `Payload::group`.   Spec: sls.md 4 ("Values: docs say string, reality bytes").

use bytes::Bytes;
use rand::{Rng as _, RngCore as _};
use rand_chacha::ChaCha8Rng;

use super::access::pick;
use super::builder::GroupBuilder;
use super::schema::{LogGroup, LogTag};
use super::{Range, Seq, time_of};

pub(super) fn group(rng: &mut ChaCha8Rng, range: Range) -> LogGroup {
    let mut group = GroupBuilder::new(range.count, 8, 400);
    for seq in range.seqs() {
        if is_empty_log(seq.number) {
            let (time, nanos) = time_of_empty(seq);
            group.log(time, Some(nanos));
            continue;
        }
        let nanos = pick(rng, &[None, Some(0), Some(999_999_999), Some(1), Some(120_000_000)]);
        group.log(time_of(seq), nanos);
        let fields = rng.random_range(0..8_u32);
        let place = rng.random_range(0..=fields);
        for at in 0..=fields {
            if at == place {
                group.seq(seq);
            } else {
                let value = value(rng);
                group.put_bytes(key(rng), &value);
            }
        }
        if seq.number % 4999 == 2500 {
            group.put_bytes(Bytes::from_static(b"big"), &big(rng));
        }
    }
    let mut group = group.finish();
    group.topic = place_name(rng);
    group.source = place_name(rng);
    for _ in 0..rng.random_range(0..4_u32) {
        group.log_tags.push(LogTag { key: key(rng), value: value(rng).into() });
    }
    group
}

/// Whether the log of this number has no contents.
pub(super) const fn is_empty_log(number: u64) -> bool {
    number % EMPTY_EVERY == EMPTY_EVERY - 1
}

/// How many of the first `count` logs have no contents.
pub(super) const fn empty_logs_before(count: u64) -> u64 {
    count / EMPTY_EVERY
}

/// The number of a log without contents.
pub(super) fn number_by_time(seconds: u64, nanos: u32) -> Option<Seq> {
    let shard = shard_by_time(seconds)?;
    Some(Seq { shard, number: u64::from(nanos) }).filter(|seq| is_empty_log(seq.number))
}

/// The shard of a log without contents.
pub(super) fn shard_by_time(seconds: u64) -> Option<u32> {
    u32::try_from(seconds.checked_sub(EMPTY_TIME)?).ok().filter(|shard| *shard < 1_000_000)
}

fn time_of_empty(seq: Seq) -> (u32, u32) {
    let time = EMPTY_TIME + u64::from(seq.shard % 1_000_000);
    (u32::try_from(time).unwrap_or(0), u32::try_from(seq.number % 1_000_000_000).unwrap_or(0))
}

fn place_name(rng: &mut ChaCha8Rng) -> Option<Bytes> {
    match rng.random_range(0..4_u32) {
        0 => None,
        1 => Some(Bytes::new()),
        2 => Some(Bytes::from_static(b"10.0.0.1")),
        _ => Some(value(rng).into()),
    }
}

fn key(rng: &mut ChaCha8Rng) -> Bytes {
    Bytes::from_static(pick(rng, KEYS))
}

fn value(rng: &mut ChaCha8Rng) -> Vec<u8> {
    match rng.random_range(0..10_u32) {
        0 => random(rng),
        1 => (0..0x20_u8).chain([0x7F]).collect(),
        2 => {
            let size = rng.random_range(0..600);
            pick(rng, &["long text ", "\\", "\"", "中", "\u{0}", "🦀"]).repeat(size).into_bytes()
        }
        3 => [pick(rng, VALUES), pick(rng, VALUES)].concat(),
        _ => pick(rng, VALUES).to_vec(),
    }
}

/// Random bytes without the letter `q`, so that they can never spell the field that numbers the logs.
fn random(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(0..64)];
    rng.fill_bytes(&mut bytes);
    bytes.retain(|byte| *byte != b'q');
    bytes
}

fn big(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let unit = pick(
        rng,
        &[
            "plain text of a very long value; ",
            "\"quoted\" \\ and\nbroken ",
            "长文本",
            "control \u{1}\u{1f} characters ",
        ],
    );
    let mut bytes = unit.repeat(1_000_000 / unit.len() + 1).into_bytes();
    // The cut may fall inside a character: then the value ends in invalid UTF-8, which is wanted too.
    bytes.truncate(1_000_000);
    bytes
}

const EMPTY_EVERY: u64 = 97;
const EMPTY_TIME: u64 = 900_000_000;

const KEYS: &[&[u8]] = &[
    b"k",
    b"k",
    b"",
    b"time",
    b"event",
    b"host",
    b"fields",
    b"__topic__",
    b"__source__",
    b"__time__",
    b"__tag__:k",
    b"__time_ns_part__",
    b"a\"b",
    b"a\\b",
    b"a\nb",
    b"a b.c-d",
    b"\0",
    "ключ".as_bytes(),
    "键".as_bytes(),
    "\u{2028}".as_bytes(),
    b"\xFF\xFE",
    b"bad\xE2\x82",
    b"constructor",
    b"User-Agent",
];

const VALUES: &[&[u8]] = &[
    b"",
    b" ",
    b"-",
    b"null",
    b"0",
    b"1e400",
    b"NaN",
    b"true",
    b"\0",
    b"\"",
    b"\\",
    b"\\\\\"",
    b"\\u0041",
    b"\\ud800",
    b"tail\\",
    b"/",
    b"</script>",
    b"line\nbreak",
    b"line\r\nbreak\r",
    b"\ttab\x08\x0C\x1B[31m",
    b"\x7F",
    "\u{85}\u{a0}\u{ad}".as_bytes(),
    "\u{2028}\u{2029}".as_bytes(),
    "\u{feff}bom".as_bytes(),
    "\u{fffd}".as_bytes(),
    "\u{fffe}\u{ffff}\u{10ffff}".as_bytes(),
    "😀\u{200d}🔥".as_bytes(),
    "e\u{301}\u{327}".as_bytes(),
    "汉字".as_bytes(),
    "\u{7ff}\u{800}\u{ffff}\u{10000}".as_bytes(),
    b"{\"a\":{\"b\":[1,2,{\"c\":null}]}}",
    b"{\"event\":{\"time\":1}}{\"event\":",
    b"{broken json",
    b"a||b||c",
    b"\x80",
    b"\xC0\x80",
    b"\xC3",
    b"\xE2\x82",
    b"\xF0\x9F\x98",
    b"\xED\xA0\x80\xED\xB0\x80",
    b"\xF4\x90\x80\x80",
    b"\xF8\x88\x80\x80\x80",
    b"\xFF\xFE\xFD",
    b"good\xE4\xB8bad\xADgood",
    b"caf\xE9 latin-1",
    b"3332 characters would be a lot to type, so this one has a few only",
];
