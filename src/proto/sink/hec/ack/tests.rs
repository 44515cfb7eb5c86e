use std::rc::Rc;

use super::*;
use crate::proto::flow::Flow;
use crate::proto::frame::{FramePool, Segment};
use crate::proto::ids::{Epoch, PullId, ShardId};

const SECOND: Duration = Duration::from_secs(1);

fn context() -> Context {
    Context::new(FramePool::new(Rc::clone(&Flow::new(1_000).frames), 100), 1)
}

fn records(pull: u64) -> Segments {
    let mut segments = Segments::new();
    segments.push(Segment { shard: ShardId(0), epoch: Epoch(0), pull: PullId(pull), start: 0, end: 3 });
    segments
}

fn settled(cx: &mut Context) -> Vec<(u64, Settled)> {
    cx.settled.drain(..).map(|(segment, how)| (segment.pull.0, how)).collect()
}

#[test]
fn only_true_confirms_and_only_in_its_own_channel() {
    let (mut acks, mut cx) = (Acks::new(300 * SECOND, SECOND), context());
    let a = acks.open_channel(RouteId(0), Instant(0), &mut cx);
    let b = acks.open_channel(RouteId(1), Instant(0), &mut cx);
    assert_ne!(acks.guid(a), acks.guid(b));
    acks.add(a, AckId(0), records(10), Instant(0), Instant(0), &mut cx);
    acks.add(b, AckId(0), records(20), Instant(0), Instant(0), &mut cx);
    assert_eq!(acks.poll(RouteId(0), Instant(0)), None, "not due yet");
    let later = Instant(0) + SECOND;
    let poll = acks.poll(RouteId(0), later).unwrap();
    assert_eq!((poll.channel, poll.body.as_slice()), (a, b"{\"acks\":[0]}".as_slice()));
    assert!(acks.handle_answer(
        a,
        &mut br#"{"acks":{"0":false,"7":true,"x":true}}"#.to_vec(),
        later,
        &mut cx
    ));
    assert_eq!(settled(&mut cx), []);
    for junk in ["", "<html>502</html>", r#"{"text":"ACK is disabled","code":14}"#, r#"{"acks":{"0":1}}"#] {
        assert!(!acks.handle_answer(a, &mut junk.as_bytes().to_vec(), later, &mut cx), "{junk}");
    }
    assert_eq!(acks.pending(), 2);
    assert!(acks.handle_answer(a, &mut br#"{"acks":{"0":true}}"#.to_vec(), later, &mut cx));
    assert_eq!(settled(&mut cx), [(10, Settled::Acked)]);
    assert!(acks.route_has_pending(RouteId(1)) && !acks.route_has_pending(RouteId(0)));
}

#[test]
fn an_id_that_goes_back_loses_what_the_channel_had_pending() {
    let (mut acks, mut cx) = (Acks::new(300 * SECOND, SECOND), context());
    let a = acks.open_channel(RouteId(0), Instant(0), &mut cx);
    assert!(!acks.add(a, AckId(0), records(1), Instant(0), Instant(0), &mut cx));
    assert!(!acks.add(a, AckId(1), records(2), Instant(0), Instant(0), &mut cx));
    assert!(acks.add(a, AckId(0), records(3), Instant(0), Instant(0), &mut cx));
    assert_eq!(settled(&mut cx), [(1, Settled::Lost), (2, Settled::Lost)]);
    assert_eq!(acks.pending(), 1);
    acks.handle_answer(a, &mut br#"{"acks":{"0":true,"1":true}}"#.to_vec(), Instant(5), &mut cx);
    assert_eq!(settled(&mut cx), [(3, Settled::Acked)], "id 1 of the old incarnation confirms nothing");
}

#[test]
fn what_waits_too_long_is_lost_and_a_left_channel_lives_as_long_as_it_waits() {
    let (mut acks, mut cx) = (Acks::new(10 * SECOND, SECOND), context());
    let a = acks.open_channel(RouteId(0), Instant(0), &mut cx);
    acks.add(a, AckId(0), records(1), Instant(0), Instant(0), &mut cx);
    acks.add(a, AckId(1), records(2), Instant(0), Instant(0) + SECOND, &mut cx);
    acks.leave_channel(a);
    assert_eq!(acks.poll_timeout(), Some(Instant(0) + 10 * SECOND));
    acks.handle_timeout(Instant(0) + 10 * SECOND, &mut cx);
    assert_eq!(settled(&mut cx), [(1, Settled::Lost)]);
    assert_eq!(cx.counters.duplicates_possible_records, 3);
    assert!(acks.handle_answer(a, &mut br#"{"acks":{"1":true}}"#.to_vec(), Instant(9), &mut cx));
    assert_eq!(settled(&mut cx), [(2, Settled::Acked)]);
    assert_eq!((acks.pending(), acks.guid(a), acks.poll_timeout()), (0, "", None));
}

#[test]
fn a_poll_asks_for_few_ids_and_goes_on_at_once_while_they_are_confirmed() {
    let (mut acks, mut cx) = (Acks::new(300 * SECOND, SECOND), context());
    let a = acks.open_channel(RouteId(0), Instant(0), &mut cx);
    for id in 0..100 {
        acks.add(a, AckId(id), records(id), Instant(0), Instant(0), &mut cx);
    }
    let now = Instant(0) + SECOND;
    let poll = acks.poll(RouteId(0), now).unwrap();
    assert_eq!(poll.body.iter().filter(|byte| **byte == b',').count(), POLL_IDS_MAX - 1);
    assert_eq!(acks.poll(RouteId(0), now), None);
    let all: Vec<String> = (0..64).map(|id| format!("\"{id}\":true")).collect();
    acks.handle_answer(a, &mut format!("{{\"acks\":{{{}}}}}", all.join(",")).into_bytes(), now, &mut cx);
    assert!(acks.poll(RouteId(0), now).is_some());
    assert_eq!(acks.pending(), 36);
}
