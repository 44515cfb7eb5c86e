//! Reading a pulled body: how many raw bytes per CPU-second the walk makes, beside prost.
//!
//! `cargo bench --bench decode`. Times are of this thread's CPU clock.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_precision_loss, reason = "a bench")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::Message as _;
use sls2siem::proto::sls::wire::{LogField, LogGroups, scan};

#[allow(dead_code, unreachable_pub, reason = "shared with the other bench")]
mod corpus;
use corpus::{CpuTime, Profile};

/// The schema with `Bytes`: the cheapest that prost can do.
mod slices {
    use bytes::Bytes;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Pair {
        #[prost(bytes = "bytes", required, tag = "1")]
        pub(crate) key: Bytes,
        #[prost(bytes = "bytes", required, tag = "2")]
        pub(crate) value: Bytes,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Log {
        #[prost(uint32, required, tag = "1")]
        pub(crate) time: u32,
        #[prost(message, repeated, tag = "2")]
        pub(crate) contents: Vec<Pair>,
        #[prost(fixed32, optional, tag = "4")]
        pub(crate) nanos: Option<u32>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Group {
        #[prost(message, repeated, tag = "1")]
        pub(crate) logs: Vec<Log>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct List {
        #[prost(message, repeated, tag = "1")]
        pub(crate) groups: Vec<Group>,
    }
}

fn walk(body: &[u8]) -> usize {
    let mut seen = 0;
    for group in LogGroups::new(body) {
        let group = group.unwrap();
        seen += group.topic.len() + group.source.len();
        for log in group.logs() {
            for field in log.unwrap().fields() {
                match field.unwrap() {
                    LogField::Secs(secs) | LogField::Nanos(secs) => seen += secs as usize & 1,
                    LogField::Content(key, value) => seen += key.len() + value.len(),
                }
            }
        }
    }
    seen
}

fn decode(criterion: &mut Criterion<CpuTime>) {
    let body = corpus::body(Profile::Access, 512 << 10);
    let shared = Bytes::from(body.clone());
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("scan", |bencher| bencher.iter(|| scan(black_box(&body)).unwrap()));
    group.bench_function("walk", |bencher| bencher.iter(|| walk(black_box(&body))));
    group.bench_function("prost_bytes", |bencher| {
        bencher.iter(|| slices::List::decode(black_box(shared.clone())).unwrap());
    });
    group.bench_function("prost_string", |bencher| {
        bencher.iter(|| corpus::List::decode(black_box(&body[..])).unwrap());
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = decode
}
criterion_main!(benches);
