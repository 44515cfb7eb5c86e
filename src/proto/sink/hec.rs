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
mod cookies;
mod dispatch;
mod poll;
mod settle;

use core::time::Duration;
use std::collections::VecDeque;

use zeroize::Zeroizing;

use self::ack::Acks;
use self::conn::{Conn, State};
use self::poll::{Polls, Question};
use crate::proto::context::{Context, Settled};
use crate::proto::event::{Action, Cause, Closed, ClosedKind};
use crate::proto::frame::Frame;
use crate::proto::http1::Progress;
use crate::proto::ids::{ConnId, EndpointId, Epoch, RouteId, ShardId};
use crate::proto::planted::{Bug, planted};
use crate::proto::sink::route::{Failure, Routes};
use crate::proto::time::Instant;

/// Idle connections are closed before splunkd does it (12 s when it is busy), so that no request meets a
/// connection that is just being closed.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// Default of [`Params::turn`]: Splunk's own forwarders change as often (`autoLBFrequency`).
pub const TURN: Duration = Duration::from_secs(25);

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
    /// After so long, and up to 40 % more by lot, a connection is replaced by one to another address, where one has none:
    /// indexers want their share of the data, also where one connection could carry all of it.
    pub turn: Duration,
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

/// What requests to one endpoint carry.
#[derive(Debug)]
struct Target {
    authority: String,
    event: String,
    ack: String,
    health: String,
    /// Learned from its refusals: larger bodies are cut before they go there.
    body_bytes_max: Option<usize>,
    /// Its token was found to be without acknowledgement: until then its `ackId`s are not waited for.
    degraded_until: Option<Instant>,
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
        let mut routes = Routes::new(params.endpoints.len(), cx);
        routes.asks_health = true;
        routes.asks_first = params.ack == AckMode::Required;
        let authorization = Zeroizing::new(format!("Splunk {}", params.token.as_str()));
        let acks = Acks::new(params.ack_timeout, params.poll_interval);
        let targets = params.endpoints.iter().map(|endpoint| Target {
            authority: endpoint.authority.clone(),
            event: format!("{}/services/collector/event", endpoint.base_path),
            ack: format!("{}/services/collector/ack", endpoint.base_path),
            health: format!("{}/services/collector/health", endpoint.base_path),
            body_bytes_max: None,
            degraded_until: None,
        });
        Self {
            targets: targets.collect(),
            authorization,
            routes,
            conns: Vec::new(),
            polls: Polls::new(params.timeout),
            acks,
            waiting: VecDeque::new(),
            scratch: simd_json::Buffers::default(),
            compressor: flate2::Compress::new_gzip(flate2::Compression::fast(), 15),
            greeted: false,
            params,
        }
    }

    /// Another token, from now on; what stood against the old one is tried again at once.
    pub fn set_token(&mut self, token: &Zeroizing<String>) {
        self.authorization = Zeroizing::new(format!("Splunk {}", token.as_str()));
        self.routes.try_all();
    }

    /// Takes a frame over.
    pub fn push(&mut self, frame: Frame) {
        self.waiting.push_back(frame);
    }

    /// True while bytes of this shard are in memory here.
    pub fn carries(&self, shard: ShardId) -> bool {
        let of_shard = |frame: &Frame| frame.carries(shard);
        self.waiting.iter().any(of_shard) || self.conns.iter().any(|conn| conn.carries(shard))
    }

    /// Frames in memory, acknowledgements not counted.
    pub fn frames(&self) -> usize {
        self.waiting.len() + self.conns.iter().map(|conn| conn.requests.len()).sum::<usize>()
    }

    /// True while some endpoint does not take anything.
    pub fn is_troubled(&self) -> bool {
        self.routes.all_troubled()
    }

    /// The lease of a shard is lost: what was not given to a connection yet is forgotten.
    pub fn forget(&mut self, now: Instant, shard: ShardId, epoch: Epoch, cx: &mut Context) {
        let stale = |frame: &Frame| frame.is_all_of(shard, epoch);
        let mut kept = VecDeque::with_capacity(self.waiting.len());
        for frame in self.waiting.drain(..) {
            if stale(&frame) { cx.pool.give(frame) } else { kept.push_back(frame) }
        }
        self.waiting = kept;
        for conn in &mut self.conns {
            for channel in conn.forget_unwritten(&stale, cx) {
                self.acks.withdraw(channel, now, cx);
            }
        }
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
        let replaced = conn.replaces.take();
        if !self.greeted {
            self.greeted = true;
            self.routes.greet(conn.route, cx);
        }
        if let Some(replaced) = self.conns.iter_mut().find(|conn| Some(conn.id) == replaced) {
            replaced.is_replaced = true;
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
        if let Some((route, question)) = self.polls.handle_closed(id) {
            self.question_failed(now, route, question, Cause::Transport(why.clone()), cx);
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
        if let Some((route, question)) = self.polls.handle_timeout(now, cx) {
            let detail = match question {
                Question::Acks(_) => "no answer to an acknowledgement poll",
                Question::Health | Question::HasAcks => "no answer to a question about its health",
            };
            let why = Closed { kind: ClosedKind::Timeout, detail: detail.to_owned() };
            self.question_failed(now, route, Some(question), Cause::Transport(why), cx);
        }
    }

    /// The next moment that `handle_timeout` is needed.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let conns = self
            .conns
            .iter()
            .filter_map(|conn| request_deadline(conn, self.params.timeout).or_else(|| idle_deadline(conn)));
        let paused = if self.waiting.is_empty() && self.greeted { None } else { self.routes.next_resume() };
        let polls = self.routes.ids().filter(|route| !self.polls.is_busy(*route));
        let polls = polls.filter_map(|route| self.acks.next_poll(route));
        conns
            .chain(paused)
            .chain(polls)
            .chain(self.acks.poll_timeout())
            .chain(self.polls.poll_timeout())
            .chain(self.routes.poll_timeout())
            .chain(self.routes.next_ask(|route| self.polls.is_busy(route)))
            .min()
    }

    /// The next bytes of a connection of this sink.
    pub fn poll_transmit(&mut self, now: Instant, id: ConnId) -> Option<&[u8]> {
        if self.polls.owns(id) {
            return self.polls.chunk(id);
        }
        self.conns.iter_mut().find(|conn| conn.id == id)?.chunk(now)
    }

    /// Closes every connection; used when nothing is in flight any more.
    pub fn close_all(&mut self, cx: &mut Context) {
        for conn in self.conns.drain(..) {
            cx.actions.push_back(Action::Close(conn.id));
        }
        self.polls.close_all(cx);
    }

    /// Every lease is over: connections with a request that is written in part are closed, so that it never becomes
    /// whole. What is written whole is on its way and still gets its answer.
    pub fn sever(&mut self, cx: &mut Context) {
        while let Some(at) = self.conns.iter().position(Conn::is_writing) {
            if let Some(conn) = self.conns.get(at) {
                cx.actions.push_back(Action::Close(conn.id));
            }
            self.take_down(at, cx);
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
        // Or it has never looked at the second request.
        if (orderly || why.kind == ClosedKind::Timeout) && answers > 0 && owed > 1 {
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
                if planted(Bug::HalfSentCounts) {
                    cx.settle(&request.frame.segments, Settled::Acked);
                    cx.pool.give(request.frame);
                    continue;
                }
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

/// When the oldest request of this connection has waited too long.
fn request_deadline(conn: &Conn, timeout: Duration) -> Option<Instant> {
    let started = conn.oldest_started()?;
    Some(started.max(conn.answered_at) + timeout)
}

fn idle_deadline(conn: &Conn) -> Option<Instant> {
    (conn.state == State::Open && conn.requests.is_empty()).then_some(conn.used + IDLE_MAX)
}

#[cfg(test)]
mod tests;
