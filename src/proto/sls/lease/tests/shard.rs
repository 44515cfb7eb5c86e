//! Where a shard begins, what is committed when, and what happens to data that is gone.

use super::rig::{Fate, Rig, lost, params, secs};
use base64::Engine as _;

use crate::proto::event::Report;
use crate::proto::ids::{Cursor, ShardId};
use crate::proto::sls::api::CursorFrom;
use crate::proto::sls::lease::call::{Call, Reply};
use crate::proto::sls::lease::event::LeaseEvent;
use crate::proto::sls::lease::{OnExpired, Params};
use crate::proto::time::UnixTime;

#[test]
fn a_checkpoint_is_used_and_not_saved_again() {
    let mut rig = Rig::new(&[0]);
    rig.checkpoints.insert(0, "c5".into());
    rig.pass(secs(10));
    assert_eq!(rig.orders(), ["assign 0 c5"]);
    assert_eq!(rig.commits(0), Vec::<&str>::new());
}

#[test]
fn without_a_checkpoint_the_start_setting_counts_and_is_saved_at_once() {
    for (start, text) in [
        (CursorFrom::Begin, "begin-0"),
        (CursorFrom::End, "end-0"),
        (CursorFrom::Time(UnixTime::from_secs(17)), "17-0"),
    ] {
        let mut rig = Rig::with(Params { start, ..params() }, &[0]);
        rig.checkpoints.insert(0, String::new());
        rig.settle();
        assert_eq!(rig.orders(), [format!("assign 0 {text}")]);
        assert_eq!(rig.commits(0), [text]);
    }
}

#[test]
fn a_shard_that_comes_later_begins_at_the_start_of_the_process_where_others_begin_at_the_end() {
    let mut rig = Rig::with(Params { start: CursorFrom::End, ..params() }, &[0]);
    rig.settle();
    // A split: its child has been written to since before anybody could hold it.
    rig.ours = vec![0, 1];
    rig.pass(secs(20));
    assert_eq!(rig.orders(), ["assign 0 end-0", "assign 1 1690000000-1"]);
}

#[test]
fn a_last_commit_that_has_left_the_retention_holds_nothing_up() {
    let mut rig = Rig::new(&[0]);
    rig.settle();
    rig.safe(0, "c5");
    rig.fate = Box::new(|call| match call {
        Call::UpdateCheckpoint { .. } => Fate::Refuse("InvalidCursor"),
        _ => Fate::Serve,
    });
    rig.expired(0, "c5");
    rig.drained(0);
    rig.pass(secs(2));
    assert_eq!(rig.last_order(), "assign 0 begin-0", "{:?}", rig.events);
    assert!(rig.events.iter().any(|event| matches!(event, LeaseEvent::RetentionGap { .. })));
}

#[test]
fn a_commit_that_finds_the_consumer_unknown_gives_every_shard_up_and_joins_again() {
    let mut rig = Rig::new(&[0, 1]);
    rig.settle();
    rig.fate = Box::new(|call| match call {
        Call::UpdateCheckpoint { .. } => Fate::Refuse("ConsumerNotExist"),
        _ => Fate::Serve,
    });
    let beats = rig.bodies().len();
    rig.safe(0, "c5");
    rig.pass(secs(4));
    let orders = rig.orders();
    assert!(
        orders.contains(&"abandon 0".to_owned()) && orders.contains(&"abandon 1".to_owned()),
        "{orders:?}"
    );
    rig.fate = Box::new(|_| Fate::Serve);
    rig.pass(secs(2));
    assert!(rig.bodies().len() > beats, "it does not wait for the next regular heartbeat");
    assert_eq!(rig.bodies()[beats], Vec::<u32>::new());
}

#[test]
fn a_shard_lost_before_its_first_commit_goes_on_where_it_was_and_not_at_the_end() {
    let mut rig = Rig::with(Params { start: CursorFrom::End, ..params() }, &[0]);
    rig.fate = Box::new(|call| match call {
        Call::UpdateCheckpoint { .. } => Fate::Unreachable,
        _ => Fate::Serve,
    });
    rig.settle();
    rig.safe(0, "c4");
    rig.fate = Box::new(|_| Fate::Unreachable);
    rig.pass(secs(41));
    rig.fate = Box::new(|_| Fate::Serve);
    rig.pass(secs(21));
    assert_eq!(rig.last_order(), "assign 0 c4");
}

#[test]
fn safe_cursors_coalesce_and_the_latest_wins() {
    let mut rig = Rig::new(&[0]);
    rig.settle();
    for step in 1..=20 {
        rig.safe(0, &format!("c{step}"));
        rig.pass(secs(1) / 10);
    }
    assert_eq!(rig.commits(0), ["begin-0"], "not more often than the interval");
    rig.pass(secs(1));
    assert_eq!(rig.commits(0), ["begin-0", "c20"]);
    rig.pass(secs(15));
    assert_eq!(rig.commits(0), ["begin-0", "c20"], "an unmoved checkpoint is not sent every interval");
}

#[test]
fn an_unmoved_checkpoint_is_repeated_slowly_so_that_a_read_only_shard_is_let_go() {
    let mut rig = Rig::new(&[0]);
    rig.checkpoints.insert(0, "end".into());
    rig.pass(secs(61));
    assert_eq!(rig.commits(0), ["end"; 3]);
}

#[test]
fn one_commit_of_a_shard_is_open_at_a_time_and_saved_never_goes_back() {
    let mut rig = Rig::new(&[0]);
    rig.settle();
    rig.fate = Box::new(|call| match call {
        Call::UpdateCheckpoint { .. } => Fate::Hold,
        _ => Fate::Serve,
    });
    rig.pass(secs(4));
    rig.safe(0, "c1");
    rig.pass(secs(4));
    rig.safe(0, "c2");
    rig.pass(secs(4));
    assert_eq!(rig.held.len(), 1);
    rig.answer(0, Ok(Reply::Done));
    rig.pass(secs(3));
    let (_, next) = &rig.held[0];
    assert_eq!(*next, Call::UpdateCheckpoint { shard: ShardId(0), cursor: Cursor::new("c2") });
}

#[test]
fn a_failed_commit_is_sent_again_with_what_is_safe_by_then() {
    let mut rig = Rig::new(&[0]);
    rig.settle();
    rig.fate = Box::new(|call| match call {
        Call::UpdateCheckpoint { .. } => Fate::Refuse("InternalServerError"),
        _ => Fate::Serve,
    });
    rig.safe(0, "c1");
    rig.pass(secs(30));
    rig.safe(0, "c2");
    rig.fate = Box::new(|_| Fate::Serve);
    rig.pass(secs(31));
    assert_eq!(rig.checkpoints.get(&0).map(String::as_str), Some("c2"));
    assert_eq!(rig.orders().len(), 1, "work went on all the time");
    let told = rig.events.iter().filter(|event| matches!(event, LeaseEvent::ShardHeld { .. })).count();
    assert_eq!(told, 1);
    assert!(rig.saw(|event| matches!(event, LeaseEvent::ShardResumed { .. })));
}

#[test]
fn an_answer_of_the_wrong_kind_is_tried_again() {
    let mut rig = Rig::new(&[0]);
    let mut garbage =
        vec![Reply::Checkpoint(Some(Cursor::new(&"x".repeat(10_000)))), Reply::Done, Reply::CursorTime(1)];
    rig.fate = Box::new(move |call| match call {
        Call::GetCheckpoint { .. } => garbage.pop().map_or(Fate::Serve, Fate::Answer),
        _ => Fate::Serve,
    });
    rig.settle();
    assert_eq!(rig.orders(), Vec::<String>::new());
    rig.pass(secs(10));
    assert_eq!(rig.orders(), ["assign 0 begin-0"]);
}

#[test]
fn an_expired_cursor_drains_jumps_to_the_oldest_data_and_tells_the_gap() {
    let mut rig = Rig::new(&[0]);
    rig.checkpoints.insert(0, "c1".into());
    rig.settle();
    rig.safe(0, "c4");
    rig.expired(0, "c4");
    assert_eq!(rig.last_order(), "revoke 0", "what is in flight cannot be pulled again");
    rig.drained(0);
    rig.pass(secs(1));
    assert_eq!(rig.last_order(), "assign 0 begin-0");
    let gap = LeaseEvent::RetentionGap {
        shard: ShardId(0),
        from: Cursor::new("c4"),
        from_time: Some(1_600_000_000),
        to: Cursor::new("begin-0"),
        to_time: Some(1_700_000_000),
    };
    assert!(rig.saw(|event| *event == gap), "{:?}", rig.events);
    assert_eq!(rig.lease.counters().retention_gaps, 1);
    assert_eq!(rig.checkpoints.get(&0).map(String::as_str), Some("begin-0"), "told once, not at every start");
}

#[test]
fn a_gap_is_told_without_times_where_they_cannot_be_had() {
    let mut rig = Rig::new(&[0]);
    rig.checkpoints.insert(0, "c1".into());
    rig.fate = Box::new(|call| match call {
        Call::GetCursorTime { .. } => Fate::Refuse("InvalidCursor"),
        _ => Fate::Serve,
    });
    rig.settle();
    rig.expired(0, "c1");
    rig.drained(0);
    rig.pass(secs(1));
    assert!(
        rig.saw(|event| matches!(event, LeaseEvent::RetentionGap { from_time: None, to_time: None, .. }))
    );
    assert_eq!(rig.last_order(), "assign 0 begin-0");
}

#[test]
fn a_jump_of_the_service_is_a_gap_only_where_the_oldest_data_is_later() {
    let number =
        |number: u64| Cursor::new(&base64::engine::general_purpose::STANDARD.encode(number.to_string()));
    for (oldest, gap, next) in [(120, true, 120), (100, false, 100), (70, false, 100)] {
        let mut rig = Rig::new(&[0]);
        rig.checkpoints.insert(0, number(100).as_str().into());
        let reply = number(oldest);
        rig.fate = Box::new(move |call| match call {
            Call::GetCursor { .. } => Fate::Answer(Reply::Cursor(reply.clone())),
            _ => Fate::Serve,
        });
        rig.settle();
        let epoch = rig.epoch(0);
        rig.report(Report::CursorExpired { shard: ShardId(0), epoch, cursor: number(100), refused: false });
        rig.drained(0);
        rig.pass(secs(2));
        assert_eq!(rig.last_order(), format!("assign 0 {}", number(next).as_str()), "{oldest}");
        assert_eq!(rig.saw(|event| matches!(event, LeaseEvent::RetentionGap { .. })), gap, "{oldest}");
    }
}

#[test]
fn a_range_that_expires_while_it_is_pulled_again_does_not_hold_up_a_hand_over() {
    let mut rig = Rig::new(&[0]);
    rig.settle();
    rig.fate = Box::new(|call| match call {
        Call::UpdateCheckpoint { .. } => Fate::Answer(Reply::Done),
        _ => Fate::Serve,
    });
    rig.safe(0, "c5");
    rig.ours = vec![];
    rig.pass(secs(20));
    assert_eq!(rig.last_order(), "revoke 0");
    rig.expired(0, "c5");
    assert_eq!(rig.last_order(), "abandon 0");
    assert_eq!(rig.commits(0).last(), Some(&"c5"));
}

#[test]
fn oldest_data_that_expires_again_and_again_is_not_chased_in_a_tight_loop() {
    let mut rig = Rig::new(&[0]);
    rig.settle();
    let begin = rig.now;
    let mut jumps = 0_u32;
    while rig.now.since(begin) < secs(600) {
        if rig.last_order().starts_with("assign") {
            rig.expired(0, "begin-0");
            rig.drained(0);
            jumps += 1;
        }
        rig.pass(secs(1) / 10);
    }
    assert!((10..80).contains(&jumps), "{jumps} jumps in ten minutes");
}

#[test]
fn with_stop_an_expired_cursor_holds_the_shard() {
    let mut rig = Rig::with(Params { on_expired_cursor: OnExpired::Stop, ..params() }, &[0]);
    rig.checkpoints.insert(0, "c1".into());
    rig.settle();
    rig.expired(0, "c1");
    rig.pass(secs(300));
    assert_eq!(rig.orders(), ["assign 0 c1"]);
    assert!(rig.saw(|event| matches!(event, LeaseEvent::CursorExpiredHeld { .. })));
    assert_eq!(rig.last_body(), [0], "it stays ours");
}

#[test]
fn a_shard_that_does_not_exist_any_more_is_dropped() {
    let mut rig = Rig::new(&[0, 1]);
    rig.settle();
    rig.ours = vec![1];
    rig.fate = Box::new(|call| match call {
        Call::UpdateCheckpoint { shard: ShardId(0), .. } => Fate::Refuse("ShardNotExist"),
        _ => Fate::Serve,
    });
    rig.safe(0, "c1");
    rig.pass(secs(4));
    assert_eq!(rig.last_order(), "abandon 0");
    assert_eq!(rig.last_body(), [1]);
}

#[test]
fn a_drain_that_nobody_asked_for_begins_the_shard_again() {
    let mut rig = Rig::new(&[0]);
    rig.settle();
    rig.safe(0, "c2");
    rig.drained(0);
    assert_eq!(rig.orders(), ["assign 0 begin-0", "assign 0 c2"]);
}

#[test]
fn a_late_answer_of_an_earlier_holding_moves_nothing_and_blocks_the_next_only_until_it_is_there() {
    let mut rig = Rig::new(&[0]);
    rig.settle();
    rig.fate = Box::new(|call| match call {
        Call::UpdateCheckpoint { .. } => Fate::Hold,
        Call::Heartbeat { .. } => Fate::Unreachable,
        _ => Fate::Serve,
    });
    rig.safe(0, "c1");
    rig.pass(secs(41));
    rig.fate = Box::new(|_| Fate::Serve);
    rig.pass(secs(21));
    assert_eq!(rig.last_order(), "abandon 0", "the old commit could still land");
    rig.answer(0, Err(lost()));
    rig.pass(secs(1));
    assert_eq!(rig.last_order(), "assign 0 begin-0");
}

#[test]
fn one_seed_gives_one_history() {
    let history = |seed| {
        let mut rig = Rig::with(Params { seed, ..params() }, &[0, 1, 2]);
        let mut count = 0_u32;
        rig.fate = Box::new(move |_| {
            count += 1;
            if count.is_multiple_of(3) { Fate::Unreachable } else { Fate::Serve }
        });
        rig.pass(secs(300));
        (rig.calls, rig.events)
    };
    assert_eq!(history(1), history(1));
    assert_ne!(history(1), history(2));
}
