//! What an indexer may answer to a frame, and to a poll for acknowledgements: nothing counts that was not said.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde_json::Value;
use sls2siem::proto::context::{Context, Settled};
use sls2siem::proto::flow::Flow;
use sls2siem::proto::frame::{FramePool, Segment, Segments};
use sls2siem::proto::ids::{AckId, Epoch, PullId, RouteId, ShardId};
use sls2siem::proto::sink::hec::ack::{Acks, Asked, ChannelKey};
use sls2siem::proto::sink::hec::answer::{Judgement, Sent, judge};
use sls2siem::proto::time::Instant;

use super::input::Input;

const SECOND: u64 = 1_000_000_000;

/// A flag: one answer to a frame, or a list of what happens to channels.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    if input.flag() { judged(&mut input) } else { acknowledged(&mut input) }
}

fn judged(input: &mut Input<'_>) {
    let status = 100 + input.u16() % 500;
    let records = input.u32() % 2_000;
    let sent = Sent { records, bytes: if input.flag() { 6 << 20 } else { 1_000 } };
    let location = input.flag().then(|| String::from_utf8_lossy(input.chunk()).into_owned());
    let body = input.rest();
    let read = |scratch: &mut simd_json::Buffers| {
        judge(status, location.as_deref(), &mut body.to_vec(), sent, scratch)
    };
    let mut scratch = simd_json::Buffers::default();
    let judgement = read(&mut scratch);
    assert_eq!(judgement, read(&mut scratch), "scratch space does not matter");
    // Read by somebody else.
    let json: Option<Value> = serde_json::from_slice(&without_surrogates(body)).ok();
    let number = |key: &str| json.as_ref().and_then(|json| json.get(key)).and_then(number);
    let answer = match &judgement {
        Judgement::Taken { ack_id, slow_down } => {
            assert!((200..300).contains(&status), "{status} is no success");
            let code = number("code").expect("a receipt has a code");
            assert!(code == 0 && !slow_down || matches!(code, 24 | 25) && *slow_down);
            assert_eq!(ack_id.map(|id| id.0), number("ackId"));
            return;
        }
        Judgement::Partial { accepted, ack_id, busy, answer } => {
            let number_of_event = number("invalid-event-number").expect("a number");
            assert!(*accepted < records && u64::from(*accepted) <= number_of_event);
            assert_eq!(ack_id.map(|id| id.0), number("ackId"));
            assert!(if *busy { status == 503 && ack_id.is_some() } else { status == 400 });
            answer
        }
        Judgement::TooLarge { answer } => {
            assert!(records > 0 && (status == 413 || sent.bytes > 5 << 20));
            answer
        }
        Judgement::Again { answer, hold, .. } => {
            assert!(!hold || (300..500).contains(&status));
            answer
        }
    };
    assert_eq!(answer.status, status);
    for text in [Some(&answer.text), answer.location.as_ref()].into_iter().flatten() {
        assert!(text.chars().count() <= 200 && !text.contains(char::is_control), "{text:?}");
    }
}

/// `-0` is the number zero, which `serde_json` keeps as a float for its sign.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| (value.as_f64() == Some(0.0)).then_some(0))
}

/// Half of a surrogate pair is U+0000 to `simd-json`, and `serde_json` refuses the whole: here both read U+0000, so that
/// everything else is still compared.
fn without_surrogates(body: &[u8]) -> Vec<u8> {
    let mut out = body.to_vec();
    for at in 0..out.len().saturating_sub(5) {
        if matches!(out[at..at + 4], [b'\\', b'u', b'd' | b'D', b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F'])
            && out[at + 4..at + 6].iter().all(u8::is_ascii_hexdigit)
        {
            out[at + 2..at + 6].copy_from_slice(b"0000");
        }
    }
    out
}

/// What one request was told.
#[derive(Default)]
struct Model {
    /// Records that wait, by channel and id, of the incarnation that is believed in.
    waiting: BTreeMap<(ChannelKey, u64), u32>,
    /// Told `true`.
    told: BTreeSet<u32>,
    /// Settled either way.
    settled: BTreeSet<u32>,
    given: u32,
}

fn acknowledged(input: &mut Input<'_>) {
    let flow = Flow::new(1 << 20);
    let mut cx = Context::new(FramePool::new(Rc::clone(&flow.frames), 1_000), 1);
    let mut acks = Acks::new(Duration::from_secs(60), Duration::from_secs(1));
    let mut now = Instant(SECOND);
    let mut model = Model::default();
    let mut channels: Vec<ChannelKey> = Vec::new();
    let mut asked: Vec<Asked> = Vec::new();
    let mut steps = 0;
    while !input.is_empty() && steps < 400 {
        steps += 1;
        let action = input.byte();
        let channel = (!channels.is_empty()).then(|| input.pick(&channels));
        match (action % 12, channel) {
            (0, _) if channels.len() < 8 => {
                channels.push(acks.open_channel(RouteId(u32::from(action >> 4) % 2), now, &mut cx));
            }
            (1 | 2, Some(key)) => {
                acks.begin(key);
                let id = u64::from(input.byte());
                let number = model.given;
                model.given += 1;
                let segments = Segments::from_iter([segment(number)]);
                if acks.add(key, AckId(id), segments, now, now, &mut cx) {
                    model.waiting.retain(|(channel, _), _| *channel != key);
                }
                model.waiting.insert((key, id), number);
                acks.answered(key, now, &mut cx);
            }
            (3, Some(key)) => acks.begin(key),
            (4, Some(key)) => {
                acks.begin(key);
                acks.answered(key, now, &mut cx);
            }
            (5, _) => {
                if let Some(poll) = acks.poll(RouteId(u32::from(action >> 4) % 2), now) {
                    let body: Value = serde_json::from_slice(&poll.body).expect("a poll is JSON");
                    let ids = body["acks"].as_array().expect("a list");
                    assert!((1..=64).contains(&ids.len()));
                    for id in ids {
                        let id = id.as_u64().unwrap();
                        assert!(model.waiting.contains_key(&(poll.asked.channel, id)), "asks for id {id}");
                    }
                    asked.push(poll.asked);
                }
            }
            (6..=8, _) if !asked.is_empty() => {
                let poll = input.pick(&asked);
                let mut body = answer(action, input);
                let told: Option<BTreeMap<String, bool>> = acks_of(&body);
                let readable = acks.handle_answer(&poll, &mut body, now, &mut cx);
                assert!(!readable || told.is_some(), "a receipt that nobody else can read");
                for (id, _) in told.into_iter().flatten().filter(|(_, told)| *told && readable) {
                    let Ok(id) = id.parse() else { continue };
                    if let Some(number) = model.waiting.get(&(poll.channel, id)) {
                        model.told.insert(*number);
                    }
                }
            }
            (9, Some(key)) => acks.lose_channel(key, &mut cx),
            (10, Some(key)) => {
                acks.leave_channel(key, &mut cx);
            }
            _ => {
                now = now + Duration::from_millis(u64::from(input.byte()) * 100);
                acks.handle_timeout(now, &mut cx);
            }
        }
        check(&mut cx, &mut model);
        assert_eq!(acks.pending(), (model.given as usize) - model.settled.len(), "records that wait");
    }
    for route in 0..2 {
        acks.lose_route(RouteId(route), &mut cx);
    }
    check(&mut cx, &mut model);
    assert_eq!((acks.pending(), model.settled.len()), (0, model.given as usize), "all of it is settled");
}

/// Each record is settled once, and as acknowledged only where somebody said so.
fn check(cx: &mut Context, model: &mut Model) {
    for (segment, how) in cx.settled.drain(..) {
        assert!(model.settled.insert(segment.start), "{segment:?} is settled twice");
        assert!(how != Settled::Acked || model.told.contains(&segment.start), "{segment:?}: nobody said so");
        model.waiting.retain(|_, number| *number != segment.start);
    }
}

fn segment(number: u32) -> Segment {
    Segment { shard: ShardId(0), epoch: Epoch(1), pull: PullId(0), start: number, end: number + 1 }
}

/// Bytes as they come, or an answer of the right form.
fn answer(action: u8, input: &mut Input<'_>) -> Vec<u8> {
    let bytes = input.chunk();
    if action & 0x80 == 0 {
        return bytes.to_vec();
    }
    let told: Vec<String> = bytes.iter().map(|id| format!("\"{}\":{}", id / 2, id & 1 == 1)).collect();
    format!("{{\"acks\":{{{}}}}}", told.join(",")).into_bytes()
}

fn acks_of(body: &[u8]) -> Option<BTreeMap<String, bool>> {
    #[derive(serde::Deserialize)]
    struct Answer {
        acks: BTreeMap<String, bool>,
    }
    serde_json::from_slice::<Answer>(body).ok().map(|answer| answer.acks)
}
