//! Everything between the ends goes wrong a little: nothing is lost, and what may be twice is counted.

use loadgen::fault::FaultPlan;

use crate::rig::{Rig, records};

/// Small answers and small requests, so that a few thousand logs meet every fault.
fn rig(sls_faults: &str, hec_faults: &str) -> Rig {
    let mut rig = Rig::with(
        |sls| {
            sls.pull_bytes_max = 64 << 10;
            sls_faults.clone_into(&mut sls.faults);
        },
        |hec| hec.faults = FaultPlan::parse(hec_faults).unwrap(),
    );
    rig.fill(records());
    rig
}

#[test]
fn refusals_and_spoilt_bodies_cost_neither_a_record_nor_a_duplicate() {
    let rig = rig(
        "seed=3,pull.503:ServerBusy=5%,pull.403:ReadQuotaExceed=1%,pull.tear=3%,pull.bits=3%,pull.truncate=2%,\
         pull.protobuf=2%,pull.rawsize=1%,pull.count=1%,pull.html:502=1%,pull.reset=1%,pull.reset-after=1%,\
         checkpoint.503=5%,heartbeat.503=3%,get-checkpoint.503@1,cursor.500@1",
        "seed=4,event.503:9=5%,event.429:27=1%",
    );
    let mut forwarder = rig.forwarder().set("hec.batch_bytes", "16KiB").start();
    forwarder.wait_until("checkpoints at the ends", rig.patience() * 2, || {
        rig.assert_checkpoints_are_stored();
        rig.is_drained()
    });
    forwarder.wait_metrics("the counts are true at the end", |metrics| {
        metrics.sum("acked_records_total") == rig.total()
    });
    let metrics = forwarder.metrics();
    assert_eq!(metrics.sum("duplicates_possible_records_total"), 0, "every answer came");
    assert!(metrics.sum("retries_total") > 0);
    forwarder.stop();
    rig.assert_complete();
    rig.assert_commits();
    assert_eq!(rig.verdict().duplicates, 0, "{:?}", rig.verdict());
    let hits = rig.sls.fault_hits();
    for rule in ["pull.503:ServerBusy=5%", "pull.tear=3%", "pull.bits=3%"] {
        assert!(hits[rule] > 0, "{hits:?}");
    }
    assert!(rig.hec.stats()["refusals"]["503/9"].as_u64() > Some(0), "{:#}", rig.hec.stats());
}

#[test]
fn lost_answers_cost_duplicates_that_are_counted() {
    let rig = rig(
        "seed=5,pull.503=5%,pull.tear=3%,pull.bits=3%",
        "seed=6,event.503:9=5%,event.busy-at:3=2%,event.reset=1%,event.reset-after=2%,event.tear=1%,event.close=1%,event.html:502=1%",
    );
    let mut forwarder = rig.forwarder().set("hec.batch_bytes", "16KiB").start();
    forwarder.wait_until("checkpoints at the ends", rig.patience() * 2, || {
        rig.assert_checkpoints_are_stored();
        rig.is_drained()
    });
    let duplicates = rig.verdict().duplicates;
    assert!(duplicates > 0, "answers were lost: {:#}", rig.hec.stats());
    forwarder.wait_metrics("the duplicates are covered", |metrics| {
        metrics.sum("duplicates_possible_records_total") >= duplicates
    });
    forwarder.stop();
    rig.assert_complete();
    rig.assert_commits();
}
