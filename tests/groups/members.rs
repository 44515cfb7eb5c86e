//! Members that join, leave and die.

use std::time::{Duration, Instant};

use crate::forwarder::Forwarder;
use crate::rig::{PATIENCE, Rig};
use crate::{assert_apart, assert_fenced, holders, is_held};

const RECORDS: u64 = 4_000;

fn rig() -> Rig {
    let mut rig = Rig::with(
        |sls| {
            sls.shards = 6;
            sls.pull_bytes_max = 32 << 10;
        },
        |_| (),
    );
    rig.fill_over(RECORDS, Some(Duration::from_secs(20)));
    rig
}

fn start(rig: &Rig, name: &str) -> Forwarder {
    rig.forwarder()
        .set("sls.consumer_name", name)
        .set("hec.batch_bytes", "16KiB")
        .set("sls.timeout", "5s")
        .set("runtime.memory", "32MiB")
        .start()
}

#[test]
fn three_members_join_and_leave_and_nothing_is_lost_or_repeated() {
    let rig = rig();
    let mut first = start(&rig, "first");
    first.wait_until("the first has all", PATIENCE, || is_held(&rig, &[("first", 6)]));
    let mut second = start(&rig, "second");
    second.wait_until("the second has half", PATIENCE, || is_held(&rig, &[("first", 3), ("second", 3)]));
    let mut third = start(&rig, "third");
    let thirds = [("first", 2), ("second", 2), ("third", 2)];
    third.wait_until("each has a third", PATIENCE, || is_held(&rig, &thirds));
    assert!(!rig.is_drained(), "data still flows");
    second.stop();
    third.wait_until("the two have half each", PATIENCE, || is_held(&rig, &[("first", 3), ("third", 3)]));
    first.stop();
    third.wait_until("everything is delivered", rig.patience(), || {
        rig.assert_checkpoints_are_stored();
        rig.is_drained()
    });
    third.stop();
    rig.assert_exact();
    assert_fenced(&rig);
    assert_apart(&rig);
    for (name, forwarder) in [("first", &mut first), ("second", &mut second), ("third", &mut third)] {
        assert_eq!(forwarder.complaints(), [""; 0], "{name}");
    }
}

#[test]
fn what_a_killed_member_had_is_taken_over_in_time_and_nothing_is_lost() {
    let rig = rig();
    let mut members: Vec<Forwarder> = ["a", "b", "c"].iter().map(|name| start(&rig, name)).collect();
    members[0].wait_until("each has a third", PATIENCE, || is_held(&rig, &[("a", 2), ("b", 2), ("c", 2)]));
    let mut killed = members.remove(1);
    killed.kill();
    let died = Instant::now();
    members[0].wait_until("the others have its shards", PATIENCE, || is_held(&rig, &[("a", 3), ("c", 3)]));
    // Timeout and two heartbeats; the rest is for a machine that has other things to do.
    let bound = Duration::from_secs(5 + 1) + Duration::from_secs(10);
    assert!(died.elapsed() < bound, "{:?} after its death: {:?}", died.elapsed(), holders(&rig));
    members[0].wait_until("everything is delivered", rig.patience(), || {
        rig.assert_checkpoints_are_stored();
        rig.is_drained()
    });
    members.iter_mut().for_each(Forwarder::stop);
    rig.assert_complete();
    assert_fenced(&rig);
    assert_apart(&rig);
}
