//! Runs with an end.

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::rig::{PATIENCE, Rig};
use crate::{assert_apart, assert_fenced};

fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The first second after this one.
fn next_second() -> u64 {
    let begun = unix();
    while unix() == begun {
        thread::sleep(Duration::from_millis(20));
    }
    unix()
}

#[test]
fn everything_before_the_stop_time_is_delivered_nothing_after_it_and_it_ends_with_0() {
    let mut rig = Rig::with(|sls| sls.pull_bytes_max = 32 << 10, |_| ());
    rig.fill(1_000);
    let stop = next_second();
    next_second();
    rig.fill(1_000);
    let bounded = || rig.forwarder().set("sls.timeout", "2s").set("sls.stop", stop);
    let mut first = bounded().start();
    let status = first.ended(PATIENCE);
    assert_eq!(status.code(), Some(0), "{}", first.text());
    first.line(&["shard 0 is delivered and saved up to the stop time"]);
    assert_eq!(first.complaints(), [""; 0]);
    let verdict = rig.verdict();
    assert_eq!((verdict.stored_unique, verdict.duplicates), (2_000, 0), "{verdict:?}\n{}", first.text());
    // Once more: there is nothing to do.
    let mut again = bounded().start();
    assert_eq!(again.ended(PATIENCE).code(), Some(0), "{}", again.text());
    assert_eq!(rig.verdict().stored_unique, 2_000);
    // Without an end it goes on where that one stopped.
    let mut next = rig.forwarder().start();
    next.wait_until("checkpoints at the ends", PATIENCE, || rig.is_drained());
    next.stop();
    rig.assert_exact();
    assert_fenced(&rig);
    assert_apart(&rig);
}

#[test]
fn a_stop_time_that_has_not_come_is_waited_for() {
    let mut rig = Rig::new();
    rig.fill(500);
    let stop = unix() + 8;
    let mut member = rig.forwarder().set("sls.timeout", "2s").set("sls.stop", stop).start();
    member.wait_until("the first logs are delivered", PATIENCE, || rig.is_drained());
    rig.fill(500);
    let status = member.ended(PATIENCE);
    assert_eq!(status.code(), Some(0), "{}", member.text());
    assert!(unix() >= stop);
    rig.assert_exact();
    assert_fenced(&rig);
    assert_apart(&rig);
}
