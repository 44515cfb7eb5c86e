//! The order of a stop.

use super::rig::{Fate, Rig, params, secs};
use crate::proto::event::Report;
use crate::proto::sls::lease::Params;
use crate::proto::sls::lease::call::Call;
use crate::proto::sls::lease::event::Outcome;

impl Rig {
    fn stop(&mut self) {
        self.lease.handle_stop(self.now);
        self.settle();
    }

    fn undrained(&self) -> Option<Vec<u32>> {
        match self.lease.outcome() {
            Some(Outcome::Undrained { shards }) => Some(shards.iter().map(|shard| shard.0).collect()),
            _ => None,
        }
    }
}

#[test]
fn drain_then_commit_then_the_empty_heartbeat_then_the_end() {
    let mut rig = Rig::new(&[0, 1]);
    rig.settle();
    rig.safe(0, "a1");
    rig.safe(1, "b1");
    let before = rig.calls.len();
    rig.stop();
    assert_eq!(rig.last_order(), "stop");
    assert_eq!(rig.calls.len(), before, "nothing to ask while the data plane drains");
    rig.safe(0, "a2");
    rig.drained(0);
    rig.safe(1, "b2");
    rig.drained(1);
    assert_eq!(rig.lease.outcome(), None);
    rig.report(Report::Stopped);
    assert_eq!(rig.lease.outcome(), Some(&Outcome::Drained));
    let after: Vec<&Call> = rig.calls[before..].iter().map(|(_, call)| call).collect();
    assert!(matches!(after[0], Call::UpdateCheckpoint { cursor, .. } if cursor.as_str() == "a2"));
    assert!(matches!(after[1], Call::UpdateCheckpoint { cursor, .. } if cursor.as_str() == "b2"));
    assert!(matches!(after[2], Call::Heartbeat { shards } if shards.is_empty()));
    assert_eq!(after.len(), 3);
    assert_eq!(rig.lease.poll_timeout(), None);
}

#[test]
fn what_does_not_drain_in_time_is_still_saved_as_far_as_it_is_safe() {
    let mut rig = Rig::with(Params { checkpoint_interval: secs(60), ..params() }, &[0]);
    rig.settle();
    rig.stop();
    rig.pass(secs(26));
    rig.safe(0, "late");
    rig.pass(secs(4));
    assert_eq!(rig.commits(0).last(), Some(&"late"));
    assert_eq!(rig.undrained(), Some(vec![0]));
}

#[test]
fn heartbeats_go_on_while_it_drains_and_new_shards_are_not_taken() {
    let mut rig = Rig::new(&[0]);
    rig.settle();
    rig.stop();
    rig.ours = vec![0, 1];
    rig.pass(secs(25));
    assert_eq!(rig.last_body(), [0]);
    assert_eq!(rig.orders(), ["assign 0 begin-0", "stop"]);
    rig.drained(0);
    rig.report(Report::Stopped);
    assert_eq!(rig.lease.outcome(), Some(&Outcome::Drained));
}

#[test]
fn what_the_data_plane_does_not_know_is_let_go_at_once() {
    let mut rig = Rig::new(&[0]);
    rig.fate = Box::new(|call| match call {
        Call::GetCheckpoint { .. } => Fate::Hold,
        _ => Fate::Serve,
    });
    rig.settle();
    rig.stop();
    rig.report(Report::Stopped);
    assert_eq!(rig.lease.outcome(), Some(&Outcome::Drained));
    assert_eq!(rig.orders(), ["stop"]);
}

#[test]
fn the_report_that_all_is_stopped_counts_for_every_shard() {
    let mut rig = Rig::new(&[0, 1]);
    rig.settle();
    rig.safe(0, "a1");
    rig.stop();
    rig.report(Report::Stopped);
    assert_eq!(rig.lease.outcome(), Some(&Outcome::Drained));
    assert_eq!(rig.checkpoints.get(&0).map(String::as_str), Some("a1"));
}

#[test]
fn the_deadline_is_hard_and_says_what_was_not_drained() {
    let mut rig = Rig::new(&[0, 1]);
    rig.settle();
    rig.stop();
    rig.drained(0);
    rig.pass(secs(29));
    assert_eq!(rig.lease.outcome(), None);
    rig.pass(secs(1));
    assert_eq!(rig.undrained(), Some(vec![1]));
    assert_eq!(rig.last_order(), "abandon 1");
}

#[test]
fn a_checkpoint_that_cannot_be_saved_counts_as_not_drained() {
    let mut rig = Rig::new(&[0]);
    rig.settle();
    rig.safe(0, "a1");
    rig.fate = Box::new(|call| match call {
        Call::UpdateCheckpoint { .. } => Fate::Unreachable,
        _ => Fate::Serve,
    });
    rig.stop();
    rig.report(Report::Stopped);
    rig.pass(secs(31));
    assert_eq!(rig.undrained(), Some(vec![0]));
}

#[test]
fn a_lease_that_ends_during_the_stop_cuts_it() {
    let mut rig = Rig::new(&[0]);
    rig.settle();
    rig.pass(secs(19));
    rig.fate = Box::new(|_| Fate::Unreachable);
    rig.stop();
    rig.pass(secs(22));
    assert_eq!(rig.last_order(), "abandon 0");
    rig.report(Report::Stopped);
    assert_eq!(rig.undrained(), Some(vec![0]));
}

#[test]
fn a_stop_before_the_first_lease_waits_for_the_data_plane_only() {
    let mut rig = Rig::new(&[]);
    rig.fate = Box::new(|_| Fate::Unreachable);
    rig.settle();
    rig.stop();
    assert_eq!(rig.lease.outcome(), None);
    rig.report(Report::Stopped);
    assert_eq!(rig.lease.outcome(), Some(&Outcome::Drained));
}

#[test]
fn a_lost_farewell_does_not_hold_the_stop() {
    let mut rig = Rig::new(&[0]);
    rig.settle();
    rig.fate = Box::new(|call| match call {
        Call::Heartbeat { shards } if shards.is_empty() => Fate::LoseReply,
        _ => Fate::Serve,
    });
    rig.stop();
    rig.drained(0);
    rig.report(Report::Stopped);
    assert_eq!(rig.lease.outcome(), Some(&Outcome::Drained));
    assert_eq!(
        rig.bodies().iter().filter(|body| body.is_empty()).count(),
        2,
        "the first one and the last one"
    );
}

#[test]
fn a_second_stop_changes_nothing() {
    let mut rig = Rig::new(&[0]);
    rig.settle();
    rig.stop();
    rig.stop();
    assert_eq!(rig.orders(), ["assign 0 begin-0", "stop"]);
}
