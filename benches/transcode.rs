//! Pulled bodies to HEC envelopes and syslog messages: raw bytes per CPU-second, beside prost with `serde_json`.
//!
//! `cargo bench --bench transcode`. Times are of this thread's CPU clock.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_precision_loss, reason = "a bench")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::Message as _;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use sls2siem::proto::format::hec::{HecEncoder, HecParams, RecordContext};
use sls2siem::proto::format::json;
use sls2siem::proto::format::syslog::{HeaderForm, MessageForm, SyslogEncoder, SyslogParams};
use sls2siem::proto::format::template::Template;
use sls2siem::proto::ids::{Cursor, ShardId};
use sls2siem::proto::sls::wire::{LogGroups, Position};

#[allow(dead_code, unreachable_pub, reason = "shared with the other bench")]
mod corpus;
use corpus::{CpuTime, Profile};

/// The plain way: owned messages, serde.
struct Envelope<'a>(&'a corpus::Group, &'a corpus::Log);
struct Event<'a>(&'a corpus::Group, &'a corpus::Log);

impl Serialize for Envelope<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let time = format!("{}.{:09}", self.1.time, self.1.nanos.unwrap_or(0));
        map.serialize_entry("time", &time)?;
        map.serialize_entry("host", &self.0.source)?;
        map.serialize_entry("event", &Event(self.0, self.1))?;
        map.end()
    }
}

impl Serialize for Event<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("__topic__", &self.0.topic)?;
        map.serialize_entry("__source__", &self.0.source)?;
        for tag in &self.0.tags {
            map.serialize_entry(&format!("__tag__:{}", tag.key), &tag.value)?;
        }
        for pair in &self.1.contents {
            map.serialize_entry(&pair.key, &pair.value)?;
        }
        map.end()
    }
}

fn plain(body: &[u8], out: &mut Vec<u8>) {
    for group in &corpus::List::decode(body).unwrap().groups {
        for log in &group.logs {
            serde_json::to_writer(&mut *out, &Envelope(group, log)).unwrap();
            out.push(b'\n');
        }
    }
}

struct Ours {
    encoder: HecEncoder,
    cursor: Cursor,
    frame: Vec<u8>,
}

impl Ours {
    fn new(params: HecParams) -> Self {
        let cursor = Cursor::new("MTcwMDAwMDAwMDAwMDAwMDAwMA==");
        Self { encoder: HecEncoder::new(params), cursor, frame: Vec::new() }
    }

    /// Frames of 256 KiB, as the sink writes them.
    fn transcode(&mut self, body: &[u8]) -> usize {
        let context = RecordContext { shard: ShardId(0), cursor: &self.cursor };
        let (mut at, mut bytes) = (Position::default(), 0);
        loop {
            self.frame.clear();
            let limit = 256 << 10;
            let one = self.encoder.encode(body, &mut at, u32::MAX, limit, &context, &mut self.frame).unwrap();
            bytes += black_box(&self.frame).len();
            if one.body_done {
                return bytes;
            }
        }
    }
}

fn template(text: &str) -> Template {
    Template::parse(text).unwrap()
}

fn escape(criterion: &mut Criterion<CpuTime>) {
    let body = corpus::body(Profile::Access, 512 << 10);
    let mut strings = Vec::new();
    for group in LogGroups::new(&body) {
        for log in group.unwrap().logs() {
            for pair in log.unwrap().contents() {
                let (key, value) = pair.unwrap();
                strings.push(std::str::from_utf8(key).unwrap());
                strings.push(std::str::from_utf8(value).unwrap());
            }
        }
    }
    let mut group = criterion.benchmark_group("escape");
    group.throughput(Throughput::Bytes(strings.iter().map(|text| text.len() as u64).sum()));
    let mut out = Vec::new();
    group.bench_function("ours", |bencher| {
        bencher.iter(|| {
            out.clear();
            for text in black_box(&strings) {
                json::string(text.as_bytes(), &mut out);
            }
            out.len()
        });
    });
    group.bench_function("serde_json", |bencher| {
        bencher.iter(|| {
            out.clear();
            for text in black_box(&strings) {
                serde_json::to_writer(&mut out, text).unwrap();
            }
            out.len()
        });
    });
    group.bench_function("simd_json", |bencher| {
        bencher.iter(|| {
            out.clear();
            for text in black_box(&strings) {
                simd_json::to_writer(&mut out, text).unwrap();
            }
            out.len()
        });
    });
    group.finish();
}

fn transcode(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("transcode");
    let default = HecParams { host: template("{__source__}"), ..HecParams::default() };
    for (name, profile, bytes) in [
        ("access_256K", Profile::Access, 256 << 10),
        ("access_512K", Profile::Access, 512 << 10),
        ("access_4M", Profile::Access, 4 << 20),
        ("chinese_512K", Profile::Chinese, 512 << 10),
    ] {
        let body = corpus::body(profile, bytes);
        group.throughput(Throughput::Bytes(body.len() as u64));
        let mut ours = Ours::new(default.clone());
        group.bench_function(name, |bencher| bencher.iter(|| ours.transcode(black_box(&body))));
    }
    let body = corpus::body(Profile::Access, 512 << 10);
    group.throughput(Throughput::Bytes(body.len() as u64));
    let mut ours = Ours::new(HecParams {
        sourcetype: template("sls_{__topic__}"),
        fields: vec![("status".into(), template("{status}"))],
        event_id: Some("project/logstore".into()),
        ..default.clone()
    });
    group.bench_function("access_512K_field_template_and_ids", |bencher| {
        bencher.iter(|| ours.transcode(black_box(&body)));
    });
    let compressed = lz4_flex::block::compress(&body);
    let mut raw = vec![0; body.len()];
    let mut ours = Ours::new(default);
    group.bench_function("access_512K_with_lz4", |bencher| {
        bencher.iter(|| {
            lz4_flex::block::decompress_into(black_box(&compressed), &mut raw).unwrap();
            ours.transcode(&raw)
        });
    });
    let mut out = Vec::new();
    group.bench_function("prost_and_serde_json", |bencher| {
        bencher.iter(|| {
            out.clear();
            plain(black_box(&body), &mut out);
            out.len()
        });
    });
    group.finish();
}

fn syslog(criterion: &mut Criterion<CpuTime>) {
    let body = corpus::body(Profile::Access, 512 << 10);
    let cursor = Cursor::new("MTcwMDAwMDAwMDAwMDAwMDAwMA==");
    let context = RecordContext { shard: ShardId(0), cursor: &cursor };
    let mut group = criterion.benchmark_group("syslog");
    group.throughput(Throughput::Bytes(body.len() as u64));
    let mut frame = Vec::new();
    for (name, header, message) in [
        ("rfc5424_json", HeaderForm::Rfc5424, MessageForm::Json),
        ("rfc5424_kv", HeaderForm::Rfc5424, MessageForm::Kv("||".into())),
        ("rfc3164_json", HeaderForm::Rfc3164, MessageForm::Json),
    ] {
        let mut encoder = SyslogEncoder::new(SyslogParams {
            header,
            message,
            hostname: template("{__source__}"),
            app_name: template("{__topic__}"),
            ..SyslogParams::default()
        })
        .unwrap();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let (mut at, mut bytes) = (Position::default(), 0);
                loop {
                    frame.clear();
                    let limit = 256 << 10;
                    let one = encoder.encode(&body, &mut at, u32::MAX, limit, &context, &mut frame).unwrap();
                    bytes += black_box(&frame).len();
                    if one.body_done {
                        return bytes;
                    }
                }
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .with_measurement(CpuTime)
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = escape, transcode, syslog
}
criterion_main!(benches);
