//! Without faults: every record once, in order, byte for byte; and the process says the truth about it.

use serde_json::json;

use crate::rig::{Rig, records};

#[test]
fn every_record_arrives_exactly_once_and_in_order() {
    let mut rig = Rig::new();
    rig.fill(records());
    let mut forwarder = rig.forwarder().start();
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());

    for path in ["/healthz", "/readyz"] {
        forwarder.wait_answer(path, "ok", |status, text| status == 200 && text == "ok\n");
    }
    forwarder.wait_metrics("the counts are true at the end", |metrics| {
        // A position that is saved is saved again with every heartbeat.
        metrics.sum("pulled_records_total") == rig.total()
            && metrics.sum("acked_records_total") == rig.total()
            && metrics.sum("checkpoint_commits_total") == rig.sls.stats().commits
    });
    let (metrics, stats) = (forwarder.metrics(), rig.sls.stats());
    assert_eq!(metrics.sum("pulled_raw_bytes_total"), stats.raw_bytes);
    assert_eq!(metrics.sum("pulled_wire_bytes_total"), stats.wire_bytes);
    assert_eq!(metrics.sum("inflight_bytes"), 0);
    for zero in [
        "duplicates_possible_records_total",
        "retries_total",
        "refused_records_total",
        "dead_letter_records_total",
        "retention_gaps_total",
        "checkpoint_conflicts_total",
        "heartbeat_failures_total",
        "held_shards",
        "alarms",
    ] {
        assert_eq!(metrics.sum(zero), 0, "{zero}");
    }
    assert_eq!(metrics.sum("shards"), 2);

    forwarder.stop();
    rig.assert_exact();
    rig.assert_commits();
    assert_eq!(forwarder.complaints(), [""; 0], "nothing to complain about");
    assert_eq!(rig.sls.stats().refusals.len(), 0, "{:?}", rig.sls.stats());
    assert_eq!(rig.hec.stats()["refusals"], json!({}));
    let group = rig.group().unwrap();
    assert_eq!(group.timeout_ms, 8_000, "the group has our timeout");
}

#[test]
fn what_comes_later_is_forwarded_too_and_a_restart_repeats_nothing() {
    let mut rig = Rig::new();
    rig.fill(1_000);
    let mut first = rig.forwarder().start();
    first.wait_until("the first thousand", rig.patience(), || rig.is_drained());
    rig.fill(1_000);
    first.wait_until("the second thousand", rig.patience(), || rig.is_drained());
    first.stop();
    rig.fill(1_000);
    let mut second = rig.forwarder().start();
    second.wait_until("the third thousand", rig.patience(), || rig.is_drained());
    second.stop();
    rig.assert_exact();
    rig.assert_commits();
    assert_eq!(first.complaints(), [""; 0]);
    assert_eq!(second.complaints(), [""; 0]);
}
