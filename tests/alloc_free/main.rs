//! After warm-up, a pull goes from its compressed body to finished frames without one allocation.
//!
//! Its own binary, because it owns the allocator. Allocations are counted per thread, so that the test harness's
//! own threads do not disturb the count.

#![expect(unsafe_code, reason = "a counting allocator is an implementation of GlobalAlloc")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test: what is missing fails it"
)]

mod engine;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use sls2siem::proto::format::Encoder;
use sls2siem::proto::format::hec::{HecEncoder, HecParams, RecordContext};
use sls2siem::proto::format::syslog::{
    EventParams, Framing, HeaderForm, MessageForm, Oversize, SyslogEncoder, SyslogParams,
};
use sls2siem::proto::format::template::Template;
use sls2siem::proto::ids::{Cursor, ShardId};
use sls2siem::proto::sls::wire::{Position, scan};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more, and nobody who reads it.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: of the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: of the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: of the caller.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: of the caller.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
}

fn field(number: u8, value: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    varint(value.len(), out);
    out.extend_from_slice(value);
}

/// Groups with everything that takes another way: many keys, long keys, bad bytes, text, escapes, long values.
fn body() -> Vec<u8> {
    let mut body = Vec::new();
    for group_index in 0..2 {
        let mut group = Vec::new();
        for log_index in 0..70 {
            let mut log = vec![0x08];
            varint(1_700_000_000 + log_index, &mut log);
            let mut content = |key: &str, value: &[u8]| {
                let mut pair = Vec::new();
                field(1, key.as_bytes(), &mut pair);
                field(2, value, &mut pair);
                field(2, &pair, &mut log);
            };
            content("request_method", b"GET");
            content(&format!("key_{}", log_index * 2 + group_index), b"more keys than are remembered");
            content("a_key_that_is_longer_than_any_shape", b"{\"a\":\"b\"}\n");
            content("text", "世界 and \"quotes\"".as_bytes());
            content("bad\u{a0}key", b"\xff\xfe\xf0\x9f\x98");
            content("json", br#"{"a": [1, {"b": "c"}], "d": null}"#);
            if log_index == 7 {
                content("long", &b"0123456789\x01".repeat(500));
            }
            log.push(0x25);
            log.extend_from_slice(&u32::try_from(log_index * 1_000).unwrap().to_le_bytes());
            field(1, &log, &mut group);
        }
        field(3, format!("topic-{group_index}").as_bytes(), &mut group);
        field(4, b"10.0.0.1", &mut group);
        field(6, b"\x0a\x0c__hostname__\x12\x02h1", &mut group);
        field(1, &group, &mut body);
    }
    body
}

fn params() -> [HecParams; 2] {
    let template = |text| Template::parse(text).unwrap();
    let plain = HecParams { host: template("{__source__}"), ..HecParams::default() };
    let rich = HecParams {
        index: template("sls_{__topic__}"),
        sourcetype: template("{request_method}:{__time__}"),
        fields: vec![("h".into(), template("{__tag__:__hostname__}")), ("t".into(), template("{text}"))],
        event_id: Some("project/logstore".into()),
        ..plain.clone()
    };
    [plain, rich]
}

/// Every form, every framing, both headers, and records that are cut and split.
fn syslog_params() -> Vec<SyslogParams> {
    let template = |text| Template::parse(text).unwrap();
    let plain = SyslogParams {
        hostname: template("{__source__}"),
        app_name: template("{__topic__}"),
        ..SyslogParams::default()
    };
    let event = EventParams {
        signature_id: template("{request_method}"),
        extension: vec![("act".into(), template("{json.a.1.b}")), ("msg".into(), template("{text}"))],
        ..EventParams::default()
    };
    let rich = SyslogParams {
        msg_id: template("{json.a.1.b}"),
        structured_data: vec![("sls@32473".into(), vec![("t".into(), template("{text}"))])],
        severity_field: Some("request_method".into()),
        ..plain.clone()
    };
    let forms = [
        MessageForm::Json,
        MessageForm::Kv("||".into()),
        MessageForm::AliyunKv("||".into()),
        MessageForm::Field("text".into()),
        MessageForm::Cef(event.clone()),
        MessageForm::Leef(event),
    ];
    let mut all: Vec<SyslogParams> =
        forms.into_iter().map(|message| SyslogParams { message, ..plain.clone() }).collect();
    all.extend([
        SyslogParams { framing: Framing::Newline, max_message_bytes: 600, ..rich.clone() },
        SyslogParams {
            framing: Framing::Marked,
            max_message_bytes: 600,
            oversize: Oversize::Split,
            ..rich.clone()
        },
        SyslogParams { header: HeaderForm::Rfc3164, ..rich },
    ]);
    all
}

const ROUNDS: u32 = 1_000;

#[test]
fn a_thousand_pulls_without_an_allocation() {
    for params in params() {
        no_allocation(&mut Encoder::Hec(HecEncoder::new(params)), ROUNDS);
    }
}

#[test]
fn a_hundred_pulls_to_syslog_without_an_allocation() {
    for params in syslog_params() {
        no_allocation(&mut Encoder::Syslog(Box::new(SyslogEncoder::new(params).unwrap())), ROUNDS / 10);
    }
}

fn no_allocation(encoder: &mut Encoder, rounds: u32) {
    let raw = body();
    let compressed = lz4_flex::block::compress(&raw);
    let cursor = Cursor::new("MTcwMDAwMDAwMA==");
    let context = RecordContext { shard: ShardId(3), cursor: &cursor };
    let mut body = vec![0; raw.len()];
    let mut frame = Vec::new();
    let mut round = || {
        let size = lz4_flex::block::decompress_into(&compressed, &mut body).unwrap();
        assert_eq!(size, raw.len());
        let shape = scan(&body).unwrap();
        let (mut at, mut records, mut bytes) = (Position::default(), 0, 0);
        loop {
            frame.clear();
            let one = encoder.encode(&body, &mut at, u32::MAX, 64 << 10, &context, &mut frame).unwrap();
            records += one.records;
            bytes += frame.len();
            if one.body_done {
                break;
            }
        }
        assert_eq!(records, shape.records);
        bytes
    };
    let expected = round();
    round();
    let before = ALLOCATIONS.get();
    for _ in 0..rounds {
        assert_eq!(round(), expected);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0, "allocations in {rounds} rounds");
}

/// Allocations of the engine per pull that brings `times` copies of the same groups.
fn per_pull(times: u32) -> f64 {
    let one = body();
    let raw = one.repeat(times as usize);
    let mut engine = engine::Engine::new(&raw, 2 * times);
    engine.run(20);
    let before = ALLOCATIONS.get();
    engine.run(200);
    f64::from(u32::try_from(ALLOCATIONS.get() - before).unwrap()) / 200.0
}

#[test]
fn the_engine_allocates_per_pull_and_not_per_record() {
    let (few, many) = (per_pull(1), per_pull(6));
    println!("allocations per pull: {few} with 140 records, {many} with 840");
    assert!(few < 60.0, "a pull has its cursors, its request and its report: {few}");
    assert!(many - few < 1.0, "six times the records, the same number of allocations: {few} and {many}");
}

#[test]
fn the_counter_counts() {
    let before = ALLOCATIONS.get();
    drop(std::hint::black_box(vec![1_u8; 100]));
    assert_eq!(ALLOCATIONS.get() - before, 1);
}
