//! What a RELP server may say, cut anywhere: the same comes of it, and only what was answered counts as taken.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use sls2siem::proto::context::{Context, Settled};
use sls2siem::proto::event::Action;
use sls2siem::proto::flow::Flow;
use sls2siem::proto::frame::{FramePool, Segment};
use sls2siem::proto::ids::{ConnId, EndpointId, Epoch, PullId, RouteId, ShardId};
use sls2siem::proto::sink::syslog::{Params, Syslog, Transport};
use sls2siem::proto::time::Instant;

use super::input::{Input, pieces};

const OPENED: &[u8] = b"1 rsp 57 200 OK\nrelp_version=0\nrelp_software=x,1,y\ncommands=syslog\n";
const NOW: Instant = Instant(1_000_000_000);
/// The first number of a session's messages; 1 is the `open`.
const FIRST: u32 = 2;

/// What came of a talk.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    settled: Vec<(u32, Settled)>,
    refused: Vec<(Vec<u8>, String)>,
    reports: String,
    actions: String,
    waiting: usize,
}

/// Settings, the records of frames and the parts of each record; then the bytes of the server.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (settings, seed) = (input.byte(), input.u16());
    let frames: Vec<Vec<u8>> = (0..=(settings % 4)).map(|_| input.chunk().to_vec()).collect();
    let server = input.rest();
    let whole = talk(settings, &frames, &[server]);
    for seed in [1, seed] {
        assert_eq!(talk(settings, &frames, &pieces(server, seed)), whole, "cut by {seed}");
    }
    // A number for each message, in order, so a record is the numbers of its parts.
    let mut answered = said(if settings & 16 != 0 { server.to_vec() } else { [OPENED, server].concat() });
    let mut number = FIRST;
    let mut taken = BTreeSet::new();
    for (record, parts) in (0..).zip(frames.iter().flatten().map(|parts| u32::from(parts % 3) + 1)) {
        let numbers = number..number + parts;
        number += parts;
        if numbers.into_iter().all(|number| answered.remove(&number) == Some(true)) {
            taken.insert(record);
        }
    }
    let acked: Vec<u32> = whole.settled.iter().map(|(record, _)| *record).collect();
    let once: BTreeSet<u32> = acked.iter().copied().collect();
    assert_eq!(once.len(), acked.len(), "a record is settled once: {acked:?}");
    assert!(once.is_subset(&taken), "{acked:?} count as taken, answered were {taken:?}");
}

/// One session over bytes that come in these pieces; nothing is sent in between.
fn talk(settings: u8, frames: &[Vec<u8>], pieces: &[&[u8]]) -> Outcome {
    let flow = Flow::new(1 << 20);
    let mut cx = Context::new(FramePool::new(Rc::clone(&flow.frames), 2_000), 1);
    cx.has_dead_letter = settings & 8 != 0;
    let params = Params {
        endpoints: vec![Transport::Relp],
        drain_interval: Duration::from_secs(2),
        timeout: Duration::from_secs(90),
        connections: 1,
        window: 1_000,
        udp_rate: 0,
    };
    let mut sink = Syslog::new(params, &mut cx);
    let mut record = 0;
    for parts in frames.iter().filter(|parts| !parts.is_empty()) {
        let mut frame = cx.pool.take_for_part(NOW);
        for parts in parts {
            for part in 0..=parts % 3 {
                let message = format!("r{record}.{part}");
                frame.bytes.extend_from_slice(&u32::try_from(message.len()).unwrap().to_le_bytes());
                frame.bytes.push(u8::from(part == 0));
                frame.bytes.extend_from_slice(message.as_bytes());
            }
            frame.note(Segment {
                shard: ShardId(0),
                epoch: Epoch(1),
                pull: PullId(0),
                start: record,
                end: record + 1,
            });
            record += 1;
        }
        frame.settle_credit();
        sink.push(frame);
    }
    sink.dispatch(NOW, &mut cx);
    sink.handle_routes(NOW, EndpointId(0), Ok(vec![RouteId(0)]), &mut cx);
    sink.dispatch(NOW, &mut cx);
    let connect = |action: &Action| match action {
        Action::Connect { conn, .. } => Some(*conn),
        _ => None,
    };
    let conn = cx.actions.iter().find_map(connect).expect("a connection is wanted");
    sink.handle_connected(NOW, conn, &mut cx);
    send(&mut sink, conn, &mut cx);
    if settings & 16 == 0 {
        sink.handle_received(NOW, conn, OPENED, &mut cx);
        for _ in 0..8 {
            sink.dispatch(NOW, &mut cx);
            send(&mut sink, conn, &mut cx);
        }
    }
    cx.actions.clear();
    for piece in pieces {
        sink.handle_received(NOW, conn, piece, &mut cx);
    }
    cx.actions.retain(|action| !matches!(action, Action::Transmit(_)));
    let mut settled = Vec::new();
    for (segment, how) in cx.settled.drain(..) {
        settled.extend((segment.start..segment.end).map(|record| (record, how)));
    }
    settled.sort_unstable_by_key(|(record, _)| *record);
    let refused = cx.refused.drain(..).map(|(frame, why)| (frame.bytes, format!("{why:?}"))).collect();
    Outcome {
        settled,
        refused,
        reports: format!("{:?}", cx.reports),
        actions: format!("{:?}", cx.actions),
        waiting: sink.frames(),
    }
}

fn send(sink: &mut Syslog, conn: ConnId, cx: &mut Context) {
    let mut turns = 0;
    while let Some(chunk) = sink.poll_transmit(NOW, conn) {
        let length = chunk.len();
        sink.handle_transmitted(NOW, conn, length, cx);
        turns += 1;
        assert!(turns < 1_000, "it sends without an end");
    }
}

/// Which numbers were answered with 200, and which with anything else; read up to the first thing that is no answer.
fn said(bytes: Vec<u8>) -> BTreeMap<u32, bool> {
    let mut answers = BTreeMap::new();
    let mut rest = bytes.as_slice();
    loop {
        while let Some(after) = rest.strip_prefix(b"\n") {
            rest = after;
        }
        let Some((number, after)) = word(rest) else { return answers };
        let Some((command, after)) = word(after) else { return answers };
        let digits = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (length, after) = after.split_at(digits);
        let Some(length) = decimal(length) else { return answers };
        let after = after.strip_prefix(b" ").unwrap_or(after);
        let Some((data, after)) = after.split_at_checked(length as usize) else { return answers };
        let (Some(number), Some(after)) = (decimal(number), after.strip_prefix(b"\n")) else {
            return answers;
        };
        if command == b"rsp" {
            // The first answer counts.
            answers.entry(number).or_insert(data.starts_with(b"200"));
        }
        rest = after;
    }
}

fn word(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    Some((&bytes[..space], &bytes[space + 1..]))
}

fn decimal(digits: &[u8]) -> Option<u32> {
    core::str::from_utf8(digits).ok()?.parse().ok()
}
