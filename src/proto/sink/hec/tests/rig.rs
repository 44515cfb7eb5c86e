//! One sink whose driver is the test.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::*;
use crate::proto::event::To;
use crate::proto::flow::Flow;
use crate::proto::frame::{FramePool, Segment};
use crate::proto::ids::PullId;

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// One endpoint with one address, all else by default.
pub(super) fn params() -> Params {
    Params {
        endpoints: vec![Endpoint { authority: "one:8088".into(), base_path: String::new() }],
        token: String::from("t").into(),
        ack: AckMode::Auto,
        ack_timeout: Duration::from_mins(5),
        poll_interval: SECOND,
        connections: 2,
        pipeline_depth: 4,
        turn: TURN,
        timeout: Duration::from_mins(1),
        gzip: false,
    }
}

/// A success.
pub(super) fn ok(id: Option<u64>) -> String {
    let id = id.map_or(String::new(), |id| format!(r#","ackId":{id}"#));
    format!(r#"{{"text":"Success","code":0{id}}}"#)
}

/// Lines with number and index (or filler).
pub(super) fn lines(of: &[(u32, &str)]) -> Vec<u8> {
    let line =
        |(number, index): &(u32, &str)| format!("{{\"index\":\"{index}\",\"event\":{{\"n\":{number}}}}}\n");
    of.iter().map(line).collect::<Vec<_>>().concat().into_bytes()
}

/// The ids of a poll.
pub(super) fn ids(body: &[u8]) -> Vec<u64> {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap();
    value["acks"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
}

/// A request as the server reads it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) conn: ConnId,
    pub(super) route: RouteId,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<String> {
        let mut lines = self.head.lines();
        lines.find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    }

    /// Numbers of its events.
    pub(super) fn numbers(&self) -> Vec<u32> {
        let lines = self.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let number = |line: &[u8]| {
            let value: serde_json::Value = serde_json::from_slice(line).unwrap();
            u32::try_from(value["event"]["n"].as_u64().unwrap()).unwrap()
        };
        lines.map(number).collect()
    }
}

pub(super) struct Rig {
    pub(super) hec: Hec,
    pub(super) cx: Context,
    pub(super) flow: Rc<Flow>,
    pub(super) now: Instant,
    pub(super) open: BTreeSet<ConnId>,
    pub(super) refuse_connects: BTreeSet<RouteId>,
    pub(super) settled: Vec<(u32, u32, Settled)>,
    routes: std::collections::BTreeMap<ConnId, RouteId>,
    requests: Vec<Seen>,
    wire: std::collections::BTreeMap<ConnId, Vec<u8>>,
    /// Bytes that the connections take.
    pub(super) takes: usize,
    next: u32,
}

impl Rig {
    /// Every endpoint has one address of its number.
    pub(super) fn new(params: Params) -> Self {
        let endpoints = u16::try_from(params.endpoints.len()).unwrap();
        let flow = Flow::new(64 << 20);
        let mut cx = Context::new(FramePool::new(Rc::clone(&flow.frames), 1_000), 1);
        let mut rig = Self {
            hec: Hec::new(params, &mut cx),
            cx,
            flow,
            now: Instant(0) + SECOND,
            open: BTreeSet::new(),
            refuse_connects: BTreeSet::new(),
            settled: Vec::new(),
            routes: std::collections::BTreeMap::new(),
            requests: Vec::new(),
            wire: std::collections::BTreeMap::new(),
            takes: usize::MAX,
            next: 0,
        };
        for endpoint in 0..endpoints {
            let found = Ok(vec![RouteId(u32::from(endpoint))]);
            rig.hec.handle_routes(rig.now, EndpointId(endpoint), found, &mut rig.cx);
        }
        rig.run();
        rig
    }

    /// In `required`: the question whether there are acknowledgements is answered well.
    pub(super) fn admit(&mut self) {
        let asked = self.only_request();
        self.answer(asked.conn, 200, &[], r#"{"acks":{"0":false}}"#);
    }

    /// A frame with so many records.
    pub(super) fn push(&mut self, records: u32) {
        let numbers: Vec<(u32, &str)> = (self.next..self.next + records).map(|number| (number, "")).collect();
        self.push_lines(&numbers);
    }

    pub(super) fn push_lines(&mut self, of: &[(u32, &str)]) {
        let mut frame = self.cx.pool.take(self.now).unwrap();
        frame.bytes.extend_from_slice(&lines(of));
        frame.settle_credit();
        for (number, _) in of {
            let (start, end) = (*number, number + 1);
            frame.note(Segment { shard: ShardId(0), epoch: Epoch(1), pull: PullId(0), start, end });
            self.next = self.next.max(end);
        }
        self.hec.push(frame);
        self.run();
    }

    /// Time goes by in steps, deadlines are kept.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            let due = self.hec.poll_timeout().filter(|due| *due <= end);
            self.now = due.map_or(end, |due| due.max(self.now + Duration::from_millis(1)));
            self.hec.handle_timeout(self.now, &mut self.cx);
            self.run();
        }
    }

    pub(super) fn answer(&mut self, conn: ConnId, status: u16, headers: &[&str], body: &str) {
        let mut head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n", body.len());
        for header in headers {
            head.push_str(header);
            head.push_str("\r\n");
        }
        let bytes = format!("{head}\r\n{body}");
        assert!(self.hec.handle_received(self.now, conn, bytes.as_bytes(), &mut self.cx), "{conn:?} is gone");
        self.run();
    }

    pub(super) fn close(&mut self, conn: ConnId, kind: ClosedKind) {
        self.open.remove(&conn);
        let why = Closed { kind, detail: "by the test".into() };
        self.hec.handle_closed(self.now, conn, &why, &mut self.cx);
        self.run();
    }

    pub(super) fn take_requests(&mut self) -> Vec<Seen> {
        core::mem::take(&mut self.requests)
    }

    pub(super) fn only_request(&mut self) -> Seen {
        let mut all = self.take_requests();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    pub(super) fn settled(&mut self) -> Vec<(u32, u32, Settled)> {
        core::mem::take(&mut self.settled)
    }

    /// First record, end, reason.
    pub(super) fn refused(&mut self) -> Vec<(u32, u32, Refusal)> {
        let refused = core::mem::take(&mut self.cx.refused);
        let name = |(frame, refusal): (Frame, Refusal)| {
            (frame.segments[0].start, frame.segments.last().unwrap().end, refusal)
        };
        refused.into_iter().map(name).collect()
    }

    fn run(&mut self) {
        self.hec.dispatch(self.now, &mut self.cx);
        while let Some(action) = self.cx.actions.pop_front() {
            match action {
                Action::Connect { conn, to: To::Sink(route) } => {
                    self.routes.insert(conn, route);
                    if self.refuse_connects.contains(&route) {
                        let why = Closed { kind: ClosedKind::Connect, detail: "refused".into() };
                        self.hec.handle_closed(self.now, conn, &why, &mut self.cx);
                    } else {
                        self.open.insert(conn);
                        assert!(self.hec.handle_connected(self.now, conn, &mut self.cx));
                    }
                    self.hec.dispatch(self.now, &mut self.cx);
                }
                Action::Transmit(conn) => self.transmit(conn),
                Action::Close(conn) => {
                    self.open.remove(&conn);
                }
                Action::Resolve(_) => {}
                other => panic!("{other:?}"),
            }
        }
        for (segment, how) in self.cx.settled.drain(..) {
            self.settled.push((segment.start, segment.end, how));
        }
    }

    fn transmit(&mut self, conn: ConnId) {
        while self.takes > 0
            && let Some(chunk) = self.hec.poll_transmit(self.now, conn)
        {
            let bytes = chunk.get(..self.takes).unwrap_or(chunk).to_vec();
            self.takes -= bytes.len();
            self.hec.handle_transmitted(self.now, conn, bytes.len(), &mut self.cx);
            self.wire.entry(conn).or_default().extend_from_slice(&bytes);
        }
        let Some(wire) = self.wire.get_mut(&conn) else { return };
        while let Some(end) = memchr::memmem::find(wire, b"\r\n\r\n") {
            let head = String::from_utf8(wire[..end + 2].to_vec()).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            let Some(body) = wire.get(end + 4..end + 4 + length).map(<[u8]>::to_vec) else { return };
            wire.drain(..end + 4 + length);
            self.requests.push(Seen { conn, route: self.routes[&conn], head, body });
        }
    }
}
