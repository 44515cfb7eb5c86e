//! Forwarders that end and forwarders that follow them.

use std::collections::BTreeSet;
use std::time::Duration;

use loadgen::fault::FaultPlan;
use loadgen::sls::LeaseState;

use crate::rig::{PATIENCE, Rig, records};

/// Who holds a shard now.
fn holders(rig: &Rig) -> BTreeSet<String> {
    let leases = rig.group().map(|group| group.leases).unwrap_or_default();
    let holder = |state: &LeaseState| match state {
        LeaseState::AlreadyAlloc { holder } => Some(holder.clone()),
        _ => None,
    };
    leases.values().filter_map(holder).collect()
}

#[test]
fn after_a_crash_the_next_forwarder_loses_nothing() {
    let mut rig = Rig::with(|sls| sls.pull_bytes_max = 64 << 10, |_| ());
    rig.fill_over(records(), Some(Duration::from_secs(5)));
    let mut first = rig.forwarder().set("hec.batch_bytes", "16KiB").start();
    first.wait_until("the middle", rig.patience(), || {
        rig.assert_checkpoints_are_stored();
        rig.verdict().stored_unique > rig.total() / 3
    });
    first.kill();
    assert!(rig.verdict().stored_unique < rig.total(), "it was the middle");
    let mut second = rig.forwarder().set("hec.batch_bytes", "16KiB").start();
    second.wait_until("checkpoints at the ends", rig.patience(), || {
        rig.assert_checkpoints_are_stored();
        rig.is_drained()
    });
    second.stop();
    rig.assert_complete();
    rig.assert_commits();
    assert_eq!(second.complaints(), [""; 0]);
}

#[test]
fn a_polite_hand_over_repeats_nothing() {
    let mut rig = Rig::with(|sls| sls.pull_bytes_max = 64 << 10, |_| ());
    rig.fill_over(records(), Some(Duration::from_secs(8)));
    let start =
        |name: &str| rig.forwarder().set("sls.consumer_name", name).set("hec.batch_bytes", "16KiB").start();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let mut first = start("first");
    first.wait_until("the first has the shards and works", rig.patience(), || {
        holders(&rig) == names(&["first"]) && rig.verdict().stored_unique > rig.total() / 20
    });
    // A second consumer joins while data flows: it is given one of the two shards.
    let mut second = start("second");
    second.wait_until("each has a shard", rig.patience(), || holders(&rig) == names(&["first", "second"]));
    assert!(!rig.is_drained(), "data still flows");
    // The first leaves: the second takes the other shard where it was.
    first.stop();
    second.wait_until("checkpoints at the ends", rig.patience(), || {
        rig.assert_checkpoints_are_stored();
        rig.is_drained()
    });
    second.stop();
    rig.assert_exact();
    rig.assert_commits();
    assert_eq!(first.complaints(), [""; 0]);
    assert_eq!(second.complaints(), [""; 0]);
    assert!(first.lines_with("given up, its checkpoint is saved").len() >= 2, "{}", first.text());
}

#[test]
fn a_second_signal_ends_at_once() {
    // The sink never answers: the first signal has something to wait for.
    let mut rig = Rig::with(|_| (), |hec| hec.faults = FaultPlan::parse("event.hang").unwrap());
    rig.fill(200);
    let mut forwarder = rig.forwarder().start();
    forwarder.wait_until("a request is under way", PATIENCE, || {
        rig.hec.stats()["faults"][0]["hits"].as_u64() > Some(0)
    });
    forwarder.signal("TERM");
    forwarder.line(&["stopping"]);
    assert!(forwarder.is_running(), "it waits for the sink");
    forwarder.signal("TERM");
    // Half of the time that a polite stop may take.
    let status = forwarder.ended(Duration::from_secs(15));
    assert_eq!(status.code(), Some(1), "{}", forwarder.text());
    // Nothing was stored and no checkpoint moved: the next one sends it all.
    rig.hec.set_faults(FaultPlan::none()).unwrap();
    rig.assert_checkpoints_are_stored();
    let mut next = rig.forwarder().start();
    next.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
    next.stop();
    rig.assert_exact();
}
