//! Splunk HTTP Event Collector as a sink: frames in, settled records out.
//!
//! Why: HEC's answers are where other senders lose data (a whole frame dropped for one bad event, an unreadable
//! page taken for a receipt); every way out of here is either "stored" or "goes again".
//! Invariants: 1. a frame given to [`Hec::push`] ends as settled records, never as nothing. 2. frames of one
//!  shard are on one connection at a time, in order, as long as nothing fails. 3. an id that the indexer has to
//!  confirm settles nothing until it is confirmed.
//! Bounds: frames are bounded by credit, connections by `connections` per address, requests by `pipeline_depth`.
//! Driven by: `pipeline`: handle_* with events, then `dispatch`, then `poll_transmit` per connection.
//! Spec: Splunk "Format events for HTTP Event Collector"; RFC 9112 for pipelining.

pub mod ack;
pub mod answer;
mod conn;
mod poll;
mod route;

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use smallvec::SmallVec;
use zeroize::Zeroizing;

use self::ack::{Acks, ChannelKey};
use self::answer::{Judgement, judge};
use self::conn::{Conn, Request, State};
use self::poll::Polls;
use self::route::{Failure, Routes};
use crate::proto::context::{Context, Settled, Trouble, shard_scope};
use crate::proto::event::{Action, Cause, Closed, ClosedKind, HecAnswer, To};
use crate::proto::frame::Frame;
use crate::proto::http1::{Limits, Progress, write_request_head};
use crate::proto::ids::{AckId, ConnId, EndpointId, Epoch, RouteId, ShardId};
use crate::proto::time::Instant;

/// Idle connections are closed before splunkd does it (12 s when it is busy), so that no request meets a
/// connection that is just being closed.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// How long to wait before a record that the sink refuses for its content is offered again.
const REFUSED_RETRY: Duration = Duration::from_secs(30);

/// When the 200 counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckMode {
    /// Wait for the indexer where the answer carries an `ackId`, else the 200 counts.
    Auto,
    /// An answer without an `ackId` confirms nothing.
    Required,
    /// The 200 counts.
    Off,
}

/// One URL of the settings.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// For the `Host` header: name, and port where it is not the scheme's.
    pub authority: String,
    /// Path before `/services/collector`, mostly empty.
    pub base_path: String,
}

/// Settings of the sink, checked.
#[derive(Clone)]
pub struct Params {
    /// The endpoints, in the order of the settings.
    pub endpoints: Vec<Endpoint>,
    /// The HEC token.
    pub token: Zeroizing<String>,
    /// When the 200 counts.
    pub ack: AckMode,
    /// How long an `ackId` may stay unconfirmed before its records are pulled again.
    pub ack_timeout: Duration,
    /// Time between two polls of a channel.
    pub poll_interval: Duration,
    /// Connections per address.
    pub connections: usize,
    /// Requests under way per connection.
    pub pipeline_depth: usize,
    /// Time for an answer.
    pub timeout: Duration,
    /// Compress request bodies with gzip, level 1.
    pub gzip: bool,
}

impl core::fmt::Debug for Params {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("hec::Params")
            .field("endpoints", &self.endpoints)
            .field("ack", &self.ack)
            .finish_non_exhaustive()
    }
}

/// A record that the sink refuses for its content, waiting to be offered again.
#[derive(Debug)]
struct Refused {
    frame: Frame,
    due: Instant,
}

/// What requests to one endpoint carry.
#[derive(Debug)]
struct Target {
    authority: String,
    event: String,
    ack: String,
}

/// Where a frame may go now.
enum Place {
    /// To the connection at this position.
    Conn(usize),
    /// Behind earlier frames of its shard, which fill their connection.
    Behind,
    /// No connection has room.
    Nowhere,
}

/// The sink of one pipeline on one executor.
pub struct Hec {
    params: Params,
    targets: Vec<Target>,
    authorization: Zeroizing<String>,
    routes: Routes,
    conns: Vec<Conn>,
    polls: Polls,
    acks: Acks,
    waiting: VecDeque<Frame>,
    refused: Vec<Refused>,
    refused_shards: BTreeMap<ShardId, Trouble>,
    scratch: simd_json::Buffers,
    compressor: flate2::Compress,
    /// Some connection was made. Until then one is tried without a frame, so that what is wrong with an address
    /// or a certificate is told at the start and not with the first log.
    greeted: bool,
}

impl core::fmt::Debug for Hec {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Hec")
            .field("conns", &self.conns)
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}

impl Hec {
    /// A sink without connections; asks for the addresses of its endpoints.
    pub fn new(params: Params, cx: &mut Context) -> Self {
        let routes = Routes::new(params.endpoints.len(), cx);
        let authorization = Zeroizing::new(format!("Splunk {}", params.token.as_str()));
        let acks = Acks::new(params.ack_timeout, params.poll_interval);
        let targets = params.endpoints.iter().map(|endpoint| Target {
            authority: endpoint.authority.clone(),
            event: format!("{}/services/collector/event", endpoint.base_path),
            ack: format!("{}/services/collector/ack", endpoint.base_path),
        });
        Self {
            targets: targets.collect(),
            authorization,
            routes,
            conns: Vec::new(),
            polls: Polls::new(params.timeout),
            acks,
            waiting: VecDeque::new(),
            refused: Vec::new(),
            refused_shards: BTreeMap::new(),
            scratch: simd_json::Buffers::default(),
            compressor: flate2::Compress::new_gzip(flate2::Compression::fast(), 15),
            greeted: false,
            params,
        }
    }

    /// Takes a frame over.
    pub fn push(&mut self, frame: Frame) {
        self.waiting.push_back(frame);
    }

    /// True while bytes of this shard are in memory here.
    pub fn carries(&self, shard: ShardId) -> bool {
        let of_shard = |frame: &Frame| frame.segments.iter().any(|segment| segment.shard == shard);
        self.waiting.iter().any(of_shard)
            || self.conns.iter().any(|conn| conn.carries(shard))
            || self.refused.iter().any(|refused| of_shard(&refused.frame))
    }

    /// Frames in memory, acknowledgements not counted.
    pub fn frames(&self) -> usize {
        self.waiting.len()
            + self.refused.len()
            + self.conns.iter().map(|conn| conn.requests.len()).sum::<usize>()
    }

    /// Shards that wait for an operator because of a refused record.
    pub fn held_shards(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.refused_shards.iter().filter(|(_, trouble)| trouble.is_raised()).map(|(shard, _)| *shard)
    }

    /// True while some endpoint does not take anything.
    pub fn is_troubled(&self) -> bool {
        self.routes.all_troubled()
    }

    /// The lease of a shard is lost: what was not given to a connection yet is forgotten.
    pub fn forget(&mut self, now: Instant, shard: ShardId, epoch: Epoch, cx: &mut Context) {
        let stale = |frame: &Frame| {
            frame.segments.iter().all(|segment| segment.shard == shard && segment.epoch == epoch)
        };
        let mut kept = VecDeque::with_capacity(self.waiting.len());
        for frame in self.waiting.drain(..) {
            if stale(&frame) { cx.pool.give(frame) } else { kept.push_back(frame) }
        }
        self.waiting = kept;
        let mut kept = Vec::with_capacity(self.refused.len());
        for refused in self.refused.drain(..) {
            if stale(&refused.frame) { cx.pool.give(refused.frame) } else { kept.push(refused) }
        }
        self.refused = kept;
        for conn in &mut self.conns {
            for channel in conn.forget_unwritten(&stale, cx) {
                self.acks.withdraw(channel, now, cx);
            }
        }
        self.refused_shards.remove(&shard);
    }

    /// The driver looked addresses up.
    pub fn handle_routes(
        &mut self,
        now: Instant,
        endpoint: EndpointId,
        found: Result<Vec<RouteId>, String>,
        cx: &mut Context,
    ) {
        self.routes.handle_routes(now, endpoint, found, cx);
    }

    /// A connection is ready. Returns false when it is not one of this sink.
    pub fn handle_connected(&mut self, now: Instant, id: ConnId, cx: &mut Context) -> bool {
        if self.polls.handle_connected(now, id) {
            cx.actions.push_back(Action::Transmit(id));
            return true;
        }
        let Some(conn) = self.conns.iter_mut().find(|conn| conn.id == id) else { return false };
        conn.state = State::Open;
        conn.used = now;
        if !self.greeted {
            self.greeted = true;
            self.routes.greet(conn.route, cx);
        }
        true
    }

    /// Bytes came. Returns false when the connection is not one of this sink.
    pub fn handle_received(&mut self, now: Instant, id: ConnId, bytes: &[u8], cx: &mut Context) -> bool {
        if self.polls.owns(id) {
            self.handle_poll_bytes(now, id, bytes, cx);
            return true;
        }
        let Some(at) = self.conns.iter().position(|conn| conn.id == id) else { return false };
        let mut rest = bytes;
        while let Some(conn) = self.conns.get_mut(at).filter(|conn| conn.id == id) {
            let step = conn.parser.handle(rest, &mut conn.body);
            match step {
                Err(error) => {
                    self.break_conn(now, at, &Cause::Protocol(error.to_string()), cx);
                    break;
                }
                Ok((used, progress)) => {
                    rest = rest.get(used..).unwrap_or_default();
                    match progress {
                        Progress::Head => {}
                        Progress::NeedMore => break,
                        Progress::Done => self.handle_answer(now, at, cx),
                    }
                }
            }
        }
        true
    }

    /// Bytes of the last chunk went out. Returns false when the connection is not one of this sink.
    pub fn handle_transmitted(&mut self, now: Instant, id: ConnId, bytes: usize, cx: &mut Context) -> bool {
        if self.polls.handle_transmitted(now, id, bytes) {
            return true;
        }
        let Some(conn) = self.conns.iter_mut().find(|conn| conn.id == id) else { return false };
        cx.counters.sent_bytes += bytes as u64;
        conn.advance(now, bytes);
        true
    }

    /// A connection ended. Returns false when it is not one of this sink.
    pub fn handle_closed(&mut self, now: Instant, id: ConnId, why: &Closed, cx: &mut Context) -> bool {
        if let Some((route, asked)) = self.polls.handle_closed(id) {
            if asked {
                self.routes.poll_failed(route, Cause::Transport(why.clone()), self.params.poll_interval, cx);
            }
            return true;
        }
        let Some(at) = self.conns.iter().position(|conn| conn.id == id) else { return false };
        // An answer may be complete only now, where the body ends with the connection.
        if let Some(conn) = self.conns.get_mut(at)
            && why.kind == ClosedKind::Eof
            && matches!(conn.parser.handle_eof(), Ok(Progress::Done))
        {
            self.handle_answer(now, at, cx);
        }
        if let Some(at) = self.conns.iter().position(|conn| conn.id == id) {
            self.end_conn(now, at, why, cx);
        }
        true
    }

    /// A deadline passed.
    pub fn handle_timeout(&mut self, now: Instant, cx: &mut Context) {
        self.acks.handle_timeout(now, cx);
        self.routes.handle_timeout(now, cx);
        let timeout = self.params.timeout;
        let late = |conn: &Conn| request_deadline(conn, timeout).is_some_and(|due| due <= now);
        while let Some(at) = self.conns.iter().position(late) {
            let detail = format!("no answer within {} s", timeout.as_secs());
            let why = Closed { kind: ClosedKind::Timeout, detail };
            if let Some(conn) = self.conns.get(at) {
                cx.actions.push_back(Action::Close(conn.id));
            }
            self.end_conn(now, at, &why, cx);
        }
        while let Some(at) =
            self.conns.iter().position(|conn| idle_deadline(conn).is_some_and(|due| due <= now))
        {
            self.close_idle(at, cx);
        }
        if let Some(route) = self.polls.handle_timeout(now, cx) {
            let detail = "no answer to an acknowledgement poll".to_owned();
            let why = Closed { kind: ClosedKind::Timeout, detail };
            self.routes.poll_failed(route, Cause::Transport(why), self.params.poll_interval, cx);
        }
        let mut at = 0;
        while at < self.refused.len() {
            if self.refused.get(at).is_some_and(|refused| refused.due <= now) {
                let refused = self.refused.swap_remove(at);
                self.waiting.push_back(refused.frame);
            } else {
                at += 1;
            }
        }
    }

    /// The next moment that `handle_timeout` is needed.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let conns = self
            .conns
            .iter()
            .filter_map(|conn| request_deadline(conn, self.params.timeout).or_else(|| idle_deadline(conn)));
        let refused = self.refused.iter().map(|refused| refused.due);
        let paused = if self.waiting.is_empty() && self.greeted { None } else { self.routes.next_resume() };
        let polls = self.routes.ids().filter(|route| !self.polls.is_busy(*route));
        let polls = polls.filter_map(|route| self.acks.next_poll(route));
        conns
            .chain(refused)
            .chain(paused)
            .chain(polls)
            .chain(self.acks.poll_timeout())
            .chain(self.polls.poll_timeout())
            .chain(self.routes.poll_timeout())
            .min()
    }

    /// The next bytes of a connection of this sink.
    pub fn poll_transmit(&mut self, now: Instant, id: ConnId) -> Option<&[u8]> {
        if self.polls.owns(id) {
            return self.polls.chunk(id);
        }
        self.conns.iter_mut().find(|conn| conn.id == id)?.chunk(now)
    }

    /// Gives waiting frames to connections, opens connections, sends polls that are due.
    pub fn dispatch(&mut self, now: Instant, cx: &mut Context) {
        self.assign_frames(now, cx);
        let due = self.routes.ids().filter(|route| {
            !self.polls.is_busy(*route) && self.acks.next_poll(*route).is_some_and(|due| due <= now)
        });
        let due: SmallVec<[RouteId; 8]> = due.collect();
        for route in due {
            self.send_poll(now, route, cx);
        }
    }

    fn send_poll(&mut self, now: Instant, route: RouteId, cx: &mut Context) {
        let Some(poll) = self.acks.poll(route, now) else { return };
        let mut out = Vec::with_capacity(512 + poll.body.len());
        let Some(target) = self.target(route) else { return };
        let fields = [
            ("Host", target.authority.as_str()),
            ("User-Agent", USER_AGENT),
            ("Authorization", self.authorization.as_str()),
            ("X-Splunk-Request-Channel", self.acks.guid(poll.asked.channel)),
            ("Content-Type", "application/json"),
        ];
        // Settings were checked: no header can hold a line break.
        let _ = write_request_head(
            &mut out,
            "POST",
            &target.ack,
            fields.into_iter(),
            Some(poll.body.len() as u64),
        );
        out.extend_from_slice(&poll.body);
        self.polls.send(now, route, poll.asked, out, cx);
    }

    /// Closes every connection; used when nothing is in flight any more.
    pub fn close_all(&mut self, cx: &mut Context) {
        for conn in self.conns.drain(..) {
            cx.actions.push_back(Action::Close(conn.id));
        }
        self.polls.close_all(cx);
    }

    fn target(&self, route: RouteId) -> Option<&Target> {
        self.targets.get(usize::from(self.routes.endpoint(route)?.0))
    }

    fn assign_frames(&mut self, now: Instant, cx: &mut Context) {
        let mut blocked: SmallVec<[ShardId; 16]> = SmallVec::new();
        let mut at = 0;
        let mut starved = 0;
        while let Some(shard) = self.waiting.get(at).map(first_shard) {
            if blocked.contains(&shard) {
                at += 1;
                continue;
            }
            match self.place_for(now, shard) {
                Place::Conn(conn) => {
                    if let Some(frame) = self.waiting.remove(at) {
                        self.start_request(conn, frame, cx);
                    }
                }
                Place::Behind => {
                    blocked.push(shard);
                    at += 1;
                }
                Place::Nowhere => {
                    starved += 1;
                    blocked.push(shard);
                    at += 1;
                }
            }
        }
        let greeting = usize::from(!self.greeted && self.conns.is_empty());
        self.open_conns(now, starved.max(greeting), cx);
    }

    /// Where a frame of this shard may go now.
    fn place_for(&self, now: Instant, shard: ShardId) -> Place {
        let depth = |conn: &Conn| self.routes.depth(conn.route, self.params.pipeline_depth);
        let usable = |conn: &Conn| {
            conn.state == State::Open && conn.has_room(depth(conn)) && self.routes.is_usable(now, conn.route)
        };
        if let Some(home) = self.conns.iter().position(|conn| conn.carries(shard)) {
            return match self.conns.get(home) {
                Some(conn) if usable(conn) => Place::Conn(home),
                _ => Place::Behind,
            };
        }
        let load = |conn: &Conn| {
            (self.routes.latency_ns(conn.route).saturating_mul(conn.requests.len() as u64 + 1), conn.id)
        };
        let best =
            self.conns.iter().enumerate().filter(|(_, conn)| usable(conn)).min_by_key(|(_, conn)| load(conn));
        best.map_or(Place::Nowhere, |(at, _)| Place::Conn(at))
    }

    fn open_conns(&mut self, now: Instant, starved: usize, cx: &mut Context) {
        let connecting = self.conns.iter().filter(|conn| conn.state == State::Connecting).count();
        for _ in connecting..starved {
            let count = |route: RouteId| self.conns.iter().filter(|conn| conn.route == route).count();
            let usable = self
                .routes
                .ids()
                .filter(|route| self.routes.is_usable(now, *route) && !self.routes.is_gone(*route));
            let Some((open, route)) = usable.map(|route| (count(route), route)).min() else { return };
            if open >= self.params.connections {
                return;
            }
            let id = cx.connect(To::Sink(route));
            let channel = self.acks.open_channel(route, now, cx);
            let limits = Limits { head_bytes_max: 64 << 10, body_bytes_max: answer::BODY_BYTES_MAX };
            self.conns.push(Conn::new(id, route, channel, now, limits));
        }
    }

    fn start_request(&mut self, at: usize, frame: Frame, cx: &mut Context) {
        let Some((route, channel)) = self.conns.get(at).map(|conn| (conn.route, conn.channel)) else {
            self.waiting.push_front(frame);
            return;
        };
        let Some(mut head) = self.conns.get_mut(at).map(Conn::take_head) else { return };
        let packed = if self.params.gzip { gzip(&mut self.compressor, &frame.bytes) } else { Vec::new() };
        let length = if packed.is_empty() { frame.bytes.len() } else { packed.len() };
        let encoding = (!packed.is_empty()).then_some(("Content-Encoding", "gzip"));
        if let Some(target) = self.target(route) {
            let fields = [
                ("Host", target.authority.as_str()),
                ("User-Agent", USER_AGENT),
                ("Authorization", self.authorization.as_str()),
                ("X-Splunk-Request-Channel", self.acks.guid(channel)),
                ("Content-Type", "application/json"),
            ];
            let fields = fields.into_iter().chain(encoding);
            let _ = write_request_head(&mut head, "POST", &target.event, fields, Some(length as u64));
        }
        cx.counters.sent_requests += 1;
        self.acks.begin(channel);
        if let Some(conn) = self.conns.get_mut(at) {
            conn.push(frame, head, packed);
            cx.actions.push_back(Action::Transmit(conn.id));
        }
    }

    /// A whole answer stands in the connection's parser and body.
    fn handle_answer(&mut self, now: Instant, at: usize, cx: &mut Context) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        let Some((status, location, keep_alive)) = conn
            .parser
            .head()
            .map(|head| (head.status(), head.header("location").map(ToOwned::to_owned), head.keep_alive()))
        else {
            return;
        };
        let Some((request, whole)) = conn.answered(now) else {
            self.break_conn(now, at, &Cause::Protocol("an answer to no request".to_owned()), cx);
            return;
        };
        let (id, route) = (conn.id, conn.route);
        let records = request.frame.records();
        let judgement = judge(status, location.as_deref(), &mut conn.body, records, &mut self.scratch);
        conn.parser.reset();
        conn.body.clear();
        let channel = request.channel;
        self.act(now, at, request, judgement, cx);
        self.acks.answered(channel, now, cx);
        self.leave_if_replaced(at, channel, cx);
        if (!keep_alive || !whole)
            && let Some(at) = self.conns.iter().position(|conn| conn.id == id)
        {
            let owed = self.conns.get(at).is_some_and(|conn| !conn.requests.is_empty());
            if owed {
                self.routes.go_shallow(route);
            }
            cx.actions.push_back(Action::Close(id));
            self.take_down(at, cx);
        }
    }

    fn act(&mut self, now: Instant, at: usize, request: Request, judgement: Judgement, cx: &mut Context) {
        let Some(route) = self.conns.get(at).map(|conn| conn.route) else {
            self.waiting.push_front(request.frame);
            return;
        };
        match judgement {
            Judgement::Taken { ack_id: None, .. } if self.params.ack == AckMode::Required => {
                let answer = HecAnswer {
                    status: 200,
                    code: Some(0),
                    text: "the answer carries no ackId: indexer acknowledgement is off for this token"
                        .to_owned(),
                    invalid_event: None,
                    location: None,
                };
                cx.counters.duplicates_possible_records += u64::from(request.frame.records());
                self.routes.fail(now, route, Failure::hold(Cause::Hec(answer)), cx);
                self.again(request, cx);
            }
            Judgement::Taken { ack_id, slow_down } => {
                let took = request.started.map_or(Duration::ZERO, |started| now.since(started));
                self.routes.succeed(now, route, took, slow_down, cx);
                if request.frame.refused {
                    self.forgive(first_shard(&request.frame), cx);
                }
                self.taken(now, at, request, ack_id, cx);
            }
            Judgement::Partial { accepted, ack_id, answer } => {
                self.routes.succeed(now, route, Duration::ZERO, false, cx);
                self.partly_taken(now, at, request, (accepted, ack_id), answer, cx);
            }
            Judgement::Again { answer, ambiguous, hold, new_channel } => {
                if ambiguous {
                    cx.counters.duplicates_possible_records += u64::from(request.frame.records());
                }
                let cause = Cause::Hec(answer);
                let failure = if hold { Failure::hold(cause) } else { Failure::busy(cause) };
                self.routes.fail(now, route, failure, cx);
                if new_channel {
                    self.replace_channel(now, at, cx);
                }
                self.again(request, cx);
            }
        }
    }

    fn taken(&mut self, now: Instant, at: usize, request: Request, ack_id: Option<AckId>, cx: &mut Context) {
        let Request { frame, head, channel, started, .. } = request;
        let started = started.unwrap_or(now);
        match ack_id {
            Some(id) if self.params.ack != AckMode::Off => {
                if self.acks.add(channel, id, frame.segments.clone(), started, now, cx) {
                    self.replace_channel(now, at, cx);
                }
            }
            _ => {
                cx.counters.acked_batches += 1;
                cx.counters.sink_ack_seconds.observe(now.since(started));
                cx.settle(&frame.segments, Settled::Acked);
            }
        }
        cx.pool.give(frame);
        if let Some(conn) = self.conns.get_mut(at) {
            conn.recycle(head);
        }
    }

    /// The records before the refused one are stored; the refused one waits, the rest goes again.
    fn partly_taken(
        &mut self,
        now: Instant,
        at: usize,
        mut request: Request,
        (accepted, ack_id): (u32, Option<AckId>),
        answer: HecAnswer,
        cx: &mut Context,
    ) {
        let stored = request.frame.cut_front(accepted);
        if !stored.is_empty() {
            match ack_id {
                Some(id) if self.params.ack != AckMode::Off => {
                    let started = request.started.unwrap_or(now);
                    if self.acks.add(request.channel, id, stored, started, now, cx) {
                        self.replace_channel(now, at, cx);
                    }
                }
                _ => cx.settle(&stored, Settled::Acked),
            }
        }
        let mut refused = cx.pool.take_for_part(now);
        request.frame.move_first(&mut refused);
        refused.refused = true;
        cx.counters.refused_records += 1;
        let shard = first_shard(&refused);
        let mut trouble = self.refused_shards.remove(&shard).unwrap_or_default();
        trouble.raise(cx, shard_scope(shard), Cause::Hec(answer), REFUSED_RETRY);
        self.refused_shards.insert(shard, trouble);
        self.refused.push(Refused { frame: refused, due: now + REFUSED_RETRY });
        if request.frame.segments.is_empty() {
            cx.pool.give(request.frame);
        } else {
            self.waiting.push_front(request.frame);
        }
    }

    /// A record that was refused is taken now; the trouble of its shard is over with the last such record.
    fn forgive(&mut self, shard: ShardId, cx: &mut Context) {
        let more = |frame: &Frame| frame.refused && first_shard(frame) == shard;
        let waits = self.refused.iter().any(|refused| first_shard(&refused.frame) == shard)
            || self.waiting.iter().any(more)
            || self.conns.iter().any(|conn| conn.requests.iter().any(|request| more(&request.frame)));
        if !waits && let Some(mut trouble) = self.refused_shards.remove(&shard) {
            trouble.clear(cx, shard_scope(shard));
        }
    }

    fn again(&mut self, request: Request, cx: &mut Context) {
        cx.counters.sink_retries += 1;
        self.waiting.push_front(request.frame);
    }

    /// From now on this connection sends under a new channel.
    fn replace_channel(&mut self, now: Instant, at: usize, cx: &mut Context) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        conn.channel = self.acks.open_channel(conn.route, now, cx);
    }

    /// A channel that was replaced is left when the last request in it is answered.
    fn leave_if_replaced(&mut self, at: usize, channel: ChannelKey, cx: &mut Context) {
        let used = self.conns.get(at).is_some_and(|conn| {
            conn.channel == channel || conn.requests.iter().any(|request| request.channel == channel)
        });
        if !used {
            self.acks.leave_channel(channel, cx);
        }
    }

    fn handle_poll_bytes(&mut self, now: Instant, id: ConnId, bytes: &[u8], cx: &mut Context) {
        let Some(outcome) = self.polls.handle_received(now, id, bytes, cx) else { return };
        match outcome {
            poll::Outcome::Answer { route, asked, status, mut body } => {
                let understood = status == 200 && self.acks.handle_answer(&asked, &mut body, now, cx);
                if understood {
                    self.routes.poll_worked(route, cx);
                } else {
                    let judgement = judge(status, None, &mut body, 0, &mut self.scratch);
                    let answer = match judgement {
                        Judgement::Again { answer, .. } | Judgement::Partial { answer, .. } => answer,
                        Judgement::Taken { .. } => HecAnswer {
                            status,
                            code: Some(0),
                            text: "the answer to an acknowledgement poll holds no acks".to_owned(),
                            invalid_event: None,
                            location: None,
                        },
                    };
                    if status == 400 && matches!(answer.code, Some(10 | 11 | 28)) {
                        self.acks.lose_channel(asked.channel, cx);
                    }
                    self.routes.poll_failed(route, Cause::Hec(answer), self.params.poll_interval, cx);
                }
            }
            poll::Outcome::Broken { route, detail } => {
                self.routes.poll_failed(route, Cause::Protocol(detail), self.params.poll_interval, cx);
            }
        }
    }

    /// The connection talks nonsense: close it, everything on it goes again.
    fn break_conn(&mut self, now: Instant, at: usize, cause: &Cause, cx: &mut Context) {
        let Some(conn) = self.conns.get(at) else { return };
        cx.actions.push_back(Action::Close(conn.id));
        self.routes.fail(now, conn.route, Failure::hold(cause.clone()), cx);
        self.take_down(at, cx);
    }

    /// The connection ended without being asked to.
    fn end_conn(&mut self, now: Instant, at: usize, why: &Closed, cx: &mut Context) {
        let Some(conn) = self.conns.get(at) else { return };
        let (route, answers, owed) = (conn.route, conn.answers, conn.requests.len());
        let untouched = conn.parser.is_idle();
        let orderly = matches!(why.kind, ClosedKind::Eof | ClosedKind::Reset);
        if orderly && answers > 0 && owed > 1 {
            self.routes.go_shallow(route);
        }
        // A connection that worked and ended between two answers is replaced at once; one that never worked,
        // or ended inside an answer, makes its address wait.
        let stale = orderly && answers > 0 && untouched;
        if (owed > 0 && !stale) || !orderly || answers == 0 {
            self.routes.fail(now, route, Failure::soft(Cause::Transport(why.clone())), cx);
        }
        self.take_down(at, cx);
    }

    /// Removes a connection; its frames go to the front of the queue in their order.
    fn take_down(&mut self, at: usize, cx: &mut Context) {
        let mut conn = self.conns.swap_remove(at);
        self.acks.leave_channel(conn.channel, cx);
        for request in &conn.requests {
            self.acks.leave_channel(request.channel, cx);
        }
        while let Some(request) = conn.requests.pop_back() {
            if request.started.is_some() {
                cx.counters.duplicates_possible_records += u64::from(request.frame.records());
                cx.counters.sink_retries += 1;
            }
            self.waiting.push_front(request.frame);
        }
    }

    fn close_idle(&mut self, at: usize, cx: &mut Context) {
        if let Some(conn) = self.conns.get(at) {
            cx.actions.push_back(Action::Close(conn.id));
        }
        self.take_down(at, cx);
    }
}

/// Sent with every request: without one, splunkd falls back to HTTP/1.0 and closes after each answer.
const USER_AGENT: &str = concat!("sls2siem/", env!("CARGO_PKG_VERSION"));

fn first_shard(frame: &Frame) -> ShardId {
    frame.segments.first().map_or(ShardId(u32::MAX), |segment| segment.shard)
}

/// When the oldest request of this connection has waited too long.
fn request_deadline(conn: &Conn, timeout: Duration) -> Option<Instant> {
    let started = conn.oldest_started()?;
    Some(started.max(conn.answered_at) + timeout)
}

fn idle_deadline(conn: &Conn) -> Option<Instant> {
    (conn.state == State::Open && conn.requests.is_empty()).then_some(conn.used + IDLE_MAX)
}

/// One gzip member, level 1.
fn gzip(compressor: &mut flate2::Compress, bytes: &[u8]) -> Vec<u8> {
    compressor.reset();
    let mut out = Vec::with_capacity(bytes.len() / 4 + 128);
    loop {
        let consumed = usize::try_from(compressor.total_in()).unwrap_or(usize::MAX);
        let rest = bytes.get(consumed..).unwrap_or_default();
        match compressor.compress_vec(rest, &mut out, flate2::FlushCompress::Finish) {
            Ok(flate2::Status::StreamEnd) => return out,
            Ok(_) => out.reserve(out.capacity().max(1024)),
            // An empty result means: send it as it is.
            Err(_) => return Vec::new(),
        }
    }
}
