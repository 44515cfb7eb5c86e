//! Bounded runs: forward up to a time, then stop.

use super::rig::{Fate, Rig, params, secs};
use crate::proto::event::{Command, Report};
use crate::proto::ids::{Cursor, ShardId};
use crate::proto::sls::lease::call::{Call, Reply};
use crate::proto::sls::lease::event::{LeaseEvent, Outcome};
use crate::proto::sls::lease::{Bound, Params};
use crate::proto::time::{Instant, UnixTime};

/// A run up to second 1,000 that has passed already, or passes after so many seconds.
fn bounded(after: u64, ours: &[u32]) -> Rig {
    let known_from = Instant(1_000_000_000_000) + secs(after);
    let stop = Some(Bound { at: UnixTime::from_secs(1_000), pause_from: known_from, known_from });
    Rig::with(Params { stop, ..params() }, ours)
}

/// The quiet time after the last finished shard, and a heartbeat; ends with the order to stop.
fn settle(rig: &mut Rig) {
    for _ in 0..81 {
        if rig.orders().last().is_some_and(|order| order == "stop") {
            return;
        }
        rig.pass(secs(1));
    }
}

#[test]
fn each_shard_gets_its_end_and_the_run_ends_when_all_are_there() {
    let mut rig = bounded(0, &[0, 1]);
    rig.checkpoints.insert(1, "c5".into());
    rig.settle();
    assert_eq!(rig.orders(), ["assign 0 begin-0 to 1000-0", "assign 1 c5 to 1000-1"]);
    rig.safe(0, "1000-0");
    rig.drained(0);
    settle(&mut rig);
    assert_eq!(rig.last_body(), [0, 1], "a finished shard stays ours");
    assert_eq!(rig.lease.outcome(), None, "shard 1 is not done");
    assert_eq!(rig.checkpoints.get(&0).map(String::as_str), Some("1000-0"));
    rig.safe(1, "1000-1");
    rig.drained(1);
    assert!(!rig.saw(|event| matches!(event, LeaseEvent::WaitsForOthers { .. })), "shard 1 was not done");
    rig.pass(secs(30));
    assert!(rig.saw(|event| *event == LeaseEvent::WaitsForOthers { wait: secs(60) }), "and says how long");
    assert_eq!(rig.lease.outcome(), None, "a dead consumer's shard may still come");
    settle(&mut rig);
    assert!(rig.saw(|event| *event == LeaseEvent::AllFinished));
    assert_eq!(rig.last_order(), "stop");
    rig.report(Report::Stopped);
    assert_eq!(rig.lease.outcome(), Some(&Outcome::Drained));
    assert_eq!(rig.checkpoints.get(&1).map(String::as_str), Some("1000-1"));
}

#[test]
fn a_shard_whose_checkpoint_is_the_end_is_finished_at_once() {
    let mut rig = bounded(0, &[0]);
    rig.checkpoints.insert(0, "1000-0".into());
    rig.settle();
    assert_eq!(rig.orders(), [""; 0]);
    assert!(rig.saw(|event| *event == LeaseEvent::ShardFinished { shard: ShardId(0) }));
}

#[test]
fn a_checkpoint_behind_the_end_is_known_by_its_number_and_never_moved_back() {
    // base64 of "20" and "10"
    let mut rig = bounded(0, &[0]);
    rig.checkpoints.insert(0, "MjA=".into());
    rig.fate = Box::new(|call| match call {
        Call::GetCursor { .. } => Fate::Answer(Reply::Cursor(Cursor::new("MTA="))),
        _ => Fate::Serve,
    });
    settle(&mut rig);
    assert_eq!(rig.orders(), ["stop"]);
    assert_eq!(rig.checkpoints.get(&0).map(String::as_str), Some("MjA="));
}

#[test]
fn new_shards_of_a_split_belong_to_the_run() {
    let mut rig = bounded(0, &[0]);
    rig.settle();
    rig.safe(0, "1000-0");
    rig.drained(0);
    rig.ours = vec![0, 1, 2];
    rig.pass(secs(50));
    assert_eq!(rig.orders().iter().filter(|order| order.ends_with("to 1000-2")).count(), 1);
    rig.safe(1, "1000-1");
    rig.drained(1);
    settle(&mut rig);
    assert_eq!(rig.lease.outcome(), None);
    rig.safe(2, "1000-2");
    rig.drained(2);
    settle(&mut rig);
    rig.report(Report::Stopped);
    assert_eq!(rig.lease.outcome(), Some(&Outcome::Drained));
}

#[test]
fn a_time_that_has_not_come_is_waited_for_at_full_speed() {
    let mut rig = bounded(100, &[0]);
    rig.settle();
    assert_eq!(rig.orders(), ["assign 0 begin-0"], "no end is known yet");
    rig.pass(secs(99));
    rig.safe(0, "c8");
    rig.pass(secs(1));
    assert_eq!(rig.last_order(), "revoke 0");
    rig.drained(0);
    rig.pass(secs(1));
    assert_eq!(rig.last_order(), "assign 0 c8 to 1000-0");
}

#[test]
fn between_the_time_and_its_position_nothing_is_pulled() {
    let pause_from = Instant(1_000_000_000_000) + secs(100);
    let stop = Some(Bound { at: UnixTime::from_secs(1_000), pause_from, known_from: pause_from + secs(3) });
    let mut rig = Rig::with(Params { stop, ..params() }, &[0]);
    rig.settle();
    rig.pass(secs(100));
    assert_eq!(rig.last_order(), "revoke 0");
    rig.drained(0);
    rig.pass(secs(2));
    assert_eq!(rig.last_order(), "revoke 0", "SLS would name the end of today");
    rig.pass(secs(1));
    assert_eq!(rig.last_order(), "assign 0 begin-0 to 1000-0");
}

#[test]
fn a_consumer_without_a_shard_ends_too() {
    let mut rig = bounded(0, &[]);
    rig.settle();
    settle(&mut rig);
    rig.report(Report::Stopped);
    assert_eq!(rig.lease.outcome(), Some(&Outcome::Drained));
}

#[test]
fn an_end_that_cannot_be_had_is_asked_for_again() {
    let mut rig = bounded(0, &[0]);
    let mut tries = 0;
    rig.fate = Box::new(move |call| match call {
        Call::GetCursor { from, .. } if *from != crate::proto::sls::api::CursorFrom::Begin && tries < 3 => {
            tries += 1;
            Fate::Unreachable
        }
        _ => Fate::Serve,
    });
    rig.pass(secs(10));
    assert_eq!(rig.last_order(), "assign 0 begin-0 to 1000-0");
}

#[test]
fn the_data_plane_is_told_how_long_the_lease_lasts() {
    let mut rig = Rig::new(&[0]);
    rig.settle();
    assert_eq!(rig.until, Some(rig.now + secs(40)));
    rig.pass(secs(20));
    assert_eq!(rig.until, Some(rig.now + secs(40)));
    rig.fate = Box::new(|_| Fate::Unreachable);
    let until = rig.until;
    rig.pass(secs(30));
    assert_eq!(rig.until, until, "a heartbeat that was not answered renews nothing");
}

#[test]
fn a_shard_that_the_data_plane_dropped_too_early_begins_again() {
    let mut rig = Rig::new(&[0]);
    rig.settle();
    rig.safe(0, "c3");
    rig.dropped(0);
    assert_eq!(rig.orders(), ["assign 0 begin-0", "assign 0 c3"]);
    // Of an earlier holding: nothing.
    rig.report(Report::Dropped { shard: ShardId(0), epoch: crate::proto::ids::Epoch(1) });
    assert_eq!(rig.orders().len(), 2);
    assert!(matches!(rig.commands.last(), Some(Command::Assign { .. })));
}
