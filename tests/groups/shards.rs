//! Splits, merges and retention under a running member.

use std::collections::BTreeMap;

use loadgen::sls::{Expired, Fill, LeaseState};
use loadgen::verify::Sent;

use crate::rig::{GROUP, PATIENCE, Rig};
use crate::{assert_apart, assert_fenced};

/// Adds logs to one shard.
fn fill(rig: &Rig, shard: u32, records: u64) {
    rig.sls.store().fill(shard, Fill::new(rig.payload, records)).unwrap();
}

fn leases(rig: &Rig) -> BTreeMap<u32, LeaseState> {
    rig.group().map(|group| group.leases).unwrap_or_default()
}

#[test]
fn the_children_of_a_split_and_of_a_merge_are_read_after_their_parents() {
    let rig = Rig::with(|sls| sls.pull_bytes_max = 32 << 10, |_| ());
    let mut member = rig.forwarder().set("sls.in_order", true).set("sls.timeout", "5s").start();
    fill(&rig, 0, 2_000);
    member.wait_until("it reads", PATIENCE, || rig.verdict().stored_unique > 0);
    // Shard 1 never holds anything: its end has to be committed all the same.
    let involved = rig.sls.store().split(0).unwrap();
    assert_eq!(involved, [0, 2, 3]);
    for shard in [2, 3] {
        fill(&rig, shard, 1_000);
    }
    member.wait_until("the parent is over and the children are done", PATIENCE, || {
        leases(&rig).get(&0) == Some(&LeaseState::Over) && rig.verdict().stored_unique == 4_000
    });
    assert_eq!(rig.sls.store().merge(2).unwrap(), [2, 3, 4]);
    fill(&rig, 4, 500);
    member.wait_until("both parents are over and the child is done", PATIENCE, || {
        [2, 3].iter().all(|shard| leases(&rig).get(shard) == Some(&LeaseState::Over))
            && rig.verdict().stored_unique == 4_500
    });
    rig.sls.store().split(1).unwrap();
    member.wait_until("an empty shard is released, too", PATIENCE, || {
        leases(&rig).get(&1) == Some(&LeaseState::Over)
    });
    member.stop();
    let sent = Sent([(0, 2_000), (2, 1_000), (3, 1_000), (4, 500)].into_iter().collect());
    let verdict = rig.hec.verdict(Some(&sent));
    assert!(verdict.is_exact(), "{verdict:?}");
    assert_fenced(&rig);
    assert_apart(&rig);
    assert_eq!(member.complaints(), [""; 0]);
}

/// Whether SLS refuses a position that it no longer has, or moves to the oldest data without a word.
const WAYS: [Expired; 2] = [Expired::Refuse, Expired::Clamp];

#[test]
fn from_the_end_on_nothing_of_a_later_shard_is_skipped() {
    let rig = Rig::new();
    fill(&rig, 0, 1_000);
    let mut member =
        rig.forwarder().set("sls.start", "end").set("sls.in_order", true).set("sls.timeout", "5s").start();
    member.wait_until("it has both shards", PATIENCE, || {
        rig.group().is_some_and(|group| group.checkpoints.len() == 2)
    });
    // What is there at the start is skipped; what the children of a split get before anybody can hold them is not.
    assert_eq!(rig.sls.store().split(0).unwrap(), [0, 2, 3]);
    for shard in [2, 3] {
        fill(&rig, shard, 1_000);
    }
    member.wait_until("the children are done", PATIENCE, || rig.verdict().stored_unique == 2_000);
    member.stop();
    let sent = Sent([(2, 1_000), (3, 1_000)].into_iter().collect());
    let verdict = rig.hec.verdict(Some(&sent));
    assert!(verdict.is_exact(), "{verdict:?}");
    assert_fenced(&rig);
}

#[test]
fn data_that_left_the_retention_is_told_loudly_and_reading_goes_on_at_the_oldest() {
    for way in WAYS {
        a_gap_is_told(way);
    }
}

fn a_gap_is_told(way: Expired) {
    let change = |sls: &mut loadgen::sls::SlsConfig| {
        sls.pull_bytes_max = 32 << 10;
        sls.expired = way;
    };
    let mut rig = Rig::with(change, |_| ());
    rig.fill(500);
    let mut first = rig.forwarder().start();
    first.wait_until("checkpoints at the ends", PATIENCE, || rig.is_drained());
    first.stop();
    rig.fill(2_000);
    // Of shard 0, what came while nobody read is half gone.
    let view = rig.sls.store().shard(0).unwrap();
    let gone = view.total - 20;
    rig.sls.store().expire_before(0, gone).unwrap();
    let mut second = rig.forwarder().start();
    second.line(&[
        " ERROR ",
        "shard 0: the checkpoint is older than the retention",
        "gap from ",
        " to 20",
        "are lost",
        "ttl of the logstore",
    ]);
    second.wait_until("checkpoints at the ends", PATIENCE, || rig.is_drained());
    second.wait_metrics("the gap is counted", |metrics| metrics.sum("retention_gaps_total") == 1);
    second.stop();
    let (total, groups) = (rig.sent, 50);
    let lost = total - 500 - 20 * groups;
    let verdict = rig.verdict();
    assert_eq!((verdict.lost, verdict.duplicates), (lost, 0), "{verdict:?}");
    assert_fenced(&rig);
    assert_apart(&rig);
}

#[test]
fn with_stop_the_shard_is_held_and_nothing_is_skipped() {
    for way in WAYS {
        a_gap_holds_the_shard(way);
    }
}

fn a_gap_holds_the_shard(way: Expired) {
    let mut rig = Rig::with(|sls| sls.expired = way, |_| ());
    rig.fill(500);
    let mut first = rig.forwarder().start();
    first.wait_until("checkpoints at the ends", PATIENCE, || rig.is_drained());
    first.stop();
    rig.fill(500);
    let view = rig.sls.store().shard(0).unwrap();
    rig.sls.store().expire_before(0, view.total - 2).unwrap();
    let mut second = rig.forwarder().set("sls.on_expired_cursor", "stop").start();
    second.line(&[" ERROR ", "shard 0", "the shard is held", "on_expired_cursor"]);
    let checkpoint = |shard| rig.group().and_then(|group| group.checkpoints.get(&shard).copied());
    second.wait_until("the other shard goes on", PATIENCE, || {
        checkpoint(1) == Some(rig.sls.store().shard(1).unwrap().total)
    });
    assert_eq!(checkpoint(0), Some(10));
    second.stop();
    assert_eq!(rig.group().unwrap().checkpoints[&0], 10, "{GROUP}");
}
