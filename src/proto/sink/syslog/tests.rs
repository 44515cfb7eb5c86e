//! The syslog sink with frames made by hand and a driver that does what it is told.

mod relp;
mod streams;

use std::collections::BTreeMap;
use std::rc::Rc;

use super::*;
use crate::proto::event::{Alarm, Cause, Closed, ClosedKind, Report, SyslogTrouble, To};
use crate::proto::flow::Flow;
use crate::proto::frame::{FramePool, Segment};
use crate::proto::ids::PullId;

const SECOND: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(90);
const MEMORY: u64 = 800_000;

/// The sink, its context, and everything that was asked of the driver.
struct Rig {
    sink: Syslog,
    cx: Context,
    flow: Rc<Flow>,
    now: Instant,
    /// Asked for and not answered.
    connecting: Vec<(ConnId, RouteId)>,
    finishing: Vec<ConnId>,
    measuring: Vec<ConnId>,
    /// The peers' kernels take nothing of what drains.
    lags: bool,
    closed: Vec<ConnId>,
    /// What was written on each connection.
    wire: BTreeMap<ConnId, Vec<u8>>,
    alarms: Vec<Alarm>,
    clears: usize,
    /// First records of the settled names, in order of settling.
    settled: Vec<u32>,
}

impl Rig {
    fn new(endpoints: &[Transport]) -> Self {
        Self::with(endpoints, |_| ())
    }

    fn with(endpoints: &[Transport], change: impl FnOnce(&mut Params)) -> Self {
        let flow = Flow::new(MEMORY);
        let mut cx = Context::new(FramePool::new(Rc::clone(&flow.frames), 1_000), 1);
        let mut params = Params {
            endpoints: endpoints.to_vec(),
            drain_interval: INTERVAL,
            timeout: TIMEOUT,
            connections: 1,
            window: 4,
            udp_rate: 0,
        };
        change(&mut params);
        let mut rig = Self {
            sink: Syslog::new(params, &mut cx),
            cx,
            flow,
            now: Instant(0) + SECOND,
            connecting: Vec::new(),
            finishing: Vec::new(),
            measuring: Vec::new(),
            lags: false,
            closed: Vec::new(),
            wire: BTreeMap::new(),
            alarms: Vec::new(),
            clears: 0,
            settled: Vec::new(),
        };
        for at in 0..endpoints.len() {
            let (endpoint, route) =
                (EndpointId(u16::try_from(at).unwrap()), RouteId(u32::try_from(at).unwrap()));
            rig.sink.handle_routes(rig.now, endpoint, Ok(vec![route]), &mut rig.cx);
        }
        rig.run();
        rig
    }

    /// A frame of one record of shard 0.
    fn push(&mut self, record: u32, text: &[u8]) {
        self.push_of(0, record..record + 1, text);
    }

    fn push_of(&mut self, shard: u32, records: core::ops::Range<u32>, text: &[u8]) {
        let mut frame = self.cx.pool.take(self.now).expect("credit");
        frame.bytes.extend_from_slice(text);
        frame.settle_credit();
        let (start, end) = (records.start, records.end);
        frame.note(Segment { shard: ShardId(shard), epoch: Epoch(1), pull: PullId(0), start, end });
        self.sink.push(frame);
        self.run();
    }

    /// Lets the sink dispatch, and does what it asks for until it asks for nothing more.
    fn run(&mut self) {
        self.sink.dispatch(self.now, &mut self.cx);
        while let Some(action) = self.cx.actions.pop_front() {
            match action {
                Action::Connect { conn, to: To::Sink(route) } => self.connecting.push((conn, route)),
                Action::Transmit(conn) => self.transmit(conn, usize::MAX),
                Action::Finish(conn) => self.finishing.push(conn),
                Action::Measure(conn) if self.drains_on(conn) => self.measure(conn, u64::from(self.lags)),
                Action::Measure(conn) => self.measuring.push(conn),
                Action::Close(conn) => self.closed.push(conn),
                _ => {}
            }
        }
        while let Some(report) = self.cx.reports.pop_front() {
            match report {
                Report::Alarm(alarm) => self.alarms.push(alarm),
                Report::Clear { .. } => self.clears += 1,
                other => panic!("{other:?}"),
            }
        }
        for (segment, how) in self.cx.settled.drain(..) {
            assert_eq!(how, Settled::Acked);
            self.settled.extend(segment.start..segment.end);
        }
    }

    /// Writes at most `bytes` of what the sink has for this connection.
    fn transmit(&mut self, conn: ConnId, mut bytes: usize) {
        while bytes > 0
            && let Some(chunk) = self.sink.poll_transmit(self.now, conn)
        {
            let taken = chunk.len().min(bytes);
            self.wire.entry(conn).or_default().extend_from_slice(&chunk[..taken]);
            bytes -= taken;
            self.sink.handle_transmitted(self.now, conn, taken, &mut self.cx);
        }
    }

    /// The connection that was asked for last is made; its name.
    fn connect(&mut self) -> ConnId {
        let (conn, _) = self.connecting.pop().expect("a connection was asked for");
        assert!(self.sink.handle_connected(self.now, conn, &mut self.cx));
        self.run();
        conn
    }

    fn receive(&mut self, conn: ConnId, bytes: &[u8]) {
        assert!(self.sink.handle_received(self.now, conn, bytes, &mut self.cx));
        self.run();
    }

    /// The silence between the last byte and our FIN.
    fn hush(&mut self) {
        self.wait(Duration::from_millis(20));
    }

    /// The driver has sent our FIN.
    fn finished(&mut self, conn: ConnId) {
        if !self.finishing.contains(&conn) {
            self.hush();
        }
        assert!(self.finishing.contains(&conn), "{conn:?} was not to be finished");
        self.finishing.retain(|known| *known != conn);
        self.sink.handle_finished(self.now, conn);
        self.run();
    }

    fn drains_on(&self, conn: ConnId) -> bool {
        self.sink.conns.iter().any(|known| known.id == conn && matches!(known.talk, Talk::Drain(..)))
    }

    fn measure(&mut self, conn: ConnId, unacked: u64) {
        let written = self.wire.get(&conn).map_or(0, Vec::len) as u64;
        let ledger = Ledger { sealed: written, written, unacked };
        self.sink.handle_ledger(self.now, conn, ledger, &mut self.cx);
    }

    fn ledger(&mut self, conn: ConnId, unacked: u64) {
        self.measuring.retain(|known| *known != conn);
        self.measure(conn, unacked);
        self.run();
    }

    fn closes(&mut self, conn: ConnId, kind: ClosedKind, unacked: u64) {
        self.ledger(conn, unacked);
        self.finishing.retain(|known| *known != conn);
        let why = Closed { kind, detail: "as the test wants it".to_owned() };
        assert!(self.sink.handle_closed(self.now, conn, &why, &mut self.cx));
        self.run();
    }

    /// The peer has read everything and ends behind us.
    fn drains(&mut self, conn: ConnId) {
        self.finished(conn);
        self.closes(conn, ClosedKind::Eof, 0);
    }

    /// Time goes by, with every deadline on its way.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        let mut turns = 0;
        while let Some(due) = self.sink.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.sink.handle_timeout(self.now, &mut self.cx);
            self.run();
            turns += 1;
            assert!(turns < 10_000, "a deadline stays in the past");
        }
        self.now = end;
    }

    /// The next deadline, the regular looking up of names left out.
    fn deadline(&self) -> Option<Instant> {
        let lookups = self.sink.routes.poll_timeout();
        self.sink.poll_timeout().filter(|at| Some(*at) != lookups)
    }

    fn wire(&self, conn: ConnId) -> &[u8] {
        self.wire.get(&conn).map_or(&[], Vec::as_slice)
    }

    fn last_trouble(&self) -> &SyslogTrouble {
        match &self.alarms.last().expect("an alarm").cause {
            Cause::Syslog(trouble) => trouble,
            other => panic!("{other:?}"),
        }
    }

    /// A receiver that works, until nothing is left.
    fn work_off(&mut self) {
        let mut rounds = 0;
        while self.sink.frames() > 0 {
            rounds += 1;
            assert!(rounds < 60, "no progress: {:?}", self.settled);
            while !self.connecting.is_empty() {
                self.connect();
            }
            for conn in self.finishing.clone() {
                self.drains(conn);
            }
            self.wait(SECOND);
        }
    }

    /// The law of credit: with nothing in the sink nothing is out.
    fn assert_balanced(&self) {
        assert_eq!(self.sink.frames(), 0);
        assert_eq!(self.flow.frames.used(), 0);
    }
}

#[test]
fn datagrams_count_when_they_are_written_and_are_counted_as_unproven() {
    let mut rig = Rig::new(&[Transport::Udp]);
    let conn = rig.connect();
    rig.push(0, &marked::marked(&[(b"one", true)]));
    rig.push(1, &marked::marked(&[(b"two", true)]));
    assert_eq!(rig.wire(conn), b"onetwo");
    assert_eq!(rig.settled, [0, 1]);
    assert_eq!(rig.cx.counters.unproven_records, 2);
    rig.assert_balanced();

    let why = Closed { kind: ClosedKind::Connect, detail: "connection refused".to_owned() };
    rig.sink.handle_closed(rig.now, conn, &why, &mut rig.cx);
    rig.run();
    assert!(matches!(&rig.alarms[0].cause, Cause::Transport(closed) if closed.kind == ClosedKind::Connect));
    rig.push(2, &marked::marked(&[(b"three", true)]));
    rig.wait(SECOND);
    rig.connect();
    assert_eq!((rig.settled.len(), rig.clears), (3, 0), "one good send says nothing about the receiver");
    rig.wait(2 * SECOND);
    rig.push(3, &marked::marked(&[(b"four", true)]));
    assert_eq!(rig.clears, 1);
}
