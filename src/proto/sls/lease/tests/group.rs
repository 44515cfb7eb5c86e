//! Finding, making and joining the group.

use super::rig::{Fate, Rig, params, secs};
use crate::proto::sls::api::answer::Group;
use crate::proto::sls::lease::Params;
use crate::proto::sls::lease::call::Call;
use crate::proto::sls::lease::event::{LeaseEvent, Outcome};

#[test]
fn a_group_with_our_settings_is_joined_at_once_with_an_empty_body() {
    let mut rig = Rig::new(&[]);
    rig.settle();
    assert_eq!(rig.names(), ["ListConsumerGroup", "ConsumerGroupHeartBeat"]);
    assert_eq!(rig.bodies(), [Vec::<u32>::new()]);
    assert!(rig.lease.is_joined());
}

#[test]
fn a_missing_group_is_made() {
    let mut rig = Rig::new(&[]);
    rig.group = None;
    rig.settle();
    assert_eq!(rig.names(), ["ListConsumerGroup", "CreateConsumerGroup", "ConsumerGroupHeartBeat"]);
    assert_eq!(rig.calls[1].1, Call::CreateGroup { timeout_secs: 40, in_order: false });
    assert!(rig.saw(|event| *event == LeaseEvent::GroupCreated));
}

#[test]
fn a_group_with_other_settings_is_updated() {
    for (timeout_secs, in_order) in [(60, false), (40, true)] {
        let mut rig = Rig::new(&[]);
        rig.group = Some(Group { name: "g".into(), timeout_secs, order: in_order });
        rig.settle();
        assert_eq!(rig.names(), ["ListConsumerGroup", "UpdateConsumerGroup", "ConsumerGroupHeartBeat"]);
        assert!(rig.saw(|event| *event == LeaseEvent::GroupUpdated));
    }
}

#[test]
fn without_the_right_to_list_the_group_is_created_and_then_updated() {
    let mut rig = Rig::new(&[]);
    rig.fate = Box::new(|call| match call {
        Call::ListGroups => Fate::Refuse("Unauthorized"),
        _ => Fate::Serve,
    });
    rig.settle();
    let expected =
        ["ListConsumerGroup", "CreateConsumerGroup", "UpdateConsumerGroup", "ConsumerGroupHeartBeat"];
    assert_eq!(rig.names(), expected);
}

#[test]
fn with_the_right_to_heartbeat_only_the_first_heartbeat_decides() {
    let mut rig = Rig::new(&[0]);
    rig.fate = Box::new(|call| match call {
        Call::ListGroups | Call::CreateGroup { .. } | Call::UpdateGroup { .. } => {
            Fate::Refuse("Unauthorized")
        }
        _ => Fate::Serve,
    });
    rig.settle();
    assert!(rig.lease.is_joined());
    assert_eq!(rig.last_order(), "assign 0 begin-0");
}

#[test]
fn an_update_that_is_denied_means_living_by_the_shorter_timeout() {
    let mut rig = Rig::new(&[0]);
    rig.group = Some(Group { name: "g".into(), timeout_secs: 25, order: false });
    rig.fate = Box::new(|call| match call {
        Call::UpdateGroup { .. } => Fate::Refuse("Unauthorized"),
        _ => Fate::Serve,
    });
    rig.settle();
    assert!(rig.saw(|event| matches!(event, LeaseEvent::GroupUpdateRefused { .. })));
    rig.fate = Box::new(|_| Fate::Unreachable);
    rig.pass(secs(24));
    assert_ne!(rig.last_order(), "abandon 0");
    rig.pass(secs(1));
    assert_eq!(rig.last_order(), "abandon 0");
}

#[test]
fn a_full_logstore_is_waited_for_and_told_once() {
    let mut rig = Rig::new(&[0]);
    rig.group = None;
    rig.fate = Box::new(|call| match call {
        Call::CreateGroup { .. } => Fate::Refuse("ConsumerGroupQuotaExceed"),
        _ => Fate::Serve,
    });
    rig.pass(secs(1_200));
    let held = rig.events.iter().filter(|event| matches!(event, LeaseEvent::Held { .. })).count();
    assert_eq!(held, 1, "{:?}", rig.events);
    let tries = rig.names().iter().filter(|name| **name == "CreateConsumerGroup").count();
    assert!((20..60).contains(&tries), "{tries} tries in 20 minutes");
    rig.fate = Box::new(|_| Fate::Serve);
    rig.pass(secs(61));
    assert!(rig.saw(|event| matches!(event, LeaseEvent::Resumed { attempts } if *attempts >= 20)));
    assert_eq!(rig.last_order(), "assign 0 begin-0");
}

#[test]
fn fail_fast_gives_up_on_a_refusal_at_once_and_on_the_rest_after_three_attempts() {
    for (fate, calls) in [(Fate::Refuse("SignatureNotMatch"), 1), (Fate::Unreachable, 3)] {
        let mut rig = Rig::with(Params { fail_fast: true, ..params() }, &[]);
        let refuse = matches!(fate, Fate::Refuse(_));
        rig.fate =
            Box::new(move |_| if refuse { Fate::Refuse("SignatureNotMatch") } else { Fate::Unreachable });
        rig.pass(secs(60));
        assert!(matches!(rig.lease.outcome(), Some(Outcome::Failed { .. })));
        assert_eq!(rig.calls.len(), calls);
        assert_eq!(rig.lease.poll_timeout(), None);
    }
}

#[test]
fn fail_fast_ends_with_the_first_lease() {
    let mut rig = Rig::with(Params { fail_fast: true, ..params() }, &[]);
    rig.settle();
    rig.fate = Box::new(|_| Fate::Refuse("SignatureNotMatch"));
    rig.pass(secs(600));
    assert_eq!(rig.lease.outcome(), None);
}

#[test]
fn a_deleted_group_stops_the_shards_is_made_again_and_goes_on_where_it_was() {
    let mut rig = Rig::new(&[0]);
    rig.settle();
    rig.safe(0, "c7");
    rig.pass(secs(5));
    rig.group = None;
    rig.pass(secs(25));
    assert!(rig.saw(|event| *event == LeaseEvent::GroupDeleted));
    assert!(rig.saw(|event| *event == LeaseEvent::GroupCreated));
    let orders = rig.orders();
    assert_eq!(orders, ["assign 0 begin-0", "abandon 0", "assign 0 c7"]);
    let bodies = rig.bodies();
    assert_eq!(bodies[bodies.len() - 1], Vec::<u32>::new(), "the new group is joined with nothing in hand");
    assert_eq!(rig.checkpoints.get(&0).map(String::as_str), Some("c7"), "and the position is saved again");
}

#[test]
fn servers_that_disagree_about_the_group_are_not_called_in_a_tight_loop() {
    let mut rig = Rig::new(&[]);
    rig.fate = Box::new(|call| match call {
        Call::CreateGroup { .. } => Fate::Refuse("ConsumerGroupAlreadyExist"),
        Call::ListGroups => Fate::Serve,
        _ => Fate::Refuse("ConsumerGroupNotExist"),
    });
    rig.pass(secs(600));
    assert!(rig.calls.len() < 200, "{} calls in ten minutes", rig.calls.len());
}
