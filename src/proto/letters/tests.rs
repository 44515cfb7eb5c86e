use super::*;
use crate::proto::event::{Alarm, HecAnswer, Scope};
use crate::proto::flow::Flow;
use crate::proto::frame::FramePool;
use crate::proto::ids::PullId;

const SHARD: ShardId = ShardId(4);
const NOW: Instant = Instant(1_000_000_000);

fn context(has_dead_letter: bool) -> Context {
    let flow = Flow::new(1 << 20);
    let mut cx = Context::new(FramePool::new(std::rc::Rc::clone(&flow.frames), 1 << 10), 1);
    cx.has_dead_letter = has_dead_letter;
    cx
}

fn frame(number: u32, cx: &mut Context) -> Frame {
    let mut frame = cx.pool.take_for_part(NOW);
    frame.bytes.extend_from_slice(b"{\"index\":\"nope\",\"event\":{}}\n");
    frame.note(Segment { shard: SHARD, epoch: Epoch(1), pull: PullId(0), start: number, end: number + 1 });
    frame
}

fn refusal(code: u16) -> Refusal {
    Refusal::Hec(HecAnswer {
        status: 400,
        code: Some(code),
        text: "Incorrect index".into(),
        invalid_event: Some(1),
        location: None,
    })
}

/// What the driver is asked to write.
fn posted(cx: &mut Context) -> Vec<LetterId> {
    let actions = core::mem::take(&mut cx.actions);
    let letter = |action| match action {
        Action::DeadLetter(letter) => Some(letter.id),
        _ => None,
    };
    actions.into_iter().filter_map(letter).collect()
}

fn alarms(cx: &mut Context) -> Vec<Cause> {
    let reports = core::mem::take(&mut cx.reports);
    let cause = |report| match report {
        Report::Alarm(Alarm { scope: Scope::Shard(SHARD), cause, .. }) => Some(cause),
        _ => None,
    };
    reports.into_iter().filter_map(cause).collect()
}

#[test]
fn a_record_is_settled_when_the_disk_has_it_and_not_before() {
    let (mut cx, mut letters) = (context(true), Letters::new(1));
    let one = frame(7, &mut cx);
    letters.add(NOW, one, refusal(7), Cursor::new("MTIz"), &mut cx);
    let [Action::DeadLetter(letter)] = cx.actions.make_contiguous() else { panic!("{:?}", cx.actions) };
    assert_eq!((letter.shard, letter.record.number, letter.record.cursor.as_str()), (SHARD, 7, "MTIz"));
    assert_eq!(letter.record.index.as_deref(), Some("nope"));
    let id = posted(&mut cx)[0];
    assert!(cx.settled.is_empty() && !letters.holds(SHARD));
    letters.handle_letter(NOW, id, Ok(()), &mut cx);
    assert!(matches!(cx.settled[..], [(Segment { start: 7, end: 8, .. }, Settled::DeadLettered)]));
    assert_eq!((cx.counters.refused_records, cx.counters.dead_letter_records), (1, 1));
    assert!(matches!(&cx.reports[0], Report::Notice(Notice::DeadLettered { records: 1, .. })));
}

#[test]
fn a_full_disk_holds_the_shard_and_is_tried_again() {
    let (mut cx, mut letters) = (context(true), Letters::new(1));
    let one = frame(0, &mut cx);
    letters.add(NOW, one, refusal(6), Cursor::new("a"), &mut cx);
    let id = posted(&mut cx)[0];
    letters.handle_letter(NOW, id, Err("no space left".into()), &mut cx);
    assert!(letters.holds(SHARD) && cx.settled.is_empty());
    assert_eq!(alarms(&mut cx), [Cause::DeadLetter("no space left".into())]);
    let again = letters.poll_timeout().unwrap();
    assert!(again > NOW && again <= NOW + WRITE_BASE);
    assert!(letters.poll_again(NOW, &mut cx).is_none() && posted(&mut cx).is_empty(), "not yet");
    assert!(letters.poll_again(again, &mut cx).is_none());
    assert_eq!(posted(&mut cx), [id]);
    letters.handle_letter(again, id, Ok(()), &mut cx);
    assert!(!letters.holds(SHARD) && cx.settled.len() == 1);
    assert!(cx.reports.iter().any(|report| matches!(report, Report::Clear { .. })));
}

#[test]
fn without_a_dead_letter_it_is_offered_again_and_settles_only_through_the_sink() {
    let (mut cx, mut letters) = (context(false), Letters::new(1));
    let one = frame(3, &mut cx);
    letters.add(NOW, one, refusal(7), Cursor::new("a"), &mut cx);
    assert!(letters.holds(SHARD) && posted(&mut cx).is_empty());
    assert!(matches!(&alarms(&mut cx)[..], [Cause::Refused(record)] if record.number == 3));
    assert!(letters.poll_again(NOW, &mut cx).is_none());
    let frame = letters.poll_again(NOW + OFFER_AGAIN, &mut cx).expect("offered");
    assert!(letters.is_watching() && letters.holds(SHARD));
    // Refused again: nothing new is told. Then the index is allowed, and the sink settles it.
    letters.add(NOW + OFFER_AGAIN, frame, refusal(7), Cursor::new("a"), &mut cx);
    assert!(alarms(&mut cx).is_empty() && !letters.is_watching());
    let frame = letters.poll_again(NOW + OFFER_AGAIN * 2, &mut cx).expect("offered");
    let segment = frame.segments[0];
    letters.settled(&segment, &mut cx);
    assert!(!letters.holds(SHARD) && !letters.is_watching() && cx.settled.is_empty());
}

#[test]
fn an_oversize_record_is_kept_and_never_sent() {
    let (mut cx, mut letters) = (context(false), Letters::new(1));
    let one = frame(3, &mut cx);
    letters.add(NOW, one, Refusal::Oversize { bytes: 9_000 }, Cursor::new("a"), &mut cx);
    assert!(letters.holds(SHARD));
    assert_eq!(letters.poll_timeout(), None);
    assert!(letters.poll_again(NOW + OFFER_AGAIN * 100, &mut cx).is_none());
}

#[test]
fn a_shard_that_is_given_up_takes_its_letters_with_it() {
    let (mut cx, mut letters) = (context(true), Letters::new(1));
    let one = frame(3, &mut cx);
    letters.add(NOW, one, refusal(6), Cursor::new("a"), &mut cx);
    let id = posted(&mut cx)[0];
    letters.handle_letter(NOW, id, Err("gone".into()), &mut cx);
    letters.forget(SHARD, Epoch(1), &mut cx);
    assert!(!letters.holds(SHARD) && letters.poll_timeout().is_none());
    letters.handle_letter(NOW, id, Ok(()), &mut cx);
    assert!(cx.settled.is_empty(), "it belongs to somebody else now");
}

#[test]
fn the_index_of_an_event() {
    assert_eq!(index_of(br#"{"time":1,"index":"main","event":{"index":"inner"}}"#).as_deref(), Some("main"));
    for none in [&b"{\"event\":{\"index\":\"inner\"}}"[..], b"{\"index\":\"\"}", b"not json", b""] {
        assert_eq!(index_of(none), None);
    }
}
