//! `runtime.memory` is a bound over everything in flight: the process is never larger than it, plus a constant.
//!
//! Why: a forwarder that grows while its sink is slow is killed by the kernel when it is needed most.
//! Invariants: 1. the most that was ever resident is what an idle process of the same settings has, plus `runtime.memory`, plus
//! [`SLACK_BYTES`] for buffers of connections, stacks and what the allocator keeps.
//! Bounds: some seconds with a source that gives what it is asked for. Driven by: the test binary.

use std::time::{Duration, Instant};

use loadgen::fault::FaultPlan;
use loadgen::payload::{Payload, Profile};
use loadgen::sink::hec::{HecConfig, Token};
use loadgen::verify::expect::Metadata;

use crate::forwarder::Forwarder;
use crate::rig::{PATIENCE, Rig, TOKEN};

const SHARDS: u32 = 16;
/// Of each shard; about 7 MB.
const RECORDS: u64 = 10_000;
const SLACK_BYTES: u64 = 32 << 20;
const SIZES: [u64; 2] = [16 << 20, 64 << 20];
/// How long it is watched after it has begun.
const WATCHED: Duration = Duration::from_secs(4);

fn rig(hec: impl FnOnce(&mut HecConfig)) -> Rig {
    let payload = Payload::new(Profile::AccessLog, 23).with_logs_per_group(50);
    let mut rig = Rig::with(
        |sls| sls.shards = SHARDS,
        |config| {
            config.payload = Some((payload, Metadata::default()));
            hec(config);
        },
    );
    rig.payload = payload;
    rig
}

/// Started on an empty source, with all shards; what it has resident then.
fn start(rig: &Rig, memory: u64, settings: &[(&str, &str)]) -> (Forwarder, u64) {
    let mut start = rig.forwarder().set("runtime.memory", memory);
    for (key, value) in settings {
        start = start.set(key, value);
    }
    let mut forwarder = start.start();
    forwarder.wait_until("all shards are held", PATIENCE, || {
        rig.group().is_some_and(|group| group.checkpoints.len() == SHARDS as usize)
    });
    let idle = forwarder.rss_bytes();
    (forwarder, idle)
}

fn assert_bounded(what: &str, forwarder: &mut Forwarder, memory: u64, idle: u64) {
    let peak = forwarder.peak_bytes();
    eprintln!(
        "{what}: runtime.memory {} MiB, idle {} MiB, at most {} MiB",
        memory >> 20,
        idle >> 20,
        peak >> 20
    );
    assert!(
        peak <= idle + memory + SLACK_BYTES,
        "{what}: {peak} bytes were resident, {idle} when idle, {memory} are allowed\n{}",
        forwarder.text()
    );
}

#[test]
fn a_sink_that_stands_still_costs_no_more_than_the_bound() {
    for memory in SIZES {
        let mut rig = rig(|hec| hec.faults = FaultPlan::parse("event.stall:60s").unwrap());
        let (mut forwarder, idle) = start(&rig, memory, &[]);
        rig.fill(RECORDS);
        forwarder.wait_metrics("memory is used", |metrics| metrics.sum("inflight_bytes") > memory / 3);
        let end = Instant::now() + WATCHED;
        forwarder.wait_until("some seconds", PATIENCE, || Instant::now() >= end);
        assert_eq!(rig.hec.stats()["events"], 0, "it stands still");
        assert!(rig.sls.stats().records < rig.total(), "there is more than fits");
        assert_bounded("a sink that stands still", &mut forwarder, memory, idle);
        rig.hec.set_faults(FaultPlan::none()).unwrap();
        forwarder.kill();
    }
}

#[test]
fn acks_that_never_come_cost_no_more_than_the_bound() {
    for memory in SIZES {
        let mut rig = rig(|hec| {
            hec.tokens = vec![Token::new(TOKEN).with_ack()];
            hec.faults = FaultPlan::parse("event.never-ack").unwrap();
        });
        let settings = [("hec.ack", "required"), ("hec.ack_timeout", "2s"), ("hec.batch_bytes", "128KiB")];
        let (mut forwarder, idle) = start(&rig, memory, &settings);
        rig.fill(RECORDS);
        forwarder.wait_until("it has sent much", PATIENCE, || rig.hec.stats()["acks"].as_u64() > Some(100));
        forwarder.wait_metrics("what is not confirmed is sent again", |metrics| {
            metrics.sum("duplicates_possible_records_total") > 0
        });
        let end = Instant::now() + WATCHED;
        forwarder.wait_until("some seconds", PATIENCE, || Instant::now() >= end);
        assert_eq!(forwarder.metrics().sum("acked_records_total"), 0, "nothing was confirmed");
        assert_bounded("acks that never come", &mut forwarder, memory, idle);
        // What was taken without a confirmation is stored several times by then: only that nothing is missing counts.
        rig.hec.set_faults(FaultPlan::none()).unwrap();
        forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
        assert_bounded("and with acks again", &mut forwarder, memory, idle);
        assert_eq!(rig.verdict().lost, 0);
        forwarder.kill();
    }
}
