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
    assert_eq!((poll.asked.channel, poll.body.as_slice()), (a, b"{\"acks\":[0]}".as_slice()));
    assert!(acks.handle_answer(
        &Asked { channel: a, resets: 0 },
        &mut br#"{"acks":{"0":false,"7":true,"x":true}}"#.to_vec(),
        later,
        &mut cx
    ));
    assert_eq!(settled(&mut cx), []);
    for junk in ["", "<html>502</html>", r#"{"text":"ACK is disabled","code":14}"#, r#"{"acks":{"0":1}}"#] {
        assert!(
            !acks.handle_answer(
                &Asked { channel: a, resets: 0 },
                &mut junk.as_bytes().to_vec(),
                later,
                &mut cx
            ),
            "{junk}"
        );
    }
    assert_eq!(acks.pending(), 2);
    assert!(acks.handle_answer(
        &Asked { channel: a, resets: 0 },
        &mut br#"{"acks":{"0":true}}"#.to_vec(),
        later,
        &mut cx
    ));
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
    let body = br#"{"acks":{"0":true,"1":true}}"#;
    acks.handle_answer(&Asked { channel: a, resets: 0 }, &mut body.to_vec(), Instant(5), &mut cx);
    assert_eq!(settled(&mut cx), [], "a poll from before the reset names other records");
    acks.handle_answer(&Asked { channel: a, resets: 1 }, &mut body.to_vec(), Instant(5), &mut cx);
    assert_eq!(settled(&mut cx), [(3, Settled::Acked)], "id 1 of the old incarnation confirms nothing");
}

#[test]
fn what_waits_too_long_is_lost_and_a_left_channel_lives_as_long_as_it_waits() {
    let (mut acks, mut cx) = (Acks::new(10 * SECOND, SECOND), context());
    let a = acks.open_channel(RouteId(0), Instant(0), &mut cx);
    acks.add(a, AckId(0), records(1), Instant(0), Instant(0), &mut cx);
    acks.add(a, AckId(1), records(2), Instant(0), Instant(0) + SECOND, &mut cx);
    acks.leave_channel(a, &mut cx);
    assert_eq!(acks.poll_timeout(), Some(Instant(0) + 10 * SECOND));
    acks.handle_timeout(Instant(0) + 10 * SECOND, &mut cx);
    assert_eq!(settled(&mut cx), [(1, Settled::Lost)]);
    assert_eq!(cx.counters.duplicates_possible_records, 3);
    assert!(acks.handle_answer(
        &Asked { channel: a, resets: 0 },
        &mut br#"{"acks":{"1":true}}"#.to_vec(),
        Instant(9),
        &mut cx
    ));
    assert_eq!(settled(&mut cx), [(2, Settled::Acked)]);
    assert_eq!((acks.pending(), acks.guid(a), acks.poll_timeout()), (0, "", None));
}

#[test]
fn a_poll_asks_for_few_ids_and_the_rest_follows_at_once() {
    let (mut acks, mut cx) = (Acks::new(300 * SECOND, SECOND), context());
    let a = acks.open_channel(RouteId(0), Instant(0), &mut cx);
    for id in 0..100 {
        acks.add(a, AckId(id), records(id), Instant(0), Instant(0), &mut cx);
    }
    let now = Instant(0) + SECOND;
    let poll = acks.poll(RouteId(0), now).unwrap();
    assert_eq!(memchr::memchr_iter(b',', &poll.body).count(), POLL_IDS_MAX - 1);
    // Ids that stay `false` keep no younger one waiting.
    let rest = acks.poll(RouteId(0), now).unwrap();
    assert!(rest.body.starts_with(b"{\"acks\":[64,65,") && rest.body.ends_with(b",99]}"));
    assert_eq!(acks.poll(RouteId(0), now), None, "a whole round is asked");
    let all: Vec<String> = (0..64).map(|id| format!("\"{id}\":true")).collect();
    acks.handle_answer(
        &Asked { channel: a, resets: 0 },
        &mut format!("{{\"acks\":{{{}}}}}", all.join(",")).into_bytes(),
        now,
        &mut cx,
    );
    assert_eq!(acks.pending(), 36);
    let next = acks.poll(RouteId(0), now + SECOND).unwrap();
    assert!(next.body.starts_with(b"{\"acks\":[64,"));
}

/// One request in channel `a`, answered with an id.
fn request(acks: &mut Acks, a: ChannelKey, id: u64, pull: u64, cx: &mut Context) -> bool {
    acks.begin(a);
    let reset = acks.add(a, AckId(id), records(pull), Instant(0), Instant(0), cx);
    acks.answered(a, Instant(0), cx);
    reset
}

fn tell(acks: &mut Acks, a: ChannelKey, resets: u64, ids: &str, cx: &mut Context) {
    let body = format!(r#"{{"acks":{{{ids}}}}}"#);
    assert!(acks.handle_answer(&Asked { channel: a, resets }, &mut body.into_bytes(), Instant(1), cx));
}

#[test]
fn a_confirmation_waits_for_a_proof_that_the_server_is_the_same() {
    let (mut acks, mut cx) = (Acks::new(300 * SECOND, SECOND), context());
    let a = acks.open_channel(RouteId(0), Instant(0), &mut cx);
    request(&mut acks, a, 0, 1, &mut cx);
    // The server restarts, takes the next request as its id 0 and tells a poll that id 0 is indexed, before
    // the answer to that request is here.
    acks.begin(a);
    tell(&mut acks, a, 0, r#""0":true"#, &mut cx);
    assert_eq!(settled(&mut cx), []);
    assert!(acks.add(a, AckId(0), records(2), Instant(0), Instant(2), &mut cx));
    acks.answered(a, Instant(2), &mut cx);
    assert_eq!(settled(&mut cx), [(1, Settled::Lost)]);
    assert_eq!(acks.pending(), 1);

    // Without a restart the answer shows a higher id, and the confirmation counts.
    let b = acks.open_channel(RouteId(0), Instant(0), &mut cx);
    request(&mut acks, b, 0, 3, &mut cx);
    acks.begin(b);
    tell(&mut acks, b, 0, r#""0":true"#, &mut cx);
    acks.add(b, AckId(1), records(4), Instant(0), Instant(2), &mut cx);
    acks.answered(b, Instant(2), &mut cx);
    assert_eq!(settled(&mut cx), [(3, Settled::Acked)]);
}

#[test]
fn ids_that_an_unseen_incarnation_may_have_given_are_lost_with_their_connection() {
    let (mut acks, mut cx) = (Acks::new(300 * SECOND, SECOND), context());
    let a = acks.open_channel(RouteId(0), Instant(0), &mut cx);
    for id in 0..4 {
        request(&mut acks, a, id, id, &mut cx);
    }
    // Two requests are under way when the connection ends: after an unseen restart they are ids 0 and 1.
    acks.begin(a);
    acks.begin(a);
    acks.leave_channel(a, &mut cx);
    assert_eq!(settled(&mut cx), [(0, Settled::Lost), (1, Settled::Lost)]);
    tell(&mut acks, a, 0, r#""0":true,"1":true,"2":true,"3":true"#, &mut cx);
    assert_eq!(settled(&mut cx), [(2, Settled::Acked), (3, Settled::Acked)]);
    assert_eq!(acks.pending(), 0);
}

#[test]
fn answers_without_an_id_may_hide_a_reset() {
    let (mut acks, mut cx) = (Acks::new(300 * SECOND, SECOND), context());
    let a = acks.open_channel(RouteId(0), Instant(0), &mut cx);
    request(&mut acks, a, 0, 1, &mut cx);
    // A restart; the next request is stored as id 0 but answered 500, the one after it gets id 1.
    acks.begin(a);
    acks.answered(a, Instant(0), &mut cx);
    tell(&mut acks, a, 0, r#""0":true"#, &mut cx);
    assert_eq!(settled(&mut cx), [], "id 0 may be the request that was answered without one");
    assert!(request(&mut acks, a, 1, 2, &mut cx), "1 is higher than 0 and proves nothing");
    assert_eq!(settled(&mut cx), [(1, Settled::Lost)]);
    // Far from 0 there is no doubt.
    request(&mut acks, a, 2, 3, &mut cx);
    acks.begin(a);
    tell(&mut acks, a, 1, r#""2":true"#, &mut cx);
    assert_eq!(settled(&mut cx), [(3, Settled::Acked)]);
}
