//! Shards that come and go, heartbeats that fail, leases that end.

use super::rig::{Fate, Rig, lost, params, secs};
use crate::proto::event::Report;
use crate::proto::ids::ShardId;
use crate::proto::sls::lease::call::{Call, Reply};
use crate::proto::sls::lease::event::{LeaseEvent, Lost};
use crate::proto::sls::lease::{Params, SHARDS_MAX};

fn ids(shards: &[u32]) -> Vec<ShardId> {
    shards.iter().map(|&shard| ShardId(shard)).collect()
}

#[test]
fn a_shard_stays_in_the_body_until_it_is_drained_and_saved() {
    let mut rig = Rig::new(&[0, 1]);
    rig.settle();
    rig.safe(1, "c5");
    rig.pass(secs(10));
    // The server wants shard 1 back. Until we leave it out it still takes our commits.
    rig.fate = Box::new(|call| match call {
        Call::Heartbeat { .. } => Fate::Answer(Reply::Shards(ids(&[0]))),
        _ => Fate::Serve,
    });
    rig.pass(secs(12));
    assert_eq!(rig.last_order(), "revoke 1");
    rig.pass(secs(20));
    assert_eq!(rig.last_body(), [0, 1], "it is still draining");
    rig.fate = Box::new(|call| match call {
        Call::UpdateCheckpoint { .. } => Fate::Hold,
        Call::Heartbeat { .. } => Fate::Answer(Reply::Shards(ids(&[0]))),
        _ => Fate::Serve,
    });
    rig.safe(1, "c9");
    rig.drained(1);
    rig.pass(secs(5));
    let (_, commit) = rig
        .held
        .iter()
        .find(|(_, call)| matches!(call, Call::UpdateCheckpoint { shard, .. } if shard.0 == 1))
        .cloned()
        .unwrap();
    assert!(matches!(&commit, Call::UpdateCheckpoint { cursor, .. } if cursor.as_str() == "c9"));
    rig.pass(secs(9));
    assert_eq!(rig.last_body(), [0, 1], "its last checkpoint is on its way");
    let index = rig.held.iter().position(|(_, call)| *call == commit).unwrap();
    rig.answer(index, Ok(Reply::Done));
    rig.pass(secs(1));
    assert_eq!(rig.last_body(), [0], "and somebody waits for it, so the body is sent soon");
    assert!(rig.saw(|event| *event == LeaseEvent::ShardReleased { shard: ShardId(1), saved: true }));
    assert_eq!(rig.last_order(), "revoke 1", "nothing was cut");
}

#[test]
fn a_drain_that_does_not_end_is_cut_and_what_is_safe_is_saved() {
    let mut rig = Rig::new(&[0]);
    rig.settle();
    rig.fate = Box::new(|call| match call {
        Call::Heartbeat { .. } => Fate::Answer(Reply::Shards(Vec::new())),
        _ => Fate::Serve,
    });
    rig.pass(secs(59));
    assert_eq!(rig.last_order(), "revoke 0");
    rig.safe(0, "c3");
    rig.pass(secs(1));
    assert_eq!(rig.last_order(), "abandon 0");
    assert_eq!(rig.commits(0).last(), Some(&"c3"));
    assert!(rig.saw(|event| *event == LeaseEvent::DrainTimedOut { shard: ShardId(0), waited: secs(40) }));
    rig.pass(secs(3));
    assert_eq!(rig.last_body(), Vec::<u32>::new());
}

#[test]
fn a_last_commit_that_does_not_get_through_is_given_up() {
    let mut rig = Rig::new(&[0]);
    rig.settle();
    rig.fate = Box::new(|call| match call {
        Call::Heartbeat { .. } => Fate::Answer(Reply::Shards(Vec::new())),
        _ => Fate::Unreachable,
    });
    rig.pass(secs(20));
    rig.safe(0, "c3");
    rig.drained(0);
    rig.pass(secs(14));
    assert_eq!(rig.last_body(), [0]);
    rig.pass(secs(3));
    assert!(rig.saw(|event| *event == LeaseEvent::ShardReleased { shard: ShardId(0), saved: false }));
    assert_eq!(rig.last_body(), Vec::<u32>::new());
}

#[test]
fn a_shard_that_comes_back_while_it_drains_begins_again_at_its_checkpoint() {
    let mut rig = Rig::new(&[0]);
    rig.settle();
    rig.fate = Box::new(|call| match call {
        Call::Heartbeat { .. } => Fate::Answer(Reply::Shards(Vec::new())),
        _ => Fate::Serve,
    });
    rig.pass(secs(21));
    rig.fate = Box::new(|_| Fate::Serve);
    rig.pass(secs(20));
    let old = rig.epoch(0);
    rig.safe(0, "c4");
    rig.drained(0);
    assert_eq!(rig.orders(), ["assign 0 begin-0", "revoke 0", "assign 0 c4"]);
    assert!(rig.epoch(0) > old);
    assert!(rig.bodies().iter().skip(1).all(|body| body == &[0]), "it was never left out");
}

#[test]
fn failures_shorter_than_the_timeout_change_nothing() {
    let mut rig = Rig::new(&[0]);
    rig.settle();
    rig.fate = Box::new(|_| Fate::Unreachable);
    rig.pass(secs(37));
    rig.fate = Box::new(|_| Fate::Serve);
    rig.pass(secs(23));
    assert_eq!(rig.orders(), ["assign 0 begin-0"]);
    let failing =
        rig.events.iter().filter(|event| matches!(event, LeaseEvent::HeartbeatFailing { .. })).count();
    assert_eq!(failing, 1, "told once");
    assert!(rig.saw(|event| matches!(event, LeaseEvent::HeartbeatRestored { failures } if *failures > 1)));
    assert!(rig.lease.counters().heartbeat_failures > 1);
}

#[test]
fn at_the_timeout_counted_from_the_sending_everything_stops_and_begins_afresh() {
    let mut rig = Rig::new(&[0, 1]);
    // The first heartbeat is answered three seconds after it was sent.
    rig.fate = Box::new(|call| match call {
        Call::Heartbeat { .. } => Fate::Hold,
        _ => Fate::Serve,
    });
    rig.settle();
    rig.freeze(secs(3));
    rig.answer(0, Ok(Reply::Shards(ids(&[0, 1]))));
    rig.safe(0, "c2");
    rig.fate = Box::new(|_| Fate::Unreachable);
    rig.pass(secs(36));
    assert_eq!(rig.orders().len(), 2);
    rig.pass(secs(1));
    assert_eq!(rig.orders()[2..], ["abandon 0", "abandon 1"]);
    assert!(rig.saw(|event| *event == LeaseEvent::LeaseExpired { shards: ids(&[0, 1]) }));
    rig.fate = Box::new(|_| Fate::Serve);
    rig.checkpoints.insert(0, "c8".into());
    rig.pass(secs(21));
    assert_eq!(rig.orders()[4..], ["assign 0 c8", "assign 1 begin-1"], "others may have got on meanwhile");
    let empty = rig.bodies().iter().rev().find(|body| body.is_empty()).cloned();
    assert_eq!(empty, Some(Vec::new()), "what was stopped is not claimed");
}

#[test]
fn a_frozen_process_acts_on_nothing_before_it_has_seen_that_its_lease_is_over() {
    let mut rig = Rig::new(&[0]);
    rig.settle();
    rig.safe(0, "c2");
    let commits = rig.commits(0).len();
    rig.freeze(secs(41));
    rig.safe(0, "c3");
    assert_eq!(rig.commits(0).len(), commits, "a zombie must not commit");
    assert_eq!(rig.orders()[1], "abandon 0");
    // The same, woken by the timer.
    let mut rig = Rig::new(&[0]);
    rig.settle();
    rig.safe(0, "c2");
    let commits = rig.commits(0).len();
    rig.freeze(secs(41));
    rig.settle();
    assert_eq!(rig.commits(0).len(), commits);
    assert_eq!(rig.orders()[1], "abandon 0");
}

#[test]
fn a_heartbeat_answer_that_is_older_than_the_timeout_is_not_believed() {
    let mut rig = Rig::new(&[0]);
    rig.fate = Box::new(|call| match call {
        Call::Heartbeat { .. } => Fate::Hold,
        _ => Fate::Serve,
    });
    rig.settle();
    rig.freeze(secs(40));
    rig.fate = Box::new(|_| Fate::Serve);
    rig.answer(0, Ok(Reply::Shards(ids(&[3]))));
    assert_eq!(rig.bodies().len(), 2, "asked again at once");
    assert_eq!(rig.orders(), ["assign 0 begin-0"]);
}

#[test]
fn a_refused_commit_drops_the_shard_at_once() {
    let mut rig = Rig::new(&[0, 1]);
    rig.settle();
    rig.ours = vec![1];
    rig.safe(0, "c2");
    rig.pass(secs(4));
    assert_eq!(rig.last_order(), "abandon 0");
    assert!(rig.saw(|event| *event == LeaseEvent::ShardLost { shard: ShardId(0), why: Lost::NotHolder }));
    assert_eq!(rig.lease.counters().checkpoint_conflicts, 1);
    assert_eq!(rig.last_body(), [1]);
}

#[test]
fn a_lost_shard_is_not_taken_from_an_answer_to_an_older_heartbeat() {
    let mut rig = Rig::new(&[0]);
    rig.settle();
    rig.pass(secs(19));
    rig.fate = Box::new(|call| match call {
        Call::Heartbeat { .. } => Fate::Hold,
        Call::UpdateCheckpoint { .. } => Fate::Refuse("ConsumerNotMatch"),
        _ => Fate::Serve,
    });
    rig.pass(secs(2));
    rig.safe(0, "c2");
    assert_eq!(rig.last_order(), "abandon 0");
    rig.answer(0, Ok(Reply::Shards(ids(&[0]))));
    assert_eq!(rig.last_order(), "abandon 0");
    rig.pass(secs(2));
    assert_eq!(rig.last_body(), Vec::<u32>::new());
    rig.answer(0, Ok(Reply::Shards(ids(&[0]))));
    assert!(rig.last_order().starts_with("assign 0"), "a newer answer may give it back");
}

#[test]
fn a_consumer_that_the_server_gave_up_drops_everything_and_goes_on_beating() {
    let mut rig = Rig::new(&[0, 1]);
    rig.settle();
    let mut first = true;
    rig.fate = Box::new(move |call| match call {
        Call::Heartbeat { .. } if std::mem::take(&mut first) => Fate::Refuse("ConsumerNotExsit"),
        _ => Fate::Serve,
    });
    rig.pass(secs(20));
    assert_eq!(rig.orders()[2..], ["abandon 0", "abandon 1"]);
    rig.pass(secs(2));
    assert_eq!(rig.orders()[4..], ["assign 0 begin-0", "assign 1 begin-1"]);
}

#[test]
fn shards_of_a_lost_answer_come_with_the_next_one() {
    let mut rig = Rig::new(&[0]);
    let mut first = true;
    rig.fate = Box::new(move |call| match call {
        Call::Heartbeat { .. } if std::mem::take(&mut first) => Fate::LoseReply,
        _ => Fate::Serve,
    });
    rig.settle();
    assert_eq!(rig.orders(), Vec::<String>::new());
    rig.pass(secs(2));
    assert_eq!(rig.orders(), ["assign 0 begin-0"]);
}

#[test]
fn repeats_are_taken_once_and_an_absurd_answer_is_a_failure() {
    let mut rig = Rig::new(&[2, 0, 2, 0, 4_294_967_295]);
    rig.settle();
    assert_eq!(rig.orders().len(), 3);
    let many: Vec<ShardId> = (0..=u32::try_from(SHARDS_MAX).unwrap()).map(ShardId).collect();
    rig.fate = Box::new(move |call| match call {
        Call::Heartbeat { .. } => Fate::Answer(Reply::Shards(many.clone())),
        _ => Fate::Serve,
    });
    rig.pass(secs(20));
    assert_eq!(rig.orders().len(), 3);
    assert_eq!(rig.lease.counters().heartbeat_failures, 1);
}

#[test]
fn a_slow_commit_never_delays_a_heartbeat() {
    let mut rig = Rig::with(Params { calls_max: 1, ..params() }, &[0, 1, 2]);
    rig.settle();
    rig.fate = Box::new(|call| match call {
        Call::UpdateCheckpoint { .. } => Fate::Hold,
        _ => Fate::Serve,
    });
    rig.safe(0, "c1");
    rig.pass(secs(61));
    assert_eq!(rig.held.len(), 1, "one call open, as asked");
    assert_eq!(rig.bodies().len(), 4);
    rig.answer(0, Err(lost()));
    assert_eq!(rig.held.len(), 1, "and then the next");
}

#[test]
fn reports_of_an_earlier_holding_are_ignored() {
    let mut rig = Rig::new(&[0]);
    rig.settle();
    let old = rig.epoch(0);
    rig.fate = Box::new(|_| Fate::Unreachable);
    rig.pass(secs(41));
    rig.fate = Box::new(|_| Fate::Serve);
    rig.pass(secs(21));
    assert!(rig.epoch(0) > old);
    rig.safe_of(0, old, "old");
    rig.report(Report::Drained { shard: ShardId(0), epoch: old });
    rig.report(Report::CursorExpired {
        shard: ShardId(0),
        epoch: old,
        cursor: crate::proto::ids::Cursor::new("x"),
        refused: true,
    });
    rig.safe_of(77, old, "nobody");
    rig.pass(secs(5));
    assert!(!rig.commits(0).contains(&"old"));
    assert_eq!(rig.last_order(), "assign 0 begin-0");
}
