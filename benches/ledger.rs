//! The ledger: what a pull costs from its opening to the cursor that is safe.
//!
//! `cargo bench --bench ledger`. Times are of this thread's CPU clock; a pull stands for a megabyte of logs.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_precision_loss, reason = "a bench")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sls2siem::proto::ids::Cursor;
use sls2siem::proto::ledger::{Ledger, Pulled};
use sls2siem::proto::time::Instant;

#[allow(dead_code, unreachable_pub, reason = "shared with the other benches")]
mod corpus;
use corpus::CpuTime;

const PULLS: u32 = 64;
const RECORDS: u32 = 1_600;
const FRAMES: u32 = 2;

fn open(ledger: &mut Ledger, at: u64) -> sls2siem::proto::ids::PullId {
    ledger.open(Pulled {
        from: Cursor::new("MTcwMDAwMDAwMDAwMDAwMDAwMA=="),
        next: Cursor::new("MTcwMDAwMDAwMDAwMDAwMDAwMQ=="),
        next_time: Some(1_700_000_000),
        records: RECORDS,
        at: Instant(at),
    })
}

fn ledger(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("ledger");
    group.throughput(Throughput::Elements(u64::from(PULLS)));
    let step = RECORDS / FRAMES;
    group.bench_function("acknowledged in order", |bencher| {
        let mut ledger = Ledger::new();
        bencher.iter(|| {
            for at in 0..PULLS {
                let pull = open(&mut ledger, u64::from(at));
                for frame in 0..FRAMES {
                    ledger.ack(pull, frame * step, (frame + 1) * step);
                    black_box(ledger.poll_safe(|_| ()));
                }
            }
        });
    });
    group.bench_function("acknowledged in reverse", |bencher| {
        let mut ledger = Ledger::new();
        bencher.iter(|| {
            let pulls: Vec<_> = (0..PULLS).map(|at| open(&mut ledger, u64::from(at))).collect();
            for pull in pulls.into_iter().rev() {
                for frame in (0..FRAMES).rev() {
                    ledger.ack(pull, frame * step, (frame + 1) * step);
                }
            }
            black_box(ledger.poll_safe(|_| ())).unwrap()
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = ledger
}
criterion_main!(benches);
