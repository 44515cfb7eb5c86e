//! A sink that accepts and does not answer, as a stopped process does.

use loadgen::fault::FaultPlan;
use loadgen::payload::{Payload, Profile};
use loadgen::verify::expect::Metadata;

use crate::rig::Rig;

#[test]
fn a_sink_that_sleeps_stops_the_pulls_and_nothing_else() {
    let payload = Payload::new(Profile::AccessLog, 11).with_logs_per_group(50);
    let mut rig = Rig::with(
        |sls| sls.pull_bytes_max = 1 << 20,
        |hec| {
            hec.payload = Some((payload, Metadata::default()));
            // Everything waits so long before it is looked at: longer than this test needs.
            hec.faults = FaultPlan::parse("event.stall:15s").unwrap();
        },
    );
    rig.payload = payload;
    // About 50 MB, three times the memory that the forwarder may use.
    rig.fill(40_000);
    let memory: u64 = 16 << 20;
    let mut forwarder =
        rig.forwarder().set("runtime.memory", memory).set("hec.batch_bytes", "256KiB").start();
    let mut before = (0, 0);
    let mut heartbeats = 0;
    forwarder.wait_until("the shards stop pulling", rig.patience(), || {
        let stats = rig.sls.stats();
        // As many heartbeats as two seconds hold, and not one pull with data meanwhile.
        let pulled = (stats.pulls, stats.records);
        if pulled != before {
            before = pulled;
            heartbeats = stats.heartbeats;
        }
        stats.records > 0 && stats.heartbeats >= heartbeats + 4
    });
    assert_eq!(rig.hec.stats()["events"], 0, "it still sleeps");
    let pulled = rig.sls.stats();
    assert!(pulled.records < rig.total(), "there is more to pull: {pulled:?}");
    // A body that is larger than the free half is let in when nothing else is there.
    let inflight = forwarder.metrics().sum("inflight_bytes");
    assert!((1..=memory + (4 << 20)).contains(&inflight), "{inflight} bytes in flight of {memory}");
    let rss = forwarder.rss_bytes();
    assert!(rss < RSS_MAX, "{rss} bytes resident");
    assert_eq!(forwarder.ask("/healthz").0, 200, "a sink that sleeps is no reason to be restarted");

    rig.hec.set_faults(FaultPlan::none()).unwrap();
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || {
        rig.assert_checkpoints_are_stored();
        rig.is_drained()
    });
    forwarder.wait_metrics("the memory is given back", |metrics| metrics.sum("inflight_bytes") == 0);
    assert!(forwarder.rss_bytes() < RSS_MAX, "{} bytes resident", forwarder.rss_bytes());
    forwarder.stop();
    // It answered late, but it answered.
    rig.assert_exact();
    rig.assert_commits();
}

/// What is in flight, twice, and the program itself.
const RSS_MAX: u64 = 160 << 20;
