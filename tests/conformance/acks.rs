//! Indexer acknowledgement: a 200 proves nothing, the ackId does.

use std::time::Duration;

use loadgen::sink::hec::Token;

use crate::rig::{Rig, TOKEN, records};

fn rig() -> Rig {
    Rig::with(
        |sls| sls.pull_bytes_max = 256 << 10,
        |hec| {
            hec.tokens = vec![Token::new(TOKEN).with_ack()];
            hec.ack_delay = "300ms..1500ms".parse().unwrap();
        },
    )
}

#[test]
fn checkpoints_follow_the_indexer() {
    let mut rig = rig();
    rig.fill(records());
    let mut forwarder = rig.forwarder().set("hec.batch_bytes", "64KiB").start();
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || {
        rig.assert_checkpoints_are_stored();
        rig.is_drained()
    });
    forwarder.stop();
    rig.assert_exact();
    rig.assert_commits();
    assert_eq!(forwarder.complaints(), [""; 0]);
    let stats = rig.hec.stats();
    assert!(stats["acks"].as_u64() > Some(0) && stats["acks"] == stats["acks_told"], "{stats:#}");
}

#[test]
fn a_restart_and_a_crash_of_the_indexer_lose_nothing() {
    let mut rig = rig();
    rig.fill_over(records(), Some(Duration::from_secs(6)));
    let mut forwarder = rig.forwarder().set("hec.batch_bytes", "64KiB").set("hec.ack_timeout", "15s").start();
    let waiting = |rig: &Rig, share: u64| {
        let stats = rig.hec.stats();
        stats["unique"].as_u64() > Some(rig.total() * share / 10) && stats["waiting"].as_u64() > Some(0)
    };
    // Channels and connections are gone, what was taken is written.
    forwarder.wait_until("a part is stored", rig.patience(), || waiting(&rig, 2));
    rig.hec.restart(Duration::from_millis(500));
    // What was not acknowledged is gone as well.
    forwarder.wait_until("more is stored", rig.patience(), || {
        rig.assert_checkpoints_are_stored();
        waiting(&rig, 5)
    });
    rig.hec.crash(Duration::from_millis(500));
    assert!(rig.hec.stats()["crashed"].as_u64() > Some(0), "{:#}", rig.hec.stats());
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || {
        rig.assert_checkpoints_are_stored();
        rig.is_drained()
    });
    let duplicates = rig.verdict().duplicates;
    forwarder.wait_metrics("the duplicates are covered", |metrics| {
        metrics.sum("duplicates_possible_records_total") >= duplicates
    });
    forwarder.stop();
    rig.assert_complete();
    rig.assert_commits();
}
